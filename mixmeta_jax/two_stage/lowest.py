"""The exposure of minimum risk: where a curve f(x) = basis(x)ᵀb is lowest within a range.

The lowest point of a grid, then Newton's method for f′(x) = 0 between its neighbours. Inside the
range the minimum x* moves with the coefficients, and with whatever else the curve is made of, as

    dx* = −df′(x*) / f″(x*)

by the implicit function theorem; two steps of Newton's method from a constant x* carry this
derivative, and the next. Where x* is an end of the range it moves with that end alone.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, constant, fori_loop, is_jax, is_traced, namespace, while_loop
from mixmeta_jax.tolerances import DIFFERENCE, FLAT_CURVE, MINIMUM_FOUND

GRID_POINTS = 401
"""Points that are compared: a dip narrower than 1/400 of the range may be missed."""

MOST_STEPS = 40
"""Of Newton's method; halving the bracket alone reaches the rounding of its ends."""

INTERIOR, LOWER_END, UPPER_END, FLAT_PLACE = range(4)
PLACES = ("interior", "lower end", "upper end", "flat")
"""Where a minimum is. Flat: over more than a point, of which the first is taken."""


def lowest(
    basis: Callable, b: Array, low: Array, high: Array, columns: Array | None = None
) -> tuple[Array, Array]:
    """The minima of S curves of one basis within a range.

    Parameters
    ----------
    basis
        From x of shape (m,) to its columns, shape (m, k).
    b
        Coefficients of the curves, shape (S, k).
    low, high
        Ends of the range.
    columns
        The basis at `grid`, where it is known.

    Returns
    -------
    x, place
        Shapes (S,): the minima, and which of `PLACES` they have.
    """
    xp = namespace(b, low, high)
    points = constant(grid(low, high, xp))
    if columns is None:
        columns = basis(points)
    values = constant(b) @ constant(columns).T
    least, most = values.min(1), values.max(1)
    near = values <= (least + FLAT_CURVE * (most - least))[:, None]
    # Two points of a grid may be equally low about a minimum that is one point.
    flat = near.sum(1) > 2
    first = xp.where(flat, near.argmax(1), values.argmin(1))
    left, right = points[xp.maximum(first - 1, 0)], points[xp.minimum(first + 1, GRID_POINTS - 1)]
    span = points[-1] - points[0]

    def derivatives(x: Array) -> tuple[Array, Array]:
        return slopes(basis, b, x, points[0], points[-1])

    start = points[first]
    slope, _ = derivatives(start)
    at_low = (first == 0) & (slope >= 0)
    at_high = (first == GRID_POINTS - 1) & (slope <= 0)
    moves = constant(~(flat | at_low | at_high))

    def step(state: tuple) -> tuple:
        x, left, right, _ = state
        slope, bend = derivatives(x)
        left, right = xp.where(slope < 0, x, left), xp.where(slope > 0, x, right)
        tried = x - slope / xp.where(bend > 0, bend, 1.0)
        inside = (bend > 0) & (tried > left) & (tried < right)
        new = xp.where(inside, tried, 0.5 * (left + right))
        new = xp.where(moves & (slope != 0), new, x)
        return new, left, right, xp.abs(new - x)

    state = (start, left, right, xp.full(start.shape, span))
    x = _repeated(xp, step, state, MINIMUM_FOUND * span)
    if xp is not np:
        for _ in range(2):
            slope, bend = derivatives(x)
            bends = moves & (bend > 0)
            x = xp.where(bends, x - slope / xp.where(bends, bend, 1.0), x)
        x = xp.where(at_low, low, xp.where(at_high, high, x))
    place = xp.where(at_low, LOWER_END, xp.where(at_high, UPPER_END, INTERIOR))
    return x, xp.where(flat, FLAT_PLACE, place)


def grid(low: Array, high: Array, xp: ModuleType = np) -> Array:
    """The points that are compared, shape (GRID_POINTS,)."""
    return low + (high - low) * xp.linspace(0.0, 1.0, GRID_POINTS)


def slopes(basis: Callable, b: Array, x: Array, low: Any, high: Any) -> tuple[Array, Array]:
    """f′ and f″ of each curve at a point of its own, shapes (S,).

    JAX differentiates the basis; for NumPy these are central differences, whose three points lie
    within the range.
    """
    if is_jax(b) or is_jax(x):
        return _traced_slopes(basis, b, x)
    _, first, second = differences(basis, x, low, high)
    return (first * b).sum(1), (second * b).sum(1)


def differences(
    basis: Callable, x: np.ndarray, low: float, high: float, step: float = DIFFERENCE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The basis and its first and second derivatives at x by differences, shapes (S, k)."""
    h = step * (high - low)
    # At an end the points move inwards, and Taylor's formula leads back.
    centre = np.clip(x, low + h, high - h)
    at = np.asarray(basis(np.concatenate([centre - h, centre, centre + h])))
    before, here, after = at.reshape(3, len(x), -1)
    second = (after - 2 * here + before) / h**2
    away = (x - centre)[:, None]
    first = (after - before) / (2 * h) + away * second
    return here + away * first, first, second


def _traced_slopes(basis: Callable, b: Array, x: Array) -> tuple[Array, Array]:
    import jax

    def curve(x: Array) -> Array:
        return (basis(x) * b).sum(1)

    def slope(x: Array) -> Array:
        return jax.jvp(curve, (x,), (jax.numpy.ones_like(x),))[1]

    return jax.jvp(slope, (x,), (jax.numpy.ones_like(x),))


def _repeated(xp: ModuleType, step: Callable, state: tuple, near: Any) -> Array:
    """The points after as many steps as move them, none of which is differentiated."""
    if xp is np:

        def go_on(state: tuple) -> Any:
            return (state[0] < MOST_STEPS) & (state[1][3].max() > near)

        return while_loop(xp, go_on, lambda s: (s[0] + 1, step(s[1])), (0, state))[1][0]
    following = step(state)  # traced where anything is that the step knows of
    if not is_traced(following):
        # Step by step: a loop of JAX would be compiled at each call, since its step is new.
        for _ in range(MOST_STEPS):
            if not float(following[3].max()) > near:
                break
            following = step(following)
        return following[0]
    # A loop of a known length, since a derivative is asked for, if only to be left out.
    return constant(fori_loop(xp, MOST_STEPS, lambda _, own: step(own), state)[0])
