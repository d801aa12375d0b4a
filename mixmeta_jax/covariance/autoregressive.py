"""Autoregressive structures: correlation that falls with the distance in position or in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.covariance import natural
from mixmeta_jax.covariance.maps import OneScale, Scaled, power_of_sine, power_of_squared_sine
from mixmeta_jax.covariance.structure import (
    START_POSITIONS,
    Structure,
    angle_between,
    mean_correlation,
    pairs,
)
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.tolerances import UNCORRELATED


class _ByLag(Structure):
    """A correlation ρ^lag, ρ in [−1, 1], the lag counted in positions."""

    min_dim = 2

    def correlation(self, angle: Array, d: int) -> tuple[Array, Array, Array]:
        return power_of_sine(angle, _lags(d))

    def in_correlation(self, angle: np.ndarray, d: int) -> Any:
        """`OneScale.in_correlation` of ρ^lag, ρ = sin φ."""
        rho = np.sin(angle)
        return rho, np.zeros(rho.shape, bool), natural.powers(rho, _lags(d))

    def angle_of(self, Psi: np.ndarray) -> float:
        return angle_between(mean_correlation(Psi, pairs(len(Psi), 1)), -1, 1)


def _lags(d: int) -> np.ndarray:
    return np.abs(np.subtract.outer(np.arange(d), np.arange(d)))


class AR1(_ByLag, OneScale):
    """One variance and a correlation ρ^lag, ρ in [−1, 1], the lag counted in positions.

    θ holds the standard deviation and the angle whose sine is ρ.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> theta = np.array([2.0, np.arcsin(0.5)])  # variance 4, correlation 0.5
    >>> mx.AR1().psi(theta, 3).round(4)
    array([[4., 2., 1.],
           [2., 4., 2.],
           [1., 2., 4.]])
    """

    name = "ar1"
    label = "First-order autoregressive"


class HeterogeneousAR1(_ByLag, Scaled):
    """One variance each and a correlation ρ^lag, ρ in [−1, 1], the lag counted in positions.

    θ holds the square roots of the standard deviations, then the angle whose sine is ρ.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> theta = np.array([1.0, 2.0**0.5, 1.0, np.arcsin(0.5)])  # deviations 1, 2, 1; ρ 0.5
    >>> mx.HeterogeneousAR1().psi(theta, 3).round(4)
    array([[1.  , 1.  , 0.25],
           [1.  , 4.  , 1.  ],
           [0.25, 1.  , 1.  ]])
    """

    name = "har1"
    label = "Heterogeneous first-order autoregressive"


class _InTime(Structure):
    """A correlation ρ^|t − t′|, ρ in [0, 1], at given times.

    The squared sine of the angle is the correlation of the two closest times: powers of it are then
    at least 1, and ρ = 0 is an ordinary value.
    """

    min_dim = 2
    angles = tuple(np.arcsin(np.sqrt(START_POSITIONS)))

    def __init__(self, times: Sequence[float]):
        values = gates.numbers(times, f"times of '{self.name}'", ("d",))
        self.times = tuple(values.tolist())
        if len(set(self.times)) < len(self.times):
            raise InputError(
                f"times of '{self.name}' are {shown(self.times)}: they must be different."
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

    def angle_of(self, Psi: np.ndarray) -> float:
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

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> theta = np.array([2.0, np.arcsin(0.5**0.5)])  # variance 4; 0.5 from 3 to 6
    >>> mx.ContinuousAR1(times=[3, 6, 12]).psi(theta, 3).round(4)
    array([[4. , 2. , 0.5],
           [2. , 4. , 1. ],
           [0.5, 1. , 4. ]])
    """

    name = "car1"
    label = "Continuous first-order autoregressive"


class HeterogeneousContinuousAR1(_InTime, Scaled):
    """One variance each and a correlation ρ^|t − t′|, ρ in [0, 1], at given times.

    θ holds the square roots of the standard deviations, then the angle of `ContinuousAR1`.

    Parameters
    ----------
    times
        One time per random effect, in the order of Ψ, all different.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> theta = np.array([1.0, 2.0**0.5, 1.0, np.arcsin(0.5**0.5)])
    >>> mx.HeterogeneousContinuousAR1(times=[3, 6, 12]).psi(theta, 3).round(4)
    array([[1.   , 1.   , 0.125],
           [1.   , 4.   , 0.5  ],
           [0.125, 0.5  , 1.   ]])
    """

    name = "hcar1"
    label = "Heterogeneous continuous first-order autoregressive"
