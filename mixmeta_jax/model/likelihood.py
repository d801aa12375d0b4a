"""The profiled (restricted) log-likelihood of Ψ, with its derivatives in closed form.

    ℓ(Ψ)   = −½ n log 2π − ½ Σ log|Σ_i| − ½ Σ r_iᵀ Σ_i⁻¹ r_i,    r_i = y_i − X_i β̂(Ψ)
    ℓ_R(Ψ) = ℓ(Ψ) + ½ P log 2π + ½ log|Σ X_iᵀX_i| − ½ log|Σ X_iᵀΣ_i⁻¹X_i|

(equation 2 of the paper). The first derivatives are those of ``sweep``, given to JAX as the rule of
one function; they are plain differentiable code themselves, so that the second are exact too.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mixmeta_jax.data.design import Tensors
from mixmeta_jax.data.sharding import over_mesh
from mixmeta_jax.model.shifts import shifted
from mixmeta_jax.model.small import matmul, root_product, transpose, whitener
from mixmeta_jax.model.sweep import Upward, downward, upward

LOG_2PI = 1.8378770664093453


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Profile:
    """The GLS solution for given Ψ, in the orthonormal basis of the predictors.

    Attributes
    ----------
    beta, V
        Coefficients, shape (P,), and their covariance, shape (P, P).
    deviance
        Σ log|Σ_i| + Σ r_iᵀ Σ_i⁻¹ r_i.
    logdet_A
        log|Σ X_iᵀΣ_i⁻¹X_i|.
    """

    beta: Array
    V: Array
    deviance: Array
    logdet_A: Array


def profile(up: Upward) -> Profile:
    """Generalised least squares at the root of the upward sweep (equation 3)."""
    R, logdet = whitener(up.A[:, :, None])
    R = R[:, :, 0]
    Rt = transpose(R)
    w = root_product(R, up.b[:, None])
    beta = root_product(Rt, w)[:, 0]
    return Profile(beta, root_product(Rt, R), up.logdet + up.c - (w[:, 0] ** 2).sum(0), logdet[0])


def centred(tensors: Tensors) -> tuple[Tensors, Array]:
    """The data less their ordinary least-squares fit, and its coefficients, shape (p, k).

    The likelihood does not change, but yᵀΣ⁻¹y − β̂ᵀXᵀΣ⁻¹y no longer cancels. One data set is
    `shifted` too.
    """
    k = tensors.blocks[0].y.shape[1]
    products = _predictor_products(tensors)
    p = products.shape[0]
    products = jnp.broadcast_to(products, (p, p, k, *products.shape[3:]))
    moments = sum(jnp.stack([(x * b.y).sum((0, 2)) for x in b.x]) for b in tensors.blocks)  # (p, k)
    moments = tensors.total(moments)
    R, _ = whitener(products)
    beta = jnp.einsum("jak...,jbk...,bk...->ak...", R, R, moments)
    beta = jax.lax.stop_gradient(jnp.where(jnp.isfinite(beta), beta, 0.0))
    blocks = tuple(
        replace(b, y=b.y - sum(x * beta[a][None, :, None] for a, x in enumerate(b.x)))
        for b in tensors.blocks
    )
    data = replace(tensors, blocks=blocks)
    several_sets = blocks[0].y.ndim > 3
    return (data if several_sets else shifted(data)), beta


def log_det_XX(tensors: Tensors) -> Array:
    """log|Σ X_iᵀX_i| over the observed outcomes."""
    k = tensors.blocks[0].y.shape[1]
    products = _predictor_products(tensors)
    _, logdets = whitener(products)
    return logdets.sum(0) * (k / products.shape[2])


def _predictor_products(tensors: Tensors) -> Array:
    """Σ x xᵀ over the observed units of each outcome, shape (p, p, k), or k = 1 if complete."""
    parts = jnp.stack([jnp.einsum("aukn...,bukn...->abk...", b.x, b.x) for b in tensors.blocks])
    return tensors.total(parts.sum(0))


@jax.custom_jvp
def _kernel(Psi: tuple[Array, ...], tensors: Tensors, restricted: Array) -> Array:
    """−½ deviance, less ½ log|XᵀΣ⁻¹X| where ``restricted`` is 1 rather than 0."""
    solution = profile(upward(Psi, tensors))
    return -0.5 * (solution.deviance + restricted * solution.logdet_A)


def _kernel_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    Psi, tensors, restricted = primals
    dPsi, dtensors, _ = tangents
    up = upward(Psi, tensors)
    solution = profile(up)
    down = downward(up, tensors, solution.beta, restricted * solution.V)
    tangent = jnp.zeros(())
    for products, traces, dP in zip(down.products, down.traces, dPsi, strict=True):
        if _moves(dP):
            tangent += 0.5 * ((products - traces) * dP).sum()
    state = down.states[-1]
    for b, (block, dblock) in enumerate(zip(tensors.blocks, dtensors.blocks, strict=True)):
        _refuse_predictors(dblock.z)
        e = down.residuals[b]
        if _moves(dblock.S):
            dS = dblock.S.reshape(*down.precisions[b].shape)
            tangent += 0.5 * ((e[:, None] * e[None] - down.precisions[b]) * dS).sum()
        if _moves(dblock.y):
            tangent -= (e.reshape(block.y.shape) * dblock.y).sum()
        if _moves(dblock.x):
            gradient = _predictor_gradient(up, tensors, state, solution.beta, b, e)
            tangent += (gradient * dblock.x).sum()
    value = -0.5 * (solution.deviance + restricted * solution.logdet_A)
    return value, tangent


_kernel.defjvp(_kernel_jvp, symbolic_zeros=True)


def _moves(tangent: Any) -> bool:
    return not isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _refuse_predictors(tangents: tuple) -> None:
    if any(_moves(dz) for dz in tangents):
        raise NotImplementedError(
            "The likelihood is not differentiated in the random-effects predictors Z; "
            "differentiate in y, S or X."
        )


def _predictor_gradient(
    up: Upward, tensors: Tensors, state: tuple[Array, Array], beta: Array, b: int, e: Array
) -> Array:
    """∂ℓ/∂x of a bucket: e βᵀ − Σ⁻¹XV, shape (p, n_b, k, N)."""
    block = tensors.blocks[b]
    n_b, k, N = block.y.shape
    p = block.x.shape[0]
    _, omega = state
    if block.parent is not None:
        omega = omega[:, :, block.parent]
    R, H = up.whiteners[b], up.columns[b][:-1]
    # The covariance of the visible effects with β̂: its last columns.
    to_beta = omega[:, -p * k :]
    U = matmul(transpose(R), jnp.swapaxes(H, 0, 1))  # Σ_block⁻¹[Z, X], (s, r − 1, N)
    projected = matmul(U, to_beta).reshape(n_b, k, p, k, N)
    diagonal = jnp.einsum("ukakn->aukn", projected)
    outer = e.reshape(1, n_b, k, N) * beta.reshape(p, 1, k, 1)
    gradient = outer - diagonal
    return gradient if block.x.shape[2] == k else gradient.sum(2, keepdims=True)


def constant(tensors: Tensors, restricted: bool) -> Array:
    """The terms of the log-likelihood that do not depend on Ψ."""
    P = tensors.blocks[0].x.shape[0] * tensors.blocks[0].y.shape[1]
    if not restricted:
        return -0.5 * tensors.n_obs * LOG_2PI
    return 0.5 * (log_det_XX(tensors) - (tensors.n_obs - P) * LOG_2PI)


def log_likelihood_at(Psi: tuple[Array, ...], tensors: Tensors, method: str) -> Array:
    """The log-likelihood at Ψ; ``method`` is "reml", "ml" or "fixed" (no levels)."""
    data, _ = centred(tensors)
    restricted = method == "reml"
    value = _kernel(Psi, data, jnp.where(restricted, 1.0, 0.0))
    return value + constant(tensors, restricted)


@functools.partial(jax.jit, static_argnames="method")
@over_mesh
def solution_at(
    Psi: tuple[Array, ...], tensors: Tensors, *, method: str
) -> tuple[Array, Array, Array]:
    """Log-likelihood, coefficients and their covariance at Ψ, in the orthonormal basis."""
    data, centre = centred(tensors)
    solution = profile(upward(Psi, data))
    restricted = method == "reml"
    value = -0.5 * (solution.deviance + (solution.logdet_A if restricted else 0.0))
    return value + constant(tensors, restricted), solution.beta + centre.ravel(), solution.V
