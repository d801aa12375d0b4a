"""What a small fit consists of: bcg with no, one and two predictors, medians of warm calls.

"In the search" is the search for the maximum, by NumPy at once or, with ``--backend jax``, by
compiled programs, with the fetch of what they find; the last column is formulaic's own
``model_matrix`` of the same formula and data, parsed at every call.

    python benchmarks/small_fits.py [--backend auto] [--repeats 300]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import formulaic
import numpy as np

import mixmeta_jax as mx
from mixmeta_jax.choices import Backend, words
from mixmeta_jax.estimation import estimator
from mixmeta_jax.formulas import model_matrix

FORMULAS = ("logor", "logor ~ ablat", "logor ~ ablat + year", "logor ~ ablat + alloc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=words(Backend), default="auto")
    parser.add_argument("--repeats", type=int, default=300)
    options = parser.parse_args()
    control = {"backend": options.backend}
    spent: dict[str, float] = {}

    def timed(part: str, function: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            spent[part] = spent.get(part, 0.0) + time.perf_counter() - start
            return result

        return run

    model_matrix.materialise = timed("formulaic", model_matrix.materialise)
    estimator.search = timed("search", estimator.search)
    data = mx.load_dataset("bcg")

    def fitted(formula: str) -> mx.Fit:
        return mx.mixmeta(formula, S="logorvar", data=data, control=control)

    fit = timed("fit", fitted)
    read = timed("model_matrix", lambda formula: formulaic.model_matrix(formula, data))
    parts = ("fit", "formulaic", "search", "model_matrix")
    print("| formula | fit | in formulaic | in the search | the rest | model_matrix |")
    print("| --- | --- | --- | --- | --- | --- |")
    for formula in FORMULAS:
        rows = []
        for _ in range(options.repeats + 10):
            spent.clear()
            fit(formula)
            read(formula if "~" in formula else f"{formula} ~ 1")
            rows.append([spent.get(part, 0.0) for part in parts])
        whole, inside, search, alone = 1e3 * np.median(rows[10:], axis=0)
        times = [whole, inside, search, whole - inside - search, alone]
        print(f"| `{formula}` | " + " | ".join(f"{t:.2f} ms" for t in times) + " |")


if __name__ == "__main__":
    main()
