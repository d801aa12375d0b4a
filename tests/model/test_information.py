"""The information matrices against their definitions on dense matrices, and the observed one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmeta_jax.data.design import arrange
from mixmeta_jax.estimation.newton import evaluate
from mixmeta_jax.model.dense import dense_log_likelihood, marginal_covariance
from mixmeta_jax.model.likelihood import centred
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
    Sigma = np.asarray(marginal(theta))[pair]
    moved = np.asarray(jax.jacfwd(marginal)(theta))[pair]
    X = np.kron(design.X[:, None, :], np.eye(k)).reshape(n * k, p * k)[seen]
    W = np.linalg.inv(Sigma)
    P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W)
    Py = P @ design.y.ravel()[seen]
    f = np.einsum("ija,j->ia", moved, Py)
    return 0.5 * f.T @ P @ f


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_equals_dense_derivatives(kind, method):
    design = random_design(**KINDS[kind])
    theta = jnp.asarray(np.random.default_rng(5).normal(size=sum(design.n_parameters)))
    data, _ = centred(arrange(design))
    found = jax.jit(lambda t, d: evaluate(t, d, method == "reml", True))(theta, data)

    def dense(theta):
        return dense_log_likelihood(design.Psi(theta), design, method)

    np.testing.assert_allclose(found.gradient, jax.grad(dense)(theta), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.observed, -jax.hessian(dense)(theta), rtol=1e-8, atol=1e-8)
    slopes = jax.grad(lambda Psi: dense_log_likelihood(Psi, design, method))(design.Psi(theta))
    curvature = jax.hessian(
        lambda t: sum((jax.lax.stop_gradient(g) * P).sum() for g, P in zip(slopes, design.Psi(t)))
    )(theta)
    average = found.guide - np.diag(np.abs(np.diagonal(curvature)))
    expected = dense_average_information(design, theta)
    np.testing.assert_allclose(average, expected, rtol=1e-8, atol=1e-8)
