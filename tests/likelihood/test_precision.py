"""The likelihood in double precision against 50 digits, where numbers differ by many orders."""

import functools
import itertools
from dataclasses import replace

import jax
import mpmath
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.estimation import newton
from mixmeta_jax.likelihood import packed
from mixmeta_jax.likelihood.engines import Packed, engine_for
from mixmeta_jax.likelihood.likelihood import constant_terms, log_likelihood_at, prepared
from tests import exact_model
from tests.designs import random_design

ORDINARY, EXTREME = 1e-10, 1e-8
"""Relative errors up to ratios of 1e6 between S and Psi or within either, and beyond."""

RATIOS = [10.0**e for e in (-8, -6, -3, 0, 3, 6, 8)]

KINDS = {
    "one level, three outcomes": {"k": 3, "q": (1,), "n": 8, "codes": [np.arange(8)]},
    "two levels, two outcomes": {"k": 2, "q": (1, 1), "n": 9},
    "blocks of S": {"k": 1, "q": (2,), "n": 14, "blocks": True, "missing": 0.0},
}

GRADIENT = 1e-10
"""Relative error of a gradient where S and Psi are of one size."""

value_at = jax.jit(log_likelihood_at, static_argnames="method")


@functools.partial(jax.jit, static_argnames="method")
def packed_at(theta, tensors, method):
    """Value and gradient by the packed sums of one level, as Newton's method asks for them."""
    data, _ = prepared(tensors)
    assert isinstance(engine_for(data, 1), Packed)
    at = newton.evaluate(theta[:, None], data, method == "reml")
    rest = constant_terms(tensors, method == "reml")
    return (at.value + rest)[0], at.gradient[:, 0]


# A compiled program may round otherwise than NumPy: the value is wanted of both.
at_once = packed_at.__wrapped__


@pytest.fixture(autouse=True)
def packed_from_the_first_unit(monkeypatch):
    monkeypatch.setattr(packed, "FEWEST", 1)


def matrix(d, shape):
    """A covariance of size one: well inside, nearly of correlation ±1, or singular."""
    if shape == "inside":
        return 0.7 * np.eye(d) + 0.3
    sign = np.where(np.arange(d) % 2, -1.0, 1.0)
    if shape == "near one":
        return 1e-6 * np.eye(d) + (1 - 1e-6) * np.outer(sign, sign)
    return np.outer(sign, sign) if shape == "singular" else np.zeros((d, d))


