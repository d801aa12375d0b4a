"""One thread for the matrix products of NumPy, while it executes a fit.

What NumPy executes takes milliseconds, in hundreds of products of moderate size. A BLAS that divides
each of them among threads wins little, and on a busy machine waits for the slowest of its threads in
every one: a fit of 0.4 s was seen to take 13. OpenBLAS, which the wheels of NumPy bring along, says
how many threads it uses and can be told; where there is another BLAS nothing is changed.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)
"""What OpenBLAS calls its functions, in NumPy's wheels and elsewhere."""

_lock = threading.Lock()
_inside, _before = 0, 0


@cache
def _functions() -> tuple[Any, Any] | None:
    """The functions that get and set the number of threads; None where there are none."""
    try:
        library = ctypes.CDLL(np.linalg._umath_linalg.__file__)  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None
    for name in NAMES:
        try:
            return getattr(library, name.format("get")), getattr(library, name.format("set"))
        except AttributeError:
            continue
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrix products on one thread inside; on as many as before after the last one has left."""
    global _inside, _before
    functions = _functions()
    if functions is None:
        yield
        return
    get, put = functions
    with _lock:
        if _inside == 0:
            _before = get()
            put(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                put(_before)
