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
    """Move the y, X, S and Z of a design in a random direction."""
    rng = np.random.default_rng(seed)
    dy, dX = rng.normal(size=design.y.shape), rng.normal(size=design.X.shape)
    dS = jax.tree.map(lambda S: S * 0.3, design.S)
    dZ = [rng.normal(size=Z.shape) for Z in design.Z]

    def move(t):
        S = jax.tree.map(lambda S, dS: S + t * dS, design.S, dS)
        Z = tuple(Z + t * d for Z, d in zip(design.Z, dZ, strict=True))
        return replace(design, y=design.y + t * dy, X=design.X + t * dX, S=S, Z=Z)

    return move


def difference(f, step):
    """Central differences, extrapolated."""
    coarse, fine = ((f(h) - f(-h)) / (2 * h) for h in (step, step / 2))
    return (4 * fine - coarse) / 3


@pytest.mark.parametrize("name", ["school_district_study_reml", "berkey_reml"])
def test_the_estimate_is_that_of_mixmeta(name):
    reference = calls.fit(name)
    found = fit(reference.design, reference.method)
    np.testing.assert_allclose(found.beta, reference.coef, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.vcov, reference.vcov, rtol=1e-9, atol=1e-10)
    for ours, theirs in zip(found.Psi, reference.Psi_by_level, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)
    assert float(found.loglik) == pytest.approx(reference.loglik, abs=1e-10)
    assert mx.Status(int(found.status)) is reference.status
    blups = reference.blup().to_numpy().reshape(-1, reference.frame.k)
    np.testing.assert_allclose(mx.blups(found, reference.design), blups, rtol=1e-8)
    Q, I2 = mx.cochran_q(reference.design)
    assert float(Q) == pytest.approx(reference.heterogeneity.Q[0], rel=1e-10)
    assert float(I2) == pytest.approx(reference.heterogeneity.I2[0], rel=1e-10)
    mean, covariance = mx.predict(found, reference.design.X[:2])
    np.testing.assert_allclose(mean, reference.fitted_array[:2], rtol=1e-9)
    assert covariance.shape == (2, reference.frame.k, reference.frame.k)


TIMES = mx.ContinuousAR1(times=(0.0, 1.0))
CASES = {
    "missing outcomes": {"k": 2, "n": 30},
    "two levels": {"k": 1, "q": (1, 1), "n": 40, "missing": 0.0},
    "random slope, diagonal": {"k": 1, "q": (2,), "n": 40, "missing": 0.0, "bscov": "diag"},
    "compound symmetry": {"k": 2, "n": 30, "missing": 0.1, "bscov": "cs"},
    "autoregressive in time": {"k": 2, "n": 30, "missing": 0.1, "bscov": TIMES},
    "given correlation": {"k": 2, "n": 20, "bscov": "cor", "Psi_fix": np.eye(2) + 0.5},
}


@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_those_of_refits(case):
    design = random_design(seed=7, **CASES[case])
    move = along(replace(design, y=3 * design.y))
    moved = jax.jit(lambda t: jax.jvp(lambda t: summary(move(t)), (t,), (1.0,)))
    _, derivative = moved(0.0)
    expected = difference(lambda t: moved(t)[0], 1e-3)
    assert float(derivative) == pytest.approx(float(expected), rel=1e-5)


@pytest.fixture(scope="module")
def pooled(bcg):
    """Pooled effect and τ² of bcg from its outcomes and variances."""

    def pooled(y, s):
        e = mx.estimate(mx.make_design(y, S=s))
        return e.beta[0] + 0.5 * e.Psi[0][0, 0]

    return pooled, jnp.asarray(bcg.logor.to_numpy()), jnp.asarray(bcg.logorvar.to_numpy())


