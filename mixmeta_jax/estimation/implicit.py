"""The estimate of θ as a differentiable function of the data, by the implicit function theorem.

At the optimum the gradient g(θ, data) = ∂ℓ/∂θ vanishes, so that it moves with the data by

    dθ = H⁻¹ (∂g/∂data) d data,    H = −∂²ℓ/∂θ∂θᵀ.

The rule uses nothing but the optimum and plain functions of it, so that it can be transposed for
reverse mode and differentiated again.

At a boundary no other rule is needed. A variance is a square of its parameter or, in structures of
standard deviations, a fourth power, so that at a null variance ∂g/∂data is zero: dθ = 0 there, and
the other parameters move as those of the constrained optimum do. (H holds the slope of the
likelihood in that variance, which is negative, for a square, and zero for a fourth power.) Where H
is singular, as there or where the likelihood is flat along a direction, as many parameters as
needed are held where they are; what the likelihood identifies has the same derivative whichever
they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.arrays import is_traced, register_trees, traced_as_ours, tree
from mixmeta_jax.design.tensors import Tensors
from mixmeta_jax.estimation.ascent import Ends, ascend_each, problem_of, values_at
from mixmeta_jax.estimation.newton import evaluate
from mixmeta_jax.estimation.programs import PROGRAMS
from mixmeta_jax.estimation.restarts import worth_restarting
from mixmeta_jax.estimation.search import Maximum, search
from mixmeta_jax.likelihood.elimination import whitener
from mixmeta_jax.likelihood.information import is_exact
from mixmeta_jax.likelihood.likelihood import moves, prepared
from mixmeta_jax.tolerances import HELD

register_trees()


@tree
@dataclass(frozen=True)
class Search:
    """Where and how to search.

    Attributes
    ----------
    starts
        Parameters to start from, shape (n_starts, n_θ).
    further
        Those of restarts, shape (batches, n_θ, n_starts); None for none.
    scales
        Per level: the variance of each random effect that counts as one unit of size, (d, 1).
    units
        Natural size of each parameter, shape (n_θ, 1).
    max_iter, gradient_tol
        As in `Control`.
    several
        Whether every start is followed, or that of the highest likelihood.
    """

    starts: Array
    further: Array | None
    scales: tuple[Array, ...]
    units: Array
    max_iter: Any
    gradient_tol: Any
    several: bool = field(default=True, metadata={"static": True})


def maximum(tensors: Tensors, given: Search, restricted: bool) -> Maximum:
    """The search of `estimator`, traced."""

    def climb(theta: Array, max_iter: Array, known: tuple[Array, ...] | None) -> Ends:
        steering = given.units, given.scales, known, max_iter, given.gradient_tol
        problem = problem_of(theta.shape[1], *steering)
        return ascend_each(theta, tensors, problem, restricted=restricted)

    starts = given.starts
    if len(starts) > 1 and not given.several:
        values = values_at(starts[:, :, None], tensors, restricted=restricted)
        starts = starts[jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))][None]
    worth = functools.partial(worth_restarting, tensors.structures)
    return search(
        climb,
        starts.T,
        None if given.further is None else lambda: given.further,
        worth,
        given.max_iter,
        given.gradient_tol,
        tensors.dims,
        tensors.n_coefficients,
    )


def optimum(tensors: Tensors, given: Search, restricted: bool) -> Maximum:
    """The maximum of the likelihood, its parameters differentiable in the data.

    Parameters
    ----------
    tensors
        The data.
    given
        Where and how to search; not differentiated.
    restricted
        Whether the likelihood is the restricted one.
    """
    leaves, structure = jax.tree.flatten(tensors)
    return _optimum(leaves, given, structure, restricted)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _optimum(leaves: list, given: Search, structure: Any, restricted: bool) -> Maximum:
    tensors = jax.tree.unflatten(structure, leaves)
    if any(map(is_traced, (*leaves, *jax.tree.leaves(given)))):
        return maximum(tensors, given, restricted)
    # JAX would trace and compile the loop anew in every call.
    found = PROGRAMS(maximum, tensors, given, restricted=restricted)
    return jax.tree.map(jnp.asarray, found)


@traced_as_ours
def _optimum_jvp(
    structure: Any, restricted: bool, primals: tuple, tangents: tuple
) -> tuple[Maximum, Maximum]:
    (leaves, given), (dleaves, _) = primals, tangents
    found = _optimum(leaves, given, structure, restricted)
    moving = [moves(dleaf) for dleaf in dleaves]

    def gradient(theta: Array, own: list[Any]) -> tuple[Array, Array | None]:
        values = iter(own)
        full = [next(values) if m else leaf for leaf, m in zip(leaves, moving, strict=True)]
        data, _ = prepared(jax.tree.unflatten(structure, full))
        at = evaluate(theta, data, restricted)
        exact = is_exact(data, restricted)
        return at.gradient[:, 0], at.information[:, :, 0] if exact else None

    own = [leaf for leaf, m in zip(leaves, moving, strict=True) if m]
    dtheta = jnp.zeros_like(found.theta)
    if own:
        down = [dleaf for dleaf, m in zip(dleaves, moving, strict=True) if m]
        at = functools.partial(gradient, found.theta)
        _, dgradient, H = jax.jvp(at, (own,), (down,), has_aux=True)
        if H is None:
            H = _observed(lambda theta: gradient(theta, own)[0], found.theta)
        dtheta = solve(H, jax.lax.stop_gradient(given.units[:, 0]), dgradient)[:, None]
    still = jax.tree.map(_still, found)
    return found, Maximum(**{**vars(still), "theta": dtheta})


_optimum.defjvp(_optimum_jvp, symbolic_zeros=True)


def _still(leaf: Array) -> Any:
    """The tangent of what is not differentiated."""
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)


def _observed(gradient: Callable[[Array], Array], theta: Array) -> Array:
    """−∂²ℓ/∂θ∂θᵀ, one direction after the other."""

    def along(direction: Array) -> Array:
        return -jax.jvp(gradient, (theta,), (direction[:, None],))[1]

    H = jax.lax.map(along, jnp.eye(len(theta)))
    return 0.5 * (H + H.T)


def solve(H: Array, units: Array, v: Array) -> Array:
    """H⁻¹v for the observed information; parameters without information are held (0 there).

    NaN where H has a negative curvature, be it so slight (above `verdict.ASCENT`) that the
    verdict takes it for none: there is no optimum to differentiate.
    """
    natural = H * jnp.outer(units, units)
    free = _informed(jax.lax.stop_gradient(natural))
    matrix = natural * jnp.outer(free, free) + jnp.diag(1 - free)
    R = whitener(matrix[:, :, None])[0][:, :, 0]
    return units * free * (R.T @ (R @ (units * free * v)))


def _informed(natural: Array) -> Array:
    """1 for parameters on which information is left by those before them, else 0, shape (n_θ,)."""

    def eliminate(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        A, free = state
        pivot = A[j, j]
        informed = ~(jnp.abs(pivot) <= HELD)
        column = A[:, j] * jnp.where(informed, 1 / jnp.where(informed, pivot, 1.0), 0.0)
        return A - column[:, None] * A[j][None], free.at[j].set(jnp.where(informed, 1.0, 0.0))

    start = (natural, jnp.ones(len(natural)))
    return jax.lax.fori_loop(0, len(natural), eliminate, start)[1]
