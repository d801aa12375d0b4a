"""Estimates of a first stage in the forms that programs give them: arrays with labels and names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.status import Status
from mixmeta_jax.table.columns import is_label
from mixmeta_jax.table.matrices import expanded, triangle_size
from mixmeta_jax.tolerances import ASYMMETRY
from mixmeta_jax.two_stage.first_stage_result import FirstStage
from mixmeta_jax.two_stage.locations import named

COEFFICIENTS = ("coef", "coefficients", "coef_", "params")
"""What programs call the coefficients of a location, as a key or an attribute."""

COVARIANCES = ("vcov", "cov", "covariance", "cov_params")
"""What they call their covariance; statsmodels has a method for it."""


@dataclass(frozen=True)
class FirstEstimates:
    """Coefficients of n locations.

    Attributes
    ----------
    b, V
        Coefficients, shape (n, k), and covariances, shape (n, k, k).
    index
        Labels of the locations.
    names
        Names of the coefficients, where all of them had some.
    left_out
        Locations without estimates, each with the reason.
    """

    b: np.ndarray
    V: np.ndarray
    index: pd.Index
    names: list[str] | None
    left_out: dict[Any, str]


def read_estimates(estimates: Any, labels: Iterable[Any] | None) -> FirstEstimates:
    """The estimates of all locations; see `pool` for their forms.

    Raises
    ------
    InputError
        For what has none of the forms, shapes or names that differ between locations, and
        covariances that are none.
    """
    left_out = {}
    if isinstance(estimates, FirstStage):
        reasons = estimates.messages[estimates.status != Status.CONVERGED]
        left_out = dict(zip(reasons.index.tolist(), reasons.tolist(), strict=True))
    pairs, index = _labelled(estimates, labels)
    b, V, names = _stacked(pairs, index)
    return FirstEstimates(b, V, index, names, left_out)


def where(index: pd.Index, i: int) -> str:
    """A location, for a sentence."""
    return named(index.tolist()[i])


def _labelled(estimates: Any, labels: Iterable[Any] | None) -> tuple[list, pd.Index]:
    estimates = _pair(estimates, whole=True)
    if isinstance(estimates, Mapping):
        if labels is not None:
            raise InputError("labels are given, but the estimates have labels already.")
        pairs, given, what = list(estimates.values()), list(estimates), "A label of estimates"
    else:
        what, own = "An entry of labels", None
        if isinstance(estimates, tuple) and len(estimates) == 2 and _are_arrays(*estimates):
            own = _own_labels(estimates[0])
            estimates = _rows(*estimates)
        pairs = gates.listed(estimates, "estimates", "a mapping, list or pair of estimates")
        if labels is None:
            given = list(range(len(pairs))) if own is None else own
        else:
            given = gates.listed(labels, "labels")
        if len(given) != len(pairs):
            raise InputError(f"labels has {len(given)} entries for {len(pairs)} estimates.")
    index = _label_index(given, what)
    if not pairs:
        raise InputError("estimates is empty: there is nothing to pool.")
    if index.has_duplicates:
        repeated = index[index.duplicated()].tolist()
        raise InputError(f"The label {repeated[0]!r} stands for two locations.")
    return pairs, index


def _label_index(given: list, what: str) -> pd.Index:
    """The labels, each one thing that can be told from the others."""
    for label in given:
        unlike = isinstance(label, (list, dict, set, np.ndarray, pd.Series, pd.DataFrame, pd.Index))
        missing = not unlike and not isinstance(label, tuple) and pd.isna(label)
        if missing or not is_label(label):
            raise gates.refused(what, "text, a number or a tuple", label)
    # A tuple is one label.
    return pd.Index(given, name="location", tupleize_cols=False)


def _own_labels(coefficients: Any) -> list | None:
    """The labels of a frame of coefficients with a row per location."""
    return coefficients.index.tolist() if isinstance(coefficients, pd.DataFrame) else None


def _are_arrays(b: Any, V: Any) -> bool:
    """Whether a pair is of coefficients (n, k) and covariances (n, k, k) or (n, k(k+1)/2)."""
    if _axes(V) == 3 and not isinstance(b, Mapping):
        return True
    flat = (isinstance(part, (np.ndarray, pd.DataFrame)) and part.ndim == 2 for part in (b, V))
    return all(flat) and len(b) == len(V) and triangle_size(V.shape[1]) == b.shape[1]


def _axes(values: Any) -> int:
    try:
        return np.ndim(values)
    except ValueError:  # ragged
        return 0


def _rows(b: Any, V: Any) -> list:
    """One pair per location; the coefficients keep the names of their columns."""
    covariances = gates.numbers(V, "estimates", missing=True, infinite=True)
    coefficients = gates.numbers(b, "estimates", missing=True, infinite=True)
    if coefficients.ndim == 0 or len(coefficients) != len(covariances):
        raise InputError(
            f"estimates has coefficients of shape {coefficients.shape}, but {len(covariances)} "
            "covariances."
        )
    rows: list = list(coefficients)
    if isinstance(b, pd.DataFrame):
        rows = [pd.Series(own, index=b.columns) for own in rows]
    return list(zip(rows, covariances, strict=True))


def _pair(value: Any, whole: bool = False) -> Any:
    """(coefficients, covariance) of what holds them by name; anything else as it is.

    Parameters
    ----------
    value
        A mapping with the two keys and no other, or an object with the two attributes.
    whole
        Whether it stands for all locations: then an object is left alone.
    """
    if isinstance(value, (tuple, list, np.ndarray, pd.Series, pd.DataFrame)):
        return value
    if isinstance(value, Mapping):
        if isinstance(value, FirstStage) or (whole and len(value) != 2):
            return value
        first = [value[name] for name in COEFFICIENTS if name in value]
        second = [value[name] for name in COVARIANCES if name in value]
    elif whole or isinstance(value, type):
        return value
    else:
        first, second = (
            [own for own in (_attribute(value, name) for name in names) if own is not None]
            for names in (COEFFICIENTS, COVARIANCES)
        )
    return (first[0], second[0]) if first and second else value


def _attribute(value: Any, name: str) -> Any:
    """An attribute of an object of the user's, called where it is a method; None without it."""
    try:
        found = getattr(value, name, None)
        return found() if callable(found) else found
    except Exception:  # what an object of the user's own raises
        return None


