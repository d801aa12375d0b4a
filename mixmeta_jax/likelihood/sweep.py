"""The two sweeps over the grouping tree that give the likelihood and its derivatives.

Upward, every block is whitened by the Cholesky factor of its S + ZΨZᵀ, and the products of its
columns [Z of the absorbed levels, X, y] are passed to its group; each absorbed level then
integrates its random effects out of them (`absorption.absorb`) and passes the rest on. At the root
stand XᵀΣ⁻¹X, XᵀΣ⁻¹y and yᵀΣ⁻¹y. Nothing of size n_i × n_i is formed, Ψ is never inverted, and no
group holds more than its own Z times the coefficients: what is quadratic in these is summed over
all groups at once.

Downward, the estimates are handed back: with P = Σ⁻¹ − Σ⁻¹X V XᵀΣ⁻¹ (REML; Σ⁻¹ for ML), every
group j of level ℓ gets s_j = Z_jᵀPy and T_j = Z_jᵀPZ_j, whose sums make the gradient
∂ℓ/∂Ψ = ½ Σ_j (s_j s_jᵀ − T_j), and every block gets e = Py and its diagonal block of P.

The arrays end in the axis of the blocks or groups, N or G, and that of the data sets, B. The
columns are in the order [finest absorbed Z, …, outermost absorbed Z, X, y]; a column of X or Z is a
pair (predictor, outcome), outcome fastest.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, Float, namespace, shaped, tree, widened
from mixmeta_jax.design.tensors import Block, Tensors
from mixmeta_jax.likelihood.absorption import absorb, explained, explained_by_group
from mixmeta_jax.likelihood.algebra import gram, matmul, sum_blocks, sum_over, transpose, vector
from mixmeta_jax.likelihood.columns import State, block_columns, sum_by


@tree
@dataclass(frozen=True)
class AbsorbedLevel:
    """What the upward sweep leaves at an absorbed level.

    Attributes
    ----------
    D
        ZᵀΣ₀⁻¹Z, Σ₀ the covariance from the finer levels, shape (d, d, G, B).
    K
        Covariance of the random effects given the data and everything further out.
    T, S
        ZᵀΣ⁻¹Z, and ZᵀΣ⁻¹U for the columns U = [outer Z, X, y], shape (d, r, G, B).
    along
        What of U lies along Z, less what its random effects explain: shape (d, r, G, B).
    """

    D: Array
    K: Array
    T: Array
    S: Array
    along: Array


@tree
@dataclass(frozen=True)
class Upward:
    """The upward sweep.

    Attributes
    ----------
    columns
        Per bucket: `columns.Whitened` or `columns.UnitColumns`.
    levels
        The absorbed levels, finest first.
    A, b, c
        XᵀΣ⁻¹X, XᵀΣ⁻¹y and yᵀΣ⁻¹y, shape (P, P, B), (P, B) and (B,).
    logdet
        Σ log|Σ_i|, shape (B,).
    """

    columns: tuple[Any, ...]
    levels: tuple[AbsorbedLevel, ...]
    A: Array
    b: Array
    c: Array
    logdet: Array


@tree
@dataclass(frozen=True)
class Downward:
    """The downward sweep.

    Attributes
    ----------
    traces, products
        Per level, outermost first: Σ_j T_j and Σ_j s_j s_jᵀ, shape (d, d, B).
    scores
        Per absorbed level, finest first: s_j, shape (d, G, B).
    residuals
        Per bucket: e = Py, shape (s, N, B).
    precisions
        Per bucket: the blocks of P, shape (s, s, N, B).
    halves
        Per bucket: `columns.Whitened.turned`.
    states
        Per absorbed level, finest first: what its groups hand to their children.
    """

    traces: tuple[Array, ...]
    products: tuple[Array, ...]
    scores: tuple[Array, ...]
    residuals: tuple[Array, ...]
    precisions: tuple[Array, ...]
    halves: tuple[Array | None, ...]
    states: tuple[State, ...]


@shaped
def block_covariance(block: Block, Psi: tuple[Array, ...]) -> Float[Array, "s s N B"]:
    """S + ZΨZᵀ of the levels inside the blocks, shape (s, s, N, B)."""
    n_b, k, _, _, *rest = block.S.shape
    return block.S.reshape(n_b * k, n_b * k, *rest) + prior_covariance(block, block, Psi)


def prior_covariance(left: Block, right: Block, Psi: Sequence[Array | None]) -> Array | float:
    """ZΨZᵀ of the inside levels between two sets of outcomes of the same blocks, (s, s, N, B).

    ``Psi`` has one matrix per inside level, finest first, or None to leave the level out; 0 where
    none is left.
    """
    n_b, k = left.y.shape[:2]
    s = n_b * k
    total: Array | float = 0.0
    for z, w, same, P in zip(left.z, right.z, left.same, Psi, strict=False):
        if P is None:
            continue
        q = len(z)
        P = P.reshape(q, 1, k, q, 1, k, 1, *P.shape[2:])
        # Ψ times the predictors of the rows, then times those of the columns, (u, o, v, l).
        half = sum_over(z[:, :, :, None, None, None] * P, 0)  # (n_b, k, q, 1, k, N, B)
        term = sum_over(half * w[None, None], 2)
        if same is not None:
            term = term * same[:, None, :, None]
        total = total + term.reshape(s, s, *term.shape[4:])
    return total


@shaped
def upward(
    Psi: tuple[Float[Array, "_ _ #B"], ...], tensors: Tensors, whole: bool = False
) -> Upward:
    """Whiten the blocks and absorb the outer levels, from the finest to the root.

    Parameters
    ----------
    Psi
        Covariance of each level, outermost first, shape (d, d, B).
    tensors
        The data.
    whole
        Whether the columns are wanted whitened, whatever is faster.
    """
    inner = tuple(Psi[level] for level in tensors.inside)
    columns, roots, crossed = [], [], []
    logdet: Any = 0.0
    for block in tensors.blocks:
        Sigma = block_covariance(block, inner)
        own, logdets = block_columns(Sigma, block, len(tensors.inside), whole)
        columns.append(own)
        logdet = logdet + sum_over(logdets, 0)
        roots.append(own.root())
        if tensors.absorbed:
            crossed.append(own.crossed(_by_group(tensors, block)))
    root = _sum(roots)
    levels = []
    M = _sum(crossed) if crossed else None
    for a, level in enumerate(tensors.absorbed):
        at, logdets, change, M = _absorbed(Psi[level], M, tensors.shift(a))
        levels.append(at)
        logdet = logdet + sum_over(logdets, 0)
        root = root + change
        if M is not None:
            M = sum_by(tensors.parents[a], M, tensors.n_groups[a + 1])
    root, logdet = tensors.total((root, logdet))
    A = tensors.with_absent(root[:-1, :-1], tensors.k)
    return Upward(tuple(columns), tuple(levels), A, root[:-1, -1], root[-1, -1], logdet)


def _by_group(tensors: Tensors, block: Block) -> Any:
    return functools.partial(sum_by, block.parent, n_groups=tensors.n_groups[0])


def _sum(parts: Sequence[Array]) -> Any:
    return sum(parts[1:], start=parts[0])


def _absorbed(
    Psi: Array, M: Array, shift: Array | None
) -> tuple[AbsorbedLevel, Array, Array, Array | None]:
    """A level absorbed, from ZᵀΣ₀⁻¹[Z, U − Z·shift] and those of the levels further out.

    Returns
    -------
    AbsorbedLevel
        The level.
    logdet
        log|Σ| − log|Σ₀| of its groups.
    root
        What its effects change in [X, y]ᵀΣ⁻¹[X, y], shape (P + 1, P + 1, B).
    groups
        [outer Z]ᵀΣ⁻¹[outer Z, X, y] of every group, shape (dz, r, G, B); None where there are none.
    """
    d = len(Psi)
    n_z = len(M) - d  # columns of the levels further out
    D, F = M[:d, :d], M[:d, d:]
    at = absorb(Psi, D, F, F[:, :0] if shift is None else shift)
    root = -explained(F[:, n_z:], at.KF[:, n_z:], at.half[:, n_z:])
    groups = None
    if n_z:
        groups = M[d:, d:] - explained_by_group(F, at.KF, at.half, np.zeros(n_z))
    S, along = at.S, -at.KF
    if shift is not None:
        # UᵀΣ⁻¹U = U₀ᵀΣ⁻¹U₀ + BᵀS + S₀ᵀB with S = S₀ + TB, U₀ the columns less their part along Z.
        moved = matmul(at.T, shift)
        S, along = S + moved, along + at.along
        halfway = at.S + 0.5 * moved
        both = gram(transpose(halfway[:, n_z:]), transpose(shift[:, n_z:]))
        root = root + both + transpose(both)
        if groups is not None:
            outer = transpose(at.S[:, :n_z]), transpose(shift[:, :n_z])
            groups = groups + matmul(outer[0], shift) + matmul(outer[1], S)
    return AbsorbedLevel(D, at.K, at.T, S, along), at.logdet, root, groups


@shaped
def downward(
    up: Upward, tensors: Tensors, beta: Float[Array, " P #B"], root: Float[Array, "P P #B"] | None
) -> Downward:
    """Hand the coefficients and their covariance back to groups and blocks.

    Parameters
    ----------
    up
        The upward sweep at the same Ψ.
    tensors
        The data.
    beta
        Coefficients, shape (P, B).
    root
        A root of their covariance V = rootᵀ root, shape (P, P, B): for REML and joint inference;
        None for ML.
    """
    n_inside = len(tensors.inside)
    n_levels = n_inside + len(tensors.absorbed)
    traces: list[Any] = [0.0] * n_levels
    products: list[Any] = [0.0] * n_levels
    state: State | None = None
    states, scores = [], []
    for a in reversed(range(len(tensors.absorbed))):
        if state is not None:
            state = state.at(tensors.parents[a])
        s, T, state = _hand_down(up.levels[a], state, beta, root)
        traces[tensors.absorbed[a]] = sum_blocks(T)
        products[tensors.absorbed[a]] = gram(s[:, None], s[:, None])
        scores.append(s)
        states.append(state)
    residuals, precisions, halves = [], [], []
    for block, own in zip(tensors.blocks, up.columns, strict=True):
        above = None if state is None else state.at(block.parent)
        half = own.turned(root)
        e, P = own.projected(beta, root, half, above)
        halves.append(half)
        residuals.append(e)
        precisions.append(P)
        for z, same, index in zip(block.z[:n_inside], block.same, tensors.inside, strict=True):
            own_products, own_traces = _by_effect(z, same, e, P)
            products[index] = products[index] + own_products
            traces[index] = traces[index] + own_traces
    traces, products = tensors.total((traces, products))
    return Downward(
        tuple(traces),
        tuple(products),
        tuple(reversed(scores)),
        tuple(residuals),
        tuple(precisions),
        tuple(halves),
        tuple(reversed(states)),
    )


def _hand_down(
    level: AbsorbedLevel, state: State | None, beta: Array, root: Array | None
) -> tuple[Array, Array, State]:
    """s, T and the state of the children at the groups of an absorbed level."""
    xp = namespace(level.S, beta)
    n_z = 0 if state is None else len(state.c)
    S_z, S_x, S_y = level.S[:, :n_z], level.S[:, n_z:-1], level.S[:, -1]
    to_z, to_x, to_y = level.along[:, :n_z], level.along[:, n_z:-1], level.along[:, -1]
    weights = beta[:, None]
    s = S_y - vector(S_x, weights)
    b = to_y - vector(to_x, weights)
    T, K = level.T, level.K
    zx = None
    if root is not None:
        back = transpose(root)[:, :, None]
        half, own = matmul(S_x, back), matmul(to_x, back)
        T = T - matmul(half, transpose(half))
        K = K + matmul(own, transpose(own))
        zx = own  # the covariance with −β is along_x V
    if state is None:
        return s, T, State(b, K, zx)
    s, b = s + vector(S_z, state.c), b + vector(to_z, state.c)
    T = T - matmul(matmul(S_z, state.zz), transpose(S_z))
    cross = matmul(to_z, state.zz)
    K = K + matmul(cross, transpose(to_z))
    if state.zx is not None and zx is not None:
        mixed = matmul(matmul(S_z, state.zx), transpose(half))
        T = T - mixed - transpose(mixed)
        mixed = matmul(to_z, state.zx)
        both = matmul(mixed, transpose(own))
        K = K + both + transpose(both)
        cross = cross + matmul(own, transpose(state.zx))
        zx = xp.concatenate([zx + mixed, state.zx])
    zz = xp.concatenate(
        [
            xp.concatenate([K, cross], 1),
            xp.concatenate([transpose(cross), state.zz], 1),
        ]
    )
    return s, T, State(xp.concatenate([b, state.c]), zz, zx)


@shaped
def _by_effect(
    z: Array, same: Array | None, e: Float[Array, "s N #B"], P: Float[Array, "s s N #B"]
) -> tuple[Float[Array, "d d #B"], Float[Array, "d d #B"]]:
    """Σ_j Z_jᵀe eᵀZ_j and Σ_j Z_jᵀ P Z_j over the groups of an inside level, (d, d, B)."""
    q, n_b = z.shape[:2]
    k = len(e) // n_b
    if same is None:
        # One group a block: Zᵀe of all blocks at once.
        scores = sum_over(z * e.reshape(1, n_b, k, *e.shape[1:]), 1)
        scores = scores.reshape(q * k, 1, *scores.shape[2:])
        return gram(scores, scores), _between(z, same, P)
    return _between(z, same, e[:, None] * e[None]), _between(z, same, P)


def _between(z: Array, same: Array | None, Q: Array) -> Array:
    """Σ_j Z_jᵀ Q Z_j over the groups of an inside level, (d, d, B), for Q of shape (s, s, N, B)."""
    q, n_b = z.shape[:2]
    k = len(Q) // n_b
    Q = Q.reshape(n_b, k, n_b, k, *Q.shape[2:])
    if same is not None:
        Q = Q * same[:, None, :, None]
    xp = namespace(z, Q)
    rest = np.broadcast_shapes(z.shape[3:], Q.shape[4:])
    left = sum_over(z[:, :, :, None, None] * Q[None], 1)  # (q, k, n_b, k, N, B)
    if q == 1:
        made = sum_over(left[0] * z[0][None], 1)  # (k, k, N, B)
        return sum_blocks(widened(made, (k, k, *rest)))
    left = xp.swapaxes(xp.broadcast_to(left, (q, k, n_b, k, *rest)), 1, 2)  # (q, v, o, l, N, B)
    right = xp.broadcast_to(z, (q, n_b, k, *rest))
    return xp.einsum("avolnb,cvlnb->aoclb", left, right).reshape(q * k, q * k, -1)


@shaped
def effects_along(
    z: Array, same: Array | None, e: Float[Array, "s N #B"], slope: Array
) -> Float[Array, "s theta N B"]:
    """f_a = Z (∂Ψ/∂θ_a) Zᵀe of an inside level, shape (s, n_θ, N, B).

    ``slope`` is ∂Ψ/∂θ, shape (d, d, n_θ, B).
    """
    xp = namespace(z, e, slope)
    q, n_b = z.shape[:2]
    k, (N, B) = len(e) // n_b, e.shape[1:]
    n = slope.shape[2]
    scores = z * e.reshape(1, n_b, k, N, B)  # by place, (q, n_b, k, N, B)
    if same is None:
        weights = weighted(slope, sum_over(scores, 1).reshape(q * k, N, B))
        weights = weights.reshape(q, 1, k, n, N, weights.shape[-1])
    else:
        # Of the group of every place, u.
        member = xp.einsum("qvknb,uvnb->qkunb", scores, 1.0 * same + xp.zeros((1, 1, N, B)))
        weights = weighted(slope, member.reshape(q * k, n_b * N, B))
        weights = weights.reshape(q, k, n, n_b, N, weights.shape[-1])
        weights = xp.moveaxis(weights, 3, 1)
    made = sum_over(z[:, :, :, None] * weights, 0)
    return made.reshape(n_b * k, *made.shape[2:])


@shaped
def weighted(
    slope: Float[Array, "d d theta #B"], s: Float[Array, "d N #B"]
) -> Float[Array, "d theta N B"]:
    """(∂Ψ/∂θ_a) s for all a: shape (d, n_θ, N, B) for scores of shape (d, N, B)."""
    d, _, n, B = slope.shape
    xp = namespace(slope, s)
    left = xp.swapaxes(slope, 1, 2).reshape(d * n, d, 1, B)
    return matmul(left, s[:, None]).reshape(d, n, *np.broadcast_shapes(s.shape[1:], (1, B)))
