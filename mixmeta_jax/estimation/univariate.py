"""Moment estimators of τ² for one outcome, with any predictors.

Each is a function of B data sets of one outcome and a bound on the iterations, and gives τ² (before
it is clipped at zero), the number of iterations and whether they converged, shape (B,) each.
Notation: v error variances, w weights, 0 where the outcome is missing, e the residuals of weighted
least squares, Q = Σ w e².
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixmeta_jax.estimation.moment_data import OUT_OF_RANGE, MomentData, diagonals, transposed
from mixmeta_jax.tolerances import MOMENT_DEPENDENT, RELATIVE_CHANGE

TauSquared = tuple[np.ndarray, np.ndarray, np.ndarray]
Estimator = Callable[[MomentData, int], TauSquared]


def hedges(data: MomentData, max_iter: int = 0) -> TauSquared:
    """Hedges (1983): the unweighted residual mean square less its mean without heterogeneity."""
    df = _degrees_of_freedom(data)
    e, h = weighted_residuals(data, data.seen[..., 0] * 1.0)
    return _explicit(((e**2).sum(1) - ((1 - h) * data.S[..., 0, 0]).sum(1)) / df)


def hunter_schmidt(data: MomentData, max_iter: int = 0) -> TauSquared:
    """Hunter, Schmidt (2004): (Q - n) / Σ w, with w = 1/v."""
    _degrees_of_freedom(data)
    w = _inverse(data, 0.0)
    e, _ = weighted_residuals(data, w)
    return _explicit(((w * e**2).sum(1) - data.seen.sum((1, 2))) / w.sum(1))


def sidik_jonkman(data: MomentData, max_iter: int = 0) -> TauSquared:
    """Sidik, Jonkman (2005): one step from the crude variance of y."""
    df = _degrees_of_freedom(data)
    seen, y, v = data.seen[..., 0], data.y[..., 0], data.S[..., 0, 0]
    n = seen.sum(1)
    centred = np.where(seen, y - (y.sum(1) / n)[:, None], 0.0)
    crude = (centred**2).sum(1) / n
    w = seen / (v / np.where(crude > 0, crude, 1.0)[:, None] + 1)
    e, _ = weighted_residuals(data, w)
    return _explicit(np.where(crude > 0, (w * e**2).sum(1) / df, 0.0))


def paule_mandel(data: MomentData, max_iter: int = 1000) -> TauSquared:
    """Paule, Mandel (1982): the τ² at which Q with w = 1/(v + τ²) equals n - p.

    Q falls and is convex in τ², so Newton's method from zero rises to the root. Where Q at zero
    is already below n - p there is none, and the value given is negative. Empirical Bayes (Morris
    1983) is the same estimator. Data sets that have ended are set aside.
    """
    B = len(data.member)
    tau2, n_iter, converged = np.zeros(B), np.full(B, max_iter), np.zeros(B, bool)
    left = np.arange(B)
    for iteration in range(1, max_iter + 1):
        df = _degrees_of_freedom(data)
        w = _inverse(data, tau2[left, None])
        e, _ = weighted_residuals(data, w)
        excess = (w * e**2).sum(1) - df
        data.refuse(~np.isfinite(excess), OUT_OF_RANGE)
        below = (tau2[left] == 0) & (excess <= 0)
        step = excess / np.where(below, w.sum(1), (w**2 * e**2).sum(1))
        tau2[left] += step
        ended = below | (np.abs(step) <= RELATIVE_CHANGE * tau2[left])
        n_iter[left[ended]], converged[left[ended]] = iteration, True
        left, data = left[~ended], data.taken(~ended)
        if not left.size:
            break
    return tau2, n_iter, converged


UNIVARIATE: dict[str, Estimator] = {
    "he": hedges,
    "hs": hunter_schmidt,
    "sj": sidik_jonkman,
    "pm": paule_mandel,
    "eb": paule_mandel,
}
"""The estimators by the name that `mixmeta` knows them by."""


def weighted_residuals(data: MomentData, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of weighted least squares and diagonals of the hat matrices, shape (B, n) each."""
    root = np.sqrt(w)
    basis, upper = np.linalg.qr(data.X * root[:, :, None])
    size = np.sqrt((w[:, :, None] * data.X**2).sum(1))
    data.refuse(
        (np.abs(diagonals(upper)) <= MOMENT_DEPENDENT * size).any(1),
        "The predictors are linearly dependent over the units with the outcome; leave out "
        "those that others determine.",
    )
    scaled = data.y * root[:, :, None]
    rest = (scaled - basis @ (transposed(basis) @ scaled))[:, :, 0]
    return rest / np.where(root > 0, root, 1.0), (basis**2).sum(2)


def _explicit(tau2: np.ndarray) -> TauSquared:
    return tau2, np.zeros(len(tau2), int), np.ones(len(tau2), bool)


def _degrees_of_freedom(data: MomentData) -> np.ndarray:
    n, p = data.seen.sum((1, 2)), data.X.shape[2]
    data.refuse(
        n <= p,
        lambda b: (
            f"A variance between units needs more units than predictors; {n[b]} units are observed "
            f"and there are {p} predictors."
        ),
    )
    return n - p


def _inverse(data: MomentData, tau2: np.ndarray | float) -> np.ndarray:
    """1/(v + τ²) where the outcome is observed and 0 elsewhere, shape (B, n)."""
    total = np.where(data.seen[..., 0], data.S[..., 0, 0] + tau2, 1.0)
    data.refuse(
        ~(total > 0).all(1),
        "An error variance is zero, and this estimator weights by its inverse; use 'he', 'sj' "
        "or a likelihood.",
    )
    return data.seen[..., 0] / total
