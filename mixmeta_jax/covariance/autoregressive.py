"""Autoregressive structures: correlation that falls with the distance in position or in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.covariance import natural
from mixmeta_jax.covariance.maps import OneScale, Scaled, power_of_sine, power_of_squared_sine
from mixmeta_jax.covariance.structure import (
    START_POSITIONS,
    Structure,
    angle_between,
    correlation_starts,
    mean_correlation,
    mean_variance,
    pairs,
    with_angle,
)
from mixmeta_jax.errors import InputError

UNCORRELATED = 1e-9
"""Correlation of the two closest times that counts as zero."""


class AR1(OneScale):
    """One variance and a correlation ρ^lag, ρ in [−1, 1], the lag counted in positions.

    θ holds the standard deviation and the angle whose sine is ρ.
    """

    name = "ar1"
    label = "First-order autoregressive"
    min_dim = 2

    def correlation(self, angle: Array, d: int) -> tuple[Array, Array, Array]:
        return power_of_sine(angle, _lags(d))

    def in_correlation(self, angle: np.ndarray, d: int) -> Any:
        return _at_positions(angle, d)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        angle = angle_between(mean_correlation(Psi, pairs(len(Psi), 1)), -1, 1)
        return np.array([np.sqrt(np.mean(np.diag(Psi))), angle])

    def starts(self, variances: Any) -> list[Any]:
        return correlation_starts(mean_variance(variances))


class HeterogeneousAR1(Scaled):
    """One variance each and a correlation ρ^lag, ρ in [−1, 1], the lag counted in positions.

    θ holds the square roots of the standard deviations, then the angle whose sine is ρ.
    """

    name = "har1"
    label = "Heterogeneous first-order autoregressive"
    min_dim = 2

    def correlation(self, angle: Array, d: int) -> tuple[Array, Array, Array]:
        return power_of_sine(angle, _lags(d))

    def in_correlation(self, angle: np.ndarray, d: int) -> Any:
        return _at_positions(angle, d)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        angle = angle_between(mean_correlation(Psi, pairs(len(Psi), 1)), -1, 1)
        return np.append(np.diag(Psi) ** 0.25, angle)

    def starts(self, variances: Any) -> list[Any]:
        return correlation_starts(variances**0.25)


def _at_positions(angle: np.ndarray, d: int) -> Any:
    """`OneScale.in_correlation` of ρ^lag, ρ = sin φ."""
    rho = np.sin(angle)
    return rho, np.zeros(rho.shape, bool), natural.powers(rho, _lags(d))


def _lags(d: int) -> np.ndarray:
    return np.abs(np.subtract.outer(np.arange(d), np.arange(d)))


class _InTime(Structure):
    """A correlation ρ^|t − t′|, ρ in [0, 1], at given times.

    The squared sine of the angle is the correlation of the two closest times: powers of it are then
    at least 1, and ρ = 0 is an ordinary value.

    Parameters
    ----------
    times
        One time per random effect, in the order of Ψ, all different.
    """

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

    def correlation(self, angle: Array, d: int) -> tuple[Array, Array, Array]:
        return power_of_squared_sine(angle, self._powers())

    def in_correlation(self, angle: np.ndarray, d: int) -> Any:
        """`OneScale.in_correlation`: ρ is the correlation one unit of time apart."""
        gaps = np.abs(np.subtract.outer(self.times, self.times))
        closest = np.sin(angle) ** 2
        rho = closest ** (1 / gaps[gaps > 0].min())
        return rho, closest <= UNCORRELATED, natural.powers(rho, gaps)

    def _angle_of(self, Psi: np.ndarray) -> float:
        powers = self._powers()
        closest = [(i, j) for i, j in pairs(len(Psi)) if powers[i, j] == 1]
        return float(np.arcsin(np.sqrt(np.clip(mean_correlation(Psi, closest), 0, 1))))

    def check(self, d: int, level: str) -> None:
        super().check(d, level)
        if len(self.times) != d:
            raise InputError(
                f"The structure '{self.name}' has {len(self.times)} times, but level '{level}' "
                f"has {d} random effects: give one time for each."
            )

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        xp, d = namespace(Psi), len(Psi)
        sizes = xp.abs(Psi * (1 - np.eye(d))[:, :, None]).max((0, 1))
        uncorrelated = sizes <= UNCORRELATED * xp.einsum("iib->ib", Psi).max(0)
        return uncorrelated | super().at_bound(Psi, scale)


class ContinuousAR1(_InTime, OneScale):
    """One variance and a correlation ρ^|t − t′|, ρ in [0, 1], at given times.

    θ holds the standard deviation and an angle whose squared sine is the correlation of the two
    closest times.

    Parameters
    ----------
    times
        One time per random effect, in the order of Ψ, all different.
    """

    name = "car1"
    label = "Continuous first-order autoregressive"

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.array([np.sqrt(np.mean(np.diag(Psi))), self._angle_of(Psi)])

    def starts(self, variances: Any) -> list[Any]:
        sd = mean_variance(variances)
        return [with_angle(sd, float(np.arcsin(np.sqrt(f)))) for f in START_POSITIONS]


class HeterogeneousContinuousAR1(_InTime, Scaled):
    """One variance each and a correlation ρ^|t − t′|, ρ in [0, 1], at given times.

    θ holds the square roots of the standard deviations, then the angle of `ContinuousAR1`.

    Parameters
    ----------
    times
        One time per random effect, in the order of Ψ, all different.
    """

    name = "hcar1"
    label = "Heterogeneous continuous first-order autoregressive"

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.append(np.diag(Psi) ** 0.25, self._angle_of(Psi))

    def starts(self, variances: Any) -> list[Any]:
        root = variances**0.25
        return [with_angle(root, float(np.arcsin(np.sqrt(f)))) for f in START_POSITIONS]