def test_two_orders_forward_and_reverse(pooled):
    f, y, s = pooled
    rng = np.random.default_rng(0)
    dy, ds = rng.normal(size=13), np.asarray(s) * rng.normal(size=13)
    line = jax.jit(jax.value_and_grad(lambda a: f(y + a[0] * dy, s + a[1] * ds)))
    curved = jax.jit(jax.jacfwd(jax.grad(lambda a: f(y + a[0] * dy, s + a[1] * ds))))
    at = jnp.zeros(2)
    for i, e in enumerate(np.eye(2)):
        first = difference(lambda h: line(at + h * e)[0], 1e-3)  # noqa: B023
        assert float(line(at)[1][i]) == pytest.approx(float(first), rel=1e-6)
        second = difference(lambda h: line(at + h * e)[1], 1e-3)  # noqa: B023
        np.testing.assert_allclose(curved(at)[:, i], second, rtol=1e-6)


def test_a_thousand_gradients_in_a_batch(pooled):
    f, y, s = pooled
    many = y + 0.1 * np.random.default_rng(1).normal(size=(1000, 13))
    one = jax.jit(jax.grad(f))
    batch = jax.jit(jax.vmap(jax.grad(f), (0, None)))(many, s)
    np.testing.assert_allclose(batch[17], one(many[17], s), rtol=1e-8)
    # A batch's gradient is the batch of gradients.
    total = jax.jit(jax.grad(lambda many: jax.vmap(f, (0, None))(many, s).sum()))(many)
    np.testing.assert_allclose(total, batch, rtol=1e-8, atol=1e-12)


def test_at_a_null_variance_the_derivative_is_that_of_the_constrained_optimum(bcg):
    # Outcomes that vary less than their errors: τ² = 0, and β̂ is the weighted mean.
    y, s = jnp.asarray(0.1 * bcg.logor.to_numpy()), jnp.asarray(bcg.logorvar.to_numpy())

    def value(y):
        e = mx.estimate(mx.make_design(y, S=s))
        return e.beta[0] + e.Psi[0][0, 0], e.status

    gradient, status = jax.jit(jax.grad(value, has_aux=True))(y)
    assert mx.Status(int(status)) is mx.Status.BOUNDARY
    np.testing.assert_allclose(gradient, (1 / s) / (1 / s).sum(), rtol=1e-8)


def test_a_singular_matrix_moves_along_the_boundary():
    design = calls.fit("p53_rho095_ml").design
    dy = np.random.default_rng(1).normal(size=design.y.shape)

    def value(t):
        e = mx.estimate(replace(design, y=design.y + t * dy), "ml")
        return jnp.concatenate([e.beta, e.Psi[0].ravel()]), e.status

    moved = jax.jit(lambda t: jax.jvp(value, (t,), (1.0,), has_aux=True))
    _, derivative, status = moved(0.0)
    assert mx.Status(int(status)) is mx.Status.BOUNDARY
    expected = difference(lambda t: moved(t)[0], 1e-3)
    np.testing.assert_allclose(derivative, expected, rtol=1e-6)


def test_what_is_refused(bcg):
    design = mx.make_design(bcg.logor, S=bcg.logorvar)
    with pytest.raises(mx.InputError, match="method must be one of"):
        mx.estimate(design, "dl")
    with jax.enable_x64(False), pytest.raises(mx.PrecisionError, match="float64"):
        mx.estimate(design)
    with pytest.raises(TypeError, match=r"grad requires real"):
        jax.grad(lambda mask: mx.estimate(replace(design, mask=mask)).beta[0])(design.mask)
    with pytest.raises(mx.InputError, match=r"X has shape \(2, 3\)"):
        mx.predict(mx.estimate(design, "fixed"), np.ones((2, 3)))

    def of_labels(group):
        table = {"g": group}
        return mx.make_design(bcg.logor.to_numpy(), S=bcg.logorvar, random="~ 1 | g", data=table)

    with pytest.raises(mx.InputError, match=r"labels.*cannot be traced"):
        jax.jit(of_labels)(jnp.arange(13.0))
    with pytest.raises(mx.InputError, match="Psi_fix is traced"):
        jax.jit(lambda P: mx.make_design(bcg.logor, S=bcg.logorvar, bscov="prop", Psi_fix=P))(
            jnp.eye(1)
        )
