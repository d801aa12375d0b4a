"""Moment estimators of the between-study covariance Ψ: one vector of effects per unit.

Multivariate: ``mm`` (Jackson, White, Riley 2013), ``vc`` (Berkey et al. 1998). For one outcome
also DerSimonian-Laird ``dl`` (the same as ``mm``) and those of `estimation.univariate`. All take
time and memory in proportion to the number of units.

Here W_i is S_i⁻¹ with zeros for missing outcomes, R_i the indicator of the observed ones,
X_i = x_iᵀ ⊗ I_k, and G = (Σ X_iᵀ W_i X_i)⁻¹.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.univariate import UNIVARIATE

RELATIVE_CHANGE = 1.5e-8
"""``vc`` stops when an iteration changes Psi by less than this part of it."""

CHUNK_NUMBERS = 2**18
"""Size of the Kronecker products of units that are in memory at once."""


@dataclass(frozen=True)
class MomentEstimate:
    """A moment estimate, and the fixed effects given it.

    Attributes
    ----------
    Psi
        Between-study covariance, shape (k, k).
    beta
        Fixed effects by GLS, predictor-major (index a·k + o), shape (p·k,).
    vcov
        Their covariance (Σ X_iᵀ Σ_i⁻¹ X_i)⁻¹, shape (p·k, p·k).
    n_iter
        Iterations; 0 where the estimator is explicit.
    clipped
        Whether the last Ψ had a negative eigenvalue, set to zero.
    converged
        Whether the iterations ended by their criterion.
    """

    Psi: np.ndarray
    beta: np.ndarray
    vcov: np.ndarray
    n_iter: int
    clipped: bool
    converged: bool


@dataclass(frozen=True)
class _Data:
    """Checked arrays: y (n, k) and S (n, k, k) hold 0 where missing, X (n, p) is orthonormal."""

    y: np.ndarray
    X: np.ndarray
    S: np.ndarray
    seen: np.ndarray


def moment_estimate(
    method: str,
    y: np.ndarray,
    X: np.ndarray,
    S: np.ndarray,
    vc_adjust: bool = True,
    vc_count: str = "pairs",
    max_iter: int = 1000,
) -> MomentEstimate:
    """Estimate Ψ by the method of moments.

    Parameters
    ----------
    method
        ``"mm"``, ``"vc"``; for one outcome also ``"dl"``, ``"he"``, ``"hs"``, ``"sj"``, ``"pm"``,
        ``"eb"``.
    y
        Outcomes, NaN where missing, shape (n, k).
    X
        Predictors, shape (n, p).
    S
        Error covariances, shape (n, k, k); not read where an outcome is missing.
    vc_adjust
        Whether ``vc`` divides residuals by the root of one minus their leverage, or else
        subtracts p from the counts.
    vc_count
        The count that ``vc`` divides the sums of outcomes j and l by: ``"pairs"``, the units that
        report both; ``"smaller"``, as R mixmeta does, the smaller of the two outcomes' counts.
    max_iter
        Bound on the iterations of ``vc`` and ``pm``.

    Raises
    ------
    InputError
        If the method is unknown or not for k outcomes, or the data do not identify Ψ or β.
    """
    if method not in ("mm", "vc", "dl", *UNIVARIATE):
        known = ", ".join(["mm", "vc", "dl", *UNIVARIATE])
        raise InputError(f"No moment estimator is called {method!r}; there are {known}.")
    k = y.shape[1]
    if k > 1 and method not in ("mm", "vc"):
        raise InputError(
            f"The estimator {method!r} is for one outcome and the model has {k}; use 'mm' or 'vc'."
        )
    data, basis = _prepare(y, X, S)
    n_iter, converged = 0, True
    if method in UNIVARIATE:
        one = data.seen[:, 0]
        tau2, n_iter, converged = UNIVARIATE[method](
            data.y[one, 0], data.X[one], data.S[one, 0, 0], max_iter
        )
        Psi, clipped = _clip(np.array([[tau2]]))
    elif method == "vc":
        Psi, clipped, n_iter, converged = _vc(data, vc_adjust, vc_count, max_iter)
    else:
        Psi, clipped = _clip(_mm(data))
    beta, vcov, _ = _gls(data, Psi)
    back = np.kron(basis, np.eye(k))
    return MomentEstimate(Psi, back @ beta, back @ vcov @ back.T, n_iter, clipped, converged)


def _prepare(y: np.ndarray, X: np.ndarray, S: np.ndarray) -> tuple[_Data, np.ndarray]:
    """The data in an orthonormal basis of the predictors, and the matrix back, shape (p, p)."""
    seen = np.isfinite(y)
    Q, R = np.linalg.qr(X)
    size = np.sqrt((X**2).sum(0))
    if len(R) < X.shape[1] or (np.abs(np.diag(R)) <= 1e-11 * size).any():
        raise InputError(
            f"The {X.shape[1]} predictors are linearly dependent over the {X.shape[0]} units; "
            "leave out those that others determine."
        )
    data = _Data(np.where(seen, y, 0.0), Q, np.where(_pairs(seen), S, 0.0), seen)
    return data, np.linalg.solve(R, np.eye(len(R)))


def _precision(data: _Data, Psi: np.ndarray) -> np.ndarray:
    """(S_i + Ψ)⁻¹ over the observed outcomes and zero elsewhere, shape (n, k, k)."""
    Sigma = _marginal(data, Psi)
    try:
        inverse = np.linalg.inv(Sigma)
    except np.linalg.LinAlgError as error:
        raise InputError(
            "An error covariance matrix is singular; moment estimators need the inverse of each."
        ) from error
    return np.where(_pairs(data.seen), inverse, 0.0)


def _marginal(data: _Data, Psi: np.ndarray) -> np.ndarray:
    """S_i + Ψ over the observed outcomes and the identity elsewhere, shape (n, k, k)."""
    return np.where(_pairs(data.seen), data.S + Psi, np.eye(len(Psi)))


def _pairs(seen: np.ndarray) -> np.ndarray:
    return seen[:, :, None] & seen[:, None, :]


def _gls(data: _Data, Psi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """β (P,), its covariance (P, P), and residuals (n, k), zero where missing."""
    W = _precision(data, Psi)
    vcov = _inverse_information(data, W)
    beta = vcov @ np.einsum("ia,iol,il->ao", data.X, W, data.y, optimize=True).ravel()
    fitted = data.X @ beta.reshape(data.X.shape[1], -1)
    return beta, vcov, np.where(data.seen, data.y - fitted, 0.0)


def _inverse_information(data: _Data, W: np.ndarray) -> np.ndarray:
    """(Σ X_iᵀ W_i X_i)⁻¹, predictor-major, shape (P, P)."""
    X = data.X
    P = X.shape[1] * W.shape[1]
    information = np.einsum("ia,ib,iol->aobl", X, X, W, optimize=True).reshape(P, P)
    # scaled to a unit diagonal, so that outcomes of different scales cannot hide a deficiency
    scale = np.sqrt(np.diag(information))
    if (scale > 0).all():
        unit = information / np.outer(scale, scale)
        if np.linalg.cond(unit) < 1e13:
            return np.linalg.inv(unit) / np.outer(scale, scale)
    raise InputError(
        "The fixed effects are not identified: an outcome is observed in too few units for its "
        "predictors."
    )


def _clip(Psi: np.ndarray) -> tuple[np.ndarray, bool]:
    """Ψ with its negative eigenvalues set to zero, and whether it had any."""
    values, vectors = np.linalg.eigh((Psi + Psi.T) / 2)
    if values.min(initial=0.0) >= 0:
        return (Psi + Psi.T) / 2, False
    return (vectors * np.maximum(values, 0.0)) @ vectors.T, True


def _mm(data: _Data) -> np.ndarray:
    """Jackson, White, Riley (2013): Ψ before clipping, shape (k, k).

    vec(Q - Σ B_ii) = (Σ_ij B_jiᵀ ⊗ A_ij) vec Ψ, where A_ij = δ_ij W_i - U_i G U_jᵀ,
    B_ji = δ_ij R_i - U_j G V_iᵀ, U_i = W_i X_i and V_i = R_i X_i. The double sum is

        Σ R_i ⊗ W_i - Σ R_i ⊗ U_i G U_iᵀ - Σ V_i G U_iᵀ ⊗ W_i
        + (Σ V_i ⊗ U_i) (G ⊗ G) (Σ U_j ⊗ U_j)ᵀ,

    four sums over units.
    """
    n, k = data.y.shape
    p = data.X.shape[1]
    zero = np.zeros((k, k))
    W = _precision(data, zero)
    residuals = _gls(data, zero)[2]
    G = _inverse_information(data, W).reshape(p, k, p, k)
    R = data.seen.astype(float)

    once = np.zeros((k, k, k, k))  # the sums over i = j, as (row, row, column, column)
    trace = np.zeros((k, k))  # Σ B_ii
    VU = np.zeros((p * p, k, k, k))  # Σ x x R_a W_cf
    UU = np.zeros((p * p, k, k, k, k))  # Σ x x W_be W_dg
    chunk = max(1, CHUNK_NUMBERS // k**4)
    for start in range(0, n, chunk):
        rows = slice(start, start + chunk)
        x, w, r = data.X[rows], W[rows], R[rows]
        spread = np.einsum("iu,uovl,iv->iol", x, G, x, optimize=True)  # X_i G X_iᵀ
        UGU = w @ spread @ w
        VGU = r[:, :, None] * (spread @ w)
        once += np.einsum("ia,icd->acd", r, w - UGU)[:, :, None, :] * np.eye(k)[:, None, :, None]
        once -= np.einsum("iab,icd->acbd", VGU, w, optimize=True)
        trace += np.diag(r.sum(0)) - VGU.sum(0).T
        xx = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1).T
        VU += (xx @ (r[:, :, None, None] * w[:, None]).reshape(len(x), -1)).reshape(VU.shape)
        UU += (xx @ (w[:, :, :, None, None] * w[:, None, None]).reshape(len(x), -1)).reshape(
            UU.shape
        )
    twice = np.einsum(
        "uvacf,uawe,vfsg,wsbedg->acbd",
        VU.reshape(p, p, k, k, k),
        G,
        G,
        UU.reshape(p, p, k, k, k, k),
        optimize=True,
    )
    Q = np.einsum("iol,il,im->om", W, residuals, residuals, optimize=True)
    # rows and columns of the system run over vec, which stacks columns: (column, row)
    system = (once + twice).reshape(k * k, k * k)
    size = np.abs(np.diag(system))
    scale = np.sqrt(np.where(size > 0, size, 1.0))
    bound = np.einsum("ia,icc->ac", R, W).ravel()  # the system's diagonal if β were known
    if (size <= 1e-10 * bound).any() or np.linalg.cond(system / np.outer(scale, scale)) > 1e12:
        raise InputError(
            "The moments do not identify Psi: two outcomes are reported together in too few units, "
            "or there are no more units than predictors; use method 'reml' with a structure of "
            "fewer parameters."
        )
    return np.linalg.solve(system, (Q - trace).T.ravel()).reshape(k, k).T


def _vc(data: _Data, adjust: bool, count: str, max_iter: int) -> tuple[np.ndarray, bool, int, bool]:
    """Berkey et al. (1998): Ψ, whether it was clipped, iterations, whether they converged."""
    if count not in ("pairs", "smaller"):
        raise InputError(f"vc counts 'pairs' or the 'smaller' number; it got {count!r}.")
    k = data.y.shape[1]
    Psi, clipped, iteration = np.zeros((k, k)), False, 0
    for iteration in range(1, max_iter + 1):
        _, vcov, residuals = _gls(data, Psi)
        used = np.ones(len(residuals), bool)
        if adjust:
            residuals, used = _unleveraged(data, Psi, vcov, residuals)
        counts = _counts(data.seen[used], count)
        less = counts - (0 if adjust else data.X.shape[1])
        if (less <= 0).any():
            j, m = np.argwhere(less <= 0)[0] + 1
            what = f"variance of outcome {j}" if j == m else f"covariance of outcomes {j} and {m}"
            raise InputError(
                f"Method 'vc' cannot estimate the {what}: it is reported in too few units for the "
                "predictors; use 'reml' with a structure of fewer parameters."
            )
        new, clipped = _clip(residuals.T @ residuals / less - data.S[used].sum(0) / counts)
        change = np.linalg.norm(new - Psi)
        Psi = new
        if change <= RELATIVE_CHANGE * np.linalg.norm(new):
            return Psi, clipped, iteration, True
    return Psi, clipped, iteration, False


def _counts(seen: np.ndarray, count: str) -> np.ndarray:
    """N_jl, shape (k, k)."""
    R = seen.astype(float)
    return R.T @ R if count == "pairs" else np.minimum.outer(R.sum(0), R.sum(0))


def _unleveraged(
    data: _Data, Psi: np.ndarray, vcov: np.ndarray, residuals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(I - H_ii)^(-1/2) r_i, shape (n, k), and which units have one, shape (n,).

    With Σ_i = L Lᵀ, H_ii = L K L⁻¹ for the symmetric K = L⁻¹ X_i V X_iᵀ L⁻ᵀ, so that its root is
    L (I - K)^(-1/2) L⁻¹. A unit that alone determines a coefficient has none: it says nothing
    on Ψ, and gets zero.
    """
    k = residuals.shape[1]
    p = data.X.shape[1]
    spread = np.einsum("iu,uovl,iv->iol", data.X, vcov.reshape(p, k, p, k), data.X, optimize=True)
    spread = np.where(_pairs(data.seen), spread, 0.0)
    L = np.linalg.cholesky(_marginal(data, Psi))
    half = np.linalg.solve(L, spread)
    K = np.linalg.solve(L, np.swapaxes(half, 1, 2))
    leverage, vectors = np.linalg.eigh((K + np.swapaxes(K, 1, 2)) / 2)
    used = leverage.max(1) < 1 - 1e-10
    root = 1 / np.sqrt(np.where(used[:, None], 1 - leverage, 1.0))
    scaled = np.linalg.solve(L, residuals[:, :, None])
    adjusted = L @ (vectors @ (root[:, :, None] * (np.swapaxes(vectors, 1, 2) @ scaled)))
    return np.where(used[:, None], adjusted[:, :, 0], 0.0), used
