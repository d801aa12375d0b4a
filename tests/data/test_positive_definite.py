"""Error matrices at the ends of double precision, and next to singular, alone and among many."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixmeta_jax.data.positive_definite import MANY, SMALL, checked_matrices
from mixmeta_jax.errors import InputError


def checked(S, seen=None):
    seen = np.ones(S.shape[:2], bool) if seen is None else seen
    return checked_matrices(S, seen, lambda b: f"row {b}", lambda b, i: f"y{i}")


def among_many(S, others=2 * MANY):
    """The matrix behind others that nothing is wrong with, which are judged all at once."""
    return np.concatenate([np.tile(np.eye(len(S)), (others, 1, 1)), [S]])


@pytest.mark.parametrize("others", [0, 2 * MANY])
@pytest.mark.parametrize(
    "S",
    [
        [[1e-300, 1e160], [1e160, 1e300]],
        [[1e-300, 1e300], [1e300, 1e-300]],
        [[1.0, 1e300], [1e300, 1.0]],
        [[1e-300, 1e160, 0.0], [1e160, 1e300, 1.0], [0.0, 1.0, 1.0]],
        [[1e-300, 1e160, 1e200], [1e160, 1e300, 1e250], [1e200, 1e250, 1.0]],
    ],
)
def test_covariances_beyond_all_variances(S, others):
    with pytest.raises(InputError, match=f"not positive definite in row {others}: its smallest"):
        checked(among_many(S, others))


@pytest.mark.parametrize("others", [0, 2 * MANY])
def test_variances_of_any_size_are_kept(others):
    S = among_many(np.array([[1e-300, 0.3], [0.3, 1e300]]), others)
    np.testing.assert_array_equal(checked(S), S)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, SMALL + 1),
    st.sampled_from([1e-18, 1e-16, 1e-15, 3e-14, 1e-13, 1e-6, -1e-15, -1e-6]),
    st.booleans(),
)
@example(1, 5, 1e-16, False)  # where small pivots in a row divide the rounding of one another
@example(378, 4, 1e-18, False)
@settings(max_examples=200, deadline=None)
def test_many_are_judged_as_each_alone(seed, d, least, incomplete):
    """A correlation matrix of the given least eigenvalue, about, in units of its own."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0]
    S = axes @ np.diag([least, *rng.uniform(0.2, 2, d - 1)]) @ axes.T
    if (np.diag(S) <= 0).any():
        return
    scale = 10.0 ** rng.uniform(-6, 6, d)
    S = (S + S.T) / 2 * scale[:, None] * scale
    seen = np.ones((2 * MANY + 1, d), bool)
    if incomplete:
        seen[MANY, 0] = seen[-1, rng.integers(d)] = False

    def verdict(S, seen):
        try:
            return checked(S, seen)[-1].tolist()
        except InputError as error:
            return str(error).split(": its")[1]

    assert verdict(among_many(S), seen) == verdict(S[None], seen[-1:])
