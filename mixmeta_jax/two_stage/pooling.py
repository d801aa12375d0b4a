"""Two-stage analyses: coefficients and covariances per location to one fit and a curve for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fit import Fit, mixmeta
from mixmeta_jax.fits.fitted_model import checked_fit
from mixmeta_jax.inference.wald import check_conf_level, normal_quantile
from mixmeta_jax.table.columns import is_label
from mixmeta_jax.table.rows import as_pandas
from mixmeta_jax.tolerances import ASYMMETRY

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
        {label: (coefficients, covariance)}, or a sequence of such pairs, or two arrays of shape
        (n, k) and (n, k, k) as a pair.
    predictors
        What explains differences among the locations, as ``"~ temperature"``.
    data
        Frame with the columns of ``predictors`` (and of ``random``): a row per location, by label
        in its index where the estimates have labels, in their order otherwise.
    labels
        Labels of the estimates, where they are not a mapping.
    names
        Names of the k coefficients; default b1, b2, ….
    options
        ``random``, ``method``, ``bscov``, ``Psi_fix`` and ``control``, as in `mixmeta`.

    Returns
    -------
    Fit
        Its rows carry the labels; ``fit.blup()`` and `curves` give the locations back.

    Raises
    ------
    InputError
        For shapes that differ between locations, covariances that are not positive definite, and
        labels that are repeated or absent from ``data``; the message names the location.

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
    pairs, index = _labelled(estimates, labels)
    b, V = _stacked(pairs, index)
    k = b.shape[1]
    columns = [f"b{i + 1}" for i in range(k)] if names is None else _names(names)
    if len(columns) != k or len(set(columns)) < k:
        raise InputError(f"names are {columns}: give {k} different ones, one per coefficient.")
    if any("`" in name for name in columns):
        raise InputError(f"names are {columns}: they go into a formula, so leave out the backtick.")
    table = pd.DataFrame(b, columns=columns, index=index)
    if data is not None:
        table = table.join(_matched(as_pandas(data), index, columns))
    positive = np.linalg.eigvalsh(V)[:, 0] > 0
    if not positive.all():
        i = int(np.argmin(positive))
        raise InputError(f"The covariance of {_where(index, i)} is not positive definite.")
    left = " + ".join(f"`{c}`" if not c.isidentifier() else c for c in columns)
    return mixmeta(f"{left} {right}", S=V if k > 1 else V[:, 0, 0], data=table, **options)


def curves(
    fit: Fit, basis: Any, at: Any = None, level: int | str | None = None, conf_level: float = 0.95
) -> pd.DataFrame:
    """Curves of the locations: the basis times their best linear unbiased predictions.

    Parameters
    ----------
    fit
        From `pool`.
    basis
        The basis of the first stage at m exposures, shape (m, k), less its value at the reference.
    at
        The m exposures, for the index; default 0, 1, ….
    level
        As in `Fit.blup`; 0 gives the pooled curves of the locations' predictors.
    conf_level
        Level of the intervals.

    Returns
    -------
    DataFrame
        ``curve, se, lower, upper``, indexed by location and exposure.

    Raises
    ------
    InputError
        Where the basis does not have k columns, or ``at`` not m values.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> first = {"Rome": ([0.2, 0.1], np.eye(2)), "Oslo": ([0.4, 0.3], np.eye(2)),
    ...          "Bonn": ([0.3, 0.5], np.eye(2))}
    >>> fit = mx.pool(first, bscov="id")
    >>> mx.curves(fit, basis=[[0.0, 0.0], [1.0, 2.0]], at=[0, 10], level=0).round(2).head(2)
                 curve    se  lower  upper
    location at
    Rome     0     0.0  0.00   0.00   0.00
             10    0.9  1.29  -1.63   3.43
    """
    critical = normal_quantile(check_conf_level(conf_level))
    k = checked_fit(fit).frame.k
    gates.refuse_traced({"basis": basis, "at": at}, "curves")
    basis = gates.numbers(basis, "basis", ("m", k))
    if at is None:
        at = range(len(basis))
    if isinstance(at, np.ndarray) or type(at).__module__.startswith("jax"):
        at = np.asarray(at).ravel()
    at = gates.listed(at, "at")
    if not all(map(is_label, at)):
        raise gates.refused("at", "a list of exposures", at)
    if len(at) != len(basis):
        raise InputError(f"at has {len(at)} values, but basis has {len(basis)} rows.")
    table, covariance = fit.blup(level=level, vcov=True)
    curve = table.to_numpy().reshape(-1, k) @ basis.T
    variance = np.einsum("mi,nij,mj->nm", basis, covariance, basis, optimize=True)
    se = np.sqrt(np.maximum(variance, 0.0))
    labels = fit.index
    index = pd.MultiIndex.from_product([labels, at], names=[labels.name or "location", "at"])
    width = critical * se
    values = [curve, se, curve - width, curve + width]
    found = np.stack([value.ravel() for value in values], axis=1)
    return pd.DataFrame(found, columns=["curve", "se", "lower", "upper"], index=index)


def _names(names: Iterable[str]) -> list[str]:
    given = [gates.text(name, "an entry of names") for name in gates.listed(names, "names")]
    for name in given:
        if not is_label(name):
            raise gates.refused("an entry of names", "text that can be printed", name)
    return given


def _labelled(estimates: Any, labels: Iterable[Any] | None) -> tuple[list, pd.Index]:
    if isinstance(estimates, Mapping):
        if labels is not None:
            raise InputError("labels are given, but the estimates have labels already.")
        pairs, given, what = list(estimates.values()), list(estimates), "A label of estimates"
    else:
        what = "An entry of labels"
        if isinstance(estimates, tuple) and len(estimates) == 2 and _axes(estimates[1]) == 3:
            b, V = (
                gates.numbers(part, "estimates", missing=True, infinite=True) for part in estimates
            )
            if b.ndim == 0 or len(b) != len(V):
                raise InputError(
                    f"estimates has coefficients of shape {b.shape}, but {len(V)} covariances."
                )
            estimates = list(zip(b, V, strict=True))
        pairs = gates.listed(estimates, "estimates", "a mapping, list or pair of estimates")
        given = list(range(len(pairs))) if labels is None else gates.listed(labels, "labels")
        if len(given) != len(pairs):
            raise InputError(f"labels has {len(given)} entries for {len(pairs)} estimates.")
    index = _label_index(given, what)
    if not pairs:
        raise InputError("estimates is empty: there is nothing to pool.")
    if index.has_duplicates:
        repeated = index[index.duplicated()].tolist()
        raise InputError(f"The label {repeated[0]!r} stands for two locations.")
    return pairs, index


def _label_index(given: list, what: str) -> pd.Index:
    """The labels, each one thing that can be told from the others."""
    for label in given:
        unlike = isinstance(label, (list, dict, set, np.ndarray, pd.Series, pd.DataFrame, pd.Index))
        missing = not unlike and not isinstance(label, tuple) and pd.isna(label)
        if missing or not is_label(label):
            raise gates.refused(what, "text, a number or a tuple", label)
    # A tuple is one label.
    return pd.Index(given, name="location", tupleize_cols=False)


def _axes(values: Any) -> int:
    try:
        return np.ndim(values)
    except ValueError:  # ragged
        return 0


def _stacked(pairs: list, index: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients, shape (n, k), and covariances, shape (n, k, k)."""
    vectors: list[np.ndarray] = []
    matrices: list[np.ndarray] = []
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InputError(
                f"estimates: give a pair (coefficients, covariance) for {_where(index, i)}."
            )
        of = f"of {_where(index, i)} in estimates"
        b = np.ravel(gates.numbers(pair[0], f"The coefficient {of}", missing=True, infinite=True))
        V = gates.numbers(pair[1], f"The covariance {of}", missing=True, infinite=True)
        V = np.atleast_2d(V)
        k = len(vectors[0]) if vectors else len(b)
        if len(b) != k or V.shape != (k, k):
            raise InputError(
                f"{_where(index, i)} has {len(b)} coefficients and a covariance of shape "
                f"{V.shape}: it must have {k}, and {(k, k)}, as the first location does."
            )
        vectors.append(b)
        matrices.append(V)
    b, V = np.stack(vectors), np.stack(matrices)
    bad = ~(np.isfinite(b).all(1) & np.isfinite(V).all((1, 2)))
    if bad.any():
        raise InputError(
            f"{_where(index, int(np.argmax(bad)))} has values that are not finite: leave it out."
        )
    skew = np.abs(V - V.transpose(0, 2, 1)).max((1, 2)) > ASYMMETRY * np.abs(V).max((1, 2))
    if skew.any():
        where = _where(index, int(np.argmax(skew)))
        raise InputError(f"The covariance of {where} is not symmetric.")
    return b, 0.5 * (V + V.transpose(0, 2, 1))


def _matched(data: pd.DataFrame, index: pd.Index, columns: list[str]) -> pd.DataFrame:
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
    return data.loc[index]


def _where(index: pd.Index, i: int) -> str:
    return f"location {index.tolist()[i]!r}"
