"""Derivatives in a whole design, against central differences, and JAX at its strictest."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import mixmeta_jax as mx
from tests.designs import random_design

SLOPE = random_design(k=1, q=(2,), n=16, missing=0.2, codes=[np.arange(16) // 4], bscov="diag")
MIXED = random_design(k=2, q=(1, 1), n=8, seed=3, bscov="cs")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def pooled(design):
    found = mx.estimate(design)
    return found.beta @ np.cos(np.arange(found.beta.size)) + 0.1 * found.loglik


def likelihood(design):
    return mx.log_likelihood(np.full(sum(design.n_parameters), 0.6), design)


def moved(design, change, t):
    numbers = jax.tree.map(lambda part, d: part + t * d, design.quantities, change)
    return replace(design, **numbers)


def direction(design):
    rng = np.random.default_rng(1)

    def change(values):
        return rng.normal(size=values.shape)

    found = jax.tree.map(change, design.quantities)
    # Of S its size: it stays positive definite.
    return found | {"S": 0.3 * design.S}


def difference(f, step=1e-4):
    coarse, fine = ((f(h) - f(-h)) / (2 * h) for h in (step, step / 2))
    return (4 * fine - coarse) / 3


@pytest.mark.parametrize(
    ("function", "design"), [(pooled, SLOPE), (likelihood, SLOPE), (likelihood, MIXED)]
)
def test_the_derivative_in_a_design_is_that_of_differences(function, design):
    """In y, X, S and Z at once, and each of them by itself by either way of asking for it."""
    compiled = jax.jit(function)
    value = jax.jit(jax.grad(function, allow_int=True))
    slope = value(design)
    change = direction(design)
    for name, part in change.items():
        only = jax.tree.map(np.zeros_like, change) | {name: part}
        expected = difference(lambda t, only=only: float(compiled(moved(design, only, t))))
        own = sum(
            float(np.sum(np.where(d == 0, 0.0, g) * d))
            for g, d in zip(
                jax.tree.leaves(getattr(slope, name)), jax.tree.leaves(part), strict=True
            )
        )
        assert own == pytest.approx(expected, rel=1e-6, abs=1e-7), name
    assert slope.mask.dtype == slope.groups.dtype == jax.dtypes.float0
    np.testing.assert_allclose(slope.basis, 0.0, atol=1e-9)


def test_quantities_are_the_numbers_of_a_design():
    """One tree that JAX differentiates in without being told of labels."""

    def energy(design):
        parts = jax.tree.leaves((design.y, design.X, design.S, design.Z))
        return 0.5 * sum((part**2).sum() for part in parts)

    numbers = MIXED.quantities
    slopes = jax.grad(lambda q: energy(replace(MIXED, **q)))(
        {name: jax.tree.map(np.nan_to_num, part) for name, part in numbers.items()}
    )
    assert slopes.keys() == {"y", "X", "S", "Z"}
    for own, part in zip(jax.tree.leaves(slopes), jax.tree.leaves(numbers), strict=True):
        np.testing.assert_allclose(own, np.nan_to_num(part))
    traced = jax.eval_shape(jax.grad(lambda q: likelihood(replace(MIXED, **q))), numbers)
    assert jax.tree.map(np.shape, traced) == jax.tree.map(np.shape, numbers)


STRICT = {
    "ranks": lambda: jax.numpy_rank_promotion("raise"),
    "types": lambda: jax.numpy_dtype_promotion("strict"),
}


def theta():
    return np.full(4, 0.5)


CORE = {
    "log_likelihood": lambda: (mx.log_likelihood, theta(), MIXED),
    "its gradient": lambda: (
        jax.grad(jax.jit(mx.log_likelihood), (0, 1), allow_int=True),
        theta(),
        MIXED,
    ),
    "estimate": lambda: (mx.estimate, MIXED),
    "the gradient of an estimate": lambda: (jax.grad(jax.jit(pooled), allow_int=True), SLOPE),
    "blups": lambda: (lambda d: mx.blups(mx.estimate(d), d), SLOPE),
    "predict": lambda: (lambda d: mx.predict(mx.estimate(d, "fixed"), d.X), MIXED),
    "cochran_q": lambda: (mx.cochran_q, MIXED),
    "simulate": lambda: (mx.simulate, jax.random.key(0), theta(), np.ones(4), MIXED),
    "log_density": lambda: (jax.grad(jax.jit(mx.log_density)), np.ones(4), theta(), MIXED),
    "covariances": lambda: (mx.covariances, theta(), MIXED),
    "make_design": lambda: (
        lambda y, S, offset: likelihood(mx.make_design(y, S=S, offset=offset, bscov="id")),
        np.ones((5, 2)),
        np.ones((5, 2)),
        np.ones(5),
    ),
}


@pytest.mark.parametrize("name", CORE)
def test_the_core_under_strict_promotion(name):
    """Traced, which is where JAX looks; derivatives of what was traced before, too."""
    function, *args = CORE[name]()
    with STRICT["ranks"](), STRICT["types"]():
        jax.eval_shape(function, *args)


@pytest.mark.parametrize("strictly", STRICT)
def test_the_strictness_is_that_of_jax(strictly):
    """What the settings forbid to a program of a user."""
    one, other = (np.ones(3), np.ones((2, 3))) if strictly == "ranks" else (np.ones(3, int), 1.5)
    other = np.float64(other) * np.ones(np.shape(other))
    with STRICT[strictly](), pytest.raises((ValueError, TypeError), match=r"romotion"):
        jax.numpy.add(one, other)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_a_mesh_of_explicit_axes_is_told(kind):
    """XLA divides a program by the arrays on the one kind of mesh; the other refuses gathers."""
    axes = (getattr(jax.sharding.AxisType, kind),)
    mesh = jax.make_mesh((1,), ("rows",), axis_types=axes)
    there = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    design = replace(SLOPE, X=jax.device_put(SLOPE.X, there))
    if kind == "Auto":
        jax.eval_shape(mx.cochran_q, design)
        return
    for call in (mx.cochran_q, jax.jit(mx.cochran_q)):
        with pytest.raises(mx.InputError, match=r"design: its X is divided .* type Explicit"):
            call(design)
