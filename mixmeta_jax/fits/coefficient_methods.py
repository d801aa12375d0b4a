"""What a fit says of its coefficients: the summary, intervals, tests."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pandas as pd

from mixmeta_jax.choices import (
    DegreesOfT,
    InformationKind,
    RandomReport,
    ReferenceName,
    RobustTest,
    RobustType,
    Simultaneous,
)
from mixmeta_jax.fits import coefficients
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.kept import frozen
from mixmeta_jax.fits.robust import RobustFit, robust_fit
from mixmeta_jax.inference.reference import Reference
from mixmeta_jax.report import tidying
from mixmeta_jax.report.results import WaldTest
from mixmeta_jax.report.summary import SummaryResult, summarise
from mixmeta_jax.report.words import paragraph


class CoefficientMethods(FittedModel):
    """The methods of `Fit` on coefficients."""

    def summary(
        self,
        conf_level: float = 0.95,
        report: RandomReport = "sd",
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
    ) -> SummaryResult:
        """The fit in a page; ``str`` of the result is the printed summary.

        Parameters
        ----------
        conf_level
            Level of the confidence intervals.
        report
            "sd" for standard deviations and correlations of the random effects, "var" for variances
            and covariances.
        test, df, adhoc, information
            Reference distribution of tests and intervals; see `reference`.

        Raises
        ------
        InputError
            For a level outside (0, 1), an unknown ``report`` or ``test``, or a test that is not
            defined for the model.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> print(fit.summary())
        Univariate random-effects meta-analysis
        Formula:    logor ~ 1
        Estimation: restricted maximum likelihood (REML)
        <BLANKLINE>
        Fixed effects
                       Estimate  Std. Error        z  Pr(>|z|)  95% lower  95% upper
          (Intercept)   -0.7452      0.1860  -4.0057   <0.0001    -1.1098    -0.3806  ***
        Significance: *** p < 0.001, ** p < 0.01, * p < 0.05, . p < 0.1
        <BLANKLINE>
        Random effects
          Level unit, 13 groups
                         Std. Dev.
            (Intercept)     0.5812
        <BLANKLINE>
        Heterogeneity
          Cochran's Q = 163.1649 on 12 df, p < 0.0001
          I2 = 92.6%
        <BLANKLINE>
        13 units, 13 observed outcomes
        Parameters: 1 fixed, 1 random
        Log-likelihood -12.5757, AIC 29.1513, BIC 30.1211
        >>> fit.summary(test="knha").coefficients.round(3)
                     estimate     se      t    df  pvalue  lower  upper
        (Intercept)    -0.745  0.187 -3.991  12.0   0.002 -1.152 -0.338
        """
        reference = self.reference(test, df, adhoc, information)
        return summarise(self, conf_level, report, reference)

    def report(
        self,
        conf_level: float = 0.95,
        digits: int = 3,
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
    ) -> str:
        """The fit in a paragraph, with the figures that a journal asks for.

        Parameters
        ----------
        conf_level
            Level of the confidence intervals.
        digits
            Places after the point, from 0 to 12.
        test, df
            Reference distribution of tests and intervals; see `reference`.

        Raises
        ------
        InputError
            For a level outside (0, 1), or digits that are none.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.report(digits=2).split(" with ")[0]
        'A univariate random-effects meta-analysis (logor ~ 1; 13 units, 13 observed outcomes) \
was fitted by restricted maximum likelihood (REML)'
        """
        reference = self.reference(test, df)
        return paragraph(self, reference, version("mixmeta_jax"), conf_level, digits)

    def reference(
        self,
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
    ) -> Reference:
        """The reference distribution of the coefficients, with their covariance that goes with it.

        Parameters
        ----------
        test
            "z", normal and χ². "t", t and F with ``df``. "knha", Knapp and Hartung's (2003), for
            one level without random slopes, Jackson and Riley's (2014) for several outcomes.
            "satterthwaite", t with Satterthwaite's degrees of freedom, joint tests by Fai and
            Cornelius (1996). "kenward-roger", Kenward and Roger's (1997, 2009) covariance and
            scaled F.
        df
            Of "t": "residual" (observed outcomes less coefficients, the default), "contain" or a
            number. "contain": per coefficient, the groups of the outermost level within whose
            groups its predictor is constant, less the predictors that are constant there. Of the
            levels at which it is constant the outermost has the fewest groups, and it is those that
            the coefficient compares, as in R metafor. Metafor 3.8 subtracts all coefficients; here
            those that vary within the groups are not, since they take nothing from differences
            between them.
        adhoc
            Of "knha": whether the factor of the covariance is at least 1.
        information
            Of "satterthwaite" and "kenward-roger": "expected" or "observed", of the variances.

        Raises
        ------
        InputError
            For an unknown test, an argument of another test, or a test that is not defined for the
            model.

        Notes
        -----
        Kenward and Roger's covariance is that of a choice of parameters, which are those of the
        structure: elements of Ψ for "unstr", "diag", "id", "prop" and "cs", variances and a
        correlation for the others. Of two effects "unstr" and "hcs" are the same model with the
        same likelihood, but their corrections differ a little, in the term with the second
        derivatives. Satterthwaite's degrees of freedom do not depend on it.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.reference("kenward-roger").words
        't distribution, Kenward and Roger'
        """
        return frozen(coefficients.reference_of(self, test, df, adhoc, information))

    def confint(
        self,
        conf_level: float = 0.95,
        simultaneous: Simultaneous = None,
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
    ) -> pd.DataFrame:
        """Confidence intervals of the coefficients: ``estimate, lower, upper``, and ``df`` of t.

        Parameters
        ----------
        conf_level
            Coverage, of each interval or of all together.
        simultaneous
            None for each interval by itself; "goldstein" for estimate ± √χ²_{r,level} · se with r
            the number of coefficients, or √(r F) with F; "max-t" for the quantile of the largest
            |z| or |t|.
        test, df, adhoc, information
            Reference distribution; see `reference`.

        Raises
        ------
        InputError
            For a level outside (0, 1), an unknown ``simultaneous`` or ``test``, or a test that is
            not defined for the model.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.confint(test="knha").round(3)
                     estimate  lower  upper    df
        (Intercept)     0.301 -0.265  0.867  11.0
        ablat          -0.032 -0.048 -0.015  11.0
        """
        reference = self.reference(test, df, adhoc, information)
        return coefficients.interval_frame(self, conf_level, simultaneous, reference)

    def wald_test(
        self,
        terms_or_matrix: Any,
        rhs: Any = 0,
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
    ) -> WaldTest:
        """Test linear hypotheses Lβ = rhs on the coefficients jointly.

        Parameters
        ----------
        terms_or_matrix
            Name of a coefficient, else a regular expression that is searched in the names; a
            sequence of these; or L, with one column per coefficient. An expression whose search
            might not end, as ``(a+)+``, is refused.
        rhs
            Hypothesised value, or one per hypothesis.
        test, df, adhoc, information
            Reference distribution; see `reference`: χ² for "z", F for the others.

        Raises
        ------
        InputError
            For a name that matches no coefficient, a matrix of another width, dependent rows, or a
            test that is not defined for the model.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ alloc", S="logorvar", data=mx.load_dataset("bcg"))
        >>> print(fit.wald_test("alloc"))
        Wald test
          alloc[T.random] = 0
          alloc[T.systematic] = 0
        Chi-square = 1.6463 on 2 df, p = 0.4390
        >>> round(fit.wald_test("(Intercept)", rhs=-0.7, test="knha").pvalue, 3)
        0.837
        """
        reference = self.reference(test, df, adhoc, information)
        return coefficients.joint_test(self, terms_or_matrix, rhs, reference)

    def robust(
        self,
        cluster: Any = None,
        type: RobustType = "CR2",
        test: RobustTest = "satterthwaite",
        df: float | None = None,
    ) -> RobustFit:
        """The same coefficients with cluster-robust errors, Σ⁻¹ as working weights.

        Parameters
        ----------
        cluster
            Name of a level or of a column of the data, or one value per row of the data; default
            the outer groups. Clusters are outer groups, or unions of them.
        type
            "CR0" as it stands; "CR1", "CR1p", "CR1S" times J / (J − 1), J / (J − P) or
            J(n − 1) / ((J − 1)(n − P)) for J clusters; "CR2" unbiased under the model; "CR3" close
            to the jackknife.
        test
            "satterthwaite" with degrees of freedom of its own for every combination and joint tests
            HTZ; "t" with ``df``; "z".
        df
            Of "t": a number, default J − 1.

        Returns
        -------
        RobustFit
            With ``vcov``, and ``summary``, ``confint``, ``wald_test``, ``tidy`` as of the fit. NaN,
            with a note, for a coefficient whose clusters have no residuals, and for joint tests of
            more hypotheses than there are clusters with residuals.

        Raises
        ------
        InputError
            For an unknown type or test, a column that is not there, clusters that cut an outer
            group, a single cluster, or a type that does not exist for so few.

        References
        ----------
        Pustejovsky and Tipton (2018), Journal of Business and Economic Statistics 36:672-683.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> school = mx.load_dataset("school")
        >>> fit = mx.mixmeta("effect", S="var", random="~ 1 | district/study", data=school)
        >>> fit.robust().confint().round(3)
                     estimate  lower  upper     df
        (Intercept)     0.185 -0.004  0.373  9.863
        """
        return robust_fit(self, cluster, type, test, df)

    def tidy(
        self,
        conf_level: float = 0.95,
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
    ) -> pd.DataFrame:
        """One row per coefficient: ``outcome, term, estimate, se, z, pvalue, lower, upper``.

        With another ``test`` than "z", see `reference`, ``t, df`` stand in the place of ``z``.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.tidy()[["term", "estimate", "lower", "upper"]].round(3)
                  term  estimate  lower  upper
        0  (Intercept)     0.301 -0.120  0.722
        1        ablat    -0.032 -0.044 -0.019
        """
        return tidying.tidy(self, conf_level, self.reference(test, df, adhoc, information))

    def glance(self) -> pd.DataFrame:
        """One row of figures on the fit: counts, criteria, heterogeneity, status.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.glance()[["n_obs", "loglik", "I2", "status"]].round(2)
           n_obs  loglik     I2     status
        0     13   -7.94  56.17  CONVERGED
        """
        return tidying.glance(self)

    def augment(self) -> pd.DataFrame:
        """One row per unit and outcome.

        Columns ``outcome, observed, fitted, residual, standardised, leverage, blup``; see `resid`
        and `influence`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.augment()[["observed", "fitted", "leverage", "blup"]].head(2).round(3)
           observed  fitted  leverage   blup
        0    -0.939  -1.086     0.038 -1.068
        1    -1.666  -1.433     0.123 -1.479
        """
        return tidying.augment(self)
