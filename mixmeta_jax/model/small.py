"""Linear algebra for many small matrices at once, elementwise over a trailing batch axis.

A stack of N matrices of s rows and t columns is an array of shape (s, t, N); for B data sets at
once one of shape (s, t, N, B), where N = 1 or B = 1 marks what all share. Batched LAPACK loops over
the matrices one by one; here every operation runs along the contiguous last axis instead, so that
XLA fuses and vectorises it. That pays while a matrix is small: the sizes at which products go to
the matrix-product routines and eliminations to LAPACK are measured in
``benchmarks/large_k.py``. Derivatives are matrix identities (``custom_jvp``), never the
derivative of the elimination itself, and the rules use only their own outputs, so that they hold
to any order.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array

UNROLL = 5
"""Largest matrix whose elimination is written out by scalars; larger ones loop over columns."""

BY_COLUMN = 24
"""Largest matrix that is eliminated column by column; larger ones are halved until they are."""

BY_HALVES = 128
"""Largest matrix that is halved (the program grows with it); larger ones go to LAPACK."""

BY_TERM = 15
"""Most terms of a product that are written out; longer ones go to the matrix-product routine."""

SLICES = 16
"""Most slices of a sum that are written out."""


def matmul(A: Array, B: Array) -> Array:
    """Products of two stacks: (i, p, …) and (p, j, …) give (i, j, …); the rest broadcasts."""
    if A.shape[1] > BY_TERM:
        return jnp.einsum("ip...,pj...->ij...", A, B)
    terms = [A[:, p, None] * B[None, p, :] for p in range(A.shape[1])]
    return sum(terms[1:], start=terms[0])


def over_stack(matrix: Array, like: Array) -> Array:
    """One matrix (or vector) with as many axes behind it as a stack of them has."""
    return matrix.reshape(*matrix.shape, *(1,) * (like.ndim - 2))


def root_product(A: Array, B: Array) -> Array:
    """A B for one pair of matrices, or for one pair per data set, shape (i, j, B)."""
    return A @ B if A.ndim == 2 else matmul(A, B)


def transpose(A: Array) -> Array:
    """Transposes of a stack of matrices."""
    return jnp.swapaxes(A, 0, 1)


def sum_over(values: Array, axis: int) -> Array:
    """Sum over one axis, by slices where it is not the last.

    XLA's reduction along an inner axis goes number by number on a CPU, and computes what it sums
    once more for each; sums of slices run along the last axis like everything else here.
    """
    if axis == values.ndim - 1:
        return values.sum(axis)
    n = values.shape[axis]
    if n == 0:
        return values.sum(axis)
    at = functools.partial(jax.lax.index_in_dim, values, axis=axis, keepdims=False)
    if n <= SLICES:
        terms = [at(i) for i in range(n)]
    else:
        step = n // SLICES
        part = functools.partial(jax.lax.slice_in_dim, values, axis=axis)
        pieces = [part(i * step, (i + 1) * step) for i in range(SLICES)]
        first = sum_over(sum(pieces[1:], start=pieces[0]), axis)
        terms = [first, *(at(i) for i in range(SLICES * step, n))]
    return sum(terms[1:], start=terms[0])


def sum_blocks(values: Array) -> Array:
    """Sum over the third axis, that of blocks or groups: (i, j, N) to (i, j), B data sets too.

    For several data sets a product with ones: XLA does not compute it again for each of the many
    numbers that are made from it, as it does with sums.
    """
    if values.ndim == 3:
        return values.sum(2)
    i, j, N, B = values.shape
    ones = jnp.ones((i * j, 1, N), values.dtype)
    return (ones @ values.reshape(i * j, N, B)).reshape(i, j, B)


def trace_product(A: Array, B: Array) -> Array:
    """tr(A B') for each pair of the stacks, shape (N,)."""
    return (A * B).sum((0, 1))


@jax.custom_jvp
def whitener(A: Array) -> tuple[Array, Array]:
    """R = L⁻¹ with A = L Lᵀ, and log|A|, for a stack of positive definite matrices.

    Parameters
    ----------
    A
        Symmetric positive definite matrices, shape (s, s, N).

    Returns
    -------
    R
        Inverse Cholesky factors, lower triangular, shape (s, s, N): A⁻¹ = RᵀR and R whitens.
        NaN where a matrix is not positive definite.
    logdet
        Log-determinants, shape (N,).
    """
    s = A.shape[0]
    if s <= UNROLL:
        return _whitener_unrolled(A)
    if s <= BY_COLUMN:
        return _whitener_by_column(A)
    return _whitener_by_halves(A) if s <= BY_HALVES else _whitener_by_lapack(A)


@whitener.defjvp
def _whitener_jvp(primals: tuple, tangents: tuple) -> tuple:
    (A,), (dA,) = primals, tangents
    R, logdet = whitener(A)
    inner = matmul(matmul(R, dA), transpose(R))
    s = A.shape[0]
    half = jnp.tril(jnp.ones((s, s), A.dtype)) - 0.5 * jnp.eye(s, dtype=A.dtype)
    slope = jnp.einsum("ii...->...", inner)
    return (R, logdet), (-matmul(inner * over_stack(half, A), R), slope)


def _whitener_unrolled(A: Array) -> tuple[Array, Array]:
    s = A.shape[0]
    R, logdet = eliminate({(i, j): A[i, j] for j in range(s) for i in range(j, s)}, s)
    zero = jnp.zeros_like(A[0, 0])
    rows = [jnp.stack([R.get((i, j), zero) for j in range(s)]) for i in range(s)]
    return jnp.stack(rows), logdet


def eliminate(
    A: dict[tuple[int, int], Array], s: int
) -> tuple[dict[tuple[int, int], Array], Array]:
    """`whitener` entry by entry: the entries i ≥ j of A in, those of R and log|A| out."""
    L: dict[tuple[int, int], Array] = {}
    R: dict[tuple[int, int], Array] = {}
    for j in range(s):
        pivot = A[j, j] - sum(L[j, p] ** 2 for p in range(j))
        root = jnp.sqrt(jnp.where(pivot > 0, pivot, jnp.nan))
        L[j, j], R[j, j] = root, 1 / root
        for i in range(j + 1, s):
            L[i, j] = (A[i, j] - sum(L[i, p] * L[j, p] for p in range(j))) * R[j, j]
    for j in range(s):
        for i in range(j + 1, s):
            R[i, j] = -sum(L[i, p] * R[p, j] for p in range(j, i)) * R[i, i]
    # The logarithm of two roots at a time: it costs as much as the rest, and cannot overflow.
    roots = [L[j, j] for j in range(s)]
    pairs = [roots[j] * roots[j + 1] for j in range(0, s - 1, 2)] + roots[s - s % 2 :]
    return R, 2 * sum((jnp.log(pair) for pair in pairs[1:]), start=jnp.log(pairs[0]))


def _whitener_by_column(A: Array) -> tuple[Array, Array]:
    s = A.shape[0]
    below = jnp.arange(s).reshape(s, *(1,) * (A.ndim - 2))

    def eliminate(j: Array, state: tuple) -> tuple:
        A, R, logdet = state
        pivot = A[j, j]
        root = jnp.sqrt(jnp.where(pivot > 0, pivot, jnp.nan))
        column = jnp.where(below > j, A[:, j] / root, 0.0)
        row = R[j] / root
        R = (R - column[:, None] * row[None]).at[j].set(row)
        return A - column[:, None] * column[None], R, logdet + 2 * jnp.log(root)

    R = jnp.broadcast_to(over_stack(jnp.eye(s, dtype=A.dtype), A), A.shape)
    _, R, logdet = jax.lax.fori_loop(0, s, eliminate, (A, R, jnp.zeros_like(A[0, 0])))
    return R, logdet


def _whitener_by_halves(A: Array) -> tuple[Array, Array]:
    h = A.shape[0] // 2
    R, logdet = whitener(A[:h, :h])
    L = matmul(A[h:, :h], transpose(R))
    rest, logdet_rest = whitener(A[h:, h:] - matmul(L, transpose(L)))
    corner = -matmul(rest, matmul(L, R))
    above = jnp.concatenate([R, jnp.zeros_like(A[:h, h:])], 1)
    return (
        jnp.concatenate([above, jnp.concatenate([corner, rest], 1)]),
        logdet + logdet_rest,
    )


def _whitener_by_lapack(A: Array) -> tuple[Array, Array]:
    L = jnp.linalg.cholesky(jnp.moveaxis(A, (0, 1), (-2, -1)))
    eye = jnp.broadcast_to(jnp.eye(A.shape[0], dtype=A.dtype), L.shape)
    R = jax.scipy.linalg.solve_triangular(L, eye, lower=True)
    logdet = 2 * jnp.log(jnp.diagonal(L, axis1=-2, axis2=-1)).sum(-1)
    return jnp.moveaxis(R, (-2, -1), (0, 1)), logdet


def semidefinite_factor(A: Array) -> Array:
    """Lower Λ with Ψ = ΛΛᵀ for the first d rows Ψ of A, positive semidefinite; below, theirs Λ⁻ᵀ.

    A has the shape (d + r, d), or more axes. Null pivots give null columns. A pivot counts as null
    when rounding in Ψ alone could have made it: a few d·ε of its own variance.
    """
    n, d = A.shape[:2]
    tolerance = 4 * d * jnp.finfo(A.dtype).eps * jnp.einsum("ii...->i...", A[:d])
    rows = jnp.arange(n).reshape(n, *(1,) * (A.ndim - 2))

    def eliminate(j: Array | int, state: tuple) -> tuple:
        A, factor = state
        pivot = A[j, j]
        positive = pivot > tolerance[j]
        scale = jnp.where(positive, 1 / jnp.sqrt(jnp.where(positive, pivot, 1.0)), 0.0)
        column = jnp.where(rows >= j, A[:, j] * scale, 0.0)
        return A - column[:, None] * column[None, :d], factor.at[:, j].set(column)

    state = (A, jnp.zeros_like(A))
    if A.ndim > 3 and d <= UNROLL:
        for j in range(d):
            state = eliminate(j, state)
        return state[1]
    return jax.lax.fori_loop(0, d, eliminate, state)[1]


def back_substituted(L: Array, A: Array) -> Array:
    """L⁻ᵀA for a lower factor, shape (d, d, N) and (d, r, N), zero where its pivot is null."""
    d = len(L)
    rows = jnp.arange(d).reshape(d, *(1,) * (A.ndim - 1))

    def solve(step: Array | int, X: Array) -> Array:
        j = d - 1 - step
        pivot = jnp.where(L[j, j] > 0, L[j, j], jnp.inf)
        own = X[j] / pivot
        left = X - L[j][:, None] * own
        return jnp.where(rows == j, own, jnp.where(rows < j, left, X))

    if A.ndim > 3 and d <= UNROLL:
        for step in range(d):
            A = solve(step, A)
        return A
    return jax.lax.fori_loop(0, d, solve, A)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Absorbed:
    """What it takes to integrate random effects out; see `absorb`.

    Attributes
    ----------
    K, T
        (Ψ⁻¹ + D)⁻¹, the covariance of b given the data, and ZᵀΣ⁻¹Z, shape (d, d, N).
    S, KF, FKF
        ZᵀΣ⁻¹U, K F and FᵀK F, shape (d, r, N) twice and (r, r, N).
    along
        (I + ΨD)⁻¹B, where its D is not null, shape (d, r, N).
    logdet
        log|Σ| − log|Σ₀|, shape (N,).
    """

    K: Array
    T: Array
    S: Array
    KF: Array
    FKF: Array
    along: Array
    logdet: Array


@jax.custom_jvp
def absorb(Psi: Array, D: Array, F: Array, B: Array) -> Absorbed:
    """Integrate the random effects b ~ N(0, Ψ) of each group out: Σ = Σ₀ + ZΨZᵀ.

    No inverse of Ψ is taken: a singular Ψ, or Ψ = 0, is an ordinary value. Nor is T, S or (I +
    ΨD)⁻¹B a difference of larger numbers where DΨ is large: with D = LLᵀ they are products with
    (I + LᵀΨL)⁻¹.

    Parameters
    ----------
    Psi
        Covariance of the random effects, shape (d, d), or (d, d, B) for B data sets.
    D, F
        ZᵀΣ₀⁻¹Z and ZᵀΣ₀⁻¹U of every group, shape (d, d, N) and (d, r, N), or with a last axis B.
    B
        Coefficients along Z, constants, shape (d, r, N); r may be 0.
    """
    d = len(Psi)
    Psi = Psi[:, :, None]
    identity = over_stack(jnp.eye(d, dtype=D.dtype), D)
    factor = semidefinite_factor(Psi)
    R, logdet = whitener(identity + matmul(transpose(factor), matmul(D, factor)))
    root = matmul(R, transpose(factor))
    G = matmul(root, F)
    wide = semidefinite_factor(jnp.concatenate([D, transpose(F)]))
    L, g = wide[:d], transpose(wide[d:])
    R, _ = whitener(identity + matmul(transpose(L), matmul(Psi, L)))
    small = matmul(R, transpose(L))
    along = back_substituted(L, matmul(transpose(R), matmul(small, B)))
    return Absorbed(
        matmul(transpose(root), root),
        matmul(transpose(small), small),
        matmul(transpose(small), matmul(R, g)),
        matmul(transpose(root), G),
        matmul(transpose(G), G),
        along,
        logdet,
    )


@absorb.defjvp
def _absorb_jvp(primals: tuple, tangents: tuple) -> tuple:
    (Psi, D, F, B), (dPsi, dD, dF, _) = primals, tangents
    identity = over_stack(jnp.eye(len(Psi), dtype=D.dtype), D)
    own = jnp.broadcast_to(
        identity, (*D.shape[:2], *jnp.broadcast_shapes(D.shape[2:], B.shape[2:]))
    )
    at = absorb(
        Psi, D, F, jnp.concatenate([jnp.broadcast_to(B, (*B.shape[:2], *own.shape[2:])), own], 1)
    )
    r = B.shape[1]
    J = transpose(at.along[:, r:])  # (I + DΨ)⁻¹, on what D is not null on
    at = replace(at, along=at.along[:, :r])
    dPsi = dPsi[:, :, None]
    whole = identity - matmul(D, at.K)
    dK = matmul(transpose(whole), matmul(dPsi, whole)) - matmul(at.K, matmul(dD, at.K))
    dT = matmul(J, matmul(dD, transpose(J))) - matmul(at.T, matmul(dPsi, at.T))
    dS = matmul(J, dF - matmul(dD, at.KF)) - matmul(at.T, matmul(dPsi, at.S))
    cross = matmul(transpose(dF), at.KF)
    dalong = matmul(transpose(J), matmul(dPsi, matmul(at.T, B))) + matmul(
        at.K, matmul(dD, at.along)
    )
    return at, Absorbed(
        dK,
        dT,
        dS,
        matmul(dK, F) + matmul(at.K, dF),
        cross + transpose(cross) + matmul(transpose(F), matmul(dK, F)),
        -dalong,
        trace_product(at.T, dPsi) + trace_product(at.K, dD),
    )
