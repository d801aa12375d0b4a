"""The tokens of a right-hand side: with names as they were typed, and held to what is allowed.

formulaic writes names in backquotes back into expressions by their texts alone, so that a name
within another one, or a letter of Python's own choice, would read another column, or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from formulaic.parser import DefaultFormulaParser
from formulaic.parser.algos.tokenize import tokenize
from formulaic.parser.types import Token

from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.expressions import ALLOWED, masked, read_expression, restored


class NamesAsTyped(DefaultFormulaParser):
    """formulaic's parser, which sees marks in the places of names that need care."""

    def get_tokens_from_formula(self, formula: str, **context: Any) -> Iterable[Token]:
        """The tokens of a formula, intercept and all."""
        text, names = masked(formula)
        return _named(super().get_tokens_from_formula(text, **context), names)


def _named(tokens: Iterable[Token], names: dict[str, str]) -> Iterator[Token]:
    """The tokens with names for marks: columns bare, in expressions as these are spelled."""
    for token in tokens:
        if token.kind is Token.Kind.PYTHON:
            token.token = read_expression(restored(token.token, names)).spelled()
        elif token.token in names:
            token.token = names[token.token]
        else:
            token.token = restored(token.token, names)
        yield token


def refuse_tokens(predictors: str) -> None:
    """Raise for what formulaic would run, or silently read as something else than was meant.

    It is judged before formulaic's own parser sees it, which evaluates parts of some formulas.
    """
    text, names = masked(predictors)
    tokens = list(_named(tokenize(text), names))
    for token in tokens:
        _refuse_token(token, predictors)
    _refuse_literals(tokens, predictors)
    _refuse_ambiguous(tokens, predictors)


def _refuse_token(token: Token, predictors: str) -> None:
    """Raise for a token that formulaic might run, or that has no meaning in one sum of terms."""
    if token.kind is Token.Kind.PYTHON:
        expression = read_expression(token.token)
        if not any(True for _ in expression.names()):
            raise InputError(
                f"The term '{shown(token.token)}' in the formula '~ {shown(predictors)}' reads no "
                "column of the data."
            )
    elif token.kind is Token.Kind.OPERATOR and token.token != "in":
        if set(token.token) & set("~|"):
            raise several_parts(predictors)
        unknown = set(token.token) - set("+-*/:^")
        if unknown:
            raise InputError(
                f"The formula '~ {shown(predictors)}' has {min(unknown)!r} between its terms: "
                f"write comparisons as I(x > 1), and odd names in backquotes; {ALLOWED}."
            )
    elif token.kind is Token.Kind.CONTEXT and token.token in "[]":
        raise InputError(
            f"The formula '~ {shown(predictors)}' has brackets [ ] outside a function: {ALLOWED}."
        )


def _refuse_literals(tokens: Sequence[Token], predictors: str) -> None:
    """Raise for numbers and strings among terms, other than 0 and 1 and those of powers.

    formulaic scales a term by a number, under the term's own name.
    """
    power = False
    for token in tokens:
        if token.kind is Token.Kind.VALUE and token.token not in ("0", "1") and not power:
            raise InputError(
                f"The formula '~ {shown(predictors)}' has {shown(token.token, 40)} among its "
                "terms: only 0 and 1 mean something there, no intercept and an intercept; reckon "
                "inside I(), as in I(2 * x)."
            )
        if token.kind is not Token.Kind.CONTEXT:
            power = token.token.endswith(("**", "^"))


def several_parts(predictors: str) -> InputError:
    """The error on a formula that is no one sum of terms."""
    bar = re.search(r"\(([^()|]*)\|([^()|]*)\)", predictors)
    what = "several parts: it must be one sum of terms, and groups belong in random"
    if bar:
        effects, groups = (shown(part.strip(), 60) for part in bar.groups())
        what = f"random effects among its terms: give them as random='~ {effects} | {groups}'"
    return InputError(f"The formula '~ {shown(predictors)}' has {what}.")


def _refuse_ambiguous(tokens: Sequence[Token], predictors: str) -> None:
    """Raise for a backquoted column that formulaic would take for a number or an expression.

    It knows both by their texts alone, and would leave out one of the two.
    """
    expressions = {token.token for token in tokens if token.kind is Token.Kind.PYTHON}
    for token in tokens:
        if token.kind is Token.Kind.NAME and (
            _is_number(token.token) or token.token in expressions
        ):
            raise InputError(
                f"The column '{shown(token.token)}' in the formula '~ {shown(predictors)}' has a "
                "number or an expression of the formula for a name: rename the column."
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower().lstrip("+-") not in ("nan", "inf", "infinity")
