"""Many fits in one call are the single fits, whatever stands beside them."""

import functools
import io
import itertools
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.estimation import batch, rounds
from mixmeta_jax.estimation.executors import AtOnce, Compiled
from mixmeta_jax.estimation.programs import PROGRAMS
from mixmeta_jax.many import many_fits
from mixmeta_jax.many.many_fits import DEFAULT_RETURNS, RETURNS
from mixmeta_jax.status import Status

SAME = 1e-10
"""Relative: both go on until the gradient is rounding."""

GROUPS = pd.DataFrame({"g": np.repeat(np.arange(8), 3), "u": np.arange(24)})
GROUPS["x"] = np.sin(np.arange(24.0))
GROUPS["late"] = GROUPS.g // 4


def outcomes(B, n, k=1, seed=0, missing=0.0, groups=None):
    rng = np.random.default_rng(seed)
    effects = rng.normal(size=(B, n, k))
    if groups is not None:
        effects = effects * 0.7 + rng.normal(size=(B, groups.max() + 1, k))[:, groups]
    y = 0.5 + effects + rng.normal(size=(B, n, k)) * 0.6
    gone = rng.random(y.shape) < missing
    gone[..., 0] &= k > 1
    return np.where(gone, np.nan, y)


def errors(n, k, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, k, k))
    return 0.1 * root @ root.transpose(0, 2, 1) + 0.2 * np.eye(k)


def agree(fits, b, fit):
    """Both ended alike, at the same numbers."""
    assert Status(int(fits.status[b])) is fit.status
    assert np.allclose(fits.coef[b], fit.coef, rtol=SAME, atol=SAME)
    assert np.allclose(fits.vcov[b], fit.vcov, rtol=1e-8, atol=SAME)
    if np.isfinite(fit.loglik):
        assert np.isclose(fits.loglik[b], fit.loglik, rtol=1e-12, atol=SAME)
    Psi = fits.Psi.values() if isinstance(fits.Psi, dict) else [fits.Psi]
    for many, one in zip(Psi, fit.Psi_by_level, strict=True):
        assert np.allclose(many[b], one, rtol=1e-8, atol=1e-9)


CLASSES = {
    "univariate": {"k": 1, "n": 12},
    "univariate, ML, regression": {
        "k": 1,
        "n": 24,
        "formula": "~ x",
        "data": GROUPS,
        "method": "ml",
    },
    "two outcomes, some missing": {"k": 2, "n": 14, "missing": 0.2},
    "diagonal": {"k": 2, "n": 14, "bscov": "diag"},
    "two levels": {"k": 1, "n": 24, "random": "~ 1 | g/u", "data": GROUPS},
    "two levels, cs": {"k": 2, "n": 24, "random": "~ 1 | g/u", "data": GROUPS, "bscov": "cs"},
    "random slope": {"k": 1, "n": 24, "random": "~ x | g", "data": GROUPS},
    "two levels, some missing, ML": {
        "k": 2,
        "n": 24,
        "missing": 0.2,
        "random": "~ 1 | g/u",
        "data": GROUPS,
        "bscov": "cs",
        "method": "ml",
    },
    "three levels": {"k": 1, "n": 24, "random": "~ 1 | late/g/u", "data": GROUPS},
    "random slope, diagonal": {
        "k": 2,
        "n": 24,
        "random": "~ x | g",
        "data": GROUPS,
        "bscov": "diag",
    },
}
B = 9
PREDICTED = ("two outcomes, some missing", "two levels, some missing, ML")


def both(k, n, missing=0.0, per_set=False, **model):
    y = outcomes(B, n, k, missing=missing, groups=model.get("data", GROUPS).g.to_numpy()[:n])
    S = np.stack([errors(n, k, seed=b) for b in range(B)]) if per_set else errors(n, k)
    fits = mx.fit_many(y, S, **model)
    one = {name: value for name, value in model.items() if name not in ("formula", "returns")}
    singles = []
    for b in range(B):
        own = S[b] if per_set else S
        table = pd.DataFrame(y[b], columns=[f"y{o}" for o in range(k)])
        table = pd.concat([table, model.get("data", GROUPS).iloc[:n]], axis=1)
        formula = " + ".join(table.columns[:k]) + model.get("formula", "~ 1")
        singles.append(mx.mixmeta(formula, own, **{**one, "data": table}))
    return fits, singles


