"""The printed summary: its words, its layout, and the figures in it."""

import html
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from mixmeta_jax.report.coefficient_table import decimals, stars
from mixmeta_jax.report.summary import model_title
from mixmeta_jax.report.tables import random_frame

BERKEY_S = ["var_PD", "cov_PD_AL", "var_AL"]


@pytest.fixture(scope="module")
def univariate():
    return mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))


@pytest.fixture(scope="module")
def bivariate():
    return mx.mixmeta("PD + AL ~ pubyear", S=BERKEY_S, data=mx.load_dataset("berkey98"))


@pytest.fixture(scope="module")
def nested():
    data = mx.load_dataset("school")
    return mx.mixmeta("effect", S="var", data=data, random="~ 1 | district/study", method="ml")


UNIVARIATE = """\
Univariate random-effects meta-regression
Formula:    logor ~ ablat
Estimation: restricted maximum likelihood (REML)

Fixed effects
               Estimate  Std. Error        z  Pr(>|z|)  95% lower  95% upper
  (Intercept)   0.30105     0.21463   1.4026    0.1607   -0.11962    0.72171
  ablat        -0.03153     0.00628  -5.0247   <0.0001   -0.04383   -0.01923  ***
Significance: *** p < 0.001, ** p < 0.01, * p < 0.05, . p < 0.1

Random effects
  Level unit, 13 groups
                 Std. Dev.
    (Intercept)     0.2246

Heterogeneity
  Cochran's Q = 25.0954 on 11 df, p = 0.0088
  I2 = 56.2%

13 units, 13 observed outcomes
Parameters: 2 fixed, 1 random
Log-likelihood -7.9358, AIC 21.8717, BIC 23.0653"""

BIVARIATE = """\
Multivariate random-effects meta-regression
Formula:    PD + AL ~ pubyear
Outcomes:   2 (PD, AL)
Estimation: restricted maximum likelihood (REML)

Fixed effects
                 Estimate  Std. Error        z  Pr(>|z|)  95% lower  95% upper
  PD
    (Intercept)   -9.2816     43.3419  -0.2141    0.8304   -94.2302    75.6670
    pubyear        0.0049      0.0219   0.2225    0.8239    -0.0380     0.0477
  AL
    (Intercept)   22.5415     59.4308   0.3793    0.7045   -93.9408   139.0237
    pubyear       -0.0115      0.0300  -0.3850    0.7002    -0.0703     0.0472

Random effects
  Level unit, 5 groups: unstructured
        Std. Dev.  Corr PD
    PD     0.1430
    AL     0.2021   0.5614

Heterogeneity
  Cochran's Q = 125.7557 on 6 df, p < 0.0001
  I2 = 95.2%
             Q  df   Pr(>Q)     I2
  PD   13.9554   3   0.0030  78.5%
  AL  108.4488   3  <0.0001  97.2%

5 units, 10 observed outcomes
Parameters: 4 fixed, 3 random
Log-likelihood 2.0732, AIC 9.8537, BIC 8.3960"""

NESTED_RANDOM = """\
Random effects
  Level district, 11 groups
                 Std. Dev.
    (Intercept)     0.2403
  Level study, 56 groups
                 Std. Dev.
    (Intercept)     0.1813
"""


def test_one_outcome(univariate):
    assert str(univariate.summary()) == UNIVARIATE


def test_two_outcomes(bivariate):
    assert str(bivariate.summary()) == BIVARIATE


def test_levels(nested):
    text = str(nested.summary())
    assert text.startswith("Multilevel random-effects meta-analysis\nFormula:    effect ~ 1\n")
    assert "Random:     ~ 1 | district/study\n" in text
    assert NESTED_RANDOM in text
    assert "56 units, 11 groups of district, 56 groups of study, 56 observed outcomes" in text


def test_random_part_in_other_forms(nested):
    by_level = nested.update(random={"district": "~ 1", "study": "~ 1"})
    assert "Random:     ~ 1 | district, ~ 1 | study\n" in str(by_level.summary())
    listed = nested.update(random=["~ 1 | district", "~ 1 | study"])
    assert "Random:     ~ 1 | district, ~ 1 | study\n" in str(listed.summary())


def test_frames_hold_what_is_printed(bivariate):
    summary = bivariate.summary(conf_level=0.9)
    table = summary.coefficients
    assert list(table) == ["estimate", "se", "z", "pvalue", "lower", "upper"]
    # Outcome by outcome, where the coefficients themselves are predictor-major.
    names = ["PD.(Intercept)", "PD.pubyear", "AL.(Intercept)", "AL.pubyear"]
    assert list(table.index) == names
    np.testing.assert_array_equal(table["estimate"], bivariate.coef[names])
    pd.testing.assert_frame_equal(
        table[["lower", "upper"]], bivariate.confint(0.9).loc[names, ["lower", "upper"]]
    )
    pd.testing.assert_frame_equal(summary.qtest, bivariate.qtest())
    assert summary.i2["overall"] == bivariate.qtest().loc["overall", "I2"]
    assert "90% lower" in str(summary)


