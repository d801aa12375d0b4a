"""Data sets that JAX draws where it fits them: their numbers, whoever fits, in any chunks."""

import functools

import jax
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.estimation import chunks
from mixmeta_jax.estimation.drawn import DrawnOutcomes, drawn_outcomes
from mixmeta_jax.estimation.programs import PROGRAMS
from mixmeta_jax.many import refits
from mixmeta_jax.many.drawn_fits import fit_drawn

ROUNDING = 1e-12
"""Relative to 1: numbers of one stream drawn by programs of other shapes."""

SAME = 1e-8
"""Estimates of one data set by NumPy and by a program, relative to 1."""

TABLE = pd.DataFrame({"g": np.repeat(np.arange(4), 3), "u": np.arange(12)})
CS = np.array([[1.0, 0.5], [0.5, 1.0]])


def scenario(**changes):
    mean = np.zeros((12, 2))
    mean[3, 1] = mean[7, 0] = np.nan
    return {
        "y": mean,
        "S": np.full((12, 2), 0.2),
        "Psi": [CS, 0.5 * CS],
        "random": "~ 1 | g/u",
        "data": TABLE,
        **changes,
    }


BLOCKS = {g: 0.2 * np.eye(6) + 0.1 for g in range(4)}

FORMS = {
    "two levels": scenario,
    "S of blocks": lambda: scenario(S=BLOCKS, random="~ 1 | g", Psi=CS),
    "one level": lambda: {"y": np.zeros(10), "S": np.full(10, 0.3), "Psi": [[0.4]]},
    "no random effects": lambda: {"y": np.ones(10), "S": np.full(10, 0.3), "Psi": None},
}


@pytest.mark.parametrize("form", FORMS)
def test_moments_of_what_jax_draws(form):
    """Means and covariances of 4,000 data sets, as those of the numbers of NumPy."""
    arguments = FORMS[form]()
    seen = ~np.isnan(arguments["y"]).ravel()
    drawn, theirs = (
        mx.mixmeta_sim(**arguments, nsim=4000, seed=1, generator=by).reshape(4000, -1)
        for by in ("jax", "numpy")
    )
    assert (np.isnan(drawn) == ~seen).all()
    drawn, theirs = drawn[:, seen], theirs[:, seen]
    # Of both, so that the difference has twice the variance of either.
    Sigma = 0.5 * (np.cov(drawn.T) + np.cov(theirs.T))
    sizes = np.diag(Sigma)
    error = np.sqrt(2 * (Sigma**2 + np.outer(sizes, sizes)) / 4000)
    assert (np.abs(np.cov(drawn.T) - np.cov(theirs.T)) < 5 * error).all()
    assert (np.abs(drawn.mean(0) - theirs.mean(0)) < 5 * np.sqrt(2 * sizes / 4000)).all()


def test_a_data_set_depends_on_its_seed_and_number_alone():
    whole = mx.mixmeta_sim(**scenario(), nsim=7, seed=3, generator="jax")
    part = mx.mixmeta_sim(**scenario(), nsim=3, seed=3, first=2, generator="jax")
    np.testing.assert_allclose(part, whole[2:5], rtol=0, atol=ROUNDING)
    other = mx.mixmeta_sim(**scenario(), nsim=7, seed=4, generator="jax")
    assert (np.abs(whole - other)[~np.isnan(whole)] > 0).all()


def test_the_numbers_are_those_of_simulate_whatever_the_settings_of_jax():
    """Also with another default kind of key, and of streams; seeds of more than 32 bits count."""
    seed = 2**40 + 5
    with (
        jax.default_prng_impl("rbg"),
        jax.threefry_partitionable(False),
    ):
        drawn = mx.mixmeta_sim(**scenario(), nsim=2, seed=seed, first=9, generator="jax")
    design = mx.make_design(
        np.where(np.isnan(scenario()["y"]), np.nan, 1.0),
        S=scenario()["S"],
        random="~ 1 | g/u",
        data=TABLE,
    )
    theta = [s.theta(P) for s, P in zip(design.structures, scenario()["Psi"], strict=True)]
    with jax.enable_x64(True):
        key = jax.random.fold_in(jax.random.key(seed), 10)
        y = mx.simulate(key, np.concatenate(theta), np.zeros(2), design)
    np.testing.assert_allclose(y, drawn[1], rtol=0, atol=ROUNDING)
    low = mx.mixmeta_sim(**scenario(), nsim=1, seed=5, first=10, generator="jax")
    assert (np.abs(low[0] - drawn[1])[~np.isnan(y)] > 0).all()


def fitted():
    """What is fitted: one level, so that its programs are small, and one missing outcome."""
    mean = np.zeros(10)
    mean[3] = np.nan
    return {"y": mean, "S": np.full(10, 0.3), "Psi": [[0.4]]}


@functools.cache
def together(backend="jax"):
    return fit_drawn(**fitted(), nsim=40, seed=5, control={"backend": backend})


def same_fits(found, other, part=slice(None)):
    assert (found.status == other.status[part]).all()
    for name in ("coef", "loglik"):
        expected = getattr(other, name)[part]
        np.testing.assert_allclose(getattr(found, name), expected, rtol=0, atol=SAME)


def test_who_draws_and_fits_does_not_matter():
    """In the program that fits; by NumPy, from the same draws; and as given data."""
    y = mx.mixmeta_sim(**fitted(), nsim=40, seed=5, generator="jax")
    given = mx.fit_many(y, fitted()["S"], progress=False)
    same_fits(together(), given)
    same_fits(together("numpy"), given)
    assert given.converged.mean() > 0.8


