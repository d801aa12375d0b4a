"""Arguments of fits: their types, and the checks of the method and of labelled matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import (
    BlupKind,
    DegreesOfT,
    ErrorMethod,
    InformationKind,
    LikelihoodMethod,
    Method,
    MissingAction,
    ReferenceName,
    RowKind,
    Transform,
    UnivariateMethod,
    words,
)
from mixmeta_jax.control import Control
from mixmeta_jax.covariance.catalogue import Structures
from mixmeta_jax.errors import InputError
from mixmeta_jax.table.frame import ModelFrame

LIKELIHOOD_METHODS = words(LikelihoodMethod)
UNIVARIATE_METHODS = words(UnivariateMethod)


class ModelOptions(TypedDict, total=False):
    """Arguments of `mixmeta` after ``method``."""

    bscov: Structures
    Psi_fix: Any
    rho: Any
    offset: Any
    subset: Any
    na_action: MissingAction
    control: Control | Mapping[str, Any] | None
    hold: Mapping[str, Mapping[str, float]] | None


class PredictOptions(TypedDict, total=False):
    """Arguments of `PredictionMethods.predict` beside ``newdata`` and ``vcov``."""

    se: bool
    ci: bool
    pi: bool
    conf_level: float
    level: int | str | None
    reference: Any
    test: ReferenceName
    df: DegreesOfT | float | None
    adhoc: bool
    information: InformationKind
    prob: float | None
    transform: Transform


class BlupOptions(TypedDict, total=False):
    """Arguments of `PredictionMethods.blup` beside ``level`` and ``vcov``."""

    type: BlupKind
    se: bool
    pi: bool
    conf_level: float
    se_method: ErrorMethod
    newdata: Any
    S: Any
    by: RowKind
    transform: Transform


def method_of(given: str, k: int) -> str:
    """The method in small letters.

    Raises
    ------
    InputError
        For an unknown method, or one that does not exist for k outcomes.
    """
    several = [name for name in words(Method) if name not in UNIVARIATE_METHODS]
    listed = ", ".join(f"'{name}'" for name in several)
    extra = ", ".join(f"'{name}'" for name in UNIVARIATE_METHODS)
    method = gates.text(given, "method", "the name of a method").lower()
    if method in UNIVARIATE_METHODS and k > 1:
        raise InputError(
            f"method='{method}' is for one outcome, but the model has {k}: choose one of {listed}."
        )
    if method not in words(Method):
        raise InputError(
            f"method={gates.described(given)} is not known: choose one of {listed}, or for one "
            f"outcome {extra}."
        )
    return method


def check_hold(hold: Any, method: str) -> None:
    """Raise `InputError` where parameters are held that the method does not climb in."""
    if hold is not None and method not in ("ml", "reml"):
        raise InputError(
            f"hold is for the likelihoods: method='{method}' has no parameter to hold; use 'ml' or "
            "'reml'."
        )


def by_position(matrices: Any, frame: ModelFrame, what: str) -> Any:
    """A matrix, or {level: matrix}, whose labels (if any) are brought into the order of the model.

    Parameters
    ----------
    matrices
        ``Psi_fix`` or ``control.start``: labelled frames, or anything else, which is returned.
    frame
        The model frame, for the names of the random effects.
    what
        Name of the argument, for the sentence.

    Raises
    ------
    InputError
        If a frame has labels, and they are not the names of the random effects of its level.
    """
    names = {level.name: frame.random_names(i) for i, level in enumerate(frame.levels)}
    if isinstance(matrices, Mapping):
        return {
            level: _in_order(matrix, names.get(level, []), f"{what} of level '{level}'")
            for level, matrix in matrices.items()
        }
    if not isinstance(matrices, pd.DataFrame):
        return matrices
    # One matrix without a level is that of the level with as many random effects.
    fitting = [effects for effects in names.values() if len(effects) == len(matrices)]
    return _in_order(matrices, (fitting or list(names.values()))[0], what)


def _in_order(matrix: Any, names: Sequence[str], what: str) -> Any:
    if not isinstance(matrix, pd.DataFrame) or isinstance(matrix.index, pd.RangeIndex):
        return matrix
    if sorted(matrix.index) != sorted(names) or sorted(matrix.columns) != sorted(names):
        raise InputError(
            f"{what} has the labels {', '.join(map(repr, matrix.index))}, but the random effects "
            f"are {', '.join(map(repr, names))}: name its rows and columns so, or give an array."
        )
    return matrix.loc[list(names), list(names)].to_numpy()
