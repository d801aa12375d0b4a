"""Reference distributions that follow from a fit: which test is defined for it, and its numbers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.covariance.natural import Bound, Natural, along_bound
from mixmeta_jax.design.design import parameters_by_level
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.estimation.start import starting_variances
from mixmeta_jax.fits.arguments import LIKELIHOOD_METHODS
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.inference.fixed_effects import weighted_squares
from mixmeta_jax.inference.reference import StudentT
from mixmeta_jax.inference.small_sample import KenwardRoger, Satterthwaite
from mixmeta_jax.inference.variance_information import (
    VarianceInformation,
    kenward_roger_covariance,
    variance_information,
)
from mixmeta_jax.tolerances import NO_RESIDUALS


def refuse_without_estimates(fit: FittedModel) -> None:
    """Raise where the fit has ended without numbers, which more than z and t need."""
    if not np.isfinite(fit.estimate.vcov).all():
        raise InputError(
            f"The fit has no finite covariance of its coefficients (status {fit.status.name}): "
            "only test='z' and test='t' go on from there, with NaN."
        )


def student(fit: FittedModel, df: Any) -> StudentT:
    """t and F with the residual degrees of freedom, those of `contained`, or a number of them."""
    P = len(fit.estimate.beta)
    title = "t distribution"
    if isinstance(df, str) and df == "residual":
        values = np.full(P, residual_df(fit))
        title = "t distribution with residual df"
    elif isinstance(df, str) and df == "contain":
        values = contained(fit)
        title = "t distribution with contained df"
    else:
        values = np.full(P, positive_df(df))
    return StudentT("t", fit.estimate.vcov, (), values, title)


def residual_df(fit: FittedModel) -> float:
    """Observed outcomes less coefficients, if there are any left."""
    left = fit.df.nall - fit.df.fixed
    if left < 1:
        raise InputError(
            f"There are {fit.df.nall} observed outcomes and {fit.df.fixed} coefficients: no "
            "residual degrees of freedom are left for this test. Use test='z', or test='t' with a "
            "number as df."
        )
    return float(left)


def positive_df(df: Any) -> float:
    """A number of degrees of freedom, checked."""
    hint = (
        ", nor 'residual' (observed outcomes less coefficients) or 'contain' (by the groups that a "
        "predictor is constant in)"
    )
    return gates.number(df, "df", above=0, hint=hint)


def contained(fit: FittedModel) -> np.ndarray:
    """Degrees of freedom by containment, shape (P,).

    Of each coefficient: the number of groups of the outermost level within whose groups its
    predictor is constant, less the predictors that are constant there; those groups are counted
    that have its outcome observed. Where it varies within the groups of every level, the observed
    values of its outcome less all predictors.
    """
    frame = fit.frame
    seen = np.isfinite(frame.y)
    df = np.tile(seen.sum(0) - frame.p, (frame.p, 1))
    for level in reversed(frame.levels[: fit.n_levels]):
        constant = _constant_within(frame.X, level.codes)
        for o in range(frame.k):
            groups = len(np.unique(level.codes[seen[:, o]]))
            df[constant, o] = groups - constant.sum()
    df = df.ravel()
    if (df < 1).any():
        which = frame.coef_names()[int(df.argmin())]
        raise InputError(
            f"The coefficient '{which}' has {df.min()} degrees of freedom by containment: there "
            "are no more groups than coefficients. Use df='residual' or a number."
        )
    return df.astype(float)


def _constant_within(X: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Which columns of X are constant within the groups, shape (p,)."""
    first = np.zeros((int(codes.max()) + 1, X.shape[1]))
    first[codes[::-1]] = X[::-1]
    return (first[codes] == X).all(0)


def knapp_hartung(fit: FittedModel, adhoc: bool) -> StudentT:
    """t and F with residual degrees of freedom, and the covariance times H² = rᵀWr / (n − P).

    References
    ----------
    Knapp and Hartung (2003), Statistics in Medicine 22:2693-2710; Jackson and Riley (2014),
    Statistics in Medicine 33:1183-1193.
    """
    refuse_without_estimates(fit)
    levels = fit.frame.levels[: fit.n_levels]
    if len(levels) > 1 or not all(_is_one(level.Z) for level in levels):
        what = f"{fit.n_levels} levels" if fit.n_levels > 1 else "random slopes"
        raise InputError(
            f"test='knha' is defined for one level of random intercepts, but the model has {what}: "
            "one factor for the whole covariance means nothing there. Use test='kenward-roger'."
        )
    df = residual_df(fit)
    Psi = [P[None] for P in fit.Psi_by_level]
    H2 = float(weighted_squares(fit.design, Psi)[0]) / df
    if H2 <= NO_RESIDUALS and not adhoc:
        raise InputError(
            "The outcomes are fitted exactly, so that the factor of test='knha' is zero, and all "
            "errors with it: use adhoc=True, or test='t'."
        )
    factor = max(1.0, H2) if adhoc else H2
    title = "Knapp and Hartung" if fit.frame.k == 1 else "Jackson and Riley"
    words = f"t distribution, {title}, factor {factor:.4g}"
    P = len(fit.estimate.beta)
    return StudentT("knha", fit.estimate.vcov * factor, (), np.full(P, df), words)


