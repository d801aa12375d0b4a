"""Predictors that the observed outcomes cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg

from mixmeta_jax.data.cells import Cells
from mixmeta_jax.errors import InputError, shown

DEPENDENT = 1e-9
"""Part of a predictor, relative to its size, that the others must leave over for it to count."""


def refuse_collinear(
    X: np.ndarray,
    names: Sequence[str],
    seen: np.ndarray,
    outcomes: Sequence[str],
    cells: Sequence[Cells] = (),
) -> None:
    """Raise where an outcome has fewer rows than predictors, or predictors that are collinear.

    Parameters
    ----------
    X, names
        Predictors, shape (n, p), and their names.
    seen, outcomes
        Which outcomes are observed, shape (n, k), and their names.
    cells
        Those of interactions among the predictors: an empty one is the cause to name.
    """
    parts = [X] if seen.all() else [X[rows] for rows in seen.T]
    for outcome, part, rows in zip(outcomes, parts, seen.T, strict=False):
        n, p = part.shape
        if n < p:
            raise InputError(
                f"The outcome '{outcome}' is observed in {n} row(s), fewer than its {p} "
                f"coefficients ({', '.join(names)})."
            )
        if p == 0:
            continue
        largest = np.abs(part).max(0)
        # By its largest value first: the square of a small one would vanish.
        scaled = part / np.where(largest > 0, largest, 1)
        size = largest * np.sqrt((scaled * scaled).sum(0))
        if not size.all():
            _refuse_empty_cell(cells, rows, outcome)
            raise InputError(
                f"The predictor '{names[int(np.argmin(size))]}' is zero in every row where the "
                f"outcome '{outcome}' is observed."
            )
        diagonal, order = _pivots(part / size)
        dependent = np.flatnonzero(diagonal <= DEPENDENT)
        if len(dependent):
            _refuse_empty_cell(cells, rows, outcome)
            column = order[dependent[0]]
            others = order[: dependent[0]]
            weights = np.linalg.lstsq(
                part[:, others] / size[others], part[:, column] / size[column]
            )[0]
            among = [names[i] for i, w in zip(others, weights, strict=True) if abs(w) > 1e-6]
            raise InputError(
                f"The predictor '{names[column]}' is collinear with {', '.join(map(repr, among))} "
                f"in the rows where the outcome '{outcome}' is observed: leave one of them out."
            )


def _refuse_empty_cell(cells: Sequence[Cells], rows: np.ndarray, outcome: str) -> None:
    """Raise where predictors are collinear since no row falls into a cell of an interaction."""
    for interaction in cells:
        empty = interaction.empty(rows)
        if empty is not None:
            raise InputError(
                f"The interaction '{shown(interaction.term)}' has an empty cell: no row where the "
                f"outcome '{shown(outcome, 40)}' is observed has {empty}, so its predictors are "
                "collinear; leave the interaction out, or join categories."
            )


def _pivots(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|diagonal| of R and the order of a QR factorisation with column pivoting."""
    if X.shape[1] == 1:
        return np.abs(X[:1, 0]) * 0 + 1, np.zeros(1, int)
    # LAPACK itself: the checks of `linalg.qr` take longer than the factorisation of few rows. Its
    # work space holds blocks of 32 columns.
    p = X.shape[1]
    factors, order, *_ = linalg.lapack.dgeqp3(X, lwork=2 * p + 32 * (p + 1))
    return np.abs(factors.diagonal()), order - 1
