"""The verdict on where the optimiser stopped, judged in Ψ and apart from the optimiser.

At a null variance the gradient in θ vanishes whatever the slope in Ψ, because every map θ → Ψ is
flat there. The observed information in θ sees the difference: along the direction that would make
the variance positive its curvature is the slope in Ψ. A stationary point is therefore accepted only
where the observed information is positive semidefinite, which at a bound is the condition of
Karush, Kuhn and Tucker; otherwise the direction of ascent is returned, to go on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg

from mixmeta_jax.data.design import Design
from mixmeta_jax.status import Status

ASCENT = 1e-5
"""Negative curvature, relative to the size of the information, that counts as a way up."""

FLAT = 1e-7
"""Information along a direction, in natural units, below which the likelihood is constant there."""

FLOOR = 1e-6
"""Information on a parameter, in its natural unit, below which it counts as none."""


@dataclass(frozen=True)
class Verdict:
    """The status of a stop, and a direction in θ in which the likelihood still rises (or None).

    The status is that of the point itself; it stands if there turns out to be no way up.
    """

    status: Status
    ascent: np.ndarray | None = None


def judge(
    design: Design, best: Any, scales: Sequence[np.ndarray], units: np.ndarray, gradient_tol: float
) -> Verdict:
    """Judge a stop of the optimiser.

    Parameters
    ----------
    design
        The model.
    best
        The end of one path: a `newton.Maximum` of numpy arrays without the axis of the starts.
    scales
        Per level: the variance of each random effect that counts as one unit of size.
    units
        Size of each parameter at such variances, shape (n_θ,).
    gradient_tol
        Norm at which the gradient counts as zero.
    """
    path = best.path
    information, norm = path.at.observed, float(path.norm)
    finite = np.isfinite(path.at.value) and np.isfinite(norm) and np.isfinite(information).all()
    if not finite:
        return Verdict(Status.NOT_FINITE)
    if norm > 10 * gradient_tol:
        return Verdict(Status.MAX_ITER)
    root = np.sqrt(np.maximum(np.diag(path.at.guide), FLOOR / units**2))
    curvature, directions = np.linalg.eigh(information / np.outer(root, root))
    natural, axes = np.linalg.eigh(information * np.outer(units, units))
    flat = axes[:, np.abs(natural) < FLAT] * units[:, None]
    at_bound = any(
        structure.at_bound(Psi, scale)
        for structure, Psi, scale in zip(design.structures, best.Psi, scales, strict=True)
    )
    if _moves(best, scales, flat, units):
        status = Status.NOT_IDENTIFIED
    else:
        status = Status.BOUNDARY if at_bound else Status.CONVERGED
    if curvature[0] >= -ASCENT:
        return Verdict(status)
    ascent = directions[:, 0] / root
    return Verdict(status, ascent / np.abs(ascent / units).max())


def _moves(best: Any, scales: Sequence[np.ndarray], flat: np.ndarray, units: np.ndarray) -> bool:
    """Whether Ψ changes along a direction in which the likelihood does not."""
    if not flat.size:
        return False
    entries = [
        (slope / np.sqrt(np.outer(scale, scale))[:, :, None]).reshape(-1, slope.shape[2])
        for slope, scale in zip(best.slopes, scales, strict=True)
    ]
    flat = flat / np.abs(flat / units[:, None]).max(0)
    return bool(np.abs(linalg.block_diag(*entries) @ flat).max() > 1e-4)
