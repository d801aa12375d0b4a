"""Every fit of R mixmeta that is on file, and the tau^2 of R metafor, against ours.

Two differences are on purpose. Moment estimates count k(k + 1)/2 variance parameters here, one
whatever k there. Where an estimate has negative eigenvalues, they are 0 here, 1.5e-8 there.
"""

import jax
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from tests import dense_model, tolerances
from tests.reference import EXTRA, R
from tests.reference.calls import CALLS, bcg, fit

ALL = [name for name, r in R.items() if "method" in r]
NAMES = [name for name in ALL if R[name]["method"] in ("fixed", "ml", "reml")]
MOMENTS = [name for name in ALL if name not in NAMES]
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
    assert set(CALLS) == set(ALL)
    assert {R[name]["method"] for name in MOMENTS} == {"mm", "vc"}


@pytest.mark.parametrize("name", NAMES)
def test_log_likelihood_is_not_below_r(name):
    assert fit(name).loglik >= R[name]["logLik"] - tolerances.LOGLIK_BELOW_R


@pytest.mark.parametrize("name", NAMES)
def test_converged(name):
    assert fit(name).converged, fit(name).status.sentence
    assert fit(name).gradient_norm <= 1e-6


# Two of them are given all their variances.
ESTIMATED = [
    name
    for name in NAMES
    if R[name]["method"] != "fixed" and name not in ("smoking_fixed_reml", "alcohol_NL3_ml")
]


@pytest.mark.parametrize("name", ESTIMATED)
def test_no_variance_would_raise_the_likelihood(name):
    """The conditions of Karush, Kuhn and Tucker, with full matrices in numpy.

    In the cone of unstructured matrices no direction vvᵀ leads up, and along Ψ itself it is level;
    in that of diagonal ones, the same of every variance. Other structures are level along each of
    their parameters.
    """
    ours = fit(name)
    levels = zip(
        ours.design.structures, ours.Psi_by_level, dense_model.gradients(ours), strict=True
    )
    checked = 0
    for structure, Psi, (up, down) in levels:
        unit = 1 / np.sqrt(np.diag(down))
        slope = (up - down) * np.outer(unit, unit)
        Psi = Psi / np.outer(unit, unit)
        tolerance = tolerances.SLOPE * max(1, np.abs(Psi).max())
        if structure.name == "unstr":
            assert np.linalg.eigvalsh(slope)[-1] <= tolerances.SLOPE
            assert np.abs(slope @ Psi).max() <= tolerance
        elif structure.name == "diag":
            assert np.diag(slope).max() <= tolerances.SLOPE
            assert np.abs(np.diag(slope) * np.diag(Psi)).max() <= tolerance
        else:
            for direction in tangents(structure, Psi * np.outer(unit, unit)):
                direction = direction / np.outer(unit, unit)
                size = np.abs(direction).max()
                if size < 1e-6:
                    continue  # the map is flat at a variance of 0, which comes back as 1e-7 or so
                assert abs((slope * direction).sum()) <= tolerances.SLOPE * max(1, size)
        checked += structure.n_parameters(len(Psi))
    assert checked


def tangents(structure, Psi):
    """Central differences of Ψ in every parameter of a structure."""
    theta = np.asarray(structure.theta(Psi), float)
    with jax.enable_x64(True):
        for a, size in enumerate(np.abs(theta)):
            step = 1e-6 * max(size, 1e-3) * (np.arange(len(theta)) == a)
            ends = [np.asarray(structure.psi(theta + side * step, len(Psi))) for side in (1, -1)]
            yield (ends[0] - ends[1]) / (2 * step[a])


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


@pytest.mark.parametrize("name", ALL)
def test_q(name):
    overall = fit(name).qtest().loc["overall"]
    assert overall["Q"] == pytest.approx(R[name]["Q"], rel=tolerances.Q)
    assert overall["df"] == R[name]["Q_df"]


@pytest.mark.parametrize("name", NAMES)
def test_degrees_of_freedom(name):
    ours, theirs = fit(name).df, R[name]["df"]
    for count in ("nall", "nobs", "fixed", "random"):
        assert getattr(ours, count) == theirs[count], count


@pytest.mark.parametrize("name", MOMENTS)
def test_moment_estimates(name):
    ours, theirs = fit(name), R[name]
    assert_covariance(matrices(ours)[0], theirs["Psi"][0], tolerances.MOMENTS)
    assert_covariance(ours.vcov.to_numpy(), theirs["vcov"], tolerances.MOMENTS)
    coef = list(theirs["coef"].values())
    np.testing.assert_allclose(ours.coef, coef, rtol=0, atol=tolerances.MOMENTS)
    assert ours.converged
    # The smallest eigenvalue of smoking_mm is 1.5e-8 in R: it was negative, as the status says.
    assert (ours.status is mx.Status.BOUNDARY) == (name == "smoking_mm")


@pytest.mark.parametrize("name", MOMENTS)
def test_moment_estimates_have_no_likelihood(name):
    ours, theirs = fit(name), R[name]
    for ours_name, theirs_name in (("loglik", "logLik"), ("aic", "AIC"), ("bic", "BIC")):
        assert np.isnan(getattr(ours, ours_name))
        assert theirs[theirs_name] is None


@pytest.mark.parametrize("name", MOMENTS)
def test_degrees_of_freedom_of_moment_estimates(name):
    ours, theirs, k = fit(name).df, R[name]["df"], fit(name).frame.k
    for count in ("nall", "nobs", "fixed"):
        assert getattr(ours, count) == theirs[count], count
    # Difference 6 from R.
    assert ours.random == k * (k + 1) // 2
    assert theirs["random"] == 1


@pytest.mark.parametrize("formula", ["logor", "logor ~ ablat"])
@pytest.mark.parametrize("estimator", list(EXTRA["bcg_tau2"]))
def test_tau2_is_that_of_metafor(formula, estimator):
    theirs = EXTRA["bcg_tau2" if formula == "logor" else "bcg_ablat_tau2"][estimator]
    tau2 = bcg(formula, estimator.lower()).Psi.to_numpy().item()
    assert tau2 == pytest.approx(theirs, rel=0, abs=tolerances.METAFOR)


def test_variances_of_two_levels_are_those_of_metafor():
    ours = fit("school_district_study_reml")
    variances = [Psi.item() for Psi in matrices(ours)]
    theirs = EXTRA["school"]
    np.testing.assert_allclose(variances, theirs["sigma2"], rtol=0, atol=tolerances.METAFOR)
    assert ours.loglik == pytest.approx(theirs["ll"], rel=0, abs=tolerances.METAFOR)


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
