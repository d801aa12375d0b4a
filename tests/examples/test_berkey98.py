"""Periodontal disease, two outcomes (Berkey et al. 1998). The paper prints no figures for these
data; they are R mixmeta's, in tests/reference/r_mixmeta.json."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from tests import dense_fit, tolerances
from tests.reference import R

S = ["var_PD", "cov_PD_AL", "var_AL"]

PSI_BY_SIMPLEX = 1e-6
"""Absolute, on values near 0.02: a search without derivatives ends where the likelihood is flat."""


@pytest.fixture(scope="module")
def data():
    return mx.load_dataset("berkey98")


@pytest.fixture(scope="module")
def bivariate(data):
    return mx.mixmeta("PD + AL ~ pubyear", S=S, data=data)


def test_pooled_outcomes(data):
    fit = mx.mixmeta("cbind(PD, AL)", S=S, data=data)
    r = R["berkey_reml"]
    assert list(fit.coef.index) == ["PD", "AL"]
    np.testing.assert_allclose(fit.coef, list(r["coef"].values()), rtol=0, atol=tolerances.COEF)
    assert fit.loglik == pytest.approx(r["logLik"], rel=0, abs=tolerances.LOGLIK)


def test_coefficients_are_predictor_major(bivariate):
    assert list(bivariate.coef.index) == [
        "PD.(Intercept)",
        "AL.(Intercept)",
        "PD.pubyear",
        "AL.pubyear",
    ]
    # Centring the year (as in R's call) moves the intercepts only.
    slopes = list(R["berkey_pubyear_reml"]["coef"].values())[2:]
    np.testing.assert_allclose(bivariate.coef.iloc[2:], slopes, rtol=0, atol=tolerances.COEF)


def test_predictions_do_not_depend_on_the_centre_of_the_year(bivariate):
    newdata = pd.DataFrame({"pubyear": [1985, 1986, 1987]})
    predicted = bivariate.predict(newdata)
    r = R["berkey_pubyear_reml"]["predict_1985_1987"]["fit"]
    np.testing.assert_allclose(predicted[["PD", "AL"]], r, rtol=0, atol=tolerances.COEF)


@pytest.fixture(scope="module")
def long(data):
    """One row per trial and outcome, the two rows of a trial next to each other."""
    long = data.melt(id_vars=["trial", "pubyear"], value_vars=["PD", "AL"], var_name="outcome")
    # Order of levels as in the wide fit.
    long["outcome"] = pd.Categorical(long["outcome"], ["PD", "AL"])
    long["year"] = long["pubyear"] - 1983
    return long.sort_values(["trial", "outcome"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def blocks(data):
    return dict(zip(data["trial"], mx.xpnd(data[S].to_numpy()), strict=True))


def test_long_format_is_the_same_model(long, blocks, bivariate):
    """S as blocks that span rows, one random effect per outcome."""
    fit = mx.mixmeta(
        "value ~ 0 + outcome + outcome:pubyear",
        S=blocks,
        data=long,
        random="~ 0 + outcome | trial",
    )
    np.testing.assert_allclose(fit.coef, bivariate.coef, rtol=1e-7)
    np.testing.assert_allclose(fit.Psi, bivariate.Psi, rtol=1e-7)
    # The constant of the restricted likelihood, 1/2 log|X'X|, is the same for the two layouts.
    assert fit.loglik == pytest.approx(bivariate.loglik, rel=1e-9)


@pytest.mark.parametrize("method", ["fixed", "ml", "reml"])
@pytest.mark.parametrize("design", ["year for PD only", "one slope", "all in common"])
def test_predictors_of_some_outcomes_and_common_to_all(long, blocks, method, design):
    """What the wide format has no way to say, by the dense likelihood."""
    of_pd = (long["outcome"] == "PD").to_numpy(float)
    year = long["year"].to_numpy(float)
    formula, X = {
        "year for PD only": (
            "value ~ 0 + outcome + I((outcome == 'PD') * year)",
            [of_pd, 1 - of_pd, of_pd * year],
        ),
        "one slope": ("value ~ 0 + outcome + year", [of_pd, 1 - of_pd, year]),
        "all in common": ("value ~ year", [np.ones(len(year)), year]),
    }[design]
    ours = mx.mixmeta(formula, S=blocks, data=long, random="~ 0 + outcome | trial", method=method)
    likelihood = {
        "y": long["value"].to_numpy(),
        "X": np.stack(X, axis=1),
        "Z": dense_fit.indicators(long["trial"], np.stack([of_pd, 1 - of_pd], axis=1)),
        "S": dense_fit.spread(long["trial"], blocks),
    }
    if method == "fixed":
        dense = dense_fit.at(**likelihood, Psi=np.zeros((2, 2)), method="ml")
    else:
        dense = dense_fit.maximum(
            **likelihood, psi=dense_fit.cholesky(2), start=[0.1, 0.1, 0.2], method=method
        )
        np.testing.assert_allclose(ours.Psi, dense.Psi, rtol=0, atol=PSI_BY_SIMPLEX)
    assert ours.loglik == pytest.approx(dense.loglik, abs=1e-8)
    np.testing.assert_allclose(ours.coef, dense.beta, rtol=0, atol=tolerances.COEF)
    np.testing.assert_allclose(ours.vcov, dense.vcov, rtol=0, atol=tolerances.COEF)
