"""What a fit predicts: outcomes, BLUPs, random effects."""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import (
    BlupKind,
    DegreesOfT,
    ErrorMethod,
    Generator,
    InformationKind,
    ReferenceName,
    RowKind,
    Transform,
)
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits import predictions
from mixmeta_jax.fits.arguments import BlupOptions, PredictOptions
from mixmeta_jax.fits.coefficients import reference_of
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.simulation import fresh_seed, simulate_fitted


class PredictionMethods(FittedModel):
    """The methods of `Fit` on predictions."""

    @overload
    def predict(
        self,
        newdata: Any = None,
        se: bool = False,
        ci: bool = False,
        pi: bool = False,
        vcov: Literal[False] = False,
        conf_level: float = 0.95,
        level: int | str | None = None,
        reference: Any = None,
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
        prob: float | None = None,
        transform: Transform = None,
    ) -> pd.DataFrame: ...

    @overload
    def predict(
        self, newdata: Any = None, *, vcov: Literal[True], **options: Unpack[PredictOptions]
    ) -> tuple[pd.DataFrame, np.ndarray]: ...

    @overload
    def predict(
        self, newdata: Any = None, *, vcov: Literal["joint"], **options: Unpack[PredictOptions]
    ) -> tuple[pd.DataFrame, pd.DataFrame]: ...

    @overload
    def predict(
        self,
        newdata: Any = None,
        se: bool = False,
        ci: bool = False,
        pi: bool = False,
        vcov: bool | Literal["joint"] = False,
        conf_level: float = 0.95,
        level: int | str | None = None,
        reference: Any = None,
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
        prob: float | None = None,
        transform: Transform = None,
    ) -> predictions.Result: ...

    def predict(
        self,
        newdata: Any = None,
        se: bool = False,
        ci: bool = False,
        pi: bool = False,
        vcov: bool | Literal["joint"] = False,
        conf_level: float = 0.95,
        level: int | str | None = None,
        reference: Any = None,
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
        prob: float | None = None,
        transform: Transform = None,
    ) -> predictions.Result:
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
            Whether to return the covariances of the expectations too: True for those of each row,
            "joint" for that of all rows and outcomes, which share the coefficients.
        conf_level
            Level of the intervals.
        level
            Innermost level whose random effects widen the prediction interval; default all.
        reference
            Row that every prediction is contrasted with: a mapping or one-row frame of predictors,
            or a label in the index of the predicted rows.
        test, df, adhoc, information
            Reference distribution of the intervals and of ``prob``, and the errors that go with it;
            see `reference`. The prediction interval of Higgins, Thompson and Spiegelhalter is
            ``test="t"`` with ``df`` the number of groups less two. Bootstrapped ones are those of
            ``fit.bootstrap_inference().predict()``.
        prob
            A cutoff on the scale of the outcomes, whatever ``transform``: adds the probability that
            the outcome of a new group, with the effects of the levels up to ``level``, exceeds it.
        transform
            "exp" for ratios from log ratios, "expit" or "tanh": of estimates and intervals, never
            of the errors.

        Returns
        -------
        DataFrame
            Columns ``fit, se, df, ci_lower, ci_upper, pi_lower, pi_upper, prob`` as asked for,
            ``df`` where an interval or probability is by t; for k > 1 (outcome, statistic), or the
            outcomes where only ``fit`` is asked for.
        ndarray or DataFrame
            With ``vcov``: shape (n, k, k); "joint": a frame of n·k rows and columns, labelled by
            row, and by outcome for k > 1.

        Raises
        ------
        InputError
            For a predictor that is not in ``newdata``, a category the fit has not seen, an unknown
            level or an ambiguous ``reference``; a ``test`` that is not defined for the model; an
            unknown ``transform``.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.predict(pi=True, test="t", df=11, transform="exp").round(3).iloc[0].tolist()
        [0.475, 11.0, 0.124, 1.818]
        >>> float(fit.predict(prob=0).prob.iloc[0].round(3))
        0.111
        """
        distribution = reference_of(self, test, df, adhoc, information)
        return predictions.predict(
            self,
            newdata,
            se,
            ci,
            pi,
            vcov,
            conf_level,
            level,
            reference,
            distribution,
            prob,
            transform,
        )

    @overload
    def blup(
        self,
        level: int | str | None = None,
        type: BlupKind = "outcome",
        se: bool = False,
        pi: bool = False,
        vcov: Literal[False] = False,
        conf_level: float = 0.95,
        se_method: ErrorMethod = "paper",
        newdata: Any = None,
        S: Any = None,
        by: RowKind = "unit",
        transform: Transform = None,
    ) -> pd.DataFrame: ...

    @overload
    def blup(
        self, level: int | str | None = None, *, vcov: Literal[True], **options: Unpack[BlupOptions]
    ) -> tuple[pd.DataFrame, np.ndarray]: ...

    @overload
    def blup(
        self,
        level: int | str | None = None,
        *,
        vcov: Literal["joint"],
        **options: Unpack[BlupOptions],
    ) -> tuple[pd.DataFrame, pd.DataFrame]: ...

    @overload
    def blup(
        self,
        level: int | str | None = None,
        type: BlupKind = "outcome",
        se: bool = False,
        pi: bool = False,
        vcov: bool | Literal["joint"] = False,
        conf_level: float = 0.95,
        se_method: ErrorMethod = "paper",
        newdata: Any = None,
        S: Any = None,
        by: RowKind = "unit",
        transform: Transform = None,
    ) -> predictions.Result: ...

    def blup(
        self,
        level: int | str | None = None,
        type: BlupKind = "outcome",
        se: bool = False,
        pi: bool = False,
        vcov: bool | Literal["joint"] = False,
        conf_level: float = 0.95,
        se_method: ErrorMethod = "paper",
        newdata: Any = None,
        S: Any = None,
        by: RowKind = "unit",
        transform: Transform = None,
    ) -> predictions.Result:
        """Best linear unbiased predictions of the outcomes of the units, or of groups.

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
            Whether to return the covariances too: True for those of each row, "joint" for that of
            all rows and outcomes, which share the coefficients and the groups they lie in.
        conf_level
            Level of the intervals.
        se_method
            "paper" for equation 6 of the paper; "exact" to count the covariance of β̂ and the
            random effects.
        newdata, S
            Outcomes, predictors and groups of new groups, with their error covariances.
        by
            "unit" for a row per unit; "group" for a row per group of ``level``: the mean over its
            units, which is the prediction at the means of their predictors, with the effects of the
            group and of those that it lies in.
        transform
            "exp", "expit" or "tanh": of predictions and intervals, never of the errors.

        Returns
        -------
        DataFrame
            Columns ``blup, se, pi_lower, pi_upper`` as asked for, arranged as in `predict`.
        ndarray or DataFrame
            With ``vcov``: shape (n, k, k); "joint": a frame of n·k rows and columns, labelled by
            row, and by outcome for k > 1.

        Raises
        ------
        InputError
            For an unknown level, ``type``, ``se_method``, ``by`` or ``transform``; for new groups
            without S, a predictor, a group or the offset.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.blup(pi=True).head(2).round(3)
            blup  pi_lower  pi_upper
        0 -0.839    -1.734     0.055
        1 -1.315    -2.107    -0.523
        >>> school = mx.load_dataset("school")
        >>> nested = mx.mixmeta("effect", S="var", data=school, random="~ 1 | district/study")
        >>> nested.blup("district", by="group", se=True, se_method="exact").head(2).round(3)
                   blup     se
        district
        11       -0.005  0.162
        12        0.100  0.103
        """
        return predictions.blup(
            self,
            level,
            type,
            se,
            pi,
            vcov,
            conf_level,
            se_method,
            newdata,
            S,
            by,
            transform,
        )

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

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> school = mx.load_dataset("school")
        >>> fit = mx.mixmeta("effect", S="var", data=school, random="~ 1 | district/study")
        >>> fit.ranef("district", se=True).head(2).round(3)
                  ranef     se
        district
        11       -0.190  0.158
        12       -0.085  0.102
        """
        return predictions.ranef(self, level, se)

    def simulate(
        self, nsim: int = 1, seed: int | None = None, first: int = 0, generator: Generator = "numpy"
    ) -> np.ndarray:
        """Outcomes drawn from the fitted model, missing where the fitted ones are.

        Parameters
        ----------
        nsim
            Number of data sets.
        seed, first
            Seed, and number of the first data set; data set b depends on (seed, b) alone. Without a
            seed every call draws anew.
        generator
            "numpy" or "jax", which has other numbers; see `mixmeta_sim`.

        Returns
        -------
        ndarray
            Shape (nsim, n, k), the offset included.

        Raises
        ------
        InputError
            For numbers that are none, a ``first`` without a seed, or more data than the memory has.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.simulate(100, seed=1).shape
        (100, 13, 1)
        >>> bool((fit.simulate(100, seed=1)[60:] == fit.simulate(40, seed=1, first=60)).all())
        True
        """
        if seed is None:
            if gates.whole(first, "first"):
                raise InputError("first numbers the data sets of a seed: give seed too.")
            seed = fresh_seed()
        mean = self.fitted_array - self.frame.offset
        drawn = simulate_fitted(
            self.design, self.frame.within, mean, self.Psi_by_level, nsim, seed, first, generator
        )
        return drawn + self.frame.offset
