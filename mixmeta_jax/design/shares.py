"""Shares of a design: its outer groups divided, each share with the shapes of the largest.

What is divided are the *roots* of the grouping tree: the groups of the outermost absorbed level, or
the blocks themselves where no level is absorbed. Nothing below a root refers to another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mixmeta_jax.design.design import Design
from mixmeta_jax.design.layout import Bucket, Layout, padded_length


def split(design: Design, n_shares: int) -> list[Design]:
    """Divide a design, its arrays numpy's, into shares of about the same work.

    Each share is the whole design, with a layout that holds its own blocks and groups only. The
    layouts have one shape, that of the largest; with fewer roots than shares some are empty.
    """
    layout = design.layout
    blocks = [np.flatnonzero(bucket.rows[0] < design.n) for bucket in layout.buckets]
    groups, root_of_group = _groups(layout, blocks)
    if layout.absorbed:
        root_of_block = [
            root_of_group[0][np.asarray(bucket.parent)[found]]
            for bucket, found in zip(layout.buckets, blocks, strict=True)
        ]
    else:
        ends = np.cumsum([len(found) for found in blocks])
        root_of_block = np.split(np.arange(ends[-1]), ends[:-1])
    sizes = [(design.k * bucket.rows.shape[0]) ** 2 for bucket in layout.buckets]
    work = np.bincount(np.concatenate(root_of_block), np.repeat(sizes, list(map(len, blocks))))
    share = deal(work, n_shares)
    own_blocks = [
        [found[share[root] == d] for d in range(n_shares)]
        for found, root in zip(blocks, root_of_block, strict=True)
    ]
    own_groups = [
        [found[share[root[found]] == d] for d in range(n_shares)]
        for found, root in zip(groups, root_of_group, strict=True)
    ]
    lengths = [padded_length(max(map(len, own))) for own in own_blocks]
    n_groups = tuple(padded_length(max(map(len, own))) for own in own_groups)
    return [
        _share(
            design,
            [own[d] for own in own_blocks],
            [own[d] for own in own_groups],
            lengths,
            n_groups,
        )
        for d in range(n_shares)
    ]


def deal(work: np.ndarray, n_shares: int) -> np.ndarray:
    """Share of each root, by its work: the heaviest first, always to the least laden share.

    Roots of equal work are dealt at once, in runs, up to the level that they fill all shares to.
    """
    share = np.zeros(len(work), int)
    load = np.zeros(n_shares)
    order = np.argsort(-work, kind="stable")
    for equal in np.split(order, np.flatnonzero(np.diff(work[order])) + 1):
        each = work[equal[0]]
        counts = np.zeros(n_shares, int)
        if each > 0:
            lowest = np.sort(load)
            levels = (np.cumsum(lowest) + len(equal) * each) / np.arange(1, n_shares + 1)
            counts = np.maximum(0, (levels.min() - load) // each).astype(int)
        for _ in range(len(equal) - counts.sum()):
            counts[np.argmin(load + counts * each)] += 1
        load += counts * each
        share[equal] = np.repeat(np.arange(n_shares), counts)
    return share


def _groups(
    layout: Layout, blocks: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Per absorbed level, finest first: the groups that hold a block; the root of every group."""
    if not layout.absorbed:
        return [], []
    held = [
        np.asarray(bucket.parent)[found]
        for bucket, found in zip(layout.buckets, blocks, strict=True)
    ]
    groups = [np.unique(np.concatenate(held))]
    for parent in layout.parents:
        groups.append(np.unique(parent[groups[-1]]))
    roots = [np.arange(layout.n_groups[-1])]
    for parent in reversed(layout.parents):
        roots.append(roots[-1][parent])
    return groups, roots[::-1]


def _share(
    design: Design,
    blocks: Sequence[np.ndarray],
    groups: Sequence[np.ndarray],
    lengths: Sequence[int],
    n_groups: tuple[int, ...],
) -> Design:
    """The design with some of its blocks (per bucket) and groups (per absorbed level) alone."""
    layout = design.layout
    # Number within the share of each group of the whole.
    numbers = []
    for own, n in zip(groups, layout.n_groups, strict=True):
        number = np.zeros(n, np.int32)
        number[own] = np.arange(len(own))
        numbers.append(number)
    buckets = []
    for bucket, own, length in zip(layout.buckets, blocks, lengths, strict=True):
        parent = None if bucket.parent is None else _padded(numbers[0][bucket.parent[own]], length)
        same = tuple(None if s is None else _padded(s[:, :, own], length) for s in bucket.same)
        buckets.append(Bucket(_padded(bucket.rows[:, own], length, design.n), parent, same))
    parents = [
        _padded(numbers[level + 1][parent[groups[level]]], n_groups[level])
        for level, parent in enumerate(layout.parents)
    ]
    S = design.S
    if isinstance(S, tuple):
        S = tuple(
            np.moveaxis(_padded(np.moveaxis(matrices[own], 0, -1), length), -1, 0)
            for matrices, own, length in zip(S, blocks, lengths, strict=True)
        )
    layout = replace(layout, buckets=tuple(buckets), parents=tuple(parents), n_groups=n_groups)
    return replace(design, S=S, layout=layout)


def _padded(values: np.ndarray, length: int, filler: int = 0) -> np.ndarray:
    """Values with the last axis filled up to a length."""
    made = np.full((*values.shape[:-1], length), filler, values.dtype)
    made[..., : values.shape[-1]] = values
    return made
