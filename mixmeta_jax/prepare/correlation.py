"""Error covariances of repeated measures: blocks of S from variances and a correlation.

The rows of a group (the visits of a study) have known variances and an assumed correlation. Each
builder returns ``{group: matrix}``, the ``S`` of `mixmeta`. The matrices carry the labels of the
rows they cover, so that rows without a variance are left out and nothing depends on position.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.table.columns import label_codes, numeric, refuse_twice_named
from mixmeta_jax.table.rows import as_pandas


def ar1_blocks(
    data: pd.DataFrame,
    group: str,
    variance: str,
    rho: float,
    time: str | None = None,
    unit: float = 1.0,
) -> dict[Hashable, pd.DataFrame]:
    """Autoregressive blocks: the correlation is ρ to the power of the lag.

    Parameters
    ----------
    data
        Long frame with unique row labels.
    group, variance
        Names of its columns: the group whose rows are correlated, and the error variance.
    rho
        Correlation at lag 1; in (-1, 1) for lags by position, in [0, 1) for lags in time.
    time
        Column of the times. The lag is then |t - t'| / ``unit``, at any spacing. Without it the
        lag is the difference of positions among the rows of the group, those without a variance
        included.
    unit
        Time that counts as lag 1.

    Returns
    -------
    dict
        For each group a frame (r, r) over its rows with a variance, labelled by them; groups
        without any are left out.

    Raises
    ------
    InputError
        If ρ is out of its range, a variance is negative or infinite, a row has a variance and no
        group, a time is missing, infinite or repeated within a group, or a column holds no numbers;
        the message names the row or group.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> gliomas = mx.load_dataset("gliomas")
    >>> S = mx.ar1_blocks(gliomas, "study", "logORvar", rho=0.6, time="time", unit=6)
    >>> S[1].round(3)
           0      1      2      3
    0  0.946  0.369  0.251  0.176
    1  0.369  0.399  0.272  0.191
    2  0.251  0.272  0.513  0.360
    3  0.176  0.191  0.360  0.703
    >>> fit = mx.mixmeta("logOR ~ time", S=S, data=gliomas, random="~ 1 | study")
    >>> fit.coef.round(3).to_dict()
    {'(Intercept)': 0.174, 'time': 0.009}
    """
    data = as_pandas(data)
    where = None
    unit = gates.number(unit, "unit", above=0)
    if time is None:
        rho = gates.number(rho, "rho", above=-1, below=1)
    else:
        hint = ": leave out time for lags by position, where it may be negative"
        rho = gates.number(rho, "rho, at lags in time,", least=0, below=1, hint=hint)
        roles = {"group": group, "variance": variance, "time": time}
        for role, name in roles.items():
            gates.column(name, data, role)
        refuse_twice_named(roles)
        where = numeric(data[time], f"column '{time}' (time)", truths=False)

    def correlation(label: Hashable, rows: np.ndarray, seen: np.ndarray) -> np.ndarray:
        place = np.arange(len(rows), dtype=float) if where is None else where[rows] / unit
        place = place[seen]
        if np.isnan(place).any():
            row = data.index[rows[seen][np.isnan(place)]].tolist()[0]
            raise InputError(f"Row {row!r} of group {label!r} has no time in column {time!r}.")
        if len(np.unique(place)) < len(place):
            raise InputError(
                f"Group {label!r} has a time twice in column {time!r}; rows at the same time would "
                "be perfectly correlated."
            )
        return np.power(rho, np.abs(place[:, None] - place))

    return _blocks(data, group, variance, correlation)


def cs_blocks(
    data: pd.DataFrame, group: str, variance: str, rho: float
) -> dict[Hashable, pd.DataFrame]:
    """Compound-symmetric blocks: every two rows of a group have correlation ρ.

    Parameters, except that ρ lies between -1/(r - 1) and 1 for a group of r rows, and what is
    returned and raised are those of `ar1_blocks`.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> gliomas = mx.load_dataset("gliomas")
    >>> S = mx.cs_blocks(gliomas, "study", "logORvar", rho=0.4)
    >>> S[1].round(3)
           0      1      2      3
    0  0.946  0.246  0.279  0.326
    1  0.246  0.399  0.181  0.212
    2  0.279  0.181  0.513  0.240
    3  0.326  0.212  0.240  0.703
    """
    rho = gates.number(rho, "rho", least=-1, below=1)

    def correlation(label: Hashable, rows: np.ndarray, seen: np.ndarray) -> np.ndarray:
        r = int(seen.sum())
        lowest = -1.0 if r == 1 else -1 / (r - 1)
        if not lowest < rho < 1:
            raise InputError(
                f"rho lies between {lowest:g} and 1 for group {label!r} with {r} rows; it got "
                f"{rho!r}."
            )
        return np.where(np.eye(r, dtype=bool), 1.0, rho)

    return _blocks(data, group, variance, correlation)


def _blocks(
    data: pd.DataFrame,
    group: str,
    variance: str,
    correlation: Callable[[Hashable, np.ndarray, np.ndarray], np.ndarray],
) -> dict[Hashable, pd.DataFrame]:
    """Labelled covariances; ``correlation`` takes a group, its rows, and which have variances."""
    data = as_pandas(data)
    gates.column(group, data, "group")
    gates.column(variance, data, "variance")
    if not data.index.is_unique:
        row = data.index[data.index.duplicated()].tolist()[0]
        raise InputError(
            f"The row label {row!r} occurs more than once, so blocks cannot name their rows; use "
            "data.reset_index(drop=True)."
        )
    refuse_twice_named({"group": group, "variance": variance})
    v = numeric(data[variance], f"column '{variance}' (variance)", truths=False)
    if (v < 0).any():
        row = data.index[v < 0].tolist()[0]
        raise InputError(f"Row {row!r} has a negative variance in column {variance!r}.")
    blocks = {}
    codes, labels = label_codes(data, group)
    alone = (codes < 0) & ~np.isnan(v)
    if alone.any():
        row = data.index[alone].tolist()[0]
        raise InputError(
            f"Row {row!r} has a variance in column {variance!r}, but no group in {group!r}: fill "
            "it in, or leave the row out."
        )
    for code, label in enumerate(labels):
        rows = np.flatnonzero(codes == code)
        seen = ~np.isnan(v[rows])
        if not seen.any():
            continue
        sd = np.sqrt(v[rows[seen]])
        names = data.index[rows[seen]]
        matrix = correlation(label, rows, seen) * np.outer(sd, sd)
        np.fill_diagonal(matrix, v[rows[seen]])
        blocks[label] = pd.DataFrame(matrix, index=names, columns=names)
    return blocks
