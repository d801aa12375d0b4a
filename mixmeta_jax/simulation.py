"""Simulated outcomes: `mixmeta_sim`, and those of a design for the studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.data.design import Design
from mixmeta_jax.data.frame import random_levels
from mixmeta_jax.data.grouping import parse_random
from mixmeta_jax.data.layout import Layout, build_layout
from mixmeta_jax.data.rows import as_pandas
from mixmeta_jax.data.within_study import within_study
from mixmeta_jax.errors import InputError
from mixmeta_jax.model.simulation import draws, semidefinite_root

Errors = Sequence[tuple[np.ndarray, np.ndarray]]


def mixmeta_sim(
    y: Any,
    S: Any,
    Psi: Any,
    random: Any = None,
    data: Any = None,
    nsim: int = 1,
    seed: int = 0,
    rho: Any = None,
    first: int = 0,
) -> np.ndarray:
    """Simulate outcomes from the model with known expectations and covariances.

    Data set b is drawn from a stream of its own, Philox with the key (seed, b): a study can be cut
    into parts by ``first`` and joined, with the same draws bit for bit.

    Parameters
    ----------
    y
        Expected outcomes, shape (n,) or (n, k); NaN where the simulated outcome shall be missing.
    S, rho
        Error covariances in any form of `mixmeta`.
    Psi
        Covariance of the random effects, or one per level as a list, outer first, or {level:
        matrix}; positive semidefinite; None for no random effects.
    random, data
        Grouping and random predictors, as in `mixmeta`.
    nsim
        Number of data sets.
    seed
        Whole number from 0.
    first
        Number of the first data set.

    Returns
    -------
    ndarray
        Shape (nsim, n, k).

    Raises
    ------
    InputError
        For shapes that do not fit, or a Psi that is not positive semidefinite.
    """
    _check_counts(nsim, seed, first)
    mean = np.asarray(y, float)
    mean = mean[:, None] if mean.ndim == 1 else mean
    if mean.ndim != 2 or not mean.size:
        raise InputError(f"y has the shape {np.shape(y)}: it must be (n,) or (n, k).")
    n, k = mean.shape
    table = pd.DataFrame(index=pd.RangeIndex(n)) if data is None else as_pandas(data)
    if len(table) != n:
        raise InputError(f"data has {len(table)} rows, but y has {n}.")
    levels = random_levels(random, None if data is None else table, n)
    names = [level.name for level in levels]
    matrices = _matrices(Psi, names, [k * level.Z.shape[1] for level in levels])
    seen, every = ~np.isnan(mean), np.ones(n, bool)
    outer = None if random is None else parse_random(random, table)[0].name
    outcomes = [f"y{o + 1}" for o in range(k)]
    within = within_study(S, rho, table, outer, seen, every, every, outcomes)
    if within.unit is not None:
        errors: Errors = [(np.arange(n)[:, None], semidefinite_root(within.unit))]
    else:
        errors = [(r[None], semidefinite_root(m)[None]) for r, m in within.blocks or ()]
    groups = np.stack([level.codes for level in levels], axis=1)
    Z = [level.Z for level in levels] if matrices else []
    return mean + draws(first, nsim, seed, groups, Z, matrices, errors, (n, k))


def simulate_design(
    design: Design,
    mean: np.ndarray,
    Psi: Sequence[np.ndarray],
    nsim: int,
    seed: int,
    first: int = 0,
) -> np.ndarray:
    """Outcomes of a design around their mean, NaN where its outcomes are: (nsim, n, k)."""
    _check_counts(nsim, seed, first)
    n, k = design.n, design.k
    mean = np.where(design.mask, mean, np.nan)
    errors = design_errors(design)
    return mean + draws(first, nsim, seed, design.groups, design.Z, Psi, errors, (n, k))


def design_errors(design: Design) -> Errors:
    """The factors of S, as `model.simulation.draws` takes them."""
    k = design.k
    if not isinstance(design.S, tuple):
        pair = design.mask[:, :, None] & design.mask[:, None]
        return [(np.arange(design.n)[:, None], semidefinite_root(np.where(pair, design.S, 0.0)))]
    errors = []
    for bucket, blocks in zip(_buckets(design.layout), design.S, strict=True):
        for rows, matrix in zip(bucket.T, blocks, strict=False):
            units = rows[rows < design.n]
            if not len(units):
                continue
            used = np.flatnonzero(np.repeat(rows < design.n, k))
            seen = design.mask[units].ravel()
            own = np.where(seen[:, None] & seen, matrix[np.ix_(used, used)], 0.0)
            errors.append((units[None], semidefinite_root(own)[None]))
    return errors


def _buckets(layout: Layout) -> list[np.ndarray]:
    return [bucket.rows for bucket in layout.buckets]


def tight_layout(design: Design) -> Layout:
    """The arrangement of a design without padding, for many data sets."""
    blocks = None
    if isinstance(design.S, tuple):
        blocks = [rows[rows < design.n] for rows in _columns(design)]
    return build_layout(design.n, design.k, list(design.groups.T), design.dims, blocks, True)


def _columns(design: Design) -> list[np.ndarray]:
    columns = [rows for bucket in _buckets(design.layout) for rows in bucket.T]
    return [rows for rows in columns if (rows < design.n).any()]


def _check_counts(nsim: Any, seed: Any, first: Any) -> None:
    for name, value, least in (("nsim", nsim, 1), ("seed", seed, 0), ("first", first, 0)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}.")


def _matrices(Psi: Any, names: list[str], dims: list[int]) -> list[np.ndarray]:
    if Psi is None:
        return []
    if isinstance(Psi, Mapping):
        if set(Psi) != set(names):
            raise InputError(
                f"Psi must give a matrix for each level ({', '.join(names)}); it has "
                f"{', '.join(map(str, Psi))}."
            )
        given = [Psi[name] for name in names]
    elif isinstance(Psi, (list, tuple)) and len(names) > 1:
        given = list(Psi)
    else:
        given = [Psi]
    if len(given) != len(names):
        raise InputError(
            f"Psi has {len(given)} matrices for {len(names)} level(s), {', '.join(names)}: give "
            "one per level, outer first, or a mapping by level."
        )
    matrices = []
    for matrix, name, d in zip(given, names, dims, strict=True):
        P = np.atleast_2d(np.asarray(matrix, float))
        if P.shape != (d, d) or not np.isfinite(P).all() or not np.allclose(P, P.T):
            raise InputError(f"Psi of level '{name}' must be a finite symmetric {d} × {d} matrix.")
        if np.linalg.eigvalsh(P)[0] < -1e-10 * np.abs(P).max():
            raise InputError(f"Psi of level '{name}' is not positive semidefinite.")
        matrices.append(P)
    return matrices
