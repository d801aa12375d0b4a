"""The covariance structures by name: independence and exchangeability.

`autoregressive` and `given` hold the structures with an order in time and those built around a
given matrix, `maps` the maps from parameters to matrices that they share.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.covariance import natural
from mixmeta_jax.covariance.maps import Factored, Scaled, Squares, trapezoid
from mixmeta_jax.covariance.natural import Bound, Natural
from mixmeta_jax.covariance.structure import (
    START_POSITIONS,
    angle_between,
    mean_correlation,
    mean_variance,
    pairs,
)
from mixmeta_jax.tolerances import NULL_VARIANCE, SINGULAR


class Unstructured(Factored):
    """Any covariance matrix: θ is the lower triangle, by column, of Λ with Ψ = ΛΛᵀ.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> S = ["var_PD", "cov_PD_AL", "var_AL"]
    >>> data = mx.load_dataset("berkey98")
    >>> mx.mixmeta("PD + AL ~ 1", S=S, data=data, bscov=mx.Unstructured()).Psi.round(4)
            PD      AL
    PD  0.0117  0.0119
    AL  0.0119  0.0327
    """

    name = "unstr"
    label = "Unstructured"
    from_moments = True

    def min_groups(self, d: int) -> int:
        # The scores of g groups span g dimensions: below d every estimate is singular.
        return max(2, d)

    def _columns(self, d: int) -> int:
        return d

    def natural(self, theta: np.ndarray, Psi: np.ndarray, scale: np.ndarray) -> Natural:
        return natural.unstructured(Psi, scale)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        # R of a QR factorisation of Ψ^½ is the Cholesky factor, and exists for a singular Ψ too.
        values, vectors = np.linalg.eigh(self._in_order(Psi))
        return self._turned(vectors * np.sqrt(np.maximum(values, 0)))

    def starts(self, variances: Any) -> list[Any]:
        sd, d = namespace(variances).sqrt(variances), len(variances)
        sd = sd if self.order is None else sd[self.order]
        rows, factors = _correlated_factors(d)
        return [(sd[rows].T * factor).T for factor in factors]


@cache
def _correlated_factors(d: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Cholesky factors of equal correlations to start from, by column; the row of each entry."""
    correlations = (0.0, 0.8) if d > 1 else (0.0,)
    columns, rows = trapezoid(d, d)
    factors = [np.linalg.cholesky(c + (1 - c) * np.eye(d)) for c in correlations]
    return rows, [factor[rows, columns] for factor in factors]


class Diagonal(Squares):
    """Uncorrelated random effects: θ holds their standard deviations.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> S = ["var_PD", "cov_PD_AL", "var_AL"]
    >>> data = mx.load_dataset("berkey98")
    >>> mx.mixmeta("PD + AL ~ 1", S=S, data=data, bscov=mx.Diagonal()).Psi.round(4)
            PD      AL
    PD  0.0116  0.0000
    AL  0.0000  0.0322
    """

    name = "diag"
    label = "Diagonal"

    def n_parameters(self, d: int) -> int:
        return d

    def terms(self, d: int) -> Array:
        return np.eye(d)[:, :, None] * np.eye(d)[:, None]

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.sqrt(np.diag(Psi))

    def starts(self, variances: Any) -> list[Any]:
        return [namespace(variances).sqrt(variances)]


class Identity(Squares):
    """Uncorrelated random effects of one variance: θ is the standard deviation.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> S = ["var_PD", "cov_PD_AL", "var_AL"]
    >>> data = mx.load_dataset("berkey98")
    >>> mx.mixmeta("PD + AL ~ 1", S=S, data=data, bscov=mx.Identity()).Psi.round(4)
            PD      AL
    PD  0.0241  0.0000
    AL  0.0000  0.0241
    """

    starts_suffice = True
    one_size = True
    name = "id"
    label = "Multiple of identity"

    def n_parameters(self, d: int) -> int:
        return 1

    def terms(self, d: int) -> Array:
        return np.eye(d)[None]

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.sqrt([np.mean(np.diag(Psi))])

    def starts(self, variances: Any) -> list[Any]:
        return [mean_variance(variances)]


