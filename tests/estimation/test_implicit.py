"""What the implicit function theorem divides by, a case on each side of its thresholds."""

import jax
import numpy as np
import pytest

from mixmeta_jax.estimation.implicit import solve

# Written out: sides of the constants themselves would move with them.
HELD = 1e-8


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("unit", [1.0, 1e-3, 50.0])
@pytest.mark.parametrize(("part", "held"), [(0.9, True), (1.1, False), (-0.9, True)])
def test_a_parameter_without_information_is_held(part, held, unit):
    """In its natural unit: with a unit u the information is that of θ/u."""
    units = np.array([1.0, unit])
    H = np.diag([2.0, part * HELD / unit**2])
    v = np.array([4.0, 3.0])
    moved = np.asarray(solve(H, units, v))
    assert moved[0] == pytest.approx(2.0)
    assert moved[1] == (0.0 if held else pytest.approx(3.0 / H[1, 1]))


def test_of_two_that_only_together_inform_one_is_held():
    H, v = np.ones((2, 2)), np.array([1.0, 1.0])
    moved = np.asarray(solve(H, np.ones(2), v))
    assert moved.tolist() == [1.0, 0.0]
    assert H @ moved == pytest.approx(v)


def test_a_negative_curvature_is_no_optimum():
    moved = np.asarray(solve(np.diag([2.0, -1e-6]), np.ones(2), np.ones(2)))
    assert np.isnan(moved).any()


def test_elsewhere_it_solves():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    H, v = root @ root.T + np.eye(4), rng.normal(size=4)
    units = rng.uniform(0.1, 10, 4)
    np.testing.assert_allclose(solve(H, units, v), np.linalg.solve(H, v), rtol=1e-10)
