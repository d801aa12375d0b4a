"""A fit in a paragraph: the figures are those of the fit."""

import re

import pytest

import mixmeta_jax as mx


def test_a_standard_fit():
    fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
    assert fit.report() == (
        "A univariate random-effects meta-regression (logor ~ ablat; 13 units, 13 observed "
        "outcomes) was fitted by restricted maximum likelihood (REML) with mixmeta_jax "
        f"{mx.__version__}. Cochran's Q was 25.095 on 11 df (p = 0.0088), and I² 56.2 percent. "
        "The variance of the effects was τ² = 0.050 (τ = 0.225). The estimates were (Intercept) "
        "0.301 (95% CI -0.120 to 0.722; p = 0.1607) and ablat -0.032 (95% CI -0.044 to -0.019; "
        "p < 0.0001)."
    )


def test_levels_and_outcomes_are_named():
    school = mx.load_dataset("school")
    words = mx.mixmeta("effect", S="var", data=school, random="~ 1 | district/study").report()
    assert words.startswith("A multilevel random-effects")
    assert "11 groups of district, 56 groups of study" in words
    assert "The variance of the effects of district was τ² = 0.065" in words
    S = ["var_PD", "cov_PD_AL", "var_AL"]
    words = mx.mixmeta("PD + AL ~ 1", S=S, data=mx.load_dataset("berkey98")).report(0.9, 2)
    assert re.search(
        r"deviations of the effects were 0\.11 \(PD\) and 0\.18 \(AL\)\. Their corr", words
    )
    assert "90% CI" in words


def test_what_is_not_there_is_not_said():
    fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"), method="fixed")
    assert "variance of the effects" not in fit.report()
    S = ["V1", "V2"]
    bound = mx.mixmeta("y1 + y2", S=S, data=mx.load_dataset("p53"), rho=0.5)
    assert "ended as BOUNDARY" in bound.report()


@pytest.mark.parametrize("digits", [-1, 13, 2.5, "3", True, None])
def test_digits_are_a_whole_number(digits):
    fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    with pytest.raises(mx.InputError, match="digits must be"):
        fit.report(digits=digits)
