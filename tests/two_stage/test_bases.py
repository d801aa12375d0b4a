"""Bases of exposures and lags: against R, by hand, and by NumPy as by JAX."""

import jax
import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.two_stage.bases import (
    BSpline,
    Integers,
    Linear,
    LinearThreshold,
    NaturalSpline,
    Strata,
)
from mixmeta_jax.two_stage.basis_text import read_basis

X = np.array([-4, 0, 1.5, 7, 12, 19, 20, 26])

# R 4.2.2, splines: the calls are in the comments, x as above, at 16 digits.
OF_R = {
    # ns(x, knots=c(5, 11), Boundary.knots=c(0, 20))
    NaturalSpline((5.0, 11.0), (0.0, 20.0)): [
        [0.2169383351706503, -0.5785022271217342, 0.3615638919510838],
        [0, 0, 0],
        [-0.07656864690352932, 0.21236487659122971, -0.13272804786951856],
        [0.07643700365049413, 0.57039919116321636, -0.35279579077330647],
        [0.51339834766680492, 0.37052621692144183, -0.07355419421787646],
        [-0.0211791884950704, 0.3880004697317104, 0.6328083483929896],
        [-0.1530612244897959, 0.4081632653061224, 0.7448979591836735],
        [-0.9489795918367346, 0.5306122448979589, 1.4183673469387759],
    ],
    # ns(x, knots=c(5, 11), Boundary.knots=c(0, 20), intercept=TRUE)
    NaturalSpline((5.0, 11.0), (0.0, 20.0), True): [
        [-1.1562922385634948, -0.3940004530720591, 1.0506678748588241, -0.6566674217867650],
        [-0.2493773340269082, -0.2418327825800908, 0.6448874202135756, -0.4030546376334846],
        [0.08313315071422805, -0.18264214342025292, 0.49522753396915936, -0.30951720873072452],
        [0.6043239979055496, 0.2233179844032590, 0.1787165758225100, -0.1079941561853651],
        [0.182014585114271432, 0.560864266871005324, 0.243950432376907361, 0.005555671122457584],
        [0.0003554972365513114, -0.0210864816216247, 0.387753251402521815, 0.632962859848732462],
        [0, -0.1530612244897959, 0.4081632653061224, 0.7448979591836735],
        [0, -0.9489795918367346, 0.5306122448979589, 1.4183673469387759],
    ],
    # bs(x, knots=c(5, 11), degree=2, Boundary.knots=c(0, 20))
    BSpline((5.0, 11.0), (0.0, 20.0), 2): [
        [-2.5309090909090908, 0.2909090909090909, 0, 0],
        [0, 0, 0, 0],
        [0.46909090909090917, 0.04090909090909092, 0, 0],
        [0.24242424242424240, 0.71313131313131306, 0.04444444444444444, 0],
        [0, 0.47407407407407404, 0.51358024691358017, 0.01234567901234568],
        [0, 0.007407407407407407, 0.202469135802469113, 0.790123456790123413],
        [0, 0, 0, 1],
        [0, 0.2666666666666666, -2.0444444444444443, 2.7777777777777777],
    ],
    # bs(x, knots=5, degree=1, Boundary.knots=c(0, 20), intercept=TRUE)
    BSpline((5.0,), (0.0, 20.0), 1, True): [
        [1.8, -0.8, 0],
        [1, 0, 0],
        [0.7, 0.3, 0],
        [0, 0.8666666666666667, 0.1333333333333333],
        [0, 0.5333333333333333, 0.4666666666666667],
        [0, 0.06666666666666667, 0.93333333333333335],
        [0, 0, 1],
        [0, -0.4, 1.4],
    ],
}

BASES = [
    *OF_R,
    Strata((1.5, 12.0)),
    Strata((1.5, 12.0), True),
    LinearThreshold(2.0, 12.0),
    LinearThreshold(high=3.0),
    Linear(True),
    Integers(0, 4),
]

ROUNDING = 1e-13
"""Absolute, on columns near one."""


