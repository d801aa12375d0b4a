"""Coverage of 95 % intervals, size of 5 % tests and cost, by method and scenario.

    python benchmarks/coverage.py [--nsim 10000] [--scenarios "(a)" ...] [--methods z ...]

The numbers are kept in ``coverage.csv``, of which a run replaces the rows it measures, and shown in
``coverage.md`` and ``coverage.svg``.

Scenarios, each with a true coefficient of zero, so that the share of intervals that miss it is the
size of the test:

(a) the paper's design: three outcomes in units in m outer groups of 10, compound symmetry at both
    levels with unit variances and correlation 0.8, independent errors with standard deviations
    uniform on [0.5, 2]; the mean of the first outcome;
(b) a standard meta-analysis of k studies, error variances 0.01 to 0.6 (equal steps of their
    logarithm), τ² = 0.1; the mean;
(c) two levels, k = 1, m outer groups of 2 to 8 units, variances 0.1 between groups and 0.05 within,
    error variances uniform on [0.02, 0.2], a predictor of the groups; its coefficient.

A method is one function from a `Study` to standard errors and degrees of freedom (or to the ends of
intervals, as of a bootstrap) of the estimand in every data set: see METHODS. Seeds are fixed; data
sets whose fit did not converge are left out and counted.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import mixmeta_jax as mx
from mixmeta_jax.design.design import parameters_by_level
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.estimation.start import starting_variances
from mixmeta_jax.inference import cluster_robust, small_sample
from mixmeta_jax.inference.fixed_effects import weighted_squares
from mixmeta_jax.inference.outer_groups import outer_groups
from mixmeta_jax.inference.reference import t_quantile
from mixmeta_jax.inference.variance_information import (
    kenward_roger_covariance,
    variance_information,
)
from mixmeta_jax.many.bootstrap_sets import bootstrap_t_sets, wild_sets
from mixmeta_jax.many.many_data import many_model

CHUNK = 250
"""Data sets whose small-sample sums are taken at once."""

DRAWS = {1: 99, 3: 39}
"""Draws of each data set of a bootstrap, by the number of outcomes: a refit of three takes 0.5 to 2
ms. Of either number the 5 % test of a pivot is exact: 20 divides one more."""

TARGET = 0.005
"""Distance from 95 % within which a method counts as right; its Monte Carlo error at 10,000 data
sets is 0.0022."""


@dataclass(frozen=True)
class Scenario:
    """A design with true variances; the coefficients are zero.

    Attributes
    ----------
    title
        In words.
    arguments
        S, random, data, bscov and formula, as of `fit_many`.
    Psi
        True covariance of each level.
    k
        Number of outcomes.
    coefficient
        Which one is measured.
    """

    title: str
    arguments: dict
    Psi: list
    k: int
    coefficient: int


def paper(m: int) -> Scenario:
    """(a)."""
    rng = np.random.default_rng(1)
    n = 10 * m
    sd = rng.uniform(0.5, 2.0, (n, 3))
    Psi = 0.8 * np.ones((3, 3)) + 0.2 * np.eye(3)
    data = pd.DataFrame({"g": np.repeat(np.arange(m), 10), "u": np.arange(n)})
    arguments = {"S": sd**2, "random": "~ 1 | g/u", "data": data, "bscov": "cs"}
    return Scenario(f"(a) paper, m = {m}", arguments, [Psi, Psi], 3, 0)


def standard(k: int) -> Scenario:
    """(b)."""
    v = np.geomspace(0.01, 0.6, k)
    return Scenario(f"(b) standard, k = {k}", {"S": v}, [np.array([[0.1]])], 1, 0)


def regression(m: int) -> Scenario:
    """(c)."""
    rng = np.random.default_rng(3)
    counts = rng.integers(2, 9, m)
    group = np.repeat(np.arange(m), counts)
    n = len(group)
    data = pd.DataFrame({"g": group, "u": np.arange(n), "w": rng.normal(size=m)[group]})
    arguments = {
        "S": rng.uniform(0.02, 0.2, n),
        "random": "~ 1 | g/u",
        "data": data,
        "formula": "~ w",
    }
    Psi = [np.array([[0.1]]), np.array([[0.05]])]
    return Scenario(f"(c) group predictor, m = {m}", arguments, Psi, 1, 1)


SCENARIOS = [
    *(paper(m) for m in (5, 10, 20)),
    *(standard(k) for k in (5, 10)),
    *(regression(m) for m in (10, 20)),
]


class Study:
    """The data sets of a scenario and their fits."""

    def __init__(self, scenario: Scenario, nsim: int, seed: int) -> None:
        self.scenario = scenario
        model = {"data": None, "random": None, **scenario.arguments}
        shared = {name: model[name] for name in ("S", "random", "data")}
        n = len(shared["S"])
        y = np.zeros((n, scenario.k))
        Psi = scenario.Psi if len(scenario.Psi) > 1 else scenario.Psi[0]
        self.y = mx.mixmeta_sim(y, Psi=Psi, nsim=nsim, seed=seed, **shared)
        returns = ("coef", "vcov", "Psi", "theta", "converged")
        fitting = {**shared, "bscov": model.get("bscov", "unstr")}
        fitting["formula"] = model.get("formula", "~ 1")
        mx.fit_many(self.y[:CHUNK], returns=returns, progress=False, **fitting)  # compiles
        start = time.process_time()
        self.fits = mx.fit_many(self.y, returns=returns, progress=False, **fitting)
        self.seconds = time.process_time() - start
        self.information_seconds = 0.0
        self.members = np.flatnonzero(self.fits.converged)
        self.design = many_model(y=self.y, Psi_fix=None, rho=None, offset=None, **fitting).design
        self.L = np.eye(self.fits.coef.shape[1])[[scenario.coefficient]]
        self.estimate = self.fits.coef[self.members, scenario.coefficient]

    def Psi(self, part: np.ndarray) -> list[np.ndarray]:
        """Ψ of each level of some data sets, shape (B, d, d)."""
        Psi = self.fits.Psi
        levels = Psi.values() if isinstance(Psi, dict) else [Psi]
        return [own[part] for own in levels]

    def chunks(self):
        """Some data sets at a time, their design and their Ψ."""
        for part in np.split(self.members, range(CHUNK, len(self.members), CHUNK)):
            yield part, self.design.taken(part), self.Psi(part)

    def by_chunks(self, function: Callable) -> tuple[np.ndarray, ...]:
        """A function of some data sets' design and Ψ, its results joined."""
        found = [function(design, Psi) for _, design, Psi in self.chunks()]
        return tuple(np.concatenate(values) for values in zip(*found, strict=True))

    @functools.cached_property
    def information(self) -> list:
        """Of some data sets at a time: design, Ψ, natural parameters, their information."""
        start = time.process_time()
        found = []
        for part, design, Psi in self.chunks():
            own = natural(design, self.fits.theta[part], Psi)
            found.append((design, Psi, own, variance_information(design, Psi, own)))
        self.information_seconds = time.process_time() - start
        return found


