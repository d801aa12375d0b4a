"""Wald inference on the fixed effects: tables, intervals, joint tests.

All follow from the estimate β̂, shape (P,), and its covariance V, shape (P, P), under the normal
approximation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, chdtri, ndtr, ndtri

from mixmeta_jax.errors import InputError

TESTS = ("z",)
"""Reference distributions that tests and intervals can use."""

SIMULTANEOUS = (None, "goldstein", "max-t")
"""Adjustments of confidence intervals for several coefficients at once."""


class CoefficientTable(NamedTuple):
    """One entry per coefficient, each of shape (P,)."""

    estimate: np.ndarray
    se: np.ndarray
    z: np.ndarray
    pvalue: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def check_test(test: str) -> None:
    """Raise `InputError` where ``test`` is not one of `TESTS`."""
    if test not in TESTS:
        listed = ", ".join(f"'{name}'" for name in TESTS)
        raise InputError(f"test={test!r} is not available: choose one of {listed}.")


def check_conf_level(conf_level: float) -> float:
    """The confidence level as a float strictly between 0 and 1."""
    if isinstance(conf_level, bool) or not isinstance(conf_level, (int, float, np.number)):
        raise InputError(f"conf_level must be a number between 0 and 1, not {conf_level!r}.")
    if not 0 < conf_level < 1:
        raise InputError(
            f"conf_level must lie strictly between 0 and 1, not at {conf_level:g}: "
            "write 0.95 for 95 percent."
        )
    return float(conf_level)


def normal_quantile(conf_level: float) -> float:
    """Half-width, in standard errors, of a two-sided interval."""
    return float(ndtri((1 + conf_level) / 2))


def coefficient_table(beta: np.ndarray, vcov: np.ndarray, conf_level: float) -> CoefficientTable:
    """Estimates with z tests against zero and pointwise confidence intervals."""
    se = np.sqrt(np.diag(vcov))
    z = beta / se
    half = normal_quantile(conf_level) * se
    return CoefficientTable(beta, se, z, 2 * ndtr(-np.abs(z)), beta - half, beta + half)


def critical_value(vcov: np.ndarray, conf_level: float, simultaneous: str | None) -> float:
    """Half-width of the intervals in standard errors.

    Parameters
    ----------
    vcov
        Covariance of the r estimates under comparison, shape (r, r).
    conf_level
        Coverage: of each interval, or of all of them together.
    simultaneous
        None for pointwise intervals; "goldstein" for √χ²_{r,level}, which covers every linear
        combination of the r estimates; "max-t" for the quantile of the largest |z| among them.
    """
    if simultaneous is None:
        return normal_quantile(conf_level)
    if simultaneous == "goldstein":
        return float(np.sqrt(chdtri(len(vcov), 1 - conf_level)))
    if simultaneous == "max-t":
        se = np.sqrt(np.diag(vcov))
        return _largest_quantile(vcov / np.outer(se, se), conf_level)
    listed = ", ".join(repr(name) for name in SIMULTANEOUS)
    raise InputError(f"simultaneous={simultaneous!r} is not known: choose one of {listed}.")


def _largest_quantile(correlation: np.ndarray, conf_level: float) -> float:
    """Quantile of max |z_i| for z ~ N(0, correlation), between its bounds for r and 1 tests."""
    # These load slowly, and nothing else needs them.
    from scipy import optimize, stats

    r = len(correlation)
    low = normal_quantile(conf_level)
    if r == 1:
        return low
    normal = stats.multivariate_normal(
        np.zeros(r), correlation, allow_singular=True, seed=0, abseps=1e-6, releps=1e-6
    )
    bonferroni = normal_quantile(1 - (1 - conf_level) / r)

    def excess(c: float) -> float:
        normal.random_state = np.random.RandomState(0)  # the same quasi-random points every time
        return float(normal.cdf(np.full(r, c), lower_limit=np.full(r, -c))) - conf_level

    if excess(low) >= 0:
        return low
    return float(optimize.brentq(excess, low, bonferroni + 1e-3, xtol=1e-6))


def linear_test(
    L: np.ndarray, rhs: np.ndarray, beta: np.ndarray, vcov: np.ndarray
) -> tuple[float, int, float]:
    """Joint χ² test of Lβ = rhs.

    Parameters
    ----------
    L
        One row per hypothesis, shape (h, P), linearly independent.
    rhs
        Hypothesised values, shape (h,).

    Returns
    -------
    statistic, df, pvalue
        (Lβ̂ − rhs)ᵀ (L V Lᵀ)⁻¹ (Lβ̂ − rhs), h, and its χ² tail probability.

    Raises
    ------
    InputError
        Where a row of L is a combination of rows above it.
    """
    for row in range(len(L)):
        if np.linalg.matrix_rank(L[: row + 1]) <= row:
            raise InputError(
                f"Row {row} of the matrix of hypotheses is zero or a combination of the rows "
                "above it: leave it out."
            )
    difference = L @ beta - rhs
    statistic = float(difference @ np.linalg.solve(L @ vcov @ L.T, difference))
    return statistic, len(L), float(chdtrc(len(L), statistic))
