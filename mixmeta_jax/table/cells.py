"""Cells of interactions between categories: those that no row falls into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.errors import shown


@dataclass(frozen=True)
class Cells:
    """The cells of one interaction.

    Attributes
    ----------
    term
        The interaction as the formula has it.
    columns
        Its f columns of categories.
    codes
        The category of each row, shape (n, f).
    categories
        The categories of each column.
    """

    term: str
    columns: tuple[str, ...]
    codes: np.ndarray
    categories: tuple[list[Any], ...]

    def empty(self, rows: np.ndarray) -> str | None:
        """The first cell without a row among those chosen, in words; None where there is none."""
        shape = tuple(len(values) for values in self.categories)
        filled = np.zeros(shape, bool)
        filled[tuple(self.codes[rows].T)] = True
        # What occurs nowhere alone makes no cell either.
        occurring = [
            filled.any(axis=tuple(set(range(len(shape))) - {axis})) for axis in range(len(shape))
        ]
        gaps = ~filled & reduce(np.logical_and.outer, occurring)
        if not gaps.any():
            return None
        cell = np.unravel_index(int(np.argmax(gaps)), shape)
        return " and ".join(
            f"{shown(column, 40)} = {shown(repr(values[code]), 40)}"
            for column, values, code in zip(self.columns, self.categories, cell, strict=True)
        )


def crossed_categories(
    terms: Iterable[tuple[str, Sequence[str]]], data: pd.DataFrame
) -> tuple[Cells, ...]:
    """The cells of every interaction of two or more categories.

    Parameters
    ----------
    terms
        Interactions, and the columns whose values are their categories.
    data
        The rows that are fitted.
    """
    coded: dict[str, tuple[np.ndarray, list]] = {}
    found = []
    for term, columns in terms:
        for column in columns:
            if column not in coded:
                codes, values = pd.factorize(data[column])
                coded[column] = (codes, pd.Index(values).tolist())
        codes = np.column_stack([coded[column][0] for column in columns])
        found.append(
            Cells(term, tuple(columns), codes, tuple(coded[column][1] for column in columns))
        )
    return tuple(found)


def column_count(terms: Iterable[Sequence[str]], widths: Mapping[str, int]) -> int:
    """Columns that terms give, about: a category has one less than its values.

    Parameters
    ----------
    terms
        The factors of each term.
    widths
        Categories of a factor; one that is absent gives one column.
    """
    return sum(
        int(np.prod([max(widths.get(name, 2) - 1, 1) for name in factors], dtype=object))
        for factors in terms
    )
