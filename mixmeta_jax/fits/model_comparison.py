"""Fits of the same data side by side: `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.fits.fitted_model import FittedModel, checked_fit
from mixmeta_jax.fits.kept import GivesCopies
from mixmeta_jax.fits.likelihood_ratio import check_comparable, lr_test
from mixmeta_jax.report.markup import Lines, Panel, Table, Written, tabled
from mixmeta_jax.report.results import LikelihoodRatioTest, p_text
from mixmeta_jax.report.summary import random_formula


@dataclass(frozen=True)
class Comparison(GivesCopies, Written):
    """What `compare` returns; ``str`` of it is the printed comparison.

    Attributes
    ----------
    table
        One row per fit: ``method, parameters, fixed, random, nobs, loglik, aic, bic, aicc``, and
        the likelihood-ratio test against the fit before, ``chi2, df, pvalue, pvalue_mixture``, NaN
        where neither is nested in the other.
    estimates
        Coefficients and variances, one column per fit, NaN where a model has none.
    se
        Standard errors of the coefficients.
    notes
        Why a fit is not tested against the one before it, a sentence each.
    """

    table: pd.DataFrame
    estimates: pd.DataFrame
    se: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        parts = ["Comparison of fits", self.table.to_string(float_format=_number)]
        parts += ["", "Estimates", self.estimates.to_string(float_format=_number, na_rep="")]
        parts += ["", *self.notes] if self.notes else []
        return "\n".join(parts)

    __repr__ = __str__

    def _blocks(self, digits: int | None) -> list[Table | Lines]:
        """The two tables and the notes, for `markup`."""
        blocks: list[Table | Lines] = [Lines(("Comparison of fits",), title=True)]
        for title, frame in (("Fit", self.table), ("Estimates", self.estimates)):
            columns = list(map(str, frame.columns))
            rows = frame.to_numpy(object)
            cells = [
                [_cell(v, digits, name) for v, name in zip(row, columns, strict=True)]
                for row in rows
            ]
            blocks.append(tabled([title, *columns], list(frame.index), cells))
        return [*blocks, Lines(self.notes)] if self.notes else blocks

    def _panel(self, digits: int | None) -> Panel:
        """A column per fit: estimates with their standard errors, variances, criteria, tests."""
        groups: dict[str, list[tuple[str, ...]]] = {"Coefficients": [], "Variances": []}
        for name, row in self.estimates.iterrows():
            if name not in self.se.index or self.se.loc[name].isna().all():
                own = tuple(_cell(value, digits) for value in row)
                groups["Variances"].append((name.removeprefix("variance[").removesuffix("]"), *own))
                continue
            pairs = zip(row, self.se.loc[name], strict=True)
            own = tuple(
                f"{_cell(b, digits)} ({_cell(s, digits)})" if b == b else "" for b, s in pairs
            )
            groups["Coefficients"].append((name, *own))
        by_fit = self.table.T
        for title, rows in (("Fit", self.table.columns[:-4]), ("Likelihood-ratio test", LR)):
            groups[title] = [
                (name, *(_cell(value, digits, name) for value in by_fit.loc[name])) for name in rows
            ]
        return Panel(
            "Comparison of fits",
            "Estimates with standard errors; each test is against the fit before",
            ("", *map(str, self.table.index)),
            tuple((title, tuple(rows)) for title, rows in groups.items() if rows),
            (),
            self.notes,
        )


LR = ("chi2", "df", "pvalue", "pvalue_mixture")
"""Columns of the test against the fit before."""


def _number(value: float) -> str:
    return f"{value:.4f}" if value != round(value) else f"{value:.0f}"


def _cell(value: Any, digits: int | None, name: str = "") -> str:
    """A number or a word as text; nothing for NaN. Whole numbers have no places."""
    if isinstance(value, str):
        return value
    if value != value:
        return ""
    if name.startswith("pvalue"):
        return p_text(value)
    if digits is None or value == round(value):
        return _number(value)
    return f"{value:.{digits}f}"


def compare(*fits: FittedModel, names: Sequence[str] | None = None) -> Comparison:
    """Compare fits of the same data: parameters, likelihoods, criteria, tests and estimates.

    Parameters
    ----------
    *fits
        Two or more fits to the same outcomes with the same error covariances, by likelihood; fits
        by REML have the same fixed effects.
    names
        What to call them; default their formulas, and where two have the same what differs among
        the fits: ``random``, ``bscov``, ``method``, ``hold``; then numbers.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        For fewer than two fits, fits of different data or of likelihoods that measure different
        things, and names that are not one for each.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> small = mx.mixmeta("logor", S="logorvar", data=bcg, method="ml")
    >>> mx.compare(small, small.update("~ . + ablat")).table.pvalue.round(4).tolist()
    [nan, 0.0005]
    """
    if len(fits) < 2:
        raise InputError(f"compare takes two fits or more, not {len(fits)}.")
    for i, fit in enumerate(fits):
        checked_fit(fit, f"number {i + 1} of the fits")
    labels = _labels(fits, names)
    for i, fit in enumerate(fits[1:], 1):
        check_comparable(fits[0], fit, (labels[0], labels[i]))
    tests: list[LikelihoodRatioTest | None] = [None]
    notes = []
    for (i, before), fit in zip(enumerate(fits), fits[1:], strict=False):
        smaller, larger = sorted((before, fit), key=lambda each: each.df.total)
        try:
            tests.append(lr_test(smaller, larger))
        except InputError as reason:
            tests.append(None)
            notes.append(f"{labels[i]} and {labels[i + 1]}: {reason}")
    rows = []
    for fit, test in zip(fits, tests, strict=True):
        row = {"method": fit.method, "parameters": fit.df.total, "fixed": fit.df.fixed}
        row |= {"random": fit.df.random, "nobs": fit.df.nobs, "loglik": fit.loglik}
        row |= {"aic": fit.aic, "bic": fit.bic, "aicc": fit.aicc}
        row["chi2"] = np.nan if test is None else test.statistic
        row["df"] = np.nan if test is None else test.df
        row["pvalue"] = np.nan if test is None else test.pvalue
        row["pvalue_mixture"] = np.nan if test is None else test.pvalue_mixture
        rows.append(row)
    index = pd.Index(labels, name="fit")
    estimates = {name: _estimates(fit) for name, fit in zip(labels, fits, strict=True)}
    errors = {name: _errors(fit) for name, fit in zip(labels, fits, strict=True)}
    return Comparison(
        pd.DataFrame(rows, index=index),
        _side_by_side(estimates),
        _side_by_side(errors),
        tuple(notes),
    )


def _labels(fits: Sequence[FittedModel], names: Sequence[str] | None) -> list[str]:
    if names is not None:
        given = [shown(name) for name in gates.listed(names, "names")]
        if len(given) != len(fits) or len(set(given)) != len(given):
            raise InputError(f"names must be {len(fits)} different ones, one for each fit.")
        return given
    formulas = [fit.formula for fit in fits]
    if len(set(formulas)) == len(formulas):
        return formulas
    # What differs among them, each by its name in `mixmeta`.
    told = [_told_apart(fit) for fit in fits]
    differ = [key for key in told[0] if len({own[key] for own in told}) > 1]
    labels = [
        ", ".join(f"{key} {own[key]}".strip() for key in differ if own[key]) or own[""]
        for own in told
    ]
    if len(set(labels)) == len(labels):
        return labels
    return [f"{i + 1}: {label}" for i, label in enumerate(labels)]


def _told_apart(fit: FittedModel) -> dict[str, str]:
    """What makes a model, in words: the fixed part, then arguments of `mixmeta`."""
    bscov, hold = fit.bscov, fit.arguments.get("hold") or {}
    if isinstance(bscov, dict):
        same = len(set(bscov.values())) == 1
        each = (f"{name} ({level})" for level, name in bscov.items())
        bscov = next(iter(bscov.values())) if same else " and ".join(each)
    held = [f"{name} = {value}" for own in hold.values() for name, value in own.items()]
    return {
        "": fit.formula,
        "random": random_formula(fit.random) or "by row" if fit.n_levels else "none",
        "bscov": bscov or "",
        "method": fit.method,
        "hold": " and ".join(held),
    }


def _estimates(fit: FittedModel) -> pd.Series:
    values = dict(fit.coef)
    for level, Psi in enumerate(fit.Psi_by_level):
        for place, effect in enumerate(fit.frame.random_names(level)):
            values[f"variance[{fit.level_names[level]}.{effect}]"] = Psi[place, place]
    return pd.Series(values, dtype=float)


def _errors(fit: FittedModel) -> pd.Series:
    return pd.Series(np.sqrt(np.diag(fit.estimate.vcov)), index=fit.coef.index)


def _side_by_side(columns: dict[str, pd.Series]) -> pd.DataFrame:
    """Series of different names, in the order in which the names first come, as columns."""
    every = list(dict.fromkeys(name for column in columns.values() for name in column.index))
    coefficients = [name for name in every if not name.startswith("variance[")]
    order = [*coefficients, *(name for name in every if name.startswith("variance["))]
    return pd.DataFrame({name: column.reindex(order) for name, column in columns.items()})
