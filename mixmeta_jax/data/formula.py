"""Formulas: which columns they read, and the design matrices that they make of complete rows.

formulaic evaluates; what it would do silently is decided here before it sees a row: rows with a
missing predictor are judged on the raw columns (so that ``poly``, ``ns`` and the levels of a
category are learnt from the rows that are fitted, and a missing category is missing, never the
reference), and a formula without ``~`` names outcomes, not predictors.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from formulaic import Formula, ModelSpec
from formulaic.errors import DataMismatchWarning, FormulaicError
from formulaic.parser.types import Factor
from formulaic.transforms import TRANSFORMS

from mixmeta_jax.data.splines import ns
from mixmeta_jax.errors import InputError

INTERCEPT = "(Intercept)"

CONTEXT: dict[str, Any] = {"ns": ns}
"""Transforms that formulas know beside those of formulaic."""

_KNOWN = {*TRANSFORMS, *CONTEXT, "True", "False", "None"}


@dataclass(frozen=True)
class Sides:
    """A formula taken apart: the outcomes, one expression each, and the right-hand side."""

    outcomes: tuple[str, ...]
    predictors: str


def split_formula(formula: str) -> Sides:
    """Outcomes and predictors of ``"a + b ~ x"`` or ``"cbind(a, b) ~ x"``; ``"a"`` is ``"a ~ 1"``.

    Raises
    ------
    InputError
        If the formula has no outcome, several ``~``, or an outcome twice.
    """
    parts = [part.strip() for part in _split(formula, "~")]
    if len(parts) > 2 or not parts[0]:
        raise InputError(
            f"The formula '{formula}' must have the outcomes on the left of one '~', as in "
            "'y ~ x' or 'y1 + y2 ~ x'."
        )
    left = parts[0]
    bound = re.fullmatch(r"cbind\((.*)\)", left, re.DOTALL)
    outcomes = _split(bound.group(1), ",") if bound else _split(left, "+")
    if bound and len(outcomes) == 1:
        outcomes = _split(outcomes[0], "+")
    outcomes = [name.strip() for name in outcomes]
    if not all(outcomes):
        raise InputError(f"The formula '{formula}' has an empty outcome on its left-hand side.")
    twice = [name for name in outcomes if outcomes.count(name) > 1]
    if twice:
        raise InputError(f"The formula '{formula}' names the outcome '{twice[0]}' twice.")
    predictors = parts[1] if len(parts) == 2 else "1"
    return Sides(tuple(outcomes), as_formulaic(predictors or "1"))


def as_formulaic(text: str) -> str:
    """A right-hand side in formulaic's words: R's ``factor(x)`` is ``C(x)``."""
    return re.sub(r"\b(?:as\.)?factor\(", "C(", text)


def _split(text: str, separator: str) -> list[str]:
    """Split outside brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "`'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == separator and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def columns_of(predictors: str, data: pd.DataFrame, where: str) -> list[str]:
    """Columns of the data that a right-hand side reads.

    Raises
    ------
    InputError
        For a name that is neither a column nor a function that formulas know, or a formula that
        cannot be read. ``where`` says which part of the model it belongs to.
    """
    names: list[str] = []
    for term in _parsed(predictors, where):
        for factor in term.factors:
            names.extend(_names(factor))
    return existing_columns(dict.fromkeys(names), data, where)


def existing_columns(names: Iterable[str], data: pd.DataFrame, where: str) -> list[str]:
    """The names, each checked to be a column of the data."""
    names = list(names)
    for name in names:
        if name not in data.columns:
            close = difflib.get_close_matches(str(name), [str(c) for c in data.columns], 3)
            hint = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
            raise InputError(f"There is no column '{name}' in the data, named in {where}.{hint}")
    return names


def _parsed(predictors: str, where: str) -> Formula:
    try:
        return Formula(predictors)
    except (FormulaicError, SyntaxError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where} cannot be read: '{predictors}': {reason}") from error


def _names(factor: Factor) -> list[str]:
    if factor.eval_method is Factor.EvalMethod.LITERAL:
        return []
    if factor.eval_method is Factor.EvalMethod.LOOKUP:
        return [factor.expr]
    return names_in(factor.expr)


def names_in(expression: str) -> list[str]:
    """Names of data that a Python expression reads, backquoted ones included."""
    quoted: dict[str, str] = {}

    def hide(match: re.Match) -> str:
        key = f"_quoted_{len(quoted)}"
        quoted[key] = match.group(1)
        return key

    source = re.sub(r"`([^`]*)`", hide, expression)
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except SyntaxError as error:
        raise InputError(f"The expression '{expression}' in the formula cannot be read.") from error
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    unknown = called - _KNOWN
    if unknown:
        raise InputError(
            f"The formula calls the unknown function '{min(unknown)}' in '{expression}': it knows "
            f"{', '.join(sorted(name for name in _KNOWN if name[0].islower()))}."
        )
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return [quoted.get(name, name) for name in names if name not in _KNOWN]


