"""The levels of the random part: groups and random predictors of the rows, with their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from formulaic import ModelSpec

from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.model_matrix import ModelMatrix, build_matrix
from mixmeta_jax.table.columns import missing_rows, refuse_infinite, row_label
from mixmeta_jax.table.grouping import UNIT, LevelTerm, groups_of, parse_random
from mixmeta_jax.table.names import INTERCEPT


@dataclass(frozen=True)
class Level:
    """One grouping level of n units.

    Attributes
    ----------
    name
        Its name, that of the grouping column.
    codes
        Group of each unit, 0…g−1 by first appearance, shape (n,); unique over parents.
    labels
        The g labels: values at the outermost level, tuples of values (outer first) further in.
    Z
        Random-effects predictors, shape (n, q).
    z_names
        Their q names.
    matrix
        What rebuilds Z on new data.
    nests
        As in `table.grouping.LevelTerm`.
    """

    name: str
    codes: np.ndarray
    labels: list[Any]
    Z: np.ndarray
    z_names: list[str]
    matrix: ModelMatrix
    nests: bool = True

    @property
    def spec(self) -> ModelSpec | None:
        """formulaic's specification of Z; None for an intercept alone."""
        return self.matrix.spec


def random_levels(random: Any, table: pd.DataFrame | None, n: int) -> tuple[Level, ...]:
    """The levels of n complete rows, outer first, from any form of ``random``.

    Raises
    ------
    InputError
        For what `table.grouping.parse_random` refuses, or a group or predictor that is missing.
    """
    rows = pd.DataFrame(index=pd.RangeIndex(n)) if table is None else table
    terms = parse_random(random, rows)
    needed = [column for term in terms for column in (term.name, *term.columns)]
    refuse_infinite(rows, needed)
    for column in needed:
        gaps = missing_rows(rows, [column])
        if gaps.any():
            row = row_label(rows.index, int(np.argmax(gaps)))
            raise InputError(f"The column '{column}' of random is missing in row {row!r}.")
    return levels_of(terms, rows)


def levels_of(terms: Sequence[LevelTerm], fitted: pd.DataFrame) -> tuple[Level, ...]:
    """The levels of complete rows, outer first; every row a group where there are no terms."""
    if not terms:
        return (unit_level(fitted.index, build_matrix("1", fitted, [])),)
    levels = []
    matrices: dict[str, ModelMatrix] = {}
    groups = groups_of(fitted, terms)
    for term, group in zip(terms, groups, strict=True):
        if term.predictors not in matrices:
            matrices[term.predictors] = _random_matrix(term, fitted)
        matrix = matrices[term.predictors]
        levels.append(
            Level(
                term.name,
                group.codes,
                group.labels,
                matrix.values,
                matrix.names,
                matrix,
                term.nests,
            )
        )
    return tuple(levels)


def _random_matrix(term: LevelTerm, fitted: pd.DataFrame) -> ModelMatrix:
    matrix = build_matrix(term.predictors, fitted, term.columns)
    rank = np.linalg.matrix_rank(matrix.values / np.abs(matrix.values).max(0).clip(1e-300))
    if rank < len(matrix.names):
        every = np.ones(len(fitted), bool)
        for interaction in matrix.cells:
            empty = interaction.empty(every)
            if empty is not None:
                raise InputError(
                    f"The interaction '{shown(interaction.term)}' of the random predictors of "
                    f"level '{term.name}' has an empty cell: no row has {empty}, so they are "
                    "collinear; leave the interaction out, or join categories."
                )
        raise InputError(
            f"The random predictors of level '{term.name}' ({', '.join(matrix.names)}) are "
            "collinear: their covariance cannot be identified."
        )
    return matrix


def unit_level(index: pd.Index, matrix: ModelMatrix) -> Level:
    """The level of rows without groups: each is one."""
    n = len(index)
    return Level(UNIT, np.arange(n), index.tolist(), np.ones((n, 1)), [INTERCEPT], matrix)
