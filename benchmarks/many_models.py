"""2,000 different models in one process: memory maps, memory and time along the way.

No two models share outcomes, coefficients, structures, method, levels and number of rows. A process
that keeps every program that it compiles holds more memory maps with each; Linux allows 65,530, and
then ends the process from within LLVM, with no Python exception. So the loop runs in a process of
its own, and its end is told: well, or in which model and how. Maps are read from ``/proc``, so this
is for Linux. "Refused" counts models that the library declines in a sentence: there should be none.

    python benchmarks/many_models.py [--models 2000] [--every 100] [--backend jax]

``--backend`` goes to ``mixmeta(control={"backend": ...})``; without it the library decides.
"""

from __future__ import annotations

import argparse
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


def loop(models: int, backend: str | None) -> None:
    """Fit the models, with a line of JSON before each of them and at the end."""
    control = {} if backend is None else {"control": {"backend": backend}}
    start, refused = time.perf_counter(), 0
    for number, model in zip(range(models), different_models()):
        print(json.dumps({**state(number, start, refused), "next": model}), flush=True)
        try:
            mx.mixmeta(**arguments(model, number), **control)
        except mx.MixmetaError as error:
            refused += 1
            print(error, file=sys.stderr)
    print(json.dumps({**state(models, start, refused), "next": None}), flush=True)


def state(done: int, start: float, refused: int) -> dict[str, Any]:
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "done": done,
        "seconds": time.perf_counter() - start,
        "maps": Path("/proc/self/maps").read_bytes().count(b"\n"),
        "memory": resident * os.sysconf("SC_PAGE_SIZE") / 2**30,
        "refused": refused,
    }


def line(row: dict[str, Any]) -> str:
    each = 1e3 * row["seconds"] / max(row["done"], 1)
    return (
        f"| {row['done']:,} | {row['seconds']:.1f} s | {each:.0f} ms | {row['maps']:,} | "
        f"{row['memory']:.2f} GB | {row['refused']} |"
    )


def end(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=2_000)
    parser.add_argument("--every", type=int, default=100, help="models between two lines")
    parser.add_argument("--backend", help="for control; left to the library by default")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(options.models, options.backend)
        return
    print("| models | time | each | memory maps | memory | refused |")
    print("| --- | --- | --- | --- | --- | --- |")
    command = [sys.executable, __file__, "--loop", "--models", str(options.models)]
    command += ["--backend", options.backend] if options.backend else []
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
        print(f"\n{options.models:,} different models in one process ended well.")
        return
    if code == 0:
        print(f"\n{row['refused']:,} of {options.models:,} models were refused, the last with:")
        sys.exit(last[0])
    if row:
        print(line(row))
        print(f"\nThe process died of {end(code)} in model {row['done'] + 1}: {row['next']}.")
    print(*last)
    sys.exit(1)


if __name__ == "__main__":
    main()
