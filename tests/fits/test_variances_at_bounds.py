"""What is told of variances beside others that are held, or at a bound."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixmeta_jax as mx
from mixmeta_jax.covariance.parameters import Parameter
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits import variances
from mixmeta_jax.inference import held_maxima
from mixmeta_jax.inference.profiles import profile_intervals
from tests.models import NUMPY
from tests.tolerances import MAXIMUM, ROOTS

CUT = stats.chi2.ppf(0.95, 1)
BERKEY = ["var_PD", "cov_PD_AL", "var_AL"]

SAME_ERRORS = 1e-6
"""Relative: of fits whose parameters agree to about 1e-7, near a bound."""


@pytest.fixture(scope="module")
def berkey():
    return mx.mixmeta("PD + AL", BERKEY, mx.load_dataset("berkey98"), control=NUMPY)


@pytest.fixture(scope="module")
def singular():
    """Two outcomes, of which one trial each has not reported one: the correlation ends at −1."""
    data = mx.load_dataset("berkey98")
    data.loc[1, ["AL", "cov_PD_AL", "var_AL"]] = np.nan
    data.loc[4, "PD"] = np.nan
    return mx.mixmeta("PD + AL ~ pubyear", BERKEY, data, control=NUMPY)


@pytest.fixture(scope="module")
def three():
    rng = np.random.default_rng(5)
    effects = rng.multivariate_normal(np.zeros(3), 0.18 * np.eye(3) + 0.12, 25)
    data = pd.DataFrame({f"v{i}": rng.uniform(0.05, 0.2, 25) for i in range(3)})
    for i in range(3):
        data[f"y{i}"] = effects[:, i] + rng.normal(size=25) * np.sqrt(data[f"v{i}"])
    return mx.mixmeta("y0 + y1 + y2", ["v0", "v1", "v2"], data, control=NUMPY)


# Profiles beside what is held


@pytest.mark.parametrize("held", [{"cor(PD, AL)": 0.5}, {"cov(PD, AL)": 0.01}])
def test_profiles_beside_a_held_correlation_or_covariance(berkey, held):
    fit = berkey.update(hold={"unit": held})
    table = fit.varcomp()
    assert table.index.tolist() == ["var(PD)", "var(AL)"]
    for name, row in table.iterrows():
        for end in ("lower", "upper"):
            both = berkey.update(hold={"unit": {**held, name: row[end]}})
            assert 2 * (fit.loglik - both.loglik) == pytest.approx(CUT, rel=ROOTS)


def test_beside_a_null_variance_a_correlation_is_no_constraint(berkey):
    without = berkey.update(hold={"unit": {"var(PD)": 0}}).loglik
    for held in ({"cor(PD, AL)": 0.5}, {"cor(PD, AL)": 1.0}, {"cov(PD, AL)": 0.0}):
        fit = berkey.update(hold={"unit": held})
        at_zero = fit.profile("var(PD)", values=[0.0])["loglik"]
        assert at_zero[0] == pytest.approx(without, rel=MAXIMUM)


def test_values_that_no_matrix_has_have_no_likelihood(berkey, three):
    fit = berkey.update(hold={"unit": {"cov(PD, AL)": 0.01}})
    found = fit.profile("var(PD)", values=[0.0, 0.01])["loglik"]
    assert np.isnan(found[0]) and np.isfinite(found[1])
    row = fit.varcomp(None, test=True, n=19).loc["var(PD)"]
    assert (
        np.isnan(row["pvalue"]) and row["reference"] == "cannot be zero beside what the fit holds"
    )
    # A common variance is at least the covariance.
    same = three.update(bscov="cs", hold={"unit": {"cov": 0.1}})
    assert np.isnan(same.profile(values=[0.0999])["loglik"][0])
    assert same.varcomp().loc["var", "lower"] > 0.1


def test_what_cannot_be_held_too_has_no_profile(three):
    fit = three.update(hold={"unit": {"cor(y0, y1)": 0.5}})
    table = fit.varcomp()
    has = np.isfinite(table["upper"])
    assert table.index[has].tolist() == ["var(y0)", "var(y1)"]
    assert (table.loc[~has, "note"].str.startswith("no profile")).all()
    assert np.isfinite(table["se"]).all()
    assert fit.profile(n=3)["parameter"].unique().tolist() == ["var(y0)", "var(y1)"]
    with pytest.raises(InputError, match=r"'var.y2.' has no profile: it cannot be held beside"):
        fit.profile("var(y2)")


def test_large_data_have_one_start_and_no_look_at_bounds(monkeypatch):
    data = mx.load_dataset("school")
    fit = mx.mixmeta("effect", "var", data, random="~ 1 | district/study", control=NUMPY)
    thorough = fit.varcomp()
    asked = []

    def counted(design, method, control, places, values, near, searched=False):
        asked.extend(values)
        return original(design, method, control, places, values, near, searched)

    original = held_maxima.held_maxima
    monkeypatch.setattr(variances, "held_maxima", counted)
    for module in (variances, held_maxima):
        monkeypatch.setattr(module, "follows_all", lambda design: False)
    quick = fit.varcomp()
    np.testing.assert_allclose(quick[["lower", "upper"]], thorough[["lower", "upper"]], rtol=ROOTS)
    # Of four ends each is met first just beyond it, and then in a few steps.
    assert 0.0 not in asked and len(asked) <= 4 * 8


def test_an_end_on_a_higher_maximum_may_lie_beyond_where_the_other_ends():
    """ℓ_p in closed form: a parabola in η or √η where followed, a wider one where searched for."""
    correlation, variance = Parameter("cor", (0, 1), -1.0, 1.0), Parameter("var", (0,), 0.0, np.inf)
    estimates, errors = np.array([0.5, 1.0]), np.array([0.1, 0.2])

    def profile(which, values, searched):
        scale = np.where(which == 0, values, np.sqrt(np.abs(values)))
        away = (scale - np.where(which == 0, 0.5, 1.0)) / 0.1
        outside = (which == 0) == (away < 0)
        return -0.5 * (away / np.where(searched & outside, 2, 1)) ** 2

    found = profile_intervals(
        profile, [correlation, variance], estimates, np.ones(2), 0.0, 0.95, errors
    )
    half = 0.1 * np.sqrt(CUT)
    np.testing.assert_allclose(found.lower, [0.5 - 2 * half, (1 - half) ** 2], rtol=ROOTS)
    np.testing.assert_allclose(found.upper, [0.5 + half, (1 + 2 * half) ** 2], rtol=ROOTS)


# Errors at a bound


def test_errors_beside_a_singular_matrix_are_those_with_its_correlation_held(singular):
    assert singular.varcomp(None)["estimate"]["cor(PD, AL)"] == pytest.approx(-1, abs=1e-7)
    held = singular.update(hold={"unit": {"cor(PD, AL)": -1}})
    own, expected = singular.varcomp("delta"), held.varcomp("delta")
    names, columns = expected.index, ["estimate", "se", "lower", "upper"]
    np.testing.assert_allclose(own.loc[names, columns], expected[columns], rtol=SAME_ERRORS)
    assert np.isnan(own.loc["cor(PD, AL)", "se"])
    for form in ("variance", "ratio"):
        np.testing.assert_allclose(singular.i2(form), held.i2(form), rtol=SAME_ERRORS)


def test_no_delta_interval_of_no_heterogeneity():
    data = pd.DataFrame({"y": [0.1, 0.2, 0.15, 0.12, 0.18], "v": 0.5})
    fit = mx.mixmeta("y", "v", data, control=NUMPY)
    assert fit.i2()[["lower", "upper"]].isna().all(axis=None)
    drawn = fit.i2(ci="bootstrap", n=39).loc[("unit", "y")]
    assert drawn["lower"] == pytest.approx(0, abs=1e-6) and drawn["upper"] > 1


# Tests beside a bound


def test_beside_another_at_its_bound_no_mixture_is_exact():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"v1": rng.uniform(0.05, 0.2, 15), "v2": 0.3})
    data["y1"] = rng.normal(0, 0.4, 15) + rng.normal(size=15) * np.sqrt(data["v1"])
    data["y2"] = np.cos(np.arange(15)) / 10
    data["y3"] = np.cos(np.arange(15)) * 2
    null, positive = (
        mx.mixmeta(f"y1 + {other}", ["v1", "v2"], data, bscov="diag", control=NUMPY)
        for other in ("y2", "y3")
    )
    row = positive.varcomp(None, test=True, n=19).loc["var(y1)"]
    assert row["reference"] == "chi2(0) + chi2(1), half each" and row["mc_error"] == 0
    row = null.varcomp(None, test=True, n=19, seed=2).loc["var(y1)"]
    assert row["reference"] == "bootstrap, 19 draws: another parameter is at its bound"
    drawn = null.bootstrap_inference(19, 2, progress=False).boundary().loc["var(y1)"]
    assert row["pvalue"] == drawn["pvalue"] and row["mc_error"] > 0

    for fit, said in ((null, True), (positive, False)):
        test = mx.lr_test(fit.update(hold={"unit": {"var(y1)": 0}}), fit)
        assert ("neither chi-square nor the mixture is exact" in str(test)) == said
