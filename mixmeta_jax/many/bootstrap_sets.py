"""The bootstraps of many data sets at once: of D data sets, n draws each, D·n refits in one batch.

For studies of coverage, and wherever one model is fitted to many outcomes. Data set i takes the
draws n·i, …, n·i + n − 1 of the seed's streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.simulation import simulate_fitted
from mixmeta_jax.inference.drawn import tails
from mixmeta_jax.inference.influences import wald_statistics
from mixmeta_jax.inference.outer_groups import outer_groups
from mixmeta_jax.many.many_fits import ManyFits
from mixmeta_jax.many.refits import converged, levels_of, refit, was_interrupted
from mixmeta_jax.many.wild import cluster_covariance, restricted_fits, wild_weights

SETS_TOGETHER = 50_000
"""Refits that are held at once."""


@dataclass(frozen=True)
class SetTests:
    """Bootstrap tests and intervals of one linear combination in D data sets, shape (D,) each.

    Attributes
    ----------
    estimate, se
        Lβ̂ and its standard error: of the model, or cluster-robust, CR0.
    pvalue
        Share of the draws, the data among them, with a statistic as large.
    quantile
        Quantile of the absolute statistic: the interval is estimate ± quantile · se.
    """

    estimate: np.ndarray
    se: np.ndarray
    pvalue: np.ndarray
    quantile: np.ndarray


def bootstrap_t_sets(
    fit: FittedModel,
    y: np.ndarray,
    L: np.ndarray,
    n: int = 199,
    seed: int = 0,
    conf_level: float = 0.95,
) -> SetTests:
    """Parametric bootstrap-t tests of Lβ = 0.

    Parameters
    ----------
    fit
        A fit whose model, S and missing pattern the data sets share.
    y
        Outcomes, the offset taken off, shape (D, N, k).
    L
        The combination, shape (P,).
    n, seed
        Draws of each data set, and the seed.
    conf_level
        Level of the intervals.
    """
    found = refit(fit, y, progress=False)
    assert found.coef is not None and found.vcov is not None
    design, k = fit.design, fit.design.k
    Psi = levels_of(found)
    plain = design if Psi else design.without_levels()
    drawn = np.full((len(y), n), np.nan)
    for part in _parts(np.flatnonzero(converged(found)), n):
        outcomes = []
        for i in part:
            mean = design.X @ found.coef[i].reshape(design.p, k)
            own = [P[i] for P in Psi]
            own_y = simulate_fitted(plain, fit.frame.within, mean, own, n, seed, n * int(i))
            outcomes.append(own_y)
        again = refit(fit, np.concatenate(outcomes), progress=False)
        statistic = _over_error(again, L, np.repeat(found.coef[part] @ L, n))
        drawn[part] = statistic.reshape(len(part), n)
        if was_interrupted(again):
            break
    spread = np.sqrt(np.einsum("a,iab,b->i", L, found.vcov, L))
    return _tested(found.coef @ L, spread, drawn, conf_level)


def wild_sets(
    fit: FittedModel,
    y: np.ndarray,
    L: np.ndarray,
    n: int = 199,
    seed: int = 0,
    conf_level: float = 0.95,
    groups: np.ndarray | None = None,
) -> SetTests:
    """Wild cluster bootstrap tests of Lβ = 0; parameters as in `bootstrap_t_sets`.

    Parameters
    ----------
    groups
        Cluster of each unit, numbered from 0: outer groups, which is the default, or unions of
        them.
    """
    groups = outer_groups(fit.design) if groups is None else groups
    m, rows = int(groups.max()) + 1, L[None]
    found = refit(fit, y, progress=False)
    assert found.coef is not None
    own = cluster_covariance(fit, found, y, groups)
    expected = restricted_fits(fit, found, y, rows, np.zeros(1))
    residual = np.where(np.isfinite(y), y - expected, np.nan)
    drawn = np.full((len(y), n), np.nan)
    for part in _parts(np.flatnonzero(converged(found)), n):
        weights = np.stack([wild_weights(n, m, seed, n * int(i)) for i in part])[:, :, groups]
        turned = expected[part][:, None] + weights[..., None] * residual[part][:, None]
        turned = turned.reshape(len(part) * n, *y.shape[1:])
        again = refit(fit, turned, progress=False)
        assert again.coef is not None
        CR0 = cluster_covariance(fit, again, turned, groups)
        squares = wald_statistics(again.coef @ rows.T, rows @ CR0 @ rows.T)
        drawn[part] = np.sqrt(squares).reshape(len(part), n)
        if was_interrupted(again):
            break
    spread = np.sqrt(np.einsum("a,iab,b->i", L, own, L))
    return _tested(found.coef @ L, spread, drawn, conf_level)


def _parts(members: np.ndarray, n: int) -> Iterator[np.ndarray]:
    step = max(1, SETS_TOGETHER // n)
    for first in range(0, len(members), step):
        yield members[first : first + step]


def _over_error(found: ManyFits, L: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """|Lβ̂ − centre| over its standard error; NaN where a fit has not converged."""
    assert found.coef is not None and found.vcov is not None
    with np.errstate(all="ignore"):
        statistic = np.abs(found.coef @ L - centre)
        statistic = statistic / np.sqrt(np.einsum("a,iab,b->i", L, found.vcov, L))
    return np.where(converged(found), statistic, np.nan)


def _tested(estimate: np.ndarray, se: np.ndarray, drawn: np.ndarray, conf_level: float) -> SetTests:
    pvalue, quantile = tails(drawn.T, np.abs(estimate / se), conf_level)
    return SetTests(estimate, se, pvalue, quantile)
