"""The packed sums of one level against the sweeps, which are held to dense algebra elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmeta_jax.design.design import arrange
from mixmeta_jax.estimation import newton
from mixmeta_jax.model import one_level
from mixmeta_jax.likelihood.likelihood import centred
from tests.designs import random_design


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


UNITS = 40
CASES = {
    "one outcome": {"k": 1, "missing": 0.0, "p": 1},
    "complete, predictors": {"k": 2, "missing": 0.0, "p": 3},
    "missing outcomes": {"k": 3, "missing": 0.3, "p": 2},
    "compound symmetry": {"k": 4, "missing": 0.3, "p": 1, "bscov": "cs"},
}


def data(**kind):
    """Centred tensors of a design with one group per row, and parameters."""
    design = random_design(seed=3, q=(1,), n=UNITS, codes=[np.arange(UNITS)], **kind)
    theta = np.random.default_rng(5).normal(size=sum(design.n_parameters))
    return design, theta


def both(design, theta, method, monkeypatch):
    tensors, _ = centred(arrange(design))
    assert not one_level.covers(tensors), "the sweeps are the reference"
    swept = newton.evaluate(theta, tensors, method == "reml", True)
    monkeypatch.setattr(one_level, "FEWEST", 1)
    assert one_level.covers(tensors)
    return newton.evaluate(theta, tensors, method == "reml", True), swept


def assert_same(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("kind", CASES)
def test_the_same_as_the_sweeps(kind, method, monkeypatch):
    design, theta = data(**CASES[kind])
    assert_same(*both(design, theta, method, monkeypatch))


def test_a_random_predictor_that_is_no_intercept_and_may_be_zero(monkeypatch):
    design, theta = data(**CASES["missing outcomes"])
    design.Z[0][:, 0] = np.where(np.arange(UNITS) % 7 == 0, 0.0, np.linspace(-2, 3, UNITS))
    assert_same(*both(design, theta, "reml", monkeypatch))


def test_pieces_are_summed_to_the_whole(monkeypatch):
    design, theta = data(**CASES["missing outcomes"])
    whole, _ = both(design, theta, "reml", monkeypatch)
    monkeypatch.setattr(one_level, "PIECE", 16)
    tensors, _ = centred(arrange(design))
    assert_same(newton.evaluate(theta, tensors, True, True), whole)


@pytest.mark.parametrize("q", [(2,), (1, 1)])
def test_other_models_go_by_the_sweeps(q, monkeypatch):
    monkeypatch.setattr(one_level, "FEWEST", 1)
    assert not one_level.covers(arrange(random_design(k=1, q=q, missing=0.0)))
