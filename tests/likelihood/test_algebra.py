"""Small matrices elementwise over a batch, against numpy's one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mixmeta_jax.likelihood.algebra import UNROLL, absorb, matmul, semidefinite_factor, whitener


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def positive(rng, s, N):
    root = rng.normal(size=(N, s, s))
    return jnp.asarray(np.moveaxis(root @ root.transpose(0, 2, 1) + 0.3 * np.eye(s), 0, -1))


def test_matmul():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(2, 3, 7)), rng.normal(size=(3, 4, 7))
    np.testing.assert_allclose(matmul(A, B), np.einsum("ipn,pjn->ijn", A, B), rtol=1e-14)


@pytest.mark.parametrize("s", [1, 3, UNROLL, UNROLL + 1, 12])
def test_whitener(s):
    A = positive(np.random.default_rng(s), s, 6)
    R, logdet = whitener(A)
    for n in range(6):
        L = np.linalg.cholesky(A[:, :, n])
        np.testing.assert_allclose(R[:, :, n] @ L, np.eye(s), atol=1e-12)
        assert logdet[n] == pytest.approx(np.linalg.slogdet(A[:, :, n])[1], rel=1e-12, abs=1e-12)
    assert (np.asarray(R)[np.triu_indices(s, 1)] == 0).all()


def symmetrised(f):
    return lambda A: f(0.5 * (A + jnp.swapaxes(A, 0, 1)))


@pytest.mark.parametrize("s", [2, UNROLL + 1])
def test_derivatives_of_the_whitener_to_second_order(s):
    A = positive(np.random.default_rng(1), s, 2)
    check_grads(symmetrised(whitener), (A,), order=2, modes=["fwd", "rev"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("s", [2, UNROLL + 1])
def test_what_is_not_positive_definite_is_not_a_number(s):
    A = positive(np.random.default_rng(2), s, 3).at[:, :, 1].set(-np.eye(s))
    R, logdet = whitener(A)
    assert np.isnan(logdet[1])
    assert np.isfinite(np.asarray(R)[:, :, [0, 2]]).all()


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_semidefinite_factor(rank):
    root = np.random.default_rng(3).normal(size=(3, rank))
    Psi = jnp.asarray(root @ root.T)
    factor = semidefinite_factor(Psi)
    np.testing.assert_allclose(factor @ factor.T, Psi, atol=1e-13)
    assert (np.asarray(factor)[np.triu_indices(3, 1)] == 0).all()


@pytest.mark.parametrize("collinear", [False, True])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_absorb(rank, collinear):
    rng = np.random.default_rng(4)
    root = rng.normal(size=(2, rank))
    Psi = root @ root.T
    columns = rng.normal(size=(9, 5, 3))
    if collinear:  # D is singular
        columns[:, 1] = -2 * columns[:, 0]
    M = np.einsum("spn,sqn->pqn", columns, columns)
    B = rng.normal(size=(2, 3, 3))
    at = absorb(*map(jnp.asarray, (Psi, M[:2, :2], M[:2, 2:], B)))
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
        np.testing.assert_allclose(at.FKF[:, :, n], F.T @ posterior @ F, atol=1e-11)
        assert at.logdet[n] == pytest.approx(np.linalg.slogdet(Sigma)[1], abs=1e-12)


def test_absorb_where_effects_are_large_or_do_not_move_anything():
    """Against fractions of scalars: D = diag(1, 0), Ψ = diag(1e12, 1), which cancel nothing."""
    Psi, D = jnp.diag(jnp.array([1e12, 1.0])), jnp.diag(jnp.array([1.0, 0.0]))[:, :, None]
    F, B = jnp.array([[3.0], [0.0]])[:, :, None], jnp.array([[5.0], [7.0]])[:, :, None]
    at = absorb(Psi, D, F, B)
    np.testing.assert_allclose(at.T[:, :, 0], np.diag([1 / (1 + 1e12), 0.0]), rtol=1e-15)
    np.testing.assert_allclose(at.S[:, 0, 0], [3 / (1 + 1e12), 0.0], rtol=1e-15)
    np.testing.assert_allclose(at.along[0, 0, 0], 5 / (1 + 1e12), rtol=1e-15)
    # ∂T/∂D = (1 + DΨ)⁻² is the square of a small number.
    move = jnp.zeros_like(D).at[0, 0].set(1.0)
    slope = jax.jvp(lambda D: absorb(Psi, D, F, B).T[0, 0, 0], (D,), (move,))[1]
    assert slope == pytest.approx((1 + 1e12) ** -2, rel=1e-14)


@pytest.mark.parametrize("rank", [1, 2])
def test_derivatives_of_absorb_to_second_order_at_a_singular_Psi_too(rank):
    rng = np.random.default_rng(5)
    root = rng.normal(size=(2, rank))
    columns = rng.normal(size=(9, 4, 2))
    M = jnp.asarray(np.einsum("spn,sqn->pqn", columns, columns))
    direction = rng.normal(size=(2, 2))

    def inward(t, M):
        # A path that leaves the boundary into the cone, so that differences exist on one side too.
        step = jnp.asarray(root @ root.T) + (0.1 + t) * jnp.asarray(direction @ direction.T)
        D = 0.5 * (M[:2, :2] + jnp.swapaxes(M[:2, :2], 0, 1))
        return absorb(step, D, M[:2, 2:], jnp.ones((2, 2, 2)))

    check_grads(inward, (jnp.asarray(0.0), M), order=2, modes=["fwd"], rtol=1e-4, atol=1e-4)
    # At the boundary itself: the rule against the matrix identities, without a factor of Ψ.
    slope = jax.jvp(lambda t: inward(t - 0.1, M).logdet, (0.0,), (1.0,))[1]
    for n in range(2):
        D = np.asarray(M)[:2, :2, n]
        shrunk = D @ np.linalg.inv(np.eye(2) + root @ root.T @ D)
        assert slope[n] == pytest.approx(np.trace(shrunk @ direction @ direction.T), rel=1e-9)
