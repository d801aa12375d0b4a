"""Outcomes drawn with keys of JAX: their distribution, exactly and by moments; bad keys."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.likelihood.drawing import drawing
from tests.designs import KINDS, random_design


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def some_theta(design, seed=1):
    return np.random.default_rng(seed).normal(size=sum(design.n_parameters))


def written_out(design, Psi):
    """Σ of all outcomes, observed or not, outcome fastest: entry by entry, by its definition.

    Where S spans units its entries are read from the rows that the layout gives to each place.
    """
    n, k = design.n, design.k
    Sigma = np.zeros((n, k, n, k))
    for a, (Z, P) in enumerate(zip(design.Z, Psi, strict=True)):
        blocks = P.reshape(Z.shape[1], k, Z.shape[1], k)
        for i in range(n):
            for j in range(n):
                if design.groups[i, a] == design.groups[j, a]:
                    Sigma[i, :, j] += np.einsum("q,qorp,r->op", Z[i], blocks, Z[j])
    if not isinstance(design.S, tuple):
        for i in range(n):
            Sigma[i, :, i] += design.S[i]
        return Sigma.reshape(n * k, n * k)
    for S, bucket in zip(design.S, design.layout.buckets, strict=True):
        for b, rows in enumerate(bucket.rows.T):
            own = S[b].reshape(len(rows), k, len(rows), k)
            for u, i in enumerate(rows):
                for v, j in enumerate(rows):
                    if i < n and j < n:
                        Sigma[i, :, j] += own[u, :, v]
    return Sigma.reshape(n * k, n * k)


def factor_of(drawn):
    """The matrix that makes the deviations of all normals, a column for each of them."""
    shapes = [(c, len(root)) for c, root in zip(drawn.counts, drawn.effects, strict=True)]
    shapes.append(drawn.mean.shape)
    ends = np.cumsum([0, *(rows * columns for rows, columns in shapes)])
    columns = []
    for unit in np.eye(ends[-1]):
        *u, e = (
            unit[a:b].reshape(shape)
            for a, b, shape in zip(ends[:-1], ends[1:], shapes, strict=True)
        )
        columns.append(drawn.deviations(u, e).ravel())
    return np.stack(columns, 1)


@pytest.mark.parametrize("name", KINDS)
def test_the_covariance_of_the_draws_is_that_of_the_model(name):
    """Exactly: the deviations are linear in unit normals."""
    design = random_design(**KINDS[name])
    Psi = [np.asarray(P) for P in design.Psi(some_theta(design))]
    L = factor_of(drawing(design, np.zeros((design.n, design.k)), Psi))
    seen = design.mask.ravel()
    expected = written_out(design, Psi)[np.ix_(seen, seen)]
    np.testing.assert_allclose((L @ L.T)[np.ix_(seen, seen)], expected, rtol=1e-12, atol=1e-13)


def test_singular_matrices_are_drawn_from():
    """Psi and S of rank one, and a null error; null columns of the roots, and no NaN."""
    design = random_design(k=2, q=(1,), codes=[np.arange(20)], missing=0.0)
    S = np.broadcast_to([[0.4, 0.2], [0.2, 0.1]], (20, 2, 2)).copy()
    S[3] = 0.0
    Psi = [np.array([[1.0, -2.0], [-2.0, 4.0]])]
    design = replace(design, S=S)
    L = factor_of(drawing(design, np.zeros((20, 2)), Psi))
    np.testing.assert_allclose(L @ L.T, written_out(design, Psi), atol=1e-14)


def test_what_is_missing_is_not_read():
    design = random_design(k=2, q=(1,))
    assert not design.complete
    S = np.where(design.mask[:, :, None] & design.mask[:, None], design.S, np.nan)
    key, theta, beta = jax.random.key(3), some_theta(design), np.ones(4)
    y = mx.simulate(key, theta, beta, replace(design, S=S, y=np.full_like(design.y, np.nan)))
    assert (np.isnan(y) == ~design.mask).all()
    np.testing.assert_allclose(y, mx.simulate(key, theta, beta, design), rtol=1e-13)


TWO_LEVELS = random_design(k=2, q=(1, 1), n=12, seed=5)


@functools.cache
def mapped():
    return jax.jit(jax.vmap(mx.simulate, (0, None, None, None)))


def test_moments_are_those_of_mixmeta_sim():
    """4,000 data sets of either generator: means and covariances within Monte Carlo error."""
    design, theta, beta = TWO_LEVELS, some_theta(TWO_LEVELS), np.array([1.0, -1.0, 0.2, 0.1])
    Psi = [np.asarray(P) for P in design.Psi(theta)]
    B, seen = 4000, design.mask.ravel()
    keys = jax.random.split(jax.random.key(1), B)
    ours = np.asarray(mapped()(keys, theta, beta, design)).reshape(B, -1)[:, seen]
    mean = np.where(design.mask, design.X @ beta.reshape(2, 2), np.nan)
    table = {"g": design.groups[:, 0], "u": design.groups[:, 1]}
    theirs = mx.mixmeta_sim(mean, design.S, Psi, "~ 1 | g/u", table, nsim=B, seed=2)
    theirs = theirs.reshape(B, -1)[:, seen]
    Sigma = written_out(design, Psi)[np.ix_(seen, seen)]
    variances = np.diag(Sigma)
    error = np.sqrt((Sigma**2 + np.outer(variances, variances)) / B)
    for drawn in (ours, theirs):
        assert (np.abs(drawn.mean(0) - mean.ravel()[seen]) < 5 * np.sqrt(variances / B)).all()
        assert (np.abs(np.cov(drawn.T) - Sigma) < 5 * error).all()


def test_a_key_gives_its_draw_wherever_it_is_drawn():
    """By itself, inside jit with the design traced or not, and among others."""
    design, theta, beta = TWO_LEVELS, some_theta(TWO_LEVELS), np.zeros(4)
    keys = jax.random.split(jax.random.key(7), 3)
    together = mapped()(keys, theta, beta, design)
    inside = jax.jit(lambda key: mx.simulate(key, theta, beta, design))(keys[1])
    raw = mx.simulate(jax.random.key_data(keys[1]), theta, beta, design)
    for one in (inside, raw):
        np.testing.assert_allclose(one, together[1], rtol=1e-12, atol=1e-14)
    assert (np.abs(together[0] - together[1])[design.mask] > 0).all()


def test_without_theta_errors_alone_are_drawn():
    design = TWO_LEVELS
    drawn = drawing(design, np.zeros((12, 2)), ())
    L, seen = factor_of(drawn), design.mask.ravel()
    expected = written_out(replace(design, Z=()), ())[np.ix_(seen, seen)]
    np.testing.assert_allclose((L @ L.T)[np.ix_(seen, seen)], expected, atol=1e-14)
    y = mx.simulate(jax.random.key(0), None, np.ones(4), design)
    assert np.isfinite(y[design.mask]).all()


def test_outcomes_have_derivatives_at_a_key():
    """Of the lower root by hand: Psi = theta squared of one variance, so y moves by u."""
    design = random_design(k=1, q=(1,), n=6, p=1, missing=0.0)
    key = jax.random.key(2)

    def y(theta, beta):
        return mx.simulate(key, theta, beta, design)

    slopes = jax.jacfwd(y, (0, 1))(jnp.array([0.7]), jnp.zeros(1))
    (u,), _ = drawing(design, jnp.zeros((6, 1)), [jnp.ones((1, 1))]).normals(key)
    np.testing.assert_allclose(slopes[0][:, 0, 0], u[design.groups[:, 0], 0], rtol=1e-12)
    np.testing.assert_allclose(slopes[1][:, :, 0], design.X, rtol=1e-12)


NO_KEYS = {
    "a seed": 0,
    "nothing": None,
    "text": "key",
    "numbers": np.array([0.0, 1.0]),
    "signed words": np.array([0, 1]),
    "three words": np.array([0, 1, 2], np.uint32),
}


@pytest.mark.parametrize("name", NO_KEYS)
def test_a_key_that_is_none(name):
    with pytest.raises(mx.InputError, match=r"^key must be a key of JAX, as jax\.random\.key\(0\)"):
        mx.simulate(NO_KEYS[name], np.ones(1), np.ones(1), TWO_LEVELS)


def test_several_keys_are_mapped():
    keys = jax.random.split(jax.random.key(0), 3)
    for several in (keys, jax.random.key_data(keys)):
        with pytest.raises(mx.InputError, match=r"key must be one key: .*jax\.vmap"):
            mx.simulate(several, np.ones(1), np.ones(1), TWO_LEVELS)


def test_parameters_of_another_length():
    for theta, beta, name in ((np.ones(1), np.ones(4), "theta"), (np.ones(6), np.ones(3), "beta")):
        with pytest.raises(mx.InputError, match=f"^{name} has the shape"):
            mx.simulate(jax.random.key(0), theta, beta, TWO_LEVELS)


def test_float64_is_asked_for():
    with jax.enable_x64(False), pytest.raises(mx.PrecisionError, match="needs float64"):
        mx.simulate(jax.random.key(0), np.ones(6), np.ones(4), TWO_LEVELS)
