"""The known error covariance S in all the forms that users have: the one reader of them.

A unit is a row that is fitted. S comes by unit, or as blocks that span rows (`table.blocks`); for
many data sets at once it is shared, or has a leading axis for the data sets. Its numbers may be
traced. What is read here is judged by `table.rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.arrays import is_traced, traced_namespace
from mixmeta_jax.errors import InputError
from mixmeta_jax.table.blocks import Rows, is_spanning, spanning_matrices
from mixmeta_jax.table.columns import existing_columns, numeric, refuse_reordered
from mixmeta_jax.table.matrices import correlations, expanded, triangle_size


@dataclass(frozen=True)
class WithinStudy:
    """S of the units that are fitted; one of the first two is None.

    Attributes
    ----------
    unit
        One matrix per unit, shape (n, k, k), or (B, n, k, k) where each of B data sets has its own;
        once judged, rows and columns of missing outcomes hold 0.
    blocks
        Per block: its units, shape (r,), and its matrix, shape (r·k, r·k), outcome fastest, with 0
        for missing outcomes. Together they cover every unit.
    singular
        Numbers of the units or blocks whose matrix is singular.
    """

    unit: Any
    blocks: tuple[tuple[np.ndarray, Any], ...] | None
    singular: tuple[int, ...] = ()

    @property
    def per_data_set(self) -> bool:
        """Whether each of many data sets has an S of its own."""
        return self.unit is not None and self.unit.ndim == 4


def read_errors(
    S: Any, rho: Any, rows: Rows, mask: np.ndarray | None = None, B: int | None = None
) -> WithinStudy:
    """S of the rows that are fitted, from any form.

    Parameters
    ----------
    S
        Over all n rows of the data, those before ``subset``, by position: column name(s); or a
        Series, frame, array or list of n variances (k = 1), n × k variances, n × k(k+1)/2 lower
        triangles by column, n × k × k, or n matrices. Or blocks by group, matched by label; see
        `table.blocks.spanning_matrices`.
    rho
        Correlation where S holds variances only.
    rows
        The rows of the data and which of them are fitted.
    mask
        Which outcomes are observed, shape (n, k), where the pattern is traced; it says which
        variances are read.
    B
        Number of data sets where there may be an S for each: of a shape with a leading B.

    Raises
    ------
    InputError
        For an unknown column, a number of rows or columns that does not fit, an ambiguous shape,
        ``rho`` beside covariances, or a label that does not match.
    """
    if is_spanning(S, rows.k):
        if rho is not None:
            raise InputError("rho is given, but the blocks of S hold covariances already.")
        return WithinStudy(None, spanning_matrices(S, rows))
    refuse_reordered(S, rows.index, "S")
    values = _as_array(S, rows.table)
    n = len(rows.index)
    own = B is not None and _is_per_data_set(values, B, n, rows.k)
    if is_traced([values, rho, mask]):
        return WithinStudy(_traced_matrices(values, rho, n, rows.k, mask), None)
    units = _matrices(values, rho, n, rows.k, own)
    return WithinStudy(units if rows.fits_all else units[rows.units], None)


def holds_variances(S: Any, data: pd.DataFrame, k: int) -> bool:
    """Whether S holds variances alone, which ``rho`` completes."""
    if is_spanning(S, k):
        return False
    values = _as_array(S, data)
    return values.ndim == 1 or (values.ndim == 2 and values.shape[1] == k)


def _is_per_data_set(values: np.ndarray, B: int, n: int, k: int) -> bool:
    """Whether the shape is that of one S for each of B data sets."""
    shape, widths = values.shape, {k, k * (k + 1) // 2}
    shared = shape in {(n, w) for w in widths} | {(n, k, k)} or (k == 1 and shape == (n,))
    own = shape in {(B, n, w) for w in widths} | {(B, n, k, k)} or (k == 1 and shape == (B, n))
    if shared and own:
        raise InputError(
            f"S has the shape {shape}, which can be one S for all data sets or one for each: give "
            f"n x k x k matrices, shape {(n, k, k)}, or one per data set, shape {(B, n, k, k)}."
        )
    if not own and not shared and values.ndim > 2:
        raise InputError(
            f"S has the shape {shape}: for {B} data sets of {n} rows and {k} outcome(s) it must be "
            f"shared, as in mixmeta, or {(B, n, k)}, {(B, n, k * (k + 1) // 2)} or {(B, n, k, k)}."
        )
    return own


def _matrices(values: np.ndarray, rho: Any, n: int, k: int, own: bool) -> np.ndarray:
    """Matrices (…, n, k, k) from variances, triangles or matrices, a leading axis where ``own``."""
    if not own and values.ndim > 3:
        raise InputError(f"S has {values.ndim} axes: it must have one entry per row of the data.")
    if values.ndim == 1 + own:
        values = values[..., None]
    if values.shape[own] != n:
        raise InputError(
            f"S has {len(values)} rows, but the data have {n}: give one entry per row of the data "
            "(before subset)."
        )
    width = values.shape[-1]
    if values.ndim == 3 + own:
        if values.shape[-2:] != (k, k):
            raise InputError(
                f"S holds matrices of {values.shape[-2]} x {width}, but there are {k} outcome(s): "
                f"they must be {k} x {k}."
            )
    elif width == k:
        return _completed(values, rho, n, k)
    elif width == k * (k + 1) // 2:
        values = expanded(values)
    else:
        raise InputError(
            f"S has {width} columns for {k} outcome(s): give {k} (variances)"
            + (f" or {k * (k + 1) // 2} (the lower triangle by column)." if k > 1 else ".")
        )
    _refuse_rho(rho)
    return values


def _completed(values: np.ndarray, rho: Any, n: int, k: int) -> np.ndarray:
    """Matrices of variances (…, n, k) and their correlation."""
    if k == 1:
        if rho is not None:
            raise InputError("rho is given, but one outcome has no correlation: leave it out.")
        return values[..., None]
    # A negative or infinite variance is left as it is, to be judged.
    sd = np.sqrt(np.abs(np.where(np.isfinite(values), values, np.nan)))
    matrices = sd[..., :, None] * sd[..., None, :] * correlations(rho, n, k)
    matrices[..., range(k), range(k)] = values
    return matrices


def _refuse_rho(rho: Any) -> None:
    if rho is not None:
        raise InputError(
            "rho is given, but S holds covariances already: give one of the two, or variances."
        )


def _traced_matrices(S: Any, rho: Any, n: int, k: int, mask: Any) -> Any:
    """Matrices (n, k, k) where S, its correlation or the mask is traced."""
    xp = traced_namespace(S, rho, mask)
    S = xp.asarray(S, float)
    S = S[:, None] if S.ndim == 1 else S
    if S.shape == (n, k):
        if k == 1 and rho is not None:
            raise InputError("rho is given, but one outcome has no correlation: leave it out.")
        # A variance that is not read must not meet the infinite slope of the root at zero.
        sd = xp.sqrt(S if mask is None else xp.where(mask, S, 1.0))
        return sd[:, :, None] * sd[:, None, :] * correlations(rho, n, k)
    _refuse_rho(rho)
    if S.ndim == 2 and triangle_size(S.shape[1]) == k:
        columns, rows = np.triu_indices(k)
        lower = xp.zeros((n, k, k), S.dtype).at[:, rows, columns].set(S)
        return lower.at[:, columns, rows].set(S)
    if S.shape == (n, k, k):
        return S
    raise InputError(
        f"S has shape {S.shape}: traced, it must be ({n},), ({n}, {k}), ({n}, {k * (k + 1) // 2}) "
        f"or ({n}, {k}, {k})."
    )


def _as_array(S: Any, data: pd.DataFrame | None) -> Any:
    """The numbers of S by unit, of one to four axes, as they were given."""
    if isinstance(S, str):
        S = [S]
    elif isinstance(S, (pd.Index, np.ndarray)) and S.dtype.kind in "OUT":
        S = S.tolist()
    if hasattr(S, "to_pandas") and not isinstance(S, (pd.Series, pd.DataFrame)):
        S = S.to_numpy()
    if isinstance(S, pd.Series) and S.dtype == object and len(S) and np.ndim(S.iloc[0]) == 2:
        S = S.tolist()
    if isinstance(S, pd.Series):
        what = "S" if S.name is None else f"S ('{S.name}')"
        return numeric(S, what, finite=False, truths=False)
    if isinstance(S, pd.DataFrame):
        named = [(f"S column '{name}'", S.iloc[:, j]) for j, name in enumerate(S.columns)]
        return _side_by_side(named, len(S))
    if isinstance(S, Sequence) and S and all(isinstance(name, str) for name in S):
        if data is None or not len(data.columns):
            raise InputError("S names columns, but there is no data: give data= or an array.")
        names = existing_columns(S, data, "S")
        return _side_by_side([(f"S column '{name}'", data[name]) for name in names], len(data))
    if is_traced(S):
        try:
            return traced_namespace(S).asarray(S, float)
        except (TypeError, ValueError) as error:
            raise InputError(
                "S is traced and its entries differ in shape: give one of the same shape per row, "
                "or blocks by group as {label: matrix}."
            ) from error
    values = gates.numbers(S, "S", missing=True, infinite=True)
    if not 1 <= values.ndim <= 4:
        raise InputError(f"S has {values.ndim} axes: it must have one entry per row of the data.")
    return values


def _side_by_side(named: Sequence[tuple[str, pd.Series]], n: int) -> np.ndarray:
    """Columns of n numbers, each with what sentences call it, as one array."""
    columns = [numeric(values, what, finite=False, truths=False) for what, values in named]
    return np.column_stack(columns) if columns else np.empty((n, 0))
