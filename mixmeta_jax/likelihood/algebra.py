"""Linear algebra for stacks of matrices, one per block or group and data set.

A stack has the shape (s, t, N, B): s rows and t columns, N blocks or groups, B data sets; N = 1 or
B = 1 marks what all share. XLA gets operations along the contiguous last axes, which it fuses and
vectorises, since batched LAPACK loops over the matrices one by one; that pays while a matrix is
small: the sizes from which products go to the matrix-product routines and eliminations to LAPACK
are measured in ``benchmarks/large_k.py``. NumPy gets as few calls as there are. Nothing is written
out whose number the data choose. Derivatives are matrix identities, never the derivative of the
elimination itself, and the rules use only their own outputs, so that they hold to any order.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, Ruled, fori_loop, namespace, once, tree, with_rows

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

FEW_PAIRS = 64
"""Most pairs of columns whose products are summed along the blocks, several data sets at once."""

SMALL_PRODUCT, SMALL_MATRIX = 300, 8
"""NumPy: multiplications of a product, and size of a matrix, from which on LAPACK's are faster."""


def transpose(A: Array) -> Array:
    """Transposes of a stack of matrices."""
    return namespace(A).swapaxes(A, 0, 1)


def identity(s: int) -> np.ndarray:
    """The identity as a stack of one."""
    return np.eye(s)[:, :, None, None]


def matmul(A: Array, B: Array) -> Array:
    """Products of two stacks: (i, p, …) and (p, j, …) give (i, j, …); the rest broadcasts."""
    xp = namespace(A, B)
    i, p, *rest = A.shape
    j = B.shape[1]
    if p == 1:
        return A * B
    if p > BY_TERM or xp is np:
        # One matrix for all: a single product of the others' rows or columns.
        if math.prod(rest) == 1:
            return xp.matmul(A.reshape(i, p), B.reshape(p, -1)).reshape(i, *B.shape[1:])
        if math.prod(B.shape[2:]) == 1:
            product = xp.matmul(B.reshape(p, j).T, A.reshape(i, p, -1))
            return product.reshape(i, j, *rest)
    if xp is np and i * p * j > SMALL_PRODUCT:
        return _matrices_first(np.matmul(_matrices_last(A), _matrices_last(B)))
    if xp is np or p > BY_TERM:
        return xp.einsum("ip...,pj...->ij...", A, B)
    if p > UNROLL:
        # XLA would compute the factors again for every entry of the product.
        A, B = once((A, B), A)
    terms = [A[:, q, None] * B[None, q, :] for q in range(p)]
    return sum(terms[1:], start=terms[0])


