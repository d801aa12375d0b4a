"""The wild cluster bootstrap: residuals of the restricted fit, turned group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import null_space

from mixmeta_jax.design.design import orthonormal_basis
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.estimator import fit_design
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.inference.influences import influences, wald_statistics
from mixmeta_jax.many.many_fits import ManyFits
from mixmeta_jax.many.refits import converged, levels_of, refit, settings_of

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
    """

    observed: float
    drawn: np.ndarray
    vcov: np.ndarray


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
    for L, v in hypotheses:
        expected = _restricted(fit, L, v)
        residual = np.where(fit.design.mask, fit.design.y - expected, np.nan)
        outcomes.append(expected + weights * residual)
    found = refit(fit, np.concatenate(outcomes), progress=progress)
    cr0 = cluster_covariance(fit, found, np.concatenate(outcomes), groups)
    own = _of_fit(fit, groups)
    draws = []
    for number, (L, v) in enumerate(hypotheses):
        part = slice(number * n, (number + 1) * n)
        assert found.coef is not None
        drawn = wald_statistics(found.coef[part] @ L.T - v, L @ cr0[part] @ L.T)
        drawn[~converged(found)[part]] = np.nan
        difference = (L @ fit.estimate.beta - v)[None]
        observed = wald_statistics(difference, (L @ own @ L.T)[None])[0]
        draws.append(WildDraws(float(observed), drawn, own))
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


def _of_fit(fit: FittedModel, groups: np.ndarray) -> np.ndarray:
    """CR0 covariance of a fit itself."""
    design = fit.design if fit.n_levels else fit.design.without_levels()
    design = replace(design, y=design.y[None])
    estimate = fit.estimate
    Psi = [P[None] for P in fit.Psi_by_level]
    each = influences(design, estimate.beta[None], estimate.vcov[None], Psi, groups)[0]
    return each.T @ each


def _restricted(fit: FittedModel, L: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Xβ̃ of the fit with Lβ = v, shape (n, k).

    Where the hypothesis is one of the predictors, the whole model is fitted again; where it is
    about some outcomes alone, the coefficients are restricted at the estimated Ψ.
    """
    design, estimate, k = fit.design, fit.estimate, fit.design.k
    start = np.linalg.lstsq(L, v)[0]
    free = _of_predictors(L, design.p, k)
    if free is None:
        V = estimate.vcov
        across = V @ L.T @ np.linalg.solve(L @ V @ L.T, L @ estimate.beta - v)
        return design.X @ (estimate.beta - across).reshape(design.p, k)
    given = design.X @ start.reshape(design.p, k)
    if not free.shape[1]:
        return given
    X = design.X @ free
    own = replace(design, X=X, y=design.y - given, basis=orthonormal_basis(X))
    one = fit_design(own, fit.method, settings_of(fit))
    return given + X @ one.beta.reshape(-1, k)


def _of_predictors(L: np.ndarray, p: int, k: int) -> np.ndarray | None:
    """Combinations of the predictors that are left, (p, r), where L is one of predictors alone."""
    rows = L.reshape(len(L), p, k)
    combinations = np.concatenate([rows[:, :, o] for o in range(k)])
    free = null_space(combinations) if p else np.zeros((0, 0))
    # L restricts as many combinations, of each outcome alike.
    return free if k * (p - free.shape[1]) == np.linalg.matrix_rank(L) else None
