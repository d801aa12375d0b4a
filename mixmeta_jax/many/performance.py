"""Simulation studies: scenarios drawn, fitted and measured, with Monte Carlo errors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.simulation import mixmeta_sim
from mixmeta_jax.many.many_fits import fit_many
from mixmeta_jax.status import Status

CHUNK_NUMBERS = 2**23
"""Outcomes that are drawn and fitted at once."""

SCENARIO = "a mapping of its arguments"
SCENARIOS = "a mapping {name: {argument: value}}"
SHARED = ("S", "random", "data", "rho")
FITTING = ("formula", "method", "bscov", "Psi_fix", "control")
NAMES = ["scenario", "estimand"]
COLUMNS = [
    "n",
    "bias",
    "bias_mcse",
    "rmse",
    "rmse_mcse",
    "coverage",
    "coverage_mcse",
    "empirical_se",
    "empirical_se_mcse",
    "model_se",
    "model_se_mcse",
]


def simulation_study(
    scenarios: Mapping[Any, Mapping[str, Any]],
    nsim: int = 1000,
    seed: int = 0,
    first: int = 0,
    conf_level: float = 0.95,
    progress: bool = True,
) -> pd.DataFrame:
    """Bias, errors and coverage of the coefficients in each scenario.

    A study can be cut into parts by ``first``, run anywhere, and joined by `join_studies`.
    Interrupted by Ctrl-C, the call returns the scenarios that are complete, with a warning.

    Parameters
    ----------
    scenarios
        {name: arguments}: ``y`` the expected outcomes, ``Psi`` the true covariances, ``S``,
        ``random``, ``data``, ``rho`` as in `mixmeta_sim`; ``formula``, ``method``, ``bscov``,
        ``Psi_fix``, ``control`` as in `fit_many`; ``coef``, the true coefficients; and
        ``estimands``, if others are to be measured too: {name: (function, truth)} with a function
        of a `ManyFits` (its ``coef``, ``se``, ``Psi``, ``loglik``) that returns shape (B,).
    nsim
        Data sets per scenario; those that do not converge are left out and counted.
    seed, first
        Seed, and number of the first data set; data set b of a scenario depends on (seed, b) alone.
    conf_level
        Of the intervals whose coverage is counted.
    progress
        Whether long work shows a bar.

    Returns
    -------
    DataFrame
        One row per scenario and estimand: ``n`` data sets that converged, ``bias, rmse,
        coverage, empirical_se, model_se`` and the Monte Carlo error of each, as ``bias_mcse``
        (Morris, White & Crowther 2019, table 6; RMSE by the delta method). NaN where too few
        data sets converged, or for what needs standard errors of other estimands.

    Raises
    ------
    InputError
        For a scenario that lacks an argument, or has an unknown one.
    """
    for name, scenario in gates.mapping(scenarios, "scenarios", SCENARIOS).items():
        _check(name, scenario)
    nsim = gates.whole(nsim, "nsim", 1, gates.MOST_SEED)
    gates.seed(seed)
    gates.whole(first, "first", 0, gates.MOST_SEED - nsim)
    gates.fraction(conf_level, "conf_level")
    gates.flag(progress, "progress")
    rows: dict[tuple[Any, str], dict[str, float]] = {}
    for name, scenario in scenarios.items():
        try:
            estimates = _estimates(scenario, nsim, seed, first, progress)
        except KeyboardInterrupt:
            warnings.warn(
                f"The study was interrupted in scenario {name!r}: the table has the "
                f"{len({key for key, _ in rows})} scenario(s) before it.",
                stacklevel=2,
            )
            break
        for estimand, (values, se, truth) in estimates.items():
            rows[name, estimand] = performance(values, se, truth, conf_level)
    index = pd.MultiIndex.from_tuples(list(rows), names=NAMES)
    return pd.DataFrame(list(rows.values()), index=index, columns=COLUMNS)


def join_studies(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The table of a whole study from those of its parts.

    Parameters
    ----------
    tables
        What `simulation_study` returned for parts that have no data set in common, with one
        ``conf_level``. A scenario may be missing from some of them, as after an interrupt: ``n``
        says how many data sets each row rests on.

    Returns
    -------
    DataFrame
        As `simulation_study`. The columns of the parts determine the sums behind them, so that
        nothing else need be kept; the Monte Carlo errors are those of the whole.

    Raises
    ------
    InputError
        If there is no table, or one has other columns.
    """
    if not (tables := gates.listed(tables, "tables", "a list of tables of simulation_study")):
        raise InputError("tables has no table to join: give those of simulation_study.")
    for number, table in enumerate(tables):
        if not isinstance(table, pd.DataFrame) or list(table.columns) != COLUMNS:
            raise InputError(
                f"Table {number} of tables is not one of simulation_study: its columns must be "
                f"{', '.join(COLUMNS)}."
            )
    parts = pd.concat(tables)
    rows = parts.groupby(level=[0, 1], sort=False)
    index = pd.MultiIndex.from_tuples([key for key, _ in rows], names=NAMES)
    values = [_joined(part[part["n"] > 0]) for _, part in rows]
    return pd.DataFrame(values, index=index, columns=COLUMNS)


