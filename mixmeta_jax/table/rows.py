"""Which rows of the data are fitted, and what is given beside the formula for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.arrays import is_traced, traced_namespace
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.evaluation import Evaluator
from mixmeta_jax.formulas.expressions import pieces, read_expression, refuse_length
from mixmeta_jax.formulas.formula import refuse_twice
from mixmeta_jax.table.columns import (
    existing_columns,
    missing_rows,
    numeric,
    refuse_reordered,
    row_label,
)


def as_pandas(data: Any, what: str = "data") -> pd.DataFrame:
    """A pandas frame from any dataframe that narwhals knows; the user's is never changed."""
    if isinstance(data, pd.DataFrame):
        frame = data
    elif isinstance(data, Mapping):
        try:
            frame = pd.DataFrame(dict(data))
        except ValueError as error:
            raise InputError(
                f"{what} is not a mapping of columns of one length: give lists, of length 1 for a "
                "single row."
            ) from error
    elif hasattr(data, "to_pandas") and hasattr(data, "columns"):
        try:
            frame = data.to_pandas()
        except ImportError:
            # polars converts through pyarrow, which need not be there.
            frame = pd.DataFrame({name: data[name].to_numpy() for name in data.columns})
    else:
        raise InputError(
            f"{what} must be a data frame (pandas, polars, ...) or a mapping of columns, not "
            f"{type(data).__name__}."
        )
    if not len(frame):
        names = ", ".join(f"'{name}'" for name in frame.columns[:5])
        more = ", ..." if len(frame.columns) > 5 else ""
        of = f"only the columns {names}{more}" if names else "and no columns"
        raise InputError(
            f"{what} has no rows, {of}: give a frame with one row for each unit (was it filtered "
            "or merged before?)."
        )
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()]
        raise InputError(f"{what} has two columns of the name '{twice[0]}'.")
    return frame


def given_outcomes(outcomes: Any) -> pd.DataFrame:
    """Outcomes that came as an array, Series or frame, as a frame with k named columns."""
    if hasattr(outcomes, "to_pandas") and hasattr(outcomes, "columns"):
        outcomes = as_pandas(outcomes, "the frame of outcomes")
    if isinstance(outcomes, pd.Series):
        outcomes = outcomes.to_frame("y" if outcomes.name is None else outcomes.name)
    if isinstance(outcomes, pd.DataFrame):
        names = [str(name) for name in outcomes.columns]
        refuse_twice(names)
        given = outcomes.set_axis(names, axis=1)
    else:
        texts = isinstance(outcomes, (list, tuple)) and any(isinstance(o, str) for o in outcomes)
        if outcomes is None or texts or np.isscalar(outcomes) or callable(outcomes):
            raise gates.refused(
                "formula",
                "text, or the outcomes as an array, Series or data frame of numbers",
                outcomes,
            )
        y = gates.numbers(
            outcomes, "formula (the array of outcomes)", missing=True, infinite=True, truths=True
        )
        y = y[:, None] if y.ndim == 1 else y
        if y.ndim != 2:
            raise InputError(
                f"formula, as outcomes, must have the shape (n,) or (n, k), not {y.shape}."
            )
        k = y.shape[1]
        given = pd.DataFrame(y, columns=["y"] if k == 1 else [f"y{o + 1}" for o in range(k)])
    if not given.size:
        raise InputError("formula gives no outcomes: the array or frame is empty.")
    return given


