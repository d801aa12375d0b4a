"""A new model, as users meet it: its first fit in a fresh process, and the same again.

Each case runs in a process of its own that has imported the library and its dependencies, without
a persistent cache. "First" is everything the user waits for: formulas, checks, compilation. Where
the case itself imports JAX, this is part of the first time too and stands beside it; it is taken
off before the time is held against the target, which is for a process that has it. "Again" is the
least of several runs in the same process. The command line is a whole process: the first time with
an empty cache, again with what that left. Targets and the times of R ``mixmeta`` 1.2.1 are those of
issue 19 and of the project's ``spec/engine.md``.

    python benchmarks/first_fits.py [--timeout 600] [case ...]
    python benchmarks/first_fits.py --one bcg      # in this process, a line of JSON

The 71 fits read ``tests/reference``; three of them need the thrombolytic data, in the folder that
the environment variable ``MIXMETA_JAX_DATA`` names, and are left out without it.
"""

from __future__ import annotations

import argparse
import gc
import importlib.abc
import importlib.machinery
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

# What a process has imported that has imported the dependencies; JAX is the library's to import.
import formulaic  # noqa: F401
import numpy as np
import pandas as pd
import scipy  # noqa: F401
from single_fits import SEED, bcg, multivariate, school

import mixmeta_jax as mx

COMPILATION = "/jax/core/compile/backend_compile_duration"
CACHE_FOLDER = "JAX_COMPILATION_CACHE_DIR"
COMMAND = [sys.executable, "-m", "mixmeta_jax", "fit", "logor", "--S", "logorvar", "--data", "bcg"]
# The repeated runs of a case: as many as these seconds hold, at least one, at most so many.
SECONDS_AGAIN, MOST_AGAIN = 3.0, 30

Run = Callable[[], Any]


def fit(**arguments: Any) -> Run:
    return lambda: mx.mixmeta(**arguments)


def predictors(m: int, p: int) -> pd.DataFrame:
    """p coefficients for m rows: the intercept's, and those of x1, x2 and so on."""
    x = np.random.default_rng(SEED + 1).normal(size=(m, p - 1))
    return pd.DataFrame({f"x{j + 1}": x[:, j] for j in range(p - 1)})


def right_side(frame: pd.DataFrame) -> str:
    return " + ".join(frame.columns) or "1"


def one_outcome(m: int) -> dict[str, np.ndarray]:
    drawn = multivariate(m, 1)
    return {"y": drawn["formula"][:, 0], "v": drawn["S"][:, 0, 0]}


def many_predictors(m: int, p: int) -> Run:
    x = predictors(m, p)
    return fit(formula=f"y ~ {right_side(x)}", S="v", data=x.assign(**one_outcome(m)))


def categorical(m: int, levels: int) -> Run:
    sites = [f"site {i % levels}" for i in range(m)]
    return fit(formula="y ~ site", S="v", data=pd.DataFrame({**one_outcome(m), "site": sites}))


