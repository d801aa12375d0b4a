"""The fixed-effects model behind Q and I²: S alone, for any number of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.tensors import Tensors, arrange
from mixmeta_jax.estimation.executors import executed
from mixmeta_jax.likelihood.likelihood import fitted, prepared, profile
from mixmeta_jax.likelihood.sweep import downward, upward


@dataclass(frozen=True)
class FixedFit:
    """Generalised least squares with Σ = S; of B data sets every array has a leading B.

    Attributes
    ----------
    beta, vcov
        Coefficients, shape (P,), and their covariance, shape (P, P).
    residuals
        y − Xβ̂, shape (n, k), NaN where an outcome is missing.
    Q
        Residual sum of squares rᵀS⁻¹r.
    """

    beta: np.ndarray
    vcov: np.ndarray
    residuals: np.ndarray
    Q: Any


def fixed_effects(design: Design) -> FixedFit:
    """Fit the fixed-effects model of a design (equations 3 and 4), its arrays numpy's."""
    plain = design.without_levels()
    several = design.n_sets > 1 or design.y.ndim == 3
    beta, V, Q = executed(_least_squares, plain, arrange(plain))
    T = np.kron(design.basis, np.eye(design.k))
    beta, V = T @ np.moveaxis(beta, -1, 0)[..., None], T @ np.moveaxis(V, -1, 0) @ T.T
    beta = beta[..., 0]
    expected = design.X @ beta.reshape(-1, design.p, design.k)
    residuals = np.where(design.mask, design.y - expected, np.nan)
    V = 0.5 * (V + np.swapaxes(V, 1, 2))
    if several:
        return FixedFit(beta, V, residuals, Q)
    return FixedFit(beta[0], V[0], residuals[0], float(Q[0]))


def weighted_squares(design: Design, Psi: Sequence[np.ndarray]) -> np.ndarray:
    """rᵀΣ⁻¹r of the generalised least-squares fits, shape (B,).

    ``Psi`` is that of each level, outer first, shape (B, d, d); none for Σ = S.
    """
    if not Psi:
        return np.atleast_1d(fixed_effects(design).Q)
    matrices = tuple(np.moveaxis(P, 0, -1) for P in Psi)
    return np.asarray(executed(_squares, design, matrices, arrange(design)))


def _squares(Psi: tuple[Array, ...], tensors: Tensors) -> Array:
    data, _ = prepared(tensors)
    up = upward(Psi, data)
    return profile(up).deviance - up.logdet


def _least_squares(tensors: Tensors) -> tuple[Array, Array, Array]:
    """β (P, B) and V (P, P, B) in the orthonormal basis, and rᵀS⁻¹r (B,)."""
    data, centre = prepared(tensors)
    up = upward((), data)
    solution = profile(up)
    residuals = downward(up, data, solution.beta, None).residuals
    Q: Any = 0.0
    coefficients = solution.beta.reshape(-1, data.k, solution.beta.shape[1])
    for block, e in zip(data.blocks, residuals, strict=True):
        r = block.y - fitted(block.x, coefficients)
        Q = Q + (r * e.reshape(r.shape)).sum((0, 1, 2))
    return solution.beta + centre, solution.V, namespace(solution.beta).asarray(Q)
