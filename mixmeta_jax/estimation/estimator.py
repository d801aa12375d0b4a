"""From a design to an estimate: start, maximise, judge, and hand the numbers back to numpy."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.design.design import Design, Tensors
from mixmeta_jax.design.sharding import placed
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.convergence import judge
from mixmeta_jax.estimation.newton import packed_maximum, values_at
from mixmeta_jax.estimation.restarts import restarts, worth_restarting
from mixmeta_jax.estimation.start import (
    covariance_start,
    natural_units,
    starting_parameters,
    starting_variances,
)
from mixmeta_jax.model import one_level
from mixmeta_jax.likelihood.likelihood import solution_at
from mixmeta_jax.status import Status

SEVERAL_SIZE = 2_000
"""Observations up to which every start is followed; beyond, the one of the highest likelihood, or
one of its own near the maximum."""

EXACT_SIZE = 20_000
"""Observations up to which every Newton step forms the observed information."""

MANY_PARAMETERS = 100
"""Parameters up to which every start is followed, in one order of Λ, until it ends."""

PATIENCE = 30
"""Evaluations of many parameters after which Λ is turned: those that converge have done so."""

RESTART_ITER = 50
"""Most evaluations of a restarted path: the best one is followed to its end afterwards."""

ROUNDING, CLEARLY = 1e-10, 1e-9
"""Differences of log-likelihoods, relative to 1 + their size, that are rounding or more than it."""

MOST = np.finfo(float).max
"""The largest number, for what is not finite."""

ESCAPES = 4
"""How often a saddle is left before the fit is given up."""


@dataclass(frozen=True)
class Estimate:
    """The end of an estimation, as numpy arrays.

    Attributes
    ----------
    beta, vcov
        Coefficients, shape (P,), and their covariance, shape (P, P), P = p·k, predictor-major.
    theta, Psi
        Parameters of all levels, and Ψ of each, outer first (None for fixed effects).
    loglik
        Log-likelihood, or restricted log-likelihood, at its maximum.
    n_iter
        Likelihood evaluations of the path that was kept.
    gradient_norm
        Scale-free norm of the gradient: the largest predicted rise, in standard errors.
    status
        How it ended.
    information
        Observed information in θ, shape (n_θ, n_θ).
    """

    beta: np.ndarray
    vcov: np.ndarray
    theta: np.ndarray
    Psi: tuple[np.ndarray, ...] | None
    loglik: float
    n_iter: int
    gradient_norm: float
    status: Status
    information: np.ndarray


def fit_design(
    design: Design, method: str, control: Control, level_names: Sequence[str] = ()
) -> Estimate:
    """Estimate a model by fixed effects, maximum likelihood or restricted maximum likelihood.

    Parameters
    ----------
    design
        The model, its arrays numpy's.
    method
        "fixed", "ml" or "reml".
    control
        Settings.
    level_names
        Names of the levels, for ``control.start`` as a mapping.

    Raises
    ------
    InputError
        Where ``control.start`` does not fit the levels.
    """
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        if method == "fixed":
            return _at(design.without_levels(), np.zeros(0), method, control)
        if sum(design.n_parameters) == 0:
            return _at(design, np.zeros(0), method, control)
        return _maximum(design, method, control, level_names)


def _at(design: Design, theta: np.ndarray, method: str, control: Control) -> Estimate:
    """The estimate where there is nothing to iterate."""
    tensors = placed(design, control.mesh)
    Psi = tuple(np.asarray(P) for P in design.Psi(jnp.asarray(theta)))
    loglik, beta, V = solution_at(Psi, tensors, method=method)
    beta, vcov = _to_predictors(design, np.asarray(beta), np.asarray(V))
    status = Status.CONVERGED if np.isfinite(loglik) else Status.NOT_FINITE
    matrices = Psi if design.structures else None
    empty = np.zeros((0, 0))
    return Estimate(beta, vcov, theta, matrices, float(loglik), 0, 0.0, status, empty)


def _maximum(design: Design, method: str, control: Control, level_names: Sequence[str]) -> Estimate:
    scales = starting_variances(design)
    own = starting_parameters(design.structures, scales)
    units = natural_units(own)
    starts = own if control.n_starts is None else own[: control.n_starts]
    near = covariance_start(design, scales) if design.mask.sum() > SEVERAL_SIZE else None
    if near is not None:
        starts = near
    if control.start is not None:
        starts = given_start(design, control.start, level_names)
    tensors = placed(design, control.mesh)
    first = control
    if len(units) > MANY_PARAMETERS:
        first = replace(control, max_iter=min(control.max_iter, PATIENCE))
    best, status, n_iter = _search(design, tensors, starts, scales, units, method, first)
    own_choice = control.start is None and control.n_starts is None
    small = design.mask.sum() <= SEVERAL_SIZE
    if own_choice and small and worth_restarting(design, status, best.Psi):
        theta = _restarted(design, tensors, best, len(starts), scales, units, method, control)
        if theta is not None:
            again = np.tile(theta, (len(starts), 1))
            best, status, n_iter = _search(design, tensors, again, scales, units, method, control)
    if status is Status.MAX_ITER:
        turned = _reordered(design, best.Psi, scales)
        if turned is not None:
            theta = _parameters(turned, best.Psi)[None]
            same = replace(tensors, structures=turned.structures)
            other, status, more = _search(turned, same, theta, scales, units, method, control)
            # The parameters and their information are reported in the user's order.
            start = _parameters(design, other.Psi)[None]
            settings = replace(control, max_iter=1, verbose=False)
            again = _climb(start, tensors, units, method, settings)
            best, n_iter = _highest(again), n_iter + more
            best = replace(best, path=replace(best.path, norm=other.path.norm))
        elif first.max_iter < control.max_iter:
            again = best.path.theta[None]
            best, status, more = _search(design, tensors, again, scales, units, method, control)
            n_iter += more
    path = best.path
    beta, vcov = _to_predictors(design, path.at.beta + best.centre.ravel(), path.at.V)
    return Estimate(
        beta,
        vcov,
        path.theta,
        best.Psi,
        float(path.at.value + best.constant),
        n_iter,
        float(path.norm),
        status,
        path.at.observed,
    )


def _search(
    design: Design,
    tensors: Tensors,
    starts: np.ndarray,
    scales: Sequence[np.ndarray],
    units: np.ndarray,
    method: str,
    control: Control,
) -> tuple[Any, Status, int]:
    """The highest point found from the starts, its status, and the evaluations it took."""
    climb = functools.partial(_climb, tensors=tensors, units=units, method=method, control=control)
    n_iter = 0
    several = float(tensors.n_obs) <= SEVERAL_SIZE and len(units) <= MANY_PARAMETERS
    if len(starts) > 1 and not several:
        values = np.asarray(values_at(starts, tensors, method=method))
        starts = starts[[int(np.argmax(np.where(np.isnan(values), -np.inf, values)))]]
    if float(tensors.n_obs) > EXACT_SIZE and not one_level.covers(tensors):
        # The average information leads most of the way at a fraction of the cost.
        maximum = climb(starts, exact=False)
        starts = maximum.path.theta
        n_iter = int(maximum.path.n_iter[0])
    best, status = None, Status.MAX_ITER
    for _ in range(ESCAPES + 1):
        maximum = climb(starts, exact=True)
        found = _highest(maximum)
        n_iter += int(found.path.n_iter)
        if best is not None and not found.path.at.value > _clearly_above(best.path.at.value):
            return best, status, n_iter
        best, at = found, found.path.at
        verdict = judge(
            design.structures,
            at.value,
            found.path.norm,
            at.observed,
            at.guide,
            found.Psi,
            found.slopes,
            scales,
            units,
            control.gradient_tol,
        )
        status = Status(int(verdict.status))
        if not verdict.rising:
            return best, status, n_iter
        starts = _leave(best.path.theta, verdict.ascent, len(starts))
    return best, Status.MAX_ITER, n_iter


def _climb(
    starts: np.ndarray,
    tensors: Tensors,
    units: np.ndarray,
    method: str,
    control: Control,
    exact: bool = True,
) -> Any:
    """The ends of the paths from the starts, a `Maximum` of numpy's arrays.

    The one call of its program: to JAX the same arguments by position and by name are two.
    """
    ends = packed_maximum(
        starts,
        tensors,
        units,
        control.max_iter,
        control.gradient_tol,
        method=method,
        exact=exact,
        verbose=control.verbose,
    )
    return ends.fetched()


def _restarted(
    design: Design,
    tensors: Tensors,
    best: Any,
    lanes: int,
    scales: Sequence[np.ndarray],
    units: np.ndarray,
    method: str,
    control: Control,
) -> np.ndarray | None:
    """Where the best of the restarts ends, if that is higher.

    Or as high with a gradient that counts as zero, where that of ``best`` does not.
    """
    short = replace(control, max_iter=min(control.max_iter, RESTART_ITER))
    ends = [
        _climb(starts, tensors, units, method, short).path
        for starts in restarts(design.structures, scales, lanes)
    ]
    if not ends:
        return None
    theta, values, norms = (
        np.concatenate(parts)
        for parts in zip(*((end.theta, end.at.value, end.norm) for end in ends), strict=True)
    )
    lane = _best_lane(values, norms, CLEARLY)
    found, norm, at = values[lane], norms[lane], best.path.at.value
    higher = found > _clearly_above(at)
    as_high = _clearly_above(found) > at and norm <= control.gradient_tol < best.path.norm
    return theta[lane] if higher or as_high else None


def _clearly_above(value: float) -> float:
    return value + CLEARLY * (1 + abs(value))


def _best_lane(values: np.ndarray, norms: np.ndarray, margin: float) -> int:
    """Of the ends that are as high as the highest, up to a margin, the one of least gradient."""
    values = np.fmin(np.fmax(values, -np.inf), MOST)  # NaN is lower than any number
    highest = values.max()
    level = values >= highest - margin * (1 + np.abs(highest))
    return int(np.argmin(np.where(level, np.fmin(norms, MOST), np.inf)))


def _highest(maximum: Any) -> Any:
    """The end of the best path of a `Maximum`, without the axis of the starts."""
    lane = _best_lane(maximum.path.at.value, maximum.path.norm, ROUNDING)
    path, Psi, slopes = jax.tree.map(
        lambda leaf: leaf[lane], (maximum.path, maximum.Psi, maximum.slopes)
    )
    return replace(maximum, path=path, Psi=Psi, slopes=slopes)


def _reordered(
    design: Design, Psi: Sequence[np.ndarray], scales: Sequence[np.ndarray]
) -> Design | None:
    """The same model with Λ in another order: each effect has the most left of the rest.

    Where a variance vanishes, given the effects before it, a Cholesky factor leaves a narrow curved
    valley in θ; one that ends with it does not. None where no structure has an order to change.
    """
    structures = tuple(
        structure.ordered(_pivots(P / np.sqrt(np.outer(scale, scale))))
        for structure, P, scale in zip(design.structures, Psi, scales, strict=True)
    )
    changed = any(a is not b for a, b in zip(structures, design.structures, strict=True))
    return replace(design, structures=structures) if changed else None


def _pivots(Psi: np.ndarray) -> np.ndarray:
    """The order of Cholesky's elimination with pivoting: largest conditional variance first."""
    left = Psi.copy()
    order: list[int] = []
    for _ in range(len(Psi)):
        free = np.where(np.isin(np.arange(len(Psi)), order), -np.inf, np.diag(left))
        first = int(np.argmax(free))
        order.append(first)
        if free[first] > 0:
            left = left - np.outer(left[:, first], left[first]) / free[first]
    return np.array(order)


