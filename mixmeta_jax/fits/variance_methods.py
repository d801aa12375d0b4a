"""What a fit says of its variances, and what refits say of all of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import (
    BootstrapKind,
    ExplainedInterval,
    ShareForm,
    ShareInterval,
    VarianceInterval,
)
from mixmeta_jax.fits import variances
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.simulation import check_draws
from mixmeta_jax.many import bootstrap_inference as bootstraps
from mixmeta_jax.many import heterogeneity
from mixmeta_jax.many.bootstrap_inference import BootstrapInference
from mixmeta_jax.many.boundary import boundary_frame


class VarianceMethods(FittedModel):
    """The methods of `Fit` on variances, and its bootstrap."""

    def varcomp(
        self,
        ci: VarianceInterval = "profile",
        conf_level: float = 0.95,
        test: bool = False,
        n: int = 999,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Variances and correlations of the random effects, with intervals and tests.

        Parameters
        ----------
        ci
            "profile": where twice the log-likelihood of the fit, with the parameter held and all
            others estimated, falls by χ²_1; "delta": symmetric for the logarithm of a variance and
            for Fisher's z of a correlation, from the observed information; "qprofile": by the
            generalised Q (Viechtbauer 2007), for one outcome and one level with one variance;
            "bootstrap": percentiles of ``n`` refits; None for none.
        conf_level
            Level of the intervals.
        test
            Whether to add tests of each parameter at zero: by likelihood ratio against the mixture
            of χ² where one is known (one variance, with the covariances that vanish beside it),
            else against ``n`` data sets drawn without it; these too where other parameters are at
            their bound without it, since the mixture is not exact then. ``reference`` says which.
        n, seed
            Draws of a bootstrap, and their seed.

        Returns
        -------
        DataFrame
            One row per parameter that is not held, levels outer first: ``level, estimate, se,
            lower, upper, note``, and with ``test`` also ``statistic, pvalue, reference, mc_error``
            (the Monte Carlo error of a bootstrapped p-value). Its index names them as ``hold`` of
            `mixmeta` does. ``note`` says where an estimate is at a bound, and where an interval is
            open at one, and where a parameter cannot be held beside what the fit holds already, so
            that it has no profile. ``se`` is NaN at a bound; those of the others hold a correlation
            of ±1, or the rank of a singular Ψ.

        Raises
        ------
        InputError
            For an unknown ``ci``; a level outside (0, 1); a fit without variances, without a
            likelihood where one is needed, or of a structure of one's own; "qprofile" for a model
            that it is not for.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.varcomp()[["estimate", "lower", "upper"]].round(3)
                        estimate  lower  upper
        parameter
        var(Intercept)     0.338  0.126  1.033
        """
        gates.flag(test, "test")
        check_draws(n, seed, 0, self.design.y.size, "n")
        frame = variances.interval_frame(self, ci, conf_level)
        if ci == "bootstrap":
            found = self.bootstrap_inference(n, seed, conf_level=conf_level).varcomp()
            frame[["se", "lower", "upper"]] = found[["se", "lower", "upper"]]
        if test:
            variances.check_likelihood(self, "varcomp(test=True)")
            tests = boundary_frame(self, n, seed)
            for name in ("statistic", "pvalue", "reference", "mc_error"):
                frame[name] = tests[name].to_numpy()
        return frame

    def profile(
        self, parameters: Any = None, values: Any = None, n: int = 21, conf_level: float = 0.99
    ) -> pd.DataFrame:
        """The profile likelihood of variances and correlations.

        Parameters
        ----------
        parameters
            Name of a parameter as in `varcomp`, (level, name) where several levels have it, or a
            sequence of these; None for all that have a value, and can be held beside what the fit
            holds.
        values
            Where to evaluate the profile of one parameter; None for ``n`` values over its profile
            interval, evenly in standard deviations or correlations, and its estimate.
        n, conf_level
            Their number, and the level of that interval.

        Returns
        -------
        DataFrame
            Columns ``level, parameter, value, loglik, deviance``: the highest log-likelihood with
            the parameter at the value, and by how much twice that is below the fit's; NaN where no
            covariance matrix has the value beside what the fit holds.

        Raises
        ------
        InputError
            For a parameter that is not there, or a value outside its range.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.profile(values=[0.0, 0.3]).round(3)
          level       parameter  value  loglik  deviance
        0  unit  var(Intercept)    0.0 -76.991   128.831
        1  unit  var(Intercept)    0.3 -12.601     0.051
        """
        return variances.profile_frame(self, parameters, values, n, conf_level)

    def bootstrap_inference(
        self,
        n: int = 999,
        seed: int = 0,
        kind: BootstrapKind = "parametric",
        conf_level: float = 0.95,
        first: int = 0,
        progress: bool = True,
        cluster: Any = None,
    ) -> BootstrapInference:
        """Inference from refits to data drawn from the fit.

        Parameters
        ----------
        n
            Number of data sets, at least 19.
        seed, first
            Seed, and number of the first data set; data set b depends on (seed, b) alone.
        kind
            "parametric" draws outcomes from the fitted model: tests and intervals of coefficients
            and contrasts by the bootstrap-t, intervals of variances and correlations, prediction
            intervals, likelihood-ratio tests of smaller models with the Bartlett correction, tests
            of variances at zero. "wild" turns the residuals of the fit that a hypothesis restricts
            by random weights, the same for all of an outer group (Rademacher's ±1; Webb's six
            values below 10 groups), and tests coefficients and contrasts with cluster-robust errors
            (Joshi, Pustejovsky & Beretvas 2022).
        conf_level
            Level of the intervals.
        progress
            Whether long work shows a bar.
        cluster
            Clusters of the wild bootstrap, as of `Fit.robust`: unions of outer groups, which are
            the default.

        Returns
        -------
        BootstrapInference
            Whose attributes and methods give the tables; every p-value with its Monte Carlo error.

        Raises
        ------
        InputError
            For an unknown kind, fewer draws, or a fit that has not converged.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> data = mx.load_dataset("bcg")
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=data)
        >>> fit.bootstrap_inference(n=199, seed=1).coefficients.columns.tolist()
        ['estimate', 'se', 'statistic', 'pvalue', 'mc_error', 'lower', 'upper']
        """
        return bootstraps.bootstrap_inference(
            self, n, seed, kind, conf_level, first, progress, cluster
        )

    def i2(
        self,
        form: ShareForm = "variance",
        ci: ShareInterval = "delta",
        conf_level: float = 0.95,
        n: int = 999,
        seed: int = 0,
    ) -> pd.DataFrame:
        """I² in percent, with its error and interval.

        Parameters
        ----------
        form
            "variance": of each level and outcome, σ² / (Σ σ² + s²) with the variances of all levels
            and the typical error variance s² = (n − p) / tr(P) of the outcome, P that of the
            fixed-effects model (Higgins & Thompson 2002, extended); of random slopes σ² is the mean
            of zᵀΨz over the units; "total" is of all levels together. "ratio": 1 − 1/R² with R² =
            (|V| / |V_F|)^(1/p), the covariances of the coefficients with and without random effects
            (Jackson, White & Riley 2012), of all coefficients and of each outcome's.
        ci
            "delta": symmetric for the logit, from the observed information, NaN where the variance
            is zero, of which its derivatives say nothing; "bootstrap": percentiles of ``n`` refits
            to data drawn from the fit, there too; None for none.
        conf_level, n, seed
            Level of the intervals; draws, and their seed.

        Returns
        -------
        DataFrame
            ``estimate, se, lower, upper``, by (level, outcome) or by outcome.

        Raises
        ------
        InputError
            For an unknown form or way; a fit without random effects, or with a singular S.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> data = mx.load_dataset("school")
        >>> fit = mx.mixmeta("effect", S="var", data=data, random="~ 1 | district/study")
        >>> fit.i2(ci=None)["estimate"].round(1).tolist()
        [63.3, 31.9, 95.2]
        """
        return heterogeneity.i2_frame(self, form, ci, conf_level, n, seed)

    def h2(
        self,
        form: ShareForm = "variance",
        ci: ShareInterval = "delta",
        conf_level: float = 0.95,
        n: int = 999,
        seed: int = 0,
    ) -> pd.DataFrame:
        """H² = 1/(1 − I²) of all levels together, by outcome; parameters as in `i2`.

        Returns
        -------
        DataFrame
            ``estimate, se, lower, upper``, one row per outcome; for "ratio", where it is R², also
            of all coefficients.

        Raises
        ------
        InputError
            As `i2`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.h2().round(2)
                 estimate    se  lower  upper
        outcome
        logor       12.61  6.17    5.1  33.88
        """
        return heterogeneity.h2_frame(self, form, ci, conf_level, n, seed)

    def r2(
        self,
        smaller: FittedModel,
        ci: ExplainedInterval = None,
        conf_level: float = 0.95,
        n: int = 999,
        seed: int = 0,
    ) -> pd.DataFrame:
        """R² in percent: what the predictors of a smaller fit leave of each level's variance.

        1 − σ²/σ²_smaller, by level and outcome and of all levels together; below zero where the
        variance is larger with more predictors.

        Parameters
        ----------
        smaller
            Fit of the same data with fewer fixed effects and the same levels.
        ci
            "bootstrap": percentiles of ``n`` refits of both models to data drawn from this fit;
            None for none. There is no delta interval: the variances of two models of the same data
            depend on one another in a way that neither model's information knows.
        conf_level, n, seed
            Level of the intervals; draws, and their seed.

        Returns
        -------
        DataFrame
            ``estimate, se, lower, upper`` by (level, outcome); NaN where the smaller fit has no
            variance to explain.

        Raises
        ------
        InputError
            For fits of different data or levels, or that are not nested.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> float(fit.r2(fit.update(formula="logor ~ 1"))["estimate"].iloc[0].round(2))
        85.07
        """
        return heterogeneity.r2_frame(self, smaller, ci, conf_level, n, seed)
