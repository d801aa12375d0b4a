"""Outer groups with their whole marginal covariance, padded to arrays of similar size.

What small-sample and robust inference sums over groups needs Σ_i itself, not only its products:
here every outer group is one matrix, of n_i·k outcomes, and groups come in pieces of bounded
memory. Data sets, B of one design, come first: arrays have the shape (B, N, ...), N the groups of a
piece, and B = 1 marks what all data sets share. A missing outcome, or an empty place, has variance
1, no covariance, and null rows of X and Z.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.design.design import Design
from mixmeta_jax.design.layout import merged, rows_by_size

PIECE = 500_000
"""Numbers in the largest array of a piece: 4 MB, which stay in the cache. Eight times as many take
twice the time (10 groups of 30 outcomes, 250 data sets)."""


@dataclass(frozen=True)
class Piece:
    """N outer groups of at most s outcomes.

    Attributes
    ----------
    groups
        Number of each group, shape (N,); see `outer_groups`.
    X
        Predictors of the P coefficients, shape (B, N, s, P).
    y
        Outcomes less their offset, shape (B, N, s), zero where missing.
    W
        Σ⁻¹, shape (B, N, s, s).
    Sigma
        Σ, shape (B, N, s, s).
    Z
        Of each level, outer first: random predictors, shape (B, N, s, d).
    same
        Of each level: whether two outcomes share a group, shape (N, s, s); None where all do.
    """

    groups: np.ndarray
    X: np.ndarray
    y: np.ndarray
    W: np.ndarray
    Sigma: np.ndarray
    Z: tuple[np.ndarray, ...]
    same: tuple[np.ndarray | None, ...]

    def moved(self, level: int, change: np.ndarray) -> np.ndarray:
        """Z (∂Ψ) Zᵀ of a level for changes (B, c, d, d) of Ψ: shape (B, N, c, s, s)."""
        Z = self.Z[level][:, :, None]
        made = Z @ change[:, None] @ np.swapaxes(Z, -1, -2)
        same = self.same[level]
        return made if same is None else made * same[:, None]


def outer_groups(design: Design) -> np.ndarray:
    """Outer group of each unit, 0…m−1: the smallest sets that no level and no block of S ties."""
    group = np.arange(design.n)
    for codes in np.asarray(design.groups).T:
        group = merged(group, codes)
    if isinstance(design.S, tuple):
        # Blocks of the layout tie what S ties, and no more than a level does.
        tied = np.zeros(design.n, int)
        first = 0
        for bucket in design.layout.buckets:
            place, block = np.nonzero(bucket.rows < design.n)
            tied[bucket.rows[place, block]] = first + block
            first += bucket.rows.shape[1]
        group = merged(group, np.unique(tied, return_inverse=True)[1])
    return np.unique(group, return_inverse=True)[1]


class OuterGroups:
    """The outer groups of a design at Ψ, in pieces.

    Parameters
    ----------
    design
        The data, arrays of numpy; y, S and the mask may have a leading B.
    Psi
        Covariance of each level, outer first, shape (B, d, d); empty for the fixed-effects model.
    basis
        Matrix T, shape (P, P) or (B, P, P): the coefficients are those of XT.
    copies
        How many arrays of the size of Σ a piece has beside it, for its memory.
    """

    def __init__(
        self,
        design: Design,
        Psi: tuple[np.ndarray, ...],
        basis: np.ndarray,
        copies: int = 1,
        groups: np.ndarray | None = None,
    ) -> None:
        self.design, self.Psi = design, Psi
        self.basis = basis if basis.ndim == 3 else basis[None]
        self.copies = copies
        self.of_units = outer_groups(design) if groups is None else groups
        self.S = _OwnErrors(design) if isinstance(design.S, tuple) else None

    def __iter__(self) -> Iterator[Piece]:
        design = self.design
        B = max(design.n_sets, len(self.basis), *(len(P) for P in self.Psi), 1)
        for rows in rows_by_size(self.of_units, design.n, design.k, True):
            s = len(rows) * design.k
            step = max(1, PIECE // (B * s * s * self.copies))
            for first in range(0, rows.shape[1], step):
                yield self._piece(rows[:, first : first + step].T)

    def _piece(self, rows: np.ndarray) -> Piece:
        """The piece of the groups with these units, shape (N, n_b)."""
        design, n, k = self.design, self.design.n, self.design.k
        N, n_b = rows.shape
        s = n_b * k
        there, at = rows < n, np.minimum(rows, n - 1)
        mask = design.mask if design.mask.ndim == 3 else design.mask[None]
        seen = (mask[:, at] & there[..., None]).reshape(-1, N, s)
        y = design.y if design.y.ndim == 3 else design.y[None]
        y = np.where(seen, y[:, at].reshape(-1, N, s), 0.0)
        X = _spread(design.X[at], k) * seen[..., None] @ self.basis[:, None]
        Z = tuple(_spread(own[at], k) * seen[..., None] for own in design.Z[: len(self.Psi)])
        same = tuple(_together(codes[at], there, k) for codes in design.groups.T[: len(self.Psi)])
        Sigma = self._errors(at, there)
        for own, tied, P in zip(Z, same, self.Psi, strict=True):
            made = own @ P[:, None] @ np.swapaxes(own, -1, -2)
            Sigma = Sigma + (made if tied is None else made * tied)
        pair = seen[..., None] & seen[..., None, :]
        Sigma = np.where(pair, Sigma, np.eye(s))
        W = np.linalg.inv(Sigma)
        W = 0.5 * (W + np.swapaxes(W, -1, -2))
        return Piece(self.of_units[at[:, 0]], X, y, W, Sigma, Z, same)

    def _errors(self, at: np.ndarray, there: np.ndarray) -> np.ndarray:
        """S of the groups, shape (B, N, s, s)."""
        k = self.design.k
        N, n_b = at.shape
        S: Any = self.design.S
        if self.S is not None:
            return self.S.of(at, there)
        S = S if S.ndim == 4 else S[None]
        wide = np.zeros((len(S), N, n_b, k, n_b, k))
        places = np.arange(n_b)
        wide[:, :, places, :, places] = np.moveaxis(S[:, at], 2, 0)
        return wide.reshape(len(S), N, n_b * k, n_b * k)


class _OwnErrors:
    """Blocks of S that span units, found by unit."""

    def __init__(self, design: Design) -> None:
        n = design.n
        self.k = design.k
        self.S: tuple[np.ndarray, ...] = design.S
        self.bucket, self.block, self.place = (np.zeros(n, int) for _ in range(3))
        for b, bucket in enumerate(design.layout.buckets):
            place, block = np.nonzero(bucket.rows < n)
            units = bucket.rows[place, block]
            self.bucket[units], self.block[units], self.place[units] = b, block, place

    def of(self, at: np.ndarray, there: np.ndarray) -> np.ndarray:
        N, n_b = at.shape
        k = self.k
        wide = np.zeros((N, n_b, n_b, k, k))
        bucket, block = self.bucket[at], self.block[at]
        tied = (bucket[:, :, None] == bucket[:, None]) & (block[:, :, None] == block[:, None])
        tied &= there[:, :, None] & there[:, None]
        for b, S in enumerate(self.S):
            g, u, v = np.nonzero(tied & (bucket == b)[:, :, None])
            if len(g):
                own = S.reshape(len(S), -1, k, S.shape[1] // k, k)
                left, right = self.place[at[g, u]], self.place[at[g, v]]
                wide[g, u, v] = own[block[g, u], left, :, right]
        return np.swapaxes(wide, 2, 3).reshape(1, N, n_b * k, n_b * k)


def _spread(predictors: np.ndarray, k: int) -> np.ndarray:
    """Predictors ⊗ I_k of units (N, n_b, q): shape (N, n_b·k, q·k), outcome fastest."""
    N, n_b, q = predictors.shape
    wide = predictors[:, :, None, :, None] * np.eye(k)[:, None]
    return wide.reshape(N, n_b * k, q * k)


def _together(codes: np.ndarray, there: np.ndarray, k: int) -> np.ndarray | None:
    """Whether two outcomes of a piece share a group, shape (N, s, s); None where all do."""
    same = codes[:, :, None] == codes[:, None]
    if (same | ~(there[:, :, None] & there[:, None])).all():
        return None
    return same.repeat(k, 1).repeat(k, 2)
