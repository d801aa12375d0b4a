"""The arrays that the mathematics is written for: NumPy's, computed at once, or JAX's, traced.

One source, two executors: the likelihood, its derivatives and Newton's method call the functions
that both namespaces have. What differs between them (loops, sums by group, rules of derivatives,
trees) is here and nowhere else. JAX is not imported unless it is used: a small fit needs none of
it, and its import takes as long as twenty such fits.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

Array = Any
"""An array of numpy or of JAX."""

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable)

if TYPE_CHECKING:
    from typing import Annotated as Float
else:
    Float = None
"""Of a type and a shape: ``Float[Array, "d d B"]``, of which the tests make jaxtyping's."""


def shaped(function: Function) -> Function:
    """Mark a function whose shapes are in its annotations: the tests check them, nothing else."""
    return function


MOST_AXES = 64
"""Lists within lists: NumPy has no more axes, and a list that holds itself is no array."""

_classes: list[Callable[[], None]] = []
_trees_registered = False
_trees_lock = threading.RLock()


def namespace(*arrays: Any) -> ModuleType:
    """``jax.numpy`` where an array is JAX's, traced or not; numpy otherwise."""
    # Numpy's own first: to ask whether something is JAX's takes longer.
    for array in arrays:
        if type(array) is not np.ndarray and is_jax(array):
            import jax.numpy

            return jax.numpy
    return np


def is_jax(value: Any) -> bool:
    """Whether a value is an array of JAX, traced or not."""
    # While another thread imports JAX, the module is there without its names: and without arrays.
    kind = getattr(sys.modules.get("jax"), "Array", None)
    return kind is not None and isinstance(value, kind)


def is_traced(values: Any) -> bool:
    """Whether an array, or one in a list or mapping, stands for one inside a transformation."""
    kind = getattr(getattr(sys.modules.get("jax"), "core", None), "Tracer", None)
    return kind is not None and _holds(values, kind)


def _holds(values: Any, kind: type, depth: int = 0) -> bool:
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        # Of each type once: a long list of plain numbers is no reason to look at every one.
        types = set(map(type, values))
        if depth > MOST_AXES or not any(issubclass(t, (kind, list, tuple, Mapping)) for t in types):
            return False
        return any(_holds(value, kind, depth + 1) for value in values)
    return isinstance(values, kind)


def traced_namespace(*values: Any) -> ModuleType:
    """``jax.numpy`` where one of the values is traced, numpy otherwise."""
    return sys.modules["jax"].numpy if any(map(is_traced, values)) else np


# Trees


def tree(cls: type[T]) -> type[T]:
    """Let a frozen dataclass be a tree of its fields, ``metadata={"static": True}`` for constants.

    JAX knows the class from `register_trees` on.
    """

    def register() -> None:
        import jax

        jax.tree_util.register_dataclass(cls)

    _announce(register)
    return cls


def tree_of(cls: type, flatten: Callable, unflatten: Callable) -> None:
    """The same for a class with functions of its own; see ``jax.tree_util``."""

    def register() -> None:
        import jax

        jax.tree_util.register_pytree_node(cls, flatten, unflatten)

    _announce(register)


def _announce(register: Callable[[], None]) -> None:
    _classes.append(register)
    if _trees_registered:
        register_trees()


def register_trees() -> None:
    """Make the classes above trees of JAX; every module of ours that imports JAX asks for it."""
    global _trees_registered
    with _trees_lock:
        _trees_registered = True
        while _classes:
            _classes.pop()()


def mapped(function: Callable, first: Any, *rest: Any) -> Any:
    """A function of the arrays at each place of trees of dataclasses, tuples and lists."""
    if first is None:
        return None
    if isinstance(first, (tuple, list)):
        return type(first)(mapped(function, *own) for own in zip(first, *rest, strict=True))
    names = _branches(type(first))  # type: ignore[arg-type]
    if names is None:
        return function(first, *rest)
    # As `dataclasses.replace`, which takes several times as long.
    made = object.__new__(type(first))
    vars(made).update(vars(first))
    for name in names:
        own = (getattr(each, name) for each in (first, *rest))
        vars(made)[name] = mapped(function, *own)
    return made


@functools.cache
def _branches(cls: type) -> tuple[str, ...] | None:
    """The fields of a dataclass that hold arrays, or None for a leaf."""
    if not dataclasses.is_dataclass(cls):
        return None
    fields = dataclasses.fields(cls)
    return tuple(field.name for field in fields if not field.metadata.get("static"))


