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
from mixmeta_jax.covariance.parameters import gradient_of, value_of
from mixmeta_jax.covariance.structure import NULL_VARIANCE, Structure
from mixmeta_jax.design.design import Design, parameters_by_level
from mixmeta_jax.design.tensors import Tensors, arrange
from mixmeta_jax.estimation.executors import executed
from mixmeta_jax.estimation.newton import evaluate
from mixmeta_jax.estimation.start import starting_variances
from mixmeta_jax.inference.held_maxima import Place
from mixmeta_jax.inference.profiles import AT_BOUND, bracketed
from mixmeta_jax.likelihood.algebra import matmul, transpose
from mixmeta_jax.likelihood.likelihood import prepared, profile
from mixmeta_jax.likelihood.sweep import upward

STEP = 0.01
"""Step of the differences of the gradient, in natural units of θ: with seven points its error is
1e-12 of the information, half of it rounding."""

WEIGHTS = (45 / 60, -9 / 60, 1 / 60)
"""Of the central differences over one, two and three steps."""

NO_INFORMATION = 1e-9
"""Information along a direction, relative to the most, below which there is none."""

PATHS = 64
"""Points at which the gradient is taken at once."""


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
                at = (value >= parameter.upper - AT_BOUND) - 1 * (
                    value <= parameter.lower + AT_BOUND
                )
            places.append(Place(level, parameter))
            estimates.append(value)
            bound.append(int(at))
            sizes.append(size)
    return Components(
        tuple(places), np.array(estimates, float), np.array(bound, int), np.array(sizes, float)
    )


def component_gradients(
    design: Design, places: Sequence[Place], Psi: Sequence[np.ndarray], theta: np.ndarray
) -> np.ndarray:
    """∂η/∂θ at one θ, shape (n, n_θ); NaN for a parameter that has no value."""
    J, first = np.zeros((len(places), len(theta))), 0
    levels = parameters_by_level(design.structures, design.dims, theta)
    for level, (structure, own, d) in enumerate(levels):
        slopes = np.asarray(structure.slopes(own[:, None], d))[..., 0]
        for row, place in enumerate(places):
            if place.level == level:
                E = gradient_of(origin_of(structure), place.parameter, Psi[level])
                J[row, first : first + len(own)] = np.einsum("ij,ijt->t", E, slopes)
        first += len(own)
    return J


@dataclass(frozen=True)
class Local:
    """The likelihood around an estimate.

    Attributes
    ----------
    information
        Observed information on θ, shape (n_θ, n_θ).
    covariance
        Its inverse along the directions on which there is any.
    vcov_slopes
        ∂V/∂θ of the covariance of the coefficients, in the user's predictors, (P, P, n_θ).
    """

    information: np.ndarray
    covariance: np.ndarray
    vcov_slopes: np.ndarray


def local(design: Design, method: str, theta: np.ndarray) -> Local:
    """Observed information on θ, by differences of the exact gradient, sixth order."""
    n = len(theta)
    scales = [scale[:, 0] for scale in starting_variances(design)]
    units = _units(design, theta, scales)
    moves = np.array([1, 2, 3, -1, -2, -3]) * STEP
    points = (
        theta[:, None]
        + np.eye(n)[:, :, None].repeat(6, 2).reshape(n, -1) * np.tile(moves, n) * units[:, None]
    )
    tensors = arrange(design)
    gradients, covariances = [], []
    for start in range(0, points.shape[1], PATHS):
        part = points[:, start : start + PATHS]
        g, V = executed(_gradients, design, part, tensors, restricted=method == "reml")
        gradients.append(np.asarray(g))
        covariances.append(np.broadcast_to(V, (*V.shape[:2], part.shape[1])))
    weights = np.array([*WEIGHTS, *(-w for w in WEIGHTS)]) / STEP

    def slopes(values: list[np.ndarray]) -> np.ndarray:
        whole = np.concatenate(values, -1)
        return whole.reshape(*whole.shape[:-1], n, 6) @ weights / units

    information = -slopes(gradients)
    information = 0.5 * (information + information.T)
    T = np.kron(design.basis, np.eye(design.k))
    P = len(T)
    V = np.einsum("ab,bct,dc->adt", T, slopes(covariances)[:P, :P], T)
    return Local(information, _inverse(information, units), V)


def _gradients(theta: Array, tensors: Tensors, *, restricted: bool) -> tuple[Array, Array]:
    data, _ = prepared(tensors)
    at = evaluate(theta, data, restricted)
    return at.gradient, matmul(transpose(at.root), at.root)


def _units(design: Design, theta: np.ndarray, scales: Sequence[np.ndarray]) -> np.ndarray:
    """Size of each parameter: its own, or that of a start where it is small."""
    parts, first = [], 0
    for structure, d, scale in zip(design.structures, design.dims, scales, strict=True):
        n = structure.n_parameters(d)
        starts = np.stack([np.asarray(start) for start in structure.starts(scale)])
        size = np.abs(starts).max(0)
        size = np.where(size > 0, size, size.max(initial=0.0) or 1.0)
        parts.append(np.maximum(size, np.abs(theta[first : first + n])))
        first += n
    return np.concatenate(parts)


def _inverse(information: np.ndarray, units: np.ndarray) -> np.ndarray:
    scaled = information * np.outer(units, units)
    size = np.sqrt(np.maximum(np.abs(np.diag(scaled)), 1e-300))
    values, axes = np.linalg.eigh(scaled / np.outer(size, size))
    kept = values > NO_INFORMATION * values.max(initial=0.0)
    axes = axes[:, kept] * (units / size)[:, None]
    return axes / values[kept] @ axes.T


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
        return tuple(1 / (1 + np.exp(-(centre + sign * half))) for sign in (-1, 1))  # type: ignore[return-value]


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
