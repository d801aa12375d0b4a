"""The second stage: coefficients and covariances of the locations to one fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.fits.fit import Fit, mixmeta
from mixmeta_jax.table.columns import is_label
from mixmeta_jax.table.rows import as_pandas
from mixmeta_jax.two_stage.estimates import read_estimates, where
from mixmeta_jax.two_stage.origin import Origin

OPTIONS = ("random", "method", "bscov", "Psi_fix", "control")
"""Arguments of `mixmeta` that `pool` passes on."""


def pool(
    estimates: Any,
    predictors: str = "~ 1",
    data: Any = None,
    labels: Iterable[Any] | None = None,
    names: Iterable[str] | None = None,
    **options: Any,
) -> Fit:
    """Pool the coefficients of one regression per location.

    Parameters
    ----------
    estimates
        What `first_stage` returns; or {label: (coefficients, covariance)}, or a sequence of such
        pairs, or two arrays or frames of shape (n, k) and (n, k, k) as a pair. In the place of a
        pair may stand a mapping or an object with both of them, as ``coef`` (``coefficients``,
        ``params``) and ``vcov`` (``cov``, ``cov_params``), and in the place of a covariance its
        lower triangle by column, of length k(k+1)/2.
    predictors
        What explains differences among the locations, as ``"~ temperature"``.
    data
        Frame with the columns of ``predictors`` (and of ``random``): a row per location, by label
        in its index where the estimates have labels, in their order otherwise; no other rows.
    labels
        Labels of the estimates, where they are not a mapping.
    names
        Names of the k coefficients; default those of a series, else b1, b2, ….
    options
        ``random``, ``method``, ``bscov``, ``Psi_fix`` and ``control``, as in `mixmeta`.

    Returns
    -------
    Fit
        Its rows carry the labels; ``fit.blup()``, `curves`, `minimum_risk` and `attributable` give
        the locations back, and refuse a first stage with another reduction, other lags or other
        bases than the one that was pooled. ``fit.dropped`` has the locations whose first stage
        failed, with what it said.

    Raises
    ------
    InputError
        For shapes or names that differ between locations, covariances that are not positive
        definite, and labels that are repeated, absent from ``data``, or there alone; the message
        names the location.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> first = {"Rome": ([0.2, 0.1], np.eye(2)), "Oslo": ([0.4, 0.3], np.eye(2)),
    ...          "Bonn": ([0.3, 0.5], np.eye(2))}
    >>> fit = mx.pool(first, bscov="id")
    >>> curves = mx.curves(fit, basis=[[0.0, 0.0], [1.0, 2.0]], at=[0, 10])
    >>> round(float(curves.loc[("Oslo", 10), "curve"]), 3)
    0.9
    """
    wanted = "a right-hand side, as '~ temperature'"
    right = gates.text(predictors, "predictors", wanted).strip()
    if not right.startswith("~"):
        raise gates.refused("predictors", wanted, predictors)
    gates.choices(list(options), "options", OPTIONS)
    gates.refuse_traced({"estimates": estimates}, "pool")
    read = read_estimates(estimates, labels)
    b, V, index = read.b, read.V, read.index
    k = b.shape[1]
    positive = np.linalg.eigvalsh(V)[:, 0] > 0
    if not positive.all():
        i = int(np.argmin(positive))
        raise InputError(f"The covariance of {where(index, i)} is not positive definite.")
    columns = [f"b{i + 1}" for i in range(k)] if read.names is None else read.names
    if names is not None:
        columns = _names(names)
    if len(columns) != k or len(set(columns)) < k:
        raise InputError(f"names are {columns}: give {k} different ones, one per coefficient.")
    if any("`" in name for name in columns):
        raise InputError(f"names are {columns}: they go into a formula, so leave out the backtick.")
    table = pd.DataFrame(b, columns=columns, index=index)
    if data is not None:
        table = table.join(_matched(as_pandas(data), index, columns, read.left_out))
    if read.left_out:
        table, V = _with_left_out(table, V, data, read.left_out)
    left = " + ".join(f"`{c}`" if not c.isidentifier() else c for c in columns)
    fit = mixmeta(f"{left} {right}", S=V if k > 1 else V[:, 0, 0], data=table, **options)
    fit = replace(fit, origin=Origin.of(estimates))
    return _told(fit, read.left_out) if read.left_out else fit


def _names(names: Iterable[str]) -> list[str]:
    given = [gates.text(name, "an entry of names") for name in gates.listed(names, "names")]
    for name in given:
        if not is_label(name):
            raise gates.refused("an entry of names", "text that can be printed", name)
    return given


def _matched(
    data: pd.DataFrame, index: pd.Index, columns: list[str], left_out: Mapping[Any, str]
) -> pd.DataFrame:
    """The rows of the locations, in their order.

    Raises
    ------
    InputError
        For a location without a row, a row without a location, two rows for one, and a column that
        is called as a coefficient.
    """
    clash = [name for name in columns if name in data.columns]
    if clash:
        raise InputError(f"data has a column '{clash[0]}', a coefficient's name: give other names.")
    if data.index.has_duplicates:
        repeated = data.index[data.index.duplicated()].tolist()
        raise InputError(f"data has two rows for {repeated[0]!r}.")
    absent = index.difference(data.index, sort=False).tolist()
    if absent:
        raise InputError(
            f"data has no row for location {absent[0]!r} (of {len(absent)} without one): its "
            "index must hold the labels of the estimates."
        )
    further = data.index.difference(index, sort=False).difference(list(left_out), sort=False)
    if len(further):
        raise InputError(
            f"data has a row for {shown(repr(further.tolist()[0]))} (of {len(further)} such rows), "
            "of which there are no estimates: leave it out of data, or add its estimates."
        )
    return data.loc[index]


def _with_left_out(
    table: pd.DataFrame, V: np.ndarray, data: Any, left_out: Mapping[Any, str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """The locations without estimates as rows that miss every outcome, at the end."""
    more = pd.Index(list(left_out), name=table.index.name, tupleize_cols=False)
    rows = pd.DataFrame(index=more) if data is None else as_pandas(data).reindex(more)
    nothing = np.full((len(more), *V.shape[1:]), np.nan)
    return pd.concat([table, rows]), np.concatenate([V, nothing])


def _told(fit: Fit, left_out: Mapping[Any, str]) -> Fit:
    """The fit, which says of the locations without estimates what their first stage said."""
    dropped = fit.frame.full_index[~fit.frame.kept].tolist()
    reasons = [
        left_out.get(label, reason)
        for label, reason in zip(dropped, fit.frame.reasons, strict=True)
    ]
    return replace(fit, frame=replace(fit.frame, reasons=tuple(reasons)))
