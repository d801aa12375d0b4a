"""Moment estimators of Ψ for any number of outcomes: ``mm`` and ``vc``; and the fixed effects.

Here W_i is S_i⁻¹ with zeros for missing outcomes, R_i the indicator of the observed ones,
X_i = x_iᵀ ⊗ I_k, and G = (Σ X_iᵀ W_i X_i)⁻¹.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mixmeta_jax.estimation.moment_data import (
    OUT_OF_RANGE,
    MomentData,
    both_observed,
    diagonals,
    over_units,
    spread_to_units,
    transposed,
)
from mixmeta_jax.tolerances import (
    FULL_LEVERAGE,
    INFORMATION_CONDITION,
    MOMENT_CONDITION,
    NO_MOMENTS,
    RELATIVE_CHANGE,
)

KRONECKER_NUMBERS = 2**18
"""Size of the Kronecker products of units that are in memory at once."""


def jackson(data: MomentData) -> np.ndarray:
    """Jackson, White, Riley (2013): Ψ before clipping, shape (B, k, k).

    vec(Q - Σ B_ii) = (Σ_ij B_jiᵀ ⊗ A_ij) vec Ψ, where A_ij = δ_ij W_i - U_i G U_jᵀ,
    B_ji = δ_ij R_i - U_j G V_iᵀ, U_i = W_i X_i and V_i = R_i X_i. The double sum is

        Σ R_i ⊗ W_i - Σ R_i ⊗ U_i G U_iᵀ - Σ V_i G U_iᵀ ⊗ W_i
        + (Σ V_i ⊗ U_i) (G ⊗ G) (Σ U_j ⊗ U_j)ᵀ,

    four sums over units.
    """
    B, n, k = data.y.shape
    p = data.X.shape[2]
    W, _, G, residuals = gls(data, np.zeros((B, k, k)))
    R = data.seen.astype(float)
    eye = np.eye(k)

    once = np.zeros((B, k, k, k, k))  # the sums over i = j, as (row, row, column, column)
    trace = np.zeros((B, k, k))  # Σ B_ii
    VU = np.zeros((B, p * p, k**3))  # Σ x x R_a W_cf
    UU = np.zeros((B, p * p, k**4))  # Σ x x W_be W_dg
    chunk = max(1, KRONECKER_NUMBERS // (B * k**4))
    for start in range(0, n, chunk):
        rows = slice(start, start + chunk)
        x, w, r = data.X[:, rows], W[:, rows], R[:, rows]
        m = r.shape[1]
        xx = (x[..., None] * x[:, :, None]).reshape(B, m, p * p)
        flat = w.reshape(B, m, k * k)
        spread = spread_to_units(x, G)
        UGU = w @ spread @ w
        VGU = r[..., None] * (spread @ w)
        free = transposed(r) @ (flat - UGU.reshape(flat.shape))
        once += free.reshape(B, k, k, 1, k) * eye[:, None, :, None]
        leverage = transposed(VGU.reshape(flat.shape)) @ flat
        once -= leverage.reshape(B, k, k, k, k).swapaxes(2, 3)
        trace += r.sum(1)[:, :, None] * eye - transposed(VGU.sum(1))
        VU += transposed(xx) @ (r[..., None] * flat[:, :, None]).reshape(B, m, k**3)
        UU += transposed(xx) @ (flat[..., None] * flat[:, :, None]).reshape(B, m, k**4)
    G = G.reshape(B, p, k, p, k)
    twice = np.einsum(
        "zuvacf,zuawe,zvfsg,zwsbedg->zacbd",
        VU.reshape(B, p, p, k, k, k),
        G,
        G,
        UU.reshape(B, p, p, k, k, k, k),
        optimize=True,
    )
    Q = transposed((W @ residuals[..., None])[..., 0]) @ residuals
    # rows and columns of the system run over vec, which stacks columns: (column, row)
    system = (once + twice).reshape(B, k * k, k * k)
    size = np.abs(diagonals(system))
    scale = np.sqrt(np.where(size > 0, size, 1.0))
    bound = (transposed(R) @ diagonals(W)).reshape(B, -1)  # the diagonal if β were known
    condition = np.linalg.cond(system / (scale[:, :, None] * scale[:, None]))
    data.refuse(
        (size <= NO_MOMENTS * bound).any(1) | (condition > MOMENT_CONDITION),
        "The moments do not identify Psi: two outcomes are reported together in too few units, "
        "or there are no more units than predictors; use method 'reml' with a structure of "
        "fewer parameters.",
    )
    solved = np.linalg.solve(system, transposed(Q - trace).reshape(B, -1, 1))
    return transposed(solved.reshape(B, k, k))


def berkey(
    data: MomentData, adjust: bool, count: str, max_iter: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Berkey et al. (1998): Ψ, whether it was clipped, iterations, whether they converged.

    Data sets that have ended are set aside.
    """
    B, _, k = data.y.shape
    Psi, clipped = np.zeros((B, k, k)), np.zeros(B, bool)
    n_iter, converged = np.full(B, max_iter), np.zeros(B, bool)
    left = np.arange(B)
    for iteration in range(1, max_iter + 1):
        _, _, vcov, residuals = gls(data, Psi[left])
        used = np.ones(residuals.shape[:2], bool)
        if adjust:
            residuals, used = _unleveraged(data, Psi[left], vcov, residuals)
        counts = _counts(data.seen & used[:, :, None], count)
        less = counts - (0 if adjust else data.X.shape[2])
        data.refuse((less <= 0).any((1, 2)), partial(_too_few, less))
        errors = (data.S * used[:, :, None, None]).sum(1)
        new = transposed(residuals) @ residuals / less - errors / counts
        new, clipped[left] = clip(data, new)
        change = np.linalg.norm(new - Psi[left], axis=(1, 2))
        Psi[left] = new
        ended = change <= RELATIVE_CHANGE * np.linalg.norm(new, axis=(1, 2))
        n_iter[left[ended]], converged[left[ended]] = iteration, True
        left, data = left[~ended], data.taken(~ended)
        if not left.size:
            break
    return Psi, clipped, n_iter, converged


