"""Outcomes that are drawn where they are fitted: what stands for them, and the programs.

`DrawnOutcomes` takes the place of the array of outcomes of B data sets in a `Design`. It holds what
they are drawn from, not themselves: a compiled program gets the numbers of its data sets, draws
their outcomes, finds where to start and climbs, so that no outcome leaves the device. What needs
the outcomes of some data sets as an array (NumPy, where it executes; a fit by itself) takes them by
their index, and has them drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, tree, widened
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.layout import family_length
from mixmeta_jax.design.tensors import Tensors, of_members
from mixmeta_jax.estimation.ascent import Ends, ascend, solution
from mixmeta_jax.estimation.executors import compiled
from mixmeta_jax.estimation.newton import Path, Problem
from mixmeta_jax.estimation.start import (
    natural_units,
    starting_parameters,
    starting_variances,
)
from mixmeta_jax.forking import refuse_lost
from mixmeta_jax.likelihood.drawing import Drawing, drawing, numbered_keys, seed_words

AT_ONCE_DRAWN = 2**22
"""Outcomes that a program draws for the host at a time: 32 megabytes."""


@tree
@dataclass(frozen=True)
class Source:
    """Where the outcomes of data sets come from, by their numbers.

    Attributes
    ----------
    drawing
        The model.
    words
        Those of the seed, shape (2,).
    """

    drawing: Drawing
    words: Array

    def outcomes(self, numbers: Array) -> Array:
        """Data sets, shape (B, n, k), for numbers of 32 bits, shape (B,); traced."""
        import jax

        return jax.vmap(self.drawing.draw)(numbered_keys(self.words, numbers))


class DrawnOutcomes:
    """In the place of an array of outcomes, shape (B, n, k), of which those are made that are read.

    Attributes
    ----------
    source
        What they are drawn from.
    mean
        Their expectations, NaN where they are missing, shape (n, k).
    first
        Number of the first data set.
    """

    ndim = 3

    def __init__(self, source: Source, mean: np.ndarray, first: int, count: int) -> None:
        refuse_lost("generator='jax'")
        self.source, self.mean, self.first = source, mean, first
        self.shape = (count, *mean.shape)
        self.dtype = mean.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, members: Any) -> np.ndarray:
        """The outcomes of some data sets: an index along their axis, of which they stay one."""
        numbers = self.numbers(np.arange(len(self))[members])
        size = max(1, AT_ONCE_DRAWN // max(1, self.mean.size))
        parts = [self._drawn(numbers[at : at + size]) for at in range(0, len(numbers), size)]
        whole = np.concatenate(parts) if parts else np.empty((0, *self.mean.shape))
        return np.where(np.isnan(self.mean), np.nan, whole)

    def numbers(self, members: np.ndarray) -> np.ndarray:
        """Those of some data sets."""
        return (self.first + members).astype(np.uint32)

    def _drawn(self, numbers: np.ndarray) -> np.ndarray:
        padded = np.resize(numbers, family_length(len(numbers)))
        return compiled(_outcomes, self.source, padded)[: len(numbers)]


def drawn_outcomes(
    design: Design, mean: np.ndarray, Psi: Sequence[np.ndarray], count: int, seed: int, first: int
) -> DrawnOutcomes:
    """Data sets first, …, first + count − 1 of a seed, around a mean with NaN where missing."""
    seen = ~np.isnan(mean)
    whole = drawing(replace(design, mask=seen), np.where(seen, mean, 0.0), Psi)
    return DrawnOutcomes(Source(whole, seed_words(seed)), mean, first, count)


@dataclass(frozen=True)
class CompiledDraws:
    """Execution on drawn data sets by compiled programs: what all share, where it lies."""

    tensors: Tensors
    design: Design
    source: Source

    def ascend(
        self, path: Path, problem: Problem, numbers: np.ndarray, **static: Any
    ) -> tuple[Ends, Begun]:
        """See `ascend_drawn`."""
        shared = self.tensors, self.design, self.source
        return compiled(ascend_drawn, path, *shared, numbers, problem, **static)

    def solution(self, theta: np.ndarray, numbers: np.ndarray, restricted: bool) -> Any:
        """See `solution_drawn`."""
        shared = self.tensors, self.design, self.source
        return compiled(solution_drawn, theta, *shared, numbers, restricted=restricted)


def _outcomes(source: Source, numbers: Array) -> Array:
    return source.outcomes(numbers)


@tree
@dataclass(frozen=True)
class Begun:
    """What the outcomes say of where to start: as in `jobs.Job`."""

    scales: tuple[Array, ...]
    starts: Array
    units: Array


def begun(design: Design, B: int) -> Begun:
    """Of the B data sets of a design; numpy's or traced."""
    found = starting_variances(design)
    scales = tuple(widened(own, (len(own), B)) for own in found)
    starts = starting_parameters(design.structures, scales)
    return Begun(scales, starts, natural_units(starts))


def ascend_drawn(
    path: Path,
    tensors: Tensors,
    design: Design,
    source: Source,
    numbers: Array,
    problem: Problem,
    *,
    restricted: bool,
    shift: bool,
    without: bool,
) -> tuple[Ends, Begun]:
    """`ascent.ascend` of data sets that are drawn here; paths whose θ is NaN begin at the start.

    Parameters
    ----------
    path, problem
        As in `ascent.ascend`; units and scales are not read.
    tensors, design
        What the data sets share (`tensors.shared_by_all`), and the design, its y not read.
    source, numbers
        Where the outcomes come from.
    """
    import jax.numpy as jnp

    own = replace(design, y=source.outcomes(numbers))
    start = begun(own, len(numbers))
    fresh = jnp.isnan(path.theta).any(0)
    theta = jnp.where(fresh, start.starts[0], path.theta)
    trial = jnp.where(fresh, start.starts[0], path.trial)
    problem = replace(problem, units=start.units, scales=start.scales)
    ends = ascend(
        replace(path, theta=theta, trial=trial),
        of_members(tensors, own, slice(None)),
        problem,
        restricted=restricted,
        shift=shift,
        without=without,
    )
    return ends, start


def solution_drawn(
    theta: Array,
    tensors: Tensors,
    design: Design,
    source: Source,
    numbers: Array,
    *,
    restricted: bool,
) -> Any:
    """`ascent.solution` of data sets that are drawn here."""
    own = replace(design, y=source.outcomes(numbers))
    return solution(theta, of_members(tensors, own, slice(None)), restricted=restricted)
