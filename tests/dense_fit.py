"""A fit without the library: full matrices, and scipy's simplex on parameters of one Psi."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize


class DenseFit(NamedTuple):
    """Estimates at the maximum; ``Psi`` is that of the one level."""

    loglik: float
    beta: np.ndarray
    vcov: np.ndarray
    Psi: np.ndarray


def at(y, X, Z, S, Psi, method) -> DenseFit:
    """Log-likelihood and generalised least squares at a given Psi.

    Parameters
    ----------
    y, X, S
        Observed outcomes (n,), their design (n, P) and error covariance (n, n).
    Z
        Design of the random effects of each group over all rows, shape (groups, n, d).
    method
        "ml" or "reml".
    """
    Sigma = S + sum(z @ Psi @ z.T for z in Z)
    W = np.linalg.inv(Sigma)
    A = X.T @ W @ X
    beta = np.linalg.solve(A, X.T @ W @ y)
    r = y - X @ beta
    loglik = -0.5 * (len(y) * np.log(2 * np.pi) + np.linalg.slogdet(Sigma)[1] + r @ W @ r)
    if method == "reml":
        loglik += 0.5 * (X.shape[1] * np.log(2 * np.pi) + np.linalg.slogdet(X.T @ X)[1])
        loglik -= 0.5 * np.linalg.slogdet(A)[1]
    return DenseFit(loglik, beta, np.linalg.inv(A), Psi)


def maximum(y, X, Z, S, psi: Callable, start, method="reml") -> DenseFit:
    """The maximum over the parameters of ``psi(parameters)``, restarted until it stays."""
    best, parameters = -np.inf, np.asarray(start, float)
    while True:
        found = minimize(
            lambda t: -at(y, X, Z, S, psi(t), method).loglik,
            parameters,
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000},
        )
        parameters = found.x
        if -found.fun < best + 1e-10:
            return at(y, X, Z, S, psi(parameters), method)
        best = -found.fun


def cholesky(d: int) -> Callable:
    """An unstructured matrix from the d(d + 1)/2 entries of its Cholesky factor."""

    def psi(parameters):
        L = np.zeros((d, d))
        L[np.tril_indices(d)] = parameters
        return L @ L.T

    return psi


def indicators(groups, Z) -> np.ndarray:
    """Z of each group with zeros in the rows of the others, shape (groups, n, d)."""
    groups, Z = np.asarray(groups), np.asarray(Z, float)
    return np.stack([np.where((groups == g)[:, None], Z, 0.0) for g in dict.fromkeys(groups)])


def spread(groups, blocks) -> np.ndarray:
    """The error covariance of all rows from one block per group, in the order of its rows."""
    groups = np.asarray(groups)
    S = np.zeros((len(groups), len(groups)))
    for g, block in blocks.items():
        rows = np.flatnonzero(groups == g)
        S[np.ix_(rows, rows)] = block
    return S
