"""Predicted outcomes for given predictors, and their covariances.

With k outcomes, coefficients are predictor-major (index a·k + o for predictor a and outcome o), and
random effects of a level likewise, so that X₀ here stands for the Kronecker product of a row of
predictors with the identity of the outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixmeta_jax.arrays import Array, Float, shaped


@shaped
def predicted(X: Float[Array, "n p"], beta: Float[Array, " P"], k: int) -> Float[Array, "n k"]:
    """X₀β̂ for predictors (n, p) and coefficients (p·k,): shape (n, k)."""
    return X @ beta.reshape(X.shape[1], k)


@shaped
def quadratic_form(
    rows: Float[Array, "n p"], matrix: Float[Array, "P P"], k: int
) -> Float[Array, "n k k"]:
    """(row ⊗ I) M (row ⊗ I)ᵀ for each row of predictors.

    Parameters
    ----------
    rows
        Predictors, shape (n, c).
    matrix
        Covariance of c·k coefficients or random effects, outcome fastest.

    Returns
    -------
    ndarray
        Shape (n, k, k): X₀VX₀ᵀ for V, Z₀ΨZ₀ᵀ for Ψ.
    """
    c = rows.shape[1]
    # Predictors near 1e200 have an infinite variance.
    with np.errstate(over="ignore", invalid="ignore"):
        M = matrix.reshape(c, k, c, k)
        return np.einsum("na,aobr,nb->nor", rows, M, rows, optimize=True)


@shaped
def between_variance(
    Z: Sequence[np.ndarray], Psi: Sequence[np.ndarray], n: int, k: int
) -> Float[Array, "n k k"]:
    """Σ over levels of Z₀ΨZ₀ᵀ: what a new group adds to a prediction, shape (n, k, k)."""
    total = np.zeros((n, k, k))
    for rows, matrix in zip(Z, Psi, strict=True):
        total += quadratic_form(rows, matrix, k)
    return total


@shaped
def standard_errors(variances: Float[Array, "n k k"]) -> Float[Array, "n k"]:
    """Square roots of the diagonals of (n, k, k) covariances, shape (n, k)."""
    diagonal = np.diagonal(variances, axis1=1, axis2=2)
    # A variance of exactly zero, as of a contrast with itself, may come out as -1e-20.
    return np.sqrt(np.maximum(diagonal, 0.0))