def chosen_rows(subset: Any, table: pd.DataFrame) -> np.ndarray:
    """Which rows of the data ``subset`` selects, shape (n,)."""
    n = len(table)
    if subset is None:
        return np.ones(n, bool)
    if isinstance(subset, str):
        subset = _where(subset, table)
    elif callable(subset):
        try:
            subset = subset(table)
        except Exception as error:
            reason = f"{type(error).__name__}: {shown(error, 120)}"
            raise InputError(f"subset, a function, fails on the data with {reason}.") from error
    refuse_reordered(subset, table.index, "subset")
    try:
        mask = np.asarray(subset)
    except Exception as error:
        raise gates.refused("subset", "true or false values", subset) from error
    if mask.dtype == object and mask.shape == (n,):
        if pd.isna(mask).any():
            row = row_label(table.index, int(np.argmax(pd.isna(mask))))
            raise InputError(f"subset is missing in row {row!r}: it must be true or false.")
        if all(isinstance(value, (bool, np.bool_)) for value in mask):
            mask = mask.astype(bool)
    if mask.dtype != bool or mask.shape != (n,):
        raise InputError(
            f"subset must select rows by {n} true or false values (one per row of the data), a "
            f"condition or a function; it has shape {mask.shape} and type {mask.dtype}."
        )
    if not mask.any():
        raise InputError("subset selects no row of the data.")
    return mask


def _where(condition: str, table: pd.DataFrame) -> Any:
    """The values of a condition such as ``"year > 1970 & kind == 'rct'"``."""
    refuse_length(condition, "subset")
    parts = pieces(condition)
    for i in range(0, len(parts), 2):
        # As in pandas' queries they bind as loosely as the words do, so that comparisons need no
        # brackets.
        parts[i] = parts[i].replace("&", " and ").replace("|", " or ").replace("\n", " ")
    try:
        expression = read_expression("".join(parts), "subset")
        names = [name for name in table.index.names if name is not None]
        own = {"index": table.index, **{name: table.index.get_level_values(name) for name in names}}
        columns: dict[str, pd.Series] = {}
        for name in dict.fromkeys(expression.columns(table.columns)):
            if name not in table.columns and name in own:
                columns[name] = pd.Series(own[name], index=table.index)
            else:
                existing_columns([name], table, "subset")
                columns[name] = table[name]
        return Evaluator(expression, columns).result()
    except InputError as error:
        raise InputError(
            f"subset='{shown(condition, 40)}' cannot be evaluated on the data: {error}"
        ) from error


def offset_columns(offset: Any) -> list[str]:
    """The columns that an offset names; none where there is no offset, or it is values."""
    if isinstance(offset, str):
        return [offset]
    named = isinstance(offset, Sequence) and all(isinstance(name, str) for name in offset)
    return list(offset) if named else []


def refuse_outcomes_in(outcomes: Sequence[str], places: Mapping[str, Any]) -> None:
    """Raise where an outcome is its own error, offset, random predictor or group."""
    for where, given in places.items():
        for name in offset_columns(given):
            if name in outcomes:
                raise InputError(
                    f"The outcome '{shown(name)}' is named in {where} too, where it would explain "
                    "itself: name another column."
                )


def offset_values(offset: Any, table: pd.DataFrame, k: int, B: int | None = None) -> Any:
    """The offset of each row of the data and outcome, shape (n, k), NaN where missing.

    Parameters
    ----------
    offset
        A column name, one name per outcome, or values by position, which may be traced, shape (n,)
        or (n, k).
    table
        The n rows of the data.
    k, B
        Number of outcomes, and of data sets where each may have an offset of its own, of shape
        (B, n, k) or, for one outcome, (B, n).
    """
    n = len(table)
    if offset is None:
        return np.zeros((n, k))
    names = existing_columns(offset_columns(offset), table, "offset")
    if names:
        values = np.column_stack([numeric(table[c], f"offset '{c}'", False) for c in names])
    elif isinstance(offset, pd.Series):
        refuse_reordered(offset, table.index, "offset")
        values = numeric(offset, "offset", False)
    else:
        refuse_reordered(offset, table.index, "offset")
        values = gates.numbers(offset, "offset", missing=True, infinite=True)
    if B is not None and k == 1 and values.shape == (B, n):
        values = values[:, :, None]
    if values.ndim == 3 and B is not None:
        if values.shape != (B, n, k):
            raise InputError(
                f"offset has the shape {values.shape}: per data set it must be {(B, n, k)}."
            )
        return values
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) != n or values.shape[1] not in (1, k):
        raise InputError(
            f"offset has shape {values.shape}: it must have {n} rows, one per row of the data, and "
            f"one column{'' if k == 1 else f' or {k}'}."
        )
    return values if values.shape[1] == k else traced_namespace(values).broadcast_to(values, (n, k))