def evaluate_outcome(expression: str, data: pd.DataFrame) -> np.ndarray:
    """The values of one outcome, a column or an expression of columns, NaN where missing."""
    name = expression[1:-1] if re.fullmatch(r"`[^`]*`", expression) else expression
    if name in data.columns:
        return numeric(data[name], f"outcome '{name}'")
    if re.fullmatch(r"[^\W\d][\w.]*", name):
        existing_columns([name], data, "the left-hand side of the formula")
    used = existing_columns(names_in(name), data, "the left-hand side of the formula")
    columns = {column: numeric(data[column], f"column '{column}'") for column in used}
    matrix = _materialise(Formula(f"0 + {{{name}}}"), pd.DataFrame(columns, index=data.index))
    return np.asarray(matrix, float)[:, 0]


def numeric(values: pd.Series, what: str) -> np.ndarray:
    """A column as floats, NaN where missing; an infinite or non-numeric value is named."""
    try:
        numbers = pd.to_numeric(values, errors="raise").to_numpy(dtype=float, na_value=np.nan)
    except (ValueError, TypeError) as error:
        bad = pd.to_numeric(values, errors="coerce").isna() & values.notna()
        row = values.index[np.flatnonzero(bad.to_numpy())[0]] if bad.any() else values.index[0]
        raise InputError(
            f"The {what} holds {values.loc[[row]].iloc[0]!r} in row {row!r}, which is not a number."
        ) from error
    infinite = np.isinf(numbers)
    if infinite.any():
        row = values.index[int(np.argmax(infinite))]
        raise InputError(f"The {what} is infinite in row {row!r}.")
    return numbers


def missing_rows(data: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Which rows miss any of the columns, shape (n,)."""
    missing = np.zeros(len(data), bool)
    for column in columns:
        missing |= data[column].isna().to_numpy()
    return missing


def refuse_infinite(data: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise where a numeric column is infinite, naming it and the row."""
    for column in columns:
        if pd.api.types.is_numeric_dtype(data[column]):
            numeric(data[column], f"column '{column}'")


@dataclass(frozen=True)
class ModelMatrix:
    """A design matrix, shape (n, p), its column names, and what rebuilds it on new data."""

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
        existing_columns(self.columns, data, where)
        matrix = np.full((len(data), len(self.names)), np.nan)
        whole = ~missing_rows(data, self.columns)
        if self.spec is None:
            matrix[whole] = 1.0
            return matrix
        rows = _plain(data.loc[whole, list(self.columns)])
        refuse_infinite(rows, self.columns)
        if len(rows):
            self._refuse_unseen(rows)
            matrix[whole] = np.asarray(_materialise(self.spec, rows), float)
        return matrix

    def _refuse_unseen(self, data: pd.DataFrame) -> None:
        assert self.spec is not None
        for expression, (_, state) in self.spec.encoder_state.items():
            levels = state.get("categories")
            columns = [c for c in self.columns if c in {expression, *names_in(f"({expression})")}]
            if levels is None or len(columns) != 1:
                continue
            unseen = [value for value in data[columns[0]].unique() if value not in list(levels)]
            if unseen:
                raise InputError(
                    f"The column '{columns[0]}' of the new data holds {unseen[0]!r}, a category "
                    f"that the fit has not seen; it knows {', '.join(map(repr, levels))}."
                )


def build_matrix(predictors: str, data: pd.DataFrame, columns: Sequence[str]) -> ModelMatrix:
    """The design matrix of a right-hand side on complete rows."""
    if predictors.strip() == "1":
        return ModelMatrix(np.ones((len(data), 1)), [INTERCEPT], "1", (), None)
    matrix = _materialise(Formula(predictors), _plain(data[list(columns)]))
    values = np.asarray(matrix, float)
    names = [INTERCEPT if name == "Intercept" else name for name in matrix.columns]
    broken = ~np.isfinite(values)
    if broken.any():
        row, column = np.argwhere(broken)[0]
        raise InputError(
            f"The term '{names[column]}' is not finite in row {data.index[row]!r}; check its "
            f"columns ({', '.join(columns)})."
        )
    return ModelMatrix(values, names, predictors, tuple(columns), matrix.model_spec)


def _plain(data: pd.DataFrame) -> pd.DataFrame:
    """Columns of numpy types, and categories only that occur: what formulaic codes as expected."""
    plain = {}
    for name in data.columns:
        column = data[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.cat.remove_unused_categories()
        elif pd.api.types.is_bool_dtype(column):
            column = column.astype(bool)
        elif pd.api.types.is_numeric_dtype(column):
            column = column.astype(float)
        elif not pd.api.types.is_datetime64_any_dtype(column):
            column = column.astype(object)
        plain[name] = column
    return pd.DataFrame(plain, index=data.index)


def _materialise(source: Formula | ModelSpec, data: pd.DataFrame) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DataMismatchWarning)
            return source.get_model_matrix(data, context=CONTEXT, na_action="ignore")
    except (FormulaicError, DataMismatchWarning) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The formula cannot be evaluated on the data: {reason}") from error
