"""How each structure of the catalogue meets a natural parameter that is held at a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixmeta_jax.covariance.held import Curve, Held, Recipe
from mixmeta_jax.covariance.maps import Scaled
from mixmeta_jax.covariance.parameters import (
    Parameter,
    correlation_bounds,
    natural_parameters,
    shortest_gap,
)
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.covariance.structures import Unstructured
from mixmeta_jax.errors import InputError

Values = Mapping[Parameter, Any]


def hold(structure: Structure, d: int, values: Values) -> Structure:
    """The structure with natural parameters held at values, those held before among them.

    Parameters
    ----------
    structure
        Of the catalogue, or one of whose parameters some are held already.
    d
        Number of random effects.
    values
        Numbers by parameter; or of shape (B,) for as many paths, all of them at a bound or none,
        and covariances of one sign.

    Raises
    ------
    InputError
        Where the parameters cannot be held together; they are named by position.
    """
    if isinstance(structure, Held):
        before = dict(zip(structure.held, structure.values, strict=True))
        return hold(structure.origin, d, {**before, **values})
    if not values:
        return structure
    name = structure.name
    make = {"unstr": _unstructured, "cs": _exchangeable}.get(name, _by_coordinates)
    recipe = make(structure, d, values)
    rows = np.broadcast_arrays(*(np.asarray(value, float) for value in values.values()))
    return Held(structure, d, tuple(values), np.stack(rows), recipe)


def hold_too(structure: Structure, d: int, parameter: Parameter, values: Any) -> Structure:
    """The structure with one more parameter held at a value, or at as many as there are paths.

    Beside a variance of zero a correlation, or a covariance of zero, that was held is no constraint
    any more: the effect has left the model.

    Raises
    ------
    InputError
        As `hold`; so too where a covariance is held at another value and its variance at zero.
    """
    if structure.name == "unstr" and isinstance(structure, Held) and np.all(values == 0):
        before = dict(zip(structure.held, structure.values, strict=True))
        if parameter.kind == "var":
            before = {p: v for p, v in before.items() if not _left(p, v, parameter)}
        return hold(structure.origin, d, {**before, parameter: values})
    return hold(structure, d, {parameter: values})


def _left(held: Parameter, value: Any, null: Parameter) -> bool:
    """Whether what is held says nothing where another variance is zero."""
    if held.kind == "var" or null.at[0] not in held.at:
        return False
    return held.kind == "cor" or bool(np.all(value == 0))


def regime(parameter: Parameter, value: float) -> tuple[bool, ...]:
    """What values must have in common to be held side by side."""
    return value in (0.0, parameter.lower, parameter.upper), value > 0


def free_parameters(structure: Structure, d: int) -> tuple[Parameter, ...]:
    """`natural_parameters` that are not held."""
    if not isinstance(structure, Held):
        return natural_parameters(structure, d)
    null = null_effects(structure, d)
    # A correlation whose covariance is held follows from the variances.
    tied = {p.at for p in structure.held if p.kind == "cov"}
    return tuple(
        parameter
        for parameter in natural_parameters(structure.origin, d)
        if parameter not in structure.held
        and not (parameter.kind == "cor" and parameter.at in tied)
        and not (parameter.kind == "cor" and _lost(parameter, null, d))
    )


def null_effects(structure: Structure, d: int) -> set[int]:
    """Random effects whose variances are held at zero."""
    if not isinstance(structure, Held):
        return set()
    null: set[int] = set()
    for parameter, value in zip(structure.held, structure.values, strict=True):
        if parameter.is_variance and np.all(value == 0):
            null |= set(parameter.at or range(d))
    return null


def _lost(correlation: Parameter, null: set[int], d: int) -> bool:
    """Whether a correlation has no meaning beside null variances."""
    return bool(null & set(correlation.at)) if correlation.at else len(null) > d - 2


INDEPENDENT = ("diag", "id", "prop", "cor")
"""Structures whose variances vanish without taking a parameter of correlation along."""


def has_mixture(structure: Structure, d: int) -> bool:
    """Whether one variance at zero has the equal mixture of two χ² as its likelihood ratio.

    Of an unstructured covariance with those of the covariances that vanish beside it (Stram & Lee
    1994); not where a correlation that others share loses a part of its meaning.
    """
    plain = structure.name == "unstr" and not isinstance(structure, Held)
    return d == 1 or structure.name in INDEPENDENT or plain


# Structures one of whose parameters is each natural one


def _by_coordinates(structure: Structure, d: int, values: Values) -> Recipe:
    fixed: dict[int, Any] = {}
    null: set[int] = set()
    correlated = structure.name not in ("prop", "cor", "id", "diag")
    power = 0.25 if isinstance(structure, Scaled) else 0.5
    for parameter, value in values.items():
        if parameter.kind == "cor":
            fixed[structure.n_parameters(d) - 1] = _angle(structure, parameter, value, d)
            correlated = False
            continue
        fixed[parameter.at[0] if parameter.at else 0] = np.asarray(value, float) ** power
        if np.all(np.asarray(value) == 0):
            null |= set(parameter.at or range(d))
        elif not parameter.at:
            # A variance that all share is no longer a finding.
            null |= set(range(d)) if not correlated else set()
    return Recipe(structure, tuple(i for i in range(d) if i not in null), fixed, (), correlated)


def _angle(structure: Structure, parameter: Parameter, value: Any, d: int) -> Any:
    """The angle that stands for a correlation; as in the structures' own maps."""
    value = np.asarray(value, float)
    if structure.name in ("car1", "hcar1"):
        return np.arcsin(np.sqrt(value ** shortest_gap(structure)))
    low, high = correlation_bounds(structure, d)
    return np.arcsin(np.clip((2 * value - low - high) / (high - low), -1, 1))


