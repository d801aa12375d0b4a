"""Regular expressions that users give for names: how long a search may take, told beforehand.

Python's search goes back over every choice that a pattern leaves open: ``(a+)+$`` takes 2ⁿ steps on
n letters. Its steps are counted from the pattern as Python reads it, rather too many than too few.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, lgamma, log
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError

MOST_PATTERN = 200
"""Characters of a pattern; 100,000 take seconds to compile."""

MOST_SEARCHED = 100_000_000
"""Steps of the search in all names, as `steps` counts them: about a second at most."""

INSTEAD = "write it with fewer repetitions, or give a list of names"


def compiled(text: str, names: Sequence[str], what: str) -> re.Pattern[str]:
    """A pattern that is searched for in names.

    Parameters
    ----------
    text
        What the user gave.
    names
        Where it is searched for.
    what
        The argument, for the sentence.

    Raises
    ------
    InputError
        For what is no regular expression, or one whose search might not end.
    """
    if len(text) > MOST_PATTERN:
        raise InputError(
            f"{what}: {gates.described(text)} is no name of a coefficient, and a regular "
            f"expression may have {MOST_PATTERN} characters, not {len(text):,}: give a list of "
            "names."
        )
    try:
        tree = _parser.parse(text)
        if sum(exp(min(steps(tree, len(name)), 700.0)) for name in names) > MOST_SEARCHED:
            raise InputError(
                f"{what}: the regular expression {gates.described(text)} leaves so many ways to "
                f"match open that its search might not end: {INSTEAD}."
            )
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(
            f"{what}: {gates.described(text)} is neither the name of a coefficient "
            f"({', '.join(names)}) nor a regular expression ({error})."
        ) from None


def steps(tree: Any, length: int) -> float:
    """Logarithm of the most steps in which a parsed pattern is searched for in so many characters.

    A step is a place in the pattern with what was chosen before it. Repetitions that take at least
    a character each time take no more than ``length`` together, with those before the match: of r
    of them there are C(length + r + 1, r + 1) choices.
    """
    return _steps(_choices(tree, length), length, 1)


@dataclass(frozen=True)
class Choices:
    """What a part of a pattern leaves open.

    Attributes
    ----------
    places
        Its places, each as often as the search may come to it on one way.
    ways
        Logarithm of the number of ways through it, for given numbers of its repetitions.
    repeats
        Parts that are repeated any number of times.
    """

    places: float = 1.0
    ways: float = 0.0
    repeats: float = 0.0


def _steps(found: Choices, length: int, before: int) -> float:
    r = found.repeats + before
    if inf in (found.places, found.ways, r):
        return inf
    chosen = lgamma(length + r + 1) - lgamma(r + 1) - lgamma(length + 1)
    return log(found.places) + found.ways + chosen


def _choices(tree: Any, length: int) -> Choices:
    parts = [_of_part(str(op), value, length) for op, value in tree]
    return Choices(
        1 + sum(part.places for part in parts),
        sum(part.ways for part in parts),
        sum(part.repeats for part in parts),
    )


def _of_part(op: str, value: Any, length: int) -> Choices:
    match op:
        case "BRANCH":
            return _one_of([_choices(way, length) for way in value[1]])
        case "GROUPREF_EXISTS":
            return _one_of([_choices(way or (), length) for way in value[1:]])
        case "SUBPATTERN":
            return _choices(value[-1], length)
        case "ATOMIC_GROUP":
            return _choices(value, length)
        case "ASSERT" | "ASSERT_NOT":
            # It is searched anew from every place that is reached.
            within = _steps(_choices(value[1], length), length, 0)
            return Choices(1 + exp(within) if within < 700 else inf)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, part = value
            return _repeated(least, most, part, length)
        case "GROUPREF" | "GROUPREF_IGNORE":
            return Choices(length + 1.0)
        case "IN":
            return Choices(float(len(value)))
        case _:
            return Choices()


def _one_of(ways: Sequence[Choices]) -> Choices:
    return Choices(
        sum(way.places for way in ways),
        log(len(ways)) + max(way.ways for way in ways),
        max(way.repeats for way in ways),
    )


def _repeated(least: Any, most: Any, part: Any, length: int) -> Choices:
    """A part that is there from ``least`` to ``most`` times."""
    one, width = _choices(part, length), part.getwidth()[0]
    most = inf if most is _parser.MAXREPEAT else int(most)
    most = min(most, length // width + 1) if width else most  # it fails beyond the last character
    least = min(int(least), most)
    open_ended = width > 0 and most > 1 and least < most
    if open_ended and not one.ways and not one.repeats:
        return Choices(one.places * (least + 1), 0.0, 1.0)
    count = log(most - least + 1) if most < inf else inf
    return Choices(
        one.places * max(1, most),
        count + (one.ways * most if one.ways else 0.0),
        one.repeats * most if one.repeats else 0.0,
    )