def _is_one(Z: np.ndarray) -> bool:
    return Z.shape[1] == 1 and bool((Z == 1).all())


NOT_BY_LIKELIHOOD = (
    "test='{test}' needs the information on the variances, which method='{method}' does not have: "
    "fit by method='reml', or use test='t'{or_knha}."
)


def by_information(fit: FittedModel, test: str, information: str) -> Satterthwaite:
    """Satterthwaite's or Kenward and Roger's test, from the variances of a likelihood fit."""
    if fit.method not in ("fixed", *LIKELIHOOD_METHODS):
        or_knha = " or 'knha'" if fit.n_levels == 1 else ""
        raise InputError(NOT_BY_LIKELIHOOD.format(test=test, method=fit.method, or_knha=or_knha))
    refuse_without_estimates(fit)
    notes: tuple[str, ...] = ()
    if test == "kenward-roger" and fit.method == "ml":
        sentence = (
            "Kenward and Roger's test is derived for REML; the variances by ML are too small with "
            "few groups, and so are its errors: fit by method='reml'."
        )
        warnings.warn(sentence, stacklevel=4)
        notes += (sentence,)
    with one_thread():
        found, held = variances_of(fit, information)
    if not np.isfinite(found.inverse).all():
        way = "use information='expected'" if information == "observed" else "use test='t'"
        raise InputError(
            f"The {information} information on the variances is not positive definite, so that "
            f"test='{test}' has no degrees of freedom: {way}."
        )
    if held:
        notes += (f"Held at a bound, as if known: {'; '.join(held)}.",)
    if not found.free.any():
        notes += ("No variance is estimated: the degrees of freedom are infinite.",)
    vcov = fit.estimate.vcov
    if test == "satterthwaite":
        return Satterthwaite(test, vcov, notes, found)
    if found.free.any():
        Psi, natural = natural_of(fit)
        with one_thread():
            vcov = kenward_roger_covariance(fit.design, Psi, natural, found)[0]
    return KenwardRoger(test, vcov, notes, found)


def natural_of(fit: FittedModel) -> tuple[list[np.ndarray], list[Natural]]:
    """Ψ of each level, shape (1, d, d), and its natural parameters, outer first."""
    design, theta = fit.design, fit.estimate.theta[:, None]
    scales = starting_variances(design)
    levels = parameters_by_level(design.structures, design.dims, theta)
    natural = [
        structure.natural(own, Psi[:, :, None], scale)
        for (structure, own, _), Psi, scale in zip(levels, fit.Psi_by_level, scales, strict=True)
    ]
    return [Psi[None] for Psi in fit.Psi_by_level], natural


def variances_of(fit: FittedModel, information: str) -> tuple[VarianceInformation, list[str]]:
    """The information on the variances, and in words what is held at a bound."""
    P = len(fit.estimate.beta)
    if sum(fit.design.n_parameters[: fit.n_levels]) == 0:
        T = np.linalg.cholesky(fit.estimate.vcov)[None]
        none = np.zeros((1, 0, P, P)), np.zeros((1, 0, 0)), np.zeros((1, 0), bool)
        return VarianceInformation(T, *none), []
    Psi, natural = natural_of(fit)
    found = variance_information(
        fit.design, Psi, natural, information == "observed", fit.method != "ml"
    )
    held = []
    for level, own in enumerate(natural):
        names = fit.frame.random_names(level)
        where = f" of level '{fit.level_names[level]}'" if fit.n_levels > 1 else ""
        held += [held_words(bound, names) + where for bound in own.bounds]
    return found, held


def delta_information(fit: FittedModel) -> tuple[list[Natural], VarianceInformation]:
    """What the delta method for functions of the variances goes by: the observed information.

    As that of `variances_of`, but where an unstructured Ψ is singular its rank is held and not its
    null space, which its other parameters move: of two effects the correlation of ±1, so that the
    errors are those of the fit in which that is held.
    """
    Psi, natural = natural_of(fit)
    design, theta = fit.design, fit.estimate.theta[:, None]
    levels = parameters_by_level(design.structures, design.dims, theta)
    singular = [any(bound.kind == "null space" for bound in own.bounds) for own in natural]
    if not any(singular):
        return natural, variances_of(fit, "observed")[0]
    for level, (structure, own, d) in enumerate(levels):
        if singular[level]:
            slopes = np.asarray(structure.slopes(own, d))[..., 0]
            units = np.eye(d * d).reshape(d, d, d, d)
            units = 0.5 * (units + units.swapaxes(2, 3))
            bends = [
                [
                    2 * np.asarray(structure.curvature(own, d, unit[..., None]))[..., 0]
                    for unit in row
                ]
                for row in units
            ]
            natural[level] = along_bound(slopes, np.array(bends))
    with one_thread():
        found = variance_information(design, Psi, natural, True, fit.method != "ml")
    return natural, found


def held_words(bound: Bound, names: Sequence[str]) -> str:
    """A parameter that is held, in words."""
    if bound.kind == "null space":
        return f"{bound.effect} of {len(names)} directions without variance"
    if bound.kind == "correlation":
        return "the correlation"
    if bound.kind == "parameter":
        return f"parameter {bound.effect}"
    if bound.effect < 0 or len(names) == 1:
        return "the variance"
    return f"the {bound.kind} of {names[bound.effect]}"