def _matrices_last(A: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(A.transpose(*range(2, A.ndim), 0, 1))


def _matrices_first(A: np.ndarray) -> np.ndarray:
    return A.transpose(A.ndim - 2, A.ndim - 1, *range(A.ndim - 2))


@functools.cache
def triangle(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the lower triangle, by column: the entries of a packed matrix."""
    return np.triu_indices(d)


@functools.cache
def packing(d: int) -> np.ndarray:
    """Where each entry of a symmetric matrix stands when packed, shape (d, d)."""
    columns, rows = triangle(d)
    place = np.zeros((d, d), int)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return place


def vector(A: Array, v: Array) -> Array:
    """Products of a stack with one vector each: (i, p, …) and (p, …) give (i, …)."""
    return matmul(A, v[:, None])[:, 0]


def sum_over(values: Array, axis: int) -> Array:
    """Sum over one axis of those of a block, by slices.

    XLA's reduction along an inner axis goes number by number on a CPU, and computes what it sums
    once more for each; sums of slices run along the last axes like everything else here.
    """
    n = values.shape[axis]
    last = math.prod(values.shape[axis + 1 :]) == 1
    if last or n == 0 or namespace(values) is np:
        return values.sum(axis)
    import jax

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
    """Sum over the third axis, that of blocks or groups: (i, j, N, B) to (i, j, B).

    For several data sets a product with ones: XLA does not compute it again for each of the many
    numbers that are made from it, as it does with sums.
    """
    i, j, N, B = values.shape
    if B == 1 or namespace(values) is np:
        return values.sum(2)
    ones = np.ones((i * j, 1, N))
    return (ones @ values.reshape(i * j, N, B)).reshape(i, j, B)


def gram(left: Array, right: Array) -> Array:
    """Products of columns, summed over all blocks: (r, s, N, B) and (t, s, N, B) to (r, t, B).

    For one data set a single matrix product.
    """
    xp = namespace(left, right)
    r, B = left.shape[0], left.shape[3]
    t, C = right.shape[0], right.shape[3]
    if B == C == 1:
        return (left.reshape(r, -1) @ right.reshape(t, -1).T)[:, :, None]
    if xp is np:
        A, D = (
            np.moveaxis(each, -1, 0).reshape(each.shape[3], len(each), -1) for each in (left, right)
        )
        return np.moveaxis(A @ np.swapaxes(D, 1, 2), 0, -1)
    if r * t > FEW_PAIRS:
        B = max(B, C)
        left, right = (xp.broadcast_to(each, (*each.shape[:3], B)) for each in (left, right))
        return xp.einsum("rsnb,tsnb->rtb", left, right)
    return sum_blocks(matmul(left, xp.swapaxes(right, 0, 1)))


@Ruled
def whitener(A: Array) -> tuple[Array, Array]:
    """R = L⁻¹ with A = L Lᵀ, and log|A|, for a stack of positive definite matrices.

    Parameters
    ----------
    A
        Symmetric positive definite matrices, shape (s, s, ...).

    Returns
    -------
    R
        Inverse Cholesky factors, lower triangular, shape (s, s, ...): A⁻¹ = RᵀR and R whitens.
        NaN where a matrix is not positive definite.
    logdet
        Log-determinants, shape (...).
    """
    s = A.shape[0]
    if namespace(A) is np:
        return _whitener_by_numpy(A)
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
    half = np.tril(np.ones((s, s))) - 0.5 * np.eye(s)
    slope = namespace(A).einsum("ii...->...", inner)
    half = half.reshape(s, s, *(1,) * (A.ndim - 2))
    return (R, logdet), (-matmul(inner * half, R), slope)


def _whitener_by_numpy(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s = len(A)
    if s == 1:
        A = np.where(A > 0, A, np.nan)
        return 1 / np.sqrt(A), np.log(A[0, 0])
    if s > SMALL_MATRIX:
        try:
            L = np.linalg.cholesky(_matrices_last(A))
        except np.linalg.LinAlgError:
            pass  # which of them is not positive definite is found below
        else:
            R = _matrices_first(np.linalg.inv(L))
            return np.tril(np.ones((s, s))).reshape(s, s, *(1,) * (A.ndim - 2)) * R, (
                2 * np.log(np.einsum("...ii->...i", L)).sum(-1)
            )
    A, R = A.copy(), np.zeros_like(A)
    roots = np.empty(A.shape[1:])
    for j in range(s):
        pivot = A[j, j]
        root = roots[j] = np.sqrt(np.where(pivot > 0, pivot, np.nan))
        R[j, j] = 1.0
        R[j, : j + 1] /= root
        if j + 1 < s:
            column = A[j + 1 :, j] / root
            R[j + 1 :, : j + 1] -= column[:, None] * R[j, : j + 1]
            A[j + 1 :, j + 1 :] -= column[:, None] * column
    return R, 2 * np.log(roots).sum(0)


def _whitener_unrolled(A: Array) -> tuple[Array, Array]:
    s, xp = A.shape[0], namespace(A)
    R, logdet = eliminate({(i, j): A[i, j] for j in range(s) for i in range(j, s)}, s)
    zero = xp.zeros_like(A[0, 0])
    rows = [xp.stack([R.get((i, j), zero) for j in range(s)]) for i in range(s)]
    return xp.stack(rows), logdet


def eliminate(
    A: dict[tuple[int, int], Array], s: int
) -> tuple[dict[tuple[int, int], Array], Array]:
    """`whitener` entry by entry: the entries i ≥ j of A in, those of R and log|A| out."""
    xp = namespace(A[0, 0])
    L: dict[tuple[int, int], Array] = {}
    R: dict[tuple[int, int], Array] = {}
    for j in range(s):
        pivot = A[j, j] - sum(L[j, p] ** 2 for p in range(j))
        root = xp.sqrt(xp.where(pivot > 0, pivot, np.nan))
        L[j, j], R[j, j] = root, 1 / root
        for i in range(j + 1, s):
            L[i, j] = (A[i, j] - sum(L[i, p] * L[j, p] for p in range(j))) * R[j, j]
    for j in range(s):
        for i in range(j + 1, s):
            R[i, j] = -sum(L[i, p] * R[p, j] for p in range(j, i)) * R[i, i]
    # The logarithm of two roots at a time: it costs as much as the rest, and cannot overflow.
    roots = [L[j, j] for j in range(s)]
    pairs = [roots[j] * roots[j + 1] for j in range(0, s - 1, 2)] + roots[s - s % 2 :]
    return R, 2 * sum((xp.log(pair) for pair in pairs[1:]), start=xp.log(pairs[0]))


def _whitener_by_column(A: Array) -> tuple[Array, Array]:
    s, xp = A.shape[0], namespace(A)
    rest = (1,) * (A.ndim - 2)
    below = np.arange(s).reshape(s, *rest)

    def eliminate(j: Array, state: tuple) -> tuple:
        A, R, logdet = state
        pivot = A[j, j]
        root = xp.sqrt(xp.where(pivot > 0, pivot, np.nan))
        column = xp.where(below > j, A[:, j] / root, 0.0)
        row = R[j] / root
        R = with_rows(R - column[:, None] * row[None], j, row)
        return A - column[:, None] * column[None], R, logdet + 2 * xp.log(root)

    R = xp.broadcast_to(np.eye(s).reshape(s, s, *rest), A.shape)
    _, R, logdet = fori_loop(xp, s, eliminate, (A, R, xp.zeros_like(A[0, 0])))
    return R, logdet


def _whitener_by_halves(A: Array) -> tuple[Array, Array]:
    xp, h = namespace(A), A.shape[0] // 2
    R, logdet = whitener(A[:h, :h])
    L = matmul(A[h:, :h], transpose(R))
    rest, logdet_rest = whitener(A[h:, h:] - matmul(L, transpose(L)))
    corner = -matmul(rest, matmul(L, R))
    above = xp.concatenate([R, xp.zeros_like(A[:h, h:])], 1)
    return (
        xp.concatenate([above, xp.concatenate([corner, rest], 1)]),
        logdet + logdet_rest,
    )


def _whitener_by_lapack(A: Array) -> tuple[Array, Array]:
    import jax

    xp = namespace(A)
    L = xp.linalg.cholesky(xp.moveaxis(A, (0, 1), (-2, -1)))
    eye = xp.broadcast_to(np.eye(A.shape[0]), L.shape)
    R = jax.scipy.linalg.solve_triangular(L, eye, lower=True)
    logdet = 2 * xp.log(xp.diagonal(L, axis1=-2, axis2=-1)).sum(-1)
    return xp.moveaxis(R, (-2, -1), (0, 1)), logdet


def semidefinite_factor(A: Array) -> Array:
    """Lower Λ with Ψ = ΛΛᵀ for the first d rows Ψ of A, positive semidefinite; below, theirs Λ⁻ᵀ.

    A has the shape (d + r, d, ...). Null pivots give null columns. A pivot counts as null when
    rounding in Ψ alone could have made it: a few d·ε of its own variance.
    """
    xp = namespace(A)
    n, d = A.shape[:2]
    tolerance = 4 * d * np.finfo(float).eps * xp.einsum("ii...->i...", A[:d])
    rows = np.arange(n).reshape(n, *(1,) * (A.ndim - 2))

    def column_of(A: Array, j: Any) -> Array:
        pivot = A[j, j]
        positive = pivot > tolerance[j]
        return A[:, j] * xp.where(positive, 1 / xp.sqrt(xp.where(positive, pivot, 1.0)), 0.0)

    if d == 1:
        return column_of(A, 0)[:, None]

    def eliminate(j: Any, state: tuple) -> tuple:
        A, factor = state
        column = xp.where(rows >= j, column_of(A, j), 0.0)
        return A - column[:, None] * column[None, :d], with_rows(factor, (slice(None), j), column)

    state = (A, xp.zeros_like(A))
    if d <= UNROLL:
        for j in range(d):
            state = eliminate(j, state)
        return state[1]
    return fori_loop(xp, d, eliminate, state)[1]


def back_substituted(L: Array, A: Array) -> Array:
    """L⁻ᵀA for a lower factor, shape (d, d, ...) and (d, r, ...), zero where its pivot is null."""
    d, xp = len(L), namespace(L, A)
    rows = np.arange(d).reshape(d, *(1,) * (A.ndim - 1))

    def solve(step: Any, X: Array) -> Array:
        j = d - 1 - step
        own = X[j] / xp.where(L[j, j] > 0, L[j, j], np.inf)
        if d == 1:
            return own[None]
        left = X - L[j][:, None] * own
        return xp.where(rows == j, own, xp.where(rows < j, left, X))

    if d <= UNROLL:
        for step in range(d):
            A = solve(step, A)
        return A
    A = xp.broadcast_to(A, (*A.shape[:2], *np.broadcast_shapes(A.shape[2:], L.shape[2:])))
    return fori_loop(xp, d, solve, A)


@tree
@dataclass(frozen=True)
class Absorbed:
    """What it takes to integrate random effects out; see `absorb`.

    Attributes
    ----------
    K, T
        (Ψ⁻¹ + D)⁻¹, the covariance of b given the data, and ZᵀΣ⁻¹Z, shape (d, d, G, B).
    S, KF
        ZᵀΣ⁻¹U and K F, shape (d, r, G, B).
    along
        (I + ΨD)⁻¹B, where its D is not null, shape (d, r, G, B).
    logdet
        log|Σ| − log|Σ₀|, shape (G, B).
    """

    K: Array
    T: Array
    S: Array
    KF: Array
    along: Array
    logdet: Array


@Ruled
def absorb(Psi: Array, D: Array, F: Array, B: Array) -> Absorbed:
    """Integrate the random effects b ~ N(0, Ψ) of each group out: Σ = Σ₀ + ZΨZᵀ.

    No inverse of Ψ is taken: a singular Ψ, or Ψ = 0, is an ordinary value. Nor is T, S or (I +
    ΨD)⁻¹B a difference of larger numbers where DΨ is large: with D = LLᵀ they are products with
    (I + LᵀΨL)⁻¹.

    Parameters
    ----------
    Psi
        Covariance of the random effects, shape (d, d, B).
    D, F
        ZᵀΣ₀⁻¹Z and ZᵀΣ₀⁻¹U of every group, shape (d, d, G, B) and (d, r, G, B).
    B
        Coefficients along Z, constants, shape (d, r, G, B); r may be 0.
    """
    xp = namespace(Psi, D, F, B)
    d = len(Psi)
    Psi = Psi[:, :, None]
    factor = semidefinite_factor(Psi)
    R, logdet = whitener(identity(d) + matmul(transpose(factor), matmul(D, factor)))
    root = matmul(R, transpose(factor))
    D = xp.broadcast_to(D, (d, d, *F.shape[2:]))
    wide = semidefinite_factor(xp.concatenate([D, transpose(F)]))
    L, g = wide[:d], transpose(wide[d:])
    R, _ = whitener(identity(d) + matmul(transpose(L), matmul(Psi, L)))
    small = matmul(R, transpose(L))
    along = B
    if B.shape[1]:
        along = back_substituted(L, matmul(transpose(R), matmul(small, B)))
    return Absorbed(
        matmul(transpose(root), root),
        matmul(transpose(small), small),
        matmul(transpose(small), matmul(R, g)),
        matmul(transpose(root), matmul(root, F)),
        along,
        logdet,
    )


@absorb.defjvp
def _absorb_jvp(primals: tuple, tangents: tuple) -> tuple:
    (Psi, D, F, B), (dPsi, dD, dF, _) = primals, tangents
    xp = namespace(Psi, D, F, B)
    rest = np.broadcast_shapes(D.shape[2:], F.shape[2:], B.shape[2:])
    own = xp.broadcast_to(identity(len(Psi)), (*D.shape[:2], *rest))
    r = B.shape[1]
    wide = xp.concatenate([xp.broadcast_to(B, (*B.shape[:2], *rest)), own], 1)
    at = absorb(Psi, D, F, wide)
    J = transpose(at.along[:, r:])  # (I + DΨ)⁻¹, on what D is not null on
    at = replace(at, along=at.along[:, :r])
    dPsi = dPsi[:, :, None]
    whole = identity(len(Psi)) - matmul(D, at.K)
    dK = matmul(transpose(whole), matmul(dPsi, whole)) - matmul(at.K, matmul(dD, at.K))
    dT = matmul(J, matmul(dD, transpose(J))) - matmul(at.T, matmul(dPsi, at.T))
    dS = matmul(J, dF - matmul(dD, at.KF)) - matmul(at.T, matmul(dPsi, at.S))
    dalong = xp.zeros_like(at.along)
    if r:
        dalong = -matmul(transpose(J), matmul(dPsi, matmul(at.T, B))) - matmul(
            at.K, matmul(dD, at.along)
        )
    slope = (at.T * dPsi).sum((0, 1)) + (at.K * dD).sum((0, 1))
    return at, Absorbed(dK, dT, dS, matmul(dK, F) + matmul(at.K, dF), dalong, slope)
