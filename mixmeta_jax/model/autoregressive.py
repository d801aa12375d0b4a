"""Covariance structures in which correlation decays with the distance between random effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.errors import InputError
from mixmeta_jax.model.structure import (
    START_POSITIONS,
    Structure,
    angle_between,
    correlation_starts,
    mean_correlation,
    namespace,
    pairs,
    scale_by,
)


class AR1(Structure):
    """One variance and a correlation ρ^lag, ρ in [−1, 1], the lag counted in positions.

    θ holds the standard deviation and the angle whose sine is ρ.
    """

    name = "ar1"
    label = "First-order autoregressive"
    min_dim = 2

    def n_parameters(self, d: int) -> int:
        return 2

    def psi(self, theta: Array, d: int) -> Array:
        return theta[0] ** 2 * _autoregressive(jnp.sin(theta[1]), d)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        angle = angle_between(mean_correlation(Psi, pairs(len(Psi), 1)), -1, 1)
        return np.array([np.sqrt(np.mean(np.diag(Psi))), angle])

    def starts(self, variances: Any) -> list[Any]:
        xp = namespace(variances)
        return correlation_starts(xp.sqrt(xp.mean(variances))[None])

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return ["sd", "angle"]


class HeterogeneousAR1(Structure):
    """One variance each and a correlation ρ^lag, ρ in [−1, 1], the lag counted in positions.

    θ holds the square roots of the standard deviations, then the angle whose sine is ρ.
    """

    name = "har1"
    label = "Heterogeneous first-order autoregressive"
    min_dim = 2
    rugged = True

    def n_parameters(self, d: int) -> int:
        return d + 1

    def psi(self, theta: Array, d: int) -> Array:
        return scale_by(theta[:d], _autoregressive(jnp.sin(theta[d]), d))

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        angle = angle_between(mean_correlation(Psi, pairs(len(Psi), 1)), -1, 1)
        return np.append(np.diag(Psi) ** 0.25, angle)

    def starts(self, variances: Any) -> list[Any]:
        return correlation_starts(variances**0.25)

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return [f"root_sd[{name}]" for name in names] + ["angle"]


class ContinuousAR1(Structure):
    """One variance and a correlation ρ^|t − t′|, ρ in [0, 1], at given times.

    θ holds the standard deviation and an angle whose squared sine is the correlation of the two
    closest times: powers of it are then at least 1, and ρ = 0 is an ordinary value.

    Parameters
    ----------
    times
        One time per random effect, in the order of Ψ, all different.
    """

    name = "car1"
    label = "Continuous first-order autoregressive"
    min_dim = 2

    def __init__(self, times: Sequence[float]):
        self.times = tuple(float(t) for t in np.ravel(np.asarray(times, float)))
        if len(set(self.times)) < len(self.times) or not np.all(np.isfinite(self.times)):
            raise InputError(
                f"The times of '{self.name}' are {self.times}: they must be finite and different."
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(times={self.times})"

    def _powers(self) -> np.ndarray:
        gaps = np.abs(np.subtract.outer(self.times, self.times))
        return gaps / gaps[gaps > 0].min()

    def _correlations(self, angle: Array) -> Array:
        # The square of the closest times is a product, and the other powers are those of |sin|
        # above 2: their second derivatives are finite at zero, where those of (sin²)^p are not.
        powers = self._powers()
        sine = jnp.sin(angle)
        far = jnp.abs(sine) ** (2 * np.maximum(powers, 1.0))
        return jnp.where(powers == 0, 1.0, jnp.where(powers == 1, sine * sine, far))

    def n_parameters(self, d: int) -> int:
        return 2

    def psi(self, theta: Array, d: int) -> Array:
        return theta[0] ** 2 * self._correlations(theta[1])

    def _angle_of(self, Psi: np.ndarray) -> float:
        powers = self._powers()
        closest = [(i, j) for i, j in pairs(len(Psi)) if powers[i, j] == 1]
        return float(np.arcsin(np.sqrt(np.clip(mean_correlation(Psi, closest), 0, 1))))

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.array([np.sqrt(np.mean(np.diag(Psi))), self._angle_of(Psi)])

    def starts(self, variances: Any) -> list[Any]:
        xp = namespace(variances)
        sizes = self._sizes(variances)
        return [xp.append(sizes, np.arcsin(np.sqrt(f))) for f in START_POSITIONS]

    def _sizes(self, variances: Any) -> Any:
        xp = namespace(variances)
        return xp.sqrt(xp.mean(variances))[None]

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return ["sd", "angle"]

    def check(self, d: int, level: str) -> None:
        super().check(d, level)
        if len(self.times) != d:
            raise InputError(
                f"The structure '{self.name}' has {len(self.times)} times, but level '{level}' "
                f"has {d} random effects: give one time for each."
            )

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        xp = namespace(Psi)
        variances = xp.diagonal(Psi)
        uncorrelated = xp.abs(Psi - xp.diag(variances)).max() <= 1e-9 * variances.max()
        return uncorrelated | super().at_bound(Psi, scale)


class HeterogeneousContinuousAR1(ContinuousAR1):
    """One variance each and a correlation ρ^|t − t′|, ρ in [0, 1], at given times.

    θ holds the square roots of the standard deviations, then the angle of `ContinuousAR1`.
    """

    name = "hcar1"
    label = "Heterogeneous continuous first-order autoregressive"
    rugged = True

    def n_parameters(self, d: int) -> int:
        return d + 1

    def psi(self, theta: Array, d: int) -> Array:
        return scale_by(theta[:d], self._correlations(theta[d]))

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.append(np.diag(Psi) ** 0.25, self._angle_of(Psi))

    def _sizes(self, variances: Any) -> Any:
        return variances**0.25

    def parameter_names(self, names: Sequence[str]) -> list[str]:
        return [f"root_sd[{name}]" for name in names] + ["angle"]


def _autoregressive(rho: Array, d: int) -> Array:
    """ρ^|i − j|, shape (d, d), as products: a power has no second derivative at ρ = 0."""
    powers = [jnp.ones_like(rho)]
    for _ in range(d - 1):
        powers.append(powers[-1] * rho)
    positions = np.arange(d)
    return jnp.stack(powers)[np.abs(np.subtract.outer(positions, positions))]
