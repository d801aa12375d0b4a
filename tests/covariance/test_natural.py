"""Natural parameters: what Ψ is made of, against Ψ written out in them and finite differences."""

import numpy as np
import pytest

from mixmeta_jax.covariance.autoregressive import (
    AR1,
    ContinuousAR1,
    HeterogeneousAR1,
    HeterogeneousContinuousAR1,
)
from mixmeta_jax.covariance.given import Correlation, Fixed, Proportional
from mixmeta_jax.covariance.structures import (
    CompoundSymmetry,
    Diagonal,
    HeterogeneousCompoundSymmetry,
    Identity,
    Unstructured,
)

TIMES = (0.0, 0.7, 2.0)
LAGS = np.abs(np.subtract.outer(range(3), range(3)))
GAPS = np.abs(np.subtract.outer(TIMES, TIMES))
GIVEN = np.array([[1.0, 0.3, -0.2], [0.3, 1.0, 0.4], [-0.2, 0.4, 1.0]])
V = np.array([0.5, 1.2, 0.8])
STEP = 1e-5
DIFFERENCES = 1e-6  # absolute: second differences of step 1e-5 lose ten digits of sixteen


def scaled(C):
    return lambda p: np.sqrt(np.outer(p[:3], p[:3])) * C(p[3])


NONLINEAR = {
    "hcs": (
        HeterogeneousCompoundSymmetry(),
        scaled(lambda r: np.where(np.eye(3), 1.0, r)),
        [*V, 0.4],
    ),
    "ar1": (AR1(), lambda p: p[0] * p[1] ** LAGS, [0.9, -0.5]),
    "har1": (HeterogeneousAR1(), scaled(lambda r: r**LAGS), [*V, 0.6]),
    "car1": (ContinuousAR1(TIMES), lambda p: p[0] * p[1] ** GAPS, [0.9, 0.5]),
    "hcar1": (HeterogeneousContinuousAR1(TIMES), scaled(lambda r: r**GAPS), [*V, 0.3]),
    "cor": (Correlation(GIVEN), lambda p: np.sqrt(np.outer(p, p)) * GIVEN, V),
}


def natural_at(structure, Psi, scale=1.0):
    theta = structure.theta(Psi)[:, None]
    return structure.natural(theta, Psi[:, :, None], np.full((len(Psi), 1), scale))


@pytest.mark.parametrize("name", NONLINEAR)
def test_derivatives_are_those_of_variances_and_correlation(name):
    structure, psi, values = NONLINEAR[name]
    values = np.asarray(values, float)
    found = natural_at(structure, psi(values))
    assert found.free.all() and not found.bounds
    n = len(values)
    unit = STEP * np.eye(n)
    for a in range(n):
        slope = (psi(values + unit[a]) - psi(values - unit[a])) / (2 * STEP)
        np.testing.assert_allclose(found.slopes[:, :, a, 0], slope, atol=1e-8)
        for b in range(n):
            second = sum(
                s * t * psi(values + s * unit[a] + t * unit[b]) for s in (1, -1) for t in (1, -1)
            ) / (4 * STEP**2)
            np.testing.assert_allclose(found.second[:, :, a, b, 0], second, atol=DIFFERENCES * 10)


@pytest.mark.parametrize(
    ("structure", "Psi"),
    [
        (Unstructured(), GIVEN),
        (Diagonal(), np.diag(V)),
        (Identity(), 0.4 * np.eye(3)),
        (CompoundSymmetry(), 0.5 * np.eye(3) + 0.3),
        (Proportional(GIVEN), 0.7 * GIVEN),
    ],
)
def test_linear_structures_span_what_their_own_parameters_do(structure, Psi):
    found = natural_at(structure, Psi)
    assert found.second is None and found.free.all() and not found.bounds
    theta = structure.theta(Psi)[:, None]
    own = np.asarray(structure.slopes(theta, 3))[..., 0].reshape(9, -1)
    slopes = found.slopes[..., 0].reshape(9, -1)
    assert slopes.shape == own.shape
    both = np.column_stack([slopes, own])
    assert np.linalg.matrix_rank(slopes) == np.linalg.matrix_rank(both) == own.shape[1]


def kinds(found):
    return [(bound.kind, bound.effect) for bound in found.bounds if bound.where[0]]


