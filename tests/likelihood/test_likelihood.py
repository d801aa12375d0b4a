"""The fast likelihood and its closed-form derivatives against the dense one, differentiated."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmeta_jax.covariance.catalogue import STRUCTURES
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.likelihood.likelihood import log_likelihood_at
from tests.dense_likelihood import dense_log_likelihood
from tests.designs import KINDS, random_design

EXACT = 1e-10
"""Relative: two routes through the same numbers, of condition below 1e4."""


def fast(design, method):
    def value(theta, y, X, S):
        moved = replace(design, y=y, X=X, S=S)
        return log_likelihood_at(moved.Psi(theta), arrange(moved), method)

    return value


def dense(design, method):
    def value(theta, y, X, S):
        moved = replace(design, y=y, X=X, S=S)
        return dense_log_likelihood(moved.Psi(theta), moved, method)

    return value


def arguments(design, seed=0):
    n_theta = sum(design.n_parameters)
    theta = jnp.asarray(np.random.default_rng(seed).normal(size=n_theta))
    S = jax.tree.map(jnp.asarray, design.S)
    return theta, jnp.asarray(np.nan_to_num(design.y)), jnp.asarray(design.X), S


def assert_same(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        size = max(1.0, float(jnp.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=0, atol=EXACT * size)


def symmetric(gradient):
    return jax.tree.map(lambda g: g + jnp.swapaxes(g, -1, -2), gradient)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


# Maximum likelihood leaves a term out: three kinds show that.
CASES = [(kind, "reml") for kind in KINDS] + [
    (kind, "ml") for kind in ("one group per row", "random slope", "bivariate, two levels")
]


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_value_and_gradient_equal_the_dense_path(kind, method):
    design = random_design(**KINDS[kind])
    args = arguments(design)
    every = (0, 1, 2, 3)
    ours = jax.jit(jax.value_and_grad(fast(design, method), every))(*args)
    theirs = jax.jit(jax.value_and_grad(dense(design, method), every))(*args)
    assert_same(ours, theirs)


@pytest.mark.parametrize("kind", ["one group per row", "bivariate, two levels", "blocks of S"])
def test_hessian_equals_that_of_the_dense_path(kind):
    design = random_design(**KINDS[kind])
    args = arguments(design)
    both = (0, 1)
    ours = jax.jit(jax.hessian(fast(design, "reml"), both))(*args)
    theirs = jax.jit(jax.hessian(dense(design, "reml"), both))(*args)
    assert_same(ours, theirs)


def given_matrix(name):
    return 0.3 + 0.7 * np.eye(3) if name in ("prop", "cor", "fixed") else None


def structure_of(name):
    return STRUCTURES[name](times=[0.0, 0.7, 2.5]) if name in ("car1", "hcar1") else name


@pytest.mark.parametrize("name", [name for name in STRUCTURES if name != "fixed"])
def test_gradient_and_hessian_in_theta_for_every_structure(name):
    design = random_design(
        1, k=3, n=12, codes=[np.arange(12)], bscov=structure_of(name), Psi_fix=given_matrix(name)
    )
    theta, *rest = arguments(design, 3)
    ours = lambda t: fast(design, "reml")(t, *rest)  # noqa: E731
    theirs = lambda t: dense(design, "reml")(t, *rest)  # noqa: E731
    assert_same(jax.jit(jax.grad(ours))(theta), jax.jit(jax.grad(theirs))(theta))
    hessian = jax.jit(jax.hessian(ours))(theta)
    assert_same(hessian, jax.jit(jax.hessian(theirs))(theta))
    # And both against central differences of the gradient, which share no rule with either.
    step = 1e-5
    gradient = jax.jit(jax.grad(theirs))
    moved = [
        (gradient(theta + step * e) - gradient(theta - step * e)) / (2 * step)
        for e in np.eye(len(theta))
    ]
    np.testing.assert_allclose(hessian, np.stack(moved), rtol=1e-6, atol=1e-6)


def test_a_null_Psi_is_an_ordinary_value_and_its_slope_is_finite():
    design = random_design(2, k=2, q=(1, 1))
    tensors = arrange(design)

    def value(Psi):
        return log_likelihood_at(Psi, tensors, "reml")

    null = (jnp.zeros((2, 2)), jnp.zeros((2, 2)))
    slopes = jax.jit(jax.grad(value))(null)
    theirs = jax.jit(jax.grad(lambda Psi: dense_log_likelihood(Psi, design, "reml")))(null)
    assert_same(symmetric(slopes), symmetric(theirs))


def test_singular_Psi_at_an_absorbed_level():
    design = random_design(4, k=1, q=(2, 1), missing=0.0)
    rank_one = (jnp.array([[1.0, -2.0], [-2.0, 4.0]]), jnp.array([[0.5]]))
    tensors = arrange(design)
    ours = jax.jit(jax.value_and_grad(lambda P: log_likelihood_at(P, tensors, "ml")))(rank_one)
    theirs = jax.jit(jax.value_and_grad(lambda P: dense_log_likelihood(P, design, "ml")))(rank_one)
    assert_same((ours[0], symmetric(ours[1])), (theirs[0], symmetric(theirs[1])))


@pytest.mark.parametrize(
    ("kind", "method"), [("random slope", "ml"), ("bivariate, two levels", "reml")]
)
def test_derivatives_in_random_predictors(kind, method):
    design = random_design(**KINDS[kind])
    theta, *_ = arguments(design)

    def slopes(function):
        def value(Z):
            return function(replace(design, Z=Z))

        return jax.jit(jax.grad(value))(tuple(map(jnp.asarray, design.Z)))

    Psi = design.Psi(theta)
    ours = slopes(lambda moved: log_likelihood_at(Psi, arrange(moved), method))
    theirs = slopes(lambda moved: dense_log_likelihood(Psi, moved, method))
    assert_same(ours, theirs)


def test_padding_changes_nothing(monkeypatch):
    design = random_design(**KINDS["bivariate, two levels"])
    theta, *rest = arguments(design)
    value = jax.jit(fast(design, "reml"))(theta, *rest)
    monkeypatch.setattr("mixmeta_jax.design.layout.padded_length", lambda n: 3 * n + 5)
    wider = random_design(**KINDS["bivariate, two levels"])
    assert wider.layout.n_groups != design.layout.n_groups
    assert_same(jax.jit(fast(wider, "reml"))(theta, *rest), value)
