"""Many data sets of one shape in chunks, and who executes their numbers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mixmeta_jax.arrays import register_trees
from mixmeta_jax.control import Control
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.layout import family_length
from mixmeta_jax.design.tensors import filled_up, of_members, shared_by_all
from mixmeta_jax.estimation.ascent import Ends
from mixmeta_jax.estimation.drawn import Begun, CompiledDraws, DrawnOutcomes, begun
from mixmeta_jax.estimation.executors import AtOnce, Compiled, by_numpy, saved_share, shape_of
from mixmeta_jax.estimation.newton import Path, Problem, departure
from mixmeta_jax.estimation.start import starting_parameters
from mixmeta_jax.likelihood.information import is_exact
from mixmeta_jax.memory import room

CACHE_BYTES = 2**21
"""What the whitened columns of a chunk may take: an evaluation holds several times as much."""

MOST_PATHS, FEWEST_PATHS = 4096, 32
"""Paths of a chunk, whatever fits: with fewer than these the calls cost more than the numbers."""


MOST_ON_DEVICE = 2**16
"""Paths of a chunk on an accelerator, which has no cache to fit but many cores to fill."""

BYTES_HELD = 16
"""Bytes that a program holds for each byte of the whitened columns of its data sets: 5 for one
outcome, 7 for two with missing values, as XLA says; twice that, for outcomes that are drawn."""

PART_OF_MEMORY = 0.5
"""Of the memory that is free, what all chunks that are computed at once may take."""

CHUNKS_OF_DEVICE = 2
"""Chunks that are computed at once on an accelerator: one computes while another is fetched."""


def chunk_size(design: Design, batch_size: int | None, B: int, devices: Sequence[Any] = ()) -> int:
    """Data sets in a chunk.

    Parameters
    ----------
    design
        The data sets.
    batch_size
        That number, if it is given. Else as many as fit a core's cache, or on accelerators as many
        as fit their memory; and in no case more than memory holds.
    B
        How many are to be fitted.
    devices
        Devices of JAX that share the work; none for NumPy.
    """
    if batch_size is not None:
        return max(1, min(batch_size, B))
    columns = 1 + family_length(design.p) * design.k + sum(design.dims)
    places = sum(bucket.rows.size for bucket in design.layout.buckets) * design.k
    one = 8 * columns * places
    at_once = workers_of(devices)
    free = min(map(room, devices), default=room()) * max(1, len(devices))
    if not _accelerated(devices):
        free = room()
    held = int(PART_OF_MEMORY * free / (BYTES_HELD * one * at_once))
    if _accelerated(devices):
        fitting, most, cores = held, MOST_ON_DEVICE, at_once
    else:
        fitting, most, cores = CACHE_BYTES // one, MOST_PATHS, os.cpu_count() or 1
    size = 1 << max(0, int(fitting).bit_length() - 1)
    # Every core gets something to do, and numbers of data sets share programs.
    share = family_length(-(-B // cores))
    size = max(min(size, most, share), min(FEWEST_PATHS, family_length(B)))
    return int(max(1, min(size, held)))


def workers_of(devices: Sequence[Any]) -> int:
    """Chunks that are computed at once: by the cores of the machine, or by accelerators."""
    if _accelerated(devices):
        return CHUNKS_OF_DEVICE * len(devices)
    return max(len(devices), os.cpu_count() or 1)


def _accelerated(devices: Sequence[Any]) -> bool:
    return len(devices) > 0 and all(device.platform != "cpu" for device in devices)


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
        self._devices: list[Any] = [None]
        self._drawn = design.y if isinstance(design.y, DrawnOutcomes) else None
        if self._drawn is not None:
            design = replace(design, y=np.zeros((1, *self._drawn.mean.shape)))
        # Who executes is asked before JAX is: NumPy needs none of it.
        self.size = chunk_size(design, batch_size, count)
        self._shape = shape_of(design, method, self.size)
        self.at_once = by_numpy(design, control, self._shape, count)
        if not self.at_once:
            self._devices = _local_devices()
            self.size = chunk_size(design, batch_size, count, self._devices)
        shared = shared_by_all(design)
        if not self.at_once:
            shared = filled_up(shared)
        self._n_coefficients = shared.n_coefficients
        self._exact = is_exact(shared, method == "reml")
        self._shared: list[Any] = [shared]
        self.workers = 1
        if not self.at_once:
            held = shared if self._drawn is None else (shared, design, self._drawn.source)
            self._shared = _on_devices(held, self._devices)
            self.workers = workers_of(self._devices)
        self._saved = saved_share(design)
        self._turn = 0
        self._lock = threading.Lock()

    def chunks(self, members: np.ndarray) -> Iterator[np.ndarray]:
        """The members, a chunk at a time."""
        for first in range(0, len(members), self.size):
            yield members[first : first + self.size]

    def executor(self, members: np.ndarray) -> AtOnce | Compiled:
        """Who executes the numbers of some data sets that are there; devices in turn."""
        where = self._next_device()
        tensors = of_members(self._shared[where], self.design, members)
        if self.at_once:
            return AtOnce(tensors, self._shape, self._saved)
        return Compiled(tensors, self._devices[where])

    def _next_device(self) -> int:
        with self._lock:
            self._turn += 1
            return self._turn % len(self._devices)

    def _drawn_by(self) -> CompiledDraws:
        """Who draws data sets and executes their numbers; devices in turn."""
        return CompiledDraws(*self._shared[self._next_device()])

    def climb(
        self, members: np.ndarray, path: Path, problem: Problem, **static: Any
    ) -> tuple[Ends, Begun | None]:
        """The ends of paths, and what outcomes that are drawn say of where they begin."""
        if not self.drawn_there:
            return self.executor(members).ascend(path, problem, **static), None
        assert self._drawn is not None
        return self._drawn_by().ascend(path, problem, self._drawn.numbers(members), **static)

    def solution(self, members: np.ndarray, theta: np.ndarray, restricted: bool) -> Any:
        """See `ascent.solution`."""
        if not self.drawn_there:
            return self.executor(members).solution(theta, restricted=restricted)
        assert self._drawn is not None
        return self._drawn_by().solution(theta, self._drawn.numbers(members), restricted)

    @property
    def drawn_there(self) -> bool:
        """Whether the programs draw the outcomes that they fit."""
        return self._drawn is not None and not self.at_once

    def padded(self, part: np.ndarray) -> np.ndarray:
        """Members filled up to the length of a chunk, where programs are to be shared."""
        return part if self.at_once else np.resize(part, self.size)

    def departure(self, theta: np.ndarray) -> Path:
        """Paths that have not been evaluated yet, from θ of shape (n_θ, b)."""
        return departure(theta, self._n_coefficients, self._exact)

    def starts(self, part: np.ndarray) -> Begun:
        """Scales (d, b) of each level, starts (n_starts, n_θ, b), and units (n_θ, b)."""
        with np.errstate(all="ignore"):
            return begun(self.design.taken(part), len(part))

    def first_starts(self, part: np.ndarray) -> Begun:
        """The same for paths that are to begin; NaN where the program draws and finds them."""
        if not self.drawn_there:
            return self.starts(part)
        like = starting_parameters(self.design.structures, self._unit_scales(len(part)))
        scales = tuple(scale * np.nan for scale in self._unit_scales(len(part)))
        return Begun(scales, like * np.nan, like[0] * np.nan)

    def _unit_scales(self, b: int) -> tuple[np.ndarray, ...]:
        return tuple(np.ones((d, b)) for d in self.design.dims)


def _local_devices() -> list[Any]:
    """The devices of this process."""
    import jax

    return jax.local_devices()


def _on_devices(shared: Any, devices: Sequence[Any]) -> list[Any]:
    """A tree of what all data sets share on each device."""
    import jax

    register_trees()
    with jax.enable_x64(True):
        return [jax.device_put(shared, device) for device in devices]
