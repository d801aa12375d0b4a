"""Shapes in annotations, checked at run time by jaxtyping and beartype.

A function is checked at its first call with arrays of these shapes: a test that fits a thousand
times pays once. Without the two packages, as with the lowest versions, the tests run unchecked.
"""

import functools

import mixmeta_jax.arrays as arrays

try:
    import jaxtyping
    from beartype import beartype
except ImportError:
    jaxtyping = None


def kind(value):
    """What of an argument decides whether it was seen before."""
    if isinstance(value, tuple | list):
        return (type(value), *map(kind, value))
    shape = getattr(value, "shape", None)
    return (type(value), shape, value.dtype) if isinstance(shape, tuple) else type(value)


def shaped(function):
    checked = jaxtyping.jaxtyped(function, typechecker=beartype)
    seen = set()

    @functools.wraps(function)
    def once_per_shape(*args, **kwargs):
        key = kind(args), kind(list(kwargs.values()))
        if key in seen:
            return function(*args, **kwargs)
        found = checked(*args, **kwargs)
        seen.add(key)
        return found

    return once_per_shape


def check():
    """Have every module that is imported from now on checked."""
    if jaxtyping is not None:
        arrays.Float, arrays.shaped = jaxtyping.Float, shaped
