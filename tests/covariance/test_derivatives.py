"""The closed-form derivatives of the structures against JAX's of the same map, B = 3 at once."""

import functools

import jax
import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.covariance.catalogue import NEEDS_TIMES, STRUCTURES
from mixmeta_jax.covariance.structure import Structure
from tests.covariance.test_structures import instance
from tests.tolerances import LIMIT, MAPS

ANGLES = ("ar1", "har1", "car1", "hcs", "hcar1")
"""Structures whose last parameter is the angle of a correlation."""

CLOSED = [name for name in STRUCTURES if name != "fixed"]


def points(name, d=3):
    """θ of three data sets: inside, at null variances, at correlations of −1 (or 0), 0 and 1."""
    n = instance(name).n_parameters(d)
    inside = np.random.default_rng(3).normal(size=(n, 3))
    cases = {"inside": inside, "all null": 0 * inside}
    null = inside.copy()
    null[0] = 0.0  # of the first, or of all
    cases["one null"] = null
    if name in ANGLES:
        bounds = inside.copy()
        bounds[-1] = [-np.pi / 2, 0.0, np.pi / 2]
        cases["correlations at their bounds"] = bounds
        both = bounds.copy()
        both[0] = 0.0
        cases["both"] = both
    if name == "cs":
        cases["correlations at their bounds"] = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    if name == "unstr":
        # Λ of rank one: every correlation is ±1; and Λ diagonal, where they are 0.
        one = np.zeros((6, 3))
        one[:3] = [[1.0], [-2.0], [0.5]]
        one[:, 1] = [1.0, 0.0, 0.0, 2.0, 0.0, 0.5]
        cases["correlations at their bounds"] = one
    return cases


POINTS = [(name, case) for name in CLOSED for case in points(name)]


def assert_close(found, expected, tolerance=MAPS):
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    assert isinstance(found, np.ndarray)
    size = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


of_catalogue = functools.cache(instance)


def plain(structure):
    """The same structure, its map written as JAX can differentiate it but at the bounds."""
    if structure.name not in NEEDS_TIMES:
        return structure

    class Plain(type(structure)):
        def correlation(self, angle, d):
            gaps = np.abs(np.subtract.outer(self.times, self.times))
            powers = np.where(np.eye(d) > 0, 1.0, gaps / gaps[gaps > 0].min())
            C = jax.numpy.where(np.eye(d) > 0, 1.0, (jax.numpy.sin(angle) ** 2) ** powers)
            return C, None, None

    return Plain(structure.times)


@functools.cache
def program(structure, d):
    """JAX's derivatives as one program, where operation by operation it is dozens."""
    own = plain(structure)

    def derivatives(theta, gradient):
        # The methods of the base class are JAX's derivatives of `psi`.
        matrices = jax.vmap(lambda one: own.psi(one, d), -1, -1)(theta)
        slopes = Structure.slopes(own, theta, d)
        return matrices, slopes, Structure.curvature(own, theta, d, gradient)

    return jax.jit(derivatives)


def by_jax(structure, theta, gradient, d):
    with jax.enable_x64(True):
        return program(structure, d)(jax.numpy.asarray(theta), gradient)


def check(structure, theta, d=3):
    root = np.random.default_rng(4).normal(size=(d, d, 3))
    gradient = root + root.swapaxes(0, 1)

    found = (
        structure.matrices(theta, d),
        structure.slopes(theta, d),
        structure.curvature(theta, d, gradient),
    )
    at, tolerance = by_jax(structure, theta, gradient, d), MAPS
    if not all(np.isfinite(part).all() for part in at):
        assert structure.name in NEEDS_TIMES
        moved = theta + 1e-7 * (np.arange(len(theta)) == len(theta) - 1)[:, None]
        at, tolerance = by_jax(structure, moved, gradient, d), LIMIT
    for ours, theirs in zip(found, at, strict=True):
        assert_close(ours, theirs, tolerance)


@pytest.mark.parametrize(("name", "case"), POINTS)
def test_of_the_catalogue(name, case):
    structure = of_catalogue(name)
    assert structure.closed
    check(structure, points(name)[case])


@pytest.mark.parametrize("name", NEEDS_TIMES)
def test_in_time_by_jax_too(name):
    """Of any order, as the second derivatives of an estimate need them."""
    structure, theta = instance(name), points(name)["inside"][:, 0]
    with jax.enable_x64(True):
        for differentiated in (jax.jacfwd, lambda f: jax.jacfwd(jax.jacfwd(jax.jacfwd(f)))):
            ours, theirs = (
                differentiated(lambda t, s=s: s.psi(t, 3))(theta)
                for s in (structure, plain(structure))
            )
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("gap", [1.0, 1.25, 1.5, 3.0])
def test_in_time_without_correlation(gap):
    """C = φ^2p next to φ = 0: the second derivative there is 2 for the closest times, else 0."""
    structure = mx.ContinuousAR1(times=[0.0, 1.0, 1.0 + gap])
    theta = np.array([1.3, 0.0])
    closest = np.array([[0, 1, 0], [1, 0, gap == 1], [0, gap == 1, 0]])
    with jax.enable_x64(True):
        slope = jax.jacfwd(lambda t: structure.psi(t, 3))(theta)
        second = jax.jacfwd(lambda t: structure.slopes(t[:, None], 3)[..., 0])(theta)
        hessian = jax.hessian(lambda t: structure.psi(t, 3))(theta)
        third = jax.jacfwd(jax.hessian(lambda t: structure.psi(t, 3)))(theta)
    np.testing.assert_allclose(slope[..., 0], 2 * 1.3 * np.eye(3))
    np.testing.assert_array_equal(slope[..., 1], 0)
    for found in (second, hessian):
        np.testing.assert_allclose(found[..., 0, 0], 2 * np.eye(3))
        np.testing.assert_allclose(found[..., 1, 1], 1.3**2 * 2 * closest, rtol=1e-14)
    # Even in φ: by symmetry nothing moves the second derivative in φ.
    np.testing.assert_array_equal(third[..., 1, 1, 1], 0)


