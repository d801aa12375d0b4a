"""What a small fit consists of: bcg with no, one and two predictors, medians of warm calls.

"In the program" is the compiled search for the maximum, without the fetch of its result; the last
column is formulaic's own ``model_matrix`` of the same formula and data, parsed at every call.

    python benchmarks/small_fits.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import formulaic
import jax
import numpy as np

import mixmeta_jax as mx
from mixmeta_jax.data import model_matrix
from mixmeta_jax.estimation import estimator

FORMULAS = ("logor", "logor ~ ablat", "logor ~ ablat + year", "logor ~ ablat + alloc")
REPEATS = 300


def main() -> None:
    spent: dict[str, float] = {}

    def timed(part: str, function: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = jax.block_until_ready(function(*args, **kwargs))
            spent[part] = spent.get(part, 0.0) + time.perf_counter() - start
            return result

        return run

    model_matrix.materialise = timed("formulaic", model_matrix.materialise)
    estimator.packed_maximum = timed("program", estimator.packed_maximum)
    data = mx.load_dataset("bcg")
    fit = timed("fit", lambda formula: mx.mixmeta(formula, S="logorvar", data=data))
    read = timed("model_matrix", lambda formula: formulaic.model_matrix(formula, data))
    parts = ("fit", "formulaic", "program", "model_matrix")
    print("| formula | fit | in formulaic | in the program | the rest | model_matrix |")
    print("| --- | --- | --- | --- | --- | --- |")
    for formula in FORMULAS:
        rows = []
        for _ in range(REPEATS + 10):
            spent.clear()
            fit(formula)
            read(formula if "~" in formula else f"{formula} ~ 1")
            rows.append([spent.get(part, 0.0) for part in parts])
        whole, inside, program, alone = 1e3 * np.median(rows[10:], axis=0)
        times = [whole, inside, program, whole - inside - program, alone]
        print(f"| `{formula}` | " + " | ".join(f"{t:.2f} ms" for t in times) + " |")


if __name__ == "__main__":
    main()
