"""Error matrices at the ends of double precision: a sentence, not an overflow."""

import numpy as np
import pytest

from mixmeta_jax.data.positive_definite import checked_matrices
from mixmeta_jax.errors import InputError


def checked(S):
    seen = np.ones((1, len(S)), bool)
    return checked_matrices(np.array([S]), seen, lambda b: f"row {b}", lambda b, i: f"y{i}")


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
def test_covariances_beyond_all_variances(S):
    with pytest.raises(InputError, match="not positive definite in row 0: its smallest"):
        checked(S)


def test_variances_of_any_size_are_kept():
    S = np.array([[1e-300, 0.3], [0.3, 1e300]])
    np.testing.assert_array_equal(checked(S)[0], S)
