"""Which test a fit has, its printed and tidy forms, and R's figures for them."""

import dataclasses
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import mixmeta_jax as mx
from mixmeta_jax.fits.coefficients import TESTS, reference_of
from mixmeta_jax.inference import variance_information
from mixmeta_jax.inference.reference import Reference, StudentT
from mixmeta_jax.inference.small_sample import scaled_f
from tests.models import NUMPY, fitted
from tests.reference import EXTRA
from tests.reference import SMALL_SAMPLE as R
from tests.tolerances import ITERATED, METAFOR

QUANTILE = 2e-4  # quasi-random integration of the multivariate t


def bcg(formula="logor ~ ablat", **arguments):
    return mx.mixmeta(formula, "logorvar", mx.load_dataset("bcg"), control=NUMPY, **arguments)


def school(formula="effect", **arguments):
    random = "~ 1 | district/study"
    return mx.mixmeta(
        formula, "var", mx.load_dataset("school"), random=random, control=NUMPY, **arguments
    )


# R's figures


def test_knapp_hartung_agrees_with_metafor():
    expected = EXTRA["bcg_ablat_knha"]
    table = bcg().tidy(test="knha")
    for ours, theirs in (("se", "se"), ("pvalue", "p"), ("lower", "ci.lb"), ("upper", "ci.ub")):
        np.testing.assert_allclose(table[ours], expected[theirs], atol=10 * METAFOR)
    joint = bcg().wald_test("ablat", test="knha")
    assert joint.statistic == pytest.approx(R["knha"]["QM"], rel=ITERATED)
    assert joint.pvalue == pytest.approx(R["knha"]["QMp"], rel=10 * ITERATED)


def test_the_adhoc_factor_is_at_least_one():
    # bcg with latitude: 1.43; the mean alone: 1.008; that of equal outcomes: 0.
    table = bcg().tidy(test="knha", adhoc=True)
    np.testing.assert_allclose(table["se"], R["knha"]["adhoc_se"], rtol=ITERATED)
    mean = bcg("logor")
    expected = R["knha"]["adhoc_bcg_mean"]
    assert mean.tidy(test="knha", adhoc=True)["se"][0] == pytest.approx(expected["se"], rel=1e-5)
    data = pd.DataFrame({"y": [0.1, 0.2, 0.15], "v": 0.5})
    equal = mx.mixmeta("y", "v", data, control=NUMPY)
    assert equal.reference("knha").vcov < 0.1 * equal.estimate.vcov
    assert equal.reference("knha", adhoc=True).vcov == equal.estimate.vcov


def test_several_outcomes_have_one_factor():
    """Jackson and Riley: H² of all outcomes together, written out with full matrices."""
    fit, _ = fitted("multivariate, missing outcomes")
    from tests.dense_model import levels_covariance, stacked

    y, X, _, S, seen = stacked(fit)
    r = (y - X @ fit.coef.to_numpy())[seen]
    Sigma = (levels_covariance(fit) + S)[np.ix_(seen, seen)]
    H2 = r @ np.linalg.solve(Sigma, r) / (seen.sum() - 4)
    np.testing.assert_allclose(fit.reference("knha").vcov, H2 * fit.estimate.vcov, rtol=1e-10)
    assert (fit.tidy(test="knha")["df"] == seen.sum() - 4).all()


