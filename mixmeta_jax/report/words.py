"""A fit in a paragraph, with the figures that a journal asks for."""

from __future__ import annotations

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.fits.coefficients import coefficient_frame
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.inference.reference import Reference
from mixmeta_jax.report.markup import MOST_DIGITS
from mixmeta_jax.report.results import p_phrase
from mixmeta_jax.report.summary import METHODS_IN_WORDS, model_title
from mixmeta_jax.status import Status

MOST_LINES = 20
"""Coefficients that are shown where a fit is."""


def paragraph(
    model: FittedModel, reference: Reference, version: str, conf_level: float, digits: int
) -> str:
    """The fit in words; see `Fit.report`."""
    digits = gates.whole(digits, "digits", 0, MOST_DIGITS)
    sentences = [
        _design(model, version),
        _heterogeneity(model, digits),
        *_variances(model, digits),
        _effects(model, reference, conf_level, digits),
    ]
    if model.status is not Status.CONVERGED:
        sentences.append(f"The estimation ended as {model.status.name}: {model.status.sentence}")
    return " ".join(sentences)


def coefficient_words(model: FittedModel) -> list[str]:
    """A line per coefficient: its name, estimate and standard error."""
    names, se = model.frame.coef_names(), np.sqrt(np.diag(model.estimate.vcov))
    width = max(map(len, names))
    shown = list(zip(names, model.estimate.beta, se, strict=True))
    lines = [f"  {name:<{width}}  {b:.4g} ({s:.4g})" for name, b, s in shown[:MOST_LINES]]
    rest = len(shown) - len(lines)
    return [*lines, f"  and {rest} more"] if rest else lines


def _design(model: FittedModel, version: str) -> str:
    frame, df = model.frame, model.df
    title = model_title(frame.k, model.n_levels, model.method, frame.x_names)
    title = title[0].lower() + title[1:]
    method = METHODS_IN_WORDS[model.method]
    groups = [
        f"{len(level.labels)} groups of {level.name}"
        for level in frame.levels[: model.n_levels]
        if model.random is not None
    ]
    counted = ", ".join([f"{frame.n} units", *groups, f"{df.nall} observed outcomes"])
    return (
        f"A {title} ({model.formula}; {counted}) was fitted by {method} with mixmeta_jax {version}."
    )


def _heterogeneity(model: FittedModel, digits: int) -> str:
    Q, df, pvalue, I2 = model.qtest().iloc[0]
    if not np.isfinite(Q) or df == 0:
        return "Cochran's Q is not defined for these data."
    return (
        f"Cochran's Q was {Q:.{digits}f} on {df:.0f} df ({p_phrase(pvalue)}), and I² "
        f"{I2:.1f} percent."
    )


def _variances(model: FittedModel, digits: int) -> list[str]:
    """One sentence per level on the variances of its random effects, and their correlations."""
    sentences = []
    for number, Psi in enumerate(model.Psi_by_level):
        names, level = model.frame.random_names(number), model.frame.levels[number].name
        of_level = f" of {level}" if model.random is not None else ""
        sd = np.sqrt(np.maximum(np.diag(Psi), 0.0))
        if len(names) == 1:
            tau = f"τ² = {Psi[0, 0]:.{digits}f} (τ = {sd[0]:.{digits}f})"
            sentences.append(f"The variance of the effects{of_level} was {tau}.")
            continue
        sizes = [f"{s:.{digits}f} ({name})" for s, name in zip(sd, names, strict=True)]
        sentences.append(f"The standard deviations of the effects{of_level} were {_listed(sizes)}.")
        # Beside a standard deviation that is shown as 0 a correlation says nothing.
        if len(names) == 2 and all(float(f"{s:.{digits}f}") for s in sd):
            correlation = Psi[1, 0] / (sd[0] * sd[1])
            sentences.append(f"Their correlation was {correlation:.{digits}f}.")
    return sentences


def _effects(model: FittedModel, reference: Reference, conf_level: float, digits: int) -> str:
    table = coefficient_frame(model, conf_level, reference)
    percent = f"{100 * conf_level:.4g}"
    found = [
        f"{name} {row['estimate']:.{digits}f} ({percent}% CI {row['lower']:.{digits}f} to "
        f"{row['upper']:.{digits}f}; {p_phrase(row['pvalue'])})"
        for name, row in table.iterrows()
    ]
    by = "" if reference.name == "z" else f" ({reference.words})"
    return f"The estimates were {_listed(found)}{by}."


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
