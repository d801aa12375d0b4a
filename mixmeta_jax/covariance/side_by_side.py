"""Paths side by side, each with a structure of its own: `SideBySide`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.covariance.structure import Structure


class SideBySide(Structure):
    """Structures of B paths, so that fits which hold different parameters climb together.

    θ has as many rows as the structure with the most parameters; those that another does not have
    move nothing.

    Parameters
    ----------
    structures
        One for each run of paths that share one; of the catalogue, or `Held`.
    counts
        Lengths of the runs.
    """

    name = "side by side"

    def __init__(self, structures: Sequence[Structure], counts: Sequence[int]) -> None:
        self.structures = tuple(structures)
        ends = np.cumsum([0, *counts]).tolist()
        self.runs = tuple(itertools.pairwise(ends))

    def n_parameters(self, d: int) -> int:
        return max(structure.n_parameters(d) for structure in self.structures)

    def psi(self, theta: Array, d: int) -> Array:
        return self._joined(lambda s, t: s.psi(t, d), theta, d)

    def slopes(self, theta: Array, d: int) -> Array:
        return self._joined(lambda s, t: _filled(s.slopes(t, d), (2,), len(theta)), theta, d)

    def curvature(self, theta: Array, d: int, rise: Array) -> Array:
        rises = iter([rise[..., a:b] for a, b in self.runs])
        return self._joined(
            lambda s, t: _filled(s.curvature(t, d, next(rises)), (0, 1), len(theta)), theta, d
        )

    def _joined(self, function: Callable, theta: Array, d: int) -> Array:
        parts = [
            function(structure, theta[: structure.n_parameters(d), a:b])
            for structure, (a, b) in zip(self.structures, self.runs, strict=True)
        ]
        return namespace(theta).concatenate(parts, -1)

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        wide = namespace(scale).broadcast_to(scale, (len(Psi), Psi.shape[2]))
        parts = [
            structure.at_bound(Psi[..., a:b], wide[:, a:b])
            for structure, (a, b) in zip(self.structures, self.runs, strict=True)
        ]
        return namespace(Psi).concatenate(parts)

    def null_variances(self, Psi: Any, scale: Any) -> Any:
        wide = namespace(scale).broadcast_to(scale, (len(Psi), Psi.shape[2]))
        parts = [
            structure.null_variances(Psi[..., a:b], wide[:, a:b])
            for structure, (a, b) in zip(self.structures, self.runs, strict=True)
        ]
        return namespace(Psi).concatenate(parts, 1)


def _filled(values: Array, axes: tuple[int, ...], n: int) -> Array:
    """Zeros after the values along some axes, up to length n."""
    xp = namespace(values)
    for axis in axes:
        shape = list(values.shape)
        shape[axis] = n - shape[axis]
        values = xp.concatenate([values, xp.zeros(shape)], axis)
    return values
