"""Simulated outcomes, and what is made of many fits."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.many import performance as studies
from mixmeta_jax.many.performance import performance
from mixmeta_jax.status import Status

SAME = 1e-10
"""Relative: both go on until the gradient is rounding."""

TABLE = pd.DataFrame({"g": np.repeat(np.arange(4), 3), "u": np.arange(12)})


def simulated(**changes):
    cs = np.array([[1.0, 0.5], [0.5, 1.0]])
    arguments = {
        "y": np.zeros((12, 2)),
        "S": np.full((12, 2), 0.2),
        "Psi": [cs, 0.5 * cs],
        "random": "~ 1 | g/u",
        "data": TABLE,
        "nsim": 4000,
        "seed": 3,
        **changes,
    }
    return mx.mixmeta_sim(**arguments)


def test_simulated_moments():
    y = simulated().reshape(4000, 24)
    cs = np.array([[1.0, 0.5], [0.5, 1.0]])
    Sigma = np.kron(np.eye(4), np.kron(np.ones((3, 3)), cs)) + np.kron(np.eye(12), 0.5 * cs)
    Sigma += 0.2 * np.eye(24)
    found = np.cov(y.T)
    error = np.sqrt((Sigma**2 + np.outer(np.diag(Sigma), np.diag(Sigma))) / 4000)
    assert (np.abs(found - Sigma) < 5 * error).all()
    assert (np.abs(y.mean(0)) < 5 * np.sqrt(np.diag(Sigma) / 4000)).all()


def test_parts_join_bit_for_bit():
    whole = simulated(nsim=7)
    parts = np.concatenate([simulated(nsim=3), simulated(nsim=4, first=3)])
    assert (whole == parts).all()
    assert (simulated(nsim=1, seed=4) != whole[:1]).all()


def test_missing_outcomes_stay_missing():
    y = np.zeros((12, 2))
    y[3, 1] = np.nan
    drawn = simulated(y=y, nsim=2)
    assert np.isnan(drawn[:, 3, 1]).all() and np.isnan(drawn).sum() == 2


@pytest.fixture(scope="module")
def bcg():
    return mx.mixmeta("logor ~ ablat", "logorvar", mx.load_dataset("bcg"))


def test_a_fit_simulates_like_its_model(bcg):
    drawn = bcg.simulate(nsim=2, seed=5)
    mean = np.asarray(bcg.fitted)
    same = mx.mixmeta_sim(mean, mx.load_dataset("bcg").logorvar, bcg.Psi, nsim=2, seed=5)
    assert np.allclose(drawn, same, rtol=1e-14, atol=1e-14)


def refitted(row, fit):
    """A row of a frame of refits has the numbers of a fit."""
    coef = row[list(fit.coef.index)].astype(float)
    assert np.allclose(coef, fit.coef, rtol=SAME, atol=0)
    assert np.isclose(row.loglik, fit.loglik, rtol=1e-12, atol=SAME)
    assert row.status == fit.status.name


def test_leaving_out_is_refitting(bcg):
    frame = mx.leave_one_out(bcg)
    data = mx.load_dataset("bcg")
    for row in (0, 7):
        refitted(frame.iloc[row], mx.mixmeta("logor ~ ablat", "logorvar", data.drop(index=row)))


def test_cumulative_is_refitting(bcg):
    data = mx.load_dataset("bcg")
    frame = mx.cumulative(bcg, order=-np.arange(13.0))
    refitted(frame.iloc[-1], bcg)
    refitted(frame.iloc[7], mx.mixmeta("logor ~ ablat", "logorvar", data.iloc[5:]))
    assert frame.status.iloc[0] == "NOT_IDENTIFIED" and np.isnan(frame.loglik.iloc[0])


SIZES = np.array([1, 2, 3, 5, 2, 4, 1, 3])
UNEVEN = pd.DataFrame({"g": np.repeat(np.arange(8), SIZES), "u": np.arange(21)})
UNEVEN["x"] = np.sin(UNEVEN.u)
UNEVEN["y"] = 0.3 * UNEVEN.x + np.cos(2.0 * UNEVEN.g) + 0.5 * np.cos(5.0 * UNEVEN.u)
BLOCKS = {g: 0.2 * np.eye(s) + 0.1 for g, s in enumerate(SIZES)}


def uneven(groups=range(8)):
    """The model of blocks of one to five rows, on groups that may come twice."""
    table = pd.concat([UNEVEN[UNEVEN.g == g].assign(g=slot) for slot, g in enumerate(groups)])
    S = {slot: BLOCKS[g] for slot, g in enumerate(groups)}
    return mx.mixmeta("y ~ x", S, table.reset_index(drop=True), random="~ 1 | g")


@pytest.fixture(scope="module")
def spanning():
    return uneven()


def test_blocks_of_several_sizes_are_left_out(spanning):
    without = mx.leave_one_out(spanning, by="g")
    for group in (0, 5):
        refitted(without.loc[group], uneven([g for g in range(8) if g != group]))


def test_blocks_of_several_sizes_are_drawn_from_the_model(spanning):
    fits = mx.bootstrap(spanning, n=3, seed=4)
    table = UNEVEN.assign(y=spanning.simulate(nsim=3, seed=4)[2, :, 0])
    refitted(fits.to_frame().iloc[2], mx.mixmeta("y ~ x", BLOCKS, table, random="~ 1 | g"))


def test_errors_of_blocks_are_drawn_with_their_covariance():
    y = mx.mixmeta_sim(UNEVEN.y, BLOCKS, None, "~ 1 | g", UNEVEN, nsim=2000, seed=1)[..., 0]
    expected = np.where(UNEVEN.g.to_numpy()[:, None] == UNEVEN.g.to_numpy(), 0.1, 0.0)
    expected += 0.2 * np.eye(21)
    error = np.sqrt((expected**2 + 0.3**2) / 2000)
    assert (np.abs(np.cov(y.T) - expected) < 5 * error).all()


def test_groups_with_blocks_are_drawn_whole(spanning):
    fits = mx.bootstrap(spanning, n=4, seed=1, kind="groups")
    part = mx.bootstrap(spanning, n=1, seed=1, first=2, kind="groups")
    drawn = np.random.default_rng([1, 2]).integers(0, 8, 8)
    again = uneven(drawn)
    refitted(fits.to_frame().iloc[2], again)
    refitted(part.to_frame().iloc[0], again)
    assert np.allclose(fits.Psi[2], again.Psi, rtol=1e-8, atol=SAME)


def test_groups_with_blocks_and_missing_outcomes_are_drawn_as_they_are():
    """What is missing stays so: a draw is the fit of its groups, in long data and by hand."""
    rng = np.random.default_rng(7)
    table = UNEVEN.assign(y1=UNEVEN.y, y2=np.cos(3.0 * UNEVEN.u) - 0.2 * UNEVEN.x)
    table.loc[[3, 8, 14], "y2"] = np.nan
    table.loc[[5, 19], "y1"] = np.nan
    blocks = {}
    for g, s in enumerate(SIZES):
        root = rng.normal(size=(2 * s, 2 * s))
        blocks[g] = 0.2 * np.eye(2 * s) + 0.02 * root @ root.T

    def fitted(groups):
        parts = [table[table.g == g].assign(g=slot) for slot, g in enumerate(groups)]
        S = {slot: blocks[g] for slot, g in enumerate(groups)}
        rows = pd.concat(parts).reset_index(drop=True)
        return mx.mixmeta("y1 + y2 ~ 1", S, rows, random="~ 1 | g", bscov="diag")

    fits = mx.bootstrap(fitted(range(8)), n=4, seed=1, kind="groups")
    assert np.isfinite(fits.loglik).all()
    for b in range(4):
        drawn = np.random.default_rng([1, b]).integers(0, 8, 8)
        refitted(fits.to_frame().iloc[b], fitted(drawn))


def test_bootstraps(bcg):
    spread = np.sqrt(np.diag(bcg.vcov))
    for kind in ("parametric", "groups"):
        fits = mx.bootstrap(bcg, n=64, seed=1, kind=kind)
        ratio = np.nanstd(fits.coef, axis=0) / spread
        assert (ratio > 0.5).all() and (ratio < 2).all()
        part = mx.bootstrap(bcg, n=32, seed=1, first=2, kind=kind)
        assert np.allclose(part.coef, fits.coef[2:34], rtol=SAME, atol=0)


def test_draws_that_do_not_identify_the_model():
    """Without one of the three kinds of allocation its coefficient is not there."""
    data = mx.load_dataset("bcg")
    fits = mx.bootstrap(mx.mixmeta("logor ~ alloc", "logorvar", data), n=32, kind="groups")
    drawn = [np.random.default_rng([0, b]).integers(0, 13, 13) for b in range(32)]
    lacking = np.array([data.alloc.iloc[rows].nunique() < 3 for rows in drawn])
    assert lacking.any()
    assert (fits.status[lacking] == Status.NOT_IDENTIFIED).all()
    assert ["collinear" in why for why in fits.reason] == lacking.tolist()
    assert fits.converged[~lacking].all() and (fits.se[~lacking] < 10).all()


@pytest.fixture(scope="module")
def grouped():
    return mx.mixmeta("y ~ x", np.full(21, 0.2), UNEVEN, random="~ 1 | g")


def test_one_draw_alone_is_that_draw(grouped):
    """Its groups are of different sizes, though no other draw has other ones."""
    fits = mx.bootstrap(grouped, n=1, seed=3, kind="groups")
    groups = np.random.default_rng([3, 0]).integers(0, 8, 8)
    table = pd.concat([UNEVEN[UNEVEN.g == g].assign(g=slot) for slot, g in enumerate(groups)])
    S = np.full(len(table), 0.2)
    refitted(fits.to_frame().iloc[0], mx.mixmeta("y ~ x", S, table, random="~ 1 | g"))


def test_permutations(bcg):
    test = mx.permutation_test(bcg, "ablat", n=64, seed=2)
    assert 1 / 65 <= test.pvalue < 0.05
    assert "ablat" in str(test)
    part = mx.permutation_test(bcg, "ablat", n=32, seed=2, first=5)
    assert np.allclose(part.statistics, test.statistics[5:37], rtol=SAME, atol=0)
    order = np.random.default_rng([2, 6]).permutation(13)
    data = mx.load_dataset("bcg")
    again = mx.mixmeta("logor ~ ablat", "logorvar", data.assign(ablat=data.ablat.to_numpy()[order]))
    z = again.coef["ablat"] / np.sqrt(again.vcov.loc["ablat", "ablat"])
    assert np.isclose(part.statistics[1], z, rtol=SAME, atol=0)
    with pytest.raises(mx.InputError, match="term must be one of"):
        mx.permutation_test(bcg, "year")


def test_whole_groups_are_permuted(spanning, grouped):
    test = mx.permutation_test(grouped, "x", n=2, seed=1)
    rng, x = np.random.default_rng([1, 1]), UNEVEN.x.to_numpy().copy()
    for size in (1, 2, 3, 4, 5):
        rows = UNEVEN.u.to_numpy()[SIZES[UNEVEN.g] == size].reshape(-1, size)
        x[rows] = UNEVEN.x.to_numpy()[rng.permutation(rows)]
    assert (x != UNEVEN.x).sum() > 3
    again = mx.mixmeta("y ~ x", np.full(21, 0.2), UNEVEN.assign(x=x), random="~ 1 | g")
    z = again.coef["x"] / np.sqrt(again.vcov.loc["x", "x"])
    assert np.isclose(test.statistics[1], z, rtol=SAME, atol=0)
    with pytest.raises(mx.InputError, match="S by unit"):
        mx.permutation_test(spanning, "x")
    few = UNEVEN[np.isin(UNEVEN.g, [0, 1, 2, 3, 5])]
    few = mx.mixmeta("y ~ x", np.full(len(few), 0.2), few, random="~ 1 | g")
    with pytest.raises(mx.InputError, match="no two groups"):
        mx.permutation_test(few, "x")


def test_permutations_that_do_not_converge_are_left_out(bcg):
    stopped = bcg.update(control={"max_iter": 1})
    assert mx.permutation_test(stopped, "ablat", n=32).n_permutations < 32


def test_performance_against_its_definitions():
    estimates, se = np.array([1.0, 2.0, 4.0, np.nan]), np.array([1.0, 1.0, 0.5, 1.0])
    found = performance(estimates, se, 2.0)
    empirical = np.std([1, 2, 4], ddof=1)
    expected = {
        "n": 3,
        "bias": 1 / 3,
        "bias_mcse": empirical / np.sqrt(3),
        "rmse": np.sqrt(5 / 3),
        # The squares of the errors are 1, 0, 4; that of their mean's root by the delta method.
        "rmse_mcse": np.sqrt(np.var([1, 0, 4], ddof=1) / 3) / (2 * np.sqrt(5 / 3)),
        "coverage": 2 / 3,
        "coverage_mcse": np.sqrt(2 / 3 * 1 / 3 / 3),
        "empirical_se": empirical,
        "empirical_se_mcse": empirical / 2,
        "model_se": np.sqrt(0.75),
        "model_se_mcse": np.sqrt(np.var([1, 1, 0.25], ddof=1) / 3 / 0.75) / 2,
        "conf_level": 0.95,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.isclose(found[name], value, rtol=1e-14, atol=0), name


def test_monte_carlo_errors_are_the_spread_over_studies():
    rng = np.random.default_rng(0)
    se = np.sqrt(rng.chisquare(5, (4000, 50)) / 5)
    estimates = 0.3 + rng.normal(size=se.shape)
    table = pd.DataFrame([performance(e, s, 0.0) for e, s in zip(estimates, se, strict=True)])
    for name in ("bias", "rmse", "coverage", "empirical_se", "model_se"):
        claimed = np.sqrt((table[f"{name}_mcse"] ** 2).mean())
        assert np.isclose(table[name].std(), claimed, rtol=0.06), name


SCENARIO = {
    "y": np.zeros(12),
    "S": np.full(12, 0.3),
    "Psi": [[0.5]],
    "coef": 0.0,
    "estimands": {"tau2": (lambda fits: fits.Psi[:, 0, 0], 0.5)},
}


def test_a_study_covers():
    table = mx.simulation_study({"a": SCENARIO}, nsim=400, seed=1)
    row = table.loc[("a", "(Intercept)")]
    assert abs(row.bias) < 4 * row.bias_mcse
    assert 0.88 < row.coverage < 0.97
    variance = table.loc[("a", "tau2")]
    assert abs(variance.bias) < 4 * variance.bias_mcse and np.isnan(variance.coverage)
    with pytest.raises(mx.InputError, match="lacks"):
        mx.simulation_study({"a": {"y": [0.0]}})


def test_parts_of_a_study_join_to_the_whole():
    scenarios = {"a": SCENARIO, "b": {**SCENARIO, "coef": 0.1}}
    whole = mx.simulation_study(scenarios, nsim=64, seed=1)
    parts = [mx.simulation_study(scenarios, nsim=32, first=first, seed=1) for first in (0, 32)]
    joined = mx.join_studies(parts)
    assert joined.index.equals(whole.index)
    assert np.allclose(joined, whole, rtol=SAME, atol=0, equal_nan=True)
    some = mx.join_studies([parts[0], parts[1].loc[["a"]]])
    assert some.n.tolist() == [64, 64, 32, 32]
    with pytest.raises(mx.InputError, match="its columns must be"):
        mx.join_studies([whole.drop(columns="n")])


def test_parts_of_any_size_join():
    rng = np.random.default_rng(4)
    values, se = rng.normal(1e3, 1.0, 40), rng.uniform(0.5, 1.5, 40)
    values[[0, 17]] = np.nan

    def table(part):
        index = pd.MultiIndex.from_tuples([("a", "x")])
        return pd.DataFrame([performance(values[part], se[part], 1e3 + 0.1)], index=index)

    cuts = [0, 1, 2, 10, 40]
    joined = mx.join_studies([table(slice(*cut)) for cut in itertools.pairwise(cuts)])
    assert np.allclose(joined, table(slice(None)), rtol=SAME, atol=0)


def test_a_scenario_without_fits_loses_no_other():
    table = mx.simulation_study({"none": {**SCENARIO, "y": [np.inf] * 12}, "a": SCENARIO}, nsim=32)
    assert table.loc["none"].n.tolist() == [0, 0]
    assert np.isnan(table.loc[("none", "tau2"), "bias"])
    assert table.loc["a"].n.tolist() == [32, 32]


@pytest.mark.parametrize("where", ["mixmeta_sim", "fit_many"])
def test_an_interrupted_study_keeps_what_is_complete(where, monkeypatch):
    whole, calls = getattr(studies, where), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2 and where == "mixmeta_sim":
            raise KeyboardInterrupt
        fits = whole(*args, **kwargs)
        if len(calls) == 2:
            status = fits.status.copy()
            status[1] = Status.INTERRUPTED
            return replace(fits, status=status)
        return fits

    monkeypatch.setattr(studies, where, interrupted)
    with pytest.warns(UserWarning, match="interrupted in scenario 'b'"):
        table = mx.simulation_study({"a": SCENARIO, "b": SCENARIO, "c": SCENARIO}, nsim=32)
    assert table.index.get_level_values(0).unique().tolist() == ["a"]
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["parametric", "groups"])
def test_a_bootstrap_that_is_interrupted_while_it_draws(monkeypatch, kind):
    data = pd.DataFrame({"y": [0.1, 0.9, -0.4, 0.3], "v": [0.1, 0.2, 0.1, 0.3]})
    fit = mx.mixmeta("y", S="v", data=data)

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mixmeta_jax.many.studies.simulate_fitted", interrupted)
    monkeypatch.setattr("numpy.random.default_rng", interrupted)
    with pytest.warns(UserWarning, match="3 of 3 data sets have the status INTERRUPTED"):
        fits = mx.bootstrap(fit, n=3, kind=kind, progress=False)
    assert (fits.status == Status.INTERRUPTED).all()
    assert np.isnan(fits.coef).all()
