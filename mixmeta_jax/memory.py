"""How much memory a result takes, told before it is built."""

from __future__ import annotations

import os
from typing import Any

from mixmeta_jax.errors import InputError

USUAL_MEMORY = 2**36
"""Bytes of memory that are reckoned with where the system does not tell."""


def memory() -> int:
    """Bytes of memory that the machine has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return USUAL_MEMORY


def room(device: Any = None) -> int:
    """Bytes that are free on a device of JAX; the machine's where it does not tell, as a CPU."""
    try:
        told = device.memory_stats() or {}
        return max(0, int(told["bytes_limit"]) - int(told.get("bytes_in_use", 0)))
    except Exception:  # each kind of device says in a way of its own that it does not tell
        return memory()


def refuse_size(count: int, what: str) -> None:
    """Raise where a result of so many numbers would not fit into memory.

    Parameters
    ----------
    count
        Numbers of eight bytes each, as an exact whole number.
    what
        What asks for them, as ``"nsim=10"``.
    """
    if 8 * count > memory():
        raise InputError(
            f"{what} asks for {_amount(count)} numbers, {_amount(8 * count // 10**9)} GB, and the "
            f"machine has {memory() / 1e9:.0f} GB: ask for less at a time."
        )


def _amount(count: int) -> str:
    digits = round(0.30103 * count.bit_length())
    return f"{count:,}" if digits < 15 else f"about 10**{digits}"
