"""The regressions of a first stage: against statsmodels, and against loops that are written out."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixmeta_jax as mx
from mixmeta_jax.two_stage import batches

AGREES = 1e-8
"""Relative to the standard errors: statsmodels goes on until its deviance stands still."""


def daily(n_locations=4, days=400, seed=3):
    """Seeded series of daily counts, with a calendar, of unequal lengths."""
    rng = np.random.default_rng(seed)
    frames = []
    for c in range(n_locations):
        n = days + 30 * c
        day = np.arange(n)
        x = 15 + 10 * np.sin(day / 58) + rng.normal(0, 3, n) + c
        mean = np.exp(3 + 0.001 * (x - 15) ** 2 + 0.1 * np.cos(day / 30))
        own = {
            "city": f"city {c}",
            "temp": x,
            "deaths": rng.poisson(mean * rng.gamma(20, 1 / 20, n)),
            "day": day,
            "dow": day % 7,
            "pm": rng.gamma(2, 5, n),
            "people": rng.integers(1000, 2000, n),
            "importance": rng.uniform(0.5, 2, n),
            "rate": rng.normal(size=n) + 0.02 * x + 50,
        }
        frames.append(pd.DataFrame(own))
    data = pd.concat(frames, ignore_index=True)
    data["log_people"] = np.log(data["people"])
    data["ill"] = rng.binomial(data["people"], 0.01 + 0.0002 * data["temp"].clip(0))
    data["any"] = (data["deaths"] > 25).astype(int)
    return data


def controls_of(rows):
    """An intercept, two waves and the days of the week."""
    columns = [np.ones(len(rows)), np.sin(rows["day"] / 30), np.cos(rows["day"] / 30)]
    columns += [(rows["dow"] == d) * 1.0 for d in range(1, 7)]
    return np.column_stack(columns)


CONTROLS = "~ sin(day / 30) + cos(day / 30) + C(dow)"


def by_statsmodels(X, y, family, **options):
    sm = pytest.importorskip("statsmodels.api")
    families = {
        "poisson": sm.families.Poisson(),
        "gaussian": sm.families.Gaussian(),
        "binomial": sm.families.Binomial(),
    }
    fit = sm.GLM(y, X, family=families[family.removeprefix("quasi")], **options)
    fit = fit.fit(tol=1e-14, maxiter=100)
    # scale="X2" forgets the trials; Pearson's statistic itself does not.
    scale = fit.pearson_chi2 / fit.df_resid if family.startswith("quasi") else fit.scale
    return fit.params, fit.cov_params() * scale / fit.scale, scale, fit


def log_likelihood(family, rows, outcome, fit, given):
    """Row by row, of the densities of scipy."""
    y, mu = rows[outcome].to_numpy(), np.asarray(fit.fittedvalues)
    if family.endswith("poisson"):
        return stats.poisson.logpmf(y, mu).sum()
    if family.endswith("binomial"):
        return stats.binom.logpmf(y, rows["people"] if "trials" in given else 1, mu).sum()
    weights = rows["importance"].to_numpy() if "weights" in given else 1.0
    variance = (weights * (y - mu) ** 2).mean()
    return stats.norm.logpdf(y, mu, np.sqrt(variance / weights)).sum()


CASES = {
    "quasipoisson": ("quasipoisson", "deaths", {}),
    "poisson": ("poisson", "deaths", {}),
    "gaussian": ("gaussian", "rate", {}),
    "trials": ("binomial", "ill", {"trials": "people"}),
    "quasibinomial": ("quasibinomial", "ill", {"trials": "people"}),
    "ones": ("binomial", "any", {}),
    "offset": ("quasipoisson", "deaths", {"offset": "log_people"}),
    "weights": ("gaussian", "rate", {"weights": "importance"}),
}


@pytest.mark.parametrize(
    ("case", "backend"),
    [
        *((case, "numpy") for case in CASES),
        ("offset", "jax"),
        ("trials", "jax"),
        ("weights", "jax"),
    ],
)
def test_each_location_is_the_regression_of_statsmodels(case, backend):
    family, outcome, given = CASES[case]
    data = daily()

    def basis(x):
        return np.column_stack([x, (x - 15) ** 2])

    first = mx.first_stage(
        data,
        by="city",
        outcome=outcome,
        exposure="temp",
        basis=basis,
        controls=CONTROLS,
        family=family,
        control={"backend": backend},
        **given,
    )
    assert len(first) == 4
    for i, (label, rows) in enumerate(data.groupby("city")):
        X = np.column_stack([basis(rows["temp"].to_numpy()), controls_of(rows)])
        y, options = rows[outcome].to_numpy(float), {}
        if "trials" in given:
            y = np.column_stack([y, rows["people"] - y])
        if "offset" in given:
            options["offset"] = rows["log_people"]
        if "weights" in given:
            options["var_weights"] = rows["importance"]
        params, V, scale, fit = by_statsmodels(X, y, family, **options)
        se = np.sqrt(np.diag(V)[:2])
        assert first.coef.index[i] == label
        np.testing.assert_allclose(first.coef.iloc[i] / se, params[:2] / se, rtol=0, atol=AGREES)
        np.testing.assert_allclose(first.vcov[i], V[:2, :2], rtol=AGREES)
        np.testing.assert_allclose(first.dispersion.iloc[i], scale, rtol=AGREES)
        assert first.df_resid.iloc[i] == fit.df_resid
        own = first.locations.loc[label]
        np.testing.assert_allclose(own.deviance, fit.deviance, rtol=AGREES)
        likelihood = log_likelihood(family, rows, outcome, fit, given)
        charged = (fit.df_model + 1) * (scale if family.startswith("quasi") else 1.0)
        charged += family == "gaussian"  # its variance
        np.testing.assert_allclose(own.qaic, -2 * likelihood + 2 * charged, rtol=AGREES)
        se = np.sqrt(np.diag(V)[2:])
        np.testing.assert_allclose(
            first.control_coef.loc[label] / se, params[2:] / se, rtol=0, atol=AGREES
        )
        names = first.control_coef.columns
        assert names[0] == "(Intercept)" and len(names) == 9
        covariance = first.control_covariance(label)
        assert covariance.index.equals(names)
        np.testing.assert_allclose(covariance, V[2:, 2:], rtol=1e-7, atol=1e-9 * np.abs(V).max())


def lagged(data, **given):
    arguments = {
        "by": "city",
        "outcome": "deaths",
        "exposure": "temp",
        "basis": "ns(percentiles=[20, 80])",
        "lag": (1, 4),
        "lag_basis": "ns(df=2)",
        "controls": CONTROLS,
    }
    return mx.first_stage(data, **(arguments | given))


@pytest.fixture(scope="module")
def holes():
    """Days without a row, exposures, outcomes and controls that are missing."""
    data = daily(3, 200)
    data.loc[10, "temp"] = np.nan
    data.loc[40, "deaths"] = np.nan
    data.loc[60, "dow"] = np.nan
    data["date"] = pd.Timestamp("2001-02-03") + pd.to_timedelta(data["day"], unit="D")
    return data.drop(index=[25, 26, 300]).reset_index(drop=True)


def by_loops(rows, first, label, by_time):
    """Columns of the cross-basis, day by day and lag by lag."""
    position = dict(
        zip(rows["day"] if by_time else range(len(rows)), range(len(rows)), strict=True)
    )
    values = first.bases[label](rows["temp"].to_numpy())
    c = first.lag_basis(np.arange(1.0, 5.0))
    W = np.full((len(rows), values.shape[1] * c.shape[1]), np.nan)
    for t, i in position.items():
        sources = [position.get(t - lag) for lag in range(1, 5)]
        if None not in sources:
            total = 0.0
            for lag, source in enumerate(sources):
                total = total + np.outer(values[source], c[lag])
            W[i] = total.ravel()
    return W


@pytest.mark.parametrize("time", [None, "day", "date"])
def test_lags_are_those_of_a_loop(holes, time):
    first = lagged(holes, time=time)
    assert first.lags == (1, 4) and first.lag_basis.width == 2 and len(first) == 3
    for i, (label, rows) in enumerate(holes.groupby("city")):
        W = by_loops(rows, first, label, by_time=time is not None)
        # Knots of the location's own exposures.
        inner = np.nanpercentile(rows["temp"], [20, 80])
        np.testing.assert_allclose(first.bases[label].knots, inner, rtol=1e-14)
        X = np.column_stack([W, controls_of(rows)])
        y = rows["deaths"].to_numpy()
        whole = ~(np.isnan(X).any(1) | np.isnan(y) | rows["dow"].isna().to_numpy())
        params, V, _, _ = by_statsmodels(X[whole], y[whole], "quasipoisson")
        m = W.shape[1]
        se = np.sqrt(np.diag(V)[:m])
        np.testing.assert_allclose(first.full_coef.iloc[i] / se, params[:m] / se, atol=AGREES)
        np.testing.assert_allclose(first.full_vcov[i], V[:m, :m], atol=AGREES * V[:m, :m].max())
        assert first.locations["n_used"].iloc[i] == whole.sum()
        assert first.locations["n_rows"].iloc[i] == len(rows)


def test_the_series_stand_on_the_steps_of_time(holes):
    label, rows = "city 0", holes[holes["city"] == "city 0"]
    first = lagged(holes, time="date")
    series = first.exposure(label)
    assert len(series) == 200 and np.isnan(series[[10, 25, 26]]).all()
    np.testing.assert_array_equal(series[rows["day"]], rows["temp"])
    np.testing.assert_array_equal(first.outcome(label)[rows["day"]], rows["deaths"])
    assert np.isnan(first.outcome(label)[[25, 26, 40]]).all()
    np.testing.assert_array_equal(lagged(holes).exposure(label), rows["temp"])


def test_reductions_are_contrasts_of_the_surface(holes):
    """The effect of an exposure at a lag, from the coefficients of all columns by hand."""
    first = lagged(holes, time="day")
    place, label = 1, "city 1"
    x, reference = np.array([5.0, 22.0]), np.array([15.0])
    eta = first.full_coef.to_numpy()[place].reshape(3, 2)
    V = first.full_vcov[place]

    def surface(x, lags):
        b, c = first.exposure_bases[label](x), first.lag_basis(np.asarray(lags, float))
        return b @ eta @ c.T, np.einsum("xj,lk->xljk", b, c).reshape(len(x), len(c), -1)

    effects, rows = surface(x, [1, 2, 3, 4])
    for reduced, columns in (
        (first, [0, 1, 2, 3]),
        (first.reduce(), [0, 1, 2, 3]),
        (first.reduce(lag=3), [2]),
        (first.reduce(lag=(2, 3)), [1, 2]),
    ):
        b = reduced.bases[label](x)
        np.testing.assert_allclose(b @ reduced.coef.iloc[place], effects[:, columns].sum(1))
        M = rows[:, columns].sum(1)
        np.testing.assert_allclose(
            b @ reduced.vcov[place] @ b.T, M @ V @ M.T, rtol=1e-9, atol=1e-18
        )
    base, base_rows = surface(reference, [1, 2, 3, 4])
    over = first.reduce(at=22, reference=15)
    c = over.bases[label](np.arange(1.0, 5.0))
    np.testing.assert_allclose(c @ over.coef.iloc[place], (effects[1] - base[0]), rtol=1e-9)
    M = rows[1] - base_rows[0]
    np.testing.assert_allclose(c @ over.vcov[place] @ c.T, M @ V @ M.T, rtol=1e-8, atol=1e-16)
    alone = first.reduce(at=22.0)
    np.testing.assert_allclose(
        alone.bases[label](np.arange(1.0, 5.0)) @ alone.coef.iloc[place], effects[1]
    )
    assert (first.reduction, over.reduction) == ("overall", "at 22 against 15")
    assert first.reduce(lag=(2, 3)).reduction == "lags 2 to 3"
    # Some lags that are all of them are no other reduction.
    assert first.reduce(lag=(1, 4)).reduction == "overall"
    # A reduction is of the cross-basis, whatever it was before.
    assert over.reduce().coef.equals(first.coef)


def test_without_a_lag_basis_every_lag_has_its_own(holes):
    first = lagged(holes, lag_basis=None, basis="linear()")
    assert list(first.full_coef.columns) == ["b1.l1", "b1.l2", "b1.l3", "b1.l4"]
    for lag in range(1, 5):
        column = first.full_coef[f"b1.l{lag}"]
        np.testing.assert_allclose(first.reduce(lag=lag).coef["b1"], column)
    one = lagged(holes, lag=0, lag_basis=None)
    none = lagged(holes, lag=None, lag_basis=None)
    np.testing.assert_allclose(one.coef, none.coef, rtol=1e-12)


def test_knots_of_a_location_or_of_all():
    data = daily(3, 120)
    own = lagged(data, basis="ns(df=3)", lag=None, lag_basis=None)
    both = lagged(data, basis="ns(df=3, of='all')", lag=None, lag_basis=None)
    knots = np.quantile(data["temp"], [1 / 3, 2 / 3])
    for label, rows in data.groupby("city"):
        np.testing.assert_allclose(both.bases[label].knots, knots)
        np.testing.assert_allclose(
            own.bases[label].knots, np.quantile(rows["temp"], [1 / 3, 2 / 3])
        )
        assert own.bases[label].boundary == (rows["temp"].min(), rows["temp"].max())
    mapped = lagged(data, basis=dict(own.bases), lag=None, lag_basis=None)
    pd.testing.assert_frame_equal(mapped.coef, own.coef)


def test_a_function_is_asked_at_exposures_that_are_there():
    """As one that leaves out rows that are NaN, as patsy does; an exposure is missed by 4 lags."""
    data = daily(2, 120)
    data.loc[[5, 130], "temp"] = np.nan

    def careful(x):
        return (x[np.isfinite(x)] / 10)[:, None]

    own = lagged(data, basis=careful)
    plain = lagged(data, basis=lambda x: (x / 10)[:, None])
    assert own.coef.equals(plain.coef) and own.locations["n_used"].tolist() == [120 - 8, 150 - 8]


def test_batches_and_orders_change_nothing():
    """Locations alone, together, in another order and with rows interleaved."""
    data = daily(4, 90)
    first = lagged(data)
    mixed = data.sort_values(["day", "city"], ascending=[True, False], kind="stable")
    again = lagged(mixed)
    assert list(again.coef.index) == list(first.coef.index)[::-1]
    np.testing.assert_allclose(again.coef.loc[first.coef.index], first.coef, rtol=1e-9)
    for label, rows in data.groupby("city"):
        alone = lagged(rows)
        np.testing.assert_allclose(alone.coef.loc[label], first.coef.loc[label], rtol=1e-9)
        np.testing.assert_allclose(alone.vcov[0], first.covariance(label), rtol=1e-9)


def faulty():
    """One location for each way to fail, among two that are as they should be."""
    data = daily(2, 120)
    good = data[data["city"] == "city 0"]

    def changed(name, count=None, **columns):
        return good.head(count or len(good)).assign(city=name, **columns)

    sundays = good["deaths"].where(good["dow"] != 3, 0)
    return pd.concat(
        [
            data,
            changed("few", 13),
            changed("short", 4),
            changed("constant", temp=20.0),
            changed("none", deaths=0),
            changed("parted", deaths=sundays),
            changed("unmeasured", temp=np.nan),
            changed("no controls", dow=np.nan),
            changed("two values", temp=(good["day"] % 2) * 1.0),
            changed("collinear", temp=np.sin(good["day"] / 30)),
            changed("beyond", day=good["day"] * 1e300),
        ],
        ignore_index=True,
    )


FAULTS = {
    "few": "It has 9 row.s. in which nothing is missing for 10 columns",
    "short": "lag=4 is longer than its series, which has 4 step",
    "constant": "The exposure 'temp' is 20 in all its rows",
    "none": "The outcome 'deaths' is zero in all its 116 rows",
    "parted": "parted from the others by the columns, above all by 'C.dow..T.3",
    "unmeasured": "The exposure 'temp' is missing in all its rows",
    "no controls": "The controls are missing in all its rows",
    "collinear": "The predictor '.*' is collinear with",
}


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_a_location_that_fails_disturbs_no_other(backend):
    data = faulty()
    data = data[data["city"].isin([*FAULTS, "city 0", "city 1"])]
    given = {"basis": "linear()", "lag_basis": "linear(intercept=False)"}
    first = lagged(data, control={"backend": backend}, **given)
    assert list(first) == ["city 0", "city 1"] and len(first) == 2
    alone = lagged(daily(2, 120), control={"backend": backend}, **given)
    np.testing.assert_allclose(first.coef.iloc[:2], alone.coef, rtol=1e-10)
    for label, said in FAULTS.items():
        place = list(first.coef.index).index(label)
        assert first.status[label] is mx.Status.NOT_IDENTIFIED, label
        assert np.isnan(first.coef.loc[label]).all() and np.isnan(first.vcov[place]).all()
        assert pd.Series([first.messages[label]]).str.contains(said, regex=True).all(), (
            first.messages[label]
        )
    assert "8 location(s) failed" in str(first) and "few" in repr(first)
    with pytest.raises(KeyError):
        first["few"]
    b, V = first["city 1"]
    np.testing.assert_array_equal(b, first.coef.loc["city 1"])
    assert list(V.columns) == ["b1"] and "few" not in first
    fit = mx.pool(first, bscov="id", method="ml")
    assert list(fit.index) == ["city 0", "city 1"]


def test_knots_outside_the_data_of_a_location():
    data = daily(3, 120)
    data.loc[data["city"] == "city 1", "temp"] *= 0.1
    first = lagged(data, basis="ns(knots=[15, 25])")
    assert list(first) == ["city 0", "city 2"]
    assert "The knot 15 of ns() lies outside its boundary knots" in first.messages["city 1"]


def test_the_number_of_columns_may_be_a_column():
    data = daily(2, 100).assign(years=2)
    by_column = lagged(data, controls="~ ns(day, df=2 * years)")
    by_number = lagged(data, controls="~ ns(day, df=4)")
    np.testing.assert_array_equal(by_column.coef, by_number.coef)
    varying = data.assign(years=data["day"] % 2)
    with pytest.raises(mx.InputError, match="needs one number for df, not a column of 2 values"):
        lagged(varying, controls="~ ns(day, df=2 * years)")
    with pytest.raises(mx.InputError, match=r"needs a whole number for df, not 2\.6"):
        lagged(data, controls="~ ns(day, df=1.3 * years)")


def changed(row, **values):
    data = daily(2, 60)
    for name, value in values.items():
        data[name] = data[name].astype(float)
        data.loc[row, name] = value
    return data


SMALL = daily(2, 60)


@pytest.mark.parametrize(
    ("data", "given", "said"),
    [
        (changed(70, deaths=-1), {}, "outcome 'deaths' is -1 in row 70, of location 'city 1'"),
        (changed(3, deaths=2.5), {}, "'deaths' is 2.5 in row 3, of location 'city 0'.*whole"),
        (changed(3, deaths=np.inf), {}, "outcome.* is infinite in row 3"),
        (changed(3, temp=np.inf), {}, "exposure.* is infinite in row 3"),
        (SMALL, {"family": "binomial"}, "in row 0, of location 'city 0': it must be 0 or 1"),
        (SMALL, {"family": "binomial", "trials": "dow"}, "trials 'dow' is 0 in row 0"),
        (
            changed(4, deaths=5000),
            {"family": "binomial", "trials": "people"},
            "'deaths' is 5000 in row 4, of .*at most the number of trials",
        ),
        (SMALL, {"trials": "people"}, "trials is for the families binomial and quasibinomial"),
        (changed(5, importance=0), {"weights": "importance"}, "importance' is 0 in row 5"),
        (SMALL, {"family": "gamma"}, "family must be one of 'quasipoisson'"),
        (SMALL, {"by": "town"}, "no column 'town' in the data, named in by"),
        (SMALL, {"exposure": "deaths"}, "outcome and exposure are both column 'deaths'"),
        (SMALL.assign(city=[None, *SMALL["city"][1:]]), {}, "Row 0 has no value in column 'city'"),
        (SMALL, {"lag": 90}, "No location can be regressed, of 2. Location 'city 0': lag=90"),
        (SMALL, {"lag": (3, 1)}, "the first lag comes before the last"),
        (SMALL, {"lag": -1}, "lag, if given, must be a whole number of at least 0"),
        (SMALL, {"lag": None}, "lag_basis is given, but lag is None"),
        (SMALL, {"lag_basis": "ns(knots=[9])"}, "lag_basis, at the lags 1 to 4: The knot 9"),
        (SMALL, {"lag": 0, "lag_basis": "linear()"}, "lag_basis has 2 columns, which lag=0"),
        (SMALL, {"controls": "day"}, "controls must be a right-hand side"),
        (SMALL, {"controls": "~ deaths"}, "among its own controls"),
        (SMALL, {"controls": "~ night"}, "no column 'night' in the data, named in controls"),
        (SMALL, {"basis": "ns(knots=[100])"}, "No location can be regressed.*The knot 100"),
        (SMALL, {"basis": {"city 0": np.sin}}, "basis has no entry for location 'city 1'"),
        (SMALL, {"basis": np.sin}, r"returns the shape \(60,\) for 60 exposures"),
        (SMALL, {"basis": lambda x: x / "a"}, "basis, a function, fails on the exposures"),
        (SMALL, {"time": "dow"}, "time 'dow' does not ascend in row 7, of location 'city 0'"),
        (SMALL, {"time": "rate"}, "it must be dates or whole numbers"),
        (
            SMALL.assign(day="2001-02-03"),
            {"time": "day"},
            "'day' holds '2001-02-03' in row 0, of location 'city 0': make it a column of dates",
        ),
        (SMALL.assign(day=date(2001, 2, 3)), {"time": "day"}, "as pandas.to_datetime does"),
        (changed(4, day=np.nan), {"time": "day"}, "time 'day' is missing in row 4"),
        (
            SMALL.assign(day=SMALL["day"] * 5 + (SMALL.index == 59)),
            {"time": "day"},
            "time 'day' of row 59.* is no whole number of steps",
        ),
        (
            SMALL.assign(day=SMALL["day"] * 10**6 + (SMALL["day"] == 1) * (1 - 10**6)),
            {"time": "day"},
            "steps for 150 rows",
        ),
    ],
)  # fmt: skip
def test_bad_input(data, given, said):
    with pytest.raises(mx.InputError, match=said):
        lagged(data, **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lag": 5}, "lag is 5, but the regressions hold the lags 1 to 4"),
        ({"lag": (0, 2)}, "hold the lags 1 to 4"),
        ({"lag": 1, "at": 3}, "two ways to reduce"),
        ({"reference": 3}, "give at too"),
        ({"at": 3, "reference": 3.0}, "at and reference are both 3: an exposure has no effect"),
        ({"at": "hot"}, "at must be a finite number"),
    ],
)
def test_bad_reductions(holes, given, said):
    with pytest.raises(mx.InputError, match=said):
        lagged(holes).reduce(**given)


def test_an_exposure_that_some_locations_have_not_had(holes):
    first = lagged(holes)
    seen = [first.exposure(label) for label in first]
    least, most = (np.array([end(x) for x in seen]) for end in (np.nanmin, np.nanmax))
    first.reduce(at=least.max(), reference=most.min())
    above = np.nextafter(most.min(), np.inf)
    label = list(first)[most.argmin()]
    said = f"outside the exposures of 1 of 3 location.s., first of '{label}', which has .* to "
    with pytest.warns(UserWarning, match=f"at={above:g} lies {said}"):
        beyond = first.reduce(at=above)
    assert np.isfinite(beyond.coef).all(axis=None)
    with pytest.warns(UserWarning, match="reference=-80 lies outside the exposures of 3 of 3"):
        first.reduce(at=least.max(), reference=-80)


def test_at_needs_lags(holes):
    with pytest.raises(mx.InputError, match="there are none: lag is None"):
        lagged(holes, lag=None, lag_basis=None).reduce(at=3)


# Thresholds, a case on each side.


def regressed(X, y, family="gaussian", **given):
    """One location of given columns; the first is that of the exposure."""
    data = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    data = data.assign(y=y, city="a", **given)
    controls = " + ".join(["~ 1", *data.columns[1 : X.shape[1]]])
    roles = {name: name for name in given}
    return mx.first_stage(
        data, "city", "y", "x0", "linear()", controls=controls, family=family, **roles
    )


def grid(n=60):
    t = np.linspace(0, 1, n)
    return np.column_stack([np.sin(7 * t), t])


@pytest.mark.parametrize(("left_over", "by_cholesky"), [(2e-4, True), (5e-5, False)])
def test_columns_with_a_small_pivot_get_an_orthogonal_factorisation(left_over, by_cholesky):
    """`PLAIN_PIVOT` is 1e-4: what the second column leaves of the first, of length one."""
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 2)))[0]
    X = np.column_stack([Q[:, 0], np.sqrt(1 - left_over**2) * Q[:, 0] + left_over * Q[:, 1]])
    assert (batches._factor(X) is not None) == by_cholesky
    y = np.random.default_rng(1).normal(size=50)
    first = regressed(X, y)
    exact = np.linalg.lstsq(np.column_stack([X, np.ones(50)]), y)[0]
    np.testing.assert_allclose(first.coef.iloc[0, 0], exact[0], rtol=1e-9)


@pytest.mark.parametrize(("left_over", "told"), [(1e-8, False), (1e-10, True)])
def test_columns_are_collinear_as_in_a_fit(left_over, told):
    """`DEPENDENT` is 1e-9."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 50))
    X = np.column_stack([x, x + left_over * noise])
    if told:
        with pytest.raises(mx.InputError, match="is collinear with"):
            regressed(X, rng.normal(size=50))
    else:
        assert len(regressed(X, rng.normal(size=50))) == 1


