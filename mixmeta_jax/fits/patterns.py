"""Regular expressions that users give for names: how long a search may take, told beforehand.

Python's search goes back over every choice that a pattern leaves open: ``(a+)+$`` takes 2^n steps
on n letters. The choices are counted from the text, rather too many than too few.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mixmeta_jax.errors import InputError, shown

MOST_CHARACTERS = 1_000
"""Length of a pattern; longer ones take seconds to compile."""

MOST_SEARCH_STEPS = 10**8
"""Steps of a search through all names, by the count of `_steps`: at most some seconds."""

_SINGLE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_OPENING = re.compile(r"\(\?(?:[:=!>]|<[=!]|P<\w+>|[aiLmsu-]+:?)")
_COMMENTS = re.compile(r"\(\?(?:#|[a-zA-Z]*x)")
_PLAIN_GROUP = re.compile(r"\([^()*+?{|]*\)")
_REPEATED_GROUP = re.compile(r"\)[*+{]")


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
        For what is no regular expression, or one whose search may take too long.
    """
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            f"{what}: the regular expression '{shown(text)}' has {len(text):,} characters, more "
            f"than the {MOST_CHARACTERS:,} that are read: give a list of names."
        )
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(
            f"{what}: {shown(repr(text))} is neither the name of a coefficient "
            f"({shown(', '.join(names), 120)}) nor a regular expression ({shown(error)})."
        ) from None
    bare = _without_plain_groups(text)
    if _COMMENTS.search(bare):
        raise InputError(
            f"{what}: the regular expression '{shown(text)}' holds comments, or the flag x that "
            "allows them: write it without, or give a list of names."
        )
    if _REPEATED_GROUP.search(bare):
        raise InputError(
            f"{what}: the regular expression '{shown(text)}' repeats a group within which there "
            "are repetitions or alternatives, whose search may never end: write it without, or "
            "give a list of names."
        )
    if sum(_steps(bare, len(name)) for name in names) > MOST_SEARCH_STEPS:
        raise InputError(
            f"{what}: the regular expression '{shown(text)}' leaves too many choices open for "
            f"names of up to {max(map(len, names)):,} characters: write it with fewer repetitions "
            "and alternatives, or give a list of names."
        )
    return pattern


def _without_plain_groups(text: str) -> str:
    """The pattern with one letter for each escape, set and group that leaves nothing open."""
    bare = _OPENING.sub("(", _SINGLE.sub("a", text))
    while True:
        shorter = _PLAIN_GROUP.sub("a", bare)
        if shorter == bare:
            return bare
        bare = shorter


def _steps(bare: str, length: int) -> int:
    """The most steps that a search through so many characters takes."""
    branches = [1]
    depth = 0
    for sign in bare:
        depth += (sign == "(") - (sign == ")")
        if sign == "|" and depth == 0:
            branches.append(1)
        elif sign in "*+{":
            branches[-1] *= length + 1
        elif sign in "?|":
            branches[-1] *= 2
    return (length + 1) * sum(branches)
