"""What the exposures of one location do to its outcomes, whatever the coefficients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.errors import InputError
from mixmeta_jax.two_stage.attribution import (
    attributed,
    following_means,
    histories,
    merged_days,
)
from mixmeta_jax.two_stage.locations import BasisFunction, columns_at, named


@dataclass(frozen=True)
class Impact:
    """The days of one location.

    Attributes
    ----------
    parts
        Columns of the basis less the reference's, shape (T, k), and weights, shape (T, r), of some
        of the R ranges at a time, in order.
    outcomes, days
        Outcomes of the days that are summed, and their number.
    label, centre
        Whose they are, and the reference.
    """

    parts: tuple[tuple[np.ndarray, np.ndarray], ...]
    outcomes: float
    days: int
    label: Any
    centre: float

    def numbers(self, b: np.ndarray) -> np.ndarray:
        """Attributable numbers of coefficients (S, k) by range, shape (S, R).

        Raises
        ------
        InputError
            Where they are beyond the numbers of double precision.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            found = np.concatenate([attributed(*part, b) for part in self.parts], axis=1)
        if not np.isfinite(found).all():
            raise InputError(
                f"What is attributable in {named(self.label)} is not finite: its basis gives log "
                f"risks below -700 against reference, the exposure {self.centre:g}."
            )
        return found


def impact_of(
    basis: BasisFunction,
    centre: float,
    ends: np.ndarray,
    exposure: np.ndarray,
    outcome: np.ndarray,
    lags: tuple[int, int],
    direction: str,
    label: Any,
    k: int,
) -> Impact:
    """The days of one location, ready for any coefficients.

    Parameters
    ----------
    basis, centre, ends
        A function, the reference, and the ranges, shape (R, 2).
    exposure, outcome
        Shape (T,), NaN where missing.
    lags
        First and last.
    direction
        "forward" or "backward".
    label, k
        Whose they are, and the number of coefficients.

    Raises
    ------
    InputError
        Where no day has its exposures and outcomes.
    """

    def columns(x: np.ndarray) -> np.ndarray:
        at = np.full((1, *x.shape[1:]), centre)
        return columns_at(basis, x, k, label) - columns_at(basis, at, k, label)

    make: Callable = _forward if direction == "forward" or lags[1] == 0 else _backward
    parts, counted = make(columns, centre, ends, exposure, outcome, lags)
    if not len(counted):
        first, last = lags
        raise InputError(
            f"exposure and outcome of {named(label)} have no day with both in {len(exposure)} "
            f"days, lags {first} to {last} included."
        )
    return Impact(tuple(parts), float(counted.sum()), len(counted), label, centre)


def _forward(
    columns: Callable,
    centre: float,
    ends: np.ndarray,
    exposure: np.ndarray,
    outcome: np.ndarray,
    lags: tuple[int, int],
) -> tuple[list, np.ndarray]:
    y = following_means(outcome, *lags)
    used = np.isfinite(exposure) & np.isfinite(y)
    x, y = exposure[used], y[used]
    if not len(y):
        return [], y
    different, weights = merged_days(x, y[:, None] * _inside(x, ends))
    return [(columns(different), weights)], y


def _backward(
    columns: Callable,
    centre: float,
    ends: np.ndarray,
    exposure: np.ndarray,
    outcome: np.ndarray,
    lags: tuple[int, int],
) -> tuple[list, np.ndarray]:
    """The same of the exposures before a day: those outside a range are at the reference."""
    past = histories(exposure, *lags)
    used = np.isfinite(past).all(1) & np.isfinite(outcome)
    past, y = past[used], outcome[used]
    if not len(y):
        return [], y
    inside = _inside(past, ends)
    within = [np.where(inside[..., r], past, centre) for r in range(len(ends))]
    return [(columns(own), y[:, None]) for own in within], y


def _inside(x: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether exposures lie in each range, the upper end not in it, shape (..., R)."""
    return (x[..., None] >= ends[:, 0]) & (x[..., None] < ends[:, 1])
