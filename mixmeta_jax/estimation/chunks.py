"""Many data sets of one shape in chunks, and who executes their numbers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from mixmeta_jax.arrays import register_trees
from mixmeta_jax.control import Control
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.layout import family_length
from mixmeta_jax.design.tensors import filled_up, of_members, shared_by_all
from mixmeta_jax.estimation.executors import AtOnce, Compiled, by_numpy, saved_share, shape_of
from mixmeta_jax.estimation.newton import Path, departure
from mixmeta_jax.estimation.start import (
    natural_units,
    starting_parameters,
    starting_variances,
)
from mixmeta_jax.likelihood.information import is_exact

CACHE_BYTES = 2**21
"""What the whitened columns of a chunk may take: an evaluation holds several times as much."""

MOST_PATHS, FEWEST_PATHS = 4096, 32
"""Paths of a chunk, whatever fits: with fewer than these the calls cost more than the numbers."""


def chunk_size(design: Design, batch_size: int | None, B: int) -> int:
    """Data sets in a chunk: ``batch_size``, or as many as fit a core's cache."""
    if batch_size is not None:
        return max(1, min(batch_size, B))
    columns = 1 + family_length(design.p) * design.k + sum(design.dims)
    places = sum(bucket.rows.size for bucket in design.layout.buckets) * design.k
    fitting = CACHE_BYTES // (8 * columns * places)
    size = 1 << max(0, int(fitting).bit_length() - 1)
    # Every core gets something to do, and numbers of data sets share programs.
    share = family_length(-(-B // (os.cpu_count() or 1)))
    return int(max(min(size, MOST_PATHS, share), min(FEWEST_PATHS, family_length(B))))


class Chunks:
    """The data sets of a design, and what all of them share.

    Attributes
    ----------
    size
        Data sets in a chunk.
    at_once
        Whether NumPy executes the numbers.
    workers
        Threads that keep all cores and devices busy.
    """

    def __init__(
        self, design: Design, count: int, method: str, control: Control, batch_size: int | None
    ) -> None:
        self.design = design
        self.size = chunk_size(design, batch_size, count)
        self._shape = shape_of(design, method, self.size)
        self.at_once = by_numpy(design, control, self._shape, count)
        shared = shared_by_all(design)
        if not self.at_once:
            shared = filled_up(shared)
        self._n_coefficients = shared.n_coefficients
        self._exact = is_exact(shared, method == "reml")
        self._devices: list[Any] = [None]
        self._shared: list[Any] = [shared]
        self.workers = 1
        if not self.at_once:
            self._devices, self._shared = _on_devices(shared)
            self.workers = max(len(self._devices), os.cpu_count() or 1)
        self._saved = saved_share(design)
        self._turn = 0
        self._lock = threading.Lock()

    def chunks(self, members: np.ndarray) -> Iterator[np.ndarray]:
        """The members, a chunk at a time."""
        for first in range(0, len(members), self.size):
            yield members[first : first + self.size]

    def executor(self, members: np.ndarray) -> AtOnce | Compiled:
        """Who executes the numbers of some data sets; devices in turn."""
        with self._lock:
            self._turn += 1
            where = self._turn % len(self._devices)
        tensors = of_members(self._shared[where], self.design, members)
        if self.at_once:
            return AtOnce(tensors, self._shape, self._saved)
        return Compiled(tensors, self._devices[where])

    def padded(self, part: np.ndarray) -> np.ndarray:
        """Members filled up to the length of a chunk, where programs are to be shared."""
        return part if self.at_once else np.resize(part, self.size)

    def departure(self, theta: np.ndarray) -> Path:
        """Paths that have not been evaluated yet, from θ of shape (n_θ, b)."""
        return departure(theta, self._n_coefficients, self._exact)

    def starts(self, part: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
        """Scales (d, b) of each level, starts (n_starts, n_θ, b), and units (n_θ, b)."""
        b = len(part)
        with np.errstate(all="ignore"):
            found = starting_variances(self.design.taken(part))
            scales = tuple(np.broadcast_to(scale, (len(scale), b)) for scale in found)
            starts = starting_parameters(self.design.structures, scales)
            return scales, starts, natural_units(starts)


def _on_devices(shared: Any) -> tuple[list[Any], list[Any]]:
    """The devices of this process, and what all data sets share on each of them."""
    import jax

    register_trees()
    devices = jax.local_devices()
    with jax.enable_x64(True):
        return devices, [jax.device_put(shared, device) for device in devices]
