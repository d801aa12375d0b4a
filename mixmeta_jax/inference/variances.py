"""Estimates of variances and correlations, with what the likelihood says of their error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import chdtri, ndtri

from mixmeta_jax.arrays import Array
from mixmeta_jax.covariance.held import Held
from mixmeta_jax.covariance.holding import free_parameters
from mixmeta_jax.covariance.natural import Natural
from mixmeta_jax.covariance.parameters import gradient_of, value_of
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.tensors import Tensors, arrange
from mixmeta_jax.estimation.executors import executed
from mixmeta_jax.estimation.start import starting_variances
from mixmeta_jax.inference.held_maxima import Place
from mixmeta_jax.inference.profiles import bracketed
from mixmeta_jax.likelihood.likelihood import prepared, profile
from mixmeta_jax.likelihood.sweep import upward
from mixmeta_jax.tolerances import CORRELATION_AT_BOUND, NULL_VARIANCE


@dataclass(frozen=True)
class Components:
    """Natural parameters of a fit, n of them, outer levels first.

    Attributes
    ----------
    places
        Which they are.
    estimates
        Their values, shape (n,); NaN for a correlation beside a null variance.
    bound
        −1 where the estimate is at the lower bound, 1 at the upper, 0 inside, shape (n,).
    scale
        A variance of the size to be expected, shape (n,).
    """

    places: tuple[Place, ...]
    estimates: np.ndarray
    bound: np.ndarray
    scale: np.ndarray


def origin_of(structure: Structure) -> Structure:
    """A structure without what is held."""
    return structure.origin if isinstance(structure, Held) else structure


def components(design: Design, Psi: Sequence[np.ndarray]) -> Components:
    """The natural parameters that are not held, at Ψ of each level, (d, d)."""
    places, estimates, bound, sizes = [], [], [], []
    scales = [scale[:, 0] for scale in starting_variances(design)]
    for level, (structure, P, scale) in enumerate(zip(design.structures, Psi, scales, strict=True)):
        origin, d = origin_of(structure), len(P)
        for parameter in free_parameters(structure, d):
            value = float(value_of(origin, parameter, P))
            own = value_of(origin, parameter, np.diag(scale)) if parameter.is_variance else 1.0
            size = float(own)
            if parameter.is_variance:
                at = -1 * (value <= NULL_VARIANCE * size)
            else:
                at = (value >= parameter.upper - CORRELATION_AT_BOUND) - 1 * (
                    value <= parameter.lower + CORRELATION_AT_BOUND
                )
            places.append(Place(level, parameter))
            estimates.append(value)
            bound.append(int(at))
            sizes.append(size)
    return Components(
        tuple(places), np.array(estimates, float), np.array(bound, int), np.array(sizes, float)
    )


def component_gradients(
    design: Design,
    places: Sequence[Place],
    Psi: Sequence[np.ndarray],
    natural: Sequence[Natural],
) -> np.ndarray:
    """∂η/∂ψ in what `covariance.natural` takes for derivatives, shape (n, n_ψ).

    NaN for a parameter that has no value.
    """
    rows = []
    for place in places:
        origin = origin_of(design.structures[place.level])
        E = gradient_of(origin, place.parameter, Psi[place.level])
        changes = [E if level == place.level else 0 * P for level, P in enumerate(Psi)]
        rows.append(along(changes, natural))
    return np.array(rows)


def along(changes: Sequence[np.ndarray], natural: Sequence[Natural]) -> np.ndarray:
    """Σ_ℓ ⟨E_ℓ, ∂Ψ_ℓ/∂ψ⟩ for E of shape (d, d) per level, shape (n_ψ,)."""
    parts = [
        np.einsum("ij,ija->a", E, own.slopes[..., 0])
        for E, own in zip(changes, natural, strict=True)
    ]
    return np.concatenate(parts)


def delta_interval(
    kind: str, estimate: np.ndarray, se: np.ndarray, conf_level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals that are symmetric for log η ("log"), atanh η ("z") or logit η ("logit")."""
    half = ndtri((1 + conf_level) / 2) * se
    with np.errstate(all="ignore"):
        if kind == "log":
            factor = np.exp(half / estimate)
            return estimate / factor, estimate * factor
        if kind == "z":
            centre, half = np.arctanh(estimate), half / (1 - estimate**2)
            return np.tanh(centre - half), np.tanh(centre + half)
        centre, half = np.log(estimate / (1 - estimate)), half / (estimate * (1 - estimate))
        return tuple(1 / (1 + np.exp(-(centre + sign * half))) for sign in (-1, 1))


# Generalised Q


def q_interval(design: Design, conf_level: float) -> tuple[float, float, bool]:
    """Interval of the one variance of a model by its generalised Q; whether it is empty.

    Q(τ²) = (y − Xβ̂)ᵀΣ⁻¹(y − Xβ̂) falls in τ² and is χ² with n − P degrees of freedom at the true one
    (Viechtbauer 2007). Empty, with ends of zero, where even Q(0) is below the lower quantile.
    """
    tensors = arrange(design)
    structure, d = design.structures[0], design.dims[0]
    unit = np.array(structure.matrix if structure.name == "prop" else np.eye(d))  # type: ignore[attr-defined]
    df = float(design.mask.sum() - design.p * design.k)
    upper, lower = (float(chdtri(df, a)) for a in ((1 - conf_level) / 2, (1 + conf_level) / 2))

    def Q(sd: np.ndarray) -> np.ndarray:
        Psi = unit[:, :, None] * sd**2
        return np.asarray(executed(_generalised_q, design, Psi, tensors))

    crossing = []
    at_zero = float(Q(np.zeros(1))[0])
    for quantile in (upper, lower):
        if at_zero <= quantile:
            crossing.append(0.0)
            continue
        far = np.sqrt(starting_variances(design)[0].mean(0) / unit.trace() * d)
        while Q(far)[0] > quantile:
            far = 2 * far

        def excess(_: Any, sd: np.ndarray, quantile: float = quantile) -> np.ndarray:
            return Q(sd) / quantile - 1

        near, at_near = np.zeros(1), np.array([at_zero / quantile - 1])
        crossing.append(float(bracketed(excess, near, far, at_near, excess(None, far))[0] ** 2))
    return crossing[0], crossing[1], at_zero < lower


def _generalised_q(Psi: Array, tensors: Tensors) -> Array:
    data, _ = prepared(tensors)
    up = upward((Psi,), data)
    return profile(up).deviance - up.logdet
