"""Small matrices elementwise over a batch, by both executors, against numpy's one by one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mixmeta_jax.arrays import mapped
from mixmeta_jax.likelihood.absorption import absorb, explained, explained_by_group
from mixmeta_jax.likelihood.algebra import BY_TERM, SLICES, gram, matmul, sum_blocks, sum_over
from mixmeta_jax.likelihood.elimination import (
    BY_COLUMN,
    BY_HALVES,
    SMALL_MATRIX,
    UNROLL,
    back_substituted,
    semidefinite_factor,
    whitener,
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=[np, jnp], ids=["numpy", "jax"])
def xp(request):
    return request.param


def positive(rng, s, N):
    root = rng.normal(size=(N, s, s))
    return np.moveaxis(root @ root.transpose(0, 2, 1) + 0.3 * np.eye(s), 0, -1)


# Each of the ways: written out, by the routine, one matrix for all on either side.
SHAPES = [
    ((2, 3, 7), (3, 4, 7)),
    ((2, 1, 7, 2), (1, 4, 7, 2)),
    ((2, BY_TERM + 1, 7), (BY_TERM + 1, 4, 7)),
    ((9, 9, 5, 1), (9, 9, 5, 2)),
    ((3, 20, 1, 1), (20, 4, 7, 2)),
    ((3, 20, 7, 2), (20, 4, 1, 1)),
    ((3, 2, 1, 2), (2, 4, 7, 1)),
]


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_matmul(xp, left, right):
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=left), rng.normal(size=right)
    found = matmul(xp.asarray(A), xp.asarray(B))
    np.testing.assert_allclose(found, np.einsum("ip...,pj...->ij...", A, B), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sets", [(1, 1), (3, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize("wide", [2, 9])
def test_gram(xp, sets, wide):
    rng = np.random.default_rng(1)
    A, B = (rng.normal(size=(wide, 2, 6, b)) for b in sets)
    found = gram(xp.asarray(A), xp.asarray(B))
    expected = np.einsum("rsnb,tsnb->rtb", *np.broadcast_arrays(A, B))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n", [0, 1, 5, SLICES, SLICES + 1, 3 * SLICES + 7])
def test_sums(xp, n):
    values = np.random.default_rng(2).normal(size=(2, n, 4, 3))
    found = sum_over(xp.asarray(values), 1)
    np.testing.assert_allclose(found, values.sum(1), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(
        sum_blocks(xp.asarray(values)), values.sum(2), rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize(
    "s", [1, 3, UNROLL, UNROLL + 1, SMALL_MATRIX + 1, BY_COLUMN + 1, BY_HALVES + 1]
)
def test_whitener(xp, s):
    A = positive(np.random.default_rng(s), s, 6)
    R, logdet = whitener(xp.asarray(A))
    for n in range(6):
        L = np.linalg.cholesky(A[:, :, n])
        np.testing.assert_allclose(R[:, :, n] @ L, np.eye(s), atol=1e-11)
        assert logdet[n] == pytest.approx(np.linalg.slogdet(A[:, :, n])[1], rel=1e-12, abs=1e-12)
    assert (np.asarray(R)[np.triu_indices(s, 1)] == 0).all()


def symmetrised(f):
    return lambda A: f(0.5 * (A + jnp.swapaxes(A, 0, 1)))


@pytest.mark.parametrize("s", [2, UNROLL + 1])
def test_derivatives_of_the_whitener_to_second_order(s):
    A = jnp.asarray(positive(np.random.default_rng(1), s, 2))
    check_grads(symmetrised(whitener), (A,), order=2, modes=["fwd", "rev"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("s", [1, 2, UNROLL + 1, SMALL_MATRIX + 1])
def test_what_is_not_positive_definite_is_not_a_number(xp, s):
    A = positive(np.random.default_rng(2), s, 3)
    A[:, :, 1] = -np.eye(s)
    with np.errstate(invalid="ignore"):
        R, logdet = whitener(xp.asarray(A))
    assert np.isnan(logdet[1])
    assert np.isfinite(np.asarray(R)[:, :, [0, 2]]).all()


@pytest.mark.parametrize("d", [3, UNROLL + 1])
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_semidefinite_factor(xp, rank, d):
    root = np.random.default_rng(3).normal(size=(d, rank))
    Psi = xp.asarray(root @ root.T)
    factor = semidefinite_factor(Psi)
    np.testing.assert_allclose(factor @ factor.T, Psi, atol=1e-13)
    assert (np.asarray(factor)[np.triu_indices(d, 1)] == 0).all()


@pytest.mark.parametrize("d", [1, 3, UNROLL + 1])
def test_back_substitution_leaves_what_null_pivots_would_divide(xp, d):
    rng = np.random.default_rng(6)
    L = np.tril(rng.normal(size=(d, d))) + 3 * np.eye(d)
    A = rng.normal(size=(d, 2, 4))
    whole = back_substituted(xp.asarray(L[:, :, None]), xp.asarray(A))
    np.testing.assert_allclose(whole, np.einsum("ji,jrn->irn", np.linalg.inv(L), A), atol=1e-12)
    L[:, 0] = 0
    less = back_substituted(xp.asarray(L[:, :, None]), xp.asarray(A))
    assert (np.asarray(less)[0] == 0).all()
    np.testing.assert_allclose(less[1:], whole[1:], atol=1e-14)


@pytest.mark.parametrize("collinear", [False, True])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_absorb(xp, rank, collinear):
    rng = np.random.default_rng(4)
    root = rng.normal(size=(2, rank))
    Psi = root @ root.T
    columns = rng.normal(size=(9, 5, 3))
    if collinear:  # D is singular
        columns[:, 1] = -2 * columns[:, 0]
    M = np.einsum("spn,sqn->pqn", columns, columns)
    B = rng.normal(size=(2, 3, 3))
    stacks = (M[:2, :2, :, None], M[:2, 2:, :, None], B[..., None])
    found = absorb(*map(xp.asarray, (Psi[:, :, None], *stacks)))
    at = mapped(lambda leaf: np.asarray(leaf)[..., 0], found)
    for n in range(3):
        Z, U = columns[:, :2, n], columns[:, 2:, n]
        F = Z.T @ U
        Sigma = np.eye(9) + Z @ Psi @ Z.T
        np.testing.assert_allclose(at.S[:, :, n], Z.T @ np.linalg.solve(Sigma, U), atol=1e-12)
        shrunk = np.linalg.solve(np.eye(2) + Psi @ Z.T @ Z, B[:, :, n])
        np.testing.assert_allclose(Z @ at.along[:, :, n], Z @ shrunk, atol=1e-12)
        np.testing.assert_allclose(at.T[:, :, n], Z.T @ np.linalg.solve(Sigma, Z), atol=1e-12)
        posterior = Psi - Psi @ Z.T @ np.linalg.solve(Sigma, Z @ Psi)
        np.testing.assert_allclose(at.K[:, :, n], posterior, atol=1e-12)
        np.testing.assert_allclose(at.KF[:, :, n], posterior @ F, atol=1e-12)
        assert at.logdet[n] == pytest.approx(np.linalg.slogdet(Sigma)[1], abs=1e-12)


def test_absorb_where_effects_are_large_or_do_not_move_anything(xp):
    """Against fractions of scalars: D = diag(1, 0), Ψ = diag(1e12, 1), which cancel nothing."""
    Psi, D = np.diag([1e12, 1.0])[:, :, None], np.diag([1.0, 0.0])[:, :, None, None]
    F, B = (np.array(column)[:, None, None, None] for column in ([3.0, 0.0], [5.0, 7.0]))
    Psi, D, F, B = map(xp.asarray, (Psi, D, F, B))
    at = mapped(lambda leaf: np.asarray(leaf)[..., 0], absorb(Psi, D, F, B))
    np.testing.assert_allclose(at.T[:, :, 0], np.diag([1 / (1 + 1e12), 0.0]), rtol=1e-15)
    np.testing.assert_allclose(at.S[:, 0, 0], [3 / (1 + 1e12), 0.0], rtol=1e-15)
    np.testing.assert_allclose(at.along[0, 0, 0], 5 / (1 + 1e12), rtol=1e-15)
    # ∂T/∂D = (1 + DΨ)⁻² is the square of a small number.
    if xp is np:
        return
    move = jnp.zeros_like(D).at[0, 0].set(1.0)
    slope = jax.jvp(lambda D: absorb(Psi, D, F, B).T[0, 0, 0, 0], (D,), (move,))[1]
    assert slope == pytest.approx((1 + 1e12) ** -2, rel=1e-14)


@pytest.mark.parametrize("rank", [1, 2])
def test_derivatives_of_absorb_to_second_order_at_a_singular_Psi_too(rank):
    rng = np.random.default_rng(5)
    root = rng.normal(size=(2, rank))
    columns = rng.normal(size=(9, 4, 2))
    M = jnp.asarray(np.einsum("spn,sqn->pqn", columns, columns))[..., None]
    direction = rng.normal(size=(2, 2))

    def inward(t, M):
        # A path that leaves the boundary into the cone, so that differences exist on one side too.
        step = jnp.asarray(root @ root.T) + (0.1 + t) * jnp.asarray(direction @ direction.T)
        D = 0.5 * (M[:2, :2] + jnp.swapaxes(M[:2, :2], 0, 1))
        F = M[:2, 2:]
        at = absorb(step[:, :, None], D, F, jnp.ones((2, 2, 2, 1)))
        # The half has no derivative by itself: that of its square is a rule of its own.
        squares = explained(F, at.KF, at.half), explained_by_group(F, at.KF, at.half, jnp.zeros(1))
        return replace(at, half=squares)

    check_grads(inward, (jnp.asarray(0.0), M), order=2, modes=["fwd"], rtol=1e-4, atol=1e-4)
    # At the boundary itself: the rule against the matrix identities, without a factor of Ψ.
    slope = jax.jvp(lambda t: inward(t - 0.1, M).logdet, (0.0,), (1.0,))[1]
    for n in range(2):
        D = np.asarray(M)[:2, :2, n, 0]
        shrunk = D @ np.linalg.inv(np.eye(2) + root @ root.T @ D)
        assert slope[n, 0] == pytest.approx(np.trace(shrunk @ direction @ direction.T), rel=1e-9)
