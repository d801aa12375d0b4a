"""Formulas: what they say of outcomes and predictors, and which columns of the data they read.

A formula is data, not code: every expression in it is held to `formulas.expressions` before
formulaic sees it, and evaluated by `formulas.evaluation` in its place. What it would do silently is
decided before it sees a row: rows with a missing predictor are judged on the raw columns (so that
``poly``, ``ns`` and the levels of a category are learnt from the rows that are fitted, and a
missing category is missing, never the reference), and a formula without ``~`` names outcomes, not
predictors.
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
from formulaic.materializers import PandasMaterializer
from formulaic.parser.types import Factor

from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.evaluation import Evaluator
from mixmeta_jax.formulas.expressions import (
    QUOTED,
    masked,
    pieces,
    read_expression,
    refuse_length,
    restored,
    unquoted,
)
from mixmeta_jax.formulas.term_count import refuse_explosion
from mixmeta_jax.formulas.tokens import NamesAsTyped, refuse_tokens, several_parts
from mixmeta_jax.table.columns import existing_columns, numeric, row_label

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
        If the formula has no outcome, several ``~``, an outcome twice, or one that is a predictor
        too.
    """
    refuse_length(formula, "The formula")
    parts = [part.strip() for part in split_outside(formula, "~")]
    if len(parts) > 2 or not parts[0]:
        raise InputError(
            f"The formula '{shown(formula)}' must have the outcomes on the left of one '~', as in "
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
        raise InputError(
            f"The formula '{shown(formula)}' has an empty outcome on its left-hand side."
        )
    refuse_twice(sides.names)
    _refuse_outcomes_among_predictors(sides)
    return sides


def refuse_twice(outcomes: list[str]) -> None:
    """Raise where two outcomes have one name."""
    twice = [name for name in outcomes if outcomes.count(name) > 1]
    if twice:
        raise InputError(f"The outcome '{twice[0]}' is named twice: leave one of them out.")


def as_formulaic(text: str) -> str:
    """A formula in formulaic's words: R's ``factor(x)`` is ``C(x)``, ``x^2`` is ``x**2``.

    Quoted names stay as they are.
    """
    parts = pieces(text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"(?<![\w.])(?:as\.)?factor\(", "C(", parts[i]).replace("^", "**")
    return "".join(parts)


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


def _refuse_outcomes_among_predictors(sides: Sides) -> None:
    """Raise where an outcome explains itself: as it is, or as a column of a predictor."""
    for term in parse(sides.predictors):
        for factor in term.factors:
            read = [factor.expr]
            if factor.eval_method is Factor.EvalMethod.PYTHON:
                read += read_expression(factor.expr).columns(sides.names)
            for name, outcome in zip(sides.names, sides.outcomes, strict=True):
                if name in read or _as_written(outcome) in read:
                    raise InputError(
                        f"The outcome '{shown(name)}' is among its own predictors, in the term "
                        f"'{shown(term)}': leave it out on one side of '~'."
                    )


def _as_written(outcome: str) -> str | None:
    """An outcome's expression in the spelling that formulaic gives to predictors."""
    try:
        return read_expression(as_formulaic(outcome)).spelled()
    except InputError:
        return None


@lru_cache(maxsize=128)
def parse(predictors: str) -> SimpleFormula:
    """A right-hand side as formulaic reads it.

    Raises
    ------
    InputError
        If it cannot be read, holds what is not allowed, has several parts, uses ``.`` for the
        other columns, or multiplies out to more terms than can be of use.
    """
    refuse_length(predictors, "The formula")
    if _ALL_OTHERS.search(QUOTED.sub("quoted", predictors)):
        raise InputError(
            f"The formula '~ {shown(predictors)}' has '.': name the predictors one by one."
        )
    try:
        refuse_tokens(predictors)
        parser = NamesAsTyped()
        refuse_explosion(parser.get_ast(predictors), predictors)
        formula = Formula(predictors, _parser=parser)
    except InputError:
        raise
    except Exception as error:
        # Errors of formulaic's reading are of many types, down to those of lists and numbers.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        reason = restored(reason, masked(predictors)[1])
        raise InputError(
            f"The formula '~ {shown(predictors)}' cannot be read: {shown(reason, 160).rstrip('.')}."
        ) from error
    if not isinstance(formula, SimpleFormula):
        raise several_parts(predictors)
    for term in formula:
        for factor in term.factors:
            if factor.eval_method is Factor.EvalMethod.PYTHON:
                # As formulaic spells it, which is what will be evaluated.
                read_expression(factor.expr)
    return formula


@lru_cache(maxsize=128)
def term_factors(predictors: str) -> tuple[tuple[str, ...], ...]:
    """The factors of each term of a right-hand side, as they are written."""
    return tuple(tuple(factor.expr for factor in term.factors) for term in parse(predictors))


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
                names.extend(read_expression(factor.expr).columns(data.columns))
    return existing_columns(dict.fromkeys(names), data, where)


def category_column(expression: str, columns: Container[str]) -> str | None:
    """The column whose values are the categories of ``x`` or ``C(x)``; None for any other."""
    if expression in columns:
        return expression
    read = read_expression(expression)
    node = read.root
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "C":
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Name):
            return read.column(first)
    return None


