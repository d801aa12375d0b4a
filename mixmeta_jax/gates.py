"""What a caller may give: one function per kind of argument.

Each returns the clean value, or raises an `InputError` whose one sentence names the argument and
says what it must be and what it is. Public entries send every argument through one of them before
anything is done with it. Frames are known by their attributes: numbers need no pandas.
"""

from __future__ import annotations

import difflib
import numbers as abstract
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar, get_args

import numpy as np

from mixmeta_jax.arrays import is_traced, traced_namespace
from mixmeta_jax.errors import InputError, shown

Value = TypeVar("Value")

MOST_SEED = 2**64 - 1
"""Largest seed, and number of a data set: the streams of draws have a key of two 64-bit numbers."""

Shape = Sequence[Any]
"""Lengths of the axes: a number, or a letter for any length, equal letters for equal lengths; first
perhaps `...` for any axes before."""


def described(value: object) -> str:
    """What was given, in a few words, whatever it is."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        try:
            return shown(repr(value))
        except ValueError:
            return "a number of thousands of digits"
    kind = "traced array" if is_traced(value) else type(value).__name__
    shape = getattr(value, "shape", None)
    of = f" of shape {shape}" if isinstance(shape, tuple) and kind != "type" else ""
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {shown(kind, 40)}{of}"


def refused(what: str, wanted: str, value: object, hint: str = "") -> InputError:
    """The error on a value of another kind."""
    return InputError(f"{what} must be {wanted}, not {described(value)}{hint}.")


def close_matches(name: object, known: Iterable[object]) -> str:
    """A sentence that suggests the names that are nearly the one given; empty without any."""
    close = difflib.get_close_matches(shown(name), [str(other) for other in known], 3)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def whole(value: Any, what: str, least: int = 0, most: int | None = None, hint: str = "") -> int:
    """A whole number of at least ``least``; Python's, NumPy's or JAX's, but no truth value."""
    try:
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except Exception:  # what an object of the user's own raises
        number = None
    if number is None or number < least:
        raise refused(what, f"a whole number of at least {least}", value, hint)
    if most is not None and number > most:
        raise refused(what, f"a whole number of at most {most:,}", value)
    return number


def seed(value: Any, what: str = "seed") -> int:
    """A seed, or the number of a data set: what fits 64 bits."""
    return whole(value, what, 0, MOST_SEED)


def number(
    value: Any,
    what: str,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    hint: str = "",
) -> float:
    """A finite number above ``above``, of at least ``least``, below ``below``."""
    found = _real(value)
    if found is not None and np.isfinite(found):
        fits = (above is None or found > above) and (least is None or found >= least)
        if fits and (below is None or found < below):
            return found
    bounds = {"above": above, "of at least": least, "below": below}
    words = " and ".join(f"{word} {b:g}" for word, b in bounds.items() if b is not None)
    if above is not None and below is not None:
        words = f"strictly between {above:g} and {below:g}"
    raise refused(what, f"a finite number {words}".rstrip(), value, hint)


def fraction(value: Any, what: str) -> float:
    """A number strictly between 0 and 1."""
    found = _real(value)
    hint = ""
    if found is not None and 1 < found < 100:
        hint = f": write {found / 100:g} for {found:g} percent"
    return number(value, what, above=0, below=1, hint=hint)


def _real(value: Any) -> float | None:
    """A real number as a float; None for anything else."""
    if isinstance(value, (bool, np.bool_)):
        return None
    scalar = isinstance(value, (abstract.Real, Decimal))
    if not scalar:
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        scalar = kind in ("i", "u", "f") and getattr(value, "shape", None) == ()
    try:
        return float(value) if scalar and not is_traced(value) else None
    except (OverflowError, ValueError, TypeError):
        return None


def flag(value: Any, what: str) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise refused(what, "True or False", value)
    return bool(value)


def choice(value: Any, what: str, words: Any) -> Any:
    """One of the words: a collection of them, or a type of `choices`."""
    words = get_args(words) or words
    if not (value is None or isinstance(value, str)) or value not in words:
        hint = close_matches(value, [w for w in words if w]) if isinstance(value, str) else ""
        raise InputError(
            f"{what} must be one of {', '.join(map(repr, words))}, not {described(value)}.{hint}"
        )
    return value


def label(value: Any, what: str, labels: Sequence[Any]) -> Any:
    """One of the labels that data hold, which may be of any type."""
    try:
        return labels[labels.index(value)]
    except Exception as error:  # absent, or what cannot be compared
        raise refused(what, f"one of {shown(list(labels), 120)}", value) from error


