"""Blocks of one unit, for many data sets at once: their whitened columns need not be formed.

The columns of a unit are predictors times I_k, so with W = Σ⁻¹ of the unit all products of whitened
columns are products of two predictors and an entry of W, the predictors often shared by all data
sets. This takes a third of the arithmetic of the general sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from mixmeta_jax.data.design import BlockTensors
from mixmeta_jax.data.layout import EqualGroups
from mixmeta_jax.model.small import UNROLL, eliminate, matmul, transpose, whitener


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UnitColumns:
    """Units in the place of whitened columns; a last axis of the data sets.

    Attributes
    ----------
    W
        Inverse covariance of each unit, shape (k, k, N, B).
    y
        Outcomes, shape (k, N, B).
    predictors
        Of the absorbed levels, finest first, and of X, with the mask: shape (r, k or 1, N, B or 1).
    """

    W: Array
    y: Array
    predictors: Array


def unit_columns(Sigma: Array, block: BlockTensors, n_inside: int) -> tuple[UnitColumns, Array]:
    """The columns of units with the covariances Σ, shape (k, k, N, B), and log|Σ|."""
    k = len(Sigma)
    if k <= UNROLL:
        R, logdets = eliminate({(i, j): Sigma[i, j] for j in range(k) for i in range(j, k)}, k)
        lower = {
            (i, j): sum((R[r, i] * R[r, j] for r in range(i + 1, k)), start=R[i, i] * R[i, j])
            for i, j in R
        }
        rows = [[lower[max(i, j), min(i, j)] for j in range(k)] for i in range(k)]
        W = jnp.stack([jnp.stack(row) for row in rows])
    else:
        root, logdets = whitener(Sigma)
        W = matmul(transpose(root), root)
    W = jnp.broadcast_to(W, (k, *block.y.shape[1:]))
    predictors = [part[:, 0] for part in (*block.z[n_inside:], block.x)]
    widths = [max(sizes) for sizes in zip(*(part.shape[1:] for part in predictors), strict=True)]
    predictors = [jnp.broadcast_to(part, (len(part), *widths)) for part in predictors]
    return UnitColumns(W, block.y[0], jnp.concatenate(predictors)), logdets


def unit_gram(columns: UnitColumns, by_group: Callable[[Array], Array]) -> Array:
    """Gram matrices of the columns [Z, X, y], summed by group: (r·k + 1, r·k + 1, G, B).

    What is summed first need not be put together unit by unit.
    """
    W, y, v = columns.W, columns.y, columns.predictors
    r = len(v)
    Wy = matmul(W, y[:, None])
    pairs = {
        (a, b): by_group((v[a][:, None] * v[b][None]) * W) for a in range(r) for b in range(a + 1)
    }
    edge = jnp.concatenate([by_group(v[a][:, None] * Wy) for a in range(r)])
    corner = by_group((y * Wy[:, 0]).sum(0)[None, None])
    rows = [
        jnp.concatenate([pairs[a, b] if a >= b else transpose(pairs[b, a]) for b in range(r)], 1)
        for a in range(r)
    ]
    inner = jnp.concatenate([jnp.concatenate(rows), edge], 1)
    return jnp.concatenate([inner, jnp.concatenate([transpose(edge), corner], 1)])


def unit_projection(
    columns: UnitColumns, c: Array, omega: Array, parent: Array | EqualGroups
) -> tuple[Array, Array]:
    """e = Py and the diagonal block of P, from the state of the groups; see `sweep.downward`."""
    W, y, v = columns.W, columns.y, columns.predictors
    r, k = len(v), len(y)
    if isinstance(parent, EqualGroups):
        # An axis of the groups and one within them: what a group has is not copied.
        G, size = c.shape[1], parent.size
        W, y, v = (a.reshape(*a.shape[:-2], G, size, a.shape[-1]) for a in (W, y, v))
        c, omega = c[:, :, None], omega[:, :, :, None]
    else:
        c, omega = c[:, parent], omega[:, :, parent]
    weights = c[:-1].reshape(r, k, *c.shape[1:])
    residual = y + sum(v[a] * weights[a] for a in range(r))
    e = matmul(W, residual[:, None])[:, 0]
    omega = omega.reshape(r, k, r, k, *omega.shape[2:])
    terms = [(v[a][:, None] * v[b][None]) * omega[a, :, b] for a in range(r) for b in range(r)]
    P = W - matmul(matmul(W, sum(terms[1:], start=terms[0])), W)
    return e.reshape(columns.y.shape), P.reshape(columns.W.shape)


def unit_products(
    columns: UnitColumns, f: Array, by_group: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Products of [Z, X] with W f, and fᵀWf, summed by group, for f of shape (k, n_θ, N, B)."""
    Wf = matmul(columns.W, f)
    cross = [by_group(v[:, None] * Wf) for v in columns.predictors]
    return jnp.concatenate(cross), by_group(matmul(transpose(f), Wf))
