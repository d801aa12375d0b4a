"""The known error covariance S in all the forms that users have, checked against the outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.data.formula import existing_columns, numeric
from mixmeta_jax.data.matrices import correlations, xpnd
from mixmeta_jax.errors import InputError

Label = Any


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


def is_spanning(S: Any) -> bool:
    """Whether S is given as blocks by group label."""
    return isinstance(S, Mapping)


def unit_matrices(S: Any, rho: Any, data: pd.DataFrame | None, n: int, k: int) -> np.ndarray:
    """S of every row of the data, shape (n, k, k), from any form with one entry per row.

    Parameters
    ----------
    S
        Column name(s); or a Series, frame, array or list over the n rows of the data, by position:
        n variances (k = 1), n × k variances, n × k(k+1)/2 lower triangles by column, n × k × k, or
        n matrices.
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
    values = _as_array(S, data)
    if len(values) != n:
        raise InputError(
            f"S has {len(values)} rows, but the data have {n}: give one entry per row of the data."
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
        # A negative variance keeps its sign here, for the sentence of `check_units`.
        sd = np.sqrt(np.abs(values))
        matrices = sd[:, :, None] * sd[:, None, :] * correlations(rho, n, k)
        matrices[:, range(k), range(k)] = values
        return matrices
    elif values.shape[1] == k * (k + 1) // 2:
        values = xpnd(values)
    else:
        raise InputError(
            f"S has {values.shape[1]} columns for {k} outcome(s): give {k} (variances) or "
            f"{k * (k + 1) // 2} (the lower triangle by column)."
        )
    if rho is not None:
        raise InputError(
            "rho is given, but S holds covariances already: give one of the two, or variances."
        )
    return values


def _as_array(S: Any, data: pd.DataFrame | None) -> np.ndarray:
    if isinstance(S, str):
        S = [S]
    if isinstance(S, pd.Series):
        return numeric(S, f"S ('{S.name}')")
    if isinstance(S, pd.DataFrame):
        return np.column_stack([numeric(S[c], f"S column '{c}'") for c in S.columns])
    if isinstance(S, Sequence) and S and all(isinstance(name, str) for name in S):
        if data is None:
            raise InputError("S names columns, but there is no data: give data= or an array.")
        names = existing_columns(S, data, "S")
        return np.column_stack([numeric(data[name], f"S column '{name}'") for name in names])
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
    S: np.ndarray, seen: np.ndarray, index: pd.Index, outcomes: Sequence[str]
) -> np.ndarray:
    """S of the fitted units with zeros for missing outcomes, every matrix positive definite.

    Parameters
    ----------
    S, seen
        Matrices, shape (n, k, k), and which outcomes are observed, shape (n, k).
    index, outcomes
        Labels of the units and of the outcomes, for the sentences.
    """
    pair = seen[:, :, None] & seen[:, None, :]
    absent = pair & np.isnan(S)
    if absent.any():
        row, i, j = np.argwhere(absent)[0]
        what = f"'{outcomes[i]}'" if i == j else f"'{outcomes[i]}' with '{outcomes[j]}'"
        raise InputError(
            f"S is missing for {what} in row {index[row]!r}, where the outcome is observed: give "
            "it, or set the outcome to missing."
        )
    S = np.where(pair, S, 0.0)
    if not np.isfinite(S).all():
        row = int(np.argwhere(~np.isfinite(S))[0, 0])
        raise InputError(f"S is infinite in row {index[row]!r}.")
    skew = np.abs(S - S.transpose(0, 2, 1)).max((1, 2), initial=0)
    size = np.abs(S).max((1, 2), initial=0)
    if (skew > 1e-8 * size).any():
        row = int(np.argmax(skew > 1e-8 * size))
        raise InputError(f"S is not symmetric in row {index[row]!r}.")
    variances = np.diagonal(S, axis1=1, axis2=2)
    bad = seen & (variances <= 0)
    if bad.any():
        row, o = np.argwhere(bad)[0]
        raise InputError(_variance_sentence(variances[row, o], outcomes[o], index[row]))
    if S.shape[1] > 1:
        _refuse_indefinite(S, pair, variances, index)
    return S


def _variance_sentence(value: float, outcome: str, row: Label) -> str:
    kind = "negative" if value < 0 else "zero"
    return (
        f"S has a {kind} variance ({value:g}) for '{outcome}' in row {row!r}: an error variance "
        "must be positive."
    )


def _refuse_indefinite(
    S: np.ndarray, pair: np.ndarray, variances: np.ndarray, index: pd.Index
) -> None:
    sd = np.sqrt(np.where(variances > 0, variances, 1.0))
    scaled = np.where(pair, S / (sd[:, :, None] * sd[:, None, :]), np.eye(S.shape[1]))
    try:
        pivots = np.diagonal(np.linalg.cholesky(scaled), axis1=1, axis2=2).min(initial=1.0)
    except np.linalg.LinAlgError:
        pivots = 0.0
    if pivots > 1e-7:
        return
    smallest = np.linalg.eigvalsh(scaled)[:, 0]
    row = int(np.argmin(smallest))
    eigenvalue = np.linalg.eigvalsh(S[row][np.ix_(pair[row].any(0), pair[row].any(0))])[0]
    raise InputError(
        f"S is not positive definite in row {index[row]!r}: its smallest eigenvalue is "
        f"{eigenvalue:.4g}."
    )