def test_random_effects_as_variances(bivariate, nested):
    summary = bivariate.summary(report="var")
    Psi = bivariate.Psi
    assert summary.random.loc["AL", "var"] == Psi.loc["AL", "AL"]
    assert summary.random.loc["AL", "cov.PD"] == Psi.loc["AL", "PD"]
    assert "Variance  Cov PD" in str(summary)
    by_level = nested.summary(report="var").random
    assert list(by_level) == ["district", "study"]
    with pytest.raises(InputError, match="report='corr'"):
        nested.summary(report="corr")


def test_only_z_tests(univariate):
    with pytest.raises(InputError, match="'z'"):
        univariate.summary(test="exact")


def test_fixed_effects_show_no_random_part(nested):
    text = str(nested.update(method="fixed").summary())
    assert text.startswith("Univariate fixed-effects meta-analysis")
    assert "Random" not in text
    assert nested.update(method="fixed").summary().random is None


def test_methods_without_likelihood(univariate):
    text = str(univariate.update(method="mm").summary())
    assert "No log-likelihood, AIC or BIC: method 'mm' has none" in text
    assert "nan" not in text


def test_status_is_told_when_there_is_something_to_tell(univariate):
    assert "Status" not in str(univariate.summary())
    for status in (mx.Status.BOUNDARY, mx.Status.MAX_ITER):
        fit = replace(univariate, estimate=replace(univariate.estimate, status=status))
        assert str(fit.summary()).endswith(f"Status {status.name}: {status.sentence}")
        assert status.sentence in html.unescape(fit.summary()._repr_html_())


def test_clipped_moments_do_not_speak_of_a_likelihood(univariate):
    fit = univariate.update(method="mm")
    fit = replace(fit, estimate=replace(fit.estimate, status=mx.Status.BOUNDARY))
    assert "negative eigenvalue" in str(fit.summary())
    assert "likelihood has" not in str(fit.summary())


def test_html_escapes_names():
    data = mx.load_dataset("bcg").rename(columns={"ablat": "<lat>"})
    fit = mx.mixmeta("logor ~ `<lat>`", S="logorvar", data=data)
    page = fit.summary()._repr_html_()
    assert "&lt;lat&gt;" in page
    assert "<lat>" not in page


def test_html_has_every_figure_of_the_text(bivariate):
    summary = bivariate.summary()
    page = summary._repr_html_()
    for figure in ("43.3419", "0.5614", "125.7557", "Log-likelihood 2.0732", "0.1430", "13.9554"):
        assert figure in str(summary)
        assert figure in page


@pytest.mark.parametrize(
    ("k", "n_levels", "method", "predictors", "title"),
    [
        (1, 1, "ml", ["(Intercept)"], "Univariate random-effects meta-analysis"),
        (1, 0, "fixed", ["(Intercept)", "x"], "Univariate fixed-effects meta-regression"),
        (3, 1, "reml", ["(Intercept)"], "Multivariate random-effects meta-analysis"),
        (1, 2, "reml", ["x"], "Multilevel random-effects meta-regression"),
        (3, 2, "reml", ["(Intercept)"], "Multivariate multilevel random-effects meta-analysis"),
    ],
)
def test_titles(k, n_levels, method, predictors, title):
    assert model_title(k, n_levels, method, predictors) == title


def test_small_figures_get_more_places():
    assert decimals([12.0, 3.0]) == 4
    assert decimals([0.012, 3.0]) == 4
    assert decimals([0.00031]) == 6
    assert decimals([1e-20]) == 8
    assert decimals([0.0, float("nan")]) == 4


def test_stars():
    marks = [stars(p) for p in (0.0005, 0.005, 0.03, 0.07, 0.2, float("nan"))]
    assert marks == ["***", "**", "*", ".", "", ""]


def test_null_variance_has_no_correlation():
    table = random_frame(np.array([[4.0, 0.0], [0.0, 0.0]]), ["a", "b"], "sd")
    assert table["sd"].tolist() == [2.0, 0.0]
    assert table["cor.a"].isna().all()


def test_null_variance_prints_no_correlation(bivariate):
    fit = replace(bivariate, estimate=replace(bivariate.estimate, Psi=(np.diag([0.04, 0.0]),)))
    assert "    AL     0.0000        -\n" in str(fit.summary())
