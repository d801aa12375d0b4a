"""Attributable numbers: against loops over days and lags, and the closed form of a linear one."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from tests.two_stage.locations import NUMPY, days, pooled, quadratic

NAMES = ["number", "lower", "upper", "fraction", "fraction_lower", "fraction_upper"]


def forward_loop(b, x, y, reference, first, last, low=-np.inf, high=np.inf):
    """Number, outcomes and days, day by day and lag by lag."""
    number = outcomes = 0.0
    counted = 0
    for t in range(len(x)):
        later = [y[t + lag] for lag in range(first, last + 1) if t + lag < len(y)]
        if np.isnan(x[t]) or len(later) < last - first + 1 or np.isnan(later).any():
            continue
        counted += 1
        mean = sum(later) / len(later)
        outcomes += mean
        if low <= x[t] < high:
            risk = np.exp((quadratic([x[t]]) - quadratic([reference]))[0] @ b)
            number += mean * (risk - 1) / risk
    return number, outcomes, counted


def weights_of_lags(x):
    """A basis of histories: a smaller part of `quadratic` at each lag."""
    return sum(quadratic(x[:, lag]) / (1 + lag) for lag in range(x.shape[1]))


def backward_loop(b, x, y, reference, last, low=-np.inf, high=np.inf):
    number = outcomes = 0.0
    counted = 0
    for t in range(last, len(x)):
        past = [x[t - lag] for lag in range(last + 1)]
        if np.isnan(past).any() or np.isnan(y[t]):
            continue
        counted += 1
        outcomes += y[t]
        log_risk = sum(
            (quadratic([own]) - quadratic([reference]))[0] @ b / (1 + lag)
            for lag, own in enumerate(past)
            if low <= own < high
        )
        number += y[t] * (1 - np.exp(-log_risk))
    return number, outcomes, counted


@pytest.mark.parametrize("lag", [0, 3, (2, 5)])
def test_forward_numbers_are_those_of_a_loop(lag):
    fit = pooled()
    exposure, outcome = days()
    minima = mx.minimum_risk(fit, quadratic, exposure, n=2).exposure
    ranges = {"cold": (None, "reference"), "heat": (minima, None), "mild": (5, {**minima})}
    ranges["extreme"] = ("97.5%", None)
    table = mx.attributable(
        fit, quadratic, exposure, outcome, lag=lag, ranges=ranges, by="region", n=2
    )
    first, last = lag if isinstance(lag, tuple) else (0, lag)
    totals = dict.fromkeys(["north", "south", "total"], 0.0)
    for i, (label, b) in enumerate(fit.blup().iterrows()):
        x, y, centre = exposure[label], outcome[label], minima[label]
        own = {"cold": (-np.inf, centre), "heat": (centre, np.inf), "mild": (5, centre)}
        own["extreme"] = (np.nanpercentile(x, 97.5), np.inf)
        for name, ends in own.items():
            number, outcomes, counted = forward_loop(b, x, y, centre, first, last, *ends)
            row = table.loc[("location", label, name)]
            np.testing.assert_allclose(row.number, number, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(row.fraction, number / outcomes, rtol=1e-8, atol=1e-12)
            np.testing.assert_allclose(row.outcomes, outcomes, rtol=1e-12)
            assert row.days == counted < 60
        number, outcomes, _ = forward_loop(b, x, y, centre, first, last)
        for whole in (["north", "south"][i % 2], "total"):
            totals[whole] += number
    # Cold and heat together are all days.
    for whole, number in totals.items():
        key = ("total" if whole == "total" else "region", whole)
        both = table.loc[key].loc[["cold", "heat"], "number"].sum()
        np.testing.assert_allclose(both, number, rtol=1e-8)


def test_backward_numbers_are_those_of_a_loop():
    fit = pooled()
    exposure, outcome = days()
    ranges = {"all": (None, None), "cold": (None, 15), "heat": (15, None)}
    table = mx.attributable(
        fit,
        weights_of_lags,
        exposure,
        outcome,
        reference=15,
        ranges=ranges,
        lag=4,
        direction="backward",
        n=2,
    )
    for label, b in fit.blup().iterrows():
        for name, ends in (("all", ()), ("cold", (-np.inf, 15)), ("heat", (15, np.inf))):
            number, outcomes, counted = backward_loop(
                b, exposure[label], outcome[label], 15, 4, *ends
            )
            row = table.loc[("location", label, name)]
            np.testing.assert_allclose(row.number, number, rtol=1e-10)
            np.testing.assert_allclose(row.outcomes, outcomes, rtol=1e-12)
            assert row.days == counted


def test_without_lags_both_directions_are_one():
    fit = pooled()
    exposure, outcome = days()
    given = (fit, quadratic, exposure, outcome, 12)
    forward, backward = (
        mx.attributable(*given, direction=way, n=10) for way in ("forward", "backward")
    )
    assert forward.equals(backward)


def lines(x):
    """A linear basis so small that 1 − exp(−f) is f to a ten-thousandth."""
    return 1e-5 * quadratic(x)


def test_intervals_of_a_total_are_joint():
    """Σ c_iᵀb_i has the variance cᵀJc of all locations together, not the sum of c_iᵀV_ic_i."""
    fit = pooled(n=40, spread=0.02, error=0.3, seed=6)
    exposure, outcome = days(40)
    n = 20_000
    table = mx.attributable(fit, lines, exposure, outcome, reference=15, by="region", n=n, seed=7)
    c = []
    for label in fit.index:
        used = np.isfinite(exposure[label]) & np.isfinite(outcome[label])
        change = lines(exposure[label][used]) - lines([15.0])
        c.append(outcome[label][used] @ change)
    b, V = fit.blup(vcov=True, se_method="exact")
    _, joint = fit.blup(vcov="joint", se_method="exact")
    J = joint.to_numpy()
    c = np.concatenate(c)
    parts = {"total": np.ones(80)}
    parts |= {"north": np.repeat([1, 0] * 20, 2), "south": np.repeat([0, 1] * 20, 2)}
    for name, part in parts.items():
        row = table.loc[("total" if name == "total" else "region", name, "all")]
        own = c * part
        se = np.sqrt(own @ J @ own)
        # A standard deviation of 20,000 draws is right to half a percent.
        np.testing.assert_allclose(row.number, own @ b.to_numpy().ravel(), rtol=1e-3)
        np.testing.assert_allclose(row.se, se, rtol=0.015)
        np.testing.assert_allclose(row.upper - row.lower, 2 * 1.959964 * se, rtol=0.03)
        pairs = own.reshape(40, 2)
        independent = np.sqrt(np.einsum("ni,nij,nj->", pairs, V, pairs))
        # As independent locations, whose errors cancel, this total would seem known far better.
        assert independent < 0.5 * se
    # Each location by itself is the same either way.
    for i, label in enumerate(fit.index):
        own = c[2 * i : 2 * i + 2]
        row = table.loc[("location", label, "all")]
        np.testing.assert_allclose(row.se, np.sqrt(own @ V[i] @ own), rtol=0.03)


def test_draws_of_several_levels_are_joint():
    """Locations of one country share its effects too: the same closed form with two levels."""
    base = pooled()
    pairs = {label: (base.frame.y[i], base.S[i]) for i, label in enumerate(base.index)}
    data = base.data[["region", "x"]].assign(city=list(base.index))
    fit = mx.pool(pairs, data=data, random="~ 1 | region/city", bscov="diag", control=NUMPY)
    exposure, outcome = days()
    table = mx.attributable(fit, lines, exposure, outcome, reference=15, n=20_000)
    J = fit.blup(vcov="joint", se_method="exact")[1].to_numpy()
    c = []
    for label in fit.index:
        used = np.isfinite(exposure[label]) & np.isfinite(outcome[label])
        c.append(outcome[label][used] @ (lines(exposure[label][used]) - lines([15.0])))
    c = np.concatenate(c)
    se = table.loc[("total", "total", "all"), "se"]
    np.testing.assert_allclose(se, np.sqrt(c @ J @ c), rtol=0.015)


def test_shares_are_of_the_outcomes_that_are_summed():
    fit = pooled()
    exposure, outcome = days()
    table = mx.attributable(fit, quadratic, exposure, outcome, reference=10, by="region", n=200)
    sums = table.loc["location"][["number", "outcomes", "days"]].sum()
    total = table.loc[("total", "total", "all")]
    np.testing.assert_allclose(total[["number", "outcomes", "days"]], sums, rtol=1e-12)
    for part, of in (("number", "fraction"), ("lower", "fraction_lower")):
        np.testing.assert_allclose(table[of], table[part] / table.outcomes, rtol=1e-12)
    assert (table.lower < table.number).all() and (table.number < table.upper).all()
    # The same regions, looked up.
    given = mx.attributable(
        fit, quadratic, exposure, outcome, 10, by=fit.data.region.to_dict(), n=200
    )
    assert given.equals(table)


def test_a_range_that_the_reference_leaves_empty_has_no_number():
    """Where fewest die beyond the percentile at which a range ends, no day is in it."""
    fit = pooled()
    exposure, outcome = days()
    reference = dict.fromkeys(fit.index, 15.0) | {"city 2": 29.5}
    ranges = {"mild": ("reference", "90%"), "hot": ("90%", None)}
    given = {"reference": reference, "ranges": ranges, "n": 20}
    table = mx.attributable(fit, quadratic, exposure, outcome, **given)["number"]
    own = table.loc["location"]
    assert own["city 2", "mild"] == 0 and (own.drop("city 2").xs("mild", level=1) != 0).all()
    assert table["total", "total", "mild"] == pytest.approx(own.xs("mild", level=1).sum())
    assert own["city 2", "hot"] != 0


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_numbers_of_periods_are_those_of_their_days(direction):
    """Against the loops, with the days of the other periods left out of the sum."""
    fit = pooled()
    exposure, outcome = days()
    seasons = ["cold", None, "hot", "hot"] * 15
    years = {label: np.repeat([2001, 2002], 30) + (i == 0) for i, label in enumerate(fit.index)}
    ranges = {"low": (None, 15), "high": (15, None)}
    given = {"reference": 15, "ranges": ranges, "by": "region", "n": 50, "direction": direction}
    basis = quadratic if direction == "forward" else weights_of_lags
    every = mx.attributable(fit, basis, exposure, outcome, lag=3, **given)
    by_year = mx.attributable(fit, basis, exposure, outcome, lag=3, period=years, **given)
    assert by_year.index.names == ["of", "label", "period", "range"]
    assert by_year.index.unique("period").tolist() == [2001, 2002, 2003]
    sums = by_year.groupby(level=["of", "label", "range"], sort=False).sum()
    for name in ("number", "outcomes", "days"):
        np.testing.assert_allclose(sums[name], every[name], rtol=1e-9, atol=1e-9)
    assert by_year.loc[("location", "city 1", 2003), "number"].tolist() == [0, 0]
    season = mx.attributable(fit, basis, exposure, outcome, lag=3, period=seasons, **given)
    assert season.index.unique("period").tolist() == ["cold", "hot"]
    totals = dict.fromkeys(["cold", "hot"], 0.0)
    for label, b in fit.blup().iterrows():
        for name in totals:
            # A day that is not counted has no exposure, forward, or no outcome, backward.
            x, y = exposure[label].copy(), outcome[label].copy()
            (x if direction == "forward" else y)[[own != name for own in seasons]] = np.nan
            if direction == "forward":
                number, outcomes, counted = forward_loop(b, x, y, 15, 0, 3, 15)
            else:
                number, outcomes, counted = backward_loop(b, x, y, 15, 3, 15)
            row = season.loc[("location", label, name, "high")]
            np.testing.assert_allclose(row.number, number, rtol=1e-8)
            np.testing.assert_allclose(row.outcomes, outcomes, rtol=1e-12)
            assert row.days == counted
            totals[name] += number
    for name, number in totals.items():
        row = season.loc[("total", "total", name, "high")]
        np.testing.assert_allclose(row.number, number, rtol=1e-8)
        assert row.lower < row.number < row.upper


CITIES = pooled().index
EXPOSURE, OUTCOME = days()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"exposure": None}, "exposure is missing"),
        ({"outcome": None}, "outcome is missing"),
        ({"outcome": {"city 0": [1.0]}}, "outcome has nothing for location 'city 1'"),
        ({"outcome": OUTCOME | {"city 2": [1.0]}}, "location 'city 2' have 60 and 1 days"),
        (
            {"outcome": OUTCOME | {"city 2": [2.0] * 59 + [-1]}},
            "city 2' is negative .-1. on day 59",
        ),
        ({"outcome": OUTCOME | {"city 2": [2.0] + [np.nan] * 59}, "lag": 1}, "city 2' have no day"),
        ({"reference": 1e9}, "attributable in location 'city 0' is not finite"),
        ({"lag": (3, 1)}, "first lag comes before the last"),
        ({"lag": -1}, "lag, if given, must be a whole number"),
        ({"reference": "mean"}, "reference must be one of 'minimum'"),
        ({"reference": {"city 0": 1.0}}, "reference has nothing for location 'city 1'"),
        ({"direction": "backward", "lag": 2, "reference": "minimum"}, "basis of histories has no"),
        ({"direction": "sideways"}, "direction must be one of"),
        ({"ranges": {"cold": (None, 3, 4)}}, "the range 'cold' in ranges must be a pair"),
        (
            {"ranges": {"cold": ("3", None)}},
            "an end of the range 'cold' in ranges must be a number",
        ),
        ({"ranges": {"cold": ("101%", None)}}, "must be a number, 'reference', a percentile"),
        ({"ranges": {"cold": (5, 4)}}, "goes from 5 to 4 in location 'city 0'"),
        ({"ranges": {"cold": ("95%", "5%")}}, "range 'cold' in ranges goes from .* in location"),
        ({"by": pd.Series("a", index=CITIES, name="total")}, "by is called 'total', as the rows"),
        ({"by": pd.Series("a", index=CITIES, name="location")}, "by is called 'location'"),
        ({"ranges": {}}, "ranges must be a mapping"),
        (
            {"period": [2001] * 59},
            "of location 'city 0' has 59 labels, but its series has",
        ),
        ({"period": {"city 0": [1] * 60}}, "period has nothing for location 'city 1'"),
        ({"period": [None] * 60}, "period has no label of any day"),
        ({"period": [[1]] * 60}, "period must be the labels of the days"),
        ({"by": "country"}, "no column 'country' in the data, named in by"),
        ({"by": {"city 0": "a"}}, "by has nothing for location 'city 1'"),
        ({"by": dict.fromkeys(CITIES, np.nan)}, "by of location 'city 0' must be the name"),
    ],
)
def test_bad_input(arguments, sentence):
    given = {"exposure": EXPOSURE, "outcome": OUTCOME, "reference": 12}
    with pytest.raises(mx.InputError, match=sentence):
        mx.attributable(pooled(), quadratic, **(given | arguments))


def test_labels_that_stand_for_two_rows():
    y, S = np.array([[0.1, 0.2], [0.2, 0.1], [0.3, 0.3]]), np.stack([np.eye(2)] * 3)
    frame = pd.DataFrame(y, columns=["a", "b"], index=["x", "x", "y"])
    fit = mx.mixmeta("a + b", S, frame, bscov="id", control=NUMPY)
    with pytest.raises(mx.InputError, match="two rows of the label 'x'"):
        mx.attributable(fit, quadratic, EXPOSURE, OUTCOME)
