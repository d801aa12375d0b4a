"""What a fit says of factors and rows: marginal means and contrasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixmeta_jax.choices import (
    Adjustment,
    DegreesOfT,
    InformationKind,
    MeanWeights,
    ReferenceName,
    Transform,
)
from mixmeta_jax.fits import marginal_means
from mixmeta_jax.fits.coefficients import reference_of
from mixmeta_jax.fits.fitted_model import FittedModel


class MeanMethods(FittedModel):
    """The methods of `Fit` on factor levels and contrasts."""

    def means(
        self,
        factors: Any,
        at: Mapping[str, Any] | None = None,
        weights: MeanWeights = "equal",
        conf_level: float = 0.95,
        simultaneous: Adjustment = None,
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
        transform: Transform = None,
    ) -> pd.DataFrame:
        """Marginal means: the expected outcomes at each level of a factor.

        Parameters
        ----------
        factors
            Name of a column that the fixed part takes for categories, or one of truth values, or
            several of these for their cells.
        at
            Values of other predictors: numbers, or levels of factors.
        weights
            What the other predictors are. "equal": numbers at their means over the fitted rows, as
            columns of the data before any transform, and the levels of other factors with equal
            weights. "observed": as they are in the fitted rows, whose predictions are averaged.
        conf_level
            Level of the intervals.
        simultaneous
            None for each interval by itself; "bonferroni", "goldstein" (Scheffé's) or "max-t" for
            all levels together, each outcome by itself.
        test, df, adhoc, information
            Reference distribution; see `reference`.
        transform
            "exp", "expit" or "tanh": of means and intervals, never of the errors.

        Returns
        -------
        DataFrame
            One row per level, ``mean, se, lower, upper``, with ``df`` for tests by t; for k > 1
            (outcome, statistic). An offset counts as zero.

        Raises
        ------
        InputError
            For what is not a factor, or not a value of a predictor; a fit without a formula; a test
            that is not defined for the model.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> bcg = mx.load_dataset("bcg")
        >>> fit = mx.mixmeta("logor ~ alloc + ablat", S="logorvar", data=bcg)
        >>> fit.means("alloc", test="knha").round(3)["mean"].tolist()
        [-0.724, -0.904, -0.578]
        """
        marginal_means.check_table(conf_level, simultaneous, transform)
        reference = reference_of(self, test, df, adhoc, information)
        own = marginal_means.factor_means(self, factors, at, weights)
        return marginal_means.combination_frame(
            self, own, reference, conf_level, simultaneous, transform, "mean"
        )

    def contrasts(
        self,
        of: Any,
        against: Any = None,
        at: Mapping[str, Any] | None = None,
        weights: MeanWeights = "equal",
        conf_level: float = 0.95,
        simultaneous: Adjustment = None,
        test: ReferenceName = "z",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
        transform: Transform = None,
    ) -> pd.DataFrame:
        """Differences of the marginal means of factor levels, or of the expectations of rows.

        Parameters
        ----------
        of
            A factor or several, as in `means`; or rows by their predictors: a frame, or a mapping
            for one.
        against
            None for all pairs, the later less the earlier; a level, or the label of a row, that all
            others are contrasted with; or a row, by a mapping or a frame of one.
        at, weights
            As in `means`.
        conf_level, simultaneous
            Level of the intervals, and adjustment of intervals and p-values: None, "bonferroni",
            "goldstein" or "max-t", over the contrasts of an outcome.
        test, df, adhoc, information
            Reference distribution; see `reference`.
        transform
            "exp" for ratios; of estimates and intervals, never of the errors.

        Returns
        -------
        DataFrame
            One row per contrast, labelled ``of`` and ``against``: ``estimate, se, z, pvalue, lower,
            upper``, or ``t, df`` for tests by t; for k > 1 (outcome, statistic).

        Raises
        ------
        InputError
            As `means`, and for a label that is not there, or a row without a predictor.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> bcg = mx.load_dataset("bcg")
        >>> fit = mx.mixmeta("logor ~ alloc + ablat", S="logorvar", data=bcg)
        >>> fit.contrasts("alloc", against="alternate").round(3).estimate.tolist()
        [-0.18, 0.146]
        >>> north = {"alloc": "random", "ablat": 40}
        >>> fit.contrasts(north, {"alloc": "random", "ablat": 10}).round(3).estimate.item()
        -0.883
        """
        marginal_means.check_table(conf_level, simultaneous, transform)
        reference = reference_of(self, test, df, adhoc, information)
        named = isinstance(of, str) or (
            isinstance(of, (list, tuple)) and all(isinstance(name, str) for name in of)
        )
        if named:
            own = marginal_means.factor_means(self, of, at, weights, "of")
        else:
            own = marginal_means.row_combinations(self, of, "of")
        pairs = marginal_means.contrasted(self, own, against)
        return marginal_means.combination_frame(
            self, pairs, reference, conf_level, simultaneous, transform, "estimate"
        )
