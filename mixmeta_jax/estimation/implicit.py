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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.design.design import Tensors
from mixmeta_jax.estimation.newton import evaluate
from mixmeta_jax.estimation.search import Found, Problem, search
from mixmeta_jax.likelihood.likelihood import centred
from mixmeta_jax.likelihood.algebra import whitener

HELD = 1e-8
"""Information left on a parameter, in its natural unit, below which its value is held."""


def optimum(tensors: Tensors, problem: Problem, method: str) -> Found:
    """The maximum of the likelihood, differentiable in the data.

    Parameters
    ----------
    tensors
        The data.
    problem
        Where and how to search; not differentiated.
    method
        "ml" or "reml".
    """
    leaves, structure = jax.tree.flatten(tensors)
    return _optimum(leaves, problem, structure, method)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _optimum(leaves: list, problem: Problem, structure: Any, method: str) -> Found:
    return search(jax.tree.unflatten(structure, leaves), problem, method)


def _optimum_jvp(
    structure: Any, method: str, primals: tuple, tangents: tuple
) -> tuple[Found, Found]:
    (leaves, problem), (dleaves, _) = primals, tangents
    found = _optimum(leaves, problem, structure, method)
    moves = [_moves(dleaf) for dleaf in dleaves]

    def gradient(moving: list[Any]) -> tuple[Array, Array]:
        values = iter(moving)
        full = [next(values) if m else leaf for leaf, m in zip(leaves, moves, strict=True)]
        data, _ = centred(jax.tree.unflatten(structure, full))
        at = evaluate(found.theta, data, method == "reml", exact=True)
        return at.gradient, at.observed

    moving = [leaf for leaf, m in zip(leaves, moves, strict=True) if m]
    dmoving = [dleaf for dleaf, m in zip(dleaves, moves, strict=True) if m]
    dtheta = jnp.zeros_like(found.theta)
    if moving:
        _, dgradient, H = jax.jvp(gradient, (moving,), (dmoving,), has_aux=True)
        dtheta = solve(H, jax.lax.stop_gradient(problem.units), dgradient)
    still: Any = np.zeros(found.status.shape, jax.dtypes.float0)
    return found, Found(dtheta, still, still, jnp.zeros_like(found.norm))


_optimum.defjvp(_optimum_jvp, symbolic_zeros=True)


def solve(H: Array, units: Array, v: Array) -> Array:
    """H⁻¹v for the observed information; parameters without information are held (0 there).

    NaN where H has a negative curvature, be it so slight (above `convergence.ASCENT`) that the
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


def _moves(tangent: Any) -> bool:
    still = isinstance(tangent, jax.custom_derivatives.SymbolicZero)
    return not still and tangent.dtype != jax.dtypes.float0
