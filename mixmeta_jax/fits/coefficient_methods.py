"""What a fit says of its coefficients: the summary, intervals, tests."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixmeta_jax.fits import coefficients
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.report import tidying
from mixmeta_jax.report.results import WaldTest
from mixmeta_jax.report.summary import SummaryResult, summarise


class CoefficientMethods(FittedModel):
    """The methods of `Fit` on coefficients."""

    def summary(
        self, conf_level: float = 0.95, report: str = "sd", test: str = "z"
    ) -> SummaryResult:
        """The fit in a page; ``str`` of the result is the printed summary.

        Parameters
        ----------
        conf_level
            Level of the confidence intervals.
        report
            "sd" for standard deviations and correlations of the random effects, "var" for variances
            and covariances.
        test
            Reference distribution of tests and intervals: "z".

        Raises
        ------
        InputError
            For a level outside (0, 1), or an unknown ``report`` or ``test``.
        """
        return summarise(self, conf_level, report, test)

    def confint(
        self, conf_level: float = 0.95, simultaneous: str | None = None, test: str = "z"
    ) -> pd.DataFrame:
        """Confidence intervals of the coefficients: ``estimate, lower, upper``.

        Parameters
        ----------
        conf_level
            Coverage, of each interval or of all together.
        simultaneous
            None for each interval by itself; "goldstein" for estimate ± √χ²_{r,level} · se with r
            the number of coefficients; "max-t" for the quantile of the largest |z|.
        test
            Reference distribution: "z".

        Raises
        ------
        InputError
            For a level outside (0, 1), or an unknown ``simultaneous`` or ``test``.
        """
        return coefficients.interval_frame(self, conf_level, simultaneous, test)

    def wald_test(self, terms_or_matrix: Any, rhs: Any = 0, test: str = "z") -> WaldTest:
        """Test linear hypotheses Lβ = rhs on the coefficients jointly.

        Parameters
        ----------
        terms_or_matrix
            Name of a coefficient, else a regular expression that is searched in the names; a
            sequence of these; or L, with one column per coefficient.
        rhs
            Hypothesised value, or one per hypothesis.
        test
            Reference distribution: "z", which makes the joint statistic χ².

        Raises
        ------
        InputError
            For a name that matches no coefficient, a matrix of another width, or dependent rows.
        """
        return coefficients.joint_test(self, terms_or_matrix, rhs, test)

    def tidy(self, conf_level: float = 0.95) -> pd.DataFrame:
        """One row per coefficient: ``outcome, term, estimate, se, z, pvalue, lower, upper``."""
        return tidying.tidy(self, conf_level)

    def glance(self) -> pd.DataFrame:
        """One row of figures on the fit: counts, criteria, heterogeneity, status."""
        return tidying.glance(self)

    def augment(self) -> pd.DataFrame:
        """One row per unit and outcome: ``outcome, observed, fitted, residual, blup``."""
        return tidying.augment(self)
