"""The tensors of many data sets of one shape, a last axis for the data sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from mixmeta_jax.design.design import BlockTensors, Design, Tensors
from mixmeta_jax.design.layout import in_order
from mixmeta_jax.estimation.start import error_variances


@dataclass(frozen=True)
class ManyData:
    """B data sets with one design.

    Attributes
    ----------
    design
        The model, its arrays numpy's, its layout tight. Its S is what all data sets share, its y is
        not read, and its mask says which outcomes are observed in any of them.
    y
        Outcomes less their offset, shape (B, n, k), NaN where missing.
    S
        Error covariances of each data set, shape (B, n, k, k); None where they share the design's.
    same_pattern
        Whether every data set misses the same outcomes: those of the design.
    X, Z
        Predictors of each data set, shape (B, n, p), and random predictors per level, (B, n, q);
        None where they share the design's.
    """

    design: Design
    y: np.ndarray
    S: np.ndarray | None
    same_pattern: bool
    X: np.ndarray | None = None
    Z: tuple[np.ndarray, ...] | None = None

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients of one data set."""
        return self.design.p * self.design.k

    def seen(self, members: np.ndarray) -> np.ndarray:
        """Which outcomes of the members are observed, shape (b or 1, n, k)."""
        if self.same_pattern:
            return np.asarray(self.design.mask)[None]
        return np.isfinite(self.y[members])

    def variances(self, members: np.ndarray) -> np.ndarray:
        """Error variances of the members, shape (b or 1, n, k)."""
        if self.S is not None:
            return np.diagonal(self.S[members], axis1=2, axis2=3)
        return error_variances(self.design)[None]

    def one(self, member: int) -> Design:
        """The design of one data set by itself; its layout is tight."""
        y = self.y[member]
        mask = np.isfinite(y)
        S = self.design.S if self.S is None else self.S[member]
        X = self.design.X if self.X is None else self.X[member]
        Z = self.design.Z if self.Z is None else tuple(values[member] for values in self.Z)
        complete = bool(mask.all())
        return replace(self.design, y=y, X=X, S=S, Z=Z, mask=mask, complete=complete)


def shared_tensors(many: ManyData) -> Tensors:
    """What all data sets share, with a last axis of length one; the outcomes are empty."""
    design = many.design
    blocks = tuple(
        BlockTensors(
            y=np.zeros((len(bucket.rows), design.k, 0)),
            x=_predictors(design.X @ design.basis, bucket.rows, _weight(many, bucket.rows)),
            z=tuple(
                _predictors(design.Z[level], bucket.rows, _weight(many, bucket.rows))
                for level in (*design.layout.inside, *design.layout.absorbed)
            ),
            S=_shared_errors(many, b) if many.S is None else np.zeros(0),
            parent=in_order(bucket.parent, (design.layout.n_groups or (1,))[0]),
            same=tuple(None if same is None else same[..., None] for same in bucket.same),
        )
        for b, bucket in enumerate(design.layout.buckets)
    )
    return Tensors(
        blocks,
        tuple(map(in_order, design.layout.parents, design.layout.n_groups[1:])),
        design.basis,
        np.asarray(design.mask).sum() * np.ones(1),
        design.structures,
        design.layout.inside,
        design.layout.absorbed,
        design.layout.n_groups,
    )


def lane_arrays(many: ManyData, members: np.ndarray) -> list[dict[str, Any]]:
    """What the members do not share, by bucket: ``y``, and ``seen`` and ``S`` where they differ."""
    n, k, B = many.design.n, many.design.k, len(members)
    y = many.y[members]
    seen = np.isfinite(y)
    S = None
    if many.S is not None:
        pair = seen[..., :, None] & seen[..., None, :]
        S = np.where(pair, many.S[members], np.eye(k)).reshape(B, n, k * k)
    y = np.where(seen, y, 0.0)
    parts = []
    for bucket in many.design.layout.buckets:
        rows = bucket.rows
        part: dict[str, Any] = {"y": _lanes(y, rows)}
        if not many.same_pattern:
            part["seen"] = _lanes(seen, rows)
        if many.X is not None:
            part["x"] = _lane_predictors(many.X[members] @ many.design.basis, rows)
        if many.Z is not None:
            order = (*many.design.layout.inside, *many.design.layout.absorbed)
            part["z"] = tuple(_lane_predictors(many.Z[level][members], rows) for level in order)
        if S is not None:
            own = _lanes(S, rows).reshape(len(rows), k, k, rows.shape[1], B)
            there = (rows < n)[:, None, None, :, None]
            part["S"] = np.where(there, own, np.eye(k)[:, :, None, None])
        parts.append(part)
    return parts


