"""Results of many fits by the names of coefficients and effects, and closed to writing."""

import copy
import pickle

import jax
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.many import refits
from mixmeta_jax.many.named_array import NamedArray


@pytest.fixture(scope="module")
def fits():
    bcg = mx.load_dataset("bcg")
    y = np.stack([bcg.logor, 2 * bcg.logor, bcg.logor])
    returns = ["coef", "se", "vcov", "Psi", "loglik", "status", "converged", "reason"]
    return mx.fit_many(y, bcg.logorvar, "~ ablat", data=bcg, returns=returns, progress=False)


@pytest.fixture(scope="module")
def nested():
    school = mx.load_dataset("school")
    y = np.stack([school.effect, school.effect + 1])
    random = "~ 1 | district/study"
    return mx.fit_many(y, school["var"], data=school, random=random, progress=False)


def test_columns_by_name_are_those_of_single_fits(fits):
    bcg = mx.load_dataset("bcg")
    for b, factor in enumerate([1, 2, 1]):
        fit = mx.mixmeta("y ~ ablat", S="logorvar", data=bcg.assign(y=factor * bcg.logor))
        for name in ("(Intercept)", "ablat"):
            assert fits.coef[name][b] == pytest.approx(fit.coef[name], rel=1e-8)
            assert fits.se[name][b] == pytest.approx(fit.bse[name], rel=1e-8)
            assert fits.vcov[name, "ablat"][b] == pytest.approx(fit.vcov.loc[name, "ablat"], 1e-8)
        assert fits.Psi["(Intercept)", "(Intercept)"][b] == pytest.approx(fit.tau2, rel=1e-6)
    assert fits.coef.columns == fits.coef_names == ("(Intercept)", "ablat")


def test_effects_by_level_and_name(nested):
    assert list(nested.Psi) == ["district", "study"]
    for Psi in nested.Psi.values():
        np.testing.assert_array_equal(Psi["(Intercept)"], Psi[:, 0])


def test_several_names_and_some_data_sets(fits):
    np.testing.assert_array_equal(fits.coef[["ablat", "(Intercept)"]], fits.coef[:, [1, 0]])
    np.testing.assert_array_equal(fits.vcov[["ablat"]], fits.vcov[:, [1]])
    some = np.array([True, False, True])
    for key in (some, [0, 2], slice(0, 3, 2)):
        np.testing.assert_array_equal(fits.coef[key]["ablat"], fits.coef[[0, 2], 1])
        np.testing.assert_array_equal(fits.vcov[key]["ablat", "ablat"], fits.vcov[[0, 2], 1, 1])


def test_all_else_is_an_array_without_names(fits):
    plain = np.array(fits.coef)
    results = (
        fits.coef + 1,
        fits.coef @ np.eye(2),
        fits.coef.mean(0),
        fits.coef[0],
        fits.coef[:, 1],
    )
    for result in results:
        assert type(result) is np.ndarray
    assert isinstance(fits.coef.mean(), float)
    np.testing.assert_array_equal(np.concatenate([fits.coef, fits.coef])[3:], plain)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(jax.numpy.asarray(fits.coef), plain)
    # A transpose of three data sets by three names could be taken for what it is not.
    assert fits.coef.T.columns == fits.coef.copy().columns == ()


@pytest.mark.parametrize("key", ["x", "(Intercept) ", ["ablat", "x"]])
def test_a_name_that_is_not_there_is_told(fits, key):
    with pytest.raises(
        mx.InputError, match=r"a column's name must be one of '\(Intercept\)', 'abl"
    ):
        fits.coef[key]


def test_two_names_are_for_matrices(fits):
    with pytest.raises(mx.InputError, match="one name, or two of a matrix"):
        fits.coef["ablat", "ablat"]
    with pytest.raises(mx.InputError, match="one name, or two of a matrix"):
        fits.vcov["ablat", "ablat", "ablat"]


def test_frames(fits, nested):
    frame = fits.coef.to_frame()
    pd.testing.assert_frame_equal(frame, fits.to_frame()[["(Intercept)", "ablat"]])
    assert repr(fits.coef) == repr(frame)
    np.testing.assert_array_equal(fits.vcov.to_frame().loc[1], fits.vcov[1])
    assert fits.vcov.to_frame().index.names == ["data_set", None]
    frame.iloc[0, 0] = 99.0
    assert fits.coef[0, 0] != 99.0


def test_copies_keep_names_and_values(fits):
    for made in (pickle.loads(pickle.dumps(fits)), copy.deepcopy(fits)):
        assert isinstance(made.coef, NamedArray)
        np.testing.assert_array_equal(made.coef["ablat"], fits.coef["ablat"])
        np.testing.assert_array_equal(made.vcov["ablat", "ablat"], fits.vcov["ablat", "ablat"])


def test_results_are_closed_to_writing(fits, nested):
    arrays = [fits.coef, fits.se, fits.vcov, fits.Psi, fits.loglik, fits.status, fits.converged]
    for array in (*arrays, fits.reason, *nested.Psi.values(), fits.coef[1:]):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_refits_in_parts_have_names(monkeypatch):
    fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    out = np.eye(13, dtype=bool)
    whole = refits.without(fit, out, progress=False)
    monkeypatch.setattr(refits, "REFIT_NUMBERS", 4 * 13)
    parts = refits.without(fit, out, progress=False)
    assert parts.coef["(Intercept)"].shape == (13,)
    np.testing.assert_allclose(parts.coef["(Intercept)"], whole.coef["(Intercept)"], rtol=1e-9)
    np.testing.assert_allclose(parts.Psi["(Intercept)"], whole.Psi["(Intercept)"], rtol=1e-6)
