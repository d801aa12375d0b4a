"""What a seed draws is determined by the model alone, not by the LAPACK of a machine."""

import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.design.draws import semidefinite_root, stream

K, RHO = 3, 0.8


def exchangeable(one, other):
    """The matrix (K, K) with the eigenvalue ``one`` of the mean, ``other`` of the contrasts."""
    mean = np.full((K, K), 1 / K)
    return one * mean + other * (np.eye(K) - mean)


@pytest.mark.parametrize("other", [1 - RHO, 0.0])
def test_the_root_is_the_symmetric_one(other):
    one = 1 + (K - 1) * RHO
    root = semidefinite_root(exchangeable(one, other))
    # Of an eigenvalue that is zero but for rounding, the root is that of the rounding.
    np.testing.assert_allclose(root, exchangeable(np.sqrt(one), np.sqrt(other)), atol=1e-7)


def test_draws_are_those_of_the_numbers_of_their_stream():
    s = 0.5
    mean, S = np.zeros((4, K)), np.full((4, K), s**2)
    Psi = exchangeable(1 + (K - 1) * RHO, 1 - RHO)
    drawn = mx.mixmeta_sim(mean, S, Psi, nsim=2, seed=5)
    root = exchangeable(np.sqrt(1 + (K - 1) * RHO), np.sqrt(1 - RHO))
    for b, own in enumerate(np.asarray(drawn)):
        effects, errors = stream(5, b).standard_normal((2, 4, K))
        np.testing.assert_allclose(own, effects @ root + s * errors, atol=1e-12)
