"""Formulas from formulas: dots that stand for what was there, and what the terms are then."""

from __future__ import annotations

import ast
import re

from formulaic.parser.types import Factor, Term

from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.expressions import WORD, pieces, read_expression
from mixmeta_jax.formulas.formula import as_formulaic, parse, split_formula, split_outside

_DOT = re.compile(r"(?<![\w.)\]])\.(?![\w.])")


def has_dots(formula: str) -> bool:
    """Whether a formula leaves something to an older one: a dot, or no left-hand side."""
    sides = split_outside(formula, "~")
    dots = any(_DOT.search(piece) for piece in pieces(formula)[::2])
    return dots or (len(sides) == 2 and not sides[0].strip())


def updated_formula(old: str, new: str) -> str:
    """A formula in which dots stand for the sides of an older one, as R's ``update`` reads it.

    Parameters
    ----------
    old
        A formula, as ``"y ~ x + z"``.
    new
        As ``"~ . + w"`` or ``". ~ . - x"``; a left-hand side that is not there is the old one. On
        the right, ``.`` is the old sum of terms; without an old intercept there is none unless
        ``+ 1`` puts it back.

    Returns
    -------
    str
        The formula with its terms written out, each once, in order.

    Raises
    ------
    InputError
        For a formula that has not two sides, or that cannot be read.

    Examples
    --------
    >>> updated_formula("y ~ x + z", "~ . + w - x")
    'y ~ z + w'
    >>> updated_formula("y ~ 0 + x", ". ~ . + x:z")
    'y ~ 0 + x + x:z'
    """
    sides = split_outside(new, "~")
    if len(sides) != 2:
        raise InputError(
            f"The formula '{shown(new)}' must have two sides to stand in for '{shown(old)}', as in "
            "'~ . + x' or '. ~ . - x'."
        )
    own = split_formula(old)
    left = " + ".join(own.outcomes)
    outcomes = _replaced(sides[0].strip(), left) or left
    terms = list(parse(own.predictors))
    intercept = any(_is_constant(term) for term in terms)
    written = [written_term(term) for term in terms if not _is_constant(term)]
    right = as_formulaic(sides[1].strip()) or "1"
    dotted = any(_DOT.search(piece) for piece in pieces(right)[::2])
    right = _replaced(right, f"({' + '.join(written)})" if written else "1")
    if dotted and not intercept:
        right = f"0 + {right}"
    return f"{outcomes} ~ {_written_out(right)}"


def _replaced(text: str, dot: str) -> str:
    """The text with its dots outside quotes replaced."""
    parts = pieces(text)
    parts[::2] = [_DOT.sub(lambda _: dot, part) for part in parts[::2]]
    return "".join(parts)


def _is_constant(term: Term) -> bool:
    return all(factor.eval_method is Factor.EvalMethod.LITERAL for factor in term.factors)


def _written_out(predictors: str) -> str:
    """A right-hand side as its terms, each once; as it is where that would not read the same."""
    terms = list(parse(predictors))
    intercept = any(_is_constant(term) for term in terms)
    written = [written_term(term) for term in terms if not _is_constant(term)]
    if not written:
        return "1" if intercept else predictors
    simple = " + ".join(written if intercept else ["0", *written])
    return simple if list(parse(simple)) == terms else predictors


def written_term(term: Term) -> str:
    """A term as it may stand in a formula."""
    return ":".join(_written_factor(factor) for factor in term.factors)


def _written_factor(factor: Factor) -> str:
    text = str(factor.expr)
    if factor.eval_method is Factor.EvalMethod.LOOKUP:
        return text if WORD.fullmatch(text) else f"`{text}`"
    if factor.eval_method is Factor.EvalMethod.PYTHON and not _is_call(text):
        return f"{{{text}}}"
    return text


def _is_call(text: str) -> bool:
    return isinstance(read_expression(text).root, ast.Call)


def without_term(formula: str, term: str) -> str:
    """A formula less one of its terms, as `written_term` gives it."""
    return updated_formula(formula, f"~ . - {term}")


def droppable_terms(formula: str) -> list[str]:
    """The terms that no other contains, in order: what may be dropped with marginality kept."""
    terms = [term for term in parse(split_formula(formula).predictors) if not _is_constant(term)]
    sets = [frozenset(str(factor.expr) for factor in term.factors) for term in terms]
    return [
        written_term(term)
        for term, own in zip(terms, sets, strict=True)
        if not any(own < other for other in sets)
    ]


def factors_of(term: str) -> frozenset[str]:
    """The factors of one term: a:b is b:a."""
    return frozenset(str(factor.expr) for part in parse(f"0 + {term}") for factor in part.factors)


def has_predictors(formula: str) -> bool:
    """Whether the right-hand side has a term, the intercept among them."""
    return bool(list(parse(split_formula(formula).predictors)))
