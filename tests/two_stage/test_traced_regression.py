"""The regression that JAX differentiates, and cross-bases by JAX."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixmeta_jax as mx
from tests.two_stage.test_first_stage import daily


@pytest.fixture(scope="module")
def days():
    data = daily(1, 80)
    first = mx.first_stage(data, "city", "deaths", "temp", "ns(percentiles=[50])", 2, "linear()")
    return data, first


def test_it_is_the_regression_of_the_first_stage_with_its_derivatives(days):
    """In a knot, an exposure and an outcome; against central differences of least squares."""
    data, first = days
    basis, c = first.exposure_bases["city 0"], first.lag_basis(np.arange(3.0))
    x, y = data["temp"].to_numpy(), data["deaths"].to_numpy(float)
    place = np.eye(80)[30]
    M = np.kron(np.eye(2), c.sum(0)[None])

    def columns(shift, xp):
        own = dataclasses.replace(basis, knots=xp.asarray(basis.knots) + shift[0])
        W = mx.cross_basis(own(x + shift[1] * place), c)
        return xp.concatenate([W, xp.ones((80, 1))], 1)

    def overall(shift):
        fit = mx.regression(y + shift[2] * place, columns(shift, jnp))
        parts = M @ fit.coef[:4], M @ fit.vcov[:4, :4] @ M.T, fit.dispersion[None]
        values = jnp.concatenate([part.ravel() for part in parts])
        return values, values

    def again(shift):
        """By hand: a fraction of a count is no count for `first_stage`."""
        X, own = columns(shift, np)[2:], (y + shift[2] * place)[2:]
        beta = np.append(np.zeros(4), np.log(own.mean()))
        for _ in range(30):
            mu = np.exp(X @ beta)
            G = X.T @ (mu[:, None] * X)
            beta = beta + np.linalg.solve(G, X.T @ (own - mu))
        scale = ((own - mu) ** 2 / mu).sum() / (len(X) - 5)
        parts = M @ beta[:4], scale * (M @ np.linalg.inv(G)[:4, :4] @ M.T), np.array([scale])
        return np.concatenate([part.ravel() for part in parts])

    with jax.enable_x64(True):
        slopes, values = jax.jit(jax.jacfwd(overall, has_aux=True))(jnp.zeros(3))
    np.testing.assert_allclose(values[:2], first.coef.iloc[0], rtol=1e-9)
    np.testing.assert_allclose(values[2:6], first.vcov[0].ravel(), rtol=1e-8)
    np.testing.assert_allclose(values[6], first.dispersion.iloc[0], rtol=1e-9)
    for i, step in enumerate((1e-4, 1e-4, 1e-3)):
        ahead = step * np.eye(3)[i]
        expected = (again(ahead) - again(-ahead)) / (2 * step)
        for part in (slice(2), slice(2, 6), slice(6, 7)):
            size = np.abs(expected[part]).max()
            np.testing.assert_allclose(slopes[part, i], expected[part], rtol=1e-5, atol=1e-7 * size)


def test_second_derivatives_and_vmap():
    """Of a mean count: γ = log ȳ, whose second derivatives are −1 / (n ȳ)²."""
    y = np.array([[2.0, 5, 4, 9], [1, 1, 7, 3]])
    X = np.ones((4, 1))
    with jax.enable_x64(True):

        def mean(y):
            return mx.regression(y, X, "poisson").coef[0]

        np.testing.assert_allclose(jax.vmap(mean)(y), np.log(y.mean(1)), rtol=1e-12)
        second = jax.hessian(mean)(jnp.asarray(y[0]))
    np.testing.assert_allclose(second, np.full((4, 4), -1 / 20.0**2), rtol=1e-9)


def test_cross_bases_by_jax_are_those_of_numpy():
    rng = np.random.default_rng(0)
    b, c = rng.normal(size=(30, 2)), rng.normal(size=(4, 3))
    b[5] = np.nan
    for first in (0, 2, 30):
        expected = mx.cross_basis(b, c, first)
        with jax.enable_x64(True):
            found = jax.jit(lambda b, first=first: mx.cross_basis(b, c, first))(b)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    assert np.isnan(mx.cross_basis(b, c, 30)).all()


def test_what_cannot_be_regressed():
    with jax.enable_x64(True):
        collinear = mx.regression([1.0, 2, 3, 4], np.ones((4, 2)))
        assert np.isnan(collinear.coef).all() and not collinear.converged
        with pytest.raises(mx.InputError, match="y has 3 values, but X has 4 rows"):
            mx.regression(np.ones(3), np.ones((4, 1)))
        with pytest.raises(mx.InputError, match="X has 2 rows and 2 columns"):
            mx.regression(np.ones(2), np.eye(2))
    with pytest.raises(mx.PrecisionError):
        mx.regression(np.ones(4), np.ones((4, 1)))
    with pytest.raises(mx.InputError, match="give at least a lag"):
        mx.cross_basis(np.ones((4, 1)), np.ones((0, 1)))
