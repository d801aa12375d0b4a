"""What a benchmark ran on, for the heading of its table, and what it wrote."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import Any


def device() -> str:
    """The device that JAX computes on by default, how many there are, and JAX's version."""
    import jax

    first, count = jax.local_devices()[0], jax.local_device_count()
    many = f"{count} x " if count > 1 else ""
    name = first.device_kind if first.platform != "cpu" else f"CPU, {platform.machine()}"
    return f"{many}{name}, {os.cpu_count()} cores; JAX {jax.__version__}"


def peaks() -> tuple[float, float | None]:
    """Peak memory so far in gigabytes: of the process, and of the device where it tells."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    import jax

    told: dict[str, Any] = jax.local_devices()[0].memory_stats() or {}
    used = told.get("peak_bytes_in_use")
    return host, None if used is None else used / 2**30


def memory(host: float, used: float | None) -> str:
    """Peaks in words."""
    return f"{host:.2f} GB" if used is None else f"{host:.2f} GB, {used:.2f} GB of the device"


def written(lines: list[str], out: Path | None) -> None:
    """Keep the lines of a table in a file, if there is one."""
    if out is not None:
        out.write_text("\n".join(lines) + "\n")
