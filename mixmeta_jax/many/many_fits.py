"""Many data sets of one shape in one call: `fit_many` and its result."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import CapitalMethod, DefaultReturned, Method, Returned, words
from mixmeta_jax.control import Control, as_control
from mixmeta_jax.covariance.catalogue import Structures
from mixmeta_jax.design.design import Design
from mixmeta_jax.estimation.batch import fit_batch
from mixmeta_jax.estimation.chunks import chunk_size
from mixmeta_jax.estimation.jobs import ManyEstimates
from mixmeta_jax.estimation.moment_batch import fit_moment_batch
from mixmeta_jax.estimation.start import error_variances
from mixmeta_jax.fits.arguments import LIKELIHOOD_METHODS
from mixmeta_jax.fits.kept import GivesCopies, frozen
from mixmeta_jax.inference.effects import predicted_outcomes
from mixmeta_jax.inference.fixed_effects import fixed_effects
from mixmeta_jax.many.many_checks import check_single_settings, judged_method, sound_members
from mixmeta_jax.many.many_data import ManyModel, many_model
from mixmeta_jax.many.named_array import NamedArray, named
from mixmeta_jax.many.progress import progress_bar
from mixmeta_jax.status import Status
from mixmeta_jax.table.magnitudes import beyond_precision

PerhapsNone: TypeAlias = Any
"""In annotations: None where it was not asked for, which who asked need not look for."""

RETURNS = words(Returned)
"""What ``returns`` may name."""

DEFAULT_RETURNS = words(DefaultReturned)

LONG_WORK = 2_000
"""Data sets from which progress is shown."""


@dataclass(frozen=True, eq=False)
class ManyFits(GivesCopies):
    """B fits; every array has a leading B and is read-only. What was not asked for is None.

    Attributes
    ----------
    coef, se
        Coefficients and their standard errors, shape (B, p·k), predictor-major.
    vcov
        Covariance of the coefficients, shape (B, p·k, p·k).
    Psi
        Covariance of the random effects, shape (B, d, d); by level name, outer first, where there
        are several levels; None for ``method="fixed"``.
    loglik
        (Restricted) log-likelihood at the maximum, shape (B,).
    converged
        Whether the fit is a maximum, shape (B,).
    status
        `Status` as whole numbers, shape (B,).
    n_iter
        Likelihood evaluations, all starts that were followed together, shape (B,).
    theta
        Parameters of all levels, outer first, shape (B, n_θ).
    gradient_norm
        Scale-free norm of the gradient, shape (B,).
    reason
        Why a data set was not fitted, in words, empty where it was; shape (B,).
    blup
        Outcomes predicted with the effects of all levels, as `Fit.blup`, observed or not, shape
        (B, n, k).
    Q, I2
        Cochran's Q of all outcomes together and I² in percent, as ``Fit.qtest().loc["overall"]``,
        shape (B,).
    coef_names, level_names, random_names
    XX of ``coef``, ``se``, ``vcov`` and ``Psi``; see `NamedArray`.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> mx.fit_many(np.stack([bcg.logor, 2 * bcg.logor]), bcg.logorvar)
    <2 fits, method='reml': 2 CONVERGED>
    """

    coef: NamedArray | PerhapsNone
    se: NamedArray | PerhapsNone
    vcov: NamedArray | PerhapsNone
    Psi: NamedArray | dict[str, NamedArray] | PerhapsNone
    loglik: np.ndarray | PerhapsNone
    converged: np.ndarray | PerhapsNone
    status: np.ndarray | PerhapsNone
    n_iter: np.ndarray | PerhapsNone
    theta: np.ndarray | PerhapsNone
    gradient_norm: np.ndarray | PerhapsNone
    reason: np.ndarray | PerhapsNone
    blup: np.ndarray | PerhapsNone
    Q: np.ndarray | PerhapsNone
    I2: np.ndarray | PerhapsNone
    coef_names: tuple[str, ...]
    level_names: tuple[str, ...]
    random_names: tuple[tuple[str, ...], ...]
    method: str
    n_sets: int

    def __post_init__(self) -> None:
        own = {name: getattr(self, name) for name in RETURNS}
        for name, twice in (("coef", False), ("se", False), ("vcov", True)):
            own[name] = named(own[name], self.coef_names, twice)
        if isinstance(own["Psi"], dict):
            levels = zip(own["Psi"].items(), self.random_names, strict=True)
            own["Psi"] = {level: named(Psi, names, True) for (level, Psi), names in levels}
        elif self.random_names:
            own["Psi"] = named(own["Psi"], self.random_names[0], True)
        for name, value in own.items():
            frozen(value)
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return self.n_sets

    def __repr__(self) -> str:
        if self.status is None:
            return f"<{self.n_sets} fits, method='{self.method}'>"
        counts = np.bincount(self.status, minlength=len(Status))
        ends = ", ".join(f"{counts[s]} {s.name}" for s in Status if counts[s])
        return f"<{self.n_sets} fits, method='{self.method}': {ends}>"

    def to_frame(self) -> pd.DataFrame:
        """One row per data set: coefficients, standard errors, log-likelihood and status.

        Examples
        --------
        >>> import numpy as np, mixmeta_jax as mx
        >>> bcg = mx.load_dataset("bcg")
        >>> fits = mx.fit_many(np.stack([bcg.logor, 2 * bcg.logor]), bcg.logorvar)
        >>> fits.to_frame()[["(Intercept)", "status"]].round(3)
                  (Intercept)     status
        data_set
        0              -0.745  CONVERGED
        1              -1.538  CONVERGED
        """
        columns: dict[str, Any] = {}
        names = self.coef_names
        if self.coef is not None:
            columns |= dict(zip(names, np.asarray(self.coef).T, strict=True))
        se = self.se
        if se is None and self.vcov is not None:
            with np.errstate(invalid="ignore"):
                se = np.sqrt(np.diagonal(self.vcov, axis1=1, axis2=2))
        if se is not None:
            columns |= {f"se[{n}]": c for n, c in zip(names, np.asarray(se).T, strict=True)}
        for name in ("loglik", "converged", "n_iter"):
            if getattr(self, name) is not None:
                columns[name] = getattr(self, name)
        if self.status is not None:
            columns["status"] = [Status(int(s)).name for s in self.status]
        return pd.DataFrame(columns, index=pd.RangeIndex(self.n_sets, name="data_set"))


def fit_many(
    y: Any,
    S: Any,
    formula: str = "~ 1",
    random: Any = None,
    data: Any = None,
    method: Method | CapitalMethod = "reml",
    bscov: Structures = "unstr",
    Psi_fix: Any = None,
    rho: Any = None,
    offset: Any = None,
    returns: Returned | Sequence[Returned] = DEFAULT_RETURNS,
    batch_size: int | None = None,
    progress: bool = True,
    control: Control | Mapping[str, Any] | None = None,
    hold: Mapping[str, Mapping[str, float]] | None = None,
) -> ManyFits:
    """Fit one model to many data sets of the same shape.

    All data sets share the predictors and the groups. They are fitted side by side, large work over
    all cores and devices; each has its own status, and none disturbs another: a data set with an
    infinite value, without outcomes, or whose observed rows do not identify the model gets NaN and
    a status.
    Moment estimators take the data sets side by side too, a chunk at a time on one core; where one
    does not identify the model, its ``reason`` is what `mixmeta` would say. Interrupted by Ctrl-C,
    the call returns what is done, with a warning; the rest has the status INTERRUPTED.

    Every data set climbs from the best start of `mixmeta`; one that ends at a bound of several
    parameters also from the others, one whose likelihood would be higher without the variance of a
    level also from there, and the highest end is kept (`mixmeta` follows all starts of every small
    data set). Then those that `mixmeta` would restart are restarted: where variances of their own
    may vanish one by one ("unstr", "diag", "ar1", "hcs" and the like), mostly at a bound. That
    takes some twenty more paths of each of them; ``control={"n_starts": ...}`` leaves it out.

    Parameters
    ----------
    y
        Outcomes, shape (B, n, k) or (B, n), NaN where missing.
    S
        Error covariances: shared, in any format of `mixmeta`; or per data set, shape (B, n) or
        (B, n, 1) for k = 1, (B, n, k) variances, (B, n, k(k+1)/2) lower triangles or (B, n, k, k).
    formula
        Right-hand side of the fixed part, as ``"~ year"``.
    random, data, method, bscov, Psi_fix, rho, control, hold
        As in `mixmeta`; ``data`` has n complete rows, and ``control`` no start, mesh or verbose.
    offset
        Column name, or values of shape (n,), (n, k) or per data set (B, n, k), (B, n) for k = 1,
        subtracted from y; complete.
    returns
        Names of what to keep, so that memory stays bounded: "coef", "vcov", "Psi", "loglik",
        "converged", "status", "n_iter", "se", "theta", "gradient_norm", "reason", "blup", "Q",
        "I2". Arrays of several numbers per data set that are not named are never made.
    batch_size
        Data sets in one chunk; None for as many as fit the cache of a core.
    progress
        Whether long work shows a bar (with tqdm, where standard error is a terminal).

    Returns
    -------
    ManyFits

    Raises
    ------
    InputError
        For what is wrong with all data sets: shapes, formula, groups, a shared S, the method.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> y = np.stack([bcg.logor, 2 * bcg.logor])
    >>> mx.fit_many(y, bcg.logorvar, "~ ablat", data=bcg).coef["ablat"].round(3)
    array([-0.032, -0.058])
    """
    traceable = {"y": y, "S": S, "data": data, "Psi_fix": Psi_fix, "rho": rho, "offset": offset}
    gates.refuse_traced(traceable, "fit_many")
    settings = as_control(control)
    check_single_settings(settings)
    kept = gates.choices(returns, "returns", Returned)
    if batch_size is not None:
        batch_size = gates.whole(batch_size, "batch_size, if given,", 1)
    gates.flag(progress, "progress")
    gates.text(formula, "formula", "a right-hand side, as '~ 1' or '~ year'")
    model = many_model(y, S, formula, random, data, bscov, Psi_fix, rho, offset, hold)
    name = judged_method(model, method, hold)
    return fit_model(model, name, settings, kept, batch_size, progress)


def fit_model(
    model: ManyModel,
    method: str,
    control: Control,
    returns: Sequence[str] = DEFAULT_RETURNS,
    batch_size: int | None = None,
    progress: bool = True,
) -> ManyFits:
    """`fit_many` from where its arguments have been read."""
    design = model.design.without_levels() if method == "fixed" else model.design
    members, status, reason = sound_members(replace(model, design=design), method)
    wanted = {*returns, "Psi"} if "blup" in returns else returns
    with progress_bar(design.n_sets, progress and design.n_sets >= LONG_WORK) as tick:
        tick(design.n_sets - len(members))
        if not len(members):
            found = ManyEstimates.empty(design, wanted)
        elif method in LIKELIHOOD_METHODS:
            found = fit_batch(design, members, method, control, batch_size, tick, wanted)
        else:
            found = fit_moment_batch(
                design, members, method, control, reason, batch_size, tick, wanted
            )
    unsound = status >= 0
    found.status[unsound] = status[unsound]
    overflown = np.flatnonzero((found.status == Status.NOT_FINITE) & ~unsound)
    found.withdraw(overflown, Status.NOT_FINITE)
    for b in overflown.tolist():
        reason[b] = _why_not_finite(model, design.one(b))
    more = {}
    try:
        if "blup" in returns:
            more["blup"] = _blups(model, design, found, batch_size)
        if "Q" in returns or "I2" in returns:
            more |= _heterogeneity(design, members, batch_size)
    except KeyboardInterrupt:
        warnings.warn(
            "The run was interrupted before the BLUPs and Q were there: what is missing of them "
            "is None.",
            stacklevel=3,
        )
    return many_result(model, found, {"reason": reason, **more}, method, returns)


def _why_not_finite(model: ManyModel, design: Design) -> str:
    variances = np.asarray(error_variances(design))[design.mask]
    names = model.frame.outcome_names, model.frame.x_names
    return beyond_precision(design.y, design.X, variances, *names)


def _blups(
    model: ManyModel, design: Design, found: ManyEstimates, batch_size: int | None
) -> np.ndarray:
    members = np.flatnonzero(np.isfinite(found.beta).all(1))
    values = np.full(design.y.shape, np.nan)
    for part, own in _chunks(design, members, batch_size):
        Psi = [P[part] for P in found.Psi or ()]
        values[part] = predicted_outcomes(own, found.beta[part], Psi)
    return values + model.frame.offset


def _heterogeneity(
    design: Design, members: np.ndarray, batch_size: int | None
) -> dict[str, np.ndarray]:
    Q, I2 = np.full((2, design.n_sets), np.nan)
    for part, own in _chunks(design, members, batch_size):
        Q[part] = fixed_effects(own).Q
        df = own.mask.sum((-2, -1)) - own.p * own.k
        excess = np.maximum(0.0, Q[part] - df)
        share = np.divide(excess, Q[part], out=np.zeros(len(part)), where=excess > 0)
        I2[part] = np.where(df > 0, 100 * share, np.nan)
    return {"Q": Q, "I2": I2}


def _chunks(
    design: Design, members: np.ndarray, batch_size: int | None
) -> Iterator[tuple[np.ndarray, Design]]:
    """The members in turn, and their design."""
    size = chunk_size(design, batch_size, max(1, len(members)))
    for first in range(0, len(members), size):
        part = members[first : first + size]
        yield part, design.taken(part)


def many_result(
    model: ManyModel,
    found: ManyEstimates,
    more: Mapping[str, np.ndarray],
    method: str,
    returns: Sequence[str],
) -> ManyFits:
    """Estimates with their names; a warning where the run was interrupted before the last."""
    left = np.flatnonzero(found.status == Status.INTERRUPTED)
    if len(left):
        # One may have been half stored.
        found.withdraw(left)
        warnings.warn(
            f"The run was interrupted: {len(left)} of {len(found.status)} data sets have the "
            "status INTERRUPTED and NaN estimates.",
            stacklevel=4,
        )
    Psi: Any = None
    levels: tuple[str, ...] = () if method == "fixed" else tuple(model.level_names)
    if levels and found.Psi is not None:
        Psi = found.Psi[0] if len(levels) == 1 else dict(zip(levels, found.Psi, strict=True))
    values = {
        "coef": found.beta,
        "se": found.se,
        "vcov": found.vcov,
        "Psi": Psi,
        "loglik": found.loglik,
        "converged": found.status <= Status.BOUNDARY,
        "status": found.status,
        "n_iter": found.n_iter,
        "theta": found.theta,
        "gradient_norm": found.gradient_norm,
        **more,
    }
    return ManyFits(
        **{name: values.get(name) if name in returns else None for name in RETURNS},
        coef_names=tuple(model.coef_names),
        level_names=levels,
        random_names=tuple(map(tuple, model.random_names)) if levels else (),
        method=method,
        n_sets=len(found.status),
    )
