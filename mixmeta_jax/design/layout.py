"""Where each unit goes in the padded tensors: blocks of units tied by S or by an inner level.

A *block* is the smallest set of units whose marginal covariance is formed as one matrix. It starts
as the units that a block of S covers (one unit, for most data). Levels whose groups lie inside
blocks add ZΨZᵀ to that matrix; coarser levels are *absorbed*, one after the other from the finest,
as Gram matrices summed over their groups. A level that cuts across blocks merges the blocks it
touches. Every axis that counts blocks or groups is padded to a length from a short list, so that
data sets of similar size share one compilation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from mixmeta_jax.arrays import tree

DIRECT_SIZE = 8
"""Blocks of up to this many outcomes take in a level of their own size; larger ones absorb it."""

WASTE = 2.0
"""Bound on the padded work of the blocks, relative to the work without padding."""

FREE_WORK = 500_000.0
"""Padded work, in multiplications, below which another block size is not worth compiling."""


def padded_length(n: int) -> int:
    """Length to which an axis of n entries is padded: powers of two, quarter steps above 1,024."""
    if n <= 8:
        return 8
    power = 1 << (int(n) - 1).bit_length()
    if power <= 1024:
        return power
    step = power // 8
    return math.ceil(n / step) * step


@tree
@dataclass(frozen=True)
class EqualGroups:
    """In the place of the groups of children that stand in order, ``size`` in each group."""

    size: int = field(metadata={"static": True})


def in_order(parent: np.ndarray | None, n_groups: int) -> np.ndarray | EqualGroups | None:
    """`EqualGroups` where the groups of the children are so, which sums without scattering."""
    if not isinstance(parent, np.ndarray) or len(parent) % n_groups:
        return parent
    size = len(parent) // n_groups
    even = (parent == np.repeat(np.arange(n_groups), size)).all()
    return EqualGroups(size) if even else parent


@tree
@dataclass(frozen=True)
class Bucket:
    """Blocks of at most n_b units.

    Attributes
    ----------
    rows
        Unit at each place, shape (n_b, N); n (one past the last unit) where there is none.
    parent
        Group of each block at the finest absorbed level, shape (N,); None where no level is.
    same
        Per level inside the blocks: whether two places belong to one group, shape (n_b, n_b, N);
        None where every block is one group.
    """

    rows: np.ndarray
    parent: np.ndarray | None
    same: tuple[np.ndarray | None, ...]


@tree
@dataclass(frozen=True)
class Layout:
    """The arrangement of n units in blocks, and of blocks in groups.

    Attributes
    ----------
    buckets
        Blocks by size.
    parents
        For each absorbed level but the outermost, finest first: group of each of its groups at
        the next one, shape (padded groups,).
    inside, absorbed
        Indices (0 = outermost) of the levels inside blocks and of the absorbed ones, finest first.
    n_groups
        Padded number of groups of each absorbed level, finest first.
    """

    buckets: tuple[Bucket, ...]
    parents: tuple[np.ndarray, ...]
    inside: tuple[int, ...] = field(metadata={"static": True})
    absorbed: tuple[int, ...] = field(metadata={"static": True})
    n_groups: tuple[int, ...] = field(metadata={"static": True})


def build_layout(
    n: int,
    k: int,
    codes: Sequence[np.ndarray],
    dims: Sequence[int],
    blocks: Sequence[np.ndarray] | None = None,
    tight: bool = False,
    singular: bool = False,
) -> Layout:
    """Arrange units with k outcomes.

    Parameters
    ----------
    n, k
        Numbers of units and outcomes.
    codes
        Per level, outer first: group of each unit, shape (n,), nested.
    dims
        Number of random effects of each level.
    blocks
        Units that each block of S covers; None where S has one matrix per unit.
    tight
        Whether to leave the axes of blocks and groups as long as they are: for many data sets of
        one shape, which share their compilation in any case.
    singular
        Whether S is singular somewhere, so that only with the innermost level a block is definite:
        that level lies inside the blocks then, whatever their size.
    """
    length = int if tight else padded_length
    block = np.arange(n)
    if blocks is not None:
        for b, rows in enumerate(blocks):
            block[rows] = b
    inside: list[int] = []
    absorbed: list[int] = []
    for level in reversed(range(len(codes))):
        if singular and level == len(codes) - 1:
            block, direct = merged(block, codes[level]), True
        else:
            block, direct = _place(block, codes[level], k, dims[level], bool(absorbed))
        (inside if direct else absorbed).append(level)
    buckets = tuple(
        _bucket(rows, n, codes, inside, absorbed) for rows in rows_by_size(block, n, k, tight)
    )
    counts = [length(int(codes[level].max()) + 1) for level in absorbed]
    parents = []
    for level, outer, count in zip(absorbed, absorbed[1:], counts, strict=False):
        parent = np.full(count, codes[outer].max(), np.int32)
        parent[codes[level]] = codes[outer]
        parents.append(parent)
    return Layout(buckets, tuple(parents), tuple(inside), tuple(absorbed), tuple(counts))


def _place(
    block: np.ndarray, group: np.ndarray, k: int, d: int, absorbing: bool
) -> tuple[np.ndarray, bool]:
    """The blocks, merged if need be, and whether the level lies inside them."""
    if absorbing:
        return block, False
    within_blocks = _is_function(group, block)
    within_groups = _is_function(block, group)
    if within_blocks and within_groups:
        size = k * int(np.bincount(block).max())
        return block, size <= max(DIRECT_SIZE, d)
    if within_blocks or within_groups:
        return block, within_blocks
    return merged(block, group), True


def _is_function(of: np.ndarray, value: np.ndarray) -> bool:
    """Whether all units with the same ``of`` share their ``value``."""
    image = np.zeros(int(of.max()) + 1, value.dtype)
    image[of] = value
    return bool((image[of] == value).all())


def merged(block: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The finest division of the units in which both blocks and groups stay whole, shape (n,)."""
    n_blocks, n_groups = int(block.max()) + 1, int(group.max()) + 1
    links = sparse.coo_array(
        (np.ones(len(block), bool), (block, n_blocks + group)), shape=(n_blocks + n_groups,) * 2
    )
    return csgraph.connected_components(links, directed=False)[1][block]


