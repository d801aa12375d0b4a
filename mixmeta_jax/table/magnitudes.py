"""Magnitudes beyond double precision, in words: why a likelihood is not finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixmeta_jax.errors import shown
from mixmeta_jax.tolerances import SQUARE_OVERFLOWS, SQUARE_UNDERFLOWS

OTHERWISE = "an error covariance is close to singular, or the scales of the data differ too much"


def beyond_precision(
    y: np.ndarray,
    X: np.ndarray,
    variances: np.ndarray,
    outcomes: Sequence[str],
    predictors: Sequence[str],
) -> str:
    """What makes a likelihood overflow or underflow, with the way on.

    Parameters
    ----------
    y, X
        Outcomes, shape (n, k), NaN where missing, and predictors, shape (n, p).
    variances
        Error variances of the observed outcomes, in any shape.
    outcomes, predictors
        Their names.
    """
    found = [
        (f"the {what} '{shown(name, 40)}'", _largest(column), SQUARE_OVERFLOWS)
        for what, names, columns in (("outcome", outcomes, y), ("predictor", predictors, X))
        for name, column in zip(names, columns.T, strict=True)
    ]
    for what, size, bound in [*found, ("S", _largest(variances), SQUARE_OVERFLOWS)]:
        if size > bound:
            return (
                f"The likelihood is not finite: {what} reaches {size:.3g}, of which the square is "
                "beyond double precision; give it in a larger unit (for an outcome, S in its "
                "square)."
            )
    positive = variances[variances > 0]
    if positive.size and positive.min() < SQUARE_UNDERFLOWS:
        return (
            f"The likelihood is not finite: S falls to {positive.min():.3g}, of which the square "
            "is beyond double precision; give the outcome in a smaller unit and S in its square, "
            "or 0 where there is no error."
        )
    return f"The likelihood is not finite: {OTHERWISE}; check S and rescale the outcomes."


def _largest(values: np.ndarray) -> float:
    return float(np.nanmax(np.abs(values), initial=0.0))
