"""Variances and correlations: errors, intervals, profiles, tests."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from mixmeta_jax.inference import held_maxima
from tests import dense_fit
from tests import dense_inference as by_hand
from tests.models import NUMPY, fitted
from tests.tolerances import ROOTS, SMALL_SAMPLE, TIGHT, UNIROOT

REFERENCE = Path(__file__).parents[1] / "reference"
EXTRA = json.loads((REFERENCE / "extra.json").read_text())
METAFOR = json.loads((REFERENCE / "variances.json").read_text())
CUT = stats.chi2.ppf(0.95, 1)
WITH_ERRORS = (
    "multivariate, missing outcomes",
    "three outcomes, two levels",
    "random slope",
    "hcs",
    "car1",
)


@pytest.fixture(scope="module")
def bcg():
    return mx.mixmeta("logor", "logorvar", mx.load_dataset("bcg"), control=NUMPY)


@pytest.fixture(scope="module")
def school():
    data = mx.load_dataset("school")
    return mx.mixmeta("effect", "var", data, random="~ 1 | district/study", control=NUMPY)


@pytest.fixture(scope="module")
def berkey():
    data = mx.load_dataset("berkey98")
    return mx.mixmeta("PD + AL ~ 1", ["var_PD", "cov_PD_AL", "var_AL"], data, control=NUMPY)


def univariate(fit):
    """y, X, v of a model of one outcome and one group per row."""
    return fit.frame.y[:, 0], fit.frame.X, fit.frame.within.unit[:, 0, 0]


def reml(fit, tau2):
    y, X, v = univariate(fit)
    Z = np.stack([np.eye(len(y))[:, [i]] for i in range(len(y))])
    return dense_fit.at(y, X, Z, np.diag(v), np.array([[tau2]]), fit.method).loglik


# The delta method


@pytest.mark.parametrize("name", WITH_ERRORS)
def test_errors_are_those_of_the_dense_observed_information(name):
    fit, maps = fitted(name)
    m = by_hand.dense(fit, maps)
    covariance = np.linalg.inv(by_hand.information(m, observed=True))
    table, row, start = fit.varcomp("delta"), 0, 0
    for (psi, values), Psi in zip(maps, fit.Psi_by_level, strict=True):
        p = np.asarray(values(Psi), float)
        own = covariance[start : start + len(p), start : start + len(p)]
        start += len(p)
        for gradient, variance in gradients(psi, p, Psi, fit.design.structures[0].name):
            estimate, se, low, high = table.iloc[row][["estimate", "se", "lower", "upper"]]
            expected = np.sqrt(gradient @ own @ gradient)
            assert se == pytest.approx(expected, rel=SMALL_SAMPLE), table.index[row]
            if variance:
                half = 1.959963984540054 * se / estimate
                ends = estimate * np.exp([-half, half])
            else:
                half = 1.959963984540054 * se / (1 - estimate**2)
                ends = np.tanh(np.arctanh(estimate) + np.array([-half, half]))
            np.testing.assert_allclose([low, high], ends, rtol=1e-10)
            row += 1
    assert row == len(table)


def gradients(psi, p, Psi, structure):
    """Gradients in ψ of the variances and correlations that `varcomp` lists, by level."""
    d, n = len(Psi), len(p)
    unit = np.eye(n)
    if structure in ("diag", "id", "hcs", "ar1", "har1", "car1", "hcar1", "cor", "prop"):
        # ψ are variances, then the correlation.
        for a in range(n):
            yield unit[a], a < n - 1 or structure in ("diag", "id", "cor", "prop")
        return
    if structure == "cs":
        yield unit[0], True
        yield (unit[1] - p[1] / p[0] * unit[0]) / p[0], False
        return
    places = {pair: a for a, pair in enumerate(zip(*np.tril_indices(d), strict=True))}
    for i in range(d):
        yield unit[places[i, i]], True
    for i in range(d):
        for j in range(i + 1, d):
            size = np.sqrt(Psi[i, i] * Psi[j, j])
            r = Psi[i, j] / size
            own = unit[places[j, i]] / size
            own = own - 0.5 * r * (unit[places[i, i]] / Psi[i, i] + unit[places[j, j]] / Psi[j, j])
            yield own, False


# Profiles


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_profile_of_one_variance_against_the_dense_likelihood(bcg, method):
    fit = bcg.update(method=method)
    row = fit.varcomp(conf_level=0.9).iloc[0]
    target = fit.loglik - stats.chi2.ppf(0.9, 1) / 2
    t = row["estimate"]
    ends = [brentq(lambda v: reml(fit, v) - target, *pair, xtol=1e-14) for pair in ((0, t), (t, 9))]
    np.testing.assert_allclose([row["lower"], row["upper"]], ends, rtol=ROOTS)


def test_profiles_of_two_levels_against_metafor(school):
    table = school.varcomp()
    assert table["level"].tolist() == ["district", "study"]
    for name, (_, row) in zip(("s1", "s2"), table.iterrows(), strict=True):
        estimate, lower, upper = EXTRA["school"]["profCI"][name]
        assert row["estimate"] == pytest.approx(estimate, rel=1e-5)
        np.testing.assert_allclose([row["lower"], row["upper"]], [lower, upper], atol=UNIROOT)


def test_profiles_against_roots_that_metafor_has_found_closely(school, berkey, bcg):
    pairs = list(zip(school.varcomp().to_dict("records"), METAFOR["school"]["sigma2"], strict=True))
    own = METAFOR["berkey"]
    table = berkey.varcomp().to_dict("records")
    pairs += list(zip(table, [*own["tau2"], own["rho"]], strict=True))
    one = bcg.update(formula="logor ~ ablat")
    pairs += [(one.varcomp().iloc[0], METAFOR["bcg"]["PL"])]
    pairs += [(one.varcomp("qprofile").iloc[0], METAFOR["bcg"]["QP"])]
    for row, (estimate, lower, upper) in pairs:
        assert row["estimate"] == pytest.approx(estimate, rel=TIGHT)
        assert row["upper"] == pytest.approx(upper, rel=TIGHT)
        if lower != "NA":  # "Cannot obtain lower bound ... due to convergence problems."
            assert row["lower"] == pytest.approx(lower, rel=TIGHT)


@pytest.mark.parametrize(
    "name", ["multivariate, missing outcomes", "two levels", "random slope", "ar1"]
)
def test_at_its_ends_an_interval_has_lost_half_the_quantile(name):
    fit, _ = fitted(name)
    table = fit.varcomp()
    for parameter, row in table.iterrows():
        for end, note in (("lower", "open below"), ("upper", "open above")):
            held = fit.update(hold={row["level"]: {parameter: row[end]}})
            lost = 2 * (fit.loglik - held.loglik)
            if note in row["note"]:
                assert lost <= CUT
                assert row[end] in (0.0, 1.0, -1.0)
            else:
                assert lost == pytest.approx(CUT, rel=ROOTS), (parameter, end)


def test_large_models_are_followed_one_by_one(monkeypatch, school):
    together = school.varcomp()
    monkeypatch.setattr(held_maxima, "HELD_TOGETHER", school.design.X.size * 4 - 1)  # of four paths
    alone = school.varcomp()
    np.testing.assert_allclose(alone["lower"], together["lower"], rtol=ROOTS)
    np.testing.assert_allclose(alone["upper"], together["upper"], rtol=ROOTS)


def test_a_profile_of_two_maxima_is_that_of_the_higher(berkey):
    # From the estimate down the path that begins at independence stays below another.
    lower = berkey.varcomp().loc["cor(PD, AL)", "lower"]
    held = berkey.update(hold={"unit": {"rho": lower}})
    assert 2 * (berkey.loglik - held.loglik) == pytest.approx(CUT, rel=ROOTS)
    inside = berkey.update(hold={"unit": {"rho": 0.95 * lower}})
    assert 2 * (berkey.loglik - inside.loglik) < CUT


def test_an_interval_open_at_a_bound_says_so(berkey):
    row = berkey.varcomp().loc["cor(PD, AL)"]
    assert row["upper"] == 1.0
    assert row["note"] == "open above: the upper end is a bound"
    at_bound = berkey.update(hold={"unit": {"rho": 1.0}})
    assert 2 * (berkey.loglik - at_bound.loglik) < CUT


def test_a_variance_at_zero():
    rng = np.random.default_rng(0)
    y = 0.1 * rng.standard_normal(10)
    fit = mx.mixmeta(y, np.ones(10), method="ml", control=NUMPY)
    row = fit.varcomp().iloc[0]
    assert row["estimate"] == pytest.approx(0, abs=1e-9)
    assert row["lower"] == 0
    assert row["note"].startswith("the estimate is at its lower bound; open below")
    # Of equal error variances, the likelihood of s = 1 + τ² in closed form.
    spread = ((y - y.mean()) ** 2).sum()

    def fall(tau2):
        return 10 * np.log(1 + tau2) + spread / (1 + tau2) - spread - CUT

    assert row["upper"] == pytest.approx(brentq(fall, 0, 50, xtol=1e-14), rel=ROOTS)
    assert np.isnan(fit.varcomp("delta").iloc[0][["se", "lower", "upper"]].astype(float)).all()
    assert fit.varcomp(None, test=True)["pvalue"].iloc[0] == 1.0


def test_profile_frame(bcg, berkey):
    frame = bcg.profile(values=[0.0, 0.2, 1.0])
    assert frame.columns.tolist() == ["level", "parameter", "value", "loglik", "deviance"]
    expected = [reml(bcg, v) for v in (0.0, 0.2, 1.0)]
    np.testing.assert_allclose(frame["loglik"], expected, rtol=1e-10)
    np.testing.assert_allclose(frame["deviance"], 2 * (bcg.loglik - frame["loglik"]), atol=1e-12)
    frame = berkey.profile("rho", n=5)
    assert set(frame["parameter"]) == {"cor(PD, AL)"}
    for _, row in frame.iterrows():
        held = berkey.update(hold={"unit": {"rho": row["value"]}})
        assert row["loglik"] == pytest.approx(held.loglik, abs=1e-8)
    grid = bcg.profile(n=7)
    assert grid["deviance"].min() == pytest.approx(0, abs=1e-10)
    assert grid["deviance"].max() == pytest.approx(stats.chi2.ppf(0.99, 1), rel=1e-7)


def test_where_all_is_held_the_frames_are_empty(bcg):
    fit = bcg.update(hold={"unit": {"var(Intercept)": 0.3}})
    assert fit.profile().empty and fit.varcomp().empty
    assert fit.varcomp("bootstrap", n=19).empty
    draws = fit.bootstrap_inference(n=19)
    assert draws.components.shape == (19, 0) and draws.varcomp().empty


def test_what_is_held_is_not_profiled(berkey):
    held = berkey.update(hold={"unit": {"AL": 0.03}})
    assert held.varcomp().index.tolist() == ["var(PD)", "cor(PD, AL)"]


# Generalised Q


def test_generalised_q_against_its_equation(bcg):
    fit = bcg.update(formula="logor ~ ablat")
    y, X, v = univariate(fit)

    def Q(tau2):
        w = 1 / (v + tau2)
        beta = np.linalg.solve(X.T @ (w[:, None] * X), X.T @ (w * y))
        return (w * (y - X @ beta) ** 2).sum()

    quantiles = stats.chi2.ppf([0.975, 0.025], len(y) - 2)
    ends = [brentq(lambda t, q=q: Q(t) - q, 0, 20, xtol=1e-14) for q in quantiles]
    row = fit.varcomp("qprofile").iloc[0]
    np.testing.assert_allclose([row["lower"], row["upper"]], ends, rtol=ROOTS)


def test_generalised_q_against_metafor(bcg):
    row = bcg.varcomp("qprofile").iloc[0]
    expected = EXTRA["bcg_qprofile"]
    np.testing.assert_allclose(
        row[["estimate", "lower", "upper"]].astype(float),
        [expected["estimate"], expected["ci.lb"], expected["ci.ub"]],
        atol=UNIROOT,
    )
    same = bcg.update(method="dl").varcomp("qprofile").iloc[0]
    assert same["lower"] == pytest.approx(row["lower"], rel=1e-12)
    assert np.isnan(same["se"])


def test_an_empty_interval_of_q():
    fit = mx.mixmeta(np.array([0.0, 0.001, -0.001, 0.0]), np.ones(4), control=NUMPY)
    row = fit.varcomp("qprofile").iloc[0]
    assert (row["lower"], row["upper"]) == (0, 0)
    assert row["note"].startswith("empty")


# Tests at zero


def test_one_variance_by_its_mixture(school):
    table = school.varcomp(None, test=True)
    for level in ("district", "study"):
        row = table[table["level"] == level].iloc[0]
        without = school.update(hold={level: {"var": 0}})
        statistic = 2 * (school.loglik - without.loglik)
        assert row["statistic"] == pytest.approx(statistic, rel=1e-8)
        assert row["pvalue"] == pytest.approx(stats.chi2.sf(statistic, 1) / 2, rel=1e-8)
        assert row["reference"] == "chi2(0) + chi2(1), half each"
        assert row["mc_error"] == 0


def test_one_effect_more_by_stram_and_lee():
    fit, _ = fitted("random slope")
    row = fit.varcomp(None, test=True).loc["var(x)"]
    smaller = fit.update(random="~ 1 | g")
    statistic = 2 * (fit.loglik - smaller.loglik)
    tails = stats.chi2.sf(statistic, [1, 2])
    assert row["pvalue"] == pytest.approx(tails.mean(), rel=1e-6)
    assert row["reference"] == "chi2(1) + chi2(2), half each"


def test_where_no_mixture_is_known_it_is_bootstrapped():
    fit, _ = fitted("ar1")
    table = fit.varcomp(None, test=True, n=19, seed=3)
    assert table.loc["var", "reference"] == "bootstrap, 19 draws"
    assert table.loc["var", "mc_error"] > 0
    assert table.loc["cor", "reference"] == "chi2(1)"
    null = fit.update(hold={fit.level_names[0]: {"cor": 0}})
    statistic = 2 * (fit.loglik - null.loglik)
    assert table.loc["cor", "pvalue"] == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-6)
    held = fit.update(hold={fit.level_names[0]: {"var": 0}})
    assert np.isnan(mx.lr_test(held, fit).pvalue_mixture)


# What is refused


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda fit: fit.varcomp("wald"), "ci must be one of .*, not 'wald'"),
        (lambda fit: fit.varcomp(conf_level=1), "strictly between 0 and 1"),
        (lambda fit: fit.update(method="fixed").varcomp(), "has none"),
        (lambda fit: fit.update(method="dl").varcomp(), "needs a likelihood"),
        (lambda fit: fit.profile("cor"), "is not among the parameters of the fit"),
        (lambda fit: fit.profile(values=[-1.0]), "must lie between 0 and inf"),
        (lambda fit: fit.profile(n=1), "n must be a whole number"),
    ],
)
def test_refused(bcg, call, said):
    with pytest.raises(InputError, match=said):
        call(bcg)


def test_refused_for_several_levels(school, berkey):
    with pytest.raises(InputError, match="one outcome and one level"):
        school.varcomp("qprofile")
    with pytest.raises(InputError, match="one outcome and one level"):
        berkey.varcomp("qprofile")
    with pytest.raises(InputError, match=r"at the levels 'district', 'study': give \(level"):
        school.profile("var(Intercept)")
    assert len(school.profile(("study", "var"), values=[0.1])) == 1
    with pytest.raises(InputError, match="for one parameter"):
        school.profile(values=[0.1])


def test_a_structure_of_ones_own_has_no_names(bcg):
    class Own(mx.Identity):
        name = "own"

    with pytest.raises(InputError, match="'own' of level 'unit' is not one of the catalogue"):
        bcg.update(bscov=Own()).varcomp()


def test_frames_survive_pickling(berkey):
    again = pickle.loads(pickle.dumps(berkey))
    pd.testing.assert_frame_equal(again.varcomp("delta"), berkey.varcomp("delta"))


@pytest.mark.parametrize("unit", [1e-90, 1e90])
def test_variances_of_outcomes_of_any_size(unit):
    data = mx.load_dataset("berkey98")
    y, S = (
        data[["PD", "AL"]].to_numpy(),
        mx.xpnd(data[["var_PD", "cov_PD_AL", "var_AL"]].to_numpy()),
    )
    plain, sized = (mx.mixmeta(u * y, S=u * (u * S)) for u in (1.0, unit))
    own, found = plain.varcomp(), sized.varcomp()
    for name in ("estimate", "se", "lower", "upper"):
        values = found[name].to_numpy() / np.array([unit, unit, 1]) / np.array([unit, unit, 1])
        np.testing.assert_allclose(values, own[name], rtol=1e-8)
    np.testing.assert_allclose(sized.i2(), plain.i2(), rtol=1e-8)
