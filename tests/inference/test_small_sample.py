"""Satterthwaite's and Kenward and Roger's tests against full n × n matrices, over model classes."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixmeta_jax as mx
from mixmeta_jax.inference import small_sample, variance_information
from tests import dense_inference as by_hand
from tests.models import MODELS, NUMPY, fitted
from tests.tolerances import SMALL_SAMPLE


@pytest.mark.parametrize("observed", [False, True], ids=["expected", "observed"])
@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_full_matrices(name, observed):
    fit, maps = fitted(name)
    m = by_hand.dense(fit, maps)
    kind = "observed" if observed else "expected"
    reference = fit.reference("satterthwaite", information=kind)
    scaled = fit.reference("kenward-roger", information=kind)
    P = len(fit.coef)
    contrasts = np.vstack([np.eye(P), np.linspace(1, 2, P), np.cos(np.arange(P))])
    expected = [by_hand.satterthwaite(m, c, observed) for c in contrasts]
    np.testing.assert_allclose(reference.df(contrasts), expected, rtol=SMALL_SAMPLE)
    np.testing.assert_allclose(scaled.df(contrasts), expected, rtol=SMALL_SAMPLE)
    for L in (contrasts[:1], contrasts[: min(2, P)], np.eye(P)):
        joint = fit.wald_test(L, test="satterthwaite", information=kind)
        np.testing.assert_allclose(
            joint.df_residual,
            by_hand.fai_cornelius(m, L, observed) if len(L) > 1 else expected[0],
            rtol=SMALL_SAMPLE,
        )
        adjusted, scale, df = by_hand.kenward_roger(m, L, observed)
        size = np.sqrt(np.outer(np.diag(adjusted), np.diag(adjusted)))
        np.testing.assert_allclose(scaled.vcov / size, adjusted / size, atol=SMALL_SAMPLE)
        joint = fit.wald_test(L, test="kenward-roger", information=kind)
        if df > 0 and scale > 0:
            deviation = L @ m.beta
            F = scale * deviation @ np.linalg.solve(L @ adjusted @ L.T, deviation) / len(L)
            np.testing.assert_allclose(
                [joint.statistic, joint.df_residual], [F, df], rtol=SMALL_SAMPLE
            )
        else:
            assert np.isnan(joint.pvalue) and "not positive" in joint.note


@pytest.mark.parametrize(
    ("name", "kind"),
    [("two levels", "observed"), ("blocks of S", "expected"), ("har1", "expected")],
)
def test_large_groups_have_the_same_numbers_by_sweeps(name, kind, monkeypatch):
    fit, _ = fitted(name)
    by_group = fit.reference("kenward-roger", information=kind)
    monkeypatch.setattr(variance_information, "LARGE_GROUP", 0)
    swept = fit.reference("kenward-roger", information=kind)
    assert swept.found.products is not None and by_group.found.products is None
    size = np.sqrt(np.outer(np.diag(by_group.vcov), np.diag(by_group.vcov)))
    np.testing.assert_allclose(swept.vcov / size, by_group.vcov / size, atol=SMALL_SAMPLE)
    L = np.eye(len(fit.coef))
    np.testing.assert_allclose(swept.df(L), by_group.df(L), rtol=SMALL_SAMPLE)
    np.testing.assert_allclose(swept.scale_and_df(L), by_group.scale_and_df(L), rtol=SMALL_SAMPLE)


@pytest.mark.parametrize("more", [0, 1])
def test_large_has_a_case_on_each_side(more):
    size = variance_information.LARGE_GROUP + more
    data = pd.DataFrame(
        {"y": np.cos(np.arange(size + 1)), "v": 0.1, "g": np.arange(size + 1) // size}
    )
    fit = mx.mixmeta("y", "v", data, random="~ 1 | g", method="fixed", control=NUMPY)
    assert variance_information.has_large_groups(fit.design) == bool(more)


def test_an_information_that_is_not_definite_has_no_inverse():
    for factor, definite in ((0.5, False), (2.0, True)):
        off = 1 - factor * variance_information.DEFINITE
        inverse = variance_information.inverse_of(
            np.array([[[1.0, off], [off, 1.0]]]), np.ones((1, 2), bool)
        )
        assert np.isfinite(inverse).all() == definite
    held = variance_information.inverse_of(
        np.array([[[4.0, 0.0], [0.0, 0.0]]]), np.array([[True, False]])
    )
    np.testing.assert_array_equal(held, [[[0.25, 0.0], [0.0, 0.0]]])


@pytest.mark.parametrize("left", [1, 2, 3, 4, 5])
def test_equal_errors_give_the_f_test_of_linear_regression(left):
    """Exact whatever the degrees of freedom: with 4 an F has no variance, with 2 no mean."""
    m = left + 2
    data = pd.DataFrame({"x": np.arange(m) ** 2.0, "y": 3 * np.cos(np.arange(m) ** 2), "v": 0.01})
    fit = mx.mixmeta("y ~ x", "v", data, control=NUMPY)
    X = np.column_stack([np.ones(m), data.x])
    beta, (rss,), *_ = np.linalg.lstsq(X, data.y, rcond=None)
    F = beta @ X.T @ X @ beta / 2 / (rss / left)
    joint = fit.wald_test(np.eye(2), test="kenward-roger")
    np.testing.assert_allclose(
        [joint.statistic, joint.df_residual, joint.pvalue],
        [F, left, stats.f.sf(F, 2, left)],
        rtol=1e-6,
    )


def balanced():
    """Groups in which both predictors are balanced, so that their V does not depend on Ψ."""
    m, within = 8, np.array([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    groups = np.repeat(np.arange(m), 4)
    x, z = np.tile(within, (m, 1)).T
    y = 2 * np.cos(3 * groups) + np.sin(np.arange(4 * m) ** 2) / 10
    data = pd.DataFrame({"g": groups, "x": x, "z": z, "y": y, "v": 1.0})
    return mx.mixmeta("y ~ x + z", "v", data, random="~ 1 | g", control=NUMPY)


@pytest.mark.parametrize("test", ["satterthwaite", "kenward-roger"])
def test_errors_that_no_variance_moves_are_known(test):
    fit = balanced()
    joint, z = fit.wald_test(["x", "z"], test=test), fit.wald_test(["x", "z"])
    np.testing.assert_allclose([joint.df_residual, joint.pvalue], [np.inf, z.pvalue], rtol=1e-9)
    assert fit.confint(test=test).df.round(6).tolist() == [7, np.inf, np.inf]


@pytest.mark.parametrize("part", [0.5, 2.0])
def test_known_and_same_zero_have_a_case_on_each_side(part):
    found = small_sample.VarianceInformation(
        np.ones((1, 1, 1)),
        np.full((1, 1, 1, 1), np.sqrt(part * 1e-12)),
        np.ones((1, 1, 1)),
        np.ones((1, 1), bool),
    )
    df = small_sample.combination_df(np.ones((1, 1)), found)
    assert np.isinf(df) == (part < 1)
    assert np.isinf(small_sample.scaled_f(2, part * 2e-12, part * 1e-12)[1]) == (part < 1)
    # Its F has one variance and almost no mean: E and D are the same up to the rounding of both.
    A2 = 2 * (1 + part * 1e-10)
    scale, df = small_sample.scaled_f(2, 2 * A2, A2)
    np.testing.assert_allclose([scale, df], [1, 2], rtol=1e-4)
    assert (scale == 1) or part > 1


@pytest.mark.parametrize(
    ("bscov", "hold", "same"),
    [
        ("unstr", {"cov": 0.0}, {"bscov": "diag"}),
        ("unstr", {"cor": 0.0}, {"bscov": "diag"}),
        ("unstr", {"cor": 0.5}, {"bscov": "cor", "Psi_fix": [[1, 0.5], [0.5, 1]]}),
        ("hcs", {"cor": 0.5}, {"bscov": "cor", "Psi_fix": [[1, 0.5], [0.5, 1]]}),
        ("cs", {"cor": 0.5}, {"bscov": "prop", "Psi_fix": [[1, 0.5], [0.5, 1]]}),
        ("ar1", {"cor": 0.0}, {"bscov": "id"}),
    ],
)
def test_what_is_held_is_known(bscov, hold, same):
    """Kenward and Roger's covariance depends on the parameters: it is that of the natural ones."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(12), 5)
    x, b = rng.normal(size=60), rng.normal(size=(12, 2))
    y = b[g, 0] + 0.5 * b[g, 1] * x + 0.6 * rng.normal(size=60)
    data = pd.DataFrame({"g": g, "x": x, "y": y, "v": rng.uniform(0.05, 0.3, 60)})
    names = {"cov": "cov(Intercept, x)"} if bscov == "unstr" else {}
    hold = {"g": {names.get(name, name): value for name, value in hold.items()}}
    fit, other = (
        mx.mixmeta("y ~ x", "v", data, random="~ x | g", control=NUMPY, **arguments)
        for arguments in ({"bscov": bscov, "hold": hold}, same)
    )
    for kind in ("expected", "observed"):
        own, its = (each.reference("kenward-roger", information=kind) for each in (fit, other))
        np.testing.assert_allclose(own.vcov, its.vcov, rtol=1e-6)
        np.testing.assert_allclose(own.df(np.eye(2)), its.df(np.eye(2)), rtol=1e-6)
        np.testing.assert_allclose(
            own.scale_and_df(np.eye(2)), its.scale_and_df(np.eye(2)), rtol=1e-6
        )
