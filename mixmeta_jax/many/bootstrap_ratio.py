"""Likelihood-ratio tests by parametric bootstrap, with the Bartlett correction that comes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import chdtrc

from mixmeta_jax import gates
from mixmeta_jax.fits import likelihood_ratio
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.simulation import check_draws, simulate_fitted
from mixmeta_jax.inference.drawn import share_of
from mixmeta_jax.many.many_fits import ManyFits
from mixmeta_jax.many.refits import converged, nothing_fitted, refit_both, was_interrupted
from mixmeta_jax.report.results import BootstrappedRatio, LikelihoodRatioTest
from mixmeta_jax.tolerances import AS_LARGE


def lr_test(
    smaller: FittedModel,
    larger: FittedModel,
    n: int = 0,
    seed: int = 0,
    first: int = 0,
    progress: bool = True,
) -> LikelihoodRatioTest:
    """Test a fit against a wider one within which it is nested.

    Parameters
    ----------
    smaller, larger
        Fits to the same outcomes with the same error covariances, both by "ml" (a "fixed" fit
        counts as one with no random effects) or, with the same fixed effects, both by "reml". Which
        covariance structure is a special case of which is for the caller to know.
    n
        Data sets that are drawn from the smaller fit and refitted by both, for a p-value where the
        χ² distribution is not the one, and for the Bartlett correction where it is; 0 for none.
    seed, first
        Seed, and number of the first data set; data set b depends on (seed, b) alone.
    progress
        Whether long work shows a bar.

    Returns
    -------
    LikelihoodRatioTest
        With the χ² p-value; where the larger model has one variance, with its covariances, that the
        smaller sets to zero, that of the χ² mixture; and with ``n`` the bootstrap's.

    Raises
    ------
    InputError
        Where the two log-likelihoods cannot be compared, with the reason.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> larger = mx.mixmeta("logor ~ ablat", S="logorvar", data=bcg, method="ml")
    >>> print(mx.lr_test(larger.update("~ 1"), larger))
    Likelihood-ratio test
      smaller 2 parameters, log-likelihood -13.0728
      larger  3 parameters, log-likelihood -6.9634
    Chi-square = 12.2187 on 1 df, p = 0.0005
    """
    gates.flag(progress, "progress")
    drawn = gates.whole(n, "n") > 0
    test = likelihood_ratio.lr_test(smaller, larger)
    check_draws(n if drawn else 1, seed, first, smaller.design.y.size, "n")
    if not drawn:
        return test
    return replace(test, bootstrap=bootstrapped(smaller, larger, test, n, seed, first, progress))


def bootstrapped(
    smaller: FittedModel,
    larger: FittedModel,
    test: LikelihoodRatioTest,
    n: int,
    seed: int,
    first: int,
    progress: bool,
) -> BootstrappedRatio:
    """The bootstrap's part of a likelihood-ratio test."""
    ratios, _ = ratio_draws(smaller, larger, n, seed, first, progress)
    valid = ratios[np.isfinite(ratios)]
    return from_draws(test.statistic, test.df, valid)


def ratio_draws(
    smaller: FittedModel,
    larger: FittedModel,
    n: int,
    seed: int,
    first: int = 0,
    progress: bool = True,
) -> tuple[np.ndarray, bool]:
    """Likelihood ratios of draws from the smaller fit, shape (n,), and whether all were tried.

    NaN where a fit failed, or where Ctrl-C has left it, of which the refits warn.
    """
    frame = smaller.frame
    design = smaller.design if smaller.n_levels else smaller.design.without_levels()
    mean = smaller.fitted_array - frame.offset
    try:
        y = simulate_fitted(design, frame.within, mean, smaller.Psi_by_level, n, seed, first)
    except KeyboardInterrupt:
        nothing_fitted(smaller, n)  # which warns
        return np.full(n, np.nan), False
    pair = refit_both((smaller, larger), y, progress)
    low, high = (_heights(found) for found in pair)
    return np.maximum(2 * (high - low), 0.0), not any(map(was_interrupted, pair))


def _heights(found: ManyFits) -> np.ndarray:
    """Log-likelihoods of the refits that are maxima, NaN for the others."""
    assert found.loglik is not None
    return np.where(converged(found), found.loglik, np.nan)


def from_draws(statistic: float, df: int, ratios: np.ndarray) -> BootstrappedRatio:
    """p-values from the likelihood ratios of the draws that could be fitted."""
    n = len(ratios)
    extreme = int((ratios >= statistic * (1 - AS_LARGE)).sum())
    pvalue = float(share_of(extreme, n))
    mean = float(ratios.mean()) if n else np.nan
    factor = df / mean if mean > 0 else np.nan
    corrected = statistic * factor
    return BootstrappedRatio(
        pvalue,
        float(np.sqrt(pvalue * (1 - pvalue) / (n + 1))),
        float(factor),
        float(corrected),
        float(chdtrc(df, corrected)) if np.isfinite(corrected) else float("nan"),
        n,
    )
