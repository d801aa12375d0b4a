"""What predict takes beside the normal distribution, by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from tests.models import fitted

EXACT = 1e-8

NUMPY = {"backend": "numpy"}


@pytest.fixture(scope="module")
def fit():
    return mx.mixmeta("logor ~ ablat", "logorvar", mx.load_dataset("bcg"), control=NUMPY)


def column(table, name, k):
    return (table[[name]] if k == 1 else table.xs(name, axis=1, level=1)).to_numpy()


@pytest.mark.parametrize("test", ["z", "t", "knha", "satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("name", ["univariate", "multivariate, missing outcomes", "network"])
def test_intervals_with_every_test(name, test):
    fit, _ = fitted(name)
    k, n = fit.frame.k, fit.frame.n
    reference = fit.reference(test)
    L = np.kron(fit.frame.X[:, None], np.eye(k)).reshape(n * k, -1)
    table = fit.predict(se=True, ci=True, pi=True, test=test, conf_level=0.9)
    variance = np.diag(L @ reference.vcov @ L.T).reshape(n, k)
    df = reference.df(L).reshape(n, k)
    half = stats.norm.ppf(0.95) if test == "z" else stats.t.ppf(0.95, df)
    expected = (L @ fit.coef.to_numpy()).reshape(n, k)
    wide = np.sqrt(variance + np.diag(fit.Psi))
    np.testing.assert_allclose(column(table, "se", k), np.sqrt(variance), rtol=EXACT)
    np.testing.assert_allclose(
        column(table, "ci_lower", k), expected - half * np.sqrt(variance), rtol=EXACT, atol=1e-9
    )
    np.testing.assert_allclose(
        column(table, "pi_upper", k), expected + half * wide, rtol=EXACT, atol=1e-9
    )
    assert ("df" in table.columns.get_level_values(-1)) == (test != "z")


def test_the_interval_of_higgins_thompson_and_spiegelhalter():
    bcg = mx.load_dataset("bcg")
    fit = mx.mixmeta("logor", "logorvar", bcg, method="dl")
    table = fit.predict(pi=True, test="t", df=len(bcg) - 2)
    half = stats.t.ppf(0.975, 11) * np.sqrt(fit.Psi.iloc[0, 0] + fit.vcov.iloc[0, 0])
    np.testing.assert_allclose(table.pi_upper, fit.coef.iloc[0] + half, rtol=EXACT)


def test_the_probability_of_a_new_effect_above_a_cutoff(fit):
    new = pd.DataFrame({"ablat": [10.0, 40.0, np.nan]})
    row = np.array([1.0, 10.0])
    sd = np.sqrt(row @ fit.vcov.to_numpy() @ row + fit.Psi.iloc[0, 0])
    table = fit.predict(new, prob=-0.2)
    assert list(table) == ["fit", "prob"]
    expected = stats.norm.sf((-0.2 - row @ fit.coef.to_numpy()) / sd)
    assert table.prob.iloc[0] == pytest.approx(expected, rel=EXACT)
    assert np.isnan(table.prob.iloc[2])
    t = fit.predict(new, prob=-0.2, test="t", df=5).prob.iloc[0]
    assert t == pytest.approx(stats.t.sf((-0.2 - row @ fit.coef.to_numpy()) / sd, 5), rel=EXACT)
    # The scale on which results are shown does not move the cutoff.
    shown = fit.predict(new, prob=-0.2, transform="exp").prob
    pd.testing.assert_series_equal(shown, table.prob)


def test_the_levels_that_a_new_group_is_new_at():
    fit, _ = fitted("two levels")
    outer = fit.predict(prob=0.5, level="g").prob
    both = fit.predict(prob=0.5).prob
    sd = np.sqrt(fit.predict(se=True).se ** 2 + fit.Psi["g"].iloc[0, 0])
    np.testing.assert_allclose(outer, stats.norm.sf((0.5 - fit.predict().fit) / sd), rtol=EXACT)
    assert not np.allclose(outer, both)


def test_ratios(fit):
    plain = fit.predict(se=True, ci=True, pi=True)
    ratio = fit.predict(se=True, ci=True, pi=True, transform="exp")
    for name in plain:
        expected = plain[name] if name == "se" else np.exp(plain[name])
        np.testing.assert_allclose(ratio[name], expected, rtol=EXACT)
    blups, shown = fit.blup(se=True, pi=True), fit.blup(se=True, pi=True, transform="exp")
    for name in blups:
        expected = blups[name] if name == "se" else np.exp(blups[name])
        np.testing.assert_allclose(shown[name], expected, rtol=EXACT)
    odds = fit.predict(transform="expit").fit
    np.testing.assert_allclose(odds, 1 / (1 + np.exp(-plain.fit)), rtol=EXACT)


def test_joint_covariance_of_expectations():
    fit, _ = fitted("multivariate, missing outcomes")
    for test in ("z", "kenward-roger"):
        _, joint = fit.predict(vcov="joint", test=test)
        L = np.kron(fit.frame.X[:, None], np.eye(2)).reshape(len(joint), -1)
        V = fit.reference(test).vcov
        np.testing.assert_allclose(joint, L @ V @ L.T, rtol=EXACT, atol=1e-12)
        own = fit.predict(vcov=True, test=test)[1]
        np.testing.assert_allclose(joint.iloc[:2, :2], own[0], rtol=EXACT)
    assert list(joint.columns[:3]) == [(0, "y1"), (0, "y2"), (1, "y1")]


def test_joint_covariance_of_contrasts(fit):
    new = pd.DataFrame({"ablat": [10.0, 20.0, 40.0]}, index=list("abc"))
    _, joint = fit.predict(new, reference="a", vcov="joint")
    away = np.array([0.0, 10.0, 30.0])
    expected = np.outer(away, away) * fit.vcov.loc["ablat", "ablat"]
    np.testing.assert_allclose(joint, expected, rtol=EXACT, atol=1e-12)
    assert list(joint.index) == list(joint.columns) == list("abc")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prob": "high"}, "prob, a cutoff .*, must be a finite number"),
        ({"prob": np.inf}, "prob, a cutoff .*, must be a finite number"),
        ({"transform": "log"}, "'exp'"),
        ({"vcov": "all"}, "'joint'"),
        ({"test": "F"}, "test must be one of .*, not 'F'"),
        ({"df": 3}, "belongs to test='t'"),
        ({"ci": True, "conf_level": 1.0}, "conf_level"),
    ],
)
def test_predictions_that_make_no_sense(fit, arguments, message):
    with pytest.raises(InputError, match=message):
        fit.predict(**arguments)


def test_ratios_beyond_double_precision_are_infinite():
    """And told of by no warning of numpy's; on the side that is zero they are 0."""
    fit = mx.mixmeta([800.0, 900, 850], S=[1.0, 1, 1])
    assert (fit.predict(transform="exp")["fit"] == np.inf).all()
    assert (fit.predict(transform="expit")["fit"] == 1).all()
    below = mx.mixmeta([-800.0, -900, -850], S=[1.0, 1, 1])
    assert (below.predict(transform="exp")["fit"] == 0).all()
