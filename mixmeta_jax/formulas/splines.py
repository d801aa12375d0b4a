"""Splines for formulas: natural cubic ones, ``ns(dose, knots=[10, 25])``, and B-splines, ``bs``.

The basis of ``ns`` spans the cubic splines on the inner knots whose second derivative vanishes at
the two boundary knots; beyond these a curve goes on as a straight line. Without an intercept every
column is zero at the lower boundary knot, so that a curve without a constant passes through zero
there. The null space of the two conditions is the complement given by the Householder QR
factorisation, which makes the columns equal to those of R's ``ns``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from formulaic.materializers.types import FactorValues
from formulaic.transforms import basis_spline
from formulaic.utils.stateful_transforms import stateful_transform

from mixmeta_jax.errors import InputError
from mixmeta_jax.formulas.spline_values import CUBIC, natural_splines


@stateful_transform
def ns(
    x: Any,
    knots: Sequence[float] | None = None,
    df: int | None = None,
    boundary_knots: Sequence[float] | None = None,
    intercept: bool = False,
    _state: dict[str, Any] | None = None,
) -> FactorValues[dict[int, np.ndarray]]:
    """Natural cubic spline basis, for use in a formula.

    Parameters
    ----------
    x
        Values, shape (n,); the basis is NaN where they are.
    knots
        Inner knots, strictly between the boundary knots.
    df
        Number of columns, instead of ``knots``: the inner knots are then quantiles of x.
    boundary_knots
        The two points beyond which the curve is straight; the range of x by default.
    intercept
        Whether the basis spans the constant too.

    Returns
    -------
    formulaic.FactorValues
        Columns 1, 2, ..., each of shape (n,). Their number is that of the inner knots, plus one,
        plus one with an intercept. Knots are remembered: new data get the same basis.

    Raises
    ------
    InputError
        If the knots do not lie strictly inside the boundary knots, or x has no range.
    """
    values = np.asarray(x, float)
    state = {} if _state is None else _state
    if "knots" not in state:
        state["boundary"] = boundary_of(values, boundary_knots)
        least = 1 + bool(intercept)
        state["knots"] = inner_knots_of(values, knots, df, state["boundary"], least)
    basis = natural_splines(values, state["knots"], state["boundary"], intercept)
    return FactorValues(
        {j + 1: basis[:, j] for j in range(basis.shape[1])},
        kind="numerical",
        spans_intercept=intercept,
        drop_field=1 if intercept else None,
        format="{name}[{field}]",
    )


@stateful_transform
def bs(
    x: Any,
    df: int | None = None,
    knots: Sequence[float] | None = None,
    degree: int = CUBIC,
    include_intercept: bool = False,
    lower_bound: float | None = None,
    upper_bound: float | None = None,
    extrapolation: str = "extend",
    _state: dict[str, Any] | None = None,
) -> FactorValues[dict[int, np.ndarray]]:
    """B-spline basis, for use in a formula.

    Parameters
    ----------
    x
        Values, shape (n,).
    df, knots
        Number of columns, or inner knots.
    degree, include_intercept
        Of the polynomials, and whether the basis spans the constant too.
    lower_bound, upper_bound
        Boundary knots; the range of x by default.
    extrapolation
        Beyond the boundary knots, "extend" (the outer polynomials go on, as in R, with a warning),
        "clip", "zero", "na" or "raise".

    Raises
    ------
    InputError
        For values beyond the boundary knots with "raise".
    """
    values = np.asarray(x, float)
    state = {} if _state is None else _state
    lower = state.get("lower_bound", lower_bound)
    upper = state.get("upper_bound", upper_bound)
    # By default they are the range of the values that the fit has seen, beyond which none lies.
    beyond = np.zeros(len(values), bool)
    if lower is not None:
        beyond |= values < lower
    if upper is not None:
        beyond |= values > upper
    if beyond.any():
        ends = " and ".join(f"{end:g}" for end in (lower, upper) if end is not None)
        where = (
            f"bs() is evaluated at {values[beyond][0]:g}, beyond its boundary knots ({ends}): "
            "give a lower_bound and an upper_bound that hold all values to come"
        )
        if extrapolation == "raise":
            raise InputError(f"{where}, or extrapolation='extend' or 'clip'.")
        if extrapolation == "extend":
            warnings.warn(
                f"{where}, use ns(), which is straight there, or say extrapolation='clip'; its "
                "polynomials go on as they are, which is seldom a good guess.",
                UserWarning,
                stacklevel=2,
            )
    return basis_spline(
        values,
        df=df,
        knots=knots,
        degree=degree,
        include_intercept=include_intercept,
        lower_bound=lower_bound,
        upper_bound=upper_bound,
        extrapolation=extrapolation,
        _state=state,
    )


def boundary_of(x: np.ndarray, given: Sequence[float] | None, name: str = "ns") -> list[float]:
    """The boundary knots of a spline: those given, or the range of x.

    Raises
    ------
    InputError
        If they are not two different finite numbers.
    """
    if given is None:
        if not np.isfinite(x).any():
            raise InputError(f"{name}() has no value to take its boundary knots from; give them.")
        lower, upper = float(np.nanmin(x)), float(np.nanmax(x))
    else:
        ends = np.sort(np.asarray(given, float))
        if ends.shape != (2,) or not np.isfinite(ends).all():
            raise InputError(f"{name}() takes two finite boundary knots; it got {list(given)}.")
        lower, upper = float(ends[0]), float(ends[1])
    if not lower < upper:
        raise InputError(
            f"{name}() needs two distinct boundary knots; both are {lower:g}. Give boundary knots, "
            "or leave the term out if its variable does not vary."
        )
    return [lower, upper]


def inner_knots_of(
    x: np.ndarray,
    knots: Sequence[float] | None,
    df: int | None,
    boundary: Sequence[float],
    least: int,
    name: str = "ns",
) -> list[float]:
    """The inner knots of a spline: those given, or quantiles of x for ``df`` columns.

    Parameters
    ----------
    x
        Values, shape (n,), NaN where missing.
    knots, df
        Inner knots, or the number of columns; neither for no inner knots.
    boundary
        Boundary knots.
    least
        Columns without inner knots.
    name
        What the sentences call the spline.

    Raises
    ------
    InputError
        If the knots do not lie strictly inside the boundary knots, or repeat a value.
    """
    lower, upper = boundary
    if knots is not None and df is not None:
        raise InputError(f"{name}() takes knots or df, not both.")
    if df is not None:
        count = df - least
        if count < 0:
            raise InputError(f"{name}() needs df of at least {least}; it got {df}.")
        inside = x[(x >= lower) & (x <= upper)]
        knots = np.quantile(inside, np.arange(1, count + 1) / (count + 1)) if count else []
    inner = np.sort(np.asarray([] if knots is None else knots, float).ravel())
    for knot in inner:
        if not lower < knot < upper:
            raise InputError(
                f"The knot {knot:g} of {name}() lies outside its boundary knots {lower:g} and "
                f"{upper:g}; inner knots lie strictly between them."
            )
    if len(np.unique(inner)) < len(inner):
        raise InputError(f"The knots {inner.tolist()} of {name}() repeat a value; give each once.")
    return inner.tolist()
