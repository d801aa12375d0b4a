"""Which rows of the data are fitted, and what is given beside the formula for each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.data.formula import existing_columns, numeric
from mixmeta_jax.errors import InputError


def as_pandas(data: Any, what: str = "data") -> pd.DataFrame:
    """A pandas frame from any dataframe that narwhals knows; the user's is never changed."""
    if isinstance(data, pd.DataFrame):
        frame = data
    elif isinstance(data, Mapping):
        frame = pd.DataFrame(dict(data))
    elif hasattr(data, "to_pandas"):
        frame = data.to_pandas()
    else:
        raise InputError(
            f"{what} must be a data frame (pandas, polars, ...) or a mapping of columns, not "
            f"{type(data).__name__}."
        )
    if not len(frame):
        raise InputError(f"{what} has no rows.")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{what} has two columns of the name '{twice[0]}'.")
    return frame


def given_outcomes(outcomes: Any) -> tuple[np.ndarray, list[str], pd.Index]:
    """Outcomes that came as an array, Series or frame: values (n, k), names and row labels."""
    if isinstance(outcomes, pd.Series):
        outcomes = outcomes.to_frame(outcomes.name if outcomes.name is not None else "y")
    if hasattr(outcomes, "to_pandas") and not isinstance(outcomes, pd.DataFrame):
        outcomes = outcomes.to_pandas()
    if isinstance(outcomes, pd.DataFrame):
        y = np.column_stack([numeric(outcomes[c], f"outcome '{c}'") for c in outcomes.columns])
        return y, [str(c) for c in outcomes.columns], outcomes.index
    try:
        y = np.asarray(outcomes, float)
    except (TypeError, ValueError) as error:
        raise InputError(
            "The first argument must be a formula, or outcomes as an array, Series or data frame."
        ) from error
    y = y[:, None] if y.ndim == 1 else y
    if y.ndim != 2 or not y.size:
        raise InputError(f"Outcomes must have the shape (n,) or (n, k), not {y.shape}.")
    if np.isinf(y).any():
        row, column = np.argwhere(np.isinf(y))[0]
        raise InputError(f"The outcome {column + 1} is infinite in row {row}.")
    names = ["y"] if y.shape[1] == 1 else [f"y{o + 1}" for o in range(y.shape[1])]
    return y, names, pd.RangeIndex(len(y))


def chosen_rows(subset: Any, table: pd.DataFrame) -> np.ndarray:
    """Which rows of the data ``subset`` selects, shape (n,)."""
    n = len(table)
    if subset is None:
        return np.ones(n, bool)
    if isinstance(subset, str):
        try:
            subset = table.eval(subset)
        except Exception as error:
            raise InputError(f"subset cannot be evaluated on the data: {error}") from error
    elif isinstance(subset, Callable):  # type: ignore[arg-type]
        subset = subset(table)
    mask = np.asarray(subset)
    if mask.dtype == object and not pd.isna(mask).any():
        mask = mask.astype(bool)
    if mask.dtype != bool or mask.shape != (n,):
        raise InputError(
            f"subset must select rows by {n} true or false values (one per row of the data), a "
            f"query string or a function; it has shape {mask.shape} and type {mask.dtype}."
        )
    if not mask.any():
        raise InputError("subset selects no row of the data.")
    return mask


def offset_values(offset: Any, table: pd.DataFrame, n: int, k: int) -> np.ndarray:
    """The offset of each row and outcome, shape (n, k), NaN where missing."""
    if offset is None:
        return np.zeros((n, k))
    if isinstance(offset, str):
        existing_columns([offset], table, "offset")
        values = numeric(table[offset], f"offset '{offset}'")
    else:
        try:
            values = np.asarray(offset, float)
        except (TypeError, ValueError) as error:
            raise InputError("offset must be a column name or numbers.") from error
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) != n or values.shape[1] not in (1, k):
        raise InputError(
            f"offset has shape {values.shape}: it must have {n} rows, and one column or {k}."
        )
    if np.isinf(values).any():
        row = table.index[int(np.argwhere(np.isinf(values))[0, 0])]
        raise InputError(f"The offset is infinite in row {row!r}.")
    return np.broadcast_to(values, (n, k)).copy()


def check_kept(
    kept: np.ndarray, gaps: np.ndarray, nothing: np.ndarray, index: pd.Index, na_action: str
) -> None:
    """Raise where no row can be fitted, or where one cannot and ``na_action`` is "raise"."""
    if na_action == "raise" and not kept.all():
        row = int(np.argmin(kept))
        why = "a predictor, group or offset" if gaps[row] else "every outcome"
        raise InputError(
            f"Row {index[row]!r} misses {why}, and na_action is 'raise': complete it, or choose "
            "na_action='omit'."
        )
    if not kept.any():
        why = (
            "every outcome is missing"
            if nothing.all()
            else "each misses a predictor, group, offset or all outcomes"
        )
        raise InputError(f"None of the {len(kept)} row(s) can be fitted: {why}.")