# Loops


def while_loop(xp: ModuleType, go_on: Callable, body: Callable, state: Any) -> Any:
    """Repeat ``body`` as long as ``go_on`` holds of the state."""
    if xp is not np:
        import jax

        return jax.lax.while_loop(go_on, body, state)
    while go_on(state):
        state = body(state)
    return state


def fori_loop(xp: ModuleType, n: int, body: Callable, state: Any) -> Any:
    """Repeat ``body(i, state)`` for i = 0, ..., n − 1."""
    if xp is not np:
        import jax

        return jax.lax.fori_loop(0, n, body, state)
    for i in range(n):
        state = body(i, state)
    return state


def cond(xp: ModuleType, which: Any, one: Callable, other: Callable, *args: Any) -> Any:
    """``one(*args)`` or ``other(*args)``, of which only that is computed."""
    if xp is np:
        return one(*args) if which else other(*args)
    import jax

    return jax.lax.cond(which, one, other, *args)


def scan(xp: ModuleType, body: Callable, state: Any, n: int, given: Any) -> tuple[Any, Any]:
    """``state, kept = body(state, i, given[i])`` for i = 0, ..., n − 1, what is kept stacked."""
    if xp is not np:
        import jax

        def step(state: Any, piece: Any) -> Any:
            return body(state, *piece)

        return jax.lax.scan(step, state, (xp.arange(n), given))
    kept = []
    for i in range(n):
        state, more = body(state, i, mapped(lambda leaf, i=i: leaf[i], given))
        kept.append(more)
    return state, mapped(lambda *leaves: np.stack(leaves), *kept)


def constant(value: Any) -> Any:
    """A value through which nothing is differentiated."""
    if namespace(value) is np:
        return value
    import jax

    return jax.lax.stop_gradient(value)


def once(values: Any, like: Array) -> Any:
    """The values, computed once: XLA would repeat them in every sum that reads them."""
    if not is_jax(like):
        return values
    import jax

    return jax.lax.optimization_barrier(values)


# Indices and shapes


def widened(values: Array, shape: tuple[int, ...]) -> Array:
    """The values broadcast to a shape; as they are where they have it, which is quicker to see."""
    return values if values.shape == shape else namespace(values).broadcast_to(values, shape)


def with_rows(values: Array, index: Any, rows: Array) -> Array:
    """A copy with the rows at an index replaced."""
    if namespace(values, rows) is not np:
        import jax.numpy

        return jax.numpy.asarray(values).at[index].set(rows)
    values = values.copy()
    values[index] = rows
    return values


# What surrounds a trace


@contextmanager
def our_arithmetic() -> Iterator[None]:
    """Products at full precision, and NumPy's promotions, while JAX traces a function of ours.

    What users forbid to programs of their own (``jax_numpy_rank_promotion="raise"``,
    ``jax_numpy_dtype_promotion="strict"``) ours may do.
    """
    import jax

    with (
        jax.default_matmul_precision("highest"),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def traced_as_ours(function: Function) -> Function:
    """The function under `our_arithmetic`: of the functional core, and rules, traced when asked."""

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with our_arithmetic():
            return function(*args, **kwargs)

    return cast(Function, traced)


# Rules of derivatives


class Ruled:
    """A function with a rule for its derivatives, which JAX learns when it first meets it."""

    def __init__(self, function: Callable) -> None:
        self._function = function
        self._rule: Any = None
        self._symbolic = False
        self._traced: Callable | None = None
        functools.update_wrapper(self, function)

    def defjvp(self, rule: Callable, symbolic_zeros: bool = False) -> Callable:
        """State the rule, as for ``jax.custom_jvp``."""
        self._rule, self._symbolic = rule, symbolic_zeros
        return rule

    def __call__(self, *args: Any) -> Any:
        if not any(map(_has_jax, args)):
            return self._function(*args)
        if self._traced is None:
            import jax

            register_trees()
            self._traced = jax.custom_jvp(traced_as_ours(self._function))
            self._traced.defjvp(traced_as_ours(self._rule), symbolic_zeros=self._symbolic)
        return self._traced(*args)


def _has_jax(value: Any) -> bool:
    if isinstance(value, np.ndarray) or value is None:
        return False
    if isinstance(value, (tuple, list)):
        return any(map(_has_jax, value))
    if dataclasses.is_dataclass(value):
        return any(_has_jax(own) for own in vars(value).values())
    return is_jax(value)
