"""Prediction intervals from refits: the bootstrap-t of outcomes of new groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.predicted_rows import rows_of
from mixmeta_jax.fits.predictions import apply_transform
from mixmeta_jax.inference.drawn import quantiles
from mixmeta_jax.inference.prediction import (
    between_variance,
    predicted,
    quadratic_form,
    standard_errors,
)
from mixmeta_jax.report import tables


class Refits(NamedTuple):
    """Estimates of n data sets that were drawn from a fit, NaN where a refit failed.

    Attributes
    ----------
    coef, vcov, Psi
        Coefficients, shape (n, P), their covariances, (n, P, P), and Ψ of each level, outer first,
        (n, d, d).
    seed, first
        Seed of the draws, and number of the first.
    """

    coef: np.ndarray
    vcov: np.ndarray
    Psi: Sequence[np.ndarray]
    seed: int
    first: int


def prediction_frame(
    fit: FittedModel,
    refits: Refits,
    conf_level: float,
    newdata: Any,
    level: int | str | None,
    transform: str | None,
) -> pd.DataFrame:
    """``fit, pi_lower, pi_upper``; see `BootstrapInference.predict`."""
    k, depth = fit.frame.k, fit.level_number(level)
    rows = rows_of(fit, newdata, depth)
    expected = predicted(rows.X, fit.estimate.beta, k)
    between = between_variance(rows.Z, fit.Psi_by_level[:depth], len(rows.X), k)
    own = standard_errors(quadratic_form(rows.X, fit.estimate.vcov, k) + between)
    spread = standard_errors(between)
    errors = np.full((len(refits.coef), *expected.shape), np.nan)
    for b in np.flatnonzero(np.isfinite(refits.coef).all(1)):
        matrices = [P[b] for P in refits.Psi[:depth]]
        var = quadratic_form(rows.X, refits.vcov[b], k)
        var = var + between_variance(rows.Z, matrices, len(rows.X), k)
        new = np.random.default_rng([refits.seed, refits.first + int(b), 1]).standard_normal(k)
        error = expected + spread * new - predicted(rows.X, refits.coef[b], k)
        errors[b] = np.abs(error) / standard_errors(var)
    half = quantiles(errors, conf_level) * own
    centre = expected + rows.offset
    values = {"fit": centre, "pi_lower": centre - half, "pi_upper": centre + half}
    values = {name: apply_transform(transform, value) for name, value in values.items()}
    index = rows.index
    if newdata is None:
        values = {name: fit.spread(value) for name, value in values.items()}
        index = fit.index
    return tables.statistics_frame(values, fit.frame.outcome_names, index)
