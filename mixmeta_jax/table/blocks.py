"""Blocks of S that span rows, matched to the rows by the labels of their groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.arrays import traced_namespace
from mixmeta_jax.errors import InputError
from mixmeta_jax.table.columns import row_label

Label = Any


@dataclass(frozen=True)
class Rows:
    """The rows of the data, as S refers to them.

    Attributes
    ----------
    table
        All rows of the data.
    outcomes
        Names of the k outcomes.
    level
        Column of the outer groups; None where every row is a group of its own, and blocks are
        matched by the label of their row.
    chosen, kept
        Which rows ``subset`` chooses, shape (n,), and which of these are fitted, shape (rows,);
        None for all.
    """

    table: pd.DataFrame
    outcomes: Sequence[str]
    level: str | None = None
    chosen: np.ndarray | None = None
    kept: np.ndarray | None = None

    @property
    def k(self) -> int:
        """Number of outcomes."""
        return len(self.outcomes)

    @property
    def index(self) -> pd.Index:
        """Labels of all rows."""
        return self.table.index

    @property
    def fits_all(self) -> bool:
        """Whether every row is fitted."""
        return all(part is None or part.all() for part in (self.chosen, self.kept))

    @property
    def units(self) -> np.ndarray:
        """Rows that are fitted, by position in the data."""
        rows = np.arange(len(self.table)) if self.chosen is None else np.flatnonzero(self.chosen)
        return rows if self.kept is None else rows[self.kept]

    @property
    def word(self) -> str:
        """What a sentence calls a group."""
        return "row" if self.level is None else self.level

    def groups(self) -> pd.Series:
        """Outer group of every row, by its label."""
        if self.level is not None:
            return self.table[self.level]
        if not self.index.is_unique:
            twice = self.index[self.index.duplicated()].tolist()[0]
            raise InputError(
                f"S has blocks by row label, but the label {twice!r} occurs twice in the data: "
                "give random with the groups that the blocks span, or make the index unique."
            )
        return pd.Series(self.index, self.index)


@dataclass(frozen=True)
class _Chosen:
    """The rows after ``subset``: their labels, the outcomes, and what a group is called."""

    index: pd.Index
    k: int
    outcomes: Sequence[str]
    level: str


@dataclass(frozen=True)
class _Block:
    """A block of S: its group, its rows by position, and its matrix, outcome fastest."""

    label: Label
    rows: np.ndarray
    matrix: Any


def is_spanning(S: Any, k: int) -> bool:
    """Whether S is given as blocks by group label, or as one matrix labelled by rows.

    A matrix for k > 1 outcomes has every label k times: the numbers that pandas gives to columns
    without names are no labels, and a square frame of them holds a line for each row.
    """
    if isinstance(S, pd.DataFrame):
        if k > 1 and isinstance(S.columns, pd.RangeIndex):
            return False
        return len(S) > 1 and S.index.equals(S.columns)
    return isinstance(S, Mapping)


def spanning_matrices(
    S: Mapping[Label, Any] | pd.DataFrame, rows: Rows
) -> tuple[tuple[np.ndarray, Any], ...]:
    """Blocks of S, shape (r·k, r·k) each, with the units that they cover, shape (r,).

    Parameters
    ----------
    S
        {group label: matrix}. A plain matrix, which may be traced, covers the rows of its group in
        the order of the data, dropped ones included, outcome fastest. A frame says by its index
        which rows it covers: each row label k times, or pairs of row label and outcome. One such
        frame for all rows may stand in place of the mapping; it must be 0 between groups.
    rows
        The rows of the data; a group may be missing where its rows are not fitted.

    Raises
    ------
    InputError
        For a group without a block, a block without a group, or a size or label that does not
        match.
    """
    groups = rows.groups()
    known = set(groups.dropna().unique())
    groups = groups if rows.chosen is None else groups[rows.chosen]
    kept = np.ones(len(groups), bool) if rows.kept is None else rows.kept
    chosen = _Chosen(groups.index, rows.k, rows.outcomes, rows.word)
    codes, uniques = pd.factorize(groups)
    labels = uniques.tolist()
    # Rows of each group, in the order of the data; those without a group come first.
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes + 1, minlength=len(labels) + 1))
    members = np.split(order, ends[:-1])[1:]
    if isinstance(S, pd.DataFrame):
        S = _by_group(S, codes, labels, chosen)
    stray = next((label for label in S if label not in known), None)
    if stray is not None:
        raise InputError(
            f"S has a block for {rows.word} {stray!r}, but the data have no such group; its labels "
            f"look like {', '.join(map(repr, labels[:3]))}." + _hint(rows)
        )
    position = np.cumsum(kept) - 1
    blocks = []
    for label, of_group in zip(labels, members, strict=True):
        used = of_group[kept[of_group]]
        if not len(used):
            continue
        if label not in S:
            raise InputError(
                f"S has no block for {rows.word} {label!r}, which has rows to fit." + _hint(rows)
            )
        block = _fitted(_read(S[label], label, of_group, chosen), kept)
        if len(block.rows) < len(used):
            bare = row_label(groups.index, int(np.setdiff1d(used, block.rows)[0]))
            raise InputError(
                f"The block of S for {rows.word} {label!r} does not cover row {bare!r}: its index "
                "must hold the label of every row of the group."
            )
        blocks.append((position[block.rows], block.matrix))
    return tuple(blocks)


def _hint(rows: Rows) -> str:
    """What is missing where blocks that span rows are given without a grouping."""
    if rows.level is not None:
        return ""
    return " Say with random='~ 1 | group' which rows a block spans, for fixed effects too."


def _read(given: Any, label: Label, members: np.ndarray, rows: _Chosen) -> _Block:
    """The block of a group as the user gave it."""
    where = f"The block of S for {rows.level} {label!r}"
    matrix = traced_namespace(given).atleast_2d(
        gates.numbers(given, where, missing=True, infinite=True)
    )
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"{where} has shape {matrix.shape}: it must be square.")
    if isinstance(given, pd.DataFrame):
        entries = _entries(given, members, rows, where)
        return _block_of_entries(label, matrix, entries, rows.k)
    size = len(members) * rows.k
    if len(matrix) != size:
        raise InputError(
            f"{where} is {len(matrix)} x {len(matrix)}, but the group has {len(members)} row(s) of "
            f"{rows.k} outcome(s) in the data (rows that are dropped for missing values "
            f"included): it must be {size} x {size}."
        )
    return _Block(label, members, matrix)


def _entries(given: pd.DataFrame, members: np.ndarray, rows: _Chosen, where: str) -> np.ndarray:
    """What each line of a labelled block is about, as row position · k + outcome."""
    index, k = given.index, rows.k
    if not (given.columns.equals(index) or isinstance(given.columns, pd.RangeIndex)):
        raise InputError(f"{where} must have the labels of its index, in that order, as columns.")
    if index.nlevels > rows.index.nlevels:
        outcome = _outcome_numbers(index.get_level_values(-1), rows, where)
        index = index.droplevel(-1)
    else:
        outcome = np.arange(len(index)) % k
        if len(index) % k or not index[::k].repeat(k).equals(index):
            raise InputError(
                f"{where} must hold the label of each of its rows {k} times in a row, once per "
                "outcome."
            )
    own = rows.index[members]
    if not own.is_unique:
        twice = own[own.duplicated()].tolist()[0]
        raise InputError(
            f"{where} names its rows, but the row label {twice!r} occurs twice in the data: make "
            "the index of the data unique."
        )
    found = own.get_indexer(index)
    if (found < 0).any():
        unknown = row_label(index, int(np.argmax(found < 0)))
        first = ", ".join(map(repr, own[:5].tolist()))
        raise InputError(
            f"{where} covers a row {unknown!r}, which is not among the rows of that group "
            f"({first}{', ...' if len(own) > 5 else ''}); a matrix without labels is an array."
        )
    entries = members[found] * k + outcome
    if len(np.unique(entries)) < len(entries):
        raise InputError(f"{where} covers a row twice.")
    return entries


def _outcome_numbers(names: pd.Index, rows: _Chosen, where: str) -> np.ndarray:
    numbers = pd.Index(rows.outcomes).get_indexer(names)
    if (numbers < 0).any():
        raise InputError(
            f"{where} names the outcome {row_label(names, int(np.argmax(numbers < 0)))!r}, but the "
            f"outcomes are {', '.join(map(repr, rows.outcomes))}."
        )
    return numbers


def _block_of_entries(label: Label, matrix: np.ndarray, entries: np.ndarray, k: int) -> _Block:
    """A block over whole rows; outcomes that it does not name are NaN."""
    covered = pd.unique(entries // k)
    place = np.empty(int(covered.max()) + 1, int)
    place[covered] = np.arange(len(covered)) * k
    at = place[entries // k] + entries % k
    whole = np.full((len(covered) * k, len(covered) * k), np.nan)
    whole[np.ix_(at, at)] = matrix
    return _Block(label, covered, whole)


def _by_group(
    S: pd.DataFrame, codes: np.ndarray, labels: list[Label], rows: _Chosen
) -> dict[Label, pd.DataFrame]:
    """One labelled matrix over all rows, cut into the blocks of its groups."""
    entries = _entries(S, np.arange(len(codes)), rows, "The matrix S")
    of_entry = codes[entries // rows.k]
    values = gates.numbers(S, "The matrix S", missing=True, infinite=True)
    stray = (values != 0) & ~np.isnan(values) & (of_entry[:, None] != of_entry)
    if stray.any():
        i, j = np.argwhere(stray)[0]
        raise InputError(
            f"The matrix S is {values[i, j]:g} between the rows {row_label(S.index, i)!r} and "
            f"{row_label(S.index, j)!r}, which are of two groups ('{rows.level}'): rows with "
            "correlated errors must share their outer group."
        )
    lines = {code: np.flatnonzero(of_entry == code) for code in np.unique(of_entry) if code >= 0}
    return {labels[code]: S.iloc[line, line] for code, line in lines.items()}


def _fitted(block: _Block, kept: np.ndarray) -> _Block:
    """The block without the rows that are not fitted."""
    used = kept[block.rows]
    if used.all():
        return block
    lines = np.repeat(used, len(block.matrix) // len(block.rows))
    return _Block(block.label, block.rows[used], block.matrix[np.ix_(lines, lines)])