def generated(design, Psi, seed):
    """The design with outcomes drawn from the model itself, far from zero."""
    rng = np.random.default_rng(seed)
    y, X, Z, S, _ = exact_model.stacked(design)
    size = np.sqrt(np.diag(S).mean())
    y = X @ (3 + rng.normal(size=X.shape[1])) * size + np.linalg.cholesky(S) @ rng.normal(
        size=len(S)
    )
    for wide, P in zip(Z, Psi, strict=True):
        values, vectors = np.linalg.eigh(P)
        root = vectors * np.sqrt(np.maximum(values, 0))
        b = rng.normal(size=(wide.shape[1] // len(P), len(P))) @ root.T
        y = y + wide @ b.ravel()
    return replace(design, y=np.where(design.mask, y.reshape(design.n, design.k), np.nan))


def error(design, Psi, method):
    """The largest of the ways that the library has to the value."""
    parts = [s.theta(np.asarray(P)) for s, P in zip(design.structures, Psi, strict=True)]
    theta = np.concatenate(parts)
    with jax.enable_x64(True):
        tensors = arrange(design)
        Psi = design.Psi(theta)
        values = [f(Psi, tensors, method=method) for f in (value_at, log_likelihood_at)]
        if isinstance(engine_for(prepared(tensors)[0], 1), Packed):
            values += [f(theta, tensors, method=method)[0] for f in (packed_at, at_once)]
    exact = exact_model.log_likelihood(Psi, design, method)
    return max(exact_model.relative_error(value, exact) for value in values)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("kind", KINDS)
def test_ratios_of_S_and_Psi(kind, method):
    base = random_design(3, **KINDS[kind])
    for shape, ratio in itertools.product(("inside", "near one", "singular"), RATIOS):
        Psi = [ratio * matrix(d, shape) for d in base.dims]
        found = error(generated(base, Psi, 0), Psi, method)
        assert found <= (ORDINARY if 1e-6 <= ratio <= 1e6 else EXTREME), (shape, ratio)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("kind", list(KINDS)[:2])
def test_ill_conditioned_S(kind, method):
    """Variances of 1111 beside 0.03, as where arms of a network are augmented; and far worse."""
    base = random_design(5, **KINDS[kind])
    for spread, bound in ((1111 / 0.03, ORDINARY), (1e8, EXTREME)):
        rng = np.random.default_rng(1)
        sd = np.sqrt(np.where(rng.random((base.n, base.k)) < 0.3, spread, 1.0))
        R = 0.5 * np.eye(base.k) + 0.5
        design = replace(base, S=0.03 * R * sd[:, :, None] * sd[:, None])
        for shape in ("inside", "near one", "singular", "null"):
            Psi = [0.3 * matrix(d, shape) for d in base.dims]
            found = error(generated(design, Psi, 2), Psi, method)
            assert found <= bound, (spread, shape)


@pytest.mark.parametrize("ratio", [1.0, 1e4, 1e6, 1e8])
def test_large_groups_of_a_large_effect(ratio):
    """Groups of 1 to 1,000 rows, whose effect is ``ratio`` times their errors in variance.

    Against the closed form of a random intercept in 50 digits, and its slope in ψ: a fit ends where
    that is null to rounding.
    """
    sizes = (1, 2, 3, 5, 8, 20, 50, 200, 1000)
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(len(sizes)), sizes)
    v = rng.uniform(0.5, 2, len(g)) / ratio
    y = 3 + rng.normal(size=len(sizes))[g] + rng.normal(size=len(g)) * np.sqrt(v)
    table = pd.DataFrame({"y": y, "v": v, "g": g})
    fit = mx.mixmeta("y ~ 1", S="v", random="~ 1 | g", data=table)
    assert fit.status is mx.Status.CONVERGED
    assert fit.gradient_norm < 1e-8
    psi = float(fit.Psi.to_numpy()[0, 0])
    with mpmath.workdps(exact_model.DIGITS):
        value, slope, size = random_intercept(mpmath.mpf(psi), y, v, g)
        assert exact_model.relative_error(fit.loglik, value) <= 1e-13
        assert psi > 0.1
        assert abs(slope * psi) / size < 1e-10


@pytest.mark.parametrize("slope", [2000 + np.arange(12.0), 1 + 1e-4 * np.sin(np.arange(12.0))])
def test_nearly_collinear_random_predictors(slope):
    base = random_design(1, k=1, q=(2,), n=36, missing=0.0, codes=[np.repeat(np.arange(3), 12)])
    Z = np.column_stack([np.ones(36), np.tile(slope, 3)])
    design = replace(base, Z=(Z,))
    for ratio in (1.0, 1e3):
        Psi = [ratio * np.diag([1.0, 1e-3])]
        assert error(generated(design, Psi, 0), Psi, "reml") <= ORDINARY


def random_intercept(psi, y, v, g):
    """REML log-likelihood, its slope in ψ, and the size of the terms of ψ times that slope."""
    groups = []
    for group in np.unique(g):
        rows = np.flatnonzero(g == group)
        w = [1 / mpmath.mpf(float(each)) for each in v[rows]]
        D, total = (
            mpmath.fsum(w),
            mpmath.fsum(a * float(b) for a, b in zip(w, y[rows], strict=True)),
        )
        mean = total / D
        within = mpmath.fsum(a * (float(b) - mean) ** 2 for a, b in zip(w, y[rows], strict=True))
        logs = mpmath.fsum(map(mpmath.log, w))
        groups.append((D, mean, within, logs))
    T = [D / (1 + psi * D) for D, *_ in groups]
    A = mpmath.fsum(T)
    beta = mpmath.fsum(t * mean for t, (_, mean, *_) in zip(T, groups, strict=True)) / A
    n = len(y)
    value = -(n - 1) * mpmath.log(2 * mpmath.pi) + mpmath.log(n) - mpmath.log(A)
    parts = []
    for t, (D, mean, within, logs) in zip(T, groups, strict=True):
        value += logs - mpmath.log(1 + psi * D) - within - t * (mean - beta) ** 2
        parts.append((t * (mean - beta)) ** 2 - t + t**2 / A)
    return value / 2, mpmath.fsum(parts) / 2, psi * mpmath.fsum(map(abs, parts)) / 2


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_gradient_of_the_packed_sums(method):
    """Against differences in 50 digits, which are good to more than 20."""
    design = random_design(3, **KINDS["one level, three outcomes"])
    theta = design.structures[0].theta(matrix(3, "inside"))
    with jax.enable_x64(True):
        _, gradient = packed_at(theta, arrange(design), method=method)
        _, other = at_once(theta, arrange(design), method=method)

    def exact_value(theta):
        factor = np.full((3, 3), mpmath.mpf(0))
        factor.T[np.triu_indices(3)] = theta
        return exact_model.log_likelihood([factor @ factor.T], design, method)

    with mpmath.workdps(exact_model.DIGITS):
        step = mpmath.mpf(10) ** -12
        for a, found in enumerate(np.asarray(gradient)):
            move = np.where(np.arange(len(theta)) == a, step, mpmath.mpf(0))
            slope = (exact_value(theta + move) - exact_value(theta - move)) / (2 * step)
            assert exact_model.relative_error(found, slope) <= GRADIENT
            assert exact_model.relative_error(other[a], slope) <= GRADIENT