def rows_by_size(block: np.ndarray, n: int, k: int, tight: bool) -> list[np.ndarray]:
    """Units of the blocks, shape (n_b, N) per bucket, n where a place is empty."""
    counts = np.bincount(block)
    present = np.flatnonzero(counts)
    largest = int(counts.max())
    if largest == 1:
        rows = np.full((1, n if tight else padded_length(n)), n, np.int32)
        rows[0, :n] = np.arange(n)
        return [rows]
    by_block = np.argsort(block, kind="stable")
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sizes, padded = _bucket_sizes(*np.unique(counts[present], return_counts=True), k, tight)
    buckets, smaller = [], 0
    for size in sizes:
        members = present[(counts[present] > smaller) & (counts[present] <= size)]
        smaller = size
        if len(members) == 0:
            continue
        rows = np.full((size, padded(len(members))), n, np.int32)
        place = np.arange(size)[:, None]
        filled = place < counts[members]
        source = np.where(filled, first[members] + place, 0)
        rows[:, : len(members)] = np.where(filled, by_block[source], n)
        buckets.append(rows)
    return buckets


def block_work(size: np.ndarray | int, k: int) -> np.ndarray:
    """Multiplications for a block of this many units, about: elimination, and its columns."""
    s = np.asarray(size, float) * k
    return s**3 + 16 * s**2


def _bucket_sizes(
    sizes: np.ndarray, counts: np.ndarray, k: int, tight: bool
) -> tuple[list[int], Callable[[int], int]]:
    """The fewest block sizes that keep the padded work bounded, and how their counts are padded.

    Where padding is cheap both come from a short list, so that data sets share compilations;
    ``tight`` if nothing is to share them.
    """
    work_done = float(counts @ block_work(sizes, k))
    allowed = WASTE * work_done if tight else max(WASTE * work_done, FREE_WORK)
    coarse, place = np.unique([_coarse_size(int(size)) for size in sizes], return_inverse=True)
    for tops, held, padded in (
        (coarse, np.bincount(place, counts).astype(int), int if tight else padded_length),
        (sizes, counts, int if tight else close_length),
    ):
        # work[i, j]: the blocks from the i-th size to the j-th in one bucket.
        ends = np.cumsum(held)
        members, index = np.unique(ends[None] - (ends - held)[:, None], return_inverse=True)
        lengths = np.array([padded(int(c)) if c > 0 else np.inf for c in members])
        work = lengths[index].reshape(len(tops), -1) * block_work(tops, k)
        best = work[0]
        firsts: list[np.ndarray] = []
        while best[-1] > allowed and len(firsts) + 1 < len(tops):
            # One bucket more: the last one begins at i, the others are the best up to i − 1.
            split = np.append(np.inf, best[:-1])[:, None] + work
            firsts.append(split.argmin(0))
            best = split.min(0)
        if best[-1] <= allowed:
            break
    last = [len(tops) - 1]
    for first in reversed(firsts):
        last.append(int(first[last[-1]]) - 1)
    return [int(tops[j]) for j in reversed(last)], padded


def _coarse_size(size: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, ..."""
    power = 1 << (size - 1).bit_length()
    return 3 * power // 4 if power > 2 and size <= 3 * power // 4 else power


def family_length(p: int) -> int:
    """Number to which p predictors, or data sets of a chunk, are padded to share programs."""
    return _coarse_size(p) if p > 0 else 0


def close_length(n: int) -> int:
    """Eighths of powers of two, exact up to 8: never more than a quarter too long."""
    step = max(1, (1 << (int(n) - 1).bit_length()) // 8)
    return math.ceil(n / step) * step


def _bucket(
    rows: np.ndarray,
    n: int,
    codes: Sequence[np.ndarray],
    inside: Sequence[int],
    absorbed: Sequence[int],
) -> Bucket:
    parent = None
    if absorbed:
        group = codes[absorbed[0]]
        # Blocks that only pad stand in the last group, which keeps what is in order so.
        parent = np.append(group, group.max())[rows[0]].astype(np.int32)
    if len(rows) == 1:  # a unit shares every group with itself
        return Bucket(rows, parent, (None,) * len(inside))
    same = []
    for level in inside:
        group = np.append(codes[level], -1)[rows]
        together = (group[:, None] == group[None]) & (rows < n)[:, None] & (rows < n)[None]
        occupied = (rows < n)[:, None] & (rows < n)[None]
        same.append(None if (together == occupied).all() else together)
    return Bucket(rows, parent, tuple(same))
