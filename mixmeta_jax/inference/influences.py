"""What each group of units contributes to the coefficients, for any number of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.layout import Layout
from mixmeta_jax.design.tensors import Tensors, arrange, masked
from mixmeta_jax.estimation.executors import executed
from mixmeta_jax.inference.effects import at_units
from mixmeta_jax.likelihood.sweep import downward, upward
from mixmeta_jax.tolerances import DEFINITE

CHANGE_NUMBERS = 2**22
"""Numbers that are held at once."""


def influences(
    design: Design,
    beta: np.ndarray,
    vcov: np.ndarray,
    Psi: Sequence[np.ndarray],
    groups: np.ndarray,
) -> np.ndarray:
    """V X_gᵀ(Σ⁻¹r)_g of every group g and data set, shape (B, G, P).

    They sum to zero over the groups; the sum of their squares is the covariance CR0.

    Parameters
    ----------
    design
        The data, numpy's, ``y`` of shape (B, n, k).
    beta, vcov, Psi
        Estimates, shape (B, P), (B, P, P), and (B, d, d) per level, outer first.
    groups
        Group of each unit, shape (n,), numbered from 0; unions of the outer groups.
    """
    B, (n, k) = len(beta), design.y.shape[1:]
    G, P = int(groups.max()) + 1, beta.shape[1]
    made = np.empty((B, G, P))
    step = max(1, CHANGE_NUMBERS // (n * P))
    for first in range(0, B, step):
        part = np.arange(first, min(first + step, B))
        own = design.taken(part)
        expected = own.X @ beta[part].reshape(-1, own.p, k)
        residual = replace(own, y=np.where(own.mask, own.y, 0.0) - expected)
        stacked = tuple(np.moveaxis(matrix[part], 0, -1) for matrix in Psi)
        tensors = arrange(residual)
        e = executed(_weighted, residual, stacked, tensors, own.layout, n=n)  # (n, k, b)
        X = own.X if own.X.ndim == 2 else np.moveaxis(own.X, 0, -1)
        X = X.reshape(n, own.p, 1, -1)
        scores = np.zeros((G, own.p, k, len(part)))
        np.add.at(scores, groups, X * np.asarray(e)[:, None])
        scores = np.moveaxis(scores.reshape(G, P, -1), -1, 0)
        made[part] = scores @ vcov[part]
    return made


def _weighted(Psi: tuple[Array, ...], tensors: Tensors, layout: Layout, *, n: int) -> Array:
    """Σ⁻¹r at the units, shape (n, k, B); the outcomes of the tensors are r."""
    data = masked(tensors)
    zero = namespace(*(block.y for block in data.blocks)).zeros((data.n_coefficients, 1))
    down = downward(upward(Psi, data), data, zero, None)
    return at_units(layout, down.residuals, n, data.k)


def wald_statistics(difference: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """δᵀC⁻¹δ of B hypotheses, δ of shape (B, q) and C (B, q, q); NaN where C is singular."""
    B, q = difference.shape
    found = np.full(B, np.nan)
    size = np.sqrt(np.abs(np.einsum("bii->bi", covariance)))
    with np.errstate(all="ignore"):
        unit = covariance / (size[:, :, None] * size[:, None])
        sound = np.isfinite(unit).all((1, 2)) & np.isfinite(difference).all(1)
    sound[sound] = np.linalg.eigvalsh(unit[sound])[:, 0] > DEFINITE
    if sound.any():
        scaled = (difference[sound] / size[sound])[:, :, None]
        found[sound] = (scaled * np.linalg.solve(unit[sound], scaled)).sum((1, 2))
    return found
