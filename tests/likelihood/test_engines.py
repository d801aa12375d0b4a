"""Every engine that covers a design, by both executors, against the dense likelihood."""

import functools

import jax
import numpy as np
import pytest

from mixmeta_jax.design.tensors import arrange, of_members, shared_by_all
from mixmeta_jax.likelihood import columns, packed
from mixmeta_jax.likelihood.engines import ENGINES, Packed, Sweep
from mixmeta_jax.likelihood.information import MOST_PRODUCTS, has_closed_expected, is_exact
from mixmeta_jax.likelihood.likelihood import constant_terms, prepared, solution_at
from tests.dense_derivatives import Dense, dense_derivatives
from tests.designs import KINDS, random_design, several
from tests.tolerances import DENSE, SUMS


@pytest.fixture(autouse=True)
def from_the_first_unit(monkeypatch):
    monkeypatch.setattr(packed, "FEWEST", 1)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def theta_of(design, B=1, seed=5):
    return np.random.default_rng(seed).normal(size=(sum(design.n_parameters), B))


def covering(design):
    tensors, _ = prepared(arrange(design))
    return [engine for engine in ENGINES if engine.covers(tensors, 1)]


@functools.partial(jax.jit, static_argnames=("engine", "restricted", "shift"))
def compiled(engine, theta, tensors, restricted, shift=True):
    return at_once(engine, theta, tensors, restricted, shift)


def at_once(engine, theta, tensors, restricted, shift=True):
    """What the engine returns, and with it the log-likelihood and the coefficients of the data."""
    data, centre = prepared(tensors, shift)
    Psi = data.Psi(theta)
    found = engine.derivatives(Psi, data.slopes(theta), data, restricted)
    alone = engine.value(Psi, data, restricted)
    rest = constant_terms(tensors, restricted)
    V = np.einsum if isinstance(found.root, np.ndarray) else jax.numpy.einsum
    V = V("rib,rjb->ijb", found.root, found.root)
    values = found.value + rest, alone + rest
    return values, found.gradients, found.average, found.expected, found.beta + centre, V


def assert_close(found, expected, tolerance):
    expected = np.asarray(expected)
    assert np.shape(found) == expected.shape
    size = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


def assert_dense(found, design, theta, method):
    """One data set, the last of the axes taken off."""
    tensors = arrange(design)
    slopes = [dP[..., 0] for dP in tensors.slopes(theta)]
    expected = dense_derivatives(design, [P[..., 0] for P in tensors.Psi(theta)], slopes, method)
    assert isinstance(expected, Dense)
    (value, alone), gradients, average, closed, beta, V = jax.tree.map(lambda a: a[..., 0], found)
    T = np.kron(design.basis, np.eye(design.k))
    assert_close(value, expected.value, DENSE)
    assert_close(alone, expected.value, DENSE)
    for ours, theirs in zip(gradients, expected.gradients, strict=True):
        assert_close(ours, theirs, DENSE)
    assert_close(average, expected.average, DENSE)
    assert_close(T @ beta, expected.beta, DENSE)
    assert_close(T @ V @ T.T, expected.V, DENSE)
    assert (closed is not None) == has_closed_expected(tensors)
    if is_exact(tensors, method == "reml"):
        assert_close(closed, expected.expected, DENSE)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("kind", KINDS)
def test_at_once(kind, method):
    design = random_design(**KINDS[kind])
    theta = theta_of(design)
    for engine in covering(design):
        found = at_once(engine, theta, arrange(design), method == "reml")
        assert_dense(found, design, theta, method)


@pytest.mark.parametrize("bscov", ["diag", "cs", "har1"])
def test_of_parameters_that_move_some_pairs_of_effects(bscov):
    """NumPy contracts with these alone: of `diag` with the diagonal."""
    design = random_design(1, k=3, q=(1,), n=12, codes=[np.arange(12)], bscov=bscov)
    for theta in (theta_of(design, seed=2), 0 * theta_of(design)):
        for engine in covering(design):
            assert_dense(at_once(engine, theta, arrange(design), True), design, theta, "reml")


# Maximum likelihood leaves terms out: two kinds show that.
CASES = [(kind, "reml") for kind in KINDS] + [("univariate", "ml"), ("bivariate, two levels", "ml")]


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_compiled(kind, method):
    design = random_design(**KINDS[kind])
    theta, tensors = theta_of(design), arrange(design)
    for engine in covering(design):
        found = compiled(engine, theta, tensors, method == "reml")
        expected = at_once(engine, theta, tensors, method == "reml")
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert_close(ours, theirs, SUMS)


