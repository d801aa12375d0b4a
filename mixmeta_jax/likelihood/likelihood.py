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

from mixmeta_jax.arrays import Array, Float, Ruled, constant, namespace, shaped, tree
from mixmeta_jax.design.tensors import Tensors, masked
from mixmeta_jax.likelihood.algebra import matmul, sum_over, transpose, vector
from mixmeta_jax.likelihood.elimination import whitener
from mixmeta_jax.likelihood.shifts import shifted
from mixmeta_jax.likelihood.sweep import Downward, Upward, downward, upward

LOG_2PI = 1.8378770664093453


@tree
@dataclass(frozen=True)
class Profile:
    """The GLS solution for given Ψ, in the orthonormal basis of the predictors.

    Attributes
    ----------
    beta
        Coefficients, shape (P, B).
    root
        R of their covariance V = RᵀR, shape (P, P, B).
    deviance
        Σ log|Σ_i| + Σ r_iᵀ Σ_i⁻¹ r_i, shape (B,).
    logdet_A
        log|Σ X_iᵀΣ_i⁻¹X_i|, shape (B,).
    """

    beta: Array
    root: Array
    deviance: Array
    logdet_A: Array

    @property
    @shaped
    def V(self) -> Float[Array, "P P B"]:
        """Covariance of the coefficients, shape (P, P, B)."""
        return matmul(transpose(self.root), self.root)

    @shaped
    def value(self, restricted: bool) -> Float[Array, " B"]:
        """The log-likelihood without its constant terms, shape (B,)."""
        return -0.5 * (self.deviance + self.logdet_A if restricted else self.deviance)


def profile(up: Upward) -> Profile:
    """Generalised least squares at the root of the upward sweep (equation 3)."""
    R, logdet = whitener(up.A)
    w = vector(R, up.b)
    beta = vector(transpose(R), w)
    return Profile(beta, R, up.logdet + up.c - (w * w).sum(0), logdet)


def both_sweeps(
    Psi: tuple[Array, ...], data: Tensors, restricted: bool, whole: bool = False
) -> tuple[Upward, Profile, Downward]:
    """Up to the coefficients and down again; for ML these count as known on the way down."""
    up = upward(Psi, data, whole)
    solution = profile(up)
    return up, solution, downward(up, data, solution.beta, solution.root if restricted else None)


def prepared(tensors: Tensors, shift: bool = True) -> tuple[Tensors, Array]:
    """The data less their ordinary least-squares fit, and its coefficients, shape (P, B).

    The likelihood does not change, but yᵀΣ⁻¹y − β̂ᵀXᵀΣ⁻¹y no longer cancels. With ``shift``, for one
    data set, they are `shifted` too.
    """
    tensors = masked(tensors)
    xp = namespace(*(array for b in tensors.blocks for array in (b.x, b.y)))
    products = _predictor_products(tensors)
    p, _, width, B = products.shape
    moments: Any = 0.0
    for b in tensors.blocks:
        moments = moments + sum_over(sum_over(b.x * b.y[None], 1), 2)  # (p, k, B)
    moments = tensors.total(moments)
    R, _ = whitener(products)
    beta = matmul(transpose(R), matmul(R, moments[:, None]))[:, 0]
    beta = constant(xp.where(xp.isfinite(beta), beta, 0.0))
    blocks = tuple(replace(b, y=b.y - fitted(b.x, beta)) for b in tensors.blocks)
    data = replace(tensors, blocks=blocks)
    data = shifted(data) if shift and data.absorbed else data
    return data, beta.reshape(tensors.n_coefficients, -1)


@shaped
def fitted(x: Float[Array, "p n #k N #B"], beta: Float[Array, "p k #B"]) -> Float[Array, "n k N B"]:
    """Xβ at the places of a bucket, shape (n_b, k, N, B), for β of shape (p, k, B)."""
    p, n_b, width, N, B = x.shape
    if width == B == beta.shape[2] == 1:
        made = beta[:, :, 0].T @ x.reshape(p, n_b * N)
        return transpose(made.reshape(-1, n_b, N, 1))
    return sum_over(x * beta[:, None, :, None], 0)


@shaped
def log_det_XX(tensors: Tensors) -> Float[Array, " B"]:
    """log|Σ X_iᵀX_i| over the observed outcomes, shape (B,); the data are `masked`."""
    products = _predictor_products(tensors)
    _, logdets = whitener(products)
    return logdets.sum(0) * (tensors.k / products.shape[2])


def _predictor_products(tensors: Tensors) -> Array:
    """Σ x xᵀ over the observed units of each outcome, (p, p, k, B), or k = 1 if complete."""
    total: Any = 0.0
    for b in tensors.blocks:
        xp = namespace(b.x)
        p, _, width, _, B = b.x.shape
        rows = xp.moveaxis(b.x, (2, 4), (0, 1)).reshape(width, B, p, -1)
        total = total + rows @ xp.swapaxes(rows, 2, 3)
    total = namespace(total).moveaxis(total, (0, 1), (2, 3))
    return tensors.with_absent(tensors.total(total), 1)


