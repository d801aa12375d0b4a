"""Random effects of every unit from Σ⁻¹r: Zb̂ = Σ_ℓ Z ΨZᵀ Σ⁻¹r, for any number of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mixmeta_jax.arrays import Array, Float, namespace, shaped
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.layout import Layout
from mixmeta_jax.design.tensors import Tensors, arrange, masked
from mixmeta_jax.estimation.executors import executed
from mixmeta_jax.likelihood.algebra import matmul
from mixmeta_jax.likelihood.sweep import downward, upward


def predicted_outcomes(design: Design, beta: np.ndarray, Psi: Sequence[np.ndarray]) -> np.ndarray:
    """Xβ̂ + Zb̂ of every row of B data sets, observed or not, without the offset: (B, n, k).

    Parameters
    ----------
    design
        The data, numpy's; all data sets share Z.
    beta, Psi
        Estimates, shape (B, P), and (B, d, d) per level, outer first; no level for fixed effects.
    """
    expected = design.X @ beta.reshape(-1, design.p, design.k)
    if not Psi:
        return expected
    residual = replace(design, y=np.where(design.mask, design.y, 0.0) - expected)
    tensors = arrange(residual)
    stacked = tuple(np.moveaxis(P, 0, -1) for P in Psi)
    Z = tuple(design.Z)
    found = executed(random_part, design, stacked, tensors, design.layout, design.groups, Z)
    return expected + np.moveaxis(found, -1, 0)


def random_part(
    Psi: tuple[Array, ...], tensors: Tensors, layout: Layout, groups: Array, Z: tuple[Array, ...]
) -> Array:
    """Σ_ℓ Z ΨZᵀ Σ⁻¹r of every unit, shape (n, k, B); the outcomes of the tensors are r = y − Xβ̂.

    Missing outcomes have null rows in Zᵀ and in Σ⁻¹r, and their own in Z: they are predicted from
    those that are observed.
    """
    data = masked(tensors)
    zero = namespace(*Psi).zeros((data.n_coefficients, 1))
    down = downward(upward(Psi, data), data, zero, None)
    weighted = at_units(layout, down.residuals, len(groups), data.k)
    return effects_at_units(Psi, groups, Z, weighted)


def weighted_predictors(design: Design, Psi: Sequence[np.ndarray]) -> np.ndarray:
    """Σ⁻¹X of every unit, X in the orthonormal basis: shape (n, k, P), null where missing.

    Parameters
    ----------
    design
        The data, numpy's, of one data set.
    Psi
        Covariance of each level, outer first, shape (d, d); no level for fixed effects.
    """
    k, P = design.k, design.p * design.k
    if not Psi:
        design = design.without_levels()
    # Each column in the place of the outcomes of a data set of its own.
    columns = (design.X @ design.basis).T[:, None, :, None] * np.eye(k)[:, None]
    columns = np.where(design.mask, columns.reshape(P, design.n, k), 0.0)
    each = replace(design, y=columns)
    stacked = tuple(matrix[:, :, None] for matrix in Psi)
    found = executed(_weighted, each, stacked, arrange(each), design.layout, n=design.n)
    return np.broadcast_to(found, (design.n, k, P))


def _weighted(Psi: tuple[Array, ...], tensors: Tensors, layout: Layout, *, n: int) -> Array:
    """Σ⁻¹y of every unit and data set, shape (n, k, B)."""
    data = masked(tensors)
    zero = namespace(*(block.y for block in data.blocks)).zeros((data.n_coefficients, 1))
    down = downward(upward(Psi, data), data, zero, None)
    return at_units(layout, down.residuals, n, data.k)


@shaped
def at_units(layout: Layout, residuals: Sequence[Array], n: int, k: int) -> Float[Array, "n k B"]:
    """What the buckets hold, (s, N, B) each, at the n units: shape (n, k, B)."""
    xp = namespace(*residuals, *(bucket.rows for bucket in layout.buckets))
    places, values = [], []
    for bucket, e in zip(layout.buckets, residuals, strict=True):
        n_b, N = bucket.rows.shape
        values.append(xp.moveaxis(e.reshape(n_b, k, N, -1), 1, 2).reshape(n_b * N, k, -1))
        places.append(bucket.rows.reshape(-1))
    # Every unit has one place; the empty ones, numbered n, come last.
    order = xp.argsort(xp.concatenate(places))[:n]
    return xp.concatenate(values)[order]


@shaped
def effects_at_units(
    Psi: Sequence[Array], groups: Array, Z: Sequence[Array], weighted: Float[Array, "n k B"]
) -> Float[Array, "n k B"]:
    """Σ_ℓ Z ΨZᵀ Σ⁻¹r of every unit, shape (n, k, B).

    Parameters
    ----------
    Psi
        Covariance of each level, outer first, shape (d, d, B).
    groups, Z
        Group of each unit at each level, shape (n, L), and random predictors, (n, q) per level.
    weighted
        Σ⁻¹r, null where an outcome is missing, shape (n, k, B).
    """
    xp = namespace(weighted, *Psi)
    n, k, B = weighted.shape
    total = xp.zeros_like(weighted)
    for level, (P, z) in enumerate(zip(Psi, Z, strict=True)):
        group, q = groups[:, level], z.shape[1]
        scores = (z[:, :, None, None] * weighted[:, None]).reshape(n, q * k, B)
        sums = _summed(group, scores, n)
        effects = matmul(P[:, :, None], xp.swapaxes(sums, 0, 1)[:, None])[:, 0]  # (d, groups, B)
        own = xp.swapaxes(effects, 0, 1)[group].reshape(n, q, k, B)
        total = total + (z[:, :, None, None] * own).sum(1)
    return total


def _summed(group: Array, values: Array, n: int) -> Array:
    """Sums over the units of each group, of which there are at most n, along the first axis."""
    xp = namespace(values, group)
    zeros = xp.zeros((n, *values.shape[1:]))
    if xp is np:
        np.add.at(zeros, group, values)
        return zeros
    return zeros.at[group].add(values)
