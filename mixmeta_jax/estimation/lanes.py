"""Newton's method on many data sets at once: one lane each, the last axis of every array.

The steps are those of `newton`: damped, never downhill, led by an information matrix in closed
form. What differs is the matrix and the end. Where the expected information is a closed form, the
observed one leads; elsewhere the average information less the curvature of θ → Ψ, which costs a
tenth of it and is exact along every direction in which Ψ does not move; close to the maximum the
difference is learnt from the gradients (a symmetric rank-one update). Lanes go on until the
scale-free gradient is 1e-10, or stops falling at the level of rounding.

A lane that has ended is frozen. The loop ends when few are left, so that the caller can fill their
places: the slowest data set does not hold the rest.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.design.design import Tensors
from mixmeta_jax.estimation.convergence import Verdict, judge
from mixmeta_jax.estimation.lane_data import complete_tensors
from mixmeta_jax.estimation.newton import NO_INFORMATION
from mixmeta_jax.likelihood.information import (
    average_information,
    expected_information,
    has_closed_expected,
)
from mixmeta_jax.likelihood.likelihood import centred, constant, profile
from mixmeta_jax.likelihood.algebra import matmul, transpose, whitener
from mixmeta_jax.likelihood.sweep import downward, upward

RUNNING, ARRIVED, GIVEN_UP, NOWHERE, JOINED = range(5)
"""Phases of a lane; NOWHERE: the likelihood was not finite where it began; JOINED: it has come to
a maximum that is known."""

GRADIENT = 1e-10
"""Scale-free gradient norm at which a lane has arrived."""

CLOSE = 0.3
"""Norm below which gradients correct the information."""

ROUNDING = 1e-6
"""Norm below which a gradient that has stopped falling is rounding."""

JOINS, JOINS_NORM = 0.01, 0.1
"""Distance of Ψ from a known maximum, in units of the scales, and norm: a lane joins it below."""

STALLED = 4
"""Evaluations without progress after which the gradient counts as rounding."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Evaluation:
    """The likelihood of B data sets and its derivatives, each at its own θ.

    Attributes
    ----------
    value, gradient
        Log-likelihood without its constant terms, shape (B,), and ∂ℓ/∂θ, shape (n_θ, B).
    information, guide
        What leads the steps, and the positive definite matrix that leads them where it is not,
        shape (n_θ, n_θ, B).
    beta, V
        Coefficients, shape (P, B), and their covariance, shape (P, P, B).
    """

    value: Any
    gradient: Any
    information: Any
    guide: Any
    beta: Any
    V: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Lanes:
    """Where B optimisations stand, on the device or as numpy arrays; see `newton.Path`.

    Attributes
    ----------
    theta, at
        Best parameters so far, shape (n_θ, B), and the evaluation there.
    trial, predicted
        Parameters to evaluate next, and the gain that the quadratic model promises.
    secant
        What the gradients add to the information, shape (n_θ, n_θ, B).
    damping, norm, least
        Levenberg-Marquardt parameter, scale-free norm of the gradient, and the least so far.
    stalled
        Evaluations since the norm last fell by half.
    n_iter, phase
        Evaluations so far, and one of the phases.
    """

    theta: Any
    at: Evaluation
    trial: Any
    predicted: Any
    secant: Any
    damping: Any
    norm: Any
    least: Any
    stalled: Any
    n_iter: Any
    phase: Any


