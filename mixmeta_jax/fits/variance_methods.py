"""What a fit says of its variances."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixmeta_jax.fits import variances
from mixmeta_jax.fits.fitted_model import FittedModel


class VarianceMethods(FittedModel):
    """The methods of `Fit` on variances."""

    def varcomp(
        self, ci: str | None = "profile", conf_level: float = 0.95
    ) -> pd.DataFrame:
        return variances.interval_frame(self, ci, conf_level)

    def profile(self, parameters: Any = None, values: Any = None, n: int = 21, conf_level: float = 0.99) -> pd.DataFrame:
        return variances.profile_frame(self, parameters, values, n, conf_level)
