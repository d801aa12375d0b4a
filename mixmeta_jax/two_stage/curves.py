"""Curves of the locations over their exposures, from a pooled fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import ErrorMethod
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits.fit import Fit
from mixmeta_jax.fits.fitted_model import checked_fit
from mixmeta_jax.inference.wald import check_conf_level, normal_quantile
from mixmeta_jax.table.columns import is_label
from mixmeta_jax.two_stage.first_stage_result import FirstStage
from mixmeta_jax.two_stage.locations import (
    BY_LOCATION,
    POOLED,
    arrays_by_location,
    bases_of,
    columns_at,
    labels_of,
    looked_up,
    named,
    numbers_by_location,
    pooled_basis,
    shared_basis,
)
from mixmeta_jax.two_stage.origin import refuse_other_stage
from mixmeta_jax.two_stage.predicted import pooled_coefficients

POINTS = 51
"""Exposures of a curve from the least to the largest that a first stage has of the location."""


def curves(
    fit: Fit,
    basis: Any,
    at: Any = None,
    level: int | str | None = None,
    conf_level: float = 0.95,
    reference: Any = None,
    se_method: ErrorMethod = "paper",
    pooled: Any = None,
) -> pd.DataFrame:
    """Curves of the locations: the basis times their best linear unbiased predictions.

    Parameters
    ----------
    fit
        From `pool`.
    basis
        The basis of the first stage: a function that makes (m, k) columns of m exposures, or a
        mapping {location: function} where each has knots of its own, or what `first_stage` returns,
        which has both. Or its columns at ``at`` as an array of shape (m, k), less those at the
        reference.
    at
        The m exposures, of all locations or as a mapping {location: exposures}. With a first stage
        the default is 51 from the least to the largest of each location, or the lags where it is
        reduced to those; with an array 0, 1, ….
    level
        As in `Fit.blup`; 0 gives the pooled curves of the locations' predictors.
    conf_level
        Level of the intervals.
    reference
        Exposure at which the curves are zero, of all locations or {location: exposure}, as the
        column ``exposure`` of `minimum_risk`; default none.
    se_method
        As in `Fit.blup`, and by default "paper" as there, which are the intervals that scripts take
        from BLUPs one by one. `minimum_risk` and `attributable` have "exact" for a default: their
        draws are of all locations together, whose covariance "paper" does not have.
    pooled
        The basis of the pooled curve, which then stands in the last rows, "pooled": "average" or a
        function of exposures. Default none.

    Returns
    -------
    DataFrame
        ``curve, se, lower, upper``, indexed by location and exposure.

    Raises
    ------
    InputError
        Where the basis does not have k columns, ``at`` not m values, or a location no basis,
        exposures or reference; for a first stage other than the one that was pooled.

    Notes
    -----
    The pooled curve is that of a location with the mean of the locations' predictors and no random
    effect, with the error of the pooled coefficients alone. Where locations have knots of their
    own, as at percentiles of their exposures, a coefficient belongs to a place among those, not to
    an exposure, and the pooled coefficients are a curve only on a basis that is said. "average" is
    that of the mean knots (breaks, thresholds, boundaries) of the locations in the fit, as if of a
    location whose percentiles are the means of theirs. Its exposures are ``at`` where all locations
    share it, else those of "pooled" in ``at``, else 51 from the mean of the locations' least to the
    mean of their largest; its reference is that of "pooled", as the table of `minimum_risk` has it.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> first = {"Rome": ([0.2, 0.1], np.eye(2)), "Oslo": ([0.4, 0.3], np.eye(2)),
    ...          "Bonn": ([0.3, 0.5], np.eye(2))}
    >>> fit = mx.pool(first, bscov="id")
    >>> def basis(x):
    ...     return np.stack([x, x**2], axis=1)
    >>> table = mx.curves(fit, basis, at=[18, 20], reference=18)
    >>> table.loc["Oslo", "curve"].round(3).tolist()
    [0.0, 23.4]
    """
    critical = normal_quantile(check_conf_level(conf_level))
    k = checked_fit(fit).frame.k
    given = {"basis": basis, "at": at, "reference": reference}
    gates.refuse_traced(given, "curves")
    refuse_other_stage(fit, basis)
    by_function = callable(basis) or isinstance(basis, BY_LOCATION)
    made = _by_function if by_function else _by_columns
    columns, places, index = made(fit, basis, at, reference)
    whole = None if pooled is None else _of_pooled(fit, basis, at, reference, pooled)
    table, covariance = fit.blup(level=level, vcov=True, se_method=se_method)
    b, V = table.to_numpy().reshape(-1, k)[places], covariance[places]
    if len(columns) == 1:
        curve, variance = _values(columns[0], b, V)
    else:
        each = [_values(B, b[[i]], V[[i]]) for i, B in enumerate(columns)]
        curve, variance = (np.concatenate(own) for own in zip(*each, strict=True))
    if whole is not None:
        own = _values(whole[0], *(part[None] for part in pooled_coefficients(fit)))
        curve, variance = (np.append(*pair) for pair in zip((curve, variance), own, strict=True))
        index = pd.MultiIndex.from_tuples([*index, *whole[1]], names=index.names)
    se = np.sqrt(np.maximum(variance, 0.0))
    width = critical * se
    found = np.stack([curve, se, curve - width, curve + width], axis=1)
    return pd.DataFrame(found, columns=["curve", "se", "lower", "upper"], index=index)


def _values(columns: np.ndarray, b: np.ndarray, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Curves of n locations at m exposures and their variances, one after the other: (n·m,)."""
    variance = np.einsum("mi,nij,mj->nm", columns, V, columns, optimize=True)
    return (b @ columns.T).ravel(), variance.ravel()


