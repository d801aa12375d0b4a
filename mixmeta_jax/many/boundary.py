"""Tests of variances and correlations at zero: by mixture where it is known, else bootstrap.

A mixture is that of one parameter at its bound. Where the fit without it has others at theirs, the
weights are others, which have no simple form: there it is bootstrapped too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.variances import components_of, held_fit, names_of, reference_of
from mixmeta_jax.inference.comparison import likelihood_ratio
from mixmeta_jax.inference.held_maxima import can_hold
from mixmeta_jax.many.bootstrap_ratio import from_draws, ratio_draws
from mixmeta_jax.status import Status

BESIDE = "another parameter is at its bound"
"""Why a test whose mixture is known is bootstrapped."""

NOT_BEGUN = "bootstrap, interrupted before"
"""Where Ctrl-C has ended the bootstrap of a parameter before this one."""

NOT_ZERO = "cannot be zero beside what the fit holds"


def boundary_frame(
    fit: FittedModel,
    n: int,
    seed: int,
    first: int = 0,
    always: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """``level, statistic, pvalue, reference, mc_error`` of the test of each parameter at zero.

    Parameters
    ----------
    fit
        A fit by "ml" or "reml".
    n, seed, first
        Draws, where no mixture is known, their seed, and number of the first.
    always
        Whether variances whose mixture is known are bootstrapped all the same, and correlations
        left out.
    """
    parts = components_of(fit)
    rows: list[tuple[float, float, str, float]] = []
    kept, going = [], True
    for i, place in enumerate(parts.places):
        if always and not place.parameter.is_variance:
            continue
        kept.append(i)
        if np.isnan(parts.estimates[i]) or not can_hold(fit.design, place, 0.0):
            why = "" if np.isnan(parts.estimates[i]) else NOT_ZERO
            rows.append((np.nan, np.nan, why, np.nan))
            continue
        null = held_fit(fit, place, 0.0)
        df, bounds, words = reference_of(fit, null, place)
        statistic, chi2, mixture = likelihood_ratio(null.loglik, fit.loglik, df, bounds)
        pvalue, error = (mixture if bounds else chi2), 0.0
        # Where another parameter is at its bound too the mixture is not exact.
        beside = bool(words) and null.status is Status.BOUNDARY
        if (always or beside or not words) and not going:
            pvalue, error, words = np.nan, np.nan, NOT_BEGUN
        elif always or beside or not words:
            ratios, going = ratio_draws(null, fit, n, seed, first, progress)
            own = from_draws(statistic, df, ratios[np.isfinite(ratios)])
            pvalue, error, words = own.pvalue, own.mc_error, f"bootstrap, {own.n} draws"
            words += f": {BESIDE}" * (beside and not always)
        rows.append((statistic, pvalue, words, error))
    names = ["statistic", "pvalue", "reference", "mc_error"]
    places = [parts.places[i] for i in kept]
    frame = pd.DataFrame(
        rows, columns=names, index=pd.Index(names_of(fit, places), name="parameter")
    )
    frame.insert(0, "level", [fit.level_names[place.level] for place in places])
    return frame
