"""Covariance structures built around a matrix that the user gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.errors import InputError
from mixmeta_jax.model.structure import Structure, namespace, scale_by


class _Given(Structure):
    """A structure built around a given matrix."""

    def __init__(self, Psi_fix: Any):
        try:
            matrix = np.atleast_2d(np.asarray(Psi_fix, float))
        except (TypeError, ValueError) as error:
            raise InputError(f"Psi_fix for '{self.name}' must be a matrix of numbers.") from error
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise InputError(
                f"Psi_fix for '{self.name}' has shape {matrix.shape}: it must be a square matrix."
            )
        if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-10):
            raise InputError(f"Psi_fix for '{self.name}' must be finite and symmetric.")
        smallest = np.linalg.eigvalsh(matrix)[0]
        if smallest < -1e-10 * np.abs(matrix).max():
            raise InputError(
                f"Psi_fix for '{self.name}' is not positive semidefinite: its smallest eigenvalue "
                f"is {smallest:.4g}."
            )
        self.matrix = self._prepare((matrix + matrix.T) / 2)

    def _prepare(self, matrix: np.ndarray) -> np.ndarray:
        return matrix

    def check(self, d: int, level: str) -> None:
        super().check(d, level)
        if self.matrix.shape != (d, d):
            raise InputError(
                f"Psi_fix for '{self.name}' is {self.matrix.shape[0]} × {self.matrix.shape[1]}, "
                f"but level '{level}' has {d} random effects."
            )


class Proportional(_Given):
    """Ψ = τ² M with M given: θ is τ."""

    name = "prop"
    label = "Proportional to a given matrix"

    def _prepare(self, matrix: np.ndarray) -> np.ndarray:
        if not matrix.any():
            raise InputError("Psi_fix for 'prop' is zero: no multiple of it is a variance.")
        return matrix

    def n_parameters(self, d: int) -> int:
        return 1

    def psi(self, theta: Array, d: int) -> Array:
        return theta[0] ** 2 * jnp.asarray(self.matrix)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.sqrt([np.trace(Psi) / np.trace(self.matrix)])

    def starts(self, variances: Any) -> list[Any]:
        xp = namespace(variances)
        return [xp.sqrt(variances.sum() / xp.trace(self.matrix))[None]]

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return ["tau"]

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        return (namespace(Psi).diagonal(Psi) <= 1e-9 * scale).all()


class Correlation(_Given):
    """Variances with a given correlation: θ holds the square roots of the standard deviations."""

    name = "cor"
    label = "Given correlation"
    rugged = True

    def _prepare(self, matrix: np.ndarray) -> np.ndarray:
        sd = np.sqrt(np.diag(matrix))
        if (sd <= 0).any():
            raise InputError("Psi_fix for 'cor' has a zero variance: its correlation is unknown.")
        return matrix / np.outer(sd, sd)

    def n_parameters(self, d: int) -> int:
        return d

    def psi(self, theta: Array, d: int) -> Array:
        return scale_by(theta, jnp.asarray(self.matrix))

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.diag(Psi) ** 0.25

    def starts(self, variances: Any) -> list[Any]:
        return [variances**0.25]

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return [f"root_sd[{name}]" for name in names]

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        return (namespace(Psi).diagonal(Psi) <= 1e-9 * scale).any()


class Fixed(_Given):
    """Ψ given: nothing is estimated."""

    name = "fixed"
    label = "Fixed"

    def n_parameters(self, d: int) -> int:
        return 0

    def psi(self, theta: Array, d: int) -> Array:
        return jnp.asarray(self.matrix)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.zeros(0)

    def starts(self, variances: Any) -> list[Any]:
        return [namespace(variances).zeros(0)]

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return []

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        return False