def evaluate(theta: Array, data: Tensors, restricted: bool) -> Evaluation:
    """Value, gradient and information of every lane; ``data`` is centred."""
    by_lane = functools.partial(jax.vmap, in_axes=-1, out_axes=-1)
    Psi = by_lane(data.Psi)(theta)
    up = upward(Psi, data)
    solution = profile(up)
    V = solution.V
    down = downward(up, data, solution.beta, V if restricted else jnp.zeros_like(V))
    value = -0.5 * (solution.deviance + (solution.logdet_A if restricted else 0.0))
    rises = tuple(P - T for P, T in zip(down.products, down.traces, strict=True))  # 2 ∂ℓ/∂Ψ
    slopes = by_lane(data.slopes)(theta)
    gradient = jnp.concatenate(
        [0.5 * (dP * g[:, :, None]).sum((0, 1)) for dP, g in zip(slopes, rises, strict=True)]
    )
    curvature = by_lane(data.curvature)(theta, rises)
    average = average_information(up, down, data, V, slopes)
    own = jnp.eye(len(theta))[:, :, None] * jnp.abs(curvature)
    if has_closed_expected(data):
        expected = expected_information(up, data, V, slopes[0], restricted)
        information = 2 * average - expected - curvature
    else:
        information = average - curvature
    return Evaluation(value, gradient, information, average + own, solution.beta, V)


def departure(theta: np.ndarray, n_coefficients: int) -> Lanes:
    """Lanes that have not been evaluated yet, as numpy arrays."""
    n, B = theta.shape
    zero = np.zeros(B)
    nowhere = Evaluation(
        zero - np.inf,
        np.zeros((n, B)),
        np.zeros((n, n, B)),
        np.zeros((n, n, B)),
        np.zeros((n_coefficients, B)),
        np.zeros((n_coefficients, n_coefficients, B)),
    )
    count = np.zeros(B, int)
    far = zero + np.inf
    secant = np.zeros((n, n, B))
    return Lanes(theta, nowhere, theta, zero, secant, zero, far, far, count, count, count)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stop:
    """What `climb` returns.

    Attributes
    ----------
    lanes
        Where the optimisations stand; None where a `Job` holds them.
    Psi
        Ψ of each level there, shape (d, d, B).
    centre
        Coefficients that were taken out to centre the data, shape (P, B).
    constant
        What the log-likelihood has beside the values of the lanes, shape (B,).
    verdict
        What the stops are, shape (B,), and (n_θ, B) for the ascent. Along the directions in which Ψ
        does not move, the information that leads a lane is the observed one.
    without
        Value of each lane with no variance at one level after the other, outer first, then at none
        (`start` begins with small variances there), shape (1 or L + 1, B); NaN where all
        lanes have a maximum that is known.
    """

    lanes: Lanes | None
    Psi: tuple[Array, ...]
    centre: Array
    constant: Array
    verdict: Verdict
    without: Array


@functools.partial(jax.jit, static_argnames="restricted")
def climb(
    lanes: Lanes,
    shared: Tensors,
    parts: list[dict[str, Array]],
    units: Array,
    scales: list[Array],
    known: list[Array],
    max_iter: Array,
    gradient_tol: Array,
    few: Array,
    *,
    restricted: bool,
) -> Stop:
    """Go on until no more than ``few`` lanes are running.

    Parameters
    ----------
    lanes
        Where they stand.
    shared, parts
        The data, as in `lane_data`.
    units
        Natural size of each parameter, shape (n_θ, B).
    scales
        Per level: the variance that counts as one unit of size, shape (d, B).
    known
        Per level: Ψ at a maximum that was found before, shape (d, d, B), or NaN.
    max_iter
        Largest number of evaluations of a lane.
    gradient_tol
        Norm at which the verdict takes the gradient for zero.
    few
        Number of running lanes at which to return.
    restricted
        Whether to maximise the restricted likelihood.
    """
    tensors = complete_tensors(shared, parts)
    data, centre = centred(tensors)

    def go_on(lanes: Lanes) -> Array:
        return (lanes.phase == RUNNING).sum() > few

    def body(lanes: Lanes) -> Lanes:
        new = _step(lanes, data, units, max_iter, restricted)
        joins = (new.phase == RUNNING) & _at_known(new, data, scales, known)
        new = replace(new, phase=jnp.where(joins, JOINED, new.phase))
        frozen = lanes.phase != RUNNING
        return jax.tree.map(lambda old, moved: jnp.where(frozen, old, moved), lanes, new)

    lanes = jax.lax.while_loop(go_on, body, lanes)
    Psi = jax.vmap(data.Psi, in_axes=-1, out_axes=-1)(lanes.theta)
    B = lanes.theta.shape[1]
    rest = jnp.broadcast_to(constant(tensors, restricted), (B,))
    kept = _kept_parameters(tuple(s.n_parameters(d) for s, d in zip(data.structures, data.dims)))
    without = jax.lax.cond(
        jnp.isnan(known[0]).any(),
        lambda theta: jax.lax.map(
            lambda own: _value_at(theta * own[:, None], data, restricted), kept
        ),
        lambda theta: jnp.full((len(kept), B), jnp.nan),
        lanes.theta,
    )
    verdict = _judged(lanes, Psi, data, units, scales, gradient_tol)
    return Stop(lanes, Psi, centre.reshape(-1, B), rest, verdict, without)