def natural(design, theta, Psi):
    """The natural parameters of each level."""
    levels = parameters_by_level(design.structures, design.dims, theta.T)
    scales = starting_variances(design)
    return [
        structure.natural(own, np.moveaxis(P, 0, -1), scale)
        for (structure, own, _), P, scale in zip(levels, Psi, scales, strict=True)
    ]


def model_se(study: Study) -> np.ndarray:
    """Standard errors of the model, shape (B,)."""
    c = study.scenario.coefficient
    return np.sqrt(study.fits.vcov[study.members, c, c])


def z(study: Study):
    """Normal."""
    return model_se(study), np.inf


def t_residual(study: Study):
    """t with observed outcomes less coefficients."""
    return model_se(study), study.design.mask.sum() - study.fits.coef.shape[1]


def t_contain(study: Study):
    """t with the groups of the outermost level less the coefficients constant there.

    In these scenarios every predictor is constant within outer groups.
    """
    m = len(np.unique(study.design.groups[:, 0]))
    return model_se(study), m - study.design.p


def knapp_hartung(study: Study):
    """Knapp and Hartung; for one level only."""
    if len(study.design.structures) > 1:
        return None
    _, df = t_residual(study)

    def factors(design, Psi):
        return (weighted_squares(design, Psi) / df,)

    (H2,) = study.by_chunks(factors)
    return model_se(study) * np.sqrt(H2), df


