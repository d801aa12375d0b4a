"""Bases from text such as ``"ns(percentiles=[10, 75, 90])"``, one for the values of each location.

The text is data: a known name, and arguments that the expressions of formulas evaluate. What
depends on the data (percentiles, ``df``, the boundary) is taken from the values of a location, or
of all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.evaluation import MAX_COLUMNS, Evaluator
from mixmeta_jax.formulas.expressions import read_expression, refuse_length
from mixmeta_jax.formulas.formula import split_outside
from mixmeta_jax.formulas.splines import boundary_of, inner_knots_of
from mixmeta_jax.two_stage.bases import (
    Basis,
    BSpline,
    Integers,
    Linear,
    LinearThreshold,
    NaturalSpline,
    Strata,
)

KNOTS = ("knots", "percentiles", "df", "log_knots")
ARGUMENTS = {
    "ns": (*KNOTS, "boundary", "intercept", "of"),
    "bs": (*KNOTS, "boundary", "degree", "intercept", "of"),
    "strata": ("breaks", "percentiles", "df", "intercept", "of"),
    "threshold": ("low", "high", "low_percentile", "high_percentile", "of"),
    "linear": ("intercept",),
    "integer": (),
}
"""What each basis takes."""

BASIS_EXAMPLE = (
    "a basis, as 'ns(df=3)', 'bs(knots=[10, 20])', 'strata(breaks=[5])' or 'threshold(high=25)'"
)

OF_LOCATION, OF_ALL = "location", "all"

_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.DOTALL)


@dataclass(frozen=True)
class BasisForm:
    """A basis before it knows the values that its knots are taken from.

    Attributes
    ----------
    name
        One of `ARGUMENTS`.
    settings
        What was given, checked.
    of_all
        Whether its knots are those of the values of all locations.
    """

    name: str
    settings: Mapping[str, Any]
    of_all: bool = False

    def made(self, x: np.ndarray) -> Basis:
        """The basis for values x, shape (n,), NaN where missing.

        Raises
        ------
        InputError
            If knots, breaks or thresholds do not lie inside the values.
        """
        x = x[~np.isnan(x)]
        return _MAKERS[self.name](self.settings, x)


def read_basis(text: Any, what: str, lag: bool = False) -> BasisForm:
    """A basis as it was written.

    Parameters
    ----------
    text
        Such as ``"ns(df=3)"``.
    what
        The argument, for the sentence.
    lag
        Whether it is of the lag: it has an intercept then unless it says otherwise, its knots may
        be equally spaced in the logarithm, and each lag may have a column of its own.

    Raises
    ------
    InputError
        If it cannot be read, or has an argument that is unknown or of another kind.
    """
    refuse_length(gates.text(text, what, BASIS_EXAMPLE), what)
    found = _CALL.fullmatch(text)
    if found is None:
        raise gates.refused(what, BASIS_EXAMPLE, text)
    name, inner = found.groups()
    gates.choice(name, f"{what}: the basis", list(ARGUMENTS) if lag else list(ARGUMENTS)[:-1])
    given: dict[str, Any] = {}
    for piece in split_outside(inner, ",") if inner.strip() else []:
        key, *value = split_outside(piece, "=")
        key = key.strip()
        if len(value) != 1:
            raise InputError(
                f"{what} has '{shown(piece.strip(), 40)}': write each argument of {name}() by its "
                f"name, as {ARGUMENTS[name][0] if ARGUMENTS[name] else 'none'}=..."
            )
        gates.choice(key, f"{what}: an argument of {name}()", _arguments(name, lag))
        if key in given:
            raise InputError(f"{what} gives {name}() the argument {key} twice.")
        given[key] = Evaluator(read_expression(value[0].strip(), what), {}).result()
    return _checked(name, given, what, lag)


def _arguments(name: str, lag: bool) -> list[str]:
    own = [key for key in ARGUMENTS[name] if not (lag and key == "of")]
    return own if lag else [key for key in own if key != "log_knots"]


def _checked(name: str, given: dict[str, Any], what: str, lag: bool) -> BasisForm:
    """The form of what was given, every argument of its kind."""
    own: dict[str, Any] = {}
    for key, value in given.items():
        where = f"{what}: {key} of {name}()"
        if key in ("df", "degree", "log_knots"):
            least = 0 if key == "degree" and name == "bs" else 1
            own[key] = gates.whole(value, where, max(least, 1), MAX_COLUMNS)
        elif key in ("intercept",):
            own[key] = gates.flag(value, where)
        elif key == "of":
            own[key] = gates.choice(value, where, (OF_LOCATION, OF_ALL))
        elif key in ("low", "high"):
            own[key] = gates.number(value, where)
        elif key.endswith("_percentile"):
            own[key] = float(_percentiles([value], where)[0])
        elif key == "percentiles":
            own[key] = _percentiles(value, where)
        else:
            own[key] = np.atleast_1d(gates.numbers(value, where))
    ways = [key for key in (*KNOTS, "breaks") if key in own]
    if len(ways) > 1:
        raise InputError(f"{what}: {name}() takes {ways[0]} or {ways[1]}, not both.")
    if name == "strata" and not ways:
        raise InputError(f"{what}: strata() needs breaks, as strata(breaks=[10, 20]).")
    if name == "threshold":
        for side in ("low", "high"):
            if side in own and f"{side}_percentile" in own:
                raise InputError(
                    f"{what}: threshold() takes {side} or {side}_percentile, not both."
                )
        if not set(own) - {"of"}:
            raise InputError(f"{what}: threshold() needs low, high or both, as threshold(high=25).")
    of_all = own.pop("of", OF_LOCATION) == OF_ALL
    own.setdefault("intercept", lag)
    return BasisForm(name, own, of_all)


def _percentiles(values: Any, where: str) -> np.ndarray:
    found = np.atleast_1d(gates.numbers(values, where))
    if not ((found > 0) & (found < 100)).all():
        raise InputError(f"{where} must lie strictly between 0 and 100, not {found.tolist()}.")
    return found


def _spline_knots(
    settings: Mapping[str, Any], x: np.ndarray, least: int, name: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    boundary = boundary_of(x, settings.get("boundary"), name)
    knots = settings.get("knots")
    if "percentiles" in settings:
        knots = np.percentile(x, settings["percentiles"])
    elif "log_knots" in settings:
        knots = _log_knots(settings["log_knots"], boundary)
    inner = inner_knots_of(x, knots, settings.get("df"), boundary, least, name)
    return tuple(inner), tuple(boundary)


def _log_knots(count: int, boundary: list[float]) -> np.ndarray:
    """Knots whose logarithms are equally spaced between −1 and that of the longest lag."""
    lower, upper = boundary
    steps = np.arange(1, count + 1) / (count + 1)
    return lower + np.exp((1 + np.log(upper - lower)) * steps - 1)


def _natural(settings: Mapping[str, Any], x: np.ndarray) -> Basis:
    intercept = settings["intercept"]
    return NaturalSpline(*_spline_knots(settings, x, 1 + intercept, "ns"), intercept)


def _polynomial(settings: Mapping[str, Any], x: np.ndarray) -> Basis:
    degree, intercept = settings.get("degree", 3), settings["intercept"]
    return BSpline(*_spline_knots(settings, x, degree + intercept, "bs"), degree, intercept)


def _strata(settings: Mapping[str, Any], x: np.ndarray) -> Basis:
    intercept = settings["intercept"]
    breaks = settings.get("breaks")
    if breaks is None:
        shares = settings.get("percentiles")
        if shares is None:
            count = settings["df"] - intercept
            shares = 100 * np.arange(1, count + 1) / (count + 1)
        breaks = np.percentile(x, shares)
    breaks = np.sort(breaks)
    for one in breaks:
        if not x.min() < one <= x.max():
            raise InputError(
                f"The break {one:g} of strata() lies outside the values, {x.min():g} to "
                f"{x.max():g}: no value would be on one side of it."
            )
    if len(np.unique(breaks)) < len(breaks):
        raise InputError(f"The breaks {breaks.tolist()} of strata() repeat a value.")
    return Strata(tuple(breaks.tolist()), intercept)


def _threshold(settings: Mapping[str, Any], x: np.ndarray) -> Basis:
    found: dict[str, float] = {}
    for side in ("low", "high"):
        if side in settings:
            found[side] = settings[side]
        elif f"{side}_percentile" in settings:
            found[side] = float(np.percentile(x, settings[f"{side}_percentile"]))
    for side, value in found.items():
        if not (x.min() < value if side == "low" else value < x.max()):
            raise InputError(
                f"The threshold {side}={value:g} lies outside the values, {x.min():g} to "
                f"{x.max():g}: nothing lies beyond it."
            )
    if len(found) == 2 and found["low"] > found["high"]:
        raise InputError(
            f"The thresholds low={found['low']:g} and high={found['high']:g} are in the wrong "
            "order: the line is flat between them."
        )
    return LinearThreshold(found.get("low"), found.get("high"))


def _integers(settings: Mapping[str, Any], x: np.ndarray) -> Basis:
    return Integers(int(x.min()), int(x.max()))


_MAKERS: dict[str, Callable[[Mapping[str, Any], np.ndarray], Basis]] = {
    "ns": _natural,
    "bs": _polynomial,
    "strata": _strata,
    "threshold": _threshold,
    "linear": lambda settings, x: Linear(settings["intercept"]),
    "integer": _integers,
}
