"""The coefficients of all locations as the second stage predicts them, with their joint errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.choices import ErrorMethod
from mixmeta_jax.design.draws import semidefinite_root, stream
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.predictions import blup_targets
from mixmeta_jax.fits.simulation import check_draws
from mixmeta_jax.inference.joint_effects import JointEffects, joint_effects
from mixmeta_jax.inference.prediction import predicted, quadratic_form
from mixmeta_jax.two_stage.locations import labels_of


@dataclass(frozen=True)
class LocationCoefficients:
    """Coefficients of n locations: their best linear unbiased predictions.

    Attributes
    ----------
    labels
        The locations.
    b
        Shape (n, k).
    V
        Covariance of each with itself, shape (n, k, k).
    pooled, pooled_V
        Those at the mean of the locations' predictors, shape (k,) and (k, k).
    effects, vcov, exact
        What their joint covariance is made of: `JointEffects`, the covariance of β̂, and whether
        that of β̂ and the random effects counts.
    """

    labels: list[Any]
    b: np.ndarray
    V: np.ndarray
    pooled: np.ndarray
    pooled_V: np.ndarray
    effects: JointEffects
    vcov: np.ndarray
    exact: bool

    @property
    def n(self) -> int:
        """Number of locations."""
        return len(self.b)

    @property
    def k(self) -> int:
        """Number of coefficients of a location."""
        return self.b.shape[1]

    def drawn(self, count: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
        """Draws from the joint distribution of all locations, one location after the other.

        Yields
        ------
        i, draws
            Number of the location, and its coefficients, shape (count, k): draw s of one belongs
            to draw s of all others.
        """
        numbers = stream(seed, 0)
        for rows, errors in self.effects.drawn(self.vcov, False, self.exact, count, numbers):
            for place, i in enumerate(rows.tolist()):
                yield i, self.b[i] + errors[:, place]

    def pooled_drawn(self, count: int, seed: int) -> np.ndarray:
        """Draws of the pooled coefficients, shape (count, k)."""
        numbers = stream(seed, 1).standard_normal((count, self.k))
        return self.pooled + numbers @ semidefinite_root(self.pooled_V)


def location_coefficients(
    fit: FittedModel, level: int | str | None, se_method: ErrorMethod
) -> LocationCoefficients:
    """The coefficients of all locations of a fit.

    Parameters
    ----------
    fit
        From `pool`.
    level, se_method
        As in `Fit.blup`.

    Raises
    ------
    InputError
        For an unknown level or ``se_method``, and a label that two rows have.
    """
    exact = gates.choice(se_method, "se_method", ErrorMethod) == "exact"
    depth, frame, estimate = fit.level_number(level), fit.frame, fit.estimate
    labels, k = labels_of(fit), frame.k
    targets, offset = blup_targets(frame, depth, "unit")
    effects = joint_effects(fit.design, fit.Psi_by_level, estimate.beta, targets)
    b = effects.mean + offset + predicted(frame.X, estimate.beta, k)
    V = effects.by_row(estimate.vcov, False, exact)
    return LocationCoefficients(
        labels, b, V, *pooled_coefficients(fit), effects, estimate.vcov, exact
    )


def pooled_coefficients(fit: FittedModel) -> tuple[np.ndarray, np.ndarray]:
    """Those at the mean of the locations' predictors, shape (k,), and their covariance, (k, k)."""
    frame, estimate = fit.frame, fit.estimate
    centre = frame.X.mean(0, keepdims=True)
    pooled = predicted(centre, estimate.beta, frame.k)[0] + frame.offset.mean(0)
    return pooled, quadratic_form(centre, estimate.vcov, frame.k)[0]


def check_simulation(n: Any, seed: Any, size: int) -> int:
    """How many draws of so many numbers are asked for: at least two, for an interval."""
    gates.whole(n, "n", 2)
    return check_draws(n, seed, 0, size, "n")
