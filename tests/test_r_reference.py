"""Every fixed, ML and REML fit of R mixmeta that is on file, against ours."""

import numpy as np
import pandas as pd
import pytest

from tests import tolerances
from tests.reference import R
from tests.reference.calls import CALLS, fit

NAMES = [name for name, r in R.items() if r.get("method") in ("fixed", "ml", "reml")]
# boundary is absent where nothing is estimated that could lie at one.
INTERIOR = [name for name in NAMES if not R[name].get("boundary", False)]
AT_BOUNDARY = [name for name in NAMES if name not in INTERIOR]


def matrices(ours):
    """The covariance matrices of a fit as a list, outer level first, as R's are stored."""
    if ours.Psi is None:
        return []
    levels = ours.Psi.values() if isinstance(ours.Psi, dict) else [ours.Psi]
    return [Psi.to_numpy() for Psi in levels]


def assert_covariance(ours, theirs, tolerance):
    """Elementwise, relative to the standard deviations of the two variables."""
    theirs = np.array(theirs, ndmin=2)
    scale = np.sqrt(np.diag(theirs))
    assert ours.shape == theirs.shape
    assert np.all(np.abs(ours - theirs) <= tolerance * np.outer(scale, scale)), (ours, theirs)


def test_every_fit_on_file_is_compared():
    assert set(CALLS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_log_likelihood_is_not_below_r(name):
    assert fit(name).loglik >= R[name]["logLik"] - tolerances.LOGLIK_BELOW_R


@pytest.mark.parametrize("name", NAMES)
def test_converged(name):
    assert fit(name).converged, fit(name).status.sentence


@pytest.mark.parametrize("name", INTERIOR)
def test_log_likelihood(name):
    assert fit(name).loglik == pytest.approx(R[name]["logLik"], rel=0, abs=tolerances.LOGLIK)


@pytest.mark.parametrize("name", INTERIOR)
def test_coefficients(name):
    theirs = list(R[name]["coef"].values())
    np.testing.assert_allclose(fit(name).coef, theirs, rtol=0, atol=tolerances.COEF)


@pytest.mark.parametrize("name", INTERIOR)
def test_vcov(name):
    assert_covariance(fit(name).vcov.to_numpy(), R[name]["vcov"], tolerances.VCOV)


@pytest.mark.parametrize("name", INTERIOR)
def test_psi(name):
    ours, theirs = matrices(fit(name)), R[name]["Psi"] or []
    assert len(ours) == len(theirs)
    for Psi, reference in zip(ours, theirs, strict=True):
        assert_covariance(Psi, reference, tolerances.PSI)


@pytest.mark.parametrize("name", [name for name in NAMES if "levels" in R[name]])
def test_level_names(name):
    assert list(fit(name).Psi) == R[name]["levels"]


@pytest.mark.parametrize("name", NAMES)
def test_q(name):
    overall = fit(name).qtest().loc["overall"]
    assert overall["Q"] == pytest.approx(R[name]["Q"], rel=tolerances.Q)
    assert overall["df"] == R[name]["Q_df"]


@pytest.mark.parametrize("name", NAMES)
def test_degrees_of_freedom(name):
    ours, theirs = fit(name).df, R[name]["df"]
    for count in ("nall", "nobs", "fixed", "random"):
        assert getattr(ours, count) == theirs[count], count


@pytest.mark.parametrize("name", INTERIOR)
def test_information_criteria(name):
    assert fit(name).aic == pytest.approx(R[name]["AIC"], rel=0, abs=tolerances.CRITERION)
    assert fit(name).bic == pytest.approx(R[name]["BIC"], rel=0, abs=tolerances.CRITERION)


@pytest.mark.parametrize("name", AT_BOUNDARY)
def test_information_criteria_at_the_boundary_are_not_above_r(name):
    assert fit(name).aic <= R[name]["AIC"] + 2 * tolerances.LOGLIK_BELOW_R
    assert fit(name).bic <= R[name]["BIC"] + 2 * tolerances.LOGLIK_BELOW_R


def test_predictions():
    theirs = R["berkey_pubyear_reml"]["predict_1985_1987"]
    newdata = pd.DataFrame({"pubyear": [1985, 1986, 1987]})
    ours = fit("berkey_pubyear_reml").predict(newdata, se=True, ci=True)
    columns = {"fit": "fit", "se": "se", "ci.lb": "ci_lower", "ci.ub": "ci_upper"}
    for r_name, column in columns.items():
        for o, outcome in enumerate(["PD", "AL"]):
            np.testing.assert_allclose(
                ours[outcome, column],
                np.array(theirs[r_name])[:, o],
                rtol=0,
                atol=tolerances.COEF,
                err_msg=f"{outcome} {column}",
            )


def test_blups():
    theirs = R["berkey_pubyear_reml"]["blup"]
    ours = fit("berkey_pubyear_reml").blup(se=True, pi=True)
    columns = {"blup": "blup", "se": "se", "pi.lb": "pi_lower", "pi.ub": "pi_upper"}
    for r_name, column in columns.items():
        for o, outcome in enumerate(["PD", "AL"]):
            np.testing.assert_allclose(
                ours[outcome, column],
                np.array(theirs[r_name])[:, o],
                rtol=0,
                atol=tolerances.COEF,
                err_msg=f"{outcome} {column}",
            )


@pytest.mark.parametrize("level", [2, "study", None])
def test_blups_of_the_inner_level(level):
    ours = fit("school_district_study_reml").blup(level=level)["blup"]
    theirs = R["school_district_study_reml"]["blup_level2"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerances.COEF)
