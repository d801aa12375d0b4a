"""The wild cluster bootstrap: residuals of the restricted fit, turned group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import null_space

from mixmeta_jax.design.design import orthonormal_basis
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.jobs import ManyEstimates
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.inference.influences import influences, wald_statistics
from mixmeta_jax.many.many_data import ManyModel
from mixmeta_jax.many.many_fits import ManyFits, many_result
from mixmeta_jax.many.refits import REFIT_RETURNS, converged, levels_of, refit, was_interrupted
from mixmeta_jax.status import Status

FEW_CLUSTERS = 10
"""Clusters below which weights of two values make too few different data sets: 2⁹ = 512."""

WEBB = np.sqrt([0.5, 1.0, 1.5])
"""Sizes of Webb's six weights."""


@dataclass(frozen=True)
class WildDraws:
    """Cluster-robust Wald statistics of one hypothesis.

    Attributes
    ----------
    observed
        Of the data.
    drawn
        Of the bootstrap data sets, shape (n,); NaN where one could not be fitted.
    vcov
        CR0 covariance of the coefficients of the data, shape (P, P).
    whole
        Whether all were tried: Ctrl-C leaves some.
    """

    observed: float
    drawn: np.ndarray
    vcov: np.ndarray
    whole: bool


def wild_weights(n: int, m: int, seed: int, first: int = 0) -> np.ndarray:
    """Weights of m clusters, shape (n, m); those of draw b depend on (seed, b) alone.

    Rademacher's ±1; below `FEW_CLUSTERS` clusters Webb's six values ±√½, ±1, ±√(3/2).
    """
    sizes = WEBB if m < FEW_CLUSTERS else np.ones(1)
    values = np.concatenate([-sizes, sizes])
    picks = [np.random.default_rng([seed, first + b]).integers(0, len(values), m) for b in range(n)]
    return values[np.stack(picks)]


def wild_draws(
    fit: FittedModel,
    hypotheses: Sequence[tuple[np.ndarray, np.ndarray]],
    groups: np.ndarray,
    n: int,
    seed: int,
    first: int = 0,
    progress: bool = True,
) -> list[WildDraws]:
    """Statistics of hypotheses Lβ = v, each with the residuals of its own restricted fit.

    Parameters
    ----------
    fit
        The fitted model.
    hypotheses
        L, shape (q, P), and v, shape (q,).
    groups
        Cluster of each unit, numbered from 0: outer groups or unions of them.
    n, seed, first
        Number of draws, the seed, and number of the first.

    References
    ----------
    Joshi, Pustejovsky & Beretvas (2022), Cluster wild bootstrapping to handle dependent effect
    sizes in meta-analysis with a small number of studies, Research Synthesis Methods 13:457-477.
    """
    m = int(groups.max()) + 1
    most = max(len(L) for L, _ in hypotheses)
    if m <= most:
        raise InputError(
            f"The wild bootstrap of {most} hypotheses at once needs more than {most} clusters, and "
            f"there are {m}."
        )
    weights = wild_weights(n, m, seed, first)[:, groups, None]
    outcomes = []
    itself, data = _as_many(fit), fit.design.y[None]
    for L, v in hypotheses:
        expected = restricted_fits(fit, itself, data, L, v)[0]
        residual = np.where(fit.design.mask, fit.design.y - expected, np.nan)
        outcomes.append(expected + weights * residual)
    found = refit(fit, np.concatenate(outcomes), progress=progress)
    cr0 = cluster_covariance(fit, found, np.concatenate(outcomes), groups)
    own = cluster_covariance(fit, itself, data, groups)[0]
    draws = []
    for number, (L, v) in enumerate(hypotheses):
        part = slice(number * n, (number + 1) * n)
        assert found.coef is not None
        drawn = wald_statistics(found.coef[part] @ L.T - v, L @ cr0[part] @ L.T)
        drawn[~converged(found)[part]] = np.nan
        difference = (L @ fit.estimate.beta - v)[None]
        observed = wald_statistics(difference, (L @ own @ L.T)[None])[0]
        draws.append(WildDraws(float(observed), drawn, own, not was_interrupted(found)))
    return draws


def cluster_covariance(
    fit: FittedModel, found: ManyFits, y: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """CR0 covariances of many fits, shape (B, P, P); NaN where a fit has not converged."""
    assert found.coef is not None and found.vcov is not None
    B, P = found.coef.shape
    made = np.full((B, P, P), np.nan)
    sound = np.flatnonzero(converged(found))
    levels = [matrix[sound] for matrix in levels_of(found)]
    design = fit.design if levels else fit.design.without_levels()
    design = replace(design, y=y[sound])
    each = influences(design, found.coef[sound], found.vcov[sound], levels, groups)
    made[sound] = np.swapaxes(each, 1, 2) @ each
    return made


def _as_many(fit: FittedModel) -> ManyFits:
    """A fit as the only one of many."""
    estimate = fit.estimate
    found = ManyEstimates.empty(replace(fit.design, y=fit.design.y[None]))
    found.keep(0, estimate.beta, estimate.vcov, estimate.theta, fit.Psi_by_level)
    found.status[0] = Status.CONVERGED
    return many_result(ManyModel(fit.design, fit.frame), found, {}, fit.method, REFIT_RETURNS)


def restricted_fits(
    fit: FittedModel, found: ManyFits, y: np.ndarray, L: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Xβ̃ of fits with Lβ = v to B data sets, shape (B, n, k).

    Where the hypothesis is one of the predictors, the whole model is fitted again; where it is
    about some outcomes alone, the coefficients are restricted at the estimated Ψ.
    """
    assert found.coef is not None and found.vcov is not None
    design, k = fit.design, fit.design.k
    free = _of_predictors(L, design.p, k)
    if free is None:
        V = found.vcov
        away = (found.coef @ L.T - v)[..., None]
        across = (V @ L.T @ np.linalg.solve(L @ V @ L.T, away))[..., 0]
        return design.X @ (found.coef - across).reshape(-1, design.p, k)
    given = design.X @ np.linalg.lstsq(L, v)[0].reshape(design.p, k)
    if not free.shape[1]:
        return np.broadcast_to(given, y.shape)
    X = design.X @ free
    own = replace(design, X=X, basis=orthonormal_basis(X))
    smaller = replace(fit, design=own)
    again = refit(smaller, y - given, progress=False)
    assert again.coef is not None
    return given + X @ again.coef.reshape(len(y), -1, k)


def _of_predictors(L: np.ndarray, p: int, k: int) -> np.ndarray | None:
    """Combinations of the predictors that are left, (p, r), where L is one of predictors alone."""
    rows = L.reshape(len(L), p, k)
    combinations = np.concatenate([rows[:, :, o] for o in range(k)])
    free = null_space(combinations) if p else np.zeros((0, 0))
    # L restricts as many combinations, of each outcome alike.
    return free if k * (p - free.shape[1]) == np.linalg.matrix_rank(L) else None
