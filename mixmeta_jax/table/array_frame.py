"""The model frame of arrays: complete rows, one data set or many, numbers that may be traced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.arrays import is_traced, traced_namespace
from mixmeta_jax.errors import InputError
from mixmeta_jax.formulas.formula import columns_of
from mixmeta_jax.formulas.model_matrix import ModelMatrix, build_matrix
from mixmeta_jax.table.blocks import Rows
from mixmeta_jax.table.columns import missing_rows, refuse_infinite, row_label
from mixmeta_jax.table.frame import ModelFrame, judged_frame
from mixmeta_jax.table.levels import random_levels
from mixmeta_jax.table.names import INTERCEPT
from mixmeta_jax.table.rows import (
    as_pandas,
    offset_values,
    refuse_gaps_of_offset,
    refuse_infinite_offset,
)
from mixmeta_jax.table.rules import clean_errors, error_faults, judge_errors, raise_first
from mixmeta_jax.table.within_study import WithinStudy, read_errors


def array_frame(
    y: Any,
    S: Any,
    X: Any = None,
    random: Any = None,
    data: Any = None,
    rho: Any = None,
    offset: Any = None,
    many: bool = False,
) -> ModelFrame:
    """The frame of outcomes that come as an array, not yet judged.

    Parameters
    ----------
    y
        Outcomes, shape (n,) or (n, k), or with ``many`` (B, n) or (B, n, k); NaN where missing.
    S, rho, offset
        In any form of `mixmeta`; with ``many`` also per data set.
    X
        Predictors, shape (n, p), a right-hand side as ``"~ year"``, or None for a column of ones.
    random, data
        Grouping and random predictors, and the frame with their columns, which must be complete.

    Raises
    ------
    InputError
        For what cannot be read, or shapes that do not fit.
    """
    y = _outcomes(y, many)
    *B, n, k = y.shape
    table = pd.DataFrame(index=pd.RangeIndex(n)) if data is None else as_pandas(data)
    if len(table) != n:
        where = (
            f" in each of its {B[0]} data sets: give y the shape (B, n) or (B, n, k)" if B else ""
        )
        raise InputError(f"data has {len(table)} rows, but y has {n}{where}.")
    fixed = _predictors(X, table)
    levels = random_levels(random, None if data is None else table, n)
    names = ["y"] if k == 1 else [f"y{o + 1}" for o in range(k)]
    shift = offset_values(offset, table, k, B[0] if B else None)
    refuse_infinite_offset(shift, table.index)
    refuse_gaps_of_offset(shift, table.index)
    rows = Rows(table, names, None if random is None else levels[0].name)
    mask = None if many else traced_namespace(y).isfinite(y)
    return ModelFrame(
        y=y,
        outcome_names=names,
        X=fixed.values,
        x_names=fixed.names,
        levels=levels,
        within=read_errors(S, rho, rows, mask, B[0] if B else None),
        offset=shift,
        index=table.index,
        kept=np.ones(n, bool),
        full_index=table.index,
        formula=X if isinstance(X, str) else None,
        random=random,
        fixed=fixed,
    )


def judged_arrays(frame: ModelFrame) -> ModelFrame:
    """The frame of one data set with what is not traced judged, as by `mixmeta`."""
    if is_traced(frame.y):
        return frame
    seen = np.isfinite(frame.y)
    if not is_traced(frame.X) and _concrete(frame.within):
        return judged_frame(frame, seen)
    return replace(frame, within=judged_within(frame, seen))


def judged_within(frame: ModelFrame, seen: np.ndarray) -> WithinStudy:
    """S as the rules leave it where outcomes (n, k) are observed; what is traced as it is."""
    within = frame.within
    if within.blocks is None:
        own = within
    else:
        own = replace(within, blocks=tuple(b for b in within.blocks if not is_traced(b[1])))
    if is_traced(own.unit) or not (own.blocks is None or own.blocks):
        return within
    errors = judge_errors(own, seen[None])
    raise_first(error_faults(errors, frame.names))
    clean = clean_errors(own, errors)
    if within.blocks is None or clean.blocks is None:
        return clean
    judged = iter(clean.blocks)
    return replace(
        within, blocks=tuple(b if is_traced(b[1]) else next(judged) for b in within.blocks)
    )


def _concrete(within: WithinStudy) -> bool:
    return not is_traced(within.unit if within.blocks is None else [S for _, S in within.blocks])


def as_numbers(values: Any, what: str) -> Any:
    """Traced arrays as they are but for their precision, everything else as numpy's float64."""
    return gates.numbers(values, what, missing=True, infinite=True, truths=True)


def _outcomes(y: Any, many: bool) -> Any:
    values = as_numbers(y, "y")
    shapes = "(B, n) or (B, n, k)" if many else "(n,) or (n, k)"
    if values.ndim not in (1 + many, 2 + many) or not values.size:
        raise InputError(f"y has the shape {values.shape}: it must be {shapes}.")
    return values[..., None] if values.ndim == 1 + many else values


def _predictors(X: Any, table: pd.DataFrame) -> ModelMatrix:
    """The predictors of every row, none of them missing."""
    if isinstance(X, str):
        return _of_formula(X, table)
    n = len(table)
    if X is None:
        return ModelMatrix(np.ones((n, 1)), [INTERCEPT], "1", (), None)
    values = as_numbers(X, "X")
    if values.ndim != 2 or values.shape[0] != n or not values.shape[1]:
        raise InputError(
            f"X has shape {values.shape}: it must have shape ({n}, p), one row per outcome and at "
            "least one column."
        )
    names = [str(c) for c in getattr(X, "columns", range(values.shape[1]))]
    if not is_traced(values) and not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise InputError(
            f"X is {values[row, column]:g} in row {row_label(table.index, int(row))!r}, column "
            f"'{names[column]}': predictors must be complete and finite."
        )
    return ModelMatrix(values, names, "X", (), None)


def _of_formula(formula: str, table: pd.DataFrame) -> ModelMatrix:
    text = formula.strip()
    if not text.startswith("~"):
        raise InputError(
            f"X, or formula, must be a right-hand side as '~ 1' or '~ year', not "
            f"{gates.described(formula)}: the outcomes are y."
        )
    right = text[1:].strip()
    columns = columns_of(right, table, "the formula")
    refuse_infinite(table, columns)
    for column in columns:
        gaps = missing_rows(table, [column])
        if gaps.any():
            row = row_label(table.index, int(np.argmax(gaps)))
            raise InputError(
                f"The column '{column}' of the formula is missing in row {row!r}: all data sets "
                "share the predictors, which must be complete."
            )
    return build_matrix(right, table, columns)
