"""Profile likelihoods of variances and correlations, and curves of locations side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtri

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.variance_methods import VarianceMethods
from mixmeta_jax.inference.wald import check_conf_level
from mixmeta_jax.plots.canvas import (
    COLOURS,
    FAINT,
    INK,
    SOFT,
    grid_of_axes,
    picture,
    shortened,
    tidied,
)


@picture
def profile(
    fit: VarianceMethods,
    parameter: str | None = None,
    *,
    ax: Any = None,
    conf_level: float = 0.95,
    return_data: bool = False,
) -> Any:
    """Profile likelihoods: how far the log-likelihood falls as a parameter is held.

    Parameters
    ----------
    fit
        A fitted model by ML or REML with random effects.
    parameter
        One variance or correlation; default all.
    ax
        Axes to draw on, one per parameter; None for a new figure.
    conf_level
        Level of the interval, where the curve meets the dashed line.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    Axes, or list of Axes
        One per parameter.
    DataFrame
        With ``return_data``: that of `Fit.profile`.

    Raises
    ------
    InputError
        For a fit without a profile, or an unknown parameter.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> ax, drawn = fit.plot.profile(return_data=True)
    >>> drawn[["value", "deviance"]].head(2).round(2)
       value  deviance
    0   0.09      6.63
    1   0.12      3.92
    """
    drop = -chdtri(1, 1 - check_conf_level(conf_level)) / 2
    # A little beyond the interval, so that the curve is seen to cross the line.
    table = fit.profile(parameter, conf_level=1 - (1 - conf_level) / 5)
    if table.empty:
        raise InputError(
            "A profile is of a variance or correlation that is estimated, and the fit has none: "
            "all are held or given."
        )
    keys = list(table.groupby(["level", "parameter"], sort=False))
    axes = grid_of_axes(ax, len(keys), 3.8, 3.2)
    several = table["level"].nunique() > 1
    for axis, ((level, name), own) in zip(axes, keys, strict=True):
        own = own.sort_values("value")
        height = -own["deviance"] / 2
        axis.plot(own["value"], height, color=COLOURS[0], linewidth=1.6)
        axis.scatter(own["value"], height, color=COLOURS[0], s=10)
        axis.axhline(drop, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axis.axvline(own["value"].iloc[int(np.argmax(height))], color=FAINT, linewidth=1, zorder=0)
        axis.set_ylim(drop * 1.9, 0.15)
        axis.set_xlabel(f"{name} ({level})" if several else name)
        axis.set_ylabel("Log-likelihood less its maximum" if axis is axes[0] else "")
        tidied(axis)
    found = axes[0] if len(axes) == 1 else axes
    return (found, table) if return_data else found


@picture
def curves(
    table: pd.DataFrame,
    *,
    ax: Any = None,
    pooled: pd.DataFrame | None = None,
    xlabel: str = "Exposure",
    ylabel: str = "Effect",
    return_data: bool = False,
) -> Any:
    """Curves of locations as small multiples, with the pooled curve behind each.

    Parameters
    ----------
    table
        What `mixmeta_jax.curves` returned: ``curve, lower, upper`` by location and ``at``.
    ax
        Axes to draw on, one per location; None for a new figure.
    pooled
        The same of one location, or of ``level=0``, to draw behind all.
    xlabel, ylabel
        What the axes measure.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    list of Axes
        One per location.
    DataFrame
        With ``return_data``: ``location, at, curve, lower, upper``.

    Raises
    ------
    InputError
        For a table of something else.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> first = {"Rome": ([0.2, 0.1], np.eye(2)), "Oslo": ([0.4, 0.3], np.eye(2)),
    ...          "Bonn": ([0.3, 0.5], np.eye(2))}
    >>> table = mx.curves(mx.pool(first, bscov="id"), basis=[[0.0, 0.0], [1.0, 2.0]], at=[0, 10])
    >>> [ax.get_title() for ax in mx.plots.curves(table)]
    ['Rome', 'Oslo', 'Bonn']
    """
    flat = _flat(table, "table")
    behind = None if pooled is None else _flat(pooled, "pooled").drop_duplicates("at")
    names = flat["location"].unique()
    axes = grid_of_axes(ax, len(names), 2.2, 1.9, share=True)
    for axis, name in zip(axes, names, strict=True):
        own = flat[flat["location"] == name]
        axis.axhline(0.0, color=FAINT, linewidth=1, zorder=0)
        if behind is not None:
            axis.plot(behind["at"], behind["curve"], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axis.fill_between(
            own["at"], own["lower"], own["upper"], color=COLOURS[0], alpha=0.2, linewidth=0
        )
        axis.plot(own["at"], own["curve"], color=COLOURS[0], linewidth=1.4)
        axis.set_title(shortened(str(name), 24), fontsize="small")
        tidied(axis)
    figure = axes[0].get_figure(root=True)
    if ax is None and figure is not None:
        figure.supxlabel(xlabel, fontsize="medium")
        figure.supylabel(ylabel, fontsize="medium")
    return (axes, flat) if return_data else axes


def _flat(table: Any, what: str) -> pd.DataFrame:
    columns = ["curve", "lower", "upper"]
    there = list(table.columns) if isinstance(table, pd.DataFrame) else []
    if any(there.count(column) != 1 for column in columns):
        raise InputError(f"{what} must be what curves returned: a frame of curve, lower and upper.")
    if table.index.nlevels != 2:
        raise InputError(f"{what} must have two index levels: the locations, and where they are.")
    own = {c: gates.numbers(table[c], f"{what}: the column '{c}'", ("n",)) for c in columns}
    flat = pd.DataFrame(own, index=table.index).reset_index()
    return flat.set_axis(["location", "at", *columns], axis=1)