def choices(values: Any, what: str, words: Any) -> tuple[str, ...]:
    """One of the words, or several of them."""
    if isinstance(values, str):
        values = (values,)
    return tuple(choice(value, f"an entry of {what}", words) for value in listed(values, what))


def text(value: Any, what: str, wanted: str = "text") -> str:
    """Text, such as a formula; ``wanted`` says of what kind, perhaps by an example."""
    return str(instance(value, str, what, wanted))


def function(value: Any, what: str) -> Callable:
    """What can be called."""
    if not callable(value):
        raise refused(what, "a function", value)
    return value


def instance(value: Any, kind: type[Value], what: str, wanted: str) -> Value:
    """A fit, a design, or another object of ours; ``wanted`` says where it comes from."""
    if not isinstance(value, kind):
        raise refused(what, wanted, value)
    return value


def mapping(value: Any, what: str, wanted: str = "a mapping") -> Mapping:
    """A mapping, such as a dict."""
    if not isinstance(value, Mapping):
        raise refused(what, wanted, value)
    return value


def listed(values: Any, what: str, wanted: str = "a list") -> list:
    """The entries of a list, or of anything else that has an order; not those of text."""
    if isinstance(values, (str, bytes, Mapping, set, frozenset)):
        raise refused(what, wanted, values)
    try:
        return list(values)
    except Exception as error:
        raise refused(what, wanted, values) from error


def column(name: Any, table: Any, where: str, what: str = "the data") -> Any:
    """The name of a column of a frame.

    Parameters
    ----------
    name, table
        What was given, and the frame.
    where, what
        Part of the model that names the column, and what the frame is called, for the sentence.
    """
    try:
        there = name in table.columns
    except Exception:  # what cannot be hashed or compared
        there = False
    if not there:
        if not isinstance(name, str):
            raise refused(where, f"the name of a column of {what}", name)
        hint = close_matches(name, table.columns)
        if any(sign in name for sign in "^*/+("):
            hint += " It is to be the name of a column, not a formula: compute the column first."
        raise InputError(f"There is no column '{shown(name)}' in {what}, named in {where}.{hint}")
    return name


def refuse_traced(arguments: Mapping[str, Any], what: str) -> None:
    """Raise where an argument is traced by JAX, for functions that look at the numbers."""
    for name, value in arguments.items():
        if is_traced(value):
            raise InputError(
                f"{name} is traced by JAX, but {what} looks at its numbers: inside jit, grad or "
                "vmap use mx.make_design and mx.estimate, or call it outside."
            )


def numbers(
    values: Any,
    what: str,
    shape: Shape | None = None,
    missing: bool = False,
    infinite: bool = False,
    truths: bool = False,
) -> Any:
    """An array of real numbers in double precision; traced ones stay JAX's.

    Parameters
    ----------
    values
        An array, a list (of lists), a Series or frame. Text, dates, complex numbers, masked arrays
        and ragged lists are refused, and so is what has no order.
    what
        What the sentence calls it.
    shape
        The shape that it must have, as ``("n", 3)`` or ``(..., "k", "k")``; None for any.
    missing, infinite
        Whether NaN (or None) and infinite values may be among them.
    truths
        Whether True and False count as 1 and 0.
    """
    found = _traced(values, what, truths) if is_traced(values) else _concrete(values, what, truths)
    if shape is not None and not _has_shape(found.shape, shape):
        letters = ", ".join("..." if size is ... else str(size) for size in shape)
        letters += "," * (len(shape) == 1)
        raise InputError(f"{what} has the shape {found.shape}, but must have ({letters}).")
    if not is_traced(found) and not (missing and infinite) and not np.isfinite(found).all():
        _refuse_values(found, values, what, missing, infinite)
    return found


def _has_shape(given: tuple[int, ...], wanted: Shape) -> bool:
    sizes = list(wanted)
    if sizes and sizes[0] is ...:
        sizes = sizes[1:]
        given = given[max(0, len(given) - len(sizes)) :]
    if len(given) != len(sizes):
        return False
    letters: dict[str, int] = {}
    return all(
        letters.setdefault(size, own) == own if isinstance(size, str) else size == own
        for size, own in zip(sizes, given, strict=True)
    )


def _refuse_values(
    found: np.ndarray, values: Any, what: str, missing: bool, infinite: bool
) -> None:
    """Raise at the first value that is not finite and may not be there."""
    bad = (np.isnan(found) & (not missing)) | (np.isinf(found) & (not infinite))
    if bad.any():
        at = tuple(np.argwhere(bad)[0].tolist())
        word = "missing" if np.isnan(found[at]) else "infinite"
        raise InputError(f"{what} is {word}{_place(values, at)}.")


