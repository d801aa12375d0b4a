"""A result is a value: what is done to it, or to the data afterwards, changes no fit."""

import copy

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.fits.kept import MOST_DEEP, kept_arguments

NUMPY = {"backend": "numpy"}


@pytest.fixture
def school():
    return mx.load_dataset("school")


@pytest.fixture
def fit(school):
    return mx.mixmeta(
        "effect ~ year", S="var", data=school, random="~ 1 | district/study", control=NUMPY
    )


def figures(fit):
    """Everything that a fit says, as one list of arrays."""
    frames = [fit.summary().coefficients, fit.qtest(), fit.blup(se=True), fit.predict(ci=True)]
    frames += [fit.ranef(), fit.fitted, fit.residuals, fit.coef, fit.vcov, *fit.Psi.values()]
    return [np.array(frame, float) for frame in frames] + [np.array(fit.S)]


def test_what_a_fit_returns_is_the_callers_own(fit):
    before = figures(fit)
    coef, Psi = fit.coef, fit.Psi
    coef["year"] = 99
    Psi["study"] = None
    robust = fit.robust()
    intervals = robust.confint()
    for values in (fit.vcov, Psi["district"], fit.fitted, fit.residuals, robust.vcov):
        values.iloc[:] = 99
    for frame in (fit.qtest(), fit.blup(), fit.predict(), fit.ranef(), fit.augment(), fit.tidy()):
        frame.iloc[:, -1] = 99
    pd.testing.assert_frame_equal(robust.confint(), intervals)
    table, covariances = fit.blup(vcov=True)
    covariances[:] = table.iloc[:] = 99
    for one, other in zip(before, figures(fit), strict=True):
        np.testing.assert_array_equal(one, other)


def spoilt(value):
    """Write to a frame, an array or a mapping by every way there is; what is read-only stays."""
    if isinstance(value, (pd.DataFrame, pd.Series)):
        value.iloc[:1] = np.nan
        values = value.to_numpy()
        if values.flags.writeable:
            values[...] = np.nan
    elif isinstance(value, np.ndarray):
        if value.flags.writeable:
            value[...] = np.array(np.nan).astype(value.dtype)
    elif isinstance(value, dict):
        for own in value.values():
            spoilt(own)
        value.clear()
    elif isinstance(value, (tuple, list)):
        for own in value:
            spoilt(own)


def looks(result):
    """What a result has: its public attributes that are no methods, by name."""
    values = {}
    for name in (name for name in dir(result) if not name.startswith("_")):
        try:
            values[name] = getattr(result, name)
        except mx.InputError:  # what a result of its kind does not have
            continue
    return {name: value for name, value in values.items() if not callable(value)}


def leaves(value):
    """The numbers and texts in a value, as text to the last digit."""
    if isinstance(value, pd.DataFrame):
        return [repr(value.to_dict("split"))]
    if isinstance(value, pd.Series):
        return [repr(value.to_dict())]
    if isinstance(value, np.ndarray):
        return [repr(value.tolist())]
    if isinstance(value, dict):
        return [str(key) for key in value] + [
            leaf for own in value.values() for leaf in leaves(own)
        ]
    if isinstance(value, (tuple, list)):
        return [leaf for own in value for leaf in leaves(own)]
    return [str(value)]


DATA = {"y": [0.1, 0.9, -0.4, 0.3, 0.6, -0.2], "x": [1.0, 2, 3, 4, 5, 7], "v": [0.1, 0.2] * 3}


def one_fit(**changes):
    table = pd.DataFrame(DATA)
    return mx.mixmeta("y ~ x", **{"S": "v", "data": table, "control": NUMPY, **changes})


