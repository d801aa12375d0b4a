"""Which covariance parameters the data identify: a rank, not a count of groups.

With Σ_a = ∂Σ/∂θ_a the expected information of θ is ½ tr(PΣ_aPΣ_b), and P = K(KᵀΣK)⁻¹Kᵀ for K that
spans what the fixed effects leave. It has the rank of tr(QΣ_aQΣ_b), with Q = KKᵀ = I − HHᵀ the
projection, whatever S and Σ are: the matrices QΣ_aQ must be linearly independent. The sum over all
pairs of rows is

    tr(Σ_aΣ_b) − 2 tr(HᵀΣ_aΣ_bH) + tr(HᵀΣ_aH HᵀΣ_bH),

of which every part is a sum over groups. What independent rows identify, more rows identify too, so
a few groups are asked first; and where counts leave no doubt (`obvious`), nothing is.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.tolerances import FREE, SPANS

FIRST_GROUPS = 20
"""Outer groups, beside four per coefficient, that are asked first."""


def obvious(seen: np.ndarray, Z: Sequence[np.ndarray], groups: np.ndarray, p: int) -> np.ndarray:
    """Where counts alone say that every structure is identified, shape (B,).

    A form M = Σ c_aΣ_a must not vanish on what the fixed effects leave. Of one random predictor per
    level, look at the rows of two outcomes: there M is not zero in an outer group in which a group
    of every level has two groups within, so its rank is at least the number of those, while one
    that vanishes there has at most 2p. Of a single level and outcome M is semidefinite, and p is
    its most; so it is of all outcomes where all are seen in the same rows.

    Parameters
    ----------
    seen
        Observed outcomes, shape (B, n, k).
    Z, groups, p
        Random predictors of each level, shape (n, q) or (B, n, q), groups (n, L), number of
        predictors.
    """
    B, _, k = seen.shape
    if any(z.shape[-1] != 1 for z in Z):
        return np.zeros(B, bool)
    for z in Z:
        if not z.all():
            seen = seen & (z[..., 0] != 0)[..., None]
    whole: Any = seen[..., 0] if k == 1 else seen.all(2)
    single = groups.shape[1] == 1
    enough = _fewest(whole, groups) > (p if single else 2 * p)
    if k == 1 or enough.all():
        return enough
    left = np.ones(B, bool)
    for o in range(k):
        for other in range(o, k):
            most = p if single and o == other else 2 * p
            left &= _fewest(seen[..., o] & seen[..., other], groups) > most
    return enough | left


def _fewest(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Of all levels, the fewest outer groups with a group of it that has two within, shape (B,).

    Groups count where they hold one of the rows (B, n); those of the innermost level, one row.
    """
    sizes, L = groups.max(0) + 1, groups.shape[1]
    if L == 1 and sizes[0] == len(groups):
        return rows.sum(1)
    hits = [_hit(rows, codes, size) for codes, size in zip(groups.T, sizes, strict=True)]
    counts = []
    for level in range(L):
        found = hits[level]
        if level + 1 < L:
            parent = np.empty(sizes[level + 1], int)
            parent[groups[:, level + 1]] = groups[:, level]
            found = _count(hits[level + 1], parent, sizes[level]) >= 2
        outer = np.empty(sizes[level], int)
        outer[groups[:, level]] = groups[:, 0]
        counts.append((_count(found, outer, sizes[0]) > 0).sum(1))
    return np.min(counts, axis=0)


def _count(inner: np.ndarray, parent: np.ndarray, size: int) -> np.ndarray:
    """How many of the inner groups (B, g) each of the outer ones has, shape (B, size)."""
    count = np.zeros((size, len(inner)), int)
    np.add.at(count, parent, inner.T)
    return count.T


def _hit(rows: np.ndarray, codes: np.ndarray, size: int) -> np.ndarray:
    """Which groups have one of the rows (B, n): shape (B, size)."""
    hit = np.zeros((len(rows), size), bool)
    b, row = np.nonzero(rows)
    hit[b, codes[row]] = True
    return hit


