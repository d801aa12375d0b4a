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

import jax
import numpy as np

from mixmeta_jax.model.structure import Structure, namespace
from mixmeta_jax.status import Status

ASCENT = 1e-5
"""Negative curvature, relative to the size of the information, that counts as a way up."""

FLAT = 1e-7
"""Information along a direction, in natural units, below which the likelihood is constant there."""

FLOOR = 1e-6
"""Information on a parameter, in its natural unit, below which it counts as none."""

MOVES = 1e-4
"""Change of Ψ, in units of the scales, that counts as one."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Verdict:
    """What a stop is.

    Attributes
    ----------
    status
        Code of the `Status` of the point itself; it stands if there turns out to be no way up.
    rising
        Whether the likelihood still rises.
    ascent
        The direction in θ in which it does, its largest component one natural unit, shape (n_θ,).
    """

    status: Any
    rising: Any
    ascent: Any


def judge(
    structures: Sequence[Structure],
    value: Any,
    norm: Any,
    information: Any,
    guide: Any,
    Psi: Sequence[Any],
    slopes: Sequence[Any],
    scales: Sequence[Any],
    units: Any,
    gradient_tol: Any,
) -> Verdict:
    """Judge a stop of the optimiser; numpy's arrays give numpy's, JAX's may be traced.

    Parameters
    ----------
    structures
        Of each level, outer first.
    value, norm
        Log-likelihood and scale-free norm of its gradient.
    information
        Observed information, or a matrix that equals it along the directions in which Ψ does not
        move, where alone a false zero can lie; shape (n_θ, n_θ).
    guide
        The positive definite matrix that scales it, shape (n_θ, n_θ).
    Psi, slopes
        Per level: Ψ, shape (d, d), and ∂Ψ/∂θ in its own parameters, shape (d, d, n_θ of the level).
    scales
        Per level: the variance of each random effect that counts as one unit of size.
    units
        Size of each parameter at such variances, shape (n_θ,).
    gradient_tol
        Norm at which the gradient counts as zero.
    """
    xp = namespace(value, norm, information, *Psi)
    finite = xp.isfinite(value) & xp.isfinite(norm) & xp.isfinite(information).all()
    n = len(units)
    information = xp.where(finite, information, np.eye(n))
    size = xp.where(finite, xp.diagonal(guide), 1.0)
    root = xp.sqrt(xp.maximum(size, FLOOR / units**2))
    curvature, directions = xp.linalg.eigh(information / (root[:, None] * root))
    stationary = norm <= gradient_tol
    at_bound = xp.zeros((), bool)
    for structure, P, scale in zip(structures, Psi, scales, strict=True):
        at_bound = at_bound | structure.at_bound(xp.where(finite, P, np.eye(len(scale))), scale)
    status = xp.where(at_bound, int(Status.BOUNDARY), int(Status.CONVERGED))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # A stop that is not finite is judged by that, whatever comes out here.
        moved = _moved_where_flat(information, slopes, scales, units) > MOVES
    status = xp.where(moved, int(Status.NOT_IDENTIFIED), status)
    status = xp.where(stationary, status, int(Status.MAX_ITER))
    status = xp.where(finite, status, int(Status.NOT_FINITE))
    ascent = directions[:, 0] / root
    rising = finite & stationary & (curvature[0] < -ASCENT)
    return Verdict(status, rising, ascent / xp.abs(ascent / units).max())


def _moved_where_flat(
    information: Any, slopes: Sequence[Any], scales: Sequence[Any], units: Any
) -> Any:
    """How far Ψ moves along a direction in which the likelihood does not; 0 where there is none."""
    xp = namespace(information)
    natural, axes = xp.linalg.eigh(information * (units[:, None] * units))
    constant = xp.abs(natural) < FLAT
    if xp is np and not constant.any():
        return 0.0
    flat = axes * units[:, None] * constant
    length = xp.abs(flat / units[:, None]).max(0)
    flat = flat / xp.where(length > 0, length, 1.0)
    furthest, first = xp.zeros(()), 0
    for slope, scale in zip(slopes, scales, strict=True):
        own = flat[first : first + slope.shape[2]]
        entries = slope / xp.sqrt(scale[:, None] * scale)[:, :, None]
        moved = xp.abs(entries.reshape(len(scale) ** 2, slope.shape[2]) @ own)
        furthest = xp.maximum(furthest, moved.max(initial=0.0))
        first += slope.shape[2]
    return furthest
