"""Starting values of many data sets at once: those of `start`, along the lanes."""

from __future__ import annotations

import numpy as np

from mixmeta_jax.data.design import Design
from mixmeta_jax.estimation.lane_data import ManyData
from mixmeta_jax.estimation.start import starting_parameters
from mixmeta_jax.model.catalogue import STRUCTURES
from mixmeta_jax.model.structure import Structure


def lane_scales(many: ManyData, members: np.ndarray) -> list[np.ndarray]:
    """`start.starting_variances` of the members, shape (b, d) per level, outer first."""
    variances = _heterogeneity(many, members)  # (b, k)
    shared = []
    for Z in many.design.Z:
        size = np.mean(np.asarray(Z) ** 2, axis=0)
        size = np.where(size > 0, size, 1.0)
        per_predictor = variances[:, None, :] / size[:, None]
        parts = len(many.design.Z) * Z.shape[1]
        shared.append(per_predictor.reshape(len(members), -1) / parts)
    return shared


def _heterogeneity(many: ManyData, members: np.ndarray) -> np.ndarray:
    """DerSimonian and Laird's excess of each outcome alone, shape (b, k); see `start`."""
    design = many.design
    seen, y = many.seen(members), many.y[members]
    with np.errstate(divide="ignore", invalid="ignore"):
        w = np.where(seen, 1 / many.variances(members), 0.0)
    y = np.where(seen, y, 0.0)
    X = design.X @ design.basis
    n, p = X.shape
    wy = w * y
    cross = np.swapaxes(wy, 1, 2) @ X  # (b, k, p)
    products = np.swapaxes(w, 1, 2) @ (X[:, :, None] * X[:, None]).reshape(n, p * p)
    products = products.reshape(*products.shape[:2], p, p)
    inverse = np.linalg.pinv(products, rcond=1e-12, hermitian=True)
    explained = np.einsum(
        "bka,bkac,bkc->bk", cross, np.broadcast_to(inverse, (len(y), *inverse.shape[1:])), cross
    )
    Q = np.maximum((wy * y).sum(1) - explained, 0.0)
    total = w.sum(1)
    count = seen.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = total - (w**2).sum(1) / total
        excess = np.where(spread > 0, (Q - np.maximum(count - p, 0)) / spread, 0.0)
        least = 0.05 * count / total
    return np.maximum(excess, np.where(np.isfinite(least), least, 1.0))


def lane_parameters(design: Design, scales: list[np.ndarray]) -> np.ndarray:
    """`start.starting_parameters` of the lanes, shape (n_starts, n_θ, b)."""
    sources = [
        _sources(structure, d) for structure, d in zip(design.structures, design.dims, strict=True)
    ]
    if any(source is None for source in sources):
        rows = [
            starting_parameters(design, [v[lane] for v in scales]) for lane in range(len(scales[0]))
        ]
        return np.stack(rows, -1)
    at_one = starting_parameters(design, [np.ones(d) for d in design.dims])
    at_more = starting_parameters(design, [np.full(d, 16.0) for d in design.dims])
    sizes = np.concatenate(
        [
            np.column_stack([v, v.mean(1)])[:, source].T
            for v, source in zip(scales, sources, strict=True)
            if source is not None
        ]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.log(at_more / at_one) / np.log(16.0)
    power = np.where(at_one == 0, 0.0, power)
    return at_one[:, :, None] * sizes[None] ** power[:, :, None]


POOLED = ("id", "cs", "ar1", "car1", "prop")
"""Structures with one variance; the others begin with one parameter for each."""


def _sources(structure: Structure, d: int) -> np.ndarray | None:
    """Of which variance each starting parameter is a power, d for their mean: shape (n_θ,).

    Angles are powers of zero of any. None for a structure of the user's own.
    """
    n = structure.n_parameters(d)
    if STRUCTURES.get(structure.name) is not type(structure):
        return None
    if structure.name == "unstr":
        return np.triu_indices(d)[1]  # row of Λ
    if structure.name in POOLED:
        return np.full(n, d)
    return np.minimum(np.arange(n), d)


def lane_units(starts: np.ndarray) -> np.ndarray:
    """`start.natural_units` of the lanes, shape (n_θ, b)."""
    sizes = np.abs(starts).max(0)
    return np.where(sizes > 0, sizes, sizes.max(0))
