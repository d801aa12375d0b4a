"""Where statistics lie among those of bootstrap data sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixmeta_jax.tolerances import AS_LARGE


def tails(
    drawn: np.ndarray, observed: np.ndarray, conf_level: float
) -> tuple[np.ndarray, np.ndarray]:
    """p-values of statistics among their draws, and quantiles of these.

    Parameters
    ----------
    drawn
        Shape (n, ...); draws that are NaN do not count.
    observed
        Shape (...).
    """
    count = np.isfinite(drawn).sum(0)
    with np.errstate(invalid="ignore"):
        extreme = (drawn >= observed * (1 - AS_LARGE)).sum(0)
    return share_of(extreme, count), quantiles(drawn, conf_level)


def share_of(extreme: Any, count: Any) -> Any:
    """p-values: of so many draws, the data among them, those as extreme; NaN without a draw."""
    return np.where(np.equal(count, 0), np.nan, (extreme + 1) / (count + 1))[()]


def quantiles(drawn: np.ndarray, conf_level: float) -> np.ndarray:
    """Quantiles over the draws that are there: of n, the ⌈level·(n + 1)⌉-th, shape (...)."""
    count = np.isfinite(drawn).sum(0)
    ordered = np.sort(np.where(np.isfinite(drawn), drawn, np.inf), axis=0)
    rank = np.ceil(conf_level * (count + 1) - 1e-9).astype(int) - 1
    inside = rank < count
    picked = np.take_along_axis(ordered, np.minimum(rank, len(drawn) - 1)[None], 0)[0]
    return np.where(inside, picked, np.nan)
