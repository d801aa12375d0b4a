"""The two sweeps over the grouping tree that give the likelihood and its derivatives.

Upward, every block is whitened by the Cholesky factor of its S + ZΨZᵀ, and the Gram matrix of its
whitened columns [Z of the absorbed levels, X, y] is passed to its group; each absorbed level then
integrates its random effects out of that matrix (`small.absorb`) and passes the rest on. At the
root stand XᵀΣ⁻¹X, XᵀΣ⁻¹y and yᵀΣ⁻¹y. Nothing of size n_i × n_i is formed, and Ψ is never inverted.

Downward, the estimates are handed back: with P = Σ⁻¹ − Σ⁻¹X V XᵀΣ⁻¹ (REML; Σ⁻¹ for ML), every
group j of level ℓ gets s_j = Z_jᵀPy and T_j = Z_jᵀPZ_j, whose sums make the gradient
∂ℓ/∂Ψ = ½ Σ_j (s_j s_jᵀ − T_j), and every block gets e = Py and its diagonal block of P.

The arrays end in the axis of the blocks or groups, N or G. For B data sets in one program a last
axis of the data sets follows it, and at the root too: length B, or 1 for what they share.

The columns are kept in the order [finest absorbed Z, …, outermost absorbed Z, X, y]; a column of X
or Z is a pair (predictor, outcome), outcome fastest.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mixmeta_jax.data.design import BlockTensors, Tensors
from mixmeta_jax.data.layout import EqualGroups
from mixmeta_jax.model.small import (
    BY_TERM,
    absorb,
    matmul,
    sum_blocks,
    sum_over,
    transpose,
    whitener,
)
from mixmeta_jax.model.units import UnitColumns, unit_columns, unit_gram, unit_projection


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AbsorbedLevel:
    """What the upward sweep leaves at an absorbed level, batch last over its groups.

    Attributes
    ----------
    D
        ZᵀΣ₀⁻¹Z, Σ₀ the covariance from the finer levels.
    K
        Covariance of the random effects given the data and everything further out.
    T, S
        ZᵀΣ⁻¹Z and ZᵀΣ⁻¹U for the columns U = [outer Z, X, y].
    along
        What of U lies along Z, less what its random effects explain: shape (d, r).
    """

    D: Array
    K: Array
    T: Array
    S: Array
    along: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Upward:
    """The upward sweep.

    Attributes
    ----------
    whiteners
        Per bucket: inverse Cholesky factors R of the blocks, shape (s, s, N).
    columns
        Per bucket: whitened columns R[Z, X, y], shape (r, s, N); `UnitColumns` for single units of
        several data sets in groups, which have no R.
    levels
        The absorbed levels, finest first.
    A, b, c
        XᵀΣ⁻¹X, XᵀΣ⁻¹y and yᵀΣ⁻¹y.
    logdet
        Σ log|Σ_i|.
    """

    whiteners: tuple[Any, ...]
    columns: tuple[Any, ...]
    levels: tuple[AbsorbedLevel, ...]
    A: Array
    b: Array
    c: Array
    logdet: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Downward:
    """The downward sweep.

    Attributes
    ----------
    traces, products
        Per level, outermost first: Σ_j T_j and Σ_j s_j s_jᵀ, shape (d, d).
    scores
        Per absorbed level, finest first: s_j, shape (d, G).
    residuals
        Per bucket: e = Py, shape (s, N).
    precisions
        Per bucket: the blocks of P, shape (s, s, N).
    states
        From the root to the finest absorbed level: what the groups hand to their children, batch
        last. First the weight of every column that is still visible there in the residual,
        [−b of the absorbed levels so far, −β, 1], shape (r, G), where data are `shifted` with what
        was taken out along Z added to −b; then the covariance of those weights given the data,
        shape (r − 1, r − 1, G). G = 1 at the root.
    """

    traces: tuple[Array, ...]
    products: tuple[Array, ...]
    scores: tuple[Array, ...]
    residuals: tuple[Array, ...]
    precisions: tuple[Array, ...]
    states: tuple[tuple[Array, Array], ...]


def flat(A: Array) -> Array:
    """(n_b, k, …) to (s, …): outcomes fastest."""
    return A.reshape(A.shape[0] * A.shape[1], *A.shape[2:])


def block_covariance(block: BlockTensors, Psi: tuple[Array, ...]) -> Array:
    """S + ZΨZᵀ of the levels inside the blocks, shape (s, s, N)."""
    n_b, k, _, _, *rest = block.S.shape
    return block.S.reshape(n_b * k, n_b * k, *rest) + prior_covariance(block, block, Psi)


def prior_covariance(
    left: BlockTensors, right: BlockTensors, Psi: Sequence[Array | None]
) -> Array | float:
    """ZΨZᵀ of the inside levels between two sets of outcomes of the same blocks, (s, s, N).

    ``Psi`` has one matrix per inside level, finest first, or None to leave the level out; 0 where
    none is left.
    """
    n_b, k = left.y.shape[:2]
    total: Array | float = 0.0
    for z, w, same, P in zip(left.z, right.z, left.same, Psi, strict=False):
        if P is None:
            continue
        q = z.shape[0]
        P = P.reshape(q, k, q, k, *P.shape[2:])
        for a in range(q):
            for b in range(q):
                term = z[a][:, :, None, None] * P[a, :, b, :][None, :, None, :, None]
                term = term * w[b][None, None]
                if same is not None:
                    term = term * same[:, None, :, None]
                total = total + term.reshape(n_b * k, n_b * k, *term.shape[4:])
    return total


def whitened(R: Array, block: BlockTensors, n_inside: int) -> Array:
    """R times the columns [absorbed Z, X, y] of a bucket, shape (r, s, N)."""
    n_b, k, *rest = block.y.shape
    by_place = R.reshape(n_b * k, n_b, k, *R.shape[2:])
    parts = []
    for predictors in (*block.z[n_inside:], block.x):
        if n_b > BY_TERM:
            every = jnp.broadcast_to(predictors, (*predictors.shape[:2], k, *predictors.shape[3:]))
            made = jnp.einsum("suk...,quk...->qsk...", by_place, every)
        else:
            terms = [by_place[:, u][None] * predictors[:, u][:, None] for u in range(n_b)]
            made = sum(terms[1:], start=terms[0])  # (q, s, k, N)
        made = jnp.swapaxes(made, 1, 2)
        made = made.reshape(made.shape[0] * k, n_b * k, *made.shape[3:])
        parts.append(jnp.broadcast_to(made, (*made.shape[:2], *rest)))
    y = matmul(R, flat(block.y)[:, None])
    return jnp.concatenate([*parts, jnp.swapaxes(y, 0, 1)])


def gram(columns: Array) -> Array:
    """Gram matrices of the columns of each block: (r, s, N) to (r, r, N)."""
    return matmul(columns, transpose(columns))


def gram_of_all(left: Array, right: Array) -> Array:
    """Products of columns summed over all blocks: (r, s, N) and (t, s, N) to (r, t).

    One matrix product; for several data sets, shape (r, t, B), the products block by block.
    """
    if left.ndim == 3:
        return left.reshape(len(left), -1) @ right.reshape(len(right), -1).T
    return sum_blocks(matmul(left, jnp.swapaxes(right, 0, 1)))


def upward(Psi: tuple[Array, ...], tensors: Tensors) -> Upward:
    """Whiten the blocks and absorb the outer levels, from the finest to the root.

    Parameters
    ----------
    Psi
        Covariance of each level, outermost first.
    tensors
        The data.
    """
    n_inside = len(tensors.inside)
    inner = tuple(Psi[level] for level in tensors.inside)
    whiteners, columns = [], []
    logdet = jnp.zeros(())
    totals: list[Array] = []
    for block in tensors.blocks:
        Sigma = block_covariance(block, inner)
        R: Any = None
        H: Any = None
        if block.y.ndim == 4 and block.y.shape[0] == 1 and block.parent is not None:
            H, logdets = unit_columns(Sigma, block, n_inside)
        else:
            R, logdets = whitener(Sigma)
            H = whitened(R, block, n_inside)
        whiteners.append(R)
        columns.append(H)
        logdet = logdet + sum_over(logdets, 0)
        if block.parent is None:
            M = gram_of_all(H, H)[:, :, None]
        else:
            by_group = functools.partial(sum_by, block.parent, n_groups=tensors.n_groups[0])
            single = isinstance(H, UnitColumns)
            M = unit_gram(H, by_group) if single else by_group(gram(H))
        totals.append(M)
    total = sum(totals[1:], start=totals[0])
    levels = []
    for a, level in enumerate(tensors.absorbed):
        remaining, absorbed, logdets = _absorbed(Psi[level], total, tensors.shift(a))
        levels.append(absorbed)
        logdet = logdet + sum_over(logdets, 0)
        if a < len(tensors.parents):
            total = sum_by(tensors.parents[a], remaining, tensors.n_groups[a + 1])
        else:
            total = sum_blocks(remaining)[:, :, None]
    total, logdet = tensors.total((total, logdet))
    root = total[:, :, 0]
    return Upward(
        tuple(whiteners),
        tuple(columns),
        tuple(levels),
        root[:-1, :-1],
        root[:-1, -1],
        root[-1, -1],
        logdet,
    )


def _absorbed(Psi: Array, M: Array, shift: Array | None) -> tuple[Array, AbsorbedLevel, Array]:
    """UᵀΣ⁻¹U, the level, and log|Σ| − log|Σ₀|, from the Gram matrices M of [Z, U − Z·shift]."""
    d = Psi.shape[0]
    D, F = M[:d, :d], M[:d, d:]
    B = F[:, :0] if shift is None else shift
    at = absorb(Psi, D, F, B)
    S, remaining, along = at.S, M[d:, d:] - at.FKF, -at.KF
    if shift is not None:
        own = matmul(transpose(S), B)
        S = S + matmul(at.T, B)
        remaining = remaining + own + matmul(transpose(B), S)
        along = along + at.along
    return remaining, AbsorbedLevel(D, at.K, at.T, S, along), at.logdet


def sum_by(parent: Array | EqualGroups, values: Array, n_groups: int) -> Array:
    """Sums over the children of each group along the third axis."""
    if isinstance(parent, EqualGroups):
        shape = (*values.shape[:2], n_groups, parent.size, *values.shape[3:])
        return sum_over(values.reshape(shape), 3)
    zeros = jnp.zeros((*values.shape[:2], n_groups, *values.shape[3:]), values.dtype)
    return zeros.at[:, :, parent].add(values, mode="promise_in_bounds")


def at_children(parent: Array | EqualGroups, values: Array, axis: int) -> Array:
    """What the group of each child has, along an axis of the groups."""
    if isinstance(parent, EqualGroups):
        return jnp.repeat(values, parent.size, axis)
    return values[:, parent] if axis == 1 else values[:, :, parent]


def downward(up: Upward, tensors: Tensors, beta: Array, Omega: Array) -> Downward:
    """Hand the coefficients and their covariance back to groups and blocks.

    Parameters
    ----------
    up
        The upward sweep at the same Ψ.
    tensors
        The data.
    beta
        Coefficients, shape (p·k,).
    Omega
        Their covariance, shape (p·k, p·k): V for REML and joint inference, zero for ML.
    """
    n_levels = len(tensors.inside) + len(tensors.absorbed)
    traces: list[Array] = [jnp.zeros(())] * n_levels
    products: list[Array] = [jnp.zeros(())] * n_levels
    # State of a group: coefficient of every remaining column in the residual, shape (r, G), and
    # the covariance of those that are estimated, (r − 1, r − 1, G).
    c = jnp.concatenate([-beta, jnp.ones((1, *beta.shape[1:]))])[:, None]
    omega = Omega[:, :, None]
    states = [(c, omega)]
    scores: list[Array] = []
    for a in reversed(range(len(tensors.absorbed))):
        level = up.levels[a]
        if a < len(tensors.parents):
            parent = tensors.parents[a]
            c, omega = at_children(parent, c, 1), at_children(parent, omega, 2)
        s, T, c, omega = _hand_down(level, c, omega)
        traces[tensors.absorbed[a]] = sum_blocks(T)
        products[tensors.absorbed[a]] = gram_of_all(s[:, None], s[:, None])
        scores.append(s)
        states.append((c, omega))
    residuals, precisions = [], []
    n_inside = len(tensors.inside)
    for block, R, H in zip(tensors.blocks, up.whiteners, up.columns, strict=True):
        if isinstance(H, UnitColumns):
            e, P = unit_projection(H, c, omega, block.parent)
        elif block.parent is None:
            e, P = _block_projection(R, H, c, omega)
        else:
            own = at_children(block.parent, c, 1), at_children(block.parent, omega, 2)
            e, P = _block_projection(R, H, *own)
        residuals.append(e)
        precisions.append(P)
        for z, same, index in zip(block.z[:n_inside], block.same, tensors.inside, strict=True):
            products[index] += _by_effect(z, same, e[:, None] * e[None])
            traces[index] += _by_effect(z, same, P)
    traces, products = tensors.total((traces, products))
    return Downward(
        tuple(traces),
        tuple(products),
        tuple(reversed(scores)),
        tuple(residuals),
        tuple(precisions),
        tuple(states),
    )


def _hand_down(level: AbsorbedLevel, c: Array, omega: Array) -> tuple[Array, ...]:
    """s, T and the state of the children at the groups of an absorbed level."""
    s = matmul(level.S, c[:, None])[:, 0]
    effects = matmul(level.along, c[:, None])[:, 0]
    S, along = level.S[:, :-1], level.along[:, :-1]
    T = level.T - matmul(matmul(S, omega), transpose(S))
    cross = matmul(along, omega)
    own = level.K + matmul(cross, transpose(along))
    omega = jnp.broadcast_to(omega, (*omega.shape[:2], *effects.shape[1:]))
    child = jnp.concatenate(
        [
            jnp.concatenate([own, cross], 1),
            jnp.concatenate([transpose(cross), omega], 1),
        ]
    )
    c = jnp.broadcast_to(c, (c.shape[0], *effects.shape[1:]))
    return s, T, jnp.concatenate([effects, c]), child


def _block_projection(R: Array, H: Array, c: Array, omega: Array) -> tuple[Array, Array]:
    """e = Py and the diagonal block of P."""
    Rt = transpose(R)
    e = matmul(Rt, matmul(jnp.swapaxes(H, 0, 1), c[:, None]))[:, 0]
    U = matmul(Rt, jnp.swapaxes(H[:-1], 0, 1))  # Σ_block⁻¹[Z, X]
    return e, matmul(Rt, R) - matmul(matmul(U, omega), transpose(U))


def _by_effect(z: Array, same: Array | None, Q: Array) -> Array:
    """Σ_j Z_jᵀ Q Z_j over the groups of an inside level, shape (q·k, q·k)."""
    q, n_b = z.shape[:2]
    k = Q.shape[0] // n_b
    Q = Q.reshape(n_b, k, n_b, k, *Q.shape[2:])
    if same is not None:
        Q = Q * same[:, None, :, None]
    rows = []
    for a in range(q):
        left = sum_over(z[a][:, :, None, None] * Q, 0)
        rows.append([sum_blocks(sum_over(left * z[b][None], 1)) for b in range(q)])
    total = jnp.swapaxes(jnp.stack([jnp.stack(row) for row in rows]), 1, 2)
    return total.reshape(q * k, q * k, *total.shape[4:])