@functools.cache
def fitted(name):
    """The fits of a class, which several tests look at."""
    more = ("blup", "Q", "I2") if name in PREDICTED else ()
    return both(**CLASSES[name], returns=(*DEFAULT_RETURNS, *more))


@pytest.mark.parametrize("name", CLASSES)
def test_a_batch_is_a_loop(name):
    fits, singles = fitted(name)
    for b, fit in enumerate(singles):
        agree(fits, b, fit)


@pytest.mark.parametrize("name", PREDICTED)
def test_predictions_and_heterogeneity(name):
    fits, singles = fitted(name)
    for b in range(2):
        follows(fits, b, singles[b])


def follows(fits, b, fit):
    rows = fit.frame.index.to_numpy()
    blup = fit.blup(level=None).to_numpy().reshape(len(rows), -1)
    assert np.allclose(fits.blup[b, rows], blup, rtol=1e-8, atol=1e-8)
    overall = fit.qtest().loc["overall"]
    assert np.isclose(fits.Q[b], overall.Q, rtol=1e-12, atol=0)
    assert np.isclose(fits.I2[b], overall.I2, rtol=SAME, atol=SAME)


def test_predictions_hold_the_offset_and_need_no_levels():
    y = outcomes(3, 12)
    fits = mx.fit_many(y, np.full(12, 0.3), offset=np.arange(12.0), returns=("coef", "blup"))
    shifted = mx.fit_many(y - np.arange(12.0)[:, None], np.full(12, 0.3), returns="blup")
    assert np.allclose(fits.blup, shifted.blup + np.arange(12.0)[:, None])
    fixed = mx.fit_many(y, np.full(12, 0.3), method="fixed", returns=("coef", "blup"))
    assert np.allclose(fixed.blup, fixed.coef[:, None])
    moments = mx.fit_many(y, np.full(12, 0.3), method="dl", returns="blup")
    single = mx.mixmeta(y[1], np.full(12, 0.3), method="dl")
    assert np.allclose(moments.blup[1, :, 0], single.blup().to_numpy().ravel())


def test_what_is_not_asked_for_is_never_made(monkeypatch):
    made = []
    monkeypatch.setattr(
        batch.ManyEstimates, "empty", classmethod(recorded(batch.ManyEstimates.empty, made))
    )
    fits = mx.fit_many(outcomes(3, 12), np.full(12, 0.3), returns=("coef", "se"))
    assert made[0].vcov is None and made[0].Psi is None and made[0].theta is None
    assert np.isfinite(fits.se).all()


def recorded(empty, made):
    def wrapper(cls, many, wanted):
        made.append(empty(many, wanted))
        return made[-1]

    return wrapper


def test_what_is_not_identified_says_so():
    # The second outcome is seen twice, the correlation hardly: some likelihoods are flat in it.
    y = outcomes(40, 12, 2, seed=5)
    y[:, 2:, 1] = np.nan
    y[:20, :2, 0] = np.nan
    fits = mx.fit_many(y, np.full((12, 2), 0.2))
    for b in range(20, 26):
        single = mx.mixmeta(y[b], np.full((12, 2), 0.2))
        assert Status(int(fits.status[b])) is single.status
        assert np.isclose(fits.loglik[b], single.loglik, atol=1e-8)
    # The first twenty never see both outcomes.
    assert (fits.status[:20] == Status.NOT_IDENTIFIED).all()
    with pytest.raises(mx.InputError, match="the covariance of 'y1' and 'y2'"):
        mx.mixmeta(y[0], np.full((12, 2), 0.2))


