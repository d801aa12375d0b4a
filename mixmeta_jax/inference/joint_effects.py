"""BLUPs of several rows with their joint covariance: they share β̂, and the groups they lie in.

With G the covariance ΣZΨZᵀ of the levels 1…ℓ, between the rows that are predicted (0) and the
observed outcomes (1) of an outer group, W = Σ⁻¹ and C = X₀ − G₀₁WX₁,

    ĝ = G₀₁W(y − X₁β̂),    Cov(X₀β̂ + ĝ − g) = CVCᵀ + G₀₀ − G₀₁WG₁₀

of which the second part vanishes between outer groups. Equation 6 of the paper has X₀ for C.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixmeta_jax.design.design import Design
from mixmeta_jax.design.draws import semidefinite_root
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.inference.outer_groups import OuterGroups, Piece


@dataclass(frozen=True)
class Targets:
    """Rows that are predicted, units or means of them.

    Attributes
    ----------
    X
        Predictors, shape (T, p).
    Z, groups
        Per level 1…ℓ: random predictors, shape (T, q), and groups, shape (T,).
    unit
        A unit of the outer group of each, shape (T,).
    """

    X: np.ndarray
    Z: tuple[np.ndarray, ...]
    groups: tuple[np.ndarray, ...]
    unit: np.ndarray


@dataclass(frozen=True)
class JointEffects:
    """T rows of k outcomes; their T·k outcomes are in order, row by row.

    Attributes
    ----------
    mean
        Random part ĝ, shape (T, k).
    fixed
        X₀, shape (T·k, P).
    explained
        G₀₁WX₁, shape (T·k, P).
    parts
        Rows of one outer group and G₀₀ − G₀₁WG₁₀ between their outcomes, in turn.
    """

    mean: np.ndarray
    fixed: np.ndarray
    explained: np.ndarray
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]

    def _columns(self, residual: bool, exact: bool) -> np.ndarray | None:
        """The coefficients of β̂ in what is predicted."""
        if exact:
            return -self.explained if residual else self.fixed - self.explained
        return None if residual else self.fixed

    def covariance(self, vcov: np.ndarray, residual: bool, exact: bool) -> np.ndarray:
        """Joint covariance, shape (T·k, T·k).

        Parameters
        ----------
        vcov
            V, shape (P, P).
        residual
            Whether of the random part alone.
        exact
            Whether Cov(β̂, b̂) counts.
        """
        k = self.mean.shape[1]
        C = self._columns(residual, exact)
        total = np.zeros((len(self.fixed),) * 2) if C is None else C @ vcov @ C.T
        for rows, left in self.parts:
            at = (rows[:, None] * k + np.arange(k)).ravel()
            total[np.ix_(at, at)] += left
        return total

    def by_row(self, vcov: np.ndarray, residual: bool, exact: bool) -> np.ndarray:
        """The covariance of each row with itself, shape (T, k, k)."""
        T, k = self.mean.shape
        total = np.zeros((T, k, k))
        C = self._columns(residual, exact)
        if C is not None:
            C = C.reshape(T, k, -1)
            total += C @ vcov @ C.swapaxes(1, 2)
        for rows, left in self.parts:
            own = np.arange(len(rows))
            total[rows] += left.reshape(len(rows), k, len(rows), k)[own, :, own]
        return total

    def drawn(
        self, vcov: np.ndarray, residual: bool, exact: bool, n: int, numbers: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Draws of the errors of prediction, with the covariance of `covariance`.

        It is never formed: all rows share the draws of β̂, of which one by one the outer groups
        take their parts, so that a hundred thousand rows take little memory.

        Yields
        ------
        rows, draws
            Rows of one outer group, shape (r,), and n draws of them, shape (n, r, k).
        """
        k = self.mean.shape[1]
        C = self._columns(residual, exact)
        shared = numbers.standard_normal((n, len(vcov))) @ semidefinite_root(vcov)
        for rows, left in self.parts:
            at = (rows[:, None] * k + np.arange(k)).ravel()
            own = numbers.standard_normal((n, len(at))) @ semidefinite_root(left)
            if C is not None:
                own += shared @ C[at].T
            yield rows, own.reshape(n, len(rows), k)


@one_thread()
def joint_effects(
    design: Design, Psi: Sequence[np.ndarray], beta: np.ndarray, targets: Targets
) -> JointEffects:
    """Predict the random part of rows that lie in groups of the data.

    Parameters
    ----------
    design
        The data, of the fit or of new groups.
    Psi
        Covariance of every level, outer first.
    beta
        Coefficients, shape (P,).
    targets
        The rows.
    """
    k, T = design.k, len(targets.X)
    residual = np.where(design.mask, design.y - design.X @ beta.reshape(design.p, k), 0.0)
    groups = OuterGroups(
        replace(design, y=residual), tuple(P[None] for P in Psi), np.eye(len(beta))
    )
    outer = groups.of_units[targets.unit]
    order = np.argsort(outer, kind="stable")
    ends = np.searchsorted(outer[order], np.arange(int(groups.of_units.max()) + 2))
    mean, explained = np.zeros((T * k, 1)), np.zeros((T * k, len(beta)))
    parts = []
    for piece in groups:
        right = np.concatenate([piece.y[0][..., None], piece.X[0]], 2)
        solved = piece.W[0] @ right
        for i, group in enumerate(piece.groups):
            rows = order[ends[group] : ends[group + 1]]
            if not len(rows):
                continue
            G00, G01 = _between(design, Psi, targets, rows, piece, i)
            at = (rows[:, None] * k + np.arange(k)).ravel()
            made = G01 @ solved[i]
            mean[at], explained[at] = made[:, :1], made[:, 1:]
            left = G00 - G01 @ piece.W[0, i] @ G01.T
            parts.append((rows, 0.5 * (left + left.T)))
    fixed = np.kron(targets.X[:, None], np.eye(k)).reshape(T * k, -1)
    return JointEffects(mean.reshape(T, k), fixed, explained, tuple(parts))


def _between(
    design: Design,
    Psi: Sequence[np.ndarray],
    targets: Targets,
    rows: np.ndarray,
    piece: Piece,
    i: int,
) -> tuple[np.ndarray, np.ndarray]:
    """G among the targets of an outer group, and between them and its observed outcomes."""
    k = design.k
    units = np.minimum(piece.rows[i], design.n - 1)
    G00: np.ndarray = np.zeros((len(rows) * k,) * 2)
    G01: np.ndarray = np.zeros((len(rows) * k, len(units) * k))
    for level, (Z, code) in enumerate(zip(targets.Z, targets.groups, strict=True)):
        own = np.kron(Z[rows], np.eye(k)) @ Psi[level]
        same = code[rows][:, None] == code[rows]
        G00 += own @ np.kron(Z[rows], np.eye(k)).T * np.kron(same, np.ones((k, k)))
        same = code[rows][:, None] == design.groups[units, level]
        # The predictors of a piece are null where an outcome is missing, or no unit there.
        G01 += own @ piece.Z[level][0, i].T * np.kron(same, np.ones((k, k)))
    return G00, G01
