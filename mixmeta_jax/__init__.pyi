"""The public names, for type checkers: `__init__.py` loads them when they are first used."""

from mixmeta_jax import plots as plots
from mixmeta_jax.control import Control as Control
from mixmeta_jax.covariance.autoregressive import AR1 as AR1
from mixmeta_jax.covariance.autoregressive import ContinuousAR1 as ContinuousAR1
from mixmeta_jax.covariance.autoregressive import HeterogeneousAR1 as HeterogeneousAR1
from mixmeta_jax.covariance.autoregressive import (
    HeterogeneousContinuousAR1 as HeterogeneousContinuousAR1,
)
from mixmeta_jax.covariance.factors import FactorAnalytic as FactorAnalytic
from mixmeta_jax.covariance.factors import ReducedRank as ReducedRank
from mixmeta_jax.covariance.given import Correlation as Correlation
from mixmeta_jax.covariance.given import Fixed as Fixed
from mixmeta_jax.covariance.given import Proportional as Proportional
from mixmeta_jax.covariance.joined import BlockDiagonal as BlockDiagonal
from mixmeta_jax.covariance.joined import Kronecker as Kronecker
from mixmeta_jax.covariance.structure import Structure as Structure
from mixmeta_jax.covariance.structures import CompoundSymmetry as CompoundSymmetry
from mixmeta_jax.covariance.structures import Diagonal as Diagonal
from mixmeta_jax.covariance.structures import (
    HeterogeneousCompoundSymmetry as HeterogeneousCompoundSymmetry,
)
from mixmeta_jax.covariance.structures import Identity as Identity
from mixmeta_jax.covariance.structures import Unstructured as Unstructured
from mixmeta_jax.covariance.toeplitz import HeterogeneousToeplitz as HeterogeneousToeplitz
from mixmeta_jax.covariance.toeplitz import Toeplitz as Toeplitz
from mixmeta_jax.datasets import describe_dataset as describe_dataset
from mixmeta_jax.datasets import list_datasets as list_datasets
from mixmeta_jax.datasets import load_dataset as load_dataset
from mixmeta_jax.design.design import Design as Design
from mixmeta_jax.errors import InputError as InputError
from mixmeta_jax.errors import MixmetaError as MixmetaError
from mixmeta_jax.errors import PrecisionError as PrecisionError
from mixmeta_jax.fits.fit import Fit as Fit
from mixmeta_jax.fits.fit import mixmeta as mixmeta
from mixmeta_jax.fits.model_comparison import compare as compare
from mixmeta_jax.fits.simulation import mixmeta_sim as mixmeta_sim
from mixmeta_jax.formulas.transforms import register_transform as register_transform
from mixmeta_jax.functional.bayes import Priors as Priors
from mixmeta_jax.functional.bayes import covariances as covariances
from mixmeta_jax.functional.bayes import log_density as log_density
from mixmeta_jax.functional.estimates import Estimate as Estimate
from mixmeta_jax.functional.estimates import blups as blups
from mixmeta_jax.functional.estimates import cochran_q as cochran_q
from mixmeta_jax.functional.estimates import estimate as estimate
from mixmeta_jax.functional.estimates import predict as predict
from mixmeta_jax.functional.model import log_likelihood as log_likelihood
from mixmeta_jax.functional.model import make_design as make_design
from mixmeta_jax.functional.simulation import simulate as simulate
from mixmeta_jax.many.bootstrap_ratio import lr_test as lr_test
from mixmeta_jax.many.many_fits import ManyFits as ManyFits
from mixmeta_jax.many.many_fits import fit_many as fit_many
from mixmeta_jax.many.performance import join_studies as join_studies
from mixmeta_jax.many.performance import simulation_study as simulation_study
from mixmeta_jax.many.studies import bootstrap as bootstrap
from mixmeta_jax.many.studies import cumulative as cumulative
from mixmeta_jax.many.studies import leave_one_out as leave_one_out
from mixmeta_jax.many.studies import permutation_test as permutation_test
from mixmeta_jax.prepare.correlation import ar1_blocks as ar1_blocks
from mixmeta_jax.prepare.correlation import cs_blocks as cs_blocks
from mixmeta_jax.prepare.dose_response import greenland_longnecker as greenland_longnecker
from mixmeta_jax.prepare.dose_response import hamling as hamling
from mixmeta_jax.prepare.effect_sizes import effect_sizes as effect_sizes
from mixmeta_jax.prepare.network import long_contrasts as long_contrasts
from mixmeta_jax.prepare.network import network_contrasts as network_contrasts
from mixmeta_jax.status import Status as Status
from mixmeta_jax.table.matrices import inputcov as inputcov
from mixmeta_jax.table.matrices import vech as vech
from mixmeta_jax.table.matrices import xpnd as xpnd
from mixmeta_jax.two_stage.attributable import attributable as attributable
from mixmeta_jax.two_stage.curves import curves as curves
from mixmeta_jax.two_stage.first_stage import first_stage as first_stage
from mixmeta_jax.two_stage.first_stage_result import FirstStage as FirstStage
from mixmeta_jax.two_stage.lags import cross_basis as cross_basis
from mixmeta_jax.two_stage.minimum import minimum_risk as minimum_risk
from mixmeta_jax.two_stage.pooling import pool as pool
from mixmeta_jax.two_stage.traced import attributable_fraction as attributable_fraction
from mixmeta_jax.two_stage.traced import minimum_exposure as minimum_exposure
from mixmeta_jax.two_stage.traced_regression import Regression as Regression
from mixmeta_jax.two_stage.traced_regression import regression as regression

__version__: str
