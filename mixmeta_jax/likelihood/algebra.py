"""Linear algebra for stacks of matrices, one per block or group and data set.

A stack has the shape (s, t, N, B): s rows and t columns, N blocks or groups, B data sets; N = 1 or
B = 1 marks what all share. XLA gets operations along the contiguous last axes, which it fuses and
vectorises, since batched LAPACK loops over the matrices one by one; that pays while a matrix is
small: the sizes from which products go to the matrix-product routines and eliminations to LAPACK
are measured in ``benchmarks/large_k.py``. NumPy gets as few calls as there are. Nothing is written
out whose number the data choose.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence

import numpy as np

from mixmeta_jax.arrays import Array, Float, namespace, once, shaped

BY_TERM = 15
"""Most terms of a product that are written out; longer ones go to the matrix-product routine."""

SLICES = 16
"""Most slices of a sum that are written out."""

FEW_PAIRS = 64
"""Most pairs of columns whose products are summed along the blocks, several data sets at once."""

FUSED = 5
"""Most terms of a product whose factors XLA may compute again for every entry of it."""

SMALL_GRAM = 4_000
"""Multiplications of a Gram matrix up to which NumPy's loop is faster than a product."""

SMALL_PRODUCT = 300
"""Multiplications of a product up to which NumPy's loop is faster than one product each."""


def transpose(A: Array) -> Array:
    """Transposes of a stack of matrices."""
    return A.swapaxes(0, 1)


@functools.cache
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
        return matrices_first(np.matmul(matrices_last(A), matrices_last(B)))
    if xp is np or p > BY_TERM:
        return xp.einsum("ip...,pj...->ij...", A, B)
    if p > FUSED:
        # XLA would compute the factors again for every entry of the product.
        A, B = once(A, A), once(B, B)
    terms = [A[:, q, None] * B[None, q, :] for q in range(p)]
    return sum(terms[1:], start=terms[0])


def matrices_last(A: np.ndarray) -> np.ndarray:
    """The stack in the order of LAPACK: (s, t, …) as (…, s, t), in memory too."""
    return np.ascontiguousarray(A.transpose(*range(2, A.ndim), 0, 1))


def matrices_first(A: np.ndarray) -> np.ndarray:
    """And back."""
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


@shaped
def sum_blocks(values: Float[Array, "i j N B"]) -> Float[Array, "i j B"]:
    """Sum over the third axis, that of blocks or groups: (i, j, N, B) to (i, j, B).

    For several data sets a product with ones: XLA does not compute it again for each of the many
    numbers that are made from it, as it does with sums.
    """
    i, j, N, B = values.shape
    if B == 1 or namespace(values) is np:
        return values.sum(2)
    ones = np.ones((i * j, 1, N))
    return (ones @ values.reshape(i * j, N, B)).reshape(i, j, B)


def sums_in_one_loop(values: Sequence[Array]) -> Array:
    """Sums over the first axis of arrays of JAX of one shape, (N, B) each: (n, B).

    On a CPU one loop over the units carries all the sums, so that what they share is computed once
    and nothing of it is written to memory.
    """
    import jax

    def together(*values: Array) -> Array:
        zero = np.zeros((), values[0].dtype)
        made = jax.lax.reduce(
            values, (zero,) * len(values), lambda a, b: tuple(map(operator.add, a, b)), (0,)
        )
        return jax.numpy.stack(made)

    def apart(*values: Array) -> Array:
        return jax.numpy.stack([own.sum(0) for own in values])

    return jax.lax.platform_dependent(*values, cpu=together, default=apart)


@shaped
def gram(
    left: Float[Array, "r s #N #B"], right: Float[Array, "t s #N #B"]
) -> Float[Array, "r t B"]:
    """Products of columns, summed over all blocks: (r, s, N, B) and (t, s, N, B) to (r, t, B).

    For one data set a single matrix product.
    """
    xp = namespace(left, right)
    r, B = left.shape[0], left.shape[3]
    t, C = right.shape[0], right.shape[3]
    if B == C == 1:
        length = math.prod(left.shape[1:3])
        return (left.reshape(r, length) @ right.reshape(t, length).T)[:, :, None]
    if xp is np:
        if r * right.size * max(1, B // C) <= SMALL_GRAM:
            return np.einsum("rsnb,tsnb->rtb", left, right)
        A, D = (
            each.transpose(3, 0, 1, 2).reshape(each.shape[3], len(each), math.prod(each.shape[1:3]))
            for each in (left, right)
        )
        return (A @ D.transpose(0, 2, 1)).transpose(1, 2, 0)
    if r * t > FEW_PAIRS:
        B = max(B, C)
        left, right = (xp.broadcast_to(each, (*each.shape[:3], B)) for each in (left, right))
        return xp.einsum("rsnb,tsnb->rtb", left, right)
    return sum_blocks(matmul(left, xp.swapaxes(right, 0, 1)))