def _too_few(less: np.ndarray, b: int) -> str:
    j, m = np.argwhere(less[b] <= 0)[0] + 1
    what = f"variance of outcome {j}" if j == m else f"covariance of outcomes {j} and {m}"
    return (
        f"Method 'vc' cannot estimate the {what}: it is reported in too few units for the "
        "predictors; use 'reml' with a structure of fewer parameters."
    )


def _counts(seen: np.ndarray, count: str) -> np.ndarray:
    """N_jl, shape (B, k, k)."""
    R = seen.astype(float)
    if count == "pairs":
        return transposed(R) @ R
    each = R.sum(1)
    return np.minimum(each[:, :, None], each[:, None])


def _unleveraged(
    data: MomentData, Psi: np.ndarray, vcov: np.ndarray, residuals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(I - H_ii)^(-1/2) r_i, shape (B, n, k), and which units have one, shape (B, n).

    With Σ_i = L Lᵀ, H_ii = L K L⁻¹ for the symmetric K = L⁻¹ X_i V X_iᵀ L⁻ᵀ, so that its root is
    L (I - K)^(-1/2) L⁻¹. A unit that alone determines a coefficient has none: it says nothing
    on Ψ, and gets zero.
    """
    spread = np.where(both_observed(data.seen), spread_to_units(data.X, vcov), 0.0)
    L = np.linalg.cholesky(_marginal(data, Psi))
    half = np.linalg.solve(L, spread)
    K = np.linalg.solve(L, transposed(half))
    leverage, vectors = np.linalg.eigh((K + transposed(K)) / 2)
    used = leverage.max(2) < 1 - FULL_LEVERAGE
    root = 1 / np.sqrt(np.where(used[..., None], 1 - leverage, 1.0))
    scaled = np.linalg.solve(L, residuals[..., None])
    adjusted = L @ (vectors @ (root[..., None] * (transposed(vectors) @ scaled)))
    return np.where(used[..., None], adjusted[..., 0], 0.0), used


def gls(data: MomentData, Psi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """W (B, n, k, k), β (B, P), its covariance (B, P, P), residuals (B, n, k), 0 where missing."""
    W = _precision(data, Psi)
    vcov = _inverse_information(data, W)
    X = data.X
    products = transposed(X) @ (W @ data.y[..., None])[..., 0]  # (B, p, k)
    beta = (vcov @ products.reshape(len(vcov), -1, 1))[:, :, 0]
    residuals = np.where(data.seen, data.y - X @ beta.reshape(products.shape), 0.0)
    return W, beta, vcov, residuals


def _inverse_information(data: MomentData, W: np.ndarray) -> np.ndarray:
    """(Σ X_iᵀ W_i X_i)⁻¹, predictor-major, shape (B, P, P)."""
    information = over_units(data.X, W)
    # scaled to a unit diagonal, so that outcomes of different scales cannot hide a deficiency
    scale = np.sqrt(diagonals(information))
    outer = scale[:, :, None] * scale[:, None]
    unit = np.where(outer > 0, information / outer, 0.0)
    data.refuse(
        ~(np.linalg.cond(unit) < INFORMATION_CONDITION),
        "The fixed effects are not identified: an outcome is observed in too few units for its "
        "predictors.",
    )
    return np.linalg.inv(unit) / outer


def _precision(data: MomentData, Psi: np.ndarray) -> np.ndarray:
    """(S_i + Ψ)⁻¹ over the observed outcomes and zero elsewhere, shape (B, n, k, k)."""
    Sigma = _marginal(data, Psi)
    try:
        inverse = np.linalg.inv(Sigma)
    except np.linalg.LinAlgError:
        data.refuse(
            (np.linalg.slogdet(Sigma)[0] == 0).any(1),
            "An error covariance matrix is singular; moment estimators need the inverse of each.",
        )
        raise
    return np.where(both_observed(data.seen), inverse, 0.0)


def _marginal(data: MomentData, Psi: np.ndarray) -> np.ndarray:
    """S_i + Ψ over the observed outcomes and the identity elsewhere, shape (B, n, k, k)."""
    return np.where(both_observed(data.seen), data.S + Psi[:, None], np.eye(Psi.shape[1]))


def clip(data: MomentData, Psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ψ with its negative eigenvalues set to zero, (B, k, k), and whether it had any, (B,)."""
    data.refuse(~np.isfinite(Psi).all((1, 2)), OUT_OF_RANGE)
    Psi = (Psi + transposed(Psi)) / 2
    values, vectors = np.linalg.eigh(Psi)
    clipped = values[:, 0] < 0
    nearest = (vectors * np.maximum(values, 0.0)[:, None]) @ transposed(vectors)
    return np.where(clipped[:, None, None], nearest, Psi), clipped
