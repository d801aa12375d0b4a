"""Simulated outcomes, and what is made of many fits."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.performance import performance

TABLE = pd.DataFrame({"g": np.repeat(np.arange(4), 3), "u": np.arange(12)})


def simulated(**changes):
    cs = np.array([[1.0, 0.5], [0.5, 1.0]])
    arguments = {
        "y": np.zeros((12, 2)),
        "S": np.full((12, 2), 0.2),
        "Psi": [cs, 0.5 * cs],
        "random": "~ 1 | g/u",
        "data": TABLE,
        "nsim": 4000,
        "seed": 3,
        **changes,
    }
    return mx.mixmeta_sim(**arguments)


def test_simulated_moments():
    y = simulated().reshape(4000, 24)
    cs = np.array([[1.0, 0.5], [0.5, 1.0]])
    Sigma = np.kron(np.eye(4), np.kron(np.ones((3, 3)), cs)) + np.kron(np.eye(12), 0.5 * cs)
    Sigma += 0.2 * np.eye(24)
    found = np.cov(y.T)
    error = np.sqrt((Sigma**2 + np.outer(np.diag(Sigma), np.diag(Sigma))) / 4000)
    assert (np.abs(found - Sigma) < 5 * error).all()
    assert (np.abs(y.mean(0)) < 5 * np.sqrt(np.diag(Sigma) / 4000)).all()


def test_parts_join_bit_for_bit():
    whole = simulated(nsim=7)
    parts = np.concatenate([simulated(nsim=3), simulated(nsim=4, first=3)])
    assert (whole == parts).all()
    assert (simulated(nsim=1, seed=4) != whole[:1]).all()


def test_missing_outcomes_stay_missing():
    y = np.zeros((12, 2))
    y[3, 1] = np.nan
    drawn = simulated(y=y, nsim=2)
    assert np.isnan(drawn[:, 3, 1]).all() and np.isnan(drawn).sum() == 2


@pytest.fixture(scope="module")
def bcg():
    return mx.mixmeta("logor ~ ablat", "logorvar", mx.load_dataset("bcg"))


def test_a_fit_simulates_like_its_model(bcg):
    drawn = bcg.simulate(nsim=2, seed=5)
    mean = np.asarray(bcg.fitted)
    same = mx.mixmeta_sim(mean, mx.load_dataset("bcg").logorvar, bcg.Psi, nsim=2, seed=5)
    assert np.allclose(drawn, same)


def test_leaving_out_is_refitting(bcg):
    frame = mx.leave_one_out(bcg)
    data = mx.load_dataset("bcg")
    for row in (0, 7):
        again = mx.mixmeta("logor ~ ablat", "logorvar", data.drop(index=row))
        assert np.allclose(frame.iloc[row][["(Intercept)", "ablat"]].astype(float), again.coef)
        assert np.isclose(frame.loglik.iloc[row], again.loglik, atol=1e-10)


def test_cumulative_ends_at_the_fit(bcg):
    frame = mx.cumulative(bcg, order="year" if "year" in mx.load_dataset("bcg") else None)
    assert np.isclose(frame.loglik.iloc[-1], bcg.loglik)
    assert frame.status.iloc[0] == "NOT_IDENTIFIED" and np.isnan(frame.loglik.iloc[0])


def test_bootstraps(bcg):
    spread = np.sqrt(np.diag(bcg.vcov))
    for kind in ("parametric", "groups"):
        fits = mx.bootstrap(bcg, n=300, seed=1, kind=kind)
        ratio = np.nanstd(fits.coef, axis=0) / spread
        assert (ratio > 0.5).all() and (ratio < 2).all()
        part = mx.bootstrap(bcg, n=5, seed=1, first=2, kind=kind)
        assert np.allclose(part.coef, fits.coef[2:7], atol=1e-9)


def test_permutations(bcg):
    test = mx.permutation_test(bcg, "ablat", n=199, seed=2)
    assert 1 / 200 <= test.pvalue < 0.05
    assert "ablat" in str(test)
    with pytest.raises(mx.InputError, match="choose among"):
        mx.permutation_test(bcg, "year")


def test_performance_against_its_definitions():
    estimates, se = np.array([1.0, 2.0, 4.0, np.nan]), np.array([1.0, 1.0, 2.0, 1.0])
    found = performance(estimates, se, 2.0)
    assert found["n"] == 3
    assert np.isclose(found["bias"], 1 / 3)
    assert np.isclose(found["rmse"], np.sqrt(5 / 3))
    assert np.isclose(found["coverage"], 1.0)
    assert np.isclose(found["empirical_se"], np.std([1, 2, 4], ddof=1))
    assert np.isclose(found["model_se"], np.sqrt(2.0))


def test_a_study_covers():
    scenario = {"y": np.zeros(12), "S": np.full(12, 0.3), "Psi": [[0.5]], "coef": 0.0}
    table = mx.simulation_study({"a": scenario}, nsim=400, seed=1)
    row = table.loc[("a", "(Intercept)")]
    assert abs(row.bias) < 4 * row.bias_mcse
    assert 0.88 < row.coverage < 0.97
    with pytest.raises(mx.InputError, match="lacks"):
        mx.simulation_study({"a": {"y": [0.0]}})
