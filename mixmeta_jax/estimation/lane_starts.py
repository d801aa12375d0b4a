"""Starting values of many data sets at once: those of `start`, along the lanes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixmeta_jax.estimation.lane_data import ManyData
from mixmeta_jax.estimation.restarts import restarts
from mixmeta_jax.estimation.start import (
    heterogeneity,
    natural_units,
    shared_among,
    starting_parameters,
)
from mixmeta_jax.covariance.structure import Structure


def lane_starts(
    many: ManyData, members: np.ndarray, size: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Where the members may start.

    Parameters
    ----------
    many
        The data sets.
    members
        At most ``size`` of them.
    size
        Lanes of a chunk: all chunks share one compilation.

    Returns
    -------
    scales
        `start.starting_variances` of each member, shape (b, d) per level, outer first.
    starts
        `start.starting_parameters`, shape (n_starts, n_θ, b).
    units
        `start.natural_units`, shape (n_θ, b).
    """
    b = len(members)
    padded = np.resize(members, size)
    design = many.design
    own_X, own_Z = many.X is not None, many.Z is not None
    X = (many.X[padded] if own_X else np.asarray(design.X)[None]) @ design.basis  # type: ignore[index]
    Z = many.Z if own_Z else design.Z
    data = {
        "y": many.y[padded],
        "mask": many.seen(padded),
        "variances": many.variances(padded),
        "X": X,
        "Z": tuple(z[padded] if own_Z else np.asarray(z)[None] for z in Z),  # type: ignore[union-attr]
    }
    with jax.enable_x64(True):
        found = jax.device_get(_starts(data, design.structures))
    scales, starts, units = jax.tree.map(lambda leaf: leaf[..., :b], found)
    return [scale.T for scale in scales], starts, units


def lane_restarts(
    many: ManyData, scales: list[np.ndarray], lanes: int, size: int
) -> list[np.ndarray]:
    """`restarts.restarts` of each data set, as many as with ``lanes`` at a time; (n_θ, b) each.

    ``scales`` are those of `lane_starts`, of at most ``size`` data sets.
    """
    b = len(scales[0])
    padded = [np.resize(scale, (size, scale.shape[1])) for scale in scales]
    with jax.enable_x64(True):
        found = jax.device_get(_restarts(padded, many.design.structures, lanes=lanes))
    return list(found[..., :b])


@functools.partial(jax.jit, static_argnames="lanes")
def _restarts(scales: list[Any], structures: Sequence[Structure], lanes: int) -> Any:
    def one(scales: list[Any]) -> Any:
        return jnp.concatenate(restarts(structures, scales, lanes))

    return jax.vmap(one, out_axes=-1)(scales)


@jax.jit
def _starts(data: dict[str, Any], structures: Sequence[Structure]) -> tuple[Any, Any, Any]:
    """Scales, starts and units with a last axis for the lanes; what is shared has a first of 1."""
    size = len(data["y"])

    def one(data: dict[str, Any]) -> tuple[Any, Any, Any]:
        excess = heterogeneity(data["y"], data["mask"], data["variances"], data["X"])
        scales = shared_among(excess, data["Z"])
        starts = starting_parameters(structures, scales)
        return scales, starts, natural_units(starts)

    own = jax.tree.map(lambda leaf: len(leaf) == size, data)
    first = jax.tree.map(lambda leaf, is_own: leaf if is_own else leaf[0], data, own)
    axes = jax.tree.map(lambda is_own: 0 if is_own else None, own)
    return jax.vmap(one, in_axes=(axes,), out_axes=-1)(first)
