"""The model written out with full matrices in plain numpy, slow and independent of the library."""

import numpy as np


def stacked(fit):
    """y, X, [Z of each level], S over the observed outcomes of all units, and which they are.

    Z has one block of columns per group; the vector of outcomes runs over units, outcome fastest.
    """
    frame, k, n = fit.frame, fit.frame.k, fit.frame.n
    seen = np.isfinite(frame.y).ravel()
    y = (frame.y - frame.offset).ravel()
    X = np.kron(frame.X, np.eye(k))
    Z = []
    for level in frame.levels:
        groups, width = len(level.labels), level.Z.shape[1] * k
        wide = np.zeros((n * k, groups * width))
        for i in range(n):
            columns = slice(level.codes[i] * width, (level.codes[i] + 1) * width)
            wide[i * k : (i + 1) * k, columns] = np.kron(level.Z[i], np.eye(k))
        Z.append(wide)
    S = np.zeros((n * k, n * k))
    if frame.within.unit is not None:
        for i in range(n):
            S[i * k : (i + 1) * k, i * k : (i + 1) * k] = frame.within.unit[i]
    else:
        for rows, matrix in frame.within.blocks:
            places = (np.asarray(rows)[:, None] * k + np.arange(k)).ravel()
            S[np.ix_(places, places)] = matrix
    return y, X, Z, S, seen


def levels_covariance(fit, depth=None):
    """Σ over levels of ZΨZᵀ between all outcomes, observed or not."""
    _, _, Z, S, _ = stacked(fit)
    total = np.zeros_like(S)
    for wide, level, Psi in zip(Z[:depth], fit.frame.levels, fit.Psi_by_level, strict=False):
        total += wide @ np.kron(np.eye(len(level.labels)), Psi) @ wide.T
    return total


def gls(fit):
    """β̂, its covariance, and the log-likelihoods ("ml", "reml") at the fit's Ψ."""
    y, X, _, S, seen = stacked(fit)
    y, X = y[seen], X[seen]
    Sigma = (levels_covariance(fit) + S)[np.ix_(seen, seen)]
    W = np.linalg.inv(Sigma)
    A = X.T @ W @ X
    beta = np.linalg.solve(A, X.T @ W @ y)
    r = y - X @ beta
    logdet = np.linalg.slogdet(Sigma)[1]
    n, P = X.shape
    ml = -0.5 * (n * np.log(2 * np.pi) + logdet + r @ W @ r)
    reml = ml + 0.5 * (
        P * np.log(2 * np.pi) + np.linalg.slogdet(X.T @ X)[1] - np.linalg.slogdet(A)[1]
    )
    return beta, np.linalg.inv(A), {"ml": ml, "reml": reml, "fixed": ml}


def gradients(fit):
    """Per level Σ_j (Z_jᵀPy)(Z_jᵀPy)ᵀ and Σ_j Z_jᵀPZ_j; ∂ℓ/∂Ψ is half their difference."""
    y, X, Z, S, seen = stacked(fit)
    y, X = y[seen], X[seen]
    P = np.linalg.inv((levels_covariance(fit) + S)[np.ix_(seen, seen)])
    along = P @ X
    projected = P - along @ np.linalg.solve(X.T @ along, along.T)
    e = projected @ y
    P = projected if fit.method == "reml" else P
    pairs = []
    for wide, Psi in zip(Z, fit.Psi_by_level, strict=True):
        groups = wide[seen].T.reshape(-1, len(Psi), seen.sum())
        s = groups @ e
        pairs.append((s.T @ s, np.einsum("gan,nm,gbm->ab", groups, P, groups, optimize=True)))
    return pairs


def blup(fit, depth):
    """BLUPs (n, k), their random part, and covariances by equation 6 and exact, (n, k, k)."""
    y, X, _, S, seen = stacked(fit)
    n, k = fit.frame.n, fit.frame.k
    beta, V, _ = gls(fit)
    Sigma = (levels_covariance(fit) + S)[np.ix_(seen, seen)]
    G = levels_covariance(fit, depth)
    to_seen = G[:, seen] @ np.linalg.inv(Sigma)
    random = to_seen @ (y - X @ beta)[seen]
    left = G - to_seen @ G[seen]
    C = X - to_seen @ X[seen]
    expected = X @ beta + fit.frame.offset.ravel()

    def units(matrix):
        return np.stack([matrix[i * k : (i + 1) * k, i * k : (i + 1) * k] for i in range(n)])

    paper, exact = units(X @ V @ X.T + left), units(C @ V @ C.T + left)
    return (expected + random).reshape(n, k), random.reshape(n, k), paper, exact


def heterogeneity(fit):
    """Q of the fixed-effects model: overall and per outcome, with the counts of outcomes."""
    y, X, _, S, seen = stacked(fit)
    n, k = fit.frame.n, fit.frame.k
    W = np.linalg.inv(S[np.ix_(seen, seen)])
    Xs, ys = X[seen], y[seen]
    beta = np.linalg.solve(Xs.T @ W @ Xs, Xs.T @ W @ ys)
    r = ys - Xs @ beta
    squares = np.full(n * k, np.nan)
    squares[seen] = r**2 / np.diag(S)[seen]
    per_outcome = np.nansum(squares.reshape(n, k), axis=0)
    return np.append(r @ W @ r, per_outcome), np.append(seen.sum(), seen.reshape(n, k).sum(0))
