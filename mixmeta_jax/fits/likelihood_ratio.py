"""Likelihood-ratio tests between nested fits."""

from __future__ import annotations

import numpy as np

from mixmeta_jax.covariance.held import Held
from mixmeta_jax.covariance.holding import has_mixture
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fitted_model import FittedModel, checked_fit
from mixmeta_jax.inference.comparison import likelihood_ratio
from mixmeta_jax.report.results import LikelihoodRatioTest
from mixmeta_jax.status import Status
from mixmeta_jax.tolerances import LOGLIK_SLACK, SPANNED

ONE_VARIANCE = ("id", "cs", "ar1", "car1", "prop")
"""Structures with one variance for all random effects; others have one each."""


def lr_test(smaller: FittedModel, larger: FittedModel) -> LikelihoodRatioTest:
    """Test a fit against a wider one within which it is nested.

    Parameters
    ----------
    smaller, larger
        Fits to the same outcomes with the same error covariances, both by "ml" (a "fixed" fit
        counts as one with no random effects) or, with the same fixed effects, both by "reml". Which
        covariance structure is a special case of which is for the caller to know.

    Returns
    -------
    LikelihoodRatioTest
        With the χ² p-value and, where the larger model has exactly one variance that the smaller
        sets to zero, that of the χ² mixture.

    Raises
    ------
    InputError
        Where the two log-likelihoods cannot be compared, with the reason.
    """
    _check_likelihoods(smaller, larger, ("smaller", "larger"))
    check_same_data(smaller, larger)
    _check_nested(smaller, larger)
    _refuse_other_contrasts(smaller, larger)
    n_bounds = _variances_at_bound(smaller, larger)
    counts = smaller.df.total, larger.df.total
    if counts[1] <= counts[0]:
        raise InputError(
            f"The larger fit has {counts[1]} parameters and the smaller {counts[0]}: nested models "
            "differ by at least one; give the smaller fit first, or compare their AIC."
        )
    if larger.loglik < smaller.loglik - LOGLIK_SLACK:
        raise InputError(
            f"The larger fit has the lower log-likelihood ({larger.loglik:.6g} against "
            f"{smaller.loglik:.6g}): the models are not nested, or one fit missed its maximum."
        )
    statistic, pvalue, mixture = likelihood_ratio(
        smaller.loglik, larger.loglik, counts[1] - counts[0], n_bounds
    )
    return LikelihoodRatioTest(
        statistic,
        counts[1] - counts[0],
        pvalue,
        mixture,
        (smaller.loglik, larger.loglik),
        counts,
        note=_note(smaller, larger),
    )


def _note(smaller: FittedModel, larger: FittedModel) -> str:
    """That neither distribution is exact where the smaller fit is itself at a bound."""
    if smaller.status is not Status.BOUNDARY or smaller.df.random == larger.df.random:
        return ""
    return (
        "The smaller fit has variances or correlations at a bound, where neither chi-square nor "
        "the mixture is exact: give n=999, for draws from it."
    )


def check_comparable(first: FittedModel, second: FittedModel, names: tuple[str, str]) -> None:
    """Raise `InputError` where the likelihoods of two fits measure different things."""
    _check_likelihoods(first, second, names)
    check_same_data(first, second)
    _refuse_other_contrasts(first, second)


def _check_likelihoods(smaller: FittedModel, larger: FittedModel, names: tuple[str, str]) -> None:
    for name, fit in zip(names, (smaller, larger), strict=True):
        checked_fit(fit, name)
        if not np.isfinite(fit.loglik):
            raise InputError(
                f"The {name} fit is by method='{fit.method}', which has no likelihood: refit "
                "with 'ml' or 'reml'."
            )
        if fit.status in (Status.MAX_ITER, Status.NOT_FINITE):
            raise InputError(f"The {name} fit did not converge. {fit.status.sentence}")
    if (smaller.method == "reml") != (larger.method == "reml"):
        raise InputError(
            f"The fits are by '{smaller.method}' and '{larger.method}': restricted and ordinary "
            "likelihoods measure different things; refit both by one method."
        )


def check_same_data(smaller: FittedModel, larger: FittedModel) -> None:
    """Raise `InputError` where two fits have different outcomes or error covariances."""
    y, other = smaller.design.y, larger.design.y
    if y.shape != other.shape or not np.array_equal(y, other, equal_nan=True):
        raise InputError(
            "The fits are to different outcomes (rows, missing values or offset differ): "
            "likelihoods compare models of the same data."
        )
    if not _same_errors(smaller, larger):
        raise InputError(
            "The fits have different error covariances S: likelihoods compare models of the same "
            "data."
        )


