"""New groups for a fitted model: outcomes, predictors and errors, read as those of the fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.formulas.formula import evaluate_outcome, split_formula
from mixmeta_jax.table.array_frame import judged_within
from mixmeta_jax.table.blocks import Rows
from mixmeta_jax.table.columns import row_label
from mixmeta_jax.table.frame import ModelFrame
from mixmeta_jax.table.rows import (
    as_pandas,
    offset_columns,
    offset_values,
    refuse_infinite_offset,
)
from mixmeta_jax.table.within_study import holds_variances, read_errors


def new_groups(model: FittedModel, newdata: Any, S: Any) -> ModelFrame:
    """The model frame of new data, every group of which is new.

    Parameters
    ----------
    newdata
        Frame with the outcomes (which may be missing), predictors, groups and, where the fit names
        one, the offset.
    S
        Error covariances in a form that `mixmeta` takes; variances alone are completed with the
        fit's ``rho``.

    Raises
    ------
    InputError
        Where a column is not there, anything but an outcome is missing, or variances have only a
        ``rho`` by row to complete them.
    """
    table = as_pandas(newdata, "newdata")
    if S is None:
        raise InputError("blup for newdata needs S, the error covariances of its outcomes.")
    frame = model.frame
    names = frame.outcome_names
    if frame.formula is not None:
        names = list(split_formula(frame.formula).outcomes)
    y = np.column_stack([evaluate_outcome(name, table, "newdata") for name in names])
    X, index = frame.new_X(table)
    _check_complete(X, index, "predictor")
    levels = frame.new_levels(table)
    for level in levels:
        _check_complete(level.Z, index, f"random predictor of level '{level.name}'")
    # Only variances are completed, as those of the fit were.
    rho: Any = model._arguments["rho"] if holds_variances(S, table, frame.k) else None
    if np.ndim(rho) == 1 and len(rho) not in (1, frame.k * (frame.k - 1) // 2):
        raise InputError(
            "The fit has its rho by row, which says nothing of newdata: give S with covariances."
        )
    rows = Rows(table, frame.outcome_names, None if frame.random is None else levels[0].name)
    fresh = replace(
        frame,
        y=y,
        X=X,
        levels=levels,
        within=read_errors(S, rho, rows),
        offset=_offset(model, table),
        index=index,
        kept=np.ones(len(y), bool),
        full_index=index,
    )
    return replace(fresh, within=judged_within(fresh, np.isfinite(y)))


def _offset(model: FittedModel, table: pd.DataFrame) -> np.ndarray:
    offset = model._arguments["offset"]
    if offset is not None and not offset_columns(offset):
        raise InputError(
            "The fit has its offset as numbers, which say nothing of newdata: refit with the "
            "offset as a column name."
        )
    values = offset_values(offset, table, model.frame.k)
    refuse_infinite_offset(values, table.index)
    _check_complete(values, table.index, "offset")
    return values


def _check_complete(values: np.ndarray, index: pd.Index, what: str) -> None:
    gaps = np.isnan(values).any(axis=1)
    if gaps.any():
        row = row_label(index, int(np.argmax(gaps)))
        raise InputError(f"newdata has no {what} in row {row!r}.")
