"""What an engine returns, from the whole data as one dense matrix, in plain numpy."""

from typing import NamedTuple

import numpy as np

from tests.exact_model import stacked


class Dense(NamedTuple):
    """As `engines.Derivatives`, of one data set; the value is the log-likelihood itself.

    ``beta`` and ``V`` are those of the user's predictors.
    """

    value: float
    gradients: list[np.ndarray]
    average: np.ndarray
    expected: np.ndarray
    beta: np.ndarray
    V: np.ndarray


def dense_derivatives(design, Psi, slopes, method):
    """At Ψ of each level, (d, d), and its slopes, (d, d, n_θ of the level); "ml" or "reml"."""
    y, X, Z, S, seen = stacked(design)
    wide = [z.reshape(len(y), -1, len(P)) for z, P in zip(Z, Psi, strict=True)]
    Sigma = S + sum(np.einsum("iga,ab,jgb->ij", z, P, z) for z, P in zip(wide, Psi, strict=True))
    y, X, Sigma = y[seen], X[seen], Sigma[np.ix_(seen, seen)]
    wide = [z[seen] for z in wide]
    W = np.linalg.inv(Sigma)
    A = X.T @ W @ X
    V = np.linalg.inv(A)
    beta = V @ (X.T @ W @ y)
    P = W - W @ X @ V @ X.T @ W
    e = P @ y
    n, p = X.shape
    value = -0.5 * (n * np.log(2 * np.pi) + np.linalg.slogdet(Sigma)[1] + y @ e)
    if method == "reml":
        value += 0.5 * (p * np.log(2 * np.pi) + np.linalg.slogdet(X.T @ X)[1])
        value -= 0.5 * np.linalg.slogdet(A)[1]
    middle = P if method == "reml" else W
    gradients = []
    for z in wide:
        s = np.einsum("iga,i->ga", z, e)
        gradients.append(s.T @ s - np.einsum("iga,ij,jgb->ab", z, middle, z, optimize=True))
    moved = np.concatenate(
        [
            np.einsum("iga,abt,jgb->ijt", z, dP, z, optimize=True)
            for z, dP in zip(wide, slopes, strict=True)
        ],
        axis=2,
    )
    f = np.einsum("ijt,j->it", moved, e)
    through = np.einsum("ij,jkt->ikt", middle, moved)
    expected = 0.5 * np.einsum("iju,jit->ut", through, through)
    return Dense(value, gradients, 0.5 * f.T @ P @ f, expected, beta, V)