def evaluate_outcome(expression: str, data: pd.DataFrame, what: str = "the data") -> np.ndarray:
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
        existing_columns([name], data, where, what)
    source = as_formulaic(name)
    if source.startswith("{") and source.endswith("}"):
        source = source[1:-1]
    read = read_expression(source, "The left-hand side of the formula")
    used = existing_columns(dict.fromkeys(read.columns(data.columns)), data, where, what)
    if not used:
        raise InputError(f"The outcome '{shown(name)}' in the formula reads no column of the data.")
    columns = {column: numeric(data[column], f"column '{column}'") for column in used}
    table = pd.DataFrame(columns, index=data.index).dropna()
    values = _one_column(Evaluator(read, table).result(), len(table), name)
    broken = ~np.isfinite(values)
    if broken.any():
        row = int(np.argmax(broken))
        given = ", ".join(f"{column} is {table[column].iloc[row]:g}" for column in used)
        raise InputError(
            f"The outcome '{shown(name)}' is {values[row]:g} in row "
            f"{row_label(table.index, row)!r}, where {given}."
        )
    outcome = np.full(len(data), np.nan)
    outcome[~np.isnan(np.column_stack(list(columns.values()))).any(axis=1)] = values
    return outcome


def _one_column(values: Any, n: int, name: str) -> np.ndarray:
    """Values of an outcome, shape (n,)."""
    try:
        numbers = np.asarray(values, float)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape == (n, 1):
        numbers = numbers[:, 0]
    if numbers.shape != (n,):
        raise InputError(f"The outcome '{shown(name)}' is not one number per row of the data.")
    return numbers


def _materializer(data: pd.DataFrame) -> PandasMaterializer:
    """formulaic's reader of pandas frames, with expressions evaluated by ours."""

    def evaluate(text: str, _metadata: Any, spec: ModelSpec) -> tuple[Any, set]:
        return Evaluator(read_expression(text), data, spec.transform_state, spec).result(), set()

    reader = PandasMaterializer(data)
    # Of this one reader: a class of our own would enter formulaic's registry.
    reader._evaluate = evaluate
    return reader


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
            return _materializer(data).get_model_matrix(source, output="numpy", na_action="ignore")
    except (FormulaicError, DataMismatchWarning, TypeError, ValueError, LookupError) as error:
        reason: BaseException = error
        while reason.__cause__ is not None and not isinstance(reason, InputError):
            reason = reason.__cause__
        if isinstance(reason, InputError):
            raise InputError(f"The formula cannot be evaluated: {reason}") from error
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"The formula cannot be evaluated on the data: {shown(first, 200).rstrip('.')}."
        ) from error