def performance(
    estimates: np.ndarray, se: np.ndarray | None, truth: float, conf_level: float = 0.95
) -> dict[str, float]:
    """Performance of an estimator over data sets, NaN left out, with Monte Carlo errors.

    Parameters
    ----------
    estimates, se
        Shape (B,); None without standard errors.
    truth
        True value.
    conf_level
        Level of the normal intervals.
    """
    used = np.isfinite(estimates) & (True if se is None else np.isfinite(se))
    error = estimates[used] - truth
    se = np.full(len(error), np.nan) if se is None else se[used]
    if not len(error):
        return _measures(0, *[np.nan] * 7)
    z = NormalDist().inv_cdf(0.5 + conf_level / 2)
    covered = np.where(np.isnan(se), np.nan, np.abs(error) <= z * se)
    means = [float(values.mean()) for values in (error, error**2, covered, se**2)]
    spreads = [float(((v - v.mean()) ** 2).sum()) for v in (error, error**2, se**2)]
    return _measures(len(error), *means, *spreads)


def _measures(
    n: int,
    bias: float,
    mse: float,
    coverage: float,
    model: float,
    of_error: float,
    of_square: float,
    of_model: float,
) -> dict[str, float]:
    """The measures from means over n data sets, and sums of squared deviations from means.

    Parameters
    ----------
    n, bias, mse, coverage, model
        Number of data sets, and means of the error, its square, whether the interval covers, and
        the squared standard error.
    of_error, of_square, of_model
        Sums of squares of the error, its square and the squared standard error about their means.
    """
    more = n - 1 if n > 1 else np.nan
    empirical = np.sqrt(of_error / more)
    values = (
        n,
        bias,
        empirical / np.sqrt(n) if n else np.nan,
        np.sqrt(mse),
        np.sqrt(of_square / (n * more)) / (2 * np.sqrt(mse)) if mse > 0 else 0.0 * mse,
        coverage,
        np.sqrt(coverage * (1 - coverage) / n) if n > 1 else np.nan,
        empirical,
        empirical / np.sqrt(2 * more),
        np.sqrt(model),
        np.sqrt(of_model / (4 * n * more * model)) if n else np.nan,
    )
    return dict(zip(COLUMNS, map(float, values), strict=True)) | {"n": n}


def _joined(parts: pd.DataFrame) -> dict[str, float]:
    """The row of the data sets of several rows together."""
    if not len(parts):
        return _measures(0, *[np.nan] * 7)
    part = {name: parts[name].to_numpy(float) for name in COLUMNS}
    n, bias, mse, model = part["n"], part["bias"], part["rmse"] ** 2, part["model_se"] ** 2
    more = n - 1
    # One data set has no spread, and no standard error of it.
    inner = (
        more * part["empirical_se"] ** 2,
        n * more * (2 * part["rmse"] * part["rmse_mcse"]) ** 2,
        4 * n * more * model * part["model_se_mcse"] ** 2,
    )
    N = n.sum()
    means = [float(n @ values / N) for values in (bias, mse, part["coverage"], model)]
    spreads = [
        float(np.where(n > 1, own, 0).sum() + n @ (values - n @ values / N) ** 2)
        for own, values in zip(inner, (bias, mse, model), strict=True)
    ]
    return _measures(int(N), *means, *spreads)


def _estimates(
    scenario: Mapping[str, Any], nsim: int, seed: int, first: int, progress: bool
) -> dict[str, tuple[np.ndarray, np.ndarray | None, float]]:
    """Estimates of each estimand, NaN where not converged, their standard errors, and the truth."""
    shared = {name: scenario[name] for name in SHARED if name in scenario}
    fitting = {name: scenario[name] for name in FITTING if name in scenario}
    others = scenario.get("estimands", {})
    returns = ["coef", "se", "loglik", "status", "converged", *(["Psi"] if others else [])]
    step = max(1, CHUNK_NUMBERS // np.size(scenario["y"]))
    parts = []
    for begin in range(0, nsim, step):
        numbers = {"nsim": min(step, nsim - begin), "seed": seed, "first": first + begin}
        y = mixmeta_sim(scenario["y"], Psi=scenario["Psi"], **shared, **numbers)
        fits = fit_many(y, **shared, **fitting, returns=returns, progress=progress)
        assert fits.converged is not None and fits.status is not None
        assert fits.coef is not None and fits.se is not None
        if (fits.status == Status.INTERRUPTED).any():
            raise KeyboardInterrupt
        with np.errstate(divide="ignore", invalid="ignore"):
            more = [of(fits) for of, _ in others.values()]
        values = np.column_stack([fits.coef, *more, fits.se])
        parts.append(np.where(fits.converged[:, None], values, np.nan))
    found = np.concatenate(parts).T
    names, P = [*fits.coef_names, *others], len(fits.coef_names)
    if len(set(names)) < len(names):
        raise InputError(f"An estimand has the name of a coefficient ({', '.join(names[:P])}).")
    truth = [*np.broadcast_to(scenario["coef"], P), *(value for _, value in others.values())]
    errors = [*found[len(names) :], *[None] * len(others)]
    return dict(zip(names, zip(found[: len(names)], errors, truth, strict=True), strict=True))


def _check(name: Any, scenario: Mapping[str, Any]) -> None:
    gates.mapping(scenario, f"scenarios: the scenario {gates.described(name)}", SCENARIO)
    for needed in ("y", "S", "Psi", "coef"):
        if needed not in scenario:
            raise InputError(f"Scenario {name!r} lacks '{needed}'.")
    for given in scenario:
        if given not in ("y", "Psi", "coef", "estimands", *SHARED, *FITTING):
            raise InputError(f"Scenario {name!r} has the unknown argument '{given}'.")
