"""Columns of a data frame, as numbers or judged as they stand: missing, infinite, not there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown

NUMBER_KINDS = ("integer", "floating", "mixed-integer-float", "decimal")
"""What pandas infers of an object column that holds numbers."""


def row_label(index: pd.Index, position: int) -> Any:
    """The label of a row as a plain Python value, which is how a user reads it."""
    return index[position : position + 1].tolist()[0]


def existing_columns(
    names: Iterable[str], data: pd.DataFrame, where: str, what: str = "the data"
) -> list[str]:
    """The names, each checked to be a column of the data.

    Parameters
    ----------
    names, data
        Columns, and the frame that is to hold them.
    where, what
        Part of the model that names the columns, and what the frame is called, for the sentence.
    """
    return [gates.column(name, data, where, what) for name in names]


def numeric(values: pd.Series, what: str, finite: bool = True, truths: bool = True) -> np.ndarray:
    """A column as floats, NaN where missing.

    Parameters
    ----------
    values
        Column of any type that holds numbers.
    what
        How the sentence calls it.
    finite
        Whether an infinite value is an error.
    truths
        Whether True and False count as 1 and 0.
    """
    if _holds_numbers(values):
        numbers = values.to_numpy(float)
        if not finite or not np.isinf(numbers).any():
            return numbers
    return gates.numbers(values, f"The {what}", missing=True, infinite=not finite, truths=truths)


def _holds_numbers(column: pd.Series) -> bool:
    """Whether a column is of a numeric type of numpy, of which nothing has to be inferred."""
    return isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf"


def refuse_twice_named(roles: Mapping[str, Any]) -> None:
    """Raise where one column is given for two things, such as events and people."""
    given = list(roles.items())
    for i, (role, name) in enumerate(given):
        for other, same in given[:i]:
            if name == same:
                raise InputError(
                    f"{other} and {role} are both column '{shown(name)}': each needs its own."
                )


def is_label(value: Any) -> bool:
    """Whether a value can name a group or a result: it can be told from others, and printed."""
    try:
        hash(value)
        repr(value).encode("utf-8")
        f"{value}".encode()
    except Exception:  # what an object of the user's own raises too
        return False
    return True


def label_codes(data: pd.DataFrame, name: str) -> tuple[np.ndarray, list[Any]]:
    """The groups that a column of labels makes, shape (n,), −1 where missing; and their labels.

    Raises
    ------
    InputError
        For labels that cannot be told apart, as lists and dicts, or not be printed.
    """
    column = data[name]
    try:
        codes, found = pd.factorize(column)
        labels = found.tolist()
    except Exception as error:  # of pandas, or of an object of the user's own
        raise _no_label(column, column.tolist(), name) from error
    plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufb"
    if not plain and not all(map(is_label, labels)):
        raise _no_label(column, column.tolist(), name)
    return codes, labels


def _no_label(column: pd.Series, values: list[Any], name: str) -> InputError:
    """The error on the first value of a column that is no label."""
    place = next((i for i, value in enumerate(values) if not is_label(value)), 0)
    return InputError(
        f"The column '{shown(name)}' holds {gates.described(values[place])} in row "
        f"{shown(row_label(column.index, place))}, which is no label: use text, numbers or tuples."
    )


def refuse_reordered(values: Any, index: pd.Index, what: str) -> None:
    """Raise where a Series or frame holds the rows of the data in another order.

    Values beside the data are read by position; whoever gives them the labels of the data in
    another order may have meant the labels.
    """
    own = values.index if isinstance(values, (pd.Series, pd.DataFrame)) else index
    if len(own) != len(index) or own.equals(index):
        return
    if index.is_unique and own.is_unique and own.isin(index).all():
        raise InputError(
            f"The index of {what} holds the rows of the data in another order, but {what} is read "
            "by position: bring it into the order of the data with .loc[data.index]."
        )


def is_numeric(column: pd.Series) -> bool:
    """Whether a column holds numbers, be it as objects; truth values do not count."""
    if _holds_numbers(column):
        return True
    if _is_boolean(column):
        return False
    if column.dtype == object:
        kind = pd.api.types.infer_dtype(column, skipna=True)
        # Fractions, and numbers of several types, are "mixed" to pandas.
        return kind in NUMBER_KINDS or (kind.startswith("mixed") and _all_real(column))
    return pd.api.types.is_numeric_dtype(column)


def _all_real(column: pd.Series) -> bool:
    """Whether an object column holds real numbers and nothing else, but for what is missing."""
    kinds = set(map(type, column)) - {type(None), type(pd.NA), type(pd.NaT)}
    return bool(kinds) and all(issubclass(kind, (Real, Decimal)) for kind in kinds - {bool})


def _is_boolean(column: pd.Series) -> bool:
    if column.dtype == object:
        return pd.api.types.infer_dtype(column, skipna=True) == "boolean"
    return pd.api.types.is_bool_dtype(column)


def missing_rows(data: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Which rows miss any of the columns, shape (n,)."""
    missing = np.zeros(len(data), bool)
    for name in columns:
        column = data[name]
        if _holds_numbers(column):
            missing |= np.isnan(column.to_numpy())
            continue
        try:
            missing |= column.isna().to_numpy()
        except Exception as error:  # of what cannot be compared with itself
            raise _no_label(column, column.tolist(), name) from error
        if isinstance(column.dtype, pd.api.extensions.ExtensionDtype) and is_numeric(column):
            # A nullable column may hold NaN beside its own missing value.
            missing |= np.isnan(column.to_numpy(dtype=float, na_value=np.nan))
    return missing


def refuse_infinite(data: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise where a numeric column is infinite, naming it and the row."""
    for name in columns:
        column = data[name]
        if is_numeric(column):
            numeric(column, f"column '{name}'")


def are_plain(
    data: pd.DataFrame, columns: Sequence[str], categories: Collection[str | None]
) -> bool:
    """Whether `plain_columns` would change nothing, as far as that is seen by types alone."""
    for name in columns:
        dtype = data[name].dtype
        if dtype != np.float64 and not (name in categories and dtype == np.int64):
            return False
    return True


def plain_columns(
    data: pd.DataFrame, columns: Sequence[str], categories: Collection[str | None]
) -> pd.DataFrame:
    """Complete columns of numpy types, and only categories that occur.

    Numbers become floats, since powers of integers overflow; those that a formula uses as
    ``categories`` stay whole, so that the category 2 is not called 2.0.

    Raises
    ------
    InputError
        For dates, which have no scale of their own, and categories that are no labels.
    """
    plain: dict[str, pd.Series | np.ndarray] = {}
    for name in columns:
        column = data[name]
        if name in categories and pd.api.types.is_integer_dtype(column):
            plain[name] = column.to_numpy(np.int64)
        elif is_numeric(column):
            plain[name] = numeric(column, f"column '{name}'")
        elif isinstance(column.dtype, pd.CategoricalDtype):
            plain[name] = column.cat.remove_unused_categories()
        elif _is_boolean(column):
            plain[name] = column.astype(bool)
        elif column.dtype.kind in "mM" or isinstance(column.dtype, pd.PeriodDtype):
            raise InputError(
                f"The column '{name}' holds dates: turn them into numbers (such as years) first."
            )
        else:
            label_codes(data, name)
            plain[name] = column.astype(object)
    return pd.DataFrame(plain, index=data.index)
