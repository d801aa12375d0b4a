"""A fitted model: its data, its estimates, and what follows from them without a choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.design.design import Design
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.estimation.estimator import SingleEstimate
from mixmeta_jax.estimation.start import error_variances
from mixmeta_jax.fits.kept import frozen, kept_arguments, with_later_columns
from mixmeta_jax.inference.comparison import InformationCriteria, information_criteria
from mixmeta_jax.inference.fixed_effects import FixedFit, fixed_effects
from mixmeta_jax.inference.heterogeneity import QTable, q_table
from mixmeta_jax.inference.prediction import predicted
from mixmeta_jax.inference.residuals import leverages, marginal_variances, standardised
from mixmeta_jax.report import tables
from mixmeta_jax.report.results import DegreesOfFreedom
from mixmeta_jax.status import Status
from mixmeta_jax.table.columns import existing_columns
from mixmeta_jax.table.frame import ModelFrame
from mixmeta_jax.table.magnitudes import beyond_precision
from mixmeta_jax.table.rows import as_pandas, chosen_rows


@dataclass(frozen=True, eq=False, repr=False)
class FittedModel:
    """The data, the estimates and their attributes.

    Attributes
    ----------
    frame, design
        The data, with names and as arrays, a row per unit.
    estimate
        β̂, its covariance, Ψ̂ and how they were reached, as arrays.
    method
        Estimation method.
    origin
        Of which first stage the outcomes are, where `pool` made the fit of one; otherwise None.
    """

    frame: ModelFrame
    design: Design
    estimate: SingleEstimate
    method: str
    # What `mixmeta` was called with, kept as it was then, and the data as they were given, in which
    # there may be later columns.
    _arguments: dict[str, Any]
    _given: Any = None
    origin: Any = None

    # The model

    @property
    def formula(self) -> str:
        """Fixed part of the model."""
        formula = self.frame.formula
        if formula is not None:
            return formula if "~" in formula else f"{formula} ~ 1"
        terms = ["1" if name == "(Intercept)" else name for name in self.frame.x_names]
        return f"{' + '.join(self.frame.outcome_names)} ~ {' + '.join(terms)}"

    @property
    def random(self) -> str | list | None:
        """Random part of the model; None for one group per unit."""
        return self.frame.random

    @property
    def arguments(self) -> dict[str, Any]:
        """What `mixmeta` was called with, as it was then."""
        return kept_arguments(self._arguments)

    @property
    def data(self) -> Any:
        """The data as they were fitted, with the columns that have been added since; or None."""
        return with_later_columns(self.arguments["data"], self._given)

    def columns_at_units(self, names: Sequence[str], where: str) -> pd.DataFrame:
        """Columns of the data at the fitted units, by position, since labels may repeat.

        Raises
        ------
        InputError
            For a column that is not there, named in ``where``, or a fit that was given no data.
        """
        if self.data is None:
            raise InputError(
                f"The fit has no data to take column {shown(names[0])!r} from, named in {where}: "
                "give mixmeta data=, or values."
            )
        data = as_pandas(self.data)
        existing_columns(names, data, where)
        chosen = chosen_rows(self._arguments["subset"], data)
        return data.loc[:, list(names)][chosen][self.frame.kept]

    @property
    def dropped(self) -> pd.DataFrame:
        """Rows that were left out for missing values: ``row``, the label, and ``reason``.

        Those that ``subset`` leaves out are not among them.
        """
        frame = self.frame
        rows = pd.Series(frame.full_index[~frame.kept].tolist(), dtype=object).infer_objects()
        return pd.DataFrame({"row": rows, "reason": pd.Series(frame.reasons, dtype=object)})

    @property
    def S(self) -> np.ndarray | tuple[np.ndarray, ...]:
        """Known error covariances: shape (n, k, k), or one matrix per block that spans units.

        Rows and columns of missing outcomes hold 0. The arrays are read-only.
        """
        within = self.frame.within
        if within.unit is not None:
            return within.unit
        return tuple(matrix for _, matrix in within.blocks or ())

    @property
    def n_levels(self) -> int:
        """Number of levels of random effects; 0 for ``method="fixed"``."""
        return 0 if self.method == "fixed" else len(self.frame.levels)

    @property
    def level_names(self) -> list[str]:
        """Names of the levels of random effects, outer first."""
        return [level.name for level in self.frame.levels[: self.n_levels]]

    @property
    def bscov(self) -> str | dict[str, str] | None:
        """Short name of the covariance structure; by level where there are several."""
        return self._by_level([s.name for s in self.design.structures[: self.n_levels]])

    # The estimates

    # What is returned is the caller's own: changing it changes no fit.

    @property
    def coef(self) -> pd.Series:
        """Fixed effects β̂, predictor-major, shape (p·k,)."""
        return self._coef.copy()

    @cached_property
    def _coef(self) -> pd.Series:
        return pd.Series(self.estimate.beta, index=self.frame.coef_names(), name="coef")

    @property
    def vcov(self) -> pd.DataFrame:
        """Covariance of the fixed effects, shape (p·k, p·k)."""
        return tables.square_frame(self.estimate.vcov.copy(), self.frame.coef_names())

    @property
    def Psi_by_level(self) -> tuple[np.ndarray, ...]:
        """Ψ of each level as an array, outer first, shape (k·q, k·q) each."""
        Psi = self.estimate.Psi
        return () if Psi is None else tuple(Psi)

    @property
    def Psi(self) -> pd.DataFrame | dict[str, pd.DataFrame] | None:
        """Covariance of the random effects; by level where there are several."""
        frames = [
            tables.square_frame(matrix.copy(), self.frame.random_names(level))
            for level, matrix in enumerate(self.Psi_by_level)
        ]
        return self._by_level(frames)

    def _by_level(self, values: list) -> Any:
        if len(values) > 1:
            return dict(zip(self.level_names, values, strict=True))
        return values[0] if values else None

    # How they were reached and how good they are

    @property
    def loglik(self) -> float:
        """Log-likelihood, restricted under REML; NaN for methods without one."""
        loglik = self.estimate.loglik
        return float("nan") if loglik is None else float(loglik)

    @cached_property
    def df(self) -> DegreesOfFreedom:
        """Counts of observed outcomes and parameters."""
        nall, fixed = int(np.isfinite(self.frame.y).sum()), len(self.estimate.beta)
        random = sum(self.design.n_parameters[: self.n_levels])
        return DegreesOfFreedom(nall, nall - fixed * (self.method == "reml"), fixed, random)

    @cached_property
    def _criteria(self) -> InformationCriteria:
        return information_criteria(self.loglik, self.df.total, self.df.nobs)

    @property
    def aic(self) -> float:
        """Akaike's criterion, −2ℓ + 2 df."""
        return self._criteria.aic

    @property
    def bic(self) -> float:
        """Bayesian criterion, −2ℓ + df log nobs."""
        return self._criteria.bic

    @property
    def aicc(self) -> float:
        """AIC corrected for few observations; NaN unless nobs > df + 1."""
        return self._criteria.aicc

    @property
    def status(self) -> Status:
        """How the estimation ended."""
        return Status(int(self.estimate.status))

    @property
    def reason(self) -> str:
        """Why the likelihood is not finite, in words; empty where it is."""
        if self.status is not Status.NOT_FINITE:
            return ""
        frame, variances = self.frame, error_variances(self.design)
        seen = np.asarray(variances)[np.isfinite(frame.y)]
        return beyond_precision(frame.y, frame.X, seen, frame.outcome_names, frame.x_names)

    @property
    def converged(self) -> bool:
        """Whether the estimate is a maximum, inside or at the boundary."""
        return self.status.converged

    @property
    def n_iter(self) -> int:
        """Number of iterations."""
        return int(self.estimate.n_iter)

    @property
    def gradient_norm(self) -> float:
        """Size of the gradient at the estimate, free of the data's scale."""
        return float(self.estimate.gradient_norm)

    # Values per unit

    @property
    def index(self) -> pd.Index:
        """Index of outputs per unit: the fitted rows, or all of them under "exclude"."""
        return self.frame.full_index if self._pads else self.frame.index

    @property
    def _pads(self) -> bool:
        return self._arguments["na_action"] == "exclude"

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values per fitted unit, shape (n, ...), in the rows of `index`."""
        return tables.padded(values, self.frame.kept) if self._pads else values

    @cached_property
    def fitted_array(self) -> np.ndarray:
        """X β̂ plus the offset, shape (n, k)."""
        values = predicted(self.frame.X, self.estimate.beta, self.frame.k) + self.frame.offset
        return frozen(values)

    @property
    def fitted(self) -> pd.Series | pd.DataFrame:
        """Fitted outcomes X β̂ plus the offset, also where the outcome is missing."""
        return self._per_unit(self.fitted_array)

    @property
    def residuals(self) -> pd.Series | pd.DataFrame:
        """Outcomes less their fitted values; NaN where the outcome is missing."""
        return self._per_unit(self.frame.y - self.fitted_array)

    def _per_unit(self, values: np.ndarray) -> pd.Series | pd.DataFrame:
        own = self.spread(values).copy()
        return tables.outcome_values(own, self.frame.outcome_names, self.index)

    @cached_property
    def marginal_variances(self) -> np.ndarray:
        """Σ_jj of every outcome, shape (n, k); without S where the outcome is missing."""
        return frozen(marginal_variances(self.design, self.Psi_by_level))

    @cached_property
    def standardised_residuals(self) -> np.ndarray:
        """r / √(Σ − XVXᵀ)_jj, shape (n, k), NaN where the outcome is missing."""
        raw = self.frame.y - self.fitted_array
        return frozen(standardised(self.design, self.Psi_by_level, raw, self.estimate.vcov))

    @cached_property
    def leverages(self) -> np.ndarray:
        """Diagonal of XVXᵀΣ⁻¹, shape (n, k), NaN where the outcome is missing."""
        return frozen(leverages(self.design, self.Psi_by_level, self.estimate.vcov))

    # Heterogeneity

    @cached_property
    def fixed_fit(self) -> FixedFit:
        """The fixed-effects fit of the same data."""
        return frozen(fixed_effects(self.design))

    @cached_property
    def heterogeneity(self) -> QTable:
        """Q and I² overall and per outcome; NaN where S is singular, which Q divides by."""
        if self.frame.within.singular:
            counts = np.isfinite(self.frame.y).sum(0)
            df = np.append(counts.sum(), counts) - self.frame.p * np.append(self.frame.k, counts**0)
            none = np.full(len(df), np.nan)
            return frozen(QTable(none, df, none, none))
        fixed = self.fixed_fit
        variances = error_variances(self.design)
        return frozen(q_table(fixed.Q, fixed.residuals, variances, self.frame.p))

    def qtest(self) -> pd.DataFrame:
        """Cochran's Q test and I² in percent, overall and per outcome: ``Q, df, pvalue, I2``.

        Overall, Q is the residual sum of squares of the fixed-effects model with the full S; per
        outcome it is the sum of that model's squared residuals over their error variances.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.qtest().round(2)
                      Q  df  pvalue     I2
        overall  163.16  12     0.0  92.65
        logor    163.16  12     0.0  92.65
        """
        index = ["overall", *self.frame.outcome_names]
        return pd.DataFrame(self.heterogeneity._asdict(), index=index)

    def level_number(self, level: int | str | None) -> int:
        """How many levels, outer first, ``level`` means: 0 to L, or a level's name; None is L."""
        if level is None:
            return self.n_levels
        if isinstance(level, str) and level in self.level_names:
            return self.level_names.index(level) + 1
        try:
            number = gates.whole(level, "level")
        except InputError:
            number = self.n_levels + 1
        if number <= self.n_levels:
            return number
        names = ", ".join(f"'{name}'" for name in self.level_names) or "none"
        raise InputError(
            f"level must be a level of the model, not {gates.described(level)}: give a number from "
            f"0 to {self.n_levels}, or a name (there are {names})."
        )


def checked_fit(value: Any, what: str = "fit") -> Any:
    """A fit, as `mixmeta` returns it."""
    return gates.instance(value, FittedModel, what, "a fit, as mixmeta returns it")