def test_outcomes_are_not_fetched_where_they_are_fitted(monkeypatch):
    expected = together()

    def fetched(self, members):
        raise AssertionError(f"data sets {members} were drawn for the host")

    monkeypatch.setattr(DrawnOutcomes, "__getitem__", fetched)
    again = fit_drawn(**fitted(), nsim=40, seed=5, control={"backend": "jax"})
    np.testing.assert_allclose(again.coef, expected.coef, rtol=0, atol=SAME)


def test_chunks_do_not_matter(monkeypatch):
    """Chunks of 16 of other data sets, in rounds that end with a quarter of them."""
    monkeypatch.setattr(chunks, "MOST_PATHS", 16)
    monkeypatch.setattr(chunks, "FEWEST_PATHS", 16)
    found = fit_drawn(**fitted(), nsim=37, seed=5, first=3, control={"backend": "jax"})
    assert len(found) == 37
    same_fits(found, together(), slice(3, 40))


def test_more_data_sets_take_no_more_programs():
    together()
    before = PROGRAMS.compiled
    fit_drawn(**fitted(), nsim=40, seed=8, first=100, control={"backend": "jax"})
    assert PROGRAMS.compiled == before


def test_fixed_effects_and_moments():
    arguments = FORMS["one level"]()
    for method in ("fixed", "dl"):
        y = mx.mixmeta_sim(**arguments, nsim=6, seed=2, generator="jax")
        found = fit_drawn(**arguments, nsim=6, seed=2, method=method, control={"backend": "jax"})
        given = mx.fit_many(y, arguments["S"], method=method)
        np.testing.assert_allclose(found.coef, given.coef, rtol=0, atol=SAME)
        assert (found.status == given.status).all()


def test_what_cannot_be_fitted_says_why():
    mean = scenario()["y"]
    mean[5, 0] = np.inf
    found = fit_drawn(**scenario(y=mean), nsim=3, seed=1, returns=("status", "reason"))
    given = mx.fit_many(
        np.stack([mean] * 3),
        scenario()["S"],
        random="~ 1 | g/u",
        data=TABLE,
        returns=("status", "reason"),
    )
    assert found.status.tolist() == given.status.tolist()
    assert found.reason.tolist() == given.reason.tolist()


@pytest.fixture(scope="module")
def bcg():
    return mx.mixmeta("logor ~ ablat", "logorvar", mx.load_dataset("bcg"))


def test_bootstraps_refit_what_the_fit_simulates(bcg):
    fit = bcg.update(control={"backend": "jax"})
    found = mx.bootstrap(fit, n=12, seed=3, generator="jax", progress=False)
    y = bcg.simulate(nsim=12, seed=3, generator="jax") - bcg.frame.offset
    given = refits.refit(bcg, y, progress=False)
    same_fits(found, given)
    part = mx.bootstrap(bcg, n=4, seed=3, first=5, generator="jax", progress=False)
    np.testing.assert_allclose(part.coef, found.coef[5:9], rtol=0, atol=SAME)
    theirs = mx.bootstrap(fit, n=12, seed=3, progress=False)
    assert (np.abs(theirs.coef - found.coef) > 1e-6).all()


def test_studies_of_both_generators():
    one = {"a": FORMS["one level"]() | {"coef": 0.0}}
    tables = [mx.simulation_study(one, nsim=60, seed=1, generator=by) for by in ("numpy", "jax")]
    bias = [table.loc[("a", "(Intercept)"), "bias"] for table in tables]
    error = tables[0].loc[("a", "(Intercept)"), "bias_mcse"]
    assert bias[0] != bias[1] and abs(bias[0] - bias[1]) < 6 * error
    parts = [
        mx.simulation_study(one, nsim=30, seed=1, first=first, generator="jax") for first in (0, 30)
    ]
    whole = mx.join_studies(parts)
    np.testing.assert_allclose(whole, tables[1], rtol=1e-7)
    # Other numbers, so other data sets: they may be joined.
    assert mx.join_studies(tables).n.iloc[0] == tables[0].n.iloc[0] + tables[1].n.iloc[0]
    with pytest.raises(mx.InputError, match="both hold data set 30"):
        mx.join_studies([tables[1], parts[1]])


def test_numbers_beyond_those_of_keys():
    last = 2**32 - 1
    drawn = mx.mixmeta_sim(**scenario(), nsim=1, first=last, generator="jax")
    assert np.isfinite(drawn).any()
    with pytest.raises(mx.InputError, match=r"first: generator='jax' numbers .* 4,294,967,295"):
        mx.mixmeta_sim(**scenario(), nsim=2, first=last, generator="jax")
    assert np.isfinite(mx.mixmeta_sim(**scenario(), nsim=2, first=last)).any()


def test_groups_are_not_drawn_by_jax(bcg):
    with pytest.raises(mx.InputError, match="kind='groups' draws groups"):
        mx.bootstrap(bcg, n=2, kind="groups", generator="jax")


def test_parts_of_outcomes_are_drawn_by_their_index():
    design = mx.make_design(np.zeros(10), S=np.full(10, 0.3))
    outcomes = drawn_outcomes(design, np.zeros((10, 1)), [np.eye(1)], 5, 0, 0)
    assert outcomes.shape == (5, 10, 1) and len(outcomes) == 5
    np.testing.assert_allclose(outcomes[1:3], outcomes[np.array([1, 2])], rtol=0, atol=ROUNDING)
    assert outcomes[np.arange(0)].shape == (0, 10, 1)