STRUCTURES = {
    **{name: {"bscov": name} for name in ("id", "cs", "hcs", "ar1", "har1", "htoep")},
    "car1": {"bscov": mx.ContinuousAR1(times=[0.0, 1.5])},
    "hcar1": {"bscov": mx.HeterogeneousContinuousAR1(times=[0.0, 1.5])},
    "prop": {"bscov": "prop", "Psi_fix": np.array([[1.0, 0.3], [0.3, 2.0]])},
    "cor": {"bscov": "cor", "Psi_fix": np.array([[1.0, 0.4], [0.4, 1.0]])},
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(name):
    y, S = outcomes(4, 14, 2), errors(14, 2)
    fits = mx.fit_many(y, S, **STRUCTURES[name])
    for b in range(2):
        agree(fits, b, mx.mixmeta(y[b], S, **STRUCTURES[name]))


def test_the_higher_of_two_maxima_where_one_has_no_variance():
    """Ten of a million simulated cohorts, rounded: a maximum inside, and a higher one at zero."""
    y = np.array([0.43, 0.39, -0.14, 0.4, 0.41, 0.68, -0.74, 1.12, 0.68, -0.09])
    v = np.array([0.082, 0.027, 0.286, 0.032, 0.216, 0.124, 0.151, 0.169, 0.234, 0.299])

    def reml(tau2):
        w = 1 / (v + tau2)
        r = y - w @ y / w.sum()
        return -0.5 * (np.log(v + tau2).sum() + np.log(w.sum()) + w @ r**2)

    grid = np.linspace(0, 1, 20_001)
    values = np.array([reml(tau2) for tau2 in grid])
    inside = 1 + np.flatnonzero((values[1:-1] > values[:-2]) & (values[1:-1] > values[2:]))
    assert len(inside) == 1 and values.argmax() == 0
    first = mx.fit_many(y[None], v, control={"n_starts": 1})
    assert first.Psi[0, 0, 0] == pytest.approx(grid[inside[0]], abs=1e-4)
    fits = mx.fit_many(y[None], v)
    assert fits.Psi[0, 0, 0] == pytest.approx(0, abs=1e-12)
    assert fits.status[0] == Status.BOUNDARY


def test_parts_of_a_study_join():
    y, S = outcomes(16, 12), np.full(12, 0.3)
    whole = mx.fit_many(y, S, batch_size=8)
    parts = [mx.fit_many(y[part], S, batch_size=8) for part in (slice(0, 5), slice(5, 16))]
    for name in ("coef", "vcov", "Psi", "loglik"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert np.allclose(joined, getattr(whole, name), rtol=SAME, atol=SAME)


def test_errors_of_each_data_set():
    fits, singles = both(k=2, n=14, missing=0.2, per_set=True)
    for b, fit in enumerate(singles):
        agree(fits, b, fit)


def test_fixed_effects():
    fits, singles = both(k=2, n=14, missing=0.2, method="fixed")
    assert fits.Psi is None
    for b, fit in enumerate(singles):
        assert np.allclose(fits.coef[b], fit.coef, rtol=SAME, atol=0)
        assert np.isclose(fits.loglik[b], fit.loglik, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", ["mm", "vc", "dl", "he", "hs", "sj", "pm", "eb"])
def test_moments(method):
    fits, singles = both(k=2 if method in ("mm", "vc") else 1, n=14, method=method)
    for b, fit in enumerate(singles):
        agree(fits, b, fit)


def test_blocks_of_S_that_span_rows():
    y = outcomes(5, 24, groups=GROUPS.g.to_numpy())
    rng = np.random.default_rng(3)
    S = {}
    for g in range(8):
        root = rng.normal(size=(3, 3))
        S[g] = 0.1 * root @ root.T + 0.2 * np.eye(3)
    fits = mx.fit_many(y, S, random="~ 1 | g/u", data=GROUPS)
    for b in range(5):
        table = GROUPS.assign(y=y[b, :, 0])
        agree(fits, b, mx.mixmeta("y", S, random="~ 1 | g/u", data=table))


def test_broken_data_sets_disturb_no_other():
    B, n = 100, 12
    rng = np.random.default_rng(1)
    y, S = outcomes(B, n)[:, :, 0], rng.uniform(0.1, 0.5, (B, n))
    clean = mx.fit_many(y, S)
    y[3, 4] = np.inf
    y[17] = np.nan
    y[30, 2:] = np.nan
    S[55, 0] = np.nan
    S[80, 1] = -1.0
    fits = mx.fit_many(y, S, returns=(*DEFAULT_RETURNS, "reason"))
    alone = mx.mixmeta(y[30], S[30]).status.name
    broken = [3, 17, 30, 55, 80]
    rest = np.setdiff1d(np.arange(B), broken)
    # Two outcomes identify one variance: this one is fitted, as by itself.
    names = [Status(int(s)).name for s in fits.status[broken]]
    assert names == ["NOT_FINITE", "NOT_FINITE", alone, "NOT_FINITE", "NOT_FINITE"]
    assert np.isnan(fits.coef[[3, 17, 55, 80]]).all()
    assert all(fits.reason[[3, 17, 55, 80]])
    unchanged(fits, clean, rest)


def unchanged(fits, clean, rest):
    """The data sets ``rest`` have the same numbers to the last bits, in every matrix."""
    for name in ("coef", "vcov", "loglik"):
        assert np.allclose(getattr(fits, name)[rest], getattr(clean, name)[rest], rtol=SAME, atol=0)
    levels = clean.level_names if isinstance(clean.Psi, dict) else [slice(None)]
    for level in levels:
        # A variance at zero is rounding, beside others.
        assert np.allclose(fits.Psi[level][rest], clean.Psi[level][rest], rtol=SAME, atol=1e-14)
    assert (fits.status[rest] == clean.status[rest]).all()


def test_broken_data_sets_of_two_levels_and_outcomes():
    B, n = 40, 24
    y = outcomes(B, n, 2, missing=0.1, groups=GROUPS.g.to_numpy())
    S = np.stack([errors(n, 2, seed=b) for b in range(B)])
    model = {"formula": "~ late", "random": "~ 1 | g/u", "data": GROUPS, "bscov": "cs"}
    y[15, 3] = y[22, 7] = 0.5  # both outcomes are observed
    clean = mx.fit_many(y, S, **model)
    assert clean.converged.all()
    y[4, :12, 1] = np.nan  # late rows alone: intercept and slope are one
    y[9, 5, 0] = -np.inf
    S[15, 3] = [[0.5, 0.6], [0.6, 0.5]]
    S[22, 7] = [[0.5, 0.1], [0.2, 0.5]]
    y[30, 1:] = np.nan
    broken = {
        4: ("NOT_IDENTIFIED", "collinear"),
        9: ("NOT_FINITE", "infinite"),
        15: ("NOT_FINITE", "not positive definite"),
        22: ("NOT_FINITE", "not symmetric"),
        30: ("NOT_IDENTIFIED", "fewer than its 2 coefficients"),
    }
    fits = mx.fit_many(y, S, returns=(*DEFAULT_RETURNS, "reason"), **model)
    for b, (status, words) in broken.items():
        assert Status(int(fits.status[b])).name == status
        assert words in fits.reason[b]
        assert np.isnan(fits.coef[b]).all()
    unchanged(fits, clean, np.setdiff1d(np.arange(B), list(broken)))


def test_all_may_be_broken():
    fits = mx.fit_many(np.full((3, 12), np.inf), np.full((3, 12), 0.3), returns=RETURNS)
    assert (fits.status == Status.NOT_FINITE).all() and all(fits.reason)
    assert np.isnan(fits.coef).all() and np.isnan(fits.blup).all() and np.isnan(fits.Q).all()


def test_offsets_of_each_data_set():
    y, S = outcomes(60, 12)[:, :, 0], np.full(12, 0.3)
    offset = np.random.default_rng(8).normal(size=y.shape)
    fits = mx.fit_many(y, S, offset=offset, batch_size=16)
    unchanged(fits, mx.fit_many(y - offset, S, batch_size=16), np.arange(60))
    agree(fits, 5, mx.mixmeta(y[5], S, offset=offset[5]))
    same = mx.fit_many(y, S, offset=jnp.asarray(offset[..., None]), batch_size=16)
    assert np.allclose(same.coef, fits.coef, rtol=1e-5)
    offset[3, 4] = np.nan
    with pytest.raises(mx.InputError, match="missing in data set 3, row 4"):
        mx.fit_many(y, S, offset=offset)
    with pytest.raises(mx.InputError, match="missing in row 4"):
        mx.fit_many(y, S, offset=offset[3])


def test_errors_as_arrays_of_jax():
    y, S = outcomes(60, 12)[:, :, 0], np.full((60, 12), 0.25)
    fits = mx.fit_many(y, jnp.asarray(S), batch_size=16)
    unchanged(fits, mx.fit_many(y, S, batch_size=16), np.arange(60))
    unchanged(mx.fit_many(y, jnp.asarray(S[0]), batch_size=16), fits, np.arange(60))


def test_chunks_and_compaction_change_nothing(monkeypatch):
    y, S = outcomes(60, 12)[:, :, 0], np.full(12, 0.3)
    whole = mx.fit_many(y, S, batch_size=60)
    at_once = mx.fit_many(y, S, batch_size=16, control={"backend": "numpy"})
    sizes = []

    def counted(self, path, *args, **kwargs):
        sizes.append(path.phase.shape[0])
        return ascend(self, path, *args, **kwargs)

    ascend = Compiled.ascend
    monkeypatch.setattr(Compiled, "ascend", counted)
    before = PROGRAMS.compiled
    compiled = mx.fit_many(y, S, batch_size=16, control={"backend": "jax"})
    assert set(sizes) == {16}  # every round is a full chunk: one compilation
    assert PROGRAMS.compiled - before <= len(jax.local_devices())
    for parts in (at_once, compiled):
        for name in ("coef", "Psi", "loglik"):
            assert np.allclose(getattr(parts, name), getattr(whole, name), rtol=SAME, atol=1e-12)


def watched(monkeypatch, before):
    """Do something before each climb, whoever executes it."""

    def ascend_of(original):
        def ascend(*args, **kwargs):
            before()
            return original(*args, **kwargs)

        return ascend

    for executor in (AtOnce, Compiled):
        monkeypatch.setattr(executor, "ascend", ascend_of(executor.ascend))


def test_blocks_of_S_that_are_longer_than_are_taken_in_whole():
    """Their level is absorbed, and nothing inside the blocks differs between data sets."""
    g = np.repeat(np.arange(4), 12)
    table = pd.DataFrame({"g": g, "x": np.sin(np.arange(48.0))})
    S = {group: 0.2 * np.eye(12) + 0.1 for group in range(4)}
    y = outcomes(3, 48, groups=g)
    fits = mx.fit_many(y, S, "~ x", random="~ 1 | g", data=table)
    for b in range(3):
        alone = table.assign(y=y[b, :, 0])
        agree(fits, b, mx.mixmeta("y ~ x", S=S, random="~ 1 | g", data=alone))


def test_interrupted(monkeypatch):
    y, S = outcomes(60, 12)[:, :, 0], np.full(12, 0.3)
    calls = []

    def interrupted():
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt

    watched(monkeypatch, interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        fits = mx.fit_many(y, S, batch_size=16)
    left = fits.status == Status.INTERRUPTED
    assert 0 < left.sum() < 60
    assert np.isnan(fits.coef[left]).all()
    assert np.isfinite(fits.coef[~left]).all()
    assert not fits.converged[left].any()


def test_interrupted_where_other_starts_are_followed(monkeypatch):
    """Ends at a bound are judged when the other starts have been followed, and not before."""
    y, S = outcomes(24, 10, 2, seed=3), errors(10, 2)
    whole = mx.fit_many(y, S, batch_size=8)
    bound = whole.status == Status.BOUNDARY
    assert 0 < bound.sum() < 24
    follow, waves = rounds.Rounds.follow, []

    def interrupted(self, *args):
        waves.append(1)
        if len(waves) > 1:
            raise KeyboardInterrupt
        follow(self, *args)

    monkeypatch.setattr(rounds.Rounds, "follow", interrupted)
    with pytest.warns(UserWarning, match=f"{bound.sum()} of 24"):
        fits = mx.fit_many(y, S, batch_size=8)
    assert (fits.status[bound] == Status.INTERRUPTED).all()
    assert np.isnan(fits.coef[bound]).all() and np.isnan(fits.Psi[bound]).all()
    assert np.allclose(fits.coef[~bound], whole.coef[~bound], rtol=SAME, atol=0)


def test_ctrl_c(monkeypatch):
    """The signal that a terminal sends, while the threads are at work."""
    y, S = outcomes(6400, 12)[:, :, 0], np.full(12, 0.3)
    rounds = itertools.count()

    def struck():
        if next(rounds) == 6:
            os.kill(os.getpid(), signal.SIGINT)

    watched(monkeypatch, struck)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.warns(UserWarning, match="interrupted"):
            fits = mx.fit_many(y, S, batch_size=16)
    finally:
        signal.signal(signal.SIGINT, before)
    left = fits.status == Status.INTERRUPTED
    assert 0 < left.sum() < 6400
    assert np.isnan(fits.coef[left]).all()
    assert np.isfinite(fits.coef[~left]).all()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_silent_in_a_pipe_and_when_turned_off(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(many_fits, "LONG_WORK", 60)
    y, S = outcomes(60, 12)[:, :, 0], np.full(12, 0.3)
    shown = {}
    for stream, progress in ((Terminal(), True), (Terminal(), False), (io.StringIO(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        mx.fit_many(y, S, batch_size=16, progress=progress)
        shown[stream.isatty(), progress] = stream.getvalue()
    assert "60" in shown.pop((True, True))
    assert not any(shown.values())


def test_four_devices():
    code = """
import jax, numpy as np, mixmeta_jax as mx
from mixmeta_jax.estimation.executors import Compiled
assert len(jax.local_devices()) == 4
ascend, used = Compiled.ascend, set()
def placed(self, *args, **kwargs):
    used.update(self.tensors.blocks[0].S.devices())
    return ascend(self, *args, **kwargs)
Compiled.ascend = placed
rng = np.random.default_rng(0)
y = rng.normal(size=(64, 12))
fits = mx.fit_many(y, np.full(12, 0.3), batch_size=16, control={"backend": "jax"})
assert used == set(jax.local_devices()), used
print(*(repr(float(x)) for x in fits.loglik))
"""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    y = np.random.default_rng(0).normal(size=(64, 12))
    here = mx.fit_many(y, np.full(12, 0.3), batch_size=16)
    assert np.allclose(np.array(found, float), here.loglik, rtol=1e-12, atol=0)


def test_what_is_returned():
    y = outcomes(3, 12)[:, :, 0]
    fits = mx.fit_many(y, np.full(12, 0.3), returns=("coef", "se"))
    assert fits.vcov is None and fits.status is None
    assert list(fits.to_frame().columns) == ["(Intercept)", "se[(Intercept)]"]
    assert len(fits) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"S": np.ones((2, 2, 2))}, "ambiguous|can be one S"),
        ({"S": np.ones((5, 7, 2))}, "must be shared"),
        ({"formula": "y ~ 1"}, "must be a right-hand side"),
        ({"returns": ("beta",)}, "an entry of returns must be one of"),
        ({"y": np.ones(4)}, r"\(B, n\) or \(B, n, k\)"),
        ({"data": GROUPS}, "24"),
        ({"method": "dl"}, "one outcome"),
        ({"y": np.ones((3, 1, 2)), "S": np.ones((1, 2))}, "REML needs more"),
        ({"y": np.ones((3, 2, 2)), "random": "~ 1 | g", "data": {"g": [1, 1]}}, "one group"),
        ({"control": {"start": np.eye(2)}}, "for single fits"),
        ({"control": {"mesh": jax.make_mesh((1,), ("groups",))}}, "for single fits"),
        ({"control": {"verbose": True}}, "for single fits"),
    ],
)
def test_what_is_wrong_with_all_is_refused(changes, words):
    arguments = {"y": np.ones((2, 2, 2)), "S": np.ones((2, 2)), **changes}
    with pytest.raises(mx.InputError, match=words):
        mx.fit_many(**arguments)