def lacking(
    X: np.ndarray,
    Z: Sequence[np.ndarray],
    groups: np.ndarray,
    seen: np.ndarray,
    slopes: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Directions in Ψ that one data set says nothing of: per level shape (r, d, d); r may be 0.

    Parameters
    ----------
    X, Z, groups
        Predictors (n, p), random predictors of each level (n, q), and groups (n, L).
    seen
        Observed outcomes, shape (n, k).
    slopes
        ∂Ψ/∂θ of each level at an interior θ.
    """
    few = 4 * X.shape[1] * seen.shape[1] + FIRST_GROUPS
    parts = [groups[:, 0] < few] if groups[:, 0].max() >= few else []
    for part in [*parts, np.ones(len(X), bool)]:
        rows = part & seen.any(1)
        null = _null_directions(X[rows], [z[rows] for z in Z], groups[rows], seen[rows], slopes)
        if not len(null):
            break
    ends = np.cumsum([0, *(each.shape[2] for each in slopes)])
    return [
        np.einsum("ijt,rt->rij", each, null[:, a:b])
        for each, a, b in zip(slopes, ends[:-1], ends[1:], strict=True)
    ]


def _null_directions(
    X: np.ndarray,
    Z: Sequence[np.ndarray],
    groups: np.ndarray,
    seen: np.ndarray,
    slopes: Sequence[np.ndarray],
) -> np.ndarray:
    """Orthonormal directions in θ along which no QΣ_aQ moves, in units of Σ_a: (r, n_θ)."""
    k = seen.shape[1]
    unit, outcome = np.nonzero(seen)
    H = _orthonormal(_crossed(X, unit, outcome, k))
    rows = [_crossed(z, unit, outcome, k) for z in Z]
    codes = [np.unique(own[unit], return_inverse=True)[1] for own in groups.T]
    moved, inner = [], []  # Σ_aH, shape (N, P, n_θ), and HᵀΣ_aH, shape (P, P, n_θ)
    with np.errstate(over="ignore", invalid="ignore"):
        for z, own, slope in zip(rows, codes, slopes, strict=True):
            sums = _by_group(z[:, :, None] * H[:, None], own)  # ZᵀH of each group
            moved.append(np.einsum("nd,det,nep->npt", z, slope, sums[own], optimize=True))
            inner.append(np.einsum("gdp,det,geq->pqt", sums, slope, sums, optimize=True))
        V, K = np.concatenate(moved, axis=2), np.concatenate(inner, axis=2)
        V, K = V.reshape(-1, V.shape[2]), K.reshape(-1, K.shape[2])
        whole = _products(rows, codes, slopes)
        left = whole - 2 * V.T @ V + K.T @ K
    if not np.isfinite(left).all():
        # Predictors near 1e150: the likelihood, which overflows too, says so.
        return np.zeros((0, left.shape[1]))
    size = np.sqrt(np.diagonal(whole))
    scale = 1 / np.where(size > 0, size, 1.0)
    values, axes = np.linalg.eigh(left * scale[:, None] * scale)
    return axes[:, values <= FREE].T * scale


def _products(
    rows: Sequence[np.ndarray], codes: Sequence[np.ndarray], slopes: Sequence[np.ndarray]
) -> np.ndarray:
    """tr(Σ_aΣ_b), shape (n_θ, n_θ): of nested levels, over the groups of the inner one."""
    L = len(rows)
    blocks: list[list[np.ndarray]] = [[np.empty(0)] * L for _ in range(L)]
    for a in range(L):
        for b in range(a, L):
            M = _by_group(rows[a][:, :, None] * rows[b][:, None], codes[b])
            left = np.einsum("det,gef->gdft", slopes[a], M, optimize=True)
            right = np.einsum("gde,eft->gdft", M, slopes[b], optimize=True)
            blocks[a][b] = np.einsum("gdfs,gdft->st", left, right, optimize=True)
            blocks[b][a] = blocks[a][b].T
    return np.block(blocks)


def _crossed(values: np.ndarray, unit: np.ndarray, outcome: np.ndarray, k: int) -> np.ndarray:
    """Predictors (n, q) of the observed outcomes, outcome fastest: shape (N, q·k)."""
    found = np.zeros((len(unit), values.shape[1], k))
    found[np.arange(len(unit)), :, outcome] = values[unit]
    return found.reshape(len(unit), -1)


def _orthonormal(X: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the columns, which may depend on one another."""
    with np.errstate(over="ignore"):
        size = np.sqrt((X**2).sum(0))
    U, values, _ = np.linalg.svd(X / np.where(size > 0, size, 1.0), full_matrices=False)
    return U[:, values > SPANS * values.max(initial=0.0)]


def _by_group(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sums of rows over groups numbered without gaps."""
    order = np.argsort(codes, kind="stable")
    first = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return np.add.reduceat(values[order], first, axis=0)


def interior(structure: Structure, z: np.ndarray, k: int) -> np.ndarray:
    """θ inside what the structure allows, in the units of the random predictors z, shape (n, q)."""
    with np.errstate(over="ignore"):
        size = (z**2).mean(0)
    variances = np.repeat(1 / np.where(size > 0, size, 1.0), k)
    starts = structure.starts(variances)
    # Of the starts, one with a correlation: at zero some correlations do not show.
    return np.asarray(starts[min(3, len(starts) - 1)], float)


def psi_and_slopes(structure: Structure, theta: np.ndarray, d: int) -> tuple[np.ndarray, ...]:
    """Ψ, shape (d, d), and ∂Ψ/∂θ, shape (d, d, n_θ)."""
    # A structure of one's own is differentiated by JAX.
    jax = None if structure.closed else importlib.import_module("jax")
    with nullcontext() if jax is None else jax.enable_x64(True):
        own = theta if jax is None else jax.numpy.asarray(theta)
        slopes = structure.slopes(own[:, None], d)[..., 0]
        return np.asarray(structure.psi(own, d)), np.asarray(slopes)
