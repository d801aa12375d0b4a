"""Satterthwaite's and Kenward and Roger's tests against full n × n matrices, over model classes."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.inference import variance_information
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
    monkeypatch.setattr(variance_information, "LARGE", 0)
    swept = fit.reference("kenward-roger", information=kind)
    assert swept.found.products is not None and by_group.found.products is None
    size = np.sqrt(np.outer(np.diag(by_group.vcov), np.diag(by_group.vcov)))
    np.testing.assert_allclose(swept.vcov / size, by_group.vcov / size, atol=SMALL_SAMPLE)
    L = np.eye(len(fit.coef))
    np.testing.assert_allclose(swept.df(L), by_group.df(L), rtol=SMALL_SAMPLE)
    np.testing.assert_allclose(swept.scale_and_df(L), by_group.scale_and_df(L), rtol=SMALL_SAMPLE)


@pytest.mark.parametrize("more", [0, 1])
def test_large_has_a_case_on_each_side(more):
    size = variance_information.LARGE + more
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
