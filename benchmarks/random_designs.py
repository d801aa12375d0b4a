"""A thousand random designs: does every fit end at a maximum, and at the highest one?

Designs of one to three levels, all structures, random slopes, missing outcomes, blocks of S, ML and
REML, with random effects of 1e-8 to 1e8 times the errors in variance, come in shape classes, so
that the designs of one class share their programs where they are compiled. Each default fit is
compared with the best of ten random starts, and judged by its gradient and, at a bound, by the
conditions of Karush, Kuhn and Tucker in Psi itself. Results are kept line by line, and a run goes
on where the last one stopped.

    python benchmarks/random_designs.py [--designs 1000] [--out random_designs.jsonl]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mixmeta_jax as mx
from mixmeta_jax.control import Control
from mixmeta_jax.covariance.catalogue import NEEDS_MATRIX, NEEDS_TIMES, STRUCTURES
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.tensors import Tensors, arrange
from mixmeta_jax.estimation.ascent import problem_of
from mixmeta_jax.estimation.estimator import fit_design
from mixmeta_jax.estimation.executors import executed, executor
from mixmeta_jax.estimation.start import natural_units, starting_parameters, starting_variances
from mixmeta_jax.likelihood.likelihood import both_sweeps, prepared

SEED = 20261128
PER_CLASS = 20
FIRST_ROUND = 4
RANDOM_STARTS = 10
LOWER = 1e-6
"""Deficit in the log-likelihood, against the best random start, that counts as a failure."""
FREE_VARIANCES = ("unstr", "diag", "hcs", "har1", "hcar1", "cor")


@dataclasses.dataclass(frozen=True)
class ShapeClass:
    """What the designs of a class have in common: all that decides a program."""

    k: int
    q: tuple[int, ...]
    structures: tuple[str, ...]
    p: int
    outer: int
    """Outer groups are more than half this number, a power of two, and at most it."""
    missing: bool
    blocks: bool
    method: str
    inside: bool = False
    """Whether the innermost groups hold several units."""


def shape_class(index: int) -> ShapeClass:
    rng = np.random.default_rng([SEED, index])
    n_levels = int(rng.choice([1, 1, 2, 2, 3]))
    k = int(rng.choice([1, 2, 3] if n_levels > 1 else [1, 2, 3, 4, 5]))
    q = tuple(int(rng.choice([1, 1, 2])) if k < 3 else 1 for _ in range(n_levels))
    names = []
    for level, size in enumerate(q):
        wide = ["unstr"] * 4 + ["diag", "diag", "id", "prop"] + ["fixed"] * (level > 0)
        if k * size > 1:
            wide += ["cs", "cs", "hcs", "hcs", "ar1", "har1", "car1", "hcar1", "cor"]
        names.append(str(rng.choice(wide)))
    d = k * q[0]
    shape = ShapeClass(
        k=k,
        q=q,
        structures=tuple(names),
        p=int(rng.integers(1, 4)),
        outer=int(rng.choice([32, 64] if d > 3 else [16, 32, 64])),
        missing=bool(k > 1 and rng.random() < 0.6),
        # Three levels of three outcomes in blocks take minutes a design, and show nothing new.
        blocks=bool(rng.random() < 0.25 and n_levels * k < 9),
        method=str(rng.choice(["reml", "ml"])),
    )
    # Nine random effects over three levels and blocks of twenty outcomes cost a hundred times what
    # the others do: they come with few groups.
    heavy = n_levels * k == 9 or (shape.blocks and k > 3)
    inside = (n_levels == 1 and shape.blocks) or (
        n_levels > 1 and not shape.blocks and bool(rng.random() < 0.5)
    )
    return dataclasses.replace(shape, outer=16 if heavy else shape.outer, inside=inside)


def random_design(index: int, number: int) -> Design:
    """Design ``number`` of a class."""
    shape = shape_class(index)
    rng = np.random.default_rng([SEED + 1, index, number])
    k, n_levels = shape.k, len(shape.q)
    m = int(rng.integers(shape.outer // 2 + 1, shape.outer + 1))
    codes = [np.arange(m)]
    for _ in range(1, n_levels):
        codes = _split(rng, codes, 4)
    if shape.inside:
        codes = _split(rng, codes, 4)[:-1]
    n = len(codes[0])
    frame = pd.DataFrame({f"g{level}": code for level, code in enumerate(codes)})
    frame["x"] = rng.normal(size=n)
    X = np.column_stack([np.ones(n), frame.x, rng.normal(size=n)])[:, : shape.p]
    # Errors spread over orders of magnitude between units and, where free, between outcomes.
    free = all(name in FREE_VARIANCES for name in shape.structures)
    size = 10 ** rng.uniform(-2, 2, k) if free else np.full(k, 10 ** rng.uniform(-2, 2))
    if "fixed" in shape.structures:
        size = np.ones(k)
    sd = size * np.exp(rng.uniform(0.1, 1.0) * rng.normal(size=(n, k)))
    S: Any
    if shape.blocks:
        S, errors = {}, np.zeros((n, k))
        for label in range(m):
            rows = np.flatnonzero(codes[0] == label)
            R = _correlation(rng, len(rows) * k)
            S[label] = R * np.outer(sd[rows].ravel(), sd[rows].ravel())
            errors[rows] = (np.linalg.cholesky(S[label]) @ rng.normal(size=len(R))).reshape(-1, k)
    else:
        S = np.stack([_correlation(rng, k) for _ in range(n)]) * sd[:, :, None] * sd[:, None]
        errors = np.einsum("nij,nj->ni", np.linalg.cholesky(S), rng.normal(size=(n, k)))
    y = errors + size * rng.normal(size=k)
    for code, q in zip(codes, shape.q, strict=True):
        Z = np.column_stack([np.ones(n), frame.x])[:, :q]
        d = k * q
        rank = d if rng.random() < 0.6 else int(rng.integers(0, d + 1))
        strength = 10 ** (rng.uniform(-1, 1) if rng.random() < 0.8 else rng.uniform(-4, 4))
        root = rng.normal(size=(d, rank)) / np.sqrt(d)
        if rank == d and rng.random() < 0.7:
            root += np.eye(d)
        root *= strength * np.tile(size, q)[:, None]
        b = (rng.normal(size=(code.max() + 1, rank)) @ root.T).reshape(-1, q, k)
        y += np.einsum("nq,nqk->nk", Z, b[code])
    if shape.missing:
        gone = rng.random((n, k)) < 0.25
        gone[np.arange(n), rng.integers(0, k, n)] = False
        y[gone] = np.nan
    predictors = {f"g{level}": "~ x" if q == 2 else "~ 1" for level, q in enumerate(shape.q)}
    structures = [structure(shape, level, index) for level in range(n_levels)]
    return mx.make_design(y, X, S, random=predictors, data=frame, bscov=structures)


def structure(shape: ShapeClass, level: int, index: int) -> Any:
    """A name, or the structure where it needs times or a matrix: those are of the class."""
    rng = np.random.default_rng([SEED + 2, index, level])
    name, d = shape.structures[level], shape.k * shape.q[level]
    if name in NEEDS_TIMES:
        return STRUCTURES[name](np.cumsum(rng.uniform(0.5, 2, d)))
    if name in NEEDS_MATRIX:
        return STRUCTURES[name](10 ** rng.uniform(-1, 1) * _correlation(rng, d))
    return name


def _split(rng: np.random.Generator, codes: list[np.ndarray], most: int) -> list[np.ndarray]:
    """The codes with one more level inside: two groups each on average, 1 to ``most``."""
    m = len(codes[0])
    sizes = np.ones(m, int)
    sizes[0] = most
    while (short := 2 * m - sizes.sum()) > 0:
        np.add.at(sizes, rng.integers(0, m, short), 1)
        sizes = np.minimum(sizes, most)
    repeated = [np.repeat(code, sizes) for code in codes]
    return [*repeated, np.arange(int(sizes.sum()))]


def _correlation(rng: np.random.Generator, d: int) -> np.ndarray:
    root = rng.normal(size=(d, d + 2))
    C = root @ root.T
    sd = np.sqrt(np.diag(C))
    return C / np.outer(sd, sd)


def best_of_random_starts(
    design: Design, method: str, seed: list[int], control: Control
) -> tuple[float, np.ndarray]:
    """Highest log-likelihood from random starts, and the evaluations of each path."""
    rng = np.random.default_rng(seed)
    scales = tuple(starting_variances(design))
    own = starting_parameters(design.structures, scales)[:, :, 0]
    n_starts = len(own)
    units = natural_units(own[:, :, None])
    run = executor(design, method, control, n_starts)
    steering = units, scales, None, control.max_iter, control.gradient_tol
    problem = problem_of(n_starts, *steering)
    values, steps = [], []
    # As many at a time as a default fit follows: where it is compiled, the same program.
    while len(values) < RANDOM_STARTS:
        spread = 10 ** rng.uniform(-1.5, 1, (n_starts, 1))
        starts = rng.normal(size=own.shape) * units[:, 0] * spread
        ends = run.ascend(np.ascontiguousarray(starts.T), problem, restricted=method == "reml")
        values += [v if np.isfinite(v) else -np.inf for v in ends.loglik.tolist()]
        steps += ends.path.n_iter.tolist()
    return max(values), np.array(steps)


def _products_and_traces(
    Psi: tuple[Any, ...], tensors: Tensors, *, restricted: bool
) -> tuple[Any, ...]:
    data, _ = prepared(tensors)
    _, _, down = both_sweeps(Psi, data, restricted)
    return down.products, down.traces


def outward_slope(design: Design, Psi: tuple[np.ndarray, ...], method: str) -> float:
    """Largest rise of the log-likelihood in an unstructured Psi along the cone, relative.

    By Karush, Kuhn and Tucker no direction vv' leads up: the gradient in Psi, half the difference
    of products and traces, has no positive eigenvalue, in units of the traces. Minus infinity where
    no level is unstructured.
    """
    worst = -np.inf
    if all(structure.name != "unstr" for structure in design.structures):
        return worst
    stacked = tuple(P[:, :, None] for P in Psi)
    restricted = method == "reml"
    both = executed(_products_and_traces, design, stacked, arrange(design), restricted=restricted)
    for structure, products, traces in zip(design.structures, *both, strict=True):
        if structure.name == "unstr":
            up, down = products[:, :, 0], traces[:, :, 0]
            unit = 1 / np.sqrt(np.diag(down))
            slope = (up - down) * np.outer(unit, unit)
            worst = max(worst, float(np.linalg.eigvalsh(slope)[-1]))
    return worst


def examine(index: int, number: int) -> dict[str, Any]:
    shape = shape_class(index)
    control = Control()
    design = random_design(index, number)
    start = time.perf_counter()
    fit = fit_design(design, shape.method, control)
    seconds = time.perf_counter() - start
    best, steps = best_of_random_starts(design, shape.method, [SEED, index, number, 1], control)
    slope = outward_slope(design, fit.Psi, shape.method)
    return {
        "class": index,
        "number": number,
        "status": fit.status.name,
        "loglik": fit.loglik,
        "best_random": best,
        "gradient": fit.gradient_norm,
        "outward": slope,
        "n_iter": fit.n_iter,
        "random_steps": steps.tolist(),
        "seconds": seconds,
    }


def failures(row: dict[str, Any]) -> list[str]:
    found = []
    if row["status"] not in ("CONVERGED", "BOUNDARY"):
        found.append(row["status"])
    if not row["gradient"] <= 1e-6:
        found.append(f"gradient {row['gradient']:.1e}")
    if not row["outward"] <= 1e-5:
        found.append(f"slope {row['outward']:.1e} out of a bound")
    if row["best_random"] > row["loglik"] + LOWER:
        found.append(f"{row['best_random'] - row['loglik']:.2e} below the best random start")
    return found


def report(rows: list[dict[str, Any]]) -> None:
    steps = np.array([row["n_iter"] for row in rows])
    paths = np.concatenate([row["random_steps"] for row in rows])
    at_bound = np.mean([row["status"] == "BOUNDARY" for row in rows])
    print(f"{len(rows)} designs in {len({row['class'] for row in rows})} classes")
    print(f"at a bound: {at_bound:.0%}")
    for name, values in (("default fit", steps), ("random start", paths)):
        cuts = np.percentile(values, [50, 90, 99, 100]).astype(int)
        print(f"evaluations, {name}: median {cuts[0]}, 90% {cuts[1]}, 99% {cuts[2]}, all {cuts[3]}")
    lower = np.array([row["best_random"] - row["loglik"] for row in rows])
    print(f"largest deficit against the best of {RANDOM_STARTS} random starts: {lower.max():.1e}")
    above = np.mean(lower < -LOWER)
    print(f"default fit above every random start: {above:.1%}")
    bad = [(row, found) for row in rows if (found := failures(row))]
    print(f"failures: {len(bad)}")
    for row, found in bad:
        print(f"  class {row['class']}, design {row['number']}: {'; '.join(found)}")
        print(f"    {shape_class(row['class'])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("random_designs.jsonl"))
    options = parser.parse_args()
    rows = []
    if options.out.exists():
        rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    done = {(row["class"], row["number"]) for row in rows}
    jobs = [divmod(job, PER_CLASS) for job in range(options.designs)]
    # A few designs of every class first, so that a run cut short has seen them all; and those of
    # few levels first, which are the cheapest.
    jobs.sort(key=lambda job: (job[1] >= FIRST_ROUND, len(shape_class(job[0]).q), job))
    with options.out.open("a") as out:
        for index, number in jobs:
            if (index, number) not in done:
                rows.append(examine(index, number))
                out.write(json.dumps(rows[-1]) + "\n")
                out.flush()
    report(rows)


if __name__ == "__main__":
    main()
