"""What tests and intervals of the coefficients share: levels, hypotheses, quantiles of maxima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpstrf
from scipy.special import chdtri, ndtr, ndtri, stdtrit

from mixmeta_jax import gates
from mixmeta_jax.choices import Simultaneous
from mixmeta_jax.errors import InputError
from mixmeta_jax.tolerances import DETERMINED, QUANTILE

"""Adjustments of confidence intervals for several coefficients at once."""


def check_conf_level(conf_level: float) -> float:
    """The confidence level as a float strictly between 0 and 1."""
    return gates.fraction(conf_level, "conf_level")


def normal_quantile(conf_level: float) -> float:
    """Half-width, in standard errors, of a two-sided interval."""
    return float(ndtri((1 + conf_level) / 2))


def check_simultaneous(simultaneous: str | None) -> None:
    """Raise `InputError` where ``simultaneous`` is not one of `Simultaneous`."""
    gates.choice(simultaneous, "simultaneous", Simultaneous)


def largest_quantile(correlation: np.ndarray, conf_level: float, df: float = np.inf) -> float:
    """Quantile of max |t_i|, between its bounds for r and 1 tests.

    Parameters
    ----------
    correlation
        Of the normal variables z, shape (r, r).
    conf_level
        P(max |t_i| <= quantile).
    df
        Degrees of freedom of the χ² that all z are divided by; infinite for max |z_i|.
    """
    # These load slowly, and nothing else needs them.
    from scipy.optimize import brentq

    r = len(correlation)
    if not df > 0:
        return float("nan")
    low = _two_sided(conf_level, df)
    if r <= 1:
        return low
    within = _probability_of_all(correlation, df)

    def excess(c: float) -> float:
        return within(c) - conf_level

    high = _two_sided(1 - (1 - conf_level) / r, df) + 1e-3
    if excess(low) >= 0:
        return low
    return float(brentq(excess, low, high, xtol=QUANTILE)) if excess(high) > 0 else high


def largest_tail(values: np.ndarray, correlation: np.ndarray, df: float = np.inf) -> np.ndarray:
    """P(max |t_i| > |value|) for each value, NaN for NaN, shape (h,); see `largest_quantile`."""
    if len(correlation) == 0 or not df > 0:
        return np.full(len(values), np.nan)
    within = _probability_of_all(correlation, df)
    return np.array([1 - within(abs(c)) if np.isfinite(c) else np.nan for c in values])


def _probability_of_all(correlation: np.ndarray, df: float) -> Callable[[float], float]:
    """c to P(|t_i| <= c for all i)."""
    from scipy.stats import qmc

    r = len(correlation)
    root, rank = _pivoted_root(correlation)
    # The same points every time: the probability is then a smooth function of the quantile.
    exponent = max(16 - int(np.log2(max(r / 16, 1))), 12)
    divided = np.isfinite(df)
    points = qmc.Sobol(rank + divided, scramble=True, seed=0).random_base2(exponent)
    size = np.sqrt(chdtri(df, points[:, -1]) / df) if divided else 1.0
    return lambda c: _probability_within(c * size, root, rank, points)


def _two_sided(conf_level: float, df: float) -> float:
    upper = (1 + conf_level) / 2
    return float(stdtrit(df, upper) if np.isfinite(df) else ndtri(upper))


def _pivoted_root(correlation: np.ndarray) -> tuple[np.ndarray, int]:
    """A lower triangular root of a correlation matrix, in an order of its own, and its rank.

    The largest remaining variance comes first: the rest then varies least given those before it.
    """
    root, _, rank, _ = dpstrf(np.array(correlation, float, order="F"), lower=1, tol=DETERMINED)
    root = np.tril(root)
    root[:, rank:] = 0
    return root, int(rank)


def _probability_within(c: Any, root: np.ndarray, rank: int, points: np.ndarray) -> float:
    """P(|z_i| <= c for all i) for z = root times standard normals, by quasi-random integration.

    Parameters
    ----------
    c
        The bound, or one per point.
    root, rank
        Lower triangular, shape (r, r), with ``rank`` columns that are not zero.
    points
        In the unit cube, shape (points, rank or more).

    References
    ----------
    Genz (1992), Numerical computation of multivariate normal probabilities, Journal of
    Computational and Graphical Statistics 1:141-149.
    """
    normals = np.zeros((len(points), rank))
    probability = np.ones(len(points))
    for i, row in enumerate(root):
        mean = normals[:, : min(i, rank)] @ row[: min(i, rank)]
        if i >= rank:
            # A combination of those before it, which lies inside or outside.
            probability *= np.abs(mean) <= c * (1 + DETERMINED)
            continue
        below, above = ndtr((-c - mean) / row[i]), ndtr((c - mean) / row[i])
        probability *= above - below
        inside = below + points[:, i] * (above - below)
        normals[:, i] = ndtri(np.clip(inside, 1e-300, 1 - 1e-16))
    return float(probability.mean())


def check_independent(L: np.ndarray) -> None:
    """Raise `InputError` where a row of hypotheses is a combination of rows above it."""
    for row in range(len(L)):
        if np.linalg.matrix_rank(L[: row + 1]) <= row:
            raise InputError(
                f"Row {row} of the hypotheses (terms_or_matrix) is zero or a combination of the "
                "rows above it: leave it out."
            )
