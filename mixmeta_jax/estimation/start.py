"""Starting values: scale-free, and several where the likelihood may have several maxima."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.design.design import Design
from mixmeta_jax.tolerances import COLLINEAR, PRODUCTS_RIDGE

SEVERAL_SIZE = 2_000
"""Outcomes, observed or not, up to which every start is followed and a fit may be restarted;
beyond, the start of the highest likelihood, or one of its own near the maximum."""

SEVERAL_PRODUCTS = 100_000
"""Multiplications in the products of the predictors up to which every start is followed."""

MANY_PARAMETERS = 100
"""Parameters up to which every start is followed, in one order of Λ, until it ends."""

SMALL_LEVEL = 0.03
"""Part of the moment estimate from which a level starts that may hold next to no variance."""

ONE_BY_ONE = 8
"""Predictors up to which they are taken out of the outcomes one by one."""


def follows_all(design: Design) -> bool:
    """Whether every start of a single fit is followed."""
    outcomes = design.n * design.k
    few = outcomes <= SEVERAL_SIZE and outcomes * design.p**2 * design.k <= SEVERAL_PRODUCTS
    return few and sum(design.n_parameters) <= MANY_PARAMETERS


def starting_variances(design: Design) -> list[Array]:
    """A moment estimate of the variance of each random effect, shape (d, B) per level, outer first.

    For each outcome alone, the heterogeneity that DerSimonian and Laird find around a weighted
    regression; shared evenly among the levels and their predictors, each in the units of its own
    predictor. Never zero: where there is no excess, a small part of the typical error variance.
    Numpy's arrays give numpy's; a design with arrays of JAX, which may be traced, gives JAX's.
    """
    errors = design.S if isinstance(design.S, tuple) else (design.S,)
    matrices = [own for s in design.structures for own in vars(s).values() if hasattr(own, "ndim")]
    # An array of JAX may be in a structure alone, whose ``starts`` it must suit.
    xp = namespace(design.y, design.X, design.mask, *design.Z, *errors, *matrices)
    X = xp.asarray(design.X) @ design.basis
    sets = [_with_sets(xp.asarray(a)) for a in (design.y, design.mask, error_variances(design), X)]
    with np.errstate(all="ignore"):  # a fit that overflows ends as NOT_FINITE
        excess = heterogeneity(*sets)
    return shared_among(excess, [_with_sets(xp.asarray(Z)) for Z in design.Z])


def _with_sets(values: Array) -> Array:
    """Values of one data set, or of all, with a leading axis of the data sets."""
    return values[None] if values.ndim == 2 else values


def shared_among(variances: Array, Z: Sequence[Array]) -> list[Array]:
    """Variances (k, B) of the outcomes shared among levels and predictors, (k·q, B) per level."""
    xp = namespace(variances, *Z)
    shared = []
    for predictors in Z:
        size = (predictors**2).sum(1) / predictors.shape[1]  # (B, q)
        size = xp.where(size > 0, size, 1.0).T
        per_predictor = variances[None] / size[:, None]
        count = len(Z) * predictors.shape[2]
        shared.append(per_predictor.reshape(-1, per_predictor.shape[2]) / count)
    return shared


def heterogeneity(y: Array, mask: Array, variances: Array, X: Array) -> Array:
    """The excess of each outcome's residual sum of squares, as a variance, shape (k, B).

    Parameters
    ----------
    y, mask, variances
        Outcomes, which of them are observed, and their error variances, shape (B or 1, n, k).
    X
        Predictors, shape (B or 1, n, p).
    """
    xp = namespace(y, mask, variances, X)
    p = X.shape[2]
    # The long axis last, in numpy's memory too: sums along it are several times faster there.
    lay = np.ascontiguousarray if xp is np else xp.asarray
    y, seen, variances, X = (lay(xp.swapaxes(a, 1, 2)) for a in (y, mask, variances, X))
    variances = xp.where(seen, variances, 1.0)
    if xp is not np or not variances.all():
        # An error of zero weighs as the mean of its outcome: a start need not be right.
        count = xp.maximum(seen.sum(2, keepdims=True), 1)
        typical = xp.where(seen, variances, 0.0).sum(2, keepdims=True) / count
        variances = xp.where(variances > 0, variances, xp.where(typical > 0, typical, 1.0))
    w = xp.where(seen, 1 / variances, 0.0)
    root = xp.sqrt(w)
    left = xp.where(seen, y, 0.0) * root  # (B, k, n)
    if p <= ONE_BY_ONE:
        columns = [X[:, a, None] * root for a in range(p)]
        lengths = [xp.sqrt((column**2).sum(2)) for column in columns]
        for a, column in enumerate(columns):  # Gram and Schmidt, modified
            rest = xp.sqrt((column**2).sum(2))
            adds = rest > COLLINEAR * lengths[a]
            unit = column * xp.where(adds, 1 / xp.where(adds, rest, 1.0), 0.0)[..., None]
            for b in range(a + 1, p):
                columns[b] = columns[b] - unit * (unit * columns[b]).sum(2)[..., None]
            left = left - unit * (unit * left).sum(2)[..., None]
    else:
        columns = X[:, None] * root[:, :, None]  # (B, k, p, n)
        products = columns @ xp.swapaxes(columns, 2, 3)
        ridge = PRODUCTS_RIDGE * xp.einsum("bkpp->bk", products)[..., None, None] * np.eye(p)
        beta = xp.linalg.solve(products + ridge, columns @ left[..., None])
        left = left - (xp.swapaxes(beta, 2, 3) @ columns)[:, :, 0]
    n, total = seen.sum(2), w.sum(2)
    share = w / xp.where(total > 0, total, 1.0)[:, :, None]
    spread = (w * (1 - share)).sum(2)
    excess = (left**2).sum(2) - xp.maximum(n - p, 0)
    excess = xp.where(spread > 0, excess / xp.where(spread > 0, spread, 1.0), 0.0)
    return xp.maximum(excess, 0.05 * n / xp.where(total > 0, total, 1.0)).T


def error_variances(design: Design) -> Array:
    """The diagonal of S, shape (n, k), or (B, n, k) where each data set has its own."""
    if not isinstance(design.S, tuple):
        xp = namespace(design.S)
        return xp.diagonal(xp.asarray(design.S), axis1=-2, axis2=-1)
    n, k = design.n, design.k
    xp = namespace(*design.S, *(bucket.rows for bucket in design.layout.buckets))
    places, diagonals = [], []
    for bucket, blocks in zip(design.layout.buckets, design.S, strict=True):
        diagonal = xp.diagonal(xp.asarray(blocks), axis1=1, axis2=2)  # (N, n_b·k)
        diagonals.append(diagonal.reshape(-1, k))
        places.append(bucket.rows.T.ravel())
    # Every unit has one place; the empty ones, numbered n, come last.
    order = xp.argsort(xp.concatenate(places))[:n]
    return xp.concatenate(diagonals)[order]


def starting_parameters(structures: Sequence[Structure], variances: Sequence[Array]) -> Array:
    """Parameters θ to start from, the best guess first, shape (n_starts, n_θ, B).

    Every level takes each of its structure's own starts (several correlations, where it has one)
    at the moment estimate; then the levels are made small, one at a time and all together.
    """
    xp = namespace(*variances)
    B = max(v.shape[1] for v in variances)
    wide = [v if v.shape[1] == B else xp.broadcast_to(v, (len(v), B)) for v in variances]
    own = [s.starts_of_sets(v) for s, v in zip(structures, wide, strict=True)]
    n_own = max(len(candidates) for candidates in own)
    starts = [
        xp.concatenate([candidates[min(c, len(candidates) - 1)] for candidates in own])
        for c in range(n_own)
    ]
    for shares in _shares(len(own)):
        parts = [
            s.starts_of_sets(v * share)[0]
            for s, v, share in zip(structures, wide, shares, strict=True)
        ]
        starts.append(xp.concatenate(parts))
    return xp.stack(starts)


def covariance_start(design: Design, variances: list[np.ndarray]) -> np.ndarray | None:
    """A start for one level of a general Ψ and one random predictor; near the maximum.

    The moments of the residuals r of ordinary least squares, outcome by outcome and pair by pair:
    E r rᵀ = S + z² Ψ. Negative eigenvalues are replaced by a small part of the starting variances,
    since a path that begins at a null variance stays there. Numpy's arrays only; shape (1, n_θ, 1),
    or None for other models.
    """
    if len(design.Z) != 1 or design.Z[0].shape[1] != 1 or not design.structures[0].from_moments:
        return None
    if isinstance(design.S, tuple):
        return None
    seen, X = np.asarray(design.mask), design.X @ design.basis
    y = np.where(seen, design.y, 0.0)
    if design.complete:
        beta = np.linalg.lstsq(X.T @ X, X.T @ y)[0]
    else:
        products = np.einsum("na,nb,no->oab", X, X, seen, optimize=True)
        beta = (np.linalg.pinv(products) @ (X.T @ y).T[:, :, None])[:, :, 0].T
    z = design.Z[0]
    r = np.where(seen, y - X @ beta, 0.0) * z
    pairs = seen * z**2
    weight = pairs.T @ pairs
    if not (weight > 0).all():
        return None
    errors = np.tensordot(z[:, 0] ** 2, np.where(np.isfinite(design.S), design.S, 0.0), 1)
    Psi = (r.T @ r - errors) / weight
    sd = np.sqrt(variances[0][:, 0])
    values, axes = np.linalg.eigh(Psi / np.outer(sd, sd))
    root = sd[:, None] * axes * np.sqrt(np.maximum(values, SMALL_LEVEL))
    return design.structures[0].theta(root @ root.T)[None, :, None]


def natural_units(starts: Array) -> Array:
    """Size of each parameter, shape (n_θ, B): its largest among the starts, never zero."""
    xp = namespace(starts)
    sizes = xp.abs(starts).max(0)
    return xp.where(sizes > 0, sizes, sizes.max(0))


@functools.cache
def _shares(n_levels: int) -> list[np.ndarray]:
    everywhere = np.full(n_levels, SMALL_LEVEL)
    if n_levels == 1:
        return [everywhere]
    return [*np.where(np.eye(n_levels, dtype=bool), SMALL_LEVEL, 1.0), everywhere]
