"""How the covariance of the coefficients moves with the variances, and what these are known to.

With ψ the natural parameters of all levels, Σ_a = ∂Σ/∂ψ_a, W = Σ⁻¹ and V = (XᵀWX)⁻¹,

    ∂V/∂ψ_a = −V P_a V,    P_a = −XᵀWΣ_aWX
    expected information  ½ tr(PΣ_aPΣ_b),    P = W − WXVXᵀW
    observed              yᵀPΣ_aPΣ_bPy − ½ tr(PΣ_aPΣ_b) + ½ tr(PΣ_ab) − ½ yᵀPΣ_abPy
    Kenward and Roger     V_A = V + 2V{Σ_ab I⁻¹_ab (Q_ab − P_aVP_b − ¼R_ab)}V,
                          Q_ab = XᵀWΣ_aWΣ_bWX,    R_ab = XᵀWΣ_abWX

All are sums over outer groups (`outer_groups`), for B data sets of one design at once. They are
taken in coefficients T⁻¹β for which XᵀWX is the identity, so that the scale of the predictors does
not matter: V = TTᵀ.

References
----------
Kenward and Roger (1997), Biometrics 53:983-997; Kenward and Roger (2009), Computational Statistics
and Data Analysis 53:2583-2595.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.covariance.natural import Natural
from mixmeta_jax.design.design import Design
from mixmeta_jax.errors import InputError
from mixmeta_jax.inference.outer_groups import OuterGroups, Piece, outer_groups
from mixmeta_jax.inference.sweep_information import curved, moved_products
from mixmeta_jax.tolerances import DEFINITE

LARGE_GROUP = 400
"""Outcomes of an outer group from which the products come from sweeps: the matrices of a group take
seconds then, as the compilation does."""


@dataclass(frozen=True)
class VarianceInformation:
    """The natural parameters of B data sets, those that are held included, with null entries.

    Attributes
    ----------
    T
        A root of the covariance of the coefficients, V = TTᵀ, shape (B, P, P).
    slopes
        −P_a in the coefficients T⁻¹β, shape (B, n, P, P): ∂V/∂ψ_a = T slopes_a Tᵀ.
    inverse
        I⁻¹, null for parameters that are held, shape (B, n, n); NaN where I is not positive
        definite.
    free
        Which parameters are not held, shape (B, n).
    products
        ½(Q_ab + Q_ba) in the coefficients T⁻¹β, shape (n, n, P, P), where they were made: of one
        data set with large outer groups.
    """

    T: np.ndarray
    slopes: np.ndarray
    inverse: np.ndarray
    free: np.ndarray
    products: np.ndarray | None = None


def variance_information(
    design: Design,
    Psi: Sequence[np.ndarray],
    natural: Sequence[Natural],
    observed: bool = False,
    restricted: bool = True,
) -> VarianceInformation:
    """The information on the natural parameters, and the derivatives of V in them.

    Parameters
    ----------
    design
        The data, arrays of numpy; y, S and the mask may have a leading B.
    Psi
        Ψ of each level, outer first, shape (B, d, d).
    natural
        The natural parameters of each level.
    observed
        Whether the information is the observed one; else that which is expected of REML.
    restricted
        Whether the observed one is of the restricted likelihood.
    """
    if has_large_groups(design):
        return _by_sweeps(design, Psi, natural, observed, restricted)
    return by_groups(design, Psi, natural, observed, restricted)


def has_large_groups(design: Design) -> bool:
    """Whether Σ of an outer group is too large to be formed; only for single data sets."""
    if design.n_sets > 1 or design.y.ndim == 3:
        return False
    return design.k * int(np.bincount(outer_groups(design)).max()) > LARGE_GROUP


def by_groups(
    design: Design,
    Psi: Sequence[np.ndarray],
    natural: Sequence[Natural],
    observed: bool = False,
    restricted: bool = True,
) -> VarianceInformation:
    """`variance_information` from Σ of each outer group."""
    changes = [np.moveaxis(own.slopes, (2, 3), (1, 0)) for own in natural]
    free = np.concatenate([own.free for own in natural]).T
    n = free.shape[1]
    groups = OuterGroups(design, tuple(Psi), orthonormal(design), max(n, 1), outer_groups(design))
    T, solution = gls_root(groups)
    B, P = len(T), T.shape[1]
    slopes: np.ndarray = np.zeros((B, n, P, P))
    traces: np.ndarray = np.zeros((B, n, n))
    products: np.ndarray = np.zeros((B, n, n))
    average: np.ndarray = np.zeros((B, n, n))
    across: np.ndarray = np.zeros((B, n, P))
    rises: list[Any] = [0.0] * len(changes)
    for piece in groups:
        WX = piece.W @ piece.X
        moved = [piece.moved(level, change) for level, change in enumerate(changes)]
        Sigma_a = np.concatenate(_same_sets(moved), 2)
        F = Sigma_a @ WX[:, :, None]  # Σ_aWX, (B, N, n, s, P)
        half = piece.W[:, :, None] @ F
        slopes = slopes + np.einsum("bgsp,bgnsq->bnpq", WX, F, optimize=True)
        products = products + _pairs(F, half)
        middle = piece.W[:, :, None] @ Sigma_a
        traces = traces + _pairs(middle, np.swapaxes(middle, -1, -2))
        if observed:
            e = piece.W @ (piece.y[..., None] - piece.X @ solution[:, None])
            f = (Sigma_a @ e[:, :, None])[..., 0]
            average = average + _pairs(f, (piece.W[:, :, None] @ f[..., None])[..., 0])
            across = across + np.einsum("bgsp,bgns->bnp", WX, f, optimize=True)
            kernel = e @ np.swapaxes(e, -1, -2) - piece.W
            kernel = kernel + WX @ np.swapaxes(WX, -1, -2) if restricted else kernel
            rises = [rise + _within(piece, level, kernel) for level, rise in enumerate(rises)]
    if restricted or not observed:
        traces = traces - 2 * products + np.einsum("bnpq,bmqp->bnm", slopes, slopes)
    information = 0.5 * traces
    if observed:
        average = average - np.einsum("bnp,bmp->bnm", across, across)
        information = average - information - 0.5 * _bend(natural, rises, n)
    return VarianceInformation(T, slopes, inverse_of(information, free), free)


def _by_sweeps(
    design: Design,
    Psi: Sequence[np.ndarray],
    natural: Sequence[Natural],
    observed: bool,
    restricted: bool,
) -> VarianceInformation:
    """The same without Σ, of one data set."""
    found = curved(design, [P[0] for P in Psi], natural, restricted)
    free = np.concatenate([own.free for own in natural]).T
    R = np.swapaxes(np.linalg.inv(np.linalg.cholesky(0.5 * (found.A + found.A.T))), 0, 1)
    slopes = -R.T @ np.moveaxis(found.slopes, 2, 0) @ R
    products = 0.5 * R.T @ np.moveaxis(found.seconds, (2, 3), (0, 1)) @ R
    traces = -found.logdet - 2 * np.einsum("nmpp->nm", products)
    expected = 0.5 * (traces + np.einsum("npq,mqp->nm", slopes, slopes))
    information = (-found.hessian if observed else expected)[None]
    T = (orthonormal(design) @ R)[None]
    return VarianceInformation(T, slopes[None], inverse_of(information, free), free, products)


def kenward_roger_covariance(
    design: Design,
    Psi: Sequence[np.ndarray],
    natural: Sequence[Natural],
    found: VarianceInformation,
) -> np.ndarray:
    """V_A, shape (B, P, P)."""
    total = _corrections(design, Psi, natural, found)
    T = found.T
    V = T @ np.swapaxes(T, -1, -2)
    made = V + 2 * T @ total @ np.swapaxes(T, -1, -2)
    made = np.where(np.isfinite(found.inverse).all((1, 2), keepdims=True), made, np.nan)
    return 0.5 * (made + np.swapaxes(made, -1, -2))


def _corrections(
    design: Design,
    Psi: Sequence[np.ndarray],
    natural: Sequence[Natural],
    found: VarianceInformation,
) -> np.ndarray:
    """Σ_ab I⁻¹_ab (Q_ab − P_aVP_b − ¼R_ab) in the coefficients T⁻¹β, shape (B, P, P)."""
    n = found.free.shape[1]
    # I⁻¹ = KKᵀ: Σ_ab I⁻¹_ab Q_ab has as many terms as there are parameters.
    values, vectors = np.linalg.eigh(np.where(np.isfinite(found.inverse), found.inverse, 0.0))
    K = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
    changes, bends = [], []
    start = 0
    for own in natural:
        stop = start + own.free.shape[0]
        changes.append(np.einsum("ijab,bac->bcij", own.slopes, K[:, start:stop]))
        if own.second is not None:
            inverse = found.inverse[:, start:stop, start:stop]
            bends.append(np.einsum("ijacb,bac->bij", own.second, inverse)[:, None])
        else:
            bends.append(None)
        start = stop
    turned = np.einsum("bnpq,bnm->bmpq", found.slopes, K)
    total = -np.einsum("bnpq,bnqr->bpr", turned, turned)
    if found.products is not None:
        total = total + np.einsum("nm,nmpq->pq", found.inverse[0], found.products)
        if any(bend is not None for bend in bends):
            matrices = [P[0] for P in Psi]
            moves = [
                0 * P if bend is None else bend[0, 0]
                for P, bend in zip(matrices, bends, strict=True)
            ]
            R = np.linalg.solve(orthonormal(design), found.T[0])
            total = total - 0.25 * R.T @ moved_products(design, matrices, moves) @ R
        return total
    groups = OuterGroups(design, tuple(Psi), found.T, max(n, 1), outer_groups(design))
    for piece in groups:
        WX = piece.W @ piece.X
        moved = [piece.moved(level, change) for level, change in enumerate(changes)]
        F = sum(moved) @ WX[:, :, None]
        total = total + np.einsum("bgnsp,bgnsq->bpq", F, piece.W[:, :, None] @ F, optimize=True)
        for level, bend in enumerate(bends):
            if bend is not None:
                R = piece.moved(level, bend)[:, :, 0] @ WX
                total = total - 0.25 * np.einsum("bgsp,bgsq->bpq", WX, R, optimize=True)
    return total


def orthonormal(design: Design) -> np.ndarray:
    """The basis of the coefficients in which the predictors are orthonormal, shape (P, P)."""
    return np.kron(design.basis, np.eye(design.k))


def gls_root(groups: OuterGroups) -> tuple[np.ndarray, np.ndarray]:
    """T with V = TTᵀ, shape (B, P, P), and T⁻¹β̂, shape (B, P, 1).

    From here on the groups have T as their basis. Raises `InputError` where one fit has no T in
    double precision; among several it is NaN.
    """
    A: Any = 0.0
    b: Any = 0.0
    for piece in groups:
        back = np.swapaxes(piece.W @ piece.X, -1, -2)
        A = A + (back @ piece.X).sum(1)
        b = b + (back @ piece.y[..., None]).sum(1)
    L = _lower(0.5 * (A + np.swapaxes(A, -1, -2)))
    root = np.linalg.inv(L)
    groups.basis = groups.basis @ np.swapaxes(root, -1, -2)
    return groups.basis, root @ b


def _lower(A: np.ndarray) -> np.ndarray:
    """Lower Cholesky factors of A, shape (B, P, P); NaN where it has none."""
    try:
        return np.linalg.cholesky(A)
    except np.linalg.LinAlgError:
        if len(A) == 1:
            raise InputError(
                "The information on the coefficients is singular in double precision: predictors "
                "are nearly collinear, or variances of very different sizes. Leave some predictors "
                "out, or rescale."
            ) from None
    made = np.full_like(A, np.nan)
    for own, matrix in zip(made, A, strict=True):
        with suppress(np.linalg.LinAlgError):
            own[:] = np.linalg.cholesky(matrix)
    return made


def _same_sets(moved: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays (B or 1, N, ...) with the same B."""
    B = max(len(own) for own in moved)
    return [np.broadcast_to(own, (B, *own.shape[1:])) for own in moved]


