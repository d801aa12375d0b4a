"""Ranges of exposures: by percentiles of what a location has had, or by numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.table.columns import is_label
from mixmeta_jax.two_stage.locations import (
    BY_LOCATION,
    arrays_by_location,
    looked_up,
    named,
    numbers_by_location,
    series_of,
)


def searched_ranges(
    within: Any, percentiles: Any, exposure: Any, basis: Any, labels: Sequence[Any]
) -> tuple[np.ndarray, list[np.ndarray] | None]:
    """The ranges in which minima are looked for, and the exposures where they are known.

    Parameters
    ----------
    within
        (low, high), or {location: (low, high)}; None for the percentiles of the exposures.
    percentiles
        Two numbers from 0 to 100.
    exposure, basis
        {location: exposures}; None for those of a first stage in the place of the basis.

    Returns
    -------
    ranges
        Shape (n, 2).
    exposures
        One array per location.

    Raises
    ------
    InputError
        Where there are neither a range nor exposures, and for a range without a width.
    """
    low, high = _percentiles(percentiles)
    held = series_of(exposure, basis, "exposure")
    series = None if held is None else arrays_by_location(held, labels, "exposure")
    if within is not None:
        ranges = _given(within, labels)
    elif series is None:
        raise InputError(
            "exposure is missing, from whose percentiles the range of a minimum is taken: give "
            "{location: exposures}, or within=(low, high)."
        )
    else:
        ranges = np.array([np.nanpercentile(x, [low, high]) for x in series])
    for (least, most), label in zip(ranges, labels, strict=True):
        if not least < most:
            source = "within" if within is not None else "exposure"
            raise InputError(
                f"{source} of {named(label)} has the range from {least:g} to {most:g}: a minimum "
                "needs one whose low end is below its high end."
            )
    return ranges, series


def _percentiles(percentiles: Any) -> tuple[float, float]:
    found = gates.numbers(percentiles, "percentiles", (2,))
    low, high = found.tolist()
    if not 0 <= low < high <= 100:
        raise InputError(
            f"percentiles are {low:g} and {high:g}: give two from 0 to 100, the lower one first."
        )
    return low, high


def _given(within: Any, labels: Sequence[Any]) -> np.ndarray:
    if not isinstance(within, BY_LOCATION):
        return np.tile(gates.numbers(within, "within", (2,)), (len(labels), 1))
    found = [(looked_up(within, label, "within"), label) for label in labels]
    return np.array([gates.numbers(own, f"within of {named(label)}", (2,)) for own, label in found])


def range_ends(
    ranges: Any, centres: np.ndarray, exposures: Sequence[np.ndarray], labels: Sequence[Any]
) -> tuple[list[str], np.ndarray]:
    """Names of ranges of exposures, and their ends in each location.

    Parameters
    ----------
    ranges
        {name: (low, high)}; see `attributable`.
    centres
        The reference of each location, shape (n,).
    exposures
        One array per location.

    Returns
    -------
    names
        R of them.
    ends
        Shape (n, R, 2), infinite where there is none.

    Raises
    ------
    InputError
        For an end that is none, and a range that ends before it begins, unless it is the reference
        that it begins or ends at.
    """
    wanted = "a mapping {name: (low, high)}"
    given = gates.mapping(ranges, "ranges", wanted)
    if not given:
        raise gates.refused("ranges", wanted, ranges)
    names, columns = [], []
    for name, pair in given.items():
        names.append(gates.text(name, "a name in ranges"))
        if not is_label(name):
            raise gates.refused("a name in ranges", "text that can be printed", name)
        what = f"the range {shown(repr(name), 40)} in ranges"
        if isinstance(pair, (str, *BY_LOCATION)) or len(gates.listed(pair, what)) != 2:
            raise gates.refused(what, "a pair (low, high)", pair)
        own = [
            _end(value, infinite, what, centres, exposures, labels)
            for value, infinite in zip(pair, (-np.inf, np.inf), strict=True)
        ]
        columns.append(np.stack(own, axis=1))
        if "reference" in [end for end in pair if isinstance(end, str)]:
            continue  # the reference may lie beyond the other end, where no day is in the range
        empty = ~(own[0] < own[1])
        if empty.any():
            i = int(np.argmax(empty))
            raise InputError(
                f"{what} goes from {own[0][i]:g} to {own[1][i]:g} in {named(labels[i])}: its low "
                "end must be below its high end."
            )
    return names, np.stack(columns, axis=1)


def _end(
    value: Any,
    infinite: float,
    what: str,
    centres: np.ndarray,
    exposures: Sequence[np.ndarray],
    labels: Sequence[Any],
) -> np.ndarray:
    """An end of a range in each location, shape (n,)."""
    if value is None:
        return np.full(len(labels), infinite)
    if isinstance(value, str):
        if value == "reference":
            return centres
        try:
            percent = float(value.removesuffix("%")) if value.endswith("%") else np.nan
        except ValueError:
            percent = np.nan
        if not 0 <= percent <= 100:
            raise gates.refused(
                f"an end of {what}", "a number, 'reference', a percentile as '2.5%' or None", value
            )
        return np.array([np.nanpercentile(x, percent) for x in exposures])
    return numbers_by_location(value, labels, f"an end of {what}")
