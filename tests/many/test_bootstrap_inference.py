"""Bootstrap inference: every number against single fits, draw by draw."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from mixmeta_jax.many.wild import FEW_CLUSTERS, WEBB, wild_weights
from tests.dense_model import levels_covariance, stacked
from tests.models import NUMPY, fitted

N = 19
SAME = 1e-6  # relative: a statistic of two paths to one maximum


@pytest.fixture(scope="module")
def bcg():
    data = mx.load_dataset("bcg")
    return mx.mixmeta("logor ~ ablat", "logorvar", data, control=NUMPY)


@pytest.fixture(scope="module")
def school():
    data = mx.load_dataset("school")
    return mx.mixmeta("effect ~ year", "var", data, random="~ 1 | district/study", control=NUMPY)


def on(fit, y, **changes):
    """The fit to other outcomes of one kind."""
    formula = "drawn ~ " + changes.pop("terms", fit.formula.split("~")[1])
    data = fit.arguments["data"].assign(drawn=np.asarray(y).ravel())
    return fit.update(formula=formula, data=data, **changes)


def test_bootstrap_t_against_single_fits(bcg):
    found = bcg.bootstrap_inference(n=N, seed=4)
    drawn = []
    for y in bcg.simulate(N, seed=4):
        one = on(bcg, y)
        se = np.sqrt(np.diag(one.vcov))
        drawn.append(np.abs(one.coef.to_numpy() - bcg.coef.to_numpy()) / se)
    drawn = np.array(drawn)
    table = found.coefficients
    se = np.sqrt(np.diag(bcg.vcov))
    np.testing.assert_allclose(table["se"], se, rtol=1e-12)
    statistic = bcg.coef.to_numpy() / se
    pvalue = (1 + (drawn >= np.abs(statistic)).sum(0)) / (N + 1)
    np.testing.assert_allclose(table["pvalue"], pvalue)
    np.testing.assert_allclose(table["mc_error"], np.sqrt(pvalue * (1 - pvalue) / (N + 1)))
    # 95 percent of 20: the 19th of 19.
    quantile = np.sort(drawn, 0)[18]
    np.testing.assert_allclose(table["upper"], bcg.coef + quantile * se, rtol=SAME)
    np.testing.assert_allclose(table["lower"], bcg.coef - quantile * se, rtol=SAME)
    assert table.index.tolist() == bcg.coef.index.tolist()


def test_contrasts_and_joint_tests(bcg):
    found = bcg.bootstrap_inference(n=39, seed=4)
    L = np.array([[1.0, 30.0], [0.0, 1.0]])
    table = found.contrasts(L, rhs=[0.0, -0.02])
    assert table.index.tolist() == ["(Intercept) + 30 * ablat", "ablat"]
    draws = found.draws
    moved = (draws.coef - bcg.coef.to_numpy()) @ L.T
    spread = np.sqrt(np.einsum("ra,nab,rb->nr", L, draws.vcov, L))
    statistic = (L @ bcg.coef + [0, 0.02]) / np.sqrt(np.diag(L @ bcg.vcov.to_numpy() @ L.T))
    extreme = (np.abs(moved) / spread >= np.abs(statistic)).sum(0)
    np.testing.assert_allclose(table["pvalue"], (extreme + 1) / 40)
    joint = found.wald_test(L)
    own = [d @ np.linalg.solve(L @ V @ L.T, d) for d, V in zip(moved, draws.vcov, strict=True)]
    statistic = bcg.wald_test(L).statistic
    assert joint["statistic"] == pytest.approx(statistic, rel=1e-10)
    assert joint["pvalue"] == (1 + (np.array(own) >= statistic).sum()) / 40
    with pytest.raises(InputError, match="combination of the rows"):
        found.wald_test([[1.0, 0.0], [2.0, 0.0]])
    with pytest.raises(InputError, match="matches no coefficient"):
        found.contrasts("north")


def test_variances_are_percentiles(school):
    found = school.bootstrap_inference(n=39, seed=1, conf_level=0.8)
    table, draws = found.varcomp(), found.draws
    for level, row in zip(("district", "study"), table.to_dict("records"), strict=True):
        own = draws.Psi[level][:, 0, 0]
        np.testing.assert_allclose([row["lower"], row["upper"]], np.quantile(own, [0.1, 0.9]))
        assert row["se"] == pytest.approx(own.std(ddof=1))
    short = school.varcomp("bootstrap", n=39, seed=1, conf_level=0.8)
    np.testing.assert_array_equal(short["lower"], table["lower"])
    assert found.components.columns.names == ["level", "parameter"]


def test_correlations_count_where_they_have_a_value():
    fit, _ = fitted("multivariate, missing outcomes")
    found = fit.bootstrap_inference(n=29, seed=1)
    drawn = found.components["unit"]
    r = drawn.iloc[:, 2]
    Psi = found.draws.Psi
    size = Psi[:, 0, 0] * Psi[:, 1, 1]
    there = size > 0
    np.testing.assert_allclose(r[there], (Psi[:, 0, 1] / np.sqrt(size))[there], atol=1e-12)
    assert r[~there].isna().all()
    row = found.varcomp().iloc[2]
    assert row["lower"] == pytest.approx(np.quantile(r.dropna(), 0.025))


def test_prediction_intervals_against_their_definition(bcg):
    found = bcg.bootstrap_inference(n=N, seed=4)
    new = pd.DataFrame({"ablat": [10.0, 50.0]})
    table = found.predict(new)
    X = np.column_stack([np.ones(2), new["ablat"]])
    draws, tau2 = found.draws, bcg.Psi.iloc[0, 0]
    centre = X @ bcg.coef.to_numpy()
    errors = []
    for b in range(N):
        effect = np.sqrt(tau2) * np.random.default_rng([4, b, 1]).standard_normal()
        var = np.einsum("na,ab,nb->n", X, draws.vcov[b], X) + draws.Psi[b, 0, 0]
        errors.append(np.abs(centre + effect - X @ draws.coef[b]) / np.sqrt(var))
    own = np.sqrt(np.einsum("na,ab,nb->n", X, bcg.vcov.to_numpy(), X) + tau2)
    np.testing.assert_allclose(table["fit"], centre)
    np.testing.assert_allclose(table["pi_upper"], centre + np.max(errors, 0) * own, rtol=1e-10)
    assert found.predict().index.equals(bcg.predict().index)
    narrow = found.predict(new, level=0)
    assert (narrow["pi_upper"] < table["pi_upper"]).all()


def test_prediction_intervals_on_the_scale_of_ratios(bcg):
    own = bcg.bootstrap_inference(19, seed=4, progress=False)
    pd.testing.assert_frame_equal(own.predict(transform="exp"), np.exp(own.predict()))


def test_ratio_tests_and_the_bartlett_factor(bcg):
    larger = bcg.update(method="ml")
    smaller = larger.update(formula="logor ~ 1")
    test = mx.lr_test(smaller, larger, n=N, seed=5)
    ratios = [
        2 * (on(larger, y).loglik - on(larger, y, terms="1").loglik)
        for y in smaller.simulate(N, seed=5)
    ]
    own = test.bootstrap
    assert own.pvalue == (1 + (np.array(ratios) >= test.statistic).sum()) / (N + 1)
    assert own.bartlett == pytest.approx(1 / np.mean(ratios), rel=SAME)
    assert own.statistic == pytest.approx(test.statistic * own.bartlett, rel=1e-12)
    expected = stats.chi2.sf(own.statistic, 1)
    assert own.pvalue_bartlett == pytest.approx(expected, rel=1e-10)
    assert own.mc_error == pytest.approx(np.sqrt(own.pvalue * (1 - own.pvalue) / (N + 1)))
    assert "Bartlett-corrected" in str(test)
    same = larger.bootstrap_inference(n=N, seed=5).lr_test(smaller)
    assert same.bootstrap == own
    assert mx.lr_test(smaller, larger).bootstrap is None


def test_variances_tested_by_draws_without_them(school):
    table = school.bootstrap_inference(n=N, seed=2).boundary()
    assert table["level"].tolist() == ["district", "study"]
    without = school.update(hold={"district": {"var": 0}})
    ratios = []
    for y in without.simulate(N, seed=2):
        pair = [on(fit, y).loglik for fit in (without, school)]
        ratios.append(2 * (pair[1] - pair[0]))
    row = table.iloc[0]
    statistic = 2 * (school.loglik - without.loglik)
    assert row["statistic"] == pytest.approx(statistic, rel=1e-8)
    assert row["pvalue"] == (1 + (np.array(ratios) >= statistic).sum()) / (N + 1)
    assert row["reference"] == "bootstrap, 19 draws"


def test_a_fixed_effects_fit_is_tested_by_draws_of_errors_alone(bcg):
    larger = bcg.update(method="ml")
    test = mx.lr_test(larger.update(method="fixed"), larger, n=N, seed=1)
    assert test.bootstrap.n == N
    assert 0 < test.bootstrap.pvalue <= 1


# Wild cluster bootstrap


def robust_statistic(fit, L, v, groups):
    """Wald's statistic with CR0 errors, from full matrices."""
    y, X, _, S, _ = stacked(fit)
    W = np.linalg.inv(levels_covariance(fit) + S)
    V = np.linalg.inv(X.T @ W @ X)
    e = W @ (y - X @ (V @ X.T @ W @ y))
    scores = np.stack([X[groups == g].T @ e[groups == g] for g in np.unique(groups)])
    covariance = V @ scores.T @ scores @ V
    difference = L @ fit.coef.to_numpy() - v
    return difference @ np.linalg.solve(L @ covariance @ L.T, difference), covariance


