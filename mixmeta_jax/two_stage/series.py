"""The series of each location, read from the rows of one frame and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.memory import refuse_size
from mixmeta_jax.table.columns import (
    label_codes,
    missing_rows,
    numeric,
    refuse_twice_named,
    row_label,
)
from mixmeta_jax.two_stage.families import OF_COUNTS, OF_PARTS

LONGEST_GAP = 1_000
"""Steps of time per row, on average, beyond which a series is no series."""


@dataclass(frozen=True)
class Series:
    """One location.

    Attributes
    ----------
    label
        Of the location.
    rows
        Its rows in the frame, in order, shape (n,).
    places
        Their places in the series, shape (n,); those between are days without a row.
    exposure, outcome
        The series, shape (last place + 1,), NaN where there is no row or no value.
    y, weights, offset, trials
        What the regression reads of the rows, shape (n,): the outcomes, parts of the trials where
        there are trials; prior weights times trials; offsets; and trials, or 1. NaN where missing.
    """

    label: Any
    rows: np.ndarray
    places: np.ndarray
    exposure: np.ndarray
    outcome: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    trials: np.ndarray


def read_series(table: pd.DataFrame, roles: Mapping[str, Any], family: str) -> Iterator[Series]:
    """The locations in order of their first rows.

    Parameters
    ----------
    table
        The frame.
    roles
        Names of the columns ``by``, ``outcome``, ``exposure``, and of ``offset``, ``weights``,
        ``trials`` and ``time``, None for those that are not given.
    family
        A name of `families.FAMILIES`.

    Raises
    ------
    InputError
        For columns that are not there or hold no numbers, counts that are impossible, and times
        that do not ascend; the sentence names row and location.
    """
    needed = ("by", "outcome", "exposure")
    named = {role: name for role, name in roles.items() if name is not None or role in needed}
    for role, name in named.items():
        gates.column(name, table, role)
    refuse_twice_named(named)
    codes, labels = label_codes(table, named["by"])
    if (codes < 0).any():
        row = row_label(table.index, int(np.argmax(codes < 0)))
        raise InputError(f"Row {row!r} has no value in column '{shown(named['by'])}', of by.")
    values: dict[str, np.ndarray] = {
        role: numeric(table[named[role]], f"column '{shown(named[role])}' ({role})", truths=False)
        for role in ("outcome", "exposure", "offset", "weights", "trials")
        if role in named
    }
    place = _RowNames(table.index, codes, labels)
    _refuse_impossible(values, named, family, place)
    outcome, n = values["outcome"], len(table)
    weights = values.get("weights", np.ones(n))
    trials = values.get("trials", np.ones(n))
    y = outcome
    if "trials" in values:
        y, weights = outcome / trials, weights * trials
    offset = values.get("offset", np.zeros(n))
    times = None if "time" not in named else _steps(table[named["time"]], named["time"], place)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(labels) + 1))
    for i, label in enumerate(labels):
        rows = order[bounds[i] : bounds[i + 1]]
        places = np.arange(len(rows)) if times is None else times[rows] - times[rows[0]]
        yield Series(
            label,
            rows,
            places,
            _spread(values["exposure"][rows], places),
            _spread(outcome[rows], places),
            y[rows],
            weights[rows],
            offset[rows],
            trials[rows],
        )


@dataclass(frozen=True)
class _RowNames:
    """What sentences call a row."""

    index: pd.Index
    codes: np.ndarray
    labels: list

    def of(self, row: int) -> str:
        label = self.labels[self.codes[row]]
        return f"row {row_label(self.index, row)!r}, of location {shown(repr(label), 40)}"


def _spread(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values at their places, NaN between."""
    if places[-1] == len(places) - 1:
        return values
    series = np.full(places[-1] + 1, np.nan)
    series[places] = values
    return series


