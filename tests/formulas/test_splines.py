"""The natural spline basis against R's and against the properties that define it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix
from formulaic.transforms import basis_spline

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from mixmeta_jax.formulas.spline_values import natural_splines
from mixmeta_jax.formulas.splines import bs, ns

REFERENCE = Path(__file__).parents[1] / "reference"
NAMES = [f"ns(dose, knots=[10, 25])[{j}]" for j in (1, 2, 3)]

ROUNDING = 1e-12
"""Absolute, on a basis whose entries are near one."""


@pytest.fixture
def basis_of_r() -> dict:
    return json.loads((REFERENCE / "r_mixmeta.json").read_text())["alcohol_ns_basis"]


def matrix(data: pd.DataFrame, term: str = "ns(dose, knots=[10, 25])") -> pd.DataFrame:
    return model_matrix(f"~ 0 + {term}", data, context={"ns": ns})


def test_the_basis_is_that_of_r(basis_of_r):
    basis = matrix(pd.DataFrame({"dose": basis_of_r["dose"]}))
    assert list(basis.columns) == NAMES
    np.testing.assert_allclose(basis, basis_of_r["basis"], rtol=0, atol=ROUNDING)


def test_it_is_zero_at_the_lower_boundary_and_straight_outside():
    x = np.array([-3.0, -2, -1, 0, 10, 11, 12, 13])
    basis = natural_splines(x, [2.0, 5.0], [0.0, 10.0])
    np.testing.assert_allclose(basis[3], 0, atol=ROUNDING)
    np.testing.assert_allclose(np.diff(basis[:4], 2, axis=0), 0, atol=ROUNDING)
    np.testing.assert_allclose(np.diff(basis[4:], 2, axis=0), 0, atol=ROUNDING)


@pytest.mark.parametrize("intercept", [False, True])
def test_it_spans_the_natural_cubic_splines(intercept):
    """Against the truncated powers of Hastie, Tibshirani, Friedman (5.4): the same space."""
    knots = np.array([0.0, 2, 5, 7, 10])
    x = np.linspace(-2, 12, 60)

    def d(j):
        cubes = np.maximum(x - knots[j], 0) ** 3 - np.maximum(x - knots[-1], 0) ** 3
        return cubes / (knots[-1] - knots[j])

    powers = np.column_stack([np.ones_like(x), x] + [d(j) - d(3) for j in range(3)])
    if not intercept:
        powers = powers[:, 1:]  # all of these are zero at the lower knot, which is 0
    basis = natural_splines(x, knots[1:-1], knots[[0, -1]], intercept)
    assert basis.shape == powers.shape
    assert np.linalg.matrix_rank(basis) == basis.shape[1]
    residual = powers - basis @ np.linalg.lstsq(basis, powers, rcond=None)[0]
    np.testing.assert_allclose(residual, 0, atol=1e-9 * np.abs(powers).max())


def test_new_data_get_the_same_basis():
    g = np.random.default_rng(0)
    data = pd.DataFrame({"dose": g.uniform(0, 60, 40)})
    full = matrix(data)
    new = data.iloc[[3, 7]]
    again = full.model_spec.get_model_matrix(new, context={"ns": ns})
    np.testing.assert_array_equal(again, full.iloc[[3, 7]])
    by_df = matrix(data, "ns(dose, df=4)")
    again = by_df.model_spec.get_model_matrix(new, context={"ns": ns})
    np.testing.assert_array_equal(again, by_df.iloc[[3, 7]])


def test_two_splines_in_a_formula_keep_their_own_knots():
    data = pd.DataFrame({"a": np.linspace(0, 1, 20), "b": np.linspace(5, 50, 20)})
    both = model_matrix("~ 0 + ns(a, df=2) + ns(b, df=3)", data, context={"ns": ns})
    alone = model_matrix("~ 0 + ns(b, df=3)", data, context={"ns": ns})
    np.testing.assert_array_equal(both.iloc[:, 2:], alone)


def test_df_puts_knots_at_quantiles():
    x = np.random.default_rng(1).exponential(size=50)
    by_df = np.column_stack(list(ns(x, df=4).values()))
    knots = np.quantile(x, [0.25, 0.5, 0.75])
    np.testing.assert_array_equal(by_df, natural_splines(x, knots, [x.min(), x.max()]))
    assert len(ns(x, df=4, intercept=True)) == 4


def test_without_knots_it_is_a_line():
    x = np.array([1.0, 2, 4, 9])
    (line,) = ns(x).values()
    np.testing.assert_allclose(line / (x - 1 + (x == 1)), line[-1] / 8 * (x > 1), atol=ROUNDING)


def test_missing_values_stay_missing():
    x = np.array([0.0, np.nan, 5, 10])
    basis = np.column_stack(list(ns(x, knots=[4]).values()))
    np.testing.assert_array_equal(np.isnan(basis).all(1), np.isnan(x))
    np.testing.assert_array_equal(
        basis[[0, 2, 3]], np.column_stack(list(ns(x[[0, 2, 3]], knots=[4]).values()))
    )


def test_boundary_knots_can_be_given_in_any_order():
    x = np.linspace(0, 10, 7)
    np.testing.assert_array_equal(
        ns(x, knots=[5, 3], boundary_knots=[12, -1])[1],
        ns(x, knots=[3, 5], boundary_knots=[-1, 12])[1],
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"knots": [0.0]}, "The knot 0 of ns"),
        ({"knots": [20]}, "The knot 20 of ns"),
        ({"knots": [3, 3]}, "repeat a value"),
        ({"knots": [3], "df": 2}, "not both"),
        ({"df": 0}, "df of at least 1"),
        ({"df": 1, "intercept": True}, "df of at least 2"),
        ({"boundary_knots": [1]}, "two finite boundary knots"),
        ({"boundary_knots": [1, 1]}, "two distinct boundary knots"),
    ],
)
def test_bad_knots_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        ns(np.linspace(0, 10, 5), **arguments)


def test_values_without_a_range_are_refused():
    with pytest.raises(InputError, match="both are 2"):
        ns(np.full(4, 2.0), knots=[3])
    with pytest.raises(InputError, match="no value"):
        ns(np.full(4, np.nan))


# B-splines.


def test_b_splines_go_on_beyond_their_boundary_knots_as_in_r():
    """R 4.4 splines: predict(bs(dat.bcg$ablat, df = 4), 70), which warns too."""
    bcg = mx.load_dataset("bcg")
    fit = mx.mixmeta("logor ~ bs(ablat, df=4)", S="logorvar", data=bcg, method="fixed")
    with pytest.warns(UserWarning, match=r"evaluated at 70, beyond its boundary knots \(13 and 55"):
        found = fit.predict(pd.DataFrame({"ablat": [70.0]}))
    basis = [1, -0.0869666, 1.07048, -4.740557, 4.757044]
    # The basis is pinned to seven digits, the coefficients are below ten.
    assert float(np.ravel(found)[0]) == pytest.approx(fit.coef.to_numpy() @ basis, abs=1e-4)


def test_b_splines_within_their_boundary_knots_are_those_of_formulaic():
    x = np.linspace(0, 10, 9)
    for ours, theirs in zip(bs(x, df=5).values(), basis_spline(x, df=5).values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("extrapolation", "said"), [("raise", "beyond its boundary knots"), ("clip", None)]
)
def test_what_b_splines_do_beyond_their_boundary_knots(extrapolation, said):
    x = np.array([0.0, 1, 2, 3, 11])
    if said is None:
        clipped = bs(x, lower_bound=0, upper_bound=3, extrapolation=extrapolation)
        assert clipped[1][3] == clipped[1][4]
        return
    with pytest.raises(InputError, match=said):
        bs(x, lower_bound=0, upper_bound=3, extrapolation=extrapolation)
