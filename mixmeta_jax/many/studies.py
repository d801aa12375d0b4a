"""Uses of many fits: bootstrap, leave-one-out, cumulative meta-analysis, permutation tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import Generator, ResampleKind
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fitted_model import FittedModel, checked_fit
from mixmeta_jax.fits.simulation import check_draws, simulate_fitted
from mixmeta_jax.inference.drawn import share_of
from mixmeta_jax.many.many_fits import ManyFits
from mixmeta_jax.many.refits import (
    nothing_fitted,
    refit,
    refit_drawn,
    resample,
    without,
)
from mixmeta_jax.report.results import PermutationTest
from mixmeta_jax.tolerances import TIED


def bootstrap(
    fit: FittedModel,
    n: int = 1000,
    seed: int = 0,
    kind: ResampleKind = "parametric",
    first: int = 0,
    progress: bool = True,
    generator: Generator = "numpy",
) -> ManyFits:
    """Refit a model to data sets drawn from it, or from its groups.

    Parameters
    ----------
    fit
        The fitted model.
    n
        Number of data sets.
    seed, first
        Seed, and number of the first data set; data set b depends on (seed, b) alone.
    kind
        "parametric" draws outcomes from the fitted model, in its own missing pattern; "groups"
        draws outer groups with replacement, as many as there are. Draws of groups whose rows S or
        an inner level ties are fitted one after the other, at the cost of a `mixmeta` each (some
        milliseconds, and a compilation for each new arrangement); all others side by side.
    progress
        Whether long work shows a bar.
    generator
        Who draws the outcomes of kind "parametric": "numpy", or "jax", which has other numbers,
        those of ``fit.simulate(seed=seed, generator="jax")``. Compiled fits then draw the data sets
        of a chunk in the program that fits them, so that they are never moved: for accelerators,
        and where the data sets would not fit into memory.

    Returns
    -------
    ManyFits
        With standard errors, and the reason where a draw does not identify the model.

    Raises
    ------
    InputError
        For an unknown kind or generator, and for groups that JAX should draw.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> fits = mx.bootstrap(fit, n=99, seed=1)
    >>> float(fits.coef.std().round(2))
    0.17
    """
    checked_fit(fit)
    gates.flag(progress, "progress")
    gates.choice(generator, "generator", Generator)
    if gates.choice(kind, "kind", ResampleKind) == "parametric":
        frame = fit.frame
        mean = fit.fitted_array - frame.offset
        kept = mean.size if generator == "numpy" else 1  # the other's are not kept
        n = check_draws(n, seed, first, kept, "n", generator)
        try:
            if generator == "jax":
                return refit_drawn(fit, mean, n, seed, first, progress)
            y = simulate_fitted(fit.design, frame.within, mean, fit.Psi_by_level, n, seed, first)
        except KeyboardInterrupt:
            return nothing_fitted(fit, n)
        return refit(fit, y, progress=progress)
    if generator == "jax":
        raise InputError(
            "generator='jax' draws outcomes, but kind='groups' draws groups: leave generator out."
        )
    n = check_draws(n, seed, first, fit.design.y.size, "n")
    m = int(fit.design.groups[:, 0].max()) + 1
    try:
        drawn = [np.random.default_rng([seed, first + b]).integers(0, m, m) for b in range(n)]
    except KeyboardInterrupt:
        return nothing_fitted(fit, n)
    return resample(fit, np.stack(drawn), progress)


def leave_one_out(fit: FittedModel, by: str = "unit", progress: bool = True) -> pd.DataFrame:
    """Refit without one unit, or without one group, at a time.

    Parameters
    ----------
    fit
        The fitted model.
    by
        "unit", or the name of a level.

    Returns
    -------
    DataFrame
        One row per unit or group that is left out, as `ManyFits.to_frame`.

    Raises
    ------
    InputError
        For an unknown level.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> mx.leave_one_out(fit)[["(Intercept)", "se[(Intercept)]"]].head(2).round(3)
          (Intercept)  se[(Intercept)]
    unit
    0          -0.737            0.196
    1          -0.682            0.187
    """
    gates.flag(progress, "progress")
    codes, labels = parts(checked_fit(fit), by)
    frame = without(fit, left_out(codes, len(labels)), progress).to_frame()
    frame.index = part_index(labels, by)
    return frame


def cumulative(fit: FittedModel, order: Any = None, progress: bool = True) -> pd.DataFrame:
    """Refit to the first outer group, the first two, and so on.

    Parameters
    ----------
    fit
        The fitted model.
    order
        Values by which the groups are taken in, ascending: a column of the data, or one value per
        fitted unit (a group counts at its smallest); None for the order of the data.

    Returns
    -------
    DataFrame
        One row per group that is added, as `ManyFits.to_frame`; those that hold too little to fit
        have NaN and a status.

    Raises
    ------
    InputError
        For an unknown column, or values of another length.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> mx.cumulative(fit, order="year")[["(Intercept)", "status"]].tail(2).round(3)
           (Intercept)     status
    added
    3           -0.828  CONVERGED
    7           -0.745  CONVERGED
    """
    gates.flag(progress, "progress")
    codes, labels = parts(fit, checked_fit(fit).frame.levels[0].name)
    values = np.arange(fit.frame.n) if order is None else _order(fit, order)
    when = np.full(len(labels), np.inf)
    np.minimum.at(when, codes, np.asarray(values, float))
    ranks = np.argsort(np.argsort(when, kind="stable"), kind="stable")
    out = ranks[codes][None] > np.arange(len(labels))[:, None]
    names = [labels[g] for g in np.argsort(when, kind="stable")]
    frame = without(fit, out, progress).to_frame()
    frame.index = part_index(names, "added")
    return frame


def permutation_test(
    fit: FittedModel, term: str, n: int = 1000, seed: int = 0, first: int = 0, progress: bool = True
) -> PermutationTest:
    """Permutation test of one coefficient of a meta-regression.

    The predictors are permuted against the outcomes and their error covariances (Higgins &
    Thompson 2004), whole outer groups among those with as many units; the statistic is the
    coefficient over its standard error.

    Parameters
    ----------
    fit
        A fit with S by unit and random intercepts.
    term
        Name of the coefficient.
    n
        Number of permutations; those whose refit does not converge are left out, and those that
        Ctrl-C leaves, with a warning: the test is that of the others, NaN where there is none.
    seed, first
        Seed, and number of the first permutation; permutation b depends on (seed, b) alone.
    progress
        Whether long work shows a bar.

    Raises
    ------
    InputError
        For an unknown coefficient, one whose predictor does not vary, S that spans rows, random
        slopes, or where no two outer groups have as many units.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
    >>> mx.permutation_test(fit, "ablat", n=199, seed=1).pvalue
    0.005
    """
    names = checked_fit(fit).frame.coef_names()
    gates.choice(term, "term", names)
    design = fit.design
    # Its order of the rows, its outcomes and its predictors.
    held = design.n * (1 + design.k + design.p)
    n = check_draws(n, seed, first, held, "n")
    gates.flag(progress, "progress")
    slopes = any(Z.shape[1] > 1 or (Z != 1).any() for Z in design.Z)
    if fit.frame.within.blocks is not None or slopes:
        raise InputError(
            "permutation_test exchanges the predictors of groups, whose S and random predictors "
            "stay: it needs S by unit and random intercepts."
        )
    classes = _equal_groups(design.groups[:, 0])
    if all(len(rows) == 1 for rows in classes):
        raise InputError(
            f"permutation_test exchanges outer groups of one size, but no two groups of level "
            f"'{fit.frame.levels[0].name}' have as many units."
        )
    place = names.index(term)
    column = design.X[:, place // fit.frame.k]
    if all((column[rows] == column[rows[:1]]).all() for rows in classes):
        raise InputError(
            f"The predictor of '{term}' is the same whatever groups are exchanged, so that a "
            "permutation test says nothing of it: test a coefficient of a predictor that varies."
        )
    try:
        orders = np.empty((n, design.n), int)
        for b, order in enumerate(orders):
            rng = np.random.default_rng([seed, first + b])
            for rows in classes:
                order[rows] = rng.permutation(rows)
    except KeyboardInterrupt:
        found = nothing_fitted(fit, n)
    else:
        y = np.broadcast_to(design.y, (n, *design.y.shape))
        found = refit(fit, y, design.X[orders], progress)
    assert found.coef is not None and found.se is not None and found.converged is not None
    statistics = np.full(n, np.nan)
    valid = found.converged
    statistics[valid] = found.coef[valid, place] / found.se[valid, place]
    own = fit.coef.iloc[place] / np.sqrt(fit.estimate.vcov[place, place])
    extreme = int((np.abs(statistics[valid]) >= np.abs(own) * (1 - TIED)).sum())
    count = int(valid.sum())
    return PermutationTest(term, float(own), float(share_of(extreme, count)), count, statistics)


def _equal_groups(codes: np.ndarray) -> list[np.ndarray]:
    """The rows of the groups of each size: shape (groups, size) each."""
    sizes = np.bincount(codes)[codes]
    order = np.argsort(codes, kind="stable")
    return [order[sizes[order] == size].reshape(-1, size) for size in np.unique(sizes)]


def left_out(codes: np.ndarray, n_parts: int) -> np.ndarray:
    """Which units each part has, shape (parts, n)."""
    return np.arange(n_parts)[:, None] == codes[None]


def part_index(labels: list[Any], name: str, names: Sequence[str] | None = None) -> pd.Index:
    """The labels of units or groups as an index; ``names`` those of labels that are tuples."""
    if any(isinstance(label, tuple) for label in labels):
        return pd.MultiIndex.from_tuples(labels, names=names)
    return pd.Index(labels, name=name)


def parts(fit: FittedModel, by: str) -> tuple[np.ndarray, list[Any]]:
    """The part of every unit, shape (n,), and the labels of the parts: units, or groups.

    Raises
    ------
    InputError
        For what is neither "unit" nor a level.
    """
    frame = fit.frame
    names = [level.name for level in frame.levels]
    if gates.choice(by, "by", dict.fromkeys(("unit", *names))) in names:
        level = frame.levels[names.index(by)]
        return level.codes, list(level.labels)
    return np.arange(frame.n), frame.index.tolist()


def _order(fit: FittedModel, order: Any) -> np.ndarray:
    n = fit.frame.n
    if isinstance(order, str):
        order = fit.columns_at_units([order], "order")[order]
    return gates.numbers(order, "order", (n,), infinite=True)
