"""Natural parameters by the names that a user gives them, and what ``hold`` of `mixmeta` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixmeta_jax.covariance.held import Held
from mixmeta_jax.covariance.holding import hold
from mixmeta_jax.covariance.parameters import (
    Parameter,
    covariances,
    known,
    natural_parameters,
)
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.errors import InputError
from mixmeta_jax.gates import described, number

ALONE = ("tau2", "sigma2", "var")
"""Names of a variance that is the only one."""


def held_words(structure: Structure, effects: Sequence[str]) -> str:
    """What is held, as ``var(PD) held at 0.1``; empty for nothing."""
    if not isinstance(structure, Held):
        return ""
    return ", ".join(
        f"{parameter.name(effects)} held at {float(value):.6g}"
        for parameter, value in zip(structure.held, structure.values, strict=True)
    )


def held_structures(
    structures: Sequence[Structure],
    given: Mapping[str, Mapping[str, Any]] | None,
    level_names: Sequence[str],
    effects: Sequence[Sequence[str]],
) -> tuple[Structure, ...]:
    """The structures with what ``hold`` of `mixmeta` says.

    Parameters
    ----------
    structures
        Of each level, outer first.
    given
        {level: {name: value}}.
    level_names, effects
        Names of the levels, and of the random effects of each.

    Raises
    ------
    InputError
        For an unknown level or parameter, and an impossible value.
    """
    if given is None:
        return tuple(structures)
    if not isinstance(given, Mapping) or not all(isinstance(v, Mapping) for v in given.values()):
        raise InputError(
            "hold must be a mapping of levels to {name of a parameter: value}, as "
            "{'study': {'var(Intercept)': 0.1}}."
        )
    for level in given:
        if not isinstance(level, str) or level not in level_names:
            listed = ", ".join(f"'{name}'" for name in level_names)
            raise InputError(
                f"hold names the level {described(level)}, but the levels are {listed}."
            )
    made = []
    for structure, level, names in zip(structures, level_names, effects, strict=True):
        values = {
            parameter: _checked(parameter, value, level, names)
            for parameter, value in (
                (_named(structure, str(name), level, names), value)
                for name, value in given.get(level, {}).items()
            )
        }
        try:
            made.append(hold(structure, len(names), values))
        except InputError as error:
            raise InputError(f"hold of level '{level}': {error}") from None
    return tuple(made)


def find_parameter(structure: Structure, name: str, names: Sequence[str]) -> Parameter | None:
    """The natural parameter, or covariance, that a name means; None for none."""
    d = len(names)
    parameters = (*natural_parameters(structure, d), *covariances(structure, d))
    by_name = {_key(parameter.name(names)): parameter for parameter in parameters}
    for parameter in parameters:
        if len(parameter.at) == 2:
            other = Parameter(parameter.kind, parameter.at[::-1], parameter.lower, parameter.upper)
            by_name.setdefault(_key(other.name(names)), parameter)
        elif parameter.at:
            by_name.setdefault(_key(names[parameter.at[0]]), parameter)
            by_name.setdefault(_key(f"var({names[parameter.at[0]]})"), parameter)
    for kind, short in (
        ("var", ALONE),
        ("scale", ALONE),
        ("cor", ("rho", "cor")),
        ("cov", ("cov",)),
    ):
        alike = [parameter for parameter in parameters if parameter.kind == kind]
        if len(alike) == 1:
            for word in short:
                by_name.setdefault(word, alike[0])
    return by_name.get(_key(name))


def _key(name: str) -> str:
    return name.replace(" ", "")


def _named(structure: Structure, name: str, level: str, names: Sequence[str]) -> Parameter:
    if structure.by_parameters:
        raise InputError(
            f"hold names '{name}' of level '{level}', whose structure '{structure.name}' has "
            "parameters of its own: a variance or correlation is held in the others of the "
            "catalogue, as 'unstr'."
        )
    if not known(structure):
        raise InputError(
            f"hold names '{name}' of level '{level}', whose structure '{structure.name}' is not "
            "one of the catalogue: what its natural parameters are is not known."
        )
    found = find_parameter(structure, name, names)
    if found is None:
        d = len(names)
        there = [*natural_parameters(structure, d), *covariances(structure, d)]
        listed = ", ".join(parameter.name(names) for parameter in there[:8]) or "none"
        more = ", ..." if len(there) > 8 else ""
        raise InputError(
            f"hold names '{name}', which the structure '{structure.name}' of level '{level}' does "
            f"not have: its parameters are {listed}{more}."
        )
    return found


def _checked(parameter: Parameter, value: Any, level: str, names: Sequence[str]) -> float:
    words = f"hold: {parameter.name(names)} of level '{level}'"
    value = number(value, words)
    if not parameter.lower <= value <= parameter.upper:
        if parameter.is_variance:
            raise InputError(f"{words} cannot be {value:g}: a variance is not negative.")
        raise InputError(
            f"{words} cannot be {value:g}: it lies between {parameter.lower:g} and "
            f"{parameter.upper:g}."
        )
    return value
