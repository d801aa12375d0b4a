"""Predictors of a fit as pictures draw them: which there are, and what is expected along one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.marginal_means import held_value
from mixmeta_jax.fits.prediction_methods import PredictionMethods
from mixmeta_jax.plots.canvas import user_columns
from mixmeta_jax.table.columns import is_numeric

STATISTICS = ["fit", "ci_lower", "ci_upper", "pi_lower", "pi_upper"]


def one_category(fit: PredictionMethods, names: list[str]) -> str:
    """The only predictor with categories."""
    found = [name for name in names if not is_numeric(user_columns(fit, [name])[name])]
    if len(found) != 1:
        there = ", ".join(found or names) or "none"
        what = "predictors with categories" if found else "predictors"
        raise InputError(
            f"Name the predictor whose categories are drawn, by=: the {what} of the model are "
            f"{there}."
        )
    return found[0]


def predictors_of(fit: PredictionMethods) -> list[str]:
    """Columns of the data that the fixed part reads, then those of the random part."""
    parts = [fit.frame.fixed, *(level.matrix for level in fit.frame.levels[: fit.n_levels])]
    return list(dict.fromkeys(name for part in parts for name in part.columns))


def continuous(fit: PredictionMethods, predictor: str | None) -> str:
    """The predictor that is named, or the only one whose values are numbers."""
    names = predictors_of(fit)
    numbers = [name for name in names if is_numeric(user_columns(fit, [name])[name])]
    if predictor is None and len(numbers) == 1:
        return numbers[0]
    if not isinstance(predictor, str) or predictor not in numbers:
        listed = ", ".join(numbers) or "none"
        given = f"predictor: {gates.described(predictor)} is not drawn"
        what = "Name the predictor to draw" if predictor is None else given
        raise InputError(f"{what}: the continuous predictors of the model are {listed}.")
    return predictor


def refuse_taken(predictor: str, own: tuple[str, ...]) -> None:
    """Raise where a predictor is called as a column of the frame that is drawn."""
    if predictor in (*own, *STATISTICS):
        raise InputError(
            f"The predictor '{predictor}' is called as a column that the picture makes: rename it "
            "in the data and the formula."
        )


def held_values(columns: pd.DataFrame, drawn: str, at: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values of the predictors that are not drawn."""
    given = {} if at is None else gates.mapping(at, "at", "a mapping of predictors")
    for name in given:
        if name not in columns.columns or name == drawn:
            raise InputError(
                f"at names {gates.described(name)}, which is not another predictor of the model."
            )
    held = {}
    for name in columns.columns:
        if name == drawn:
            continue
        column = columns[name]
        levels = None if is_numeric(column) else column.unique().tolist()
        if name in given:
            held[name] = held_value(name, given[name], levels)
        else:
            held[name] = column.mean() if levels is None else column.mode().iloc[0]
    return held


def predicted_outcome(
    fit: PredictionMethods,
    o: int,
    values: dict[str, Any],
    reference: dict[str, Any] | None,
    conf_level: float,
) -> pd.DataFrame:
    """Predictions of one outcome at rows of predictors, in columns `STATISTICS`."""
    table = fit.predict(
        pd.DataFrame(values), ci=True, pi=True, conf_level=conf_level, reference=reference
    )
    assert isinstance(table, pd.DataFrame)
    chosen = table if fit.frame.k == 1 else table[fit.frame.outcome_names[o]]
    return chosen[STATISTICS].reset_index(drop=True)
