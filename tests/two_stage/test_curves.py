"""Curves by a basis that is a function, of all locations or of each."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.two_stage.bases import Linear, LinearThreshold, NaturalSpline, Strata, average_of
from tests.two_stage.locations import NUMPY, pooled, quadratic


def shifted(label):
    """A basis of a location's own."""
    start = int(label.split()[1])
    return lambda x: quadratic(np.asarray(x) - start)


def test_a_function_is_its_columns():
    fit, at = pooled(), [5, 10, 25]
    given = mx.curves(fit, quadratic(at), at=at)
    table = mx.curves(fit, quadratic, at=at)
    np.testing.assert_allclose(table, given, rtol=1e-12)
    assert table.index.equals(given.index)
    exact = mx.curves(fit, quadratic, at=at, se_method="exact")
    _, V = fit.blup(vcov=True, se_method="exact")
    own = np.sqrt(np.einsum("mi,nij,mj->nm", quadratic(at), V, quadratic(at)))
    np.testing.assert_allclose(exact["se"], own.ravel(), rtol=1e-12)


@pytest.mark.parametrize("level", [None, 0])
def test_bases_exposures_and_references_of_each_location(level):
    fit = pooled()
    bases = {label: shifted(label) for label in fit.index} | {"elsewhere": None}
    at = {label: np.arange(3.0 + i) for i, label in enumerate(fit.index)}
    reference = pd.Series({label: 10.0 + i for i, label in enumerate(fit.index)})
    table = mx.curves(fit, bases, at, level=level, reference=reference, conf_level=0.5)
    b, V = fit.blup(level=level, vcov=True)
    for i, label in enumerate(fit.index):
        columns = bases[label](at[label]) - bases[label]([reference[label]])
        own = table.loc[label]
        assert own.index.tolist() == at[label].tolist()
        np.testing.assert_allclose(own["curve"], columns @ b.loc[label], rtol=1e-10)
        se = np.sqrt(np.diag(columns @ V[i] @ columns.T))
        np.testing.assert_allclose(own["se"], se, rtol=1e-10)
        # The 0.75 quantile of the standard normal distribution.
        np.testing.assert_allclose(own["upper"] - own["curve"], 0.6744897501960817 * se, rtol=1e-9)


def test_curves_are_zero_at_the_reference():
    fit = pooled()
    minima = mx.minimum_risk(fit, quadratic, within=(0, 30), n=2)
    at = dict(zip(fit.index, minima.exposure.to_numpy()[:, None], strict=False))
    table = mx.curves(fit, quadratic, at, reference=minima["exposure"])
    assert (table == 0).all(axis=None)
    everywhere = mx.curves(fit, quadratic, np.arange(0, 31), reference=minima["exposure"])
    assert (everywhere["curve"] >= -1e-12).all()


def test_excluded_rows_have_no_curve():
    data = pooled().data.assign(x=[np.nan, *range(7)])
    y, S = pooled().frame.y, pooled().S
    frame = data.assign(p=y[:, 0], q=y[:, 1])
    given = {"S": S, "data": frame, "bscov": "diag", "control": NUMPY}
    fits = [mx.mixmeta("p + q ~ x", na_action=way, **given) for way in ("exclude", "omit")]
    tables = [mx.curves(fit, quadratic, at=[1, 2]) for fit in fits]
    assert tables[0].equals(tables[1]) and len(tables[0]) == 14


def stage(**given):
    rng = np.random.default_rng(8)
    cities = np.repeat(["Bonn", "Oslo", "Rome"], 200)
    heat = rng.normal(20, 5, 600)
    data = pd.DataFrame({"city": cities, "heat": heat, "deaths": rng.poisson(30, 600)})
    return mx.first_stage(data, "city", "deaths", "heat", control=NUMPY, **given)


def test_a_first_stage_is_a_basis_with_exposures():
    first = stage(basis="ns(percentiles=[50])")
    fit = mx.pool(first, bscov="diag", control=NUMPY)
    table = mx.curves(fit, first, reference=20)
    assert len(table) == 3 * 51
    at = table.loc["Oslo"].index
    x = first.exposure("Oslo")
    np.testing.assert_allclose(at, np.linspace(x.min(), x.max(), 51), rtol=1e-12)
    basis = first.bases["Oslo"]
    columns = basis(np.asarray(at)) - basis(np.array([20.0]))
    np.testing.assert_allclose(table.loc["Oslo", "curve"], columns @ fit.blup().loc["Oslo"])


