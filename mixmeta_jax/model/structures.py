"""The covariance structures by name, and their choice per level.

Independence and exchangeability are here; `autoregressive` and `given` hold the structures with an
order in time and those built around a given matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.model.structure import (
    START_POSITIONS,
    Structure,
    angle_between,
    correlation_starts,
    mean_correlation,
    namespace,
    pairs,
    scale_by,
)


class Unstructured(Structure):
    """Any covariance matrix: θ is the lower triangle, by column, of Λ with Ψ = ΛΛᵀ."""

    name = "unstr"
    label = "Unstructured"

    def __init__(self) -> None:
        # Order of the random effects in Λ, None for their own; the estimator may turn it.
        self.order: np.ndarray | None = None

    def min_groups(self, d: int) -> int:
        # The scores of g groups span g dimensions: below d every estimate is singular.
        return max(2, d)

    def ordered(self, order: np.ndarray) -> Structure:
        if (np.diff(order) > 0).all():
            return self
        turned = Unstructured()
        turned.order = order
        return turned

    def n_parameters(self, d: int) -> int:
        return d * (d + 1) // 2

    def psi(self, theta: Array, d: int) -> Array:
        columns, rows = np.triu_indices(d)
        factor = jnp.zeros((d, d), theta.dtype).at[rows, columns].set(theta)
        Psi = factor @ factor.T
        if self.order is None:
            return Psi
        place = jnp.argsort(self.order)
        return Psi[place][:, place]

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        columns, rows = np.triu_indices(len(Psi))
        if self.order is not None:
            Psi = Psi[np.ix_(self.order, self.order)]
        # R of a QR factorisation of Ψ^½ is the Cholesky factor, and exists for a singular Ψ too.
        values, vectors = np.linalg.eigh(Psi)
        root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        R = np.linalg.qr(root, mode="r")
        signs = np.where(np.diag(R) < 0, -1.0, 1.0)
        return (signs[:, None] * R).T[rows, columns]

    def starts(self, variances: Any) -> list[Any]:
        sd, d = namespace(variances).sqrt(variances), len(variances)
        sd = sd if self.order is None else sd[self.order]
        rows, factors = _correlated_factors(d)
        return [sd[rows] * factor for factor in factors]

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        columns, rows = np.triu_indices(len(names))
        return [f"L[{names[int(i)]},{names[int(j)]}]" for i, j in zip(rows, columns, strict=True)]


@cache
def _correlated_factors(d: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Cholesky factors of equal correlations to start from, by column; the row of each entry."""
    correlations = (0.0, 0.8) if d > 1 else (0.0,)
    columns, rows = np.triu_indices(d)
    factors = [np.linalg.cholesky(c + (1 - c) * np.eye(d)) for c in correlations]
    return rows, [factor[rows, columns] for factor in factors]


class Diagonal(Structure):
    """Uncorrelated random effects: θ holds their standard deviations."""

    name = "diag"
    label = "Diagonal"

    def n_parameters(self, d: int) -> int:
        return d

    def psi(self, theta: Array, d: int) -> Array:
        return jnp.diag(theta**2)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.sqrt(np.diag(Psi))

    def starts(self, variances: Any) -> list[Any]:
        return [namespace(variances).sqrt(variances)]

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return [f"sd[{name}]" for name in names]


class Identity(Structure):
    """Uncorrelated random effects of one variance: θ is the standard deviation."""

    name = "id"
    label = "Multiple of identity"

    def n_parameters(self, d: int) -> int:
        return 1

    def psi(self, theta: Array, d: int) -> Array:
        return theta[0] ** 2 * jnp.eye(d, dtype=theta.dtype)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.sqrt([np.mean(np.diag(Psi))])

    def starts(self, variances: Any) -> list[Any]:
        xp = namespace(variances)
        return [xp.sqrt(xp.mean(variances))[None]]

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return ["sd"]


class CompoundSymmetry(Structure):
    """One variance and one correlation in [−1/(d−1), 1].

    θ holds the square roots of the two eigenvalues, σ²(1 − ρ) and σ²(1 + (d−1)ρ): every pair is a
    valid matrix, and the correlation does not lose its meaning where the variance vanishes.
    """

    name = "cs"
    label = "Compound symmetry"
    min_dim = 2

    def n_parameters(self, d: int) -> int:
        return 2

    def psi(self, theta: Array, d: int) -> Array:
        mean = jnp.full((d, d), 1 / d, theta.dtype)
        return theta[0] ** 2 * (jnp.eye(d, dtype=theta.dtype) - mean) + theta[1] ** 2 * mean

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        d, variance = len(Psi), np.mean(np.diag(Psi))
        covariance = np.mean([Psi[i, j] for i, j in pairs(d)])
        eigenvalues = [variance - covariance, variance + (d - 1) * covariance]
        return np.sqrt(np.maximum(eigenvalues, 0))

    def starts(self, variances: Any) -> list[Any]:
        xp, d = namespace(variances), len(variances)
        variance = xp.mean(variances)
        low = -1 / (d - 1)
        correlations = [low + f * (1 - low) for f in START_POSITIONS]
        return [xp.sqrt(variance * np.array([1 - r, 1 + (d - 1) * r])) for r in correlations]

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return ["root[within]", "root[mean]"]


class HeterogeneousCompoundSymmetry(Structure):
    """One variance each and one correlation in [−1/(d−1), 1].

    θ holds the square roots of the standard deviations, then the correlation's angle.
    """

    name = "hcs"
    label = "Heterogeneous compound symmetry"
    min_dim = 2
    rugged = True

    def n_parameters(self, d: int) -> int:
        return d + 1

    def psi(self, theta: Array, d: int) -> Array:
        low = -1 / (d - 1)
        rho = (low + 1) / 2 + (1 - low) / 2 * jnp.sin(theta[d])
        eye = jnp.eye(d, dtype=theta.dtype)
        return scale_by(theta[:d], eye + rho * (1 - eye))

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        d = len(Psi)
        angle = angle_between(mean_correlation(Psi, pairs(d)), -1 / (d - 1), 1)
        return np.append(np.diag(Psi) ** 0.25, angle)

    def starts(self, variances: Any) -> list[Any]:
        return correlation_starts(variances**0.25)

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return [f"root_sd[{name}]" for name in names] + ["angle"]
