"""A bar that counts what of long work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


@contextmanager
def progress_bar(total: int, progress: bool) -> Iterator[Callable[[int], None]]:
    """What counts data sets that are done: a bar on a terminal, nothing elsewhere."""
    bar = None
    if progress:
        try:
            from tqdm import tqdm  # type: ignore[import-untyped]
        except ImportError:
            tqdm = None
        if tqdm is not None:
            bar = tqdm(total=total, unit="fit", disable=None, leave=False)
    try:
        yield partial(_advance, bar)
    finally:
        if bar is not None:
            bar.close()


def _advance(bar: Any, count: int) -> None:
    if bar is not None:
        bar.update(count)