@pytest.mark.parametrize(("noise", "exact"), [(1e-10, False), (1e-14, True)])
def test_an_outcome_that_the_columns_explain(noise, exact):
    """`EXACT_FIT` is 1e-24 of the sum of squares: residuals of 1e-12 of the outcome."""
    X = grid()
    y = 2 + X[:, 0] + 3 * X[:, 1] + noise * np.random.default_rng(0).normal(size=len(X))
    if exact:
        with pytest.raises(mx.InputError, match="explain the outcome exactly"):
            regressed(X, y)
    else:
        first = regressed(X, y)
        assert first.coef.iloc[0, 0] == pytest.approx(1, abs=1e-9) and len(first) == 1


@pytest.mark.parametrize("level", [0.0, 1e6, 1e10])
def test_outcomes_far_from_zero_settle_at_their_rounding(level):
    """Beyond `DECREMENT`, which rounding alone exceeds, by `ROUNDED_DECREMENT`."""
    X, noise = grid(), np.random.default_rng(0).normal(size=60)
    first = regressed(X, level + noise)
    plain = regressed(X, noise)
    np.testing.assert_allclose(first.coef, plain.coef, rtol=1e-4 if level > 1e8 else 1e-8)


@pytest.mark.parametrize(("events", "parted"), [(1, False), (0, True)])
def test_rows_that_are_set_apart(events, parted):
    """`PARTED_SHARE` and `PARTED_STEP`: one event among a million people is no parting."""
    rng = np.random.default_rng(0)
    apart = np.arange(60) >= 40
    y = np.where(apart, 0, rng.poisson(30, 60))
    y[59] = events
    X = np.column_stack([rng.normal(size=60), apart])
    people = np.where(apart, np.log(1e6), 0.0)
    if parted:
        with pytest.raises(mx.InputError, match=r"are parted from the others.*'x1'"):
            regressed(X, y, "poisson", offset=people)
    else:
        assert len(regressed(X, y, "poisson", offset=people)) == 1


def test_a_step_that_overshoots_is_halved():
    """Newton's first steps from weighted least squares raise this deviance; the end is the same."""
    x = np.array([-40.0, -1, 0, 1, 2, 3, 40, 80])
    y = np.array([0, 0, 1, 0, 1, 1, 1, 1])
    first = regressed(x[:, None], y, "binomial")
    assert len(first) == 1
    params, V, _, _ = by_statsmodels(np.column_stack([x, np.ones(8)]), y, "binomial")
    np.testing.assert_allclose(first.coef.iloc[0, 0], params[0], rtol=1e-6)
