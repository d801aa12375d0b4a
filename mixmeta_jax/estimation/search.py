"""The search for the maximum as one traced function: several starts, saddles left, a status code.

The same search as ``estimator``'s, which runs on the host and may choose by value what to compile;
here one loop holds the ascent, the verdict and the way off a saddle, for ``jit`` and ``vmap``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from mixmeta_jax.design.design import Tensors
from mixmeta_jax.estimation.convergence import judge
from mixmeta_jax.estimation.estimator import CLEARLY, ESCAPES, EXACT_SIZE, SEVERAL_SIZE
from mixmeta_jax.estimation.newton import maximise, values_at
from mixmeta_jax.model import one_level
from mixmeta_jax.status import Status


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """Where and how to search.

    Attributes
    ----------
    starts
        Parameters to start from, shape (n_starts, n_θ).
    scales
        Per level: the variance of each random effect that counts as one unit of size, shape (d,).
    units
        Size of each parameter at such variances, shape (n_θ,).
    max_iter, gradient_tol
        As in `Control`.
    """

    starts: Array
    scales: tuple[Array, ...]
    units: Array
    max_iter: Array
    gradient_tol: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Found:
    """The end of a search.

    Attributes
    ----------
    theta
        Parameters, shape (n_θ,).
    status, n_iter
        Code of a `Status`; evaluations of the paths that were kept.
    norm
        Scale-free norm of the gradient.
    """

    theta: Array
    status: Array
    n_iter: Array
    norm: Array


def search(tensors: Tensors, problem: Problem, method: str) -> Found:
    """The highest point found from the starts; every argument may be traced."""
    block = tensors.blocks[0]
    size = sum(b.y.size for b in tensors.blocks)
    climb = functools.partial(
        maximise,
        tensors=tensors,
        units=problem.units,
        max_iter=problem.max_iter,
        gradient_tol=problem.gradient_tol,
        method=method,
    )
    starts = jnp.asarray(problem.starts)
    n_iter = jnp.zeros((), int)
    if size > SEVERAL_SIZE and len(starts) > 1:
        values = values_at(starts, tensors, method=method)
        starts = starts[jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))][None]
    if size > EXACT_SIZE and not one_level.covers(tensors):
        path = climb(starts, exact=False).path
        starts, n_iter = path.theta, path.n_iter[0]
    zero = jnp.zeros((), int)
    nothing = Found(
        starts[0], zero + Status.NOT_FINITE, n_iter, jnp.asarray(jnp.inf, block.y.dtype)
    )

    def attempt(state: tuple) -> tuple:
        starts, value, best, rising, rounds = state
        maximum = climb(starts, exact=True)
        values = maximum.path.at.value
        lane = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))
        path, Psi, slopes = jax.tree.map(
            lambda leaf: leaf[lane], (maximum.path, maximum.Psi, maximum.slopes)
        )
        verdict = judge(
            tensors.structures,
            path.at.value,
            path.norm,
            path.at.observed,
            path.at.guide,
            Psi,
            slopes,
            problem.scales,
            problem.units,
            problem.gradient_tol,
        )
        status, rising = verdict.status, verdict.rising
        gain = path.at.value - value
        better = (rounds == 0) | (gain > CLEARLY * (1 + jnp.abs(value)))
        rising = rising & better
        status = jnp.where(rising & (rounds == ESCAPES), int(Status.MAX_ITER), status)
        new = Found(path.theta, status, best.n_iter + path.n_iter, path.norm)
        kept = Found(best.theta, best.status, new.n_iter, best.norm)
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, kept)
        value = jnp.where(better, path.at.value, value)
        return (
            best.theta + jnp.outer(_steps(len(starts)), verdict.ascent),
            value,
            best,
            rising,
            rounds + 1,
        )

    def unfinished(state: tuple) -> Array:
        *_, rising, rounds = state
        return (rounds == 0) | (rising & (rounds <= ESCAPES))

    state = (starts, jnp.asarray(-jnp.inf), nothing, jnp.zeros((), bool), zero)
    return jax.lax.while_loop(unfinished, attempt, state)[2]


def _steps(n_starts: int) -> Array:
    """Both sides of a saddle, ever further."""
    return jnp.asarray([(-1) ** lane * 0.1 * 2.0 ** (lane // 2) for lane in range(n_starts)])