def test_what_is_at_a_bound_is_held():
    assert kinds(natural_at(Identity(), np.zeros((3, 3)))) == [("variance", -1)]
    assert kinds(natural_at(Diagonal(), np.diag([1.0, 0.0, 2.0]))) == [("variance", 1)]
    ones = np.ones((3, 3))
    found = natural_at(CompoundSymmetry(), 0.5 * ones)
    assert kinds(found) == [("correlation", -1)] and found.free.sum() == 1
    np.testing.assert_allclose(found.slopes[..., 1, 0], ones / 3)
    assert kinds(natural_at(CompoundSymmetry(), 0 * ones)) == [("variance", -1)]
    found = natural_at(AR1(), 0.5 * ones)
    assert kinds(found) == [("correlation", 0)] and found.free[:, 0].tolist() == [True, False]
    assert kinds(natural_at(AR1(), 0 * ones)) == [("variance", -1)]
    found = natural_at(ContinuousAR1(TIMES), 0.5 * np.eye(3))
    assert kinds(found) == [("correlation", 0)]
    found = natural_at(HeterogeneousAR1(), np.diag([0.5, 0.0, 0.0]))
    # A correlation of one variance with nothing is not there to be held.
    assert kinds(found) == [("variance", 1), ("variance", 2)]
    assert found.free[:, 0].tolist() == [True, False, False, False]
    assert natural_at(Fixed(GIVEN), GIVEN).free.shape == (0, 1)


def test_a_singular_matrix_moves_within_its_range():
    root = np.array([[1.0, 0.0], [0.5, 1.0], [-0.3, 0.4]])
    found = natural_at(Unstructured(), root @ root.T)
    assert kinds(found) == [("null space", 1)]
    assert found.free.sum() == 3
    away = np.linalg.svd(root.T)[2][-1]
    np.testing.assert_allclose(np.einsum("i,ijab->jab", away, found.slopes), 0, atol=1e-12)
    # With a variance of zero that effect is out, and the others are as they were.
    Psi = np.zeros((3, 3))
    Psi[:2, :2] = [[1.0, 0.2], [0.2, 0.5]]
    found = natural_at(Unstructured(), Psi)
    assert kinds(found) == [("variance", 2)] and found.free.sum() == 3
    assert not found.slopes[2].any()


def test_bounds_have_a_case_on_each_side():
    for factor, held in ((0.9, True), (1.1, False)):
        found = natural_at(Identity(), factor * 1e-9 * np.eye(2))
        assert bool(found.bounds) == held
        least = factor * 1e-7
        found = natural_at(Unstructured(), np.array([[1.0, 1 - least], [1 - least, 1.0]]))
        assert bool(found.bounds) == held
        found = natural_at(CompoundSymmetry(), np.array([[1.0, 1 - least], [1 - least, 1.0]]))
        assert bool(found.bounds) == held


def test_a_structure_of_ones_own_has_its_own_parameters():
    from mixmeta_jax.covariance.structure import Structure

    class Steady(Structure):
        name = "steady"

        def n_parameters(self, d):
            return 2

        def psi(self, theta, d):
            import jax.numpy as jnp

            return theta[0] ** 2 * jnp.eye(d) + theta[1] ** 4 * jnp.ones((d, d))

    theta = np.array([[0.5], [0.8]])
    Psi = 0.25 * np.eye(2) + 0.8**4
    found = Steady().natural(theta, Psi[:, :, None], np.ones((2, 1)))
    np.testing.assert_allclose(found.slopes[:, :, 0, 0], 2 * 0.5 * np.eye(2), rtol=1e-12)
    np.testing.assert_allclose(found.slopes[:, :, 1, 0], 4 * 0.8**3, rtol=1e-12)
    np.testing.assert_allclose(found.second[:, :, 0, 0, 0], 2 * np.eye(2), rtol=1e-12)
    np.testing.assert_allclose(found.second[:, :, 1, 1, 0], 12 * 0.8**2, rtol=1e-12)
    np.testing.assert_allclose(found.second[:, :, 0, 1, 0], 0, atol=1e-12)
    held = Steady().natural(np.array([[0.0], [0.8]]), Psi[:, :, None], np.ones((2, 1)))
    assert kinds(held) == [("parameter", 0)]
