"""2,000 different models in one process: memory maps, memory and time along the way.

No two models share outcomes, coefficients, structures, method, levels and number of rows. A process
that keeps every program that it compiles holds more memory maps with each, three for each of its
kernels; Linux allows 65,530, and then ends the process from within LLVM, with no Python exception.
So the loop runs in a process of its own, and its end is told: well, or in which model and how. Maps
are read from ``/proc``, so this is for Linux. "Refused" counts models that the library declines in
a sentence: there should be none.

    python benchmarks/many_models.py [--models 2000] [--every 100] [--backend jax]
    python benchmarks/many_models.py --reload [--unbounded]

``--backend`` goes to ``mixmeta(control={"backend": ...})``; without it the library decides.
``--reload`` compiles the program of the first model once and loads it for every fit, each a program
of its own to the library and to Linux: a thousand in minutes, where to compile them takes hours.
"Released" counts the maps that have gone again: the sum of all falls from one model to the next.
``--unbounded`` keeps all programs, as a process without our bounds would.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mixmeta_jax as mx
from mixmeta_jax.estimation import executors, programs

SEED = 20261126
LIKELIHOODS, MOMENTS = ("ml", "reml"), ("mm", "vc")
STRUCTURES = ("unstr", "diag", "id", "cs", "hcs", "ar1", "har1")
ROWS = (20, 120)
LEVELS = (None, "~ 1 | g/u", "~ 1 | h/g/u")
SHARES = (0.7, 0.25, 0.05)
MOMENT_SHARE = 0.2


def drawn_model(rng: np.random.Generator) -> dict[str, Any]:
    """A small model: outcomes, coefficients, levels, structure of each, method, rows."""
    k, p = int(rng.integers(1, 4)), int(rng.integers(1, 7))
    depth = 1 + int(rng.choice(len(LEVELS), p=SHARES))
    # One random effect has a variance, and nothing that these structures differ in.
    names = ("unstr",) if k == 1 else STRUCTURES
    # Moment estimators are of one level, and compile least.
    moments = depth == 1 and rng.random() < MOMENT_SHARE
    method = str(rng.choice(MOMENTS if moments else LIKELIHOODS))
    bscov = ["unstr"] * depth if moments else rng.choice(names, depth).tolist()
    m = int(rng.integers(*ROWS))
    return {"k": k, "p": p, "random": LEVELS[depth - 1], "bscov": bscov, "method": method, "m": m}


def different_models() -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(SEED)
    seen = set()
    while True:
        model = drawn_model(rng)
        if str(model) not in seen:
            seen.add(str(model))
            yield model


def arguments(model: dict[str, Any], number: int) -> dict[str, Any]:
    """Data of a model, with an effect at each of three levels; what `mixmeta` is called with."""
    rng = np.random.default_rng([SEED, number])
    k, p, m = model["k"], model["p"], model["m"]
    units = np.arange(m)
    levels = {"u": units, "g": units // 2, "h": units // 4}
    y = sum(rng.normal(size=(m, k))[codes] for codes in levels.values())
    v = rng.uniform(0.1, 0.5, (m, k))
    frame = pd.DataFrame(y + np.sqrt(v) * rng.normal(size=(m, k))).add_prefix("y")
    variances = pd.DataFrame(v).add_prefix("v")
    x = pd.DataFrame(rng.normal(size=(m, p - 1))).add_prefix("x")
    return {
        "formula": f"{' + '.join(frame)} ~ {' + '.join(x) or '1'}",
        "S": list(variances),
        "data": pd.concat([frame, variances, x, pd.DataFrame(levels)], axis=1),
        **{name: model[name] for name in ("random", "bscov", "method")},
    }


def loop(options: argparse.Namespace) -> None:
    """Fit the models, with a line of JSON before each of them and at the end."""
    control = {} if options.backend is None else {"control": {"backend": options.backend}}
    kept = programs.PROGRAMS
    if options.unbounded:
        kept.most = programs.MOST_MAPS = sys.maxsize
    models: Iterator[Any] = enumerate(different_models())
    if options.reload:
        kept = executors.PROGRAMS = Reloaded(kept.most)
        control = {"control": {"backend": "jax"}}
        models = itertools.repeat((0, next(different_models())))
    start, refused, released, before = time.perf_counter(), 0, 0, maps()

    def tell(done: int, model: dict[str, Any] | None) -> None:
        nonlocal released, before
        now = maps()
        released, before = released + max(0, before - now), now
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        state = {
            "done": done,
            "seconds": time.perf_counter() - start,
            "processor": time.process_time(),
            "programs": kept.compiled,
            "kept": len(kept),
            "maps": now,
            "released": released,
            "memory": resident * os.sysconf("SC_PAGE_SIZE") / 2**30,
            "refused": refused,
        }
        print(json.dumps({**state, "next": model}), flush=True)

    for done, (number, model) in zip(range(options.models), models, strict=False):
        tell(done, model)
        try:
            mx.mixmeta(**arguments(model, number), **control)
        except mx.MixmetaError as error:
            refused += 1
            print(error, file=sys.stderr)
    tell(options.models, None)


class Reloaded(programs.Programs):
    """Every call a program of its own: compiled once, then loaded from what that gave."""

    compiled_once: tuple[Any, ...] | None = None

    def key(self, *call: Any) -> Any:
        """Another one every time."""
        return super().key(*call), self.compiled

    def _made(self, *call: Any) -> Any:
        from jax.experimental.serialize_executable import deserialize_and_load, serialize

        if self.compiled_once is None:
            self.compiled_once = serialize(super()._made(*call))
        return deserialize_and_load(*self.compiled_once)


def maps() -> int:
    """Memory maps of this process."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")


HEAD = (
    "fits", "time", "processor each", "programs", "kept", "maps", "released", "memory", "refused",
)  # fmt: skip


def line(row: dict[str, Any]) -> str:
    each = 1e3 * row["processor"] / max(row["done"], 1)
    cells = [f"{row['done']:,}", f"{row['seconds']:.0f} s", f"{each:.0f} ms"]
    cells += [f"{row[name]:,}" for name in ("programs", "kept", "maps", "released")]
    cells += [f"{row['memory']:.2f} GB", str(row["refused"])]
    return f"| {' | '.join(cells)} |"


def end(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=2_000)
    parser.add_argument("--every", type=int, default=100, help="models between two lines")
    parser.add_argument("--backend", help="for control; left to the library by default")
    parser.add_argument("--reload", action="store_true", help="one program, loaded every time")
    parser.add_argument("--unbounded", action="store_true", help="keep every program")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(options)
        return
    print(f"| {' | '.join(HEAD)} |")
    print(f"| {' | '.join(['---'] * len(HEAD))} |")
    command = [sys.executable, __file__, "--loop", *sys.argv[1:]]
    row: dict[str, Any] = {}
    with tempfile.TemporaryFile("w+") as complaints:
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)
        for printed in started.stdout:
            row = json.loads(printed)
            if row["done"] % options.every == 0 or row["next"] is None:
                print(line(row), flush=True)
        code = started.wait()
        complaints.seek(0)
        last = complaints.read().splitlines()[-1:]
    if code == 0 and not row["refused"]:
        print(f"\n{options.models:,} fits in one process ended well.")
        return
    if code == 0:
        print(f"\n{row['refused']:,} of {options.models:,} models were refused, the last with:")
        sys.exit(last[0])
    if row:
        print(line(row))
        print(f"\nThe process died of {end(code)} in fit {row['done'] + 1}: {row['next']}.")
    print(*last)
    sys.exit(1)


if __name__ == "__main__":
    main()