class CompoundSymmetry(Squares):
    """One variance and one correlation in [−1/(d−1), 1].

    θ holds the square roots of the two eigenvalues, σ²(1 − ρ) and σ²(1 + (d−1)ρ): every pair is a
    valid matrix, and the correlation does not lose its meaning where the variance vanishes.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> S = ["var_PD", "cov_PD_AL", "var_AL"]
    >>> data = mx.load_dataset("berkey98")
    >>> mx.mixmeta("PD + AL ~ 1", S=S, data=data, bscov=mx.CompoundSymmetry()).Psi.round(4)
            PD      AL
    PD  0.0250  0.0132
    AL  0.0132  0.0250
    """

    starts_suffice = True
    one_size = True
    name = "cs"
    label = "Compound symmetry"
    min_dim = 2

    def n_parameters(self, d: int) -> int:
        return 2

    def terms(self, d: int) -> Array:
        mean = np.full((d, d), 1 / d)
        return np.stack([np.eye(d) - mean, mean])

    def natural(self, theta: np.ndarray, Psi: np.ndarray, scale: np.ndarray) -> Natural:
        # Its eigenvalues: of one that vanishes the correlation is at a bound.
        terms = self.terms(len(Psi))
        values = natural.coefficients(Psi, terms)
        variance = np.einsum("iib->ib", Psi).mean(0)
        null = (variance <= NULL_VARIANCE * scale).any(0)
        free = (values > SINGULAR * variance) & ~null
        kinds = (("variance", null), ("correlation", ~free.all(0) & ~null))
        bounds = tuple(Bound(kind, -1, where) for kind, where in kinds if where.any())
        return natural.linear(terms, free, bounds)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        d, variance = len(Psi), np.mean(np.diag(Psi))
        covariance = np.mean([Psi[i, j] for i, j in pairs(d)])
        eigenvalues = [variance - covariance, variance + (d - 1) * covariance]
        return np.sqrt(np.maximum(eigenvalues, 0))

    def starts(self, variances: Any) -> list[Any]:
        d, sd = len(variances), mean_variance(variances)
        low = -1 / (d - 1)
        correlations = [low + f * (1 - low) for f in START_POSITIONS]
        roots = [np.sqrt([1 - r, 1 + (d - 1) * r]) for r in correlations]
        return [root.reshape(2, *(1,) * (sd.ndim - 1)) * sd for root in roots]


class HeterogeneousCompoundSymmetry(Scaled):
    """One variance each and one correlation in [−1/(d−1), 1].

    θ holds the square roots of the standard deviations, then the correlation's angle.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> S = ["var_PD", "cov_PD_AL", "var_AL"]
    >>> hcs = mx.HeterogeneousCompoundSymmetry()
    >>> mx.mixmeta("PD + AL ~ 1", S=S, data=mx.load_dataset("berkey98"), bscov=hcs).Psi.round(4)
            PD      AL
    PD  0.0117  0.0119
    AL  0.0119  0.0327
    """

    name = "hcs"
    label = "Heterogeneous compound symmetry"
    min_dim = 2

    def correlation(self, angle: Array, d: int) -> tuple[Array, Array, Array]:
        xp = namespace(angle)
        low, one = -1 / (d - 1), np.eye(d).reshape(d, d, *(1,) * angle.ndim)
        half = (1 - low) / 2
        turn = half * xp.sin(angle) * (1 - one)
        return one + (low + 1) / 2 * (1 - one) + turn, half * xp.cos(angle) * (1 - one), -turn

    def in_correlation(self, angle: np.ndarray, d: int) -> Any:
        low = -1 / (d - 1)
        rho = (low + 1) / 2 + (1 - low) / 2 * np.sin(angle)
        among = 1 - np.eye(d)[:, :, None] + 0 * rho
        C = np.eye(d)[:, :, None] + among * rho
        return rho, np.zeros(rho.shape, bool), (C, among, 0 * among)

    def angle_of(self, Psi: np.ndarray) -> float:
        d = len(Psi)
        return angle_between(mean_correlation(Psi, pairs(d)), -1 / (d - 1), 1)
