"""Simulation studies: scenarios drawn, fitted and measured, with Monte Carlo errors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import Generator, Returned
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.fits.simulation import check_draws, mixmeta_sim
from mixmeta_jax.many.drawn_fits import fit_drawn
from mixmeta_jax.many.many_fits import fit_many
from mixmeta_jax.memory import refuse_size
from mixmeta_jax.status import Status
from mixmeta_jax.table.columns import is_label

DRAWN_NUMBERS = 2**23
"""Outcomes that are drawn and fitted at once."""

SCENARIO = "a mapping of its arguments"
SCENARIOS = "a mapping {name: {argument: value}}"
SHARED = ("S", "random", "data", "rho")
FITTING = ("formula", "method", "bscov", "Psi_fix", "control")
STUDY_INDEX = ["scenario", "estimand"]
DRAWN = "data sets"
"""Key of the ``attrs`` of a table: per scenario its name, seed, first and last data set, and who
drew them."""
MEASURES = [
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
STUDY_COLUMNS = [*MEASURES, "conf_level"]


def simulation_study(
    scenarios: Mapping[Any, Mapping[str, Any]],
    nsim: int = 1000,
    seed: int = 0,
    first: int = 0,
    conf_level: float = 0.95,
    progress: bool = True,
    generator: Generator = "numpy",
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
    generator
        Who draws: "numpy", the same numbers on every machine; or "jax", other ones, of which
        `mixmeta_sim` has the definition. Compiled fits then draw the data sets of a chunk in the
        program that fits them, so that they are never moved and take no memory of their own: for
        accelerators, and for many or large data sets.

    Returns
    -------
    DataFrame
        One row per scenario and estimand: ``n`` data sets that converged, ``bias, rmse,
        coverage, empirical_se, model_se`` and the Monte Carlo error of each, as ``bias_mcse``
        (Morris, White & Crowther 2019, table 6; RMSE by the delta method), and ``conf_level``. NaN
        where too few data sets converged, or for what needs standard errors of other estimands.

    Raises
    ------
    InputError
        Without a scenario, for one that lacks an argument, or has an unknown one, and for a truth
        or a level that is no finite number.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> own = {"y": np.zeros(13), "S": np.full(13, 0.1), "Psi": [[0.3]], "coef": [0.0]}
    >>> table = mx.simulation_study({"13 studies": own}, nsim=200, seed=1)
    >>> table[["n", "bias", "coverage"]].round(2)
                              n  bias  coverage
    scenario   estimand
    13 studies (Intercept)  200  0.02       0.9
    """
    nsim = gates.whole(nsim, "nsim", 1, gates.MOST_SEED)
    refuse_size(2 * nsim, f"nsim={nsim}")  # an estimate and its error each, at least
    seed = gates.seed(seed)
    first = gates.whole(first, "first", 0, gates.MOST_SEED - nsim)
    conf_level = gates.fraction(conf_level, "conf_level")
    gates.flag(progress, "progress")
    check_draws(nsim, seed, first, 2, "nsim", generator)
    for name, scenario in gates.mapping(scenarios, "scenarios", SCENARIOS).items():
        _check(name, scenario)
    if not len(scenarios):
        raise InputError("scenarios is empty: give {name: arguments} with at least one scenario.")
    rows: dict[tuple[Any, str], dict[str, float]] = {}
    for name, scenario in scenarios.items():
        try:
            estimates = _estimates(scenario, nsim, seed, first, progress, generator)
        except KeyboardInterrupt:
            warnings.warn(
                f"The study was interrupted in scenario {name!r}: the table has the "
                f"{len({key for key, _ in rows})} scenario(s) before it.",
                stacklevel=2,
            )
            break
        for estimand, (values, se, truth) in estimates.items():
            rows[name, estimand] = performance(values, se, truth, conf_level)
    index = pd.MultiIndex.from_tuples(list(rows), names=STUDY_INDEX)
    table = pd.DataFrame(list(rows.values()), index=index, columns=STUDY_COLUMNS)
    drawn = dict.fromkeys(repr(name) for name, _ in rows)
    table.attrs[DRAWN] = [[name, seed, first, first + nsim - 1, generator] for name in drawn]
    return table


