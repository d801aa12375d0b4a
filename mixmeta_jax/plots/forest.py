"""Forest plots: studies, their weights and BLUPs, the pooled effect and where a new one may lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import ForestOrder, RatioTransform
from mixmeta_jax.fits.prediction_methods import PredictionMethods
from mixmeta_jax.inference.wald import check_conf_level, normal_quantile
from mixmeta_jax.plots.canvas import (
    CHARACTER,
    COLOURS,
    FAINT,
    INK,
    READABLE,
    SOFT,
    expects_one,
    fitting_size,
    known_variances,
    marginal_variances,
    marker_areas,
    new_axes,
    picture,
    ratio_axis,
    row_names,
    shortened,
    spreads_alike,
    tidied,
    transformed,
    user_columns,
    wider,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_OF_A_CELL = 20
"""Characters of a column of the data, and of its name, that are written."""

SHOWN = ["estimate", "lower", "upper", "pi_lower", "pi_upper", "blup", "blup_lower", "blup_upper"]


@picture
def forest(
    fit: PredictionMethods,
    *,
    ax: Any = None,
    labels: Any = None,
    columns: Sequence[str] = (),
    by: str | None = None,
    order: ForestOrder = None,
    blup: bool = False,
    pi: bool = True,
    transform: RatioTransform = None,
    xlabel: str | None = None,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Forest plot: a row per study, the pooled effect below; a panel per outcome.

    Parameters
    ----------
    fit
        A fitted model. With predictors, or an offset that differs, there is no one pooled effect:
        each study then has its fitted value, a grey diamond, under its estimate.
    ax
        Axes to draw on, one per outcome; None for a new figure.
    labels
        Names of the rows: a column of the data, or a sequence; default the index.
    columns
        Columns of the data to print beside the names.
    by
        Column whose categories head groups of rows, "(missing)" those without one; where it is the
        only predictor, each group has the effect that the model expects of it.
    order
        "effect" or "precision" to sort the rows (within groups); None for that of the data.
    blup
        Whether to draw the best linear unbiased predictions beside the estimates.
    pi
        Whether the pooled effect has a prediction interval, a line through its diamond. With random
        slopes, which make it differ between rows, it has none.
    transform
        "exp" for ratios, drawn on a log axis.
    xlabel
        What the axis measures; default the outcome's name.
    conf_level
        Level of all intervals.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    Axes, or list of Axes
        One for k = 1, else one per outcome.
    DataFrame
        With ``return_data``: columns ``outcome, kind, label, estimate, lower, upper, weight,
        pi_lower, pi_upper, blup, blup_lower, blup_upper``; weights are percentages of Σ⁻¹'s
        diagonal.

    Raises
    ------
    InputError
        For a column that is not in the data, an unknown ``order`` or ``transform``, or axes that
        are not as many as the outcomes.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> fit = mx.mixmeta("logor", S="logorvar", data=bcg)
    >>> ax, drawn = mx.plots.forest(fit, labels="trial", transform="exp", return_data=True)
    >>> drawn.tail(1)[["kind", "estimate", "lower", "upper", "pi_lower", "pi_upper"]].round(2)
          kind  estimate  lower  upper  pi_lower  pi_upper
    13  pooled      0.47   0.33   0.68      0.14      1.57
    """
    change = transformed(transform)
    conf_level = check_conf_level(conf_level)
    names = gates.listed(columns, "columns", "a list of names of columns")
    table = forest_data(fit, labels, by, order, blup, pi, conf_level)
    table[SHOWN] = change(table[SHOWN])
    extra = user_columns(fit, names, "columns") if names else None
    rows = int((table["outcome"] == table["outcome"].iloc[0]).sum())
    outcomes = fit.frame.outcome_names
    written = [] if extra is None else _cells(extra)
    shown = [shortened(label) for label in table["label"]]
    axes = new_axes(ax, wider(7.2, shown, *written), 1.2 + 0.27 * rows, len(outcomes))
    for axis, outcome in zip(axes, outcomes, strict=True):
        drawn = table[table["outcome"] == outcome]
        _draw(axis, drawn, extra, transform == "exp", axis is axes[0])
        axis.set_xlabel(xlabel or (f"exp({outcome})" if transform == "exp" else outcome))
    found = axes[0] if len(axes) == 1 else axes
    return (found, table) if return_data else found


