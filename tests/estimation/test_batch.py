"""Paths of many fits beside the first: restarts, joins, saddles, and what they count."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.estimation import batch, chunks
from mixmeta_jax.estimation.ascent import nothing_known
from mixmeta_jax.estimation.estimator import fit_design
from mixmeta_jax.estimation.executors import AtOnce
from mixmeta_jax.status import Status
from tests.estimation.two_maxima import two_maxima
from tests.many.test_many_fits import errors, outcomes
from tests.tolerances import MAXIMUM, SAME_COEF

NUMPY = {"backend": "numpy"}
OWN_STARTS = {"backend": "numpy", "n_starts": 100}


@pytest.fixture(scope="module")
def three_outcomes():
    """Forty sets of nine studies, of which three have a maximum that only restarts find."""
    return outcomes(40, 9, 3, seed=5, groups=np.repeat(np.arange(3), 3)), errors(9, 3)


def test_restarts_are_those_of_single_fits(three_outcomes, monkeypatch):
    y, S = three_outcomes
    fits = mx.fit_many(y, S, bscov="hcs", control=NUMPY)
    for b in (0, 18, 37, 39):
        table = pd.DataFrame(y[b], columns=["y0", "y1", "y2"])
        fit = mx.mixmeta("y0 + y1 + y2 ~ 1", S=S, data=table, bscov="hcs")
        assert Status(int(fits.status[b])) is fit.status
        assert np.isclose(fits.loglik[b], fit.loglik, rtol=1e-11, atol=0)
    monkeypatch.setattr(batch, "restartable", lambda *args: False)
    without = mx.fit_many(y, S, bscov="hcs", control=NUMPY)
    gain = fits.loglik - without.loglik
    assert gain.min() > -1e-9
    assert gain[[18, 37]].min() > 1


def test_restarts_at_a_bound_are_those_of_single_fits():
    """A design whose own starts all lead to the lower of two maxima, by every way in."""
    data = two_maxima()
    S = data[["S11", "S21", "S31", "S22", "S32", "S33"]].to_numpy()
    y = data[["y1", "y2", "y3"]].to_numpy()
    arguments = {"S": S, "data": data, "control": NUMPY}
    fit = mx.mixmeta("y1 + y2 + y3 ~ x", **arguments)
    fits = mx.fit_many(np.stack([y, -y, 2 * y]), formula="~ x", **arguments)
    own = mx.fit_many(y[None], formula="~ x", **(arguments | {"control": OWN_STARTS}))
    with jax.enable_x64(True):
        found = jax.jit(mx.estimate)(fit.design)
    assert fits.status.tolist()[:2] == [fit.status] * 2 == [Status.BOUNDARY, int(found.status)]
    assert fits.loglik[0] == pytest.approx(own.loglik[0] + 0.3126, abs=0.01)
    for value in (fits.loglik[0], fits.loglik[1], float(found.loglik)):
        assert value == pytest.approx(fit.loglik, abs=MAXIMUM * (1 + abs(fit.loglik)))
    assert np.allclose(fits.coef[0], fit.coef, rtol=SAME_COEF, atol=SAME_COEF)
    assert np.allclose(fits.coef[1], -fit.coef, rtol=SAME_COEF, atol=SAME_COEF)
    assert np.allclose(found.beta, fit.coef, rtol=SAME_COEF, atol=SAME_COEF)


def test_restarts_in_chunks_are_the_same(three_outcomes):
    """Chunks of thirteen paths hold a part of the restarts of a data set, or of two."""
    y, S = three_outcomes[0][:20], three_outcomes[1]
    whole = mx.fit_many(y, S, bscov="hcs", control=NUMPY)
    chunks = mx.fit_many(y, S, bscov="hcs", batch_size=13, control=NUMPY)
    assert (chunks.status == whole.status).all()
    assert np.allclose(chunks.loglik, whole.loglik, rtol=1e-11, atol=0)


def test_steps_that_run_out_go_on_with_the_factor_turned(monkeypatch):
    """Next to a singular matrix that its factor, in its own order, follows along a valley.

    Locations of ``benchmarks/mass_univariate.py`` ("imaging-2"), and two that converge at once.
    """
    alone = []
    monkeypatch.setattr(batch._Run, "_alone", lambda run, member: alone.append(member))
    rng = np.random.default_rng(1)
    v = rng.uniform(0.02, 0.3, (1000, 20, 2))
    tau2 = rng.uniform(0.0, 0.3, (1000, 1, 1))
    y = 0.2 + rng.normal(size=v.shape) * np.sqrt(v + tau2)
    y[rng.random(y.shape) < 0.2] = np.nan
    chosen = [0, 278, 379, 485, 1]
    fits = mx.fit_many(y[chosen], v[chosen], control=NUMPY)
    assert not alone
    monkeypatch.setattr(batch._Run, "_turn", lambda run, members: None)
    # Another start may end at the maximum too.
    monkeypatch.setattr(batch._Run, "_other_starts", lambda run, ended, status: [])
    own_order = mx.fit_many(y[chosen], v[chosen], control=NUMPY)
    assert (own_order.status[1:4] == Status.MAX_ITER).all()
    for b, member in enumerate(chosen):
        fit = mx.mixmeta(y[member], v[member], control=NUMPY)
        assert Status(int(fits.status[b])) is fit.status
        size = 1 + abs(fit.loglik)
        assert fits.loglik[b] == pytest.approx(fit.loglik, rel=0, abs=MAXIMUM * size)
        assert np.allclose(fits.coef[b], fit.coef, rtol=SAME_COEF, atol=SAME_COEF)
        assert np.allclose(fits.Psi[b], fit.Psi, rtol=0, atol=SAME_COEF)


def two_levels():
    groups = pd.DataFrame({"g": np.repeat(np.arange(8), 3), "u": np.arange(24)})
    y = 0.7 * outcomes(12, 24, groups=groups.g.to_numpy())
    return y, errors(24, 1), {"random": "~ 1 | g/u", "data": groups}


def test_all_paths_are_counted():
    y, S, model = two_levels()
    fits = mx.fit_many(y, S, **model)
    first = mx.fit_many(y, S, control={"n_starts": 1}, **model)
    bound = (fits.status == Status.BOUNDARY) & (first.status == Status.BOUNDARY)
    assert bound.any() and not bound.all()
    # Three more starts: the levels small, one at a time and together; no path takes less than two.
    assert (fits.n_iter[bound] >= first.n_iter[bound] + 3 * 2).all()


def test_what_joins_a_maximum_changes_nothing(monkeypatch):
    y, S, model = two_levels()
    fits = mx.fit_many(y, S, **model)

    def nothing(self, ended, status):
        return [
            dataclasses.replace(job, known=nothing_known(self.design.dims, len(job.members)))
            for job in original(self, ended, status)
        ]

    original = batch._Run._other_starts
    monkeypatch.setattr(batch._Run, "_other_starts", nothing)
    to_their_ends = mx.fit_many(y, S, **model)
    assert (to_their_ends.n_iter > fits.n_iter).any()
    assert (to_their_ends.status == fits.status).all()
    assert np.allclose(to_their_ends.loglik, fits.loglik, rtol=1e-12, atol=0)
    assert np.allclose(to_their_ends.coef, fits.coef, rtol=1e-10, atol=1e-12)


def test_a_saddle_that_is_never_left_goes_to_the_estimator_of_single_fits(monkeypatch):
    """Where each climb is said to have come higher than before, and to rise still."""
    calls, asked = [], []

    class Rising(AtOnce):
        def ascend(self, *args, **settings):
            calls.append(1)
            ends = super().ascend(*args, **settings)
            ever = np.ones(ends.verdict.rising.shape, bool)
            verdict = dataclasses.replace(ends.verdict, rising=ever)
            return dataclasses.replace(ends, verdict=verdict, loglik=ends.loglik + len(calls))

    def estimator(*args):
        asked.append(fit_design(*args))
        return asked[-1]

    monkeypatch.setattr(chunks, "AtOnce", Rising)
    monkeypatch.setattr(batch, "fit_design", estimator)
    fits = mx.fit_many(outcomes(3, 12), errors(12, 1), control={"backend": "numpy"})
    assert len(asked) == 3
    # The estimator does not get as high as was claimed, but to a maximum.
    assert fits.status.tolist() == [int(one.status) for one in asked]
    assert fits.loglik.tolist() == [one.loglik for one in asked]


def test_large_effects_are_as_precise_as_in_single_fits():
    """Effects ten thousand times their errors: what batches cannot resolve, single fits do."""
    g = np.repeat(np.arange(8), 3)
    rng = np.random.default_rng(0)
    v, groups = np.full(24, 1e-8), pd.DataFrame({"g": g, "u": np.arange(24)})
    y = rng.normal(size=(4, 8))[:, g] + rng.normal(size=(4, 24)) * 1e-4
    fits = mx.fit_many(y, v, random="~ 1 | g", data=groups)
    for b in range(4):
        fit = mx.mixmeta("y ~ 1", S=v, random="~ 1 | g", data=groups.assign(y=y[b]))
        assert Status(int(fits.status[b])) is fit.status is Status.CONVERGED
        assert np.allclose(fits.coef[b], fit.coef, rtol=1e-10, atol=0)
        assert np.allclose(fits.Psi[b], fit.Psi, rtol=1e-8, atol=0)


def test_paths_arrive_by_themselves(monkeypatch):
    """The design of the paper's Table 6: a poor correction of the information would stall some."""
    alone = []
    monkeypatch.setattr(batch._Run, "_alone", lambda run, member: alone.append(member))
    rng = np.random.default_rng(100)
    sd = rng.uniform(0.5, 2, (30, 3))
    groups = pd.DataFrame({"g": np.repeat(np.arange(10), 3), "u": np.arange(30)})
    model = {
        "S": sd[:, :, None] * sd[:, None] * np.eye(3),
        "random": "~ 1 | g/u",
        "data": groups,
    }
    Psi = [np.eye(3), np.eye(3)]
    y = mx.mixmeta_sim(np.zeros((30, 3)), Psi=Psi, nsim=2000, seed=1, **model)
    fits = mx.fit_many(y, bscov="cs", progress=False, returns=("gradient_norm",), **model)
    assert not alone
    assert fits.gradient_norm.max() <= batch.IMPRECISE
