"""Newton's method on the log-likelihood of θ, damped, for B paths at once.

The paths are the last axis of every array: many data sets, or several starts of one, which then
share its data. One evaluation gives value, gradient and information in closed form:

- where the expected information is a closed form, the *observed* one, −∂²ℓ/∂θ∂θᵀ = 2 average −
  expected − curvature, leads the steps, which converge quadratically;
- elsewhere the average information less the curvature of θ → Ψ, which costs a tenth of it and is
  exact along every direction in which Ψ does not move; close to the maximum the difference is
  learnt from the gradients (a symmetric rank-one update);
- where that is not positive definite, the average information with the absolute curvature on its
  diagonal leads, away from the saddle that every null variance is.

Steps are damped as Levenberg and Marquardt do, in units of the information's diagonal, so that the
path does not depend on the scale of the data. A step is taken only where it raises the
log-likelihood, or, next to the maximum, where that is level to rounding and the gradient falls.
A path goes on until its gradient is nothing but rounding. One that has ended is frozen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, Float, mapped, namespace, once, shaped, tree, while_loop
from mixmeta_jax.design.tensors import Tensors
from mixmeta_jax.likelihood.algebra import matmul, transpose, vector
from mixmeta_jax.likelihood.elimination import whitener
from mixmeta_jax.likelihood.engines import engine_for
from mixmeta_jax.tolerances import (
    ACROSS,
    CLOSE,
    EPSILON,
    GOOD_STEP,
    GRADIENT,
    JOINS,
    JOINS_NORM,
    LEARNING,
    LEARNT,
    LEVEL_STEP,
    MOST_DAMPING,
    NO_DAMPING,
    NO_INFORMATION,
    PART_OF_GAIN,
    POOR_DAMPING,
    POOR_STEP,
    REFUSED_DAMPING,
    STEP_RIDGE,
)

RUNNING, ARRIVED, GIVEN_UP, NOWHERE, JOINED = range(5)
"""Phases of a path; NOWHERE: the likelihood was not finite where it began; JOINED: it has come to
a maximum that is known."""

STALLED = 4
"""Evaluations without progress after which the gradient counts as rounding."""


@tree
@dataclass(frozen=True)
class Evaluation:
    """The likelihood and its derivatives, each path at its own θ.

    Attributes
    ----------
    value, gradient
        Log-likelihood without its constant terms, shape (B,), and ∂ℓ/∂θ, shape (n_θ, B).
    information, preconditioner
        What leads the steps, and the positive definite matrix that leads them where it is not,
        shape (n_θ, n_θ, B).
    beta, root
        Coefficients, shape (P, B), and a root of their covariance, shape (P, P, B).
    """

    value: Array
    gradient: Array
    information: Array
    preconditioner: Array
    beta: Array
    root: Array


@tree
@dataclass(frozen=True)
class Path:
    """Where B optimisations stand.

    Attributes
    ----------
    theta, at
        Best parameters so far, shape (n_θ, B), and the evaluation there.
    trial, predicted
        Parameters to evaluate next, and the gain that the quadratic model promises.
    secant
        What the gradients add to the information, shape (n_θ, n_θ, B); None where that is exact.
    damping, steep
        Levenberg-Marquardt parameter, and the largest element of the gradient, scale-free.
    norm, least
        Scale-free norm of the gradient, and the least so far.
    stalled
        Evaluations since the norm last fell by half.
    n_iter, phase
        Evaluations so far, and one of the phases.
    """

    theta: Array
    at: Evaluation
    trial: Array
    predicted: Array
    secant: Array | None
    damping: Array
    steep: Array
    norm: Array
    least: Array
    stalled: Array
    n_iter: Array
    phase: Array


@tree
@dataclass(frozen=True)
class Problem:
    """What steers the paths, beside the data.

    Attributes
    ----------
    units
        Natural size of each parameter, shape (n_θ, B).
    scales
        Per level: the variance that counts as one unit of size, shape (d, B).
    known
        Per level: Ψ at a maximum that was found before, shape (d, d, B), or NaN; None for none.
    max_iter
        Largest number of evaluations of a path.
    gradient_tol
        Scale-free norm at which the gradient counts as zero.
    few
        Number of running paths at which to return.
    """

    units: Array
    scales: tuple[Array, ...]
    known: tuple[Array, ...] | None
    max_iter: Any
    gradient_tol: Any
    few: Any


@shaped
def evaluate(theta: Float[Array, "theta B"], data: Tensors, restricted: bool) -> Evaluation:
    """Value, gradient and information of every path; the data are `likelihood.prepared`."""
    xp = namespace(theta)
    slopes = data.slopes(theta)
    at = engine_for(data, theta.shape[1]).derivatives(data.Psi(theta), slopes, data, restricted)
    gradient = xp.concatenate(
        [0.5 * (dP * g[:, :, None]).sum((0, 1)) for dP, g in zip(slopes, at.gradients, strict=True)]
    )
    curvature = data.curvature(theta, at.gradients)
    own = np.eye(len(theta))[:, :, None] * xp.abs(curvature)
    average = at.average
    information = average if at.expected is None else 2 * average - at.expected
    preconditioner = average + own
    return Evaluation(at.value, gradient, information - curvature, preconditioner, at.beta, at.root)


@shaped
def departure(theta: Float[Array, "theta B"], n_coefficients: int, exact: bool) -> Path:
    """Paths that have not been evaluated yet, from θ of shape (n_θ, B)."""
    xp = namespace(theta)
    n, B = theta.shape
    P = n_coefficients
    zero = xp.zeros(B)
    nothing = xp.zeros((n, n, B))
    nowhere = Evaluation(
        zero - np.inf,
        xp.zeros((n, B)),
        nothing,
        nothing,
        xp.zeros((P, B)),
        xp.zeros((P, P, B)),
    )
    count = xp.zeros(B, int)
    far = zero + np.inf
    secant = None if exact else nothing
    return Path(theta, nowhere, theta, zero, secant, zero, far, far, far, count, count, count)


def climb(
    path: Path,
    data: Tensors,
    problem: Problem,
    restricted: bool,
    report: Callable[[Path], None] | None = None,
) -> Path:
    """Go on until no more than ``few`` paths are running; the data are `likelihood.prepared`."""
    xp = namespace(path.theta)

    def go_on(path: Path) -> Any:
        return (path.phase == RUNNING).sum() > problem.few

    def body(path: Path) -> Path:
        new = _step(path, data, problem, restricted)
        if problem.known is not None:
            joins = (new.phase == RUNNING) & _at_known(new, data, problem)
            new = replace(new, phase=xp.where(joins, JOINED, new.phase))
        if report is not None:
            report(new)
        return _chosen(path.phase == RUNNING, new, path)

    return while_loop(xp, go_on, body, path)


def _chosen(which: Array, new: Any, old: Any) -> Any:
    """The new arrays of some paths, the old ones of the others."""
    xp = namespace(which)
    if xp is np:
        if which.all():
            return new
        if not which.any():
            return old
    return mapped(lambda a, b: xp.where(which, a, b), new, old)


def _at_known(path: Path, data: Tensors, problem: Problem) -> Array:
    """Which paths are next to a maximum that is known, with little left to rise."""
    xp, known = namespace(path.theta), problem.known or ()
    away = [
        xp.abs((P - K) / xp.sqrt(scale[:, None] * scale)).max((0, 1))
        for P, K, scale in zip(data.Psi(path.theta), known, problem.scales, strict=True)
    ]
    furthest = functools.reduce(xp.maximum, away)  # NaN where nothing is known
    return (furthest < JOINS) & (path.norm < JOINS_NORM)


def _step(path: Path, data: Tensors, problem: Problem, restricted: bool) -> Path:
    xp = namespace(path.theta)
    units, tolerance = problem.units, problem.gradient_tol
    new = once(evaluate(path.trial, data, restricted), path.trial)
    first = path.n_iter == 0
    gain = new.value - path.at.value
    rounding = EPSILON * (1 + xp.abs(path.at.value))
    gains = first | (gain >= PART_OF_GAIN * path.predicted - rounding)
    # Next to the maximum of ill-conditioned data the gradient is more precise than the value; and
    # one that is all rounding may grow by a step, which is not taken then.
    steep = xp.abs(new.gradient / _roots(new, units)).max(0)
    close = path.norm < CLOSE
    gains |= close & (gain >= -LEVEL_STEP * rounding) & (steep < path.steep)
    gains &= (path.norm > tolerance) | (steep <= path.steep)
    accepted = gains & xp.isfinite(new.value) & xp.isfinite(new.gradient).all(0)
    theta, at = _chosen(accepted, (path.trial, new), (path.theta, path.at))
    ratio = xp.where(first, 1.0, gain / xp.maximum(path.predicted, rounding))
    relaxed = xp.where((ratio > GOOD_STEP) | close, path.damping / 10, path.damping)
    relaxed = xp.where(
        (ratio < POOR_STEP) & ~close, xp.maximum(2 * path.damping, POOR_DAMPING), relaxed
    )
    relaxed = xp.where(relaxed < NO_DAMPING, 0.0, relaxed)
    damping = xp.where(accepted, relaxed, xp.maximum(8 * path.damping, REFUSED_DAMPING))
    secant = path.secant
    if secant is not None:
        secant = _corrected(path, new, accepted, units)
    move, predicted, steep, norm = _newton_step(at, secant, damping, units)
    n_iter = path.n_iter + 1
    falls = norm < 0.5 * path.least
    stalled = xp.where(falls, 0, path.stalled + 1)
    least = xp.where(falls, norm, path.least)
    arrived = norm <= GRADIENT * tolerance
    if secant is None:
        # Quadratic convergence: one more step after the gradient has vanished.
        arrived |= (path.norm <= tolerance) & ~first
    arrived |= (norm <= tolerance) & (stalled >= STALLED)
    # What stalls next to the maximum, above a tolerance that rounding does not allow, ends too.
    lost = close & (stalled >= 5 * STALLED)
    out = (n_iter >= problem.max_iter) | (damping > MOST_DAMPING) | lost
    phase = xp.where(arrived, ARRIVED, xp.where(out, GIVEN_UP, RUNNING))
    phase = xp.where(first & ~accepted, NOWHERE, phase)
    ahead = theta + move
    counts = stalled, n_iter, phase
    return Path(theta, at, ahead, predicted, secant, damping, steep, norm, least, *counts)


def _roots(at: Evaluation, units: Array) -> Array:
    """Square root of the information on each parameter, the size of its gradient."""
    # A parameter on which there is no information must not divide rounding by rounding.
    xp = namespace(at.preconditioner)
    return xp.sqrt(xp.maximum(xp.einsum("aab->ab", at.preconditioner), NO_INFORMATION / units**2))


def _corrected(path: Path, new: Evaluation, accepted: Array, units: Array) -> Array:
    """The secant matrix for which the last step explains the change of the gradient."""
    xp = namespace(path.theta)
    step = (path.trial - path.theta) / units
    scale = units[:, None] * units[None]
    change = (path.at.gradient - new.gradient) * units
    matrix = (new.information + path.secant) * scale
    left = change - (matrix * step[None]).sum(1)
    product = (left * step).sum(0)
    size = xp.sqrt((left**2).sum(0) * (step**2).sum(0))
    close = (path.norm < LEARNING) & (path.norm > LEARNT) & (path.n_iter > 0)
    # Where what is left stands across the step, the update is large and says nothing.
    sound = accepted & close & (xp.abs(product) > ACROSS * size)
    update = left[:, None] * left[None] / xp.where(sound, product, 1.0) / scale
    return path.secant + xp.where(sound, update, 0.0)


def _newton_step(
    at: Evaluation, secant: Array | None, damping: Array, units: Array
) -> tuple[Array, Array, Array, Array]:
    """Damped step, the gain it promises, largest element and norm of the scale-free gradient."""
    xp, n = namespace(at.gradient), len(at.gradient)
    root = _roots(at, units)
    scaled = at.gradient / root
    size = root[:, None] * root[None]
    ridge = (damping + STEP_RIDGE) * np.eye(n)[:, :, None]
    leading = at.information if secant is None else at.information + secant
    R, _ = whitener(leading / size + ridge)
    concave = xp.isfinite(R).all((0, 1))
    if xp is not np or not concave.all():
        preconditioned, _ = whitener(at.preconditioner / size + ridge)
        R = xp.where(concave, R, preconditioned)
    white = vector(R, scaled)
    move = vector(transpose(R), white)
    # The quadratic model with the damped matrix promises a little less than the undamped one.
    squared = (white**2).sum(0)
    steep = xp.abs(scaled).max(0)
    return move / root, 0.5 * squared, steep, xp.maximum(xp.sqrt(squared), steep)


@shaped
def covariance_of(at: Evaluation) -> Float[Array, "P P B"]:
    """V of the coefficients, shape (P, P, B)."""
    return matmul(transpose(at.root), at.root)
