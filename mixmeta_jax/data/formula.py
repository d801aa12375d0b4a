"""Formulas: what they say of outcomes and predictors, and which columns of the data they read.

formulaic evaluates; what it would do silently is decided before it sees a row: rows with a missing
predictor are judged on the raw columns (so that ``poly``, ``ns`` and the levels of a category are
learnt from the rows that are fitted, and a missing category is missing, never the reference), and
a formula without ``~`` names outcomes, not predictors.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from formulaic import Formula, ModelSpec
from formulaic.errors import DataMismatchWarning, FormulaicError
from formulaic.formula import SimpleFormula
from formulaic.parser.types import Factor
from formulaic.transforms import TRANSFORMS

from mixmeta_jax.data.columns import existing_columns, numeric, row_label
from mixmeta_jax.data.splines import ns
from mixmeta_jax.errors import InputError

CONTEXT: dict[str, Any] = {"ns": ns}
"""Transforms that formulas know beside those of formulaic."""

FUNCTIONS = frozenset({*TRANSFORMS, *CONTEXT})
"""Names that formulas know without a column."""

_QUOTED = re.compile(r"`([^`]*)`")
_ALL_OTHERS = re.compile(r"(?<![\w.)\]])\.(?![\w.])")


@dataclass(frozen=True)
class Sides:
    """A formula taken apart: the outcomes, one expression each, and the right-hand side."""

    outcomes: tuple[str, ...]
    predictors: str

    @property
    def names(self) -> list[str]:
        """Names of the outcomes: the expressions, less the backquotes of a column's name."""
        return [unquoted(outcome) for outcome in self.outcomes]


@lru_cache(maxsize=128)
def split_formula(formula: str) -> Sides:
    """Outcomes and predictors of ``"a + b ~ x"`` or ``"cbind(a, b) ~ x"``; ``"a"`` is ``"a ~ 1"``.

    Raises
    ------
    InputError
        If the formula has no outcome, several ``~``, or an outcome twice.
    """
    parts = [part.strip() for part in split_outside(formula, "~")]
    if len(parts) > 2 or not parts[0]:
        raise InputError(
            f"The formula '{formula}' must have the outcomes on the left of one '~', as in "
            "'y ~ x' or 'y1 + y2 ~ x'."
        )
    left = parts[0]
    bound = re.fullmatch(r"cbind\((.*)\)", left, re.DOTALL)
    outcomes = split_outside(bound.group(1), ",") if bound else split_outside(left, "+")
    if bound and len(outcomes) == 1:
        outcomes = split_outside(outcomes[0], "+")
    sides = Sides(
        tuple(outcome.strip() for outcome in outcomes),
        as_formulaic(parts[1] if len(parts) == 2 and parts[1] else "1"),
    )
    if not all(sides.outcomes):
        raise InputError(f"The formula '{formula}' has an empty outcome on its left-hand side.")
    refuse_twice(sides.names)
    return sides


def refuse_twice(outcomes: list[str]) -> None:
    """Raise where two outcomes have one name."""
    twice = [name for name in outcomes if outcomes.count(name) > 1]
    if twice:
        raise InputError(f"The outcome '{twice[0]}' is named twice: leave one of them out.")


def unquoted(name: str) -> str:
    """A name without the backquotes around the whole of it."""
    quoted = _QUOTED.fullmatch(name)
    return quoted.group(1) if quoted else name