RESULTS = {
    "fit": one_fit,
    "fit with blocks": lambda: one_fit(
        S={g: np.diag([0.1, 0.2]) for g in "abc"},
        data=pd.DataFrame(DATA).assign(g=list("aabbcc")),
        random="~ 1 | g",
    ),
    "fit with missing": lambda: one_fit(
        data=pd.DataFrame(DATA).replace({"y": {0.9: np.nan}}), na_action="exclude"
    ),
    "summary": lambda: one_fit().summary(),
    "robust": lambda: one_fit().robust(),
    "many": lambda: mx.fit_many(
        np.stack([DATA["y"], DATA["x"]]),
        S=DATA["v"],
        random="~ 1 | g/h",
        data=pd.DataFrame({"g": list("aaabbb"), "h": [1, 1, 2, 3, 3, 4]}),
        bscov="id",
        returns=("coef", "vcov", "Psi", "status", "loglik", "blup", "Q"),
        progress=False,
    ),
    "bootstrap": lambda: one_fit().bootstrap_inference(n=19, progress=False),
    "wild bootstrap": lambda: one_fit().bootstrap_inference(n=19, kind="wild", progress=False),
    "comparison": lambda: mx.compare(
        one_fit(method="ml"), one_fit(method="ml").update(formula="y")
    ),
    "terms": lambda: one_fit(method="ml").drop_terms(),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_no_look_at_a_result_gives_out_its_own(kind):
    result = RESULTS[kind]()
    before, printed = {k: leaves(v) for k, v in looks(result).items()}, str(result)
    for name in before:
        spoilt(getattr(result, name))
        after = {k: leaves(v) for k, v in looks(result).items()}
        assert [k for k in before if after.get(k) != before[k]] == [], f"by {name}"
    assert str(result) == printed


def test_the_arguments_and_data_of_a_fit_are_copies(fit):
    loglik = fit.update().loglik
    data, arguments = fit.data, fit.arguments
    data.iloc[:], arguments["data"].iloc[:] = 0, 0
    arguments["control"]["backend"] = "jax"
    arguments.clear()
    assert fit.update().loglik == loglik


def test_robust_covariances_are_the_callers_own(fit):
    robust = fit.robust()
    before = str(robust)
    vcov = robust.vcov
    vcov.iloc[:] = 99
    assert str(robust) == before
    with pytest.raises(ValueError, match="read-only"):
        robust.reference.vcov[:] = 99
    with pytest.raises(ValueError, match="read-only"):
        fit.reference("satterthwaite").vcov[:] = 99


def test_arrays_of_many_fits_are_read_only():
    fits = RESULTS["many"]()
    for array in (fits.coef, fits.vcov, fits.status, fits.blup, *fits.Psi.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    fits.Psi["g"] = None
    assert fits.Psi["g"] is not None


@pytest.mark.parametrize(
    "array",
    [
        lambda f: f.S,
        lambda f: f.fitted_array,
        lambda f: f.Psi_by_level[0],
        lambda f: f.estimate.beta,
        lambda f: f.frame.y,
        lambda f: f.frame.X,
        lambda f: f.design.y,
        lambda f: f.frame.levels[0].Z,
        lambda f: f.heterogeneity.Q,
        lambda f: f.fixed_fit.residuals,
        lambda f: f.marginal_variances,
        lambda f: f.standardised_residuals,
        lambda f: f.leverages,
        lambda f: f.robust().reference.vcov,
    ],
)
def test_its_arrays_are_read_only(array, fit):
    with pytest.raises(ValueError, match="read-only"):
        array(fit)[:] = 99


def test_blocks_of_S_are_read_only(school):
    blocks = {d: np.diag(rows) for d, rows in school.groupby("district")["var"]}
    fit = mx.mixmeta("effect", S=blocks, data=school, random="~ 1 | district", control=NUMPY)
    with pytest.raises(ValueError, match="read-only"):
        fit.S[0][:] = 99
    blocks[11][:] = 99
    assert fit.update().loglik == fit.loglik


CHANGES = {
    "a column": lambda d: d.__setitem__("effect", 0.0),
    "values": lambda d: d.loc.__setitem__((slice(None), ["effect", "var"]), 7.0),
    "one value": lambda d: d.iloc.__setitem__((0, d.columns.get_loc("effect")), 9.0),
    "order": lambda d: d.__setitem__("effect", d["effect"].to_numpy()[::-1]),
    "rows": lambda d: d.loc.__setitem__(999, d.iloc[0]),
    "columns": lambda d: d.__delitem__("year"),
    "labels": lambda d: setattr(d, "index", d.index[::-1]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_fit_keeps_its_data(change, fit, school):
    before, together = figures(fit), mx.cumulative(fit, "year", progress=False)
    CHANGES[change](school)
    for again in (fit, fit.update()):
        for one, other in zip(before, figures(again), strict=True):
            np.testing.assert_array_equal(one, other)
    pd.testing.assert_frame_equal(mx.cumulative(fit, "year", progress=False), together)
    loaded = mx.load_dataset("school")
    anew = mx.mixmeta("effect", S="var", data=loaded, random="~ 1 | district", control=NUMPY)
    fewer = fit.update(formula="effect", random="~ 1 | district")
    assert fewer.loglik == anew.loglik


def test_columns_that_are_added_later_are_there(fit, school):
    school["effect"] = 0.0
    school["decade"] = school["year"] // 10
    later = fit.update(formula="effect ~ decade")
    own = mx.load_dataset("school").assign(decade=school["decade"])
    assert later.loglik == fit.update(formula="effect ~ decade", data=own).loglik
    assert len(mx.cumulative(fit, "decade", progress=False)) == 11
    school.loc[999] = school.iloc[0]
    with pytest.raises(mx.InputError, match="no column 'decade'"):
        fit.update(formula="effect ~ decade")


def test_arrays_that_are_changed_afterwards():
    y, S = np.array([0.1, 0.5, 0.2, 0.9]), np.array([0.1, 0.2, 0.1, 0.3])
    offset, subset = np.zeros(4), np.array([True, True, True, False])
    fit = mx.mixmeta(y, S=S, offset=offset, subset=subset, control=NUMPY)
    before = [np.array(values) for values in (fit.coef, fit.residuals, fit.S)]
    y[:], S[:], offset[:], subset[:] = 9, 9, 9, True
    for again in (fit, fit.update()):
        for one, other in zip(before, (again.coef, again.residuals, again.S), strict=True):
            np.testing.assert_array_equal(one, other)
    # Nor does a fit change what it was given.
    np.testing.assert_array_equal(S, 9)
    S[0] = 1


def test_an_order_by_column_goes_by_position(school):
    """Labels that repeat, and rows that are left out."""
    school = school.set_axis([0] * len(school))
    school.loc[school["year"] == 1994, "effect"] = np.nan
    fit = mx.mixmeta("effect", S="var", data=school, subset="year > 1976", control=NUMPY)
    kept = school[(school["year"] > 1976) & school["effect"].notna()]
    by_name = mx.cumulative(fit, "var", progress=False)
    pd.testing.assert_frame_equal(by_name, mx.cumulative(fit, kept["var"], progress=False))


@pytest.mark.parametrize("depth", [MOST_DEEP, MOST_DEEP + 1])
def test_how_deep_arguments_are_copied(depth):
    """The values of one argument; an array is a level of its own."""
    array = np.zeros(2)
    nested = array
    for _ in range(depth):
        nested = [nested]
    kept = kept_arguments({"S": nested})["S"]
    for _ in range(depth):
        (kept,) = kept
    assert (kept is array) == (depth > MOST_DEEP)


def test_the_control_is_kept():
    start = np.eye(1)
    settings = mx.Control(start=start)
    kept = kept_arguments({"control": settings, "other": {"start": start}})
    start[:] = 9
    assert kept["control"].start == kept["other"]["start"] == np.eye(1)


def test_a_fit_can_be_copied(fit):
    assert copy.deepcopy(fit).loglik == copy.copy(fit).loglik == fit.loglik
