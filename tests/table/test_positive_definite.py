"""Error matrices at the ends of double precision, and next to singular, alone and among many."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixmeta_jax.table.positive_definite import (
    WRITTEN_OUT_NUMBER,
    WRITTEN_OUT_SIZE,
    MatrixStatus,
    fault,
    judged,
    null_vectors,
)

# Written out: sides of the constants themselves would move with them.
SMALLEST_PIVOT, NEGATIVE = 1e-7, -1e-10


def verdict_on(S, seen=None):
    seen = np.ones(S.shape[:2], bool) if seen is None else seen
    return MatrixStatus(judged(S, seen)[1][-1])


def among_many(S, others=2 * WRITTEN_OUT_NUMBER):
    """The matrix behind others that nothing is wrong with, which are judged all at once."""
    return np.concatenate([np.tile(np.eye(len(S)), (others, 1, 1)), [S]])


@pytest.mark.parametrize("others", [0, 2 * WRITTEN_OUT_NUMBER])
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
    S = among_many(S, others)
    assert verdict_on(S) is MatrixStatus.INDEFINITE
    said = fault(S[-1], np.ones(len(S[-1]), bool), MatrixStatus.INDEFINITE, "row 7", str)
    assert said.startswith("S is not positive definite in row 7: its smallest eigenvalue is")


@pytest.mark.parametrize("others", [0, 2 * WRITTEN_OUT_NUMBER])
def test_variances_of_any_size_are_kept(others):
    S = among_many(np.array([[1e-300, 0.3], [0.3, 1e300]]), others)
    clean, verdicts = judged(S, np.ones(S.shape[:2], bool))
    np.testing.assert_array_equal(clean, S)
    assert not verdicts.any()


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, WRITTEN_OUT_SIZE + 1),
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
    seen = np.ones((2 * WRITTEN_OUT_NUMBER + 1, d), bool)
    if incomplete:
        seen[WRITTEN_OUT_NUMBER, 0] = seen[-1, rng.integers(d)] = False

    assert verdict_on(among_many(S), seen) is verdict_on(S[None], seen[-1:])


def correlated(r, scale=1.0):
    return np.array([[1.0, r], [r, 1.0]]) * scale


@pytest.mark.parametrize("others", [0, 2 * WRITTEN_OUT_NUMBER])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize(
    ("S", "verdict"),
    [
        (correlated(1 - 5e-13), MatrixStatus.SOUND),
        (correlated(1 - 4 * SMALLEST_PIVOT**2), MatrixStatus.SOUND),
        (correlated(1 - 2e-16), MatrixStatus.SINGULAR),
        (correlated(1.0), MatrixStatus.SINGULAR),
        (correlated(1 - NEGATIVE / 2), MatrixStatus.SINGULAR),
        (correlated(1 - 2 * NEGATIVE), MatrixStatus.INDEFINITE),
        (np.diag([0.0, 1.0]), MatrixStatus.SINGULAR),
        (np.zeros((2, 2)), MatrixStatus.SINGULAR),
        (np.array([[0.0, 1e-3], [1e-3, 1.0]]), MatrixStatus.INDEFINITE),
        (np.diag([-1e-9, 1.0]), MatrixStatus.NEGATIVE),
        (np.array([[1.0, 0.5], [0.5 + 0.9e-8, 1.0]]), MatrixStatus.SOUND),
        (np.array([[1.0, 0.5], [0.5 + 1.1e-8, 1.0]]), MatrixStatus.ASYMMETRIC),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), MatrixStatus.MISSING),
        (np.array([[np.inf, 0.0], [0.0, 1.0]]), MatrixStatus.INFINITE),
    ],
)
def test_each_side_of_every_threshold(S, verdict, scale, others):
    assert verdict_on(among_many(S * scale, others)) is verdict


def test_what_is_not_observed_is_not_judged():
    S = np.array([[1.0, np.nan], [np.nan, -1.0]])[None]
    clean, (verdict,) = judged(S, np.array([[True, False]]))
    assert verdict == MatrixStatus.SOUND
    np.testing.assert_array_equal(clean[0], np.diag([1.0, 0.0]))


def test_null_vectors_span_what_has_no_error():
    S = np.array([[4.0, 2.0, 0.5], [2.0, 1.0, 0.25], [0.5, 0.25, 1.0]])
    null = null_vectors(S, np.ones(3, bool))
    assert null.shape == (3, 1)
    np.testing.assert_allclose(S @ null, 0, atol=1e-15)
    assert null_vectors(S, np.array([True, False, True])).shape == (3, 0)
