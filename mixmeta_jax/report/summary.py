"""The printed summary of a fit, as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.covariance.held_names import held_words
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.coefficients import coefficient_frame
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.inference.reference import Reference
from mixmeta_jax.report.coefficient_table import (
    coefficient_cells,
    coefficient_header,
    coefficient_lines,
    decimals,
    reference_lines,
    text_table,
)
from mixmeta_jax.report.results import DegreesOfFreedom, p_phrase, p_text
from mixmeta_jax.report.tables import random_frame
from mixmeta_jax.status import Status

Q_HEADER = ("Q", "df", "Pr(>Q)", "I2")

CLIPPED = "The moment estimate had a negative eigenvalue, which was set to zero."
"""What the boundary means where there is no likelihood."""

REPORTS = ("sd", "var")

METHODS_IN_WORDS = {
    "fixed": "fixed effects (no between-group variance)",
    "ml": "maximum likelihood (ML)",
    "reml": "restricted maximum likelihood (REML)",
    "mm": "method of moments (MM)",
    "vc": "variance components (VC)",
    "dl": "DerSimonian-Laird (DL)",
    "he": "Hedges (HE)",
    "hs": "Hunter-Schmidt (HS)",
    "sj": "Sidik-Jonkman (SJ)",
    "pm": "Paule-Mandel (PM)",
    "eb": "empirical Bayes (EB)",
}


@dataclass(frozen=True)
class RandomPart:
    """The random effects of one level.

    Attributes
    ----------
    level
        Name of the level.
    n_groups
        Number of its groups.
    structure
        The covariance structure in words.
    table
        Standard deviations and correlations, or variances and covariances; see
        `tables.random_frame`.
    held
        What of it is held at a value, in words; empty for nothing.
    """

    level: str
    n_groups: int
    structure: str
    table: pd.DataFrame
    held: str = ""


@dataclass(frozen=True)
class SummaryResult:
    """What ``fit.summary()`` returns; ``str`` of it is the printed summary.

    Attributes
    ----------
    title, formula, random_formula, method
        The kind of model, its fixed and random part, and the estimation method.
    outcomes, predictors
        Names of the k outcomes and of the p predictors.
    coefficients
        One row per coefficient, outcome by outcome: ``estimate, se, z, pvalue, lower, upper``; with
        ``t, df`` in the place of ``z`` where the reference distribution is t.
    parts
        The random part of each level, outer first.
    qtest
        Cochran's Q and I² overall and per outcome: ``Q, df, pvalue, I2``.
    n
        Number of units.
    df
        Counts of observed outcomes and parameters.
    loglik, aic, bic
        NaN where the method has no likelihood.
    status
        How the estimation ended.
    conf_level, report
        As asked for.
    reference
        The reference distribution of tests and intervals in words.
    notes
        What a reader should know of it, a sentence each.
    """

    title: str
    formula: str
    random_formula: str | None
    method: str
    outcomes: tuple[str, ...]
    predictors: tuple[str, ...]
    coefficients: pd.DataFrame
    parts: tuple[RandomPart, ...]
    qtest: pd.DataFrame
    n: int
    df: DegreesOfFreedom
    loglik: float
    aic: float
    bic: float
    status: Status
    conf_level: float
    report: str
    reference: str = ""
    notes: tuple[str, ...] = ()

    @property
    def random(self) -> pd.DataFrame | dict[str, pd.DataFrame] | None:
        """Size and correlation of the random effects; by level where there are several."""
        if len(self.parts) > 1:
            return {part.level: part.table for part in self.parts}
        return self.parts[0].table if self.parts else None

    @property
    def i2(self) -> pd.Series:
        """I² in percent, overall and per outcome."""
        return self.qtest["I2"]

    def __str__(self) -> str:
        lines = [self.title, *_heading(self), "", "Fixed effects"]
        lines += coefficient_lines(
            self.coefficients, self.conf_level, self.outcomes, self.predictors
        )
        lines += reference_lines(self.reference, self.notes)
        if self.parts:
            lines += ["", "Random effects"]
        for part in self.parts:
            lines += _random_lines(part)
        lines += ["", "Heterogeneity", *_heterogeneity_lines(self.qtest)]
        by_outcome = _outcome_cells(self.qtest)
        if by_outcome:
            lines += text_table(Q_HEADER, self.outcomes, by_outcome)
        lines += ["", *_counts(self), *_criteria(self)]
        if self.status is not Status.CONVERGED:
            lines += ["", _status_line(self)]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts: list[str] = [f"<h4>{html.escape(self.title)}</h4>", _paragraph(_heading(self))]
        header = coefficient_header(self.coefficients, self.conf_level)
        cells = coefficient_cells(self.coefficients)
        names = list(self.coefficients.index)
        parts.append(_html_table(["Fixed effects", *header], names, cells))
        tested = reference_lines(self.reference, self.notes)
        parts += [_paragraph(tested)] if tested else []
        for part in self.parts:
            columns, rows = _random_cells(part.table)
            header = [_random_title(part), *columns]
            parts.append(_html_table(header, list(part.table.index), rows))
        parts.append(_paragraph(_heterogeneity_lines(self.qtest)))
        by_outcome = _outcome_cells(self.qtest)
        if by_outcome:
            parts.append(_html_table(["Heterogeneity", *Q_HEADER], self.outcomes, by_outcome))
        closing = [*_counts(self), *_criteria(self)]
        if self.status is not Status.CONVERGED:
            closing.append(_status_line(self))
        return "".join([*parts, _paragraph(closing)])


def summarise(
    model: FittedModel, conf_level: float, report: str, reference: Reference
) -> SummaryResult:
    """Collect what the summary shows; see `Fit.summary`."""
    if report not in REPORTS:
        raise InputError(
            f"report={report!r} is not known: choose 'sd' (standard deviations and correlations) "
            "or 'var' (variances and covariances)."
        )
    frame = model.frame
    parts = []
    for number, Psi in enumerate(model.Psi_by_level):
        level = frame.levels[number]
        table = random_frame(Psi, frame.random_names(number), report)
        structure = model.design.structures[number]
        held = held_words(structure, frame.random_names(number))
        parts.append(RandomPart(level.name, len(level.labels), structure.label, table, held))
    return SummaryResult(
        title=model_title(frame.k, model.n_levels, model.method, frame.x_names),
        formula=model.formula,
        random_formula=_random_formula(model.random) if parts else None,
        method=model.method,
        outcomes=tuple(frame.outcome_names),
        predictors=tuple(frame.x_names),
        coefficients=coefficient_frame(model, conf_level, reference),
        parts=tuple(parts),
        qtest=model.qtest(),
        n=frame.n,
        df=model.df,
        loglik=model.loglik,
        aic=model.aic,
        bic=model.bic,
        status=model.status,
        conf_level=conf_level,
        report=report,
        reference=reference.words,
        notes=reference.notes,
    )


def _random_formula(random: Any) -> str | None:
    if random is None or isinstance(random, str):
        return random
    if isinstance(random, Mapping):
        return ", ".join(f"{formula} | {level}" for level, formula in random.items())
    return ", ".join(random)


def model_title(k: int, n_levels: int, method: str, predictors: Sequence[str]) -> str:
    """The kind of model in words."""
    words = []
    if k > 1 or n_levels <= 1:
        words.append("multivariate" if k > 1 else "univariate")
    if n_levels > 1:
        words.append("multilevel")
    words.append("fixed-effects" if method == "fixed" else "random-effects")
    only_means = list(predictors) == ["(Intercept)"]
    words.append("meta-analysis" if only_means else "meta-regression")
    title = " ".join(words)
    return title[0].upper() + title[1:]


def _heading(summary: SummaryResult) -> list[str]:
    rows = [("Formula", summary.formula)]
    if summary.random_formula:
        rows.append(("Random", summary.random_formula))
    if len(summary.outcomes) > 1:
        rows.append(("Outcomes", f"{len(summary.outcomes)} ({', '.join(summary.outcomes)})"))
    method = METHODS_IN_WORDS.get(summary.method, summary.method)
    rows.append(("Estimation", method))
    return [f"{name + ':':<12}{value}" for name, value in rows]


def _random_cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    size = table.columns[0]
    sd = size == "sd"
    places = decimals(list(table[size]))
    related = "Corr" if sd else "Cov"
    header = ["Std. Dev." if sd else "Variance"]
    header += [f"{related} {name.split('.', 1)[1]}" for name in table.columns[1:]]
    rows = []
    for r, values in enumerate(table.to_numpy()):
        cells = [f"{values[0]:.{places}f}"]
        for c, value in enumerate(values[1:]):
            # A null variance has no correlation with the others.
            shown = "-" if np.isnan(value) else f"{value:.{4 if sd else places}f}"
            cells.append(shown if c < r else "")
        rows.append(cells)
    return header, rows


def _random_lines(part: RandomPart) -> list[str]:
    header, rows = _random_cells(part.table)
    title = _random_title(part)
    return [f"  {title}", *text_table(header, list(part.table.index), rows, indent="    ")]


def _random_title(part: RandomPart) -> str:
    title = f"Level {part.level}, {part.n_groups} groups"
    # A single variance has no structure to speak of.
    words = [part.structure.lower()] if len(part.table) > 1 else []
    words += [part.held] if part.held else []
    return f"{title}: {', '.join(words)}" if words else title


def _heterogeneity_lines(qtest: pd.DataFrame) -> list[str]:
    Q, df, pvalue, I2 = qtest.iloc[0]
    if df == 0:
        return ["  Cochran's Q has 0 df: as many coefficients as observed outcomes"]
    return [
        f"  Cochran's Q = {Q:.4f} on {df:.0f} df, {p_phrase(pvalue)}",
        f"  I2 = {I2:.1f}%",
    ]


def _outcome_cells(qtest: pd.DataFrame) -> list[list[str]]:
    """Cells of the outcomes under `Q_HEADER`; none for a single outcome."""
    rows = qtest.to_numpy()[1:] if len(qtest) > 2 else []
    return [[f"{Q:.4f}", f"{df:.0f}", p_text(pvalue), f"{I2:.1f}%"] for Q, df, pvalue, I2 in rows]


def _counts(summary: SummaryResult) -> list[str]:
    groups = []
    if summary.random_formula is not None:
        groups = [f"{part.n_groups} groups of {part.level}" for part in summary.parts]
    df = summary.df
    return [
        ", ".join([f"{summary.n} units", *groups, f"{df.nall} observed outcomes"]),
        f"Parameters: {df.fixed} fixed, {df.random} random",
    ]


def _criteria(summary: SummaryResult) -> list[str]:
    if not np.isfinite(summary.loglik):
        return [f"No log-likelihood, AIC or BIC: method '{summary.method}' has none"]
    return [f"Log-likelihood {summary.loglik:.4f}, AIC {summary.aic:.4f}, BIC {summary.bic:.4f}"]


def _status_line(summary: SummaryResult) -> str:
    status = summary.status
    if status is Status.BOUNDARY and not np.isfinite(summary.loglik):
        return f"Status {status.name}: {CLIPPED}"
    return f"Status {status.name}: {status.sentence}"


def _paragraph(lines: Sequence[str]) -> str:
    return "<p>" + "<br>".join(html.escape(line.strip()) for line in lines) + "</p>"


def _html_table(header: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in header)
    body = "".join(
        f"<tr><th>{html.escape(str(name))}</th>"
        + "".join(f"<td>{html.escape(cell.strip())}</td>" for cell in row)
        + "</tr>"
        for name, row in zip(names, rows, strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
