"""Wald tables, intervals and joint tests, against formulas written out here."""

import numpy as np
import pytest
from scipy import integrate, stats

from mixmeta_jax.errors import InputError
from mixmeta_jax.inference import wald
from mixmeta_jax.inference.reference import Reference

CLOSE = 1e-12  # the same formula in another order of operations
QUANTILE = 2e-4  # quasi-random integration of the multivariate normal

BETA = np.array([0.4, -1.1, 0.03])
ROOT = np.array([[0.2, 0.0, 0.0], [0.05, 0.3, 0.0], [-0.02, 0.1, 0.01]])
VCOV = ROOT @ ROOT.T


def joint(L, rhs, beta, vcov):
    found = Reference("z", vcov).joint(L, rhs, beta)
    return found.statistic, found.df, found.pvalue


def critical_value(vcov, conf_level, simultaneous):
    L = np.eye(len(vcov))
    return Reference("z", vcov).critical(conf_level, L, simultaneous)[0]


def test_joint_test_does_not_depend_on_how_hypotheses_are_written():
    L = np.array([[1.0, -1.0, 0.0], [0.0, 2.0, 1.0]])
    rhs = np.array([0.5, -1.0])
    mix = np.array([[2.0, 1.0], [-1.0, 3.0]])
    first = joint(L, rhs, BETA, VCOV)
    second = joint(mix @ L, mix @ rhs, BETA, VCOV)
    assert first == pytest.approx(second, rel=1e-10)
    deviation = L @ BETA - rhs
    inverse = np.linalg.inv(L @ VCOV @ L.T)
    assert first[0] == pytest.approx(deviation @ inverse @ deviation, rel=1e-10)


def test_redundant_hypothesis_is_named():
    L = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    with pytest.raises(InputError, match="Row 2"):
        joint(L, np.zeros(3), BETA, VCOV)


def test_goldstein_uses_the_chi_square_quantile():
    critical = critical_value(VCOV, 0.95, "goldstein")
    assert critical**2 == pytest.approx(stats.chi2.ppf(0.95, 3), rel=CLOSE)


@pytest.mark.parametrize("correlation", [-0.7, 0.0, 0.5])
def test_max_t_covers_two_estimates_jointly(correlation):
    cov = np.array([[4.0, correlation * 6.0], [correlation * 6.0, 9.0]])
    critical = critical_value(cov, 0.95, "max-t")
    spread = (1 - correlation**2) ** 0.5

    def slice_at(x):
        ends = [(c - correlation * x) / spread for c in (-critical, critical)]
        return stats.norm.pdf(x) * (stats.norm.cdf(ends[1]) - stats.norm.cdf(ends[0]))

    covered = integrate.quad(slice_at, -critical, critical)[0]
    assert covered == pytest.approx(0.95, abs=QUANTILE)


def test_max_t_of_independent_estimates_is_sidak():
    critical = critical_value(np.diag([1.0, 4.0, 9.0, 16.0]), 0.95, "max-t")
    sidak = stats.norm.ppf((1 + 0.95 ** (1 / 4)) / 2)
    assert critical == pytest.approx(sidak, abs=QUANTILE)


def test_max_t_of_identical_or_single_estimates_is_pointwise():
    pointwise = wald.normal_quantile(0.95)
    assert critical_value(np.ones((1, 1)), 0.95, "max-t") == pytest.approx(pointwise)
    singular = critical_value(np.ones((2, 2)), 0.95, "max-t")
    assert singular == pytest.approx(pointwise, abs=QUANTILE)


@pytest.mark.parametrize(
    ("r", "quantile"), [(2, 2.2257177), (3, 2.3635454), (5, 2.5461550), (8, 2.6988718)]
)
def test_max_t_beside_the_integration_of_scipy(r, quantile):
    """scipy 1.17.1, multivariate_normal.cdf with abseps = releps = 1e-6: 64 s for r = 8."""
    root = np.random.default_rng(r).normal(size=(r, r + 2))
    critical = critical_value(root @ root.T, 0.95, "max-t")
    assert critical == pytest.approx(quantile, abs=QUANTILE)


def test_max_t_of_many_estimates_of_which_some_depend_on_others():
    g = np.random.default_rng(0)
    root = g.normal(size=(30, 4))
    critical = critical_value(root @ root.T, 0.95, "max-t")
    drawn = g.normal(size=(200_000, 4)) @ root.T / np.sqrt((root**2).sum(1))
    covered = (np.abs(drawn).max(1) <= critical).mean()
    # Four standard errors of the draws, and the integration.
    assert covered == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / 200_000) + 5e-4)


def test_critical_values_are_ordered_and_reproducible():
    pointwise, largest, all_combinations = (
        critical_value(VCOV, 0.95, kind) for kind in (None, "max-t", "goldstein")
    )
    assert pointwise < largest < all_combinations
    assert critical_value(VCOV, 0.95, "max-t") == largest


@pytest.mark.parametrize("level", [0, 1, 95, -0.1, "high", True])
def test_confidence_level_is_checked(level):
    with pytest.raises(InputError, match="conf_level"):
        wald.check_conf_level(level)


def test_unknown_choices_list_what_there_is():
    with pytest.raises(InputError, match="goldstein"):
        critical_value(VCOV, 0.95, "tukey")
