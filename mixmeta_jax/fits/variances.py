"""Variances and correlations of a fitted model as frames: estimates, intervals, profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import VarianceInterval
from mixmeta_jax.control import as_control
from mixmeta_jax.covariance.held_names import find_parameter
from mixmeta_jax.covariance.holding import has_mixture, hold_too
from mixmeta_jax.covariance.parameters import known
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.estimation.estimator import fit_design
from mixmeta_jax.estimation.start import follows_all
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.references import delta_information
from mixmeta_jax.inference import variances
from mixmeta_jax.inference.held_maxima import Maxima, Place, can_hold, held_maxima
from mixmeta_jax.inference.profiles import Intervals, profile_intervals
from mixmeta_jax.inference.variances import Components
from mixmeta_jax.inference.wald import check_conf_level
from mixmeta_jax.memory import refuse_size
from mixmeta_jax.tolerances import MISSED

MIXTURE = "chi2({}) + chi2({}), half each"
"""The distribution of the likelihood ratio of one variance at zero (Self & Liang 1987), with the
covariances that vanish beside it (Stram & Lee 1994)."""

OPEN_BELOW, OPEN_ABOVE = (
    "open below: the lower end is a bound",
    "open above: the upper end is a bound",
)
AT_LOWER, AT_UPPER = "the estimate is at its lower bound", "the estimate is at its upper bound"
NO_VALUE = "a variance is zero: the correlation has no meaning"
NOT_HELD_TOO = (
    "no profile: it cannot be held beside what the fit holds; ci='delta' or 'bootstrap' can tell"
)
EMPTY = "empty: Q is below what any variance explains"


def check_variances(model: FittedModel, what: str) -> None:
    """Raise `InputError` where a fit has no natural parameters of random effects."""
    if model.n_levels == 0:
        raise InputError(
            f"{what} is about variances of random effects: method='fixed' has none; refit with "
            "'ml' or 'reml'."
        )
    for name, structure in zip(model.level_names, model.design.structures, strict=True):
        if structure.by_parameters:
            raise InputError(
                f"{what}: the structure '{structure.name}' of level '{name}' has parameters of its "
                "own, not variances and correlations; refits tell of those, as Psi of `bootstrap`."
            )
        if not known(structure):
            raise InputError(
                f"{what}: the structure '{structure.name}' of level '{name}' is not one of the "
                "catalogue, and what its variances and correlations are is not known."
            )


def check_likelihood(model: FittedModel, what: str) -> None:
    """Raise `InputError` for a fit without a likelihood, or one that has not converged."""
    if not np.isfinite(model.loglik):
        raise InputError(
            f"{what} needs a likelihood, and method='{model.method}' has none: refit with 'ml' or "
            "'reml'."
        )
    if not model.converged:
        raise InputError(
            f"{what} is about a maximum, and the fit has none. {model.status.sentence}"
        )


def components_of(model: FittedModel) -> Components:
    """The natural parameters of a fit that are not held."""
    return variances.components(model.design, model.Psi_by_level)


def names_of(model: FittedModel, places: Sequence[Place]) -> list[str]:
    """Names of natural parameters."""
    return [place.parameter.name(model.frame.random_names(place.level)) for place in places]


def interval_frame(model: FittedModel, ci: str | None, conf_level: float) -> pd.DataFrame:
    """``level, estimate, se, lower, upper, note``; see `Fit.varcomp`. Not for the bootstrap."""
    level = check_conf_level(conf_level)
    gates.choice(ci, "ci", VarianceInterval)
    check_variances(model, "varcomp")
    if ci in ("profile", "delta", "bootstrap"):
        check_likelihood(model, f"varcomp(ci='{ci}')")
    parts = components_of(model)
    n = len(parts.places)
    frame = pd.DataFrame(
        {
            "level": [model.level_names[place.level] for place in parts.places],
            "estimate": parts.estimates,
            "se": standard_errors(model, parts),
            "lower": np.full(n, np.nan),
            "upper": np.full(n, np.nan),
            "note": [_note(*own) for own in zip(parts.estimates, parts.bound, strict=True)],
        },
        index=pd.Index(names_of(model, parts.places), name="parameter"),
    )
    if ci == "delta":
        frame["lower"], frame["upper"] = _delta(frame, parts, level)
    elif ci == "profile":
        found = intervals(model, parts, level, frame["se"].to_numpy())
        frame["lower"], frame["upper"] = found.lower, found.upper
        notes = zip(frame["note"], found.open_below, found.open_above, strict=True)
        frame["note"] = ["; ".join(_open(*own)) for own in notes]
        frame.loc[np.isfinite(parts.estimates) & ~can_be_held(model, parts), "note"] = NOT_HELD_TOO
    elif ci == "qprofile":
        frame.loc[:, ["lower", "upper"]] = _q_profile(model, parts, level, frame)
    return frame


def standard_errors(model: FittedModel, parts: Components) -> np.ndarray:
    """By the delta method from the observed information; NaN at a bound and without likelihood."""
    if not np.isfinite(model.loglik) or not len(parts.places) or not len(model.estimate.theta):
        return np.full(len(parts.places), np.nan)
    cov = covariance_of(model, parts)
    with np.errstate(invalid="ignore"):
        se = parts.scale * np.sqrt(np.diag(cov))
    return np.where((parts.bound != 0) | ~(se > 0), np.nan, se)


def covariance_of(model: FittedModel, parts: Components) -> np.ndarray:
    """Covariance of the natural parameters over their scales, (n, n); null for those at a bound."""
    natural, found = delta_information(model)
    J = variances.component_gradients(model.design, parts.places, model.Psi_by_level, natural)
    J = J / parts.scale[:, None]  # squares of variances near 1e180 overflow
    return J @ found.inverse[0] @ J.T


def _note(estimate: float, bound: int) -> str:
    if np.isnan(estimate):
        return NO_VALUE
    return {0: "", -1: AT_LOWER, 1: AT_UPPER}[int(bound)]


def _open(note: str, below: bool, above: bool) -> list[str]:
    words = [note] if note else []
    return words + [OPEN_BELOW] * bool(below) + [OPEN_ABOVE] * bool(above)


def _delta(frame: pd.DataFrame, parts: Components, level: float) -> tuple[np.ndarray, np.ndarray]:
    estimate, se = frame["estimate"].to_numpy(), frame["se"].to_numpy()
    log = variances.delta_interval("log", estimate, se, level)
    z = variances.delta_interval("z", estimate, se, level)
    variance = np.array([place.parameter.is_variance for place in parts.places], bool)
    lower, upper = (np.where(variance, a, b) for a, b in zip(log, z, strict=True))
    return lower, upper


def can_be_held(model: FittedModel, parts: Components) -> np.ndarray:
    """Which natural parameters can be held at their estimates, beside what the fit holds."""
    pairs = zip(parts.places, parts.estimates, strict=True)
    return np.array([can_hold(model.design, place, value) for place, value in pairs], bool)


def intervals(
    model: FittedModel, parts: Components, conf_level: float, errors: np.ndarray
) -> Intervals:
    """Profile intervals of the natural parameters of a fit; none of those that cannot be held."""
    # Every fit starts from the nearest that is there, towards the estimate: beyond may lie others.
    known = [[(value, model.Psi_by_level)] for value in parts.estimates]

    def profile(which: np.ndarray, values: np.ndarray, searched: bool) -> np.ndarray:
        nearest = [_nearest(known[i], value) for i, value in zip(which, values, strict=True)]
        near = [np.stack(level) for level in zip(*nearest, strict=True)]
        found = maxima(model, [parts.places[i] for i in which], values, near, searched)
        for b in np.flatnonzero(np.isfinite(found.loglik)):
            known[which[b]].append((values[b], tuple(P[b] for P in found.Psi)))
        return found.loglik

    found = profile_intervals(
        profile,
        [place.parameter for place in parts.places],
        np.where(can_be_held(model, parts), parts.estimates, np.nan),
        parts.scale,
        model.loglik,
        conf_level,
        errors,
        follows_all(model.design),
    )
    if found.highest > model.loglik + MISSED * (1 + abs(model.loglik)):
        raise InputError(
            f"A profile has a log-likelihood of {found.highest:.6g}, above that of the fit, "
            f"{model.loglik:.6g}: the fit missed its maximum; refit it with control={{'start': "
            "...}}."
        )
    return found


def _nearest(known: list[tuple[float, Any]], value: float) -> Any:
    """Ψ at the value next to another, between that and the first, which is the estimate."""
    centre = known[0][0]
    low, high = min(centre, value), max(centre, value)
    between = [own for own in known if low <= own[0] <= high]
    return min(between, key=lambda own: abs(own[0] - value))[1]


def maxima(
    model: FittedModel,
    places: Sequence[Place],
    values: np.ndarray,
    near: Any = None,
    searched: bool = False,
) -> Maxima:
    """The highest likelihoods with parameters of a fit held at values."""
    if near is None:
        near = [np.repeat(P[None], len(values), 0) for P in model.Psi_by_level]
    control = as_control(model._arguments["control"])
    return held_maxima(model.design, model.method, control, places, values, near, searched)


def _q_profile(
    model: FittedModel, parts: Components, level: float, frame: pd.DataFrame
) -> list[float]:
    one = len(parts.places) == 1 and parts.places[0].parameter.is_variance
    if model.frame.k > 1 or model.n_levels > 1 or not one:
        raise InputError(
            "varcomp(ci='qprofile') is for one outcome and one level with one variance: use "
            "'profile' here."
        )
    if model.frame.within.singular:
        raise InputError(
            "varcomp(ci='qprofile') divides by S, which is singular here: use 'profile'."
        )
    lower, upper, empty = variances.q_interval(model.design, level)
    if empty:
        frame["note"] = EMPTY
    elif lower == 0:
        frame["note"] = "; ".join(_open(frame["note"].iloc[0], True, False))
    return [lower, upper]


def profile_frame(
    model: FittedModel, parameters: Any, values: Any, n: int, conf_level: float
) -> pd.DataFrame:
    """``level, parameter, value, loglik, deviance``; see `Fit.profile`."""
    level = check_conf_level(conf_level)
    gates.whole(n, "n", 2)
    if values is None:
        refuse_size(n * model.frame.y.size, f"n={gates.described(n)}")
    check_variances(model, "profile")
    check_likelihood(model, "profile")
    parts = components_of(model)
    chosen = _chosen(model, parts, parameters)
    if values is not None:
        grid = np.atleast_1d(gates.numbers(values, "values"))
        if grid.ndim > 1 or not len(grid) or len(chosen) != 1:
            raise InputError("profile takes a row of values for one parameter: name it.")
        own = parts.places[chosen[0]].parameter
        if (grid < own.lower).any() or (grid > own.upper).any():
            raise InputError(
                f"values of {names_of(model, [parts.places[chosen[0]]])[0]} must lie between "
                f"{own.lower:g} and {own.upper:g}."
            )
        grids = [grid]
    else:
        found = intervals(model, parts, level, standard_errors(model, parts))
        grids = [_grid(parts, found, i, int(n)) for i in chosen]
    which = np.repeat(chosen, [len(grid) for grid in grids])
    at = np.concatenate(grids) if len(grids) else np.zeros(0)
    loglik = _heights(model, [parts.places[i] for i in which], at)
    names = names_of(model, parts.places)
    return pd.DataFrame(
        {
            "level": [model.level_names[parts.places[i].level] for i in which],
            "parameter": [names[i] for i in which],
            "value": at,
            "loglik": loglik,
            "deviance": 2 * (model.loglik - loglik),
        }
    )


def _heights(model: FittedModel, places: list[Place], at: np.ndarray) -> np.ndarray:
    """Profiled log-likelihoods, each the highest of paths from the fit and from its neighbours."""
    found = maxima(model, places, at)
    highest = found.loglik
    for step in (1, -1):
        neighbour = np.clip(np.arange(len(at)) + step, 0, len(at) - 1)
        own = [n if places[n] == places[b] else b for b, n in enumerate(neighbour)]
        again = maxima(model, places, at, [P[own] for P in found.Psi])
        highest = np.fmax(highest, again.loglik)
    return highest


def _grid(parts: Components, found: Intervals, i: int, n: int) -> np.ndarray:
    """Values over an interval and the estimate, evenly in standard deviations or correlations."""
    upper = found.upper[i]
    if np.isinf(upper):
        upper = 16 * max(parts.estimates[i], parts.scale[i])
    ends = np.array([found.lower[i], upper])
    if parts.places[i].parameter.is_variance:
        low, high = np.sqrt(ends)
        grid = np.linspace(low, high, n) ** 2
    else:
        grid = np.linspace(ends[0], ends[1], n)
    return np.unique(np.append(grid, parts.estimates[i]))


def _chosen(model: FittedModel, parts: Components, parameters: Any) -> list[int]:
    """Numbers of the parameters that are named; all that have a value for None."""
    able = np.isfinite(parts.estimates) & can_be_held(model, parts)
    if parameters is None:
        return np.flatnonzero(able).tolist()
    names = names_of(model, parts.places)
    one = isinstance(parameters, (str, tuple))
    given = [parameters] if one else gates.listed(parameters, "parameters")
    if not given:
        raise InputError(f"parameters names none: choose among {', '.join(names)}.")
    chosen = []
    for name in given:
        level, own = name if isinstance(name, tuple) and len(name) == 2 else (None, name)
        if not isinstance(own, str):
            raise gates.refused("an entry of parameters", "its name, or (level, name)", name)
        found = [
            i
            for i, place in enumerate(parts.places)
            if level in (None, model.level_names[place.level])
            and find_parameter(
                variances.origin_of(model.design.structures[place.level]),
                own,
                model.frame.random_names(place.level),
            )
            == place.parameter
        ]
        if not found:
            there = ", ".join(names) or "none"
            raise InputError(
                f"{shown(repr(name))} is not among the parameters of the fit: there are {there}."
            )
        if len(found) > 1:
            levels = ", ".join(repr(model.level_names[parts.places[i].level]) for i in found)
            raise InputError(
                f"{name!r} is there at the levels {levels}: give (level, {own!r}) for one."
            )
        chosen.append(found[0])
        if not able[found[0]]:
            none = np.isnan(parts.estimates[found[0]])
            why = f"no value: {NO_VALUE}" if none else NOT_HELD_TOO
            raise InputError(f"{name!r} has {why}.")
    return chosen


def held_fit(model: FittedModel, place: Place, value: float) -> FittedModel:
    """The fit with one more parameter held at a value."""
    design = model.design
    own = hold_too(design.structures[place.level], design.dims[place.level], place.parameter, value)
    structures = (*design.structures[: place.level], own, *design.structures[place.level + 1 :])
    design = replace(design, structures=structures)
    control = replace(as_control(model._arguments["control"]), start=None, verbose=False)
    estimate = fit_design(design, model.method, control, model.level_names)
    return FittedModel(model.frame, design, estimate, model.method, model._arguments)


def reference_of(model: FittedModel, null: FittedModel, place: Place) -> tuple[int, int, str]:
    """What the likelihood ratio of a parameter at zero is compared with.

    Returns
    -------
    df, n_bounds, words
        Difference of the numbers of parameters; 1 where the mixture of χ² with df − 1 and df
        holds, 0 where χ² with df does; and both in words, empty where neither is known.
    """
    parameter, structure = place.parameter, model.design.structures[place.level]
    df = model.df.random - null.df.random
    if not parameter.is_variance:
        # Inside its range, or at the bound of one that is not negative.
        if parameter.lower < 0 < parameter.upper:
            return df, 0, f"chi2({df})"
        return df, 1, MIXTURE.format(df - 1, df)
    if has_mixture(structure, model.design.dims[place.level]):
        return df, 1, MIXTURE.format(df - 1, df)
    return df, 0, ""
