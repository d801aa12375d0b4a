"""Deep-brain stimulation, four times, half of the outcomes missing (Ishak et al. 2007). The paper
prints no figures for these data; they are R mixmeta's, in tests/reference/r_mixmeta.json."""

import numpy as np
import pytest

import mixmeta_jax as mx
from tests import tolerances
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
