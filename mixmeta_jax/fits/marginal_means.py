"""Marginal means of factor levels, and contrasts of levels and of rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype

from mixmeta_jax import gates
from mixmeta_jax.choices import Adjustment, MeanWeights
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.predicted_rows import new_rows, one_row, outcome_rows
from mixmeta_jax.fits.predictions import apply_transform
from mixmeta_jax.inference.reference import Reference, f_tail, independent_rows
from mixmeta_jax.inference.wald import check_conf_level, largest_tail
from mixmeta_jax.report import tables
from mixmeta_jax.table.columns import row_label
from mixmeta_jax.table.rows import as_pandas

MOST_CELLS = 100_000
"""Cells of the other factors that are averaged: their predictors take about a second."""


@dataclass(frozen=True)
class Combinations:
    """Combinations of the coefficients, one per row and the same for each outcome.

    Attributes
    ----------
    X
        Predictors, shape (h, p).
    shift
        What is added to the estimates, shape (h, k).
    index
        What the rows are.
    """

    X: np.ndarray
    shift: np.ndarray
    index: pd.Index


def factor_means(
    model: FittedModel,
    factors: Any,
    at: Mapping[str, Any] | None,
    weights: str,
    what: str = "factors",
) -> Combinations:
    """The predictors of the marginal means of the levels of factors; see `Fit.means`."""
    rows = _raw_rows(model)
    names = [factors] if isinstance(factors, str) else gates.listed(factors, what)
    known = _categories(model, rows)
    for name in names or [None]:
        if not isinstance(name, str) or name not in known:
            listed = ", ".join(map(repr, known)) or "none"
            raise InputError(
                f"{what} names {gates.described(name)}, which is not a factor of the fixed part, "
                f"which has {listed}."
            )
    gates.choice(weights, "weights", MeanWeights)
    given = {} if at is None else dict(gates.mapping(at, "at", "a mapping of predictors"))
    fixed = _checked_at(given, rows, known, names)
    cells = list(itertools.product(*(known[name] for name in names)))
    if weights == "equal":
        others = {c: levels for c, levels in known.items() if c not in names and c not in fixed}
        count = math.prod(map(len, others.values()))
        if count > MOST_CELLS:
            raise InputError(
                f"The other factors have {count:,} cells, more than the {MOST_CELLS:,} that are "
                "averaged with equal weights: give the levels of some in at, or "
                "weights='observed'."
            )
        base = pd.DataFrame(list(itertools.product(*others.values())), columns=list(others))
        for column in rows.columns:
            if column not in known:
                base[column] = rows[column].mean()
    else:
        base = rows
    X = []
    for cell in cells:
        grid = base.assign(**fixed, **dict(zip(names, cell, strict=True)))
        X.append(model.frame.fixed.rebuild(grid[list(rows.columns)], "the formula").mean(0))
    index = pd.Index([cell[0] for cell in cells], name=names[0])
    if len(names) > 1:
        index = pd.MultiIndex.from_tuples(cells, names=names)
    return Combinations(np.array(X), np.zeros((len(X), model.frame.k)), index)


def _categories(model: FittedModel, rows: pd.DataFrame) -> dict[str, list]:
    """The levels of the columns that are factors: categories, and truth values."""
    both = {name: [False, True] for name in rows.columns if is_bool_dtype(rows[name].dtype)}
    return both | model.frame.fixed.categories


def _raw_rows(model: FittedModel) -> pd.DataFrame:
    """The columns of the data that the fixed part reads, of the fitted rows."""
    if model.frame.formula is None:
        raise InputError(
            "Marginal means are of factors in the formula, and the fit has none: its outcomes came "
            "as an array."
        )
    return model.columns_at_units(list(model.frame.fixed.columns), "formula")


def _checked_at(
    at: dict[str, Any], rows: pd.DataFrame, known: dict[str, list], names: Sequence[str]
) -> dict[str, Any]:
    for column, value in at.items():
        if column not in rows.columns:
            raise InputError(
                f"at names {gates.described(column)}, which is not a predictor: choose among "
                f"{', '.join(map(repr, rows.columns))}."
            )
        if column in names:
            raise InputError(f"at names '{column}', whose levels the means are of: leave it out.")
        held_value(column, value, known.get(column))
    return at


def held_value(column: str, value: Any, levels: Sequence[Any] | None) -> Any:
    """The value at which a predictor is held: a number, or one of its levels where it has some."""
    if levels is None:
        return gates.number(value, f"at: '{column}'")
    return gates.label(value, f"at: '{column}'", levels)


def row_combinations(model: FittedModel, rows: Any, what: str) -> Combinations:
    """Rows of new data, called ``what`` in sentences, as combinations of the coefficients.

    Raises
    ------
    InputError
        Where a row has no value of a predictor.
    """
    single = isinstance(rows, (Mapping, pd.Series))
    table = one_row(rows, what) if single else as_pandas(rows, what)
    found = new_rows(model, table, 0)
    gaps = np.isnan(found.X).any(1)
    if gaps.any():
        row = row_label(found.index, int(np.argmax(gaps)))
        raise InputError(f"The row {row!r} of {what} lacks a predictor.")
    return Combinations(found.X, found.offset, found.index)


def contrasted(model: FittedModel, own: Combinations, against: Any) -> Combinations:
    """All pairs, the later less the earlier; or all less one, by its label or predictors."""
    h = len(own.X)
    if isinstance(against, (Mapping, pd.Series, pd.DataFrame)):
        other = row_combinations(model, one_row(against, "against"), "against")
        label = [*other.index.tolist()] if isinstance(against, pd.DataFrame) else ["reference"]
        index = _pairs_index(own.index.tolist(), label * h)
        return Combinations(own.X - other.X, own.shift - other.shift, index)
    labels = own.index.tolist()
    if against is None:
        if h < 2:
            raise InputError(
                "There is one row, and nothing to contrast it with: give against, a mapping of "
                "predictors, or more rows."
            )
        pairs = [(b, a) for a, b in itertools.combinations(range(h), 2)]
    else:
        try:
            places = [i for i, label in enumerate(labels) if label == against]
        except Exception:  # what cannot be compared
            places = []
        if len(places) != 1:
            problem = "is not" if not places else "is more than once"
            listed = ", ".join(map(repr, labels[:20]))
            raise InputError(
                f"against={gates.described(against)} {problem} among {listed}: give one "
                "of them, or a mapping of predictors."
            )
        pairs = [(i, places[0]) for i in range(h) if i != places[0]]
    left, right = (list(side) for side in zip(*pairs, strict=True))
    index = _pairs_index([labels[i] for i in left], [labels[i] for i in right])
    return Combinations(own.X[left] - own.X[right], own.shift[left] - own.shift[right], index)


def _pairs_index(left: list[Any], right: list[Any]) -> pd.Index:
    def shown(label: Any) -> Any:
        return ", ".join(map(str, label)) if isinstance(label, tuple) else label

    pairs = [(shown(a), shown(b)) for a, b in zip(left, right, strict=True)]
    return pd.MultiIndex.from_tuples(pairs, names=["of", "against"])


def check_table(conf_level: float, simultaneous: str | None, transform: str | None) -> None:
    """Raise `InputError` for what `combination_frame` cannot take, before anything is averaged."""
    check_conf_level(conf_level)
    gates.choice(simultaneous, "simultaneous", Adjustment)
    apply_transform(transform, np.zeros(0))


def combination_frame(
    model: FittedModel,
    own: Combinations,
    reference: Reference,
    conf_level: float,
    simultaneous: str | None,
    transform: str | None,
    name: str,
) -> pd.DataFrame:
    """Estimates, errors, intervals and (of contrasts) tests of combinations, by outcome."""
    level = check_conf_level(conf_level)

    def change(values: np.ndarray) -> np.ndarray:
        return apply_transform(transform, values)

    k, h = model.frame.k, len(own.X)
    wide = outcome_rows(own.X, k).reshape(h, k, -1)
    columns: dict[str, list[np.ndarray]] = {}
    for o in range(k):
        L = wide[:, o]
        estimate = L @ model.estimate.beta + own.shift[:, o]
        se, df = reference.se(L), reference.df(L)
        half = _critical(reference, L, level, simultaneous) * se
        found = {name: change(estimate), "se": se}
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = estimate / se
        if name == "estimate":
            found[reference.statistic] = statistic
        if reference.statistic == "t":
            found["df"] = df
        if name == "estimate":
            found["pvalue"] = _pvalues(reference, L, statistic, simultaneous)
        found |= {"lower": change(estimate - half), "upper": change(estimate + half)}
        for key, values in found.items():
            columns.setdefault(key, []).append(values)
    stacked = {key: np.column_stack(values) for key, values in columns.items()}
    return tables.statistics_frame(stacked, model.frame.outcome_names, own.index)


def _critical(
    reference: Reference, L: np.ndarray, level: float, simultaneous: str | None
) -> np.ndarray:
    if simultaneous == "bonferroni":
        return reference.quantile(1 - (1 - level) / len(L), L)
    return reference.critical(level, L, simultaneous)


def _pvalues(
    reference: Reference, L: np.ndarray, statistic: np.ndarray, simultaneous: str | None
) -> np.ndarray:
    """p-values that go with the intervals of `_critical`."""
    single = reference.pvalues(statistic, L)
    if simultaneous is None:
        return single
    if simultaneous == "bonferroni":
        return np.minimum(1.0, len(L) * single)
    if simultaneous == "goldstein":
        rows = independent_rows(L)
        scale, df = reference.scale_and_df(L[rows])
        r = len(rows)
        return np.array([f_tail(scale * t**2 / r, r, df) for t in statistic])
    se = reference.se(L)
    some = se > 0
    correlation = (L @ reference.vcov @ L.T)[np.ix_(some, some)] / np.outer(se[some], se[some])
    return largest_tail(statistic, correlation, reference.df(L[some]).min(initial=np.inf))
