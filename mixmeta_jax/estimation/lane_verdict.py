"""The verdict of `convergence.judge` on many lanes at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.estimation.convergence import ASCENT, FLAT, FLOOR
from mixmeta_jax.estimation.lanes import NOWHERE, Lanes
from mixmeta_jax.model.structure import Structure
from mixmeta_jax.status import Status


@dataclass(frozen=True)
class Verdicts:
    """Status of each lane's stop; where the likelihood still rises, and in which direction.

    Attributes
    ----------
    status, rising
        Shape (b,).
    ascent
        Shape (n_θ, b).
    """

    status: np.ndarray
    rising: np.ndarray
    ascent: np.ndarray


def judge_lanes(
    structures: Sequence[Structure],
    lanes: Lanes,
    Psi: Sequence[np.ndarray],
    scales: Sequence[np.ndarray],
    units: np.ndarray,
    gradient_tol: float,
    slopes_at: Callable[[np.ndarray], tuple[np.ndarray, ...]],
) -> Verdicts:
    """Judge the ends of the lanes.

    Along the directions in which Ψ does not move, and only there can a false zero lie, the
    information that led the lane is the observed one.

    Parameters
    ----------
    structures
        Of each level, outer first.
    lanes, Psi
        The ends, and Ψ of each level there, shape (d, d, b).
    scales
        Per level: the variance of each random effect that counts as one unit of size, (b, d).
    units
        Size of each parameter at such variances, shape (n_θ, b).
    gradient_tol
        Norm at which the gradient counts as zero.
    slopes_at
        Gives ∂Ψ/∂θ of each level at some θ of shape (n_θ, c).
    """
    information = np.moveaxis(lanes.at.information, -1, 0)
    finite = np.isfinite(lanes.at.value) & np.isfinite(lanes.norm) & (lanes.phase != NOWHERE)
    finite &= np.isfinite(information).all((1, 2))
    information = np.where(finite[:, None, None], information, np.eye(len(units)))
    diagonal = np.diagonal(np.moveaxis(lanes.at.guide, -1, 0), axis1=1, axis2=2)
    diagonal = np.where(finite[:, None], diagonal, 1.0)
    root = np.sqrt(np.maximum(diagonal, FLOOR / units.T**2))
    curvature, directions = np.linalg.eigh(information / (root[:, :, None] * root[:, None]))
    size = units.T
    natural, axes = np.linalg.eigh(information * (size[:, :, None] * size[:, None]))
    flat = np.abs(natural) < FLAT
    status = np.full(len(finite), int(Status.CONVERGED))
    status[_at_bound(structures, Psi, scales)] = Status.BOUNDARY
    doubtful = np.flatnonzero(flat.any(1) & finite)
    if len(doubtful):
        moving = _moving(
            slopes_at(lanes.theta[:, doubtful]),
            [v[doubtful] for v in scales],
            axes[doubtful],
            flat[doubtful],
            size[doubtful],
        )
        status[doubtful[moving]] = Status.NOT_IDENTIFIED
    far = lanes.norm > 10 * gradient_tol
    status[far] = Status.MAX_ITER
    status[~finite] = Status.NOT_FINITE
    rising = (curvature[:, 0] < -ASCENT) & finite & ~far
    ascent = directions[:, :, 0] / root
    ascent = ascent / np.abs(ascent / size).max(1, keepdims=True)
    return Verdicts(status, rising, ascent.T)


def _at_bound(
    structures: Sequence[Structure], Psi: Sequence[np.ndarray], scales: Sequence[np.ndarray]
) -> np.ndarray:
    """Whether any Ψ lies on the boundary of what its structure allows, shape (b,)."""
    bound = np.zeros(len(scales[0]), bool)
    for structure, P, scale in zip(structures, Psi, scales, strict=True):
        matrices = np.moveaxis(P, -1, 0)
        if type(structure).at_bound is not Structure.at_bound:
            pairs = zip(matrices, scale, strict=True)
            bound |= np.array([structure.at_bound(one, own) for one, own in pairs])
            continue
        variances = np.diagonal(matrices, axis1=1, axis2=2)
        null: Any = (variances <= 1e-9 * scale).any(1)
        bound |= null
        if P.shape[0] > 1:
            sd = np.sqrt(np.where(null[:, None] | ~(variances > 0), 1.0, variances))
            scaled = matrices / (sd[:, :, None] * sd[:, None])
            scaled = np.where(np.isfinite(scaled), scaled, 0.0)
            bound |= ~null & (np.linalg.eigvalsh(scaled)[:, 0] <= 1e-7)
    return bound


def _moving(
    slopes: tuple[np.ndarray, ...],
    scales: list[np.ndarray],
    axes: np.ndarray,
    flat: np.ndarray,
    size: np.ndarray,
) -> np.ndarray:
    """Whether Ψ changes along a direction in which the likelihood does not, shape (c,)."""
    directions = axes * size[:, :, None]
    directions = directions / np.abs(directions / size[:, :, None]).max(1, keepdims=True)
    moves = np.zeros(len(size), bool)
    first = 0
    for slope, scale in zip(slopes, scales, strict=True):
        n = slope.shape[2]
        entries = np.moveaxis(slope, -1, 0) / np.sqrt(scale[:, :, None] * scale[:, None])[..., None]
        along = np.abs(entries.reshape(len(size), -1, n) @ directions[:, first : first + n])
        moves |= ((along.max(1) > 1e-4) & flat).any(1)
        first += n
    return moves
