"""The names of statsmodels and R: the same values as under ours."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx


@pytest.fixture(scope="module")
def fit():
    return mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))


@pytest.fixture(scope="module")
def bivariate():
    S = ["var_PD", "cov_PD_AL", "var_AL"]
    return mx.mixmeta("PD + AL ~ pubyear", S=S, data=mx.load_dataset("berkey98"))


def test_coefficients(fit, bivariate):
    for one in (fit, bivariate):
        pd.testing.assert_series_equal(one.params, one.coef)
        table = one.summary().coefficients.loc[one.coef.index]
        np.testing.assert_array_equal(one.bse, table["se"])
        np.testing.assert_array_equal(one.pvalues, table["pvalue"])
        pd.testing.assert_frame_equal(one.conf_int(0.1), one.confint(0.9)[["lower", "upper"]])


def test_the_fit_as_a_whole(fit, bivariate):
    assert fit.llf == fit.loglik
    assert fit.tau2 == fit.Psi.iloc[0, 0]
    assert bivariate.n_obs == 10
    pd.testing.assert_series_equal(fit.fittedvalues, fit.fitted)


def test_the_model_matrix_gives_the_fitted_values_and_is_a_copy(fit):
    X = fit.model_matrix
    assert list(X.columns) == ["(Intercept)", "ablat"]
    np.testing.assert_allclose(X @ fit.coef.to_numpy(), fit.fitted, rtol=1e-12)
    X.iloc[:, :] = 0
    assert (fit.model_matrix["(Intercept)"] == 1).all()


@pytest.mark.parametrize("alpha", [0, 1, 95, "0.05", True, np.nan])
def test_alpha_is_a_fraction(fit, alpha):
    with pytest.raises(mx.InputError, match="alpha must"):
        fit.conf_int(alpha)


def test_several_variances_have_no_tau2(bivariate):
    with pytest.raises(mx.InputError, match="this model has several"):
        _ = bivariate.tau2
    fixed = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"), method="fixed")
    with pytest.raises(mx.InputError, match="this model has none"):
        _ = fixed.tau2
