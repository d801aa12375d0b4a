"""Cluster-robust errors against full n × n matrices, over model classes, and R clubSandwich."""

import pickle

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.inference.cluster_robust import TYPES, cluster_sums
from mixmeta_jax.inference.variance_information import _lower
from mixmeta_jax.tolerances import LEFT_OVER
from tests import dense_inference as by_hand
from tests.models import NUMPY, fitted
from tests.reference import EXTRA
from tests.reference import SMALL_SAMPLE as R
from tests.tolerances import ITERATED, SMALL_SAMPLE

CLASSES = [
    "univariate",
    "multivariate, missing outcomes",
    "two levels",
    "random slope",
    "three outcomes, two levels",
    "blocks of S",
    "dose-response",
    "network",
]


def observed_clusters(fit, units):
    return np.repeat(units, fit.frame.k)[np.isfinite(fit.frame.y).ravel()]


@pytest.mark.parametrize("pairs", [False, True], ids=["groups", "unions"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", CLASSES)
def test_agrees_with_full_matrices(name, kind, pairs):
    fit, maps = fitted(name)
    m = by_hand.dense(fit, maps)
    codes = fit.frame.levels[0].codes
    codes = codes // 2 if pairs else codes
    found = fit.robust(cluster=codes if pairs else None, type=kind)
    parts = by_hand.robust(m, observed_clusters(fit, codes), kind)
    size = np.sqrt(np.outer(np.diag(parts[0]), np.diag(parts[0])))
    np.testing.assert_allclose(found.vcov / size, parts[0] / size, atol=SMALL_SAMPLE)
    P = len(fit.coef)
    contrasts = np.vstack([np.eye(P), np.linspace(1, 2, P)])
    expected = [by_hand.robust_df(m, c, parts) for c in contrasts]
    np.testing.assert_allclose(found.reference.df(contrasts), expected, rtol=SMALL_SAMPLE)
    for L in (np.eye(P)[: min(2, P)], np.eye(P)):
        F, df, pvalue = by_hand.hotelling(m, L, parts)
        joint = found.wald_test(L)
        if df > 0:
            np.testing.assert_allclose(
                [joint.statistic, joint.df_residual, joint.pvalue],
                [F, df, pvalue],
                rtol=SMALL_SAMPLE,
            )
        else:
            assert np.isnan(joint.pvalue) and "not positive" in joint.note


def test_unbiased_under_the_model():
    """CR2: the mean of the robust covariance is V, here by its own formula for that mean."""
    fit, _ = fitted("two levels")
    found = cluster_sums(
        fit.design, [P[None] for P in fit.Psi_by_level], fit.frame.levels[0].codes, "CR2"
    )
    mean = (found.a - np.swapaxes(found.h, -1, -2) @ found.h).sum(1)[0]
    # One coefficient, w, is constant within groups: no group determines it.
    np.testing.assert_allclose(mean, np.eye(3), atol=1e-10)


@pytest.mark.parametrize("kind", ["CR0", "CR1", "CR2"])
def test_school_agrees_with_the_reference_values(kind):
    fit = mx.mixmeta(
        "effect", "var", mx.load_dataset("school"), random="~ 1 | district/study", control=NUMPY
    )
    expected = EXTRA["school"]["CR"][kind]
    row = fit.robust(type=kind).tidy().iloc[0]
    for ours, theirs in (("se", "SE"), ("t", "tstat"), ("df", "df_Satt"), ("pvalue", "p_Satt")):
        assert row[ours] == pytest.approx(expected[theirs], rel=ITERATED)


def school():
    data = mx.load_dataset("school").assign(decade=lambda d: (d["year"] - 1990) / 10)
    fit = mx.mixmeta("effect ~ decade", "var", data, random="~ 1 | district/study", control=NUMPY)
    return fit, None


def bcg():
    return mx.mixmeta("logor ~ ablat", "logorvar", mx.load_dataset("bcg"), control=NUMPY), None


def berkey98():
    S = ["var_PD", "cov_PD_AL", "var_AL"]
    return mx.mixmeta("PD + AL ~ 1", S, mx.load_dataset("berkey98"), control=NUMPY), None


@pytest.mark.parametrize(
    ("entry", "model", "cluster"),
    [
        ("school", school, None),
        ("berkey98", berkey98, None),
        ("bcg", bcg, None),
        ("bcg_pairs", bcg, np.arange(13) // 2),
    ],
)
@pytest.mark.parametrize("kind", TYPES)
def test_agrees_with_clubsandwich(entry, model, cluster, kind):
    fit, _ = model()
    expected = R[entry]["CR"][kind]
    # With three variances metafor has them to 1e-5, by numerical gradients.
    close = 10 * ITERATED if entry == "berkey98" else ITERATED
    found = fit.robust(cluster=cluster, type=kind)
    table = found.tidy()
    np.testing.assert_allclose(table["se"], expected["se"], rtol=close)
    np.testing.assert_allclose(table["df"], expected["df"], rtol=close)
    np.testing.assert_allclose(table["pvalue"], expected["p"], rtol=10 * close)
    joint = found.wald_test(np.eye(2))
    np.testing.assert_allclose(
        [joint.statistic, joint.df_residual, joint.pvalue],
        [expected["F"], expected["df_denom"], expected["p_joint"]],
        rtol=10 * close,
    )


def test_fewer_than_four_df_is_said():
    fit, _ = school()
    third = fit.robust(type="CR3")
    assert "decade (3.75)" in third.notes[0] and "(Intercept)" not in third.notes[0]
    assert "Fewer than 4 degrees of freedom" in str(third)
    assert "fewer than 4" in third.wald_test(".").note
    second = fit.robust(type="CR2")  # 8.31 and 4.19 df
    assert not second.notes and not second.wald_test("decade").note


def test_clusters_may_be_a_level_a_column_or_values():
    fit, _ = school()
    data = fit.arguments["data"]
    expected = fit.robust().vcov
    for cluster in ("district", data["district"], data["district"].tolist()):
        np.testing.assert_array_equal(fit.robust(cluster).vcov, expected)
    part = mx.mixmeta(
        "effect ~ decade",
        "var",
        data,
        random="~ 1 | district/study",
        subset=data["district"] > 20,
        control=NUMPY,
    )
    np.testing.assert_array_equal(part.robust(data["district"]).vcov, part.robust().vcov)
    named = part.update(subset="district > 20")
    np.testing.assert_array_equal(named.robust("district").vcov, part.robust().vcov)
    assert part.robust("district").n_clusters < fit.robust("district").n_clusters


def test_outcomes_as_arrays_and_rows_left_out():
    data = mx.load_dataset("bcg")
    y, v = data["logor"].to_numpy(copy=True), data["logorvar"].to_numpy()
    y[3] = np.nan
    subset = np.arange(13) < 11
    cluster = np.arange(13) // 2
    fit = mx.mixmeta(y, v, subset=subset, control=NUMPY)
    expected = mx.mixmeta(y[subset], v[subset], control=NUMPY).robust(cluster[subset])
    found = fit.robust(cluster)
    np.testing.assert_array_equal(found.vcov, expected.vcov)
    again = pickle.loads(pickle.dumps(found))
    pd.testing.assert_frame_equal(again.tidy(), found.tidy())


def test_other_reference_distributions():
    fit, _ = school()
    z, t, seven = (fit.robust(**a) for a in ({"test": "z"}, {"test": "t"}, {"test": "t", "df": 7}))
    np.testing.assert_array_equal(z.vcov, fit.robust().vcov)
    assert list(z.tidy().columns[4:5]) == ["z"]
    assert (t.tidy()["df"] == 10).all() and (seven.tidy()["df"] == 7).all()
    assert "cluster-robust (CR2, 11 clusters of district)" in str(z)
    assert z.wald_test(".").df_residual == np.inf and t.wald_test(".").df_residual == 10


def test_a_coefficient_of_one_cluster():
    data = mx.load_dataset("bcg").assign(first=lambda d: 1.0 * (np.arange(len(d)) == 0))
    fit = mx.mixmeta("logor ~ first", "logorvar", data, control=NUMPY)
    with pytest.raises(mx.InputError, match="determines a coefficient"):
        fit.robust(type="CR3")
    # Null residuals say nothing on it: CR2 is zero on that part, as by its pseudo-inverse.
    m = by_hand.dense(fit, [by_hand.unstructured(1)])
    parts = by_hand.robust(m, np.arange(13), "CR2")
    np.testing.assert_allclose(fit.robust().vcov, parts[0], atol=1e-10)


def test_determined_has_a_case_on_each_side():
    for share, lost in ((0.1 * LEFT_OVER, True), (1e4 * LEFT_OVER, False)):
        data = mx.load_dataset("bcg").assign(
            first=lambda d, share=share: np.where(
                np.arange(13) == 0, 1.0, np.sqrt(share / 12) * np.resize([1.0, -1.0], 13)
            )
        )
        fit = mx.mixmeta("logor ~ first", 1.0 + np.zeros(13), data, method="fixed", control=NUMPY)
        if lost:
            with pytest.raises(mx.InputError, match="determines"):
                fit.robust(type="CR3")
        else:
            assert np.isfinite(fit.robust(type="CR3").vcov).all(axis=None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"cluster": np.arange(56) % 5},
            r"cut the outer group 11 of 'district': its rows lie in 0 and 1\.",
        ),
        ({"cluster": "study"}, r"cut the outer group 11 of 'district'.*\(11, 1\) and \(11, 2\)"),
        ({"cluster": [1] * 56}, "a single cluster of 'cluster'"),
        ({"cluster": "county"}, "There is no column 'county'"),
        ({"cluster": [1, 2]}, "2 values, but the data have 56 rows"),
        ({"cluster": [None] + [1] * 55}, "missing in row 0"),
        ({"type": "CR4"}, "type must be one of .*, not 'CR4'"),
        (
            {"test": "kenward-roger"},
            "with robust errors.* must be one of",
        ),
        ({"df": 3}, "df=3 belongs to test='t'"),
        ({"test": "t", "df": -1}, "df must be a finite number above 0, not -1"),
    ],
)
def test_bad_input_is_a_sentence(arguments, words):
    fit, _ = school()
    with pytest.raises(mx.InputError, match=words) as raised:
        fit.robust(**arguments)
    assert len(str(raised.value)) <= 400


