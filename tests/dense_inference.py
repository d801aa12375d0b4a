"""Small-sample and cluster-robust inference with full n × n matrices, as the papers write it.

Independent of the library: Ψ is written out in natural parameters and differentiated by JAX, all
else is plain numpy on the matrices of `dense_model.stacked`.
"""

from dataclasses import dataclass

import jax
import numpy as np
from scipy import linalg, stats

from tests.dense_model import levels_covariance, stacked


def unstructured(d):
    rows, columns = np.tril_indices(d)

    def psi(p):
        lower = jax.numpy.zeros((d, d)).at[rows, columns].set(p)
        return lower + lower.T - jax.numpy.diag(jax.numpy.diag(lower))

    return psi, lambda P: P[rows, columns]


def diagonal(d):
    return jax.numpy.diag, np.diag


def identity(d):
    return lambda p: p[0] * np.eye(d), lambda P: P[:1, 0]


def compound(d):
    return (
        lambda p: jax.numpy.where(np.eye(d) == 1, p[0], p[1]),
        lambda P: np.array([P[0, 0], P[0, 1]]),
    )


def proportional(matrix):
    return lambda p: p[0] * matrix, lambda P: np.array([P[0, 0] / matrix[0, 0]])


def nothing(matrix):
    return lambda p: jax.numpy.asarray(matrix) + 0 * p.sum(), lambda P: np.zeros(0)


def one_scale(exponents):
    """σ² ρ^exponents; ρ from the first pair."""
    return (
        lambda p: p[0] * _power(p[1], exponents),
        lambda P: np.array([P[0, 0], _root(P[0, 1] / P[0, 0], exponents[0, 1])]),
    )


def scaled(exponents):
    """Variances, and ρ^exponents; ρ from the first pair."""
    d = len(exponents)

    def psi(p):
        sd = jax.numpy.sqrt(p[:d])
        return sd[:, None] * sd * _power(p[d], exponents)

    def values(P):
        rho = P[0, 1] / np.sqrt(P[0, 0] * P[1, 1])
        return np.append(np.diag(P), _root(rho, exponents[0, 1]))

    return psi, values


def exchangeable(d):
    """Variances and one correlation."""
    return scaled(1.0 - np.eye(d))


def given_correlation(C):
    return lambda p: jax.numpy.sqrt(p[:, None] * p) * C, np.diag


def _power(rho, exponents):
    return jax.numpy.where(exponents == 0, 1.0, rho ** np.where(exponents == 0, 1, exponents))


def _root(value, exponent):
    return value if exponent == 1 else value ** (1 / exponent)


@dataclass
class Dense:
    """The matrices of a fit over its observed outcomes, with derivatives in natural parameters."""

    y: np.ndarray
    X: np.ndarray
    Sigma: np.ndarray
    first: list
    second: list  # of lists
    restricted: bool
    W: np.ndarray
    V: np.ndarray
    P: np.ndarray
    beta: np.ndarray


def dense(fit, maps=()):
    """``maps``: per level, Ψ as a function of its natural parameters, and these of a Ψ."""
    y, X, Z, S, seen = stacked(fit)
    y, X = y[seen], X[seen]
    pair = np.ix_(seen, seen)
    Sigma = (levels_covariance(fit) + S)[pair]
    first, blocks = [], []
    for (psi, values), wide, level, Psi in zip(
        maps, Z, fit.frame.levels, fit.Psi_by_level, strict=True
    ):
        p = np.asarray(values(Psi), float)
        with jax.enable_x64(True):
            np.testing.assert_allclose(psi(jax.numpy.asarray(p)), Psi, rtol=1e-6, atol=1e-9)
            slopes = np.asarray(jax.jacfwd(psi)(jax.numpy.asarray(p)))
            bends = np.asarray(jax.jacfwd(jax.jacfwd(psi))(jax.numpy.asarray(p)))

        def spread(matrix, wide=wide, level=level):
            return (wide @ np.kron(np.eye(len(level.labels)), matrix) @ wide.T)[pair]

        first += [spread(slopes[:, :, a]) for a in range(len(p))]
        blocks.append([[spread(bends[:, :, a, b]) for b in range(len(p))] for a in range(len(p))])
    n = len(first)
    second = [[np.zeros_like(Sigma) for _ in range(n)] for _ in range(n)]
    start = 0
    for block in blocks:
        for a, row in enumerate(block):
            second[start + a][start : start + len(block)] = row
        start += len(block)
    W = np.linalg.inv(Sigma)
    V = np.linalg.inv(X.T @ W @ X)
    P = W - W @ X @ V @ X.T @ W
    return Dense(y, X, Sigma, first, second, fit.method != "ml", W, V, P, V @ X.T @ W @ y)


def information(m, observed=False):
    n = len(m.first)
    found = np.zeros((n, n))
    trace = m.P if m.restricted or not observed else m.W
    e = m.P @ m.y
    for a in range(n):
        for b in range(n):
            expected = 0.5 * np.trace(trace @ m.first[a] @ trace @ m.first[b])
            if observed:
                average = 0.5 * e @ m.first[a] @ m.P @ m.first[b] @ e
                rise = e @ m.second[a][b] @ e - np.trace(trace @ m.second[a][b])
                found[a, b] = 2 * average - expected - 0.5 * rise
            else:
                found[a, b] = expected
    return found


