"""The packed sums of one level against the sweeps, which are held to dense algebra elsewhere."""

from dataclasses import fields

import jax
import numpy as np
import pytest

from mixmeta_jax.arrays import register_trees
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.likelihood import packed
from mixmeta_jax.likelihood.engines import ENGINES, Packed, Sweep, engine_for
from mixmeta_jax.likelihood.likelihood import prepared
from tests.designs import random_design, several

UNITS = 40
CASES = {
    "one outcome": {"k": 1, "missing": 0.0, "p": 1},
    "complete, predictors": {"k": 2, "missing": 0.0, "p": 3},
    # More coefficients than `MOST_PRODUCTS` allows: the last term of the expected is left out.
    "many predictors": {"k": 2, "missing": 0.0, "p": 38},
    "missing outcomes": {"k": 3, "missing": 0.3, "p": 2},
    "compound symmetry": {"k": 4, "missing": 0.3, "p": 1, "bscov": "cs"},
}


def data(**kind):
    """A design with one group per row, and parameters."""
    design = random_design(seed=3, q=(1,), n=UNITS, codes=[np.arange(UNITS)], **kind)
    theta = np.random.default_rng(5).normal(size=(sum(design.n_parameters), 1))
    return design, theta


def at(engine, design, theta, method):
    tensors, _ = prepared(arrange(design))
    return engine.derivatives(tensors.Psi(theta), tensors.slopes(theta), tensors, method == "reml")


@pytest.fixture
def from_the_first_unit(monkeypatch):
    monkeypatch.setattr(packed, "FEWEST", 1)


def both(design, theta, method):
    tensors, _ = prepared(arrange(design))
    assert isinstance(engine_for(tensors, 1), Packed)
    return at(Packed(), design, theta, method), at(Sweep(), design, theta, method)


def assert_same(found, expected):
    for part in fields(expected):
        if part.name == "root":
            continue  # any root of V is one
        ours, theirs = getattr(found, part.name), getattr(expected, part.name)
        pairs = zip(ours, theirs) if isinstance(theirs, tuple) else [(ours, theirs)]
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * np.abs(b).max())
    V, W = (
        np.einsum("rab,rcb->acb", e.root.swapaxes(0, 1), e.root.swapaxes(0, 1))
        for e in (found, expected)
    )
    np.testing.assert_allclose(V, W, rtol=1e-11, atol=1e-11 * np.abs(W).max())


@pytest.mark.usefixtures("from_the_first_unit")
@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("kind", CASES)
def test_the_same_as_the_sweeps(kind, method):
    design, theta = data(**CASES[kind])
    assert_same(*both(design, theta, method))


@pytest.mark.usefixtures("from_the_first_unit")
def test_a_random_predictor_that_is_no_intercept_and_may_be_zero():
    design, theta = data(**CASES["missing outcomes"])
    design.Z[0][:, 0] = np.where(np.arange(UNITS) % 7 == 0, 0.0, np.linspace(-2, 3, UNITS))
    assert_same(*both(design, theta, "reml"))


@pytest.mark.usefixtures("from_the_first_unit")
def test_pieces_are_summed_to_the_whole(monkeypatch):
    design, theta = data(**CASES["missing outcomes"])
    whole, _ = both(design, theta, "reml")
    monkeypatch.setattr(packed, "UNITS_PER_PIECE", 16)
    assert_same(at(Packed(), design, theta, "reml"), whole)


def test_from_how_many_units_on():
    """512 padded units, one path, up to five outcomes."""
    for n, k, taken in ((256, 1, False), (257, 1, True), (300, 5, True), (300, 6, False)):
        design = random_design(seed=3, k=k, q=(1,), n=n, codes=[np.arange(n)], missing=0.0)
        tensors, _ = prepared(arrange(design))
        assert isinstance(engine_for(tensors, 1), Packed if taken else Sweep), (n, k)
        assert isinstance(engine_for(tensors, 2), Sweep)
    assert isinstance(ENGINES[-1], Sweep)


MANY = {
    "own masks and S": ({"k": 2, "missing": 0.0, "p": 2}, ("mask", "S"), "reml"),
    "own random predictor, ML": ({"k": 1, "missing": 0.0, "p": 1}, ("Z",), "ml"),
}


@pytest.mark.parametrize("kind", MANY)
def test_many_data_sets_in_a_program_are_as_by_the_sweeps(kind):
    options, own, method = MANY[kind]
    many = several(random_design(seed=3, q=(1,), n=12, codes=[np.arange(12)], **options), own, B=3)
    theta = np.random.default_rng(5).normal(size=(sum(many.n_parameters), 3))
    data, _ = prepared(arrange(many), shift=False)

    @jax.jit
    def compiled(theta, data):
        assert isinstance(engine_for(data, 3), Packed)
        return Packed().derivatives(data.Psi(theta), data.slopes(theta), data, method == "reml")

    register_trees()
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, compiled(theta, data))
    assert isinstance(engine_for(data, 3), Sweep)  # of numpy's arrays
    assert_same(
        found, Sweep().derivatives(data.Psi(theta), data.slopes(theta), data, method == "reml")
    )


def test_up_to_how_many_sums_of_many_data_sets():
    """160: two outcomes with four predictors have 142 of them, three with two 241."""
    for k, p, taken in ((2, 4, True), (3, 1, True), (3, 2, False)):
        made = random_design(seed=3, k=k, q=(1,), n=12, p=p, codes=[np.arange(12)], missing=0.0)
        data, _ = prepared(arrange(several(made, (), B=3)), shift=False)
        with jax.enable_x64(True):
            data = jax.tree.map(jax.numpy.asarray, data)
        assert isinstance(engine_for(data, 3), Packed if taken else Sweep), (k, p)


@pytest.mark.usefixtures("from_the_first_unit")
@pytest.mark.parametrize("q", [(2,), (1, 1)])
def test_other_models_go_by_the_sweeps(q):
    tensors, _ = prepared(arrange(random_design(k=1, q=q, missing=0.0)))
    assert isinstance(engine_for(tensors, 1), Sweep)
