"""Whether the data can carry the model, judged before anything is estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.data.frame import ModelFrame
from mixmeta_jax.errors import InputError

LIKELIHOOD_METHODS = ("fixed", "ml", "reml")
METHODS = (*LIKELIHOOD_METHODS, "mm", "vc")
UNIVARIATE_METHODS = ("dl", "he", "hs", "sj", "pm", "eb")


def check_method(method: str, k: int) -> None:
    """Raise `InputError` for an unknown method, or one that does not exist for k outcomes."""
    listed = ", ".join(f"'{name}'" for name in METHODS)
    extra = ", ".join(f"'{name}'" for name in UNIVARIATE_METHODS)
    if method in UNIVARIATE_METHODS and k > 1:
        raise InputError(
            f"method='{method}' is for one outcome, but the model has {k}: choose one of {listed}."
        )
    if method not in METHODS + UNIVARIATE_METHODS:
        raise InputError(
            f"method={method!r} is not known: choose one of {listed}, or for one outcome {extra}."
        )


def check_sizes(frame: ModelFrame, method: str) -> None:
    """Raise `InputError` where the coefficients leave the restricted likelihood no outcome."""
    P, nall = frame.k * frame.p, int(np.isfinite(frame.y).sum())
    if method == "reml" and nall <= P:
        raise InputError(
            f"REML needs more observed outcomes ({nall}) than coefficients ({P}): with one study, "
            "or a coefficient for each outcome, use method='fixed'."
        )


def check_groups(
    groups: Mapping[str, int],
    P: int,
    nall: int,
    structures: Sequence[Structure],
    dims: Sequence[int],
) -> None:
    """Raise `InputError` where there are too few groups or outcomes for the random effects.

    Parameters
    ----------
    groups
        Number of groups of each level by its name, outer first.
    P, nall
        Numbers of coefficients and of observed outcomes.
    structures, dims
        Covariance structure and number of random effects of each level.
    """
    counts = [s.n_parameters(d) for s, d in zip(structures, dims, strict=True)]
    for name, structure, count, d in zip(groups, structures, counts, dims, strict=True):
        needed = structure.min_groups(d)
        if 2 <= groups[name] < needed and count > 0:
            raise InputError(
                f"Level '{name}' has {groups[name]} groups, but the structure '{structure.name}' "
                f"of its {d} random effects needs at least {needed}: use bscov='diag' or 'id'."
            )
        if count > 0 and groups[name] < 2:
            raise InputError(
                f"Level '{name}' has one group, but a variance between groups, as the "
                f"structure '{structure.name}' estimates it, needs at least 2: use "
                "method='fixed', or bscov='fixed' with a known Psi_fix."
            )
    if P + sum(counts) > nall:
        random = ", ".join(
            f"{count} of '{structure.name}' at level '{name}'"
            for name, structure, count in zip(groups, structures, counts, strict=True)
        )
        raise InputError(
            f"The model has {P + sum(counts)} parameters ({P} coefficients, {random}), more than "
            f"the {nall} observed outcomes: choose a structure with fewer parameters."
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
