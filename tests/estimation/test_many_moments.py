"""Moment estimates of many data sets in one call are those of each by itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.control import Control
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation import moment_batch, multivariate
from mixmeta_jax.estimation.moment_data import OUT_OF_RANGE
from mixmeta_jax.estimation.moments import moment_estimate, moment_estimates
from mixmeta_jax.many.many_checks import sound_members
from mixmeta_jax.many.many_data import many_model
from mixmeta_jax.many.many_fits import DEFAULT_RETURNS
from mixmeta_jax.status import Status

SAME = 1e-10
"""Relative, for matrices to their largest entry: the same formula in another order of sums."""

UNIVARIATE = ["dl", "he", "hs", "sj", "pm", "eb"]
CASES = [(method, 1) for method in [*UNIVARIATE, "mm", "vc"]] + [("mm", 2), ("vc", 2), ("mm", 3)]
B, N = 12, 16
X = np.column_stack([np.ones(N), np.sin(np.arange(N))])


def simulated(k, seed=0):
    """Outcomes (B, N, k), a fifth of them missing, and S of each (B, N, k, k)."""
    g = np.random.default_rng(seed)
    y = g.normal(size=(B, N, k)) + g.normal(size=(B, N, 1)) + X[:, 1:]
    y[g.random(y.shape) < 0.2] = np.nan
    root = 0.5 * g.normal(size=(B, N, k, k))
    return y, root @ np.swapaxes(root, 2, 3) + 0.2 * np.eye(k)


def assert_same(many, one):
    for own, other in ((many.Psi, one.Psi), (many.vcov, one.vcov)):
        np.testing.assert_allclose(own, other, rtol=0, atol=SAME * np.abs(other).max())
    np.testing.assert_allclose(many.beta, one.beta, rtol=SAME)


def member(found, b):
    return type(found)(*(values[b] for values in vars(found).values()))


@pytest.mark.parametrize(("method", "k"), CASES)
@pytest.mark.parametrize("own", [True, False])
def test_a_batch_is_a_loop_whatever_is_broken(method, k, own):
    """Broken in five ways, each of which is told in the words of a single fit."""
    y, S = simulated(k)
    S = S if own else np.broadcast_to(S[0], S.shape)
    y[1, 2:] = np.nan  # too few
    y[3, :, k - 1] = np.nan  # an outcome, or all, in no unit
    y[4] *= 1e200
    y[6, np.abs(X[:, 1]) > 0.3] = np.nan
    y[6, 3:, 0] = np.nan
    if own:
        S[8, 5] = 0.0
        y[8, 5] = 1.0
    shared = np.broadcast_to(X, (B, N, 2))
    found, reason = moment_estimates(method, y, shared, S)
    for b in range(B):
        if reason[b]:
            assert np.isnan(found.beta[b]).all() and np.isnan(found.Psi[b]).all()
            with pytest.raises(InputError) as error:
                moment_estimate(method, y[b], X, S[b])
            assert reason[b] == str(error.value)
            continue
        one = moment_estimate(method, y[b], X, S[b])
        assert_same(member(found, b), one)
        assert found.n_iter[b] == one.n_iter
        assert (found.clipped[b], found.converged[b]) == (one.clipped, one.converged)
    broken = np.flatnonzero(reason != "")
    singular = [8] if own and method not in ("he", "sj") else []
    assert list(broken) == [1, 3, 4, 6, *singular]
    assert reason[4] == OUT_OF_RANGE


@pytest.mark.parametrize("adjust", [True, False])
def test_iterations_that_end_early_or_run_out(adjust):
    """Those that have ended are set aside: they stay what they were."""
    y, S = simulated(2, seed=1)
    shared = np.broadcast_to(X, (B, N, 2))
    found, reason = moment_estimates("vc", y, shared, S, vc_adjust=adjust, max_iter=12)
    assert not reason.any()
    assert 0 < found.converged.sum() < B
    assert len(set(found.n_iter)) > 2
    for b in range(B):
        one = moment_estimate("vc", y[b], X, S[b], vc_adjust=adjust, max_iter=12)
        assert_same(member(found, b), one)
        assert (found.n_iter[b], found.converged[b]) == (one.n_iter, one.converged)


def test_predictors_of_each_data_set_and_units_in_pieces(monkeypatch):
    y, S = simulated(2, seed=2)
    predictors = np.stack([np.roll(X, b, axis=0) for b in range(B)])
    found, _ = moment_estimates("mm", y, predictors, S)
    monkeypatch.setattr(multivariate, "KRONECKER_NUMBERS", 5 * B * 2**4)
    pieces, _ = moment_estimates("mm", y, predictors, S)
    for b in range(B):
        one = moment_estimate("mm", y[b], predictors[b], S[b])
        assert_same(member(found, b), one)
        assert_same(member(pieces, b), one)


def apart(y):
    """No row reports both outcomes."""
    return np.where((np.arange(N) < N / 2)[:, None] == (np.arange(2) == 0), y, np.nan)


@pytest.mark.parametrize("method", ["mm", "vc"])
def test_fit_many_is_a_loop_of_mixmeta(method):
    """Own S and missing outcomes."""
    y, S = simulated(2)
    y[2] = apart(y[2])
    table = pd.DataFrame({"x": X[:, 1]})
    fits = mx.fit_many(
        y, S, "~ x", data=table, method=method, returns=(*DEFAULT_RETURNS, "theta", "se", "reason")
    )
    names = ["y1", "y2"]
    for b in np.delete(np.arange(B), 2):
        data = table.assign(**dict(zip(names, y[b].T, strict=True)))
        one = mx.mixmeta(" + ".join(names) + " ~ x", S[b], data=data, method=method)
        np.testing.assert_allclose(fits.coef[b], one.coef, rtol=SAME)
        np.testing.assert_allclose(fits.se[b] ** 2, np.diag(one.vcov), rtol=SAME)
        np.testing.assert_allclose(fits.theta[b], one.estimate.theta, atol=1e-7)
        assert Status(int(fits.status[b])) is one.status
        assert fits.reason[b] == ""
    assert fits.status[2] == Status.NOT_IDENTIFIED
    assert np.isnan(fits.coef[2]).all()
    assert "the covariance of 'y1' and 'y2'" in fits.reason[2]


def test_one_variance_by_any_name():
    """A diagonal covariance of one effect is an unstructured one, as in mixmeta."""
    y = simulated(1)[0]
    plain = mx.fit_many(y, np.full(N, 0.3), method="dl")
    named = mx.fit_many(y, np.full(N, 0.3), method="dl", bscov="diag")
    np.testing.assert_array_equal(named.Psi, plain.Psi)
    with pytest.raises(InputError, match="unstructured"):
        mx.fit_many(simulated(2)[0], np.full((N, 2), 0.3), method="mm", bscov="diag")


def test_every_data_set_is_counted_and_an_interrupt_keeps_what_is_done(monkeypatch):
    y, S = simulated(2)
    y[2] = apart(y[2])
    model = many_model(y, S, "~ 1", None, None, "unstr", None, None, None)
    members, _, reason = sound_members(model, "mm")
    assert members.tolist() == [0, 1, *range(3, B)]
    ticks = []
    whole = moment_batch.fit_moment_batch(
        model.design, np.arange(B), "mm", Control(), reason, batch_size=5, tick=ticks.append
    )
    assert ticks == [5, 5, 2]
    assert whole.status[2] == Status.NOT_IDENTIFIED

    original, calls = moment_batch.moment_estimates, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(moment_batch, "moment_estimates", interrupted)
    with pytest.warns(UserWarning, match="1 of 12 data sets"):
        fits = mx.fit_many(y, S, method="mm", batch_size=5)
    assert (fits.status[11:] == Status.INTERRUPTED).all()
    assert np.isnan(fits.coef[11:]).all()
    np.testing.assert_array_equal(fits.coef[:11], whole.beta[:11])
