"""Random effects and several outcomes: caterpillars, ellipses, the structure of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import chdtri

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.predicted_rows import one_row, rows_of
from mixmeta_jax.fits.prediction_methods import PredictionMethods
from mixmeta_jax.inference.prediction import between_variance, predicted, quadratic_form
from mixmeta_jax.inference.wald import check_conf_level, normal_quantile
from mixmeta_jax.plots.canvas import (
    COLOURS,
    FAINT,
    INK,
    READABLE,
    SOFT,
    expects_one,
    fitting_size,
    new_axes,
    picture,
    shortened,
    spreads_alike,
    tidied,
    wider,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_NAMED = 120
"""Groups from which their names are too small for the height of a caterpillar plot."""


@picture
def caterpillar(
    fit: PredictionMethods,
    level: int | str | None = None,
    *,
    ax: Any = None,
    effects: Sequence[str] | None = None,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Caterpillar plot: the random effects of a level, sorted, with their intervals.

    Parameters
    ----------
    fit
        A fitted model with random effects.
    level
        Number from 1, or name; default the innermost level.
    ax
        Axes to draw on, one per effect; None for a new figure.
    effects
        Which of the effects of a group; default all.
    conf_level
        Level of the intervals, given the coefficients.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    Axes, or list of Axes
        One per effect.
    DataFrame
        With ``return_data``: ``effect, group, estimate, lower, upper``, sorted.

    Raises
    ------
    InputError
        For an unknown level or effect, or a fit without random effects.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> school = mx.load_dataset("school")
    >>> fit = mx.mixmeta("effect", S="var", data=school, random="~ 1 | district/study")
    >>> ax, drawn = fit.plot.caterpillar("district", return_data=True)
    >>> drawn[["group", "estimate", "lower", "upper"]].head(2).round(3)
      group  estimate  lower  upper
    0    58    -0.237 -0.359 -0.114
    1    86    -0.200 -0.324 -0.077
    """
    half = normal_quantile(check_conf_level(conf_level))
    number = fit.level_number(level)
    values = fit.ranef(level, se=True)
    names = fit.frame.random_names(number - 1)
    chosen = list(names if effects is None else gates.choices(effects, "effects", names))
    if not chosen:
        raise InputError(f"effects names none: choose among {', '.join(names)}.")
    groups = [_group_name(label) for label in values.index.tolist()]
    tables = []
    for name in chosen:
        own = values if len(names) == 1 else values[name]
        estimate, se = own["ranef"].to_numpy(), own["se"].to_numpy()
        table = pd.DataFrame(
            {
                "effect": name,
                "group": groups,
                "estimate": estimate,
                "lower": estimate - half * se,
                "upper": estimate + half * se,
            }
        )
        tables.append(table.sort_values("estimate", ignore_index=True))
    height = min(1.2 + 0.22 * len(groups), 9.0)
    labels = list(map(shortened, groups)) if len(groups) < MOST_NAMED else []
    axes = new_axes(ax, wider(5.2, labels), height, len(chosen))
    for axis, table in zip(axes, tables, strict=True):
        place = np.arange(len(table))
        clear = (table["lower"] > 0) | (table["upper"] < 0)
        colours = np.where(clear, COLOURS[0], SOFT)
        size = fitting_size(axis, len(table) + 1)
        thin = size < READABLE
        axis.axvline(0.0, color=FAINT, linewidth=1, zorder=0)
        axis.hlines(place, table["lower"], table["upper"], color=colours, linewidth=1)
        axis.scatter(table["estimate"], place, s=6 if thin else 22, color=colours, zorder=3)
        shown = [] if thin else list(map(shortened, table["group"]))
        axis.set_yticks([] if thin else place, shown, fontsize=size)
        axis.set_ylim(-0.8, len(table) - 0.2)
        axis.set_xlabel(f"Random effect of {table['effect'][0]}")
        if thin:
            axis.set_ylabel(f"{len(table)} groups of {fit.level_names[number - 1]}")
        tidied(axis, "x")
    found = axes[0] if len(axes) == 1 else axes
    return (found, pd.concat(tables, ignore_index=True)) if return_data else found


def _group_name(label: Any) -> str:
    return " / ".join(map(str, label)) if isinstance(label, tuple) else str(label)


