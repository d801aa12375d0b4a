"""Matrices that a user gives, for a structure, as a start or to draw from: one rule for all."""

import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.estimation.estimator import given_start

SCALES = [1e-9, 1.0, 1e9]


def as_structure(matrix):
    mx.Proportional(matrix)


def as_start(matrix):
    design = mx.make_design(np.zeros((5, 2)), S=np.tile(np.eye(2), (5, 1, 1)))
    given_start(design, matrix, ["unit"])


def to_draw_from(matrix):
    mx.mixmeta_sim(np.zeros((3, 2)), np.tile(np.eye(2), (3, 1, 1)), matrix)


@pytest.mark.parametrize("use", [as_structure, as_start, to_draw_from])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("matrix", "refused"),
    [
        ([[1.0, 0.5], [0.5 + 0.9e-8, 1.0]], False),
        ([[1.0, 0.5], [0.5 + 1.1e-8, 1.0]], True),
        ([[1.0, 1 + 0.9e-10], [1 + 0.9e-10, 1.0]], False),
        ([[1.0, 1 + 1.1e-10], [1 + 1.1e-10, 1.0]], True),
    ],
)
def test_each_side_of_symmetric_and_of_semidefinite(use, scale, matrix, refused):
    matrix = scale * np.array(matrix)
    if refused:
        with pytest.raises(mx.InputError, match=r"symmetric|positive semidefinite"):
            use(matrix)
    else:
        use(matrix)
