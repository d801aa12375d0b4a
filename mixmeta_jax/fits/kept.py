"""What a fit keeps of its arguments: as they were, whatever is done to them afterwards."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from mixmeta_jax.control import Control

COPIES_ON_WRITE = int(pd.__version__.partition(".")[0]) >= 3
"""Whether a shallow copy of a frame stays as it is when the frame is written to."""

MOST_DEEP = 4
"""Lists within lists that are copied: matrices of groups by level have three."""

Part = TypeVar("Part")

IMMUTABLE = (str, int, float, bool)
"""What nobody can write to, and most arguments are."""

CONTAINERS = (list, tuple, Mapping, np.ndarray, pd.Series, pd.DataFrame)


def kept_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `mixmeta`, frames and arrays among them copied."""
    return {name: _kept(value) for name, value in arguments.items()}


def _kept(value: Any, depth: int = 0) -> Any:
    if value is None or type(value) in IMMUTABLE:
        return value
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return value.copy(deep=not COPIES_ON_WRITE)
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Control):
        return dataclasses.replace(value, start=_kept(value.start))
    if depth == MOST_DEEP:
        return value
    if isinstance(value, Mapping):
        return {key: _kept(own, depth + 1) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        kind = tuple if isinstance(value, tuple) else list
        # Of each type once: long lists of plain numbers hold nothing that could be written to.
        if any(issubclass(held, CONTAINERS) for held in set(map(type, value))):
            return kind(_kept(own, depth + 1) for own in value)
        return kind(value)
    return value


def with_later_columns(own: Any, given: Any) -> Any:
    """The data of a fit, with the columns that their rows have been given since."""
    if not isinstance(own, pd.DataFrame) or not isinstance(given, pd.DataFrame):
        return own
    later = [name for name in given.columns if name not in own.columns]
    if not later or not given.index.equals(own.index):
        return own
    return pd.concat([own, given[later]], axis=1)


class GivesCopies:
    """A result whose frames and mappings are the caller's own: every look at one is at a copy."""

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if isinstance(value, (pd.DataFrame, pd.Series)):
            return value.copy()
        return dict(value) if isinstance(value, dict) and not name.startswith("_") else value


def frozen(part: Part) -> Part:
    """The part, its arrays and those in our own dataclasses read-only: no result is written to."""
    if isinstance(part, np.ndarray):
        part.flags.writeable = False
    elif isinstance(part, dict):
        frozen(list(part.values()))
    elif isinstance(part, (list, tuple)):
        for own in part:
            if type(own) not in IMMUTABLE:
                frozen(own)
    else:
        kind: Any = type(part)
        for name in _own_fields(kind):
            frozen(getattr(part, name))
    return part


@functools.cache
def _own_fields(kind: type) -> tuple[str, ...]:
    """The fields of one of our dataclasses; none of any other type."""
    if dataclasses.is_dataclass(kind) and kind.__module__.startswith("mixmeta_jax."):
        return tuple(field.name for field in dataclasses.fields(kind))
    return ()
