"""Tidy frames: one row per coefficient, per fit, per unit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixmeta_jax.fits.coefficients import coefficient_frame
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.predictions import blup_values
from mixmeta_jax.inference.reference import Reference


def tidy(model: FittedModel, conf_level: float, reference: Reference) -> pd.DataFrame:
    """One row per coefficient, outcome by outcome."""
    table = coefficient_frame(model, conf_level, reference)
    frame = model.frame
    table.insert(0, "outcome", np.repeat(frame.outcome_names, frame.p))
    table.insert(1, "term", list(frame.x_names) * frame.k)
    return table.reset_index(drop=True)


def glance(model: FittedModel) -> pd.DataFrame:
    """One row of figures on the fit as a whole."""
    q, df = model.heterogeneity, model.df
    row = {
        "method": model.method,
        "n": model.frame.n,
        "n_obs": df.nall,
        "df_total": df.nobs,
        "fixed": df.fixed,
        "random": df.random,
        "loglik": model.loglik,
        "aic": model.aic,
        "bic": model.bic,
        "aicc": model.aicc,
        "Q": q.Q[0],
        "Q_df": q.df[0],
        "Q_pvalue": q.pvalue[0],
        "I2": q.I2[0],
        "converged": model.converged,
        "status": model.status.name,
    }
    return pd.DataFrame([row])


def augment(model: FittedModel) -> pd.DataFrame:
    """One row per unit and outcome: observed, fitted, residual and BLUP.

    Rows come in the order of the data, with its index, and within a unit by outcome.
    """
    frame = model.frame
    index = model.index
    values = {
        "observed": frame.y,
        "fitted": model.fitted_array,
        "residual": frame.y - model.fitted_array,
        "blup": blup_values(model, model.n_levels),
    }
    columns = {name: model.spread(array).ravel() for name, array in values.items()}
    table = pd.DataFrame(columns, index=index.repeat(frame.k))
    table.insert(0, "outcome", list(frame.outcome_names) * len(index))
    return table
