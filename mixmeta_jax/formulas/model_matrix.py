"""Design matrices: made of complete rows, named, and able to be made again for new data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Number, Real

import numpy as np
import pandas as pd
from formulaic import ModelSpec

from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.evaluation import MAX_COLUMNS
from mixmeta_jax.formulas.formula import category_column, materialise, parse, term_factors
from mixmeta_jax.gates import close_matches, described
from mixmeta_jax.table.cells import Cells, column_count, crossed_categories
from mixmeta_jax.table.columns import (
    are_plain,
    existing_columns,
    is_numeric,
    label_codes,
    missing_rows,
    plain_columns,
    refuse_infinite,
    row_label,
)
from mixmeta_jax.table.names import INTERCEPT


@dataclass(frozen=True)
class ModelMatrix:
    """A design matrix, and what rebuilds it on new data.

    Attributes
    ----------
    values, names
        The matrix, shape (n, p), and the names of its columns.
    predictors, columns
        The right-hand side that it was made of, and the columns of the data that this reads.
    spec
        formulaic's specification; None for an intercept alone.
    cells
        Those of its interactions of categories.
    """

    values: np.ndarray
    names: list[str]
    predictors: str
    columns: tuple[str, ...]
    spec: ModelSpec | None
    cells: tuple[Cells, ...] = ()

    @property
    def categories(self) -> dict[str, list]:
        """The categories of each column that is coded as it stands."""
        return {} if self.spec is None else _categories(self.spec, self.columns)

    def rebuild(self, data: pd.DataFrame, where: str) -> np.ndarray:
        """The same columns for new data; NaN rows where a predictor is missing.

        Raises
        ------
        InputError
            For a column that is not there, or a category that the fit has not seen.
        """
        existing_columns(self.columns, data, where, "the new data")
        matrix = np.full((len(data), len(self.names)), np.nan)
        whole = ~missing_rows(data, self.columns)
        if self.spec is None:
            matrix[whole] = 1.0
            return matrix
        rows = data.loc[whole, list(self.columns)]
        refuse_infinite(rows, self.columns)
        if len(rows):
            rows = _readable(rows, self.columns, set(self.categories))
            self._refuse_unseen(rows)
            matrix[whole] = _finite(np.asarray(materialise(self.spec, rows), float), self, rows)
        return matrix

    def _refuse_unseen(self, data: pd.DataFrame) -> None:
        for column, known in self.categories.items():
            label_codes(data, column)
            values = data[column]
            unseen = values[~values.isin(known).to_numpy()]
            if len(unseen):
                value = pd.unique(unseen.astype(object))[:1].tolist()[0]
                raise InputError(
                    f"The column '{column}' of the new data holds {value!r}, a category that the "
                    f"fit has not seen; it knows {', '.join(map(repr, known))}."
                    f"{close_matches(value, known)}"
                )


def build_matrix(predictors: str, data: pd.DataFrame, columns: Sequence[str]) -> ModelMatrix:
    """The design matrix of a right-hand side on complete rows.

    Raises
    ------
    InputError
        If the formula has no predictor, cannot be evaluated, gives a value that is not finite, or
        has a category of one value only.
    """
    if predictors.strip() == "1":
        return ModelMatrix(np.ones((len(data), 1)), [INTERCEPT], "1", (), None)
    formula = parse(predictors)
    if not len(formula):
        raise InputError(
            f"The formula '~ {predictors}' has no predictor: it needs an intercept or a column."
        )
    terms = term_factors(predictors)
    coded = {category_column(factor, columns) for factors in terms for factor in factors}
    crossings = _crossings(terms, data)
    _refuse_mixed(terms, data)
    _refuse_width(terms, data, predictors)
    plain = _readable(data, columns, coded)
    result = materialise(formula, plain)
    spec = result.model_spec
    for part in spec.structure:
        if not part.columns:
            raise InputError(
                f"The term '{part.term}' has a single category in the rows that are fitted, which "
                "tells no row from another: leave it out."
            )
    names = list(spec.column_names)
    if names and names[0] == "Intercept" and any(term.degree == 0 for term in formula):
        names[0] = INTERCEPT
    cells = crossed_categories(crossings, data) if crossings else ()
    matrix = ModelMatrix(np.asarray(result, float), names, predictors, tuple(columns), spec, cells)
    _finite(matrix.values, matrix, plain)
    return matrix


Terms = tuple[tuple[str, ...], ...]
"""Of a formula, each as its factors."""


def _categories_of(factor: str, data: pd.DataFrame) -> str | None:
    """The column whose values a factor takes for categories; None where it takes none."""
    column = category_column(factor, data.columns)
    return column if column != factor or (column and not is_numeric(data[column])) else None


def _crossings(terms: Terms, data: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """The interactions of two or more categories, each with its columns."""
    found = []
    for factors in terms:
        if len(factors) > 1:
            named = [column for f in factors if (column := _categories_of(f, data)) is not None]
            if len(named) > 1:
                found.append((":".join(factors), named))
    return found


def _refuse_mixed(terms: Terms, data: pd.DataFrame) -> None:
    """Raise where a column of numbers and other things would be taken for categories."""
    for name in dict.fromkeys(factor for factors in terms for factor in factors):
        if name not in data.columns or data[name].dtype != object:
            continue
        if is_numeric(data[name]):
            continue
        kinds = [type(value) for value in data[name]]
        numbers = np.array([issubclass(kind, Number) for kind in kinds], bool)
        unreal = numbers & ~np.array([issubclass(kind, (Real, Decimal)) for kind in kinds], bool)
        if unreal.any():
            row = int(np.argmax(unreal))
            raise InputError(
                f"The column '{shown(name)}' holds {described(data[name].iloc[row])} in row "
                f"{row_label(data.index, row)!r}, which is no real number."
            )
        if numbers.any() and not numbers.all():
            row = int(np.argmin(numbers))
            raise InputError(
                f"The column '{shown(name)}' holds {described(data[name].iloc[row])} in row "
                f"{row_label(data.index, row)!r} and numbers elsewhere: make it numbers, or text; "
                f"C({shown(name)}) takes all of them for categories."
            )


def _refuse_width(terms: Terms, data: pd.DataFrame, predictors: str) -> None:
    """Raise where categories and their interactions would give more columns than can be of use."""
    if len(terms) * max(len(data), 2) ** max(map(len, terms)) <= MAX_COLUMNS:
        # So few rows hold too few categories, which need not be counted then.
        return
    widths = {}
    for factor in {factor for factors in terms for factor in factors}:
        column = _categories_of(factor, data)
        if column is not None:
            widths[factor] = int(data[column].nunique())
    count = column_count(terms, widths)
    if count > MAX_COLUMNS:
        raise InputError(
            f"The formula '~ {shown(predictors)}' gives about {count:,} columns for {len(data):,} "
            f"row(s), more than the {MAX_COLUMNS:,} that are built: leave interactions out, or "
            "join categories."
        )


def _readable(
    data: pd.DataFrame, columns: Sequence[str], categories: Collection[str | None]
) -> pd.DataFrame:
    """The columns as formulaic may read them: the data themselves where nothing has to change.

    It reads a subclass of a data frame by other code.
    """
    if type(data) is pd.DataFrame and are_plain(data, columns, categories):
        return data
    return plain_columns(data, columns, categories)


def _categories(spec: ModelSpec, columns: Sequence[str]) -> dict[str, list]:
    """Known categories of each column that is coded as it stands."""
    found = {}
    for expression, (_, state) in spec.encoder_state.items():
        column = category_column(expression, columns)
        if column is not None and "categories" in state:
            found[column] = pd.Index(state["categories"]).tolist()
    return found


def _finite(values: np.ndarray, matrix: ModelMatrix, data: pd.DataFrame) -> np.ndarray:
    """The values, each of which must be finite where the columns are complete."""
    broken = ~np.isfinite(values)
    if broken.any():
        row, column = np.argwhere(broken)[0]
        given = ", ".join(f"{name} is {data[name].iloc[row]}" for name in matrix.columns)
        raise InputError(
            f"The term '{matrix.names[column]}' is {values[row, column]:g} in row "
            f"{row_label(data.index, int(row))!r}, where {given}."
        )
    return values
