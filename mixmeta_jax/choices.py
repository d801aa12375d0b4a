"""What arguments with a choice may be: types for annotations, and the words of the gates.

A value is listed here and nowhere else: signatures name the type, `gates.choice` takes it too, and
`words` gives its values where the library needs them. Users may annotate by them as well::

    methods: list[choices.Method] = ["ml", "reml"]
"""

from __future__ import annotations

from typing import Any, Literal, get_args

LikelihoodMethod = Literal["fixed", "ml", "reml"]
UnivariateMethod = Literal["dl", "he", "hs", "sj", "pm", "eb"]
"""Moment estimators of one variance."""

RandomMethod = Literal["ml", "reml", "mm", "vc", UnivariateMethod]
"""Methods with random effects."""

Method = Literal["fixed", RandomMethod]

CapitalMethod = Literal["ML", "REML", "MM", "VC", "DL", "HE", "HS", "SJ", "PM", "EB"]
"""The same as users of R write them."""

StructureName = Literal[
    "unstr",
    "diag",
    "id",
    "cs",
    "hcs",
    "ar1",
    "har1",
    "car1",
    "hcar1",
    "toep",
    "htoep",
    "prop",
    "cor",
    "fixed",
]
MissingAction = Literal["omit", "exclude", "raise"]
Backend = Literal["auto", "numpy", "jax"]
DefaultReturned = Literal["coef", "vcov", "Psi", "loglik", "converged", "status", "n_iter"]
Returned = Literal[DefaultReturned, "se", "theta", "gradient_norm", "reason", "blup", "Q", "I2"]
"""What `fit_many` keeps."""

ReferenceName = Literal["z", "t", "knha", "satterthwaite", "kenward-roger"]
"""Reference distributions of the coefficients."""

TermTest = Literal["lr", "wald", ReferenceName]
RobustTest = Literal["satterthwaite", "t", "z"]
"""Reference distributions with robust errors; Satterthwaite's have joint tests HTZ."""

RobustType = Literal["CR0", "CR1", "CR1S", "CR1p", "CR2", "CR3"]
DegreesOfT = Literal["residual", "contain"]
InformationKind = Literal["expected", "observed"]
Simultaneous = Literal[None, "goldstein", "max-t"]
Adjustment = Literal[None, "bonferroni", "goldstein", "max-t"]
RandomReport = Literal["sd", "var"]
"""Standard deviations and correlations, or variances and covariances."""

ResidualKind = Literal["raw", "pearson", "standardised", "cholesky", "deleted"]
InfluenceMethod = Literal["exact", "first_order"]
VarianceInterval = Literal["profile", "delta", "qprofile", "bootstrap", None]
ShareForm = Literal["variance", "ratio"]
ShareInterval = Literal["delta", "bootstrap", None]
ExplainedInterval = Literal["bootstrap", None]
BootstrapKind = Literal["parametric", "wild"]
ResampleKind = Literal["parametric", "groups"]
Generator = Literal["numpy", "jax"]
"""Who draws: Philox of NumPy with the key (seed, b), or Threefry of JAX with b folded into the key
of the seed."""

BlupKind = Literal["outcome", "residual"]
ErrorMethod = Literal["paper", "exact"]
RowKind = Literal["unit", "group"]
MeanWeights = Literal["equal", "observed"]
Direction = Literal["forward", "backward"]
"""Of attributable numbers: what exposures cause later, or what outcomes are due to."""

Transform = Literal[None, "exp", "expit", "tanh"]
RatioTransform = Literal[None, "exp"]
"""Of pictures, whose axis then is logarithmic."""

ForestOrder = Literal[None, "effect", "precision"]
EffectCode = Literal[
    "OR", "RR", "RD", "PETO", "IRR", "MD", "SMD", "ROM", "SMCC", "ZCOR", "PLO", "PAS"
]
"""Effect sizes by their names in R metafor."""

EffectKind = Literal[
    "logor", "logrr", "rd", "peto", "logirr", "md", "smd", "rom", "smcc", "z", "logit", "arcsine"
]


def words(choices: Any) -> tuple[Any, ...]:
    """The values of one of the types here."""
    return get_args(choices)