CurveColumns = tuple[list[np.ndarray], Any, pd.MultiIndex]
"""Columns of the curves, shapes (m, k), one of all locations or one of each; the rows of the
locations among the outputs of the fit; and the index."""


def _by_columns(fit: Fit, basis: Any, at: Any, reference: Any) -> CurveColumns:
    """One matrix of columns, which all locations share."""
    columns = gates.numbers(basis, "basis", ("m", fit.frame.k))
    if reference is not None:
        raise InputError(
            "reference needs a basis that is a function: an array of columns cannot be taken at "
            "it, so subtract its row there."
        )
    if isinstance(at, Mapping):
        raise gates.refused("at", "one list of exposures where the basis is an array", at)
    at = _listed(range(len(columns)) if at is None else at, "at")
    if len(at) != len(columns):
        raise InputError(f"at has {len(at)} values, but basis has {len(columns)} rows.")
    index = pd.MultiIndex.from_product([fit.index, at], names=_names(fit))
    return [columns], slice(None), index


def _by_function(fit: Fit, basis: Any, at: Any, reference: Any) -> CurveColumns:
    """Columns of each location by its basis, less those at its reference."""
    labels, k = labels_of(fit), fit.frame.k
    bases, exposures = bases_of(basis, labels), _exposures(basis, at, labels)
    centres = None if reference is None else numbers_by_location(reference, labels, "reference")
    alike = shared_basis(bases) is not None and all(x is exposures[0] for x in exposures)
    columns = []
    for i in range(
        1 if alike and (centres is None or (centres == centres[0]).all()) else len(labels)
    ):
        columns.append(columns_at(bases[i], exposures[i], k, labels[i]))
        if centres is not None:
            columns[i] = columns[i] - columns_at(bases[i], centres[i : i + 1], k, labels[i])
    rows = np.repeat(np.arange(len(labels)), [len(x) for x in exposures])
    both = [fit.frame.index[rows], np.concatenate(exposures)]
    # Under "exclude" there are outputs of rows that were not fitted: they have no curve.
    places = np.flatnonzero(fit.frame.kept) if len(fit.index) > len(labels) else slice(None)
    return columns, places, pd.MultiIndex.from_arrays(both, names=_names(fit))


def _of_pooled(
    fit: Fit, basis: Any, at: Any, reference: Any, pooled: Any
) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Columns of the pooled curve, less those at its reference, and its rows in the index."""
    if not (callable(basis) or isinstance(basis, BY_LOCATION)):
        raise InputError(
            "pooled needs a basis that is a function: where it is an array of columns, level=0 "
            "gives the pooled curves of the locations' predictors."
        )
    labels, k = labels_of(fit), fit.frame.k
    whole = pooled_basis(pooled, bases_of(basis, labels), labels)
    if isinstance(at, Mapping) and POOLED in at:
        x = gates.numbers(at[POOLED], f"at of '{POOLED}'", ("m",))
    else:
        exposures = _exposures(basis, at, labels)
        x = exposures[0]
        if not all(own is x for own in exposures):
            low, high = (np.mean([end(own) for own in exposures]) for end in (np.min, np.max))
            x = np.linspace(float(low), float(high), POINTS)
    columns = columns_at(whole, x, k, POOLED)
    if reference is not None:
        columns = columns - columns_at(
            whole, numbers_by_location(reference, [POOLED], "reference"), k, POOLED
        )
    return columns, [(POOLED, own) for own in x.tolist()]


def _exposures(basis: Any, at: Any, labels: list[Any]) -> list[np.ndarray]:
    if isinstance(at, Mapping):
        return [
            gates.numbers(looked_up(at, label, "at"), f"at of {named(label)}", ("m",))
            for label in labels
        ]
    if at is not None:
        return [gates.numbers(_listed(at, "at"), "at", ("m",))] * len(labels)
    if not isinstance(basis, FirstStage):
        raise InputError(
            "at, the exposures of the curves, is missing: give a list of them, as "
            "np.linspace(0, 30), or a mapping of lists by location."
        )
    if basis.reduction.startswith("at "):
        return [np.arange(basis.lags[0], basis.lags[1] + 1.0)] * len(labels)
    series = arrays_by_location(basis.exposure, labels, "exposure")
    return [np.linspace(np.nanmin(x), np.nanmax(x), POINTS) for x in series]


def _listed(at: Any, what: str) -> list:
    """Exposures in any form, each of which can stand in an index."""
    if isinstance(at, np.ndarray) or type(at).__module__.startswith("jax"):
        at = np.asarray(at).ravel()
    at = gates.listed(at, what)
    if not all(map(is_label, at)):
        raise gates.refused(what, "a list of exposures", at)
    return at


def _names(fit: Fit) -> list[Any]:
    return [fit.index.name or "location", "at"]