def _at_known(lanes: Lanes, data: Tensors, scales: list[Array], known: list[Array]) -> Array:
    """Which lanes are next to a maximum that is known, with little left to rise."""
    Psi = jax.vmap(data.Psi, in_axes=-1, out_axes=-1)(lanes.theta)
    away = [
        (jnp.abs(P - K) / jnp.sqrt(scale[:, None] * scale)).max((0, 1), initial=0.0)
        for P, K, scale in zip(Psi, known, scales, strict=True)
    ]
    furthest = functools.reduce(jnp.maximum, away)  # NaN where nothing is known
    return (furthest < JOINS) & (lanes.norm < JOINS_NORM)


def _judged(
    lanes: Lanes,
    Psi: tuple[Array, ...],
    data: Tensors,
    units: Array,
    scales: list[Array],
    gradient_tol: Array,
) -> Verdict:
    by_lane = functools.partial(jax.vmap, in_axes=-1, out_axes=-1)

    value = jnp.where(lanes.phase == NOWHERE, jnp.nan, lanes.at.value)
    slopes = by_lane(data.slopes)(lanes.theta)
    at = lanes.at
    one = functools.partial(judge, data.structures, gradient_tol=gradient_tol)
    return by_lane(one)(value, lanes.norm, at.information, at.guide, Psi, slopes, scales, units)


def _value_at(theta: Array, data: Tensors, restricted: bool) -> Array:
    """Log-likelihood of every lane without its constant terms, shape (B,)."""
    solution = profile(upward(jax.vmap(data.Psi, in_axes=-1, out_axes=-1)(theta), data))
    return -0.5 * (solution.deviance + (solution.logdet_A if restricted else 0.0))


def _kept_parameters(counts: tuple[int, ...]) -> np.ndarray:
    """1 for the parameters of the levels that stay, as in `Stop.without`; θ = 0 is Ψ = 0."""
    level = np.repeat(np.arange(len(counts)), counts)
    each = [level != lost for lost in range(len(counts))] if len(counts) > 1 else []
    return np.array([*each, np.zeros(len(level), bool)], float)


@functools.partial(jax.jit, static_argnames="method")
def solve(
    theta: Array, shared: Tensors, parts: list[dict[str, Array]], *, method: str
) -> tuple[Array, Array, Array, tuple[Array, ...]]:
    """Log-likelihood, coefficients and their covariance of every lane at its θ, and the Ψ."""
    tensors = complete_tensors(shared, parts)
    data, centre = centred(tensors)
    restricted = method == "reml"
    Psi = jax.vmap(data.Psi, in_axes=-1, out_axes=-1)(theta)
    solution = profile(upward(Psi, data))
    value = -0.5 * (solution.deviance + (solution.logdet_A if restricted else 0.0))
    B = theta.shape[1]
    beta = solution.beta + centre.reshape(-1, B)
    return value + constant(tensors, restricted), beta, solution.V, Psi


