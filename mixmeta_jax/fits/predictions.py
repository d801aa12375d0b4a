"""Predictions, BLUPs and random effects of a fitted model, as frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import expit

from mixmeta_jax import gates
from mixmeta_jax.choices import BlupKind, ErrorMethod, RowKind
from mixmeta_jax.design.design import Design
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.new_groups import new_groups
from mixmeta_jax.fits.predicted_rows import new_rows, one_row, outcome_rows, rows_of
from mixmeta_jax.inference.joint_effects import Targets, joint_effects
from mixmeta_jax.inference.posterior import Posterior, posterior
from mixmeta_jax.inference.prediction import (
    between_variance,
    predicted,
    quadratic_form,
    standard_errors,
)
from mixmeta_jax.inference.reference import Reference, t_quantile, t_tail
from mixmeta_jax.inference.wald import check_conf_level, normal_quantile
from mixmeta_jax.report import tables
from mixmeta_jax.table.frame import ModelFrame
from mixmeta_jax.table.frame_design import design_from_frame

Result: TypeAlias = "pd.DataFrame | tuple[pd.DataFrame, np.ndarray | pd.DataFrame]"


TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "expit": expit,
    "tanh": np.tanh,
}
"""From the scales of log ratios, logits and Fisher's z: increasing, so that bounds stay bounds."""

UNTRANSFORMED = ("se", "df", "prob")


def predict(
    model: FittedModel,
    newdata: Any,
    se: bool,
    ci: bool,
    pi: bool,
    vcov: bool | str,
    conf_level: float,
    level: int | str | None,
    reference: Any,
    distribution: Reference,
    prob: float | None,
    transform: str | None,
) -> Result:
    """Expected outcomes with their uncertainty; see `Fit.predict`."""
    conf_level = check_conf_level(conf_level)
    for what, value in (("se", se), ("ci", ci), ("pi", pi)):
        gates.flag(value, what)
    check_vcov(vcov)
    if prob is not None:
        prob = gates.number(prob, "prob, a cutoff on the scale of the outcomes,")
    transformed = _transform(transform)
    # Without an interval no level widens, but a level that is not there is an error all the same.
    depth = model.level_number(level) * (pi or prob is not None)
    rows = rows_of(model, newdata, depth)
    if isinstance(reference, (Mapping, pd.Series, pd.DataFrame)):
        rows = rows.less(new_rows(model, one_row(reference), depth))
    elif reference is not None:
        rows = rows.less(rows.at(reference))
    k, estimate = model.frame.k, model.estimate
    statistics = {"fit": predicted(rows.X, estimate.beta, k) + rows.offset}
    variance = quadratic_form(rows.X, distribution.vcov, k)
    if se:
        statistics["se"] = standard_errors(variance)
    df, critical = _quantiles(distribution, rows.X, k, conf_level, ci or pi or prob is not None)
    if df is not None:
        statistics["df"] = df
    if ci:
        _add_interval(statistics, "ci", "fit", variance, critical)
    if pi or prob is not None:
        between = between_variance(rows.Z, model.Psi_by_level[:depth], len(rows.X), k)
        if pi:
            _add_interval(statistics, "pi", "fit", variance + between, critical)
        if prob is not None:
            away = prob - statistics["fit"]
            with np.errstate(divide="ignore", invalid="ignore"):
                away = away / standard_errors(variance + between)
            statistics["prob"] = t_tail(away, np.array(np.inf) if df is None else df)
    joint = None
    if vcov == "joint":
        wide = outcome_rows(rows.X, k)
        joint = wide @ distribution.vcov @ wide.T
    _apply(transformed, statistics)
    return _arranged(model, statistics, variance, rows.index, newdata is None, vcov, joint)