# Compound symmetry: θ_0² = σ²(1 − ρ) and θ_1² = σ²(1 + (d − 1)ρ)


def _exchangeable(structure: Structure, d: int, values: Values) -> Recipe:
    by_kind = {p.kind: np.asarray(value, float) for p, value in values.items()}
    everyone = tuple(range(d))
    weights = (d - 1.0, 1.0)
    if len(by_kind) == 3:
        raise InputError("of variance, covariance and correlation, hold two at most.")
    if len(by_kind) == 2 or np.all(by_kind.get("var", 1.0) == 0):
        variance, covariance = _both(by_kind)
        roots = variance - covariance, variance + (d - 1) * covariance
        if np.any(roots[0] < 0) or np.any(roots[1] < 0):
            raise InputError("no covariance matrix has that variance and that covariance.")
        return Recipe(structure, (), {0: np.sqrt(roots[0]), 1: np.sqrt(roots[1])})
    if "var" in by_kind:
        total = np.sqrt(d * by_kind["var"])
        constants = np.stack([total / np.sqrt(d - 1), total])
        return Recipe(structure, everyone, curves=(Curve("circle", (0, 1), constants),))
    if "cor" in by_kind:
        rho = by_kind["cor"]
        parts = 1 - rho, np.maximum(1 + (d - 1) * rho, 0.0)
        curve = Curve("ray", (0, 1), np.sqrt(np.stack(parts)), weights)
        return Recipe(structure, everyone, curves=(curve,), correlated=False)
    covariance = by_kind["cov"]
    if np.all(covariance == 0):
        curve = Curve("ray", (0, 1), np.ones((2, *covariance.shape)), weights)
        return Recipe(structure, everyone, curves=(curve,))
    # The smaller eigenvalue is free; the other is so much larger.
    at = (0, 1) if np.all(covariance > 0) else (1, 0)
    share = (1.0 if at[0] == 0 else d - 1.0) / d
    constants = np.stack([d * np.abs(covariance), np.full(covariance.shape, share)])
    own = weights[at[0]], weights[at[1]]
    return Recipe(structure, everyone, curves=(Curve("hyperbola", at, constants, own),))


