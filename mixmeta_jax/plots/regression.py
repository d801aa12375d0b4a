"""Effects against a predictor: bubbles with bands, curves against a reference, orchards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import RatioTransform
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.prediction_methods import PredictionMethods
from mixmeta_jax.plots.canvas import (
    COLOURS,
    FAINT,
    INK,
    SOFT,
    known_variances,
    marginal_variances,
    marker_areas,
    new_axes,
    one_outcome,
    picture,
    ratio_axis,
    shortened,
    tidied,
    transformed,
    user_columns,
)
from mixmeta_jax.plots.predictors import (
    STATISTICS,
    continuous,
    held_values,
    one_category,
    predicted_outcome,
    predictors_of,
    refuse_taken,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE_POINTS = 101
"""Points of a curve."""


@picture
def bubble(
    fit: PredictionMethods,
    predictor: str | None = None,
    *,
    ax: Any = None,
    outcome: str | None = None,
    at: Mapping[str, Any] | None = None,
    transform: RatioTransform = None,
    ci: bool = True,
    pi: bool = True,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Regression plot: outcomes against a predictor, their areas by weight, and what is expected.

    Parameters
    ----------
    fit
        A fitted model.
    predictor
        A continuous column of the formula; may be left out where there is one.
    ax
        Axes to draw on; None for a new figure.
    outcome
        Which outcome, where there are several.
    at
        Values at which the other predictors are held; default their mean, or most frequent
        category. Outcomes are shown as the partial residuals at these values.
    transform
        "exp" for ratios, drawn on a log axis.
    ci, pi
        Whether to draw the bands of the expectation and of a new unit.
    conf_level
        Level of the bands.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: ``kind`` ("unit" or "curve"), the predictor, ``fit`` (the outcome of a
        unit), ``ci_lower, ci_upper, pi_lower, pi_upper, weight``.

    Raises
    ------
    InputError
        For a predictor that is not continuous or not in the model, or an unknown outcome.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
    >>> ax, drawn = fit.plot.bubble(return_data=True)
    >>> drawn[["kind", "ablat", "fit", "ci_lower", "ci_upper"]].tail(1).round(2)
          kind  ablat   fit  ci_lower  ci_upper
    113  curve   55.0 -1.43     -1.78     -1.08
    """
    change = transformed(transform)
    o = one_outcome(fit, outcome)
    predictor = continuous(fit, predictor)
    refuse_taken(predictor, ("kind", "weight"))
    columns = user_columns(fit, predictors_of(fit))
    held = held_values(columns, predictor, at)
    x = columns[predictor].to_numpy(float)
    grid = np.linspace(x.min(), x.max(), CURVE_POINTS)
    curve = predicted_outcome(fit, o, {**held, predictor: grid}, None, conf_level)
    # Partial residuals: what the model leaves of an outcome, on top of the held predictors.
    at_rows = predicted_outcome(fit, o, {**held, predictor: x}, None, conf_level)["fit"].to_numpy()
    points = at_rows + (fit.frame.y - fit.fitted_array)[:, o]
    weight = 1 / marginal_variances(fit)[:, o]
    table = pd.concat(
        [
            pd.DataFrame({"kind": "unit", predictor: x, "fit": points, "weight": weight}),
            curve.assign(kind="curve", **{predictor: grid}),
        ],
        ignore_index=True,
    )
    table[STATISTICS] = change(table[STATISTICS])
    (axis,) = new_axes(ax, 6.0, 4.2)
    units, line = table[table["kind"] == "unit"], table[table["kind"] == "curve"]
    _bands(axis, line[predictor], line, ci, pi)
    axis.plot(line[predictor], line["fit"], color=COLOURS[0], linewidth=1.8)
    areas = marker_areas(units["weight"].to_numpy())
    axis.scatter(
        units[predictor], units["fit"], s=areas, facecolor="none", edgecolor=INK, linewidth=1
    )
    axis.set_xlabel(predictor)
    _value_axis(axis, fit.frame.outcome_names[o], transform)
    return (axis, table) if return_data else axis


