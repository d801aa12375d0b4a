"""The functional core: traced designs, derivatives, precision, and its agreement with mixmeta."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixmeta_jax as mx
from tests.reference import R, calls


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def bcg():
    return mx.load_dataset("bcg")


def test_the_maximum_of_mixmeta_is_a_stationary_point_here(bcg, float64):
    fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=bcg)
    X = np.column_stack([np.ones(13), bcg.ablat])
    design = mx.make_design(bcg.logor, X, bcg.logorvar)
    theta = jnp.sqrt(jnp.array([fit.Psi.to_numpy().item()]))
    assert float(mx.log_likelihood(theta, design)) == pytest.approx(fit.loglik, abs=1e-10)
    assert float(jax.grad(mx.log_likelihood)(theta, design)[0]) == pytest.approx(0, abs=1e-7)
    observed = -jax.hessian(mx.log_likelihood)(theta, design)
    np.testing.assert_allclose(observed, fit.estimate.information, rtol=1e-8)


def test_fixed_effects_do_not_read_theta(bcg, float64):
    design = mx.make_design(bcg.logor, S=bcg.logorvar)
    reference = R["bcg_fixed"]["logLik"]
    value = mx.log_likelihood(jnp.zeros(0), design, "fixed")
    assert float(value) == pytest.approx(reference, abs=1e-9)


def test_two_levels_from_a_frame(float64):
    school = mx.load_dataset("school")
    design = mx.make_design(
        school.effect, S=school["var"], random="~ 1 | district/study", data=school
    )
    fit = calls.fit("school_district_study_reml")
    theta = jnp.asarray(fit.estimate.theta)
    assert float(mx.log_likelihood(theta, design)) == pytest.approx(fit.loglik, abs=1e-10)


def test_everything_may_be_traced_under_jit_and_vmap(float64):
    smoking = mx.load_dataset("smoking")
    y = smoking[["yB", "yC", "yD"]].to_numpy()
    S = np.nan_to_num(mx.xpnd(smoking[["SBB", "SBC", "SBD", "SCC", "SCD", "SDD"]]))

    def value(theta, y, S):
        return mx.log_likelihood(theta, mx.make_design(y, S=S, bscov="cs"), "ml")

    theta = jnp.array([0.5, 0.9])
    concrete = value(theta, y, smoking[["SBB", "SBC", "SBD", "SCC", "SCD", "SDD"]])
    traced = jax.jit(value)(theta, y, S)
    assert float(traced) == pytest.approx(float(concrete), rel=1e-12)
    batch = jax.vmap(value, (None, 0, None))(theta, jnp.stack([y, y + 1]), S)
    # A constant added to every outcome is taken up by the coefficients.
    np.testing.assert_allclose(batch, [traced, traced], rtol=1e-9)
    slope = jax.grad(value, 1)(theta, jnp.asarray(y), S)
    assert np.isfinite(slope).all()
    assert (np.asarray(slope)[np.isnan(y)] == 0).all()


def test_derivative_in_the_within_study_correlation(float64):
    p53 = mx.load_dataset("p53")
    y, v = p53[["y1", "y2"]].to_numpy(), np.nan_to_num(p53[["V1", "V2"]].to_numpy(), nan=1.0)
    theta = jnp.array([0.4, 0.3, 0.5])

    def value(rho):
        return mx.log_likelihood(theta, mx.make_design(y, S=v, rho=rho))

    slope = float(jax.grad(value)(0.5))
    step = 1e-6
    difference = float(value(0.5 + step) - value(0.5 - step)) / (2 * step)
    assert slope == pytest.approx(difference, rel=1e-7)


def test_designs_are_pytrees_whose_arrays_can_be_replaced(bcg, float64):
    design = mx.make_design(bcg.logor, S=bcg.logorvar)
    theta = jnp.array([0.5])
    value = jax.jit(mx.log_likelihood, static_argnames="method")
    doubled = replace(design, y=2 * design.y, S=4 * design.S)
    # Scaling the data by 2 scales Ψ by 4 and adds the logarithm of the scale.
    shift = float(value(2 * theta, doubled) - value(theta, design))
    assert shift == pytest.approx(-12 * np.log(2), rel=1e-12)


def test_single_precision_is_refused_with_the_way_out(bcg):
    design = mx.make_design(bcg.logor, S=bcg.logorvar)
    with pytest.raises(mx.PrecisionError, match=r"jax_enable_x64.*with jax.enable_x64\(True\)"):
        mx.log_likelihood(np.array([0.5]), design)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"X": np.ones((3, 1))}, r"X has shape \(3, 1\)"),
        ({"S": -np.ones(13)}, "negative variance"),
        ({"data": {"a": [1]}}, "data has 1 rows, but y has 13"),
        ({"bscov": "cs"}, "'cs' needs at least 2"),
    ],
)
def test_bad_input(bcg, arguments, sentence):
    with pytest.raises(mx.InputError, match=sentence):
        mx.make_design(bcg.logor, **{"S": bcg.logorvar, **arguments})


def test_theta_of_the_wrong_length(bcg, float64):
    design = mx.make_design(bcg.logor, S=bcg.logorvar)
    with pytest.raises(mx.InputError, match=r"theta has shape \(2,\).*1 parameter"):
        mx.log_likelihood(np.zeros(2), design)


def test_traced_data_in_single_precision_are_computed_with_in_double(bcg, float64):
    y, v = jnp.asarray(bcg.logor, jnp.float32), jnp.asarray(bcg.logorvar, jnp.float32)

    @jax.jit
    def coefficient(y, v):
        return mx.estimate(mx.make_design(y, S=v)).beta[0]

    found = coefficient(y, v)
    assert found.dtype == jnp.float64
    fit = mx.mixmeta(np.asarray(y, float), S=np.asarray(v, float))
    assert float(found) == pytest.approx(fit.coef.iloc[0], rel=1e-9)
