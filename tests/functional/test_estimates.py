"""Differentiable estimates, against mixmeta and against central differences of refits."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import mixmeta_jax as mx
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.estimation.newton import evaluate
from mixmeta_jax.estimation.programs import PROGRAMS
from mixmeta_jax.likelihood import packed
from mixmeta_jax.likelihood.engines import Packed, engine_for
from mixmeta_jax.likelihood.likelihood import prepared
from tests.designs import random_design
from tests.reference import calls


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def bcg():
    return mx.load_dataset("bcg")


@functools.partial(jax.jit, static_argnames="method")
def fit(design, method="reml"):
    return mx.estimate(design, method)


def summary(e):
    """A number that depends on every part of an estimate."""
    weights = jnp.cos(jnp.arange(e.beta.size) + 0.3)
    parts = [weights @ e.beta, weights @ e.vcov @ weights, 0.1 * e.loglik]
    return sum(parts) + sum((P * jnp.cos(jnp.arange(P.size)).reshape(P.shape)).sum() for P in e.Psi)


def direction(design, seed=0):
    """A random direction in which the y, X, S and Z of a design move."""
    rng = np.random.default_rng(seed)

    def change(S):
        # Of the standard deviations: however ill-conditioned, S stays positive definite.
        relative = 0.2 * rng.normal(size=S.shape[:-1])
        return S * (relative[..., :, None] + relative[..., None, :])

    return {
        "y": rng.normal(size=design.y.shape),
        "X": rng.normal(size=design.X.shape),
        "S": jax.tree.map(change, design.S),
        "Z": tuple(rng.normal(size=Z.shape) for Z in design.Z),
    }


def moved(design, change, t):
    parts = {name: getattr(design, name) for name in change}
    return replace(design, **jax.tree.map(lambda part, d: part + t * d, parts, change))


def difference(f, step):
    """Central differences, extrapolated."""
    coarse, fine = ((f(h) - f(-h)) / (2 * h) for h in (step, step / 2))
    return (4 * fine - coarse) / 3


@jax.jit
def derived(found, design):
    return mx.blups(found, design), mx.predict(found, design.X[:2]), mx.cochran_q(design)


@pytest.mark.parametrize("name", ["school_district_study_reml", "berkey_reml"])
def test_the_estimate_is_that_of_mixmeta(name):
    reference = calls.fit(name)
    found = fit(reference.design, reference.method)
    np.testing.assert_allclose(found.beta, reference.coef, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.vcov, reference.vcov, rtol=1e-9, atol=1e-10)
    for ours, theirs in zip(found.Psi, reference.Psi_by_level, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)
    assert float(found.loglik) == pytest.approx(reference.loglik, abs=1e-10)
    assert mx.Status(int(found.status)) is reference.status
    blups, (mean, covariance), (Q, I2) = derived(found, reference.design)
    expected = reference.blup().to_numpy().reshape(-1, reference.frame.k)
    np.testing.assert_allclose(blups, expected, rtol=1e-8)
    assert float(Q) == pytest.approx(reference.heterogeneity.Q[0], rel=1e-10)
    assert float(I2) == pytest.approx(reference.heterogeneity.I2[0], rel=1e-10)
    np.testing.assert_allclose(mean, reference.fitted_array[:2], rtol=1e-9)
    assert covariance.shape == (2, reference.frame.k, reference.frame.k)


def everything(e, design):
    """An estimate and what is computed from it: BLUPs, predictions, Q and I²."""
    mean, covariance = mx.predict(e, jnp.arange(1.0, design.p + 1)[None])
    Q, I2 = mx.cochran_q(design)
    blups = mx.blups(e, design)
    weights = jnp.cos(jnp.arange(blups.size)).reshape(blups.shape)
    return jnp.stack([summary(e), (weights * blups).sum(), mean.sum() + covariance.sum(), Q, I2])


@functools.partial(jax.jit, static_argnames="method")
def moving(t, design, change, method):
    """Everything at t along a line, its slope, and the estimate."""

    def value(t):
        at = moved(design, change, t)
        e = mx.estimate(at, method)
        return everything(e, at), e

    return jax.jvp(value, (t,), (1.0,), has_aux=True)


# Two outcomes; three of which many are missing; two levels; random slopes and S that spans rows.
REFERENCES = [
    "berkey_reml",
    "smoking_cs_reml",
    "school_district_study_reml",
    "gliomas_M7_ml",
]


def test_outside_of_a_program_the_search_is_compiled_once(bcg):
    """JAX would trace and compile its loop in every call, for seconds."""
    design = mx.make_design(bcg.logor, S=bcg.logorvar)
    first = mx.estimate(design)
    compiled = PROGRAMS.compiled
    for y in (design.y, design.y + 1.0):
        again = mx.estimate(replace(design, y=y))
    assert PROGRAMS.compiled == compiled
    np.testing.assert_allclose(again.beta, first.beta + 1.0, rtol=1e-12)
    np.testing.assert_allclose(again.Psi[0], first.Psi[0], rtol=1e-8)


@pytest.mark.parametrize("name", REFERENCES)
def test_derivatives_are_those_of_refits(name):
    reference = calls.fit(name)
    design, method = reference.design, reference.method
    change = direction(design)
    _, derivative, e = moving(0.0, design, change, method)
    np.testing.assert_allclose(e.beta, reference.coef, rtol=1e-8, atol=1e-10)
    expected = difference(lambda t: moving(t, design, change, method)[0], 1e-3)
    np.testing.assert_allclose(derivative, expected, rtol=1e-5)


def test_at_a_null_variance_of_one_level_the_other_moves():
    # The outcomes of the schools dealt anew: districts no longer differ.
    design = calls.fit("school_district_study_reml").design
    deal = np.random.default_rng(0).permutation(design.n)
    design = replace(design, y=design.y[deal], S=design.S[deal])
    change = direction(design)
    _, derivative, e = moving(0.0, design, change, "reml")
    assert mx.Status(int(e.status)) is mx.Status.BOUNDARY
    districts, schools = (float(Psi[0, 0]) for Psi in e.Psi)
    assert districts < 1e-12 < 1e-3 < schools
    expected = difference(lambda t: moving(t, design, change, "reml")[0], 1e-3)
    np.testing.assert_allclose(derivative, expected, rtol=1e-5)


D = 3
AS_IS = np.ones(D)
STRUCTURES = {
    "unstr": mx.Unstructured(),
    "diag": mx.Diagonal(),
    "id": mx.Identity(),
    "cs": mx.CompoundSymmetry(),
    "hcs": mx.HeterogeneousCompoundSymmetry(),
    "ar1": mx.AR1(),
    "har1": mx.HeterogeneousAR1(),
    "car1": mx.ContinuousAR1(times=(0.0, 1.0, 2.5)),
    "hcar1": mx.HeterogeneousContinuousAR1(times=(0.0, 1.0, 2.5)),
    "toep": mx.Toeplitz(),
    "htoep": mx.HeterogeneousToeplitz(),
    "fa": mx.FactorAnalytic(1),
    "blocks": mx.BlockDiagonal(["ar1", "id"], sizes=(2, 1)),
    "prop": mx.Proportional(np.eye(D) + 0.5),
    "cor": mx.Correlation(np.eye(D) + 0.5),
    "fixed": mx.Fixed(0.7 * np.eye(D) + 0.3),
}


class AnyOf(mx.Structure):
    """The structure of the given number: one compilation does for all of them.

    Parameters that a structure does not have are flat directions.
    """

    name = "any"

    def __init__(self, which):
        self.which = jnp.asarray(which)

    def n_parameters(self, d):
        return d * (d + 1) // 2

    def psi(self, theta, d):
        def of(structure):
            return lambda theta: structure.psi(theta[: structure.n_parameters(d)], d)

        return jax.lax.switch(self.which, [of(s) for s in STRUCTURES.values()], theta)

    def starts(self, variances):
        n = self.n_parameters(len(variances))
        first = [jnp.asarray(s.starts(variances)[0]) for s in STRUCTURES.values()]
        padded = [jnp.concatenate([own, jnp.ones(n - len(own))]) for own in first]
        return [jnp.stack(padded)[self.which]]

    def at_bound(self, Psi, scale):
        each = [jnp.asarray(s.at_bound(Psi, scale)) for s in STRUCTURES.values()]
        return jnp.stack(each)[self.which]


@pytest.fixture(scope="module")
def any_of():
    """Summary, coefficients, status along a line and their slopes; a trivariate design."""
    design = random_design(seed=7, k=D, n=30, missing=0.1, codes=[np.arange(30)])
    shared = np.random.default_rng(3).normal(size=(30, 1))
    base = replace(design, y=2 * design.y + 2 * shared, complete=False)
    change = direction(base)

    def value(t, which, mask, size):
        design = moved(replace(base, y=base.y * size), change, t)
        design = replace(design, structures=(AnyOf(which),), mask=mask)
        e = mx.estimate(design)
        return jnp.stack([summary(e), e.beta @ jnp.cos(jnp.arange(e.beta.size))]), e

    def moving(t, which, mask, size):
        return jax.jvp(lambda t: value(t, which, mask, size), (t,), (1.0,), has_aux=True)

    return jax.jit(moving), base.mask


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_moves_as_its_refits(any_of, name):
    moving, mask = any_of
    which = list(STRUCTURES).index(name)
    _, derivative, e = moving(0.0, which, mask, AS_IS)
    assert mx.Status(int(e.status)).converged
    expected = difference(lambda t: moving(t, which, mask, AS_IS)[0], 1e-3)
    np.testing.assert_allclose(derivative, expected, rtol=1e-5)


def test_what_the_data_identify_moves_beside_what_they_do_not(any_of):
    # The first outcome and the last are never seen together: their covariance is free.
    moving, mask = any_of
    mask = mask & np.where(np.arange(30)[:, None] % 2, [True, True, False], [False, True, True])
    _, derivative, e = moving(0.0, 0, mask, AS_IS)
    assert mx.Status(int(e.status)) is mx.Status.NOT_IDENTIFIED
    expected = difference(lambda t: moving(t, 0, mask, AS_IS)[0], 1e-3)
    assert float(derivative[1]) == pytest.approx(float(expected[1]), rel=1e-5)
    assert np.isfinite(derivative).all()


def test_a_null_variance_among_standard_deviations_stays(any_of):
    # Its parameter, a root of a standard deviation, has no information at all there.
    moving, mask = any_of
    which, size = list(STRUCTURES).index("hcs"), np.array([1.0, 1.0, -0.05])
    _, derivative, e = moving(0.0, which, mask, size)
    assert mx.Status(int(e.status)) is mx.Status.BOUNDARY
    assert float(e.Psi[0][2, 2]) < 1e-9
    expected = difference(lambda t: moving(t, which, mask, size)[0], 1e-3)
    np.testing.assert_allclose(derivative, expected, rtol=1e-5)


def test_the_two_entries_of_a_covariance_share_its_derivative():
    design = random_design(seed=7, k=2, n=14, missing=0.2, codes=[np.arange(14)])
    y, S = jnp.asarray(3 * np.nan_to_num(design.y)), jnp.asarray(design.S)
    rng = np.random.default_rng(2)
    dy, dS = rng.normal(size=y.shape), rng.normal(size=S.shape)

    def value(y, S):
        return summary(mx.estimate(replace(design, y=y, S=S)))

    def both_modes(y, S):
        value_and_slopes = jax.value_and_grad(value, (0, 1))(y, S)
        return *value_and_slopes, jax.jvp(value, (y, S), (dy, dS))[1]

    both_modes = jax.jit(both_modes)
    _, (in_y, in_S), forward = both_modes(y, S)
    assert float((in_y * dy).sum() + (in_S * dS).sum()) == pytest.approx(float(forward), rel=1e-8)
    assert (np.asarray(in_y)[~design.mask] == 0).all()
    np.testing.assert_array_equal(in_S, in_S.swapaxes(1, 2))
    i = int(np.argmax(design.mask.all(1)))  # both outcomes are there
    both = np.zeros(S.shape)
    both[i, 0, 1] = both[i, 1, 0] = 1.0
    expected = difference(lambda h: both_modes(y, S + h * both)[0], 1e-3)
    assert float(in_S[i, 0, 1] + in_S[i, 1, 0]) == pytest.approx(float(expected), rel=1e-5)


def test_the_rule_is_the_same_through_long_data(monkeypatch):
    # From `packed.FEWEST` units on, the gradient that the rule moves has formulas of its own.
    design = random_design(seed=3, k=2, n=20, codes=[np.arange(20)])
    theta, weights = jnp.array([0.8, 0.3, 0.6]), jnp.array([1.0, -0.4, 0.7])

    def slopes():
        def slope(y, S, X):
            data, _ = prepared(arrange(replace(design, y=y, S=S, X=X)))
            return evaluate(theta[:, None], data, restricted=True).gradient[:, 0] @ weights

        return jax.jit(jax.grad(slope, (0, 1, 2)))(design.y, design.S, design.X)

    swept = slopes()
    monkeypatch.setattr(packed, "FEWEST", 1)
    assert isinstance(engine_for(prepared(arrange(design))[0], 1), Packed)
    for ours, theirs in zip(slopes(), swept, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.fixture(scope="module")
def pooled(bcg):
    """Pooled effect and τ² of bcg from its outcomes and variances."""

    def pooled(y, s):
        e = mx.estimate(mx.make_design(y, S=s))
        return e.beta[0] + 0.5 * e.Psi[0][0, 0]

    return pooled, jnp.asarray(bcg.logor.to_numpy()), jnp.asarray(bcg.logorvar.to_numpy())


def two_orders(f, at):
    """Value, forward and reverse gradients and both Hessians against differences, one program."""

    def all_of_them(a):
        def forward(a):
            return jax.jvp(f, (a,), (jnp.ones(2),))[1]

        def reverse(a):
            return jax.value_and_grad(f)(a)

        (value, gradient), (slope, curved) = jax.jvp(reverse, (a,), (jnp.ones(2),))
        return value, gradient, slope, curved, jax.grad(forward)(a)

    found = jax.jit(all_of_them)
    value, gradient, slope, curved, reverse_over_forward = found(at)
    for i, e in enumerate(np.eye(2)):
        first = difference(lambda h: found(at + h * e)[0], 1e-3)  # noqa: B023
        assert float(gradient[i]) == pytest.approx(float(first), rel=1e-5)
        second = difference(lambda h: found(at + h * e)[2], 1e-3)  # noqa: B023
        assert float(curved[i]) == pytest.approx(float(second), rel=1e-5)
    assert float(slope) == pytest.approx(float(gradient.sum()), rel=1e-8)
    np.testing.assert_allclose(reverse_over_forward, curved, rtol=1e-7)


def test_two_orders_forward_and_reverse(pooled):
    f, y, s = pooled
    rng = np.random.default_rng(0)
    dy, ds = rng.normal(size=13), np.asarray(s) * rng.normal(size=13)
    two_orders(lambda a: f(y + a[0] * dy, s + a[1] * ds), jnp.zeros(2))


def test_jax_own_check_of_both_modes_to_second_order(pooled):
    f, y, s = pooled
    # Along the mean of the outcomes and the scale of their errors: two numbers cost little.
    value = jax.jit(lambda shift, scale: f(y * (1 + shift), s * jnp.exp(scale)))
    at = (jnp.asarray(0.1), jnp.asarray(0.2))
    check_grads(value, at, order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5, eps=1e-4)


def test_two_orders_in_a_correlation_and_an_offset():
    rng = np.random.default_rng(5)
    y, S = rng.normal(size=(20, 2)) * [1.0, 2.0], rng.uniform(0.2, 1.0, (20, 2))
    w = rng.normal(size=20)

    def f(a):
        design = mx.make_design(y, S=S, rho=a[0], offset=a[1] * w, bscov="diag")
        return summary(mx.estimate(design, "ml"))

    two_orders(f, jnp.array([0.4, 0.2]))


def test_a_thousand_gradients_in_a_batch(pooled):
    f, y, s = pooled
    many = y + 0.1 * np.random.default_rng(1).normal(size=(1000, 13))
    batch = jax.jit(jax.vmap(jax.grad(f), (0, None)))(many, s)
    single = jax.jit(jax.grad(f))
    for member in (0, 500, 999):
        np.testing.assert_allclose(batch[member], single(many[member], s), rtol=1e-8, atol=1e-12)
    # A batch's gradient is the batch of gradients.
    total = jax.jit(jax.grad(lambda many: jax.vmap(f, (0, None))(many, s).sum()))(many)
    np.testing.assert_allclose(total, batch, rtol=1e-8, atol=1e-12)


def test_the_matrix_of_a_structure_alone_may_be_traced():
    rng = np.random.default_rng(2)
    y, S = rng.normal(size=(20, 2)), rng.uniform(0.1, 0.3, (20, 2))
    matrices = np.eye(2) + np.array([0.0, 0.3, 0.6])[:, None, None] * (1 - np.eye(2))
    design = mx.make_design(y, S=S, rho=0.2, bscov="prop", Psi_fix=np.eye(2))

    def value(P):
        structures = jax.tree.map(lambda _: P, design.structures)
        return summary(mx.estimate(replace(design, structures=structures)))

    singles = [
        summary(mx.estimate(mx.make_design(y, S=S, rho=0.2, bscov="prop", Psi_fix=P)))
        for P in matrices
    ]
    np.testing.assert_allclose(jax.vmap(value)(matrices), singles, rtol=1e-10)


@pytest.mark.parametrize(
    ("method", "status"), [("reml", mx.Status.BOUNDARY), ("fixed", mx.Status.CONVERGED)]
)
def test_without_a_variance_the_derivative_is_that_of_the_weighted_mean(bcg, method, status):
    # Outcomes that vary less than their errors: τ² = 0 under REML too.
    y, s = jnp.asarray(0.1 * bcg.logor.to_numpy()), jnp.asarray(bcg.logorvar.to_numpy())

    def value(y, s):
        e = mx.estimate(mx.make_design(y, S=s), method)
        return e.beta[0] + sum(P[0, 0] for P in e.Psi), e.status

    (in_y, in_s), found = jax.jit(jax.grad(value, (0, 1), has_aux=True))(y, s)
    assert mx.Status(int(found)) is status
    share = (1 / s) / (1 / s).sum()
    np.testing.assert_allclose(in_y, share, rtol=1e-8)
    np.testing.assert_allclose(in_s, -share * (y - share @ y) / s, rtol=1e-8, atol=1e-12)


def test_a_singular_matrix_moves_along_the_boundary():
    # From the maximum of mixmeta, as its further starts are not tried here.
    reference = calls.fit("p53_rho095_ml")
    design = reference.design
    dy = np.random.default_rng(1).normal(size=design.y.shape)

    def value(t):
        control = {"start": reference.Psi}
        e = mx.estimate(replace(design, y=design.y + t * dy), "ml", control)
        return jnp.concatenate([e.beta, e.Psi[0].ravel()]), e.status

    moved = jax.jit(lambda t: jax.jvp(value, (t,), (1.0,), has_aux=True))
    _, derivative, status = moved(0.0)
    assert mx.Status(int(status)) is mx.Status.BOUNDARY
    expected = difference(lambda t: moved(t)[0], 1e-3)
    np.testing.assert_allclose(derivative, expected, rtol=1e-6)


def test_what_is_refused(bcg):
    design = mx.make_design(bcg.logor, S=bcg.logorvar)
    with pytest.raises(mx.InputError, match="method must be one of"):
        mx.estimate(design, "dl")
    with jax.enable_x64(False), pytest.raises(mx.PrecisionError, match="float64"):
        mx.estimate(design)
    with pytest.raises(mx.InputError, match=r"2 matrices, but the design has 1 level"):
        mx.estimate(design, control={"start": {"a": np.eye(1), "b": np.eye(1)}})
    # Six coefficients: of two predictors and three outcomes, not the other way round.
    six = replace(ESTIMATE, beta=np.zeros(6), vcov=np.eye(6), k=3)
    _, covariance = mx.predict(six, np.ones((1, 2)))
    np.testing.assert_array_equal(covariance[0], 2 * np.eye(3))
    with pytest.raises(mx.InputError, match=r"X has the shape \(1, 3\), but must have \(m, 2\)"):
        mx.predict(six, np.ones((1, 3)))

    def of_labels(group):
        table = {"g": group}
        return mx.make_design(bcg.logor.to_numpy(), S=bcg.logorvar, random="~ 1 | g", data=table)

    with pytest.raises(mx.InputError, match=r"labels.*cannot be traced"):
        jax.jit(of_labels)(jnp.arange(13.0))
    with pytest.raises(mx.InputError, match="Psi_fix is traced"):
        jax.jit(lambda P: mx.make_design(bcg.logor, S=bcg.logorvar, bscov="prop", Psi_fix=P))(
            jnp.eye(1)
        )


ESTIMATE = mx.Estimate(*[np.zeros(2)] * 3, (np.eye(2),), *[np.zeros(())] * 4, 2)
FUNCTIONS = {
    "estimate": lambda design: mx.estimate(design).beta[0],
    "the fixed estimate": lambda design: mx.estimate(design, "fixed").beta[0],
    "log_likelihood": lambda design: mx.log_likelihood(np.ones(3), design),
    "log_density": lambda design: mx.log_density(np.zeros(2), np.zeros(3), design),
    "blups": lambda design: mx.blups(ESTIMATE, design).sum(),
    "cochran_q": lambda design: mx.cochran_q(design)[0],
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("part", ["groups", "mask"])
def test_labels_have_no_derivative_rather_than_a_zero(name, part):
    design = random_design(k=2, n=6, p=1)
    values = jnp.asarray(getattr(design, part), float)
    with pytest.raises(mx.InputError, match=f"{part} of the design has no derivative"):
        jax.grad(lambda values: FUNCTIONS[name](replace(design, **{part: values})))(values)


@pytest.mark.parametrize(("bscov", "seed"), [("hcs", 24), ("cor", 14)])
def test_it_ends_at_the_higher_of_several_maxima(bscov, seed):
    """Data sets with a lower local maximum, where the first starts of `mixmeta` end."""
    g = np.random.default_rng(seed)
    root = g.normal(size=(8, 3, 3))
    S = np.einsum("nij,nkj->nik", root, root) * 0.2 + np.eye(3) * 0.05
    y = g.normal(size=(8, 3)) * 0.8
    given = {"Psi_fix": np.eye(3) / 2 + 0.5} if bscov == "cor" else {}
    call = {"formula": y, "S": S, "bscov": bscov, **given}
    highest = mx.mixmeta(**call, control={"backend": "numpy"})
    without = mx.mixmeta(**call, control={"backend": "numpy", "n_starts": 9})
    assert highest.loglik - without.loglik > 0.1
    found = fit(mx.make_design(y, S=S, bscov=bscov, **given))
    assert float(found.loglik) == pytest.approx(highest.loglik, abs=1e-9)
    np.testing.assert_allclose(found.beta, highest.coef, atol=1e-7)
    assert int(found.status) == highest.status


@pytest.mark.parametrize("method", ["ml", "fixed"])
def test_what_is_not_finite_has_no_figures(method):
    y = np.array([1e160, -1e160, 3e160, 0.0])
    found = fit(mx.make_design(y, S=np.ones(4)), method)
    assert int(found.status) == mx.Status.NOT_FINITE
    for values in (found.beta, found.vcov, found.theta, found.loglik, *found.Psi):
        assert np.isnan(values).all()