@pytest.mark.parametrize("basis", OF_R)
def test_splines_are_those_of_r(basis):
    np.testing.assert_allclose(basis(X), OF_R[basis], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("basis", BASES)
def test_jax_gives_the_values_of_numpy(basis):
    x = np.append(X, np.nan)
    with jax.enable_x64(True):
        traced = jax.jit(basis)(x)
        np.testing.assert_allclose(traced, basis(x), rtol=0, atol=ROUNDING)
    assert basis(x).shape == (9, basis.width)
    assert np.isnan(basis(x)[-1]).all() and not np.isnan(basis(x)[:-1]).any()


def test_steps_thresholds_and_lines_by_hand():
    x = np.array([1.0, 2, 3, 4])
    np.testing.assert_array_equal(Strata((2.0, 4.0))(x), [[0, 0], [1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(Strata((3.0,), True)(x), [[1, 0], [1, 0], [0, 1], [0, 1]])
    np.testing.assert_array_equal(LinearThreshold(2.0, 3.5)(x), [[1, 0], [0, 0], [0, 0], [0, 0.5]])
    np.testing.assert_array_equal(Linear()(x)[:, 0], x)
    np.testing.assert_array_equal(Linear(True)(x), np.column_stack([np.ones(4), x]))
    np.testing.assert_array_equal(Integers(2, 3)(x), [[0, 0], [1, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize("kind", [NaturalSpline, BSpline])
def test_slopes_in_exposures_and_knots(kind):
    """Against central differences, inside and beyond the boundary."""
    x, knots, boundary = np.array([-2.0, 3.0, 8.0, 25.0]), np.array([5.0, 11.0]), (0.0, 20.0)
    step = 1e-5
    with jax.enable_x64(True):
        slope = jax.vmap(jax.jacfwd(lambda one: kind(knots, boundary)(one[None])[0]))(x)
        by_knots = jax.jacrev(lambda own: kind(own, boundary)(x))(jax.numpy.asarray(knots))
        at_boundary = jax.jacrev(lambda own: kind(knots, own)(x))(jax.numpy.asarray(boundary))
    basis = kind(knots, boundary)
    expected = (basis(x + step) - basis(x - step)) / (2 * step)
    np.testing.assert_allclose(slope, expected, atol=1e-8)
    for i in range(2):
        ahead = step * np.eye(2)[i]
        expected = (kind(knots + ahead, boundary)(x) - kind(knots - ahead, boundary)(x)) / step / 2
        np.testing.assert_allclose(by_knots[..., i], expected, atol=1e-8)
        ends = np.array(boundary)
        expected = (kind(knots, ends + ahead)(x) - kind(knots, ends - ahead)(x)) / step / 2
        np.testing.assert_allclose(at_boundary[..., i], expected, atol=1e-8)


def test_a_basis_is_a_tree_of_its_knots():
    basis = NaturalSpline((5.0, 11.0), (0.0, 20.0))
    with jax.enable_x64(True):
        slope = jax.grad(lambda own: own(X).sum())(basis)
    assert isinstance(slope, NaturalSpline) and len(slope.knots) == 2
    assert not slope.intercept


def made(text, x=None, lag=False):
    return read_basis(text, "basis", lag).made(np.arange(101.0) if x is None else x)


def test_texts():
    inner = NaturalSpline((10.0, 75.0), (0.0, 100.0))
    assert made("ns(percentiles=[10, 75])") == inner == made("ns(knots=c(10, 25 * 3))")
    assert made(" ns( df = 3 ) ").knots == pytest.approx((100 / 3, 200 / 3))
    assert made("ns(df=3, intercept=True)").knots == (50.0,)
    assert made("ns(knots=[5], boundary=[-10, 200])") == NaturalSpline((5.0,), (-10.0, 200.0))
    assert made("ns()").width == 1
    assert made("bs(degree=2, df=4)") == BSpline(made("ns(df=3)").knots, (0.0, 100.0), 2)
    assert made("strata(df=3)") == Strata((25.0, 50.0, 75.0))
    assert made("strata(percentiles=[50])") == made("strata(breaks=50)") == Strata((50.0,))
    assert made("threshold(high_percentile=90)") == LinearThreshold(None, 90.0)
    assert made("threshold(low=10, high=30)") == LinearThreshold(10.0, 30.0)
    assert made("linear()") == Linear()


def test_bases_of_lags_have_an_intercept_unless_they_say_otherwise():
    lags = np.arange(22.0)
    assert made("linear()", lags, True).intercept
    assert not made("ns(df=3, intercept=False)", lags, True).intercept
    assert made("integer()", lags, True) == Integers(0, 21)
    knots = made("ns(log_knots=3)", lags, True).knots
    # Equally spaced between exp(-1) and 21 in the logarithm.
    np.testing.assert_allclose(np.diff(np.log([np.exp(-1), *knots, 21])), (1 + np.log(21)) / 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ns", "basis must be a basis, as 'ns"),
        ("spline(df=3)", "the basis must be one of 'ns'"),
        ("integer()", "the basis must be one of"),
        ("ns(3)", "write each argument of ns.. by its name, as knots"),
        ("ns(knot=3)", "an argument of ns.. must be one of.*Did you mean 'knots'"),
        ("ns(df=3, df=4)", "the argument df twice"),
        ("ns(df=3, knots=[1])", "takes knots or df, not both"),
        ("ns(df=0)", "df of ns.. must be a whole number of at least 1"),
        ("ns(df=1000000)", "at most 5,000"),
        ("ns(df=2.5)", "whole number"),
        ("ns(df='a')", "whole number"),
        ("ns(log_knots=3)", "must be one of"),
        ("ns(percentiles=[0, 50])", "strictly between 0 and 100"),
        ("ns(intercept=1)", "True or False"),
        ("ns(of='each')", "must be one of 'location', 'all'"),
        ("ns(knots=['a'])", "knots of ns"),
        ("ns(knots=x)", "names 'x', which is no column"),
        ("ns(knots=open('x'))", "unknown function 'open'"),
        ("ns(knots=__import__('os'))", "unknown function"),
        ("bs(degree=0)", "at least 1"),
        ("strata()", "needs breaks"),
        ("threshold()", "needs low, high or both"),
        ("threshold(low=1, low_percentile=5)", "takes low or low_percentile"),
        ("ns(df=3", "must be a basis"),
    ],
)
def test_texts_that_are_no_basis(text, said):
    with pytest.raises(mx.InputError, match=said):
        read_basis(text, "basis")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ns(knots=[100])", "knot 100 of ns.. lies outside its boundary knots 0 and 100"),
        ("bs(knots=[-1])", "knot -1 of bs"),
        ("ns(knots=[5, 5])", "repeat a value"),
        ("strata(breaks=[0])", "break 0 of strata.. lies outside the values, 0 to 100"),
        ("strata(breaks=[100.5])", "break 100.5"),
        ("threshold(high=100)", "high=100 lies outside"),
        ("threshold(low=0)", "low=0 lies outside"),
        ("threshold(low=60, high=50)", "wrong order"),
    ],
)
def test_knots_outside_the_values(text, said):
    with pytest.raises(mx.InputError, match=said):
        made(text)


@pytest.mark.parametrize(
    "text",
    ["ns(knots=[99.9])", "strata(breaks=[100])", "strata(breaks=[0.1])", "threshold(high=99.9)"],
)
def test_knots_just_inside_the_values(text):
    assert made(text).width