def satterthwaite(m, c, observed=False):
    gradient = [c @ m.V @ m.X.T @ m.W @ F @ m.W @ m.X @ m.V @ c for F in m.first]
    return 2 * (c @ m.V @ c) ** 2 / (gradient @ np.linalg.solve(information(m, observed), gradient))


def fai_cornelius(m, L, observed=False):
    """Denominator degrees of freedom of the joint test."""
    _, vectors = np.linalg.eigh(L @ m.V @ L.T)
    df = np.array([satterthwaite(m, c, observed) for c in vectors.T @ L])
    E = np.sum(df[df > 2] / (df[df > 2] - 2))
    return 2 * E / (E - len(L)) if len(L) < E else np.nan


def kenward_roger(m, L, observed=False):
    """V_A, and λ, the denominator degrees of freedom of the joint test of Lβ."""
    I = np.linalg.inv(information(m, observed))  # noqa: E741
    n, q = len(m.first), len(L)
    WX = m.W @ m.X
    P = [-WX.T @ F @ WX for F in m.first]
    middle = np.zeros_like(m.V)
    for a in range(n):
        for b in range(n):
            Q = WX.T @ m.first[a] @ m.W @ m.first[b] @ WX
            R = WX.T @ m.second[a][b] @ WX
            middle += I[a, b] * (Q - P[a] @ m.V @ P[b] - R / 4)
    adjusted = m.V + 2 * m.V @ middle @ m.V
    Theta = L.T @ np.linalg.solve(L @ m.V @ L.T, L)
    A1 = A2 = 0.0
    for a in range(n):
        for b in range(n):
            one, other = Theta @ m.V @ P[a] @ m.V, Theta @ m.V @ P[b] @ m.V
            A1 += I[a, b] * np.trace(one) * np.trace(other)
            A2 += I[a, b] * np.trace(one @ other)
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c1 = g / (3 * q + 2 * (1 - g))
    c2 = (q - g) / (3 * q + 2 * (1 - g))
    c3 = (q + 2 - g) / (3 * q + 2 * (1 - g))
    mean = 1 / (1 - A2 / q)
    variance = (2 / q) * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
    rho = variance / (2 * mean**2)
    df = 4 + (q + 2) / (q * rho - 1)
    return adjusted, df / (mean * (df - 2)), df


# Cluster-robust


def robust(m, cluster, kind):
    """The covariance, with A of each cluster, H and the members."""
    members = [np.flatnonzero(cluster == g) for g in np.unique(cluster)]
    n, P, J = len(m.y), m.X.shape[1], len(members)
    H = m.X @ m.V @ m.X.T @ m.W
    r = m.y - m.X @ m.beta
    factor = {
        "CR1": J / (J - 1),
        "CR1p": J / (J - P) if J > P else np.nan,
        "CR1S": J * (n - 1) / ((J - 1) * (n - P)),
    }.get(kind, 1.0)
    meat, A = np.zeros_like(m.V), []
    for i in members:
        own = np.ix_(i, i)
        if kind == "CR2":
            D = np.linalg.cholesky(m.Sigma[own]).T
            B = D @ (m.Sigma - m.X @ m.V @ m.X.T)[own] @ D.T
            values, vectors = np.linalg.eigh(B)
            some = values > 1e-10 * values.max()
            half = (vectors[:, some] / np.sqrt(values[some])) @ vectors[:, some].T
            A.append(D.T @ half @ D)
        elif kind == "CR3":
            A.append(np.linalg.inv(np.eye(len(i)) - H[own]))
        else:
            A.append(np.sqrt(factor) * np.eye(len(i)))
        score = m.X[i].T @ m.W[own] @ A[-1] @ r[i]
        meat += np.outer(score, score)
    return m.V @ meat @ m.V, A, H, members


def robust_vectors(m, C, parts):
    """p of each row of C and each cluster, shape (h, J, n): the robust variance is Σ_j (pᵀy)²."""
    _, A, H, members = parts
    left = np.eye(len(m.y)) - H
    rows = []
    for c in C:
        own = []
        for i, adjusted in zip(members, A, strict=True):
            weights = adjusted.T @ m.W[np.ix_(i, i)] @ m.X[i] @ m.V @ c
            own.append(left[i].T @ weights)
        rows.append(own)
    return np.array(rows)


def robust_df(m, c, parts):
    p = robust_vectors(m, c[None], parts)[0]
    inner = p @ m.Sigma @ p.T
    return np.trace(inner) ** 2 / np.sum(inner**2)


def hotelling(m, L, parts):
    """F, its denominator degrees of freedom and p-value by the HTZ test."""
    vcov = parts[0]
    q = len(L)
    # The mean of the robust covariance under the working model.
    p = robust_vectors(m, L, parts)
    Omega = np.einsum("sjn,nm,tjm->st", p, m.Sigma, p)
    root = np.linalg.inv(linalg.sqrtm(Omega).real)
    p = robust_vectors(m, root @ L, parts)
    total = 0.0
    for s in range(q):
        for t in range(q):
            form = p[s].T @ p[t]
            form = (form + form.T) / 2
            middle = form @ m.Sigma
            total += 2 * np.trace(middle @ middle)
    eta = q * (q + 1) / total
    wald = (L @ m.beta) @ np.linalg.solve(L @ vcov @ L.T, L @ m.beta)
    df = eta - q + 1
    F = df / (eta * q) * wald
    return F, df, stats.f.sf(F, q, df)
