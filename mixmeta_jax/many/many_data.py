"""What the user gives for many data sets, read: `ManyModel`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.covariance.catalogue import resolve_structures
from mixmeta_jax.covariance.held_names import held_structures
from mixmeta_jax.design.design import Design
from mixmeta_jax.table.array_frame import array_frame
from mixmeta_jax.table.frame import ModelFrame
from mixmeta_jax.table.frame_design import design_from_frame
from mixmeta_jax.table.positive_definite import MatrixStatus
from mixmeta_jax.table.rules import clean_errors, judge_errors
from mixmeta_jax.table.within_study import WithinStudy


@dataclass(frozen=True)
class ManyModel:
    """A model, many data sets, and the names.

    Attributes
    ----------
    design
        The data, with a leading axis of the data sets where they differ.
    frame
        What they were read into; or that of the fit whose model they share.
    doubtful
        The S that all data sets share, where it has a fault for some outcomes that are observed in
        one of them: each data set is to be judged by its own. None where it has none.
    """

    design: Design
    frame: ModelFrame
    doubtful: WithinStudy | None = None

    @property
    def coef_names(self) -> list[str]:
        """Names of the coefficients."""
        return self.frame.coef_names()

    @property
    def level_names(self) -> list[str]:
        """Names of the levels, outer first."""
        return [level.name for level in self.frame.levels]

    @property
    def random_names(self) -> list[list[str]]:
        """Names of the random effects of each level."""
        return [self.frame.random_names(level) for level in range(len(self.frame.levels))]


def many_model(
    y: Any,
    S: Any,
    formula: str,
    random: Any,
    data: Any,
    bscov: Any,
    Psi_fix: Any,
    rho: Any,
    offset: Any,
    hold: Any = None,
) -> ManyModel:
    """Read the arguments of `fit_many`."""
    frame = array_frame(y, S, formula, random, data, rho, offset, many=True)
    names = [level.name for level in frame.levels]
    dims = [frame.k * level.Z.shape[1] for level in frame.levels]
    structures = resolve_structures(bscov, Psi_fix, names, dims)
    effects = [frame.random_names(level) for level in range(len(names))]
    structures = held_structures(structures, hold, names, effects)
    values = frame.y if offset is None else frame.y - frame.offset
    seen = ~np.isnan(values)
    own, doubtful = frame.within.unit, None
    if not frame.within.per_data_set:
        own, ever = None, seen.any(0)
        errors = judge_errors(frame.within, ever[None])
        if errors.any(MatrixStatus.SINGULAR)[0]:
            doubtful = frame.within
        frame = replace(frame, within=clean_errors(frame.within, errors))
    shared = design_from_frame(frame, structures)
    same = bool((seen == seen[:1]).all())
    design = replace(
        shared,
        y=values,
        S=shared.S if own is None else own,
        mask=shared.mask if same else seen,
    )
    return ManyModel(design, frame, doubtful)