def test_of_no_parameters():
    fixed, nothing = instance("fixed"), np.zeros((0, 3))
    assert fixed.closed
    assert fixed.slopes(nothing, 3).shape == (3, 3, 0, 3)
    assert fixed.curvature(nothing, 3, np.ones((3, 3, 3))).shape == (0, 0, 3)
    np.testing.assert_array_equal(fixed.matrices(nothing, 3)[:, :, 2], fixed.matrix)


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0], [2, 1, 0]])
def test_of_a_turned_factor(order):
    turned = mx.Unstructured().ordered(np.array(order))
    check(turned, points("unstr")["inside"])


def test_a_turned_factor_is_an_argument_of_a_program():
    """Its order is traced like the data, so that every order shares one program."""
    theta, gradient = points("unstr")["inside"], np.ones((3, 3, 3))

    def all_of(structure, theta):
        slopes, rises = structure.slopes(theta, 3), jax.numpy.asarray(gradient)
        return structure.matrices(theta, 3), slopes, structure.curvature(theta, 3, rises)

    turned = mx.Unstructured().ordered(np.array([2, 0, 1]))
    with jax.enable_x64(True):
        traced = jax.jit(all_of)(turned, theta)
    expected = (
        turned.matrices(theta, 3),
        turned.slopes(theta, 3),
        turned.curvature(theta, 3, gradient),
    )
    for ours, theirs in zip(traced, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=MAPS)


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize(
    "name", ["unstr", "diag", "id", "cs", "hcs", "ar1", "har1", "toep", "htoep"]
)
def test_of_other_sizes(name, d):
    structure = STRUCTURES[name]()
    if d < structure.min_dim:
        return
    theta = np.random.default_rng(d).normal(size=(structure.n_parameters(d), 3))
    check(structure, theta, d)


@pytest.mark.parametrize("name", ["unstr", "hcs", "car1", "cor"])
def test_traced_they_are_the_same(name):
    structure, theta = instance(name), points(name)["inside"]
    gradient = np.ones((3, 3, 3))
    with jax.enable_x64(True):
        slopes, curvature = jax.jit(
            lambda t: (
                structure.slopes(t, 3),
                structure.curvature(t, 3, jax.numpy.asarray(gradient)),
            )
        )(theta)
    assert_close(structure.slopes(theta, 3), slopes)
    assert_close(structure.curvature(theta, 3, gradient), curvature)


# Structures of one's own


class Doubled(mx.Diagonal):
    """Another map than its parent's, whose derivatives are then not its own."""

    name = "doubled"

    def psi(self, theta, d):
        return 2 * super().psi(theta, d)


class Renamed(mx.Diagonal):
    name = "renamed"


class Halved(mx.Diagonal):
    """Another map, with derivatives of its own."""

    name = "halved"

    def psi(self, theta, d):
        return 0.5 * super().psi(theta, d)

    def slopes(self, theta, d):
        return 0.5 * super().slopes(theta, d)

    def curvature(self, theta, d, gradient):
        return 0.5 * super().curvature(theta, d, gradient)


def test_one_that_overrides_the_map_alone_is_differentiated_by_jax():
    theta = np.random.default_rng(1).normal(size=(3, 2))
    gradient = np.random.default_rng(2).normal(size=(3, 3, 2))
    gradient = gradient + gradient.swapaxes(0, 1)
    plain, doubled = mx.Diagonal(), Doubled()
    assert plain.closed and Renamed().closed and not doubled.closed
    with jax.enable_x64(True):
        slopes, matrices = doubled.slopes(theta, 3), doubled.matrices(theta, 3)
        curvature = doubled.curvature(theta, 3, gradient)
    np.testing.assert_allclose(matrices, 2 * plain.matrices(theta, 3), rtol=1e-14)
    np.testing.assert_allclose(slopes, 2 * plain.slopes(theta, 3), rtol=1e-14)
    np.testing.assert_allclose(curvature, 2 * plain.curvature(theta, 3, gradient), atol=1e-14)


def test_one_with_derivatives_of_its_own_keeps_them():
    assert Halved().closed
    check(Halved(), np.random.default_rng(1).normal(size=(3, 3)))
