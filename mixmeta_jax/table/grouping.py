"""Grouping levels: what ``random`` says, and the groups that it makes of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.expressions import unquoted
from mixmeta_jax.formulas.formula import as_formulaic, columns_of, parse, split_outside
from mixmeta_jax.table.columns import existing_columns, label_codes

UNIT = "unit"
"""Name of the level that a model without ``random`` has: every row a group of its own."""


@dataclass(frozen=True)
class LevelTerm:
    """One level as the user wrote it: its grouping column, random predictors, columns they read.

    ``nests`` says that its labels are those of groups within the level before it, as in ``a/b``.
    """

    name: str
    predictors: str
    columns: tuple[str, ...]
    nests: bool = True


def parse_random(random: Any, data: pd.DataFrame) -> list[LevelTerm]:
    """Levels, outer first, of any form of ``random``.

    Parameters
    ----------
    random
        ``"~ 1 | a/b"``, ``["~ z | a", "~ 1 | b"]`` or ``{"a": "~ z", "b": "~ 1"}``, outer first;
        ``{"a": "~ z", "a/b": "~ 1"}`` where labels of b occur under several of a; None for none.
    data
        The rows; every name must be one of its columns.

    Raises
    ------
    InputError
        For a form that cannot be read, an unknown column, or a level named twice.
    """
    if random is None:
        return []
    pairs: list[tuple[str, str, bool]] = []
    if isinstance(random, Mapping):
        for level, formula in random.items():
            if not isinstance(formula, str) or len(split_outside(formula, "|")) > 1:
                raise InputError(
                    f"random: the level '{level}' must have a formula without a bar, such as "
                    f"'~ 1', not {gates.described(formula)}."
                )
            name, nests = _own_name(str(level), [name for name, _, _ in pairs], data)
            pairs.append((name, _right_hand_side(formula), nests))
    else:
        formulas = [random] if isinstance(random, str) else random
        if not isinstance(formulas, Sequence) or not all(isinstance(f, str) for f in formulas):
            raise InputError(
                "random must be a formula such as '~ 1 | district/study', a list of such formulas "
                f"or a mapping {{level: formula}}, not {gates.described(random)}."
            )
        for formula in formulas:
            pairs.extend(_levels_of(formula))
    if not pairs:
        raise InputError("random is empty: give a formula such as '~ 1 | study', or None.")
    terms = []
    for level, predictors, nests in pairs:
        existing_columns([level], data, f"random ('{level}')")
        columns = columns_of(predictors, data, f"the random part of level '{level}'")
        if not len(parse(predictors)):
            raise InputError(f"The random part of level '{level}' has no predictor: use '~ 1'.")
        terms.append(LevelTerm(level, predictors, tuple(columns), nests))
    names = [term.name for term in terms]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(
            f"random names the level '{twice[0]}' twice: put all its predictors in one formula."
        )
    return terms


def _own_name(level: str, before: list[str], data: pd.DataFrame) -> tuple[str, bool]:
    """The level's own column, and whether it is said to lie in those before: ``a/b`` after a."""
    path = [unquoted(name.strip()) for name in split_outside(level, "/")]
    if level not in data.columns and len(path) > 1 and path[:-1] == before[-len(path) + 1 :]:
        return path[-1], True
    return level, False


def _levels_of(formula: str) -> list[tuple[str, str, bool]]:
    predictors, *groups = split_outside(formula, "|")
    levels = [unquoted(name.strip()) for part in groups for name in split_outside(part, "/")]
    if len(groups) != 1 or not all(levels):
        raise InputError(
            f"random: '{formula}' does not say the grouping: write it behind a bar, as in "
            "'~ 1 | study' or '~ 1 | district/study'."
        )
    return [(level, _right_hand_side(predictors), i > 0) for i, level in enumerate(levels)]


def _right_hand_side(formula: str) -> str:
    text = formula.strip().removeprefix("~").strip()
    if "~" in text:
        raise InputError(f"random: '{formula}' has an outcome; write it as '~ ... | level'.")
    return as_formulaic(text or "1")


@dataclass(frozen=True)
class Groups:
    """Group of each row, shape (n,), numbered by first appearance, and the groups' labels.

    Labels are the values of the column at the outermost level, and tuples of values, outer first,
    further in: the same inner label under two parents is two groups.
    """

    codes: np.ndarray
    labels: list[Any]


class NestedColumn(Protocol):
    """What has the name of a grouping column, and says whether its labels nest."""

    @property
    def name(self) -> str: ...

    @property
    def nests(self) -> bool: ...


def nested_groups(data: pd.DataFrame, names: Sequence[str]) -> list[Groups]:
    """Groups of each level, outer first; no value of the columns may be missing."""
    return _nested(data, [(name, True) for name in names])


def groups_of(data: pd.DataFrame, terms: Sequence[NestedColumn]) -> list[Groups]:
    """The same of terms.

    Raises
    ------
    InputError
        Where a label occurs under two parents and no ``a/b`` says that these are two groups.
    """
    return _nested(data, [(term.name, term.nests) for term in terms])


def _nested(data: pd.DataFrame, named: Sequence[tuple[str, bool]]) -> list[Groups]:
    levels: list[Groups] = []
    names = [name for name, _ in named]
    parent = np.zeros(len(data), np.int64)
    for depth, (name, nests) in enumerate(named):
        own, _ = label_codes(data, name)
        pair = parent * (int(own.max(initial=0)) + 1) + own
        codes, _ = pd.factorize(pair)
        # Codes number the groups by first appearance, so each new maximum is a group's first row.
        first = np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))
        if depth and not nests:
            _refuse_two_parents(data, names[depth - 1], name, own[first], first)
        columns = [data[level].iloc[first].tolist() for level in names[: depth + 1]]
        labels = columns[0] if depth == 0 else list(zip(*columns, strict=True))
        levels.append(Groups(codes, labels))
        parent = codes.astype(np.int64)
    return levels


def _refuse_two_parents(
    data: pd.DataFrame, outer: str, inner: str, own: np.ndarray, first: np.ndarray
) -> None:
    """Raise where two groups, whose labels and first rows these are, have one label."""
    again = pd.Series(own).duplicated().to_numpy()
    if not again.any():
        return
    last = int(np.argmax(again))
    rows = [first[int(np.argmax(own == own[last]))], first[last]]
    parents = [shown(data[outer].iloc[row]) for row in rows]
    label = shown(data[inner].iloc[rows[1]])
    raise InputError(
        f"random: the label {label} of '{inner}' occurs under '{outer}' {parents[0]} and "
        f"{parents[1]}. Write '{outer}/{inner}' if these are two groups: '~ 1 | {outer}/{inner}', "
        f"or {{'{outer}': ..., '{outer}/{inner}': ...}}. If they are one, the effects are crossed, "
        "which mixmeta does not fit."
    )
