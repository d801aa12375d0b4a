"""The functional core: traced designs, derivatives, precision, and its agreement with mixmeta."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.estimation.newton import evaluate
from mixmeta_jax.likelihood.likelihood import prepared
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
    data, _ = prepared(arrange(design))
    at = evaluate(theta[:, None], data, restricted=True)
    np.testing.assert_allclose(observed, at.information[:, :, 0], rtol=1e-8)


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
    S = mx.xpnd(smoking[["SBB", "SBC", "SBD", "SCC", "SCD", "SDD"]])

    def value(theta, y, S):
        return mx.log_likelihood(theta, mx.make_design(y, S=S, bscov="cs"), "ml")

    theta = jnp.array([0.5, 0.9])
    concrete = value(theta, y, smoking[["SBB", "SBC", "SBD", "SCC", "SCD", "SDD"]])
    traced = jax.jit(value)(theta, y, S)
    assert float(traced) == pytest.approx(float(concrete), rel=1e-12)
    batch = jax.jit(jax.vmap(value, (None, 0, None)))(theta, jnp.stack([y, y + 1]), S)
    # A constant added to every outcome is taken up by the coefficients.
    np.testing.assert_allclose(batch, [traced, traced], rtol=1e-9)
    slope = jax.jit(jax.grad(value, 1))(theta, jnp.asarray(y), S)
    assert np.isfinite(slope).all()
    assert (np.asarray(slope)[np.isnan(y)] == 0).all()


def test_derivative_in_the_within_study_correlation(float64):
    p53 = mx.load_dataset("p53")
    y, v = p53[["y1", "y2"]].to_numpy(), jnp.asarray(p53[["V1", "V2"]].to_numpy())
    theta = jnp.array([0.4, 0.3, 0.5])

    @jax.jit
    def value_and_slopes(rho, v):
        def value(rho, v):
            return mx.log_likelihood(theta, mx.make_design(y, S=v, rho=rho))

        return jax.value_and_grad(value, (0, 1))(rho, v)

    _, (slope, slopes) = value_and_slopes(0.5, v)
    step = 1e-6
    difference = value_and_slopes(0.5 + step, v)[0] - value_and_slopes(0.5 - step, v)[0]
    assert float(slope) == pytest.approx(float(difference) / (2 * step), rel=1e-7)
    # Whatever stands for the variance of a missing outcome, its root included, is not read.
    assert np.isnan(v).any()
    for filled in (jnp.nan_to_num(v), jnp.nan_to_num(v, nan=1.0)):
        _, (same, others) = value_and_slopes(0.5, filled)
        assert float(same) == pytest.approx(float(slope), rel=1e-12)
        np.testing.assert_allclose(others, slopes, rtol=1e-12)
    assert (np.asarray(slopes)[np.isnan(y)] == 0).all()
    # That of an observed one is.
    assert np.isnan(value_and_slopes(0.5, v.at[0, 0].set(-1.0))[0])


def test_S_may_be_traced_in_every_form_of_arrays(bcg, float64):
    blocks = calls.gliomas_blocks()
    gliomas = mx.load_dataset("gliomas")
    y, random = gliomas.logOR.to_numpy(), "~ 1 | study"

    def of_blocks(blocks):
        return mx.make_design(y, S=blocks, random=random, data=gliomas)

    def same(a, b):  # what is missing is zero where it can be checked
        np.testing.assert_array_equal(np.nan_to_num(a), b)

    concrete = of_blocks(blocks).S
    traced = jax.jit(lambda blocks: of_blocks(blocks).S)(blocks)
    jax.tree.map(same, traced, concrete)
    # One of them traced, the others checked as they are.
    label = next(iter(blocks))
    mixed = jax.jit(lambda block: of_blocks({**blocks, label: block}).S)(blocks[label])
    jax.tree.map(same, mixed, concrete)
    with pytest.raises(mx.InputError, match=f"no block for study {label}"):
        jax.jit(of_blocks)({name: block for name, block in blocks.items() if name != label})

    variances = bcg.logorvar.tolist()
    for form in (variances, [np.full((1, 1), v) for v in variances]):
        S = jax.jit(lambda S: mx.make_design(bcg.logor, S=S).S)(form)
        np.testing.assert_allclose(S.ravel(), variances, rtol=1e-15)
    # Columns by name beside outcomes that are traced; a negative variance is never a number.
    for sign in (1, -1):
        data = bcg.assign(v=sign * bcg.logorvar)
        S = jax.jit(lambda y: mx.make_design(y, S="v", data=data).S)(bcg.logor.to_numpy())  # noqa: B023
        np.testing.assert_allclose(S.ravel(), variances if sign == 1 else np.nan, rtol=1e-15)


TWO = np.ones((4, 2))


@pytest.mark.parametrize(
    ("S", "rho", "sentence"),
    [
        ([np.eye(2), np.eye(1), np.eye(2), np.eye(2)], None, "its entries differ in shape"),
        (np.ones((4, 3)), 0.5, "S holds covariances already"),
        (np.ones((4, 5)), None, r"S has shape \(4, 5\): traced, it must be"),
        (TWO, np.array([0.1, 0.2]), r"rho has shape \(2,\): traced"),
    ],
)
def test_bad_traced_errors(S, rho, sentence):
    with pytest.raises(mx.InputError, match=sentence):
        jax.jit(lambda S, rho: mx.make_design(TWO, S=S, rho=rho).S)(S, rho)


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
    with pytest.raises(mx.InputError, match=r"theta has the shape \(2,\), but must have \(1,\)"):
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