@picture
def ellipse(
    fit: PredictionMethods,
    outcomes: Sequence[str] | None = None,
    *,
    ax: Any = None,
    at: Any = None,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Two outcomes: the studies, the expected pair, its confidence and its prediction ellipse.

    Parameters
    ----------
    fit
        A fitted model of at least two outcomes.
    outcomes
        The two to draw; may be left out where there are two.
    ax
        Axes to draw on; None for a new figure.
    at
        With predictors: the row (label of the index, or a mapping of predictors) whose expectation
        is drawn.
    conf_level
        Coverage of both ellipses.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: ``kind`` ("study", "expected", "confidence", "prediction") and the two
        outcomes.

    Raises
    ------
    InputError
        For a fit of one outcome, or not two names of outcomes.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> S = ["var_PD", "cov_PD_AL", "var_AL"]
    >>> fit = mx.mixmeta("PD + AL ~ 1", S=S, data=mx.load_dataset("berkey98"))
    >>> ax, drawn = fit.plot.ellipse(return_data=True)
    >>> drawn[drawn.kind == "expected"].round(3)
           kind     PD     AL
    5  expected  0.353 -0.339
    """
    check_conf_level(conf_level)
    names = fit.frame.outcome_names
    if len(names) < 2:
        raise InputError("An ellipse needs two outcomes, and the model has one.")
    chosen = list(names if outcomes is None else gates.choices(outcomes, "outcomes", names))
    if len(set(chosen)) != 2 or len(chosen) != 2:
        raise InputError(f"Name two outcomes to draw among {', '.join(names)}, not {chosen}.")
    where = [names.index(name) for name in chosen]
    pick = np.ix_(where, where)
    mean, V, between = _expected_pair(fit, at)
    centre, radius = mean[where], np.sqrt(chdtri(2, 1 - conf_level))
    parts = [
        ("study", fit.frame.y[:, where]),
        ("expected", centre[None]),
        ("confidence", _outline(centre, V[pick], radius)),
        ("prediction", _outline(centre, (V + between)[pick], radius)),
    ]
    frames = [pd.DataFrame(points, columns=chosen).assign(kind=kind) for kind, points in parts]
    table = pd.concat(frames, ignore_index=True)[["kind", *chosen]]
    (axis,) = new_axes(ax, 5.2, 4.8)
    styles = {"confidence": (COLOURS[0], "-"), "prediction": (COLOURS[5], (0, (4, 3)))}
    for kind, (colour, line) in styles.items():
        of = table[table["kind"] == kind]
        axis.plot(of[chosen[0]], of[chosen[1]], color=colour, linestyle=line, label=kind.title())
    studies, pair = (table[table["kind"] == kind] for kind in ("study", "expected"))
    axis.scatter(studies[chosen[0]], studies[chosen[1]], s=22, facecolor="none", edgecolor=INK)
    axis.scatter(pair[chosen[0]], pair[chosen[1]], s=50, marker="D", color=COLOURS[0], zorder=3)
    axis.set_xlabel(chosen[0])
    axis.set_ylabel(chosen[1])
    axis.legend(frameon=False, fontsize="small")
    tidied(axis)
    return (axis, table) if return_data else axis


def _expected_pair(fit: PredictionMethods, at: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected outcomes of a row, their covariance, and that of a new group's, (k,) and (k, k)."""
    if at is None and not (expects_one(fit) and spreads_alike(fit)):
        raise InputError(
            "The model has predictors: give at=, a row of the data or a mapping of predictors."
        )
    newdata, row = one_row(at, "at") if isinstance(at, Mapping) else None, 0
    if at is not None and newdata is None:
        labels = fit.frame.index.tolist()
        label = gates.label(at, "at", labels)
        if labels.count(label) != 1:
            raise InputError(f"at={at!r} is the label of several rows: give a mapping.")
        row = labels.index(label)
    k, rows = fit.frame.k, rows_of(fit, newdata, fit.n_levels)
    X, Z = rows.X[[row]], [own[[row]] for own in rows.Z]
    mean = predicted(X, fit.estimate.beta, k) + rows.offset[[row]]
    V = quadratic_form(X, fit.estimate.vcov, k)
    if not np.isfinite(mean).all():
        raise InputError("at= has a missing predictor: give a value of each.")
    return mean[0], V[0], between_variance(Z, fit.Psi_by_level, 1, k)[0]


def _outline(centre: np.ndarray, covariance: np.ndarray, radius: float) -> np.ndarray:
    """Points of {x : (x − c)ᵀ V⁻¹ (x − c) = r²}, shape (181, 2)."""
    angle = np.linspace(0, 2 * np.pi, 181)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    return centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1) @ root.T


