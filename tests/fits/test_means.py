"""Marginal means and contrasts, from the coefficients by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits import marginal_means
from mixmeta_jax.inference.wald import largest_quantile, largest_tail

EXACT = 1e-8

NUMPY = {"backend": "numpy"}


@pytest.fixture(scope="module")
def bcg():
    data = mx.load_dataset("bcg")
    return data.assign(era=np.where(data.year < 1950, "early", "late"))


@pytest.fixture(scope="module")
def fit(bcg):
    return mx.mixmeta("logor ~ alloc + era + ablat", "logorvar", bcg, control=NUMPY)


def rows(bcg, weight, ablat):
    """Predictors of the means of alloc: the late era with this weight."""
    return np.array([[1, 0, 0, weight, ablat], [1, 1, 0, weight, ablat], [1, 0, 1, weight, ablat]])


@pytest.mark.parametrize("test", ["z", "t", "knha", "satterthwaite", "kenward-roger"])
def test_means_with_every_test(fit, bcg, test):
    L = rows(bcg, 0.5, bcg.ablat.mean())
    table = fit.means("alloc", test=test, conf_level=0.9)
    assert list(table.index) == ["alternate", "random", "systematic"]
    assert table.index.name == "alloc"
    reference = fit.reference(test)
    V = reference.vcov
    np.testing.assert_allclose(table["mean"], L @ fit.coef, rtol=EXACT)
    np.testing.assert_allclose(table.se, np.sqrt(np.diag(L @ V @ L.T)), rtol=EXACT)
    half = stats.norm.ppf(0.95)
    if test != "z":
        np.testing.assert_allclose(table.df, reference.df(L), rtol=EXACT)
        half = stats.t.ppf(0.95, table.df)
    np.testing.assert_allclose(table.upper, table["mean"] + half * table.se, rtol=EXACT)


def test_other_predictors(fit, bcg):
    observed = fit.means("alloc", weights="observed")["mean"]
    expected = rows(bcg, (bcg.era == "late").mean(), bcg.ablat.mean()) @ fit.coef
    np.testing.assert_allclose(observed, expected, rtol=EXACT)
    at = fit.means("alloc", at={"ablat": 10, "era": "late"})["mean"]
    np.testing.assert_allclose(at, rows(bcg, 1, 10) @ fit.coef, rtol=EXACT)
    cells = fit.means(["era", "alloc"], at={"ablat": 10})
    assert list(cells.index.names) == ["era", "alloc"] and len(cells) == 6
    np.testing.assert_allclose(cells.loc["late", "mean"], rows(bcg, 1, 10) @ fit.coef, rtol=EXACT)


def test_means_on_the_scale_of_ratios(fit):
    plain, ratio = fit.means("alloc"), fit.means("alloc", transform="exp")
    for column in ("mean", "lower", "upper"):
        np.testing.assert_allclose(ratio[column], np.exp(plain[column]), rtol=EXACT)
    np.testing.assert_array_equal(ratio.se, plain.se)


def test_transformed_numbers_are_taken_at_the_mean_of_their_column(bcg):
    fit = mx.mixmeta("logor ~ alloc + I(ablat**2)", "logorvar", bcg, control=NUMPY)
    first = fit.means("alloc")["mean"].iloc[0]
    expected = fit.coef.iloc[0] + fit.coef.iloc[-1] * bcg.ablat.mean() ** 2
    assert first == pytest.approx(expected, rel=EXACT)
    observed = fit.means("alloc", weights="observed")["mean"].iloc[0]
    expected = fit.coef.iloc[0] + fit.coef.iloc[-1] * (bcg.ablat**2).mean()
    assert observed == pytest.approx(expected, rel=EXACT)


def test_pairs_and_contrasts_with_one(fit):
    table = fit.contrasts("alloc", test="t")
    assert list(table) == ["estimate", "se", "t", "df", "pvalue", "lower", "upper"]
    assert list(table.index.names) == ["of", "against"]
    b = fit.coef
    expected = [
        b["alloc[T.random]"],
        b["alloc[T.systematic]"],
        b["alloc[T.systematic]"] - b["alloc[T.random]"],
    ]
    np.testing.assert_allclose(table.estimate, expected, rtol=EXACT)
    joint = fit.wald_test([[0, -1, 1, 0, 0]], test="t")
    last = table.iloc[2]
    assert last.pvalue == pytest.approx(joint.pvalue, rel=EXACT)
    assert last.t**2 == pytest.approx(joint.statistic, rel=EXACT)
    one = fit.contrasts("alloc", against="random")
    assert list(one.index) == [("alternate", "random"), ("systematic", "random")]
    np.testing.assert_allclose(one.estimate, [-expected[0], expected[2]], rtol=EXACT)


def test_contrasts_of_rows_are_predictions_against_a_reference(fit, bcg):
    new = bcg.iloc[[0, 4, 7]].set_axis(["a", "b", "c"])
    found = fit.contrasts(new, against="a", test="knha")
    same = fit.predict(new, se=True, ci=True, reference="a", test="knha").loc[["b", "c"]]
    np.testing.assert_allclose(found.estimate, same.fit, rtol=EXACT)
    np.testing.assert_allclose(found.se, same.se, rtol=EXACT)
    np.testing.assert_allclose(found.upper, same.ci_upper, rtol=EXACT)
    row = dict(bcg.iloc[0])
    single = fit.contrasts(dict(bcg.iloc[4]), row, test="knha")
    np.testing.assert_allclose(single, found.loc[[("b", "a")]], rtol=EXACT)
    shifted = fit.update(data=bcg.assign(o=np.arange(13.0)), offset="o")
    found = shifted.contrasts(new.assign(o=[1.0, 5.0, 2.0]), against="a")
    expected = shifted.predict(new.assign(o=[1.0, 5.0, 2.0]), reference="a").loc[["b", "c"], "fit"]
    np.testing.assert_allclose(found.estimate, expected, rtol=EXACT)
    pairs = fit.contrasts(new)
    assert list(pairs.index) == [("b", "a"), ("c", "a"), ("c", "b")]


def test_every_outcome_by_itself():
    berkey = mx.load_dataset("berkey98").assign(kind=list("aabba"))
    fit = mx.mixmeta(
        "PD + AL ~ kind", ["var_PD", "cov_PD_AL", "var_AL"], berkey, method="ml", control=NUMPY
    )
    means = fit.means("kind")
    assert list(means.columns[:2]) == [("PD", "mean"), ("PD", "se")]
    np.testing.assert_allclose(means["AL", "mean"].iloc[0], fit.coef.iloc[1], rtol=EXACT)
    contrast = fit.contrasts("kind")
    np.testing.assert_allclose(contrast["AL", "estimate"], fit.coef.iloc[[3]], rtol=EXACT)


@pytest.mark.parametrize("test", ["z", "t"])
@pytest.mark.parametrize("simultaneous", ["bonferroni", "goldstein", "max-t"])
def test_simultaneous_intervals_and_tests_agree(fit, simultaneous, test):
    """An interval of level 1 − p, p the adjusted p-value, ends at zero."""
    table = fit.contrasts("alloc", simultaneous=simultaneous, test=test)
    for contrast, row in table.iterrows():
        if row.pvalue < 0.999:
            level = 1 - row.pvalue
            again = fit.contrasts(
                "alloc", simultaneous=simultaneous, test=test, conf_level=level
            ).loc[contrast]
            # The quantile of max-t is found to 1e-6.
            assert min(abs(again.lower), abs(again.upper)) < 1e-5 * row.se
    single = fit.contrasts("alloc", test=test).pvalue
    assert (table.pvalue >= single).all()
    assert (table.pvalue <= 1).all() and (3 * single > 1).any()


def test_the_largest_of_independent_ones():
    values = np.array([1.0, 2.0, -3.0, np.nan])
    found = largest_tail(values, np.eye(3))
    expected = 1 - (1 - 2 * stats.norm.sf(np.abs(values))) ** 3
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    for df in (4.0, np.inf):
        correlation = 0.5 * (np.eye(3) + 1)
        quantile = largest_quantile(correlation, 0.9, df)
        assert largest_tail([quantile], correlation, df)[0] == pytest.approx(0.1, abs=1e-6)
    one = largest_tail([2.0], np.eye(1), 7.0)[0]
    # One t by quasi-random integration over its χ².
    assert one == pytest.approx(2 * stats.t.sf(2.0, 7), abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda fit: fit.means("ablat"), "not a factor"),
        (lambda fit: fit.means("district"), "not a factor"),
        (lambda fit: fit.means("alloc", at={"year": 1}), "not a predictor"),
        (lambda fit: fit.means("alloc", at={"ablat": "far"}), "finite number"),
        (
            lambda fit: fit.means("alloc", at={"era": "middle"}),
            "must be one of .*, not 'middle'",
        ),
        (lambda fit: fit.means("alloc", at={"alloc": "random"}), "leave it out"),
        (lambda fit: fit.means("alloc", weights="cells"), "'observed'"),
        (lambda fit: fit.means("alloc", test="F"), "test must be one of .*, not 'F'"),
        (lambda fit: fit.means("alloc", conf_level=95), "conf_level"),
        (lambda fit: fit.means("alloc", simultaneous="tukey"), "'max-t'"),
        (lambda fit: fit.means("alloc", transform="log"), "'exp'"),
        (lambda fit: fit.contrasts("alloc", against="blind"), "'blind' is not among"),
        (lambda fit: fit.contrasts({"alloc": "random", "era": "late", "ablat": 3}), "one row"),
        (lambda fit: fit.contrasts({"alloc": "random"}, {"alloc": "random"}), "no column"),
        (
            lambda fit: fit.contrasts({"alloc": "blind", "era": "late", "ablat": 3}, "a"),
            "has not seen",
        ),
    ],
)
def test_means_that_make_no_sense(fit, call, message):
    with pytest.raises(InputError, match=message):
        call(fit)


def test_cells_of_too_many_factors(fit, monkeypatch):
    expected = fit.means("alloc")
    monkeypatch.setattr(marginal_means, "MOST_CELLS", 2)
    pd.testing.assert_frame_equal(fit.means("alloc"), expected)
    monkeypatch.setattr(marginal_means, "MOST_CELLS", 1)
    with pytest.raises(InputError, match="have 2 cells, more than the 1"):
        fit.means("alloc")
    assert len(fit.means("alloc", at={"era": "late"})) == 3


def test_a_row_that_lacks_a_predictor(fit, bcg):
    new = bcg.iloc[:2].assign(ablat=[1.0, np.nan])
    with pytest.raises(InputError, match=r"The row 1 of .* lacks a predictor"):
        fit.contrasts(new)


def test_outcomes_as_an_array_have_no_factors(bcg):
    fit = mx.mixmeta(bcg.logor, bcg.logorvar, method="ml", control=NUMPY)
    with pytest.raises(InputError, match="came as an array"):
        fit.means("alloc")


def test_subsets_and_missing_rows_are_left_out_of_the_means(bcg):
    data = bcg.assign(ablat=bcg.ablat.where(bcg.index != 3))
    fit = mx.mixmeta("logor ~ alloc + ablat", "logorvar", data, subset="year > 1935")
    used = data[(data.year > 1935) & data.ablat.notna()]
    expected = fit.coef.iloc[0] + fit.coef["ablat"] * used.ablat.mean()
    assert fit.means("alloc")["mean"].iloc[0] == pytest.approx(expected, rel=EXACT)
    assert len(list(itertools.combinations(fit.means("alloc").index, 2))) == len(
        fit.contrasts("alloc")
    )
    assert isinstance(fit.contrasts("alloc"), pd.DataFrame)


@pytest.mark.parametrize("dtype", [bool, "boolean"])
def test_truth_values_are_a_factor(bcg, dtype):
    data = bcg.assign(
        late=(bcg.year > 1960).astype(dtype), word=np.where(bcg.year > 1960, "b", "a")
    )
    found, named = (
        mx.mixmeta(f"logor ~ {factor} + ablat + alloc", "logorvar", data, control=NUMPY)
        for factor in ("late", "word")
    )
    for weights in ("equal", "observed"):
        means = found.means("late", test="knha", weights=weights)
        assert means.index.tolist() == [False, True]
        expected = named.means("word", test="knha", weights=weights)
        np.testing.assert_allclose(means, expected, rtol=1e-7)
        # As another factor its levels count alike.
        np.testing.assert_allclose(
            found.means("alloc", weights=weights), named.means("alloc", weights=weights), rtol=1e-7
        )
    pair = found.contrasts("late", against=False)
    assert pair.index.tolist() == [(True, False)]
    np.testing.assert_allclose(pair.estimate, found.coef.filter(like="late"), rtol=1e-7)
    np.testing.assert_allclose(
        found.means("alloc", at={"late": True}), named.means("alloc", at={"word": "b"}), rtol=1e-7
    )
