"""How many terms a formula multiplies out to, told before they are built."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb
from typing import Any

from formulaic.parser.types import ASTNode, Token

from mixmeta_jax.errors import InputError, shown

MAX_TERMS = 2_000
"""Terms of a formula: building them takes about a second per thousand."""

MAX_PRODUCTS = 20_000
"""Products that a power goes through, most of them the same: about a second for these."""


def refuse_explosion(tree: Any, text: str) -> None:
    """Raise where a formula multiplies out to more terms than can be of use.

    Parameters
    ----------
    tree
        The formula as formulaic reads it, terms not yet multiplied out.
    text
        What the user typed, for the sentence.

    Raises
    ------
    InputError
        It says how many terms there would be.
    """
    counts: dict[int, int] = {}
    for node in _from_the_leaves(tree):
        counts[id(node)] = _count(node, counts, text)
    total = counts.get(id(tree), 1)
    if total > MAX_TERMS:
        raise InputError(
            f"The formula '~ {shown(text)}' multiplies out to {_size(total)} terms, more than the "
            f"{MAX_TERMS:,} that are built: name the interactions that you mean."
        )


def _from_the_leaves(tree: Any) -> Iterator[ASTNode]:
    """Every operation after its arguments; not by recursion, since a long sum is a deep tree."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ASTNode):
            found.append(node)
            waiting.extend(node.args)
    return reversed(found)


def _count(node: ASTNode, counts: dict[int, int], text: str) -> int:
    """Terms of an operation, an upper bound where some of them are the same."""
    sizes = [counts.get(id(argument), 1) for argument in node.args]
    symbol = node.operator.symbol
    if symbol in ("**", "^"):
        return _power(sizes[0], node.args[1], text)
    if len(sizes) == 1:
        return sizes[0]
    left, right = sizes
    if symbol == "-":
        return left
    if symbol == ":":
        return left * right
    # Every other one gives both sides, and "*" their products.
    return left + right + (left * right if symbol == "*" else 0)


def _power(terms: int, exponent: Any, text: str) -> int:
    power = _whole_number(exponent)
    if power is None:
        raise InputError(
            f"A power in the formula '~ {shown(text)}' is no whole number from 1 on; the power of "
            "a column's values is written I(x**0.5)."
        )
    # Not by the numbers themselves, which may have a billion digits.
    if power > MAX_PRODUCTS or terms**power > MAX_PRODUCTS:
        different = (
            2**terms - 1 if power >= terms else sum(comb(terms, j + 1) for j in range(power))
        )
        raise InputError(
            f"The power {shown(power, 20)} of {terms:,} term(s) in the formula '~ {shown(text)}' "
            f"goes through {terms:,}**{shown(power, 20)} products to {_size(different)} different "
            f"term(s): write a power of at most {terms:,}, or name the interactions; the power of "
            "a column's values is written I(x**2)."
        )
    return sum(comb(terms, j + 1) for j in range(min(power, terms)))


def _whole_number(exponent: Any) -> int | None:
    if not isinstance(exponent, Token) or exponent.kind is not Token.Kind.VALUE:
        return None
    digits = exponent.token
    if not digits.isdecimal() or not digits.isascii():
        return None
    value = int(digits[:12]) if len(digits) <= 12 else 10**12
    return value if value >= 1 else None


def _size(count: int) -> str:
    return f"{count:,}" if count < 10**15 else f"about 10**{len(f'{count:x}') * 1.2:.0f}"
