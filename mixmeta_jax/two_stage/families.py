"""Families of outcomes with their canonical links, of which the scores are y − μ.

A family says what the mean μ is of the linear predictor η, the variance function V(μ) = dμ/dη, and
the deviance; weights multiply. The counts of a binomial outcome are given as parts of the trials,
which are weights then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from scipy.special import gammaln, xlogy

from mixmeta_jax.arrays import Array


@dataclass(frozen=True)
class Family:
    """A family of distributions.

    Attributes
    ----------
    name
        What users call it.
    mean, variance, deviance, start, link
        μ(η); V(μ); the deviance of y at η; a first μ from y; η(μ). Each takes the namespace first.
    saturated
        −2 log L where μ = y, of y, weights and trials: what the deviance leaves out of −2 log L.
    dispersed
        Whether the dispersion is estimated, by Pearson's statistic; otherwise it is 1.
    """

    name: str
    mean: Callable[..., Array]
    variance: Callable[..., Array]
    deviance: Callable[..., Array]
    start: Callable[..., Array]
    link: Callable[..., Array]
    saturated: Callable[..., float]
    dispersed: bool

    def criterion(
        self, deviance: float, saturated: float, dispersion: float, n: int, p: int
    ) -> float:
        """Akaike's information criterion, or its quasi-likelihood form −2 log L + 2 p φ.

        Parameters
        ----------
        deviance, saturated
            −2 log L is their sum, but for a normal distribution, whose variance is estimated.
        dispersion
            φ; 1 where it is not estimated.
        n, p
            Rows and columns.
        """
        if self.name == "gaussian":
            return n * (np.log(2 * np.pi * deviance / n) + 1) + saturated + 2 * (p + 1)
        return deviance + saturated + 2 * p * dispersion


def _identity(xp: ModuleType, eta: Array) -> Array:
    return eta


def _ones(xp: ModuleType, mu: Array) -> Array:
    return xp.ones_like(mu)


def _square(xp: ModuleType, y: Array, eta: Array) -> Array:
    return (y - eta) ** 2


def _exponential(xp: ModuleType, eta: Array) -> Array:
    return xp.exp(eta)


def _counts(xp: ModuleType, y: Array, eta: Array) -> Array:
    saturated = xp.where(y > 0, y * (xp.log(xp.where(y > 0, y, 1.0)) - 1.0), 0.0)
    return 2.0 * (xp.exp(eta) - y * eta + saturated)


def _above_zero(xp: ModuleType, y: Array) -> Array:
    return y + 0.1


def _saturated_counts(y: np.ndarray, weights: np.ndarray, trials: np.ndarray) -> float:
    return 2.0 * float((weights * (gammaln(y + 1) + y - xlogy(y, y))).sum())


def _saturated_parts(y: np.ndarray, weights: np.ndarray, trials: np.ndarray) -> float:
    events, others = trials * y, trials * (1 - y)
    ways = gammaln(trials + 1) - gammaln(events + 1) - gammaln(others + 1)
    logarithm = ways + xlogy(events, y) + xlogy(others, 1 - y)
    return -2.0 * float((weights / trials * logarithm).sum())


def _weights_alone(y: np.ndarray, weights: np.ndarray, trials: np.ndarray) -> float:
    return -float(np.log(weights).sum())


def _logarithm(xp: ModuleType, mu: Array) -> Array:
    return xp.log(mu)


def _logistic(xp: ModuleType, eta: Array) -> Array:
    return 0.5 * (1.0 + xp.tanh(0.5 * eta))


def _bernoulli(xp: ModuleType, mu: Array) -> Array:
    return mu * (1.0 - mu)


def _parts(xp: ModuleType, y: Array, eta: Array) -> Array:
    def self_information(p: Array) -> Array:
        return xp.where(p > 0, p * xp.log(xp.where(p > 0, p, 1.0)), 0.0)

    saturated = self_information(y) + self_information(1.0 - y)
    return 2.0 * (xp.logaddexp(0.0, eta) - y * eta + saturated)


def _towards_half(xp: ModuleType, y: Array) -> Array:
    return (y + 0.5) / 2.0


def _logit(xp: ModuleType, mu: Array) -> Array:
    return xp.log(mu / (1.0 - mu))


def _counting(name: str, dispersed: bool) -> Family:
    start, saturated = _above_zero, _saturated_counts
    return Family(name, _exponential, _identity, _counts, start, _logarithm, saturated, dispersed)


def _in_parts(name: str, dispersed: bool) -> Family:
    start, saturated = _towards_half, _saturated_parts
    return Family(name, _logistic, _bernoulli, _parts, start, _logit, saturated, dispersed)


FAMILIES = {
    "quasipoisson": _counting("quasipoisson", True),
    "poisson": _counting("poisson", False),
    "gaussian": Family(
        "gaussian", _identity, _ones, _square, _identity, _identity, _weights_alone, True
    ),
    "binomial": _in_parts("binomial", False),
    "quasibinomial": _in_parts("quasibinomial", True),
}
"""By name."""

OF_COUNTS = ("quasipoisson", "poisson")
OF_PARTS = ("binomial", "quasibinomial")
"""Families of counts, and of counts among trials."""