def test_both_engines_are_met():
    covered = {kind: covering(random_design(**KINDS[kind])) for kind in KINDS}
    packed_kinds = {kind for kind, engines in covered.items() if len(engines) == 2}
    assert packed_kinds == {"univariate", "one group per row"} & {
        kind for kind in KINDS if not random_design(**KINDS[kind]).layout.absorbed
    }
    assert all(isinstance(engines[-1], Sweep) for engines in covered.values())
    assert isinstance(ENGINES[0], Packed)


@pytest.mark.parametrize("p", [MOST_PRODUCTS // 9, MOST_PRODUCTS // 9 + 1])
def test_up_to_how_many_coefficients_the_expected_information_is_exact(p):
    """Three random effects times 3p coefficients, on each side of the bound."""
    design = random_design(2, k=3, q=(1,), n=60, p=p, codes=[np.arange(60)], missing=0.0)
    theta, tensors = theta_of(design), arrange(design)
    exact = 9 * p <= MOST_PRODUCTS
    assert is_exact(tensors, True) is exact and is_exact(tensors, False)
    slopes = [dP[..., 0] for dP in tensors.slopes(theta)]
    dense = dense_derivatives(design, [P[..., 0] for P in tensors.Psi(theta)], slopes, "reml")
    for engine in covering(design):
        found = at_once(engine, theta, tensors, True)
        assert_dense(found, design, theta, "reml")
        away = np.abs(found[3][..., 0] - dense.expected).max() / np.abs(dense.expected).max()
        assert bool(away < DENSE) is exact


@pytest.mark.parametrize("kind", ["bivariate, two levels", "three levels", "blocks of S"])
@pytest.mark.parametrize("name", ["INDICATORS", "PAIRED_PREDICTORS"])
def test_the_forms_of_columns_and_of_sums_by_group_are_one(kind, name, monkeypatch):
    """On each side of the sizes from which another form is faster."""
    design = random_design(**KINDS[kind])
    theta, many = theta_of(design), several(design, ())
    arguments = [(theta, arrange(design), True), (theta_of(design, 3), arrange(many), False)]
    expected = [at_once(Sweep(), t, data, True, shift) for t, data, shift in arguments]
    monkeypatch.setattr(columns, name, 0)
    found = [at_once(Sweep(), t, data, True, shift) for t, data, shift in arguments]
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(ours, theirs, SUMS)


# Several data sets at once

OWN = {
    "outcomes": (),
    "outcomes and S": ("S",),
    "masks": ("mask",),
    "masks and S": ("mask", "S"),
    "predictors": ("X",),
    "random predictors": ("Z",),
    "all": ("mask", "S", "X", "Z"),
}


BATCHES = [
    (kind, own)
    for kind in KINDS
    for own in OWN
    if own == "outcomes" or own == "predictors" or "blocks" not in kind
]


@pytest.mark.parametrize(("kind", "own"), BATCHES)
def test_data_sets_at_once_are_those_of_each(kind, own):
    many = several(random_design(**KINDS[kind]), OWN[own])
    theta, engine = theta_of(many, 3), Sweep()
    assert many.n_sets == 3
    for tensors in (arrange(many), of_members(shared_by_all(many), many, np.arange(3))):
        found = at_once(engine, theta, tensors, True, shift=False)
        for b in range(3):
            alone = at_once(engine, theta[:, [b]], arrange(many.one(b)), True)
            for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
                ours = ours if ours.shape[-1] == 1 else ours[..., [b]]
                assert_close(ours, theirs, DENSE)


@pytest.mark.parametrize(
    ("kind", "own"), [("bivariate, two levels", "all"), ("random slope", "all")]
)
def test_data_sets_compiled_are_those_at_once(kind, own):
    many = several(random_design(**KINDS[kind]), OWN[own])
    theta, tensors = theta_of(many, 3), arrange(many)
    found = compiled(Sweep(), theta, tensors, True, shift=False)
    expected = at_once(Sweep(), theta, tensors, True, shift=False)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(ours, theirs, SUMS)


@pytest.mark.parametrize("kind", KINDS)
def test_one_data_set_at_several_places(kind):
    """As the starts of one fit are: the data are shared, Ψ is not."""
    design = random_design(**KINDS[kind])
    theta, tensors = theta_of(design, 3), arrange(design)
    found = at_once(Sweep(), theta, tensors, True)
    values, beta, V = solution_at(tensors.Psi(theta), tensors, True)
    for b in range(3):
        alone = at_once(Sweep(), theta[:, [b]], tensors, True)
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
            assert_close(ours[..., [b]], theirs, SUMS)
        assert_close(values[b], alone[0][0][0], SUMS)
        assert_close(beta[:, b], alone[4][:, 0], SUMS)
        assert_close(V[..., b], alone[5][..., 0], SUMS)
