"""The printed summary of a fit, as text and as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import RandomReport
from mixmeta_jax.covariance.held_names import held_words
from mixmeta_jax.errors import shown
from mixmeta_jax.fits.coefficients import coefficient_frame
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.kept import GivesCopies
from mixmeta_jax.inference.reference import Reference
from mixmeta_jax.report.coefficient_table import (
    coefficient_cells,
    coefficient_header,
    coefficient_lines,
    reference_lines,
    text_table,
)
from mixmeta_jax.report.markup import Lines, Panel, Table, Written, tabled
from mixmeta_jax.report.random_table import RandomPart, random_cells, random_lines, random_title
from mixmeta_jax.report.results import DegreesOfFreedom, p_phrase, p_text
from mixmeta_jax.report.tables import random_frame
from mixmeta_jax.status import Status

Q_HEADER = ("Q", "df", "Pr(>Q)", "I2")

MOST_REASONS = 3
"""Reasons for which rows were left out that are told apart."""

CLIPPED = "The moment estimate had a negative eigenvalue, which was set to zero."
"""What the boundary means where there is no likelihood."""


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
class SummaryResult(GivesCopies, Written):
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
    left_out
        Reasons why rows were left out, and how many for each, the most frequent first.
    reason
        Why the likelihood is not finite; empty where it is.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> summary = fit.summary()
    >>> summary.random, summary.i2.round(1).to_dict()
    (                   sd
    (Intercept)  0.581182, {'overall': 92.6, 'logor': 92.6})
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
    left_out: tuple[tuple[str, int], ...] = ()
    reason: str = ""

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
            lines += random_lines(part)
        lines += ["", "Heterogeneity", *_heterogeneity_lines(self.qtest)]
        by_outcome = _outcome_cells(self.qtest)
        if by_outcome:
            lines += text_table(Q_HEADER, self.outcomes, by_outcome)
        lines += ["", *_counts(self), *_criteria(self)]
        if self.status is not Status.CONVERGED:
            lines += ["", _status_line(self)]
        return "\n".join(lines)

    __repr__ = __str__

    def _blocks(self, digits: int | None) -> list[Table | Lines]:
        """What the summary says, for `markup`."""
        header = coefficient_header(self.coefficients, self.conf_level)
        cells = coefficient_cells(self.coefficients, digits)
        names = list(self.coefficients.index)
        blocks: list[Table | Lines] = [Lines((self.title,), title=True), Lines((*_heading(self),))]
        blocks.append(tabled(["Fixed effects", *header], names, cells))
        tested = reference_lines(self.reference, self.notes)
        blocks += [Lines((*tested,))] if tested else []
        for part in self.parts:
            columns, rows = random_cells(part.table, digits)
            blocks.append(tabled([random_title(part), *columns], list(part.table.index), rows))
        blocks.append(Lines((*_heterogeneity_lines(self.qtest),)))
        by_outcome = _outcome_cells(self.qtest)
        if by_outcome:
            blocks.append(tabled(["Heterogeneity", *Q_HEADER], self.outcomes, by_outcome))
        closing = [*_counts(self), *_criteria(self)]
        if self.status is not Status.CONVERGED:
            closing.append(_status_line(self))
        return [*blocks, Lines((*closing,))]

    def _panel(self, digits: int | None) -> Panel:
        """Coefficients by outcome, then the random effects, a row each."""
        header = coefficient_header(self.coefficients, self.conf_level)[:-1]
        cells = [row[:-1] for row in coefficient_cells(self.coefficients, digits)]
        p, groups = len(self.predictors), []
        by_outcome = len(self.outcomes) > 1 and self.predictors != ("(Intercept)",)
        names = list(self.coefficients.index)
        if by_outcome:
            for o, outcome in enumerate(self.outcomes):
                own = cells[o * p : (o + 1) * p]
                rows = zip(self.predictors, own, strict=True)
                groups.append((outcome, tuple((name, *row) for name, row in rows)))
        else:
            rows = zip(names, cells, strict=True)
            groups.append(("Fixed effects", tuple((name, *row) for name, row in rows)))
        empty = ("",) * (len(header) - 1)
        for part in self.parts:
            columns, rows_of = random_cells(part.table, digits)
            effects = list(part.table.index)
            found = []
            for c, column in enumerate(columns):
                for name, row in zip(effects, rows_of, strict=True):
                    if row[c]:
                        pair = f"{column}, {name}" if c else f"{column} {name}"
                        found.append((pair, row[c], *empty))
            groups.append((random_title(part), tuple(found)))
        last = len(header)
        percent, lower, upper = header[-2].removesuffix(" lower"), "lower", "upper"
        notes = [
            *reference_lines(self.reference, self.notes),
            *(line.strip() for line in _heterogeneity_lines(self.qtest)),
            *_counts(self),
            *_criteria(self),
        ]
        if self.status is not Status.CONVERGED:
            notes.append(_status_line(self))
        return Panel(
            self.title,
            "; ".join(" ".join(line.split()) for line in _heading(self)),
            ("", *header[:-2], lower, upper),
            tuple(groups),
            ((f"{percent} interval", (last - 1, last)),),
            tuple(notes),
        )


def summarise(
    model: FittedModel, conf_level: float, report: str, reference: Reference
) -> SummaryResult:
    """Collect what the summary shows; see `Fit.summary`."""
    gates.choice(report, "report", RandomReport)
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
        random_formula=random_formula(model.random) if parts else None,
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
        notes=(*reference.notes, *_coding_notes(model)),
        left_out=tuple(Counter(frame.reasons).most_common()),
        reason=model.reason,
    )


def _coding_notes(model: FittedModel) -> list[str]:
    """What users of R may take otherwise: how ordered categories are coded."""
    data, frame = model._arguments["data"], model.frame
    if not isinstance(data, pd.DataFrame):
        return []
    ordered = [
        name
        for name in frame.fixed.columns
        if getattr(data[name].dtype, "ordered", False)
        and any(f"{name}[T." in term for term in frame.x_names)
    ]
    if not ordered:
        return []
    one = ordered[0]
    return [
        f"Ordered categories ({', '.join(ordered)}) are coded by treatment contrasts, not by "
        f"polynomials as in R: those are C({one}, contr.poly)"
    ]


def random_formula(random: Any) -> str | None:
    """A random part on one line."""
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
        *_left_out(summary.left_out),
        f"Parameters: {df.fixed} fixed, {df.random} random",
    ]


def _left_out(reasons: Sequence[tuple[str, int]]) -> list[str]:
    """How many rows were left out, and why: the most frequent reasons."""
    if not reasons:
        return []
    total = sum(count for _, count in reasons)
    words = [f"{shown(reason)} ({count})" for reason, count in reasons[:MOST_REASONS]]
    others = len(reasons) - MOST_REASONS
    words += [f"{others} other reasons"] if others > 0 else []
    return [f"Left out {total} row{'' if total == 1 else 's'}: {', '.join(words)}"]


def _criteria(summary: SummaryResult) -> list[str]:
    if summary.reason:
        return ["No log-likelihood, AIC or BIC: it is not finite"]
    if not np.isfinite(summary.loglik):
        return [f"No log-likelihood, AIC or BIC: method '{summary.method}' has none"]
    return [f"Log-likelihood {summary.loglik:.4f}, AIC {summary.aic:.4f}, BIC {summary.bic:.4f}"]


def _status_line(summary: SummaryResult) -> str:
    status = summary.status
    if status is Status.BOUNDARY and not np.isfinite(summary.loglik):
        return f"Status {status.name}: {CLIPPED}"
    if summary.reason:
        return f"Status {status.name}: {summary.reason}"
    return f"Status {status.name}: {status.sentence}"
