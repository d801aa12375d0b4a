"""Fits of data sets that JAX draws where it fits them, around known expectations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mixmeta_jax.control import as_control
from mixmeta_jax.estimation.drawn import drawn_outcomes
from mixmeta_jax.fits.simulation import given_matrices
from mixmeta_jax.many.many_checks import check_single_settings, judged_method
from mixmeta_jax.many.many_data import many_model
from mixmeta_jax.many.many_fits import DEFAULT_RETURNS, ManyFits, fit_model
from mixmeta_jax.table.array_frame import array_frame, judged_within


def fit_drawn(
    y: Any,
    S: Any,
    Psi: Any,
    nsim: int,
    seed: int,
    first: int = 0,
    formula: str = "~ 1",
    random: Any = None,
    data: Any = None,
    method: str = "reml",
    bscov: Any = "unstr",
    Psi_fix: Any = None,
    rho: Any = None,
    control: Any = None,
    returns: Sequence[str] = DEFAULT_RETURNS,
    progress: bool = True,
) -> ManyFits:
    """`fit_many` of what ``mixmeta_sim(y, S, Psi, ..., generator="jax")`` draws.

    Parameters
    ----------
    y, S, Psi, nsim, seed, first, random, data, rho
        As in `mixmeta_sim`, which judges S and Ψ in the same way.
    formula, method, bscov, Psi_fix, control, returns, progress
        As in `fit_many`.
    """
    settings = as_control(control)
    check_single_settings(settings)
    frame = array_frame(y, S, None, random, data, rho)
    judged_within(frame, ~np.isnan(frame.y))
    matrices = given_matrices(frame, Psi)
    model = many_model(frame.y[None], S, formula, random, data, bscov, Psi_fix, rho, None)
    method = judged_method(model, method)
    mean = model.design.y[0]
    outcomes: Any = drawn_outcomes(model.design, mean, matrices, nsim, seed, first)
    whole = replace(model, design=replace(model.design, y=outcomes))
    return fit_model(whole, method, settings, returns, None, progress)
