"""The log-likelihood of a design in 50 decimal digits, slow and independent of the library."""

import mpmath
import numpy as np

DIGITS = 50


def stacked(design):
    """y, X, [Z of each level], S over all outcomes of all units, outcome fastest, and the seen."""
    n, k = design.n, design.k
    seen = np.asarray(design.mask).ravel()
    y = np.nan_to_num(np.asarray(design.y)).ravel()
    X = np.kron(design.X, np.eye(k))
    Z = []
    for code, predictors in zip(np.asarray(design.groups).T, design.Z, strict=True):
        width = predictors.shape[1] * k
        wide = np.zeros((n * k, (code.max() + 1) * width))
        for i in range(n):
            columns = slice(code[i] * width, (code[i] + 1) * width)
            wide[i * k : (i + 1) * k, columns] = np.kron(predictors[i], np.eye(k))
        Z.append(wide)
    S = np.zeros((n * k, n * k))
    if isinstance(design.S, tuple):
        for bucket, blocks in zip(design.layout.buckets, design.S, strict=True):
            for rows, matrix in zip(bucket.rows.T, blocks, strict=True):
                used = np.flatnonzero(rows < n)
                inner = (used[:, None] * k + np.arange(k)).ravel()
                outer = (rows[used][:, None] * k + np.arange(k)).ravel()
                S[np.ix_(outer, outer)] = matrix[np.ix_(inner, inner)]
    else:
        for i in range(n):
            S[i * k : (i + 1) * k, i * k : (i + 1) * k] = design.S[i]
    return y, X, Z, S, seen


def log_likelihood(Psi, design, method):
    """Equation 2 at the given floats, which are taken as exact; "ml" or "reml"."""
    with mpmath.workdps(DIGITS):
        y, X, Z, S, seen = stacked(design)
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        Sigma = exact(S)
        for wide, P in zip(Z, Psi, strict=True):
            d = len(P)
            for g in range(wide.shape[1] // d):
                part = wide[:, g * d : (g + 1) * d]
                rows = np.flatnonzero(np.abs(part).sum(1))
                block = exact(part[rows])
                Sigma[np.ix_(rows, rows)] += block @ exact(np.asarray(P)) @ block.T
        y, X, Sigma = exact(y[seen]), exact(X[seen]), Sigma[np.ix_(seen, seen)]
        L = _cholesky(Sigma)
        white = _forward(L, np.column_stack([X, y]))
        A = white[:, :-1].T @ white[:, :-1]
        factor = _cholesky(A)
        w = _forward(factor, (white[:, :-1].T @ white[:, -1])[:, None])[:, 0]
        n, P = X.shape
        deviance = _log_det(L) + white[:, -1] @ white[:, -1] - w @ w
        value = -(n * mpmath.log(2 * mpmath.pi) + deviance) / 2
        if method == "reml":
            value += P * mpmath.log(2 * mpmath.pi) / 2
            value += (_log_det(_cholesky(X.T @ X)) - _log_det(factor)) / 2
        return value


def relative_error(value, exact):
    """Relative to the exact value, or absolute where that is below one."""
    with mpmath.workdps(DIGITS):
        return float(abs(mpmath.mpf(float(value)) - exact) / max(abs(exact), 1))


def _cholesky(A):
    L = np.zeros_like(A) * mpmath.mpf(0)
    for j in range(len(A)):
        L[j, j] = mpmath.sqrt(A[j, j] - L[j, :j] @ L[j, :j])
        for i in range(j + 1, len(A)):
            L[i, j] = (A[i, j] - L[i, :j] @ L[j, :j]) / L[j, j]
    return L


def _forward(L, B):
    X = np.zeros_like(B) * mpmath.mpf(0)
    for i in range(len(L)):
        X[i] = (B[i] - L[i, :i] @ X[:i]) / L[i, i]
    return X


def _log_det(L):
    return 2 * sum(mpmath.log(L[i, i]) for i in range(len(L)))
