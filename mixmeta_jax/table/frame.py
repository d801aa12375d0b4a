"""The model frame: the rows that are fitted, as arrays, with all the names that they had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import MissingAction
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.errors import InputError
from mixmeta_jax.formulas.formula import columns_of, evaluate_outcome, split_formula
from mixmeta_jax.formulas.model_matrix import ModelMatrix, build_matrix
from mixmeta_jax.table.blocks import Rows
from mixmeta_jax.table.columns import (
    existing_columns,
    missing_rows,
    numeric,
    refuse_infinite,
    refuse_reordered,
    row_label,
)
from mixmeta_jax.table.grouping import groups_of, parse_random
from mixmeta_jax.table.levels import Level, levels_of, unit_level
from mixmeta_jax.table.names import Names, crossed
from mixmeta_jax.table.rows import (
    as_pandas,
    chosen_rows,
    drop_reasons,
    given_outcomes,
    kept_rows,
    offset_values,
    refuse_infinite_offset,
    refuse_outcomes_in,
)
from mixmeta_jax.table.rules import (
    Model,
    clean_errors,
    error_faults,
    judge_errors,
    outcome_faults,
    predictor_faults,
    raise_first,
)
from mixmeta_jax.table.within_study import WithinStudy, read_errors


@dataclass(frozen=True)
class ModelFrame:
    """n units with k outcomes, complete in everything but the outcomes.

    Attributes
    ----------
    y
        Outcomes, shape (n, k), NaN where missing, the offset not yet subtracted.
    outcome_names
        Their k names.
    X, x_names
        Fixed-effects predictors, shape (n, p), and their names.
    levels
        Grouping levels, outer first.
    within
        Known error covariances.
    offset
        Shape (n, k).
    index
        Labels of the units, in the order of the data.
    kept, full_index
        Which rows after ``subset`` are units, and the labels of all of them.
    formula, random
        As the user gave them; None where outcomes came as an array, or without random effects.
    fixed
        What rebuilds X on new data.
    reasons
        Why each row after ``subset`` that is no unit was left out, in the order of the data.
    """

    y: np.ndarray
    outcome_names: list[str]
    X: np.ndarray
    x_names: list[str]
    levels: tuple[Level, ...]
    within: WithinStudy
    offset: np.ndarray
    index: pd.Index
    kept: np.ndarray
    full_index: pd.Index
    formula: str | None
    random: Any
    fixed: ModelMatrix
    reasons: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of units."""
        return self.y.shape[-2]

    @property
    def k(self) -> int:
        """Number of outcomes."""
        return self.y.shape[-1]

    @property
    def p(self) -> int:
        """Number of predictors."""
        return self.X.shape[1]

    @property
    def names(self) -> Names:
        """What sentences call the parts of the model."""
        outer = self.levels[0]
        return Names(
            self.outcome_names,
            self.x_names,
            [level.name for level in self.levels],
            [level.z_names for level in self.levels],
            self.index,
            None if self.random is None else (outer.name, outer.codes, outer.labels),
            self.fixed.cells if isinstance(self.fixed, ModelMatrix) else (),
        )

    def model(self, structures: Sequence[Structure]) -> Model:
        """What the rules judge beside the outcomes and S."""
        Z = [level.Z for level in self.levels[: len(structures)]]
        codes = [level.codes for level in self.levels]
        return Model(self.X, Z, np.stack(codes, axis=1), structures, self.names)

    def new_X(self, newdata: pd.DataFrame) -> tuple[np.ndarray, pd.Index]:
        """X of new data, NaN rows where a predictor is missing, and the rows' labels."""
        newdata = as_pandas(newdata, "newdata")
        return self.fixed.rebuild(newdata, "the formula"), newdata.index

    def new_levels(self, newdata: pd.DataFrame) -> tuple[Level, ...]:
        """The levels of new groups: every group of the new data is new.

        Raises
        ------
        InputError
            If a grouping column or a random predictor is missing, or as `table.grouping.groups_of`.
        """
        newdata = as_pandas(newdata, "newdata")
        if self.random is None:
            return (unit_level(newdata.index, self.levels[0].matrix),)
        names = [level.name for level in self.levels]
        existing_columns(names, newdata, "random", "the new data")
        gaps = missing_rows(newdata, names)
        if gaps.any():
            row = row_label(newdata.index, int(np.argmax(gaps)))
            raise InputError(f"newdata has no group in row {row!r}: fill in {', '.join(names)}.")
        levels = []
        groups = groups_of(newdata, self.levels)
        for level, group in zip(self.levels, groups, strict=True):
            Z = level.matrix.rebuild(newdata, f"the random part of level '{level.name}'")
            levels.append(replace(level, codes=group.codes, labels=group.labels, Z=Z))
        return tuple(levels)

    def coef_names(self) -> list[str]:
        """Names of the p·k coefficients, predictor-major."""
        return crossed(self.outcome_names, self.x_names)

    def random_names(self, level: int) -> list[str]:
        """Names of the random effects of a level (0 the outermost), outcome fastest."""
        return crossed(self.outcome_names, self.levels[level].z_names)


