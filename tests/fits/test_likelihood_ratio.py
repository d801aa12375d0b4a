"""Likelihood-ratio tests: what is compared, what is refused, and why."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError

CLOSE = 1e-10  # the same formula of the same log-likelihoods


@pytest.fixture(scope="module")
def school():
    data = mx.load_dataset("school")
    return data.assign(decade=(data["year"] - 1990) / 10)


@pytest.fixture(scope="module")
def nested(school):
    return mx.mixmeta("effect", S="var", data=school, random="~ 1 | district/study", method="ml")


def test_fixed_effect(nested):
    larger = nested.update(formula="effect ~ decade")
    test = mx.lr_test(nested, larger)
    statistic = 2 * (larger.loglik - nested.loglik)
    assert test.statistic == pytest.approx(statistic, rel=CLOSE)
    assert test.df == 1
    assert test.pvalue == pytest.approx(stats.chi2.sf(statistic, 1), rel=CLOSE)
    assert np.isnan(test.pvalue_mixture)
    assert "mixture" not in str(test)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("smaller", ["~ 1 | district", "~ 1 | study"])
def test_one_level_more_tests_a_variance_at_its_bound(nested, smaller, method):
    larger = nested.update(method=method)
    test = mx.lr_test(larger.update(random=smaller), larger)
    assert test.df == 1
    assert test.pvalue_mixture == pytest.approx(test.pvalue / 2, rel=CLOSE)
    assert "mixture" in str(test)


def test_units_as_groups_are_the_inner_level(nested):
    # Every study of these data is a row.
    by_row = mx.lr_test(nested.update(random=None), nested)
    by_name = mx.lr_test(nested.update(random="~ 1 | study"), nested)
    assert by_row == by_name


def test_random_slope_adds_a_variance_and_a_covariance(nested):
    wider = nested.update(random=["~ decade | district", "~ 1 | study"])
    test = mx.lr_test(nested, wider)
    assert test.df == 2
    tails = [stats.chi2.sf(test.statistic, df) for df in (1, 2)]
    assert test.pvalue_mixture == pytest.approx(sum(tails) / 2, rel=CLOSE)


def test_uncorrelated_random_slope_adds_a_variance(nested):
    wider = nested.update(random=["~ decade | district", "~ 1 | study"], bscov=["diag", "diag"])
    test = mx.lr_test(nested, wider)
    assert test.df == 1
    assert test.pvalue_mixture == pytest.approx(test.pvalue / 2, rel=CLOSE)


def test_heterogeneity_against_fixed_effects(nested):
    one = nested.update(random=None)
    fixed = nested.update(method="fixed")
    test = mx.lr_test(fixed, one)
    assert test.df == 1
    assert test.pvalue_mixture == pytest.approx(test.pvalue / 2, rel=CLOSE)
    two_variances = mx.lr_test(fixed, nested)
    assert two_variances.df == 2
    assert np.isnan(two_variances.pvalue_mixture)


def test_a_correlation_that_vanishes_with_its_variance_has_no_simple_mixture():
    data = mx.load_dataset("berkey98")
    S = ["var_PD", "cov_PD_AL", "var_AL"]
    fixed = mx.mixmeta("PD + AL", S=S, data=data, method="fixed")
    null = fixed.update(method="ml", bscov="fixed", Psi_fix=np.zeros((2, 2)))
    for smaller in (fixed, null):
        one = mx.lr_test(smaller, fixed.update(method="ml", bscov="id"))
        assert one.pvalue_mixture == pytest.approx(one.pvalue / 2, rel=CLOSE)
        for structure in ("cs", "ar1", "unstr"):
            test = mx.lr_test(smaller, fixed.update(method="ml", bscov=structure))
            assert np.isnan(test.pvalue_mixture)


def test_known_null_covariance_is_fixed_effects(nested):
    one = nested.update(random=None)
    known = nested.update(random=None, bscov="fixed", Psi_fix=[[0.0]])
    assert mx.lr_test(known, one) == mx.lr_test(nested.update(method="fixed"), one)


def test_structures_of_the_same_effects_have_no_bound(school):
    data = mx.load_dataset("berkey98")
    larger = mx.mixmeta("PD + AL", S=["var_PD", "cov_PD_AL", "var_AL"], data=data, method="ml")
    test = mx.lr_test(larger.update(bscov="diag"), larger)
    assert test.df == 1
    assert np.isnan(test.pvalue_mixture)


def test_restricted_likelihoods_with_other_fixed_effects(nested):
    smaller, larger = (
        nested.update(method="reml", formula=f) for f in ("effect", "effect ~ decade")
    )
    with pytest.raises(InputError, match="refit both with method='ml'"):
        mx.lr_test(smaller, larger)


def test_restricted_likelihoods_do_not_depend_on_how_predictors_are_coded(nested):
    base = nested.update(method="reml", formula="effect ~ decade")
    wider = nested.update(
        method="reml", formula="effect ~ I(decade * 7 + 2)", random=["~ decade | district"]
    )
    narrow = base.update(random="~ 1 | district")
    assert mx.lr_test(narrow, wider).df == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "reml"}, "measure different things"),
        ({"method": "mm", "random": None}, "has no likelihood"),
        ({"subset": "year > 1980"}, "different outcomes"),
        ({"S": np.ones(56)}, "different error covariances"),
        ({"formula": "effect ~ 0 + decade"}, "not among those of the larger"),
        ({"random": "~ 1 | year"}, "at level 'year'"),
        ({"random": ["~ decade | district", "~ 1 | study"]}, "not among those of the larger"),
        ({}, "differ by at least one"),
    ],
)
def test_comparisons_that_are_refused(nested, changes, message):
    with pytest.raises(InputError, match=message):
        mx.lr_test(nested.update(**changes), nested)


def test_only_fits_are_compared(nested):
    with pytest.raises(InputError, match="must be a fit"):
        mx.lr_test(nested.loglik, nested)


def test_a_larger_fit_that_is_worse(nested):
    district = nested.update(random="~ 1 | district")
    worse = replace(nested, estimate=replace(nested.estimate, loglik=district.loglik - 1))
    with pytest.raises(InputError, match="lower log-likelihood"):
        mx.lr_test(district, worse)


def test_a_fit_that_did_not_converge(nested):
    stopped = replace(nested, estimate=replace(nested.estimate, status=mx.Status.MAX_ITER))
    with pytest.raises(InputError, match="did not converge"):
        mx.lr_test(nested.update(random="~ 1 | district"), stopped)
