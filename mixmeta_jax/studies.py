"""Uses of many fits: bootstrap, leave-one-out, cumulative meta-analysis, permutation tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.control import as_control
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.lane_data import ManyData
from mixmeta_jax.fit import Fit
from mixmeta_jax.many_data import ManyModel
from mixmeta_jax.many_fits import DEFAULT_RETURNS, ManyFits, fit_model
from mixmeta_jax.results import PermutationTest
from mixmeta_jax.simulation import simulate_design, tight_layout

RETURNS = (*DEFAULT_RETURNS, "se")


def bootstrap(
    fit: Fit,
    n: int = 1000,
    seed: int = 0,
    kind: str = "parametric",
    first: int = 0,
    progress: bool = True,
) -> ManyFits:
    """Refit a model to data sets drawn from it, or from its groups.

    Parameters
    ----------
    fit
        The fitted model.
    n
        Number of data sets.
    seed, first
        Seed, and number of the first data set; data set b depends on (seed, b) alone.
    kind
        "parametric" draws outcomes from the fitted model, in its own missing pattern; "groups"
        draws outer groups with replacement, as many as there are.

    Returns
    -------
    ManyFits
        With standard errors.

    Raises
    ------
    InputError
        For an unknown kind; for "groups" where S spans rows, or where an inner level has groups of
        several rows.
    """
    if kind == "parametric":
        frame = fit.frame
        mean = fit.fitted_array - frame.offset
        y = simulate_design(fit.design, mean, fit.Psi_by_level, n, seed, first)
        return _refit(fit, y, progress=progress)
    if kind != "groups":
        raise InputError(f"kind must be 'parametric' or 'groups', not {kind!r}.")
    return _resampled(fit, n, seed, first, progress)


def leave_one_out(fit: Fit, by: str = "unit", progress: bool = True) -> pd.DataFrame:
    """Refit without one unit, or without one group, at a time.

    Parameters
    ----------
    fit
        The fitted model.
    by
        "unit", or the name of a level.

    Returns
    -------
    DataFrame
        One row per unit or group that is left out, as `ManyFits.to_frame`.

    Raises
    ------
    InputError
        For an unknown level.
    """
    codes, labels = _parts(fit, by)
    out = np.arange(len(labels))[:, None] == codes[None]
    return _masked(fit, out, labels, by, progress)


def cumulative(fit: Fit, order: Any = None, progress: bool = True) -> pd.DataFrame:
    """Refit to the first outer group, the first two, and so on.

    Parameters
    ----------
    fit
        The fitted model.
    order
        Values by which the groups are taken in, ascending: a column of the data, or one value per
        fitted unit (a group counts at its smallest); None for the order of the data.

    Returns
    -------
    DataFrame
        One row per group that is added, as `ManyFits.to_frame`; those that hold too little to fit
        have NaN and a status.

    Raises
    ------
    InputError
        For an unknown column, or values of another length.
    """
    codes, labels = _parts(fit, fit.frame.levels[0].name)
    values = np.arange(fit.frame.n) if order is None else _order(fit, order)
    when = np.full(len(labels), np.inf)
    np.minimum.at(when, codes, np.asarray(values, float))
    ranks = np.argsort(np.argsort(when, kind="stable"), kind="stable")
    out = ranks[codes][None] > np.arange(len(labels))[:, None]
    names = [labels[g] for g in np.argsort(when, kind="stable")]
    return _masked(fit, out, names, "added", progress)


def permutation_test(
    fit: Fit, term: str, n: int = 1000, seed: int = 0, progress: bool = True
) -> PermutationTest:
    """Permutation test of one coefficient of a meta-regression.

    The rows of the predictors are permuted against the outcomes and their error covariances
    (Higgins & Thompson 2004); the statistic is the coefficient over its standard error.

    Parameters
    ----------
    fit
        A fit with one group per unit and S by unit.
    term
        Name of the coefficient.
    n, seed
        Number of permutations, and their seed.

    Raises
    ------
    InputError
        For an unknown coefficient, or a model with groups of several units.
    """
    names = fit.frame.coef_names()
    if term not in names:
        raise InputError(f"There is no coefficient '{term}': choose among {', '.join(names)}.")
    frame, design = fit.frame, fit.design
    single = len(frame.levels) == 1 and len(np.unique(design.groups[:, 0])) == frame.n
    if not single or isinstance(design.S, tuple) or design.Z[0].shape[1] > 1:
        raise InputError(
            "permutation_test exchanges whole units: it needs one group per unit, random "
            "intercepts and S by unit."
        )
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(frame.n) for _ in range(n)])
    found = _refit(fit, design.y[orders], S=np.asarray(design.S)[orders], progress=progress)
    place = names.index(term)
    assert found.coef is not None and found.se is not None
    with np.errstate(invalid="ignore"):
        statistics = found.coef[:, place] / found.se[:, place]
    own = fit.coef.iloc[place] / np.sqrt(fit.estimate.vcov[place, place])
    valid = np.isfinite(statistics)
    extreme = int((np.abs(statistics[valid]) >= np.abs(own) * (1 - 1e-12)).sum())
    pvalue = (extreme + 1) / (int(valid.sum()) + 1)
    return PermutationTest(term, float(own), pvalue, int(valid.sum()), statistics)


def _refit(fit: Fit, y: np.ndarray, S: np.ndarray | None = None, progress: bool = True) -> ManyFits:
    """The model of a fit on other outcomes, the offset taken off: shape (B, n, k)."""
    return fit_model(_model(fit, y, S), fit.method, _control(fit), RETURNS, None, progress)


def _control(fit: Fit) -> Any:
    return replace(as_control(fit.arguments["control"]), start=None)


def _model(fit: Fit, y: np.ndarray, S: np.ndarray | None) -> ManyModel:
    design, layout = fit.design, tight_layout(fit.design)
    seen = np.isfinite(y)
    shared: Any = design.S
    if isinstance(shared, tuple):
        pairs = zip(shared, layout.buckets, strict=True)
        shared = tuple(blocks[: bucket.rows.shape[1]] for blocks, bucket in pairs)
    same = bool((seen == seen[:1]).all())
    # With the own S of each data set, what is missing moves with the units.
    mask = seen.any(0)
    design = replace(
        design, S=shared, mask=mask, layout=layout, complete=bool(seen.all()), y=np.zeros_like(y[0])
    )
    return _named(fit, ManyData(design, y, S, same))


def _named(fit: Fit, many: ManyData) -> ManyModel:
    frame = fit.frame
    names = [level.name for level in frame.levels]
    effects = [frame.random_names(level) for level in range(len(names))]
    return ManyModel(many, frame.coef_names(), names, effects, frame.random)


def _masked(
    fit: Fit, out: np.ndarray, labels: list[Any], name: str, progress: bool
) -> pd.DataFrame:
    """Fits without some of the units, shape (B, n), as a frame."""
    y = np.where(out[:, :, None], np.nan, fit.design.y[None])
    frame = _refit(fit, y, progress=progress).to_frame()
    if any(isinstance(label, tuple) for label in labels):
        frame.index = pd.MultiIndex.from_tuples(labels)
    else:
        frame.index = pd.Index(labels, name=name)
    return frame


def _parts(fit: Fit, by: str) -> tuple[np.ndarray, list[Any]]:
    frame = fit.frame
    names = [level.name for level in frame.levels]
    if by in names:
        level = frame.levels[names.index(by)]
        return level.codes, list(level.labels)
    if by == "unit":
        return np.arange(frame.n), frame.index.tolist()
    raise InputError(f"by={by!r} must be 'unit' or a level: {', '.join(map(repr, names))}.")


def _order(fit: Fit, order: Any) -> np.ndarray:
    n = fit.frame.n
    if isinstance(order, str):
        data = fit.arguments["data"]
        if data is None or order not in data:
            raise InputError(f"order names the column '{order}', which is not in the data.")
        values = np.asarray(pd.DataFrame(data).loc[fit.frame.index, order], float)
    else:
        values = np.asarray(order, float)
    if values.shape != (n,) or np.isnan(values).any():
        raise InputError(f"order must have one number for each of the {n} fitted units.")
    return values


def _resampled(fit: Fit, n: int, seed: int, first: int, progress: bool) -> ManyFits:
    """Outer groups drawn with replacement, each in a slot as long as the longest of them."""
    frame, design = fit.frame, fit.design
    rows_innermost = len(frame.levels) == 1 or (
        len(frame.levels) == 2 and len(np.unique(design.groups[:, 1])) == frame.n
    )
    if isinstance(design.S, tuple) or not rows_innermost:
        raise InputError(
            "kind='groups' needs S by unit, and no level between the outer groups and the units: "
            "use kind='parametric'."
        )
    codes = design.groups[:, 0]
    members = [np.flatnonzero(codes == g) for g in range(int(codes.max()) + 1)]
    m, r = len(members), max(map(len, members))
    table = np.full((m, r), frame.n)
    for g, rows in enumerate(members):
        table[g, : len(rows)] = rows
    drawn = np.stack([np.random.default_rng([seed, first + b]).integers(0, m, m) for b in range(n)])
    source = table[drawn].reshape(n, m * r)
    empty = source == frame.n
    row = np.minimum(source, frame.n - 1)
    y = np.where(empty[..., None], np.nan, np.where(design.mask, design.y, np.nan)[row])
    groups = [np.repeat(np.arange(m), r), np.arange(m * r)][: len(frame.levels)]
    slots = replace(
        design,
        y=np.zeros((m * r, design.k)),
        X=np.asarray(design.X)[row[0]],
        S=np.broadcast_to(np.eye(design.k), (m * r, design.k, design.k)),
        Z=tuple(Z[row[0]] for Z in design.Z),
        mask=np.isfinite(y).any(0),
        groups=np.stack(groups, axis=1),
        complete=not np.isnan(y).any(),
    )
    slots = replace(slots, layout=tight_layout(slots))
    same = bool((np.isfinite(y) == np.isfinite(y[:1])).all())
    S = np.asarray(design.S)[row]
    X = np.asarray(design.X)[row]
    Z = tuple(Z[row] for Z in design.Z)
    many = ManyData(slots, y, S, same, X, Z)
    return fit_model(_named(fit, many), fit.method, _control(fit), RETURNS, None, progress)
