"""From a formula and a data frame to a fitted model: `mixmeta` and its result, `Fit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.control import Control, as_control
from mixmeta_jax.covariance.catalogue import resolve_structures
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.estimation.estimator import fit_design
from mixmeta_jax.fits import coefficients, predictions
from mixmeta_jax.fits.arguments import (
    LIKELIHOOD_METHODS,
    by_position,
    check_method,
)
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.moment_fit import fit_moments
from mixmeta_jax.fits.simulation import simulate_fitted
from mixmeta_jax.report import tidying
from mixmeta_jax.report.results import WaldTest
from mixmeta_jax.report.summary import SummaryResult, model_title, summarise
from mixmeta_jax.table.frame import build_frame
from mixmeta_jax.table.frame_design import design_from_frame
from mixmeta_jax.table.rules import count_faults, model_faults, raise_first


class Fit(FittedModel):
    """A fitted model, as `mixmeta` returns it; see `FittedModel` for its attributes."""

    def __repr__(self) -> str:
        title = model_title(self.frame.k, self.n_levels, self.method, self.frame.x_names)
        return f"<{title}: {self.formula}, method='{self.method}', {self.status.name}>"

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

    def predict(
        self,
        newdata: Any = None,
        se: bool = False,
        ci: bool = False,
        pi: bool = False,
        vcov: bool = False,
        conf_level: float = 0.95,
        level: int | str | None = None,
        reference: Any = None,
    ) -> pd.DataFrame | tuple[pd.DataFrame, np.ndarray]:
        """Expected outcomes of the fitted units, or of new ones.

        Parameters
        ----------
        newdata
            Frame with the predictors; None for the fitted units. The offset is added where it was
            given by column names and ``newdata`` has them.
        se, ci, pi
            Whether to add the standard error and confidence interval of the expectation, and the
            prediction interval of the outcome of a new group.
        vcov
            Whether to return the covariances of the expectations too.
        conf_level
            Level of the intervals.
        level
            Innermost level whose random effects widen the prediction interval; default all.
        reference
            Row that every prediction is contrasted with: a mapping or one-row frame of predictors,
            or a label in the index of the predicted rows.

        Returns
        -------
        DataFrame
            Columns ``fit, se, ci_lower, ci_upper, pi_lower, pi_upper`` as asked for; for k > 1
            (outcome, statistic), or the outcomes where only ``fit`` is asked for.
        ndarray
            With ``vcov``: shape (n, k, k).

        Raises
        ------
        InputError
            For a predictor that is not in ``newdata``, a category the fit has not seen, an unknown
            level or an ambiguous ``reference``.
        """
        return predictions.predict(self, newdata, se, ci, pi, vcov, conf_level, level, reference)

    def blup(
        self,
        level: int | str | None = None,
        type: str = "outcome",
        se: bool = False,
        pi: bool = False,
        vcov: bool = False,
        conf_level: float = 0.95,
        se_method: str = "paper",
        newdata: Any = None,
        S: Any = None,
    ) -> pd.DataFrame | tuple[pd.DataFrame, np.ndarray]:
        """Best linear unbiased predictions of the outcomes of the units.

        Parameters
        ----------
        level
            Innermost level whose random effects are added, by number (0 adds none) or name; default
            all. The marginal covariance counts every level in any case.
        type
            "outcome", or "residual" for the random part alone.
        se, pi
            Whether to add standard errors, and the intervals they give.
        vcov
            Whether to return the covariances too.
        conf_level
            Level of the intervals.
        se_method
            "paper" for equation 6 of the paper; "exact" to count the covariance of β̂ and the
            random effects.
        newdata, S
            Outcomes, predictors and groups of new groups, with their error covariances.

        Returns
        -------
        DataFrame
            Columns ``blup, se, pi_lower, pi_upper`` as asked for, arranged as in `predict`.
        ndarray
            With ``vcov``: shape (n, k, k).

        Raises
        ------
        InputError
            For an unknown level, ``type`` or ``se_method``; for new groups without S, a predictor,
            a group or the offset.
        """
        return predictions.blup(self, level, type, se, pi, vcov, conf_level, se_method, newdata, S)

    def ranef(self, level: int | str | None = None, se: bool = False) -> pd.DataFrame:
        """Random effects of one level, one row per group.

        Parameters
        ----------
        level
            Number from 1, or name; default the innermost level.
        se
            Whether to add standard errors, given the coefficients: columns ``ranef, se``, or
            (effect, statistic) for several effects.

        Raises
        ------
        InputError
            For an unknown level, or a fit without random effects.
        """
        return predictions.ranef(self, level, se)

    def simulate(self, nsim: int = 1, seed: int = 0, first: int = 0) -> np.ndarray:
        """Outcomes drawn from the fitted model, missing where the fitted ones are.

        Parameters
        ----------
        nsim
            Number of data sets.
        seed, first
            Seed, and number of the first data set; data set b depends on (seed, b) alone.

        Returns
        -------
        ndarray
            Shape (nsim, n, k), the offset included.
        """
        mean = self.fitted_array - self.frame.offset
        drawn = simulate_fitted(
            self.design, self.frame.within, mean, self.Psi_by_level, nsim, seed, first
        )
        return drawn + self.frame.offset

    def update(self, **changes: Any) -> Fit:
        """Refit with some of the arguments of `mixmeta` changed."""
        for name in changes:
            if name not in self.arguments:
                raise InputError(
                    f"mixmeta has no argument '{name}': choose among {', '.join(self.arguments)}."
                )
        return mixmeta(**{**self.arguments, **changes})

    def tidy(self, conf_level: float = 0.95) -> pd.DataFrame:
        """One row per coefficient: ``outcome, term, estimate, se, z, pvalue, lower, upper``."""
        return tidying.tidy(self, conf_level)

    def glance(self) -> pd.DataFrame:
        """One row of figures on the fit: counts, criteria, heterogeneity, status."""
        return tidying.glance(self)

    def augment(self) -> pd.DataFrame:
        """One row per unit and outcome: ``outcome, observed, fitted, residual, blup``."""
        return tidying.augment(self)


def mixmeta(
    formula: Any,
    S: Any = None,
    data: Any = None,
    random: Any = None,
    method: str = "reml",
    bscov: Any = "unstr",
    Psi_fix: Any = None,
    rho: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
    control: Control | Mapping[str, Any] | None = None,
) -> Fit:
    """Fit a mixed model for meta-analysis, with known error covariances.

    The model is y_i = X_i β + Z_i b_i + ε_i with b_i ~ N(0, Ψ_i) and ε_i ~ N(0, S_i), S_i known
    (Sera et al. 2019, equation 1).

    Parameters
    ----------
    formula
        Fixed part, as ``"logor ~ ablat"``; several outcomes as ``"PD + AL ~ pubyear"`` or
        ``"cbind(PD, AL) ~ pubyear"``; ``"logor"`` alone has an intercept only. Or the n outcomes
        themselves, an array or frame of shape (n,) or (n, k).
    S
        Error covariances: column names or data of n variances for k = 1; n × k variances;
        n × k(k+1)/2 lower triangles by column; n × k × k matrices; a list of n matrices; or
        {label of the outer group: matrix} for blocks that span rows.
    data
        Data frame with one row per unit.
    random
        Random part: ``"~ 1 | district/study"``, ``["~ time | study"]`` or
        ``{"district": "~ 1", "study": "~ 1"}``, outer level first; None for one group per unit.
    method
        "fixed", "ml", "reml", "mm" or "vc"; for k = 1 also "dl", "he", "hs", "sj", "pm", "eb".
    bscov
        Covariance structure of the random effects: a name or instance, one per level outer first,
        or {level: name or instance}.
    Psi_fix
        Matrix, or {level: matrix}, for the structures "prop", "cor" and "fixed".
    rho
        Correlations within units, where S holds variances only.
    offset
        Column names or data of shape (n,) or (n, k), subtracted from the outcomes and added back
        in fitted values and predictions.
    subset
        Rows to use.
    na_action
        "omit" rows with missing values; "exclude" them and fill their outputs with NaN; or "raise".
    control
        `Control`, or a dict of its fields.

    Returns
    -------
    Fit

    Raises
    ------
    InputError
        Where the data cannot be read or the model cannot be fitted to them; the message names the
        row, study, column or level.
    """
    arguments = dict(locals())
    # The checks take products and factors of matrices too: see `estimation.blas`.
    with one_thread():
        return _fitted(arguments)


def _fitted(arguments: dict[str, Any]) -> Fit:
    """The fit, from the arguments of `mixmeta`."""
    method = arguments["method"]
    settings = as_control(arguments["control"])
    read = ("formula", "S", "data", "random", "rho", "offset", "subset", "na_action")
    frame = build_frame(*(arguments[name] for name in read))
    check_method(method, frame.k)
    seen = np.isfinite(frame.y)[None]
    raise_first(count_faults(method, seen, frame.p))
    names = [level.name for level in frame.levels]
    dims = [frame.k * level.Z.shape[1] for level in frame.levels]
    given = by_position(arguments["Psi_fix"], frame, "Psi_fix")
    structures = resolve_structures(arguments["bscov"], given, names, dims)
    settings = replace(settings, start=by_position(settings.start, frame, "control: start"))
    fitted = structures if method != "fixed" else ()
    raise_first(model_faults(method, frame.model(fitted), frame.within, seen))
    design = design_from_frame(frame, structures)
    if method in LIKELIHOOD_METHODS:
        estimate = fit_design(design, method, settings, names)
    else:
        estimate = fit_moments(frame, design, method, settings)
    return Fit(frame, design, estimate, method, arguments)
