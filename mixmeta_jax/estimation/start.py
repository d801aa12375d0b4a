"""Starting values: scale-free, and several where the likelihood may have several maxima."""

from __future__ import annotations

import numpy as np

from mixmeta_jax.data.design import Design

SMALL = 0.03
"""Part of the moment estimate from which a level starts that may hold next to no variance."""


def starting_variances(design: Design) -> list[np.ndarray]:
    """A moment estimate of the variance of each random effect, per level, outer first.

    For each outcome alone, the heterogeneity that DerSimonian and Laird find around a weighted
    regression; shared evenly among the levels and their predictors, each in the units of its own
    predictor. Never zero: where there is no excess, a small part of the typical error variance.
    """
    k = design.k
    variances = np.array([_heterogeneity(design, o) for o in range(k)])
    shared = []
    for Z in design.Z:
        size = np.mean(np.asarray(Z) ** 2, axis=0)
        size = np.where(size > 0, size, 1.0)
        per_predictor = variances[None, :] / size[:, None]
        shared.append(per_predictor.ravel() / (len(design.Z) * Z.shape[1]))
    return shared


def _heterogeneity(design: Design, outcome: int) -> float:
    seen = np.asarray(design.mask)[:, outcome]
    y, X = np.asarray(design.y)[seen, outcome], np.asarray(design.X)[seen]
    s = error_variances(design)[seen, outcome]
    root = 1 / np.sqrt(s)
    X = X @ np.asarray(design.basis)
    beta = np.linalg.lstsq(X * root[:, None], y * root, rcond=None)[0]
    Q = float((((y - X @ beta) * root) ** 2).sum())
    w = root**2
    spread = w.sum() - (w**2).sum() / w.sum()
    excess = (Q - max(len(y) - X.shape[1], 0)) / spread if spread > 0 else 0.0
    return max(excess, 0.05 / float(w.mean()))


def error_variances(design: Design) -> np.ndarray:
    """The diagonal of S, shape (n, k)."""
    if not isinstance(design.S, tuple):
        return np.diagonal(np.asarray(design.S), axis1=1, axis2=2)
    variances = np.ones((design.n, design.k))
    for bucket, blocks in zip(design.layout.buckets, design.S, strict=True):
        diagonal = np.diagonal(np.asarray(blocks), axis1=1, axis2=2)
        for u, rows in enumerate(bucket.rows):
            used = rows < design.n
            variances[rows[used]] = diagonal[used, u * design.k : (u + 1) * design.k]
    return variances


def starting_parameters(design: Design, variances: list[np.ndarray]) -> np.ndarray:
    """Parameters θ to start from, the best guess first, shape (n_starts, n_θ).

    Every level takes each of its structure's own starts (several correlations, where it has one)
    at the moment estimate; then the levels are made small, one at a time and all together.
    """
    own = [s.starts(v) for s, v in zip(design.structures, variances, strict=True)]
    n_own = max(len(candidates) for candidates in own)
    starts = [
        np.concatenate([candidates[min(c, len(candidates) - 1)] for candidates in own])
        for c in range(n_own)
    ]
    for shares in _shares(len(own)):
        parts = [
            s.starts(v * share)[0]
            for s, v, share in zip(design.structures, variances, shares, strict=True)
        ]
        starts.append(np.concatenate(parts))
    return np.stack(starts)


def natural_units(starts: np.ndarray) -> np.ndarray:
    """Size of each parameter, shape (n_θ,): its largest among the starts, never zero."""
    sizes = np.abs(starts).max(0)
    return np.where(sizes > 0, sizes, sizes.max())


def _shares(n_levels: int) -> list[np.ndarray]:
    everywhere = np.full(n_levels, SMALL)
    if n_levels == 1:
        return [everywhere]
    return [*np.where(np.eye(n_levels, dtype=bool), SMALL, 1.0), everywhere]