def _step(lanes: Lanes, data: Tensors, units: Array, max_iter: Array, restricted: bool) -> Lanes:
    new = evaluate(lanes.trial, data, restricted)
    first = lanes.n_iter == 0
    gain = new.value - lanes.at.value
    # Close to the maximum a gain is smaller than the rounding of the likelihood.
    relative = jnp.where(lanes.norm < 1e-4, 1e-11, 1e-13)
    rounding = relative * (1 + jnp.abs(lanes.at.value))
    rises = first | (gain >= 1e-4 * lanes.predicted - rounding)
    accepted = rises & jnp.isfinite(new.value) & jnp.isfinite(new.gradient).all(0)
    theta, at = jax.tree.map(
        lambda a, b: jnp.where(accepted, a, b), (lanes.trial, new), (lanes.theta, lanes.at)
    )
    ratio = jnp.where(first, 1.0, gain / jnp.maximum(lanes.predicted, rounding))
    close = lanes.norm < 1e-4
    relaxed = jnp.where((ratio > 0.7) | close, lanes.damping / 10, lanes.damping)
    relaxed = jnp.where((ratio < 0.25) & ~close, jnp.maximum(2 * lanes.damping, 1e-3), relaxed)
    relaxed = jnp.where(relaxed < 1e-6, 0.0, relaxed)
    damping = jnp.where(accepted, relaxed, jnp.maximum(8 * lanes.damping, 1e-2))
    secant = lanes.secant
    if not has_closed_expected(data):
        secant = _corrected(lanes, new, accepted, units)
    move, predicted, norm = _newton_step(at, secant, damping, units)
    n_iter = lanes.n_iter + 1
    falls = norm < 0.5 * lanes.least
    stalled = jnp.where(falls, 0, lanes.stalled + 1)
    least = jnp.where(falls, norm, lanes.least)
    arrived = (norm <= GRADIENT) | ((norm <= ROUNDING) & (stalled >= STALLED))
    out = (n_iter >= max_iter) | (damping > 1e12)
    phase = jnp.where(arrived, ARRIVED, jnp.where(out, GIVEN_UP, RUNNING))
    phase = jnp.where(first & ~accepted, NOWHERE, phase)
    return Lanes(
        theta, at, theta + move, predicted, secant, damping, norm, least, stalled, n_iter, phase
    )


def _corrected(lanes: Lanes, new: Evaluation, accepted: Array, units: Array) -> Array:
    """The secant matrix for which the last step explains the change of the gradient."""
    step = (lanes.trial - lanes.theta) / units
    scale = units[:, None] * units[None]
    change = (lanes.at.gradient - new.gradient) * units
    matrix = (new.information + lanes.secant) * scale
    left = change - (matrix * step[None]).sum(1)
    product = (left * step).sum(0)
    size = jnp.sqrt((left**2).sum(0) * (step**2).sum(0))
    close = (lanes.norm < CLOSE) & (lanes.norm > 1e-7) & (lanes.n_iter > 0)
    # Where what is left stands across the step, the update is large and says nothing.
    sound = accepted & close & (jnp.abs(product) > 0.1 * size)
    update = left[:, None] * left[None] / jnp.where(sound, product, 1.0) / scale
    return lanes.secant + jnp.where(sound, update, 0.0)


def _newton_step(
    at: Evaluation, secant: Array, damping: Array, units: Array
) -> tuple[Array, Array, Array]:
    """Damped step, the gain it promises, and the scale-free norm of the gradient."""
    n = len(at.gradient)
    diagonal = jnp.stack([at.guide[a, a] for a in range(n)])
    root = jnp.sqrt(jnp.maximum(diagonal, NO_INFORMATION / units**2))
    scaled = at.gradient / root
    size = root[:, None] * root[None]
    ridge = (damping + 1e-14) * jnp.eye(n)[:, :, None]
    both = jnp.stack([(at.information + secant) / size + ridge, at.guide / size + ridge], 2)
    R, _ = whitener(both)
    concave = jnp.isfinite(R[:, :, 0]).all((0, 1))
    R = jnp.where(concave, R[:, :, 0], R[:, :, 1])
    white = matmul(R, scaled[:, None])
    move = matmul(transpose(R), white)[:, 0]
    squared = (white**2).sum((0, 1))
    norm = jnp.maximum(jnp.sqrt(squared), jnp.abs(scaled).max(0))
    return move / root, 0.5 * squared, norm
