"""What a model calls its outcomes, predictors, levels and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.errors import shown
from mixmeta_jax.table.cells import Cells
from mixmeta_jax.table.columns import row_label

INTERCEPT = "(Intercept)"


def crossed(outcomes: Sequence[str], predictors: Sequence[str]) -> list[str]:
    """Names for every predictor and outcome, outcome fastest, the shortest that tell apart."""
    if len(outcomes) == 1:
        return list(predictors)
    if list(predictors) == [INTERCEPT]:
        return list(outcomes)
    return [f"{outcome}.{predictor}" for predictor in predictors for outcome in outcomes]


@dataclass(frozen=True)
class Names:
    """What sentences call the parts of a model.

    Attributes
    ----------
    outcomes, predictors
        The k outcomes and p predictors.
    levels, effects
        The levels, outer first, and the random predictors of each.
    index
        Labels of the units; None where they have none, as those of a bootstrap.
    groups
        Name, codes and labels of the outer groups; None where every row is a group of its own.
    cells
        Those of interactions among the predictors.
    """

    outcomes: Sequence[str]
    predictors: Sequence[str]
    levels: Sequence[str]
    effects: Sequence[Sequence[str]]
    index: pd.Index | None = None
    groups: tuple[str, np.ndarray, Sequence[Any]] | None = None
    cells: Sequence[Cells] = ()

    def empty_cell(self, rows: np.ndarray, outcome: int) -> str | None:
        """Why predictors are collinear where no row falls into a cell of an interaction."""
        for interaction in self.cells:
            empty = interaction.empty(rows)
            if empty is not None:
                return (
                    f"The interaction '{shown(interaction.term)}' has an empty cell: no row where "
                    f"the outcome '{shown(self.outcomes[outcome], 40)}' is observed has {empty}, "
                    "so its predictors are collinear; leave the interaction out, or join "
                    "categories."
                )
        return None

    def row(self, unit: int) -> str:
        """A unit, as a sentence calls it."""
        label = unit if self.index is None else row_label(self.index, int(unit))
        return f"row {label!r}"

    def block(self, units: np.ndarray) -> str:
        """A block of S over some units."""
        if self.groups is None:
            return f"the block for {self.row(units[0])}"
        name, codes, labels = self.groups
        return f"the block for {name} {labels[codes[units[0]]]!r}"

    def entry(self, units: np.ndarray, line: int) -> str:
        """A line of a block of S over some units, outcome fastest."""
        k = len(self.outcomes)
        outcome = f"outcome {line % k + 1} of " if k > 1 else ""
        return f"{outcome}{self.row(int(units[line // k]))}"
