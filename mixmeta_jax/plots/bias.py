"""Small studies and odd ones: funnels, radial plots, quantiles of residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from mixmeta_jax import gates
from mixmeta_jax.choices import RatioTransform
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.prediction_methods import PredictionMethods
from mixmeta_jax.inference.wald import check_conf_level, normal_quantile
from mixmeta_jax.plots.canvas import (
    COLOURS,
    FAINT,
    INK,
    SOFT,
    expects_one,
    known_variances,
    marginal_variances,
    name_points,
    new_axes,
    one_outcome,
    picture,
    ratio_axis,
    row_names,
    shortened,
    tidied,
    transformed,
)

SHADES = ("white", "#E6E6E6", "#C4C4C4", "#A2A2A2", "#808080")


@picture
def funnel(
    fit: PredictionMethods,
    *,
    ax: Any = None,
    outcome: str | None = None,
    residuals: bool | None = None,
    contours: Sequence[float] | None = None,
    transform: RatioTransform = None,
    labels: Any = None,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Funnel plot: effects against their standard errors, the precise ones on top.

    Parameters
    ----------
    fit
        A fitted model.
    ax
        Axes to draw on; None for a new figure.
    outcome
        Which outcome, where there are several.
    residuals
        Whether to draw what the predictors leave, around 0; default for models with predictors.
    contours
        Levels such as (0.90, 0.95, 0.99): shades of how significantly an effect differs from 0,
        in place of the funnel around the pooled effect.
    transform
        "exp" for ratios, drawn on a log axis.
    labels
        Names to write beside the effects outside the funnel: a column, or a sequence. Of many,
        those of the furthest that have room.
    conf_level
        Level of the funnel.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: ``label, effect, se, outside`` of each observed outcome.

    Raises
    ------
    InputError
        For contours that are not levels between 0 and 1, or an unknown outcome.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> ax, drawn = fit.plot.funnel(return_data=True)
    >>> drawn.loc[drawn.outside, ["effect", "se"]].head(2).round(3)
       effect     se
    1  -1.666  0.456
    3  -1.456  0.143
    """
    change = transformed(transform)
    half = normal_quantile(check_conf_level(conf_level))
    o = one_outcome(fit, outcome)
    constant = expects_one(fit)
    around = not constant if residuals is None else gates.flag(residuals, "residuals")
    if not around and not constant:
        raise InputError("The model has predictors, so no one effect is expected: residuals=True.")
    expected = fit.fitted_array[:, o]
    effect = fit.frame.y[:, o] - (expected if around else 0.0)
    centre = 0.0 if around else float(expected[0])
    se = np.sqrt(known_variances(fit)[:, o])
    table = pd.DataFrame({"label": row_names(fit, labels), "effect": effect, "se": se})
    table = table[np.isfinite(table["se"])].reset_index(drop=True)
    table["outside"] = np.abs(table["effect"] - centre) > half * table["se"]
    (axis,) = new_axes(ax, 5.4, 4.4)
    top = float(table["se"].max()) * 1.06
    if contours is None:
        edge = np.array([-1, 0, 1]) * half * top + centre
        axis.fill(change(edge), [top, 0, top], color=FAINT, alpha=0.5, linewidth=0, zorder=0)
        axis.vlines(change(centre), 0, top, color=SOFT, linewidth=1)
    else:
        _shade(axis, contours, top, table["effect"], change)
        axis.vlines(change(centre), 0, top, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    if transform:
        axis.set_xscale("log")
    axis.scatter(change(table["effect"]), table["se"], s=24, color=COLOURS[0], edgecolor="white")
    axis.set_ylim(top, 0)
    if labels is not None:
        gap = (table["effect"] - centre).to_numpy()
        order = np.argsort(-np.abs(gap / table["se"].to_numpy()), kind="stable")
        outside = order[table["outside"].to_numpy()[order]]
        at = np.stack([change(table["effect"].to_numpy()), table["se"].to_numpy()], 1)
        short = [shortened(label, 24) for label in table["label"]]
        name_points(axis, at, short, outside.tolist(), left=gap < 0)
    name = f"Residual of {fit.frame.outcome_names[o]}" if around else fit.frame.outcome_names[o]
    axis.set_xlabel(f"exp({name})" if transform else name)
    axis.set_ylabel("Standard error")
    if transform:
        ratio_axis(axis.xaxis)
    tidied(axis)
    return (axis, table.assign(effect=change(table["effect"]))) if return_data else axis


def _shade(ax: Any, contours: Sequence[float], top: float, effect: pd.Series, change: Any) -> None:
    """Regions of significance against 0, the strongest the lightest."""
    listed = gates.listed(contours, "contours", "a list of levels")
    levels = sorted(gates.fraction(level, "an entry of contours") for level in listed)
    if not levels or len(levels) >= len(SHADES):
        raise InputError(f"contours takes from 1 to {len(SHADES) - 1} levels, not {len(levels)}.")
    widest = max(float(np.abs(effect).max()) * 1.08, normal_quantile(levels[-1]) * top)
    ax.fill_betweenx(
        [0, top], change(-widest), change(widest), color=SHADES[0], linewidth=0, zorder=0
    )
    for number, level in reversed(list(enumerate(levels, 1))):
        reach = normal_quantile(level) * top
        ax.fill(
            change(np.array([-reach, 0, reach])),
            [top, 0, top],
            color=SHADES[number],
            linewidth=0,
            zorder=0,
            label=f"p > {1 - level:.2g}",
        )
    ax.legend(frameon=False, fontsize="small", loc="upper left")


@picture
def radial(
    fit: PredictionMethods,
    *,
    ax: Any = None,
    outcome: str | None = None,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Radial (Galbraith) plot: y/σ against 1/σ, with σ² the marginal variance.

    The slope of the line through the origin is the pooled effect; the band holds ``conf_level`` of
    the studies where the model is right.

    Parameters
    ----------
    fit
        A fitted model without predictors.
    ax, outcome, conf_level, return_data
        As in `funnel`.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: ``label, precision, z``.

    Raises
    ------
    InputError
        For a model with predictors, or an unknown outcome.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> ax, drawn = fit.plot.radial(return_data=True)
    >>> drawn.head(2).round(3)
      label  precision      z
    0     0      1.200 -1.126
    1     1      1.353 -2.255
    """
    half = normal_quantile(check_conf_level(conf_level))
    o = one_outcome(fit, outcome)
    _refuse_predictors(fit, "A radial plot")
    root = 1 / np.sqrt(marginal_variances(fit)[:, o])
    slope = float(fit.fitted_array[0, o])
    table = pd.DataFrame(
        {"label": row_names(fit, None), "precision": root, "z": fit.frame.y[:, o] * root}
    ).dropna(ignore_index=True)
    (axis,) = new_axes(ax, 5.0, 4.4)
    x = np.array([0.0, float(table["precision"].max()) * 1.08])
    axis.fill_between(x, slope * x - half, slope * x + half, color=FAINT, alpha=0.6, linewidth=0)
    axis.plot(x, slope * x, color=COLOURS[0], linewidth=1.5)
    axis.scatter(table["precision"], table["z"], s=24, facecolor="none", edgecolor=INK)
    axis.set_xlim(0, x[1])
    axis.set_xlabel("Precision, 1 / σ")
    axis.set_ylabel(f"{fit.frame.outcome_names[o]} / σ")
    tidied(axis)
    return (axis, table) if return_data else axis


@picture
def qq(
    fit: PredictionMethods,
    *,
    ax: Any = None,
    outcome: str | None = None,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Normal quantiles of the Pearson residuals r/σ, with pointwise bands of their order.

    Parameters
    ----------
    fit
        A fitted model.
    ax, outcome, conf_level, return_data
        As in `funnel`.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: ``label, theoretical, residual, lower, upper``, sorted.

    Raises
    ------
    InputError
        For an unknown outcome.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> ax, drawn = fit.plot.qq(return_data=True)
    >>> drawn[["theoretical", "residual", "lower", "upper"]].head(2).round(2)
       theoretical  residual  lower  upper
    0        -1.67     -1.25  -2.89  -0.68
    1        -1.16     -1.19  -2.07  -0.36
    """
    from scipy.special import betaincinv

    tail = (1 - check_conf_level(conf_level)) / 2
    o = one_outcome(fit, outcome)
    residual = (fit.frame.y - fit.fitted_array)[:, o] / np.sqrt(marginal_variances(fit)[:, o])
    table = pd.DataFrame({"label": row_names(fit, None), "residual": residual})
    table = table.dropna().sort_values("residual", ignore_index=True)
    n, i = len(table), np.arange(1, len(table) + 1)
    table["theoretical"] = ndtri((i - 0.375) / (n + 0.25))
    # The i-th smallest of n uniforms has a beta(i, n + 1 − i) distribution.
    table["lower"] = ndtri(betaincinv(i, n + 1 - i, tail))
    table["upper"] = ndtri(betaincinv(i, n + 1 - i, 1 - tail))
    (axis,) = new_axes(ax, 4.8, 4.6)
    x = table["theoretical"]
    axis.fill_between(x, table["lower"], table["upper"], color=FAINT, alpha=0.6, linewidth=0)
    axis.plot(x, x, color=SOFT, linewidth=1)
    axis.scatter(x, table["residual"], s=20, facecolor="none", edgecolor=COLOURS[0])
    axis.set_xlabel("Normal quantile")
    axis.set_ylabel("Pearson residual")
    tidied(axis)
    return (axis, table) if return_data else axis


def _refuse_predictors(fit: PredictionMethods, what: str) -> None:
    if not expects_one(fit):
        raise InputError(f"{what} is of a model without predictors, and this one has some.")
