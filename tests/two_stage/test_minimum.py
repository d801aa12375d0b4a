"""Exposures of minimum risk: closed forms of parabolas, and what places a minimum may have."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

import mixmeta_jax as mx
from mixmeta_jax.tolerances import FLAT_CURVE
from mixmeta_jax.two_stage.lowest import (
    FLAT_PLACE,
    GRID_POINTS,
    INTERIOR,
    LOWER_END,
    UPPER_END,
    lowest,
)
from mixmeta_jax.two_stage.minimum import KINKED, CurveSearch
from tests.two_stage.locations import NUMPY, days, pooled, quadratic


def vertex(b):
    """Where a parabola of `quadratic` is lowest."""
    return -5 * b[..., 0] / b[..., 1]


def test_parabolas_are_lowest_at_their_vertex():
    fit = pooled()
    table = mx.minimum_risk(fit, quadratic, within=(0, 30))
    b = fit.blup().to_numpy()
    assert (table.place == "interior").all()
    np.testing.assert_allclose(table.exposure[:-1], vertex(b), rtol=1e-9)
    # The pooled curve is that of the mean of the predictors, here x = 0.
    mean = fit.predict({"x": [0.0]}).to_numpy()[0]
    np.testing.assert_allclose(table.exposure["pooled"], vertex(mean), rtol=1e-9)
    assert table.percentile.isna().all() and list(table.index)[-1] == "pooled"


def test_delta_intervals_are_those_of_the_vertex():
    fit = pooled()
    table = mx.minimum_risk(fit, quadratic, within=(0, 30), conf_level=0.9)
    b, V = fit.blup(vcov=True, se_method="exact")
    # The pooled curve too, at the mean of the predictors, x = 0.
    mean, mean_V = fit.predict({"x": [0.0]}, vcov=True)
    b, V = np.vstack([b, mean]), np.concatenate([V, mean_V])
    for i, (own, (_, row)) in enumerate(zip(b, table.iterrows(), strict=True)):
        slope = np.array([-5 / own[1], 5 * own[0] / own[1] ** 2])
        se = np.sqrt(slope @ V[i] @ slope)
        np.testing.assert_allclose(row.se, se, rtol=1e-5)
        # The 0.95 quantile of the standard normal distribution.
        np.testing.assert_allclose(row.delta_upper - row.exposure, 1.6448536269514722 * se, 1e-5)
        assert row.delta_lower < row.exposure < row.delta_upper


def test_simulated_intervals_are_quantiles_of_the_joint_distribution():
    fit = pooled()
    n = 20_000
    table = mx.minimum_risk(fit, quadratic, within=(0, 30), n=n, seed=5, conf_level=0.8)
    b, joint = fit.blup(vcov="joint", se_method="exact")
    # Other draws of the same distribution: of 20,000, a decile of a normal variable has the
    # standard error 0.012, two of them differ by 0.017.
    values, vectors = np.linalg.eigh(joint)
    root = vectors * np.sqrt(np.maximum(values, 0))
    drawn = b.to_numpy().ravel() + np.random.default_rng(1).normal(size=(n, 16)) @ root.T
    mean, mean_V = fit.predict({"x": [0.0]}, vcov=True)
    mean = np.random.default_rng(2).multivariate_normal(mean.to_numpy()[0], mean_V[0], n)
    minima = np.column_stack([vertex(drawn.reshape(n, 8, 2)), vertex(mean)])
    width = table.se.to_numpy()
    for end, level in (("lower", 10), ("upper", 90)):
        expected = np.percentile(minima, level, axis=0)
        assert (np.abs(table[end] - expected) < 0.08 * width).all()


def test_minima_of_splines_are_those_of_a_bounded_search():
    rng = np.random.default_rng(2)
    basis = mx.first_stage(*_of_a_city(rng), basis="ns(knots=[8, 16, 24], boundary=[0, 30])").bases[
        "a"
    ]
    search = CurveSearch(basis, np.array([1.0, 29.0]), 4, "a")
    b = rng.normal(size=(20, 4))
    found, place = search.minima(b)
    dense = np.linspace(1, 29, 20_001)
    columns = basis(dense)
    for own, x, at in zip(b, found, place, strict=True):

        def curve(t, own=own):
            return float(basis(np.array([t]))[0] @ own)

        # A slow independent search: next to the lowest of 20,001 points.
        near = dense[(columns @ own).argmin()]
        ends = (max(near - 0.01, 1), min(near + 0.01, 29))
        best = minimize_scalar(curve, bounds=ends, method="bounded", options={"xatol": 1e-9})
        np.testing.assert_allclose(x, best.x, atol=1e-6)
        assert (at == INTERIOR) == (1.0 + 1e-5 < x < 29.0 - 1e-5)
    assert {INTERIOR, LOWER_END, UPPER_END} == set(place)


def _of_a_city(rng):
    x = rng.uniform(0, 30, 300)
    frame = pd.DataFrame({"by": "a", "y": rng.poisson(20, 300), "x": x})
    return frame, "by", "y", "x"


def test_percentiles_give_the_range_and_the_share():
    fit = pooled()
    exposure, _ = days()
    table = mx.minimum_risk(fit, quadratic, exposure, percentiles=(10, 40))
    ends = np.array([np.nanpercentile(x, [10, 40]) for x in exposure.values()])
    assert (table.exposure[:-1] <= ends[:, 1]).all() and (table.exposure[:-1] >= ends[:, 0]).all()
    assert (table.place == "upper end").sum() > 3 and (table.at_ends > 0).any()
    assert np.isnan(table.se[table.place == "upper end"]).all()
    for label, row in table[:-1].iterrows():
        known = exposure[label][np.isfinite(exposure[label])]
        assert row.percentile == pytest.approx(100 * np.mean(known <= row.exposure))
    # The range of the pooled curve is the mean of theirs.
    assert table.exposure["pooled"] == pytest.approx(ends[:, 1].mean())
    reached = (table.place[:-1] == "upper end").to_numpy()
    np.testing.assert_allclose(table.upper[:-1][reached], ends[reached, 1])


def threshold(x):
    """Flat up to 20, a line from there."""
    return np.maximum(np.asarray(x) - 20, 0)[:, None]


def hockey(x):
    """Lines on either side of 20."""
    x = np.asarray(x)
    return np.stack([np.maximum(20 - x, 0), np.maximum(x - 20, 0)], axis=1)


def pooled_lines(rising):
    b = {label: ([rising, rising + 0.01 * i], 1e-6 * np.eye(2)) for i, label in enumerate("abcd")}
    return mx.pool(b, bscov="id", control=NUMPY)


def test_places_of_a_minimum():
    table = mx.minimum_risk(pooled_lines(0.3), hockey, within=(0, 30))
    assert (table.place == "kink").all() and table.se.isna().all()
    np.testing.assert_allclose(table.exposure, 20, rtol=1e-12)
    np.testing.assert_allclose(table[["lower", "upper"]], 20, rtol=1e-9)
    assert (table.at_ends == 0).all()
    one = mx.pool([([0.3], [[1e-6]]), ([0.2], [[1e-6]]), ([0.4], [[1e-6]])], control=NUMPY)
    flat = mx.minimum_risk(one, threshold, within=(0, 30))
    assert (flat.place == "flat").all() and (flat.exposure == 0).all()
    upper = mx.minimum_risk(pooled_lines(0.3), lambda x: -np.stack([x, x], 1), within=(0, 30))
    assert (upper.place == "upper end").all() and (upper.exposure == 30).all()
    assert (upper.at_ends == 1).all() and (upper.upper == 30).all()


@pytest.mark.parametrize(("rise", "place"), [(0.5, FLAT_PLACE), (2.0, LOWER_END)])
def test_how_flat_a_flat_curve_is(rise, place):
    """Lines that rise by a part of `FLAT_CURVE` over three points, and by one a little more."""

    # A line to the second point before the end, and a jump, of which the rise is a part.
    def basis(x):
        return (rise * FLAT_CURVE * (GRID_POINTS - 1) * x / 2 + (x > 0.999))[:, None]

    # The jump makes the whole curve's height 1.
    _, found = lowest(basis, np.ones((1, 1)), 0.0, 1.0)
    assert found[0] == place


@pytest.mark.parametrize(("bend", "place"), [(0.0, KINKED), (1e5, INTERIOR)])
def test_what_counts_as_a_kink(bend, place):
    """A kink among parabolas as sharp as over a few thousandths of the range."""

    def basis(x):
        u = x - 0.5
        return (np.abs(u) if bend == 0 else np.sqrt(u**2 + 1 / bend))[:, None]

    _, found = CurveSearch(basis, np.array([0.0, 1.0]), 1, "a").minima(np.ones((1, 1)))
    assert found[0] == place


def test_bases_of_their_own_have_a_pooled_curve_where_one_is_given():
    fit = pooled()
    bases = {label: (lambda x, s=i: quadratic(x + s)) for i, label in enumerate(fit.index)}
    table = mx.minimum_risk(fit, bases, within=(0, 30))
    shared = mx.minimum_risk(fit, quadratic, within=(0, 30))
    np.testing.assert_allclose(table.exposure + np.arange(8), shared.exposure[:-1], rtol=1e-8)
    assert "pooled" not in table.index
    given = mx.minimum_risk(fit, bases, within=(0, 30), pooled=quadratic)
    np.testing.assert_allclose(given.exposure["pooled"], shared.exposure["pooled"], rtol=1e-12)


def test_a_seed_gives_the_same_intervals():
    same = [mx.minimum_risk(pooled(), quadratic, within=(0, 30), seed=s, n=50) for s in (1, 1, 2)]
    assert same[0].equals(same[1]) and not same[0].equals(same[2])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "exposure is missing"),
        ({"within": (3, 3)}, "within of location 'city 0' has the range from 3 to 3"),
        ({"within": {"city 0": (0, 1)}}, "within has nothing for location 'city 1'"),
        ({"exposure": {"city 0": [1, 2]}}, "exposure has nothing for location 'city 1'"),
        ({"exposure": {label: [4.0, 4.0] for label in pooled().index}}, "from 4 to 4"),
        ({"exposure": {label: [np.nan] for label in pooled().index}}, "holds no number"),
        ({"within": (0, 1), "percentiles": (99, 1)}, "percentiles are 99 and 1"),
        ({"within": (0, 1), "basis": {"city 0": quadratic}}, "basis has nothing for .*city 1"),
        ({"within": (0, 1), "basis": np.ones((3, 2))}, "basis must be a function"),
        ({"within": (0, 1), "basis": threshold}, r"array of shape \(401, 1\) of 401 exposures"),
        ({"within": (0, 1), "basis": lambda x: 1 / 0}, "fails .*ZeroDivisionError"),
        ({"within": (0, 1), "basis": lambda x: quadratic(x) + np.nan}, "not finite at the"),
        ({"within": (0, 1), "n": 1}, "n must be a whole number of at least 2"),
        ({"within": (0, 1), "pooled": 3}, "pooled must be a function"),
    ],
)
def test_bad_input(arguments, sentence):
    with pytest.raises(mx.InputError, match=sentence):
        mx.minimum_risk(pooled(), **({"basis": quadratic} | arguments))