def test_wild_draws_against_single_fits(school):
    found = school.bootstrap_inference(n=N, seed=6, kind="wild")
    groups = school.frame.levels[0].codes
    L = np.array([[0.0, 1.0]])
    restricted = school.update(formula="effect ~ 1")
    residual = restricted.residuals.to_numpy()
    weights = wild_weights(N, groups.max() + 1, 6)[:, groups]
    drawn = []
    for w in weights[:4]:
        y = restricted.fitted.to_numpy() + w * residual
        drawn.append(robust_statistic(on(school, y), L, 0.0, groups)[0])
    table = found.coefficients
    key = next(k for k in found._wild if k[0] == L.tobytes())
    np.testing.assert_allclose(found._wild[key].drawn[:4], drawn, rtol=1e-5)
    statistic, covariance = robust_statistic(school, L, 0.0, groups)
    assert table.loc["year", "statistic"] ** 2 == pytest.approx(statistic, rel=1e-8)
    assert table.loc["year", "se"] == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-8)
    own = found._wild[key].drawn
    pvalue = (1 + (own >= statistic).sum()) / (N + 1)
    assert table.loc["year", "pvalue"] == pvalue
    half = np.sqrt(np.sort(own)[18]) * table.loc["year", "se"]
    assert table.loc["year", "upper"] == pytest.approx(school.coef["year"] + half, rel=1e-8)
    assert found.wald_test("year")["pvalue"] == pvalue