def join_studies(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The table of a whole study from those of its parts.

    Parameters
    ----------
    tables
        What `simulation_study` returned for parts that have no data set in common, with one
        ``conf_level``. Which data sets they are stands in the ``attrs`` of a table, which a CSV
        loses; a part that is given twice is known by its figures then. A scenario may be missing
        from some of them, as after an interrupt: ``n`` says how many data sets each row rests on.

    Returns
    -------
    DataFrame
        As `simulation_study`. The columns of the parts determine the sums behind them, so that
        nothing else need be kept; the Monte Carlo errors are those of the whole.

    Raises
    ------
    InputError
        If there is no table, one has other columns, a data set is in two of them, or their levels
        differ.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> own = {"one": {"y": np.zeros(13), "S": np.full(13, 0.1), "Psi": [[0.3]], "coef": [0.0]}}
    >>> parts = [mx.simulation_study(own, nsim=100, seed=1, first=b) for b in (0, 100)]
    >>> mx.join_studies(parts)[["n", "bias", "coverage"]].round(2)
                            n  bias  coverage
    scenario estimand
    one      (Intercept)  200  0.02       0.9
    """
    if not (tables := gates.listed(tables, "tables", "a list of tables of simulation_study")):
        raise InputError("tables has no table to join: give those of simulation_study.")
    for number, table in enumerate(tables):
        if not isinstance(table, pd.DataFrame) or list(table.columns) != STUDY_COLUMNS:
            raise InputError(
                f"Table {number} of tables is not one of simulation_study: its columns must be "
                f"{', '.join(STUDY_COLUMNS)}."
            )
    _refuse_shared_data_sets(tables)
    levels = sorted({level for table in tables for level in table["conf_level"]})
    if len(levels) > 1:
        raise InputError(
            f"The tables have the levels {levels[0]:g} and {levels[-1]:g} (column conf_level), of "
            "which no coverage can be made: join tables of one level."
        )
    parts = pd.concat(tables)
    rows = parts.groupby(level=[0, 1], sort=False)
    index = pd.MultiIndex.from_tuples([key for key, _ in rows], names=STUDY_INDEX)
    values = [
        _joined(part[part["n"] > 0]) | {"conf_level": part["conf_level"].iloc[0]}
        for _, part in rows
    ]
    whole = pd.DataFrame(values, index=index, columns=STUDY_COLUMNS)
    whole.attrs[DRAWN] = [own for table in tables for own in _drawn(table)]
    return whole


def _drawn(table: pd.DataFrame) -> list[list[Any]]:
    """The data sets of the scenarios that a table has rows of, where it still says so."""
    there = {repr(name) for name in table.index.get_level_values(0)}
    return [own for own in table.attrs.get(DRAWN, []) if own[0] in there]


def _refuse_shared_data_sets(tables: Sequence[pd.DataFrame]) -> None:
    """Raise where two tables rest on one data set, by its seed and number or by their figures."""
    known: list[tuple[int, list[Any]]] = []
    figures: dict[tuple, int] = {}
    for number, table in enumerate(tables):
        for own in _drawn(table):
            name, seed, first, last, *by = own
            for other, (its_name, its_seed, begin, end, *its_by) in known:
                same = (name, seed, by) == (its_name, its_seed, its_by)
                if same and first <= end and begin <= last:
                    raise InputError(
                        f"Tables {other} and {number} both hold data set {max(first, begin)} of "
                        f"seed {seed} in the scenario {shown(name)}: join parts that have none in "
                        "common."
                    )
            known.append((number, own))
        for key, row in zip(table.index, table[MEASURES].to_numpy(float), strict=True):
            own_figures = (key, row.tobytes())
            if row[0] > 1 and figures.setdefault(own_figures, number) != number:
                raise InputError(
                    f"Tables {figures[own_figures]} and {number} have the same figures in the "
                    f"scenario {shown(key[0])}: join each part once."
                )


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
    level = {"conf_level": conf_level}
    if not len(error):
        return _measures(0, *[np.nan] * 7) | level
    z = NormalDist().inv_cdf(0.5 + conf_level / 2)
    covered = np.where(np.isnan(se), np.nan, np.abs(error) <= z * se)
    means = [float(values.mean()) for values in (error, error**2, covered, se**2)]
    spreads = [float(((v - v.mean()) ** 2).sum()) for v in (error, error**2, se**2)]
    return _measures(len(error), *means, *spreads) | level


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
    return dict(zip(MEASURES, map(float, values), strict=True)) | {"n": n}


def _joined(parts: pd.DataFrame) -> dict[str, float]:
    """The row of the data sets of several rows together."""
    if not len(parts):
        return _measures(0, *[np.nan] * 7)
    part = {name: parts[name].to_numpy(float) for name in STUDY_COLUMNS}
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
    scenario: Mapping[str, Any],
    nsim: int,
    seed: int,
    first: int,
    progress: bool,
    generator: Generator,
) -> dict[str, tuple[np.ndarray, np.ndarray | None, float]]:
    """Estimates of each estimand, NaN where not converged, their standard errors, and the truth."""
    shared = {name: scenario[name] for name in SHARED if name in scenario}
    fitting = {name: scenario[name] for name in FITTING if name in scenario}
    others = scenario.get("estimands", {})
    returns: list[Returned] = ["coef", "se", "loglik", "status", "converged"]
    if others:
        returns.append("Psi")
    step = max(1, DRAWN_NUMBERS // np.size(scenario["y"])) if generator == "numpy" else nsim
    parts = []
    for begin in range(0, nsim, step):
        drawn: dict[str, Any] = {
            "nsim": min(step, nsim - begin),
            "seed": seed,
            "first": first + begin,
        }
        drawn |= {"y": scenario["y"], "Psi": scenario["Psi"]} | shared
        if generator == "jax":
            fits = fit_drawn(**drawn, **fitting, returns=returns, progress=progress)
        else:
            y = mixmeta_sim(**drawn)
            fits = fit_many(y, **shared, **fitting, returns=returns, progress=progress)
        assert fits.converged is not None and fits.status is not None
        assert fits.coef is not None and fits.se is not None
        if (fits.status == Status.INTERRUPTED).any():
            raise KeyboardInterrupt
        with np.errstate(divide="ignore", invalid="ignore"):
            more = [
                gates.numbers(
                    of(fits), f"What the estimand {name!r} returns", (len(fits),), True, True
                )
                for name, (of, _) in others.items()
            ]
        values = np.column_stack([fits.coef, *more, fits.se])
        parts.append(np.where(fits.converged[:, None], values, np.nan))
    found = np.concatenate(parts).T
    names, P = [*fits.coef_names, *others], len(fits.coef_names)
    if len(set(names)) < len(names):
        raise InputError(f"An estimand has the name of a coefficient ({', '.join(names[:P])}).")
    coef = gates.numbers(scenario["coef"], "coef")
    if coef.shape not in ((), (1,), (P,)):
        raise InputError(
            f"coef has the shape {coef.shape}, but the model has {P} coefficient(s) "
            f"({', '.join(fits.coef_names)}): give one true value for each, or one for all."
        )
    truth = [*np.broadcast_to(coef, P), *(float(value) for _, value in others.values())]
    errors = [*found[len(names) :], *[None] * len(others)]
    return dict(zip(names, zip(found[: len(names)], errors, truth, strict=True), strict=True))


def _check(name: Any, scenario: Mapping[str, Any]) -> None:
    if not is_label(name):
        raise gates.refused("scenarios: a name", "text, a number or a tuple", name)
    gates.mapping(scenario, f"scenarios: the scenario {gates.described(name)}", SCENARIO)
    for needed in ("y", "S", "Psi", "coef"):
        if needed not in scenario:
            raise InputError(f"Scenario {name!r} lacks '{needed}'.")
    for given in scenario:
        if given not in ("y", "Psi", "coef", "estimands", *SHARED, *FITTING):
            raise InputError(f"Scenario {name!r} has the unknown argument '{given}'.")
    where = f"of scenario {name!r}"
    gates.numbers(scenario["coef"], f"coef {where}")
    estimands = gates.mapping(scenario.get("estimands", {}), f"estimands {where}")
    for estimand, pair in estimands.items():
        what = f"The estimand {estimand!r} {where}"
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise gates.refused(what, "a pair (function of the fits, truth)", pair)
        gates.function(pair[0], f"{what}: its first part")
        gates.number(pair[1], f"{what}: its truth")


def _values(values: Any, what: str, B: int) -> np.ndarray:
    """One number for each of B data sets, NaN where there is none."""
    return gates.numbers(values, what, (B,), missing=True, infinite=True)
