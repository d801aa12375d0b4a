"""Reference distributions of tests and intervals of the coefficients: normal, t and F.

A `Reference` holds the covariance of the coefficients that goes with a test, and what the
distribution of a combination Lβ̂ is: normal and χ², or t and F with degrees of freedom of its own
for every combination. Everything that shows errors, intervals or p-values reads them here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, chdtri, fdtrc, fdtri, ndtr, ndtri, stdtr, stdtrit

from mixmeta_jax.errors import InputError
from mixmeta_jax.inference.wald import check_independent, check_simultaneous, largest_quantile

NORMAL = "normal distribution"


class JointTest(NamedTuple):
    """A joint test of linear hypotheses.

    Attributes
    ----------
    statistic
        F; χ² where ``df_residual`` is infinite.
    df, df_residual
        Number of hypotheses, and denominator degrees of freedom; infinite for χ².
    pvalue
        Tail probability.
    note
        Why statistic and p-value are NaN, or what to be careful with; else empty.
    """

    statistic: float
    df: int
    df_residual: float
    pvalue: float
    note: str


@dataclass(frozen=True)
class Reference:
    """The normal distribution, and χ² for joint tests; the parent of all others.

    Attributes
    ----------
    name
        The test, as in ``test="z"``.
    vcov
        Covariance of the coefficients that goes with it, shape (P, P).
    notes
        What a reader of the results should know, a sentence each.
    """

    name: str
    vcov: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def statistic(self) -> str:
        """Name of the statistic of one coefficient: "z" or "t"."""
        return "z"

    @property
    def words(self) -> str:
        """The test in words."""
        return NORMAL

    def df(self, L: np.ndarray) -> np.ndarray:
        """Degrees of freedom of each combination: rows of L, shape (h, P), give shape (h,)."""
        return np.full(len(L), np.inf)

    def scale_and_df(self, L: np.ndarray) -> tuple[float, float]:
        """λ and ν for which λ/h times the joint statistic of Lβ̂ is F with h and ν df."""
        return 1.0, np.inf

    def se(self, L: np.ndarray) -> np.ndarray:
        """Standard error of each combination, shape (h,)."""
        return np.sqrt(np.maximum(np.einsum("hi,ij,hj->h", L, self.vcov, L), 0.0))

    def quantile(self, conf_level: float, L: np.ndarray) -> np.ndarray:
        """Half-width of a two-sided interval of each combination, in standard errors, (h,)."""
        return t_quantile((1 + conf_level) / 2, self.df(L))

    def pvalues(self, statistics: np.ndarray, L: np.ndarray) -> np.ndarray:
        """Two-sided p-values of the combinations over their standard errors, shape (h,)."""
        return 2 * t_tail(np.abs(statistics), self.df(L))

    def critical(
        self, conf_level: float, L: np.ndarray, simultaneous: str | None = None
    ) -> np.ndarray:
        """Half-widths in standard errors, shape (h,), for each combination or all at once.

        Parameters
        ----------
        conf_level
            Coverage: of each interval, or of all of them together.
        L
            The combinations, shape (h, P).
        simultaneous
            None for pointwise intervals. "goldstein" for √χ²_{r,level}, or √(r F_{r,ν,level} / λ),
            with r the rank of L: it covers every combination of those in L. "max-t" for the
            quantile of the largest |z| or |t| among them; with the smallest of their degrees of
            freedom where these differ, which is on the safe side.

        Raises
        ------
        InputError
            For "goldstein" where the joint test has no degrees of freedom.
        """
        check_simultaneous(simultaneous)
        if simultaneous is None:
            return self.quantile(conf_level, L)
        if simultaneous == "goldstein":
            rows = independent_rows(L)
            r = len(rows)
            scale, df = self.scale_and_df(L[rows])
            if r and not df > 0:
                raise InputError(
                    "Intervals that are simultaneous by 'goldstein' rest on the joint test of all "
                    f"of them. {self.why_not(L[rows])} Or use simultaneous='max-t'."
                )
            return np.full(len(L), np.sqrt(r * f_quantile(conf_level, r, df) / scale))
        se = self.se(L)
        some = se > 0
        cov = (L @ self.vcov @ L.T)[np.ix_(some, some)]
        df = self.df(L[some]).min(initial=np.inf)
        largest = largest_quantile(cov / np.outer(se[some], se[some]), conf_level, df)
        return np.full(len(L), largest)

    def joint(self, L: np.ndarray, rhs: np.ndarray, beta: np.ndarray) -> JointTest:
        """Joint test of Lβ = rhs.

        Parameters
        ----------
        L
            One row per hypothesis, shape (h, P), linearly independent.
        rhs, beta
            Hypothesised values, shape (h,), and coefficients, shape (P,).

        Raises
        ------
        InputError
            Where a row of L is zero or a combination of the rows above it.
        """
        check_independent(L)
        difference, h = L @ beta - rhs, len(L)
        scale, df = self.scale_and_df(L)
        if not df > 0 or self.singular(L):
            return JointTest(np.nan, h, np.nan, np.nan, self.why_not(L))
        wald = float(difference @ np.linalg.solve(L @ self.vcov @ L.T, difference))
        if np.isinf(df):
            return JointTest(scale * wald, h, df, float(chdtrc(h, scale * wald)), "")
        F = scale * wald / h
        return JointTest(F, h, df, f_tail(F, h, df), self.caution(df))

    def singular(self, L: np.ndarray) -> bool:
        """Whether the covariance has a null direction among the combinations in L."""
        return False

    def caution(self, df: float) -> str:
        """What to be careful with at these degrees of freedom; else empty."""
        return ""

    def why_not(self, L: np.ndarray) -> str:
        """Why there is no joint distribution of the combinations in L."""
        return (
            "The joint denominator degrees of freedom are not positive: the data are too few for "
            "a joint test of these hypotheses."
        )


@dataclass(frozen=True)
class StudentT(Reference):
    """t and F with given degrees of freedom.

    Attributes
    ----------
    of_coefficients
        Degrees of freedom of each coefficient, shape (P,). A combination has the smallest of those
        that it is made of.
    title
        The test in words.
    """

    of_coefficients: np.ndarray = None  # type: ignore[assignment]
    title: str = "t distribution"

    @property
    def statistic(self) -> str:
        return "t"

    @property
    def words(self) -> str:
        return self.title

    def df(self, L: np.ndarray) -> np.ndarray:
        return np.where(L != 0, self.of_coefficients, np.inf).min(1)

    def scale_and_df(self, L: np.ndarray) -> tuple[float, float]:
        return 1.0, float(self.df(L).min())


def independent_rows(L: np.ndarray) -> list[int]:
    """Rows of L that span it, the first ones that do."""
    rows: list[int] = []
    for row in range(len(L)):
        if np.linalg.matrix_rank(L[[*rows, row]]) > len(rows):
            rows.append(row)
    return rows


def t_quantile(probability: float, df: np.ndarray) -> np.ndarray:
    """Quantiles of t with the given degrees of freedom; normal where they are infinite."""
    df = np.asarray(df, float)
    finite = np.isfinite(df) | np.isnan(df)
    return np.where(finite, stdtrit(np.where(finite, df, 1.0), probability), ndtri(probability))


def t_tail(values: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Upper tail probabilities of t, normal where the degrees of freedom are infinite."""
    df = np.asarray(df, float)
    finite = np.isfinite(df) | np.isnan(df)
    return np.where(finite, stdtr(np.where(finite, df, 1.0), -values), ndtr(-values))


def f_quantile(probability: float, df: int, df_residual: float) -> float:
    """Quantile of F; of χ² over its degrees of freedom where the residual ones are infinite."""
    if np.isinf(df_residual):
        return float(chdtri(df, 1 - probability)) / df
    if not df_residual > 0:
        return float("nan")
    return float(fdtri(df, df_residual, probability))


def f_tail(value: float, df: int, df_residual: float) -> float:
    """Upper tail probability of F, as `f_quantile`."""
    if np.isinf(df_residual):
        return float(chdtrc(df, df * value))
    return float(fdtrc(df, df_residual, value))