def as_formulaic(text: str) -> str:
    """A formula in formulaic's words: R's ``factor(x)`` is ``C(x)``, ``x^2`` is ``x**2``.

    Quoted names stay as they are.
    """
    pieces = re.split(r"(`[^`]*`|'[^']*'|\"[^\"]*\")", text)
    for i in range(0, len(pieces), 2):
        pieces[i] = re.sub(r"(?<![\w.])(?:as\.)?factor\(", "C(", pieces[i]).replace("^", "**")
    return "".join(pieces)


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a character where it stands outside brackets and quotes."""
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


@lru_cache(maxsize=128)
def parse(predictors: str) -> SimpleFormula:
    """A right-hand side as formulaic reads it.

    Raises
    ------
    InputError
        If it cannot be read, has several parts, or uses ``.`` for the other columns.
    """
    if _ALL_OTHERS.search(_QUOTED.sub("quoted", predictors)):
        raise InputError(f"The formula '~ {predictors}' has '.': name the predictors one by one.")
    try:
        formula = Formula(predictors)
    except (FormulaicError, SyntaxError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"The formula '~ {predictors}' cannot be read: {reason.rstrip('.')}."
        ) from error
    if not isinstance(formula, SimpleFormula):
        raise InputError(
            f"The formula '~ {predictors}' has several parts: it must be one sum of terms, and "
            "groups belong in random."
        )
    return formula


def columns_of(predictors: str, data: pd.DataFrame, where: str) -> list[str]:
    """Columns of the data that a right-hand side reads.

    Raises
    ------
    InputError
        For a name that is neither a column nor a function that formulas know, or a formula that
        cannot be read. ``where`` says which part of the model it belongs to.
    """
    names: list[str] = []
    for term in parse(predictors):
        for factor in term.factors:
            if factor.eval_method is Factor.EvalMethod.LOOKUP:
                names.append(factor.expr)
            elif factor.eval_method is Factor.EvalMethod.PYTHON:
                names.extend(names_in(factor.expr, data.columns))
    return existing_columns(dict.fromkeys(names), data, where)


def names_in(expression: str, columns: Container[str]) -> list[str]:
    """Names of data that a Python expression reads, backquoted ones included.

    A name that formulas know as a function, such as ``center``, is data only where there is a
    column of that name and it is not called.
    """
    tree, quoted = _tree(expression)
    called: set[ast.Name] = set()
    attributes: set[ast.Name] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.add(node.value)
    unknown = {node.id for node in called} - FUNCTIONS
    if unknown:
        raise InputError(
            f"The formula calls the unknown function '{min(unknown)}' in '{expression}': it knows "
            f"{', '.join(sorted(name for name in FUNCTIONS if name[0].islower()))}."
        )
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in called]
    return [
        quoted.get(node.id, node.id)
        for node in names
        if node.id not in FUNCTIONS or (node not in attributes and node.id in columns)
    ]


def category_column(expression: str, columns: Container[str]) -> str | None:
    """The column whose values are the categories of ``x`` or ``C(x)``; None for any other."""
    if expression in columns:
        return expression
    tree, quoted = _tree(expression)
    node = tree.body
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "C":
        node = node.args[0]
        if isinstance(node, ast.Name):
            return quoted.get(node.id, node.id)
    return None


@lru_cache(maxsize=128)
def _tree(expression: str) -> tuple[ast.Expression, dict[str, str]]:
    """A Python expression, with its backquoted names behind placeholders."""
    quoted: dict[str, str] = {}

    def hide(match: re.Match) -> str:
        key = f"_quoted_{len(quoted)}"
        quoted[key] = match.group(1)
        return key

    try:
        return ast.parse(_QUOTED.sub(hide, expression).strip(), mode="eval"), quoted
    except SyntaxError as error:
        raise InputError(f"The expression '{expression}' in the formula cannot be read.") from error


def evaluate_outcome(expression: str, data: pd.DataFrame) -> np.ndarray:
    """The values of one outcome, a column or an expression of columns, NaN where missing.

    Raises
    ------
    InputError
        For an unknown column, or a value that is infinite or not a number where every column that
        it is made of is there.
    """
    name = unquoted(expression)
    if name in data.columns:
        return numeric(data[name], f"outcome '{name}'")
    where = "the left-hand side of the formula"
    if name != expression or re.fullmatch(r"[^\W\d][\w.]*", name):
        existing_columns([name], data, where)
    source = as_formulaic(name)
    if source.startswith("{") and source.endswith("}"):
        source = source[1:-1]
    used = existing_columns(dict.fromkeys(names_in(source, data.columns)), data, where)
    if not used:
        raise InputError(f"The outcome '{name}' in the formula reads no column of the data.")
    columns = {column: numeric(data[column], f"column '{column}'") for column in used}
    table = pd.DataFrame(columns, index=data.index).dropna()
    values = np.asarray(materialise(Formula(f"0 + {{{source}}}"), table), float)
    if values.shape != (len(table), 1):
        raise InputError(f"The outcome '{name}' is not one number per row of the data.")
    broken = ~np.isfinite(values[:, 0])
    if broken.any():
        row = int(np.argmax(broken))
        given = ", ".join(f"{column} is {table[column].iloc[row]:g}" for column in used)
        raise InputError(
            f"The outcome '{name}' is {values[row, 0]:g} in row {row_label(table.index, row)!r}, "
            f"where {given}."
        )
    outcome = np.full(len(data), np.nan)
    outcome[~np.isnan(np.column_stack(list(columns.values()))).any(axis=1)] = values[:, 0]
    return outcome


def materialise(source: Formula | ModelSpec, data: pd.DataFrame) -> Any:
    """The model matrix of complete columns.

    Raises
    ------
    InputError
        With the reason, where formulaic or one of its transforms fails.
    """
    try:
        # What is not finite is judged by the caller, who knows the rows.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", DataMismatchWarning)
            return source.get_model_matrix(
                data, context=CONTEXT, output="numpy", na_action="ignore"
            )
    except (FormulaicError, DataMismatchWarning, TypeError, ValueError, LookupError) as error:
        reason: BaseException = error
        while reason.__cause__ is not None and not isinstance(reason, InputError):
            reason = reason.__cause__
        if isinstance(reason, InputError):
            raise InputError(f"The formula cannot be evaluated: {reason}") from error
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"The formula cannot be evaluated on the data: {first.rstrip('.')}."
        ) from error
