"""The likelihood in its plainest form: one dense, padded Σ_i per outer group, by Cholesky factor.

Every fast path is tested against this one, and automatic differentiation of it against every
closed-form derivative. It costs O(n_i³) time and O(n_i²) memory per group.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.design.design import Design
from mixmeta_jax.likelihood.likelihood import LOG_2PI


def dense_log_likelihood(Psi: tuple[Array, ...], design: Design, method: str) -> Array:
    """The log-likelihood at Ψ of each level, outer first; ``method`` is "reml", "ml" or "fixed".

    The groups of the design must be concrete; everything else may be traced.
    """
    n, k, p = design.n, design.k, design.p
    outer = np.asarray(design.groups)[:, 0] if design.groups.shape[1] else np.zeros(n, int)
    rows = _padded_rows(outer, n)
    seen = _gather(jnp.asarray(design.mask), rows)
    y = jnp.where(seen, _gather(jnp.where(design.mask, design.y, 0.0), rows), 0.0)
    X = jnp.kron(jnp.asarray(design.X)[:, None, :], jnp.eye(k)[None]).reshape(n, k * p * k)
    X = _gather(X, rows).reshape(*seen.shape, p * k) * seen[..., None]
    pair = seen[:, :, None] & seen[:, None, :]
    Sigma = jnp.where(pair, marginal_covariance(Psi, design, rows), jnp.eye(seen.shape[1]))
    L = jnp.linalg.cholesky(Sigma)
    white = jax.scipy.linalg.solve_triangular(L, jnp.concatenate([X, y[..., None]], -1), lower=True)
    WX, Wy = white[..., :-1], white[..., -1]
    A = jnp.einsum("gia,gib->ab", WX, WX)
    beta = jnp.linalg.solve(A, jnp.einsum("gia,gi->a", WX, Wy))
    residual = Wy - WX @ beta
    logdet = 2 * jnp.log(jnp.diagonal(L, axis1=1, axis2=2)).sum()
    value = -0.5 * (seen.sum() * LOG_2PI + logdet + (residual**2).sum())
    if method != "reml":
        return value
    logdet_XX = jnp.linalg.slogdet(jnp.einsum("gia,gib->ab", X, X))[1]
    return value + 0.5 * (p * k * LOG_2PI + logdet_XX - jnp.linalg.slogdet(A)[1])


def marginal_covariance(Psi: tuple[Array, ...], design: Design, rows: np.ndarray) -> Array:
    """Σ of the units at the given places, shape (groups, size·k, size·k), missing ones included."""
    n, k = design.n, design.k
    Sigma = _gather_pairs(_errors(design), rows, k)
    for level, (Z, P) in enumerate(zip(design.Z, Psi, strict=True)):
        group = np.append(np.asarray(design.groups)[:, level], -1)[rows]
        together = np.repeat(np.repeat(group[:, :, None] == group[:, None], k, 1), k, 2)
        places = jnp.kron(jnp.asarray(Z)[:, None, :], jnp.eye(k)[None]).reshape(n, -1)
        ZZ = _gather(places, rows).reshape(len(rows), rows.shape[1] * k, -1)
        Sigma = Sigma + together * jnp.einsum("gia,ab,gjb->gij", ZZ, P, ZZ)
    return Sigma


def _errors(design: Design) -> Array:
    """S of all units at once, shape (n, k, n, k)."""
    n, k = design.n, design.k
    S = jnp.zeros((n + 1, k, n + 1, k))
    if not isinstance(design.S, tuple):
        units = np.arange(n)
        return S.at[units, :, units, :].set(design.S)[:n, :, :n]
    for bucket, blocks in zip(design.layout.buckets, design.S, strict=True):
        n_b = bucket.rows.shape[0]
        for u in range(n_b):
            for v in range(n_b):
                block = blocks[:, u * k : (u + 1) * k, v * k : (v + 1) * k]
                S = S.at[bucket.rows[u], :, bucket.rows[v], :].set(block)
    return S[:n, :, :n]


def _padded_rows(outer: np.ndarray, n: int) -> np.ndarray:
    members = [np.flatnonzero(outer == g) for g in np.unique(outer)]
    rows = np.full((len(members), max(map(len, members))), n)
    for g, units in enumerate(members):
        rows[g, : len(units)] = units
    return rows


def _gather(values: Array, rows: np.ndarray) -> Array:
    n = len(values)
    return (values[np.minimum(rows, n - 1)] * (rows < n)[..., None]).reshape(len(rows), -1)


def _gather_pairs(S: Array, rows: np.ndarray, k: int) -> Array:
    place = np.minimum(rows, len(S) - 1)
    pairs = S[place[:, :, None], :, place[:, None, :], :]  # (g, u, v, o, p)
    size = rows.shape[1] * k
    return pairs.transpose(0, 1, 3, 2, 4).reshape(len(rows), size, size)


def dense_information(design: Design, theta: Array, method: str) -> tuple[np.ndarray, np.ndarray]:
    """½ f_aᵀ P f_b with f_a = Σ_a P y, and ½ tr(P Σ_a P Σ_b); P is Σ⁻¹ in the trace for ML."""
    n, k, p = design.n, design.k, design.p
    rows = np.arange(n)[None]

    def marginal(theta: Array) -> Array:
        return marginal_covariance(design.Psi(theta), design, rows)[0]

    seen = np.asarray(design.mask).ravel()
    pair = np.ix_(seen, seen)
    with jax.enable_x64(True):
        Sigma, moved = jax.jit(lambda t: (marginal(t), jax.jacfwd(marginal)(t)))(theta)
    Sigma, moved = np.asarray(Sigma)[pair], np.asarray(moved)[pair]
    X = np.kron(design.X[:, None, :], np.eye(k)).reshape(n * k, p * k)[seen]
    W = np.linalg.inv(Sigma)
    P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W)
    f = np.einsum("ija,j->ia", moved, P @ design.y.ravel()[seen])
    middle = np.einsum("ij,jka->ika", P if method == "reml" else W, moved)
    return 0.5 * f.T @ P @ f, 0.5 * np.einsum("ija,jib->ab", middle, middle)


def dense_coefficients(
    Psi: tuple[np.ndarray, ...], design: Design
) -> tuple[np.ndarray, np.ndarray]:
    """β̂ in the user's predictors and its covariance, at Ψ of each level."""
    n, k, p = design.n, design.k, design.p
    seen = np.asarray(design.mask).ravel()
    with jax.enable_x64(True):
        Sigma = np.asarray(marginal_covariance(Psi, design, np.arange(n)[None])[0])
    X = np.kron(design.X[:, None, :], np.eye(k)).reshape(n * k, p * k)[seen]
    W = np.linalg.inv(Sigma[np.ix_(seen, seen)])
    V = np.linalg.inv(X.T @ W @ X)
    return V @ X.T @ W @ design.y.ravel()[seen], V
