"""Tables, intervals and tests of the fixed effects, with their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import InformationKind, ReferenceName, words
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits import references
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.patterns import compiled
from mixmeta_jax.inference.reference import Reference
from mixmeta_jax.inference.wald import check_conf_level
from mixmeta_jax.report.results import WaldTest

TESTS = words(ReferenceName)
"""Reference distributions that tests and intervals can use."""


def reference_of(
    fit: FittedModel,
    test: str = "z",
    df: str | float | None = None,
    adhoc: bool = False,
    information: str = "expected",
) -> Reference:
    """The reference distribution of a fit's coefficients, which all that takes ``test=`` uses.

    Parameters
    ----------
    fit
        The fit.
    test
        One of `TESTS`.
    df
        Of ``test="t"``: "residual" (the default), "contain" or a positive number.
    adhoc
        Of ``test="knha"``: whether the factor of the covariance is at least 1.
    information
        Of "satterthwaite" and "kenward-roger": "expected" or "observed".

    Raises
    ------
    InputError
        For an unknown test, an argument that belongs to another one, or a test that is not defined
        for the model.
    """
    check_test(test, df, adhoc, information)
    vcov = fit.estimate.vcov
    if test == "t":
        return references.student(fit, "residual" if df is None else df)
    if test == "knha":
        return references.knapp_hartung(fit, adhoc)
    if test in ("satterthwaite", "kenward-roger"):
        return references.by_information(fit, test, information)
    return Reference("z", vcov)


def check_test(
    test: Any,
    df: Any = None,
    adhoc: bool = False,
    information: str = "expected",
    tests: Any = ReferenceName,
) -> None:
    """Raise `InputError` for an unknown test, or an argument that belongs to another one."""
    gates.choice(test, "test", tests)
    gates.flag(adhoc, "adhoc")
    gates.choice(information, "information", InformationKind)
    if df is not None and test != "t":
        raise InputError(
            f"df={gates.described(df)} belongs to test='t': test='{test}' has degrees of freedom "
            "of its own; leave df out."
        )
    if adhoc and test != "knha":
        raise InputError(f"adhoc=True belongs to test='knha', not to test='{test}': leave it out.")
    if information == "observed" and test not in ("satterthwaite", "kenward-roger"):
        raise InputError(
            "information='observed' belongs to test='satterthwaite' or 'kenward-roger', not to "
            f"test='{test}': leave it out."
        )


def over_error(estimates: np.ndarray, se: np.ndarray) -> np.ndarray:
    """Estimates over their errors; NaN where an error is 0, its square beyond double precision."""
    return np.where(se > 0, estimates / np.where(se > 0, se, 1.0), np.nan)


def coefficient_frame(model: FittedModel, conf_level: float, reference: Reference) -> pd.DataFrame:
    """The coefficients, outcome by outcome, tested against zero.

    Columns ``estimate, se, z, pvalue, lower, upper``, or ``estimate, se, t, df, pvalue, lower,
    upper`` where the reference distribution is t.
    """
    level = check_conf_level(conf_level)
    beta = model.estimate.beta
    L = np.eye(len(beta))
    se = reference.se(L)
    statistics = over_error(beta, se)
    half = reference.quantile(level, L) * se
    columns = {"estimate": beta, "se": se, reference.statistic: statistics}
    if reference.statistic == "t":
        columns["df"] = reference.df(L)
    columns["pvalue"] = reference.pvalues(statistics, L)
    columns |= {"lower": beta - half, "upper": beta + half}
    p, k = model.frame.p, model.frame.k
    by_outcome = np.arange(p * k).reshape(p, k).T.ravel()
    names = model.frame.coef_names()
    return pd.DataFrame(
        {name: values[by_outcome] for name, values in columns.items()},
        index=[names[c] for c in by_outcome],
    )


def interval_frame(
    model: FittedModel, conf_level: float, simultaneous: str | None, reference: Reference
) -> pd.DataFrame:
    """``estimate, lower, upper`` of the coefficients, in their own order; ``df`` of t."""
    level = check_conf_level(conf_level)
    beta = model.estimate.beta
    L = np.eye(len(beta))
    half = reference.critical(level, L, simultaneous) * reference.se(L)
    columns = {"estimate": beta, "lower": beta - half, "upper": beta + half}
    if reference.statistic == "t" and simultaneous is None:
        columns["df"] = reference.df(L)
    return pd.DataFrame(columns, index=model.frame.coef_names())


def joint_test(
    model: FittedModel, terms_or_matrix: Any, rhs: Any, reference: Reference
) -> WaldTest:
    """χ² or F test of linear hypotheses given by names, regular expressions or a matrix."""
    names = model.frame.coef_names()
    L, values, _ = read_hypotheses(model, terms_or_matrix, rhs)
    found = reference.joint(L, values, model.estimate.beta)
    words = [f"{_combination(row, names)} = {v:g}" for row, v in zip(L, values, strict=True)]
    return WaldTest(
        found.statistic,
        found.df,
        found.pvalue,
        tuple(words),
        found.df_residual,
        reference.words,
        found.note,
    )


def read_hypotheses(
    model: FittedModel, terms_or_matrix: Any, rhs: Any
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """L, shape (h, P), the hypothesised values, shape (h,), and Lβ in words."""
    names = model.frame.coef_names()
    L = hypotheses(terms_or_matrix, names)
    values = gates.numbers(rhs, "rhs")
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(L)):
        raise InputError(
            f"rhs has shape {values.shape}, but there are {len(L)} hypotheses: give one value, or "
            "one for each."
        )
    return L, np.broadcast_to(values, (len(L),)), [_combination(row, names) for row in L]


def hypotheses(terms_or_matrix: Any, names: Sequence[str]) -> np.ndarray:
    """The matrix L, one row per hypothesis and one column per coefficient.

    Parameters
    ----------
    terms_or_matrix
        A coefficient's name, else a regular expression that is searched in the names; a sequence of
        these; or a matrix, or vector, of numbers. A frame may name the coefficients as its columns,
        in any order, and leave out those that no hypothesis is about.
    names
        Names of the coefficients.
    """
    if isinstance(terms_or_matrix, str):
        terms_or_matrix = [terms_or_matrix]
    elif getattr(getattr(terms_or_matrix, "dtype", None), "kind", "") in ("O", "U", "T"):
        terms_or_matrix = terms_or_matrix.tolist()
    elif isinstance(terms_or_matrix, pd.DataFrame):
        terms_or_matrix = _in_order(terms_or_matrix, names)
    if _are_names(terms_or_matrix):
        chosen: dict[int, None] = {}
        for term in terms_or_matrix:
            chosen.update(dict.fromkeys(_matches(term, names)))
        return np.eye(len(names))[list(chosen)]
    if terms_or_matrix is None or isinstance(terms_or_matrix, (str, Mapping)):
        wanted = "names of coefficients, a regular expression, or a matrix of numbers"
        raise gates.refused("terms_or_matrix", wanted, terms_or_matrix)
    L = np.atleast_2d(gates.numbers(terms_or_matrix, "terms_or_matrix, a matrix,"))
    if L.ndim != 2 or L.shape[1] != len(names) or len(L) == 0:
        raise InputError(
            f"terms_or_matrix has the shape {L.shape}, but needs one column for each of the "
            f"{len(names)} coefficients ({', '.join(names)})."
        )
    return L


def _in_order(matrix: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A labelled matrix with its columns in the order of the coefficients."""
    if isinstance(matrix.columns, pd.RangeIndex):
        return matrix
    unknown = [column for column in matrix.columns if column not in names]
    if unknown:
        raise InputError(
            f"terms_or_matrix has the column {gates.described(unknown[0])}: the coefficients are "
            f"{', '.join(names)}."
        )
    return matrix.reindex(columns=list(names), fill_value=0.0)


def _are_names(value: Any) -> bool:
    if not isinstance(value, Sequence):
        return False
    return len(value) > 0 and all(isinstance(entry, str) for entry in value)


def _matches(term: str, names: Sequence[str]) -> list[int]:
    if term in names:
        return [list(names).index(term)]
    if not term:
        raise InputError("terms_or_matrix names a coefficient by an empty text: name one.")
    pattern = compiled(term, names, "terms_or_matrix")
    found = [c for c, name in enumerate(names) if pattern.search(name)]
    if not found:
        raise InputError(
            f"terms_or_matrix: {gates.described(term)} matches no coefficient: the coefficients "
            f"are {', '.join(names)}."
        )
    return found


def _combination(row: np.ndarray, names: Sequence[str]) -> str:
    parts = []
    for weight, name in zip(row, names, strict=True):
        if weight != 0:
            factor = "" if abs(weight) == 1 else f"{abs(weight):g} * "
            parts.append(f"{'-' if weight < 0 else '+'} {factor}{name}")
    words = " ".join(parts)
    return words.removeprefix("+ ")
