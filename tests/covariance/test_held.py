"""Structures some of whose natural parameters are held: the value is met, and the derivatives."""

import numpy as np
import pytest

from mixmeta_jax.covariance.catalogue import STRUCTURES
from mixmeta_jax.covariance.held import MODEST
from mixmeta_jax.covariance.holding import free_parameters, hold
from mixmeta_jax.covariance.parameters import covariances, natural_parameters, value_of
from mixmeta_jax.covariance.side_by_side import SideBySide
from mixmeta_jax.covariance.structures import Unstructured
from mixmeta_jax.errors import InputError
from tests.tolerances import DIFFERENCES

D = 3
NAMES = [name for name in STRUCTURES if name != "fixed"]


def made(name):
    if name in ("car1", "hcar1"):
        return STRUCTURES[name](times=(0.0, 0.7, 2.0))
    if name in ("prop", "cor"):
        root = np.random.default_rng(0).normal(size=(D, D))
        return STRUCTURES[name](root @ root.T)
    return STRUCTURES[name]()


def cases(name):
    structure = made(name)
    for parameter in (*natural_parameters(structure, D), *covariances(structure, D)):
        values = {0.0, 0.37}
        if parameter.kind == "cor":
            values |= {parameter.lower, parameter.upper, 0.5 * parameter.lower}
        if parameter.kind == "cov":
            values |= {-0.2}
        for value in sorted(values):
            yield structure, parameter, value


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_met_and_the_derivatives_are_those_of_the_map(name):
    rng = np.random.default_rng(1)
    for structure, parameter, value in cases(name):
        held = hold(structure, D, {parameter: value})
        assert held.n_parameters(D) < structure.n_parameters(D)
        theta = rng.uniform(0.5, 1.5, (held.n_parameters(D), 2))
        theta *= rng.choice([-1, 1], theta.shape)
        Psi = held.matrices(theta, D)
        rise = rng.normal(size=(D, D, 2))
        rise = rise + rise.swapaxes(0, 1)
        for b in range(2):
            found = value_of(structure, parameter, Psi[..., b])
            # A correlation of nothing has no value.
            if np.isfinite(found) or parameter.kind != "cor":
                assert found == pytest.approx(value, rel=1e-13, abs=1e-15), parameter
            assert np.linalg.eigvalsh(Psi[..., b])[0] > -1e-12
        slopes, bent = held.slopes(theta, D), held.curvature(theta, D, rise)
        along = 0.5 * (rise[:, :, None] * slopes).sum((0, 1))
        for a in range(len(theta)):
            moved = difference(held.matrices, theta, a)
            assert_close(slopes[:, :, a], moved, 1 + np.abs(moved).max())
            turned = difference(held.slopes, theta, a)
            turned = 0.5 * (rise[:, :, None] * turned).sum((0, 1))
            assert_close(bent[a], turned, 1 + np.abs(along).max() + np.abs(turned).max())


def difference(function, theta, a, step=0.01):
    """∂/∂θ_a by seven points: sixth order."""
    move = np.zeros_like(theta)
    move[a] = step
    return sum(
        weight * (function(theta + n * move, D) - function(theta - n * move, D)) / (60 * step)
        for n, weight in ((1, 45), (2, -9), (3, 1))
    )


def assert_close(found, expected, size):
    np.testing.assert_allclose(found, expected, rtol=0, atol=DIFFERENCES * size)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_a_matrix_that_meets_the_value_give_it_back(name):
    rng = np.random.default_rng(2)
    for structure, parameter, value in cases(name):
        if name in ("har1", "hcar1") and parameter.is_variance and value == 0:
            continue  # the correlation is read from neighbours, which may have none
        held = hold(structure, D, {parameter: value})
        Psi = held.psi(rng.normal(size=held.n_parameters(D)), D)
        np.testing.assert_allclose(held.psi(held.theta(Psi), D), Psi, atol=1e-7)
        for variances in (np.array([0.5, 1.0, 2.0]), rng.uniform(0.5, 2, (D, 4))):
            starts = held.starts(variances)
            shape = (held.n_parameters(D), *variances.shape[1:])
            assert all(s.shape == shape and np.isfinite(s).all() for s in starts)


def test_a_covariance_beyond_what_a_start_allows_enlarges_its_variances():
    structure = Unstructured()
    covariance = covariances(structure, 2)[0]
    for value, scale in ((0.9, 1.0), (1.0, 1.0 + MODEST), (4.0, 4.0 * (1 + MODEST))):
        held = hold(structure, 2, {covariance: value})
        Psi = held.psi(held.theta(np.eye(2)), 2)
        assert Psi[0, 1] == pytest.approx(value, rel=1e-14)
        np.testing.assert_allclose(np.diag(Psi), scale, rtol=1e-12)


