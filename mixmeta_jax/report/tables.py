"""Names put back on arrays: frames of units, groups and coefficients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def padded(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Values per fitted unit (n, ...) spread over all rows, NaN where a row was not fitted."""
    if kept.all():
        return values
    spread = np.full((len(kept), *values.shape[1:]), np.nan)
    spread[kept] = values
    return spread


def outcome_values(
    values: np.ndarray, outcomes: Sequence[str], index: pd.Index
) -> pd.Series | pd.DataFrame:
    """One value per unit and outcome, shape (n, k): a series for k = 1, else a frame."""
    if values.shape[1] == 1:
        return pd.Series(values[:, 0], index=index, name=outcomes[0])
    return pd.DataFrame(values, index=index, columns=pd.Index(list(outcomes)))


def statistics_frame(
    statistics: dict[str, np.ndarray], names: Sequence[str], index: pd.Index
) -> pd.DataFrame:
    """Several statistics per row and quantity, each of shape (n, c).

    One quantity gives one column per statistic; several quantities give two-level columns
    (quantity, statistic), or plain columns when there is one statistic.
    """
    arrays = list(statistics.values())
    if len(names) == 1:
        return pd.DataFrame(
            {name: values[:, 0] for name, values in statistics.items()}, index=index
        )
    if len(arrays) == 1:
        return pd.DataFrame(arrays[0], index=index, columns=pd.Index(list(names)))
    columns = pd.MultiIndex.from_product([list(names), list(statistics)])
    stacked = np.stack(arrays, axis=2).reshape(len(index), len(columns))
    return pd.DataFrame(stacked, index=index, columns=columns)


def square_frame(matrix: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """A covariance matrix with the same names on both sides."""
    return pd.DataFrame(matrix, index=list(names), columns=list(names))


def joint_frame(matrix: np.ndarray, outcomes: Sequence[str], index: pd.Index) -> pd.DataFrame:
    """A covariance between the outcomes of rows, row by row, with the same labels on both sides.

    The labels are those of the rows for one outcome, else (row, outcome).
    """
    if len(outcomes) == 1:
        return pd.DataFrame(matrix, index=index, columns=index)
    k = len(outcomes)
    # A label may be a tuple without there being several index levels.
    rows = [index.get_level_values(level).repeat(k) for level in range(index.nlevels)]
    both = pd.MultiIndex.from_arrays(
        [*rows, list(outcomes) * len(index)], names=[*index.names, "outcome"]
    )
    return pd.DataFrame(matrix, index=both, columns=both)


def group_index(labels: Sequence, level_names: Sequence[str]) -> pd.Index:
    """Labels of groups: plain for the outer level, a tuple of labels for an inner one."""
    if len(level_names) == 1:
        # A label may be a tuple: that of a row of several index levels.
        return pd.Index(list(labels), name=level_names[0], tupleize_cols=False)
    return pd.MultiIndex.from_tuples(list(labels), names=list(level_names))


def random_frame(Psi: np.ndarray, names: Sequence[str], report: str) -> pd.DataFrame:
    """The size of the random effects of one level and how they go together.

    Parameters
    ----------
    Psi
        Shape (d, d).
    names
        Names of the random effects.
    report
        "sd": standard deviations, and correlations below the diagonal; "var": variances and
        covariances.

    Returns
    -------
    DataFrame
        One row per effect; column ``sd`` or ``var``, then one per effect but the last, with NaN
        on and above the diagonal. Correlations with an effect of zero variance are NaN.
    """
    variance = np.diag(Psi)
    size, related = variance, Psi
    if report == "sd":
        size = np.sqrt(np.maximum(variance, 0.0))
        scale = np.outer(size, size)
        with np.errstate(all="ignore"):  # a Psi that is not finite belongs to a failed fit
            related = np.divide(Psi, scale, out=np.full_like(Psi, np.nan), where=scale > 0)
        related = np.clip(related, -1.0, 1.0)
    kind = "cor" if report == "sd" else "cov"
    table = pd.DataFrame({report: size}, index=list(names))
    for column in range(len(names) - 1):
        below = np.where(np.arange(len(names)) > column, related[:, column], np.nan)
        table[f"{kind}.{names[column]}"] = below
    return table
