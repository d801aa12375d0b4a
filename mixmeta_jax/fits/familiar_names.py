"""The attributes of a fit by the names that users of statsmodels and R have for them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.coefficient_methods import CoefficientMethods


class FamiliarNames(CoefficientMethods):
    """Other names for what `Fit` has: nothing is computed here that is not there already."""

    @property
    def params(self) -> pd.Series:
        """The coefficients, `coef`."""
        return self.coef

    @property
    def bse(self) -> pd.Series:
        """Standard errors of the coefficients."""
        return pd.Series(np.sqrt(np.diag(self.vcov)), index=self.coef.index, name="se")

    @property
    def pvalues(self) -> pd.Series:
        """p-values of the coefficients by z tests, as in `summary`."""
        return self.summary().coefficients["pvalue"].loc[self.coef.index]

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Confidence intervals of level 1 − ``alpha``: ``lower, upper``; see `confint`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.conf_int(alpha=0.1).round(3)
                     lower  upper
        (Intercept) -0.052  0.654
        ablat       -0.042 -0.021
        """
        return self.confint(1 - gates.fraction(alpha, "alpha"))[["lower", "upper"]]

    @property
    def llf(self) -> float:
        """Log-likelihood, `loglik`."""
        return self.loglik

    @property
    def fittedvalues(self) -> pd.Series | pd.DataFrame:
        """Fitted outcomes, `fitted`."""
        return self.fitted

    @property
    def n_obs(self) -> int:
        """Number of observed outcomes."""
        return self.df.nall

    @property
    def tau2(self) -> float:
        """Variance of the random effects, of a model with one.

        Raises
        ------
        InputError
            For a model with none or several, which ``Psi`` has.
        """
        if self.n_levels != 1 or len(self.Psi_by_level[0]) != 1:
            raise InputError(
                "tau2 is the variance of a single random effect, and this model has "
                f"{'none' if not self.n_levels else 'several'}: see fit.Psi."
            )
        return float(self.Psi_by_level[0][0, 0])

    @property
    def model_matrix(self) -> pd.DataFrame:
        """Fixed-effects predictors of the fitted units, shape (n, p)."""
        return pd.DataFrame(self.frame.X.copy(), index=self.frame.index, columns=self.frame.x_names)
