"""The known error covariance S in all the forms that users have, checked against the outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.data.blocks import is_spanning, spanning_matrices
from mixmeta_jax.data.columns import existing_columns, numeric, refuse_reordered, row_label
from mixmeta_jax.data.matrices import correlations, xpnd
from mixmeta_jax.data.positive_definite import checked_matrices
from mixmeta_jax.errors import InputError


@dataclass(frozen=True)
class WithinStudy:
    """S of the units that are fitted; one of the two is None.

    Attributes
    ----------
    unit
        One matrix per unit, shape (n, k, k); rows and columns of missing outcomes hold 0.
    blocks
        Per block: its units, shape (r,), and its matrix, shape (r·k, r·k), outcome fastest, with 0
        for missing outcomes. Together they cover every unit.
    """

    unit: np.ndarray | None
    blocks: tuple[tuple[np.ndarray, np.ndarray], ...] | None


def within_study(
    S: Any,
    rho: Any,
    data: pd.DataFrame,
    level: str | None,
    seen: np.ndarray,
    chosen: np.ndarray,
    kept: np.ndarray,
    outcomes: Sequence[str],
) -> WithinStudy:
    """S of the rows that are fitted, from any form.

    Parameters
    ----------
    S, rho
        As the user gave them, over all n rows of the data; see `unit_matrices` and
        `data.blocks.spanning_matrices`.
    data
        All rows of the data.
    level
        Column of the outer groups; None where every row is a group of its own, and blocks are
        matched by the label of their row.
    seen
        Observed outcomes of the rows that ``subset`` chooses, shape (rows, k).
    chosen, kept
        Which rows ``subset`` chooses, shape (n,), and which of these are fitted, shape (rows,).
    outcomes
        Names of the outcomes.
    """
    if not is_spanning(S, seen.shape[1]):
        units = unit_matrices(S, rho, data, len(data), seen.shape[1])
        rows = np.flatnonzero(chosen)[kept]
        if len(rows) < len(units):
            units, seen = units[rows], seen[kept]
        return WithinStudy(check_units(units, seen, data.index, rows, outcomes), None)
    if rho is not None:
        raise InputError("rho is given, but the blocks of S hold covariances already.")
    if level is None:
        outer, name = pd.Series(data.index, data.index), "row"
        if not data.index.is_unique:
            twice = data.index[data.index.duplicated()].tolist()[0]
            raise InputError(
                f"S has blocks by row label, but the label {twice!r} occurs twice in the data: "
                "give random with the groups that the blocks span, or make the index unique."
            )
    else:
        outer, name = data[level], level
    known = set(outer.dropna().unique())
    return WithinStudy(None, spanning_matrices(S, outer[chosen], known, seen, kept, name, outcomes))


def unit_matrices(S: Any, rho: Any, data: pd.DataFrame | None, n: int, k: int) -> np.ndarray:
    """S of every row of the data, shape (n, k, k), from any form with one entry per row.

    Parameters
    ----------
    S
        Column name(s); or a Series, frame, array or list over the n rows of the data (those before
        ``subset``), by position: n variances (k = 1), n × k variances,
        n × k(k+1)/2 lower triangles by column, n × k × k, or n matrices.
    rho
        Correlation where S holds variances only.
    data
        The data that column names refer to.

    Raises
    ------
    InputError
        For an unknown column, a number of rows or columns that does not fit, or ``rho`` beside
        covariances.
    """
    if data is not None:
        refuse_reordered(S, data.index, "S")
    values = _as_array(S, data)
    if len(values) != n:
        raise InputError(
            f"S has {len(values)} rows, but the data have {n}: give one entry per row of the data "
            "(before subset)."
        )
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim == 3:
        if values.shape[1:] != (k, k):
            raise InputError(
                f"S holds matrices of {values.shape[1]} x {values.shape[2]}, but there are {k} "
                f"outcome(s): they must be {k} x {k}."
            )
    elif values.shape[1] == k:
        if k == 1 and rho is not None:
            raise InputError("rho is given, but one outcome has no correlation: leave it out.")
        if k == 1:
            return values[:, :, None]
        # A negative or infinite variance is left as it is, for the sentence of `check_units`.
        sd = np.sqrt(np.abs(np.where(np.isfinite(values), values, np.nan)))
        matrices = sd[:, :, None] * sd[:, None, :] * correlations(rho, n, k)
        matrices[:, range(k), range(k)] = values
        return matrices
    elif values.shape[1] == k * (k + 1) // 2:
        values = xpnd(values)
    else:
        raise InputError(
            f"S has {values.shape[1]} columns for {k} outcome(s): give {k} (variances)"
            + (f" or {k * (k + 1) // 2} (the lower triangle by column)." if k > 1 else ".")
        )
    if rho is not None:
        raise InputError(
            "rho is given, but S holds covariances already: give one of the two, or variances."
        )
    return values


def holds_variances(S: Any, data: pd.DataFrame, k: int) -> bool:
    """Whether S, of one entry per row, holds variances alone, which ``rho`` completes."""
    values = _as_array(S, data)
    return values.ndim == 1 or (values.ndim == 2 and values.shape[1] == k)


def _as_array(S: Any, data: pd.DataFrame | None) -> np.ndarray:
    if isinstance(S, str):
        S = [S]
    elif isinstance(S, (pd.Index, np.ndarray)) and S.dtype.kind in "OUT":
        S = S.tolist()
    if hasattr(S, "to_pandas") and not isinstance(S, (pd.Series, pd.DataFrame)):
        S = S.to_numpy()
    if isinstance(S, pd.Series) and S.dtype == object and len(S) and np.ndim(S.iloc[0]) == 2:
        S = S.tolist()
    if isinstance(S, pd.Series):
        return numeric(S, "error variance" if S.name is None else f"S ('{S.name}')", finite=False)
    if isinstance(S, pd.DataFrame):
        columns = [numeric(S.iloc[:, j], f"S column '{c}'", False) for j, c in enumerate(S.columns)]
        return np.column_stack(columns) if columns else np.empty((len(S), 0))
    if isinstance(S, Sequence) and S and all(isinstance(name, str) for name in S):
        if data is None or not len(data.columns):
            raise InputError("S names columns, but there is no data: give data= or an array.")
        names = existing_columns(S, data, "S")
        columns = [numeric(data[name], f"S column '{name}'", finite=False) for name in names]
        return np.column_stack(columns)
    try:
        values = np.asarray(S, float)
    except (TypeError, ValueError) as error:
        raise InputError(
            "S cannot be read as numbers: give column names, variances, lower triangles or k x k "
            "matrices of one size."
        ) from error
    if values.ndim not in (1, 2, 3):
        raise InputError(f"S has {values.ndim} axes: it must have one entry per row of the data.")
    return values


def check_units(
    S: np.ndarray, seen: np.ndarray, index: pd.Index, rows: np.ndarray, outcomes: Sequence[str]
) -> np.ndarray:
    """S of the fitted units with zeros for missing outcomes, every matrix positive definite.

    Parameters
    ----------
    S, seen
        Matrices, shape (n, k, k), and which outcomes are observed, shape (n, k).
    index, rows, outcomes
        Labels of all rows of the data, the row of each unit, and names of the outcomes, for the
        sentences.
    """

    def where(unit: int) -> str:
        return f"row {row_label(index, int(rows[unit]))!r}"

    return checked_matrices(S, seen, where, lambda unit, outcome: f"'{outcomes[outcome]}'")
