"""Cluster-robust covariances of the coefficients, with W = Σ⁻¹ as working weights.

    V_R = V (Σ_j X_jᵀW_jA_j r_j r_jᵀA_jᵀW_jX_j) V

over clusters j, which are unions of outer groups, with

    CR0   A = I                    CR1   A = √c I: c = J / (J − 1) of J clusters,
    CR2   A_j(Σ_j − X_jVX_jᵀ)A_j = Σ_j   CR1p  J / (J − P),  CR1S  J(n − 1) / ((J − 1)(n − P))
    CR3   A_j = (I − H_jj)⁻¹,  H = XVXᵀW

A_j of CR2 is symmetric: with the Cholesky factor Σ_j = DᵀD it is Dᵀ(D(Σ_j − X_jVX_jᵀ)Dᵀ)^(−½)D, on
the range of what stands in the bracket. Under the working model a combination cᵀβ̂ has the robust
variance Σ_j (p_jᵀy)² with p_jᵀΣp_i = cᵀ(δ_ij a_j − h_jᵀh_i)c in coefficients for which V is the
identity, a_j = g_jᵀΣ_jg_j, h_j = X_jᵀg_j, g_j = A_jᵀW_jX_j: so its degrees of freedom, and those of
joint tests, are sums over clusters.

References
----------
Bell and McCaffrey (2002), Survey Methodology 28:169-181; Pustejovsky and Tipton (2018), Journal of
Business and Economic Statistics 36:672-683; Tipton and Pustejovsky (2015), Journal of Educational
and Behavioral Statistics 40:604-634 (the joint test, HTZ).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.choices import RobustType, words
from mixmeta_jax.design.design import Design
from mixmeta_jax.inference.outer_groups import OuterGroups, Piece
from mixmeta_jax.inference.reference import Reference, StudentT
from mixmeta_jax.inference.variance_information import gls_root, orthonormal
from mixmeta_jax.tolerances import LEFT_OVER, NO_RESIDUALS, NO_ROBUST_VARIANCE

TYPES = words(RobustType)
"""Corrections of the residuals."""

FEW = 4.0
"""Degrees of freedom below which Satterthwaite's approximation is not to be relied on (Tipton 2015,
Psychological Methods 20:375-393)."""


@dataclass(frozen=True)
class Clusters:
    """Sums over clusters of B data sets, in coefficients T⁻¹β for which V is the identity.

    Attributes
    ----------
    T
        V = TTᵀ, shape (B, P, P).
    meat
        T⁻¹V_R T⁻ᵀ, shape (B, P, P).
    a, h
        Of each cluster, shape (B, J, P, P).
    determined
        Which clusters determine a coefficient, so that CR3 does not exist, shape (B, J).
    """

    T: np.ndarray
    meat: np.ndarray
    a: np.ndarray
    h: np.ndarray
    determined: np.ndarray

    @property
    def vcov(self) -> np.ndarray:
        """V_R, shape (B, P, P)."""
        return self.T @ self.meat @ np.swapaxes(self.T, -1, -2)


def cluster_sums(
    design: Design, Psi: Sequence[np.ndarray], cluster: np.ndarray, kind: str
) -> Clusters:
    """What robust inference needs of each cluster.

    Parameters
    ----------
    design
        The data, arrays of numpy; y, S and the mask may have a leading B.
    Psi
        Ψ of each level, outer first, shape (B, d, d).
    cluster
        Cluster of each unit, 0…J−1, shape (n,), made of whole outer groups.
    kind
        One of `TYPES`.
    """
    groups = OuterGroups(design, tuple(Psi), orthonormal(design), 3, cluster)
    T, beta = gls_root(groups)
    B, P = T.shape[:2]
    J = int(cluster.max()) + 1
    scores = np.zeros((B, J, P))
    a, h = np.zeros((B, J, P, P)), np.zeros((B, J, P, P))
    determined = np.zeros((B, J), bool)
    root = np.sqrt(_factor(kind, J, P, design.mask))
    for piece in groups:
        WX = piece.W @ piece.X
        G = np.swapaxes(piece.X, -1, -2) @ WX
        r = piece.y[..., None] - piece.X @ beta[:, None]
        if kind == "CR2":
            g = _symmetric_root(piece) @ WX
        elif kind == "CR3":
            # XᵀW(I − H_jj)⁻¹ = (I − XᵀWX)⁻¹XᵀW
            left = np.eye(P) - G
            values = np.linalg.eigvalsh(0.5 * (left + np.swapaxes(left, -1, -2)))
            lost: Any = (values <= LEFT_OVER).any(-1)
            determined[:, piece.groups] = lost
            left = np.where(lost[..., None, None], np.eye(P), left)
            g = WX @ np.swapaxes(np.linalg.inv(left), -1, -2)
        else:
            g = root[:, None, None, None] * WX
        back = np.swapaxes(g, -1, -2)
        scores[:, piece.groups] = (back @ r)[..., 0]
        a[:, piece.groups] = back @ piece.Sigma @ g
        h[:, piece.groups] = np.swapaxes(piece.X, -1, -2) @ g
    meat = np.swapaxes(scores, 1, 2) @ scores
    return Clusters(T, meat, a, h, determined)


def _factor(kind: str, J: int, P: int, mask: np.ndarray) -> np.ndarray:
    """The square of A in units of the identity, shape (B,)."""
    n = np.atleast_1d(mask.sum((-2, -1)))
    one = np.ones(len(n))
    if kind == "CR1":
        return one * J / (J - 1)
    if kind == "CR1p":
        return one * J / (J - P)
    if kind == "CR1S":
        return J * (n - 1) / ((J - 1) * (n - P))
    return one


def _symmetric_root(piece: Piece) -> np.ndarray:
    """A of CR2, shape (B, N, s, s)."""
    left = piece.Sigma - piece.X @ np.swapaxes(piece.X, -1, -2)
    D = np.swapaxes(np.linalg.cholesky(piece.Sigma), -1, -2)
    middle = D @ left @ np.swapaxes(D, -1, -2)
    values, vectors = np.linalg.eigh(0.5 * (middle + np.swapaxes(middle, -1, -2)))
    some = values > LEFT_OVER * values.max(-1, keepdims=True)
    power = np.where(some, 1 / np.sqrt(np.where(some, values, 1.0)), 0.0)
    half = np.swapaxes(vectors, -1, -2) @ D
    return np.swapaxes(half, -1, -2) @ (power[..., None] * half)


def combination_df(L: np.ndarray, found: Clusters) -> np.ndarray:
    """Satterthwaite's degrees of freedom of the rows c of L, shape (B, h)."""
    along = L @ found.T  # (B, h, P)
    alpha = np.einsum("bhp,bjpq,bhq->bjh", along, found.a, along, optimize=True)
    beta = np.einsum("bjpq,bhq->bjhp", found.h, along, optimize=True)
    length = (beta * beta).sum(-1)
    outer = np.einsum("bjhp,bjhq->bhpq", beta, beta, optimize=True)
    spread = (alpha**2 - 2 * alpha * length).sum(1) + (outer**2).sum((-2, -1))
    mean = (alpha - length).sum(1)
    return mean**2 / np.where(spread > 0, spread, np.nan)


