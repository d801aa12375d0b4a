"""Draws from the model: random effects level by level, errors block by block.

Every data set has its own stream of numbers, Philox with the key (seed, number of the data set), so
that its draws depend on nothing else: not on how many are drawn, in which part or on which device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def draws(
    first: int,
    count: int,
    seed: int,
    groups: np.ndarray,
    Z: Sequence[np.ndarray],
    Psi: Sequence[np.ndarray],
    errors: Sequence[tuple[np.ndarray, np.ndarray]],
    shape: tuple[int, int],
) -> np.ndarray:
    """Deviations of the outcomes from their expectations, shape (count, n, k).

    Parameters
    ----------
    first, count
        Numbers of the data sets: first, …, first + count − 1.
    seed
        First half of the key of every stream.
    groups, Z
        Group of each unit, shape (n, L), and random predictors of each level, (n, q).
    Psi
        Covariance of each level, outer first, shape (k·q, k·q), outcome fastest.
    errors
        Roots of S with one shape: their units, shape (N, r), and the roots, (N, r·k, r·k).
    shape
        (n, k).
    """
    n, k = shape
    roots = [semidefinite_root(P) for P in Psi]
    sizes = [(int(groups[:, a].max()) + 1, len(P)) for a, P in enumerate(Psi)]
    ends = np.cumsum([0, *(g * d for g, d in sizes), n * k])
    numbers = np.stack(
        [stream(seed, first + b).standard_normal(int(ends[-1])) for b in range(count)]
    )
    total = np.zeros((count, n, k))
    for a, (root, (g, d)) in enumerate(zip(roots, sizes, strict=True)):
        effects = numbers[:, ends[a] : ends[a + 1]].reshape(count, g, d) @ root
        q = d // k
        for j in range(q):
            own = effects[:, groups[:, a], j * k : (j + 1) * k]
            total += own if q == 1 and (Z[a] == 1).all() else own * Z[a][:, j, None]
    white = numbers[:, ends[-2] :].reshape(count, n, k)
    for units, root in errors:
        N, r = units.shape
        own = white[:, units].reshape(count, N, r * k)
        moved = np.matmul(root, own[..., None])[..., 0]
        total[:, units.ravel()] += moved.reshape(count, N * r, k)
    return total


def stream(seed: int, number: int) -> np.random.Generator:
    """The numbers of one data set."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))


def semidefinite_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric Λ with ΛΛ the given matrix, which may be singular; stacks alike.

    Of all roots the one that the matrix alone determines, so that a seed gives the same data on
    every machine: eigenvectors of equal eigenvalues are what LAPACK makes them, and their signs.
    """
    values, vectors = np.linalg.eigh(matrix)
    scaled = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
    return scaled @ np.swapaxes(vectors, -1, -2)
