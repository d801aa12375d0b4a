"""Comparing fits: `compare`, terms dropped and added, formulas updated."""

import pickle

import numpy as np
import pytest
from scipy import stats

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from tests.models import fitted

EXACT = 1e-8

NUMPY = {"backend": "numpy"}


@pytest.fixture(scope="module")
def bcg():
    return mx.load_dataset("bcg")


@pytest.fixture(scope="module")
def reml(bcg):
    return mx.mixmeta("logor ~ alloc + ablat", "logorvar", bcg, control=NUMPY)


@pytest.fixture(scope="module")
def ml(reml):
    return reml.update(method="ml")


def test_fits_side_by_side(ml):
    middle, small = ml.update("~ . - alloc"), ml.update("~ 1")
    found = mx.compare(small, middle, ml)
    assert list(found.table.index) == ["logor ~ 1", "logor ~ ablat", "logor ~ alloc + ablat"]
    for fit, (_, row) in zip((small, middle, ml), found.table.iterrows(), strict=True):
        assert (row.loglik, row.aic, row.bic, row.aicc) == (fit.loglik, fit.aic, fit.bic, fit.aicc)
        assert row.parameters == fit.df.total
    test = mx.lr_test(middle, ml)
    last = found.table.iloc[2]
    assert (last.chi2, last.df, last.pvalue) == (test.statistic, test.df, test.pvalue)
    assert np.isnan(found.table.chi2.iloc[0])
    assert found.estimates.loc["ablat"].isna().tolist() == [True, False, False]
    assert found.estimates.iloc[-1, 2] == ml.Psi.iloc[0, 0]
    assert found.estimates.index[-1] == "variance[unit.(Intercept)]"
    assert found.se.loc["ablat"].iloc[2] == np.sqrt(ml.vcov.loc["ablat", "ablat"])
    assert "logor ~ alloc + ablat" in str(found) and "<table" in found._repr_html_()
    again = pickle.loads(pickle.dumps(found))
    assert str(again) == str(found)


def test_a_variance_at_its_bound_and_models_that_are_not_nested(ml):
    mean = ml.update("~ 1")
    found = mx.compare(mean.update(method="fixed"), mean, names=["fixed", "random"])
    assert found.table.pvalue_mixture.iloc[1] == pytest.approx(found.table.pvalue.iloc[1] / 2)
    other = mx.compare(ml.update("~ alloc"), ml.update("~ ablat + year + ablat:year"))
    assert np.isnan(other.table.pvalue.iloc[1])
    assert len(other.notes) == 1 and "not nested" in other.notes[0] in str(other)


def test_fits_by_reml_differ_in_their_random_part_only(reml):
    school = mx.load_dataset("school")
    both = mx.mixmeta("effect", "var", school, random="~ 1 | district/study", control=NUMPY)
    outer = both.update(random="~ 1 | district")
    table = mx.compare(outer, both).table
    assert table.pvalue.iloc[1] == mx.lr_test(outer, both).pvalue
    assert list(table.index) == ["random ~ 1 | district", "random ~ 1 | district/study"]


def test_labels_tell_apart_what_differs():
    """By the fixed part where that differs for all; else by the arguments that differ."""
    S = ["var_PD", "cov_PD_AL", "var_AL"]
    fit = mx.mixmeta("PD + AL ~ 1", S, mx.load_dataset("berkey98"), method="ml", control=NUMPY)
    diag = fit.update(bscov="diag")
    assert list(mx.compare(diag, fit).table.index) == ["bscov diag", "bscov unstr"]
    three = mx.compare(diag, fit, fit.update("~ . + pubyear")).table.index
    assert list(three) == [
        "PD + AL ~ 1, bscov diag",
        "PD + AL ~ 1, bscov unstr",
        "PD + AL ~ pubyear, bscov unstr",
    ]
    held = diag.update(hold={"trial": {"var(PD)": 0.1}}, random="~ 1 | trial")
    grouped = diag.update(random="~ 1 | trial")
    labels = list(mx.compare(held, grouped).table.index)
    assert labels == ["hold var(PD) = 0.1", "PD + AL ~ 1"]
    fixed = mx.compare(fit.update(method="fixed"), fit).table.index
    assert list(fixed) == ["random none, method fixed", "random by row, bscov unstr, method ml"]
    # The same model twice: by number.
    assert [label[:2] for label in mx.compare(fit, fit).table.index] == ["1:", "2:"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda fit, bcg: fit.update("~ . - ablat"), "REML and their fixed effects differ"),
        (lambda fit, bcg: fit.update(data=bcg.iloc[1:]), "different outcomes"),
        (lambda fit, bcg: fit.update(S=bcg.logorvar * 2), "different error covariances"),
        (lambda fit, bcg: fit.update(method="ml"), "refit both by one method"),
        (lambda fit, bcg: fit.update(method="dl"), "has no likelihood"),
        (lambda fit, bcg: "logor ~ 1", "number 2 of the fits must be a fit, .*, not 'logor"),
    ],
)
def test_fits_that_cannot_be_compared(reml, bcg, other, message):
    with pytest.raises(InputError, match=message):
        mx.compare(reml, other(reml, bcg))


def test_names_and_numbers_of_fits(ml):
    with pytest.raises(InputError, match="two fits or more"):
        mx.compare(ml)
    with pytest.raises(InputError, match="2 different ones"):
        mx.compare(ml, ml.update("~ 1"), names=["a", "a"])