def complete_tensors(shared: Tensors, parts: list[dict[str, Any]]) -> Tensors:
    """The tensors of a chunk of lanes, inside a traced function."""
    blocks, counts = [], []
    for block, part in zip(shared.blocks, parts, strict=True):
        y, S = part["y"], block.S
        x, z = part.get("x", block.x), part.get("z", block.z)
        n_b, k = y.shape[:2]
        if "S" in part:
            S = part["S"][:, :, None] * jnp.eye(n_b)[:, None, :, None, None, None]
        if "seen" in part:
            seen = part["seen"]
            x, z = x * seen, tuple(predictors * seen for predictors in z)
            pair = seen[:, :, None, None] & seen[None, None]
            unit = jnp.eye(n_b * k).reshape(n_b, k, n_b, k, 1, 1)
            S = jnp.where(pair, S, unit)
            counts.append(seen.sum((0, 1, 2)) * 1.0)
        blocks.append(replace(block, y=y, x=x, z=z, S=S))
    n_obs = sum(counts[1:], start=counts[0]) if counts else shared.n_obs
    return replace(shared, blocks=tuple(blocks), n_obs=n_obs)


def _lanes(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(B, n, c) values at the places (n_b, N), zero where empty: (n_b, c, N, B)."""
    n = values.shape[1]
    last = np.ascontiguousarray(np.moveaxis(values, 0, -1))  # (n, c, B)
    gathered = last[np.minimum(rows, n - 1)]  # (n_b, N, c, B)
    if (rows >= n).any():
        gathered = np.where((rows < n)[:, :, None, None], gathered, np.zeros((), values.dtype))
    return np.ascontiguousarray(np.swapaxes(gathered, 1, 2))


def _lane_predictors(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(B, n, q) predictors at the places, shape (q, n_b, 1, N, B)."""
    return np.swapaxes(_lanes(values, rows), 0, 1)[:, :, None]


def _weight(many: ManyData, rows: np.ndarray) -> np.ndarray:
    """The shared mask of the predictors, (n_b, k or 1, N): that of each lane is applied later."""
    there = (rows < many.design.n)[:, None]
    if many.design.complete or not many.same_pattern:
        return there
    mask = np.asarray(many.design.mask)[np.minimum(rows, many.design.n - 1)]
    return np.swapaxes(mask, 1, 2) & there


def _predictors(values: np.ndarray, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Predictors at the places, shape (q, n_b, k or 1, N, 1)."""
    gathered = np.moveaxis(np.asarray(values)[np.minimum(rows, len(values) - 1)], 2, 0)
    return (gathered[:, :, None] * weight)[..., None]


def _shared_errors(many: ManyData, b: int) -> np.ndarray:
    """S of a bucket, shape (n_b, k, n_b, k, N, 1); variance 1 at empty places and missing ones."""
    design = many.design
    rows = design.layout.buckets[b].rows
    n_b, N = rows.shape
    k = design.k
    if isinstance(design.S, tuple):
        S = np.moveaxis(np.asarray(design.S[b]), 0, -1).reshape(n_b, k, n_b, k, N)
    else:
        units = np.asarray(design.S)[np.minimum(rows, design.n - 1)]  # (n_b, N, k, k)
        units = np.moveaxis(units, 1, -1)
        S = units[:, :, None] * np.eye(n_b)[:, None, :, None, None]
    seen = (rows < design.n)[:, None] & np.ones((1, k, 1), bool)
    seen = seen & np.swapaxes(np.asarray(design.mask)[np.minimum(rows, design.n - 1)], 1, 2)
    pair = seen[:, :, None, None] & seen[None, None]
    unit = np.eye(n_b * k).reshape(n_b, k, n_b, k, 1)
    return np.where(pair, S, unit)[..., None]