def satterthwaite(study: Study):
    """Satterthwaite."""
    df = [small_sample.combination_df(study.L, found)[:, 0] for *_, found in study.information]
    return model_se(study), np.concatenate(df)


def kenward_roger(study: Study):
    """Kenward and Roger."""
    variances = []
    for design, Psi, own, found in study.information:
        V = kenward_roger_covariance(design, Psi, own, found)
        variances.append(np.einsum("hp,bpq,hq->b", study.L, V, study.L))
    return np.sqrt(np.concatenate(variances)), satterthwaite(study)[1]


def cr2(study: Study):
    """CR2 with Satterthwaite's degrees of freedom."""
    cluster = outer_groups(study.design)

    def chunk(design, Psi):
        found = cluster_robust.cluster_sums(design, Psi, cluster, "CR2")
        variance = np.einsum("hp,bpq,hq->b", study.L, found.vcov, study.L)
        return np.sqrt(variance), cluster_robust.combination_df(study.L, found)[:, 0]

    return study.by_chunks(chunk)


def fit_of(study: Study):
    """The model fitted to the first data set."""
    given = dict(study.scenario.arguments)
    names = [f"y{o + 1}" for o in range(study.scenario.k)]
    data = given.pop("data", pd.DataFrame(index=range(len(study.y[0]))))
    data = data.assign(**dict(zip(names, study.y[0].T, strict=True)))
    formula = " + ".join(names) + given.pop("formula", " ~ 1")
    # Draws are fitted from their first start: the others, taken where a draw ends at a bound, would
    # double the time. They end higher in 30 of 20,000 data sets of (b), k = 5, and in none of 4,000
    # of (a), m = 5 and 10, or of 10,000 of (c), m = 10.
    return mx.mixmeta(formula, data=data, control={"n_starts": 1}, **given)


def bootstrapped(study: Study, function: Callable):
    """Ends of the intervals of the data sets, by refits to draws of each."""
    y = study.y[study.members]
    found = function(fit_of(study), y, study.L[0], n=DRAWS[study.scenario.k], seed=1)
    half = found.quantile * found.se
    return "ends", found.estimate - half, found.estimate + half


def bootstrap_t(study: Study):
    """Parametric bootstrap-t."""
    return bootstrapped(study, bootstrap_t_sets)


def wild(study: Study):
    """Wild cluster bootstrap of the outer groups, CR0 errors."""
    return bootstrapped(study, wild_sets)


METHODS: dict[str, Callable] = {
    "z": z,
    "t, residual": t_residual,
    "t, contain": t_contain,
    "knha": knapp_hartung,
    "satterthwaite": satterthwaite,
    "kenward-roger": kenward_roger,
    "CR2": cr2,
    "bootstrap-t": bootstrap_t,
    "wild bootstrap": wild,
}
"""From a `Study` to standard errors and degrees of freedom of its members, or None where a method
is not defined. A bootstrap returns ``"ends", lower, upper`` instead, NaN for data sets left out."""


def measured(study: Study, method: Callable) -> dict | None:
    """Coverage, width and size with Monte Carlo errors, and processor milliseconds a data set."""
    shared = study.information_seconds if method is kenward_roger else 0.0
    start = time.process_time() - shared
    with one_thread():
        found = method(study)
    if found is None:
        return None
    seconds = time.process_time() - start
    if isinstance(found[0], str):
        lower, upper = found[1:]
    else:
        se, df = found
        half = t_quantile(0.975, df) * se
        lower, upper = study.estimate - half, study.estimate + half
    there = np.isfinite(lower) & np.isfinite(upper)
    covered = ((lower <= 0) & (upper >= 0))[there]
    width = (upper - lower)[there]
    n = len(covered)
    coverage = covered.mean()
    return {
        "n": n,
        "coverage": coverage,
        "coverage_mcse": np.sqrt(coverage * (1 - coverage) / n),
        "size": 1 - coverage,
        "width": width.mean(),
        "width_mcse": width.std(ddof=1) / np.sqrt(n),
        "median width": np.median(width),
        "ms": 1e3 * seconds / n,
    }


