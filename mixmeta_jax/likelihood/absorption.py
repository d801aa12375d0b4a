"""Random effects of groups integrated out of the products of their columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, Float, Ruled, namespace, shaped, tree, widened
from mixmeta_jax.likelihood.algebra import gram, identity, matmul, transpose
from mixmeta_jax.likelihood.elimination import back_substituted, semidefinite_factor, whitener


@tree
@dataclass(frozen=True)
class Absorbed:
    """What it takes to integrate random effects out; see `absorb`.

    Attributes
    ----------
    K, T
        (Ψ⁻¹ + D)⁻¹, the covariance of b given the data, and ZᵀΣ⁻¹Z, shape (d, d, G, B).
    S, KF
        ZᵀΣ⁻¹U and K F, shape (d, r, G, B).
    half
        A root of K times F: what the effects explain is its square; see `explained`.
    along
        (I + ΨD)⁻¹B, where its D is not null, shape (d, r, G, B).
    logdet
        log|Σ| − log|Σ₀|, shape (G, B).
    """

    K: Array
    T: Array
    S: Array
    KF: Array
    half: Array
    along: Array
    logdet: Array


@Ruled
@shaped
def absorb(
    Psi: Float[Array, "d d #B"],
    D: Float[Array, "d d G #B"],
    F: Float[Array, "d r G #B"],
    B: Float[Array, "d b #G #B"],
) -> Absorbed:
    """Integrate the random effects b ~ N(0, Ψ) of each group out: Σ = Σ₀ + ZΨZᵀ.

    No inverse of Ψ is taken: a singular Ψ, or Ψ = 0, is an ordinary value. Nor is T, S or (I +
    ΨD)⁻¹B a difference of larger numbers where DΨ is large: with D = LLᵀ they are products with
    (I + LᵀΨL)⁻¹.

    Parameters
    ----------
    Psi
        Covariance of the random effects, shape (d, d, B).
    D, F
        ZᵀΣ₀⁻¹Z and ZᵀΣ₀⁻¹U of every group, shape (d, d, G, B) and (d, r, G, B).
    B
        Coefficients along Z, constants, shape (d, r, G, B); r may be 0.
    """
    xp = namespace(Psi, D, F, B)
    d = len(Psi)
    Psi = Psi[:, :, None]
    factor = semidefinite_factor(Psi)
    R, logdet = whitener(identity(d) + matmul(transpose(factor), matmul(D, factor)))
    root = matmul(R, transpose(factor))
    D = widened(D, (d, d, *F.shape[2:]))
    wide = semidefinite_factor(xp.concatenate([D, transpose(F)]))
    L, g = wide[:d], transpose(wide[d:])
    R, _ = whitener(identity(d) + matmul(transpose(L), matmul(Psi, L)))
    small = matmul(R, transpose(L))
    along = B
    if B.shape[1]:
        along = back_substituted(L, matmul(transpose(R), matmul(small, B)))
    half = matmul(root, F)
    return Absorbed(
        matmul(transpose(root), root),
        matmul(transpose(small), small),
        matmul(transpose(small), matmul(R, g)),
        matmul(transpose(root), half),
        half,
        along,
        logdet,
    )


@absorb.defjvp
def _absorb_jvp(primals: tuple, tangents: tuple) -> tuple:
    (Psi, D, F, B), (dPsi, dD, dF, _) = primals, tangents
    xp = namespace(Psi, D, F, B)
    rest = np.broadcast_shapes(D.shape[2:], F.shape[2:], B.shape[2:])
    own = xp.broadcast_to(identity(len(Psi)), (*D.shape[:2], *rest))
    r = B.shape[1]
    wide = xp.concatenate([xp.broadcast_to(B, (*B.shape[:2], *rest)), own], 1)
    at = absorb(Psi, D, F, wide)
    J = transpose(at.along[:, r:])  # (I + DΨ)⁻¹, on what D is not null on
    at = replace(at, along=at.along[:, :r])
    dPsi = dPsi[:, :, None]
    whole = identity(len(Psi)) - matmul(D, at.K)
    dK = matmul(transpose(whole), matmul(dPsi, whole)) - matmul(at.K, matmul(dD, at.K))
    dT = matmul(J, matmul(dD, transpose(J))) - matmul(at.T, matmul(dPsi, at.T))
    dS = matmul(J, dF - matmul(dD, at.KF)) - matmul(at.T, matmul(dPsi, at.S))
    dalong = xp.zeros_like(at.along)
    if r:
        dalong = -matmul(transpose(J), matmul(dPsi, matmul(at.T, B))) - matmul(
            at.K, matmul(dD, at.along)
        )
    slope = (at.T * dPsi).sum((0, 1)) + (at.K * dD).sum((0, 1))
    dKF = matmul(dK, F) + matmul(at.K, dF)
    return at, Absorbed(dK, dT, dS, dKF, xp.zeros_like(at.half), dalong, slope)


@Ruled
@shaped
def explained(
    F: Float[Array, "d r #G #B"], KF: Float[Array, "d r #G #B"], half: Float[Array, "d r #G #B"]
) -> Float[Array, "r r B"]:
    """FᵀKF summed over the groups, shape (r, r, B), from F, K F and `Absorbed.half`.

    As a square: K may be large along a direction in which F is small, so that K F cancels. The root
    of K has no derivative where it is singular; that of the product is the rule's.
    """
    rows = transpose(half)
    return gram(rows, rows)


@explained.defjvp
def _explained_jvp(primals: tuple, tangents: tuple) -> tuple:
    (F, KF, half), (dF, dKF, _) = primals, tangents
    slope = gram(transpose(dF), transpose(KF)) + gram(transpose(F), transpose(dKF))
    return explained(F, KF, half), slope


@Ruled
@shaped
def explained_by_group(
    F: Float[Array, "d r #G #B"],
    KF: Float[Array, "d r #G #B"],
    half: Float[Array, "d r #G #B"],
    n: Any,
) -> Float[Array, "n r G B"]:
    """The first n rows of FᵀKF of every group, shape (n, r, G, B); n is that of an empty array."""
    return matmul(transpose(half[:, : len(n)]), half)


@explained_by_group.defjvp
def _explained_by_group_jvp(primals: tuple, tangents: tuple) -> tuple:
    (F, KF, half, n), (dF, dKF, _, _) = primals, tangents
    first = len(n)
    slope = matmul(transpose(dF[:, :first]), KF) + matmul(transpose(F[:, :first]), dKF)
    return explained_by_group(F, KF, half, n), slope
