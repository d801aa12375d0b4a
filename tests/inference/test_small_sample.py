"""Satterthwaite's and Kenward and Roger's tests against full n × n matrices, over model classes."""

import numpy as np
import pytest

from tests import dense_inference as by_hand
from tests.models import MODELS, fitted
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
