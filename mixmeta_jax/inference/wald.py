"""Wald inference on the fixed effects: tables, intervals, joint tests.

All follow from the estimate β̂, shape (P,), and its covariance V, shape (P, P), under the normal
approximation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dpstrf
from scipy.special import chdtrc, chdtri, ndtr, ndtri

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError

TESTS = ("z",)
"""Reference distributions that tests and intervals can use."""

SIMULTANEOUS = (None, "goldstein", "max-t")
"""Adjustments of confidence intervals for several coefficients at once."""

RANK = 1e-10
"""Of a variance of 1, the part that other estimates leave over below which they determine it."""


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
    gates.choice(test, "test", TESTS)


def check_conf_level(conf_level: float) -> float:
    """The confidence level as a float strictly between 0 and 1."""
    return gates.fraction(conf_level, "conf_level")


def normal_quantile(conf_level: float) -> float:
    """Half-width, in standard errors, of a two-sided interval."""
    return float(ndtri((1 + conf_level) / 2))


def coefficient_table(beta: np.ndarray, vcov: np.ndarray, conf_level: float) -> CoefficientTable:
    """Estimates with z tests against zero and pointwise confidence intervals."""
    se = np.sqrt(np.diag(vcov))
    with np.errstate(all="ignore"):  # an error may be zero, or overflow, at scales near 1e160
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
    gates.choice(simultaneous, "simultaneous", SIMULTANEOUS)
    if simultaneous is None:
        return normal_quantile(conf_level)
    if simultaneous == "goldstein":
        return float(np.sqrt(chdtri(len(vcov), 1 - conf_level)))
    se = np.sqrt(np.diag(vcov))
    return _largest_quantile(vcov / np.outer(se, se), conf_level)


def _largest_quantile(correlation: np.ndarray, conf_level: float) -> float:
    """Quantile of max |z_i| for z ~ N(0, correlation), between its bounds for r and 1 tests."""
    # These load slowly, and nothing else needs them.
    from scipy.optimize import brentq
    from scipy.stats import qmc

    r = len(correlation)
    low = normal_quantile(conf_level)
    if r == 1:
        return low
    root, rank = _pivoted_root(correlation)
    # The same points every time: the probability is then a smooth function of the quantile.
    exponent = max(16 - int(np.log2(max(r / 16, 1))), 12)
    points = qmc.Sobol(rank, scramble=True, seed=0).random_base2(exponent)

    def excess(c: float) -> float:
        return _probability_within(c, root, rank, points) - conf_level

    high = normal_quantile(1 - (1 - conf_level) / r) + 1e-3
    if excess(low) >= 0:
        return low
    return float(brentq(excess, low, high, xtol=1e-6)) if excess(high) > 0 else high


def _pivoted_root(correlation: np.ndarray) -> tuple[np.ndarray, int]:
    """A lower triangular root of a correlation matrix, in an order of its own, and its rank.

    The largest remaining variance comes first: the rest then varies least given those before it.
    """
    root, _, rank, _ = dpstrf(np.array(correlation, float, order="F"), lower=1, tol=RANK)
    root = np.tril(root)
    root[:, rank:] = 0
    return root, int(rank)


def _probability_within(c: float, root: np.ndarray, rank: int, points: np.ndarray) -> float:
    """P(|z_i| <= c for all i) for z = root times standard normals, by quasi-random integration.

    Parameters
    ----------
    c
        The bound.
    root, rank
        Lower triangular, shape (r, r), with ``rank`` columns that are not zero.
    points
        In the unit cube, shape (points, rank).

    References
    ----------
    Genz (1992), Numerical computation of multivariate normal probabilities, Journal of
    Computational and Graphical Statistics 1:141-149.
    """
    normals = np.zeros_like(points)
    probability = np.ones(len(points))
    for i, row in enumerate(root):
        mean = normals[:, : min(i, rank)] @ row[: min(i, rank)]
        if i >= rank:
            # A combination of those before it, which lies inside or outside.
            probability *= np.abs(mean) <= c * (1 + RANK)
            continue
        below, above = ndtr((-c - mean) / row[i]), ndtr((c - mean) / row[i])
        probability *= above - below
        inside = below + points[:, i] * (above - below)
        normals[:, i] = ndtri(np.clip(inside, 1e-300, 1 - 1e-16))
    return float(probability.mean())


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
                f"Row {row} of the hypotheses (terms_or_matrix) is zero or a combination of the "
                "rows above it: leave it out."
            )
    difference = L @ beta - rhs
    statistic = float(difference @ np.linalg.solve(L @ vcov @ L.T, difference))
    return statistic, len(L), float(chdtrc(len(L), statistic))