def wishart_df(L: np.ndarray, found: Clusters) -> np.ndarray:
    """η of the Wishart distribution that the robust covariance of Lβ̂ is close to, shape (B,)."""
    along = L @ found.T
    q, P = L.shape[0], along.shape[-1]
    alpha = along[:, None] @ found.a @ np.swapaxes(along, -1, -2)[:, None]
    beta = found.h @ np.swapaxes(along, -1, -2)[:, None]  # (B, J, P, q)
    own = np.swapaxes(beta, -1, -2) @ beta
    values, vectors = np.linalg.eigh((alpha - own).sum(1))
    power = 1 / np.sqrt(np.where(values > 0, values, np.nan))
    root = (vectors * power[:, None]) @ np.swapaxes(vectors, -1, -2)
    alpha, own = (root[:, None] @ part @ root[:, None] for part in (alpha, own))
    beta = beta @ root[:, None]
    flat = beta.reshape(*beta.shape[:2], P * q)
    K = (np.swapaxes(flat, 1, 2) @ flat).reshape(-1, P, q, P, q)
    spread = (alpha * alpha - 2 * alpha * own).sum((1, 2, 3))
    spread = spread + np.einsum("bpsrt,bptrs->b", K, K, optimize=True)
    sizes = np.einsum("bjss->bj", alpha), np.einsum("bjss->bj", own)
    spread = spread + (sizes[0] ** 2 - 2 * sizes[0] * sizes[1]).sum(1) + (K * K).sum((1, 2, 3, 4))
    return q * (q + 1) / spread


@dataclass(frozen=True)
class RobustNormal(Reference):
    """The normal distribution with robust errors; the parent of the others.

    A combination whose clusters have no residuals has no robust error: NaN.

    Attributes
    ----------
    found
        Sums over clusters of one data set.
    title
        The test in words.
    """

    found: Clusters = None  # type: ignore[assignment]
    title: str = ""

    @property
    def words(self) -> str:
        return self.title

    def se(self, L: np.ndarray) -> np.ndarray:
        none = [bool(row.any()) and self.singular(row[None]) for row in L]
        return np.where(none, np.nan, super().se(L))

    def singular(self, L: np.ndarray) -> bool:
        # Orthonormal combinations of coefficients for which V is the identity.
        U = np.linalg.qr((L @ self.found.T[0]).T)[0]
        meat = self.found.meat[0]
        least = np.linalg.eigvalsh(U.T @ meat @ U)[0]
        largest = np.linalg.eigvalsh(meat)[-1]
        return bool(largest <= NO_RESIDUALS or least <= NO_ROBUST_VARIANCE * largest)

    def why_not(self, L: np.ndarray) -> str:
        if not self.singular(L):
            return super().why_not(L)
        return (
            "The robust covariance of these hypotheses is singular: it rests on too few clusters "
            "with residuals for a joint test of them."
        )


@dataclass(frozen=True)
class RobustT(RobustNormal, StudentT):
    """t and F with given degrees of freedom and robust errors."""


@dataclass(frozen=True)
class Robust(RobustNormal):
    """t with Satterthwaite's degrees of freedom of a robust variance, joint tests HTZ."""

    @property
    def statistic(self) -> str:
        return "t"

    def df(self, L: np.ndarray) -> np.ndarray:
        return combination_df(L, self.found)[0]

    def scale_and_df(self, L: np.ndarray) -> tuple[float, float]:
        q = len(L)
        eta = float(wishart_df(L, self.found)[0])
        df = eta - q + 1
        return (df / eta, df) if df > 0 else (np.nan, np.nan)

    def caution(self, df: float) -> str:
        if not df < FEW:
            return ""
        return (
            f"{df:.2f} degrees of freedom are fewer than {FEW:g}: p-values and intervals are not "
            "to be relied on."
        )