def _same_errors(smaller: FittedModel, larger: FittedModel) -> bool:
    first, second = smaller.frame.within, larger.frame.within
    if first.unit is not None and second.unit is not None:
        return np.array_equal(first.unit, second.unit)
    if first.blocks is None or second.blocks is None:
        return False
    return len(first.blocks) == len(second.blocks) and all(
        np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
        for a, b in zip(first.blocks, second.blocks, strict=True)
    )


def _check_nested(smaller: FittedModel, larger: FittedModel) -> None:
    if not spans(larger.design.X, smaller.design.X):
        raise InputError(
            "The fixed effects of the smaller fit are not among those of the larger: the models "
            "are not nested; compare their AIC."
        )


def _refuse_other_contrasts(first: FittedModel, second: FittedModel) -> None:
    """REML: the same fixed effects."""
    if first.method != "reml":
        return
    one, other = first.design.X, second.design.X
    if not (spans(one, other) and spans(other, one)):
        raise InputError(
            "The fits are by REML and their fixed effects differ: the restricted likelihood is "
            "that of different residual contrasts for each; refit both with method='ml'."
        )


def spans(wide: np.ndarray, columns: np.ndarray) -> bool:
    """Whether every column is a combination of those of ``wide``."""
    solution = np.linalg.lstsq(wide, columns, rcond=None)[0]
    return np.allclose(wide @ solution, columns, rtol=SPANNED, atol=SPANNED * np.abs(columns).max())


def _variances_at_bound(smaller: FittedModel, larger: FittedModel) -> int:
    """How many variances the larger model estimates that are zero in the smaller."""
    unmatched = set(range(smaller.n_levels))
    count = 0
    for level in range(larger.n_levels):
        structure, d = larger.design.structures[level], larger.design.dims[level]
        twin = same_groups(smaller, larger, level)
        if twin is None:
            count += _bounds_of_none(structure, d)
            continue
        unmatched.discard(twin)
        count += _added_variances(smaller, twin, larger, level)
    if unmatched:
        name = smaller.frame.levels[min(unmatched)].name
        raise InputError(
            f"The smaller fit has random effects at level '{name}' and the larger has none there: "
            "the models are not nested; compare their AIC."
        )
    return count


def same_groups(smaller: FittedModel, larger: FittedModel, level: int) -> int | None:
    """The level of the smaller fit with the same groups of units, whatever it is called."""
    codes = larger.frame.levels[level].codes
    for candidate in range(smaller.n_levels):
        if np.array_equal(smaller.frame.levels[candidate].codes, codes):
            return candidate
    return None


def _added_variances(smaller: FittedModel, twin: int, larger: FittedModel, level: int) -> int:
    structure, d = larger.design.structures[level], larger.design.dims[level]
    before, d_before = smaller.design.structures[twin], smaller.design.dims[twin]
    if not spans(larger.design.Z[level], smaller.design.Z[twin]):
        raise InputError(
            f"The random effects of the smaller fit at level '{smaller.frame.levels[twin].name}' "
            "are not among those of the larger: the models are not nested; compare their AIC."
        )
    if before.name == "fixed":
        return 0 if np.any(smaller.Psi_by_level[twin]) else _bounds_of_none(structure, d)
    if d == d_before:
        return _held_bounds(before, structure, d)
    return _n_variances(structure, d) - _n_variances(before, d_before) if d > d_before else 0


def _held_bounds(before: Structure, structure: Structure, d: int) -> int:
    """How many bounds meet in what the smaller fit alone holds at one.

    Two, which have no simple mixture, where a shared correlation loses its meaning beside one.
    """
    if not isinstance(before, Held):
        return 0
    kept = (
        dict(zip(structure.held, structure.values, strict=True))
        if isinstance(structure, Held)
        else {}
    )
    count = 0
    for parameter, value in zip(before.held, before.values, strict=True):
        if parameter in kept or value not in (parameter.lower, parameter.upper):
            continue
        simple = not parameter.is_variance or has_mixture(structure, d)
        count += 1 if simple else 2
    return count


def _bounds_of_none(structure: Structure, d: int) -> int:
    """How many bounds meet where all effects of a level vanish.

    A correlation beside one variance loses its meaning there: the mixture for one bound does not
    hold, and it counts as a bound of its own.
    """
    variances = _n_variances(structure, d)
    return structure.n_parameters(d) if variances == 1 else variances


def _n_variances(structure: Structure, d: int) -> int:
    if structure.name == "fixed":
        return 0
    return 1 if structure.name in ONE_VARIANCE else d