@pytest.mark.parametrize(
    ("entry", "random", "bscov"),
    [
        ("intercept", {"g": "~ 1", "row": "~ 1"}, "unstr"),
        ("slope", {"g": "~ x", "row": "~ 1"}, "unstr"),
        ("diagonal", {"g": "~ x", "row": "~ 1"}, {"g": "diag"}),
    ],
)
def test_agrees_with_pbkrtest(entry, random, bscov):
    """A linear mixed model: no known error, and the residual as the innermost level."""
    data = pd.DataFrame(R["lmm"]["data"])
    data = data.assign(row=np.arange(len(data)), none=0.0)
    fit = mx.mixmeta("y ~ x + w", "none", data, random=random, bscov=bscov, control=NUMPY)
    expected = R["lmm"][entry]
    reference = fit.reference("kenward-roger")
    np.testing.assert_allclose(reference.vcov, expected["vcov_adj"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(reference.df(np.eye(3)), expected["df"], rtol=ITERATED)
    joint = fit.wald_test(["x", "w"], test="kenward-roger")
    found = [joint.statistic, joint.df_residual, joint.pvalue]
    theirs = [expected["F"], expected["df_denom"], expected["p"]]
    np.testing.assert_allclose(found, theirs, rtol=ITERATED)


# What is held, and what is known


def test_a_variance_of_zero_is_held_and_said():
    data = pd.DataFrame({"y": [0.1, 0.2, 0.15, 0.12, 0.18], "v": 0.5})
    fit = mx.mixmeta("y", "v", data, control=NUMPY)
    assert fit.status.name == "BOUNDARY"
    for test in ("satterthwaite", "kenward-roger"):
        reference = fit.reference(test)
        assert reference.df(np.eye(1)) == np.inf
        assert "Held at a bound, as if known: the variance." in reference.notes
        assert "infinite" in reference.notes[-1]
        z, own = fit.tidy(), fit.tidy(test=test)
        assert own["pvalue"][0] == pytest.approx(z["pvalue"][0], rel=1e-12)
        joint = fit.wald_test("(Intercept)", test=test)
        assert joint.df_residual == np.inf
        assert joint.statistic == pytest.approx(fit.wald_test("(Intercept)").statistic)
        assert "Held at a bound" in str(fit.summary(test=test))


def test_the_level_of_what_is_held_is_named():
    fit, _ = fitted("two levels")
    data = fit.arguments["data"].assign(y1=lambda d: d["w"] + 1e-3 * np.cos(np.arange(len(d))))
    held = fit.update(data=data)
    note = held.reference("satterthwaite").notes[0]
    assert "the variance of level 'g'; the variance of level 'u'" in note


def test_a_singular_matrix_is_held_in_its_null_space():
    rng = np.random.default_rng(2)
    b = rng.normal(size=12)
    data = pd.DataFrame({"y1": b, "y2": b + 0.01 * rng.normal(size=12), "v1": 0.05, "v2": 0.05})
    fit = mx.mixmeta("y1 + y2 ~ 1", ["v1", "v2"], data, control=NUMPY)
    reference = fit.reference("satterthwaite")
    assert "1 of 2 directions without variance" in reference.notes[0]
    assert reference.found.free.sum() == 1
    # y1 + y2 has the one variance that is left.
    assert 5 < reference.df(np.array([[1.0, 1.0]]))[0] < 30


def test_known_errors_have_infinite_df():
    fit = bcg(method="fixed")
    for test in ("satterthwaite", "kenward-roger"):
        assert (fit.reference(test).df(np.eye(2)) == np.inf).all()
        np.testing.assert_allclose(
            fit.confint(test=test)[["lower", "upper"]], fit.confint()[["lower", "upper"]]
        )


def test_a_joint_df_that_is_not_positive_is_nan_with_the_reason():
    assert np.isnan(scaled_f(2, 0.1, 2.18)).all()
    scale, df = scaled_f(2, 0.2, 0.15)
    assert scale > 0 and df > 0
    assert scaled_f(3, 0.0, 0.0) == (1.0, np.inf)


def test_fai_and_cornelius_need_a_mean():
    """Of four trials one direction has fewer than two df; of eight all have more."""
    data = mx.load_dataset("bcg")
    four, eight = (
        mx.mixmeta("logor ~ ablat", "logorvar", data.iloc[rows], control=NUMPY)
        for rows in (slice(4, 8), slice(3, 11))
    )
    joint = four.wald_test(".", test="satterthwaite")
    assert np.isnan(joint.pvalue) and np.isnan(joint.statistic)
    assert "at most 2 degrees of freedom" in joint.note and joint.note in str(joint)
    assert four.wald_test(".", test="kenward-roger").df_residual > 0
    assert eight.wald_test(".", test="satterthwaite").df_residual > 2


def test_kenward_roger_of_one_hypothesis_has_no_scale():
    """Their general formulas give λ = 1 and ν = 2/A for one hypothesis."""
    assert scaled_f(1, 0.3, 0.3) == pytest.approx((1.0, 2 / 0.3))


def test_kenward_roger_after_ml_warns():
    fit = bcg(method="ml")
    with pytest.warns(UserWarning, match="derived for REML"):
        table = fit.tidy(test="kenward-roger")
    assert np.isfinite(table["df"]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit.tidy(test="satterthwaite")


# Tables and print


@pytest.mark.parametrize("test", TESTS)
def test_every_table_has_the_test(test):
    fit = bcg()
    reference = reference_of(fit, test)
    L = np.eye(2)
    se = np.sqrt(np.diag(reference.vcov))
    df = reference.df(L)
    name = "z" if test == "z" else "t"
    table, coefficients = fit.tidy(test=test), fit.summary(test=test).coefficients
    statistic = fit.coef.to_numpy() / se
    pvalue = 2 * (stats.norm if test == "z" else stats.t(df)).sf(abs(statistic))
    half = (stats.norm if test == "z" else stats.t(df)).ppf(0.975) * se
    np.testing.assert_allclose(table[name], statistic)
    np.testing.assert_allclose(table["pvalue"], pvalue)
    np.testing.assert_allclose(table["upper"], fit.coef + half)
    assert ("df" in table) == ("df" in fit.confint(test=test)) == (test != "z")
    np.testing.assert_array_equal(table["upper"], coefficients["upper"])
    np.testing.assert_array_equal(table["upper"], fit.confint(test=test)["upper"])
    joint = fit.wald_test([[0, 1]], test=test)
    np.testing.assert_allclose(joint.statistic, statistic[1] ** 2)
    np.testing.assert_allclose(joint.pvalue, pvalue[1])
    text = str(fit.summary(test=test))
    assert ("Tests and intervals: t distribution" in text) == (test != "z")
    assert ("Pr(>|t|)" in text) == (test != "z")
    assert ("t distribution" in fit.summary(test=test)._repr_html_()) == (test != "z")
    again = pickle.loads(pickle.dumps(reference))
    np.testing.assert_array_equal(again.vcov, reference.vcov)


def test_the_printed_joint_test_says_its_df():
    text = str(bcg().wald_test(".", test="kenward-roger"))
    assert "Kenward and Roger" in text and "F = 34.6091 on 2 and 5.94 df" in text


# Simultaneous intervals


def test_goldstein_with_t_covers_all_combinations():
    """Scheffé's √(r F); for Kenward and Roger divided by their λ."""
    reference = StudentT("t", np.diag([1.0, 2.0, 3.0]), (), np.full(3, 7.0))
    critical = reference.critical(0.95, np.eye(3), "goldstein")
    np.testing.assert_allclose(critical, np.sqrt(3 * stats.f.ppf(0.95, 3, 7)))
    fit = bcg()
    scaled = fit.reference("kenward-roger")
    scale, df = scaled.scale_and_df(np.eye(2))
    expected = np.sqrt(2 * stats.f.ppf(0.95, 2, df) / scale)
    np.testing.assert_allclose(scaled.critical(0.95, np.eye(2), "goldstein"), expected)
    # Rows that are combinations of others add nothing.
    more = np.vstack([np.eye(2), [1.0, 1.0]])
    np.testing.assert_allclose(scaled.critical(0.95, more, "goldstein"), expected)


@pytest.mark.parametrize("r", [2, 4])
def test_largest_of_independent_estimates_with_a_common_scale(r):
    """P(max |z_i| / s <= c) is one integral over the common s."""
    nu, P = 6.0, r
    reference = StudentT("t", np.diag(np.arange(1.0, P + 1)), (), np.full(P, nu))
    c = reference.critical(0.95, np.eye(P), "max-t")[0]

    def inside(u):
        return (2 * stats.norm.cdf(c * np.sqrt(stats.chi2.ppf(u, nu) / nu)) - 1) ** r

    assert integrate.quad(inside, 0, 1)[0] == pytest.approx(0.95, abs=QUANTILE)


def test_the_largest_of_several_has_the_fewest_degrees_of_freedom():
    reference = StudentT("t", np.eye(2), (), np.array([3.0, 30.0]))
    same = StudentT("t", np.eye(2), (), np.array([3.0, 3.0]))
    assert reference.critical(0.95, np.eye(2), "max-t")[0] == pytest.approx(
        same.critical(0.95, np.eye(2), "max-t")[0]
    )


def test_goldstein_without_a_joint_test_is_refused():
    """Of two outcomes in five trials with a trend the joint test of Kenward and Roger has no df."""
    S, data = ["var_PD", "cov_PD_AL", "var_AL"], mx.load_dataset("berkey98")
    few = mx.mixmeta("PD + AL ~ pubyear", S, data, control=NUMPY)
    assert np.isnan(few.wald_test(".", test="kenward-roger").df_residual)
    with pytest.raises(mx.InputError, match=r"are not positive.*simultaneous='max-t'") as raised:
        few.confint(simultaneous="goldstein", test="kenward-roger")
    assert len(str(raised.value)) <= 400
    assert np.isfinite(few.confint(simultaneous="max-t", test="kenward-roger")).all(axis=None)
    means = mx.mixmeta("PD + AL", S, data, control=NUMPY)
    joint = means.confint(simultaneous="goldstein", test="kenward-roger")
    assert np.isfinite(joint).all(axis=None)


def test_two_ways_to_write_one_model_are_corrected_differently():
    """Two effects: unstructured, or variances and a correlation, with second derivatives."""
    S, data = ["var_PD", "cov_PD_AL", "var_AL"], mx.load_dataset("berkey98")
    one, other = (
        mx.mixmeta("PD + AL", S, data, bscov=bscov, control=NUMPY) for bscov in ("unstr", "hcs")
    )
    assert one.loglik == pytest.approx(other.loglik, rel=1e-10)
    tables = [[fit.tidy(test=test) for fit in (one, other)] for test in TESTS[3:]]
    np.testing.assert_allclose(tables[0][0]["df"], tables[0][1]["df"], rtol=1e-6)
    np.testing.assert_allclose(tables[0][0]["se"], tables[0][1]["se"], rtol=1e-6)
    ratio = tables[1][1]["se"] / tables[1][0]["se"]
    assert ((ratio > 1.0001) & (ratio < 1.001)).all()


def test_simultaneous_intervals_are_ordered():
    fit = bcg()
    for test in TESTS:
        widths = [
            np.ptp(fit.confint(simultaneous=kind, test=test)[["lower", "upper"]], axis=1)
            for kind in (None, "max-t", "goldstein")
        ]
        assert (widths[0] < widths[1]).all() and (widths[1] < widths[2]).all()


def test_rows_of_zeros_have_no_error():
    L = np.array([[0.0, 0.0], [1.0, 0.0]])
    for test in TESTS:
        reference = bcg().reference(test)
        half = reference.critical(0.95, L) * reference.se(L)
        assert half[0] == 0 and half[1] > 0


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"test": "f"}, "'z', 't', 'knha', 'satterthwaite', 'kenward-roger'"),
        ({"test": "z", "df": 3}, "df=3 belongs to test='t'"),
        ({"test": "t", "df": "between"}, "number above 0, not 'between', nor 'residual'"),
        ({"test": "t", "df": 0}, "df must be a finite number above 0, not 0"),
        ({"test": "t", "df": True}, "df must be a finite number above 0, not True"),
        ({"test": "t", "adhoc": True}, "adhoc=True belongs to test='knha'"),
        (
            {"test": "satterthwaite", "information": "average"},
            "information must be .*'average'",
        ),
        ({"test": "t", "information": "observed"}, "information='observed' belongs to"),
    ],
)
def test_bad_arguments_are_a_sentence(arguments, words):
    fit = bcg()
    for call in (fit.summary, fit.confint, fit.tidy, lambda **a: fit.wald_test("ablat", **a)):
        with pytest.raises(mx.InputError, match=words) as raised:
            call(**arguments)
        assert len(str(raised.value)) <= 400


