"""I², H² and R²: against full matrices, and metafor's figures."""

import json
from pathlib import Path

import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from tests.dense_model import stacked
from tests.models import NUMPY, fitted
from tests.tolerances import SMALL_SAMPLE

EXTRA = json.loads((Path(__file__).parents[1] / "reference" / "extra.json").read_text())


@pytest.fixture(scope="module")
def bcg():
    data = mx.load_dataset("bcg")
    return mx.mixmeta("logor ~ ablat", "logorvar", data, control=NUMPY)


def dense_shares(fit, Psi):
    """I² of each level and outcome, then of all levels, (L + 1, k), from n × n matrices."""
    y, X, Z, S, seen = stacked(fit)
    k, n = fit.frame.k, fit.frame.n
    X, W = X[seen], np.linalg.inv(S[np.ix_(seen, seen)])
    P = W - W @ X @ np.linalg.inv(X.T @ W @ X) @ X.T @ W
    outcome = np.tile(np.arange(k), n)[seen]
    rows = []
    for wide, level, matrix in zip(Z, fit.frame.levels, Psi, strict=True):
        whole = wide @ np.kron(np.eye(len(level.labels)), matrix) @ wide.T
        diagonal = np.diag(whole)[seen]
        rows.append([diagonal[outcome == o].mean() for o in range(k)])
    typical = [
        ((outcome == o).sum() - fit.frame.p) / np.diag(P)[outcome == o].sum() for o in range(k)
    ]
    variances = np.array(rows)
    total = variances.sum(0)
    return np.vstack([variances, total]) / (total + typical)


@pytest.mark.parametrize(
    "name",
    [
        "multivariate, missing outcomes",
        "three outcomes, two levels",
        "random slope",
        "three levels",
        "blocks of S",
    ],
)
def test_shares_of_variance_against_full_matrices(name):
    fit, _ = fitted(name)
    table = fit.i2()
    expected = 100 * dense_shares(fit, fit.Psi_by_level)
    np.testing.assert_allclose(table["estimate"], expected.ravel(), rtol=SMALL_SAMPLE)
    assert table.index.names == ["level", "outcome"]
    assert (table["lower"] < table["estimate"]).all()
    assert (table["estimate"] < table["upper"]).all()
    H2 = fit.h2()
    np.testing.assert_allclose(H2["estimate"], 1 / (1 - expected[-1] / 100), rtol=1e-8)


def test_errors_of_shares_follow_those_of_the_variances():
    # Of one variance and one of several: the derivative by differences of the dense formula.
    for name in ("univariate", "two levels"):
        fit, _ = fitted(name)
        variances = np.array([P[0, 0] for P in fit.Psi_by_level])
        se = fit.varcomp(None)["se"].to_numpy()
        gradient = []
        for a, v in enumerate(variances):
            ends = []
            for sign in (1, -1):
                moved = variances.copy()
                moved[a] += sign * 1e-5 * v
                Psi = [np.array([[m]]) for m in moved]
                ends.append(dense_shares(fit, Psi)[-1, 0])
            gradient.append((ends[0] - ends[1]) / (2e-5 * v))
        table = fit.i2()
        if len(variances) == 1:
            expected = 100 * abs(gradient[0]) * se[0]
            assert table["se"].iloc[-1] == pytest.approx(expected, rel=1e-6)
        # A covariance between variances keeps the error below their sum.
        assert table["se"].iloc[-1] <= 100 * np.abs(gradient) @ se * (1 + 1e-6)


def test_metafor_agrees(bcg):
    expected = EXTRA["bcg_ablat"]
    assert bcg.i2()["estimate"].iloc[-1] == pytest.approx(expected["I2"], rel=1e-6)
    assert bcg.h2()["estimate"].iloc[0] == pytest.approx(expected["H2"], rel=1e-6)
    smaller = bcg.update(formula="logor ~ 1")
    assert bcg.r2(smaller)["estimate"].iloc[0] == pytest.approx(expected["R2"], rel=1e-6)


