"""Arrays as the way in: one reader for `fit_many`, `make_design` and `mixmeta_sim`."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from mixmeta_jax.table.array_frame import array_frame

B, N, K = 5, 4, 2
Y = np.random.default_rng(0).normal(size=(B, N, K))
V = np.random.default_rng(1).uniform(0.1, 0.3, (B, N, K))
FULL = V[..., None] * np.eye(K)


def full(S, rho=None, many=True):
    y = Y if many else Y[0]
    return array_frame(y, S, rho=rho, many=many).within.unit


@pytest.mark.parametrize("S", [V, mx.vech(FULL), FULL, V.tolist()])
def test_errors_of_each_data_set_in_every_form(S):
    np.testing.assert_array_equal(full(S), FULL)


@pytest.mark.parametrize("S", [V[0], mx.vech(FULL[0]), FULL[0], pd.DataFrame(V[0]), list(FULL[0])])
def test_shared_errors_are_those_of_a_single_data_set(S):
    np.testing.assert_array_equal(full(S), FULL[0])
    np.testing.assert_array_equal(full(S, many=False), FULL[0])


@pytest.mark.parametrize("rho", [0.5, [0.1, 0.2, 0.3, 0.4], [[1, 0.5], [0.5, 1]]])
def test_correlations_complete_the_variances_of_each_data_set(rho):
    each = [full(V[b], rho, many=False) for b in range(B)]
    np.testing.assert_array_equal(full(V, rho), each)


def test_one_outcome_of_each_data_set():
    frame = array_frame(Y[..., 0], V[..., 0], offset=Y[..., 1], many=True)
    assert frame.y.shape == (B, N, 1) and frame.offset.shape == (B, N, 1)
    np.testing.assert_array_equal(frame.within.unit[..., 0, 0], V[..., 0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"S": FULL, "rho": 0.5}, "S holds covariances already"),
        ({"S": V[:3]}, "must be shared"),
        ({"S": V[:, :3]}, "must be shared"),
        ({"offset": Y[:3]}, r"offset has the shape \(3, 4, 2\): per data set"),
        ({"offset": np.where(Y[2, 1, 0] == Y, np.inf, 0.0)}, "infinite in row 1"),
        ({"offset": np.where(Y[2, 1, 0] == Y, np.nan, 0.0)}, "missing in data set 2, row 1"),
        ({"y": "text"}, "y must be made of numbers, not 'text'"),
        ({"y": Y[None]}, r"must be \(B, n\) or \(B, n, k\)"),
        ({"data": {"x": [1.0, 2.0]}}, r"data has 2 rows, but y has 4 in each of its 5 data sets"),
        ({"X": "y ~ 1"}, "must be a right-hand side"),
        ({"X": "~ x", "data": {"x": [1.0, 2.0, np.nan, 3.0]}}, "missing in row 2"),
    ],
)
def test_what_does_not_fit_many_data_sets(changes, words):
    with pytest.raises(InputError, match=words):
        array_frame(**{"y": Y, "S": V, "many": True, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y": np.array([0.1, np.inf, 0.2, 0.3])}, "'y' is infinite in row 1"),
        ({"y": np.full(4, np.nan)}, "every outcome is missing"),
        ({"X": np.array([[1.0], [np.nan], [1.0], [1.0]])}, "X is nan in row 1, column '0'"),
        ({"X": np.ones((4, 2))}, "collinear"),
        ({"X": np.random.default_rng(0).normal(size=(4, 5))}, r"4 row\(s\), fewer than its 5"),
        ({"offset": [0, 0, np.nan, 0]}, "offset is missing in row 2"),
    ],
)
def test_a_design_of_numbers_is_judged_as_by_mixmeta(changes, words):
    with pytest.raises(InputError, match=words):
        mx.make_design(**{"y": Y[0, :, 0], "S": V[0, :, 0], **changes})
