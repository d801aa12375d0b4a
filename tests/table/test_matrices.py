"""Lower triangles, covariances from correlations, and all forms of ``rho``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixmeta_jax.errors import InputError
from mixmeta_jax.table.matrices import correlations, inputcov, triangle_size, vech, xpnd

NUMBERS = st.floats(-1e6, 1e6)
SIZES = st.integers(1, 6)


def test_vech_goes_down_the_columns():
    matrix = np.array([[11, 21, 31], [21, 22, 32], [31, 32, 33]])
    assert vech(matrix).tolist() == [11, 21, 31, 22, 32, 33]
    assert xpnd([11, 21, 31, 22, 32, 33]).tolist() == matrix.tolist()


@given(rows=SIZES.flatmap(lambda k: hnp.arrays(float, (3, 2, k * (k + 1) // 2), elements=NUMBERS)))
def test_xpnd_and_vech_are_inverse(rows):
    matrices = xpnd(rows)
    np.testing.assert_array_equal(matrices, np.swapaxes(matrices, -1, -2))
    np.testing.assert_array_equal(vech(matrices), rows)


@given(matrix=SIZES.flatmap(lambda k: hnp.arrays(float, (k, k), elements=NUMBERS)))
def test_vech_keeps_all_of_a_symmetric_matrix(matrix):
    symmetric = matrix + matrix.T
    np.testing.assert_array_equal(xpnd(vech(symmetric)), symmetric)


@given(k=st.integers(1, 300))
def test_triangle_sizes(k):
    length = k * (k + 1) // 2
    assert triangle_size(length) == k
    if k > 1:
        assert triangle_size(length + 1) == triangle_size(length - 1) == 0


@pytest.mark.parametrize("shape", [(2, 3), (3,), ()])
def test_vech_needs_square_matrices(shape):
    with pytest.raises(InputError, match="square"):
        vech(np.zeros(shape))


@pytest.mark.parametrize("shape", [(2,), (4, 5), (), (0,)])
def test_xpnd_needs_triangles(shape):
    with pytest.raises(InputError, match="xpnd needs"):
        xpnd(np.zeros(shape))


SD = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 1.0], [1.0, 1.0, 1.0], [3.0, 2.0, 1.0]])
PAIRS = [0.1, 0.2, 0.3]
MATRIX = [[1.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 1.0]]


def dense(correlation):
    return SD[:, :, None] * SD[:, None, :] * correlation


def test_no_correlation():
    np.testing.assert_array_equal(inputcov(SD), dense(np.eye(3)))


@pytest.mark.parametrize("rho", [0.4, [0.4], np.full(4, 0.4), np.full(3, 0.4)])
def test_one_correlation(rho):
    expected = np.full((3, 3), 0.4) + 0.6 * np.eye(3)
    np.testing.assert_allclose(inputcov(SD, rho), dense(expected), rtol=1e-15)


def test_one_correlation_per_study():
    rho = np.array([0.1, -0.2, 0.3, 0.0])
    expected = np.where(np.eye(3, dtype=bool), 1.0, rho[:, None, None])
    np.testing.assert_array_equal(inputcov(SD, rho), dense(expected))


@pytest.mark.parametrize("rho", [PAIRS, MATRIX])
def test_one_correlation_per_pair(rho):
    np.testing.assert_array_equal(inputcov(SD, rho), dense(np.array(MATRIX)))


def test_missing_standard_deviations_stay_missing():
    covariance = inputcov([[1.0, np.nan]], 0.5)
    assert covariance[0, 0, 0] == 1
    assert np.isnan(covariance[0, 1]).all()


@pytest.mark.parametrize(
    ("rho", "message"),
    [
        ([0.1, 0.2], "one value per row"),
        (1.01, "between -1 and 1"),
        ([0.1, 1.2, 0.1], "between -1 and 1"),
        (np.eye(2), "3 outcomes"),
        (np.ones((3, 3)) - 0.5, "ones on its diagonal"),
        (np.zeros((2, 3, 3)), "shape"),
        ("high", "numbers"),
        ([[0.1], [0.1, 0.2]], "numbers"),
    ],
)
def test_correlations_that_cannot_be_read(rho, message):
    with pytest.raises(InputError, match=message):
        correlations(rho, 4, 3)


def test_standard_deviations_have_one_axis_or_two():
    np.testing.assert_array_equal(inputcov([1.0, 2.0]), np.diag([1.0, 4.0]))
    with pytest.raises(InputError, match="shape"):
        inputcov(np.ones((2, 2, 2)))


def test_as_many_correlations_as_rows_and_pairs():
    with pytest.raises(InputError, match="number of rows as well as of pairs"):
        correlations(PAIRS, 3, 3)


def test_a_missing_correlation_of_one_study():
    covariance = inputcov(SD, [0.1, np.nan, 0.3, 0.0])
    assert np.isnan(covariance[1, 0, 1])
    assert np.isfinite(covariance[[0, 2, 3]]).all()
    np.testing.assert_array_equal(np.diagonal(covariance, axis1=1, axis2=2), SD**2)


def test_negative_standard_deviation():
    with pytest.raises(InputError, match="row 1, column 0"):
        inputcov([[1.0, 2.0], [-1.0, 1.0]])
