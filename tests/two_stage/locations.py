"""Pooled locations whose coefficients are those of a curve over an exposure, for the tests."""

import functools

import numpy as np
import pandas as pd

import mixmeta_jax as mx

NUMPY = {"backend": "numpy"}


def quadratic(x):
    """Columns u and u², of u = x / 10."""
    u = np.asarray(x) / 10
    return np.stack([u, u**2], axis=1)


@functools.cache
def pooled(n=8, spread=0.3, error=0.1, seed=3):
    """Curves that are lowest about 15, of n locations in two regions."""
    rng = np.random.default_rng(seed)
    labels = [f"city {i}" for i in range(n)]
    root = error * rng.normal(size=(n, 2, 2))
    V = root @ root.transpose(0, 2, 1) + error**2 * np.eye(2)
    b = np.array([-3.0, 1.0]) + spread * rng.normal(size=(n, 2)) * [1.0, 0.6]
    x = np.linspace(-1, 1, n)
    data = pd.DataFrame({"x": x, "region": ["north", "south"] * (n // 2)}, index=labels)
    pairs = dict(zip(labels, zip(b, V, strict=True), strict=True))
    return mx.pool(pairs, "~ x", data=data, bscov="diag", control=NUMPY)


def days(n=8, length=60, seed=4):
    """Exposures and counts of n locations, a few of them missing."""
    rng = np.random.default_rng(seed)
    exposure, outcome = {}, {}
    for i in range(n):
        exposure[f"city {i}"] = np.round(rng.uniform(0, 30, length), 1)
        outcome[f"city {i}"] = rng.poisson(20 + 5 * i, length).astype(float)
        exposure[f"city {i}"][[3, 17]] = np.nan
        outcome[f"city {i}"][[25]] = np.nan
    return exposure, outcome
