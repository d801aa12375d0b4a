"""Summaries as Markdown, LaTeX and HTML: the figures of the printed one, and nothing that acts."""

import re

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx


@pytest.fixture(scope="module")
def summary():
    data = mx.load_dataset("bcg").rename(columns={"ablat": "lat_it|ude"})
    fit = mx.mixmeta("logor ~ `lat_it|ude`", S="logorvar", data=data)
    return fit.summary()


def test_markdown_has_a_row_per_coefficient(summary):
    text = summary.to_markdown(digits=2)
    assert text.startswith("**Univariate random-effects meta-regression**")
    assert "| (Intercept) | 0.30 | 0.21 | 1.4026 | 0.1607 | -0.12 | 0.72 |" in text
    # A bar in a name does not end its cell, nor does an underscore begin emphasis.
    assert r"lat\_it\|ude" in text
    tables = [part for part in text.split("\n\n") if part.startswith("| ")]
    for table in tables:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}
        assert len(bars) == 1


def test_latex_is_balanced_and_escaped(summary):
    text = summary.to_latex()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert r"lat\_it\textbar{}ude" in text and r"95\% lower" in text
    assert not re.search(r"(?<!\\)[%_#$]", text)


def test_html_is_what_notebooks_show(summary):
    assert summary.to_html() == summary._repr_html_()
    assert "<table>" in summary.to_html(3) and "&gt;|z|" in summary.to_html()


@pytest.mark.parametrize("digits", [-1, 13, "2", 2.5, True])
def test_digits_are_a_whole_number(summary, digits):
    with pytest.raises(mx.InputError, match="digits"):
        summary.to_markdown(digits)


def test_what_is_printed_as_zero_has_no_correlation_printed():
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.normal(0, 0.1, (12, 2)), columns=["a", "b"])
    S = np.tile(np.eye(2) * 0.25, (12, 1, 1))
    fit = mx.mixmeta("a + b ~ 1", S=S, data=data)
    sd = np.sqrt(np.diag(fit.Psi))
    assert (sd < 5e-5).any()
    text = str(fit.summary())
    row = next(line for line in text.splitlines() if line.split()[:1] == ["b"] and "0.0000" in line)
    assert row.rstrip().endswith("-")