def _parameters(design: Design, Psi: Sequence[np.ndarray]) -> np.ndarray:
    parts = [s.theta(P) for s, P in zip(design.structures, Psi, strict=True)]
    return np.concatenate(parts)


def _leave(theta: np.ndarray, ascent: np.ndarray, n_starts: int) -> np.ndarray:
    """Starts on both sides of a saddle, ever further along the direction of ascent."""
    steps = [(-1) ** lane * 0.1 * 2.0 ** (lane // 2) for lane in range(n_starts)]
    return theta + np.outer(steps, ascent)


def given_start(design: Design, start: Any, level_names: Sequence[str]) -> np.ndarray:
    """θ of a Ψ per level, or of one Ψ for all of them, shape (1, n_θ)."""
    matrices = start
    if not isinstance(start, Mapping):
        matrices = dict(zip(level_names, [start] * len(level_names), strict=True))
    missing = [name for name in level_names if name not in matrices]
    if missing or len(matrices) != len(level_names):
        raise InputError(
            f"control: start must give a matrix for each level ({', '.join(level_names)}); it "
            f"has {', '.join(map(str, matrices))}."
        )
    parts = []
    for structure, d, name in zip(design.structures, design.dims, level_names, strict=True):
        parts.append(structure.theta(_start_matrix(matrices[name], d, name)))
    return np.concatenate(parts)[None]


def _start_matrix(given: Any, d: int, name: str) -> np.ndarray:
    try:
        Psi = np.atleast_2d(np.asarray(given, float))
    except (TypeError, ValueError):
        Psi = np.full((0, 0), np.nan)
    if Psi.shape != (d, d) or not np.isfinite(Psi).all():
        raise InputError(f"control: start for level '{name}' must be a finite {d} × {d} matrix.")
    if not np.allclose(Psi, Psi.T) or np.linalg.eigvalsh(Psi)[0] < -1e-10 * np.abs(Psi).max():
        raise InputError(
            f"control: start for level '{name}' must be symmetric and positive semidefinite."
        )
    return Psi


def _to_predictors(
    design: Design, beta: np.ndarray, V: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and covariance from the orthonormal basis to the user's predictors."""
    T = design.basis if design.k == 1 else np.kron(design.basis, np.eye(design.k))
    vcov = T @ V @ T.T
    return T @ beta, 0.5 * (vcov + vcov.T)
