"""The Q table against sums written out here."""

import numpy as np
import pytest
from scipy import stats

from mixmeta_jax.inference.heterogeneity import q_table

CLOSE = 1e-12  # the same sums in another order


def test_one_outcome_with_the_bcg_value():
    # reference/r_mixmeta.json, bcg_fixed: mixmeta(logor, logorvar, data = bcg, method = "fixed"),
    # R mixmeta 1.2.1.
    table = q_table(163.164915180799, np.zeros((13, 1)), np.ones((13, 1)), 1)
    assert table.df[0] == 12
    assert table.I2[0] == pytest.approx(92.6454776, abs=1e-6)  # 100 (Q - 12) / Q
    assert table.pvalue[0] == pytest.approx(stats.chi2.sf(163.164915180799, 12), rel=CLOSE)


def test_outcomes_count_only_what_is_observed():
    residuals = np.array([[1.0, np.nan], [-2.0, 3.0], [0.5, 1.0], [np.nan, -1.0]])
    variances = np.array([[0.5, np.nan], [0.25, 1.0], [1.0, 2.0], [0.0, 0.5]])
    table = q_table(30.0, residuals, variances, 1)
    by_hand = [1 / 0.5 + 4 / 0.25 + 0.25, 9.0 + 1 / 2.0 + 1 / 0.5]
    np.testing.assert_allclose(table.Q, [30.0, *by_hand], rtol=CLOSE)
    np.testing.assert_array_equal(table.df, [4, 2, 2])
    expected = [100 * (q - d) / q for q, d in zip(table.Q, table.df, strict=True)]
    np.testing.assert_allclose(table.I2, expected, rtol=CLOSE)


def test_no_excess_is_no_heterogeneity():
    table = q_table(1.5, np.full((4, 1), 0.1), np.ones((4, 1)), 1)
    assert table.I2[0] == 0
    assert table.I2[1] == 0


def test_without_degrees_of_freedom_nothing_is_claimed():
    table = q_table(0.0, np.zeros((1, 2)), np.ones((1, 2)), 1)
    assert np.isnan(table.pvalue).all()
    assert np.isnan(table.I2).all()


def test_perfect_agreement_has_no_heterogeneity():
    table = q_table(0.0, np.zeros((4, 1)), np.ones((4, 1)), 1)
    np.testing.assert_array_equal(table.pvalue, 1.0)
    np.testing.assert_array_equal(table.I2, 0.0)
