"""The outer groups with their whole covariances, those of one size side by side.

What is asked of single outcomes, or of parts of a group (leverage, Cholesky residuals, influence,
joint covariances of BLUPs), needs Σ⁻¹ between all outcomes of a group. So here, and nowhere in the
likelihood, a group's covariance is formed: its time grows with the cube of the group's outcomes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mixmeta_jax.design.design import Design
from mixmeta_jax.errors import InputError

MOST_IN_GROUP = 8_000
"""Outcomes of one group up to which its covariance is formed: half a gigabyte."""

NUMBERS = 4_000_000
"""Entries of the covariances that are formed at a time: 32 megabytes."""


@dataclass(frozen=True)
class OuterGroups:
    """G outer groups of n_u units each; N = n_u·k outcomes, unit by unit.

    Missing outcomes have null rows and columns in everything but ``Sigma``, where they have the
    variance 1.

    Attributes
    ----------
    rows
        Units of each group, in the order of the data, shape (G, n_u).
    seen
        Which outcomes are observed, shape (G, N).
    X
        Predictors in the orthonormal basis, shape (G, N, P).
    r
        Residuals y − Xβ̂, shape (G, N).
    Sigma, W
        Marginal covariance and its inverse, shape (G, N, N).
    """

    rows: np.ndarray
    seen: np.ndarray
    X: np.ndarray
    r: np.ndarray
    Sigma: np.ndarray
    W: np.ndarray


def basis_of(design: Design) -> np.ndarray:
    """T of the coefficients, β = T β₀ for those of the orthonormal basis, shape (P, P)."""
    return np.kron(design.basis, np.eye(design.k))


def basis_vcov(design: Design, vcov: np.ndarray) -> np.ndarray:
    """The covariance of the coefficients in the orthonormal basis, shape (P, P)."""
    inverse = np.kron(np.linalg.inv(design.basis), np.eye(design.k))
    return inverse @ vcov @ inverse.T


def spread(predictors: np.ndarray, k: int) -> np.ndarray:
    """Predictors ⊗ I_k: (…, n_u, c) to (…, n_u·k, c·k)."""
    *first, n_u, c = predictors.shape
    wide = predictors[..., :, None, :, None] * np.eye(k)[:, None, :]
    return wide.reshape(*first, n_u * k, c * k)


def outer_groups(
    design: Design, Psi: Sequence[np.ndarray], beta: np.ndarray
) -> Iterator[OuterGroups]:
    """All outer groups, a part of them at a time.

    Parameters
    ----------
    design
        The data; its outermost level groups what is dependent, whether it has an effect or not.
    Psi
        Covariance of each level, outer first; none for fixed effects.
    beta
        Coefficients, shape (P,).

    Raises
    ------
    InputError
        Where a group has more than `MOST_IN_GROUP` outcomes.
    """
    outer, k = design.groups[:, 0], design.k
    order = np.argsort(outer, kind="stable")
    sizes = np.bincount(outer)
    starts = np.cumsum(sizes) - sizes
    largest = int(sizes.max()) * k
    if largest > MOST_IN_GROUP:
        raise InputError(
            f"The largest outer group has {largest:,} outcomes, and this takes the covariance of "
            f"all of them, for which {MOST_IN_GROUP:,} is the most: influence by refits, "
            "method='exact', does not."
        )
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        at_once = max(1, NUMBERS // int(size * k) ** 2)
        for first in range(0, len(members), at_once):
            chosen = members[first : first + at_once]
            rows = order[starts[chosen][:, None] + np.arange(size)]
            yield _of_rows(design, Psi, beta, rows)


def _of_rows(
    design: Design, Psi: Sequence[np.ndarray], beta: np.ndarray, rows: np.ndarray
) -> OuterGroups:
    k = design.k
    G, n_u = rows.shape
    N = n_u * k
    seen = design.mask[rows].reshape(G, N)
    X = design.X[rows]
    y = np.where(design.mask, design.y, 0.0)[rows]
    r = np.where(seen, (y - X @ beta.reshape(design.p, k)).reshape(G, N), 0.0)
    Sigma = _errors(design, rows)
    for level, P in enumerate(Psi):
        Sigma += between_rows(design, level, P, rows, rows)
    pair = seen[:, :, None] & seen[:, None]
    Sigma = np.where(pair, Sigma, np.eye(N))
    W = np.where(pair, np.linalg.inv(Sigma), 0.0)
    W = 0.5 * (W + W.swapaxes(1, 2))
    X = np.where(seen[..., None], spread(X @ design.basis, k), 0.0)
    return OuterGroups(rows, seen, X, r, Sigma, W)


def between_rows(
    design: Design, level: int, Psi: np.ndarray, left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """ZΨZᵀ of one level between units of the same outer groups, (G, a·k, b·k).

    ``left`` and ``right`` hold the units, shape (G, a) and (G, b).
    """
    k, code, Z = design.k, design.groups[:, level], design.Z[level]
    same = code[left][:, :, None] == code[right][:, None]
    half = spread(Z[left], k) @ Psi
    term = half @ spread(Z[right], k).swapaxes(1, 2)
    return term * np.repeat(np.repeat(same, k, 1), k, 2)


def _errors(design: Design, rows: np.ndarray) -> np.ndarray:
    """S between all outcomes of the groups, shape (G, N, N)."""
    k = design.k
    G, n_u = rows.shape
    S = np.zeros((G, n_u, k, n_u, k))
    if not isinstance(design.S, tuple):
        own = np.arange(n_u)
        S[:, own, :, own, :] = design.S[rows].swapaxes(0, 1)
        return S.reshape(G, n_u * k, n_u * k)
    group, place = np.full(design.n + 1, -1), np.zeros(design.n + 1, int)
    group[rows], place[rows] = np.arange(G)[:, None], np.arange(n_u)
    for bucket, blocks in zip(design.layout.buckets, design.S, strict=True):
        # A block lies within one outer group; empty places come last in it.
        own = np.flatnonzero(group[bucket.rows[0]] >= 0)
        units = bucket.rows[:, own]
        matrices = blocks[own].reshape(len(own), len(units), k, len(units), k)
        g = group[units[0]]
        for u, at in enumerate(units):
            for v, other in enumerate(units):
                used = (at < design.n) & (other < design.n)
                S[g[used], place[at[used]], :, place[other[used]], :] = matrices[used, u, :, v]
    return S.reshape(G, n_u * k, n_u * k)