def _place(values: Any, at: tuple[int, ...]) -> str:
    """Where a value stands: by the labels of a frame, or counted from 0."""
    if not at:
        return ""
    row: Any = at[0]
    if hasattr(values, "iloc"):
        row = values.index[row : row + 1].tolist()[0]
    of = [f"row {row!r}"]
    if len(at) == 2:
        name = values.columns[at[1]] if hasattr(values, "columns") else at[1]
        of.append(f"column {name!r}")
    return " in " + ", ".join(of) if len(at) < 3 else f" at the position {at}"


def _traced(values: Any, what: str, truths: bool) -> Any:
    xp = traced_namespace(values)
    try:
        found = xp.asarray(values)
    except Exception as error:
        raise refused(what, "an array of numbers", values) from error
    if found.dtype.kind not in ("iufb" if truths else "iuf"):
        raise InputError(f"{what} must be made of real numbers, not of {found.dtype}.")
    return found.astype(float)


def _concrete(values: Any, what: str, truths: bool) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(
            f"{what} is a masked array, of which the mask would be lost: give what is masked as "
            "NaN, by .filled(np.nan)."
        )
    if hasattr(values, "iloc"):
        return _of_pandas(values, what, truths)
    if isinstance(values, (str, bytes, Mapping, set, frozenset)):
        raise refused(what, "made of numbers", values)
    try:
        array = np.asarray(values)
    except Exception as error:
        ragged = isinstance(values, (list, tuple))
        word = "rows of one length, made of numbers" if ragged else "made of numbers"
        raise refused(what, word, values) from error
    kind = array.dtype.kind
    if kind in "iuf" or (truths and kind == "b"):
        return np.asarray(array, np.float64)
    if kind in "OU" and array.ndim:
        return _of_objects(array, array, what, truths)
    if kind == "O":
        own = _real(array[()])
        if own is not None:
            return np.asarray(own)
        raise refused(what, "made of numbers", values)
    raise InputError(f"{what} must be made of real numbers, not of {_kind(array.dtype)}.")


def _kind(dtype: Any) -> str:
    words = {"b": "truth values", "c": "complex numbers", "M": "dates", "m": "durations"}
    return words.get(dtype.kind, str(dtype))


def _of_pandas(values: Any, what: str, truths: bool) -> np.ndarray:
    """The numbers of a Series, an index or a frame."""
    if hasattr(values, "columns"):
        columns = [values.iloc[:, j] for j in range(values.shape[1])]
        names = [f"{what} (column {name!r})" for name in values.columns]
        own = [_of_pandas(c, name, truths) for c, name in zip(columns, names, strict=True)]
        return np.column_stack(own) if own else np.empty((len(values), 0))
    kind = values.dtype.kind
    if kind in "iuf" or (kind == "b" and truths):
        if isinstance(values.dtype, np.dtype):
            return values.to_numpy(np.float64)
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    if kind in "bcmM" or str(values.dtype).startswith(("period", "interval")):
        raise InputError(
            f"{what} must be made of real numbers, not of {_kind(values.dtype)} (first in row "
            f"{values.index[:1].tolist()})."
        )
    return _of_objects(values.astype(object).to_numpy(), values, what, truths)


PLAIN = {float, int, type(None), np.float64, np.float32, np.int64, np.int32}
"""Types of numbers that NumPy takes from objects by itself, None as NaN."""


def _of_objects(array: np.ndarray, values: Any, what: str, truths: bool) -> np.ndarray:
    """Numbers held as objects, one by one; None and pandas' NA are missing."""
    flat = array.ravel().tolist() if array.dtype.kind == "O" else array.ravel()
    if set(map(type, flat)) <= PLAIN:
        try:
            return array.astype(np.float64)
        except OverflowError:
            pass  # told below, with its place
    found = np.empty(len(flat))
    wrong = []
    for i, value in enumerate(flat):
        own = _real(value)
        if own is None and (value is None or type(value).__name__ == "NAType"):
            own = np.nan
        if own is None and truths and isinstance(value, (bool, np.bool_)):
            own = float(value)
        if own is None:
            wrong.append(i)
        found[i] = np.nan if own is None else own
    if wrong:
        # Where numbers are held as text, the one that is none made them so.
        i = next((i for i in wrong if not _reads_as_number(flat[i])), wrong[0])
        at = tuple(int(part) for part in np.unravel_index(i, array.shape))
        huge = isinstance(flat[i], int) and not isinstance(flat[i], bool)
        word = "is too large" if huge else "is not a number"
        where = _place(values, at)
        raise InputError(f"{what} holds {described(flat[i])}{where}, which {word}.")
    return found.reshape(array.shape)


def _reads_as_number(value: Any) -> bool:
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False
