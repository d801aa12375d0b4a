"""Labels of days, as years and seasons, by which numbers are summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.table.columns import is_label
from mixmeta_jax.two_stage.locations import looked_up, named

WANTED_PERIOD = "the labels of the days, as years, or a mapping {location: labels}"


def periods_of(
    period: Any, lengths: Sequence[int], labels: Sequence[Any]
) -> tuple[list[Any], list[np.ndarray]]:
    """The periods, and which of them each day of each location belongs to.

    Parameters
    ----------
    period
        Labels of the days, of all locations or {location: labels}; None or NaN for a day that
        belongs to no period.
    lengths
        Days of each location.

    Returns
    -------
    periods
        P labels: numbers in order, others as they first appear.
    members
        For each location an array of truths, shape (T, P).

    Raises
    ------
    InputError
        For labels that are none, and others than one per day.
    """
    by_location = isinstance(period, Mapping) or callable(period)
    codes: dict[Any, int] = {}
    found: list[np.ndarray] = []
    for label, days in zip(labels, lengths, strict=True):
        what = f"period of {named(label)}"
        if by_location or not found:
            given = looked_up(period, label, "period") if by_location else period
            own = _listed(given, what if by_location else "period")
            places = np.array([codes.setdefault(one, len(codes)) for one in own], int)
        if len(places) != days:
            raise InputError(
                f"{what} has {len(places)} labels, but its series has {days} days: give a label of "
                "each."
            )
        found.append(places)
    codes.pop(None, None)
    periods = list(codes)
    if not periods:
        raise InputError("period has no label of any day: they are all missing.")
    if all(isinstance(one, Real) for one in periods):
        periods.sort()
    order = np.array([codes[one] for one in periods])
    return periods, [places[:, None] == order for places in found]


def _listed(values: Any, what: str) -> list[Any]:
    """One label per day, None where it is missing."""
    if isinstance(values, (np.ndarray, pd.Series, pd.Index)):
        values = values.tolist() if values.ndim == 1 else None
    own = gates.listed(values, what, WANTED_PERIOD)
    for one in own:
        if one is not None and not is_label(one):
            raise gates.refused(what, WANTED_PERIOD, one)
    return [None if not isinstance(one, tuple) and pd.isna(one) else one for one in own]