def test_terms_dropped_by_likelihood(reml, ml):
    found = reml.drop_terms()
    assert "was refitted by maximum likelihood" in found.note
    assert list(found.table.index) == ["<none>", "alloc", "ablat"]
    for term in ("alloc", "ablat"):
        test = mx.lr_test(ml.update(f"~ . - {term}"), ml)
        row = found.table.loc[term]
        assert (row.chi2, row.df, row.pvalue) == (test.statistic, test.df, test.pvalue)
    same = ml.drop_terms("alloc")
    assert "refitted" not in same.note and list(same.table.index) == ["<none>", "alloc"]
    np.testing.assert_allclose(same.table.loc["alloc"], found.table.loc["alloc"], rtol=EXACT)
    assert "alloc" in str(same) and "<table" in same._repr_html_()


@pytest.mark.parametrize("test", ["z", "kenward-roger"])
def test_terms_dropped_by_wald(reml, test):
    table = reml.drop_terms(test=test).table
    joint = reml.wald_test("alloc", test=test)
    row = table.loc["alloc"]
    assert (row.statistic, row.df, row.pvalue) == (joint.statistic, joint.df, joint.pvalue)
    assert np.isinf(row.df_residual) == (test == "z")
    if test == "z":
        assert reml.drop_terms(test="wald").table.equals(table)


def test_terms_of_several_outcomes_and_of_interactions():
    fit, _ = fitted("multivariate, missing outcomes")
    table = fit.drop_terms(test="z").table
    assert table.loc["x", "df"] == 2
    joint = fit.wald_test("x")
    assert table.loc["x", "pvalue"] == pytest.approx(joint.pvalue, rel=EXACT)
    crossed = fit.update("~ x * w", method="ml")
    assert list(crossed.drop_terms().table.index) == ["<none>", "x:w"]
    assert crossed.drop_terms("w:x").table.equals(crossed.drop_terms().table)
    with pytest.raises(InputError, match="an interaction goes before"):
        crossed.drop_terms("x")


def test_terms_added(reml, ml):
    found = reml.add_terms(["year", "I(ablat^2)"])
    assert "was refitted by maximum likelihood" in found.note
    test = mx.lr_test(ml, ml.update("~ . + year"))
    row = found.table.loc["year"]
    assert (row.chi2, row.pvalue) == (test.statistic, test.pvalue)
    assert list(found.table.index) == ["<none>", "year", "I(ablat ** 2)"]
    wald = reml.add_terms("year", test="z").table.loc["year"]
    larger = reml.update("~ . + year")
    z = larger.coef["year"] / np.sqrt(larger.vcov.loc["year", "year"])
    assert wald.pvalue == pytest.approx(2 * stats.norm.sf(abs(z)), rel=EXACT)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda fit: fit.drop_terms("yaer"), "cannot be dropped"),
        (lambda fit: fit.drop_terms(df=3), "df=3 belongs to test='t': test='lr'"),
        (lambda fit: fit.add_terms("year", adhoc=True), "adhoc=True belongs to test='knha'"),
        (lambda fit: fit.drop_terms(test="F"), "test must be one of 'lr', .*, not 'F'"),
        (lambda fit: fit.add_terms("ablat"), "already"),
        (lambda fit: fit.add_terms("yaer"), "no column 'yaer'"),
        (lambda fit: fit.add_terms("year + trial"), "not one term"),
        (lambda fit: fit.add_terms([]), "names of terms"),
        (lambda fit: fit.add_terms("logor"), "own predictors"),
        (lambda fit: fit.add_terms("gap"), "12 units instead of 13"),
        (lambda fit: fit.update("~ . + gap").drop_terms("gap"), "13 units instead of 12"),
        (lambda fit: fit.update("~ 0 + ablat").drop_terms(), "no predictor is left"),
        (lambda fit: fit.update("~ . + yaer"), "no column 'yaer'"),
    ],
)
def test_terms_that_make_no_sense(bcg, call, message):
    data = bcg.assign(gap=bcg.year.where(bcg.index != 3))
    fit = mx.mixmeta("logor ~ ablat", "logorvar", data, method="ml", control=NUMPY)
    with pytest.raises(InputError, match=message):
        call(fit)


def test_a_fit_without_a_formula(bcg):
    fit = mx.mixmeta(bcg.logor, bcg.logorvar, method="ml", control=NUMPY)
    for call in (lambda: fit.update("~ . + year"), fit.drop_terms, lambda: fit.add_terms("year")):
        with pytest.raises(InputError, match="came as an array"):
            call()


def test_an_updated_fit_is_that_of_its_formula(reml, bcg):
    fit = reml.update("~ . - alloc + year", method="ml")
    same = mx.mixmeta("logor ~ ablat + year", "logorvar", bcg, method="ml", control=NUMPY)
    assert fit.formula == "logor ~ ablat + year" and fit.loglik == same.loglik
    assert reml.update().loglik == reml.loglik


def test_diagnostics_survive_pickling(reml):
    again = pickle.loads(pickle.dumps(reml))
    for call in (
        lambda fit: fit.influence(method="first_order"),
        lambda fit: fit.means("alloc"),
        lambda fit: fit.blup(by="group", vcov="joint")[1],
        lambda fit: fit.augment(),
    ):
        assert call(again).equals(call(reml))
