"""Design matrices: made of complete rows, named, and able to be made again for new data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from formulaic import ModelSpec

from mixmeta_jax.data.columns import (
    are_plain,
    close_matches,
    existing_columns,
    missing_rows,
    plain_columns,
    refuse_infinite,
    row_label,
)
from mixmeta_jax.data.formula import FUNCTIONS, category_column, materialise, parse
from mixmeta_jax.data.names import INTERCEPT
from mixmeta_jax.errors import InputError


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
    """

    values: np.ndarray
    names: list[str]
    predictors: str
    columns: tuple[str, ...]
    spec: ModelSpec | None

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
            rows = _readable(rows, self.columns, set(_categories(self.spec, self.columns)))
            self._refuse_unseen(rows)
            matrix[whole] = _finite(np.asarray(materialise(self.spec, rows), float), self, rows)
        return matrix

    def _refuse_unseen(self, data: pd.DataFrame) -> None:
        for column, known in _categories(self.spec, self.columns).items():
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
    coded = {category_column(factor.expr, columns) for term in formula for factor in term.factors}
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
    matrix = ModelMatrix(np.asarray(result, float), names, predictors, tuple(columns), spec)
    _finite(matrix.values, matrix, plain)
    return matrix


def _readable(
    data: pd.DataFrame, columns: Sequence[str], categories: Collection[str | None]
) -> pd.DataFrame:
    """The columns as formulaic may read them: the data themselves where nothing has to change.

    It reads a subclass of a data frame by other code, and a column for a function of its name.
    """
    as_they_are = type(data) is pd.DataFrame and FUNCTIONS.isdisjoint(data.columns)
    if as_they_are and are_plain(data, columns, categories):
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
