"""The path of Newton's method: it never leads down."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmeta_jax.covariance.catalogue import resolve_structures
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.estimation import newton
from mixmeta_jax.estimation.ascent import problem_of
from mixmeta_jax.estimation.executors import AtOnce
from mixmeta_jax.estimation.newton import (
    ARRIVED,
    GIVEN_UP,
    JOINED,
    Evaluation,
    Path,
    Problem,
    climb,
)
from mixmeta_jax.estimation.search import AS_HIGH, best_path
from mixmeta_jax.estimation.start import natural_units, starting_parameters, starting_variances
from tests.designs import random_design

REACHED = 5e-16
"""What the gradient of the designs here comes down to; the executors differ in its last digit."""


def one_level(seed, name="unstr", n=9):
    design = random_design(seed, k=3, q=(1,), n=n, p=1, codes=[np.arange(n)])
    return replace(design, structures=resolve_structures(name, None, ["level0"], design.dims))


def own_starts(design):
    """Starts as columns, and the natural size of each parameter."""
    starts = starting_parameters(design.structures, starting_variances(design))
    return starts[:, :, 0].T, natural_units(starts)


def climbed(design, starts, most, tolerance=1e-6):
    scales, (_, units) = starting_variances(design), own_starts(design)
    problem = Problem(units, tuple(scales), None, most, tolerance, 0)
    return AtOnce(arrange(design)).ascend(starts, problem, restricted=True).path


@pytest.mark.parametrize("name", ["unstr", "har1"])
def test_the_log_likelihood_never_falls_along_a_path(name):
    """The path of at most i evaluations is the beginning of the path of i + 1."""
    design = one_level(0, name)
    own, units = own_starts(design)
    far = np.random.default_rng(1).normal(size=own.shape) * 5 * units
    for starts in (own, far):
        values = np.array([climbed(design, starts, most).at.value for most in range(1, 30)])
        rounding = 1e-12 * (1 + np.abs(values[-1]))
        assert (np.diff(values, axis=0) >= -rounding).all()
        assert (values[-1] > values[0] + 1e-3).any()


def test_the_paths_of_a_batch_are_those_of_each_alone():
    design = one_level(0)
    own, units = own_starts(design)
    together = climbed(design, own, 100)
    for i, start in enumerate(own.T):
        alone = climbed(design, start[:, None], 100)
        assert alone.n_iter[0] == together.n_iter[i]
        np.testing.assert_allclose(alone.theta[:, 0], together.theta[:, i], rtol=1e-9, atol=1e-9)


def test_paths_of_one_data_set_stop_where_one_of_them_has_arrived():
    """By NumPy: they would all come to its maximum."""
    design = one_level(0)
    own, units = own_starts(design)
    problem = problem_of(own.shape[1], units, starting_variances(design), None, 100, 1e-6)
    run = AtOnce(arrange(design))
    each, together = (
        run.ascend(own, problem, restricted=True, together=together) for together in (False, True)
    )
    assert (each.path.phase == ARRIVED).all()
    best = best_path(together.loglik, together.path.norm, AS_HIGH)
    assert together.path.phase[best] == ARRIVED
    np.testing.assert_allclose(together.loglik[best], each.loglik.max(), rtol=1e-12)
    joined = together.path.phase == JOINED
    assert joined.any()
    assert (together.path.n_iter[joined] < each.path.n_iter[joined]).all()
    for found, maximum in zip(together.Psi, each.Psi, strict=True):
        np.testing.assert_allclose(found[..., joined], maximum[..., joined], rtol=0, atol=0.05)


def test_a_tolerance_at_the_rounding_of_the_gradient_is_kept():
    """The last step may raise a gradient that is all rounding: it is undone then."""
    design = one_level(0)
    own, _ = own_starts(design)
    for tolerance in 10.0 ** np.arange(-16, -13, 0.25):
        path = climbed(design, own, 100, tolerance)
        assert (path.n_iter < 100).all()
        # Below what the gradient can reach no step is small enough, and the path gives up.
        given_up = path.phase == GIVEN_UP
        assert (given_up | (path.norm <= tolerance)).all()
        assert (path.phase[~given_up] == ARRIVED).all()
        if tolerance > REACHED:
            assert not given_up.all()


def evaluation(value, gradient):
    eye = np.eye(2)[:, :, None]
    return Evaluation(
        np.array([value]), np.array([[gradient], [0.0]]), eye, eye, np.zeros((1, 1)), eye[:1, :1]
    )


@pytest.mark.parametrize(
    ("fall", "gradient", "norm", "taken"),
    [
        (2e-10, 1e-7, 1e-5, True),  # beyond the rounding of the value, which is 5e-11 at 500
        (2e-10, 2e-5, 1e-5, False),
        (1e-7, 1e-7, 1e-5, False),
        (2e-10, 1e-7, 1e-2, False),
    ],
)
def test_a_level_step_next_to_the_maximum_counts_by_its_gradient(
    fall, gradient, norm, taken, monkeypatch
):
    monkeypatch.setattr(newton, "evaluate", lambda *args: evaluation(500.0 - fall, gradient))
    zero, most = np.zeros(1), 100
    path = Path(
        np.zeros((2, 1)),
        evaluation(500.0, norm),
        np.ones((2, 1)),
        zero,
        None,
        zero,
        np.array([norm]),
        np.array([norm]),
        np.array([norm]),
        np.zeros(1, int),
        np.array([most - 1]),
        np.zeros(1, int),
    )
    problem = Problem(np.ones((2, 1)), (np.ones((2, 1)),), None, most, 1e-6, 0)
    after = climb(path, None, problem, restricted=True)
    assert after.n_iter == most
    assert (after.theta == (1.0 if taken else 0.0)).all()


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
@pytest.mark.parametrize(
    ("values", "norms", "chosen"),
    [
        ([1.0, 2.0, 2.0 + 1e-12], [0.0, 1e-9, 1e-4], 1),
        ([1.0, 2.0, 2.1], [0.0, 1e-9, 1e-4], 2),
        ([np.nan, -np.inf, 1.0], [0.0, 0.0, np.nan], 2),
        ([np.nan, np.nan, np.nan], [np.nan, np.inf, np.nan], 0),
    ],
)
def test_of_ends_level_to_rounding_the_flattest_is_taken(values, norms, chosen, xp):
    with jax.enable_x64(True):
        found = best_path(xp.asarray(values), xp.asarray(norms), AS_HIGH)
    assert found.tolist() == [chosen]
