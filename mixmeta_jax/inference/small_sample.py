"""Satterthwaite's and Kenward and Roger's tests: t and F with estimated degrees of freedom.

They match the first moments of the statistics, given how V moves with the variances and to what
these are known (`variance_information`). With all variances held the degrees of freedom are
infinite: the errors are known then, and the normal distribution is right.

References
----------
Satterthwaite (1946), Biometrics Bulletin 2:110-114; Fai and Cornelius (1996), Journal of
Statistical Computation and Simulation 54:363-378; Kenward and Roger (1997), Biometrics 53:983-997.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixmeta_jax.inference.reference import Reference
from mixmeta_jax.inference.variance_information import VarianceInformation
from mixmeta_jax.tolerances import KNOWN, SAME_ZERO

MEAN_EXISTS = 2.0
"""Degrees of freedom above which a squared t has a mean."""


def combination_df(L: np.ndarray, found: VarianceInformation) -> np.ndarray:
    """2(cᵀVc)² / (gᵀI⁻¹g), g = ∂(cᵀVc)/∂ψ, of the rows c of L: shape (B, h)."""
    along = L @ found.T
    variance = (along * along).sum(-1)
    gradient = np.einsum("bhp,bnpq,bhq->bhn", along, found.slopes, along, optimize=True)
    spread = np.einsum("bhn,bnm,bhm->bh", gradient, found.inverse, gradient)
    # Where the gradient is null all that is left of it is rounding.
    still = spread <= KNOWN * variance**2
    return np.where(still, np.inf, 2 * variance**2 / np.where(still, 1.0, spread))


@dataclass(frozen=True)
class Satterthwaite(Reference):
    """t with Satterthwaite's degrees of freedom, joint F by Fai and Cornelius.

    Attributes
    ----------
    found
        The information on the variances, of one data set.
    """

    found: VarianceInformation = None  # type: ignore[assignment]

    @property
    def statistic(self) -> str:
        return "t"

    @property
    def words(self) -> str:
        return "t distribution, Satterthwaite"

    def df(self, L: np.ndarray) -> np.ndarray:
        return combination_df(L, self.found)[0]

    def scale_and_df(self, L: np.ndarray) -> tuple[float, float]:
        q = len(L)
        if q == 1:
            return 1.0, float(self.df(L)[0])
        _, vectors = np.linalg.eigh(L @ self.vcov @ L.T)
        df = self.df(vectors.T @ L)
        if np.isinf(df).all():
            return 1.0, np.inf
        if not (df > MEAN_EXISTS).all():
            return np.nan, np.nan
        finite = df[np.isfinite(df)]
        E = q - len(finite) + (finite / (finite - 2)).sum()
        # E − q without cancellation.
        return 1.0, float(2 * E / (2 / (finite - 2)).sum())

    def why_not(self, L: np.ndarray) -> str:
        return (
            f"A combination of these hypotheses has at most {MEAN_EXISTS:g} degrees of freedom, "
            "with which a squared t has no mean for Fai and Cornelius to match: use "
            "test='kenward-roger'."
        )


@dataclass(frozen=True)
class KenwardRoger(Satterthwaite):
    """Kenward and Roger's covariance of the coefficients, with t and scaled F."""

    why_not = Reference.why_not

    @property
    def words(self) -> str:
        return "t distribution, Kenward and Roger"

    def scale_and_df(self, L: np.ndarray) -> tuple[float, float]:
        q = len(L)
        if q == 1:
            return 1.0, float(self.df(L)[0])
        along = L @ self.found.T[0]
        # An orthonormal basis of the rows of LT: (LT)ᵀ(LVLᵀ)⁻¹(LT) = UUᵀ.
        U = np.linalg.qr(along.T)[0]
        moved = U.T @ self.found.slopes[0] @ U
        inverse = self.found.inverse[0]
        traces = np.einsum("nii->n", moved)
        A1 = traces @ inverse @ traces
        A2 = np.einsum("nij,nm,mji->", moved, inverse, moved)
        return scaled_f(q, float(A1), float(A2))


def scaled_f(q: int, A1: float, A2: float) -> tuple[float, float]:
    """λ and the denominator degrees of freedom of Kenward and Roger's F on q hypotheses.

    NaN where they are not positive. With E and D the mean of F and what its variance is divided by,
    both are taken without a quotient of two zeros: for one variance to which V is proportional, the
    F of linear regression with 4 df has no variance and that with 2 no mean, but both are exact.
    """
    if A2 <= KNOWN:
        return 1.0, np.inf
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c = 3 * q + 2 * (1 - g)
    E, D = 1 - A2 / q, 1 - (q - g) / c * B
    exact = max(abs(E), abs(D)) < SAME_ZERO
    own, least = (1.0, 1.0) if exact else (E * E, D * D)
    below = (1 - (q + 2 - g) / c * B) * least
    above = own * (1 + g / c * B) - below
    df = np.inf if above == 0 else 4 + (q + 2) * below / above
    scale = 1.0 if exact or np.isinf(df) or df == 2 else E * df / (df - 2)
    if not (df > 0 and scale > 0):
        return np.nan, np.nan
    return scale, df
