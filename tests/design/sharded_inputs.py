"""Fits of arrays that lie on several devices, as a script: prints what they give as JSON."""

import json
from dataclasses import replace

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import mixmeta_jax as mx
from mixmeta_jax.design.sharding import mesh_of
from mixmeta_jax.estimation import executors


def data():
    """Outcomes and error variances of 24 studies."""
    rng = np.random.default_rng(3)
    return rng.normal(size=24), rng.uniform(0.1, 0.4, 24)


def main():
    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((2, 2), ("one", "two"))
    divided = NamedSharding(mesh, PartitionSpec(("one", "two")))
    whole = NamedSharding(mesh, PartitionSpec())
    y, v = data()
    placed, meshes = executors.placed, []

    def seen(design, mesh):
        meshes.append(mesh)
        return placed(design, mesh)

    executors.placed = seen
    there = jax.device_put(y, divided)
    fit = mx.mixmeta(there, S=v, control={"backend": "jax"})
    design = mx.make_design(y, S=v)
    own = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Auto,))
    divided = NamedSharding(own, PartitionSpec("rows"))
    moved = replace(
        design,
        y=jax.device_put(design.y, divided),
        X=jax.device_put(design.X, divided),
        S=jax.device_put(design.S, divided),
    )
    estimate = jax.jit(mx.estimate)(moved)
    drawn = []
    for device in jax.devices()[::3]:
        with jax.default_device(device):
            one = mx.mixmeta_sim(y, v, [[0.3]], nsim=3, seed=4, generator="jax")
        drawn.append(one.ravel().tolist())
    told = {
        "meshes": [None if own is None else own.devices.size for own in meshes],
        "whole": mesh_of(jax.device_put(y, whole)) is None,
        "several": mesh_of(y, there, "text").devices.size,
        "axes": list(mesh_of(there).axis_names),
        "mixmeta": [fit.loglik, *fit.coef],
        "drawn": drawn,
        "estimate": [float(estimate.loglik), *estimate.beta.tolist()],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
