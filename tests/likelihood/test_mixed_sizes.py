"""One level whose groups hold from one to two thousand rows, against dense algebra by group."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.likelihood.likelihood import log_likelihood_at
from tests.designs import random_design

EXACT = 1e-10
"""Relative to the value, and to the largest entry of a gradient."""

SIZES = np.geomspace(1, 2_000, 25).round().astype(int)

PSI = np.array([[0.5, -0.2], [-0.2, 0.3]])


@pytest.fixture(scope="module")
def design():
    """A random intercept and slope; rows of all groups in one random order."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    base = random_design(1, k=1, q=(2,), n=len(codes), missing=0.0, codes=[codes])
    b = rng.normal(size=(len(SIZES), 2))
    return replace(base, y=base.y + (base.Z[0] * b[codes]).sum(1, keepdims=True))


def by_group(design, restricted):
    """Equation 2 and its derivative in Ψ, group after group."""
    groups = []
    for g in range(len(SIZES)):
        rows = np.flatnonzero(design.groups[:, 0] == g)
        Z, X, y = design.Z[0][rows], design.X[rows], design.y[rows, 0]
        Sigma = np.diag(design.S[rows, 0, 0]) + Z @ PSI @ Z.T
        L = np.linalg.cholesky(Sigma)
        solved = np.linalg.solve(Sigma, np.column_stack([Z, X, y]))
        groups.append((Z, X, y, *np.split(solved, [2, 4], axis=1), np.log(np.diag(L)).sum()))
    A = sum(X.T @ WX for _, X, _, _, WX, _, _ in groups)
    beta = np.linalg.solve(A, sum(X.T @ Wy[:, 0] for _, X, _, _, _, Wy, _ in groups))
    V = np.linalg.inv(A)
    value = -0.5 * (design.n - restricted * 2) * np.log(2 * np.pi)
    if restricted:
        value += 0.5 * (np.linalg.slogdet(design.X.T @ design.X)[1] - np.linalg.slogdet(A)[1])
    slope = np.zeros((2, 2))
    for Z, X, y, WZ, WX, Wy, half_logdet in groups:
        e = Wy[:, 0] - WX @ beta
        value -= half_logdet + 0.5 * (y - X @ beta) @ e
        slope += 0.5 * (np.outer(Z.T @ e, Z.T @ e) - Z.T @ WZ)
        if restricted:
            slope += 0.5 * Z.T @ WX @ V @ WX.T @ Z
    return value, slope


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_value_and_slope(design, method):
    with jax.enable_x64(True):
        tensors = arrange(design)
        at = jax.jit(jax.value_and_grad(lambda Psi: log_likelihood_at((Psi,), tensors, method)))
        value, slope = jax.device_get(at(PSI))
    expected, expected_slope = by_group(design, method == "reml")
    np.testing.assert_allclose(value, expected, rtol=EXACT)
    np.testing.assert_allclose(
        slope + slope.T, 2 * expected_slope, rtol=0, atol=EXACT * np.abs(expected_slope).max()
    )


def test_the_layout_wastes_little(design):
    """Long groups do not make the short ones long."""
    places = sum(bucket.rows.size for bucket in design.layout.buckets)
    assert places <= 2 * SIZES.sum()
