"""What a fit predicts: outcomes, BLUPs, random effects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.errors import InputError
from mixmeta_jax.fits import predictions
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.simulation import fresh_seed, simulate_fitted


class PredictionMethods(FittedModel):
    """The methods of `Fit` on predictions."""

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

    def simulate(self, nsim: int = 1, seed: int | None = None, first: int = 0) -> np.ndarray:
        """Outcomes drawn from the fitted model, missing where the fitted ones are.

        Parameters
        ----------
        nsim
            Number of data sets.
        seed, first
            Seed, and number of the first data set; data set b depends on (seed, b) alone. Without a
            seed every call draws anew.

        Returns
        -------
        ndarray
            Shape (nsim, n, k), the offset included.

        Raises
        ------
        InputError
            For numbers that are none, a ``first`` without a seed, or more data than the memory has.
        """
        if seed is None:
            if first:
                raise InputError("first numbers the data sets of a seed: give seed too.")
            seed = fresh_seed()
        mean = self.fitted_array - self.frame.offset
        drawn = simulate_fitted(
            self.design, self.frame.within, mean, self.Psi_by_level, nsim, seed, first
        )
        return drawn + self.frame.offset
