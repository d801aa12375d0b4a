"""Moment estimators of the between-study covariance Ψ: one vector of effects per unit.

Those of `estimation.multivariate` are for any number of outcomes; for one outcome there are also
DerSimonian-Laird ``dl`` (the same as ``mm``) and those of `estimation.univariate`. All take time
and memory in proportion to the number of units, and all are written for B data sets side by side:
a single one is a batch of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.moment_data import (
    OUT_OF_RANGE,
    MomentData,
    Unidentified,
    prepare,
    transposed,
)
from mixmeta_jax.estimation.multivariate import berkey, clip, gls, jackson
from mixmeta_jax.estimation.univariate import UNIVARIATE


@dataclass(frozen=True)
class MomentEstimate:
    """A moment estimate, and the fixed effects given it; those of B data sets have a leading B.

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
    n_iter: Any
    clipped: Any
    converged: Any


def moment_estimate(
    method: str,
    y: np.ndarray,
    X: np.ndarray,
    S: np.ndarray,
    vc_adjust: bool = True,
    vc_count: str = "pairs",
    max_iter: int = 1000,
) -> MomentEstimate:
    """Estimate Ψ of one data set by the method of moments.

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
    found, reason = moment_estimates(
        method, y[None], X[None], S[None], vc_adjust, vc_count, max_iter
    )
    if reason[0]:
        raise InputError(reason[0])
    return MomentEstimate(
        found.Psi[0],
        found.beta[0],
        found.vcov[0],
        int(found.n_iter[0]),
        bool(found.clipped[0]),
        bool(found.converged[0]),
    )


def moment_estimates(
    method: str,
    y: np.ndarray,
    X: np.ndarray,
    S: np.ndarray,
    vc_adjust: bool = True,
    vc_count: str = "pairs",
    max_iter: int = 1000,
) -> tuple[MomentEstimate, np.ndarray]:
    """`moment_estimate` of B data sets, and why a data set has no estimate.

    The arrays have a leading B. Where the data do not identify the model the estimates are NaN and
    the reason, shape (B,), is the sentence that `moment_estimate` would raise; it is empty
    elsewhere. No data set disturbs another.
    """
    B, _, k = y.shape
    if method not in ("mm", "vc", "dl", *UNIVARIATE):
        known = ", ".join(["mm", "vc", "dl", *UNIVARIATE])
        raise InputError(f"No moment estimator is called {method!r}; there are {known}.")
    if k > 1 and method not in ("mm", "vc"):
        raise InputError(
            f"The estimator {method!r} is for one outcome and the model has {k}; use 'mm' or 'vc'."
        )
    if vc_count not in ("pairs", "smaller"):
        raise InputError(f"vc counts 'pairs' or the 'smaller' number; it got {vc_count!r}.")
    P = X.shape[2] * k
    found = MomentEstimate(
        np.full((B, k, k), np.nan),
        np.full((B, P), np.nan),
        np.full((B, P, P), np.nan),
        np.zeros(B, int),
        np.zeros(B, bool),
        np.zeros(B, bool),
    )
    reason = np.full(B, "", dtype=object)
    parts = [np.arange(B)]
    while parts:
        members = parts.pop()
        try:
            # What overflows is told by the numbers that come out.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                data, basis = prepare(y[members], X[members], S[members], members)
                one = _estimate(method, data, basis, vc_adjust, vc_count, max_iter)
        except Unidentified as fault:
            bad = list(fault.reasons)
            reason[bad] = list(fault.reasons.values())
            members = np.setdiff1d(members, bad)
            parts += [members] if members.size else []
        except np.linalg.LinAlgError:
            # LAPACK does not say which of the matrices it gave up on.
            if len(members) == 1:
                reason[members] = OUT_OF_RANGE
            else:
                parts += np.array_split(members, 2)
        else:
            for name, values in vars(one).items():
                getattr(found, name)[members] = values
    return found, reason


def _estimate(
    method: str,
    data: MomentData,
    basis: np.ndarray,
    vc_adjust: bool,
    vc_count: str,
    max_iter: int,
) -> MomentEstimate:
    B, _, k = data.y.shape
    n_iter, converged = np.zeros(B, int), np.ones(B, bool)
    if method in UNIVARIATE:
        tau2, n_iter, converged = UNIVARIATE[method](data, max_iter)
        Psi, clipped = clip(data, tau2[:, None, None])
    elif method == "vc":
        Psi, clipped, n_iter, converged = berkey(data, vc_adjust, vc_count, max_iter)
    else:
        Psi, clipped = clip(data, jackson(data))
    _, beta, vcov, _ = gls(data, Psi)
    back = (basis[:, :, None, :, None] * np.eye(k)[:, None]).reshape(vcov.shape)
    beta = (back @ beta[:, :, None])[:, :, 0]
    return MomentEstimate(Psi, beta, back @ vcov @ transposed(back), n_iter, clipped, converged)
