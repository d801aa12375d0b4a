"""Processes that were forked after JAX had run: its threads are gone, and calls of it hang."""

from __future__ import annotations

import os
import sys

from mixmeta_jax.errors import MixmetaError

_lost = False


def is_lost() -> bool:
    """Whether JAX cannot run in this process, since it had run in the one that forked it."""
    return _lost


def refuse_lost(what: str) -> None:
    """Raise where JAX cannot run in this process; ``what`` says what needs it."""
    if _lost:
        raise MixmetaError(
            f"{what} needs JAX, which hangs in a process that was forked after JAX had run: start "
            "processes by multiprocessing.get_context('spawn'), fork before the first use of JAX, "
            "or fit with control={'backend': 'numpy'}."
        )


def _forked() -> None:
    """In the new process: whether JAX had started its threads before."""
    global _lost
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is not None:
        # A version of JAX that does not tell is taken to have run.
        _lost = getattr(bridge, "backends_are_initialized", lambda: True)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
