"""Predictors that the observed outcomes cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg

from mixmeta_jax.tolerances import CLEAR, DEPENDENT, TAKES_PART


def dependence(X: np.ndarray) -> tuple[int, list[int]] | None:
    """The first predictor that the others determine, and those; none where it is zero.

    Parameters
    ----------
    X
        Predictors in the rows where an outcome is observed, shape (n, p), n ≥ p.
    """
    if X.shape[1] == 0:
        return None
    largest = np.abs(X).max(0)
    # By its largest value first: the square of a small one would vanish.
    scaled = X / np.where(largest > 0, largest, 1)
    size = largest * np.sqrt((scaled * scaled).sum(0))
    if not size.all():
        return int(np.argmin(size)), []
    if len(size) == 1:
        return None
    diagonal, order = _pivots(X / size)
    dependent = np.flatnonzero(diagonal <= DEPENDENT)
    if not len(dependent):
        return None
    column, others = int(order[dependent[0]]), order[: dependent[0]]
    weights = np.linalg.lstsq(X[:, others] / size[others], X[:, column] / size[column])[0]
    return column, [int(i) for i, w in zip(others, weights, strict=True) if abs(w) > TAKES_PART]


def sentence(found: tuple[int, Sequence[int]], names: Sequence[str], outcome: str) -> str:
    """What `dependence` found, in the rows where an outcome is observed."""
    column, others = found
    if not others:
        return (
            f"The predictor '{names[column]}' is zero in every row where the outcome '{outcome}' "
            "is observed."
        )
    among = ", ".join(repr(names[i]) for i in others)
    return (
        f"The predictor '{names[column]}' is collinear with {among} in the rows where the outcome "
        f"'{outcome}' is observed: leave one of them out."
    )


def doubtful(X: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Where `dependence` has to be asked, shape (B, k): the rest is clear from products alone.

    ``X`` are the predictors, shape (n, p) or (B, n, p), and ``seen`` the observed outcomes of B
    data sets, shape (B, n, k).
    """
    b, n, k = seen.shape
    p = X.shape[-1]
    if p == 1 and X.all():
        return np.zeros((b, k), bool)
    largest = np.abs(X).max(-2, keepdims=True)
    X = X / np.where(largest > 0, largest, 1.0)
    products = (X[..., :, None] * X[..., None, :]).reshape(*X.shape[:-1], p * p)
    rows = np.swapaxes(seen, 1, 2) * 1.0
    sums = (rows.reshape(b * k, n) if X.ndim == 2 else rows) @ products
    sums = sums.reshape(b, k, p, p)
    size = np.sqrt(np.diagonal(sums, axis1=2, axis2=3))
    scale = 1 / np.where(size > 0, size, 1.0)
    least = np.linalg.eigvalsh(sums * scale[..., :, None] * scale[..., None, :])[..., 0]
    return ~(least > CLEAR)


def _pivots(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|diagonal| of R and the order of a QR factorisation with column pivoting."""
    if X.shape[1] == 1:
        return np.abs(X[:1, 0]) * 0 + 1, np.zeros(1, int)
    # LAPACK itself: the checks of `linalg.qr` take longer than the factorisation of few rows. Its
    # work space holds blocks of 32 columns.
    p = X.shape[1]
    factors, order, *_ = linalg.lapack.dgeqp3(X, lwork=2 * p + 32 * (p + 1))
    return np.abs(factors.diagonal()), order - 1
