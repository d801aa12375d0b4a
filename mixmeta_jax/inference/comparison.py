"""Information criteria and the likelihood ratio."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc

from mixmeta_jax.tolerances import AS_HIGH


class InformationCriteria(NamedTuple):
    """Smaller is better; comparable between fits to the same outcomes by the same likelihood."""

    aic: float
    bic: float
    aicc: float


def information_criteria(loglik: float, df: int, nobs: int) -> InformationCriteria:
    """AIC, BIC and AICc.

    Parameters
    ----------
    loglik
        Log-likelihood; NaN where the method has none, and then so are the criteria.
    df
        Number of parameters, fixed and random.
    nobs
        Observed outcomes, less the coefficients under REML. AICc is NaN unless nobs > df + 1.
    """
    aic = -2 * loglik + 2 * df
    bic = -2 * loglik + df * np.log(nobs) if nobs > 0 else np.nan
    spare = nobs - df - 1
    aicc = aic + 2 * df * (df + 1) / spare if spare > 0 else np.nan
    return InformationCriteria(float(aic), float(bic), float(aicc))


def likelihood_ratio(
    smaller: float, larger: float, df: int, n_bounds: int
) -> tuple[float, float, float]:
    """Twice the difference of two log-likelihoods, with its p-values.

    Parameters
    ----------
    smaller, larger
        Log-likelihoods of the nested and the wider model.
    df
        Difference of their numbers of parameters, at least 1.
    n_bounds
        How many variances the smaller model sets to zero, which is the bound of their range.

    Returns
    -------
    statistic, pvalue, pvalue_mixture
        The χ² p-value with df degrees of freedom, which is conservative when a variance is at its
        bound; and for one such variance that of the equal mixture of χ² with df − 1 and df
        (Self and Liang 1987; Stram and Lee 1994), NaN for none or for several, whose weights have
        no simple form.
    """
    # Two maxima that agree to rounding are one: half of the mixture lies at zero itself.
    gain = larger - smaller
    statistic = 2 * gain if gain > AS_HIGH * (1 + abs(larger)) else 0.0
    pvalue = float(chdtrc(df, statistic))
    if n_bounds != 1:
        return statistic, pvalue, float("nan")
    below = float(chdtrc(df - 1, statistic)) if df > 1 else float(statistic <= 0)
    return statistic, pvalue, (below + pvalue) / 2
