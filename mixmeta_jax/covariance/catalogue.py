"""From what the user writes as ``bscov`` and ``Psi_fix`` to one checked structure per level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.choices import StructureName
from mixmeta_jax.covariance.autoregressive import (
    AR1,
    ContinuousAR1,
    HeterogeneousAR1,
    HeterogeneousContinuousAR1,
)
from mixmeta_jax.covariance.given import Correlation, Fixed, Proportional
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.covariance.structures import (
    CompoundSymmetry,
    Diagonal,
    HeterogeneousCompoundSymmetry,
    Identity,
    Unstructured,
)
from mixmeta_jax.covariance.toeplitz import HeterogeneousToeplitz, Toeplitz
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.forking import refuse_lost

STRUCTURES: dict[str, Any] = {
    structure.name: structure
    for structure in (
        Unstructured,
        Diagonal,
        Identity,
        CompoundSymmetry,
        HeterogeneousCompoundSymmetry,
        AR1,
        HeterogeneousAR1,
        ContinuousAR1,
        HeterogeneousContinuousAR1,
        Toeplitz,
        HeterogeneousToeplitz,
        Proportional,
        Correlation,
        Fixed,
    )
}
"""The structures by their short names."""

OneStructure: TypeAlias = Structure | StructureName
Structures: TypeAlias = OneStructure | Sequence[OneStructure] | Mapping[str, OneStructure]
"""What ``bscov`` may be: one for all levels, one per level outer first, or by level."""

NEEDS_MATRIX = ("prop", "cor", "fixed")
NEEDS_TIMES = ("car1", "hcar1")


def resolve_structures(
    bscov: Any,
    Psi_fix: Any,
    level_names: Sequence[str],
    dims: Sequence[int],
) -> tuple[Structure, ...]:
    """One structure per level, outer first, each checked against its number of random effects.

    Parameters
    ----------
    bscov
        A name, an instance, a sequence with one of these per level, or {level: name or instance};
        levels that a mapping leaves out are unstructured.
    Psi_fix
        Matrix, or {level: matrix}, for 'prop', 'cor' and 'fixed'.
    level_names, dims
        Names and numbers of random effects of the levels, outer first.

    Raises
    ------
    InputError
        For an unknown name or level, a wrong number of structures, a matrix that is missing, not
        used or of another size, or a structure that needs more random effects.
    """
    choices = _choices(bscov, level_names)
    matrices = _matrices(Psi_fix, choices, level_names)
    structures = []
    for choice, level, d in zip(choices, level_names, dims, strict=True):
        what = f"bscov of level '{level}'"
        structure = _structure(choice, what, f"of level '{level}'", matrices.get(level))
        structure.check(d, level)
        if type(structure) not in STRUCTURES.values():
            _refuse_misshapen(structure, d, level)
        structures.append(structure)
    return tuple(structures)


def resolve_part(choice: Any, what: str, d: int) -> Structure:
    """The structure of d of the random effects of a level, ``what`` names it in errors."""
    structure = _structure(choice, what, f"({what})", None)
    structure.check(d, what)
    if type(structure) not in STRUCTURES.values():
        _refuse_misshapen(structure, d, what)
    return structure


def _choices(bscov: Any, levels: Sequence[str]) -> list[Any]:
    if isinstance(bscov, Mapping):
        unknown = [name for name in bscov if name not in levels]
        if unknown:
            raise InputError(
                f"bscov names the level '{unknown[0]}', but the levels are {_listed(levels)}."
            )
        return [bscov.get(level, "unstr") for level in levels]
    if isinstance(bscov, (list, tuple)):
        if len(bscov) != len(levels):
            raise InputError(
                f"bscov has {len(bscov)} structures for {len(levels)} level(s), {_listed(levels)}: "
                "give one per level, outer first, or a mapping by level."
            )
        return list(bscov)
    return [bscov] * len(levels)


def _matrices(Psi_fix: Any, choices: list[Any], levels: Sequence[str]) -> dict[str, Any]:
    named = [isinstance(choice, str) and choice in NEEDS_MATRIX for choice in choices]
    using = [level for level, needs in zip(levels, named, strict=True) if needs]
    if Psi_fix is None:
        return {}
    if isinstance(Psi_fix, Mapping):
        stray = [name for name in Psi_fix if name not in using]
        if stray:
            raise InputError(
                f"Psi_fix names the level '{stray[0]}', but "
                + (
                    f"only {_listed(using)} use(s) a given matrix."
                    if using
                    else "no level has a structure that uses one ('prop', 'cor' or 'fixed')."
                )
            )
        return dict(Psi_fix)
    if not using:
        raise InputError(
            "Psi_fix is given, but no level has a structure that uses it: set bscov to 'prop', "
            "'cor' or 'fixed'."
        )
    if len(using) > 1:
        raise InputError(
            f"Psi_fix is one matrix for the levels {_listed(using)}: give a mapping "
            "{level: matrix}."
        )
    return {using[0]: Psi_fix}


def _structure(choice: Any, what: str, where: str, matrix: Any) -> Structure:
    if isinstance(choice, Structure):
        return choice
    if isinstance(choice, type) and issubclass(choice, Structure):
        raise InputError(
            f"{what} is the class {choice.__name__}: give an instance, {choice.__name__}()."
        )
    if not isinstance(choice, str) or choice not in STRUCTURES:
        raise InputError(
            f"{what} must be one of {_listed(STRUCTURES)}, or an instance of "
            f"mixmeta_jax.Structure, not {gates.described(choice)}."
        )
    if choice in NEEDS_MATRIX:
        if matrix is None:
            raise InputError(f"The structure '{choice}' {where} needs Psi_fix.")
        return STRUCTURES[choice](matrix)
    if choice in NEEDS_TIMES:
        instance = STRUCTURES[choice].__name__
        raise InputError(
            f"The structure '{choice}' {where} needs times: give "
            f"bscov=mixmeta_jax.{instance}(times=...)."
        )
    return STRUCTURES[choice]()


def _refuse_misshapen(structure: Structure, d: int, level: str) -> None:
    """Raise where a structure of one's own gives something else than a Ψ of d effects."""
    what = f"The structure '{shown(getattr(structure, 'name', structure))}' (bscov of '{level}')"
    if not structure.closed:
        refuse_lost(what)
    try:
        n = structure.n_parameters(d)
        theta = np.linspace(0.9, 1.1, gates.whole(n, f"{what}: its number of parameters"))
        if structure.closed:
            shape = np.shape(structure.psi(theta, d))
        else:
            import jax

            shape = jax.eval_shape(lambda given: structure.psi(given, d), theta).shape
    except InputError:
        raise
    except Exception as error:
        reason = shown(f"{type(error).__name__}: {error}", 140)
        raise InputError(f"{what} fails for {d} random effects with {reason}.") from error
    if shape != (d, d):
        raise InputError(f"{what} returns a Ψ of shape {shape} for {d} random effects.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
