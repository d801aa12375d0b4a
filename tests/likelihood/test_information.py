"""The information matrices against their definitions on dense matrices, and the observed one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmeta_jax.design.design import arrange
from mixmeta_jax.estimation.newton import evaluate
from tests.dense_likelihood import dense_log_likelihood, marginal_covariance
from mixmeta_jax.likelihood.likelihood import centred
from tests.designs import KINDS, random_design


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def dense_average_information(design, theta):
    """½ f_aᵀ P f_b with P, and the f_a = Σ_a P y, of the whole data as one matrix."""
    n, k, p = design.n, design.k, design.p
    rows = np.arange(n)[None]

    def marginal(theta):
        return marginal_covariance(design.Psi(theta), design, rows)[0]

    seen = np.asarray(design.mask).ravel()
    pair = np.ix_(seen, seen)
    Sigma, moved = jax.jit(lambda t: (marginal(t), jax.jacfwd(marginal)(t)))(theta)
    Sigma, moved = np.asarray(Sigma)[pair], np.asarray(moved)[pair]
    X = np.kron(design.X[:, None, :], np.eye(k)).reshape(n * k, p * k)[seen]
    W = np.linalg.inv(Sigma)
    P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W)
    Py = P @ design.y.ravel()[seen]
    f = np.einsum("ija,j->ia", moved, Py)
    return 0.5 * f.T @ P @ f


CASES = [(kind, "reml") for kind in KINDS] + [("one group per row", "ml"), ("random slope", "ml")]


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_evaluation_equals_dense_derivatives(kind, method):
    design = random_design(**KINDS[kind])
    theta = jnp.asarray(np.random.default_rng(5).normal(size=sum(design.n_parameters)))
    data, _ = centred(arrange(design))
    found = jax.jit(lambda t, d: evaluate(t, d, method == "reml", True))(theta, data)

    def in_Psi(Psi):
        return dense_log_likelihood(Psi, design, method)

    def in_theta(theta):
        return in_Psi(design.Psi(theta))

    gradient, hessian = jax.jit(lambda t: (jax.grad(in_theta)(t), jax.hessian(in_theta)(t)))(theta)
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.observed, -hessian, rtol=1e-8, atol=1e-8)

    @jax.jit
    def curvature(theta):
        slopes = jax.grad(in_Psi)(design.Psi(theta))
        weigh = lambda t: sum((g * P).sum() for g, P in zip(slopes, design.Psi(t)))  # noqa: E731
        return jax.hessian(weigh)(theta)

    average = found.guide - np.diag(np.abs(np.diagonal(curvature(theta))))
    expected = dense_average_information(design, theta)
    np.testing.assert_allclose(average, expected, rtol=1e-8, atol=1e-8)