@pytest.mark.parametrize(
    ("name", "words"),
    [("two levels", "the model has 2 levels"), ("random slope", "the model has random slopes")],
)
def test_knapp_hartung_is_for_one_level_of_intercepts(name, words):
    fit, _ = fitted(name)
    with pytest.raises(mx.InputError, match=f"{words}.*test='kenward-roger'"):
        fit.confint(test="knha")


@pytest.mark.parametrize("test", ["satterthwaite", "kenward-roger"])
def test_moment_estimators_have_no_information(test):
    for method in ("dl", "mm"):
        with pytest.raises(mx.InputError, match="method='reml', or use test='t' or 'knha'"):
            bcg(method=method).confint(test=test)
    assert np.isfinite(bcg(method="dl").confint(test="knha")).all(axis=None)


def test_a_fit_without_numbers():
    fit = bcg()
    broken = dataclasses.replace(
        fit, estimate=dataclasses.replace(fit.estimate, vcov=np.full((2, 2), np.nan))
    )
    for test in ("knha", "satterthwaite", "kenward-roger"):
        with pytest.raises(mx.InputError, match="no finite covariance"):
            broken.confint(test=test)
    with pytest.raises(mx.InputError, match="no finite covariance"):
        broken.robust()
    assert np.isnan(broken.confint(test="t")["lower"]).all()


@pytest.mark.parametrize("kind", ["expected", "observed"])
def test_information_that_is_not_definite(kind, monkeypatch):
    monkeypatch.setattr(variance_information, "DEFINITE", 2.0)
    way = "use test='t'" if kind == "expected" else "use information='expected'"
    with pytest.raises(mx.InputError, match=f"{kind} information .* not positive.*{way}"):
        bcg().confint(test="satterthwaite", information=kind)


def test_no_residual_degrees_of_freedom():
    data = pd.DataFrame({"y": [0.1, 0.4], "x": [0.0, 1.0], "v": 0.1})
    fit = mx.mixmeta("y ~ x", "v", data, method="fixed", control=NUMPY)
    with pytest.raises(mx.InputError, match="2 observed outcomes and 2 coefficients"):
        fit.confint(test="t")
    assert np.isfinite(fit.confint(test="t", df=3)).all(axis=None)


def test_a_reference_is_for_its_own_parent_only():
    plain = Reference("z", np.eye(2))
    assert plain.statistic == "z" and (plain.df(np.eye(2)) == np.inf).all()