def _refuse_impossible(
    values: Mapping[str, np.ndarray], named: Mapping[str, str], family: str, place: _RowNames
) -> None:
    """Raise for the first value that its role cannot have."""
    y = values["outcome"]
    trials = values.get("trials")
    faults: list[tuple[str, np.ndarray, str]] = []
    if trials is not None:
        if family not in OF_PARTS:
            raise InputError(
                f"trials is for the families {' and '.join(OF_PARTS)}, not for {family}: give an "
                "offset of the logarithms of the people instead."
            )
        faults.append(("trials", (trials < 1) | (trials % 1 != 0), "a whole number from 1 on"))
    if family in OF_COUNTS or trials is not None:
        faults.append(("outcome", y < 0, "a count, which is not negative"))
        faults.append(("outcome", y % 1 != 0, "a count, which is a whole number"))
    if trials is not None:
        faults.append(("outcome", y > trials, "at most the number of trials"))
    elif family in OF_PARTS:
        faults.append(("outcome", (y != 0) & (y != 1), "0 or 1 where no trials are given"))
    if "weights" in values:
        faults.append(("weights", values["weights"] <= 0, "above 0"))
    for role, fault, wanted in faults:
        fault = fault & ~np.isnan(values[role])
        if role == "outcome" and trials is not None:
            fault &= ~np.isnan(trials)
        if fault.any():
            row = int(np.argmax(fault))
            raise InputError(
                f"The {role} '{shown(named[role])}' is {values[role][row]:.10g} in "
                f"{place.of(row)}: it must be {wanted} (family='{family}')."
            )


def _steps(column: pd.Series, name: str, place: _RowNames) -> np.ndarray:
    """Whole numbers that count the steps of time, shape (n,), ascending within each location."""
    missing = missing_rows(column.to_frame(name), [name])
    if missing.any():
        row = int(np.argmax(missing))
        raise InputError(f"The time '{shown(name)}' is missing in {place.of(row)}.")
    if isinstance(column.dtype, pd.PeriodDtype):
        numbers = column.astype("int64").to_numpy()
    elif column.dtype.kind == "M":
        days = pd.DatetimeIndex(column).tz_localize(None).to_numpy("M8[ns]").astype(np.int64)
        numbers = days
    elif pd.api.types.infer_dtype(column) in ("string", "date", "datetime"):
        raise InputError(
            f"The time '{shown(name)}' holds {shown(repr(column.iloc[0]), 40)} in {place.of(0)}: "
            "make it a column of dates, as pandas.to_datetime does, or of whole numbers."
        )
    else:
        found = numeric(column, f"column '{shown(name)}' (time)", truths=False)
        whole = (found % 1 == 0) & (np.abs(found) < 2**53)
        if not whole.all():
            row = int(np.argmin(whole))
            raise InputError(
                f"The time '{shown(name)}' is {found[row]:.10g} in {place.of(row)}: it must be "
                "dates or whole numbers, of which successive days differ by one step."
            )
        numbers = found.astype(np.int64)
    order = np.argsort(place.codes, kind="stable")
    ahead = np.diff(numbers[order])
    same = np.diff(place.codes[order]) == 0
    if (ahead[same] <= 0).any():
        row = int(order[1:][same & (ahead <= 0)][0])
        raise InputError(
            f"The time '{shown(name)}' does not ascend in {place.of(row)}: it has the time of the "
            "row before it, or an earlier one; sort the data, and keep one row for each time."
        )
    step = int(ahead[same].min()) if same.any() else 1
    odd = same & (ahead % step != 0)
    if odd.any():
        row = int(order[1:][odd][0])
        raise InputError(
            f"The time '{shown(name)}' of {place.of(row)}, is no whole number of steps after the "
            "one before it, where a step is the smallest difference in the data."
        )
    steps = numbers // step
    length = int((ahead[same] // step).sum()) + len(place.labels)
    if length > LONGEST_GAP * len(numbers):
        raise InputError(
            f"The time '{shown(name)}' has {length:,} steps for {len(numbers):,} rows: a step is "
            "the smallest difference between successive rows, here far too small."
        )
    refuse_size(length, f"time='{shown(name)}'")
    # Differences within a location are whole steps; what is left of the division is the same.
    return steps
