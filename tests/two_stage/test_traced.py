"""The last numbers of a two-stage analysis are functions that JAX differentiates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.two_stage.bases import NaturalSpline
from tests.two_stage.locations import days, pooled, quadratic

KNOTS = (8.0, 16.0, 24.0)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def spline(knots):
    return NaturalSpline(knots=knots, boundary=(0.0, 30.0))


def coefficients():
    """Ten splines that are lowest inside, about 12 degrees."""
    x = np.linspace(0, 30, 200)
    X = np.column_stack([np.ones(200), spline(KNOTS)(x)])
    fitted = np.linalg.lstsq(X, 0.5 * ((x - 12) / 10) ** 2, rcond=None)[0][1:]
    return fitted + 0.05 * np.random.default_rng(1).normal(size=(10, 4))


def difference(function, at, direction, step=1e-4):
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)


def test_values_are_those_of_the_tables():
    fit = pooled()
    exposure, outcome = days()
    minima = mx.minimum_risk(fit, quadratic, exposure, n=2).exposure
    table = mx.attributable(
        fit, quadratic, exposure, outcome, lag=2, ranges={"a": (5, None)}, n=2
    ).loc["location"]
    b = fit.blup().to_numpy()

    def basis(x):
        return jnp.stack([x / 10, (x / 10) ** 2], 1)

    @jax.jit
    def last(b, low, high, x, y):
        centre = mx.minimum_exposure(b, basis, low, high)
        return centre, *mx.attributable_fraction(b, basis, x, y, centre, lag=2, low=5)

    for i, label in enumerate(fit.index):
        x, y = exposure[label], outcome[label]
        centre, fraction, number = last(b[i], *np.nanpercentile(x, [1, 99]), x, y)
        row = table.loc[(label, "a")]
        expected = [minima[label], row.fraction, row.number]
        np.testing.assert_allclose([centre, fraction, number], expected, rtol=1e-9)
    both = mx.minimum_exposure(b, basis, 0, 30)
    np.testing.assert_allclose(both, -5 * b[:, 0] / b[:, 1], rtol=1e-10)


def test_minimum_moves_with_coefficients_knots_and_ends():
    b = coefficients()

    def found(b, knots, low=1.0):
        return mx.minimum_exposure(b, spline(knots), low, 29.0)

    at, knots = jnp.asarray(b[0]), jnp.array(KNOTS)
    value, slopes = jax.jit(found), jax.jit(jax.grad(found, (0, 1, 2)))
    by_b, by_knots, by_low = slopes(at, knots, 1.0)
    expected = [difference(lambda b: value(b, knots), at, e) for e in np.eye(4)]
    np.testing.assert_allclose(by_b, expected, rtol=1e-5)
    expected = [difference(lambda k: value(at, k), knots, e) for e in np.eye(3)]
    np.testing.assert_allclose(by_knots, expected, rtol=1e-5, atol=1e-7)
    assert by_low == 0
    # Forward over reverse.
    change = np.array([0.3, -0.2, 0.5, 0.1])
    twice = jax.jit(lambda b: jax.jvp(lambda b: slopes(b, knots, 1.0)[0], (b,), (change,)))
    expected = difference(lambda b: slopes(b, knots, 1.0)[0], at, change)
    np.testing.assert_allclose(twice(at)[1], expected, rtol=1e-4, atol=1e-4)
    # Where the range begins above the minimum, it is that end.
    by_b, by_knots, by_low = slopes(at, knots, 20.0)
    assert (by_b == 0).all() and (by_knots == 0).all() and by_low == 1


def parabola(x):
    return jnp.stack([x / 10, (x / 10) ** 2], 1)


def analysis(b, S, weights, exposure, outcome):
    """From first-stage estimates to the last numbers of the first location."""
    design = mx.make_design(b, S=S, bscov="id")
    fitted = mx.estimate(design)
    own = mx.blups(fitted, design)[0]
    # A missing count times a weight would have no derivative in the weight.
    counts = jnp.where(jnp.isnan(outcome), jnp.nan, weights * jnp.nan_to_num(outcome))
    centre = mx.minimum_exposure(own, parabola, 1.0, 29.0)
    fraction, _ = mx.attributable_fraction(own, parabola, exposure, counts, centre, lag=2)
    return jnp.stack([fraction, centre])


def test_the_whole_analysis_is_differentiated():
    fit = pooled()
    exposure, outcome = (own["city 0"] for own in days())
    given = [fit.frame.y, np.asarray(fit.S), np.ones(60), exposure]

    def final(*given):
        return analysis(*given, outcome)

    slopes = jax.jit(jax.jacrev(final, (0, 1, 2, 3)))(*given)
    value = jax.jit(final)
    rng = np.random.default_rng(2)
    for i, (slope, own) in enumerate(zip(slopes, given, strict=True)):
        # Missing exposures and outcomes have no part in it.
        assert np.isfinite(slope).all()
        change = rng.normal(size=own.shape)
        if i == 1:
            change = 1e-2 * (change + change.transpose(0, 2, 1))
        first, last = (value(*given[:i], own + h * change, *given[i + 1 :]) for h in (-1e-5, 1e-5))
        axes = tuple(range(1, slope.ndim))
        expected = (last - first) / 2e-5
        moved = (slope * change).sum(axes)
        np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-8)


def test_single_precision_and_bad_input():
    with jax.enable_x64(False), pytest.raises(mx.PrecisionError, match="float64"):
        mx.minimum_exposure([1.0], lambda x: x[:, None], 0, 1)
    with pytest.raises(mx.InputError, match=r"Use jax\.numpy"):
        jax.grad(lambda b: mx.minimum_exposure(b, lambda x: np.sort(x)[:, None], 0.0, 1.0))(
            jnp.ones(1)
        )
    for arguments, sentence in (
        ({"low": 2.0}, "low is 2 and high 1"),
        ({"basis": lambda x: x}, r"of shape \(401,\) of 401 exposures"),
        ({"coef": np.ones((2, 2, 2))}, r"coef has the shape \(2, 2, 2\)"),
        ({"basis": 3}, "basis must be a function"),
    ):
        given = {"coef": [1.0], "basis": lambda x: x[:, None], "low": 0.0, "high": 1.0}
        with pytest.raises(mx.InputError, match=sentence):
            mx.minimum_exposure(**(given | arguments))
    with pytest.raises(mx.InputError, match="exposure has 2 days and outcome 1"):
        mx.attributable_fraction([1.0], lambda x: x[:, None], [1, 2], [1], 0)


def test_a_second_call_compiles_nothing():
    """Outside of ``jit`` too, where the basis may be another one with other knots."""
    b = coefficients()
    first = mx.minimum_exposure(b, spline(KNOTS), 1.0, 29.0)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    again = mx.minimum_exposure(b, spline(KNOTS), 1.0, 29.0)
    mx.minimum_exposure(b + 0.01, spline((9.0, 16.0, 25.0)), 2.0, 28.0)
    assert not compiled and (first == again).all()
    jax.jit(lambda x: x + 1.0)(b)
    assert compiled  # what is listened to is told
