"""Predictions, BLUPs and random effects of a fitted model, as frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.new_groups import new_groups
from mixmeta_jax.inference.posterior import Posterior, posterior
from mixmeta_jax.inference.prediction import (
    between_variance,
    predicted,
    quadratic_form,
    standard_errors,
)
from mixmeta_jax.inference.wald import check_conf_level, normal_quantile
from mixmeta_jax.report import tables
from mixmeta_jax.table.frame import ModelFrame
from mixmeta_jax.table.frame_design import design_from_frame
from mixmeta_jax.table.rows import (
    as_pandas,
    offset_columns,
    offset_values,
    refuse_infinite_offset,
)

Result: TypeAlias = "pd.DataFrame | tuple[pd.DataFrame, np.ndarray]"

BLUP_TYPES = ("outcome", "residual")
SE_METHODS = ("paper", "exact")


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
                f"reference={label!r} {problem} the index of the predicted rows: give a label "
                "that is there once, or a mapping of predictors."
            )
        Z = tuple(matrix[places] for matrix in self.Z)
        return PredictedRows(self.X[places], Z, self.offset[places], self.index[places])


def predict(
    model: FittedModel,
    newdata: Any,
    se: bool,
    ci: bool,
    pi: bool,
    vcov: bool,
    conf_level: float,
    level: int | str | None,
    reference: Any,
) -> Result:
    """Expected outcomes with their uncertainty; see `Fit.predict`."""
    critical = normal_quantile(check_conf_level(conf_level))
    # Without an interval no level widens, but a level that is not there is an error all the same.
    depth = model.level_number(level) * pi
    rows = rows_of(model, newdata, depth)
    if isinstance(reference, (Mapping, pd.Series, pd.DataFrame)):
        rows = rows.less(_new_rows(model, _one_row(reference), depth))
    elif reference is not None:
        rows = rows.less(rows.at(reference))
    k, estimate = model.frame.k, model.estimate
    statistics = {"fit": predicted(rows.X, estimate.beta, k) + rows.offset}
    variance = quadratic_form(rows.X, estimate.vcov, k)
    if se:
        statistics["se"] = standard_errors(variance)
    if ci:
        _add_interval(statistics, "ci", "fit", variance, critical)
    if pi:
        between = between_variance(rows.Z, model.Psi_by_level[:depth], len(rows.X), k)
        _add_interval(statistics, "pi", "fit", variance + between, critical)
    return _arranged(model, statistics, variance, rows.index, newdata is None, vcov)


def blup(
    model: FittedModel,
    level: int | str | None,
    type: str,
    se: bool,
    pi: bool,
    vcov: bool,
    conf_level: float,
    se_method: str,
    newdata: Any,
    S: Any,
) -> Result:
    """Best linear unbiased predictions; see `Fit.blup`."""
    critical = normal_quantile(check_conf_level(conf_level))
    _check_choice("type", type, BLUP_TYPES)
    _check_choice("se_method", se_method, SE_METHODS)
    depth = model.level_number(level)
    if newdata is None and S is not None:
        raise InputError("blup takes S only together with newdata: the fit has its own S.")
    frame = model.frame if newdata is None else new_groups(model, newdata, S)
    values, variance = _posterior_moments(model, frame, depth, type, se_method)
    statistics = {"blup": values}
    if se:
        statistics["se"] = standard_errors(variance)
    if pi:
        _add_interval(statistics, "pi", "blup", variance, critical)
    return _arranged(model, statistics, variance, frame.index, newdata is None, vcov)


def blup_values(model: FittedModel, depth: int) -> np.ndarray:
    """BLUPs of the outcomes of the fitted units with the effects of ``depth`` levels, (n, k)."""
    return _posterior_moments(model, model.frame, depth, "outcome", "paper")[0]


def ranef(model: FittedModel, level: int | str | None, se: bool) -> pd.DataFrame:
    """Random effects of the groups of one level; see `Fit.ranef`."""
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


def _posterior(model: FittedModel, frame: ModelFrame, depth: int) -> Posterior:
    estimate, design = model.estimate, model.design
    if frame is not model.frame:
        design = design_from_frame(frame, model.design.structures)
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


def rows_of(model: FittedModel, newdata: Any, depth: int) -> PredictedRows:
    """The fitted rows, or those of new data, with the random predictors of ``depth`` levels."""
    return _fitted_rows(model, depth) if newdata is None else _new_rows(model, newdata, depth)


def _fitted_rows(model: FittedModel, depth: int) -> PredictedRows:
    frame = model.frame
    Z = tuple(level.Z for level in frame.levels[:depth])
    return PredictedRows(frame.X, Z, frame.offset, frame.index)


def _new_rows(model: FittedModel, newdata: Any, depth: int) -> PredictedRows:
    """Rows of new data; NaN where a predictor is missing."""
    table = as_pandas(newdata, "newdata")
    X, index = model.frame.new_X(table)
    Z = tuple(
        level.matrix.rebuild(table, f"the random part of level '{level.name}'")
        for level in model.frame.levels[:depth]
    )
    # Without any of its columns the offset of the new rows is taken as zero.
    named = offset_columns(model.arguments["offset"])
    given = named if any(name in table.columns for name in named) else None
    offset = offset_values(given, table, model.frame.k)
    refuse_infinite_offset(offset, table.index)
    return PredictedRows(X, Z, offset, index)


def _places(index: pd.Index, label: Any) -> np.ndarray:
    """Positions of a label in an index."""
    try:
        found = index.get_loc(label)
    except (KeyError, TypeError, pd.errors.InvalidIndexError):
        return np.zeros(0, int)
    return np.atleast_1d(np.arange(len(index))[found])


def _one_row(reference: Any) -> pd.DataFrame:
    """A reference given by its predictors, as a frame of one row."""
    if isinstance(reference, pd.DataFrame):
        if len(reference) != 1:
            raise InputError(f"reference has {len(reference)} rows: give the one to contrast with.")
        return reference
    return pd.DataFrame([dict(reference)])


def _add_interval(
    statistics: dict[str, np.ndarray],
    name: str,
    centre: str,
    variance: np.ndarray,
    critical: float,
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
    vcov: bool,
) -> Result:
    """The frame, and the covariances where asked for; spread over the data's rows if theirs."""
    if of_the_data:
        statistics = {name: model.spread(values) for name, values in statistics.items()}
        variance, index = model.spread(variance), model.index
    table = tables.statistics_frame(statistics, model.frame.outcome_names, index)
    return (table, variance) if vcov else table


def _check_choice(argument: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        listed = " or ".join(f"'{name}'" for name in known)
        raise InputError(f"{argument}={value!r} is not known: choose {listed}.")
