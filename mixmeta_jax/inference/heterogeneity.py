"""Cochran's Q and I² from the residuals of the fixed-effects model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc


class QTable(NamedTuple):
    """Heterogeneity overall (first entry) and per outcome, each of shape (1 + k,)."""

    Q: np.ndarray
    df: np.ndarray
    pvalue: np.ndarray
    I2: np.ndarray


def q_table(Q: float, residuals: np.ndarray, variances: np.ndarray, p: int) -> QTable:
    """Q statistics with their χ² tests.

    Parameters
    ----------
    Q
        Residual sum of squares of the joint fixed-effects fit with the full S.
    residuals
        Residuals of that fit, shape (n, k), NaN where the outcome is missing.
    variances
        Error variances, shape (n, k); not read where the outcome is missing.
    p
        Number of predictors per outcome.

    Returns
    -------
    QTable
        Overall: Q with df = observed outcomes − p·k. Per outcome: Σ r²/s over its n_j observed
        units with df = n_j − p. I² = max(0, (Q − df)/Q) in percent. With no degree of freedom
        left, the p-value and I² are NaN.
    """
    seen = np.isfinite(residuals)
    with np.errstate(all="ignore"):  # residuals near 1e160 have an infinite Q
        squares = np.where(seen, residuals, 0.0) ** 2 / np.where(seen, variances, 1.0)
    counts = seen.sum(axis=0)
    statistic = np.append(Q, squares.sum(axis=0))
    df = np.append(counts.sum() - p * residuals.shape[1], counts - p)
    pvalue = np.full(len(df), np.nan)
    I2 = np.full(len(df), np.nan)
    tested = df > 0
    pvalue[tested] = chdtrc(df[tested], statistic[tested])
    excess = np.maximum(0.0, statistic[tested] - df[tested])
    share = np.where(np.isinf(excess), 1.0, 0.0)
    np.divide(excess, statistic[tested], out=share, where=(excess > 0) & np.isfinite(excess))
    I2[tested] = 100 * share
    return QTable(statistic, df, pvalue, I2)
