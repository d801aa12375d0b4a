"""Designs over several devices: the outer groups divided among the devices of a mesh.

The likelihood is a sum over the groups of the outermost level, so a device can hold some of them
whole, with all their blocks and inner groups, and run both sweeps on these alone: only the sums at
the root are added over the devices (`Tensors.total`), a few small matrices per evaluation. The
devices run one program, so their shares are padded to the same shape. All else is replicated:
every device takes the same Newton steps. XLA moves the numbers, between the devices of a process
and between processes (``jax.distributed``) alike.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mixmeta_jax.arrays import is_jax, is_traced, register_trees
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.shares import split
from mixmeta_jax.design.tensors import Tensors, arrange, filled_up
from mixmeta_jax.errors import InputError

AXIS = "groups"
"""The one axis of the meshes that programs see, whatever the axes of the user's are."""

SMALL_UPLOAD = 100_000
"""Numbers below which a call of a program moves them to the device faster than `device_put`."""


def mesh_of(*values: Any) -> Any:
    """The mesh of the first array of JAX that is divided among devices; None where none is.

    Parameters
    ----------
    values
        What a user gives as data, of any kind. An array that every device holds whole is not
        divided.
    """
    for value in values:
        if not is_jax(value) or is_traced(value):
            continue
        sharding = value.sharding
        if len(sharding.device_set) > 1 and not sharding.is_fully_replicated:
            from jax.sharding import Mesh, NamedSharding

            if isinstance(sharding, NamedSharding):
                return sharding.mesh
            devices = sorted(sharding.device_set, key=lambda device: device.id)
            return Mesh(np.array(devices), (AXIS,))
    return None


def placed(design: Design, mesh: Any) -> Tensors:
    """The tensors of a design, its arrays numpy's, for the programs that compute with them.

    Parameters
    ----------
    design
        The model. Every process must hold the whole of it.
    mesh
        The devices, whatever the axes they are arranged in; None for the default device.

    Returns
    -------
    Tensors
        On one device, as they are, and still numpy's where they are few. Over a mesh, ``blocks``
        and ``parents`` are arrays of JAX of which each device holds its own piece of the last
        axis; indices and ``n_groups`` count within a device.

    Raises
    ------
    InputError
        Where the mesh has no device of this process.
    """
    import jax
    from jax.sharding import Mesh

    register_trees()
    if mesh is None:
        tensors = filled_up(arrange(design))
        # Once, rather than by every program that reads them; but few numbers cost a program less.
        few = sum(leaf.size for leaf in jax.tree.leaves(tensors)) < SMALL_UPLOAD
        return tensors if few else jax.device_put(tensors)
    devices = mesh.devices.ravel()
    here = [d for d, device in enumerate(devices) if device.process_index == jax.process_index()]
    if not here:
        raise InputError(
            f"control: mesh has no device of this process ({jax.process_index()} of "
            f"{jax.process_count()}): every process that calls must take part."
        )
    ours = Mesh(devices, (AXIS,))
    shares = split(design, len(devices))
    pieces = []
    for d in here:
        tensors = filled_up(arrange(shares[d]))
        local = jax.device_put((tensors.blocks, tensors.parents), devices[d])
        pieces.append(local)
    blocks, parents = jax.tree.map(functools.partial(_joined, ours), *pieces)
    return replace(tensors, blocks=blocks, parents=parents, mesh=ours)


def _joined(mesh: Any, *pieces: Any) -> Any:
    """One array over the mesh from the pieces of its axis of groups that lie on this process."""
    import jax
    from jax.sharding import NamedSharding

    shape = list(pieces[0].shape)
    shape[_group_axis(pieces[0])] *= mesh.size
    sharding = NamedSharding(mesh, _of_groups(pieces[0]))
    return jax.make_array_from_single_device_arrays(tuple(shape), sharding, list(pieces))


def _group_axis(leaf: Any) -> int:
    """The axis of blocks or groups: the one before that of the data sets, if there is that."""
    return max(0, leaf.ndim - 2)


def _of_groups(leaf: Any) -> Any:
    from jax.sharding import PartitionSpec

    return PartitionSpec(*[None] * _group_axis(leaf), AXIS)


def over_mesh(function: Callable) -> Callable:
    """Let a function of ``tensors`` run on every device of their mesh, if they have one.

    The function gets the share of the device; what it returns must come out of `Tensors.total`, so
    that it is the same on all of them. Its keyword-only arguments are static.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        static = bound.kwargs
        given = {name: v for name, v in bound.arguments.items() if name in signature.parameters}
        positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
        traced = {n: v for n, v in given.items() if signature.parameters[n].kind is positional}
        whole = traced["tensors"]
        if whole.mesh is None:
            return function(*args, **kwargs)
        traced["tensors"] = replace(whole, blocks=(), parents=())

        def on_device(blocks: Any, parents: Any, traced: dict[str, Any]) -> Any:
            tensors = replace(traced["tensors"], blocks=blocks, parents=parents)
            return function(**{**traced, "tensors": tensors}, **static)

        import jax
        from jax.sharding import PartitionSpec

        divided = whole.blocks, whole.parents
        # JAX's own check that results are replicated does not follow loops that start at constants.
        return jax.shard_map(
            on_device,
            mesh=whole.mesh,
            in_specs=(*jax.tree.map(_of_groups, divided), PartitionSpec()),
            out_specs=PartitionSpec(),
            check_vma=False,
        )(*divided, traced)

    return run


def print_once(tensors: Tensors, template: str, *values: Any) -> None:
    """Print values that are the same on all devices, from inside a program."""
    import jax

    if tensors.mesh is None:
        jax.debug.print(template, *values)
        return
    first = jax.lax.axis_index(AXIS) == 0
    jax.lax.cond(first, lambda: jax.debug.print(template, *values), lambda: None)
