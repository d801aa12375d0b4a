"""What the coefficients of a pooled fit stand for, so that they meet no other first stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.two_stage.bases import Basis
from mixmeta_jax.two_stage.first_stage_result import FirstStage
from mixmeta_jax.two_stage.locations import named


@dataclass(frozen=True)
class Origin:
    """Of which first stage the coefficients of a fit are.

    Attributes
    ----------
    reduction, lags, family
        As in `FirstStage`.
    bases
        {location: basis}.
    """

    reduction: str
    lags: tuple[int, int]
    family: str
    bases: Mapping[Any, Callable]

    @classmethod
    def of(cls, estimates: Any) -> Origin | None:
        """That of a first stage; None of other estimates, which do not say it."""
        if not isinstance(estimates, FirstStage):
            return None
        return cls(estimates.reduction, estimates.lags, estimates.family, estimates.bases)


def refuse_other_stage(fit: FittedModel, basis: Any) -> None:
    """Raise where the fit is of another first stage than the one in the place of the basis.

    Raises
    ------
    InputError
        Where their reductions, lags or bases differ.
    """
    origin = fit.origin
    if not isinstance(basis, FirstStage) or origin is None:
        return
    if origin.reduction != basis.reduction:
        raise InputError(
            f"fit is of coefficients that are reduced to '{origin.reduction}', but basis is a "
            f"first stage reduced to '{basis.reduction}': give the one that was pooled, or pool "
            "this one."
        )
    if origin.lags != basis.lags:
        first, last = origin.lags
        raise InputError(
            f"fit is of a first stage with the lags {first} to {last}, but basis is one with the "
            f"lags {basis.lags[0]} to {basis.lags[1]}: give the one that was pooled."
        )
    for label, own in basis.bases.items():
        pooled = origin.bases.get(label, own)
        if _differ(own, pooled):
            raise InputError(
                f"basis, a first stage, has {shown(repr(own), 90)} for {named(label)}, but fit is "
                f"of one with {shown(repr(pooled), 90)}: give the one that was pooled."
            )


def _differ(one: Callable, other: Callable) -> bool:
    """Whether two bases are known to differ; of functions of the user's own it is not known."""
    if one is other or not (isinstance(one, Basis) and isinstance(other, Basis)):
        return False
    pairs = zip(vars(one).values(), vars(other).values(), strict=False)
    return type(one) is not type(other) or not all(np.array_equal(*pair) for pair in pairs)
