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

import jax
import jax.numpy as jnp
from jax import Array

from mixmeta_jax.data.design import BlockTensors, Tensors
from mixmeta_jax.model.small import matmul, transpose, whitener
from mixmeta_jax.model.sweep import at_children, sum_by

RIDGE = 1e-8
"""On the correlations of the random predictors within a group: coefficients along nearly collinear
ones would be large, and cancel."""

INCOMPLETE = 1e-8
"""Weight of a row with missing outcomes: it counts in groups that have no others."""


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
        B_y = _regression(tensors, a, z, y, weights, by_outcome=True)[:, 0]  # (q, k, G)
        q, _, G = B_y.shape
        wide = [b[:, None, :, None] * jnp.eye(k)[None, :, None, :, None] for b in B]
        columns = [b.reshape(q * k, -1, G) for b in (*wide, B_y)]
        shifts.append(jnp.concatenate(columns, 1))
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


def _weights(block: BlockTensors) -> Array:
    """Mean 1/S of every row, next to none where an outcome is missing: shape (n_b, 1, N).

    All outcomes have the coefficients of the same rows: outcomes of correlation ±1 keep it.
    """
    seen = jnp.stack([jnp.abs(part).sum(0) for part in (block.x, *block.z)]).sum(0) > 0
    precision = (1 / jnp.einsum("ukukn->ukn", block.S)).mean(1, keepdims=True)
    return precision * jnp.where(seen.all(1, keepdims=True), 1.0, INCOMPLETE)


def _regression(
    tensors: Tensors,
    a: int,
    z: Sequence[Array],
    target: Sequence[Array],
    weights: Sequence[Array],
    by_outcome: bool = False,
) -> Array:
    """Coefficients of the target on z within the groups of a level, shape (q, columns, k or 1, G).

    By bucket, z and the target have the shape (columns, n_b, k or 1, N).
    """
    sums = []
    for block, own, other, w in zip(tensors.blocks, z, target, weights, strict=True):
        own = jnp.broadcast_to(own, (len(own), *other.shape[1:]))
        # (q, q + columns, k or 1, N)
        products = jnp.concatenate([_products(w * own, own), _products(w * own, other)], 1)
        if not by_outcome:
            products = products.sum(2, keepdims=True)
        sums.append(_to_groups(tensors, a, products, block))
    total = sum(sums[1:], start=sums[0])
    q = len(z[0])
    size = jnp.sqrt(jnp.einsum("qqkg->qkg", total[:, :q]))[:, None]
    size = jnp.where(size > 0, size, 1.0)
    scaled = total / size
    R, _ = whitener(scaled[:, :q] / transpose(size) + RIDGE * jnp.eye(q)[:, :, None, None])
    B = matmul(transpose(R), matmul(R, scaled[:, q:])) / size
    return jax.lax.stop_gradient(jnp.where(jnp.isfinite(B), B, 0.0))


def _products(left: Array, right: Array) -> Array:
    """Sums over the units of a block for each pair of columns."""
    return (left[:, None] * right[None]).sum(2)


def _to_groups(tensors: Tensors, a: int, values: Array, block: BlockTensors) -> Array:
    """Sums over the blocks of every group of an absorbed level, along the last axis."""
    shape = values.shape[:-1]
    values = values.reshape(shape[0], -1, values.shape[-1])
    for parent, n in zip((block.parent, *tensors.parents[:a]), tensors.n_groups, strict=False):
        values = sum_by(parent, values, n)
    return values.reshape(*shape, -1)


def _at_rows(tensors: Tensors, a: int, values: Array, block: BlockTensors) -> Array:
    """What the group of each block has, shape (…, …, G) to (…, …, N)."""
    for parent in (*reversed(tensors.parents[:a]), block.parent):
        values = at_children(parent, values, 2)
    return values