def _stacked(pairs: list, index: pd.Index) -> tuple[np.ndarray, np.ndarray, list[str] | None]:
    """Coefficients, shape (n, k), covariances, shape (n, k, k), and the coefficients' names."""
    vectors: list[np.ndarray] = []
    matrices: list[np.ndarray] = []
    names: list[str] | None = None
    for i, value in enumerate(pairs):
        pair = _pair(value)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InputError(
                f"estimates: give a pair (coefficients, covariance) for {where(index, i)}."
            )
        of = f"of {where(index, i)} in estimates"
        b = np.ravel(gates.numbers(pair[0], f"The coefficient {of}", missing=True, infinite=True))
        V = gates.numbers(pair[1], f"The covariance {of}", missing=True, infinite=True)
        k = len(vectors[0]) if vectors else len(b)
        if V.ndim == 1 and k > 1 and triangle_size(len(V)) == k:
            V = expanded(V)
        V = np.atleast_2d(V)
        if len(b) != k or V.shape != (k, k):
            raise InputError(
                f"{where(index, i)} has {len(b)} coefficients and a covariance of shape "
                f"{V.shape}: it must have {k}, and {(k, k)}, as the first location does."
            )
        own = _names(pair, where(index, i))
        if i and own != names:
            raise InputError(
                f"{where(index, i)} has the coefficients {shown(own)}, and the first location "
                f"{shown(names)}: give all of them the same, in one order."
            )
        names = own
        vectors.append(b)
        matrices.append(V)
    b, V = np.stack(vectors), np.stack(matrices)
    bad = ~(np.isfinite(b).all(1) & np.isfinite(V).all((1, 2)))
    if bad.any():
        raise InputError(
            f"{where(index, int(np.argmax(bad)))} has values that are not finite: leave it out."
        )
    skew = np.abs(V - V.transpose(0, 2, 1)).max((1, 2)) > ASYMMETRY * np.abs(V).max((1, 2))
    if skew.any():
        raise InputError(
            f"The covariance of {where(index, int(np.argmax(skew)))} is not symmetric."
        )
    return b, 0.5 * (V + V.transpose(0, 2, 1)), names


def _names(pair: Any, of: str) -> list[str] | None:
    """Names of the coefficients, where they are a series with text for labels.

    Raises
    ------
    InputError
        Where those of the covariance are others.
    """
    b, V = pair
    names = _texts(b.index) if isinstance(b, pd.Series) else None
    if isinstance(V, pd.DataFrame) and names is not None:
        for labels in (_texts(V.index), _texts(V.columns)):
            if labels is not None and labels != names:
                raise InputError(
                    f"The covariance of {of} has the names {shown(labels)}, and its coefficients "
                    f"{shown(names)}: bring them into one order."
                )
    return names


def _texts(labels: pd.Index) -> list[str] | None:
    found = labels.tolist()
    return found if all(isinstance(label, str) for label in found) else None
