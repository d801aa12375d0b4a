"""The verdict on where the optimiser stopped, judged in Ψ and apart from the optimiser.

At a null variance the gradient in θ vanishes whatever the slope in Ψ, because every map θ → Ψ is
flat there. The observed information in θ sees the difference: along the direction that would make
the variance positive its curvature is the slope in Ψ. A stationary point is therefore accepted only
where the observed information is positive semidefinite, which at a bound is the condition of
Karush, Kuhn and Tucker; otherwise the direction of ascent is returned, to go on from there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixmeta_jax.data.design import Design
from mixmeta_jax.status import Status

ASCENT = 1e-5
"""Negative curvature, relative to the diagonal of the information, that counts as a way up."""

FLAT = 1e-9
"""Curvature below which the likelihood counts as constant along a direction."""


@dataclass(frozen=True)
class Verdict:
    """The status of a stop, and a direction in θ in which the likelihood still rises (or None)."""

    status: Status
    ascent: np.ndarray | None = None


def judge(
    design: Design,
    Psi: tuple[np.ndarray, ...],
    scales: list[np.ndarray],
    information: np.ndarray,
    diagonal: np.ndarray,
    jacobian: np.ndarray,
    norm: float,
    gradient_tol: float,
) -> Verdict:
    """Judge a stop of the optimiser.

    Parameters
    ----------
    design, Psi
        The model, and Ψ of each level, outer first.
    scales
        Per level: the variance of each random effect that counts as one unit of size.
    information
        Observed information in θ, shape (n_θ, n_θ).
    diagonal
        Scale of the information: the diagonal of the guiding matrix, shape (n_θ,).
    jacobian
        ∂Ψ/∂θ, the entries of all levels in units of ``scales``, shape (entries, n_θ).
    norm
        Scale-free norm of the gradient.
    gradient_tol
        Norm at which the gradient counts as zero.
    """
    if not np.isfinite(norm) or not np.isfinite(information).all():
        return Verdict(Status.NOT_FINITE)
    if norm > 10 * gradient_tol:
        return Verdict(Status.MAX_ITER)
    if not len(diagonal):
        return Verdict(Status.CONVERGED)
    root = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    curvature, directions = np.linalg.eigh(information / np.outer(root, root))
    if curvature[0] < -ASCENT:
        return Verdict(Status.MAX_ITER, directions[:, 0] / root)
    flat = directions[:, curvature < FLAT] / root[:, None]
    moves = jacobian @ flat
    if moves.size and np.abs(moves).max() > 1e-4 * max(np.abs(jacobian / root).max(), 1e-300):
        return Verdict(Status.NOT_IDENTIFIED)
    at_bound = any(
        structure.at_bound(P, scale)
        for structure, P, scale in zip(design.structures, Psi, scales, strict=True)
    )
    return Verdict(Status.BOUNDARY if at_bound else Status.CONVERGED)
