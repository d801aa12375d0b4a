"""The random effects of a level in a summary: their sizes, and how they go together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixmeta_jax.fits.kept import GivesCopies
from mixmeta_jax.report.coefficient_table import decimals, text_table


@dataclass(frozen=True)
class RandomPart(GivesCopies):
    """The random effects of one level.

    Attributes
    ----------
    level
        Name of the level.
    n_groups
        Number of its groups.
    structure
        The covariance structure in words.
    table
        Standard deviations and correlations, or variances and covariances; see
        `tables.random_frame`.
    held
        What of it is held at a value, in words; empty for nothing.
    """

    level: str
    n_groups: int
    structure: str
    table: pd.DataFrame
    held: str = ""


def random_cells(
    table: pd.DataFrame, digits: int | None = None
) -> tuple[list[str], list[list[str]]]:
    """Titles of the columns of a part's table, and its cells as text."""
    size = table.columns[0]
    sd = size == "sd"
    places = decimals(list(table[size])) if digits is None else digits
    related = "Corr" if sd else "Cov"
    header = ["Std. Dev." if sd else "Variance"]
    header += [f"{related} {name.split('.', 1)[1]}" for name in table.columns[1:]]
    shown_as_null = [float(f"{value:.{places}f}") == 0 for value in table[size]]
    rows = []
    for r, values in enumerate(table.to_numpy()):
        cells = [f"{values[0]:.{places}f}"]
        for c, value in enumerate(values[1:]):
            # A null variance has no correlation with the others, nor has one that is shown as null.
            none = np.isnan(value) or (sd and (shown_as_null[r] or shown_as_null[c]))
            shown = "-" if none else f"{value:.{4 if sd and digits is None else places}f}"
            cells.append(shown if c < r else "")
        rows.append(cells)
    return header, rows


def random_lines(part: RandomPart) -> list[str]:
    """The printed table of a part."""
    header, rows = random_cells(part.table)
    title = random_title(part)
    return [f"  {title}", *text_table(header, list(part.table.index), rows, indent="    ")]


def random_title(part: RandomPart) -> str:
    """The level, its groups, and what is known of their covariance."""
    title = f"Level {part.level}, {part.n_groups} groups"
    # A single variance has no structure to speak of.
    words = [part.structure.lower()] if len(part.table) > 1 else []
    words += [part.held] if part.held else []
    return f"{title}: {', '.join(words)}" if words else title
