"""Attributable numbers and fractions of locations, regions and in all, with joint intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import Direction, ErrorMethod
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fit import Fit
from mixmeta_jax.fits.fitted_model import checked_fit
from mixmeta_jax.inference.wald import check_conf_level
from mixmeta_jax.table.columns import is_label
from mixmeta_jax.two_stage.first_stage_result import FirstStage
from mixmeta_jax.two_stage.impact import impact_of
from mixmeta_jax.two_stage.locations import (
    BY_LOCATION,
    arrays_by_location,
    bases_of,
    lag_days,
    looked_up,
    named,
    numbers_by_location,
    series_of,
)
from mixmeta_jax.two_stage.minimum import minima_of
from mixmeta_jax.two_stage.origin import refuse_other_stage
from mixmeta_jax.two_stage.periods import periods_of
from mixmeta_jax.two_stage.predicted import check_simulation, location_coefficients
from mixmeta_jax.two_stage.ranges import range_ends, searched_ranges

EVERYTHING = {"all": (None, None)}
"""The range of all exposures, where no others are asked for."""

LOCATION, TOTAL = "location", "total"
"""What the rows of a location are called, and those of all together."""

ATTRIBUTED_COLUMNS = [
    *("number", "se", "lower", "upper"),
    *("fraction", "fraction_lower", "fraction_upper"),
    *("outcomes", "days"),
]


def attributable(
    fit: Fit,
    basis: Any,
    exposure: Any = None,
    outcome: Any = None,
    reference: Any = "minimum",
    ranges: Mapping[str, Any] | None = None,
    by: Any = None,
    direction: Direction = "forward",
    lag: Any = None,
    within: Any = None,
    percentiles: Any = (1.0, 99.0),
    level: int | str | None = None,
    n: int = 1000,
    seed: int = 0,
    conf_level: float = 0.95,
    se_method: ErrorMethod = "exact",
    period: Any = None,
) -> pd.DataFrame:
    """Outcomes that are attributable to an exposure: numbers, and fractions of all outcomes.

    Parameters
    ----------
    fit
        From `pool`, of log risks: the coefficients of log-linear first stages, or of logistic ones
        where outcomes are rare, so that odds ratios are about risk ratios.
    basis
        As in `curves`. For ``direction="backward"`` with lags a basis of histories: a function that
        makes (m, k) columns of exposures (m, L + 1), the one l days before in column l.
    exposure, outcome
        {location: numbers}, day after day and equally long, NaN where missing; default those of a
        first stage in the place of ``basis``.
    reference
        The exposure that the others are compared with: "minimum" for that of minimum risk of each
        location (`minimum_risk`), a number, or {location: number}.
    ranges
        {name: (low, high)}: numbers for the days with low <= exposure < high. An end is a number,
        {location: number}, "reference", a percentile of the location's exposures as "2.5%", or None
        for no end. Default all exposures. Where the reference lies beyond the other end, no day of
        the location is in the range, and its number is 0.
    by
        Regions: a column of the data of ``fit``, or {location: region}.
    direction
        "forward": what the exposures of the days cause, on them and the days after; "backward":
        what the outcomes of the days are due to, on them and the days before.
    lag
        L, or (first, last): the days over which the risk goes on. Default that of a first stage, or
        0.
    within, percentiles
        The range in which the minimum is looked for, as in `minimum_risk`.
    level
        As in `Fit.blup`.
    n, seed
        Draws from the joint distribution of the coefficients of all locations, and their seed.
    conf_level
        Level of the intervals.
    se_method
        As in `Fit.blup`, but by default "exact".
    period
        Labels of the days, as their years or seasons: a list of all locations, or {location: list},
        as long as the exposures; None or NaN for a day that belongs to no period. The numbers are
        those of the days with each label, forward days of exposure, backward days of outcome.
        Default all days together.

    Returns
    -------
    DataFrame
        ``number``, with the standard deviation ``se`` and the quantiles ``lower, upper`` of its
        draws, ``fraction, fraction_lower, fraction_upper``, ``outcomes``, of which it is a
        fraction, and ``days``, which are summed. The index is ("location", location, range), (the
        name of ``by`` or "region", region, range) and ("total", "total", range); with ``period`` it
        stands before the range. The draws of all periods are the same, and their numbers add up.

    Raises
    ------
    InputError
        For a location without a basis, exposures, outcomes or a region; series of different
        lengths, without a complete day, or with negative outcomes; ranges that are none; labels
        of periods of another number than days; regions that are called "location" or "total"; a
        first stage of the family "gaussian", or other than the one that was pooled.

    Notes
    -----
    Forward, as Gasparrini & Leone 2014 (BMC Medical Research Methodology 14:55) define it, the
    excess of a day is that of the overall curve, of the mean of the outcomes over its lags; the
    last L days, whose outcomes are not all there, are not among ``days`` and ``outcomes``. The
    reference is held at the estimate. Locations share the pooled coefficients: their draws go
    together, so that intervals of regions and of the total are right where those from independent
    locations are not.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> first = {"Rome": ([0.02], [[1e-5]]), "Oslo": ([0.03], [[1e-5]]), "Bonn": ([0.01], [[1e-5]])}
    >>> fit = mx.pool(first)
    >>> days = {"Rome": [1, 2, 3], "Oslo": [0, 1, 2], "Bonn": [2, 2, 2]}
    >>> cases = {"Rome": [10, 12, 9], "Oslo": [3, 2, 4], "Bonn": [7, 8, 9]}
    >>> table = mx.attributable(fit, lambda x: x[:, None], days, cases, reference=0)
    >>> table.loc["total", "number"].round(2).tolist(), int(table.loc["total", "outcomes"].iloc[0])
    ([2.0], 64)
    """
    conf_level = check_conf_level(conf_level)
    checked_fit(fit)
    given = {"basis": basis, "exposure": exposure, "outcome": outcome, "reference": reference}
    gates.refuse_traced(given | {"ranges": ranges, "within": within}, "attributable")
    gates.choice(direction, "direction", Direction)
    refuse_other_stage(fit, basis)
    lags = _lags(lag, basis, direction)
    count = check_simulation(n, seed, fit.frame.k)
    found = location_coefficients(fit, level, se_method)
    labels = found.labels
    bases = bases_of(basis, labels)
    days = _days(exposure, outcome, basis, labels)
    if isinstance(reference, str):
        gates.choice(reference, "reference", ("minimum",))
        if direction == "backward" and lags[1]:
            raise InputError(
                "reference is 'minimum', but a basis of histories has no curve over exposures: "
                "give numbers, as those of minimum_risk."
            )
        series = dict(zip(labels, (x for x, _ in days), strict=True))
        searched, _ = searched_ranges(within, percentiles, series, None, labels)
        centres = minima_of(found, bases, searched)
    else:
        centres = numbers_by_location(reference, labels, "reference")
    names, ends = range_ends(
        EVERYTHING if ranges is None else ranges, centres, [x for x, _ in days], labels
    )
    name, regions, of = _regions(by, fit, labels)
    lengths = [len(x) for x, _ in days]
    periods, members = [None], [np.ones((T, 1), bool) for T in lengths]
    if period is not None:
        periods, members = periods_of(period, lengths, labels)
    sums = [Sum.of_none(count, len(names) * len(periods)) for _ in range(len(regions) + 1)]
    rows: list[Any] = [None] * found.n
    for i, drawn in found.drawn(count, seed):
        impact = impact_of(
            bases[i],
            float(centres[i]),
            ends[i],
            *days[i],
            members[i],
            lags,
            direction,
            labels[i],
            found.k,
        )
        own = Sum(
            impact.numbers(found.b[[i]])[0], impact.numbers(drawn), impact.outcomes, impact.days
        )
        rows[i] = own.table(conf_level)
        for group in {of[i], len(regions)}:
            sums[group] = sums[group].plus(own)
    rows += [group.table(conf_level) for group in sums]
    keys = [*((LOCATION, label) for label in labels), *((name, own) for own in regions)]
    parts: dict[str, list] = (
        {"range": names} if period is None else {"period": periods, "range": names}
    )
    return pd.DataFrame(
        np.concatenate(rows), columns=ATTRIBUTED_COLUMNS, index=_index([*keys, (TOTAL,) * 2], parts)
    ).astype({"days": int})


def _index(keys: list[tuple[str, Any]], parts: Mapping[str, list]) -> pd.MultiIndex:
    """Of what, which one, and which part; the levels in order, so that pandas finds them fast."""
    levels = [list(dict.fromkeys(own)) for own in zip(*keys, strict=True)]
    places = [{own: place for place, own in enumerate(level)} for level in levels]
    codes = np.array([[place[own] for own, place in zip(key, places, strict=True)] for key in keys])
    inner = np.indices([len(own) for own in parts.values()]).reshape(len(parts), -1)
    every = [*np.repeat(codes, inner.shape[1], axis=0).T, *np.tile(inner, len(keys))]
    made = [pd.Index(level, tupleize_cols=False) for level in (*levels, *parts.values())]
    return pd.MultiIndex(made, every, names=["of", "label", *parts])


@dataclass(frozen=True)
class Sum:
    """Attributable numbers of one location, or of several together.

    Attributes
    ----------
    number, drawn
        By P periods and R ranges, shape (P R,), and of S draws, shape (S, P R).
    outcomes, days
        Of which they are a part, and over how many days, shape (P,).
    """

    number: np.ndarray
    drawn: np.ndarray
    outcomes: np.ndarray
    days: np.ndarray

    @classmethod
    def of_none(cls, count: int, parts: int) -> Sum:
        """That of no location."""
        return cls(np.zeros(parts), np.zeros((count, parts)), np.zeros(1), np.zeros(1))

    def plus(self, other: Sum) -> Sum:
        """That of both: draws are added draw by draw, since they are joint."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Sum(*(one + own for one, own in pairs))

    def table(self, conf_level: float) -> np.ndarray:
        """The rows of the periods and ranges, shape (P R, 9)."""
        tails = 100 * (0.5 + np.array([-0.5, 0.5]) * conf_level)
        lower, upper = np.percentile(self.drawn, tails, axis=0)
        ranges = len(self.number) // len(self.outcomes)
        more = [np.repeat(own, ranges) for own in (self.outcomes, self.days)]
        columns = [self.number, self.drawn.std(0, ddof=1), lower, upper]
        with np.errstate(divide="ignore", invalid="ignore"):  # of locations without outcomes
            columns += [own / more[0] for own in (self.number, lower, upper)]
        return np.stack([*columns, *more], axis=1)


