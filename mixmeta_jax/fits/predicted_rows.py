"""Rows that are predicted: their predictors, fixed and random, and offset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.table.rows import (
    as_pandas,
    offset_columns,
    offset_values,
    refuse_infinite_offset,
)


@dataclass(frozen=True)
class PredictedRows:
    """What a prediction needs of its rows.

    Attributes
    ----------
    X
        Fixed-effects predictors, shape (n, p).
    Z
        Random-effects predictors of the levels that are asked for, outer first, shape (n, q) each.
    offset
        Shape (n, k).
    index
        Labels of the rows.
    """

    X: np.ndarray
    Z: tuple[np.ndarray, ...]
    offset: np.ndarray
    index: pd.Index

    def less(self, other: PredictedRows) -> PredictedRows:
        """Contrasts of every row with the only row of ``other``."""
        Z = tuple(mine - theirs for mine, theirs in zip(self.Z, other.Z, strict=True))
        return PredictedRows(self.X - other.X, Z, self.offset - other.offset, self.index)

    def at(self, label: Any) -> PredictedRows:
        """The row of the given label."""
        places = _places(self.index, label)
        if len(places) != 1:
            problem = "is not in" if len(places) == 0 else "occurs more than once in"
            raise InputError(
                f"reference={gates.described(label)} {problem} the index of the predicted rows: "
                "give a label that is there once, or a mapping of predictors."
            )
        Z = tuple(matrix[places] for matrix in self.Z)
        return PredictedRows(self.X[places], Z, self.offset[places], self.index[places])


def rows_of(model: FittedModel, newdata: Any, depth: int) -> PredictedRows:
    """The fitted rows, or those of new data, with the random predictors of so many levels."""
    return fitted_rows(model, depth) if newdata is None else new_rows(model, newdata, depth)


def fitted_rows(model: FittedModel, depth: int) -> PredictedRows:
    """The units of the fit, with the random predictors of so many levels."""
    frame = model.frame
    Z = tuple(level.Z for level in frame.levels[:depth])
    return PredictedRows(frame.X, Z, frame.offset, frame.index)


def new_rows(model: FittedModel, newdata: Any, depth: int) -> PredictedRows:
    """Rows of new data; NaN where a predictor is missing."""
    table = as_pandas(newdata, "newdata")
    X, index = model.frame.new_X(table)
    Z = tuple(
        level.matrix.rebuild(table, f"the random part of level '{level.name}'")
        for level in model.frame.levels[:depth]
    )
    # Without any of its columns the offset of the new rows is taken as zero.
    named = offset_columns(model._arguments["offset"])
    given = named if any(name in table.columns for name in named) else None
    offset = offset_values(given, table, model.frame.k)
    refuse_infinite_offset(offset, table.index)
    return PredictedRows(X, Z, offset, index)


def outcome_rows(X: np.ndarray, k: int) -> np.ndarray:
    """X ⊗ I_k: the combination of the coefficients that each outcome of a row is, (n·k, P)."""
    return np.kron(X[:, None], np.eye(k)).reshape(len(X) * k, -1)


def _places(index: pd.Index, label: Any) -> np.ndarray:
    """Positions of a label in an index."""
    try:
        found = None if isinstance(label, slice) else index.get_loc(label)
    except Exception:  # what is no label of any index
        found = None
    return np.zeros(0, int) if found is None else np.atleast_1d(np.arange(len(index))[found])


def one_row(reference: Any, what: str = "reference") -> pd.DataFrame:
    """A reference, or what else it is called, given by its predictors, as a frame of one row."""
    if isinstance(reference, pd.DataFrame):
        if len(reference) != 1:
            raise InputError(f"{what} has {len(reference)} rows: give the one to contrast with.")
        return reference
    if isinstance(reference, pd.Series):
        reference = reference.to_dict()
    return as_pandas({name: [value] for name, value in reference.items()}, what)
