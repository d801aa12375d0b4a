"""Ctrl-C in long work: it is heard even where Python loses it.

Python raises KeyboardInterrupt between two bytecodes of the main thread. If these belong to a
callback of the garbage collector (JAX has one, and collections are many) it is printed and dropped.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_pressed = threading.Event()


def _press(number: int, frame: FrameType | None) -> None:
    _pressed.set()
    raise KeyboardInterrupt


@contextmanager
def listening() -> Iterator[None]:
    """Remember Ctrl-C inside, for `heed`; where somebody else handles it, or in a thread, not."""
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return
    _pressed.clear()
    signal.signal(signal.SIGINT, _press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _pressed.clear()


def heed() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed, and lost, since the work began."""
    if _pressed.is_set() and threading.current_thread() is threading.main_thread():
        _pressed.clear()
        raise KeyboardInterrupt
