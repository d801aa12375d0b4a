"""The natural parameters of a covariance structure: variances, covariances, correlations.

They are what a user reads, holds at a value and asks an interval of; θ is what is climbed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.covariance.autoregressive import _InTime
from mixmeta_jax.covariance.structure import Structure, pairs

SHARED_VARIANCE = ("id", "cs", "ar1", "car1")
"""Structures with one variance for all random effects."""

SHARED_CORRELATION = ("cs", "hcs", "ar1", "har1", "car1", "hcar1")
"""Structures with one parameter of correlation."""


@dataclass(frozen=True)
class Parameter:
    """A natural parameter of the covariance of d random effects.

    Attributes
    ----------
    kind
        "var", "cov", "cor", or "scale": the multiple of a given matrix.
    at
        Positions of the random effects that it is about, none where all of them share it.
    lower, upper
        Bounds of its range.
    """

    kind: str
    at: tuple[int, ...]
    lower: float
    upper: float

    def name(self, effects: Sequence[str]) -> str:
        """As a user writes it, as ``cor(PD, AL)``."""
        if self.kind == "scale":
            return "tau2"
        about = ", ".join(
            "Intercept" if e == "(Intercept)" else e for e in effects_of(self, effects)
        )
        return f"{self.kind}({about})" if about else self.kind

    @property
    def is_variance(self) -> bool:
        """Whether it is a variance, or a multiple of one."""
        return self.kind in ("var", "scale")


def effects_of(parameter: Parameter, effects: Sequence[str]) -> list[str]:
    """Names of the random effects that a parameter is about."""
    return [effects[i] for i in parameter.at]


def natural_parameters(structure: Structure, d: int) -> tuple[Parameter, ...]:
    """Variances, then correlations, of d random effects; none for a structure of one's own.

    Every structure of the catalogue is told by them, up to covariances, which are functions of
    them: see `covariances`.
    """
    name = structure.name
    if not known(structure) or name == "fixed":
        return ()
    if name == "prop":
        return (Parameter("scale", (), 0.0, np.inf),)
    variances = [Parameter("var", (i,), 0.0, np.inf) for i in range(d)]
    if name in SHARED_VARIANCE:
        variances = [Parameter("var", (0,) if d == 1 else (), 0.0, np.inf)]
    if name in SHARED_CORRELATION:
        return (*variances, Parameter("cor", (), *correlation_bounds(structure, d)))
    if name == "unstr":
        variances += [Parameter("cor", pair, -1.0, 1.0) for pair in unordered(d)]
    return tuple(variances)


def covariances(structure: Structure, d: int) -> tuple[Parameter, ...]:
    """Covariances that may be held, beside `natural_parameters`."""
    if structure.name == "unstr":
        return tuple(Parameter("cov", pair, -np.inf, np.inf) for pair in unordered(d))
    return (Parameter("cov", (), -np.inf, np.inf),) if structure.name == "cs" else ()


def unordered(d: int) -> list[tuple[int, int]]:
    """Pairs i < j of d positions, by i."""
    return [(i, j) for i in range(d) for j in range(i + 1, d)]


def known(structure: Structure) -> bool:
    """Whether a structure is told by variances and correlations, its natural parameters."""
    return not structure.by_parameters and type(structure).__module__.startswith(f"{__package__}.")


def correlation_bounds(structure: Structure, d: int) -> tuple[float, float]:
    """The range of the one correlation of a structure."""
    if structure.name in ("cs", "hcs"):
        return -1 / (d - 1), 1.0
    return (0.0, 1.0) if structure.name in ("car1", "hcar1") else (-1.0, 1.0)


def representatives(structure: Structure, d: int) -> list[tuple[int, int]]:
    """Pairs of effects whose correlation is that of the structure, or a power of it."""
    if structure.name in ("cs", "hcs"):
        return pairs(d)
    if isinstance(structure, _InTime):
        powers = structure._powers()
        return [pair for pair in pairs(d) if powers[pair] == 1]
    return pairs(d, 1)


def shortest_gap(structure: Structure) -> float:
    """Time between the closest two times: their correlation is ρ to this power; 1 without times."""
    if not isinstance(structure, _InTime):
        return 1.0
    gaps = np.abs(np.subtract.outer(structure.times, structure.times))
    return float(gaps[gaps > 0].min())


def value_of(structure: Structure, parameter: Parameter, Psi: np.ndarray) -> Any:
    """The value of a natural parameter at Ψ of shape (..., d, d); NaN where it has none.

    A correlation has none beside null variances.
    """
    variances = np.diagonal(Psi, axis1=-2, axis2=-1)
    if parameter.kind == "scale":
        return variances.sum(-1) / np.trace(structure.matrix)  # type: ignore[attr-defined]
    if parameter.kind == "var":
        return variances[..., parameter.at[0]] if parameter.at else variances.mean(-1)
    among = [parameter.at] if parameter.at else representatives(structure, Psi.shape[-1])
    if parameter.kind == "cov":
        return np.mean([Psi[..., i, j] for i, j in among], axis=0)
    total, count = np.zeros(Psi.shape[:-2]), np.zeros(Psi.shape[:-2])
    for i, j in among:
        # Roots first: products of outcomes near 1e90 overflow, and near 1e-90 they vanish.
        there = (variances[..., i] > 0) & (variances[..., j] > 0)
        size = np.sqrt(variances[..., i]) * np.sqrt(variances[..., j])
        value = Psi[..., i, j] / np.where(there, size, 1.0)
        total, count = total + np.where(there, value, 0.0), count + there
    with np.errstate(invalid="ignore"):
        mean = np.clip(total / count, parameter.lower, parameter.upper)
    return mean ** (1 / shortest_gap(structure)) if isinstance(structure, _InTime) else mean


def gradient_of(structure: Structure, parameter: Parameter, Psi: np.ndarray) -> np.ndarray:
    """E with dη = ⟨E, dΨ⟩ for changes of one Ψ, shape (d, d); NaN where η has no value."""
    d = len(Psi)
    E = np.zeros((d, d))
    if parameter.kind == "scale":
        return np.eye(d) / np.trace(structure.matrix)  # type: ignore[attr-defined]
    if parameter.kind == "var":
        if parameter.at:
            E[parameter.at[0], parameter.at[0]] = 1.0
            return E
        return np.eye(d) / d
    among = [parameter.at] if parameter.at else representatives(structure, d)
    # All of them have the same correlation along the structure: one that has a value is enough.
    i, j = next(((i, j) for i, j in among if Psi[i, i] > 0 and Psi[j, j] > 0), (0, 0))
    if i == j:
        return np.full((d, d), np.nan)
    if parameter.kind == "cov":
        E[i, j] = E[j, i] = 0.5
        return E
    size = np.sqrt(Psi[i, i]) * np.sqrt(Psi[j, j])
    r = Psi[i, j] / size
    E[i, j] = E[j, i] = 0.5 / size
    E[i, i], E[j, j] = -0.5 * r / Psi[i, i], -0.5 * r / Psi[j, j]
    power = 1 / shortest_gap(structure)
    with np.errstate(divide="ignore", invalid="ignore"):
        return E if power == 1 else power * r ** (power - 1) * E