def test_a_first_stage_over_lags():
    first = stage(basis="linear()", lag=2).reduce(at=25, reference=20)
    fit = mx.pool(first, bscov="diag", control=NUMPY)
    table = mx.curves(fit, first)
    # The lags have an indicator each: the curve is the coefficients.
    np.testing.assert_allclose(table["curve"], fit.blup().to_numpy().ravel())
    assert table.loc["Oslo"].index.tolist() == [0, 1, 2]
    with pytest.raises(mx.InputError, match="reduced to effects over lags"):
        mx.minimum_risk(fit, first)
    with pytest.raises(mx.InputError, match="reduced to at 25 against 20, and what is"):
        mx.attributable(fit, first)


def test_what_is_attributable_needs_no_more_than_a_first_stage():
    first = stage(basis="ns(percentiles=[50])", lag=3, lag_basis="ns(df=2)")
    fit = mx.pool(first, bscov="diag", control=NUMPY)
    table = mx.attributable(fit, first, n=20)
    assert (table.days.iloc[:3] == 197).all()
    given = mx.attributable(fit, dict(first.bases), first.exposure, first.outcome, lag=3, n=20)
    assert given.equals(table)
    means = stage(basis="ns(percentiles=[50])", family="gaussian")
    with pytest.raises(mx.InputError, match="of the family 'gaussian', whose coefficients are"):
        mx.attributable(mx.pool(means, bscov="diag", control=NUMPY), means)
    with pytest.raises(mx.InputError, match="backward' needs the coefficients of every lag"):
        mx.attributable(fit, first, direction="backward")
    # Of the full coefficients, by a basis of histories.
    full = {
        label: (first.full_coef.loc[label], V)
        for label, V in zip(first.coef.index, first.full_vcov, strict=True)
    }
    whole = mx.pool(full, method="fixed")

    def histories(label):
        def basis(x):
            at = [first.bases[label](x[:, lag]) for lag in range(x.shape[1])]
            lags = first.lag_basis(np.arange(4.0))
            return np.einsum("lmj,li->mji", at, lags).reshape(len(x), -1)

        return basis

    bases = {label: histories(label) for label in first}
    given = (whole, bases, first.exposure, first.outcome, 20)
    back = mx.attributable(*given, direction="backward", lag=3, n=20)
    assert np.isfinite(back.number).all() and (back.days.iloc[:3] == 197).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "at, the exposures of the curves, is missing"),
        ({"basis": np.ones((3, 2)), "reference": 1}, "reference needs a basis that is a function"),
        ({"basis": np.ones((3, 2)), "at": {"city 0": [1]}}, "at must be one list"),
        ({"at": {"city 0": [1.0]}}, "at has nothing for location 'city 1'"),
        ({"at": [1.0], "reference": "minimum"}, "reference must be a finite number"),
        ({"at": [1.0], "basis": {"city 0": quadratic}}, "basis has nothing for location 'city 1'"),
        ({"at": [1.0], "basis": dict.fromkeys(pooled().index, 3)}, "basis of location 'city 0'"),
        ({"at": [1.0], "basis": len}, r"shape \(\) of 1 exposures"),
        ({"at": [1.0], "se_method": "other"}, "se_method"),
        ({"at": [1.0], "pooled": "mean"}, "pooled must be a function of exposures, or 'average'"),
        ({"basis": np.ones((3, 2)), "pooled": "average"}, "pooled needs a basis that is a func"),
        (
            {"at": [1.0], "basis": {x: shifted(x) for x in pooled().index}, "pooled": "average"},
            "pooled is 'average', but the bases of the locations are functions",
        ),
        (
            {"at": [1.0], "pooled": "average", "reference": dict.fromkeys(pooled().index, 1.0)},
            "reference has nothing for location 'pooled'",
        ),
    ],
)
def test_bad_input(arguments, sentence):
    with pytest.raises(mx.InputError, match=sentence):
        mx.curves(pooled(), **({"basis": quadratic} | arguments))


