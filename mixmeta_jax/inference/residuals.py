"""Residuals in the units of their own errors, and leverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mixmeta_jax.design.design import Design
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.inference.effects import weighted_predictors
from mixmeta_jax.inference.outer_groups import OuterGroups
from mixmeta_jax.inference.prediction import between_variance, quadratic_form
from mixmeta_jax.tolerances import NO_RESIDUAL


def marginal_variances(design: Design, Psi: Sequence[np.ndarray]) -> np.ndarray:
    """Σ_jj of every outcome, observed or not, shape (n, k); S of a missing one counts as zero."""
    n, k = design.n, design.k
    between = between_variance(design.Z[: len(Psi)], Psi, n, k)
    errors = np.zeros((n, k))
    if isinstance(design.S, tuple):
        for bucket, blocks in zip(design.layout.buckets, design.S, strict=True):
            diagonal = np.diagonal(blocks, axis1=1, axis2=2).reshape(len(blocks), -1, k)
            used = bucket.rows < n
            errors[bucket.rows[used]] = diagonal.swapaxes(0, 1)[used]
    else:
        errors = np.diagonal(design.S, axis1=1, axis2=2)
    return np.where(design.mask, errors, 0.0) + np.diagonal(between, axis1=1, axis2=2)


def standardised(
    design: Design, Psi: Sequence[np.ndarray], residuals: np.ndarray, vcov: np.ndarray
) -> np.ndarray:
    """r / √(Σ − XVXᵀ)_jj, shape (n, k); NaN where an outcome has no residual variance.

    Parameters
    ----------
    design, Psi
        The data, and the covariance of each level.
    residuals
        y − Xβ̂, shape (n, k), NaN where an outcome is missing.
    vcov
        V, shape (P, P).
    """
    variance = marginal_variances(design, Psi)
    fixed = np.diagonal(quadratic_form(design.X, vcov, design.k), axis1=1, axis2=2)
    left = variance - fixed
    # An outcome that its own coefficient fits exactly has a residual of rounding.
    left = np.where(left > NO_RESIDUAL * variance, left, np.nan)
    return residuals / np.sqrt(left)


@one_thread()
def cholesky_residuals(design: Design, Psi: Sequence[np.ndarray], beta: np.ndarray) -> np.ndarray:
    """L⁻¹r with Σ = LLᵀ over the observed outcomes, shape (n, k), NaN where one is missing.

    L is lower triangular in the order of the data, outcome by outcome within a unit, so that each
    is the error of an outcome's prediction from those of its group before it.
    """
    n, k = design.n, design.k
    residual = np.where(design.mask, design.y - design.X @ beta.reshape(design.p, k), 0.0)
    found = np.full((n + 1, k), np.nan)
    only = replace(design, y=residual)
    for piece in OuterGroups(only, tuple(P[None] for P in Psi), np.eye(len(beta))):
        L = np.linalg.cholesky(piece.Sigma[0])
        white = np.linalg.solve(L, piece.y[0][..., None])
        found[piece.rows] = white.reshape(*piece.rows.shape, k)
    return np.where(design.mask, found[:n], np.nan)


def leverages(design: Design, Psi: Sequence[np.ndarray], vcov: np.ndarray) -> np.ndarray:
    """Diagonal of XVXᵀΣ⁻¹, shape (n, k), NaN where an outcome is missing; its sum is P."""
    p, k = design.p, design.k
    T = design.basis
    inverse = np.kron(np.linalg.inv(T), np.eye(k))
    V = (inverse @ vcov @ inverse.T).reshape(p, k, p * k)
    # X of outcome o has the predictors in its own columns.
    own = np.einsum("na,aoc->noc", design.X @ T, V, optimize=True)
    leverage = (own * weighted_predictors(design, Psi)).sum(2)
    return np.where(design.mask, leverage, np.nan)
