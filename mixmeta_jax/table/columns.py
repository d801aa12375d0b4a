"""Columns of a data frame, as numbers or judged as they stand: missing, infinite, not there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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


def label_codes(data: pd.DataFrame, name: str) -> tuple[np.ndarray, list[Any]]:
    """The groups that a column of labels makes, shape (n,), −1 where missing; and their labels.

    Raises
    ------
    InputError
        For labels that cannot be told apart, as lists and dicts.
    """
    try:
        codes, labels = pd.factorize(data[name])
    except TypeError as error:
        for label, value in data[name].items():
            try:
                hash(value)
            except TypeError:
                raise InputError(
                    f"The column '{name}' holds {gates.described(value)} in row {label!r}, which "
                    "is no label: use text, numbers or tuples."
                ) from error
        raise
    return codes, labels.tolist()


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
        return pd.api.types.infer_dtype(column, skipna=True) in NUMBER_KINDS
    return pd.api.types.is_numeric_dtype(column)


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
        missing |= column.isna().to_numpy()
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
        For dates, which have no scale of their own.
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
            plain[name] = column.astype(object)
    return pd.DataFrame(plain, index=data.index)
