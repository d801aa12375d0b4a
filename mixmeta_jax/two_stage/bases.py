"""Bases of the exposure and of the lag: functions of a value, as columns of a regression.

A basis is called with values of shape (m,) and gives shape (m, k), by NumPy or JAX, traced or not.
Its numbers (knots, breaks, thresholds) are tuples, or arrays of JAX through which it is
differentiated: every class is a tree of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, is_jax, mapped, namespace, tree
from mixmeta_jax.formulas.spline_values import CUBIC, all_knots, b_splines, natural_splines

STATIC = {"static": True}


@tree
@dataclass(frozen=True)
class NaturalSpline:
    """Natural cubic spline, straight beyond its boundary knots; the basis of R's ``ns``.

    Attributes
    ----------
    knots
        Inner knots, ascending, strictly between the boundary knots.
    boundary
        Lower and upper boundary knot.
    intercept
        Whether it spans the constant; otherwise it is zero at the lower boundary knot.
    """

    knots: Any
    boundary: Any
    intercept: bool = field(default=False, metadata=STATIC)

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.knots) + 1 + self.intercept

    def __call__(self, x: Array) -> Array:
        """Values at x, shape (m, width)."""
        return natural_splines(_values(x, self), self.knots, self.boundary, self.intercept)


@tree
@dataclass(frozen=True)
class BSpline:
    """B-splines; beyond the boundary knots the outer polynomials go on, as those of R's ``bs``.

    Attributes
    ----------
    knots
        Inner knots, ascending, strictly between the boundary knots.
    boundary
        Lower and upper boundary knot.
    degree
        Of the polynomials.
    intercept
        Whether it spans the constant; otherwise it is zero at the lower boundary knot.
    """

    knots: Any
    boundary: Any
    degree: int = field(default=CUBIC, metadata=STATIC)
    intercept: bool = field(default=False, metadata=STATIC)

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.knots) + self.degree + self.intercept

    def __call__(self, x: Array) -> Array:
        """Values at x, shape (m, width)."""
        t = all_knots(self.knots, self.boundary, self.degree)
        values = b_splines(_values(x, self), t, self.degree)
        return values[:, 0 if self.intercept else 1 :]


@tree
@dataclass(frozen=True)
class Strata:
    """Indicators of the intervals between breaks; a value at a break belongs to the upper one.

    Attributes
    ----------
    breaks
        Ascending.
    intercept
        Whether the lowest interval, otherwise the reference, has a column too.
    """

    breaks: Any
    intercept: bool = field(default=False, metadata=STATIC)

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.breaks) + self.intercept

    def __call__(self, x: Array) -> Array:
        """Values at x, shape (m, width)."""
        x = _values(x, self)
        xp = _namespace(x, self)
        breaks = xp.asarray(self.breaks, float)
        interval = (x[:, None] >= breaks).sum(1)
        columns = xp.arange(0 if self.intercept else 1, len(self.breaks) + 1)
        return _missing_too(xp, (interval[:, None] == columns) * 1.0, x)


@tree
@dataclass(frozen=True)
class LinearThreshold:
    """Straight beyond a threshold, flat up to it: low − x below ``low``, x − high above ``high``.

    Attributes
    ----------
    low, high
        Thresholds; None where the line is flat on that side. With both there are two columns, that
        of ``low`` first.
    """

    low: Any = None
    high: Any = None

    @property
    def width(self) -> int:
        """Number of columns."""
        return (self.low is not None) + (self.high is not None)

    def __call__(self, x: Array) -> Array:
        """Values at x, shape (m, width)."""
        x = _values(x, self)
        xp = _namespace(x, self)
        columns = []
        if self.low is not None:
            columns.append(xp.where(x < self.low, self.low - x, 0.0 * x))
        if self.high is not None:
            columns.append(xp.where(x > self.high, x - self.high, 0.0 * x))
        return xp.stack(columns, 1)


@tree
@dataclass(frozen=True)
class Linear:
    """A straight line through zero, after a constant with an intercept."""

    intercept: bool = field(default=False, metadata=STATIC)

    @property
    def width(self) -> int:
        """Number of columns."""
        return 1 + self.intercept

    def __call__(self, x: Array) -> Array:
        """Values at x, shape (m, width)."""
        x = _values(x, self)
        columns = [1.0 + 0.0 * x] if self.intercept else []
        return namespace(x).stack([*columns, x], 1)


@tree
@dataclass(frozen=True)
class Integers:
    """An indicator for each of some whole numbers, as for lags that share nothing.

    Attributes
    ----------
    first, last
        The least and the largest of them.
    """

    first: int = field(default=0, metadata=STATIC)
    last: int = field(default=0, metadata=STATIC)

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.last - self.first + 1

    def __call__(self, x: Array) -> Array:
        """Values at x, shape (m, width)."""
        x = _values(x, self)
        xp = namespace(x)
        hit = x[:, None] == xp.arange(self.first, self.last + 1)
        return _missing_too(xp, hit * 1.0, x)


Basis = NaturalSpline | BSpline | Strata | LinearThreshold | Linear | Integers


def average_of(bases: Sequence[Basis]) -> Basis | None:
    """The basis whose knots, breaks or thresholds are the means of those of n bases.

    None where they are not of one kind, with as many of each.
    """
    if len({_kind(own) for own in bases}) > 1:
        return None
    return mapped(lambda *numbers: float(np.mean(numbers)), *bases)


def _kind(basis: Basis) -> tuple:
    """The class, its constants, and how many numbers it has of each name."""
    static = {own.name for own in fields(basis) if own.metadata.get("static")}
    return type(basis), *(
        value if name in static or value is None else np.shape(value)
        for name, value in vars(basis).items()
    )


def _values(x: Array, basis: Any) -> Array:
    """What a basis is asked at, shape (m,), as floats."""
    xp = _namespace(x, basis)
    return xp.atleast_1d(xp.asarray(x, float))


def _namespace(x: Array, basis: Any) -> ModuleType:
    """NumPy, unless x or a number of the basis is JAX's."""
    if is_jax(x):
        return namespace(x)
    for own in vars(basis).values():
        for leaf in own if isinstance(own, (tuple, list)) else (own,):
            if is_jax(leaf):
                return namespace(leaf)
    return np


def _missing_too(xp: ModuleType, values: Array, x: Array) -> Array:
    return xp.where(xp.isnan(x)[:, None], xp.nan, values)
