"""What a fit says of its variances, and what refits say of all of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixmeta_jax.fits import variances
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.many import bootstrap_inference as bootstraps
from mixmeta_jax.many.bootstrap_inference import BootstrapInference
from mixmeta_jax.many.boundary import boundary_frame


class VarianceMethods(FittedModel):
    """The methods of `Fit` on variances."""

    def varcomp(
        self,
        ci: str | None = "profile",
        conf_level: float = 0.95,
        test: bool = False,
        n: int = 999,
        seed: int = 0,
    ) -> pd.DataFrame:
        frame = variances.interval_frame(self, ci, conf_level)
        if ci == "bootstrap":
            found = self.bootstrap_inference(n, seed, conf_level=conf_level).varcomp()
            frame[["se", "lower", "upper"]] = found[["se", "lower", "upper"]]
        if test:
            variances.check_likelihood(self, "varcomp(test=True)")
            tests = boundary_frame(self, n, seed)
            names = ["statistic", "pvalue", "reference", "mc_error"]
            frame[names] = tests[names].to_numpy()
        return frame

    def profile(
        self, parameters: Any = None, values: Any = None, n: int = 21, conf_level: float = 0.99
    ) -> pd.DataFrame:
        return variances.profile_frame(self, parameters, values, n, conf_level)

    def bootstrap_inference(
        self,
        n: int = 999,
        seed: int = 0,
        kind: str = "parametric",
        conf_level: float = 0.95,
        first: int = 0,
        progress: bool = True,
    ) -> BootstrapInference:
        return bootstraps.bootstrap_inference(self, n, seed, kind, conf_level, first, progress)