def _pairs(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Σ over groups and entries of left_a right_b, shape (B, n, n), for (B, N, n, ...)."""
    left, right = (values.reshape(*values.shape[:3], -1) for values in (left, right))
    return (left @ np.swapaxes(right, -1, -2)).sum(1)


def _within(piece: Piece, level: int, kernel: np.ndarray) -> np.ndarray:
    """Σ_j Z_jᵀ kernel Z_j over the groups of a level, shape (B, d, d)."""
    same, Z = piece.same[level], piece.Z[level]
    kernel = kernel if same is None else kernel * same
    return (np.swapaxes(Z, -1, -2) @ kernel @ Z).sum(1)


def _bend(natural: Sequence[Natural], rises: list, n: int) -> np.ndarray:
    """⟨2 ∂ℓ/∂Ψ, ∂²Ψ/∂ψ∂ψ⟩, shape (B, n, n)."""
    total = np.zeros((len(rises[0]), n, n))
    start = 0
    for own, rise in zip(natural, rises, strict=True):
        stop = start + own.free.shape[0]
        if own.second is not None:
            bend = np.einsum("ijacb,bij->bac", own.second, rise)
            total[:, start:stop, start:stop] = bend
        start = stop
    return total


def inverse_of(information: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Inverses of the information on the free parameters, null for the others."""
    n = information.shape[-1]
    pair = free[:, :, None] & free[:, None]
    size = np.sqrt(np.abs(np.einsum("bnn->bn", information)))
    size = np.where(free & (size > 0), size, 1.0)
    scale = size[:, :, None] * size[:, None]
    unit = np.where(pair, information / scale, np.eye(n))
    finite: Any = np.isfinite(unit).all((1, 2))
    least = np.linalg.eigvalsh(np.where(finite[:, None, None], unit, np.eye(n)))[:, :1]
    good: Any = finite & (least > DEFINITE).all(1)
    inverse = np.linalg.inv(np.where(good[:, None, None], unit, np.eye(n)))
    inverse = np.where(pair, inverse / scale, 0.0)
    return np.where(good[:, None, None], 0.5 * (inverse + np.swapaxes(inverse, 1, 2)), np.nan)
