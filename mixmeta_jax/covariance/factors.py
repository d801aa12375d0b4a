"""Structures of few factors, which many random effects share: reduced rank and factor-analytic."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.covariance.maps import Factored, trapezoid
from mixmeta_jax.covariance.natural import Natural
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.errors import InputError
from mixmeta_jax.tolerances import NULL_VARIANCE, SINGULAR

SHARED_AT_START = (0.5, 0.9)
"""Parts of the variances that factors hold at the start."""

FACTOR_STEPS = 200
"""Steps towards the factors of a given Ψ."""


class ReducedRank(Factored):
    """Ψ = ΛΛᵀ of a given rank: θ is the lower trapezoid, by column, of Λ, shape (d, rank).

    Ψ is singular by construction; Σ is not, where the errors are positive. A status of BOUNDARY
    says that its rank is lower still, or that a variance is zero.

    Parameters
    ----------
    rank
        Number of columns of Λ, at least 1 and less than the number of random effects.

    Raises
    ------
    InputError
        For a rank that is no whole number or less than 1; when fitted, for one that is not below
        the number of random effects.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> mx.ReducedRank(1).psi(np.array([1.0, 2.0, -1.0]), 3)
    array([[ 1.,  2., -1.],
           [ 2.,  4., -2.],
           [-1., -2.,  1.]])
    """

    name = "rr"
    label = "Reduced rank"
    from_moments = True
    at_zeros = True
    by_parameters = True

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = gates.whole(rank, f"rank of {type(self).__name__}", 1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.rank})"

    def _columns(self, d: int) -> int:
        return self.rank

    def check(self, d: int, level: str) -> None:
        if self.rank >= d:
            raise InputError(
                f"{self!r} of level '{level}' has a rank of {self.rank} for {d} random effects: "
                "give a lower one, or bscov='unstr'."
            )

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(self._in_order(Psi))
        return self._turned((vectors * np.sqrt(np.maximum(values, 0)))[:, -self.rank :])

    def starts(self, variances: Any) -> list[Any]:
        xp, d = namespace(variances), len(variances)
        rows, entries = _waves(d, self.rank)
        sd = xp.sqrt(variances)
        sd = sd if self.order is None else sd[self.order]
        return [(sd[rows].T * entries).T]

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        xp = namespace(Psi, scale)
        variances = xp.einsum("iib->ib", Psi)
        null = variances <= NULL_VARIANCE * scale
        sd = xp.sqrt(xp.where(null, 1.0, variances))
        within = xp.where(null[:, None] | null, 0.0, Psi / (sd[:, None] * sd))
        least = xp.linalg.eigvalsh(xp.moveaxis(within, -1, 0))[:, -self.rank]
        return null.any(0) | (least <= SINGULAR)


@cache
def _waves(d: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the entries of Λ, and entries of r different factors whose rows have length 1."""
    waves = np.cos(np.pi * np.outer(np.arange(d) + 0.5, np.arange(r)) / d)
    waves /= np.sqrt((waves**2).sum(1, keepdims=True))
    factor = np.asarray(np.linalg.qr(waves.T, mode="r")).T
    columns, rows = trapezoid(d, r)
    return rows, factor[rows, columns]


