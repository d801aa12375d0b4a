"""One thread for the matrix products of NumPy, while it executes a fit.

What NumPy executes takes milliseconds, in hundreds of products of moderate size. A BLAS that
divides each of them among threads wins little, and on a busy machine waits for the slowest of its
threads in every one: a fit of 0.4 s was seen to take 13. OpenBLAS, which the wheels of NumPy and
SciPy bring along, says how many threads it uses and can be told; where there is another BLAS
nothing is changed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from scipy import linalg

THREAD_SETTERS = tuple(
    f"{prefix}openblas_{{}}_num_threads{suffix}"
    for prefix in ("scipy_", "")
    for suffix in ("64_", "")
)
"""What OpenBLAS calls its functions, in NumPy's wheels and elsewhere."""

_threads_lock = threading.Lock()
_inside = 0
_before: tuple[int, ...] = ()


def _forget() -> None:
    """In a forked process no other thread is inside."""
    global _threads_lock, _inside
    _threads_lock = threading.Lock()
    if _inside:
        _inside = 0
        _put(_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@cache
def _functions() -> tuple[tuple[Any, Any], ...]:
    """What gets and what sets the number of threads, in the libraries of NumPy and of SciPy."""
    found = []
    for module in (np.linalg._umath_linalg, linalg._fblas):
        try:
            library = ctypes.CDLL(module.__file__)
        except OSError:
            continue
        for name in THREAD_SETTERS:
            get, put = (getattr(library, name.format(verb), None) for verb in ("get", "set"))
            if get is not None and put is not None:
                found.append((get, put))
                break
    return tuple(found)


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrix products on one thread inside; on as many as before when the last one has left."""
    global _inside, _before
    with _threads_lock:
        if _inside == 0:
            _before = tuple(get() for get, _ in _functions())
            _put((1,) * len(_before))
        _inside += 1
    try:
        yield
    finally:
        with _threads_lock:
            _inside -= 1
            if _inside == 0:
                _put(_before)


def _put(threads: tuple[int, ...]) -> None:
    for (_, put), count in zip(_functions(), threads, strict=True):
        put(count)
