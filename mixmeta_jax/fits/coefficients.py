"""Tables, intervals and tests of the fixed effects, with their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.inference import wald
from mixmeta_jax.report.results import WaldTest


def coefficient_frame(model: FittedModel, conf_level: float, test: str) -> pd.DataFrame:
    """``estimate, se, z, pvalue, lower, upper`` of the coefficients, outcome by outcome."""
    wald.check_test(test)
    level = wald.check_conf_level(conf_level)
    table = wald.coefficient_table(model.estimate.beta, model.estimate.vcov, level)
    p, k = model.frame.p, model.frame.k
    by_outcome = np.arange(p * k).reshape(p, k).T.ravel()
    names = model.frame.coef_names()
    return pd.DataFrame(
        {name: values[by_outcome] for name, values in table._asdict().items()},
        index=[names[c] for c in by_outcome],
    )


def interval_frame(
    model: FittedModel, conf_level: float, simultaneous: str | None, test: str
) -> pd.DataFrame:
    """``estimate, lower, upper`` of the coefficients, in their own order."""
    wald.check_test(test)
    level = wald.check_conf_level(conf_level)
    beta, vcov = model.estimate.beta, model.estimate.vcov
    half = wald.critical_value(vcov, level, simultaneous) * np.sqrt(np.diag(vcov))
    return pd.DataFrame(
        {"estimate": beta, "lower": beta - half, "upper": beta + half},
        index=model.frame.coef_names(),
    )


def joint_test(model: FittedModel, terms_or_matrix: Any, rhs: Any, test: str) -> WaldTest:
    """χ² test of linear hypotheses given by names, regular expressions or a matrix."""
    wald.check_test(test)
    names = model.frame.coef_names()
    L = hypotheses(terms_or_matrix, names)
    values = gates.numbers(rhs, "rhs")
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(L)):
        raise InputError(
            f"rhs has shape {values.shape}, but there are {len(L)} hypotheses: give one value, or "
            "one for each."
        )
    values = np.broadcast_to(values, (len(L),))
    statistic, df, pvalue = wald.linear_test(L, values, model.estimate.beta, model.estimate.vcov)
    words = [f"{_combination(row, names)} = {v:g}" for row, v in zip(L, values, strict=True)]
    return WaldTest(statistic, df, pvalue, tuple(words))


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
    try:
        pattern = re.compile(term)
    except re.error as error:
        raise InputError(
            f"terms_or_matrix: {gates.described(term)} is neither the name of a coefficient "
            f"({', '.join(names)}) nor a regular expression ({error})."
        ) from None
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
