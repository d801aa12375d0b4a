"""Covariance structures built around a matrix that the user gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.covariance import natural
from mixmeta_jax.covariance.maps import Scaled, Squares
from mixmeta_jax.covariance.natural import Natural
from mixmeta_jax.covariance.structure import Structure, is_semidefinite, is_symmetric
from mixmeta_jax.errors import InputError
from mixmeta_jax.tolerances import NULL_VARIANCE


class _Given(Structure):
    """A structure built around a given matrix."""

    def __init__(self, Psi_fix: Any):
        gates.refuse_traced({"Psi_fix": Psi_fix}, type(self).__name__)
        matrix = np.atleast_2d(gates.numbers(Psi_fix, f"Psi_fix for '{self.name}'"))
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise InputError(
                f"Psi_fix for '{self.name}' has shape {matrix.shape}: it must be a square matrix."
            )
        if not is_symmetric(matrix):
            raise InputError(f"Psi_fix for '{self.name}' must be symmetric.")
        if not is_semidefinite(matrix):
            smallest = np.linalg.eigvalsh(matrix)[0]
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


class Proportional(_Given, Squares):
    """Ψ = τ² M with M given: θ is τ.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> S = ["var_PD", "cov_PD_AL", "var_AL"]
    >>> given = mx.Proportional([[1.0, 0.5], [0.5, 2.0]])
    >>> mx.mixmeta("PD + AL ~ 1", S=S, data=mx.load_dataset("berkey98"), bscov=given).Psi.round(4)
           PD      AL
    PD  0.014  0.0070
    AL  0.007  0.0281
    """

    starts_suffice = True
    one_size = True
    name = "prop"
    label = "Proportional to a given matrix"

    def _prepare(self, matrix: np.ndarray) -> np.ndarray:
        if not matrix.any():
            raise InputError("Psi_fix for 'prop' is zero: no multiple of it is a variance.")
        return matrix

    def n_parameters(self, d: int) -> int:
        return 1

    def terms(self, d: int) -> Array:
        return self.matrix[None]

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.sqrt([np.trace(Psi) / np.trace(self.matrix)])

    def starts(self, variances: Any) -> list[Any]:
        xp = namespace(variances, self.matrix)
        return [xp.sqrt(variances.sum(0) / xp.trace(self.matrix))[None]]

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        return (_variances(Psi) <= NULL_VARIANCE * scale).all(0)


class Correlation(_Given, Scaled):
    """Variances with a given correlation: θ holds the square roots of the standard deviations.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> S = ["var_PD", "cov_PD_AL", "var_AL"]
    >>> given = mx.Correlation([[1.0, 0.5], [0.5, 1.0]])
    >>> mx.mixmeta("PD + AL ~ 1", S=S, data=mx.load_dataset("berkey98"), bscov=given).Psi.round(4)
            PD      AL
    PD  0.0114  0.0095
    AL  0.0095  0.0313
    """

    name = "cor"
    label = "Given correlation"
    has_angle = False

    def _prepare(self, matrix: np.ndarray) -> np.ndarray:
        sd = np.sqrt(np.diag(matrix))
        if (sd <= 0).any():
            raise InputError("Psi_fix for 'cor' has a zero variance: its correlation is unknown.")
        return matrix / np.outer(sd, sd)

    def correlation(self, angle: Array, d: int) -> tuple[Array, Array, Array]:
        C = self.matrix.reshape(d, d, *(1,) * angle.ndim)
        return C, 0 * C, 0 * C

    def natural(self, theta: np.ndarray, Psi: np.ndarray, scale: np.ndarray) -> Natural:
        variances = np.einsum("iib->ib", Psi)
        C = np.broadcast_to(self.matrix[:, :, None], Psi.shape)
        null = variances <= NULL_VARIANCE * scale
        return natural.scaled(variances, (C, 0 * C, 0 * C), null, None)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.diag(Psi) ** 0.25

    def starts(self, variances: Any) -> list[Any]:
        return [variances**0.25]

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        return (_variances(Psi) <= NULL_VARIANCE * scale).any(0)


class Fixed(_Given):
    """Ψ given: nothing is estimated.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> given = mx.Fixed([[0.3]])
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"), bscov=given)
    >>> fit.tau2, fit.df.random
    (0.3, 0)
    """

    starts_suffice = True
    name = "fixed"
    label = "Fixed"

    def n_parameters(self, d: int) -> int:
        return 0

    def psi(self, theta: Array, d: int) -> Array:
        xp, rest = namespace(theta, self.matrix), theta.shape[1:]
        matrix = self.matrix.reshape(d, d, *(1,) * len(rest))
        return xp.broadcast_to(xp.asarray(matrix), (d, d, *rest))

    def slopes(self, theta: Array, d: int) -> Array:
        return namespace(theta).zeros((d, d, 0, theta.shape[1]))

    def curvature(self, theta: Array, d: int, gradient: Array) -> Array:
        return namespace(theta, gradient).zeros((0, 0, theta.shape[1]))

    def natural(self, theta: np.ndarray, Psi: np.ndarray, scale: np.ndarray) -> Natural:
        return Natural(
            np.zeros((*Psi.shape[:2], 0, Psi.shape[2])), None, np.zeros((0, 1), bool), ()
        )

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.zeros(0)

    def starts(self, variances: Any) -> list[Any]:
        return [variances[:0]]

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        return namespace(Psi).zeros(Psi.shape[2], bool)


def _variances(Psi: Any) -> Any:
    return namespace(Psi).einsum("iib->ib", Psi)
