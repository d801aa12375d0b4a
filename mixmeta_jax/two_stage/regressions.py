"""Generalised linear models of many locations side by side, by Newton's method.

With a canonical link the score of the coefficients γ is g = X'W(y − μ) and minus its derivative,
observed and expected, G = X'WVX with V = V(μ), so that iteratively reweighted least squares is
Newton's method. A step that raises the deviance is halved. It ends where the decrement g'G⁻¹g, the
square of what is left in standard errors, is rounding.

The columns of X are nearly orthonormal (`two_stage.batches` makes them so): what X'WVX loses by
being a product is then nothing, however close to collinear the user's columns are. The axes are
locations, rows, columns; padding has no weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mixmeta_jax.arrays import Array, namespace, tree, while_loop
from mixmeta_jax.likelihood.elimination import whitener
from mixmeta_jax.tolerances import (
    DECREMENT,
    EXACT_FIT,
    PARTED_SHARE,
    PARTED_STEP,
    ROUNDED_DECREMENT,
    ROUNDED_DEVIANCE,
    ROUNDED_OUTCOMES,
)
from mixmeta_jax.two_stage.families import Family

MOST_EVALUATIONS = 60
"""Of the deviance, for one location: a regression takes 5 to 10, one that is parted 25."""


@tree
@dataclass(frozen=True)
class Regressions:
    """The data of B regressions.

    Attributes
    ----------
    X, y, offset
        Columns, shape (B, n, p), outcomes and offsets, shape (B, n).
    weights
        Shape (B, n), 0 in rows that pad.
    padding
        1 for columns that pad, which are 0, shape (B, p).
    df
        Residual degrees of freedom, shape (B,).
    """

    X: Array
    y: Array
    offset: Array
    weights: Array
    padding: Array
    df: Array


@tree
@dataclass(frozen=True)
class Regressed:
    """The ends of B regressions.

    Attributes
    ----------
    coefficients, step
        γ̂, and the step that led there, shape (B, p).
    information
        X'WVX, with ones for columns that pad, shape (B, p, p).
    deviance, pearson
        Deviance, and Pearson's statistic Σ w (y − μ)² / V(μ), shape (B,).
    decrement
        g'G⁻¹g before the last step, shape (B,).
    evaluations
        Of the deviance, shape (B,).
    settled, parted
        Whether nothing is left to gain; whether the coefficients run away while the deviance
        stands still, as they do for rows that the columns set apart. Shape (B,).
    running
        Whether the search still goes on, shape (B,).
    """

    coefficients: Array
    step: Array
    information: Array
    deviance: Array
    pearson: Array
    decrement: Array
    evaluations: Array
    settled: Array
    parted: Array
    running: Array


def regress(data: Regressions, family: Family, most: int = MOST_EVALUATIONS) -> Regressed:
    """The maxima of the (quasi-)likelihoods."""
    xp = namespace(data.X)
    started, first = _departure(data, family)

    def go_on(state: tuple[Regressed, Array]) -> Any:
        return state[0].running.any()

    def body(state: tuple[Regressed, Array]) -> tuple[Regressed, Array]:
        return _one_step(data, family, most, *state)

    return while_loop(xp, go_on, body, (started, first))[0]


def _departure(data: Regressions, family: Family) -> tuple[Regressed, Array]:
    """Nothing reached yet, and the first coefficients to try: weighted least squares."""
    xp = namespace(data.X)
    mu = family.start(xp, data.y)
    eta, slope = family.link(xp, mu), family.variance(xp, mu)
    working = eta - data.offset + (data.y - mu) / slope
    weights = data.weights * slope
    information = _information(data, weights)
    gradient = _transposed_product(data.X, weights * working)
    first = _solved(information, gradient)
    B, p = data.padding.shape
    none, no = xp.zeros((B, p)), xp.zeros(B, bool)
    infinite = xp.full(B, xp.inf)
    zero = xp.zeros(B)
    start = Regressed(
        none, none, information, infinite, zero, infinite, zero, no, no, ~no
    )  # fmt: skip
    return start, first


def _one_step(
    data: Regressions, family: Family, most: int, at: Regressed, trial: Array
) -> tuple[Regressed, Array]:
    """The coefficients that were tried, taken or not, and those to try next."""
    xp = namespace(data.X)
    here = newton_step(data, family, trial)
    step = here.step
    deviance = (data.weights * family.deviance(xp, data.y, here.eta)).sum(-1)
    # Whatever is not finite has not fallen.
    fallen = deviance <= at.deviance + ROUNDED_DEVIANCE * (1.0 + xp.abs(at.deviance))
    decrement = (here.gradient * step).sum(-1)
    moved = (xp.abs(_product(data.X, step)) * (data.weights > 0)).max(-1)

    taken = at.running & fallen
    unit = _unit(data, family, deviance)
    small = decrement <= DECREMENT * unit
    floor = ROUNDED_DECREMENT * unit + ROUNDED_OUTCOMES * (data.weights * data.y**2).sum(-1)
    rounding = (decrement <= floor) & (2.0 * decrement >= at.decrement)
    settled = taken & (small | rounding)
    parted = taken & ~settled & (family.name != "gaussian")
    parted = parted & (decrement <= PARTED_SHARE) & (moved > PARTED_STEP)
    broken = taken & ~xp.isfinite(decrement)
    evaluations = at.evaluations + at.running
    running = at.running & ~(settled | parted | broken) & (evaluations < most)

    def kept(new: Array, old: Array) -> Array:
        return xp.where(taken.reshape(taken.shape + (1,) * (new.ndim - 1)), new, old)

    found = Regressed(
        coefficients=kept(xp.where(settled[:, None], trial + step, trial), at.coefficients),
        step=kept(step, at.step),
        information=kept(here.information, at.information),
        deviance=kept(deviance, at.deviance),
        pearson=kept(here.pearson, at.pearson),
        decrement=kept(decrement, at.decrement),
        evaluations=evaluations,
        settled=at.settled | settled,
        parted=at.parted | parted,
        running=running,
    )
    following = xp.where(taken[:, None], trial + step, 0.5 * (at.coefficients + trial))
    return found, xp.where(running[:, None], following, found.coefficients)


@dataclass(frozen=True)
class NewtonStep:
    """What any coefficients γ say.

    Attributes
    ----------
    eta
        Linear predictor, shape (B, n).
    gradient, information, step
        g and G⁻¹g, shape (B, p), and G, shape (B, p, p).
    pearson
        Pearson's statistic, shape (B,).
    """

    eta: Array
    gradient: Array
    information: Array
    step: Array
    pearson: Array


def newton_step(data: Regressions, family: Family, coefficients: Array) -> NewtonStep:
    """At coefficients of shape (B, p)."""
    xp = namespace(data.X)
    eta = data.offset + _product(data.X, coefficients)
    mu = family.mean(xp, eta)
    slope = family.variance(xp, mu)
    residual = data.y - mu
    information = _information(data, data.weights * slope)
    gradient = _transposed_product(data.X, data.weights * residual)
    # Where V is 0, so are the residual and its part of the statistic.
    square = xp.where(slope > 0, residual**2 / xp.where(slope > 0, slope, 1.0), 0.0)
    step, pearson = _solved(information, gradient), (data.weights * square).sum(-1)
    return NewtonStep(eta, gradient, information, step, pearson)


def _unit(data: Regressions, family: Family, deviance: Array) -> Array:
    """What a decrement of one standard error squared is, about."""
    if not family.dispersed:
        return namespace(deviance).ones_like(deviance)
    size = (data.weights * data.y**2).sum(-1)
    return (deviance + EXACT_FIT * size) / data.df


def _product(X: Array, coefficients: Array) -> Array:
    return (X @ coefficients[:, :, None])[:, :, 0]


def _transposed_product(X: Array, values: Array) -> Array:
    return (values[:, None, :] @ X)[:, 0, :]


def _information(data: Regressions, weights: Array) -> Array:
    xp = namespace(data.X)
    # The root of nothing has no derivative.
    roots = xp.where(weights > 0, xp.sqrt(xp.where(weights > 0, weights, 1.0)), 0.0)
    roots = roots[:, :, None] * data.X
    products = xp.swapaxes(roots, 1, 2) @ roots
    return products + data.padding[:, :, None] * xp.eye(data.X.shape[-1])


def _solved(information: Array, gradient: Array) -> Array:
    """G⁻¹g, NaN where G is not positive definite."""
    xp = namespace(information)
    R, _ = whitener(xp.moveaxis(information, 0, -1))
    R = xp.moveaxis(R, -1, 0)
    return _transposed_product(R, _product(R, gradient))