def blup(
    model: FittedModel,
    level: int | str | None,
    type: str,
    se: bool,
    pi: bool,
    vcov: bool | str,
    conf_level: float,
    se_method: str,
    newdata: Any,
    S: Any,
    by: str,
    transform: str | None,
) -> Result:
    """Best linear unbiased predictions; see `Fit.blup`."""
    critical = normal_quantile(check_conf_level(conf_level))
    for what, value in (("se", se), ("pi", pi)):
        gates.flag(value, what)
    gates.choice(type, "type", BlupKind)
    gates.choice(se_method, "se_method", ErrorMethod)
    gates.choice(by, "by", RowKind)
    check_vcov(vcov)
    transformed = _transform(transform)
    depth = model.level_number(level)
    if newdata is None and S is not None:
        raise InputError("blup takes S only together with newdata: the fit has its own S.")
    if by == "group" and depth == 0:
        raise InputError(
            "by='group' needs a level with random effects"
            + (": a fixed-effects model has none." if model.n_levels == 0 else ", counted from 1.")
        )
    frame = model.frame if newdata is None else new_groups(model, newdata, S)
    joint = None
    if by == "unit" and vcov != "joint":
        values, variance = _posterior_moments(model, frame, depth, type, se_method)
    else:
        targets, offset = blup_targets(frame, depth, by)
        found = joint_effects(
            _design(model, frame), model.Psi_by_level, model.estimate.beta, targets
        )
        kind = (model.estimate.vcov, type == "residual", se_method == "exact")
        values, variance = found.mean, found.by_row(*kind)
        if type == "outcome":
            values = values + offset + predicted(targets.X, model.estimate.beta, frame.k)
        if vcov == "joint":
            joint = found.covariance(*kind)
    statistics = {"blup": values}
    if se:
        statistics["se"] = standard_errors(variance)
    if pi:
        _add_interval(statistics, "pi", "blup", variance, critical)
    _apply(transformed, statistics)
    if by == "unit":
        return _arranged(model, statistics, variance, frame.index, newdata is None, vcov, joint)
    index = tables.group_index(frame.levels[depth - 1].labels, model.level_names[:depth])
    return _arranged(model, statistics, variance, index, False, vcov, joint)


def blup_targets(frame: ModelFrame, depth: int, by: str) -> tuple[Targets, np.ndarray]:
    """The units, or the means over the units of each group of a level; and their offset.

    They are predicted with the effects of ``depth`` levels.
    """
    levels = frame.levels[:depth]
    if by == "unit":
        Z = tuple(level.Z for level in levels)
        codes = tuple(level.codes for level in levels)
        return Targets(frame.X, Z, codes, np.arange(frame.n)), frame.offset
    own = levels[-1].codes
    _, first = np.unique(own, return_index=True)

    def mean(values: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(first), values.shape[1]))
        np.add.at(sums, own, values)
        return sums / np.bincount(own)[:, None]

    Z = tuple(mean(level.Z) for level in levels)
    codes = tuple(level.codes[first] for level in levels)
    return Targets(mean(frame.X), Z, codes, first), mean(frame.offset)


def blup_values(model: FittedModel, depth: int) -> np.ndarray:
    """BLUPs of the outcomes of the fitted units with the effects of ``depth`` levels, (n, k)."""
    return _posterior_moments(model, model.frame, depth, "outcome", "paper")[0]


def ranef(model: FittedModel, level: int | str | None, se: bool) -> pd.DataFrame:
    """Random effects of the groups of one level; see `Fit.ranef`."""
    gates.flag(se, "se")
    depth = model.level_number(level)
    if depth == 0:
        raise InputError(
            "ranef needs a level with random effects"
            + (": a fixed-effects model has none." if model.n_levels == 0 else ", counted from 1.")
        )
    frame = model.frame
    effects = _posterior(model, frame, depth)
    statistics = {"ranef": effects.effects[depth - 1]}
    if se:
        statistics["se"] = standard_errors(effects.effect_vcov[depth - 1])
    labels = frame.levels[depth - 1].labels
    index = tables.group_index(labels, model.level_names[:depth])
    return tables.statistics_frame(statistics, frame.random_names(depth - 1), index)


def _design(model: FittedModel, frame: ModelFrame) -> Design:
    if frame is model.frame:
        return model.design
    return design_from_frame(frame, model.design.structures)


