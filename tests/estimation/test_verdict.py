"""The verdict on a stop, a case on each side of every threshold."""

import numpy as np
import pytest

from mixmeta_jax.covariance.structures import Diagonal, Unstructured
from mixmeta_jax.estimation.verdict import judge
from mixmeta_jax.status import Status

TOLERANCE = 1e-6

# Written out: sides of the constants themselves would move with them.
ASCENT, FLAT, FLOOR, MOVES = 1e-5, 1e-7, 1e-6, 1e-4


def judged(information, preconditioner=None, norm=0.0, value=-3.0, variances=(1.0, 1.0), slope=1.0):
    """Of a diagonal Ψ of two variances, one stop per entry along the last axis."""
    information = np.asarray(information, float)
    B = information.shape[2]
    preconditioner = (
        np.eye(2)[:, :, None] + 0 * information if preconditioner is None else preconditioner
    )
    Psi = np.diag(variances)[:, :, None] + np.zeros((1, 1, B))
    theta = np.sqrt(np.broadcast_to(np.array(variances)[:, None], (2, B)))
    slopes = slope * Diagonal().slopes(theta, 2)
    ones = np.ones((2, B))
    full = np.broadcast_to
    return judge(
        (Diagonal(),),
        full(np.asarray(value, float), (B,)),
        full(np.asarray(norm, float), (B,)),
        information,
        preconditioner,
        (Psi,),
        (slopes,),
        (ones,),
        ones,
        TOLERANCE,
    )


def diagonal(*last):
    """Information of one on the first parameter, and each of these on the second."""
    entries = np.zeros((2, 2, len(last)))
    entries[0, 0], entries[1, 1] = 1.0, last
    return entries


def status(verdict):
    return [Status(int(code)) for code in verdict.status]


def test_a_way_up_is_a_negative_curvature_of_the_scaled_information():
    found = judged(diagonal(-0.9 * ASCENT, -1.1 * ASCENT, 1.0))
    assert found.rising.tolist() == [False, True, False]
    # Along the second parameter, one natural unit of it.
    np.testing.assert_allclose(np.abs(found.ascent[:, 1]), [0.0, 1.0], atol=1e-12)


def test_the_way_up_is_relative_to_the_size_of_the_information():
    size = 50.0
    preconditioner = np.eye(2)[:, :, None] * size + np.zeros((1, 1, 2))
    found = judged(size * diagonal(-0.9 * ASCENT, -1.1 * ASCENT), preconditioner)
    assert found.rising.tolist() == [False, True]


def test_a_size_of_none_does_not_magnify_rounding():
    """Information of next to nothing on a parameter: its curvature is in units of `FLOOR`."""
    preconditioner = diagonal(0.0, 0.0)
    found = judged(diagonal(-0.9 * ASCENT * FLOOR, -1.1 * ASCENT * FLOOR), preconditioner)
    assert found.rising.tolist() == [False, True]


def test_what_is_flat_is_not_identified():
    found = judged(diagonal(0.9 * FLAT, 1.1 * FLAT))
    assert status(found) == [Status.NOT_IDENTIFIED, Status.CONVERGED]


@pytest.mark.parametrize(("slope", "moved"), [(0.49, False), (0.51, True)])
def test_what_is_flat_counts_where_the_matrix_moves(slope, moved):
    """∂Ψ/∂θ = 2θ = 2 along the second parameter, times the slope."""
    found = judged(diagonal(0.0), slope=slope * MOVES)
    assert status(found) == [Status.NOT_IDENTIFIED if moved else Status.CONVERGED]


def test_a_gradient_at_the_tolerance():
    found = judged(diagonal(1.0, 1.0), norm=[TOLERANCE, 1.01 * TOLERANCE])
    assert status(found) == [Status.CONVERGED, Status.MAX_ITER]
    # Where the gradient has not vanished a curvature says nothing.
    found = judged(diagonal(-1.0, -1.0), norm=[TOLERANCE, 1.01 * TOLERANCE])
    assert found.rising.tolist() == [True, False]


def test_numbers_that_are_none():
    value = [np.nan, -np.inf, -3.0]
    information = diagonal(1.0, 1.0, np.nan)
    assert status(judged(information, value=value)) == [Status.NOT_FINITE] * 3
    assert not judged(information, value=value).rising.any()


def test_a_null_variance_is_a_bound():
    assert status(judged(diagonal(1.0), variances=(1.0, 0.0))) == [Status.BOUNDARY]


def test_a_stop_is_judged_by_its_own_numbers():
    """Several stops at once, each as if alone, with correlated parameters."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3, 4))
    information = np.einsum("ikb,jkb->ijb", root, root) - 0.5 * np.eye(3)[:, :, None]
    theta = rng.normal(size=(3, 4))
    structure = Unstructured()
    Psi, slopes = structure.psi(theta, 2), structure.slopes(theta, 2)
    preconditioner = np.einsum("ikb,jkb->ijb", root, root)
    scales, units = rng.uniform(0.5, 2, (2, 4)), rng.uniform(0.5, 2, (3, 4))

    def of(members):
        own = lambda a: a[..., members]  # noqa: E731
        value, norm = np.zeros(len(members)), np.zeros(len(members))
        return judge(
            (structure,),
            value,
            norm,
            own(information),
            own(preconditioner),
            (own(Psi),),
            (own(slopes),),
            (own(scales),),
            own(units),
            TOLERANCE,
        )

    together = of([0, 1, 2, 3])
    for b in range(4):
        alone = of([b])
        assert together.status[b] == alone.status[0]
        assert together.rising[b] == alone.rising[0]
        up, own = together.ascent[:, b], alone.ascent[:, 0]
        np.testing.assert_allclose(up * np.sign(up[0]), own * np.sign(own[0]), rtol=1e-10)
    assert together.rising.any()
