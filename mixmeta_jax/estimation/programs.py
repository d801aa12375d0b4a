"""Compiled programs, a bounded number of them.

Every compiled program holds a few memory maps per piece of machine code, of which Linux allows a
process 65,530; beyond, LLVM ends it without an exception. So the programs are kept here, by what
they were compiled for, and the least recently used is let go: the user's own programs are not ours
to clear.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mixmeta_jax.arrays import is_jax, register_trees
from mixmeta_jax.estimation.transfer import OneVector, in_one_vector

MOST_PROGRAMS = 96
"""Programs that are kept."""

MOST_MAPS = 40_000
"""Memory maps of the process above which programs are let go before another is compiled."""

MAPS = Path("/proc/self/maps")


class Programs:
    """Compiled programs by function, constants, and the shapes and devices of the arguments.

    All are made and run in double precision: see `executors`.
    """

    def __init__(self, most: int = MOST_PROGRAMS) -> None:
        self.most = most
        self.compiled = 0
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Let all of them go."""
        with self._lock:
            self._kept.clear()

    def key(self, function: Callable, args: tuple, static: dict[str, Any]) -> Any:
        """What a program is kept by."""
        import jax

        register_trees()
        leaves, tree = jax.tree_util.tree_flatten(args)
        shapes = tuple(map(_described, leaves))
        return function, tuple(sorted(static.items())), tree, shapes

    def holds(self, function: Callable, args: tuple, static: dict[str, Any]) -> bool:
        """Whether the program for these arguments is there."""
        return self.key(function, args, static) in self._kept

    def __call__(self, function: Callable, *args: Any, **static: Any) -> Any:
        """``function(*args, **static)``, compiled; its arrays come back as numpy's floats."""
        key = self.key(function, args, static)
        with self._lock:  # of several threads one compiles
            program = self._kept.get(key)
            if program is None:
                program = self._kept[key] = self._compile(function, args, static)
                while len(self._kept) > self.most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
        found = program(*args)
        if isinstance(found, OneVector):
            return found.fetched()
        import jax

        return jax.device_get(found)

    def _compile(self, function: Callable, args: tuple, static: dict[str, Any]) -> Any:
        self.compiled += 1
        if _maps() > MOST_MAPS:
            for _ in range((len(self._kept) + 1) // 2):
                self._kept.popitem(last=False)
        return self._made(function, args, static)

    def _made(self, function: Callable, args: tuple, static: dict[str, Any]) -> Any:
        import jax

        def packed(*args: Any) -> Any:
            return in_one_vector(functools.partial(function, **static)(*args))

        return jax.jit(packed).lower(*args).compile()


def _described(leaf: Any) -> tuple:
    if type(leaf) is np.ndarray:
        return leaf.shape, leaf.dtype.num
    if is_jax(leaf):
        return leaf.shape, leaf.dtype, leaf.sharding
    array = np.asarray(leaf)
    return array.shape, array.dtype, type(leaf) in (bool, int, float)


def _maps() -> int:
    try:
        return MAPS.read_bytes().count(b"\n")
    except OSError:
        return 0


PROGRAMS = Programs()
"""Those of this process."""