def test_cr1p_needs_more_clusters_than_coefficients():
    fit, _ = bcg()
    with pytest.raises(mx.InputError, match="2 clusters less the 2 coefficients"):
        fit.robust(np.arange(13) % 2, type="CR1p")
    assert fit.robust(np.arange(13) % 3, type="CR1p").n_clusters == 3


@pytest.mark.parametrize("test", ["satterthwaite", "t", "z"])
@pytest.mark.parametrize("kind", ["CR0", "CR2"])
def test_more_hypotheses_than_clusters_have_no_joint_test(test, kind):
    data = mx.load_dataset("bcg").assign(thirds=np.arange(13) % 3)
    fit = mx.mixmeta("logor ~ ablat + alloc", "logorvar", data, control=NUMPY)
    joint = fit.robust("thirds", type=kind, test=test).wald_test(np.eye(4))
    assert np.isnan([joint.statistic, joint.pvalue]).all() and "too few clusters" in joint.note


@pytest.mark.parametrize("test", ["satterthwaite", "t", "z"])
def test_a_coefficient_without_residuals_has_no_error(test):
    """Two studies allocate alternately: an intercept and a slope of their own fit them exactly."""
    fit = mx.mixmeta("logor ~ alloc*ablat", "logorvar", mx.load_dataset("bcg"), control=NUMPY)
    found = fit.robust(test=test)
    table = found.tidy().set_index("term")
    lost = ["(Intercept)", "ablat"]
    assert table.loc[lost, ["se", "pvalue", "lower", "upper"]].isna().all(axis=None)
    assert table.drop(lost)[["se", "pvalue", "lower", "upper"]].notna().all(axis=None)
    assert "without a robust error: (Intercept), ablat." in found.notes[0] in str(found)


