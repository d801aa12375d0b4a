"""Which of many data sets can be fitted, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.drawn import DrawnOutcomes
from mixmeta_jax.fits.arguments import LIKELIHOOD_METHODS, check_hold, method_of
from mixmeta_jax.fits.moment_fit import VARIANCE_ONLY
from mixmeta_jax.many.many_data import ManyModel
from mixmeta_jax.table.names import Names
from mixmeta_jax.table.rules import (
    Fault,
    Model,
    count_faults,
    error_faults,
    identification_faults,
    judge_errors,
    outcome_faults,
    predictor_faults,
    raise_first,
    singular_faults,
)
from mixmeta_jax.table.within_study import WithinStudy

CHECKED_NUMBERS = 2**22
"""Numbers that are looked at at once."""


def check_single_settings(control: Control) -> None:
    """Raise `InputError` for settings that only a single fit follows."""
    if control.start is not None or control.mesh is not None or control.verbose:
        raise InputError(
            "control: start, mesh and verbose are for single fits (`mixmeta`); leave them out: "
            "many fits choose starts for each data set and use all devices by themselves."
        )


def judged_method(model: ManyModel, method: Any, hold: Any = None) -> str:
    """The name of the method, which fits the model as far as all data sets share it."""
    name = method_of(method, model.design.k)
    check_hold(hold, name)
    if name not in LIKELIHOOD_METHODS:
        check_moments(model, name)
    refuse_shared_faults(model, name)
    return name


def refuse_shared_faults(model: ManyModel, method: str) -> None:
    """Raise `InputError` where what all data sets share lets none of them be fitted."""
    if model.design.mask.ndim == 2:
        first, seen = slice(0, 1), model.design.mask[None]
        pattern = _of_pattern(model, seen, first, method)
        raise_first(_in_order(model, seen, first, method, pattern, model.doubtful))


def sound_members(model: ManyModel, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The data sets to fit; the status of the others, −1 for those; and the reasons in words."""
    design = model.design
    if isinstance(design.y, DrawnOutcomes):
        return _sound_as_one(model, design.y, method)
    B, varies = design.n_sets, design.mask.ndim == 3
    own_S = not isinstance(design.S, tuple) and design.S.ndim == 4
    own_X = design.X.ndim == 3
    status = np.full(B, -1)
    reason = np.full(B, "", dtype=object)
    width = max(1, design.n * design.k * (design.k if own_S else 1))
    width += design.n * design.p**2 if own_X else 0
    step = max(1, CHECKED_NUMBERS // width)
    shared = None
    if not varies and not own_X and all(Z.ndim == 2 for Z in design.Z):
        shared = _of_pattern(model, design.mask[None], slice(0, 1), method)
    for first in range(0, B, step):
        part = slice(first, min(first + step, B))
        seen = np.isfinite(design.y[part])
        pattern = shared or _of_pattern(model, seen, part, method)
        within = WithinStudy(design.S[part], None) if own_S else model.doubtful
        faults = _in_order(model, seen, part, method, pattern, within)
        for fault in (*outcome_faults(design.y[part], seen, _names(model)), *faults):
            index = np.flatnonzero(fault.which & (status[part] < 0))
            status[first + index] = fault.status
            one = len(fault.which) == 1
            words = [fault.sentence(0 if one else b) for b in index.tolist()]
            # As a single fit would say it.
            reason[first + index] = [str(InputError(text)) for text in words]
    return np.flatnonzero(status < 0), status, reason


def _sound_as_one(
    model: ManyModel, outcomes: DrawnOutcomes, method: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of data sets that are drawn around one mean: all that is judged is in that."""
    one = replace(model, design=replace(model.design, y=outcomes.mean[None]))
    members, status, reason = sound_members(one, method)
    B = len(outcomes)
    return np.arange(B * len(members)), np.repeat(status, B), np.repeat(reason, B)


Pattern = tuple[list[Fault], list[Fault]]
"""Faults that follow from which outcomes are observed: of the predictors, and of the rest."""


def _of_pattern(model: ManyModel, seen: np.ndarray, part: slice, method: str) -> Pattern:
    shown = _model(model, part)
    rest = list(count_faults(method, seen, model.design.p))
    if method != "fixed":
        rest += identification_faults(shown, seen)
    return list(predictor_faults(shown.X, seen, shown.names)), rest


def _in_order(
    model: ManyModel,
    seen: np.ndarray,
    part: slice,
    method: str,
    pattern: Pattern,
    within: WithinStudy | None,
) -> Iterator[Fault]:
    """All faults but those of the outcomes, in the order in which a single fit finds them."""
    errors = None if within is None else judge_errors(within, seen)
    yield from pattern[0]
    if errors is not None:
        yield from error_faults(errors, _names(model))
    yield from pattern[1]
    if errors is not None:
        yield from singular_faults(method, _model(model, part), errors)


def _model(model: ManyModel, part: slice) -> Model:
    design = model.design
    X = design.X[part] if design.X.ndim == 3 else design.X
    Z = [z[part] if z.ndim == 3 else z for z in design.Z]
    return Model(X, Z, design.groups, design.structures, _names(model))


def _names(model: ManyModel) -> Names:
    """Those of the frame; without labels where the rows are drawn from its rows."""
    names = model.frame.names
    drawn = model.design.n != model.frame.n or model.design.X.ndim == 3
    return replace(names, index=None, groups=None) if drawn else names


def check_moments(model: ManyModel, method: str) -> None:
    """Raise `InputError` where a moment estimator does not take the data sets side by side."""
    design = model.design
    alone = model.frame.random is None and not isinstance(design.S, tuple)
    one_variance = design.k == 1 and design.structures[0].name in VARIANCE_ONLY
    if not alone or not (one_variance or design.structures[0].name == "unstr"):
        raise InputError(
            f"method='{method}' is for one vector of random effects per unit with an unstructured "
            "covariance and S by unit: leave `random` and `bscov` out, or use 'ml' or 'reml'."
        )