def _both(by_kind: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Variance and covariance from two of the three."""
    if "var" not in by_kind:
        rho, covariance = by_kind["cor"], by_kind["cov"]
        if np.any(rho * covariance <= 0):
            raise InputError("no variance has that correlation and that covariance.")
        return covariance / rho, covariance
    variance = by_kind["var"]
    if "cov" in by_kind:
        return variance, by_kind["cov"]
    return variance, variance * by_kind.get("cor", np.zeros(()))


# Unstructured: the factor begins with the effects that what is held is about


def _unstructured(structure: Structure, d: int, values: Values) -> Recipe:
    null = {p.at[0] for p, value in values.items() if p.kind == "var" and np.all(value == 0)}
    variances = {
        p.at[0]: np.asarray(value, float)
        for p, value in values.items()
        if p.kind == "var" and p.at[0] not in null
    }
    ties = [(p, np.asarray(value, float)) for p, value in values.items() if p.kind != "var"]
    front = _front(variances, ties, null)
    singular = bool(ties) and ties[0][0].kind == "cor" and bool(np.all(np.abs(ties[0][1]) == 1))
    # An effect that is a multiple of another comes after all that are not.
    tied = front[1:] if singular else []
    rest = [i for i in range(d) if i not in front and i not in null]
    order = np.array([*front[:1], *([] if singular else front[1:]), *rest, *tied, *sorted(null)])
    base = Unstructured().ordered(order)
    place = _places_by_column(d)
    fixed: dict[int, Any] = {}
    for r in range(d - len(null), d):
        fixed |= {place[r, c]: 0.0 for c in range(r + 1)}
        fixed |= {place[q, r]: 0.0 for q in range(r, d)}
    curves: tuple[Curve, ...] = ()
    row = 1
    if singular:
        row = d - len(null) - 1
        fixed |= {place[row, c]: 0.0 for c in range(1, row)}
        fixed |= {place[q, row]: 0.0 for q in range(row + 1, d)}
    if front and front[0] in variances:
        fixed[place[0, 0]] = np.sqrt(variances[front[0]])
    if len(front) == 2:
        curves = _second_row(variances, front, ties, place, row, fixed)
    free = tuple(i for i in range(d) if i not in null | set(tied))
    return Recipe(base, free, fixed, curves)


def _front(
    variances: Mapping[int, Any], ties: Sequence[tuple[Parameter, Any]], null: set[int]
) -> list[int]:
    """The effects that come first, one or two of them."""
    about = {i for p, _ in ties for i in p.at} | set(variances)
    if len(about) > 2 or len(ties) > 1:
        raise InputError(
            "an unstructured covariance can hold parameters of one pair of effects at a time, and "
            "variances at zero; hold fewer, or choose a structure with fewer parameters."
        )
    if any(null & set(p.at) for p, _ in ties):
        raise InputError("beside a variance of zero a correlation or covariance has no meaning.")
    # One whose variance is held comes first: it is then a single entry of the factor.
    return sorted(about, key=lambda i: (i not in variances, i))


def _second_row(
    variances: Mapping[int, Any],
    front: Sequence[int],
    ties: Sequence[tuple[Parameter, np.ndarray]],
    place: np.ndarray,
    row: int,
    fixed: dict[int, Any],
) -> tuple[Curve, ...]:
    """What ties Λ_11 and, in the row of the second effect, the first entry and the last."""
    top, first, second = place[0, 0], place[row, 0], place[row, row]
    own = np.sqrt(variances[front[1]]) if front[1] in variances else None
    kind, value = (ties[0][0].kind, ties[0][1]) if ties else ("", np.zeros(()))
    if kind == "cor":
        parts = np.stack([value, np.sqrt(np.maximum(1 - value**2, 0.0))])
        if own is not None:
            fixed[first], fixed[second] = own * parts[0], own * parts[1]
            return ()
        beam = Curve("beam", (first, second), parts)
        return (beam,) if top in fixed else (Curve("square", (top,)), beam)
    if kind == "cov":
        if top in fixed:
            fixed[first] = value / fixed[top]
        elif np.all(value == 0):
            fixed[first] = value
        else:
            constants = np.stack([value, 0 * value])
            return (Curve("reciprocal", (top, first), constants, beside=second),)
        if own is None:
            return ()
        left = own**2 - fixed[first] ** 2
        if np.any(left <= 0):
            raise InputError(
                "no covariance matrix inside its bound has those variances and that covariance; "
                "for a correlation of 1 hold that."
            )
        fixed[second] = np.sqrt(left)
        return ()
    both = np.asarray(own, float)
    return (Curve("circle", (first, second), np.stack([both, both])),)


def _places_by_column(d: int) -> np.ndarray:
    """Where each entry of Λ stands in θ."""
    columns, rows = np.triu_indices(d)
    place = np.zeros((d, d), int)
    place[rows, columns] = np.arange(len(rows))
    return place