def refuse_infinite_offset(offset: Any, index: pd.Index) -> None:
    """Raise where an offset, shape (…, n, k), is infinite; not where it is traced."""
    if is_traced(offset):
        return
    infinite = np.isinf(offset)
    if infinite.any():
        row = row_label(index, int(np.argwhere(infinite)[0][-2]))
        raise InputError(f"The offset is infinite in row {row!r}.")


def refuse_gaps_of_offset(offset: Any, index: pd.Index) -> None:
    """Raise where an offset, shape (…, n, k), is missing; not where it is traced."""
    if is_traced(offset):
        return
    gaps = np.argwhere(np.isnan(offset))
    if len(gaps):
        *data_set, row, _ = gaps[0].tolist()
        where = (
            f"data set {data_set[0]}, row {row}" if data_set else f"row {row_label(index, row)!r}"
        )
        raise InputError(
            f"The offset is missing in {where}: complete it; an outcome that is not to count is "
            "NaN in y."
        )


def kept_rows(
    table: pd.DataFrame, needed: Sequence[str], shift: np.ndarray, y: np.ndarray, na_action: str
) -> np.ndarray:
    """Which rows can be fitted, shape (n,): nothing that they need is missing.

    Parameters
    ----------
    table, needed
        The rows, and the columns of predictors and groups.
    shift, y
        Offset and outcomes, shape (n, k), NaN where missing; one outcome is enough.
    na_action
        With "raise", a row that cannot be fitted is an error.

    Raises
    ------
    InputError
        If no row is left, or for the first that is not where ``na_action`` says so.
    """
    gaps = missing_rows(table, needed) | any_in_row(np.isnan(shift))
    nothing = ~any_in_row(~np.isnan(y))
    kept = ~gaps & ~nothing
    if na_action == "raise" and not kept.all():
        row = int(np.argmin(kept))
        (why,) = drop_reasons(table.iloc[[row]], needed, shift[[row]], y[[row]])
        raise InputError(
            f"In row {row_label(table.index, row)!r} {why}, and na_action is 'raise': complete it, "
            "or choose na_action='omit'."
        )
    if not kept.any():
        why = (
            "every outcome is missing"
            if nothing.all()
            else "each misses a predictor, group, offset or all outcomes"
        )
        raise InputError(f"None of the {len(kept)} row(s) can be fitted: {why}.")
    return kept


def drop_reasons(
    table: pd.DataFrame, needed: Sequence[str], shift: np.ndarray, y: np.ndarray
) -> tuple[str, ...]:
    """What rows that cannot be fitted miss, in words; arguments as in `kept_rows`."""
    names = [*(f"'{name}'" for name in needed), "the offset", "every outcome"]
    flags = [missing_rows(table, [name]) for name in needed]
    flags += [any_in_row(np.isnan(shift)), ~any_in_row(~np.isnan(y))]
    patterns, which = np.unique(np.column_stack(flags), axis=0, return_inverse=True)
    words = []
    for pattern in patterns:
        absent = [name for name, missing in zip(names, pattern, strict=True) if missing]
        words.append(f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing")
    return tuple(words[pattern] for pattern in which.ravel().tolist())


def any_in_row(flags: np.ndarray) -> np.ndarray:
    """``flags.any(axis=1)``, in memory along the longer axis, by which it is ten times as fast."""
    n, k = flags.shape
    lay = np.ascontiguousarray if n < k else np.asfortranarray
    return np.logical_or.reduce(lay(flags), axis=1)