@shaped
def constant_terms(tensors: Tensors, restricted: bool) -> Float[Array, " B"]:
    """The terms of the log-likelihood that do not depend on Ψ, shape (B,)."""
    if not restricted:
        return -0.5 * tensors.n_obs * LOG_2PI
    left = tensors.n_obs - tensors.n_fixed
    return 0.5 * (log_det_XX(masked(tensors)) - left * LOG_2PI)


def log_likelihood_at(Psi: tuple[Array, ...], tensors: Tensors, method: str) -> Array:
    """The log-likelihood at Ψ of one data set; ``method`` is "reml", "ml" or "fixed"."""
    data, _ = prepared(tensors)
    restricted = method == "reml"
    value = _KERNELS[restricted](tuple(P[:, :, None] for P in Psi), data)
    return value + constant_terms(tensors, restricted)[0]


def _kernel(restricted: bool) -> Ruled:
    """The log-likelihood of one data set without its constant terms, with its rule."""

    def kernel(Psi: tuple[Array, ...], tensors: Tensors) -> Array:
        return profile(upward(Psi, tensors)).value(restricted)[0]

    ruled = Ruled(kernel)
    ruled.defjvp(functools.partial(_kernel_jvp, restricted), symbolic_zeros=True)
    return ruled


def _kernel_jvp(restricted: bool, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (Psi, tensors), (dPsi, dtensors) = primals, tangents
    up, solution, down = both_sweeps(Psi, tensors, restricted, whole=True)
    root = solution.root if restricted else None
    tangent: Any = 0.0
    for products, traces, dP in zip(down.products, down.traces, dPsi, strict=True):
        if moves(dP):
            tangent += 0.5 * ((products - traces) * dP).sum()
    for b, (block, dblock) in enumerate(zip(tensors.blocks, dtensors.blocks, strict=True)):
        e = down.residuals[b]
        if moves(dblock.S):
            dS = dblock.S.reshape(*down.precisions[b].shape)
            tangent += 0.5 * ((e[:, None] * e[None] - down.precisions[b]) * dS).sum()
        if moves(dblock.y):
            tangent -= (e.reshape(block.y.shape) * dblock.y).sum()
        if moves(dblock.x):
            state = down.states[0].at(block.parent) if down.states else None
            gradient = _predictor_gradient(up.columns[b], block, solution, root, state, e)
            tangent += (gradient * dblock.x).sum()
    tangent += _random_predictors_tangent(restricted, Psi, tensors, dtensors)
    value = solution.value(restricted)[0]
    return value, tangent + 0.0 * value


_KERNELS = {restricted: _kernel(restricted) for restricted in (False, True)}


def moves(tangent: Any) -> bool:
    """Whether a tangent is there, rather than a zero that JAX knows of."""
    import jax

    still = isinstance(tangent, jax.custom_derivatives.SymbolicZero)
    return not still and tangent.dtype != jax.dtypes.float0


def _random_predictors_tangent(
    restricted: bool, Psi: tuple[Array, ...], tensors: Tensors, dtensors: Tensors
) -> Array:
    """The part of the tangent that Z has, by the derivative of the sweep; 0 where it rests."""
    places = [
        (b, level)
        for b, block in enumerate(dtensors.blocks)
        for level, dz in enumerate(block.z)
        if moves(dz)
    ]
    if not places:
        return 0.0
    import jax

    def value(moving: list[Array]) -> Array:
        new = [list(block.z) for block in tensors.blocks]
        for (b, level), z in zip(places, moving, strict=True):
            new[b][level] = z
        blocks = [replace(b, z=tuple(z)) for b, z in zip(tensors.blocks, new, strict=True)]
        own = replace(tensors, blocks=tuple(blocks))
        return profile(upward(Psi, own)).value(restricted)[0]

    still = [tensors.blocks[b].z[level] for b, level in places]
    down = [dtensors.blocks[b].z[level] for b, level in places]
    return jax.jvp(value, (still,), (down,))[1]


def _predictor_gradient(
    columns: Any, block: Any, solution: Profile, root: Array | None, state: Any, e: Array
) -> Array:
    """∂ℓ/∂x of a bucket: e βᵀ − Σ⁻¹XV, shape (p, n_b, k or 1, N, 1)."""
    n_b, k, N, _ = block.y.shape
    p = len(block.x)
    outer = e.reshape(1, n_b, k, N, 1) * solution.beta.reshape(p, 1, k, 1, 1)
    gradient = outer
    if root is not None:
        # Σ_block⁻¹[Z, X] times the covariance of the visible effects with β̂.
        along = matmul(transpose(columns.x), solution.V[:, :, None])
        if state is not None:
            to_beta = matmul(state.zx, root[:, :, None])
            along = along + matmul(transpose(columns.z), to_beta)
        projected = matmul(transpose(columns.R), along).reshape(n_b, k, p, k, N, 1)
        gradient = outer - namespace(projected).einsum("uoaonb->auonb", projected)
    return gradient if block.x.shape[2] == k else gradient.sum(2, keepdims=True)


def solution_at(Psi: tuple[Array, ...], tensors: Tensors, restricted: bool) -> Any:
    """Log-likelihood (B,), β (P, B) and V (P, P, B) at Ψ, in the orthonormal basis."""
    data, centre = prepared(tensors)
    solution = profile(upward(Psi, data))
    value = solution.value(restricted) + constant_terms(tensors, restricted)
    return value, solution.beta + centre, solution.V
