"""What single units and subsets of them do to a fit: influence, Baujat and GOSH plots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import InfluenceMethod
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.diagnostic_methods import DiagnosticMethods
from mixmeta_jax.fits.prediction_methods import PredictionMethods
from mixmeta_jax.fits.simulation import check_draws
from mixmeta_jax.many.refits import refit
from mixmeta_jax.many.studies import leave_one_out
from mixmeta_jax.plots.canvas import (
    COLOURS,
    FAINT,
    INK,
    SOFT,
    grid_of_axes,
    known_variances,
    name_points,
    new_axes,
    one_outcome,
    picture,
    row_names,
    shortened,
    tidied,
)


@picture
def baujat(
    fit: PredictionMethods,
    *,
    ax: Any = None,
    outcome: str | None = None,
    labels: Any = None,
    return_data: bool = False,
) -> Any:
    """Baujat plot: what each unit adds to heterogeneity, and how it moves the pooled effect.

    Parameters
    ----------
    fit
        A fitted model.
    ax, outcome, return_data
        As in `funnel`.
    labels
        Names of the units: a column of the data, or a sequence; default the index.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: ``label``; ``heterogeneity``, the squared Pearson residual of the
        fixed-effects fit; ``influence``, the squared change of the unit's fitted value, over its
        variance, when the unit is left out.

    Raises
    ------
    InputError
        For an unknown outcome.

    References
    ----------
    Baujat B, Mahé C, Pignon JP, Hill C (2002). A graphical method for exploring heterogeneity in
    meta-analyses. Statistics in Medicine 21, 2641-2652.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> ax, drawn = fit.plot.baujat(return_data=True)
    >>> drawn.head(2).round(3)
      label  heterogeneity  influence
    0     0          0.707      0.002
    1     1          7.270      0.117
    """
    o, own_names = one_outcome(fit, outcome), row_names(fit, labels)
    frame, k = fit.frame, fit.frame.k
    heterogeneity = fit.fixed_fit.residuals[:, o] ** 2 / known_variances(fit)[:, o]
    without = leave_one_out(fit, progress=False)
    names = frame.coef_names()
    beta = without[names].to_numpy()[:, o::k]
    covariance = np.einsum("np,pq,nq->n", frame.X, fit.vcov.to_numpy()[o::k, o::k], frame.X)
    change = np.einsum("np,np->n", frame.X, fit.coef.to_numpy()[o::k] - beta)
    table = pd.DataFrame(
        {
            "label": own_names,
            "heterogeneity": heterogeneity,
            "influence": change**2 / covariance,
        }
    )
    table = table[np.isfinite(frame.y[:, o])].reset_index(drop=True)
    (axis,) = new_axes(ax, 5.6, 4.6)
    axis.scatter(table["heterogeneity"], table["influence"], s=24, color=COLOURS[0])
    axis.set_xlabel("Share of heterogeneity, r² / s²")
    axis.set_ylabel("Influence on the fitted value")
    axis.margins(0.12)
    far = table["heterogeneity"].rank(pct=True).add(table["influence"].rank(pct=True))
    order = far.nlargest(max(3, min(24, len(table) // 3))).index
    at = table[["heterogeneity", "influence"]].to_numpy()
    right = at[:, 0] > np.nanmax(at[:, 0], initial=0.0) / 2  # where names would leave the panel
    short = [shortened(label, 24) for label in table["label"]]
    name_points(axis, at, short, order.tolist(), left=right)
    tidied(axis)
    return (axis, table) if return_data else axis


@picture
def influence(
    fit: DiagnosticMethods,
    by: str = "unit",
    *,
    ax: Any = None,
    method: InfluenceMethod = "exact",
    return_data: bool = False,
) -> Any:
    """Influence of units or groups, figure by figure: leverage, Cook's distance, DFBETAS, ...

    Parameters
    ----------
    fit
        A fitted model.
    by, method
        As in `Fit.influence`: "unit" or a level; "exact" refits or "first_order".
    ax
        Axes to draw on, one per figure; None for a new figure.
    return_data
        Whether to return the frame that is drawn too.

    Returns
    -------
    list of Axes
        One per figure.
    DataFrame
        With ``return_data``: that of `Fit.influence`.

    Raises
    ------
    InputError
        For an unknown ``by`` or ``method``.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> axes, drawn = fit.plot.influence(return_data=True)
    >>> [ax.get_title() for ax in axes]
    ['leverage', 'cook', 'covratio', 'dfbetas[(Intercept)]', 'variance[unit.(Intercept)]']
    """
    table = fit.influence(by, method)
    names = [name for name in table.columns if name != "status"]
    axes = grid_of_axes(ax, len(names), 3.4, 2.2)
    place = np.arange(len(table))
    # The ratio of covariances has its neutral value at 1, all the others at 0.
    for axis, name in zip(axes, names, strict=True):
        values, neutral = table[name].to_numpy(float), 1.0 if name == "covratio" else 0.0
        far = np.abs(values - neutral)
        few = far >= (np.nanquantile(far, 0.9) if np.isfinite(far).any() else np.inf)
        few &= far > 0  # all may be alike, as variances at zero
        axis.axhline(neutral, color=FAINT, linewidth=1, zorder=0)
        axis.vlines(place, neutral, values, color=np.where(few, COLOURS[5], SOFT), linewidth=1.2)
        axis.scatter(place, values, s=12, color=np.where(few, COLOURS[5], SOFT), zorder=3)
        axis.set_title(shortened(name, 34), fontsize="small")
        axis.set_xticks([])
        axis.margins(y=0.2)
        order = np.argsort(-np.where(few, far, -1.0), kind="stable")[: few.sum()]
        at, right = np.stack([place, values], 1), place > len(place) / 2
        short = [shortened(str(label), 18) for label in table.index.tolist()]
        name_points(axis, at, short, order.tolist(), left=right, size=7.0, most=3)
        tidied(axis)
    return (axes, table) if return_data else axes


@picture
def gosh(
    fit: PredictionMethods,
    n: int = 1000,
    *,
    ax: Any = None,
    term: str | None = None,
    seed: int = 0,
    progress: bool = False,
    return_data: bool = False,
) -> Any:
    """GOSH plot: the model on many subsets of its groups, estimates against heterogeneity.

    Parameters
    ----------
    fit
        A fitted model of one outcome.
    n
        Number of subsets, drawn evenly over their sizes and then without replacement.
    ax, return_data
        As in `funnel`.
    term
        The coefficient to draw; default the first.
    seed
        Seed of the subsets.
    progress
        Whether long work shows a bar.

    Returns
    -------
    Axes
    DataFrame
        With ``return_data``: ``size, estimate, I2`` of each subset that could be fitted.

    Raises
    ------
    InputError
        For a fit of several outcomes, an unknown term, or fewer than 3 units.

    References
    ----------
    Olkin I, Dahabreh IJ, Trikalinos TA (2012). GOSH: a graphical display of study heterogeneity.
    Research Synthesis Methods 3, 214-223.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> ax, drawn = fit.plot.gosh(n=100, seed=1, return_data=True)
    >>> len(drawn), drawn.columns.tolist()
    (100, ['size', 'estimate', 'I2'])
    """
    names = list(fit.coef.index)
    one_outcome(fit, None)
    term = names[0] if term is None else gates.choice(term, "term", names)
    n = check_draws(n, seed, 0, fit.design.y.size, "n")
    outer = fit.design.groups[:, 0] if fit.design.groups.shape[1] else np.arange(fit.frame.n)
    groups = int(outer.max()) + 1
    smallest = fit.frame.p + 1
    if groups <= smallest:
        raise InputError(f"{groups} groups have too few subsets that can be fitted.")
    rng = np.random.default_rng(seed)
    sizes = rng.integers(smallest, groups + 1, n)
    kept = np.stack([rng.permutation(groups) < size for size in sizes])
    y = np.where(kept[:, outer, None], fit.design.y[None], np.nan)
    many = refit(fit, y, progress=progress, more=("I2",))
    estimate = np.asarray(many.coef)[:, names.index(term)]
    table = pd.DataFrame({"size": sizes, "estimate": estimate, "I2": many.I2})
    table = table[np.asarray(many.converged)].reset_index(drop=True)
    (axis,) = new_axes(ax, 5.4, 4.6)
    axis.scatter(table["estimate"], table["I2"], s=7, color=COLOURS[0], alpha=0.35, linewidth=0)
    axis.axvline(float(fit.coef[term]), color=INK, linewidth=1)
    axis.set_xlabel(f"Estimate of {term}")
    axis.set_ylabel("I² in percent")
    tidied(axis)
    return (axis, table) if return_data else axis