@picture
def structure(fit: PredictionMethods, *, ax: Any = None, return_data: bool = False) -> Any:
    """The design of one's own data: which groups, levels, outcomes and blocks of errors there are.

    Rows are units in the order of their groups. The strips on the left are the levels, outer first,
    each group in one of two greys; the cells are outcomes, empty where missing; the bracket on the
    right joins the units of one block of S.

    Parameters
    ----------
    fit
        A fitted model.
    ax
        Axes to draw on; None for a new figure.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: one row per unit as drawn, columns of group labels by level, whether
        each outcome is there, and ``block``, the number of its block of S.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta(
    ...     "effect", S="var", data=mx.load_dataset("school"), random="~ 1 | district/study"
    ... )
    >>> ax, drawn = fit.plot.structure(return_data=True)
    >>> drawn.head(2)
      district   study  observed effect  block
    0       11  11 / 1             True      0
    1       11  11 / 2             True      1
    """
    frame = fit.frame
    levels = frame.levels[: fit.n_levels]
    keys = [level.codes for level in levels]
    order = np.lexsort(keys[::-1]) if keys else np.arange(frame.n)
    block = np.arange(frame.n)
    for number, (rows, _) in enumerate(frame.within.blocks or ()):
        block[rows] = number
    table = pd.DataFrame(index=frame.index[order])
    for level in levels:
        table[level.name] = [_group_name(level.labels[code]) for code in level.codes[order]]
    for o, name in enumerate(frame.outcome_names):
        table[f"observed {name}"] = np.isfinite(frame.y[order, o])
    table["block"] = block[order]
    (axis,) = new_axes(ax, 2.2 + 0.5 * (len(levels) + frame.k), min(1.4 + 0.16 * frame.n, 9.0))
    _draw_structure(axis, fit, order, block[order])
    return (axis, table) if return_data else axis


def _draw_structure(ax: Axes, fit: PredictionMethods, order: np.ndarray, block: np.ndarray) -> None:
    from matplotlib.colors import ListedColormap

    frame = fit.frame
    levels = frame.levels[: fit.n_levels]
    n = frame.n
    places: list[float] = []
    names: list[str] = []

    def strip(x: float, flags: np.ndarray, colours: list[str], name: str) -> None:
        """A column of cells in one of two colours."""
        ax.imshow(
            flags[:, None],
            cmap=ListedColormap(colours),
            aspect="auto",
            extent=(x - 0.42, x + 0.42, n - 0.5, -0.5),
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
        places.append(x)
        names.append(name)

    for number, level in enumerate(levels):
        # Neighbours differ, whatever the numbers of the groups.
        changes = np.diff(level.codes[order]) != 0
        strip(number, np.append(0, np.cumsum(changes)) % 2, [SOFT, FAINT], level.name)
    for o, name in enumerate(frame.outcome_names):
        seen = np.isfinite(frame.y[order, o])
        strip(len(levels) + 0.4 + o, seen, ["white", COLOURS[o % len(COLOURS)]], name)
    right = len(levels) + frame.k + 0.1
    for number in np.unique(block):
        rows = np.flatnonzero(block == number)
        if len(rows) > 1:
            ax.vlines(right, rows.min() - 0.3, rows.max() + 0.3, color=INK, linewidth=1.5)
            ax.hlines(rows, right - 0.12, right, color=INK, linewidth=1.0)
    ax.set_xlim(-0.6, right + 0.4)
    ax.set_ylim(n - 0.5, -0.5)
    ax.set_xticks(places, [shortened(name, 18) for name in names], rotation=40, ha="left")
    ax.xaxis.tick_top()
    labels = [shortened(str(label), 24) for label in frame.index[order].tolist()]
    size = fitting_size(ax, n)
    fits = size >= READABLE
    ax.set_yticks(range(n) if fits else [], labels if fits else [], fontsize=size)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
