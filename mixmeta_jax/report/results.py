"""Small results that carry a few numbers and know how to print themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DegreesOfFreedom:
    """Counts that the information criteria use.

    Attributes
    ----------
    nall
        Observed outcomes.
    nobs
        The same, less the coefficients under REML.
    fixed, random
        Numbers of coefficients and of covariance parameters.
    """

    nall: int
    nobs: int
    fixed: int
    random: int

    @property
    def total(self) -> int:
        """Number of parameters."""
        return self.fixed + self.random


@dataclass(frozen=True)
class WaldTest:
    """A joint test of linear hypotheses on the coefficients.

    Attributes
    ----------
    statistic, df, pvalue
        χ² or F statistic, the number of hypotheses and the tail probability.
    hypotheses
        The hypotheses in words.
    df_residual
        Denominator degrees of freedom of F; infinite for χ².
    reference
        The reference distribution in words.
    note
        Why statistic and p-value are NaN, or what to be careful with; else empty.
    """

    statistic: float
    df: int
    pvalue: float
    hypotheses: tuple[str, ...]
    df_residual: float = math.inf
    reference: str = ""
    note: str = ""

    def __str__(self) -> str:
        title = f"Wald test ({self.reference})" if self.is_F else "Wald test"
        lines = [title, *(f"  {line}" for line in self.hypotheses)]
        if math.isnan(self.pvalue):
            pass
        elif self.is_F:
            df = f"{self.df} and {df_text(self.df_residual)} df"
            lines.append(f"F = {self.statistic:.4f} on {df}, {p_phrase(self.pvalue)}")
        else:
            chi2 = f"Chi-square = {self.statistic:.4f} on {self.df} df"
            lines.append(f"{chi2}, {p_phrase(self.pvalue)}")
        lines += [self.note] if self.note else []
        return "\n".join(lines)

    @property
    def is_F(self) -> bool:
        """Whether the statistic is F, not χ²."""
        return not math.isinf(self.df_residual)


@dataclass(frozen=True)
class BootstrappedRatio:
    """A likelihood ratio among those of data sets drawn from the smaller fit.

    Attributes
    ----------
    pvalue, mc_error
        Share of the draws, the data among them, with a ratio as large, and its standard error over
        repetitions of the bootstrap.
    bartlett
        df over the mean ratio of the draws: the factor that gives the statistic the mean of χ².
    statistic, pvalue_bartlett
        The statistic times the factor, and its χ² tail probability.
    n
        Draws that both models could be fitted to.
    """

    pvalue: float
    mc_error: float
    bartlett: float
    statistic: float
    pvalue_bartlett: float
    n: int

    def __str__(self) -> str:
        return (
            f"Bootstrap, {self.n} draws: {p_phrase(self.pvalue)} (Monte Carlo error "
            f"{self.mc_error:.4f}); Bartlett-corrected {self.statistic:.4f}, "
            f"{p_phrase(self.pvalue_bartlett)}"
        )


@dataclass(frozen=True)
class LikelihoodRatioTest:
    """A likelihood-ratio test of a fit within a wider one.

    Attributes
    ----------
    statistic, df, pvalue
        Twice the difference of the log-likelihoods, the difference of the numbers of parameters,
        and the χ² tail probability.
    pvalue_mixture
        p-value when one variance is tested at its bound of zero (an equal mixture of χ² with
        df - 1 and df); NaN when none is, or several.
    loglik, n_parameters
        Of the smaller and of the larger fit.
    bootstrap
        What refits to data drawn from the smaller fit say; None where none were asked for.
    note
        What to be careful with; else empty.
    """

    statistic: float
    df: int
    pvalue: float
    pvalue_mixture: float
    loglik: tuple[float, float]
    n_parameters: tuple[int, int]
    bootstrap: BootstrappedRatio | None = None
    note: str = ""

    def __str__(self) -> str:
        lines = ["Likelihood-ratio test"]
        for name, loglik, count in zip(
            ("smaller", "larger"), self.loglik, self.n_parameters, strict=True
        ):
            lines.append(f"  {name:<8}{count} parameters, log-likelihood {loglik:.4f}")
        lines.append(f"Chi-square = {self.statistic:.4f} on {self.df} df, {p_phrase(self.pvalue)}")
        if self.pvalue_mixture == self.pvalue_mixture:
            lines.append(
                f"A variance is tested at its bound: mixture {p_phrase(self.pvalue_mixture)}"
            )
        if self.bootstrap is not None:
            lines.append(str(self.bootstrap))
        lines += [self.note] if self.note else []
        return "\n".join(lines)


@dataclass(frozen=True)
class PermutationTest:
    """A permutation test of one coefficient.

    Attributes
    ----------
    term, statistic
        The coefficient, and its estimate over its standard error.
    pvalue
        Share of the permutations, the data themselves among them, with a statistic as large.
    n_permutations
        Permutations that could be fitted.
    statistics
        Statistics of the permutations, NaN where one could not be fitted.
    """

    term: str
    statistic: float
    pvalue: float
    n_permutations: int
    statistics: np.ndarray

    def __str__(self) -> str:
        return (
            f"Permutation test of {self.term}: z = {self.statistic:.4f}, {p_phrase(self.pvalue)} "
            f"({self.n_permutations} permutations)"
        )


def p_text(pvalue: float) -> str:
    """A p-value for tables: four decimals, or that it is smaller."""
    if pvalue != pvalue:
        return "nan"
    return "<0.0001" if pvalue < 0.0001 else f"{pvalue:.4f}"


def p_phrase(pvalue: float) -> str:
    """A p-value for running text, as in ``p = 0.0123`` or ``p < 0.0001``."""
    text = p_text(pvalue)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def df_text(df: float) -> str:
    """Degrees of freedom for tables and text: one decimal, two below ten."""
    return f"{df:.2f}" if df < 10 else f"{df:.1f}"
