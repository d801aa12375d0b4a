"""Small matrices of units, written out entry by entry: arrays of shape (N,) or (N, B) each.

Symmetric matrices have the entries i ≥ j, lower triangular ones those that are not zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from mixmeta_jax.arrays import Array
from mixmeta_jax.likelihood.algebra import triangle

Entries = dict[tuple[int, int], Array]
"""Entries i ≥ j of a symmetric or lower triangular matrix per unit."""


def entries(k: int) -> list[tuple[int, int]]:
    """The packed entries (i, j), i ≥ j, of a k × k matrix."""
    columns, rows = triangle(k)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def precision(R: Entries, observed: Array | None, k: int) -> Entries:
    """W = RᵀR, without the rows and columns of missing outcomes."""
    W = {
        (i, j): dot([R[r, i] for r in range(i, k)], [R[r, j] for r in range(i, k)])
        for i, j in entries(k)
    }
    if observed is None:
        return W
    return {(i, j): W[i, j] * (observed[i] if i == j else 1.0) for i, j in entries(k)}


def row(A: Entries, i: int, k: int) -> list[Array]:
    """A row of a symmetric matrix."""
    return [A[max(i, j), min(i, j)] for j in range(k)]


def lower_times(R: Entries, v: Sequence[Array] | Array) -> list[Array]:
    """R v for a lower triangular R."""
    return [dot([R[i, j] for j in range(i + 1)], v[: i + 1]) for i in range(len(v))]


def transpose_times(R: Entries, v: Sequence[Array]) -> list[Array]:
    """Rᵀ v for a lower triangular R."""
    k = len(v)
    return [dot([R[i, j] for i in range(j, k)], v[j:]) for j in range(k)]


def dot(a: Sequence[Array], b: Sequence[Array] | Array) -> Array:
    """Σ a_i b_i."""
    terms = [left * right for left, right in zip(a, b, strict=True)]
    return sum(terms[1:], start=terms[0])
