"""The information matrices against their definitions on dense matrices, and the observed one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.estimation.newton import evaluate
from mixmeta_jax.likelihood.information import is_exact
from mixmeta_jax.likelihood.likelihood import prepared
from tests.dense_likelihood import dense_information, dense_log_likelihood
from tests.designs import KINDS, random_design


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


CASES = [(kind, "reml") for kind in KINDS] + [("one group per row", "ml"), ("random slope", "ml")]


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_evaluation_equals_dense_derivatives(kind, method):
    design = random_design(**KINDS[kind])
    theta = jnp.asarray(np.random.default_rng(5).normal(size=sum(design.n_parameters)))
    data, _ = prepared(arrange(design))

    def gradient_at(theta):
        at = evaluate(theta[:, None], data, method == "reml")
        return at.gradient[:, 0], at

    slope, found = jax.jit(jax.jacfwd(gradient_at, has_aux=True))(theta)

    def in_Psi(Psi):
        return dense_log_likelihood(Psi, design, method)

    def in_theta(theta):
        return in_Psi(design.Psi(theta))

    gradient, hessian = jax.jit(lambda t: (jax.grad(in_theta)(t), jax.hessian(in_theta)(t)))(theta)
    np.testing.assert_allclose(found.gradient[:, 0], gradient, rtol=1e-9, atol=1e-9)
    # The observed information is what the gradient's derivative says, whatever leads the steps.
    np.testing.assert_allclose(slope, hessian, rtol=1e-8, atol=1e-8)

    @jax.jit
    def curvature(theta):
        slopes = jax.grad(in_Psi)(design.Psi(theta))
        weigh = lambda t: sum((g * P).sum() for g, P in zip(slopes, design.Psi(t)))  # noqa: E731
        return jax.hessian(weigh)(theta)

    curved = curvature(theta)
    average, _ = dense_information(design, theta, method)
    preconditioner = average + np.diag(np.abs(np.diagonal(curved)))
    np.testing.assert_allclose(found.preconditioner[:, :, 0], preconditioner, rtol=1e-8, atol=1e-8)
    leading = -hessian if is_exact(data, method == "reml") else average - curved
    np.testing.assert_allclose(found.information[:, :, 0], leading, rtol=1e-8, atol=1e-8)


def test_where_the_observed_information_leads():
    """One level whose groups are blocks: the rest goes by the average, and a secant."""
    exact = {kind for kind in KINDS if is_exact(arrange(random_design(**KINDS[kind])), True)}
    assert exact == {"univariate", "one group per row", "random slope"} - {
        kind for kind in KINDS if random_design(**KINDS[kind]).layout.absorbed
    }
