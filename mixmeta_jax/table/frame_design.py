"""From a model frame to the design: the one place that makes designs of what was read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixmeta_jax.arrays import is_traced, traced_namespace
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.design.design import Array, Blocks, Design, orthonormal_basis, spanning_blocks
from mixmeta_jax.design.layout import Layout, build_layout
from mixmeta_jax.table.frame import ModelFrame
from mixmeta_jax.table.within_study import WithinStudy


def design_from_frame(frame: ModelFrame, structures: tuple[Structure, ...]) -> Design:
    """The design of a frame; the arrays that are not traced are numpy's.

    Of many data sets, whose outcomes have the shape (B, n, k), it is what they share: its layout is
    tight, its mask says which outcomes are observed in any of them, its y is zero, and where each
    has an S of its own its S is an identity.
    """
    many, k = frame.y.ndim == 3, frame.k
    y = frame.y
    mask = ~np.isnan(y) if many else traced_namespace(y).isfinite(y)
    within = frame.within
    if within.per_data_set:
        within = WithinStudy(np.broadcast_to(np.eye(k), (frame.n, k, k)), None)
    codes = [level.codes for level in frame.levels]
    dims = [k * level.Z.shape[1] for level in frame.levels]
    layout, S = arranged(within, codes, dims, (frame.n, k), tight=many)
    return Design(
        y=np.zeros((frame.n, k)) if many else y - frame.offset,
        X=frame.X,
        S=S,
        Z=tuple(np.asarray(level.Z, float) for level in frame.levels),
        mask=mask.any(0) if many else mask,
        basis=np.eye(frame.p) if is_traced(frame.X) else orthonormal_basis(frame.X),
        groups=np.stack(codes, axis=1),
        structures=structures,
        layout=layout,
        complete=not is_traced(mask) and bool(mask.all()),
    )


def arranged(
    within: WithinStudy,
    codes: Sequence[np.ndarray],
    dims: Sequence[int],
    shape: tuple[int, int],
    tight: bool = True,
) -> tuple[Layout, Array | Blocks]:
    """The layout of (n, k) outcomes, as `build_layout`, and S as a `Design` with it holds it."""
    singular = bool(within.singular)
    if within.blocks is None:
        return build_layout(*shape, codes, dims, None, tight, singular), within.unit
    units = [rows for rows, _ in within.blocks]
    layout = build_layout(*shape, codes, dims, units, tight, singular)
    matrices = [matrix for _, matrix in within.blocks]
    if is_traced(matrices):
        return layout, _traced_blocks(layout, units, matrices, shape)
    return layout, spanning_blocks(layout, within.blocks, *shape)


def _traced_blocks(
    layout: Layout, units: list[np.ndarray], matrices: list[Any], shape: tuple[int, int]
) -> Blocks:
    """As `spanning_blocks`, which here places the positions of all entries in one long vector."""
    xp = traced_namespace(matrices)
    ends = np.cumsum([1, *(matrix.size for matrix in matrices)])
    positions = [
        np.arange(first, first + matrix.size).reshape(matrix.shape)
        for first, matrix in zip(ends[:-1], matrices, strict=True)
    ]
    entries = xp.concatenate([xp.zeros(1), *(xp.ravel(matrix) for matrix in matrices)])
    placed = spanning_blocks(layout, tuple(zip(units, positions, strict=True)), *shape)
    return tuple(entries[at.astype(int)] for at in placed)
