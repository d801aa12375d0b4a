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
        Columns of the basis less the reference's, shape (T, k), and weights of the R ranges in each
        of the P periods, shape (T, P R); what they give is summed.
    outcomes, days
        Outcomes of the days that are summed, and their number, by period, shape (P,).
    label, centre
        Whose they are, and the reference.
    """

    parts: tuple[tuple[np.ndarray, np.ndarray], ...]
    outcomes: np.ndarray
    days: np.ndarray
    label: Any
    centre: float

    def numbers(self, b: np.ndarray) -> np.ndarray:
        """Attributable numbers of coefficients (S, k) by period and range, shape (S, P R).

        Raises
        ------
        InputError
            Where they are beyond the numbers of double precision.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            found = sum(attributed(*part, b) for part in self.parts)
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
    members: np.ndarray,
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
    members
        Whether the days belong to each period, shape (T, P).
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
    parts, counted, used = make(columns, centre, ends, exposure, outcome, members, lags)
    if not used.any():
        first, last = lags
        raise InputError(
            f"exposure and outcome of {named(label)} have no day with both in {len(exposure)} "
            f"days, lags {first} to {last} included."
        )
    return Impact(tuple(parts), counted.sum(0), members[used].sum(0), label, centre)


def _forward(
    columns: Callable,
    centre: float,
    ends: np.ndarray,
    exposure: np.ndarray,
    outcome: np.ndarray,
    members: np.ndarray,
    lags: tuple[int, int],
) -> tuple[list, np.ndarray, np.ndarray]:
    """Parts, the outcomes by period, shape (T, P), and which days are used."""
    y = following_means(outcome, *lags)
    used = np.isfinite(exposure) & np.isfinite(y)
    x, counted = exposure[used], y[used][:, None] * members[used]
    if not used.any():
        return [], counted, used
    each = counted[:, :, None] * _inside(x, ends)[:, None, :]
    different, weights = merged_days(x, each.reshape(len(x), -1))
    return [(columns(different), weights)], counted, used


def _backward(
    columns: Callable,
    centre: float,
    ends: np.ndarray,
    exposure: np.ndarray,
    outcome: np.ndarray,
    members: np.ndarray,
    lags: tuple[int, int],
) -> tuple[list, np.ndarray, np.ndarray]:
    """The same of the exposures before a day: those outside a range are at the reference."""
    past = histories(exposure, *lags)
    used = np.isfinite(past).all(1) & np.isfinite(outcome)
    past, counted = past[used], outcome[used][:, None] * members[used]
    inside = _inside(past, ends)
    parts = []
    for r in range(len(ends) if used.any() else 0):
        here = counted[:, :, None] * (np.arange(len(ends)) == r)
        at = np.where(inside[..., r], past, centre)
        parts.append((columns(at), here.reshape(len(past), -1)))
    return parts, counted, used


def _inside(x: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether exposures lie in each range, the upper end not in it, shape (..., R)."""
    return (x[..., None] >= ends[:, 0]) & (x[..., None] < ends[:, 1])
