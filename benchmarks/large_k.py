"""Many outcomes: where writing out the elimination stops paying, and what d = 12 to 40 cost.

    python benchmarks/large_k.py [operations] [fits] [blocks]

``operations`` times the ways of small matrix algebra, ``fits`` whole REML fits of d = 12 to 40, and
``blocks`` fits with many rows in each block of S.
"""

from __future__ import annotations

import functools
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from single_fits import SEED, multivariate

import mixmeta_jax as mx
from mixmeta_jax.likelihood import elimination


def measure(f: Callable[..., Any], *arguments: Any, repeats: int = 3) -> tuple[float, float]:
    """Seconds to compile, and the least of several runs."""
    start = time.perf_counter()
    compiled = jax.jit(f).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    runs = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        runs.append(time.perf_counter() - start)
    return seconds, min(runs)


def by_term(A: jax.Array, B: jax.Array) -> jax.Array:
    terms = [A[:, p, None] * B[None, p, :] for p in range(A.shape[1])]
    return sum(terms[1:], start=terms[0])


def by_routine(A: jax.Array, B: jax.Array) -> jax.Array:
    return jnp.einsum("ip...,pj...->ij...", A, B)


def operations() -> None:
    print("| size | N | product: terms | routine | whitener: scalars | columns | halves | LAPACK |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rng = np.random.default_rng(SEED)
    for s in (2, 4, 5, 6, 8, 12, 16, 24, 32, 40, 64):
        for N in (64, 1024):
            if s * s * N > 5e6:
                continue
            root = rng.normal(size=(s, s + 3, N))
            A = jnp.asarray(np.einsum("ipn,jpn->ijn", root, root))
            ways: list[tuple[Callable[..., Any], tuple[Any, ...], bool]] = [
                (by_term, (A, A), True),
                (by_routine, (A, A), True),
                (elimination._whitener_unrolled, (A,), s <= 8),
                (elimination._whitener_by_column, (A,), True),
                (elimination._whitener_by_halves, (A,), s > elimination.BY_COLUMN),
                (elimination._whitener_by_lapack, (A,), True),
            ]
            cells = []
            for f, arguments, runs in ways:
                if runs:
                    compiling, running = measure(f, *arguments)
                    cells.append(f"{running * 1e3:.2f} ms ({compiling:.1f} s)")
                else:
                    cells.append("")
            print(f"| {s} | {N} | {' | '.join(cells)} |", flush=True)


def first_and_compiled(fit: Callable[[], Any]) -> str:
    """Cells for the seconds of a first fit and of a second one, how it ended, and peak memory."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        result = fit()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ended = f"{result.status.name}, {result.n_iter}"
    return f"{times[0]:.1f} s | {times[1]:.2f} s | {ended} | {peak:.0f} MB"


def fits() -> None:
    print("| studies x d | structure | parameters | first | compiled | ended, evaluations | peak |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    cases = [(73, 12, "unstr"), (100, 20, "unstr"), (100, 40, "diag"), (100, 40, "cs")]
    for m, d, name in [*cases, (100, 40, "unstr")]:
        data = multivariate(m, d)
        design = mx.make_design(data["formula"], None, data["S"], bscov=name)
        cells = first_and_compiled(functools.partial(mx.mixmeta, **data, bscov=name))
        print(f"| {m} x {d} | {name} | {sum(design.n_parameters)} | {cells} |", flush=True)


def blocks() -> None:
    print("| rows per block | blocks | first fit | compiled | ended, evaluations | peak |")
    print("| --- | --- | --- | --- | --- | --- |")
    for rows, m in ((32, 64), (100, 32), (200, 16)):
        rng = np.random.default_rng(SEED)
        data = pd.DataFrame({"g": np.repeat(np.arange(m), rows)})
        root = rng.normal(size=(m, rows, rows)) / np.sqrt(rows)
        S = {g: 0.2 * root[g] @ root[g].T + 0.1 * np.eye(rows) for g in range(m)}
        data["y"] = rng.normal(size=m)[data.g] + 0.5 * rng.normal(size=len(data))
        fit = functools.partial(mx.mixmeta, "y", S=S, data=data, random="~ 1 | g")
        print(f"| {rows} | {m} | {first_and_compiled(fit)} |", flush=True)


def main() -> None:
    parts = {"operations": operations, "fits": fits, "blocks": blocks}
    with jax.enable_x64(True):
        for name in sys.argv[1:] or parts:
            parts[name]()
            print()


if __name__ == "__main__":
    main()
