"""What users give per location: bases, exposures, references and ends of ranges, by label.

Each may be one value for all locations, or a mapping of locations, a series, a first stage, or a
function of the label. A mapping is looked up: it may hold more than the locations of a fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.two_stage.bases import Basis, average_of
from mixmeta_jax.two_stage.first_stage_result import FirstStage
from mixmeta_jax.two_stage.lags import read_lags

BasisFunction = Callable[[Any], Any]
"""From exposures of shape (m,) to their k columns, shape (m, k), or from histories (m, L + 1)."""

BY_LOCATION = (Mapping, pd.Series)

POOLED, AVERAGE = "pooled", "average"
"""Label of the pooled curve, in the last rows; and the basis of the mean knots."""

WANTED_BASIS = "a function of exposures, a mapping {location: function} or a first stage"


def labels_of(fit: FittedModel) -> list[Any]:
    """The labels of the locations of a fit.

    Raises
    ------
    InputError
        Where one stands for two rows.
    """
    index = fit.frame.index
    if index.has_duplicates:
        repeated = index[index.duplicated()].tolist()[0]
        raise InputError(
            f"fit has two rows of the label {shown(repr(repeated))}: it must have one row per "
            "location, as mx.pool makes it."
        )
    return index.tolist()


def bases_of(basis: Any, labels: Sequence[Any]) -> list[BasisFunction]:
    """The basis of each location.

    Raises
    ------
    InputError
        For what is no function, and a location without one.
    """
    if isinstance(basis, FirstStage):
        basis = basis.bases
    elif callable(basis):
        return [basis] * len(labels)
    if not isinstance(basis, BY_LOCATION):
        raise gates.refused("basis", WANTED_BASIS, basis)
    found = [looked_up(basis, label, "basis") for label in labels]
    for function, label in zip(found, labels, strict=True):
        if not callable(function):
            raise gates.refused(f"basis of {named(label)}", "a function of exposures", function)
    return found


def shared_basis(bases: Sequence[BasisFunction]) -> BasisFunction | None:
    """The basis that all locations have; None where they differ."""
    return bases[0] if all(other is bases[0] for other in bases) else None


def pooled_basis(
    pooled: Any, bases: Sequence[BasisFunction], labels: Sequence[Any]
) -> BasisFunction:
    """The basis of the pooled curve: a function, or for "average" that of the mean knots.

    Raises
    ------
    InputError
        For what is neither, bases that have no average, and a location that is called as the
        pooled curve is.
    """
    if POOLED in labels:
        raise InputError(
            f"A location is called '{POOLED}', as the pooled curve is: give it another name."
        )
    if callable(pooled):
        return pooled
    if not (isinstance(pooled, str) and pooled == AVERAGE):
        raise gates.refused("pooled", "a function of exposures, or 'average'", pooled)
    shared = shared_basis(bases)
    if shared is not None:
        return shared
    own = [basis for basis in bases if isinstance(basis, Basis)]
    average = average_of(own) if len(own) == len(bases) else None
    if average is None:
        raise InputError(
            "pooled is 'average', but the bases of the locations are functions, or of different "
            "kinds or widths, whose knots have no means: give a function of exposures."
        )
    return average


def columns_at(basis: BasisFunction, x: np.ndarray, k: int, label: Any) -> np.ndarray:
    """The basis at exposures, shape (m, k).

    Raises
    ------
    InputError
        For a function that fails, has not k columns, or values that are not finite.
    """
    try:
        given = basis(x)
    except InputError:
        raise
    except Exception as error:
        why = shown(f"{type(error).__name__}: {error}", 120)
        raise InputError(
            f"basis of {named(label)} fails at an array of exposures of shape {x.shape}: {why}."
        ) from error
    what = f"basis of {named(label)}"
    found = gates.numbers(given, what, missing=True, infinite=True)
    if found.shape != (len(x), k):
        raise InputError(
            f"{what} makes an array of shape {found.shape} of {len(x)} exposures: it must have "
            f"({len(x)}, {k}), a column per coefficient."
        )
    bad = ~np.isfinite(found).all(1)
    if bad.any():
        first = x[int(np.argmax(bad))]
        raise InputError(f"{what} is not finite at the exposure {shown(first)}.")
    return found


def numbers_by_location(values: Any, labels: Sequence[Any], what: str) -> np.ndarray:
    """One number per location, shape (n,), from a number or from those of the locations."""
    if not _is_by_location(values):
        return np.full(len(labels), gates.number(values, what))
    found = [looked_up(values, label, what) for label in labels]
    pairs = zip(found, labels, strict=True)
    return np.array([gates.number(own, f"{what} of {named(label)}") for own, label in pairs])


def arrays_by_location(values: Any, labels: Sequence[Any], what: str) -> list[np.ndarray]:
    """One series of numbers per location, each of shape (T,), NaN where missing."""
    if not _is_by_location(values):
        raise gates.refused(what, "a mapping {location: numbers}", values)
    found = []
    for label in labels:
        own = looked_up(values, label, what)
        name = f"{what} of {named(label)}"
        found.append(gates.numbers(own, name, ("T",), missing=True))
        if not np.isfinite(found[-1]).any():
            raise InputError(f"{name} holds no number.")
    return found


def _is_by_location(values: Any) -> bool:
    return isinstance(values, BY_LOCATION) or (callable(values) and not isinstance(values, type))


def looked_up(values: Any, label: Any, what: str) -> Any:
    """What a mapping, series or function has for a location.

    Raises
    ------
    InputError
        Where it has nothing.
    """
    try:
        if isinstance(values, BY_LOCATION):
            # A tuple is one label: a series would read it as labels of several levels.
            return values[label] if isinstance(values, Mapping) else values.at[label]
        return values(label)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{what} has nothing for {named(label)}: give it for each location of the fit."
        ) from error


def named(label: Any) -> str:
    """A location, for a sentence."""
    return f"location {shown(repr(label))}"


def series_of(values: Any, basis: Any, what: str) -> Any:
    """The values that are given, or what a first stage in the place of the basis has of them."""
    if values is not None or not isinstance(basis, FirstStage):
        return values
    if basis.reduction.startswith("at "):
        raise InputError(
            f"basis, a first stage, is reduced to effects over lags ({basis.reduction}), which are "
            f"no curve over exposures: give one reduced over lags, or {what}."
        )
    return getattr(basis, what)


def lag_days(lag: Any) -> tuple[int, int]:
    """First and last day over which a risk goes on, from L or a pair."""
    first, last = read_lags(lag, "lag")
    return (first if isinstance(lag, (tuple, list)) else 0), last
