"""Summaries as Markdown, LaTeX and HTML: the figures of the printed one, and nothing that acts."""

import re
import sys

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


ODD = "a&b_c|d<i>$%"
"""A column whose name means something in every format."""


def odd_fits():
    data = mx.load_dataset("bcg").rename(columns={"ablat": ODD})
    fit = mx.mixmeta(f"logor ~ `{ODD}`", S="logorvar", data=data, method="ml")
    return fit, fit.update("~ 1")


def test_a_name_stands_for_itself_in_every_format():
    fit, mean = odd_fits()
    other = fit.update("~ year + year:alloc")
    compared = mx.compare(mean, fit, other)
    assert compared.notes and ODD in compared.notes[0]  # a note with the name
    for result in (fit.summary(), compared):
        page = result.to_html(2)
        assert "<i>" not in page and "a&b" not in page and "a&amp;b_c|d&lt;i&gt;$%" in page
        assert result._repr_html_() == result.to_html()
        text = result.to_markdown(2)
        assert r"a\&b\_c\|d\<i>\$%" in text and not re.search(r"(?<!\\)[&_$<]", text)
        text = result.to_latex(2)
        assert r"a\&b\_c\textbar{}d\textless{}i\textgreater{}\$\%" in text
        table = result.to_gt(2)
        page, text = table.as_raw_html(), table.as_latex()
        body = page[page.index("<table") :]
        assert "<i>" not in body and "a&amp;b_c|d&lt;i&gt;$%" in body
        assert r"a\&b\_c|d\textless{}i\textgreater{}\$\%" in text
        # In a table, & ends a cell where nothing stands before it.
        assert "a&b" not in text
    # Terms are tested with notes too.
    dropped = fit.drop_terms()._repr_html_()
    assert "<i>" not in dropped and "d&lt;i&gt;" in dropped


def test_a_comparison_is_written_with_its_figures():
    fit, mean = odd_fits()
    compared = mx.compare(mean, fit, names=["mean", "slope"])
    row = compared.table.loc["slope"]
    text = compared.to_markdown(2)
    line = next(line for line in text.splitlines() if line.startswith("| slope"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:7] == ["slope", "ml", "3", "2", "1", "13", f"{row.loglik:.2f}"]
    assert f"{row.chi2:.2f}" in cells and f"{row.pvalue:.4f}" in cells
    assert f"{compared.estimates.loc[ODD, 'slope']:.2f}" in text
    # Estimates that a fit has not, and tests of the first, are empty and no "nan".
    assert "nan" not in text and "nan" not in compared.to_latex() + compared.to_html()
    with pytest.raises(mx.InputError, match="digits"):
        compared.to_latex(13)


def test_great_tables_have_the_figures_by_group():
    data = mx.load_dataset("berkey98")
    fit = mx.mixmeta("PD + AL ~ pubyear", ["var_PD", "cov_PD_AL", "var_AL"], data)
    text = fit.summary(conf_level=0.9).to_gt(3).as_latex()
    lines = [line.rstrip(" \\") for line in text.splitlines()]
    for outcome in ("PD", "AL"):
        at = next(i for i, line in enumerate(lines) if f"{{l}}{{{outcome}}}" in line)
        row = next(line for line in lines[at:] if line.startswith("pubyear"))
        own = fit.summary(conf_level=0.9).coefficients.loc[f"{outcome}.pubyear"]
        shown = [own.estimate, own.se, own.lower, own.upper]
        cells = [cell.strip() for cell in row.split("&")]
        assert [cells[i] for i in (1, 2, 5, 6)] == [f"{value:.3f}" for value in shown]
    assert "90\\% interval" in text and "Corr PD, AL & 0.561" in text
    sd = np.sqrt(np.diag(fit.Psi))
    assert f"Std. Dev. PD & {sd[0]:.3f}" in text
    assert "Cochran" in text
    compared = mx.compare(fit.update("~ 1", method="ml"), fit.update(method="ml"))
    text = compared.to_gt(2).as_latex()
    b, se = (frame.loc["PD.pubyear"].iloc[1] for frame in (compared.estimates, compared.se))
    assert f"PD.pubyear &  & {b:.2f} ({se:.2f})" in text


def test_great_tables_are_an_extra(summary, monkeypatch):
    monkeypatch.setitem(sys.modules, "great_tables", None)
    with pytest.raises(mx.InputError, match=r"pip install 'mixmeta_jax\[tables\]'"):
        summary.to_gt()


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
