"""Cholesky factors of stacks of matrices, whitening ones and those of semidefinite matrices.

Derivatives are matrix identities, never the derivative of the elimination itself, and the rules use
only their own outputs, so that they hold to any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, Float, Ruled, fori_loop, namespace, shaped, with_rows
from mixmeta_jax.likelihood.algebra import matmul, matrices_first, matrices_last, transpose

UNROLL = 5
"""Largest matrix whose elimination is written out by scalars; larger ones loop over columns."""

BY_COLUMN = 24
"""Largest matrix that is eliminated column by column; larger ones are halved until they are."""

BY_HALVES = 128
"""Largest matrix that is halved (the program grows with it); larger ones go to LAPACK."""

SMALL_MATRIX = 8
"""Largest matrix that NumPy eliminates column by column; larger ones go to LAPACK."""


@Ruled
@shaped
def whitener(
    A: Float[Array, "s s *rest"],
) -> tuple[Float[Array, "s s *rest"], Float[Array, "*rest"]]:
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
            L = np.linalg.cholesky(matrices_last(A))
        except np.linalg.LinAlgError:
            pass  # which of them is not positive definite is found below
        else:
            R = matrices_first(np.linalg.inv(L))
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


@shaped
def semidefinite_factor(A: Float[Array, "r d *rest"]) -> Float[Array, "r d *rest"]:
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


@shaped
def back_substituted(
    L: Float[Array, "d d *#rest"], A: Float[Array, "d r *#rest"]
) -> Float[Array, "d r ..."]:
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
