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

from mixmeta_jax.arrays import Array, Float, namespace, shaped, tree
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.status import Status
from mixmeta_jax.tolerances import ASCENT, FLAT, FLOOR, MOVES, NULL_VARIANCE


@tree
@dataclass(frozen=True)
class Verdict:
    """What B stops are.

    Attributes
    ----------
    status
        Code of the `Status` of the point itself; it stands if there turns out to be no way up.
    rising
        Whether the likelihood still rises.
    ascent
        The direction in θ in which it does, its largest component one natural unit, (n_θ, B).
    """

    status: Array
    rising: Array
    ascent: Array


@shaped
def judge(
    structures: Sequence[Structure],
    value: Float[Array, " B"],
    norm: Float[Array, " B"],
    information: Float[Array, "theta theta B"],
    preconditioner: Float[Array, "theta theta B"],
    Psi: Sequence[Float[Array, "_ _ #B"]],
    slopes: Sequence[Float[Array, "_ _ _ #B"]],
    scales: Sequence[Float[Array, " _ #B"]],
    units: Float[Array, " theta #B"],
    gradient_tol: Any,
) -> Verdict:
    """Judge the stops of the optimiser; B of them, along the last axis.

    Parameters
    ----------
    structures
        Of each level, outer first.
    value, norm
        Log-likelihood and scale-free norm of its gradient, shape (B,).
    information
        Observed information, or a matrix that equals it along the directions in which Ψ does not
        move, where alone a false zero can lie; shape (n_θ, n_θ, B).
    preconditioner
        The positive definite matrix that scales it, shape (n_θ, n_θ, B).
    Psi, slopes
        Per level: Ψ, shape (d, d, B), and ∂Ψ/∂θ in its own parameters, (d, d, n_θ of it, B).
    scales
        Per level: the variance of each random effect that counts as one unit of size, (d, B).
    units
        Size of each parameter at such variances, shape (n_θ, B).
    gradient_tol
        Norm at which the gradient counts as zero.
    """
    xp = namespace(value, information, *Psi)
    root = xp.sqrt(xp.maximum(xp.einsum("aab->ab", preconditioner), FLOOR / units**2))
    scaled = information / (root[:, None] * root)
    natural = information * (units[:, None] * units)
    finite = xp.isfinite(value) & xp.isfinite(norm) & xp.isfinite(scaled + natural).all((0, 1))
    scaled, natural = (
        xp.where(finite, A, np.eye(len(units))[:, :, None]) for A in (scaled, natural)
    )
    root = xp.where(finite, root, 1.0)
    curvature, directions = xp.linalg.eigh(_stacked(scaled))
    stationary = norm <= gradient_tol
    at_bound: Any = xp.zeros(value.shape, bool)
    for structure, P, slope, scale in zip(structures, Psi, slopes, scales, strict=True):
        inside = xp.where(finite, P, np.eye(len(scale))[:, :, None])
        at_bound = at_bound | structure.at_bound(inside, scale)
        if structure.at_zeros:
            sizes = xp.abs(slope / xp.sqrt(scale[:, None] * scale)[:, :, None]).max((0, 1))
            at_bound = at_bound | (sizes <= np.sqrt(NULL_VARIANCE)).any(0)
    status = xp.where(at_bound, int(Status.BOUNDARY), int(Status.CONVERGED))
    # A stop that is not finite is judged by that, whatever comes out here.
    moved = _moved_where_flat(natural, slopes, scales, units) > MOVES
    status = xp.where(moved, int(Status.NOT_IDENTIFIED), status)
    status = xp.where(stationary, status, int(Status.MAX_ITER))
    status = xp.where(finite, status, int(Status.NOT_FINITE))
    ascent = directions[:, :, 0].T / root
    rising = finite & stationary & (curvature[:, 0] < -ASCENT)
    return Verdict(status, rising, ascent / xp.abs(ascent / units).max(0))


def _stacked(matrices: Array) -> Array:
    """(n, n, B) as (B, n, n)."""
    return namespace(matrices).moveaxis(matrices, -1, 0)


def _moved_where_flat(
    natural: Array, slopes: Sequence[Array], scales: Sequence[Array], units: Array
) -> Any:
    """How far Ψ moves along a direction in which the likelihood does not; 0 where there is none.

    By the information in natural units, shape (n_θ, n_θ, B).
    """
    xp = namespace(natural)
    natural, axes = xp.linalg.eigh(_stacked(natural))
    constant = xp.abs(natural) < FLAT
    if xp is np and not constant.any():
        return 0.0
    flat = axes * units.T[:, :, None] * constant[:, None]  # (B, n_θ, directions)
    length = xp.abs(flat / units.T[:, :, None]).max(1)
    flat = flat / xp.where(length > 0, length, 1.0)[:, None]
    furthest, first = xp.zeros(len(natural)), 0
    for slope, scale in zip(slopes, scales, strict=True):
        own = flat[:, first : first + slope.shape[2]]
        entries = slope / xp.sqrt(scale[:, None] * scale)[:, :, None]
        moved = xp.abs(xp.einsum("ijab,bad->bijd", entries, own))
        furthest = xp.maximum(furthest, moved.max((1, 2, 3), initial=0.0))
        first += slope.shape[2]
    return furthest
