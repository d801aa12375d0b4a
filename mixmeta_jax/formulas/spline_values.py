"""Values of B-splines and natural cubic splines, by NumPy or JAX, differentiable in x and knots.

Within a knot interval [t_j, t_j+1) only the degree + 1 splines B_{j-degree}, ..., B_j are not zero.
De Boor's recursion gives these from

    left_q = x - t_{j+1-q},   right_q = t_{j+q} - x,

without a division by zero, whatever knots coincide at the ends. Beyond the boundary knots the
polynomials of the outermost intervals go on.

A natural spline has a second derivative of zero at both ends. The coefficients of the second
derivative there are differences of neighbouring coefficients over spans of knots; two Householder
reflections H₁H₂ of these two vectors leave the coefficients that fulfil both conditions as their
last columns, which makes the basis that of R's ``ns``.

References
----------
de Boor C (1978). A Practical Guide to Splines, chapters IX and X.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace

CUBIC = 3


def all_knots(knots: Any, boundary: Any, degree: int) -> Array:
    """Inner knots between ``degree + 1`` copies of each boundary knot."""
    xp = _namespace(knots, boundary)
    copies = degree + 1
    parts = [boundary[:1]] * copies + [knots] + [boundary[1:]] * copies
    return xp.concatenate([xp.asarray(part, float) for part in parts])


def b_splines(x: Array, t: Array, degree: int) -> Array:
    """All B-splines at x, NaN where x is.

    Parameters
    ----------
    x
        Shape (m,).
    t
        All knots, ascending, shape (q + degree + 1,): see `all_knots`.
    degree
        Of the polynomials.

    Returns
    -------
    Array
        Shape (m, q).
    """
    xp = namespace(x, t)
    x, t = xp.asarray(x), xp.asarray(t)
    q = len(t) - degree - 1
    j = xp.clip(xp.searchsorted(t, x, side="right") - 1, degree, q - 1)
    left = [x - t[j + 1 - step] for step in range(degree + 1)]
    right = [t[j + step] - x for step in range(degree + 1)]
    local = [xp.ones_like(x)]
    for d in range(1, degree + 1):
        saved = xp.zeros_like(x)
        raised = []
        for r in range(d):
            share = local[r] / (right[r + 1] + left[d - r])
            raised.append(saved + right[r + 1] * share)
            saved = left[d - r] * share
        local = [*raised, saved]
    values = xp.stack(local, 1)
    places = j[:, None] - degree + xp.arange(degree + 1)
    if xp is np:
        spread = np.zeros((len(x), q))
        np.put_along_axis(spread, places, values, 1)
        spread[np.isnan(x)] = np.nan
        return spread
    hit = places[:, :, None] == xp.arange(q)
    spread = xp.where(hit, values[:, :, None], 0.0).sum(1)
    return xp.where(xp.isnan(x)[:, None], xp.nan, spread)


def natural_splines(x: Array, knots: Any, boundary: Any, intercept: bool = False) -> Array:
    """The natural cubic spline basis at x: straight beyond the boundary, NaN where x is.

    Parameters
    ----------
    x
        Shape (m,).
    knots
        Inner knots, ascending.
    boundary
        Lower and upper boundary knot.
    intercept
        Whether the first B-spline, the only one that is not zero at the lower boundary, is kept.

    Returns
    -------
    Array
        Shape (m, number of inner knots + 1 + intercept).
    """
    xp = _namespace(x, knots, boundary)
    x = xp.asarray(x)
    t = all_knots(knots, boundary, CUBIC)
    lower, upper = t[0], t[-1]
    # By choice, so that the derivative at a boundary knot is that of either side.
    inside = xp.where(x < lower, lower, xp.where(x > upper, upper, x))
    values = b_splines(inside, t, CUBIC)
    first, last = _slopes_at_ends(xp, t)
    below, above = xp.where(x < lower, x - lower, 0.0), xp.where(x > upper, x - upper, 0.0)
    values = values + below[:, None] * first + above[:, None] * last
    start = 0 if intercept else 1
    return values[:, start:] @ _complement(xp, *(c[start:] for c in _curvatures_at_ends(xp, t)))


def _slopes_at_ends(xp: ModuleType, t: Array) -> tuple[Array, Array]:
    """First derivatives of the B-splines at the lower and the upper boundary, shape (q,) each."""
    q = len(t) - CUBIC - 1
    difference = xp.asarray([-1.0, 1.0])
    rest = xp.zeros(q - 2)
    lower = CUBIC / (t[CUBIC + 1] - t[1]) * difference
    upper = CUBIC / (t[q + CUBIC - 1] - t[q - 1]) * difference
    return xp.concatenate([lower, rest]), xp.concatenate([rest, upper])


def _curvatures_at_ends(xp: ModuleType, t: Array) -> tuple[Array, Array]:
    """Second derivatives of the B-splines at both boundaries, shape (q,) each."""
    q = len(t) - CUBIC - 1
    rest = xp.zeros(q - 3)

    def of(i: int) -> Array:
        """Of the i-th second difference of coefficients, over the spans that it crosses."""
        one, other = CUBIC / (t[i + 4] - t[i + 1]), CUBIC / (t[i + 5] - t[i + 2])
        return (CUBIC - 1) / (t[i + 4] - t[i + 2]) * xp.stack([one, -one - other, other])

    return xp.concatenate([of(0), rest]), xp.concatenate([rest, of(q - 3)])


def _complement(xp: ModuleType, one: Array, other: Array) -> Array:
    """An orthonormal basis of what is orthogonal to two vectors of length q, shape (q, q − 2)."""
    first = _reflection(xp, one)
    other = other - 2 * first * (first @ other)
    second = xp.concatenate([xp.zeros(1), _reflection(xp, other[1:])])
    rest = xp.eye(len(one))[:, 2:]
    rest = rest - 2 * second[:, None] * (second @ rest)
    return rest - 2 * first[:, None] * (first @ rest)


def _reflection(xp: ModuleType, a: Array) -> Array:
    """The unit normal of Householder's reflection that takes a to a multiple of the first axis."""
    size = xp.sqrt((a * a).sum())
    head = a[0] + xp.where(a[0] < 0, -size, size)
    normal = xp.concatenate([head[None], a[1:]])
    return normal / xp.sqrt((normal * normal).sum())


def _leaves(part: Any) -> list:
    return [part] if hasattr(part, "dtype") else list(part)


def _namespace(*parts: Any) -> ModuleType:
    return namespace(*(leaf for part in parts for leaf in _leaves(part)))
