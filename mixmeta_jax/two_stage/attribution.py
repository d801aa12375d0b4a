"""Outcomes attributable to exposures: sums of 1 − exp(−f) over days.

With f(x) the log risk of an exposure against the reference, summed over lags 0…L, and n_t the
outcomes of day t (Gasparrini & Leone 2014, BMC Medical Research Methodology 14:55):

    forward    Σ_t (1 − exp(−f(x_t))) Σ_l n_{t+l} / (L + 1)    what the exposure of a day causes
    backward   Σ_t (1 − exp(−Σ_l f_l(x_{t−l}))) n_t            what outcomes of a day are due to

of which the first needs the overall curve alone. Fractions are numbers over the outcomes of the
days that are summed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace

PIECE_OF_DAYS = 2**21
"""Days times draws that are held at once: 16 MB."""


def attributed(columns: Array, weights: Array, b: Array) -> Array:
    """Attributable numbers of S vectors of coefficients, shape (S, R).

    Parameters
    ----------
    columns
        The basis on T days, less that of the reference, shape (T, k).
    weights
        Outcomes of the days in each of R ranges, shape (T, R).
    b
        Shape (S, k).
    """
    xp = namespace(columns, weights, b)
    step = len(columns) if xp is not np else max(1, PIECE_OF_DAYS // len(b))
    total: Any = 0.0
    for first in range(0, len(columns), step):
        piece = slice(first, first + step)
        total = total - xp.expm1(-(b @ columns[piece].T)) @ weights[piece]
    return total


def following_means(outcome: Array, first: int, last: int) -> Array:
    """Mean of the outcomes from ``first`` to ``last`` days later, NaN where not all are there.

    Parameters
    ----------
    outcome
        Shape (T,), day after day.
    """
    xp = namespace(outcome)
    days = max(len(outcome) - last, 0)
    total = sum(outcome[lag : lag + days] for lag in range(first, last + 1)) / (last - first + 1)
    return xp.concatenate([total, xp.full(len(outcome) - days, xp.nan)])


def histories(exposure: Array, first: int, last: int) -> Array:
    """Exposures from ``first`` to ``last`` days before each day, shape (T, last − first + 1).

    NaN before the first day.
    """
    xp = namespace(exposure)
    earlier = xp.concatenate([xp.full(last, xp.nan), exposure])
    T = len(exposure)
    return xp.stack([earlier[last - lag : last - lag + T] for lag in range(first, last + 1)], 1)


def merged_days(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days of one exposure as one: the different exposures, and the sums of their weights."""
    different, which = np.unique(x, return_inverse=True)
    sums = [np.bincount(which.ravel(), own, len(different)) for own in weights.T]
    return different, np.stack(sums, axis=1)
