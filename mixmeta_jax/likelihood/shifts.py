"""Columns less their parts along the random predictors of the groups, so that nothing cancels.

Where a random effect is large against the errors, ZᵀΣ₀⁻¹U and UᵀΣ₀⁻¹U of an absorbed level are many
orders larger than UᵀΣ⁻¹U, which is their difference. With U = Z B + U₀ it is

    UᵀΣ⁻¹U = U₀ᵀΣ⁻¹U₀ + BᵀS + S₀ᵀB,    S = S₀ + TB,  S₀ = ZᵀΣ⁻¹U₀,  T = ZᵀΣ⁻¹Z,

in which all terms are of its own size if U₀ is what a regression on Z within the groups leaves.
Any B gives the same likelihood. It is that of a weighted regression within the groups, the mean 1/S
of a row its weight, once per data set, the outermost level first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mixmeta_jax.arrays import Array, constant, namespace
from mixmeta_jax.design.tensors import Block, Tensors
from mixmeta_jax.likelihood.algebra import matmul, transpose
from mixmeta_jax.likelihood.columns import at_children, sum_by
from mixmeta_jax.likelihood.elimination import whitener
from mixmeta_jax.tolerances import INCOMPLETE, SHIFT_RIDGE


def shifted(tensors: Tensors) -> Tensors:
    """The data less what lies along the random predictors of the absorbed levels, and `shifts`.

    Of one data set; the columns of a level's B are the Z of the levels further out, X and y, so
    that those of the outermost level go first.
    """
    blocks, shifts = list(tensors.blocks), []
    first, k = len(tensors.inside), tensors.blocks[0].y.shape[1]
    n_levels = len(tensors.absorbed)
    for a in reversed(range(n_levels)):
        z = [block.z[first + a] for block in blocks]
        weights = [_weights(block) for block in blocks]
        outer = range(first + a + 1, first + n_levels)
        targets = [*([block.z[b] for block in blocks] for b in outer), [b.x for b in blocks]]
        B = [_regression(tensors, a, z, target, weights).sum(2) for target in targets]
        y = [block.y[None] for block in blocks]
        B_y = _regression(tensors, a, z, y, weights, by_outcome=True)[:, 0]  # (q, k, G, 1)
        q, _, G, _ = B_y.shape
        wide = [b[:, None, :, None] * np.eye(k)[None, :, None, :, None, None] for b in B]
        columns = [b.reshape(q * k, -1, G, 1) for b in (*wide, B_y)]
        shifts.append(namespace(*columns).concatenate(columns, 1))
        for i, block in enumerate(blocks):
            less = [
                target[i]
                - (z[i][:, None] * _at_rows(tensors, a, b, block)[:, :, None, None]).sum(0)
                for target, b in zip(targets, B, strict=True)
            ]
            along_y = (z[i] * _at_rows(tensors, a, B_y, block)[:, None]).sum(0)
            kept = block.z[: first + a + 1]
            blocks[i] = replace(block, y=block.y - along_y, x=less[-1], z=(*kept, *less[:-1]))
    return replace(tensors, blocks=tuple(blocks), shifts=tuple(reversed(shifts)))


def _weights(block: Block) -> Array:
    """Mean 1/S of every row, next to none where an outcome is missing: shape (n_b, 1, N, 1).

    All outcomes have the coefficients of the same rows: outcomes of correlation ±1 keep it.
    """
    xp = namespace(block.x, block.S)
    seen = sum(abs(part).sum(0) for part in (block.x, *block.z)) > 0
    S = xp.einsum("ukuknb->uknb", block.S)
    # A row without error weighs as a typical one: any weights give the same likelihood.
    precision = (1 / xp.where(S > 0, S, S.mean())).mean(1, keepdims=True)
    return precision * xp.where(seen.all(1, keepdims=True), 1.0, INCOMPLETE)


def _regression(
    tensors: Tensors,
    a: int,
    z: Sequence[Array],
    target: Sequence[Array],
    weights: Sequence[Array],
    by_outcome: bool = False,
) -> Array:
    """Coefficients of the target on z within groups of a level, (q, columns, k or 1, G, 1).

    By bucket, z and the target have the shape (columns, n_b, k or 1, N, 1).
    """
    sums = []
    for block, own, other, w in zip(tensors.blocks, z, target, weights, strict=True):
        xp = namespace(own, other, w)
        own = xp.broadcast_to(own, (len(own), *other.shape[1:]))
        # (q, q + columns, k or 1, N, 1)
        products = xp.concatenate([_products(w * own, own), _products(w * own, other)], 1)
        if not by_outcome:
            products = products.sum(2, keepdims=True)
        sums.append(_to_groups(tensors, a, products, block))
    total: Array = sum(sums[1:], start=sums[0])
    xp, q = namespace(total), len(z[0])
    size = xp.sqrt(xp.einsum("qqkgb->qkgb", total[:, :q]))[:, None]
    size = xp.where(size > 0, size, 1.0)
    scaled = total / size
    ridge = SHIFT_RIDGE * np.eye(q)[:, :, None, None, None]
    R, _ = whitener(scaled[:, :q] / transpose(size) + ridge)
    B = matmul(transpose(R), matmul(R, scaled[:, q:])) / size
    return constant(xp.where(xp.isfinite(B), B, 0.0))


def _products(left: Array, right: Array) -> Array:
    """Sums over the units of a block for each pair of columns."""
    return (left[:, None] * right[None]).sum(2)


def _to_groups(tensors: Tensors, a: int, values: Array, block: Block) -> Array:
    """Sums over the blocks of every group of an absorbed level, along the axis before the last."""
    shape = values.shape[:-2]
    values = values.reshape(shape[0], -1, *values.shape[-2:])
    for parent, n in zip((block.parent, *tensors.parents[:a]), tensors.n_groups, strict=False):
        values = sum_by(parent, values, n)
    return values.reshape(*shape, -1, 1)


def _at_rows(tensors: Tensors, a: int, values: Array, block: Block) -> Array:
    """What the group of each block has, shape (…, …, G, 1) to (…, …, N, 1)."""
    for parent in (*reversed(tensors.parents[:a]), block.parent):
        values = at_children(parent, values, 2)
    return values
