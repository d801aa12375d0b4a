"""Values that JAX traces, told apart without importing JAX: a fit of numbers does not need it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np


def is_traced(values: Any) -> bool:
    """Whether an array, or one in a list or mapping of them, is traced."""
    kind = getattr(getattr(sys.modules.get("jax"), "core", None), "Tracer", None)
    return kind is not None and _holds(values, kind)


def _holds(values: Any, kind: type) -> bool:
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        # Of each type once: a long list of plain numbers is no reason to look at every one.
        types = set(map(type, values))
        if not any(issubclass(t, (kind, list, tuple, Mapping)) for t in types):
            return False
        return any(_holds(value, kind) for value in values)
    return isinstance(values, kind)


def namespace(*values: Any) -> Any:
    """``jax.numpy`` where one of the values is traced, numpy otherwise."""
    return sys.modules["jax"].numpy if any(map(is_traced, values)) else np
