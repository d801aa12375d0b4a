"""Differentiable estimates, against mixmeta and against central differences of refits."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixmeta_jax as mx
from tests.designs import random_design
from tests.reference import calls


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def bcg():
    return mx.load_dataset("bcg")


@functools.partial(jax.jit, static_argnames="method")
def fit(design, method="reml"):
    return mx.estimate(design, method)


def summary(design, method="reml"):
    """A number that depends on every part of an estimate."""
    e = mx.estimate(design, method)
    weights = jnp.cos(jnp.arange(e.beta.size) + 0.3)
    parts = [weights @ e.beta, weights @ e.vcov @ weights, 0.1 * e.loglik]
    return sum(parts) + sum((P * jnp.cos(jnp.arange(P.size)).reshape(P.shape)).sum() for P in e.Psi)


def along(design, seed=0):
    """Move the y, X and S of a design in a random direction."""
    rng = np.random.default_rng(seed)
    dy, dX = rng.normal(size=design.y.shape), rng.normal(size=design.X.shape)
    dS = jax.tree.map(lambda S: S * 0.3, design.S)

    def move(t):
        S = jax.tree.map(lambda S, dS: S + t * dS, design.S, dS)
        return replace(design, y=design.y + t * dy, X=design.X + t * dX, S=S)

    return move


def difference(f, step):
    """Central differences, extrapolated."""
    coarse, fine = ((f(h) - f(-h)) / (2 * h) for h in (step, step / 2))
    return (4 * fine - coarse) / 3


@pytest.mark.parametrize("name", ["school_district_study_reml", "berkey_reml", "bcg_ml"])
def test_the_estimate_is_that_of_mixmeta(name):
    reference = calls.fit(name)
    found = fit(reference.design, reference.method)
    np.testing.assert_allclose(found.beta, reference.coef, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.vcov, reference.vcov, rtol=1e-9, atol=1e-10)
    for ours, theirs in zip(found.Psi, reference.Psi_by_level, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)
    assert float(found.loglik) == pytest.approx(reference.loglik, abs=1e-10)
    assert mx.Status(int(found.status)) is reference.status
    np.testing.assert_allclose(
        mx.blups(found, reference.design),
        reference.blup()
        .to_numpy()
        .reshape(-1, found.Psi[0].shape[0] if reference.frame.k > 1 else 1),
        rtol=1e-8,
    )
    Q, I2 = mx.cochran_q(reference.design)
    assert float(Q) == pytest.approx(reference.heterogeneity.Q[0], rel=1e-10)
    assert float(I2) == pytest.approx(reference.heterogeneity.I2[0], rel=1e-10)


CASES = {
    "univariate": {"k": 1, "n": 12, "missing": 0.0},
    "missing outcomes": {"k": 2, "n": 30},
    "two levels": {"k": 1, "q": (1, 1), "n": 40, "missing": 0.0},
    "random slope": {"k": 1, "q": (2,), "n": 40, "missing": 0.0, "bscov": "diag"},
}


@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_those_of_refits(case):
    design = random_design(seed=7, **CASES[case])
    design = replace(design, y=3 * design.y)
    move = along(design)
    value = jax.jit(lambda t: summary(move(t)))
    forward = float(jax.jit(jax.jacfwd(value))(0.0))
    assert forward == pytest.approx(float(difference(value, 1e-3)), rel=1e-5)
    dy = jax.jit(jax.grad(lambda t: summary(move(t))))(0.0)
    assert float(dy) == pytest.approx(forward, rel=1e-9)