def spanning_matrices(
    S: Mapping[Label, Any],
    groups: pd.Series,
    known: set[Label],
    seen: np.ndarray,
    kept: np.ndarray,
    level: str,
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Blocks of S that span rows, matched by group label.

    Parameters
    ----------
    S
        {group label: matrix}. A plain matrix covers the rows of its group in the order of the
        data, dropped ones included, outcome fastest; a frame says by its index which rows it
        covers (for k > 1 each row label stands for its k outcomes, in order).
    groups
        Outer group of each row after ``subset``, indexed as the data; missing where unknown.
    known
        All group labels of the data, those that ``subset`` takes away included.
    seen, kept
        Observed outcomes of these rows, shape (rows, k), and which rows are fitted.
    level
        Name of the outer level.

    Raises
    ------
    InputError
        For a group without a block, a block without a group, a size or label that does not match,
        or a block that is not symmetric and positive definite.
    """
    k = seen.shape[1]
    position = np.cumsum(kept) - 1
    members = groups.groupby(groups, sort=False).indices
    stray = [label for label in S if label not in known]
    if stray:
        labels = ", ".join(repr(label) for label in groups.drop_duplicates().tolist()[:3])
        raise InputError(
            f"S has a block for {level} {stray[0]!r}, but the data have no such {level}; its labels "
            f"look like {labels}. Blocks are matched by the outer level of random='~ 1 | group', "
            "which method='fixed' needs too."
        )
    blocks = []
    covered = np.zeros(len(groups), bool)
    for label in pd.unique(groups[kept]):
        if label not in S:
            raise InputError(f"S has no block for {level} {label!r}, which has rows to fit.")
        rows, matrix = _block(S[label], members[label], groups.index, k, f"{level} {label!r}")
        used = kept[rows]
        entries = np.repeat(used, k)
        rows = rows[used]
        covered[rows] = True
        matrix = _checked(matrix[np.ix_(entries, entries)], seen[rows], f"{level} {label!r}")
        blocks.append((position[rows], matrix))
    bare = kept & ~covered
    if bare.any():
        row = int(np.argmax(bare))
        raise InputError(
            f"The block of S for {level} {groups.iloc[row]!r} does not cover row "
            f"{groups.index[row]!r}: its index must hold the label of every row of the group."
        )
    return tuple(blocks)


def _block(
    given: Any, members: np.ndarray, index: pd.Index, k: int, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that a block covers, by position, and its matrix."""
    labelled = isinstance(given, pd.DataFrame)
    matrix = np.atleast_2d(np.asarray(given, float))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"The block of S for {where} has shape {matrix.shape}: it must be square.")
    if not labelled:
        if len(matrix) != len(members) * k:
            raise InputError(
                f"The block of S for {where} is {len(matrix)} x {len(matrix)}, but the group has "
                f"{len(members)} row(s) of {k} outcome(s) in the data (rows that are dropped for "
                f"missing values included): it must be {len(members) * k} x {len(members) * k}."
            )
        return members, matrix
    if len(matrix) % k:
        raise InputError(
            f"The block of S for {where} has {len(matrix)} rows, no multiple of the {k} outcomes."
        )
    labels = given.index[::k]
    at = {label: row for row, label in zip(members, index[members], strict=True)}
    unknown = [label for label in labels if label not in at]
    if unknown:
        raise InputError(
            f"The block of S for {where} covers a row {unknown[0]!r}, which is not among the rows "
            f"of that group ({', '.join(map(repr, list(at)[:5]))}{', ...' if len(at) > 5 else ''})."
        )
    if len(set(labels)) < len(labels):
        raise InputError(f"The block of S for {where} covers a row twice.")
    return np.array([at[label] for label in labels], int), matrix


def _checked(matrix: np.ndarray, seen: np.ndarray, where: str) -> np.ndarray:
    """The block with zeros for missing outcomes, symmetric and positive definite elsewhere."""
    observed = seen.ravel()
    part = matrix[np.ix_(observed, observed)]
    if not np.isfinite(part).all():
        kind = "missing" if np.isnan(part).any() else "infinite"
        raise InputError(
            f"The block of S for {where} has a {kind} value where its outcome is observed."
        )
    if np.abs(part - part.T).max(initial=0) > 1e-8 * np.abs(part).max(initial=0):
        raise InputError(f"The block of S for {where} is not symmetric.")
    part = (part + part.T) / 2
    smallest = np.linalg.eigvalsh(part)[0] if len(part) else 1.0
    variances = np.diag(part)
    if (variances <= 0).any() or _relative_smallest(part) <= 1e-14:
        raise InputError(
            f"The block of S for {where} is not positive definite: its smallest eigenvalue is "
            f"{smallest:.4g}."
        )
    whole = np.zeros_like(matrix)
    whole[np.ix_(observed, observed)] = part
    return whole


def _relative_smallest(matrix: np.ndarray) -> float:
    """Smallest eigenvalue of the correlation matrix."""
    if not len(matrix):
        return 1.0
    sd = np.sqrt(np.diag(matrix))
    return float(np.linalg.eigvalsh(matrix / np.outer(sd, sd))[0])
