"""The fixed-effects model behind Q and I²: S alone, on the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mixmeta_jax.design.design import Design


@dataclass(frozen=True)
class FixedFit:
    """Generalised least squares with Σ = S.

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
    Q: float


def fixed_effects(design: Design) -> FixedFit:
    """Fit the fixed-effects model of a design (equations 3 and 4), its arrays numpy's."""
    k, p = design.k, design.p
    basis = design.X @ design.basis
    y = np.where(design.mask, design.y, 0.0)
    A, b = np.zeros((p * k, p * k)), np.zeros(p * k)
    whitened = []
    for rows, S in _error_blocks(design):
        seen = design.mask[rows].reshape(len(rows), -1)
        X = np.kron(basis[rows][:, :, None, :], np.eye(k)).reshape(*seen.shape, p * k)
        X = X * seen[:, :, None]
        joined = np.concatenate([X, y[rows].reshape(*seen.shape, 1)], axis=2)
        W = np.linalg.solve(np.linalg.cholesky(S), joined)
        A += np.einsum("gia,gib->ab", W[..., :-1], W[..., :-1], optimize=True)
        b += np.einsum("gia,gi->a", W[..., :-1], W[..., -1], optimize=True)
        whitened.append(W)
    V = np.linalg.inv(A)
    coefficients = V @ b
    Q = sum(float(((W[..., -1] - W[..., :-1] @ coefficients) ** 2).sum()) for W in whitened)
    T = np.kron(design.basis, np.eye(k))
    fitted = basis @ coefficients.reshape(p, k)
    residuals = np.where(design.mask, design.y - fitted, np.nan)
    vcov = T @ V @ T.T
    return FixedFit(T @ coefficients, 0.5 * (vcov + vcov.T), residuals, Q)


def _error_blocks(design: Design) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Units, shape (g, size), and S, shape (g, size·k, size·k), of the blocks of equal size.

    Missing outcomes have variance 1 there and no covariance.
    """
    n, k = design.n, design.k
    if not isinstance(design.S, tuple):
        pair = design.mask[:, :, None] & design.mask[:, None, :]
        yield np.arange(n)[:, None], np.where(pair, design.S, np.eye(k))
        return
    for bucket, blocks in zip(design.layout.buckets, design.S, strict=True):
        sizes = (bucket.rows < n).sum(0)
        for size in np.unique(sizes[sizes > 0]):
            members = np.flatnonzero(sizes == size)
            rows = bucket.rows[:size, members].T
            S = blocks[members][:, : size * k, : size * k]
            seen = design.mask[rows].reshape(len(rows), -1)
            yield rows, np.where(seen[:, :, None] & seen[:, None, :], S, np.eye(size * k))