def run(nsim: int, only: list[str], names: list[str]) -> pd.DataFrame:
    """One row per scenario and method; of the scenarios whose titles begin with ``only``."""
    rows = {}
    for number, scenario in enumerate(SCENARIOS):
        if not scenario.title.startswith(tuple(only)):
            continue
        study = Study(scenario, nsim, seed=1_000 + number)
        fitted = {"n": len(study.members), "ms": 1e3 * study.seconds / nsim}
        rows[scenario.title, FIT] = fitted
        for name in names:
            found = measured(study, METHODS[name])
            if found is not None:
                rows[scenario.title, name] = found
                print(f"{scenario.title:28} {name:16} {found['coverage']:.4f}", flush=True)
    return pd.DataFrame.from_dict(rows, orient="index")


FIT = "(fit)"


def joined(old: Path, new: pd.DataFrame) -> pd.DataFrame:
    """What was measured before, with what was measured now in its place."""
    if old.exists():
        new = new.combine_first(pd.read_csv(old, index_col=[0, 1]))
    order = [(s.title, name) for s in SCENARIOS for name in (FIT, *METHODS)]
    return new.loc[[key for key in order if key in new.index]]


def lines_of(table: pd.DataFrame) -> list[str]:
    """The table in Markdown."""
    lines = [
        "| scenario | method | coverage, % | size, % | width | median width | ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (scenario, name), row in table.iterrows():
        if name == FIT:
            left = f"{scenario}: {row['n']:.0f} data sets"
            lines.append(f"| **{left}** | the fits themselves | | | | | {row['ms']:.2f} |")
            continue
        right = abs(row["coverage"] - 0.95) <= TARGET
        error = f"({100 * row['coverage_mcse']:.2f})"
        cells = [
            "",
            name,
            f"{'**' if right else ''}{100 * row['coverage']:.2f}{'**' if right else ''} {error}",
            f"{100 * row['size']:.2f} {error}",
            f"{row['width']:.3f} ({row['width_mcse']:.3f})",
            f"{row['median width']:.3f}",
            f"{row['ms']:.2f}" if row["ms"] >= 0.01 else "< 0.01",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def draw(table: pd.DataFrame, path: Path) -> None:
    """Coverage of every method by scenario, with two Monte Carlo errors to each side."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "coverage"
    scenarios = [s.title for s in SCENARIOS if s.title in table.index.get_level_values(0)]
    figure = Figure(figsize=(8, 1 + 0.9 * len(scenarios)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(94.5, 95.5, color="0.9", zorder=0)
    axes.axvline(95, color="0.6", zorder=0)
    for number, name in enumerate(METHODS):
        rows = [
            (i, table.loc[(s, name)]) for i, s in enumerate(scenarios) if (s, name) in table.index
        ]
        offset = 0.7 * (number / max(len(METHODS) - 1, 1) - 0.5)
        axes.errorbar(
            [100 * row["coverage"] for _, row in rows],
            [i + offset for i, _ in rows],
            xerr=[200 * row["coverage_mcse"] for _, row in rows],
            fmt="osD^vP*Xh"[number % 9],
            label=name,
        )
    axes.set_yticks(range(len(scenarios)), scenarios)
    axes.invert_yaxis()
    axes.set_xlabel("coverage of 95 % intervals, %")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure, and put the numbers into the page below its heading ``## Numbers``."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nsim", type=int, default=10_000)
    parser.add_argument("--scenarios", nargs="*", default=["("], help="beginnings of titles")
    parser.add_argument("--methods", nargs="*", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--csv", type=Path, default=here / "coverage.csv")
    parser.add_argument("--page", type=Path, default=here / "coverage.md")
    given = parser.parse_args()
    table = joined(given.csv, run(given.nsim, given.scenarios, given.methods))
    table.to_csv(given.csv, float_format="%.6g")
    written = given.page.read_text() if given.page.exists() else f"# Coverage\n\n{HEADING}\n"
    text = written.partition(HEADING)[0]
    numbers = "\n".join([HEADING, "", *lines_of(table)])
    given.page.write_text(f"{text}{numbers}\n")
    draw(table, given.page.with_suffix(".svg"))


HEADING = "## Numbers"


if __name__ == "__main__":
    main()