def forest_data(
    fit: PredictionMethods,
    labels: Any,
    by: str | None,
    order: str | None,
    blup: bool,
    pi: bool,
    conf_level: float,
) -> pd.DataFrame:
    """The rows of a forest plot from top to bottom, outcome by outcome; see `forest`."""
    gates.choice(order, "order", ForestOrder)
    names, half = row_names(fit, labels), normal_quantile(conf_level)
    y, se = fit.frame.y, np.sqrt(known_variances(fit))
    precision = 1 / marginal_variances(fit)
    weight = 100 * precision / np.nansum(precision, axis=0)
    expected = _expected(fit, conf_level, pi)
    predicted = _blups(fit, conf_level) if blup else np.full((3, *y.shape), np.nan)
    groups = [(None, np.arange(len(y)))] if by is None else _groups(fit, by)
    constant = expects_one(fit)
    found = []
    for o, outcome in enumerate(fit.frame.outcome_names):
        for name, members in groups:
            if name is not None:
                found.append({"outcome": outcome, "kind": "group", "label": str(name)})
            for i in _ordered(members, order, y[:, o], se[:, o]):
                row = {"outcome": outcome, "kind": "study", "label": names[i], "row": i}
                row |= {"estimate": y[i, o], "weight": weight[i, o]}
                row |= {"lower": y[i, o] - half * se[i, o], "upper": y[i, o] + half * se[i, o]}
                keys = ("blup", "blup_lower", "blup_upper")
                row |= dict(zip(keys, predicted[:, i, o], strict=True))
                found.append(row)
                if not constant and by is None:
                    found.append({**_row(expected, outcome, i), "kind": "fitted", "label": ""})
            if name is not None and not constant and expects_one(fit, members):
                found.append(_pooled(fit, expected, outcome, members, "Expected"))
        if constant:
            found.append(_pooled(fit, expected, outcome, np.arange(len(y)), "Pooled"))
    every = ["outcome", "kind", "label", "row", "weight", *SHOWN]
    return pd.DataFrame(found).reindex(columns=every)


def _row(expected: dict[str, np.ndarray], outcome: str, i: int) -> dict[str, Any]:
    return {"outcome": outcome, **{name: values[outcome][i] for name, values in expected.items()}}


def _pooled(
    fit: PredictionMethods, expected: dict[str, Any], outcome: str, members: np.ndarray, label: str
) -> dict[str, Any]:
    """The one expectation of some rows; with random slopes no one prediction interval is theirs."""
    row = {**_row(expected, outcome, int(members[0])), "kind": "pooled", "label": label}
    return row if spreads_alike(fit, members) else {**row, "pi_lower": np.nan, "pi_upper": np.nan}


def _expected(fit: PredictionMethods, conf_level: float, pi: bool) -> dict[str, Any]:
    """X β̂ with its intervals, by statistic and outcome."""
    table = fit.predict(ci=True, pi=pi, conf_level=conf_level)
    assert isinstance(table, pd.DataFrame)
    keys = {"fit": "estimate", "ci_lower": "lower", "ci_upper": "upper"}
    if pi:
        keys |= {"pi_lower": "pi_lower", "pi_upper": "pi_upper"}
    kept = table.loc[fit.frame.kept] if len(table) != fit.frame.n else table
    outcomes = fit.frame.outcome_names
    several = len(outcomes) > 1
    return {
        key: {o: kept[(o, name) if several else name].to_numpy() for o in outcomes}
        for name, key in keys.items()
    }


def _blups(fit: PredictionMethods, conf_level: float) -> np.ndarray:
    """BLUPs and their intervals, shape (3, n, k)."""
    table = fit.blup(pi=True, conf_level=conf_level)
    assert isinstance(table, pd.DataFrame)
    kept = table.loc[fit.frame.kept] if len(table) != fit.frame.n else table
    k = fit.frame.k
    return np.moveaxis(kept.to_numpy().reshape(len(kept), k, 3), 2, 0)


def _groups(fit: PredictionMethods, by: str) -> list[tuple[Any, np.ndarray]]:
    codes, names = pd.factorize(user_columns(fit, [by], "by")[by], use_na_sentinel=False)
    labels = ["(missing)" if pd.isna(name) else name for name in names.tolist()]
    return [(name, np.flatnonzero(codes == code)) for code, name in enumerate(labels)]


def _ordered(members: np.ndarray, order: str | None, y: np.ndarray, se: np.ndarray) -> np.ndarray:
    if order is None:
        return members
    return members[np.argsort((y if order == "effect" else se)[members], kind="stable")]


