"""I² by level and outcome, from variances and from covariances of coefficients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.layout import Layout
from mixmeta_jax.design.tensors import Tensors, arrange
from mixmeta_jax.estimation.executors import executed
from mixmeta_jax.inference.effects import at_units
from mixmeta_jax.likelihood.likelihood import prepared, profile
from mixmeta_jax.likelihood.sweep import downward, upward


def typical_variances(design: Design) -> np.ndarray:
    """s² = (n − p) / tr(P) of each outcome, P that of the fixed-effects model, shape (k,).

    The trace is over the outcome's own places of P = S⁻¹ − S⁻¹X(XᵀS⁻¹X)⁻¹XᵀS⁻¹, and n counts them
    (Higgins & Thompson 2002, with the full S).
    """
    plain = design.without_levels()
    diagonal = executed(_projection, plain, arrange(plain), plain.layout, n=design.n)
    trace = np.where(design.mask, np.asarray(diagonal)[..., 0], 0.0).sum(0)
    return (design.mask.sum(0) - design.p) / trace


def _projection(tensors: Tensors, layout: Layout, *, n: int) -> Array:
    """The diagonal of P at the units, shape (n, k, 1)."""
    data, _ = prepared(tensors)
    up = upward((), data)
    solution = profile(up)
    down = downward(up, data, solution.beta, solution.root)
    xp = namespace(solution.beta)
    own = [xp.einsum("iinb->inb", P) for P in down.precisions]
    return at_units(layout, own, n, data.k)


def weights_of_variance(design: Design) -> list[np.ndarray]:
    """A with ⟨A, Ψ⟩ the mean of zᵀΨz over the units with the outcome, shape (k, d, d) per level.

    Of random intercepts the variance itself.
    """
    k, weights = design.k, []
    counts = np.maximum(design.mask.sum(0), 1)
    for Z in design.Z:
        q = Z.shape[1]
        mean = np.einsum("na,nb,no->oab", Z, Z, design.mask) / counts[:, None, None]
        own = np.zeros((k, q, k, q, k))
        for o in range(k):
            own[o, :, o, :, o] = mean[o]
        weights.append(own.reshape(k, q * k, q * k))
    return weights


def level_variances(weights: Sequence[np.ndarray], Psi: Sequence[np.ndarray]) -> np.ndarray:
    """Variance of each level and outcome at Ψ of shape (..., d, d): (..., L, k)."""
    parts = [np.einsum("oij,...ij->...o", A, P) for A, P in zip(weights, Psi, strict=True)]
    return np.stack(parts, -2)


def shares(variances: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """I² of each level, then of all together, as shares: (..., L + 1, k) from (..., L, k)."""
    total = variances.sum(-2, keepdims=True)
    return np.concatenate([variances, total], -2) / (total + typical)


def share_gradients(variances: np.ndarray, slopes: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """∂I²/∂ψ, shape (L + 1, k, n_ψ), from ∂σ²/∂ψ of shape (L, k, n_ψ)."""
    whole = variances.sum(0) + typical
    moved = slopes.sum(0)
    own = slopes / whole[:, None] - (variances / whole / whole)[..., None] * moved
    total = moved * (typical / whole / whole)[:, None]
    return np.concatenate([own, total[None]])


def ratios(V: np.ndarray, V_fixed: np.ndarray, k: int) -> np.ndarray:
    """R² = (|V| / |V_F|)^(1/p) of all coefficients, then of each outcome: shape (..., 1 + k).

    Jackson, White & Riley (2012): the covariance of the coefficients with random effects against
    that without.
    """
    found = []
    for block in coefficient_blocks(V.shape[-1], k):
        own, fixed = V[..., block[:, None], block], V_fixed[block[:, None], block]
        with np.errstate(all="ignore"):
            log = np.linalg.slogdet(own)[1] - np.linalg.slogdet(fixed)[1]
        found.append(np.exp(log / len(block)))
    return np.stack(found, -1)


def ratio_gradients(V: np.ndarray, V_fixed: np.ndarray, slopes: np.ndarray, k: int) -> np.ndarray:
    """∂I²/∂ψ of I² = 1 − 1/R², shape (1 + k, n_ψ), from ∂V/∂ψ of shape (P, P, n_ψ)."""
    R2, rows = ratios(V, V_fixed, k), []
    for size, block in zip(R2, coefficient_blocks(len(V), k), strict=True):
        inverse = np.linalg.inv(V[np.ix_(block, block)])
        moved = np.einsum("ab,bat->t", inverse, slopes[np.ix_(block, block)])
        rows.append(moved / len(block) / size)
    return np.array(rows)


def coefficient_blocks(P: int, k: int) -> list[np.ndarray]:
    """The coefficients of all outcomes, then of each."""
    return [np.arange(P), *(np.arange(o, P, k) for o in range(k))]
