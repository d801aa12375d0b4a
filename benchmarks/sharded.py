"""Fits divided among devices and processes: the same numbers, and the time they take.

The devices are pieces of one CPU, whose cores one device uses all: no gain is to be expected here,
and the table says what the division costs. With GPUs, ``--here`` times one fit over all devices of
this process against one of them.

    python benchmarks/sharded.py [--here]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
from single_fits import multivariate, two_levels

import mixmeta_jax as mx

CASES = {
    "100,000 x 4": lambda: multivariate(100_000, 4),
    "two levels, 200,000 rows": lambda: two_levels(200_000, 20_000),
}

SETTINGS = {
    "no mesh": (1, 1),
    "1 device": (1, 1),
    "2 devices": (2, 1),
    "4 devices": (4, 1),
    "2 processes": (1, 2),
}
"""Devices of each process, and processes."""


def measure(mesh: jax.sharding.Mesh | None) -> dict[str, Any]:
    told = {}
    for name, build in CASES.items():
        arguments, times = build(), []
        for _ in range(3):
            start = time.perf_counter()
            # A mesh is compiled: so is what it is compared with.
            fit = mx.mixmeta(**arguments, control={"mesh": mesh, "backend": "jax"})
            times.append(time.perf_counter() - start)
        told[name] = {
            "first": times[0],
            "run": min(times[1:]),
            "figures": [*fit.coef, *np.ravel(fit.vcov), *np.ravel(fit.Psi_by_level), fit.loglik],
        }
    return told


def over_all() -> jax.sharding.Mesh:
    return jax.make_mesh((jax.device_count(),), ("groups",))


def spread(setting: str) -> dict[str, Any]:
    """What the first process of a setting measures."""
    devices, count = SETTINGS[setting]
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--one", setting, str(port), str(process)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for process in range(count)
    ]
    printed = [process.communicate()[0] for process in started]
    return json.loads(printed[0].splitlines()[-1])


def report(setting: str, told: dict[str, Any], reference: dict[str, Any]) -> None:
    for name, row in told.items():
        figures, expected = np.array(row["figures"]), np.array(reference[name]["figures"])
        off = (np.abs(figures - expected) / np.maximum(1, np.abs(expected))).max()
        print(
            f"| {name} | {setting} | {row['first']:.1f} s | {row['run']:.2f} s | "
            f"{row['run'] / reference[name]['run']:.2f} | {off:.0e} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--here", action="store_true", help="the devices of this process")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        setting, port, process = options.one
        if SETTINGS[setting][1] > 1:
            jax.distributed.initialize(f"127.0.0.1:{port}", SETTINGS[setting][1], int(process))
        print(json.dumps(measure(None if setting == "no mesh" else over_all())))
        return
    print("| case | setting | first fit | compiled | relative to no mesh | largest difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    reference = measure(None) if options.here else spread("no mesh")
    report("no mesh", reference, reference)
    if options.here:
        report(
            f"{jax.device_count()} x {jax.devices()[0].device_kind}", measure(over_all()), reference
        )
        return
    for setting in list(SETTINGS)[1:]:
        report(setting, spread(setting), reference)


if __name__ == "__main__":
    main()
