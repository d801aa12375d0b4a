"""I², H² and R² of a fit as frames, with intervals by the delta method or by bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import ExplainedInterval, ShareForm, ShareInterval
from mixmeta_jax.covariance.natural import Natural
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fitted_model import FittedModel, checked_fit
from mixmeta_jax.fits.likelihood_ratio import check_same_data, same_groups, spans
from mixmeta_jax.fits.references import delta_information
from mixmeta_jax.fits.simulation import check_draws, simulate_fitted
from mixmeta_jax.inference import heterogeneity_shares as shares
from mixmeta_jax.inference.variances import along, delta_interval
from mixmeta_jax.inference.wald import check_conf_level
from mixmeta_jax.many.refits import converged, levels_of, refit_both
from mixmeta_jax.many.studies import bootstrap


def i2_frame(
    fit: FittedModel, form: str, ci: str | None, conf_level: float, n: int, seed: int
) -> pd.DataFrame:
    """I² in percent: see `Fit.i2`."""
    level = check_conf_level(conf_level)
    _check(fit, form, ci, n, seed)
    values, index = (_variance_form if form == "variance" else _ratio_form)(fit, ci, level, n, seed)
    return pd.DataFrame({name: 100 * own for name, own in values.items()}, index=index)


def h2_frame(
    fit: FittedModel, form: str, ci: str | None, conf_level: float, n: int, seed: int
) -> pd.DataFrame:
    """H² = 1/(1 − I²) of all levels together: see `Fit.h2`."""
    frame = i2_frame(fit, form, ci, conf_level, n, seed)
    if form == "variance":
        frame = frame.xs("total", level="level")
    share = frame / 100
    found = 1 / (1 - share)
    found["se"] = share["se"] * found["estimate"] ** 2
    return found


def _check(fit: FittedModel, form: str, ci: str | None, n: int, seed: int) -> None:
    gates.choice(form, "form", ShareForm)
    gates.choice(ci, "ci", ShareInterval)
    check_draws(n, seed, 0, fit.design.y.size, "n")
    if fit.n_levels == 0:
        raise InputError(
            "I² compares random effects with errors: method='fixed' has no random effects."
        )
    if fit.frame.within.singular:
        raise InputError("I² compares with the inverse of S, which is singular here.")
    if ci is not None and not np.isfinite(fit.loglik):
        raise InputError(
            f"An interval of I² needs a likelihood, and method='{fit.method}' has none: give "
            "ci=None, or refit with 'ml' or 'reml'."
        )


def _variance_form(
    fit: FittedModel, ci: str | None, level: float, n: int, seed: int
) -> tuple[dict[str, np.ndarray], pd.MultiIndex]:
    design, Psi = fit.design, fit.Psi_by_level
    weights = shares.weights_of_variance(design)
    typical = shares.typical_variances(design)
    variances = shares.level_variances(weights, Psi)
    estimate = shares.shares(variances, typical)
    rows = [*fit.level_names, "total"]
    index = pd.MultiIndex.from_product([rows, fit.frame.outcome_names], names=["level", "outcome"])
    gradient = covariance = drawn = None
    if ci == "delta":
        natural, found = delta_information(fit)
        slopes = _variance_slopes(fit, weights, natural)
        gradient = shares.share_gradients(variances, slopes, typical).reshape(estimate.size, -1)
        covariance = found.inverse[0]
    elif ci == "bootstrap":
        draws = bootstrap(fit, n, seed)
        made = shares.level_variances(weights, levels_of(draws))
        drawn = shares.shares(made, typical)[converged(draws)].reshape(-1, estimate.size)
    return _with_interval(estimate.ravel(), gradient, covariance, drawn, level), index


def _variance_slopes(
    fit: FittedModel, weights: list[np.ndarray], natural: list[Natural]
) -> np.ndarray:
    """∂σ²/∂ψ of each level and outcome, shape (L, k, n_ψ)."""
    rows = []
    for level in range(len(weights)):
        for o in range(fit.frame.k):
            own = [A[o] * (i == level) for i, A in enumerate(weights)]
            rows.append(along(own, natural))
    return np.array(rows).reshape(len(weights), fit.frame.k, -1)


def _ratio_form(
    fit: FittedModel, ci: str | None, level: float, n: int, seed: int
) -> tuple[dict[str, np.ndarray], pd.Index]:
    k, V, fixed = fit.frame.k, fit.estimate.vcov, fit.fixed_fit.vcov
    estimate = 1 - 1 / shares.ratios(V, fixed, k)
    index = pd.Index(["overall", *fit.frame.outcome_names], name="outcome")
    gradient = covariance = drawn = None
    if ci == "delta":
        _, found = delta_information(fit)
        covariance = found.inverse[0]
        slopes = np.einsum("pa,nab,qb->pqn", found.T[0], found.slopes[0], found.T[0])
        gradient = shares.ratio_gradients(V, fixed, slopes, k)
    elif ci == "bootstrap":
        draws = bootstrap(fit, n, seed)
        assert draws.vcov is not None
        drawn = 1 - 1 / shares.ratios(draws.vcov[converged(draws)], fixed, k)
    return _with_interval(estimate, gradient, covariance, drawn, level), index


def _with_interval(
    estimate: np.ndarray,
    gradient: np.ndarray | None,
    covariance: np.ndarray | None,
    drawn: np.ndarray | None,
    level: float,
) -> dict[str, np.ndarray]:
    """``estimate, se, lower, upper``; delta intervals are symmetric for the logit."""
    se = lower = upper = np.full(len(estimate), np.nan)
    if gradient is not None and covariance is not None:
        se = np.sqrt(np.einsum("at,tu,au->a", gradient, covariance, gradient))
        se = np.where(se > 0, se, np.nan)
        lower, upper = delta_interval("logit", estimate, se, level)
    if drawn is not None:
        tail = (1 - level) / 2
        se = drawn.std(0, ddof=1)
        lower, upper = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return {"estimate": estimate, "se": se, "lower": lower, "upper": upper}


def r2_frame(
    fit: FittedModel, smaller: FittedModel, ci: str | None, conf_level: float, n: int, seed: int
) -> pd.DataFrame:
    """R² in percent: see `Fit.r2`."""
    level = check_conf_level(conf_level)
    gates.choice(ci, "ci of r2", ExplainedInterval)
    checked_fit(smaller, "smaller")
    check_draws(n, seed, 0, fit.design.y.size, "n")
    check_same_data(smaller, fit)
    if fit.n_levels == 0 or not spans(fit.design.X, smaller.design.X):
        raise InputError(
            "r2 compares random effects with those of a fit with fewer fixed effects: the fixed "
            "effects of the smaller must be among those of this one, which must have levels."
        )
    twins = [same_groups(smaller, fit, number) for number in range(fit.n_levels)]
    if None in twins or smaller.n_levels != fit.n_levels:
        raise InputError("r2 compares level by level: both fits need random effects at the same.")
    weights = [shares.weights_of_variance(model.design) for model in (smaller, fit)]
    order = np.array(twins, int)

    def explained(small: Any, large: Any) -> np.ndarray:
        before = shares.level_variances(weights[0], small)[..., order, :]
        after = shares.level_variances(weights[1], large)
        pair = [np.concatenate([v, v.sum(-2, keepdims=True)], -2) for v in (before, after)]
        with np.errstate(all="ignore"):
            return np.where(pair[0] > 0, 100 * (1 - pair[1] / pair[0]), np.nan)

    estimate = explained(smaller.Psi_by_level, fit.Psi_by_level)
    index = pd.MultiIndex.from_product(
        [[*fit.level_names, "total"], fit.frame.outcome_names], names=["level", "outcome"]
    )
    frame = pd.DataFrame({"estimate": estimate.ravel()}, index=index)
    frame[["se", "lower", "upper"]] = np.nan
    if ci == "bootstrap":
        mean = fit.fitted_array - fit.frame.offset
        y = simulate_fitted(fit.design, fit.frame.within, mean, fit.Psi_by_level, n, seed)
        pair = refit_both((smaller, fit), y)
        drawn = explained(*map(levels_of, pair)).reshape(n, -1)
        drawn = drawn[converged(pair[0]) & converged(pair[1])]
        if not len(drawn):
            return frame
        tail = (1 - level) / 2
        frame["se"] = np.nanstd(drawn, axis=0, ddof=1)
        frame["lower"], frame["upper"] = np.nanquantile(drawn, [tail, 1 - tail], axis=0)
    return frame