@picture
def response(
    fit: PredictionMethods,
    predictor: str | None = None,
    *,
    reference: float | None = None,
    ax: Any = None,
    grid: Any = None,
    at: Mapping[str, Any] | None = None,
    transform: RatioTransform = None,
    pi: bool = False,
    xlabel: str | None = None,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Curve of a predictor against a reference value: dose-response, exposure, time.

    Parameters
    ----------
    fit
        A fitted model whose formula uses the predictor, in whatever terms.
    predictor, reference
        A column, which may be left out where one is continuous, and its value that every other is
        contrasted with, which has no default; there the curve is 0 (or 1).
    ax
        Axes to draw on, one per outcome; None for a new figure.
    grid
        Values of the predictor; default 101 from its smallest to its largest.
    at
        Values of other predictors; default their mean, or most frequent category.
    transform
        "exp" for ratios, drawn on a log axis.
    pi
        Whether to add the band of a new group.
    xlabel
        Default the predictor's name.
    conf_level
        Level of the bands.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    Axes, or list of Axes
        One for k = 1, else one per outcome.
    DataFrame
        With ``return_data``: ``outcome``, the predictor, ``fit, ci_lower, ci_upper, pi_lower,
        pi_upper``.

    Raises
    ------
    InputError
        For a predictor that is not in the formula, no reference, or values that are not numbers.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
    >>> ax, drawn = fit.plot.response("ablat", reference=20, grid=[20, 40], return_data=True)
    >>> drawn[["ablat", "fit", "ci_lower", "ci_upper"]].round(2)
       ablat   fit  ci_lower  ci_upper
    0   20.0  0.00      0.00      0.00
    1   40.0 -0.63     -0.88     -0.38
    """
    change = transformed(transform)
    predictor = continuous(fit, predictor)
    if reference is None:
        raise InputError(
            f"A response curve is drawn against a value of '{predictor}': give it, as in "
            "reference=0."
        )
    refuse_taken(predictor, ("outcome",))
    columns = user_columns(fit, predictors_of(fit))
    held = held_values(columns, predictor, at)
    x = columns[predictor].to_numpy(float)
    values = np.linspace(x.min(), x.max(), CURVE_POINTS)
    if grid is not None:
        values = gates.numbers(grid, "grid", ("n",))
    if not len(values):
        raise InputError("grid has no values: give those of the predictor to draw the curve at.")
    against = {**held, predictor: float(reference)}
    outcomes = fit.frame.outcome_names
    axes = new_axes(ax, 5.4, 4.0, len(outcomes))
    tables = []
    for o, (axis, outcome) in enumerate(zip(axes, outcomes, strict=True)):
        table = predicted_outcome(fit, o, {**held, predictor: values}, against, conf_level)
        table[STATISTICS] = change(table[STATISTICS])
        axis.axhline(1.0 if transform else 0.0, color=FAINT, linewidth=1, zorder=0)
        _bands(axis, values, table, True, pi)
        axis.plot(values, table["fit"], color=COLOURS[0], linewidth=1.8)
        axis.set_xlabel(xlabel or predictor)
        _value_axis(axis, outcome, transform)
        tables.append(table.assign(outcome=outcome, **{predictor: values}))
    found = axes[0] if len(axes) == 1 else axes
    return (found, pd.concat(tables, ignore_index=True)) if return_data else found


@picture
def orchard(
    fit: PredictionMethods,
    by: str | None = None,
    *,
    ax: Any = None,
    outcome: str | None = None,
    at: Mapping[str, Any] | None = None,
    transform: RatioTransform = None,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Orchard plot: per category the effects, what is expected, and where a new one may lie.

    Parameters
    ----------
    fit
        A fitted model with the categorical predictor ``by``.
    by
        A column of the formula with categories; may be left out where there is one.
    ax, outcome, at, transform, conf_level, return_data
        As in `bubble`; the thick line is the confidence interval, the thin one that of prediction.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: ``kind`` ("unit" or "expected"), the category, ``fit`` and intervals.

    Raises
    ------
    InputError
        For a column that is not a category of the model.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor ~ alloc", S="logorvar", data=mx.load_dataset("bcg"))
    >>> ax, drawn = fit.plot.orchard("alloc", return_data=True)
    >>> drawn.loc[drawn.kind == "expected", ["alloc", "fit", "pi_lower", "pi_upper"]].round(2)
             alloc   fit  pi_lower  pi_upper
    13      random -0.99     -2.34      0.35
    14   alternate -0.61     -2.13      0.92
    15  systematic -0.43     -1.85      0.98
    """
    change = transformed(transform)
    o = one_outcome(fit, outcome)
    names = predictors_of(fit)
    if by is None:
        by = one_category(fit, names)
    if not isinstance(by, str) or by not in names:
        given, there = gates.described(by), ", ".join(names) or "none"
        raise InputError(f"by: {given} is not a predictor of the model: {there}.")
    refuse_taken(by, ("kind", "weight"))
    columns = user_columns(fit, names)
    categories = list(pd.unique(columns[by]))
    held = held_values(columns, by, at)
    expected = predicted_outcome(fit, o, {**held, by: categories}, None, conf_level)
    units = pd.DataFrame({"kind": "unit", by: columns[by].to_numpy(), "fit": fit.frame.y[:, o]})
    units["weight"] = 1 / np.sqrt(known_variances(fit)[:, o])
    table = pd.concat(
        [units, expected.assign(kind="expected", **{by: categories})], ignore_index=True
    )
    table[STATISTICS] = change(table[STATISTICS])
    (axis,) = new_axes(ax, 6.2, 1.2 + 0.8 * len(categories))
    if transform:
        axis.set_xscale("log")
    axis.axvline(1.0 if transform else 0.0, color=FAINT, linewidth=1, zorder=0)
    for place, category in enumerate(categories):
        of = table[table[by] == category]
        own, (_, mean) = of[of["kind"] == "unit"], next(of[of["kind"] == "expected"].iterrows())
        colour = COLOURS[place % len(COLOURS)]
        # Spread by the golden ratio: even, and the same every time.
        spread = place + 0.5 * ((np.arange(len(own)) * 0.618) % 1 - 0.5)
        areas = marker_areas(own["weight"].to_numpy(), 120)
        axis.scatter(own["fit"], spread, s=areas, color=colour, alpha=0.45, linewidth=0)
        axis.hlines(place, mean["pi_lower"], mean["pi_upper"], color=INK, linewidth=1)
        axis.hlines(place, mean["ci_lower"], mean["ci_upper"], color=INK, linewidth=3.5)
        axis.scatter(mean["fit"], place, s=60, color="white", edgecolor=INK, zorder=3)
    counts = [int((columns[by] == category).sum()) for category in categories]
    named = [
        f"{shortened(str(c))} (n = {count})" for c, count in zip(categories, counts, strict=True)
    ]
    axis.set_yticks(range(len(categories)), named)
    axis.set_ylim(len(categories) - 0.4, -0.6)
    name = fit.frame.outcome_names[o]
    axis.set_xlabel(f"exp({name})" if transform else name)
    if transform:
        ratio_axis(axis.xaxis)
    tidied(axis, "x")
    return (axis, table) if return_data else axis


def _bands(ax: Axes, x: Any, table: pd.DataFrame, ci: bool, pi: bool) -> None:
    if pi:
        ax.plot(x, table["pi_lower"], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        ax.plot(x, table["pi_upper"], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    if ci:
        ax.fill_between(
            x, table["ci_lower"], table["ci_upper"], color=COLOURS[0], alpha=0.18, linewidth=0
        )


def _value_axis(ax: Axes, outcome: str, transform: str | None) -> None:
    ax.set_ylabel(f"exp({outcome})" if transform else outcome)
    if transform:
        ax.set_yscale("log")
        ratio_axis(ax.yaxis)
    tidied(ax, "y")
