"""Single fits, end to end through ``mixmeta()``: compile time, run time and peak memory.

Each case runs in a process of its own, so that its peak memory is its own; times of the same again
are the least of several, and include formulas, checks and the moment start. Who executes is the
library's choice, or ``--backend``; programs of JAX run on its default device: a GPU where JAX finds
one, which the heading names. Memory is that of the process, and of the device where it tells.

    python benchmarks/single_fits.py [case ...] [--backend jax] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mixmeta_jax as mx
import mixmeta_jax.fits.fit as fit_module

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import machine

SEED = 20261124

HEAD = (
    "| case | first fit | again | of it in the fit | peak memory | evaluations | status |",
    "| --- " * 7 + "|",
)


def bcg() -> dict[str, Any]:
    return {"formula": "logor", "S": "logorvar", "data": mx.load_dataset("bcg")}


def school() -> dict[str, Any]:
    data = mx.load_dataset("school")
    return {"formula": "effect", "S": "var", "data": data, "random": "~ 1 | district/study"}


def multivariate(m: int, k: int) -> dict[str, Any]:
    """m studies of k outcomes, Ψ = 0.5 I + 0.3, errors of a few tenths."""
    rng = np.random.default_rng(SEED)
    root = rng.normal(size=(m, k, k))
    S = 0.1 * (root @ root.transpose(0, 2, 1) + np.eye(k))
    Sigma = S + 0.5 * np.eye(k) + 0.3
    y = np.einsum("mij,mj->mi", np.linalg.cholesky(Sigma), rng.normal(size=(m, k)))
    return {"formula": y, "S": S}


def two_levels(n: int, m: int) -> dict[str, Any]:
    """n rows in m groups, an effect for each of both."""
    rng = np.random.default_rng(SEED)
    g = np.sort(rng.integers(0, m, n))
    v = rng.uniform(0.05, 0.5, n)
    y = rng.normal(size=n) * np.sqrt(v + 0.3) + 0.7 * rng.normal(size=m)[g]
    data = pd.DataFrame({"y": y, "v": v, "x": rng.normal(size=n), "g": g, "u": np.arange(n)})
    return {"formula": "y", "S": "v", "data": data, "random": "~ 1 | g/u"}


CASES: dict[str, tuple[Callable[[], dict[str, Any]], str, int]] = {
    "bcg": (bcg, "reml", 50),
    "school, two levels": (school, "reml", 50),
    "31 x 4": (lambda: multivariate(31, 4), "reml", 50),
    "73 x 12": (lambda: multivariate(73, 12), "reml", 3),
    "1,000 x 4": (lambda: multivariate(1_000, 4), "reml", 50),
    "10,000 x 4": (lambda: multivariate(10_000, 4), "reml", 30),
    "1,000,000 x 4": (lambda: multivariate(1_000_000, 4), "reml", 2),
    "two levels, 100,000 rows": (lambda: two_levels(100_000, 10_000), "reml", 3),
    "two levels, 1,000,000 rows": (lambda: two_levels(1_000_000, 100_000), "reml", 2),
    "the same, y ~ x": (lambda: {**two_levels(1_000_000, 100_000), "formula": "y ~ x"}, "reml", 2),
    # One group alone says nothing on the variance between groups, and is refused.
    "two groups of 20,000 rows": (lambda: two_levels(40_000, 2), "ml", 3),
}


def measure(name: str, backend: str) -> dict[str, Any]:
    build, method, repeats = CASES[name]
    return measure_case(name, build(), method, repeats, backend)


def measure_case(
    name: str, arguments: dict[str, Any], method: str, repeats: int, backend: str = "auto"
) -> dict[str, Any]:
    """Seconds of the first fit and of the fastest of the next ones; peak memory of the first."""
    times, inside = [], []
    memory: tuple[float, float | None] | None = None
    own = fit_module.fit_design

    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        estimate = own(*args)
        inside.append(time.perf_counter() - start)
        return estimate

    fit_module.fit_design = timed
    for _ in range(repeats + 1):
        start = time.perf_counter()
        fit = mx.mixmeta(**arguments, method=method, control={"backend": backend})
        times.append(time.perf_counter() - start)
        memory = memory or machine.peaks()
        row = {"status": fit.status.name, "evaluations": fit.n_iter}
        del fit
    return {
        "case": name,
        "first": times[0],
        "run": min(times[1:]),
        "share": inside[1 + times[1:].index(min(times[1:]))] / min(times[1:]),
        "memory": memory[0] if memory else 0.0,
        "of the device": memory[1] if memory else None,
        "device": machine.device(),
        **row,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(CASES))
    parser.add_argument("--backend", default="auto", choices=("auto", "numpy", "jax"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.backend)))
        return
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}: choose among {', '.join(CASES)}")
    lines: list[str] = []

    def told(*new: str) -> None:
        lines.extend(new)
        print("\n".join(new), flush=True)

    for name in options.cases or CASES:
        command = [sys.executable, __file__, "--backend", options.backend, "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        first, run = (
            f"{t * 1e3:.1f} ms" if t < 1 else f"{t:.2f} s" for t in (row["first"], row["run"])
        )
        if not lines:
            # The processes of the cases tell: this one must not hold a GPU's memory beside them.
            told(f"# Single fits: {row['device']}; backend {options.backend!r}", "")
            head = (
                "case | first fit | again | of it in the fit | peak memory | evaluations | status"
            )
            told(f"| {head} |", "| --- " * 7 + "|")
        told(
            f"| {name} | {first} | {run} | {row['share']:.0%} | "
            f"{machine.memory(row['memory'], row['of the device'])} | {row['evaluations']} | "
            f"{row['status']} |"
        )
    machine.written(lines, options.out)


if __name__ == "__main__":
    main()
