"""Information criteria and likelihood ratios."""

import numpy as np
import pytest
from scipy import stats

from mixmeta_jax.inference.comparison import information_criteria, likelihood_ratio

CLOSE = 1e-12  # the same formula


def test_criteria_of_a_reference_fit():
    # reference/r_mixmeta.json, berkey_reml, R mixmeta 1.2.1: five parameters, ten outcomes less
    # two coefficients.
    aic, bic, aicc = information_criteria(3.69176769437033, 5, 8)
    assert aic == pytest.approx(2.61646461125935, abs=1e-10)
    assert bic == pytest.approx(3.01367231965853, abs=1e-10)
    assert aicc == pytest.approx(aic + 2 * 5 * 6 / 2, rel=CLOSE)


def test_aicc_is_undefined_with_too_few_outcomes():
    assert np.isnan(information_criteria(0.0, 5, 6).aicc)
    assert np.isfinite(information_criteria(0.0, 5, 6).bic)


def test_methods_without_likelihood_have_no_criteria():
    assert np.isnan(information_criteria(float("nan"), 3, 10)).all()


def test_interior_ratio_is_chi_square():
    statistic, pvalue, mixture = likelihood_ratio(-10.0, -7.5, 2, 0)
    assert statistic == 5.0
    assert pvalue == pytest.approx(stats.chi2.sf(5.0, 2), rel=CLOSE)
    assert np.isnan(mixture)


def test_one_variance_at_its_bound_halves_the_p_value():
    _, pvalue, mixture = likelihood_ratio(-10.0, -8.0, 1, 1)
    assert mixture == pytest.approx(pvalue / 2, rel=CLOSE)


def test_variance_with_covariances_mixes_two_chi_squares():
    _, _, mixture = likelihood_ratio(-10.0, -8.0, 2, 1)
    expected = 0.5 * stats.chi2.sf(4.0, 1) + 0.5 * stats.chi2.sf(4.0, 2)
    assert mixture == pytest.approx(expected, rel=CLOSE)


def test_no_gain_gives_no_evidence():
    assert likelihood_ratio(-10.0, -10.0 - 1e-12, 1, 1) == (0.0, 1.0, 1.0)


def test_several_variances_have_no_simple_mixture():
    assert np.isnan(likelihood_ratio(-10.0, -8.0, 2, 2)[2])


@pytest.mark.parametrize(("gain", "counts"), [(9e-10, False), (1.3e-9, True)])
def test_a_gain_of_rounding_is_none(gain, counts):
    """AS_HIGH = 1e-10, relative to 1 + 10: 1.1e-9. Half of the mixture lies at zero itself."""
    statistic, pvalue, mixture = likelihood_ratio(-10.0 - gain, -10.0, 1, 1)
    assert (statistic > 0) == counts
    assert mixture == pytest.approx(0.5 if counts else 1.0, abs=1e-4)
    assert pvalue == pytest.approx(1.0, abs=1e-4)