@pytest.mark.parametrize("part", [0.5, 2.0])
def test_no_robust_variance_has_a_case_on_each_side(part):
    y = np.array([1.0, -1.0, *np.sqrt(part * 1e-12) * np.array([1.0, -1.0])])
    data = pd.DataFrame({"y": y, "a": [1.0, 1, 0, 0], "b": [0.0, 0, 1, 1], "v": 1.0})
    fit = mx.mixmeta("y ~ 0 + a + b", "v", data, method="fixed", control=NUMPY)
    assert fit.robust().tidy().se.isna().tolist() == [False, part < 1]


@pytest.mark.parametrize("part", [0.5, 2.0])
def test_no_residuals_has_a_case_on_each_side(part):
    # Four effects: r² = part·1e-24 of their variances, CR0 and H² of these.
    y = np.sqrt(part * 1e-24) * np.array([1.0, -1.0, 1.0, -1.0])
    fit = mx.mixmeta(y, np.ones(4), method="fixed", control=NUMPY)
    assert fit.robust(type="CR0").tidy().se.isna().item() == (part < 1)
    fit = mx.mixmeta(y * np.sqrt(3 / 4), np.ones(4), method="fixed", control=NUMPY)
    if part < 1:
        with pytest.raises(mx.InputError, match="fitted exactly"):
            fit.confint(test="knha")
    else:
        assert fit.tidy(test="knha").se.item() == pytest.approx(np.sqrt(part * 1e-24 / 4))
    assert fit.tidy(test="knha", adhoc=True).se.item() == pytest.approx(0.5)


def test_information_that_is_singular_in_double_precision_is_told():
    """Variances of errors from 1e-13 to 1e11 and slopes of 1e8: found by the fuzz script."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"y": rng.normal(size=12), "x": rng.normal(size=12) * 1e8})
    data["v"] = np.where(np.arange(12) < 2, 1e-13, 1e11)
    data["g"] = np.repeat([1.0, 2, 3, 4], 3)
    fit = mx.mixmeta("y ~ C(g)", S="v", data=data, random="~ x | g", method="ml", bscov="id")
    for ask in (fit.robust, lambda: fit.summary(test="satterthwaite")):
        with pytest.raises(mx.InputError, match="singular in double precision"):
            ask()


def test_of_several_only_the_singular_one_has_no_root():
    sound, singular = np.diag([4.0, 1.0]), np.array([[1.0, 1.0], [1.0, 1.0 - 1e-9]])
    lower = _lower(np.stack([sound, singular]))
    np.testing.assert_allclose(lower[0], np.diag([2.0, 1.0]))
    assert np.isnan(lower[1]).all()
