"""The columns [Z of the absorbed levels, X, y] of the blocks, in the metric of their own Σ.

In two forms with the same products. `Whitened` holds the columns times the inverse Cholesky factor
of each block, whatever its size. `UnitColumns` is for blocks of one unit and few predictors: its
columns are predictors times I_k, so that with W = Σ⁻¹ of the unit all products are those of two
predictors and an entry of W, the predictors often shared by all data sets. This takes a third of
the arithmetic.

What a group needs is linear in the number of coefficients: products of [X, y] among themselves are
summed over all blocks at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace, tree, widened
from mixmeta_jax.design.layout import EqualGroups
from mixmeta_jax.design.tensors import Block
from mixmeta_jax.likelihood.algebra import (
    BY_TERM,
    gram,
    matmul,
    sum_blocks,
    sum_over,
    transpose,
    vector,
)
from mixmeta_jax.likelihood.elimination import UNROLL, eliminate, whitener

PAIRED_PREDICTORS = 4
"""Most predictors, of all levels and X, whose pairs `UnitColumns` writes out."""

INDICATORS = 1_000_000
"""NumPy: largest matrix of indicators by which children are summed to their groups."""

ByGroup = Callable[[Array], Array]
"""Sums over the blocks of each group, (i, j, N, B) to (i, j, G, B)."""


@tree
@dataclass(frozen=True)
class State:
    """What the downward sweep hands to the children of a group; see `sweep.Downward`.

    Attributes
    ----------
    c
        Weight in the residual of the columns of each absorbed level that is visible: −b, finest
        first, shape (dz, G, B).
    zz, zx
        Covariance of these weights given the data, (dz, dz, G, B), and with −β, (dz, P, G, B), of
        which ``zx`` holds the product with a root of V from the right: Cov = zx · root. None where
        β counts as known.
    """

    c: Array
    zz: Array
    zx: Array | None

    def at(self, parent: Any) -> State:
        """The state of the parent of every child."""
        zx = None if self.zx is None else at_children(parent, self.zx, 2)
        return State(at_children(parent, self.c, 1), at_children(parent, self.zz, 2), zx)


@tree
@dataclass(frozen=True)
class Whitened:
    """The columns of one bucket, whitened.

    Attributes
    ----------
    R
        Inverse Cholesky factors of the blocks, shape (s, s, N, B).
    z, x, y
        R Z of the absorbed levels, R X and R y: shape (dz, s, N, B), (P, s, N, B), (1, s, N, B).
    """

    R: Array
    z: Array | None
    x: Array
    y: Array

    def crossed(self, by_group: ByGroup) -> Array:
        """ZᵀΣ⁻¹[Z, X, y] of every group, shape (dz, r, G, B)."""
        parts = (self.z, self.x, self.y)
        products = [by_group(matmul(self.z, transpose(part))) for part in parts]
        return _joined(*products, axis=1)

    def root(self) -> Array:
        """[X, y]ᵀΣ⁻¹[X, y] of all blocks, shape (P + 1, P + 1, B)."""
        joined = _joined(self.x, self.y)
        return gram(joined, joined)

    def turned(self, root: Array | None) -> Array | None:
        """The columns of X times a root of V, shape (P, s, N, B); None without a root."""
        return None if root is None else matmul(root[:, :, None], self.x)

    def projected(
        self, beta: Array, root: Array | None, half: Array | None, state: State | None
    ) -> tuple[Array, Array]:
        """e = Py and the diagonal blocks of P, shape (s, N, B) and (s, s, N, B).

        ``root`` has V = rootᵀ root, None where β counts as known, and ``half`` is `turned` by it;
        ``state`` is that of the parents.
        """
        residual = self.y[0] - vector(transpose(self.x), beta[:, None])
        W = matmul(transpose(self.R), self.R)
        inner = None if half is None else matmul(transpose(half), half)
        if state is not None:
            residual = residual + vector(transpose(self.z), state.c)
            own = matmul(state.zz, self.z)
            if state.zx is not None and half is not None:
                own = own + 2 * matmul(state.zx, half)
            explained = matmul(transpose(self.z), own)
            if state.zx is not None:
                explained = 0.5 * (explained + transpose(explained))
            inner = explained if inner is None else inner + explained
        e = vector(transpose(self.R), residual)
        return e, W if inner is None else W - matmul(matmul(transpose(self.R), inner), self.R)

    def along(self, f: Array, by_group: ByGroup | None) -> tuple[Array | None, Array, Array]:
        """ZᵀΣ⁻¹f by group, XᵀΣ⁻¹f and fᵀΣ⁻¹f in all, for f of shape (s, n_θ, N, B)."""
        white = matmul(self.R, f)
        rows = transpose(white)
        cross = None if by_group is None else by_group(matmul(self.z, white))
        return cross, gram(self.x, rows), gram(rows, rows)


@tree
@dataclass(frozen=True)
class UnitColumns:
    """The units of one bucket, in the place of whitened columns.

    Attributes
    ----------
    W
        Inverse covariance of each unit, shape (k, k, N, B).
    y
        Outcomes, shape (k, N, B).
    z, x
        Predictors of the absorbed levels, finest first, and of X, with the mask: shape (q, k or 1,
        N, B or 1) and (p, k or 1, N, B or 1).
    """

    W: Array
    y: Array
    z: Array
    x: Array

    def crossed(self, by_group: ByGroup) -> Array:
        xp = namespace(self.W)
        q = len(self.z)
        Wy = matmul(self.W, self.y[:, None])
        rows = []
        pairs = {
            (a, b): by_group((self.z[a][:, None] * self.z[b][None]) * self.W)
            for a in range(q)
            for b in range(a + 1)
        }
        for a in range(q):
            own = [pairs[a, b] if a >= b else transpose(pairs[b, a]) for b in range(q)]
            own += [by_group((self.z[a][:, None] * x[None]) * self.W) for x in self.x]
            rows.append(xp.concatenate([*own, by_group(self.z[a][:, None] * Wy)], 1))
        return xp.concatenate(rows)

    def root(self) -> Array:
        xp = namespace(self.W)
        p = len(self.x)
        Wy = matmul(self.W, self.y[:, None])
        pairs = {
            (a, b): sum_blocks((self.x[a][:, None] * self.x[b][None]) * self.W)
            for a in range(p)
            for b in range(a + 1)
        }
        rows = [
            xp.concatenate(
                [pairs[a, b] if a >= b else transpose(pairs[b, a]) for b in range(p)]
                + [sum_blocks(self.x[a][:, None] * Wy)],
                1,
            )
            for a in range(p)
        ]
        last = xp.concatenate([row[:, -1:] for row in rows])
        corner = sum_blocks((self.y[:, None] * Wy).sum(0, keepdims=True))
        return xp.concatenate([*rows, xp.concatenate([transpose(last), corner], 1)])

    def turned(self, root: Array | None) -> None:
        """Not needed: the products of few predictors are written out."""

    def projected(
        self, beta: Array, root: Array | None, half: Array | None, state: State | None
    ) -> tuple[Array, Array]:
        k = len(self.y)
        weights = beta.reshape(len(self.x), k, 1, -1)
        residual = self.y - sum(x * w for x, w in zip(self.x, weights, strict=True))
        inner: Any = 0.0
        if root is not None:
            V = transpose(root)[:, :, None]
            V = _by_predictor(matmul(V, transpose(V)), k)
            for a, x in enumerate(self.x):
                for b, other in enumerate(self.x):
                    inner = inner + (x[:, None] * other[None]) * V[a, b]
        if state is not None:
            c = state.c.reshape(len(self.z), k, *state.c.shape[1:])
            residual = residual + sum(z * w for z, w in zip(self.z, c, strict=True))
            zz = _by_predictor(state.zz, k)
            for a, z in enumerate(self.z):
                for b, other in enumerate(self.z):
                    inner = inner + (z[:, None] * other[None]) * zz[a, b]
            if state.zx is not None and root is not None:
                zx = _by_predictor(matmul(state.zx, root[:, :, None]), k)
                for a, z in enumerate(self.z):
                    for b, x in enumerate(self.x):
                        own = (z[:, None] * x[None]) * zx[a, b]
                        inner = inner + own + transpose(own)
        e = vector(self.W, residual)
        if isinstance(inner, float):
            return e, self.W
        return e, self.W - matmul(matmul(self.W, inner), self.W)

    def along(self, f: Array, by_group: ByGroup | None) -> tuple[Array | None, Array, Array]:
        xp = namespace(self.W)
        Wf = matmul(self.W, f)
        cross = None
        if by_group is not None:
            cross = xp.concatenate([by_group(z[:, None] * Wf) for z in self.z])
        fixed = xp.concatenate([sum_blocks(x[:, None] * Wf) for x in self.x])
        return cross, fixed, sum_blocks(matmul(transpose(f), Wf))


def _by_predictor(matrix: Array, k: int) -> Array:
    """(a·k, b·k, …) as (a, b, k, k, …)."""
    a, b = len(matrix) // k, matrix.shape[1] // k
    return namespace(matrix).swapaxes(matrix.reshape(a, k, b, k, *matrix.shape[2:]), 1, 2)


def block_columns(
    Sigma: Array, block: Block, n_inside: int, whole: bool = False
) -> tuple[Any, Array]:
    """The columns of the blocks with the covariances Σ, shape (s, s, N, B), and log|Σ|, (N, B).

    ``whole`` asks for whitened columns, whatever is faster.
    """
    levels = block.z[n_inside:]
    few = sum(map(len, levels)) + len(block.x) <= PAIRED_PREDICTORS
    if levels and block.y.shape[0] == 1 and few and not whole:
        return _unit_columns(Sigma, block, levels)
    R, logdets = whitener(Sigma)
    z = None
    if levels:
        z = namespace(R, *levels).concatenate([_spread(R, part) for part in levels])
    y = matmul(R, flat(block.y)[:, None])
    return Whitened(R, z, _spread(R, block.x), transpose(y)), logdets


def _unit_columns(Sigma: Array, block: Block, levels: tuple[Array, ...]) -> tuple[Any, Array]:
    k, xp = len(Sigma), namespace(Sigma, block.y, block.x)
    if k <= UNROLL and xp is not np:
        R, logdets = eliminate({(i, j): Sigma[i, j] for j in range(k) for i in range(j, k)}, k)
        lower = {
            (i, j): sum((R[r, i] * R[r, j] for r in range(i + 1, k)), start=R[i, i] * R[i, j])
            for i, j in R
        }
        rows = [[lower[max(i, j), min(i, j)] for j in range(k)] for i in range(k)]
        W = xp.stack([xp.stack(row) for row in rows])
    else:
        root, logdets = whitener(Sigma)
        W = matmul(transpose(root), root)
    W = xp.broadcast_to(W, (k, k, *np.broadcast_shapes(W.shape[2:], block.y.shape[2:])))
    z = [part[:, 0] for part in levels]
    widths = [max(sizes) for sizes in zip(*(part.shape[1:] for part in z), strict=True)]
    z = [xp.broadcast_to(part, (len(part), *widths)) for part in z]
    return UnitColumns(W, block.y[0], xp.concatenate(z), block.x[:, 0]), logdets


def _spread(R: Array, predictors: Array) -> Array:
    """R times predictors ⊗ I_k: (c, n_b, k or 1, N, B) to (c·k, s, N, B)."""
    c, n_b = predictors.shape[:2]
    s, k = len(R), len(R) // n_b
    xp = namespace(R, predictors)
    if n_b == 1:
        # (c, k or 1, 1, N, B) times (1, k, s, N, B): row o of a predictor is R's column o times it.
        made = predictors[:, 0][:, :, None] * transpose(R)[None]
        return made.reshape(c * k, s, *made.shape[3:])
    by_place = R.reshape(s, n_b, k, *R.shape[2:])
    if n_b > BY_TERM or xp is np:
        every = xp.broadcast_to(predictors, (c, n_b, k, *predictors.shape[3:]))
        return xp.einsum("suo...,cuo...->cos...", by_place, every).reshape(
            c * k, s, *np.broadcast_shapes(R.shape[2:], predictors.shape[3:])
        )
    by_place = xp.swapaxes(by_place, 0, 1)  # (n_b, s, k, N, B)
    terms = [
        predictors[:, u][:, :, None] * xp.swapaxes(by_place[u], 0, 1)[None] for u in range(n_b)
    ]
    made = sum(terms[1:], start=terms[0])
    return made.reshape(c * k, s, *made.shape[3:])


def _joined(*parts: Array, axis: int = 0) -> Array:
    """Stacks of rows or columns one after the other; data sets that some share are repeated."""
    xp = namespace(*parts)
    rest = np.broadcast_shapes(*(part.shape[2:] for part in parts))
    wide = [widened(part, (*part.shape[:2], *rest)) for part in parts]
    return xp.concatenate(wide, axis)


def flat(A: Array) -> Array:
    """(n_b, k, …) to (s, …): outcomes fastest."""
    return A.reshape(A.shape[0] * A.shape[1], *A.shape[2:])


def sum_by(parent: Any, values: Array, n_groups: int) -> Array:
    """Sums over the children of each group along the third axis."""
    xp = namespace(values, parent)
    if isinstance(parent, EqualGroups):
        shape = (*values.shape[:2], n_groups, parent.size, *values.shape[3:])
        return sum_over(values.reshape(shape), 3)
    if xp is np:
        i, j, N, B = values.shape
        if N * n_groups <= INDICATORS:
            member = 1.0 * (np.arange(n_groups)[:, None] == parent)
            return (member @ values.reshape(i * j, N, B)).reshape(i, j, n_groups, B)
        # In the order of the groups, of which some may be empty.
        if (parent[1:] < parent[:-1]).any():
            values = values[:, :, np.argsort(parent, kind="stable")]
        counts = np.bincount(parent, minlength=n_groups)
        held = counts > 0
        sums = np.add.reduceat(values, (np.cumsum(counts) - counts)[held], axis=2)
        if held.all():
            return sums
        total = np.zeros((i, j, n_groups, B))
        total[:, :, held] = sums
        return total
    zeros = xp.zeros((*values.shape[:2], n_groups, *values.shape[3:]), values.dtype)
    return zeros.at[:, :, parent].add(values, mode="promise_in_bounds")


def at_children(parent: Any, values: Array, axis: int) -> Array:
    """What the group of each child has, along an axis of the groups."""
    if isinstance(parent, EqualGroups):
        return namespace(values).repeat(values, parent.size, axis)
    return values[:, parent] if axis == 1 else values[:, :, parent]
