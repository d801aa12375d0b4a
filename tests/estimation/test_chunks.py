"""How many data sets a chunk takes: what fits a cache, a device, and the memory."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax import memory
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.estimation import chunks
from mixmeta_jax.estimation.chunks import BYTES_HELD, PART_OF_MEMORY, chunk_size, workers_of
from mixmeta_jax.estimation.programs import PROGRAMS, Programs
from tests.designs import random_design


@dataclass
class Device:
    """What a device of JAX tells of itself."""

    platform: str
    told: Any

    def memory_stats(self):
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


def gpu(free, used=0):
    return Device("gpu", {"bytes_limit": free + used, "bytes_in_use": used, "num_allocs": 3})


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"bytes_limit": 10**9, "bytes_in_use": 10**8}, 9 * 10**8),
        ({"bytes_limit": 10**9}, 10**9),
        ({"bytes_limit": 10, "bytes_in_use": 20}, 0),
        ({}, 10**7),
        (None, 10**7),
        (NotImplementedError("memory_stats"), 10**7),
    ],
)
def test_the_room_on_a_device(told, expected, monkeypatch):
    monkeypatch.setattr(memory, "memory", lambda: 10**7)
    assert memory.room(Device("gpu", told)) == expected
    assert memory.room(None) == 10**7


DESIGN = random_design(k=2, q=(1,), codes=[np.arange(20)], missing=0.0)
B = 10**9


def bytes_of_one(design):
    """Of the whitened columns [X, Z, y], as a program lays them out."""
    blocks = arrange(design).blocks
    columns = 1 + len(blocks[0].x) * design.k + sum(design.dims)
    return 8 * columns * sum(block.y.size for block in blocks)


def test_a_chunk_takes_half_of_what_is_free_on_an_accelerator():
    one = bytes_of_one(DESIGN)
    for free in (10**8, 10**9):
        size = chunk_size(DESIGN, None, B, [gpu(free, used=10**9)])
        taken = 2 * size * BYTES_HELD * one  # two chunks at once
        assert free * PART_OF_MEMORY / 2 < taken <= free * PART_OF_MEMORY


def test_more_accelerators_take_chunks_of_the_same_size():
    one, two = ([gpu(10**8)] * count for count in (1, 2))
    assert chunk_size(DESIGN, None, B, one) == chunk_size(DESIGN, None, B, two)
    assert (workers_of(one), workers_of(two)) == (2, 4)
    # That with the least memory decides.
    uneven = [gpu(10**8), gpu(10**10)]
    assert chunk_size(DESIGN, None, B, uneven) == chunk_size(DESIGN, None, B, one)


def test_a_chunk_of_an_accelerator_is_bounded_and_shared():
    large = [gpu(10**15)]
    assert chunk_size(DESIGN, None, B, large) == chunks.MOST_ON_DEVICE
    assert chunk_size(DESIGN, None, 1000, large) == 512


def test_a_chunk_fits_the_cache_of_a_core_on_a_cpu():
    cpu = [Device("cpu", None)]
    assert chunk_size(DESIGN, None, B, cpu) == chunk_size(DESIGN, None, B)
    one = bytes_of_one(DESIGN)
    assert chunks.CACHE_BYTES / 2 < chunk_size(DESIGN, None, B) * one <= chunks.CACHE_BYTES
    assert workers_of(cpu) == (os.cpu_count() or 1)


def test_data_too_large_for_many_at_a_time_are_taken_one_by_one(monkeypatch):
    """A case on each side: memory for a chunk of the fewest paths, and for less."""
    workers = workers_of(())
    fewest = bytes_of_one(DESIGN) * BYTES_HELD * workers * chunks.FEWEST_PATHS / PART_OF_MEMORY
    monkeypatch.setattr(chunks, "CACHE_BYTES", 1)
    for part, expected in ((1.01, chunks.FEWEST_PATHS), (0.51, 16), (1e-6, 1)):
        monkeypatch.setattr(memory, "memory", lambda part=part: int(part * fewest))
        assert chunk_size(DESIGN, None, B) == expected


def test_a_size_that_is_given_is_taken():
    assert chunk_size(DESIGN, 7, B, [gpu(1)]) == 7
    assert chunk_size(DESIGN, 7, 3) == 3


def test_a_program_holds_no_more_than_is_reckoned(monkeypatch):
    """As XLA counts it: what a chunk is given, returns, and needs meanwhile."""
    held = []
    own = Programs._made

    def made(self, function, args, static):
        program = own(self, function, args, static)
        told = program.memory_analysis()
        parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
        held.append(sum(getattr(told, part) for part in parts))
        return program

    monkeypatch.setattr(Programs, "_made", made)
    PROGRAMS.clear()
    rng = np.random.default_rng(0)
    y, v = rng.normal(size=(256, 20)), np.full(20, 0.3)
    mx.fit_many(y, v, control={"backend": "jax"}, progress=False)
    design = random_design(k=1, q=(1,), n=20, p=1, codes=[np.arange(20)], missing=0.0)
    size = chunk_size(design, None, 256)
    # Arrays of the chunk's state weigh little beside this; they are not reckoned.
    assert 1.0 < max(held) / (size * 8 * 3 * 20) < BYTES_HELD