def test_a_fit_knows_its_first_stage():
    """What was pooled goes on; the same cities reduced, lagged or with knots otherwise do not."""
    first = stage(basis="ns(percentiles=[50])", lag=3, lag_basis="ns(df=2)")
    at_once = first.reduce(lag=0)
    fit = mx.pool(at_once, bscov="diag", control=NUMPY)
    calls = (
        lambda fit, basis: mx.curves(fit, basis, at=[20]),
        lambda fit, basis: mx.minimum_risk(fit, basis, n=2),
        lambda fit, basis: mx.attributable(fit, basis, n=2),
    )
    for call in calls:
        with pytest.raises(mx.InputError, match="to 'lag 0', but basis is a first stage reduced "):
            call(fit, first)
        # Another model of the same coefficients is of the same first stage.
        with pytest.raises(mx.InputError, match="reduced to 'overall': give the one"):
            call(fit.update(method="ml"), first)
    overall = mx.pool(first, bscov="diag", control=NUMPY)
    longer = stage(basis="ns(percentiles=[50])", lag=4, lag_basis="ns(df=2)")
    with pytest.raises(mx.InputError, match="with the lags 0 to 3, but basis is one with the lags"):
        mx.attributable(overall, longer, n=2)
    warmer = stage(basis="ns(percentiles=[75])", lag=3, lag_basis="ns(df=2)")
    with pytest.raises(mx.InputError, match=r"has NaturalSpline.* for location 'Bonn', but fit is"):
        mx.curves(overall, warmer, reference=20)
    assert np.isfinite(mx.curves(fit, at_once, reference=20)).all(axis=None)
    # Another regression on the same bases; coefficients of which nothing is known.
    again = stage(basis="ns(percentiles=[50])", lag=3, lag_basis="integer()")
    assert mx.curves(overall, again).equals(mx.curves(overall, first))
    unknown = mx.pool(dict(at_once), bscov="diag", control=NUMPY)
    assert mx.curves(unknown, first).equals(mx.curves(fit, at_once))


def test_the_pooled_curve_on_averaged_knots():
    """Against the same sums by hand: mean knots, the coefficients at the mean predictor."""
    first = stage(basis="ns(percentiles=[50])")
    temperatures = pd.DataFrame({"mean": [1.0, 2.0, 4.5]}, index=list(first))
    fit = mx.pool(first, "~ mean", data=temperatures, bscov="diag", control=NUMPY)
    minima = mx.minimum_risk(fit, first, pooled="average", n=20)
    table = mx.curves(fit, first, reference=minima["exposure"], pooled="average")
    bases = [first.bases[label] for label in first]
    assert len({basis.knots for basis in bases}) == 3
    knots = np.mean([basis.knots for basis in bases], axis=0)
    whole = NaturalSpline(tuple(knots), tuple(np.mean([own.boundary for own in bases], axis=0)))
    x = np.linspace(*whole.boundary, 51)
    b, V = fit.predict({"mean": [2.5]}, vcov=True)
    columns = whole(x) - whole(minima.exposure["pooled"])
    own = table.loc["pooled"]
    np.testing.assert_allclose(own.index, x)
    np.testing.assert_allclose(own["curve"], columns @ b.to_numpy()[0], rtol=1e-10, atol=1e-12)
    variance = np.einsum("mi,ij,mj->m", columns, V[0], columns)
    np.testing.assert_allclose(own["se"], np.sqrt(variance), rtol=1e-8, atol=1e-12)
    # Between the percentiles in which the minimum was looked for.
    assert own.loc[10:30, "curve"].min() > -1e-6
    assert table.drop("pooled").equals(mx.curves(fit, first, reference=minima["exposure"]))
    # A basis of the user's own, and exposures: those of all, or its own.
    given = mx.curves(fit, first, [5, 25], pooled=whole).loc["pooled"]
    np.testing.assert_allclose(given["curve"], whole([5, 25]) @ b.to_numpy()[0], rtol=1e-10)
    at = {**{label: [5, 6] for label in first}, "pooled": [25]}
    alone = mx.curves(fit, first, at, pooled=whole).loc["pooled"]
    np.testing.assert_allclose(alone, given.loc[[25]], rtol=1e-12)


@pytest.mark.parametrize(
    ("bases", "expected"),
    [
        ([Strata((10.0, 20.0)), Strata((20.0, 26.0))], Strata((15.0, 23.0))),
        ([LinearThreshold(high=20.0), LinearThreshold(high=25.0)], LinearThreshold(high=22.5)),
        ([LinearThreshold(high=20.0), LinearThreshold(low=25.0)], None),
        ([Strata((10.0,)), Strata((1.0, 2.0))], None),
        ([Linear(), Strata((1.0,))], None),
        ([NaturalSpline((1.0,), (0.0, 2.0)), NaturalSpline((1.0,), (0.0, 2.0), True)], None),
    ],
)
def test_bases_have_averages_where_they_are_of_one_kind(bases, expected):
    assert average_of(bases) == expected
