"""Terms of the fixed part that could go, or come: each tested by itself."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.kept import GivesCopies
from mixmeta_jax.fits.likelihood_ratio import lr_test
from mixmeta_jax.formulas.formula import as_formulaic, parse
from mixmeta_jax.formulas.updates import (
    droppable_terms,
    factors_of,
    has_predictors,
    without_term,
    written_term,
)
from mixmeta_jax.inference.reference import Reference

NONE = "<none>"
"""The row of the model itself."""

Refit = Callable[..., FittedModel]
"""`Fit.update`."""


@dataclass(frozen=True)
class TermTests(GivesCopies):
    """Tests of single terms; ``str`` of it is the printed table.

    Attributes
    ----------
    table
        One row per term, and for likelihood ratios one of the model itself, ``<none>``. Likelihood
        ratios: ``df, loglik, aic, chi2, pvalue``; Wald tests: ``df, df_residual, statistic,
        pvalue``, F where ``df_residual`` is finite and χ² where it is not.
    note
        By which fits, in a sentence.
    """

    table: pd.DataFrame
    note: str

    def __str__(self) -> str:
        return f"{self.note}\n{self.table.to_string(float_format=lambda v: f'{v:.4f}')}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.note)}</p>{self.table.to_html()}"


def drop_terms(
    fit: FittedModel, update: Refit, terms: Sequence[str] | None, reference: Reference | None
) -> TermTests:
    """Each term left out; see `Fit.drop_terms`."""
    formula = _formula(fit, "drop_terms")
    possible = {factors_of(term): term for term in droppable_terms(formula)}
    chosen = list(possible.values()) if terms is None else []
    for term in [] if terms is None else _listed(terms):
        same = possible.get(factors_of(_term(term)))
        if same is None:
            raise InputError(
                f"The term '{shown(term)}' cannot be dropped by itself: choose among "
                f"{', '.join(possible.values()) or 'none'}; an interaction goes before what it is "
                "made of."
            )
        chosen.append(same)
    if reference is not None:
        rows = {term: _wald(fit, term, reference) for term in chosen}
        return _tests(rows, f"Wald tests of single terms ({reference.words})")
    whole = _by_likelihood(fit, update)
    rows = {NONE: _row(whole, None)}
    for term in chosen:
        smaller_formula = without_term(formula, term)
        if not has_predictors(smaller_formula):
            raise InputError(
                f"Without the term '{term}' no predictor is left, and no model to compare with: "
                "use a Wald test, as test='wald'."
            )
        smaller = update(smaller_formula, method=whole.method)
        if smaller.frame.n != fit.frame.n:
            raise InputError(
                f"Without the term '{term}' the fit has {smaller.frame.n} units instead of "
                f"{fit.frame.n}, for missing values: fit to the rows that are complete, by subset, "
                "or use test='wald'."
            )
        rows[term] = _row(smaller, lr_test(smaller, whole))
    return _tests(rows, f"Likelihood-ratio tests of single terms{_said(fit, whole)}")


def add_terms(
    fit: FittedModel,
    update: Refit,
    terms: Sequence[str],
    reference_of: Callable[[Any], Reference] | None,
) -> TermTests:
    """Each term added; see `Fit.add_terms`."""
    _formula(fit, "add_terms")
    rows: dict[str, Any] = {}
    whole = fit if reference_of is not None else _by_likelihood(fit, update)
    if reference_of is None:
        rows[NONE] = _row(whole, None)
    words = ""
    for given in _listed(terms):
        term = _term(given)
        larger = update(f"~ . + {term}", method=whole.method)
        if larger.frame.n != fit.frame.n:
            raise InputError(
                f"With the term '{term}' the fit has {larger.frame.n} units instead of "
                f"{fit.frame.n}, for missing values: fit both to the rows that are complete, by "
                "subset."
            )
        if larger.frame.p == fit.frame.p:
            raise InputError(f"The model has the term '{term}' already: leave it out.")
        if reference_of is None:
            rows[term] = _row(larger, lr_test(whole, larger))
        else:
            reference = reference_of(larger)
            words = f" by test='{reference.name}'"
            rows[term] = _wald(larger, term, reference)
    kind = "Likelihood-ratio" if reference_of is None else "Wald"
    return _tests(rows, f"{kind} tests of added terms{words or _said(fit, whole)}")


def _formula(fit: FittedModel, what: str) -> str:
    if fit.frame.formula is None:
        raise InputError(
            f"{what} changes the formula, and the fit has none: its outcomes came as an array; fit "
            "it by a formula and data."
        )
    return fit.frame.formula


def _listed(terms: Any) -> list[str]:
    wanted = "names of terms, as ['x', 'log(z)']"
    listed = [terms] if isinstance(terms, str) else gates.listed(terms, "terms", wanted)
    if not listed:
        raise gates.refused("terms", wanted, terms)
    return [gates.text(term, "an entry of terms", "the name of a term") for term in listed]


def _term(text: str) -> str:
    """A term as it is written out."""
    found = [term for term in parse(f"0 + {as_formulaic(text)}") if term.degree > 0]
    if len(found) != 1:
        raise InputError(f"'{shown(text)}' is not one term: give the terms one by one.")
    return written_term(found[0])


def _by_likelihood(fit: FittedModel, update: Refit) -> FittedModel:
    """The fit by maximum likelihood, which compares fixed effects."""
    return fit if fit.method in ("ml", "fixed") else update(method="ml")


def _said(fit: FittedModel, whole: FittedModel) -> str:
    if whole is fit:
        return ""
    return f"; the model, fitted by '{fit.method}', was refitted by maximum likelihood"


def _row(fit: FittedModel, test: Any) -> dict[str, float]:
    tested = test is not None
    return {
        "df": test.df if tested else np.nan,
        "loglik": fit.loglik,
        "aic": fit.aic,
        "chi2": test.statistic if tested else np.nan,
        "pvalue": test.pvalue if tested else np.nan,
    }


def _wald(fit: FittedModel, term: str, reference: Reference) -> dict[str, float]:
    L = _columns_of(fit, term)
    found = reference.joint(L, np.zeros(len(L)), fit.estimate.beta)
    return {
        "df": found.df,
        "df_residual": found.df_residual,
        "statistic": found.statistic,
        "pvalue": found.pvalue,
    }


def _columns_of(fit: FittedModel, term: str) -> np.ndarray:
    """The hypotheses that the coefficients of a term are zero."""
    spec, k = fit.frame.fixed.spec, fit.frame.k
    at: list[int] = []
    start = 0
    for part in spec.structure if spec is not None else ():
        if written_term(part.term) == term:
            at = list(range(start, start + len(part.columns)))
        start += len(part.columns)
    return np.eye(len(fit.estimate.beta))[[a * k + o for a in at for o in range(k)]]


def _tests(rows: dict[str, Any], note: str) -> TermTests:
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "term"
    return TermTests(table, f"{note}.")