def build_frame(
    formula: Any,
    S: Any,
    data: Any = None,
    random: Any = None,
    rho: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
) -> ModelFrame:
    """Check what the user gave and turn it into arrays.

    Parameters
    ----------
    formula
        A formula, or the outcomes as an array, Series or frame (then X is an intercept).
    S, rho
        Error covariances, and correlations to fill in where S holds variances; see
        `table.within_study`.
    data
        The data frame.
    random
        Grouping and random predictors; see `table.grouping.parse_random`.
    offset
        A column name, or values by position, shape (n,) or (n, k).
    subset
        Rows to use: a boolean mask over the data, a query string, or a function of the frame.
    na_action
        What happens to rows that cannot be fitted: "omit", "exclude" or "raise".

    Raises
    ------
    InputError
        For anything that cannot be fitted, in one sentence that names it.
    """
    gates.choice(na_action, "na_action", MissingAction)
    if S is None:
        raise InputError(
            "S, the error variances of the outcomes, is missing: give a column name, an array or "
            "a mapping of blocks."
        )
    table, outcomes, predictors = _read(formula, data)
    names = list(outcomes)
    chosen = chosen_rows(subset, table)
    everything = bool(chosen.all())
    rows = table if everything else table[chosen]
    y = np.column_stack(
        [
            evaluate_outcome(outcome, rows)
            if isinstance(outcome, str)
            else numeric(outcome if everything else outcome[chosen], f"outcome '{name}'")
            for name, outcome in outcomes.items()
        ]
    )
    columns = columns_of(predictors, table, "the formula")
    terms = parse_random(random, table)
    grouping = [c for t in terms for c in (t.name, *t.columns)]
    refuse_outcomes_in(names, {"S": S, "offset": offset, "random": grouping})
    shift = offset_values(offset, table, len(names))
    if offset is not None:
        shift = shift[chosen]
        refuse_infinite_offset(shift, rows.index)
    elif not everything:
        shift = shift[: len(rows)]
    needed = list(dict.fromkeys([*columns, *grouping]))
    refuse_infinite(rows, needed)
    kept = kept_rows(rows, needed, shift, y, na_action)
    seen = ~np.isnan(y)
    fitted, observed, whole = rows, seen, bool(kept.all())
    reasons: tuple[str, ...] = ()
    if not whole:
        reasons = drop_reasons(rows[~kept], needed, shift[~kept], y[~kept])
        fitted, observed, y, shift = rows[kept], seen[kept], y[kept], shift[kept]
    fixed = build_matrix(predictors, fitted, columns)
    level = terms[0].name if terms else None
    frame = ModelFrame(
        y=y,
        outcome_names=names,
        X=fixed.values,
        x_names=fixed.names,
        levels=levels_of(terms, fitted),
        within=read_errors(
            S,
            rho,
            Rows(table, names, level, None if everything else chosen, None if whole else kept),
        ),
        offset=shift,
        index=fitted.index,
        kept=kept,
        full_index=rows.index,
        formula=formula if isinstance(formula, str) else None,
        random=random,
        fixed=fixed,
        reasons=reasons,
    )
    return judged_frame(frame, observed)


def judged_frame(frame: ModelFrame, seen: np.ndarray) -> ModelFrame:
    """The frame with S as the rules leave it, where outcomes (n, k) are observed.

    Raises
    ------
    InputError
        For outcomes, predictors or an S that no model can use.
    """
    names = frame.names
    raise_first(outcome_faults(frame.y[None], seen[None], names))
    raise_first(predictor_faults(frame.X, seen[None], names))
    errors = judge_errors(frame.within, seen[None])
    if not errors.sound:
        raise_first(error_faults(errors, names))
    return replace(frame, within=clean_errors(frame.within, errors))


def _read(formula: Any, data: Any) -> tuple[pd.DataFrame, dict[str, Any], str]:
    """The data, the outcomes by name (an expression, or the values themselves), the predictors."""
    table = None if data is None else as_pandas(data)
    if isinstance(formula, str):
        if table is None:
            raise InputError("The formula names columns, but there is no data: give data=.")
        sides = split_formula(formula)
        return table, dict(zip(sides.names, sides.outcomes, strict=True)), sides.predictors
    given = given_outcomes(formula)
    if table is None:
        table = pd.DataFrame(index=given.index)
    if len(table) != len(given):
        raise InputError(f"formula gives {len(given)} rows of outcomes, but data has {len(table)}.")
    if isinstance(formula, (pd.Series, pd.DataFrame)):
        refuse_reordered(given, table.index, "the outcomes")
    given = given.set_axis(table.index)
    return table, {name: given[name] for name in given.columns}, "1"