def _lags(lag: Any, basis: Any, direction: str) -> tuple[int, int]:
    """First and last day over which the risk goes on."""
    staged = isinstance(basis, FirstStage)
    if lag is None:
        lag = basis.lags if staged else 0
    first, last = lag_days(lag)
    if staged and basis.family == "gaussian":
        raise InputError(
            "basis is a first stage of the family 'gaussian', whose coefficients are differences "
            "of means, not log risks: what is attributable needs counts, or parts of trials."
        )
    if staged and basis.reduction != "overall":
        raise InputError(
            f"basis, a first stage, is reduced to {basis.reduction}, and what is attributable goes "
            "over all lags: give the first stage itself, and the fit of its coefficients."
        )
    if direction == "backward" and last and staged:
        raise InputError(
            "direction='backward' needs the coefficients of every lag, and a first stage has "
            "reduced them: give a basis of histories, of a fit of its full coefficients."
        )
    return first, last


def _days(
    exposure: Any, outcome: Any, basis: Any, labels: Sequence[Any]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Exposures and outcomes of each location, day after day.

    Raises
    ------
    InputError
        Where there are none, their lengths differ, or outcomes are negative.
    """
    series = []
    for what, values in (("exposure", exposure), ("outcome", outcome)):
        held = series_of(values, basis, what)
        if held is None:
            raise InputError(
                f"{what} is missing: give {{location: numbers}}, or a first stage, which holds "
                "them, as basis."
            )
        series.append(arrays_by_location(held, labels, what))
    for x, y, label in zip(*series, labels, strict=True):
        if len(x) != len(y):
            raise InputError(
                f"exposure and outcome of {named(label)} have {len(x)} and {len(y)} days: they "
                "must be of the same days."
            )
        if (y < 0).any():
            day = int(np.argmax(y < 0))
            raise InputError(f"outcome of {named(label)} is negative ({y[day]:g}) on day {day}.")
    return list(zip(*series, strict=True))


def _regions(by: Any, fit: Fit, labels: Sequence[Any]) -> tuple[str, list[Any], Sequence[int]]:
    """What regions are called, the regions, and the number of that of each location.

    Without regions the number is that of the total, behind all regions.
    """
    if by is None:
        return "region", [], [0] * len(labels)
    if isinstance(by, str):
        own, name = fit.columns_at_units([by], "by")[by].tolist(), by
    elif isinstance(by, BY_LOCATION):
        own = [looked_up(by, label, "by") for label in labels]
        called = getattr(by, "name", None)
        name = called if isinstance(called, str) else "region"
    else:
        raise gates.refused("by", "a column of the data, or a mapping {location: region}", by)
    if name in (LOCATION, TOTAL):
        raise InputError(
            f"by is called '{name}', as the rows of each location or of the total are: give it "
            "another name."
        )
    for region, label in zip(own, labels, strict=True):
        if not is_label(region) or (not isinstance(region, tuple) and pd.isna(region)):
            raise gates.refused(f"by of {named(label)}", "the name of a region", region)
    regions = list(dict.fromkeys(own))
    places = {region: place for place, region in enumerate(regions)}
    return name, regions, [places[region] for region in own]
