"""Extended mixed-effects meta-analysis in JAX.

One linear mixed model with known error covariances covers standard, multivariate, network,
multilevel, dose-response and longitudinal meta-analysis (Sera, Armstrong, Blangiardo & Gasparrini,
Statistics in Medicine 2019). Start with `mixmeta`.

Names are loaded when they are first used: importing the package costs nothing, and changes no
configuration of JAX.
"""

from __future__ import annotations

import importlib
from typing import Any

# Before any fork, which it is told of.
from mixmeta_jax import forking as _forking  # noqa: F401

_HOMES = {
    "mixmeta_jax.functional.bayes": ("Priors", "covariances", "log_density"),
    "mixmeta_jax.control": ("Control",),
    "mixmeta_jax.prepare.correlation": ("ar1_blocks", "cs_blocks"),
    "mixmeta_jax.design.design": ("Design",),
    "mixmeta_jax.prepare.dose_response": ("greenland_longnecker", "hamling"),
    "mixmeta_jax.table.matrices": ("inputcov", "vech", "xpnd"),
    "mixmeta_jax.prepare.effect_sizes": ("effect_sizes",),
    "mixmeta_jax.prepare.network": ("long_contrasts", "network_contrasts"),
    "mixmeta_jax.formulas.transforms": ("register_transform",),
    "mixmeta_jax.datasets": ("describe_dataset", "list_datasets", "load_dataset"),
    "mixmeta_jax.functional.estimates": ("Estimate", "blups", "cochran_q", "estimate", "predict"),
    "mixmeta_jax.fits.fit": ("Fit", "mixmeta"),
    "mixmeta_jax.errors": ("InputError", "MixmetaError", "PrecisionError"),
    "mixmeta_jax.functional.model": ("log_likelihood", "make_design"),
    "mixmeta_jax.functional.simulation": ("simulate",),
    "mixmeta_jax.many.bootstrap_ratio": ("lr_test",),
    "mixmeta_jax.fits.model_comparison": ("compare",),
    "mixmeta_jax.many.many_fits": ("ManyFits", "fit_many"),
    "mixmeta_jax.covariance.autoregressive": (
        "AR1",
        "ContinuousAR1",
        "HeterogeneousAR1",
        "HeterogeneousContinuousAR1",
    ),
    "mixmeta_jax.covariance.factors": ("FactorAnalytic", "ReducedRank"),
    "mixmeta_jax.covariance.given": ("Correlation", "Fixed", "Proportional"),
    "mixmeta_jax.covariance.joined": ("BlockDiagonal", "Kronecker"),
    "mixmeta_jax.covariance.structure": ("Structure",),
    "mixmeta_jax.covariance.structures": (
        "CompoundSymmetry",
        "Diagonal",
        "HeterogeneousCompoundSymmetry",
        "Identity",
        "Unstructured",
    ),
    "mixmeta_jax.covariance.toeplitz": ("HeterogeneousToeplitz", "Toeplitz"),
    "mixmeta_jax.fits.simulation": ("mixmeta_sim",),
    "mixmeta_jax.many.performance": ("join_studies", "simulation_study"),
    "mixmeta_jax.status": ("Status",),
    "mixmeta_jax.many.studies": ("bootstrap", "cumulative", "leave_one_out", "permutation_test"),
    "mixmeta_jax.two_stage.first_stage": ("first_stage",),
    "mixmeta_jax.two_stage.first_stage_result": ("FirstStage",),
    "mixmeta_jax.two_stage.lags": ("cross_basis",),
    "mixmeta_jax.two_stage.traced_regression": ("Regression", "regression"),
    "mixmeta_jax.two_stage.attributable": ("attributable",),
    "mixmeta_jax.two_stage.curves": ("curves",),
    "mixmeta_jax.two_stage.minimum": ("minimum_risk",),
    "mixmeta_jax.two_stage.pooling": ("pool",),
    "mixmeta_jax.two_stage.traced": ("attributable_fraction", "minimum_exposure"),
}

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

# Modules that are public as they are.
_MODULES = {"plots": "mixmeta_jax.plots"}

__all__ = sorted([*_HOME_OF, *_MODULES])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Its only place is pyproject.toml; reading what is installed takes some 20 ms.
        from importlib.metadata import version

        globals()[name] = version("mixmeta_jax")
        return globals()[name]
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mixmeta_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