def groups_as_fixed_effects(m: int, groups: int) -> Run:
    """Rows in pairs in studies in groups: an effect for the two inner levels, a mean for the outer.

    The groups have numbers, so that the formula says that they are categories.
    """
    row = np.arange(m)
    data = pd.DataFrame(
        {**one_outcome(m), "g": row * groups // m, "study": row // 2, "u": row},
    )
    return fit(formula="y ~ C(g)", S="v", data=data, random="~ 1 | study/u")


def many_outcomes(m: int, k: int, p: int) -> Run:
    drawn, x = multivariate(m, k), predictors(m, p)
    y = pd.DataFrame(drawn["formula"], columns=[f"y{j + 1}" for j in range(k)])
    formula = f"{' + '.join(y.columns)} ~ {right_side(x)}"
    return fit(formula=formula, S=drawn["S"], data=pd.concat([y, x], axis=1))


def berkey(bscov: str) -> Run:
    return fit(
        formula="PD + AL",
        S=["var_PD", "cov_PD_AL", "var_AL"],
        data=mx.load_dataset("berkey98"),
        bscov=bscov,
    )


def reference_fits() -> Run:
    """The fits of ``tests/reference``, each once with what a user asks of a fit."""
    # Behind what the user's path holds: the library that is measured comes first.
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from tests.reference.calls import CALLS

    thrombolytic = "MIXMETA_JAX_DATA" in os.environ
    calls = [
        call for name, call in CALLS.items() if thrombolytic or not name.startswith("thrombolytic")
    ]

    def run() -> str:
        for call in calls:
            fitted = call()
            str(fitted.summary())
            fitted.predict()
            if fitted.n_levels:
                fitted.blup()
            fitted.qtest()
        return f"{len(calls)} fits"

    return run


def refits(function: Callable[..., Any], *arguments: Any) -> Run:
    """A call on the fit of school, which is there already."""
    fitted = mx.mixmeta(**school())
    return lambda: function(fitted, *arguments, progress=False)


def command_line() -> Run:
    """A whole process; its cache is empty the first time."""
    folder = tempfile.TemporaryDirectory()

    def run() -> str:
        environment = {**os.environ, CACHE_FOLDER: folder.name}
        subprocess.run(COMMAND, env=environment, check=True, stdout=subprocess.DEVNULL)
        return "another process, its programs not counted"

    return run


@dataclass(frozen=True)
class Case:
    """What is measured, with R's time and the targets in seconds."""

    prepare: Callable[[], Run]
    r: float | None = None
    first: float | None = None
    again: float | None = None
    # The case whose own times are half the targets of this one.
    twice: str | None = None


def coefficients(p: int) -> str:
    return f"one outcome, m = 2,000, p = {p}"


GROWTH = (10, 30, 100, 200)
GROWTH_TARGET = 2.0

CASES: dict[str, Case] = {
    "bcg": Case(lambda: fit(**bcg()), 0.027, 0.030),
    "bcg, ~ ablat": Case(lambda: fit(**{**bcg(), "formula": "logor ~ ablat"}), 0.027, 0.030),
    "bcg, ML": Case(lambda: fit(**bcg(), method="ml"), 0.027, 0.030),
    "school, two levels": Case(lambda: fit(**school()), 0.121, 0.120),
    "school, two levels, ~ year": Case(
        lambda: fit(**{**school(), "formula": "effect ~ I(year - 1990)"}), 0.121, 0.120
    ),
    "berkey98, unstr": Case(lambda: berkey("unstr"), None, 0.080),
    "berkey98, cs": Case(lambda: berkey("cs"), None, 0.080),
    "31 x 4, unstr": Case(lambda: fit(**multivariate(31, 4)), 0.345, 0.200),
    "73 x 12, unstr": Case(lambda: fit(**multivariate(73, 12)), 75.0, 2.0),
    "the reference fits": Case(reference_fits, 16.0, 8.0),
    "school, leave_one_out": Case(lambda: refits(mx.leave_one_out), None, 1.0),
    "school, bootstrap(100)": Case(lambda: refits(mx.bootstrap, 100), None, 1.0),
    "command line": Case(command_line, 0.30, 1.0),
    coefficients(10): Case(lambda: many_predictors(2_000, 10), None, 0.2, 0.010),
    coefficients(30): Case(lambda: many_predictors(2_000, 30), 3.7, 0.4, 0.040),
    coefficients(100): Case(lambda: many_predictors(2_000, 100)),
    coefficients(200): Case(lambda: many_predictors(2_000, 200), 13.7, 3.0, 0.600),
    "a categorical of 200 levels": Case(lambda: categorical(2_000, 200), None, 3.0, 0.600),
    "200 groups as fixed effects": Case(
        lambda: groups_as_fixed_effects(2_000, 200), None, 3.0, 0.600
    ),
    "73 x 12, p = 1": Case(lambda: many_outcomes(73, 12, 1)),
    "73 x 12, p = 5": Case(lambda: many_outcomes(73, 12, 5), twice="73 x 12, p = 1"),
    "1,000 x 12, p = 1": Case(lambda: many_outcomes(1_000, 12, 1)),
    "1,000 x 12, p = 5": Case(lambda: many_outcomes(1_000, 12, 5), twice="1,000 x 12, p = 1"),
    "1,000 x 10, unstr": Case(lambda: fit(**multivariate(1_000, 10)), None, 3.0, 0.15),
    "1,000 x 15, unstr": Case(lambda: fit(**multivariate(1_000, 15)), None, 3.0, 0.6),
    "1,000 x 20, unstr": Case(lambda: fit(**multivariate(1_000, 20)), None, 3.0, 2.0),
    "1,000 x 30, unstr": Case(lambda: fit(**multivariate(1_000, 30)), None, 15.0, 15.0),
    "100 x 30, diag": Case(lambda: fit(**multivariate(100, 30), bscov="diag"), None, 5.0),
    "100 x 30, cs": Case(lambda: fit(**multivariate(100, 30), bscov="cs"), None, 5.0),
}


class JaxWatch(importlib.abc.MetaPathFinder):
    """Counts what XLA compiles, and the seconds of importing JAX once someone does."""

    def __init__(self) -> None:
        self.programs = 0
        self.importing = 0.0
        if "jax" in sys.modules:
            self._listen()
        else:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "jax":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def timed(module: ModuleType) -> None:
            start = time.perf_counter()
            execute(module)
            self._listen()
            self.importing += time.perf_counter() - start

        spec.loader.exec_module = timed
        return spec

    def _listen(self) -> None:
        import jax.monitoring

        def count(event: str, _: float, **__: Any) -> None:
            self.programs += event == COMPILATION

        jax.monitoring.register_event_duration_secs_listener(count)


def measure(name: str) -> dict[str, Any]:
    """The figures of a case; those of its first run are printed before it is repeated."""
    watch = JaxWatch()
    run = CASES[name].prepare()
    programs, importing = watch.programs, watch.importing
    # What the imports have left to collect is not the fit's.
    gc.collect()
    start = time.perf_counter()
    result = run()
    row = {
        "case": name,
        "first": time.perf_counter() - start,
        "importing_jax": watch.importing - importing,
        "programs": watch.programs - programs,
        "jax": "jax" in sys.modules,
        "ended": ended(result),
    }
    print(json.dumps(row), flush=True)
    times: list[float] = []
    while not times or (sum(times) < SECONDS_AGAIN and len(times) < MOST_AGAIN):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    programs += row["programs"]
    return {**row, "again": min(times), "programs_again": watch.programs - programs}


def ended(result: Any) -> str:
    if isinstance(result, str):
        return result
    return result.status.name if isinstance(result, mx.Fit) else ""


def process(name: str, timeout: float) -> dict[str, Any]:
    """The figures of a case from a process of its own, as far as it came in the time it has."""
    environment = {key: value for key, value in os.environ.items() if key != CACHE_FOLDER}
    command = [sys.executable, __file__, "--one", name]
    with tempfile.TemporaryFile("w+") as complaints:
        started = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        try:
            printed, _ = started.communicate(timeout=timeout)
            failure = ""
        except subprocess.TimeoutExpired:
            started.kill()
            printed, _ = started.communicate()
            failure = f"not in {timeout:g} s"
        complaints.seek(0)
        lines = complaints.read().splitlines()
    if not failure and started.returncode:
        failure = f"failed: {lines[-1] if lines else f'exit code {started.returncode}'}"
    rows = printed.splitlines()
    return {**(json.loads(rows[-1]) if rows else {}), "failure": failure}


def spent(row: dict[str, Any]) -> tuple[float | None, float | None]:
    """Seconds of the first run without the import of JAX, and of the next; None: it did not end."""
    first = row["first"] - row["importing_jax"] if "first" in row else None
    return first, row.get("again")


def targets(case: Case, rows: dict[str, dict[str, Any]]) -> tuple[float | None, float | None]:
    """Seconds that the first run and the next ones may take, None where nothing is asked."""
    if case.twice is None:
        return case.first, case.again
    first, again = spent(rows.get(case.twice, {}))
    return first and 2 * first, again and 2 * again


def verdict(case: Case, row: dict[str, Any], bounds: tuple[float | None, float | None]) -> str:
    if bounds == (None, None):
        return "no target" if case.twice else ""
    held = all(
        bound is None or (seconds is not None and seconds <= bound)
        for seconds, bound in zip(spent(row), bounds, strict=True)
    )
    return "pass" if held else "FAIL"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def line(name: str, row: dict[str, Any], bounds: tuple[float | None, float | None]) -> str:
    case = CASES[name]
    first = duration(row.get("first")) or row["failure"]
    again = duration(row.get("again")) or ("" if first == row["failure"] else row["failure"])
    programs = row.get("programs", "") if row.get("jax") else "no JAX" if "jax" in row else ""
    cells = [
        name,
        duration(case.r),
        first,
        duration(row.get("importing_jax") or None),
        duration(bounds[0]),
        again,
        duration(bounds[1]),
        programs,
        row.get("ended", ""),
        verdict(case, row, bounds),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def growth(rows: dict[str, dict[str, Any]]) -> str:
    """The exponent of the repeated fit in p, over the points that ended."""
    points = [(p, rows.get(coefficients(p), {}).get("again")) for p in GROWTH]
    known = [(p, seconds) for p, seconds in points if seconds is not None]
    if len(known) < 2:
        return ""
    (start, least), (end, most) = known[0], known[-1]
    exponent = np.log(most / least) / np.log(end / start)
    told = "not the whole range"
    if (start, end) == (GROWTH[0], GROWTH[-1]):
        told = "pass" if exponent <= GROWTH_TARGET else "FAIL"
    return (
        f"\nA repeated fit grows with p to the power {exponent:.2f} from {start} to {end} "
        f"(target {GROWTH_TARGET:g} from {GROWTH[0]} to {GROWTH[-1]}): {told}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="case", help="; ".join(CASES))
    parser.add_argument("--one", metavar="CASE", help="run a case in this process, print JSON")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a case, default 600")
    options = parser.parse_args()
    asked = [options.one] if options.one else options.cases
    unknown = [name for name in asked if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}: choose among {'; '.join(CASES)}")
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    print(
        "| case | R | first | of it importing JAX | target | again | target | programs | ended | |"
    )
    print(f"|{' --- |' * 10}")
    rows: dict[str, dict[str, Any]] = {}
    for name in asked or CASES:
        rows[name] = process(name, options.timeout)
        print(line(name, rows[name], targets(CASES[name], rows)), flush=True)
    print(growth(rows))


if __name__ == "__main__":
    main()
