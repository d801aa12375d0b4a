"""One thread for the products of NumPy inside a fit, as many as before after it."""

import threading

import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.estimation import blas
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.estimation.executors import AtOnce


@pytest.fixture
def threads(monkeypatch):
    """Stand-ins for the functions of a BLAS of seven threads: a list whose last entry counts."""
    told = [7]
    monkeypatch.setattr(blas, "_functions", lambda: ((lambda: told[-1], told.append),))
    return told


def test_inside_and_after(threads):
    with one_thread():
        assert threads[-1] == 1
        with one_thread():
            assert threads[-1] == 1
        assert threads[-1] == 1, "the last one to leave counts"
    assert threads == [7, 1, 7]


def test_after_an_interrupt(threads):
    with pytest.raises(KeyboardInterrupt), one_thread():
        raise KeyboardInterrupt
    assert threads[-1] == 7


def test_side_by_side(threads):
    both = threading.Barrier(2, timeout=60)

    def work():
        with one_thread():
            both.wait()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert threads == [7, 1, 7]


def test_where_there_is_no_openblas(monkeypatch):
    monkeypatch.setattr(blas, "_functions", tuple)
    with one_thread():
        np.testing.assert_array_equal(np.eye(2) @ np.eye(2), np.eye(2))


def test_a_fit_leaves_the_threads_as_they_were(threads, monkeypatch):
    bcg = mx.load_dataset("bcg")
    fit = mx.mixmeta("logor", S="logorvar", data=bcg, control={"backend": "numpy"})
    assert fit.converged
    assert 1 in threads and threads[-1] == 7
    count = len(threads)

    def struck(*args, **kwargs):
        with one_thread():
            raise KeyboardInterrupt

    monkeypatch.setattr(AtOnce, "ascend", struck)
    with pytest.raises(KeyboardInterrupt):
        fit.update(control={"backend": "numpy"})
    assert len(threads) > count and threads[-1] == 7
