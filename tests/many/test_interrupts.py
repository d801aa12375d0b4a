"""Ctrl-C in what draws and refits: what is finished is kept, and nothing more is begun."""

import signal
import threading

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.estimation import batch
from mixmeta_jax.estimation.interrupts import heed, listening
from mixmeta_jax.many import bootstrap_ratio, boundary, refits
from mixmeta_jax.status import Status

N = 40


@pytest.fixture(autouse=True)
def _default_handler():
    """Python's own: a process that was begun in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def fits():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"y": rng.normal(size=12), "x": rng.normal(size=12), "v": 0.2})
    larger = mx.mixmeta("y ~ x", S="v", data=data, method="ml")
    return larger.update("~ 1"), larger


def lost():
    """Ctrl-C that arrives where Python prints what is raised and goes on."""
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def pressed(monkeypatch):
    """Ctrl-C, lost, when the first of several data sets have ended; how many each batch has."""
    conclude, calls, sizes = batch._Run._conclude, [], []
    whole = batch.fit_batch

    def concluded(self, *args):
        jobs = conclude(self, *args)
        if sizes[-1] > 1 and not calls:
            calls.append(1)
            lost()
        return jobs

    def counted(design, members, *args):
        sizes.append(len(members))
        return whole(design, members, args[0], args[1], 2, *args[3:])  # in small chunks

    monkeypatch.setattr(batch._Run, "_conclude", concluded)
    monkeypatch.setattr("mixmeta_jax.many.many_fits.fit_batch", counted)
    return sizes


def test_what_was_lost_is_heard_once():
    before = signal.getsignal(signal.SIGINT)
    with listening():
        heed()
        lost()
        with pytest.raises(KeyboardInterrupt):
            heed()
        heed()
        lost()
    heed()  # no business of what comes later
    assert signal.getsignal(signal.SIGINT) is before


def test_the_handlers_of_others_stay():
    def own(number, frame):
        pass

    before = signal.signal(signal.SIGINT, own)
    try:
        with listening():
            assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
    found = []
    thread = threading.Thread(target=lambda: found.append(_inside()))
    thread.start()
    thread.join()
    assert found == [before]


def _inside():
    with listening():
        return signal.getsignal(signal.SIGINT)


def test_fits_that_are_done_are_kept(fits, pressed):
    with pytest.warns(UserWarning, match=r"interrupted: \d+ of 40 data sets"):
        found = mx.bootstrap(fits[1], n=N, progress=False)
    left = found.status == Status.INTERRUPTED
    assert 0 < left.sum() < N
    assert np.isfinite(found.coef[~left]).all() and np.isnan(found.coef[left]).all()


def test_permutations_that_are_done_are_kept(fits, pressed):
    with pytest.warns(UserWarning, match="interrupted"):
        test = mx.permutation_test(fits[1], "x", n=N, progress=False)
    assert 0 < test.n_permutations < N
    assert test.n_permutations == np.isfinite(test.statistics).sum()
    as_large = np.abs(test.statistics) >= abs(test.statistic)
    assert test.pvalue == (as_large.sum() + 1) / (test.n_permutations + 1)


def interrupted(*args, **options):
    raise KeyboardInterrupt


def test_a_permutation_test_without_a_permutation_has_no_p_value(fits, monkeypatch):
    monkeypatch.setattr("numpy.random.default_rng", interrupted)
    with pytest.warns(UserWarning, match="40 of 40 data sets"):
        test = mx.permutation_test(fits[1], "x", n=N, progress=False)
    assert test.n_permutations == 0 and np.isnan(test.pvalue)


def test_a_ratio_ends_with_its_first_half(fits, pressed):
    with pytest.warns(UserWarning, match="interrupted"):
        test = mx.lr_test(*fits, n=N, progress=False)
    assert pressed == [N]  # the larger model was not begun
    assert test.pvalue == mx.lr_test(*fits).pvalue
    assert test.bootstrap.n == 0 and np.isnan(test.bootstrap.pvalue)


def test_a_ratio_that_is_interrupted_while_it_draws(fits, monkeypatch):
    monkeypatch.setattr(bootstrap_ratio, "simulate_fitted", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        test = mx.lr_test(*fits, n=N, progress=False)
    assert test.bootstrap.n == 0 and np.isnan(test.bootstrap.pvalue)


def test_no_parameter_is_begun_after_the_one_that_was_interrupted(monkeypatch):
    school = mx.load_dataset("school")
    fit = mx.mixmeta("effect", S="var", data=school, random="~ 1 | district/study")
    found = fit.bootstrap_inference(n=N, progress=False)
    begun = []

    def first(*args):
        begun.append(args)
        return np.full(N, np.nan), False

    monkeypatch.setattr(boundary, "ratio_draws", first)
    table = found.boundary()
    assert len(begun) == 1
    words = table["reference"].tolist()
    assert words[0].startswith("bootstrap, 0 draws")
    assert words[1:] and all(own == "bootstrap, interrupted before" for own in words[1:])
    assert table["pvalue"].isna().all()


def test_shares_that_are_interrupted_have_no_interval(fits, pressed):
    with pytest.warns(UserWarning, match="interrupted"):
        table = fits[1].r2(fits[0], ci="bootstrap", n=N)
    assert pressed == [N]
    assert table[["se", "lower", "upper"]].isna().all(axis=None)


def test_wild_draws_that_were_cut_short_are_drawn_again(fits, pressed):
    found = fits[1].bootstrap_inference(n=N, kind="wild")
    with pytest.warns(UserWarning, match="interrupted"):
        first = found.wald_test("x")
    again = found.wald_test("x")
    assert 0 < first["n"] < again["n"] == N
    assert found.wald_test("x")["n"] == N and pressed.count(N) == 2


def test_parts_after_the_interrupted_one_are_not_begun(fits, pressed, monkeypatch):
    monkeypatch.setattr(refits, "REFIT_NUMBERS", 6 * 12)
    with pytest.warns(UserWarning, match="interrupted"):
        table = mx.leave_one_out(fits[1], progress=False)
    assert pressed == [6]
    left = table["status"] == "INTERRUPTED"
    assert 6 < left.sum() < 12 and left[6:].all()


def test_permutations_that_no_memory_holds_are_told(fits):
    with pytest.raises(mx.InputError, match="n=300"):
        mx.permutation_test(fits[1], "x", n=300_000_000)
