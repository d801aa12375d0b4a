"""Predictions and their covariances, against explicit Kronecker products."""

import numpy as np

from mixmeta_jax.inference.prediction import (
    between_variance,
    predicted,
    quadratic_form,
    standard_errors,
)

CLOSE = 1e-12  # the same sums in another order


def covariance(rng, d):
    root = rng.normal(size=(d, d))
    return root @ root.T


def test_prediction_is_the_product_with_a_kronecker_row():
    rng = np.random.default_rng(1)
    X, beta, V = rng.normal(size=(5, 3)), rng.normal(size=6), covariance(rng, 6)
    fit, variance = predicted(X, beta, 2), quadratic_form(X, V, 2)
    for i, row in enumerate(X):
        rows = np.kron(row, np.eye(2))
        np.testing.assert_allclose(fit[i], rows @ beta, rtol=CLOSE)
        np.testing.assert_allclose(variance[i], rows @ V @ rows.T, rtol=CLOSE)


def test_between_variance_adds_the_levels():
    rng = np.random.default_rng(2)
    Z = [rng.normal(size=(4, 2)), np.ones((4, 1))]
    Psi = [covariance(rng, 6), covariance(rng, 3)]
    total = between_variance(Z, Psi, 4, 3)
    for i in range(4):
        slopes = np.kron(Z[0][i], np.eye(3))
        np.testing.assert_allclose(total[i], slopes @ Psi[0] @ slopes.T + Psi[1], rtol=CLOSE)


def test_no_levels_add_nothing():
    assert not between_variance([], [], 3, 2).any()


def test_standard_errors_survive_rounding_below_zero():
    variances = np.array([[[-1e-20, 0.0], [0.0, 4.0]]])
    np.testing.assert_array_equal(standard_errors(variances), [[0.0, 2.0]])