def test_clusters_of_ones_own(bcg):
    pairs = np.arange(13) // 2
    found = bcg.bootstrap_inference(n=N, seed=6, kind="wild", cluster=pairs)
    expected = np.sqrt(np.diag(robust_statistic(bcg, np.eye(2), 0.0, pairs)[1]))
    np.testing.assert_allclose(found.coefficients["se"], expected, rtol=1e-8)


def test_wild_tests_of_all_coefficients_and_of_values(bcg):
    found = bcg.bootstrap_inference(n=N, seed=6, kind="wild")
    joint = found.wald_test(np.eye(2), rhs=[0.3, -0.03])
    assert joint["df"] == 2
    assert joint["n"] == N
    # At the estimates there is nothing to reject.
    at_estimate = found.wald_test(np.eye(2), rhs=bcg.coef.to_numpy())
    assert at_estimate["pvalue"] == 1.0


def test_wild_tests_of_one_outcome_and_of_a_predictor_of_all():
    fit, _ = fitted("multivariate, missing outcomes")
    found = fit.bootstrap_inference(n=N, seed=1, kind="wild")
    names = fit.coef.index.tolist()
    assert found.coefficients.index.tolist() == names
    both = found.wald_test([name for name in names if "x" in name])
    assert both["df"] == 2
    assert 0 < both["pvalue"] <= 1


