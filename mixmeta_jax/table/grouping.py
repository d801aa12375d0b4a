"""Grouping levels: what ``random`` says, and the groups that it makes of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.formulas.expressions import unquoted
from mixmeta_jax.formulas.formula import as_formulaic, columns_of, parse, split_outside
from mixmeta_jax.table.columns import existing_columns, label_codes

UNIT = "unit"
"""Name of the level that a model without ``random`` has: every row a group of its own."""


@dataclass(frozen=True)
class LevelTerm:
    """One level as the user wrote it: its grouping column, random predictors, columns they read."""

    name: str
    predictors: str
    columns: tuple[str, ...]


def parse_random(random: Any, data: pd.DataFrame) -> list[LevelTerm]:
    """Levels, outer first, of any form of ``random``.

    Parameters
    ----------
    random
        ``"~ 1 | a/b"``, ``["~ z | a", "~ 1 | b"]`` or ``{"a": "~ z", "b": "~ 1"}``, outer first;
        None for none.
    data
        The rows; every name must be one of its columns.

    Raises
    ------
    InputError
        For a form that cannot be read, an unknown column, or a level named twice.
    """
    if random is None:
        return []
    pairs: list[tuple[str, str]] = []
    if isinstance(random, Mapping):
        for level, formula in random.items():
            if not isinstance(formula, str) or len(split_outside(formula, "|")) > 1:
                raise InputError(
                    f"random: the level '{level}' must have a formula without a bar, such as "
                    f"'~ 1', not {gates.described(formula)}."
                )
            pairs.append((str(level), _right_hand_side(formula)))
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
    for level, predictors in pairs:
        existing_columns([level], data, f"random ('{level}')")
        columns = columns_of(predictors, data, f"the random part of level '{level}'")
        if not len(parse(predictors)):
            raise InputError(f"The random part of level '{level}' has no predictor: use '~ 1'.")
        terms.append(LevelTerm(level, predictors, tuple(columns)))
    names = [term.name for term in terms]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(
            f"random names the level '{twice[0]}' twice: put all its predictors in one formula."
        )
    return terms


def _levels_of(formula: str) -> list[tuple[str, str]]:
    predictors, *groups = split_outside(formula, "|")
    levels = [unquoted(name.strip()) for part in groups for name in split_outside(part, "/")]
    if len(groups) != 1 or not all(levels):
        raise InputError(
            f"random: '{formula}' does not say the grouping: write it behind a bar, as in "
            "'~ 1 | study' or '~ 1 | district/study'."
        )
    return [(level, _right_hand_side(predictors)) for level in levels]


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


def nested_groups(data: pd.DataFrame, names: Sequence[str]) -> list[Groups]:
    """Groups of each level, outer first; no value of the columns may be missing."""
    levels: list[Groups] = []
    parent = np.zeros(len(data), np.int64)
    for depth, name in enumerate(names):
        own, _ = label_codes(data, name)
        pair = parent * (int(own.max(initial=0)) + 1) + own
        codes, _ = pd.factorize(pair)
        # Codes number the groups by first appearance, so each new maximum is a group's first row.
        first = np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))
        columns = [data[level].iloc[first].tolist() for level in names[: depth + 1]]
        labels = columns[0] if depth == 0 else list(zip(*columns, strict=True))
        levels.append(Groups(codes, labels))
        parent = codes.astype(np.int64)
    return levels