def test_several_parameters_of_one_pair():
    structure = Unstructured()
    first, second, _, r, *_ = natural_parameters(structure, 3)
    c = covariances(structure, 3)[0]
    for values in (
        {first: 0.5, second: 2.0},
        {first: 0.5, r: -0.4},
        {second: 0.5, r: 0.4},
        {second: 0.5, c: 0.3},
        {first: 0.5, second: 2.0, r: 0.4},
        {first: 0.5, second: 2.0, c: 0.3},
        {first: 0.0, second: 2.0},
        {first: 0.0, second: 0.0},
    ):
        held = hold(structure, 3, values)
        Psi = held.psi(np.random.default_rng(0).normal(size=held.n_parameters(3)), 3)
        for parameter, value in values.items():
            assert value_of(structure, parameter, Psi) == pytest.approx(value, rel=1e-13)


def test_what_cannot_be_held_together():
    structure = Unstructured()
    first, second, third, r, _, other = natural_parameters(structure, 3)
    c = covariances(structure, 3)[0]
    for values, said in (
        ({r: 0.2, other: 0.2}, "one pair of effects"),
        ({first: 1.0, second: 1.0, third: 1.0}, "one pair of effects"),
        ({first: 0.0, r: 0.2}, "no meaning"),
        ({first: 1.0, second: 1.0, c: 2.0}, "no covariance matrix"),
    ):
        with pytest.raises(InputError, match=said):
            hold(structure, 3, values)
    cs = STRUCTURES["cs"]()
    variance, correlation = natural_parameters(cs, 3)
    covariance = covariances(cs, 3)[0]
    with pytest.raises(InputError, match="no covariance matrix"):
        hold(cs, 3, {variance: 1.0, covariance: 2.0})
    with pytest.raises(InputError, match="two at most"):
        hold(cs, 3, {variance: 1.0, covariance: 0.2, correlation: 0.2})


def test_what_is_left_free():
    structure = Unstructured()
    variances = natural_parameters(structure, 3)[:3]
    assert len(free_parameters(structure, 3)) == 6
    held = hold(structure, 3, {variances[0]: 0.0})
    assert [p.name("abc") for p in free_parameters(held, 3)] == ["var(b)", "var(c)", "cor(b, c)"]
    again = hold(held, 3, {variances[1]: 0.5})
    assert [p.name("abc") for p in free_parameters(again, 3)] == ["var(c)", "cor(b, c)"]
    tied = hold(structure, 3, {covariances(structure, 3)[0]: 0.5})
    assert "cor(a, b)" not in [p.name("abc") for p in free_parameters(tied, 3)]


def test_structures_side_by_side_are_each_their_own():
    rng = np.random.default_rng(3)
    structure = Unstructured()
    first, *_, r = natural_parameters(structure, D)
    parts = [
        hold(structure, D, {first: np.array([0.2, 0.5])}),
        hold(structure, D, {r: 0.3}),
        hold(structure, D, {first: 0.0}),
    ]
    both = SideBySide(parts, [2, 1, 1])
    theta = rng.normal(size=(both.n_parameters(D), 4))
    rise = rng.normal(size=(D, D, 4))
    rise = rise + rise.swapaxes(0, 1)
    Psi, slopes = both.psi(theta, D), both.slopes(theta, D)
    bent, bound = both.curvature(theta, D, rise), both.at_bound(Psi, np.ones((D, 1)))
    for part, own in zip(parts, (slice(0, 2), slice(2, 3), slice(3, 4)), strict=True):
        m = part.n_parameters(D)
        np.testing.assert_array_equal(Psi[..., own], part.psi(theta[:m, own], D))
        np.testing.assert_array_equal(slopes[:, :, :m, own], part.slopes(theta[:m, own], D))
        assert not slopes[:, :, m:, own].any()
        expected = part.curvature(theta[:m, own], D, rise[..., own])
        np.testing.assert_array_equal(bent[:m, :m, own], expected)
        assert not bent[m:, :, own].any()
        wide = np.ones((D, Psi[..., own].shape[2]))
        np.testing.assert_array_equal(bound[own], part.at_bound(Psi[..., own], wide))


def test_a_bound_is_a_finding_of_what_is_free_only():
    structure = Unstructured()
    first, second, _, r, *_ = natural_parameters(structure, 3)
    for values in ({first: 0.0}, {r: 1.0}):
        held = hold(structure, 3, values)
        theta = np.random.default_rng(0).normal(size=(held.n_parameters(3), 1))
        assert not held.at_bound(held.psi(theta, 3), np.ones((3, 1)))[0]
    held = hold(structure, 3, {first: 0.0})
    Psi = np.diag([0.0, 1.0, 0.0])[..., None]
    assert held.at_bound(Psi, np.ones((3, 1)))[0]
