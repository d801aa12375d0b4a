"""Rows that are left out for missing values, and likelihoods that are not finite, are told."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.report.summary import MOST_REASONS
from mixmeta_jax.table.magnitudes import beyond_precision
from mixmeta_jax.tolerances import SQUARE_OVERFLOWS, SQUARE_UNDERFLOWS

NUMPY = {"backend": "numpy"}
METHODS = ["fixed", "ml", "reml"]


@pytest.fixture
def data():
    g = np.random.default_rng(5)
    frame = pd.DataFrame(
        {"y": g.normal(size=9), "z": g.normal(size=9), "v": 1.0, "x": g.normal(size=9)},
        index=list("abcdefghi"),
    )
    frame["shift"], frame["study"] = 0.1, list("ppqqrrsst")
    return frame


def test_every_row_has_its_reason(data):
    data.loc["b", "x"] = data.loc["c", "shift"] = np.nan
    data.loc[["d", "e"], ["y", "z"]] = np.nan
    data.loc["e", "study"] = None
    data.loc["f", "y"] = np.nan
    fit = mx.mixmeta(
        "y + z ~ x", ["v", "v"], data, "~ 1 | study", offset="shift", bscov="id", control=NUMPY
    )
    assert fit.dropped.to_dict("list") == {
        "row": ["b", "c", "d", "e"],
        "reason": [
            "'x' is missing",
            "the offset is missing",
            "every outcome is missing",
            "'study' and every outcome are missing",
        ],
    }
    assert fit.glance().loc[0, ["n", "dropped"]].tolist() == [5, 4]
    assert "Left out 4 rows: 'x' is missing (1)" in str(fit.summary())
    assert "Left out 4 rows" in fit.summary()._repr_html_()


def test_nothing_is_left_out(data):
    fit = mx.mixmeta("y ~ x", "v", data, subset="x > -9", control=NUMPY)
    assert fit.dropped.empty and list(fit.dropped) == ["row", "reason"]
    assert fit.glance().loc[0, "dropped"] == 0
    assert "Left out" not in str(fit.summary())


def test_what_subset_leaves_out_is_not_dropped(data):
    data.loc[["a", "b"], "x"] = np.nan
    fit = mx.mixmeta("y ~ x", "v", data, subset=data.index != "a", control=NUMPY)
    assert fit.dropped["row"].tolist() == ["b"]


@pytest.mark.parametrize("na_action", ["omit", "exclude"])
def test_labels_of_several_levels(data, na_action):
    data.loc["c", "x"] = np.nan
    data.index = pd.MultiIndex.from_product([[1, 2, 3], list("abc")])
    fit = mx.mixmeta("y ~ x", "v", data, na_action=na_action, control=NUMPY)
    assert fit.dropped["row"].tolist() == [(1, "c")]


@pytest.mark.parametrize("more", [0, 1])
def test_the_most_frequent_reasons_are_counted(data, more):
    names = [f"x{i}" for i in range(MOST_REASONS + more)]
    for i, name in enumerate(names):
        data[name] = 0.0
        data.iloc[i, -1] = np.nan
    data.iloc[MOST_REASONS + more, data.columns.get_loc("x0")] = np.nan
    data[names] += np.random.default_rng(2).normal(size=(9, len(names)))
    formula = f"y ~ {' + '.join(names[:2])} + I({' + '.join(names)})"
    told = str(mx.mixmeta(formula, "v", data, method="fixed", control=NUMPY).summary())
    assert f"Left out {MOST_REASONS + more + 1} rows: 'x0' is missing (2), " in told
    assert ("1 other reasons" in told) == bool(more)


# Likelihoods beyond double precision.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1e155, 1e160, 1e300])
@pytest.mark.parametrize("outcomes", [["y"], ["y", "z"]])
def test_outcomes_that_overflow_have_a_status_and_no_figures(method, size, outcomes, data):
    data["y"] *= size
    fit = mx.mixmeta(
        " + ".join(outcomes), ["v"] * len(outcomes), data, method=method, control=NUMPY
    )
    assert fit.status is mx.Status.NOT_FINITE and not fit.converged
    assert "'y' reaches" in fit.reason
    assert np.isnan(fit.coef).all() and np.isnan(fit.vcov).all(axis=None) and np.isnan(fit.loglik)
    assert fit.Psi is None or np.isnan(fit.Psi).all(axis=None)
    with np.errstate(all="ignore"):
        assert f"Status NOT_FINITE: {fit.reason}" in str(fit.summary())


@pytest.mark.parametrize("method", METHODS)
def test_a_data_set_that_overflows_disturbs_no_other(method, data):
    y = np.stack([data["y"], 1e160 * data["y"], data["z"]])
    returns = ("coef", "vcov", "Psi", "loglik", "status", "reason", "se", "theta")
    many = mx.fit_many(y, data["v"], method=method, control=NUMPY, returns=returns)
    assert many.status[1] == mx.Status.NOT_FINITE and "'y' reaches" in many.reason[1]
    for values in (many.coef, many.vcov, many.loglik, many.se, many.theta):
        assert np.isnan(values[1]).all()
        assert np.isfinite(values[[0, 2]]).all()
    assert many.reason[[0, 2]].tolist() == ["", ""]
    one = mx.mixmeta(y[0], S=data["v"].to_numpy(), method=method, control=NUMPY)
    assert many.coef[0] == pytest.approx(one.coef.to_numpy(), rel=1e-6)


@pytest.mark.parametrize(
    ("y", "x", "v", "said"),
    [
        (2 * SQUARE_OVERFLOWS, 1.0, 1.0, "the outcome 'out' reaches 2e"),
        (0.5 * SQUARE_OVERFLOWS, 1.0, 1.0, None),
        (1.0, 2 * SQUARE_OVERFLOWS, 1.0, "the predictor 'pre' reaches"),
        (1.0, 0.5 * SQUARE_OVERFLOWS, 1.0, None),
        (1.0, 1.0, 2 * SQUARE_OVERFLOWS, "S reaches"),
        (1.0, 1.0, 0.5 * SQUARE_UNDERFLOWS, "S falls to"),
        (1.0, 1.0, 2 * SQUARE_UNDERFLOWS, None),
        (np.nan, 1.0, 0.0, None),
    ],
)
def test_the_reason_names_what_is_too_large_or_small(y, x, v, said):
    whole = beyond_precision(np.array([[y]]), np.array([[x]]), np.array([v]), ["out"], ["pre"])
    assert (said or "an error covariance is close to singular") in whole


def test_an_error_that_vanishes_has_no_statistic():
    """The variance of a slope of 1e-200 is 1e-400, which is 0 in double precision."""
    data = pd.DataFrame({"y": [1.0, 2, 3, 4, 2.5], "x": [1e200, 2e200, 3e200, 4e200, 6e200]})
    table = mx.mixmeta("y ~ x", S=np.full(5, 0.1), data=data).summary().coefficients
    assert table["se"].tolist()[1] == 0 and np.isnan(table.loc["x", ["z", "pvalue"]]).all()
    assert np.isfinite(table.loc["(Intercept)", ["z", "pvalue"]]).all()