def test_weights_have_mean_zero_and_variance_one():
    for m, values in ((FEW_CLUSTERS, [1.0]), (FEW_CLUSTERS - 1, WEBB)):
        weights = wild_weights(4000, m, seed=0)
        assert set(np.abs(weights).ravel()) == set(values)
        assert abs(weights.mean()) < 0.03
        assert weights.var() == pytest.approx(1, abs=0.03)
    np.testing.assert_array_equal(wild_weights(6, 5, 1)[2:], wild_weights(4, 5, 1, first=2))


# Reproducible in parts, and what is refused


def test_parts_are_those_of_the_whole(bcg):
    whole = bcg.bootstrap_inference(n=40, seed=3)
    part = bcg.bootstrap_inference(n=20, seed=3, first=20)
    np.testing.assert_allclose(part.draws.coef, whole.draws.coef[20:], rtol=1e-8)
    assert part.components.index[0] == 20


def test_results_survive_pickling(bcg):
    for kind in ("parametric", "wild"):
        found = bcg.bootstrap_inference(n=N, seed=3, kind=kind)
        again = pickle.loads(pickle.dumps(found))
        pd.testing.assert_frame_equal(again.coefficients, found.coefficients)
        assert again.n_fitted == N


def test_refused(bcg):
    for call, said in (
        (lambda: bcg.bootstrap_inference(kind="pairs"), "kind must be"),
        (lambda: bcg.bootstrap_inference(n=18), "at least 19"),
        (lambda: bcg.bootstrap_inference(n=N, cluster=np.zeros(13)), "cluster is of the wild"),
        (lambda: bcg.bootstrap_inference(n=99.5), "at least 19"),
        (lambda: bcg.bootstrap_inference(conf_level=2), "strictly between"),
        (lambda: bcg.update(method="dl").bootstrap_inference(), "needs a likelihood"),
        (lambda: bcg.bootstrap_inference(n=N, kind="wild").varcomp(), "parametric bootstrap"),
    ):
        with pytest.raises(InputError, match=said):
            call()


def test_more_hypotheses_than_clusters_are_refused():
    data = mx.load_dataset("school").query("district in [11, 12, 18]")
    data = data.assign(a=np.arange(len(data)), b=np.arange(len(data)) ** 2)
    fit = mx.mixmeta("effect ~ a + b", "var", data, random="~ 1 | district", control=NUMPY)
    found = fit.bootstrap_inference(n=N, kind="wild")
    assert found.wald_test("a|b")["df"] == 2
    with pytest.raises(InputError, match="needs more than 3 clusters, and there are 3"):
        found.wald_test(np.eye(3))


def test_without_residuals_a_wild_statistic_has_no_value():
    data = mx.load_dataset("bcg").assign(logor=0.0)
    fit = mx.mixmeta("logor", S="logorvar", data=data, method="ml")
    row = fit.bootstrap_inference(n=19, kind="wild").coefficients.iloc[0]
    assert row["se"] == 0 and np.isnan(row["statistic"])


def test_fixed_effects_have_draws_but_no_variances(bcg):
    found = bcg.update(method="fixed").bootstrap_inference(n=19)
    assert np.isfinite(found.predict().to_numpy()).all()
    for of_variances in (found.varcomp, found.boundary, lambda: found.components):
        with pytest.raises(mx.InputError, match="method='fixed' has none"):
            of_variances()
