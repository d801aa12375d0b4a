"""Moment estimators of τ² for one outcome, with any predictors.

Each is a function of y (n,), X (n, p), the error variances v (n,) and a bound on the iterations,
and gives τ² (before it is clipped at zero), the number of iterations and whether they converged.
Notation: w weights, e the residuals of weighted least squares, Q = Σ w e².
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixmeta_jax.errors import InputError

RELATIVE_CHANGE = 1.5e-8
"""``pm`` stops when an iteration changes τ² by less than this part of it."""

Estimator = Callable[[np.ndarray, np.ndarray, np.ndarray, int], tuple[float, int, bool]]


def hedges(
    y: np.ndarray, X: np.ndarray, v: np.ndarray, max_iter: int = 0
) -> tuple[float, int, bool]:
    """Hedges (1983): the unweighted residual mean square less its mean without heterogeneity."""
    df = _degrees_of_freedom(X)
    e, h = weighted_residuals(y, X, np.ones_like(y))
    return (e @ e - (1 - h) @ v) / df, 0, True


def hunter_schmidt(
    y: np.ndarray, X: np.ndarray, v: np.ndarray, max_iter: int = 0
) -> tuple[float, int, bool]:
    """Hunter, Schmidt (2004): (Q - n) / Σ w, with w = 1/v."""
    _degrees_of_freedom(X)
    w = _inverse(v)
    e, _ = weighted_residuals(y, X, w)
    return (w @ e**2 - len(y)) / w.sum(), 0, True


def sidik_jonkman(
    y: np.ndarray, X: np.ndarray, v: np.ndarray, max_iter: int = 0
) -> tuple[float, int, bool]:
    """Sidik, Jonkman (2005): one step from the crude variance of y."""
    df = _degrees_of_freedom(X)
    crude = np.mean((y - y.mean()) ** 2)
    if crude == 0:
        return 0.0, 0, True
    w = 1 / (v / crude + 1)
    e, _ = weighted_residuals(y, X, w)
    return w @ e**2 / df, 0, True


def paule_mandel(
    y: np.ndarray, X: np.ndarray, v: np.ndarray, max_iter: int = 1000
) -> tuple[float, int, bool]:
    """Paule, Mandel (1982): the τ² at which Q with w = 1/(v + τ²) equals n - p.

    Q falls and is convex in τ², so Newton's method from zero rises to the root. Where Q at zero
    is already below n - p there is none, and the value given is negative. Empirical Bayes (Morris
    1983) is the same estimator.
    """
    df = _degrees_of_freedom(X)
    tau2 = 0.0
    for iteration in range(1, max_iter + 1):
        w = _inverse(v + tau2)
        e, _ = weighted_residuals(y, X, w)
        excess = w @ e**2 - df
        if tau2 == 0 and excess <= 0:
            return excess / w.sum(), iteration, True
        step = excess / (w**2 @ e**2)
        tau2 += step
        if abs(step) <= RELATIVE_CHANGE * tau2:
            return tau2, iteration, True
    return tau2, max_iter, False


UNIVARIATE: dict[str, Estimator] = {
    "he": hedges,
    "hs": hunter_schmidt,
    "sj": sidik_jonkman,
    "pm": paule_mandel,
    "eb": paule_mandel,
}
"""The estimators by the name that `mixmeta` knows them by."""


def weighted_residuals(
    y: np.ndarray, X: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of weighted least squares and diagonal of its hat matrix, shape (n,) each."""
    root = np.sqrt(w)
    basis, upper = np.linalg.qr(X * root[:, None])
    size = np.sqrt((w[:, None] * X**2).sum(0))
    if (np.abs(np.diag(upper)) <= 1e-11 * size).any():
        raise InputError(
            "The predictors are linearly dependent over the units with the outcome; leave out "
            "those that others determine."
        )
    scaled = y * root
    return (scaled - basis @ (basis.T @ scaled)) / root, (basis**2).sum(1)


def _degrees_of_freedom(X: np.ndarray) -> int:
    n, p = X.shape
    if n <= p:
        raise InputError(
            f"A variance between units needs more units than predictors; {n} units are observed "
            f"and there are {p} predictors."
        )
    return n - p


def _inverse(v: np.ndarray) -> np.ndarray:
    if not (v > 0).all():
        raise InputError(
            "An error variance is zero, and this estimator weights by its inverse; use 'he', 'sj' "
            "or a likelihood."
        )
    return 1 / v
