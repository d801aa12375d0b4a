"""The graph of a network of treatments, and estimates of refits as a forest."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import RatioTransform
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.inference.wald import check_conf_level, normal_quantile
from mixmeta_jax.plots.canvas import (
    COLOURS,
    FAINT,
    INK,
    READABLE,
    fitting_size,
    new_axes,
    picture,
    ratio_axis,
    shortened,
    tidied,
    transformed,
    wider,
)
from mixmeta_jax.prepare.network import refuse_unlabelled
from mixmeta_jax.table.rows import as_pandas


@picture
def network(
    data: Any, study: str, treatment: str, *, ax: Any = None, return_data: bool = False
) -> Any:
    """The graph of a network: treatments on a circle, joined where a study compares them.

    Parameters
    ----------
    data
        Long frame, a row per arm, as `network_contrasts` takes it.
    study, treatment
        Names of its columns.
    ax
        Axes to draw on; None for a new figure.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: ``treatment, other, studies``, the number that compare the two.

    Raises
    ------
    InputError
        For a column that is not there, an arm without a label, or data in which no study has two
        treatments.

    Examples
    --------
    >>> import pandas as pd, mixmeta_jax as mx
    >>> arms = pd.DataFrame({"study": [1, 1, 2, 2, 3, 3], "treatment": list("ABABAC")})
    >>> ax, drawn = mx.plots.network(arms, "study", "treatment", return_data=True)
    >>> drawn
      treatment other  studies
    0         A     B        2
    1         A     C        1
    """
    data = as_pandas(data)
    refuse_unlabelled(data, study, treatment)
    counts: dict[tuple[Any, Any], int] = {}
    arms = data[[study, treatment]].drop_duplicates()
    names = sorted(arms[treatment].unique().tolist(), key=str)
    for _, own in arms.groupby(study, sort=False):
        there = [name for name in names if name in set(own[treatment])]
        for pair in combinations(there, 2):
            counts[pair] = counts.get(pair, 0) + 1
    if not counts:
        raise InputError(
            f"No {study} has two values of '{treatment}': the data must have a row per arm."
        )
    table = pd.DataFrame(
        [(*pair, count) for pair, count in counts.items()],
        columns=["treatment", "other", "studies"],
    )
    (axis,) = new_axes(ax, 4.8, 4.8)
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(names)) / len(names)
    places = dict(zip(names, np.stack([np.cos(angle), np.sin(angle)], 1), strict=True))
    most = int(table["studies"].max())
    for (one, other), count in counts.items():
        ends = np.stack([places[one], places[other]])
        axis.plot(*ends.T, color=FAINT, linewidth=1.5 + 9 * count / most, zorder=1)
        # Away from the middle and the golden section, where lines cross.
        x, y = 0.71 * ends[0] + 0.29 * ends[1]
        axis.text(
            x,
            y,
            str(count),
            ha="center",
            va="center",
            fontsize="small",
            zorder=2,
        )
    size = arms[treatment].value_counts().to_dict()
    for name, place in places.items():
        area = 120 + 500 * size[name] / max(size.values())
        axis.scatter(place[0], place[1], s=area, color=COLOURS[0], edgecolor=INK, zorder=3)
        axis.annotate(
            shortened(str(name), 20),
            place * 1.18,
            ha="center" if abs(place[0]) < 0.3 else ("left" if place[0] > 0 else "right"),
            va="center",
            annotation_clip=False,
        )
    axis.set_xlim(-1.35, 1.35)
    axis.set_ylim(-1.35, 1.35)
    axis.set_aspect("equal")
    axis.set_axis_off()
    return (axis, table) if return_data else axis


@picture
def refits(
    table: pd.DataFrame,
    term: str | None = None,
    *,
    ax: Any = None,
    transform: RatioTransform = None,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Forest of refits: one coefficient of `cumulative` or `leave_one_out`, row by row.

    Parameters
    ----------
    table
        What `cumulative` or `leave_one_out` returned.
    term
        The coefficient; default the first.
    ax
        Axes to draw on; None for a new figure.
    transform
        "exp" for ratios, drawn on a log axis.
    conf_level
        Level of the intervals.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: ``label, estimate, lower, upper``.

    Raises
    ------
    InputError
        For a table of something else, or an unknown term.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> ax, drawn = mx.plots.refits(mx.cumulative(fit, order="year"), return_data=True)
    >>> drawn.tail(2).round(3)
       label  estimate  lower  upper
    11     3    -0.828 -1.193 -0.464
    12     7    -0.745 -1.110 -0.381
    """
    change = transformed(transform)
    half = normal_quantile(check_conf_level(conf_level))
    there = list(table.columns) if isinstance(table, pd.DataFrame) else []
    terms = [name for name in there if isinstance(name, str) and f"se[{name}]" in there]
    if "status" not in there or not terms:
        raise InputError("table must be what cumulative or leave_one_out returned.")
    term = terms[0] if term is None else gates.choice(term, "term", terms)
    estimate, se = (
        gates.numbers(table[name], f"table: the column '{name}'", ("n",), missing=True)
        for name in (term, f"se[{term}]")
    )
    found = pd.DataFrame(
        {
            "label": [shown(label) for label in table.index.tolist()],
            "estimate": change(estimate),
            "lower": change(estimate - half * se),
            "upper": change(estimate + half * se),
        }
    )
    (axis,) = new_axes(
        ax, wider(5.6, list(map(shortened, found["label"]))), 1.1 + 0.24 * len(found)
    )
    if transform:
        axis.set_xscale("log")
    place = np.arange(len(found))
    axis.axvline(1.0 if transform else 0.0, color=FAINT, linewidth=1, zorder=0)
    axis.hlines(place, found["lower"], found["upper"], color=INK, linewidth=1.1)
    axis.scatter(found["estimate"], place, s=24, marker="s", color=INK, zorder=3)
    size = fitting_size(axis, len(found) + 1)
    fits = size >= READABLE
    readable = [shortened(label) for label in found["label"]] if fits else []
    axis.set_yticks(place if fits else [], readable, fontsize=size)
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.set_ylabel(str(table.index.name or ""))
    axis.set_xlabel(f"exp({term})" if transform else term)
    if transform:
        ratio_axis(axis.xaxis)
    tidied(axis, "x")
    return (axis, found) if return_data else axis