class FactorAnalytic(ReducedRank):
    """Ψ = ΛΛᵀ + D with few factors and a diagonal D, the specific variances.

    θ holds the lower trapezoid, by column, of Λ, shape (d, rank), then the roots of D. The number
    of parameters grows as d, where that of "unstr" grows as d². A status of BOUNDARY says that a
    specific variance, or a factor, is zero.

    Parameters
    ----------
    rank
        Number of factors, at least 1, and so few that Ψ has fewer parameters than "unstr".

    Raises
    ------
    InputError
        For a rank that is no whole number or less than 1; when fitted, for one that is too large.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> mx.FactorAnalytic(1).psi(np.array([1.0, 2.0, -1.0, 0.5, 0.0, 1.0]), 3)
    array([[ 1.25,  2.  , -1.  ],
           [ 2.  ,  4.  , -2.  ],
           [-1.  , -2.  ,  2.  ]])
    """

    name = "fa"
    label = "Factor-analytic"

    def n_parameters(self, d: int) -> int:
        return super().n_parameters(d) + d

    def check(self, d: int, level: str) -> None:
        super().check(d, level)
        n, most = self.n_parameters(d), d * (d + 1) // 2
        if n > most:
            raise InputError(
                f"{self!r} of level '{level}' has {n} parameters for the {most} variances and "
                f"covariances of {d} random effects: give a lower rank, or bscov='unstr'."
            )

    def psi(self, theta: Array, d: int) -> Array:
        specific = theta[-d:] ** 2
        return super().psi(theta, d) + _diagonal(specific)

    def slopes(self, theta: Array, d: int) -> Array:
        xp = namespace(theta)
        own = _diagonal(xp.ones(d))[:, :, None] * np.eye(d)[:, None] * 1.0
        return xp.concatenate([super().slopes(theta, d), own[..., None] * (2 * theta[-d:])], 2)

    def curvature(self, theta: Array, d: int, gradient: Array) -> Array:
        xp = namespace(theta, gradient)
        factors = super().curvature(theta, d, gradient)
        specific = _diagonal(xp.einsum("iib->ib", gradient))
        corner = xp.zeros((len(factors), d, gradient.shape[2]))
        upper = xp.concatenate([factors, corner], 1)
        return xp.concatenate([upper, xp.concatenate([xp.swapaxes(corner, 0, 1), specific], 1)])

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        # Principal factors of the correlation, then least squares.
        from scipy.optimize import least_squares

        d, sd = len(Psi), np.sqrt(np.diag(Psi))
        sd = np.where(sd > 0, sd, 1.0)
        R = Psi / np.outer(sd, sd)
        specific = np.full(d, 0.5)
        for _ in range(FACTOR_STEPS):
            values, vectors = np.linalg.eigh(R - np.diag(specific))
            root = (vectors * np.sqrt(np.maximum(values, 0)))[:, -self.rank :]
            specific = np.clip(np.diag(R) - (root**2).sum(1), 0.0, 1.0)
        ordered = root if self.order is None else root[self.order]
        start = np.append(self._turned(ordered), np.sqrt(specific))

        def distance(theta: np.ndarray) -> np.ndarray:
            return (self.psi(theta, d) - R).ravel()

        def jacobian(theta: np.ndarray) -> np.ndarray:
            return self.slopes(theta[:, None], d)[..., 0].reshape(d * d, -1)

        least = float(np.finfo(float).eps)
        found = least_squares(distance, start, jacobian, xtol=least, ftol=least, gtol=least).x
        _, rows = self._entries(np, d)
        return found * np.append(sd[rows], sd)

    def starts(self, variances: Any) -> list[Any]:
        xp = namespace(variances)
        (factors,) = super().starts(variances)
        sd = xp.sqrt(variances)
        return [xp.concatenate([c**0.5 * factors, (1 - c) ** 0.5 * sd]) for c in SHARED_AT_START]

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        return Structure.at_bound(self, Psi, scale)

    def natural(self, theta: np.ndarray, Psi: np.ndarray, scale: np.ndarray) -> Natural:
        found, first = super().natural(theta, Psi, scale), len(theta) - len(Psi)
        bounds = tuple(
            replace(bound, kind="specific variance", effect=bound.effect - first)
            if bound.effect >= first
            else bound
            for bound in found.bounds
        )
        return replace(found, bounds=bounds)


def _diagonal(values: Array) -> Array:
    """Diagonal matrices, shape (d, d, ...)."""
    d = len(values)
    return np.eye(d).reshape(d, d, *(1,) * (values.ndim - 1)) * values
