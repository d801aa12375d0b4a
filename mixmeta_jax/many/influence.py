"""Influence of units and groups on a fit: by refits without them, or to first order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import InfluenceMethod
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.estimation.executors import executed
from mixmeta_jax.fits.arguments import LIKELIHOOD_METHODS
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.inference.influence import case_derivatives
from mixmeta_jax.inference.prediction import predicted, quadratic_form
from mixmeta_jax.inference.residuals import marginal_variances
from mixmeta_jax.likelihood.likelihood import solution_at
from mixmeta_jax.many.refits import levels_of, without
from mixmeta_jax.many.studies import left_out, part_index, parts
from mixmeta_jax.status import Status

ORDER_NUMBERS = 2_000_000
"""Entries of Ψ and V of all data sets that are there at a time."""


def influence(fit: FittedModel, by: str, method: str, progress: bool = True) -> pd.DataFrame:
    """One row per case; see `Fit.influence`."""
    gates.choice(method, "method", InfluenceMethod)
    gates.flag(progress, "progress")
    codes, labels = parts(fit, by)
    made = _exact if method == "exact" else _first_order
    return made(fit, codes, part_index(labels, by, _label_names(fit, by, labels)), progress)


def _label_names(fit: FittedModel, by: str, labels: list[Any]) -> list[Any] | None:
    """What the entries of labels that are tuples are called: index levels, or nested levels."""
    levels = [level.name for level in fit.frame.levels]
    own = fit.frame.index.names if by == "unit" else levels[: levels.index(by) + 1]
    return list(own) if all(len(np.atleast_1d(label)) == len(own) for label in labels) else None


def _exact(fit: FittedModel, codes: np.ndarray, index: pd.Index, progress: bool) -> pd.DataFrame:
    found = without(fit, left_out(codes, len(index)), progress)
    estimate, Psi = fit.estimate, levels_of(found)
    assert found.coef is not None and found.vcov is not None and found.status is not None
    moved = estimate.beta - found.coef
    ratio = np.full(len(index), np.nan)
    there = np.isfinite(found.vcov).all((1, 2))
    ratio[there] = np.linalg.slogdet(found.vcov[there])[1] - np.linalg.slogdet(estimate.vcov)[1]
    # The error of all data at the variances that are estimated without the case.
    scale = np.sqrt(np.diagonal(_vcov_at(fit, Psi, len(index)), axis1=1, axis2=2))
    variances = [own - P for own, P in zip(fit.Psi_by_level, Psi, strict=True)]
    frame = _frame(fit, codes, index, moved, np.exp(ratio), moved / scale, variances)
    frame["status"] = [Status(int(status)).name for status in found.status]
    return frame


@one_thread()
def _first_order(
    fit: FittedModel, codes: np.ndarray, index: pd.Index, progress: bool
) -> pd.DataFrame:
    if fit.method not in LIKELIHOOD_METHODS:
        raise InputError(
            f"First-order influence is a derivative of the likelihood's maximum, and method="
            f"'{fit.method}' has no likelihood: use method='exact', or fit by 'ml' or 'reml'."
        )
    if not fit.converged:
        raise InputError(
            "First-order influence is a derivative of the likelihood's maximum, which the fit has "
            f"not reached: {fit.status.sentence}"
        )
    estimate = fit.estimate
    theta = np.zeros(0) if fit.method == "fixed" else estimate.theta
    found = case_derivatives(
        fit.design,
        fit.Psi_by_level,
        theta,
        estimate.beta,
        estimate.vcov,
        codes,
        fit.method == "reml",
    )
    scaled = found.beta / np.sqrt(np.diag(estimate.vcov))
    ratio = np.exp(-found.logdet)
    return _frame(fit, codes, index, found.beta, ratio, scaled, found.Psi)


def _frame(
    fit: FittedModel,
    codes: np.ndarray,
    index: pd.Index,
    moved: np.ndarray,
    ratio: np.ndarray,
    scaled: np.ndarray,
    Psi: Sequence[np.ndarray],
) -> pd.DataFrame:
    """What all data say less what they say without each case."""
    leverage = np.nansum(fit.leverages, 1)
    columns: dict[str, Any] = {"leverage": np.bincount(codes, leverage, len(index))}
    columns["cook"] = np.einsum("ci,ic->c", moved, np.linalg.solve(fit.estimate.vcov, moved.T))
    columns["covratio"] = ratio
    names = fit.frame.coef_names()
    columns |= {f"dfbetas[{name}]": own for name, own in zip(names, scaled.T, strict=True)}
    for level, change in enumerate(Psi):
        for place, effect in enumerate(fit.frame.random_names(level)):
            columns[f"variance[{fit.level_names[level]}.{effect}]"] = change[:, place, place]
    return pd.DataFrame(columns, index=index)


def deleted_residuals(fit: FittedModel, progress: bool = True) -> np.ndarray:
    """Residuals of units from fits without them over their errors there, (n, k), NaN if missing.

    (y − Xβ̂₋ᵢ) / √(Σ₋ᵢ + XV₋ᵢXᵀ)_jj, with Σ₋ᵢ at the variances without the unit.
    """
    frame, design, k = fit.frame, fit.design, fit.frame.k
    found = without(fit, np.eye(frame.n, dtype=bool), progress)
    assert found.coef is not None and found.vcov is not None
    residuals = np.full((frame.n, k), np.nan)
    fixed = fit.Psi_by_level
    errors = marginal_variances(design, ())
    for i in range(frame.n):
        row = design.X[[i]]
        expected = predicted(row, found.coef[i], k)
        variance = quadratic_form(row, found.vcov[i], k)
        for level, P in zip(range(len(fixed)), levels_of(found), strict=True):
            variance = variance + quadratic_form(design.Z[level][[i]], P[i], k)
        size = np.sqrt(np.diagonal(variance, axis1=1, axis2=2) + errors[[i]])
        seen = design.mask[[i]]
        residuals[[i]] = np.where(seen, (design.y[[i]] - expected) / size, np.nan)
    return residuals


def _vcov_at(fit: FittedModel, Psi: Sequence[np.ndarray], B: int) -> np.ndarray:
    """V of all data at B values of Ψ, shape (B, P, P)."""
    design, P = fit.design, len(fit.estimate.beta)
    if not Psi:
        return np.broadcast_to(fit.estimate.vcov, (B, P, P))
    tensors = arrange(design)
    T = np.kron(design.basis, np.eye(design.k))
    parts = []
    at_once = max(1, ORDER_NUMBERS // (sum(block.S.size for block in tensors.blocks) + P * P))
    for first in range(0, B, at_once):
        own = tuple(np.moveaxis(matrix[first : first + at_once], 0, -1) for matrix in Psi)
        V = executed(_vcov_of, design, own, tensors)
        parts.append(T @ np.moveaxis(V, -1, 0) @ T.T)
    return np.concatenate(parts)


def _vcov_of(Psi: tuple[Any, ...], tensors: Any) -> Any:
    return solution_at(Psi, tensors, restricted=False)[2]
