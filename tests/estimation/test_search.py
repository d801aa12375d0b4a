"""The search apart from what it climbs: which ends it keeps, follows, and gives up."""

from dataclasses import replace

import numpy as np
import pytest

from mixmeta_jax.estimation.ascent import Ends
from mixmeta_jax.estimation.newton import ARRIVED, departure
from mixmeta_jax.estimation.search import (
    ESCAPES,
    RESTART_ITER,
    best_path,
    clearly_above,
    search,
)
from mixmeta_jax.estimation.verdict import Verdict
from mixmeta_jax.status import Status

HEIGHT = -400.0
"""Of the first end; rounding and what is more than it are relative to 1 + its size."""

UNIT = 1 + abs(HEIGHT)

# Written out: sides of the constants themselves would move with them.
ROUNDING, CLEARLY = 1e-10, 1e-9


def ends_of(theta, values, rising=False, norm=1e-9):
    B = theta.shape[1]
    path = departure(theta, 1, True)
    path = replace(path, norm=np.full(B, norm), n_iter=np.ones(B, int), phase=np.full(B, ARRIVED))
    status = np.full(B, int(Status.CONVERGED))
    verdict = Verdict(status, np.full(B, rising), np.ones((1, B)))
    Psi = (theta[None] ** 2,)
    values = np.broadcast_to(np.asarray(values, float), (B,))
    return Ends(path, values, Psi, np.zeros((1, B)), np.ones((1, 1, B)), verdict, None)


def searched(script, further=None, paths=2):
    """Follow a script: the heights, and whether it is a saddle, of one climb after the other."""
    climbs = []

    def climb(theta, max_iter, known):
        climbs.append((theta, int(max_iter)))
        values, rising = script[min(len(climbs), len(script)) - 1]
        return ends_of(theta, values, rising)

    worth = lambda status, Psi: np.ones(1, bool)  # noqa: E731
    starts = np.arange(1.0, 1 + paths)[None]
    with np.errstate(all="ignore"):
        more = None if further is None else lambda: further
        found = search(climb, starts, more, worth, 100, 1e-6, (1,), 1)
    return found, climbs


def test_the_highest_end_is_kept():
    found, climbs = searched([([HEIGHT, HEIGHT + 1], False)])
    assert len(climbs) == 1
    assert found.theta.tolist() == [[2.0]] and found.loglik.tolist() == [HEIGHT + 1]


@pytest.mark.parametrize(("part", "left"), [(0.9, False), (1.1, True)])
def test_a_saddle_is_left_as_long_as_the_ends_are_clearly_higher(part, left):
    rise = part * CLEARLY * UNIT
    script = [(HEIGHT, True), (HEIGHT + rise, True), (HEIGHT + 1, False)]
    found, climbs = searched(script)
    assert len(climbs) == (3 if left else 2)
    assert found.loglik[0] == (HEIGHT + 1 if left else HEIGHT)
    # On both sides of it, along the direction of ascent.
    np.testing.assert_allclose(climbs[1][0], 1.0 + np.array([[0.1, -0.1]]))


def test_a_saddle_that_is_never_left_is_given_up():
    script = [(HEIGHT + i, True) for i in range(10)]
    found, climbs = searched(script)
    assert len(climbs) == ESCAPES + 1
    assert found.status == Status.MAX_ITER


@pytest.mark.parametrize(("part", "followed"), [(0.9, False), (1.1, True)])
def test_a_restart_is_followed_where_it_is_clearly_higher(part, followed):
    rise = part * CLEARLY * UNIT
    further = np.arange(4.0).reshape(2, 1, 2) + 10
    script = [(HEIGHT, False), (HEIGHT - 5, False), (HEIGHT + rise, False)]
    found, climbs = searched(script, further)
    assert len(climbs) == (4 if followed else 3)
    assert [most for _, most in climbs[:3]] == [100, RESTART_ITER, RESTART_ITER]
    for i in range(2):
        np.testing.assert_array_equal(climbs[1 + i][0], further[i])
    if followed:
        np.testing.assert_array_equal(climbs[3][0], [[12.0, 12.0]])  # from the best of them
        assert climbs[3][1] == 100
    assert found.loglik[0] == (HEIGHT + rise if followed else HEIGHT)


@pytest.mark.parametrize(("norm", "is_known"), [(1e-9, True), (1e-5, False)])
def test_what_restarts_need_not_find(norm, is_known):
    """The end of the climb, where its gradient counts as zero: it is a maximum then."""
    known = []

    def climb(theta, max_iter, maximum):
        known.append(maximum[0].ravel())
        return ends_of(theta, HEIGHT - len(known), norm=norm)

    worth = lambda status, Psi: np.ones(1, bool)  # noqa: E731
    further = lambda: np.full((1, 1, 2), 7.0)  # noqa: E731
    with np.errstate(all="ignore"):
        search(climb, np.full((1, 2), 3.0), further, worth, 100, 1e-6, (1,), 1)
    assert np.isnan(known[0])
    np.testing.assert_array_equal(known[1], [3.0**2 if is_known else np.nan])


@pytest.mark.parametrize("margin", [ROUNDING, CLEARLY])
def test_ends_are_level_up_to_rounding(margin):
    """On each side of the margin the flatter end is as high, or it is lower."""
    for part, chosen in ((0.9, 1), (1.1, 0)):
        values = np.array([HEIGHT, HEIGHT - part * margin * UNIT])
        assert best_path(values, np.array([1e-7, 1e-9]), margin) == [chosen]


@pytest.mark.parametrize(("part", "chosen"), [(0.9, 2.0), (1.1, 1.0)])
def test_of_equally_high_ends_the_flatter_one_is_kept(part, chosen):
    def climb(theta, max_iter, known):
        heights = [HEIGHT, HEIGHT - part * ROUNDING * UNIT]
        return ends_of(theta, heights, norm=np.array([1e-7, 1e-9]))

    with np.errstate(all="ignore"):
        found = search(climb, np.array([[1.0, 2.0]]), None, None, 100, 1e-6, (1,), 1)
    assert found.theta.tolist() == [[chosen]]


def test_clearly_above():
    for value in (HEIGHT, 0.0, 7.0):
        assert value < clearly_above(value) <= value + 1.01e-9 * (1 + abs(value))
