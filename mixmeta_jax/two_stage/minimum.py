"""Exposures of minimum risk of the locations, and of the pooled curve, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import ErrorMethod
from mixmeta_jax.fits.fit import Fit
from mixmeta_jax.fits.fitted_model import checked_fit
from mixmeta_jax.inference.wald import check_conf_level, normal_quantile
from mixmeta_jax.tolerances import DIFFERENCE, KINK, NEAR_KINK
from mixmeta_jax.two_stage.locations import (
    POOLED,
    BasisFunction,
    bases_of,
    columns_at,
    pooled_basis,
    shared_basis,
)
from mixmeta_jax.two_stage.lowest import (
    INTERIOR,
    LOWER_END,
    PLACES,
    UPPER_END,
    differences,
    grid,
    lowest,
)
from mixmeta_jax.two_stage.origin import refuse_other_stage
from mixmeta_jax.two_stage.predicted import (
    LocationCoefficients,
    check_simulation,
    location_coefficients,
)
from mixmeta_jax.two_stage.ranges import searched_ranges

KINKED = len(PLACES)
PLACE_WORDS = (*PLACES, "kink")
"""Where a minimum is; a kink is told here alone, by differences."""

MINIMUM_COLUMNS = ["exposure", "percentile", "lower", "upper", "se", "delta_lower", "delta_upper"]


def minimum_risk(
    fit: Fit,
    basis: Any,
    exposure: Any = None,
    within: Any = None,
    percentiles: Any = (1.0, 99.0),
    pooled: Any = None,
    level: int | str | None = None,
    n: int = 1000,
    seed: int = 0,
    conf_level: float = 0.95,
    se_method: ErrorMethod = "exact",
) -> pd.DataFrame:
    """Exposures of minimum risk: where the curves of the locations are lowest.

    Parameters
    ----------
    fit
        From `pool`.
    basis
        As in `curves`: a function, a mapping {location: function}, or a first stage.
    exposure
        {location: exposures}, a series with such entries or a function of the location; default
        those of a first stage in the place of ``basis``.
    within
        (low, high), or {location: (low, high)}, in which the minimum is looked for.
    percentiles
        Where ``within`` is not given, the ends of the range as percentiles of the location's
        exposures. The range of the pooled curve is the mean of the locations' ranges.
    pooled
        The basis of the pooled curve, as in `curves`; default the one that all locations share.
        Where they have bases of their own there is no pooled curve without it: "average" has the
        means of their knots.
    level
        As in `Fit.blup`.
    n, seed
        Draws of the coefficients, and their seed. Those of all locations are drawn together.
    conf_level
        Level of the intervals.
    se_method
        As in `Fit.blup`, but by default "exact".

    Returns
    -------
    DataFrame
        One row per location, and "pooled" for the curve at the mean of the locations' predictors:
        ``exposure``; ``percentile``, the share of the location's exposures up to it (pooled: the
        mean of the shares); ``lower, upper``, quantiles of the minima of the drawn curves; ``se,
        delta_lower, delta_upper`` by the delta method, NaN where the curve has no slope to pass
        through zero; ``place``, "interior", "lower end", "upper end", "flat" (over more than a
        point, of which the first is given) or "kink"; ``at_ends``, the share of the draws whose
        minimum is an end of the range, so that the interval is cut there.

    Raises
    ------
    InputError
        For a location without basis or exposures, or a range without a width; for a first stage
        other than the one that was pooled.

    Notes
    -----
    A curve is compared at 401 exposures, and the minimum found to 1e-10 of the range between the
    lowest and its neighbours. The simulation is that of Tobías, Armstrong & Gasparrini 2017
    (Epidemiology 28:72-76) for a single location.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> first = {"Rome": ([-0.40, 0.01], np.diag([1e-3, 1e-6])),
    ...          "Oslo": ([-0.35, 0.01], np.diag([1e-3, 1e-6])),
    ...          "Bonn": ([-0.30, 0.01], np.diag([1e-3, 1e-6]))}
    >>> fit = mx.pool(first, bscov="diag")
    >>> def basis(x):
    ...     return np.stack([x, x**2], axis=1)
    >>> table = mx.minimum_risk(fit, basis, within=(0, 30))
    >>> table["exposure"].round(6).tolist(), table.loc["Rome", "place"]
    ([19.0, 17.5, 16.0, 17.5], 'interior')
    """
    critical = normal_quantile(check_conf_level(conf_level))
    checked_fit(fit)
    given = {"basis": basis, "exposure": exposure, "within": within}
    gates.refuse_traced(given, "minimum_risk")
    refuse_other_stage(fit, basis)
    count = check_simulation(n, seed, fit.frame.k)
    found = location_coefficients(fit, level, se_method)
    labels = found.labels
    bases = bases_of(basis, labels)
    whole = shared_basis(bases) if pooled is None else pooled_basis(pooled, bases, labels)
    ranges, series = searched_ranges(within, percentiles, exposure, basis, labels)
    searches = [
        CurveSearch(own, ends, found.k, label)
        for own, ends, label in zip(bases, ranges, labels, strict=True)
    ]
    rows: list[dict[str, Any]] = [{}] * found.n
    tails = (np.array([-0.5, 0.5]) * conf_level + 0.5) * 100
    for i, drawn in found.drawn(count, seed):
        rows[i] = searches[i].row(found.b[i], found.V[i], drawn, critical, tails)
        rows[i]["percentile"] = np.nan if series is None else _share(series[i], rows[i]["exposure"])
    if whole is not None:
        search = CurveSearch(whole, ranges.mean(0), found.k, POOLED)
        drawn = found.pooled_drawn(count, seed)
        row = search.row(found.pooled, found.pooled_V, drawn, critical, tails)
        shares = [_share(x, row["exposure"]) for x in series or ()]
        row["percentile"] = np.mean(shares) if shares else np.nan
        rows.append(row)
    return _frame(rows, fit.frame.index, len(rows) > found.n)


def minima_of(
    found: LocationCoefficients, bases: list[BasisFunction], ranges: np.ndarray
) -> np.ndarray:
    """The exposure of minimum risk of each location, shape (n,)."""
    searches = zip(bases, ranges, found.labels, strict=True)
    return np.array(
        [
            CurveSearch(own, ends, found.k, label).minima(found.b[[i]])[0][0]
            for i, (own, ends, label) in enumerate(searches)
        ]
    )


class CurveSearch:
    """Where curves of one basis are lowest within a range.

    Parameters
    ----------
    basis, ends, k, label
        A function, the range, its number of columns, and whose it is.
    """

    def __init__(self, basis: BasisFunction, ends: np.ndarray, k: int, label: Any) -> None:
        self.low, self.high = map(float, ends)
        self.basis = lambda x: columns_at(basis, x, k, label)
        self.columns = self.basis(grid(self.low, self.high))

    def minima(self, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The minima of S curves of coefficients (S, k), and where they are, shapes (S,)."""
        x, place = lowest(self.basis, b, self.low, self.high, self.columns)
        within = np.flatnonzero(place == INTERIOR)
        if len(within):
            # A second difference over ten times the step is as large, but at a kink.
            near, far = (
                self._derivatives(x[within], b[within], step)[2]
                for step in (NEAR_KINK, 10 * NEAR_KINK)
            )
            kinks = within[near > KINK * far]
            if len(kinks):
                place = np.where(np.isin(np.arange(len(x)), kinks), KINKED, place)
                x[kinks] = self._kinks(x[kinks], b[kinks])
        return x, place

    def row(
        self, b: np.ndarray, V: np.ndarray, drawn: np.ndarray, critical: float, tails: np.ndarray
    ) -> dict[str, Any]:
        """The minimum of a curve with its intervals, as a row of the table."""
        minima, places = self.minima(np.concatenate([b[None], drawn]))
        x, place = float(minima[0]), int(places[0])
        lower, upper = np.percentile(minima[1:], tails)
        se = np.nan
        if place == INTERIOR:
            first, _, bend = self._derivatives(minima[:1], b[None], DIFFERENCE)
            se = float(np.sqrt(first[0] @ V @ first[0]) / bend[0])
        ends = np.isin(places[1:], (LOWER_END, UPPER_END))
        values = (x, np.nan, lower, upper, se, x - critical * se, x + critical * se)
        row = dict(zip(MINIMUM_COLUMNS, values, strict=True))
        return row | {"place": PLACE_WORDS[place], "at_ends": ends.mean()}

    def _derivatives(
        self, x: np.ndarray, b: np.ndarray, step: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The basis's derivative, shape (S, k), and the curves' first and second ones, (S,)."""
        _, first, second = differences(self.basis, x, self.low, self.high, step)
        return first, (first * b).sum(1), (second * b).sum(1)

    def _kinks(self, x: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Where the lines meet that curves follow on either side of a kink, shape (S,)."""
        away = 2 * NEAR_KINK * (self.high - self.low)
        heights, slopes = [], []
        for side in (x - away, x + away):
            at = np.clip(side, self.low, self.high)
            columns, first, _ = differences(self.basis, at, self.low, self.high)
            slopes.append((first * b).sum(1))
            heights.append((columns * b).sum(1) - slopes[-1] * at)
        return (heights[0] - heights[1]) / (slopes[1] - slopes[0])


def _share(series: np.ndarray, x: float) -> float:
    """Percent of the exposures up to one."""
    return 100.0 * float(np.mean(series[np.isfinite(series)] <= x))


def _frame(rows: list, index: pd.Index, with_pooled: bool) -> pd.DataFrame:
    labels = index.tolist() + [POOLED] * with_pooled
    own = pd.Index(labels, name=index.name or "location", tupleize_cols=False)
    return pd.DataFrame(rows, index=own)