@pytest.mark.parametrize("name", ["multivariate, missing outcomes", "two levels"])
def test_ratios_of_determinants(name):
    fit, _ = fitted(name)
    V, F = fit.vcov.to_numpy(), fit.update(method="fixed").vcov.to_numpy()
    k, P = fit.frame.k, len(V)
    blocks = [np.arange(P), *(np.arange(o, P, k) for o in range(k))]
    expected = [
        (np.linalg.det(V[np.ix_(b, b)]) / np.linalg.det(F[np.ix_(b, b)])) ** (1 / len(b))
        for b in blocks
    ]
    table = fit.i2("ratio")
    np.testing.assert_allclose(table["estimate"], 100 * (1 - 1 / np.array(expected)), rtol=1e-8)
    np.testing.assert_allclose(fit.h2("ratio")["estimate"], expected, rtol=1e-7)
    assert (table["se"] > 0).all()


def test_the_ratio_of_one_mean_moves_as_its_variance():
    data = mx.load_dataset("bcg")
    fit = mx.mixmeta("logor", "logorvar", data, control=NUMPY)
    t, se = fit.varcomp(None).iloc[0][["estimate", "se"]]
    v = data["logorvar"].to_numpy()

    def share(tau2):
        return 1 - (1 / (v + tau2)).sum() / (1 / v).sum()

    slope = (share(t * (1 + 1e-5)) - share(t * (1 - 1e-5))) / (2e-5 * t)
    table = fit.i2("ratio")
    assert table["estimate"].iloc[0] == pytest.approx(100 * share(t), rel=1e-8)
    assert table["se"].iloc[0] == pytest.approx(100 * slope * se, rel=1e-6)


def test_bootstrapped_intervals_are_percentiles(bcg):
    draws = mx.bootstrap(bcg, n=49, seed=2)
    typical = bcg.Psi.iloc[0, 0] / (bcg.i2()["estimate"].iloc[0] / 100) - bcg.Psi.iloc[0, 0]
    drawn = draws.Psi[:, 0, 0] / (draws.Psi[:, 0, 0] + typical)
    table = bcg.i2(ci="bootstrap", n=49, seed=2)
    expected = 100 * np.quantile(drawn, [0.025, 0.975])
    np.testing.assert_allclose(table[["lower", "upper"]].iloc[0], expected, rtol=1e-8, atol=1e-12)
    smaller = bcg.update(formula="logor ~ 1")
    table = bcg.r2(smaller, ci="bootstrap", n=9, seed=2)
    drawn = []
    for y in bcg.simulate(9, seed=2):
        data = bcg.arguments["data"].assign(drawn=y[:, 0])
        pair = [bcg.update(formula=f, data=data) for f in ("drawn ~ 1", "drawn ~ ablat")]
        before, after = (one.Psi.iloc[0, 0] for one in pair)
        drawn.append(100 * (1 - after / before) if before > 0 else np.nan)
    expected = np.nanquantile(drawn, [0.025, 0.975])
    np.testing.assert_allclose(table[["lower", "upper"]].iloc[0], expected, rtol=1e-6)


def test_r2_by_level_and_below_zero():
    fit, _ = fitted("two levels")
    smaller = fit.update(formula="y1 ~ 1")
    table = fit.r2(smaller)
    before, after = (np.array([P[0, 0] for P in model.Psi_by_level]) for model in (smaller, fit))
    pair = [np.append(v, v.sum()) for v in (before, after)]
    np.testing.assert_allclose(table["estimate"], 100 * (1 - pair[1] / pair[0]), rtol=1e-12)
    assert table.index.get_level_values("level").tolist() == ["g", "u", "total"]


def test_refused(bcg):
    for call, said in (
        (lambda: bcg.i2("share"), "form must be"),
        (lambda: bcg.i2(ci="profile"), "ci must be"),
        (lambda: bcg.i2(conf_level=95), "strictly between"),
        (lambda: bcg.update(method="fixed").i2(), "no random effects"),
        (lambda: bcg.update(method="dl").i2(), "needs a likelihood"),
        (lambda: bcg.r2(bcg, ci="delta"), "ci of r2"),
        (lambda: bcg.r2("smaller"), "smaller must be a fit"),
        (lambda: bcg.update(formula="logor ~ 1").r2(bcg), "must be among those"),
        (
            lambda: bcg.r2(bcg.update(formula="logor ~ 1", subset=np.arange(13) < 10)),
            "different outcomes",
        ),
        (lambda: bcg.r2(bcg.update(method="fixed")), "at the same"),
    ):
        with pytest.raises(InputError, match=said):
            call()
    assert bcg.update(method="dl").i2(ci=None)["estimate"].notna().all()