def _draw(
    ax: Axes, table: pd.DataFrame, extra: pd.DataFrame | None, ratio: bool, named: bool
) -> None:
    """One panel; row 0 on top."""
    table = table.assign(place=np.cumsum(np.where(table["kind"] == "fitted", 0.42, 1.0)))
    studies = table[table["kind"] == "study"]
    seen = studies[np.isfinite(studies["estimate"])]
    if ratio:
        ax.set_xscale("log")
    ax.axvline(1.0 if ratio else 0.0, color=FAINT, linewidth=1, zorder=0)
    ax.hlines(seen["place"], seen["lower"], seen["upper"], color=INK, linewidth=1.1)
    areas = marker_areas(seen["weight"].to_numpy(), 90)
    ax.scatter(seen["estimate"], seen["place"], s=areas, marker="s", color=INK, zorder=3)
    shrunk = seen[np.isfinite(seen["blup"])]
    if len(shrunk):
        place = shrunk["place"] + 0.3
        ax.hlines(place, shrunk["blup_lower"], shrunk["blup_upper"], color=COLOURS[0], linewidth=1)
        ax.scatter(shrunk["blup"], place, s=14, color=COLOURS[0], zorder=3, label="BLUP")
        ax.legend(loc="upper right", frameon=False, fontsize="small")
    for _, row in table[table["kind"].isin(["pooled", "fitted"])].iterrows():
        pooled = row["kind"] == "pooled"
        tall, colour = (0.32, INK) if pooled else (0.16, SOFT)
        x = [row["lower"], row["estimate"], row["upper"], row["estimate"]]
        y = row["place"] + tall * np.array([0, -1, 0, 1])
        if pooled:
            ax.hlines(row["place"], row["pi_lower"], row["pi_upper"], color=COLOURS[5], linewidth=2)
        ax.fill(x, y, color=colour, alpha=1 if pooled else 0.55, linewidth=0, zorder=3)
    size = fitting_size(ax, table["place"].max() + 0.8)
    _write(ax, table, extra if named else None, named, size)
    if ratio:
        ratio_axis(ax.xaxis)
    tidied(ax)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(table["place"].max() + 0.8, 0.2)


def _write(
    ax: Axes, table: pd.DataFrame, extra: pd.DataFrame | None, named: bool, size: float
) -> None:
    """Names on the left, figures on the right, where there is room for them."""
    written = table[table["kind"] != "fitted"]
    if size < READABLE:
        # The studies go without; what is expected keeps its name.
        written = written[written["kind"] != "study"]
        size = 8.0
    names = [shortened(name) for name in written["label"]]
    ax.set_yticks(written["place"], names if named else [""] * len(names))
    for tick, kind in zip(ax.get_yticklabels(), written["kind"], strict=True):
        tick.set_fontweight("normal" if kind == "study" else "bold")
        tick.set_fontsize(size)
    right = ax.secondary_yaxis("right")
    right.set_yticks(written["place"], [_figures(row) for _, row in written.iterrows()])
    right.tick_params(length=0, labelsize=size)
    right.spines["right"].set_visible(False)
    if extra is not None:
        _write_columns(ax, written, extra, size)


def _write_columns(ax: Axes, written: pd.DataFrame, extra: pd.DataFrame, size: float) -> None:
    """Columns of the data between the names and the panel, which the names make room for."""
    offset = 4.0
    where = list(zip(written["place"], written["row"], strict=True))
    for name, *cells in reversed(_cells(extra)):
        width = CHARACTER * size * max(len(cell) for cell in [name, *cells])
        heights = [0.35, *(place for place, i in where if not np.isnan(i))]
        texts = [name, *(cells[int(i)] for _, i in where if not np.isnan(i))]
        for height, text in zip(heights, texts, strict=True):
            ax.annotate(
                text,
                (0, height),
                xycoords=ax.get_yaxis_transform(),
                xytext=(-offset, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=SOFT,
                fontsize=size,
                annotation_clip=False,
            )
        offset += width + 8
    ax.tick_params(axis="y", pad=offset + 2)


def _cells(extra: pd.DataFrame) -> list[list[str]]:
    """The text of each column of the data, its name first."""
    return [
        [
            shortened(str(column), MOST_OF_A_CELL),
            *(shortened(_cell(value), MOST_OF_A_CELL) for value in extra[column].tolist()),
        ]
        for column in extra.columns
    ]


def _cell(value: Any) -> str:
    """A value of a column: of what is no whole number five figures, nothing of what is missing."""
    if value != value or value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _figures(row: pd.Series) -> str:
    if row["kind"] == "group" or not np.isfinite(row["estimate"]):
        return "" if row["kind"] == "group" else "missing"
    text = f"{row['estimate']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}]".replace("-", "\u2212")
    return f"{text}  {row['weight']:4.1f}%" if row["kind"] == "study" else text
