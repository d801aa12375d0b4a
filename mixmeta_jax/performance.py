"""Simulation studies: scenarios drawn, fitted and measured, with Monte Carlo errors."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.errors import InputError
from mixmeta_jax.many_fits import fit_many
from mixmeta_jax.simulation import mixmeta_sim

CHUNK_NUMBERS = 2**23
"""Outcomes that are drawn and fitted at once."""

SHARED = ("S", "random", "data", "rho")
FITTING = ("formula", "method", "bscov", "Psi_fix", "control")


def simulation_study(
    scenarios: Mapping[Any, Mapping[str, Any]],
    nsim: int = 1000,
    seed: int = 0,
    first: int = 0,
    conf_level: float = 0.95,
    progress: bool = True,
) -> pd.DataFrame:
    """Bias, errors and coverage of the coefficients in each scenario.

    Parameters
    ----------
    scenarios
        {name: arguments}: ``y`` the expected outcomes, ``Psi`` the true covariances, ``S``,
        ``random``, ``data``, ``rho`` as in `mixmeta_sim`; ``formula``, ``method``, ``bscov``,
        ``Psi_fix``, ``control`` as in `fit_many`; and ``coef``, the true coefficients.
    nsim
        Data sets per scenario; those that do not converge are left out and counted.
    seed, first
        Seed, and number of the first data set; data set b of a scenario depends on (seed, b) alone.
    conf_level
        Of the intervals whose coverage is counted.

    Returns
    -------
    DataFrame
        One row per scenario and coefficient: ``n`` data sets that converged, ``bias, rmse,
        coverage, empirical_se, model_se`` and the Monte Carlo error of each, as ``bias_mcse``
        (Morris, White & Crowther 2019, table 6; RMSE by the delta method).

    Raises
    ------
    InputError
        For a scenario that lacks an argument, or has an unknown one.
    """
    rows = {}
    for name, scenario in scenarios.items():
        _check(name, scenario)
        coef, se, names = _estimates(scenario, nsim, seed, first, progress)
        truth = np.broadcast_to(np.asarray(scenario["coef"], float), (len(names),))
        for j, coefficient in enumerate(names):
            measured = performance(coef[:, j], se[:, j], truth[j], conf_level)
            rows[name, coefficient] = measured
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["scenario", "coefficient"])
    return table


def performance(
    estimates: np.ndarray, se: np.ndarray, truth: float, conf_level: float = 0.95
) -> dict[str, float]:
    """Performance of an estimator over data sets, NaN left out, with Monte Carlo errors.

    Parameters
    ----------
    estimates, se
        Shape (B,).
    truth
        True value.
    conf_level
        Level of the normal intervals.
    """
    used = np.isfinite(estimates) & np.isfinite(se)
    estimates, se = estimates[used], se[used]
    n = len(estimates)
    if n < 2:
        raise InputError(f"Performance needs at least 2 data sets that were fitted; there are {n}.")
    error = estimates - truth
    empirical = float(estimates.std(ddof=1))
    mse = float((error**2).mean())
    rmse = np.sqrt(mse)
    mse_mcse = np.sqrt(((error**2 - mse) ** 2).sum() / (n * (n - 1)))
    z = NormalDist().inv_cdf(0.5 + conf_level / 2)
    coverage = float((np.abs(error) <= z * se).mean())
    model = float(np.sqrt((se**2).mean()))
    variance_of_squares = float((se**2).var(ddof=1))
    return {
        "n": n,
        "bias": float(error.mean()),
        "bias_mcse": empirical / np.sqrt(n),
        "rmse": float(rmse),
        "rmse_mcse": float(mse_mcse / (2 * rmse)) if rmse > 0 else 0.0,
        "coverage": coverage,
        "coverage_mcse": float(np.sqrt(coverage * (1 - coverage) / n)),
        "empirical_se": empirical,
        "empirical_se_mcse": float(empirical / np.sqrt(2 * (n - 1))),
        "model_se": model,
        "model_se_mcse": float(np.sqrt(variance_of_squares / (4 * n * model**2))),
    }


def _estimates(
    scenario: Mapping[str, Any], nsim: int, seed: int, first: int, progress: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    shared = {name: scenario[name] for name in SHARED if name in scenario}
    fitting = {name: scenario[name] for name in FITTING if name in scenario}
    step = max(1, CHUNK_NUMBERS // np.size(scenario["y"]))
    coefs: list[np.ndarray] = []
    errors: list[np.ndarray] = []
    names: tuple[str, ...] = ()
    for begin in range(0, nsim, step):
        count = min(step, nsim - begin)
        y = mixmeta_sim(
            scenario["y"], Psi=scenario["Psi"], nsim=count, seed=seed, first=first + begin, **shared
        )
        fits = fit_many(
            y, **shared, **fitting, returns=("coef", "se", "converged"), progress=progress
        )
        assert fits.converged is not None and fits.coef is not None and fits.se is not None
        keep = fits.converged[:, None]
        coefs.append(np.where(keep, fits.coef, np.nan))
        errors.append(np.where(keep, fits.se, np.nan))
        names = fits.coef_names
    return np.concatenate(coefs), np.concatenate(errors), names


def _check(name: Any, scenario: Mapping[str, Any]) -> None:
    for needed in ("y", "S", "Psi", "coef"):
        if needed not in scenario:
            raise InputError(f"Scenario {name!r} lacks '{needed}'.")
    for given in scenario:
        if given not in ("y", "Psi", "coef", *SHARED, *FITTING):
            raise InputError(f"Scenario {name!r} has the unknown argument '{given}'.")