def _posterior(model: FittedModel, frame: ModelFrame, depth: int) -> Posterior:
    estimate, design = model.estimate, _design(model, frame)
    return posterior(design, model.Psi_by_level, estimate.beta, estimate.vcov, depth)


def _posterior_moments(
    model: FittedModel, frame: ModelFrame, depth: int, type: str, se_method: str
) -> tuple[np.ndarray, np.ndarray]:
    """BLUPs (n, k) and their covariances (n, k, k)."""
    expected = predicted(frame.X, model.estimate.beta, frame.k) + frame.offset
    moments = _posterior(model, frame, depth)
    if type == "residual":
        exact = moments.residual_exact
        return moments.mean, moments.random_variance if se_method == "paper" else exact
    exact = moments.variance_exact
    return expected + moments.mean, moments.variance_paper if se_method == "paper" else exact


def _quantiles(
    distribution: Reference, X: np.ndarray, k: int, conf_level: float, wanted: bool
) -> tuple[np.ndarray | None, Any]:
    """Degrees of freedom of every expectation, (n, k), None for z; and half-widths of intervals."""
    if distribution.statistic == "z":
        return None, normal_quantile(conf_level)
    if not wanted:
        return None, np.nan
    each = np.full(len(X) * k, np.nan)
    there = np.repeat(np.isfinite(X).all(1), k)
    each[there] = distribution.df(outcome_rows(X, k)[there])
    df = each.reshape(len(X), k)
    return df, t_quantile((1 + conf_level) / 2, df)


def check_vcov(vcov: Any) -> None:
    """Raise `InputError` for what is neither a truth value nor "joint"."""
    if not isinstance(vcov, str) or vcov != "joint":
        gates.flag(vcov, "vcov, if not 'joint',")


def _transform(name: str | None) -> Callable[[np.ndarray], np.ndarray] | None:
    if name is None:
        return None
    function = TRANSFORMS[gates.choice(name, "transform", dict.fromkeys((None, *TRANSFORMS)))]

    def transformed(values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # of values that are beyond double precision then: inf
            return function(values)

    return transformed


def apply_transform(name: str | None, values: np.ndarray) -> np.ndarray:
    """Estimates or bounds on the scale that users read them on."""
    function = _transform(name)
    return values if function is None else function(values)


def _apply(
    function: Callable[[np.ndarray], np.ndarray] | None, statistics: dict[str, np.ndarray]
) -> None:
    """Transform estimates and bounds; errors and probabilities stay as they are."""
    if function is not None:
        for name in statistics:
            if name not in UNTRANSFORMED:
                statistics[name] = function(statistics[name])


def _add_interval(
    statistics: dict[str, np.ndarray],
    name: str,
    centre: str,
    variance: np.ndarray,
    critical: Any,
) -> None:
    half = critical * standard_errors(variance)
    statistics[f"{name}_lower"] = statistics[centre] - half
    statistics[f"{name}_upper"] = statistics[centre] + half


def _arranged(
    model: FittedModel,
    statistics: dict[str, np.ndarray],
    variance: np.ndarray,
    index: pd.Index,
    of_the_data: bool,
    vcov: bool | str,
    joint: np.ndarray | None,
) -> Result:
    """The frame, and the covariances where asked for; spread over the data's rows if theirs."""
    names, k = model.frame.outcome_names, model.frame.k
    if of_the_data:
        statistics = {name: model.spread(values) for name, values in statistics.items()}
        variance, index = model.spread(variance), model.index
    table = tables.statistics_frame(statistics, names, index)
    if joint is None:
        return (table, variance) if vcov else table
    if of_the_data:
        n = len(joint) // k
        wide = model.spread(joint.reshape(n, -1)).reshape(len(index) * k, n, k)
        wide = model.spread(wide.swapaxes(0, 1)).swapaxes(0, 1)
        joint = wide.reshape(len(index) * k, -1)
    return table, tables.joint_frame(joint, names, index)
