"""The path of Newton's method: it never leads down."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmeta_jax.design.design import arrange
from mixmeta_jax.estimation import newton
from mixmeta_jax.estimation.estimator import _highest
from mixmeta_jax.estimation.newton import Evaluation, Maximum, Path, maximise
from mixmeta_jax.estimation.start import natural_units, starting_parameters, starting_variances
from mixmeta_jax.covariance.catalogue import resolve_structures
from tests.designs import random_design


def one_level(seed, name="unstr", n=9):
    design = random_design(seed, k=3, q=(1,), n=n, p=1, codes=[np.arange(n)])
    return replace(design, structures=resolve_structures(name, None, ["level0"], design.dims))


@pytest.mark.parametrize("name", ["unstr", "har1"])
def test_the_log_likelihood_never_falls_along_a_path(name):
    """The path of at most i evaluations is the beginning of the path of i + 1."""
    design = one_level(0, name)
    own = starting_parameters(design.structures, starting_variances(design))
    units = natural_units(own)
    far = np.random.default_rng(1).normal(size=own.shape) * 5 * units
    for starts in (own, far):
        recorded = []
        with jax.enable_x64(True):
            for most in range(1, 30):
                end = maximise(
                    starts, arrange(design), units, most, 1e-6, method="reml", exact=True
                )
                recorded.append(np.asarray(end.path.at.value))
        values = np.array(recorded)
        rounding = 1e-12 * (1 + np.abs(values[-1]))
        assert (np.diff(values, axis=0) >= -rounding).all()
        assert (values[-1] > values[0] + 1e-3).any()


def test_a_tolerance_at_the_rounding_of_the_gradient_is_kept():
    """The last step may raise a gradient that is all rounding: it is undone then."""
    design = one_level(0)
    own = starting_parameters(design.structures, starting_variances(design))
    units = natural_units(own)
    with jax.enable_x64(True):
        for tolerance in 10.0 ** np.arange(-16, -13, 0.25):
            end = maximise(own, arrange(design), units, 100, tolerance, method="reml", exact=True)
            norm, n_iter = np.asarray(end.path.norm), np.asarray(end.path.n_iter)
            assert (n_iter < 100).all()
            # Below what the gradient can reach no step is small enough, and the path gives up.
            given_up = np.asarray(end.path.damping) > 1e12
            assert (given_up | (norm <= tolerance)).all()
            assert not given_up.all()


def evaluation(value, gradient):
    return Evaluation(
        value, jnp.array([gradient, 0.0]), np.eye(2), np.eye(2), np.zeros(1), np.eye(1)
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
    with jax.enable_x64(True):
        monkeypatch.setattr(newton, "evaluate", lambda *args: evaluation(500.0 - fall, gradient))
        zero, one = jnp.zeros(()), jnp.ones((), int)
        path = Path(
            jnp.zeros(2), evaluation(500.0, norm), jnp.ones(2), zero, zero, norm, one, 0 * one
        )
        after = newton._step(path, None, True, True, np.ones(2), 100, 1e-6, False)
    assert (np.asarray(after.theta) == (1.0 if taken else 0.0)).all()


@pytest.mark.parametrize(
    ("values", "norms", "chosen"),
    [
        ([1.0, 2.0, 2.0 + 1e-12], [0.0, 1e-9, 1e-4], 1),
        ([1.0, 2.0, 2.1], [0.0, 1e-9, 1e-4], 2),
        ([np.nan, -np.inf, 1.0], [0.0, 0.0, np.nan], 2),
        ([np.nan, np.nan, np.nan], [np.nan, np.inf, np.nan], 0),
    ],
)
def test_of_ends_level_to_rounding_the_flattest_is_taken(values, norms, chosen):
    count = np.arange(3)
    each = np.array(values), np.zeros((3, 2)), count, count, count, count
    path = Path(count, Evaluation(*each), count, count, count, np.array(norms), count, count)
    end = _highest(Maximum(path, (count,), (count,), np.zeros(1), 0.0))
    assert end.path.theta == chosen
