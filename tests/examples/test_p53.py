"""p53 as a prognostic factor: two outcomes, one missing in half of the studies, the correlation
within studies unknown (Jackson et al. 2011). The paper prints no figures for these data; they are R
mixmeta's, in tests/reference/r_mixmeta.json."""

import numpy as np
import pytest

import mixmeta_jax as mx
from tests import tolerances
from tests.reference import R


@pytest.fixture(scope="module")
def data():
    return mx.load_dataset("p53")


def fit(data, rho, method="reml"):
    return mx.mixmeta("y1 + y2", S=["V1", "V2"], data=data, rho=rho, method=method)


@pytest.mark.parametrize(
    ("rho", "method", "name"), [(0.5, "reml", "p53_rho05_reml"), (0.95, "ml", "p53_rho095_ml")]
)
def test_the_correlation_between_studies_is_at_its_bound(data, rho, method, name):
    """R approaches the singular Psi, we reach it and say so."""
    ours = fit(data, rho, method)
    assert ours.loglik >= R[name]["logLik"] - tolerances.LOGLIK_BELOW_R
    assert ours.status is mx.Status.BOUNDARY
    assert ours.converged
    Psi = ours.Psi.to_numpy()
    assert Psi[0, 1] / np.sqrt(Psi[0, 0] * Psi[1, 1]) == pytest.approx(1.0, abs=1e-6)


def test_three_studies_report_disease_free_survival(data):
    ours = fit(data, 0.5)
    assert ours.df.nall == 9
    assert list(ours.qtest()["df"]) == [7, 2, 5]
    assert ours.blup().notna().all(axis=None)


def test_a_study_with_one_outcome_needs_no_correlation(data):
    """Where an outcome is missing, whatever the correlation says about it is not used."""
    per_study = np.where(data["y1"].isna(), 0.0, 0.5)
    np.testing.assert_allclose(fit(data, per_study).coef, fit(data, 0.5).coef, rtol=1e-9)
