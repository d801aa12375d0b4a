"""Deep-brain stimulation, four times, half of the outcomes missing (Ishak et al. 2007). The paper
prints no figures for these data; they are R mixmeta's, in tests/reference/r_mixmeta.json."""

import numpy as np
import pytest

import mixmeta_jax as mx
from tests import dense_fit, tolerances
from tests.reference import R

TIMES = ["month3", "month6", "month12", "long"]
OUTCOMES = [f"eff_{time}" for time in TIMES]


@pytest.fixture(scope="module")
def data():
    return mx.load_dataset("dbs")


def fit(data, bscov, rho):
    return mx.mixmeta(
        " + ".join(OUTCOMES), S=[f"var_{time}" for time in TIMES], data=data, bscov=bscov, rho=rho
    )


@pytest.mark.parametrize(("bscov", "rho"), [("diag", 0.97), ("har1", 0.5)])
def test_pooled_changes(data, bscov, rho):
    ours, r = fit(data, bscov, rho), R[f"dbs_{bscov}_reml"]
    assert list(ours.coef.index) == OUTCOMES
    np.testing.assert_allclose(ours.coef, list(r["coef"].values()), rtol=0, atol=tolerances.COEF)
    assert ours.loglik == pytest.approx(r["logLik"], rel=0, abs=tolerances.LOGLIK)
    assert ours.df.nall == data[OUTCOMES].notna().sum().sum() == 82


def test_missing_outcomes_are_predicted_from_the_observed_ones(data):
    blups = fit(data, "har1", 0.5).blup()
    assert blups.shape == (len(data), 4)
    assert blups.notna().all(axis=None)
    # Alegret (2001) saw a change below the mean at month 3, the only time observed: with a positive
    # correlation between the times, the others are expected below their means too.
    pooled = fit(data, "har1", 0.5).coef
    assert (blups.iloc[0] < pooled).all()


def test_q_of_each_outcome_is_defined_with_missing_outcomes(data):
    """Difference 2 from R, where it is not available with any missing outcome."""
    table = fit(data, "diag", 0.97).qtest()
    assert list(table.index) == ["overall", *OUTCOMES]
    assert table["Q"].notna().all()
    assert list(table.loc[OUTCOMES, "df"]) == list(data[OUTCOMES].notna().sum() - 1)


@pytest.mark.parametrize(
    ("structure", "sds"), [(mx.ContinuousAR1, 1), (mx.HeterogeneousContinuousAR1, 3)]
)
def test_correlation_between_studies_that_decays_in_time(data, structure, sds):
    """Months 3, 6 and 12 are not evenly spaced: rho^|t - t'|, against the dense likelihood."""
    months = np.array([3.0, 6.0, 12.0])
    ours = mx.mixmeta(
        " + ".join(OUTCOMES[:3]),
        S=[f"var_{time}" for time in TIMES[:3]],
        data=data,
        rho=0.9,
        bscov=structure(times=months),
    )
    y, v = data[OUTCOMES[:3]].to_numpy(), data[[f"var_{t}" for t in TIMES[:3]]].to_numpy()
    seen = ~np.isnan(y)
    study, month = np.nonzero(seen)
    X, sd = np.eye(3)[month], np.sqrt(v[seen])
    within = np.where(month[:, None] == month, 1.0, 0.9) * np.outer(sd, sd)
    S = np.where(study[:, None] == study, within, 0.0)

    def psi(parameters):
        sd = np.broadcast_to(parameters[:-1], 3)
        rho = np.clip(parameters[-1], 0, 1)
        return rho ** np.abs(np.subtract.outer(months, months)) * np.outer(sd, sd)

    start = [*np.full(sds, 5.0), 0.95]
    dense = dense_fit.maximum(y[seen], X, dense_fit.indicators(study, X), S, psi, start)
    assert ours.converged
    assert ours.loglik == pytest.approx(dense.loglik, abs=tolerances.LOGLIK_BELOW_R)
    assert ours.loglik >= dense.loglik - 1e-9
    np.testing.assert_allclose(ours.coef, dense.beta, rtol=tolerances.COEF)
    np.testing.assert_allclose(ours.Psi, dense.Psi, rtol=tolerances.PSI)
