"""From a design to an estimate: start, climb, judge, and hand the numbers back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.covariance.structure import Structure, is_semidefinite, is_symmetric
from mixmeta_jax.design.design import Design
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.ascent import Ends, problem_of
from mixmeta_jax.estimation.executors import AtOnce, Told, executor
from mixmeta_jax.estimation.restarts import restartable, restarts, worth_restarting
from mixmeta_jax.estimation.search import Maximum, search
from mixmeta_jax.estimation.start import (
    MANY_PARAMETERS,
    SEVERAL_SIZE,
    covariance_start,
    follows_all,
    natural_units,
    starting_parameters,
    starting_variances,
)
from mixmeta_jax.status import Status

PATIENCE = 30
"""Evaluations of many parameters after which Λ is turned: those that converge have done so."""


WAY_ON = "way on"
"""What a user is told of climbs from where others have ended."""


@dataclass(frozen=True)
class SingleEstimate:
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
    """

    beta: np.ndarray
    vcov: np.ndarray
    theta: np.ndarray
    Psi: tuple[np.ndarray, ...] | None
    loglik: float
    n_iter: int
    gradient_norm: float
    status: Status


def fit_design(
    design: Design, method: str, control: Control, level_names: Sequence[str] = ()
) -> SingleEstimate:
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
        Where ``control.start`` does not fit the levels, or ``control.backend`` the structures.
    """
    if method == "fixed":
        design = design.without_levels()
    if sum(design.n_parameters) == 0:
        return _at_nothing(design, method, control)
    with np.errstate(all="ignore"):  # a fit that overflows ends as NOT_FINITE
        return _Search(design, method, control, level_names).estimate()


def _at_nothing(design: Design, method: str, control: Control) -> SingleEstimate:
    """The estimate where there is nothing to iterate."""
    run = executor(design, method, control)
    loglik, beta, V, Psi = run.solution(np.zeros((0, 1)), restricted=method == "reml")
    beta, vcov = _to_predictors(design, beta[:, 0], V[:, :, 0])
    status = Status.CONVERGED if np.isfinite(loglik[0]) else Status.NOT_FINITE
    matrices = tuple(P[:, :, 0] for P in Psi) if design.structures else None
    return _withdrawn(
        SingleEstimate(beta, vcov, np.zeros(0), matrices, float(loglik[0]), 0, 0.0, status)
    )


def _withdrawn(estimate: SingleEstimate) -> SingleEstimate:
    """The estimate; NaN where the likelihood was not finite, which says nothing of it."""
    if estimate.status != Status.NOT_FINITE:
        return estimate
    return replace(
        estimate,
        beta=np.full_like(estimate.beta, np.nan),
        vcov=np.full_like(estimate.vcov, np.nan),
        theta=np.full_like(estimate.theta, np.nan),
        Psi=None if estimate.Psi is None else tuple(P * np.nan for P in estimate.Psi),
        loglik=np.nan,
        gradient_norm=np.nan,
    )


class _Search:
    """The search for the maximum of one data set, its arrays numpy's."""

    def __init__(
        self, design: Design, method: str, control: Control, level_names: Sequence[str]
    ) -> None:
        self.design, self.control = design, control
        self.restricted = method == "reml"
        self.scales = tuple(starting_variances(design))
        own = starting_parameters(design.structures, self.scales)[:, :, 0]
        self.units = natural_units(own[:, :, None])
        starts = own if control.n_starts is None else own[: control.n_starts]
        large = design.n * design.k > SEVERAL_SIZE
        near = covariance_start(design, list(self.scales)) if large else None
        if near is not None:
            starts = near[:, :, 0]
        if control.start is not None:
            starts = given_start(design, control.start, level_names)
        self.starts = starts
        self.run = executor(design, method, control, len(starts) if follows_all(design) else 1)

    @property
    def restarted(self) -> bool:
        """Whether there may be restarts."""
        return restartable(self.design, self.control, self.restricted)

    def further(self) -> np.ndarray:
        """Starts of restarts, shape (batches, n_θ, paths of a batch)."""
        paths = len(self.starts)
        starts = restarts(self.design.structures, self.scales, paths)[:, :, 0]
        # NumPy takes them all at once; a program is there for as many as there are starts.
        batches = 1 if isinstance(self.run, AtOnce) else len(starts) // paths
        return np.swapaxes(starts.reshape(batches, -1, starts.shape[1]), 1, 2)

    def estimate(self) -> SingleEstimate:
        """The highest maximum that was found."""
        first = self.control.max_iter
        if len(self.units) > MANY_PARAMETERS:
            first = min(first, PATIENCE)
        further = functools.cache(self.further) if self.restarted else None
        best = self.climbed(self.run, self.starts, first, further)
        if best.status[0] == Status.MAX_ITER:
            best = self.turned(best, first)
        beta, vcov = _to_predictors(self.design, best.beta[:, 0], best.V[:, :, 0])
        return _withdrawn(
            SingleEstimate(
                beta,
                vcov,
                best.theta[:, 0],
                tuple(P[:, :, 0] for P in best.Psi),
                float(best.loglik[0]),
                int(best.n_iter[0]),
                float(best.norm[0]),
                Status(int(best.status[0])),
            )
        )

    def climbed(
        self,
        run: Any,
        starts: np.ndarray,
        max_iter: int,
        further: Callable[[], np.ndarray] | None = None,
        what: str = "start",
    ) -> Maximum:
        """The highest point found from starts of shape (n_starts, n_θ), ``what`` for a user."""
        total, chosen = len(starts), np.arange(len(starts))
        if total > 1 and not follows_all(self.design):
            values = run.values_at(starts[:, :, None], self.restricted)
            chosen = chosen[[int(np.argmax(np.where(np.isnan(values), -np.inf, values)))]]
            starts = starts[chosen]
        control, told = self.control, _Teller(what, chosen, total, further)

        def climb(theta: np.ndarray, max_iter: Any, known: Any) -> Ends:
            steering = self.units, self.scales, known, int(max_iter), control.gradient_tol
            problem = problem_of(theta.shape[1], *steering)
            own = told.of(theta) if control.verbose else None
            return run.ascend(theta, problem, told=own, together=True, restricted=self.restricted)

        worth = functools.partial(worth_restarting, self.design.structures)
        theta = np.ascontiguousarray(starts.T)
        dims, P = self.design.dims, self.design.p * self.design.k
        tolerance = control.gradient_tol
        return search(climb, theta, further, worth, max_iter, tolerance, dims, P)

    def turned(self, best: Maximum, first: int) -> Maximum:
        """On from where the steps ran out, with Λ in another order where it has one."""
        Psi = [P[:, :, 0] for P in best.Psi]
        max_iter = self.control.max_iter
        turned = _reordered(self.design, Psi, [scale[:, 0] for scale in self.scales])
        if turned is not None:
            theta = parameters(turned.structures, Psi)[None]
            tensors = replace(self.run.tensors, structures=turned.structures)
            found = self.climbed(type(self.run)(tensors), theta, max_iter, what=WAY_ON)
            # The parameters are reported in the user's order.
            theta = parameters(self.design.structures, [P[:, :, 0] for P in found.Psi])[:, None]
            return replace(found, theta=theta, n_iter=best.n_iter + found.n_iter)
        if first < max_iter:
            found = self.climbed(self.run, best.theta.T, max_iter, what=WAY_ON)
            return replace(found, n_iter=best.n_iter + found.n_iter)
        return best


class _Teller:
    """What the climbs of a search start from, one after the other, for a user who is told."""

    def __init__(
        self, what: str, chosen: np.ndarray, total: int, further: Callable[[], np.ndarray] | None
    ) -> None:
        self.first: Told | None = Told(what, tuple(chosen.tolist()), total)
        self.further = further
        self.restarts = 0

    def of(self, theta: np.ndarray) -> Told:
        """Of the climb that starts at θ of shape (n_θ, paths)."""
        if self.first is not None:
            own, self.first = self.first, None
            return own
        paths = theta.shape[1]
        drawn = None if self.further is None else self.further()
        # Restarts are taken from where they were drawn; a way on is made of where a climb ended.
        if drawn is None or not np.may_share_memory(theta, drawn):
            return Told(WAY_ON, tuple(range(paths)), paths)
        numbers = range(self.restarts, self.restarts + paths)
        self.restarts += paths
        return Told("restart", tuple(numbers), drawn.shape[0] * drawn.shape[2])


def _reordered(
    design: Design, Psi: Sequence[np.ndarray], scales: Sequence[np.ndarray]
) -> Design | None:
    """The same model with Λ in another order: each effect has the most left of the rest.

    Where a variance vanishes, given the effects before it, a Cholesky factor leaves a narrow curved
    valley in θ; one that ends with it does not. None where no structure has an order to change.
    """
    structures = tuple(
        structure.ordered(np.array(order))
        for structure, order in zip(design.structures, pivoted(Psi, scales), strict=True)
    )
    changed = any(a is not b for a, b in zip(structures, design.structures, strict=True))
    return replace(design, structures=structures) if changed else None


def pivoted(Psi: Sequence[np.ndarray], scales: Sequence[np.ndarray]) -> tuple[tuple[int, ...], ...]:
    """Per level, the order of its effects in which each has the most left of the rest."""
    return tuple(
        tuple(_pivots(P / np.sqrt(np.outer(scale, scale))).tolist())
        for P, scale in zip(Psi, scales, strict=True)
    )


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


def parameters(structures: Sequence[Structure], Psi: Sequence[np.ndarray]) -> np.ndarray:
    """θ of all levels at their Ψ, shape (n_θ,)."""
    return np.concatenate([s.theta(P) for s, P in zip(structures, Psi, strict=True)])


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
    if not (is_symmetric(Psi) and is_semidefinite(Psi)):
        raise InputError(
            f"control: start for level '{name}' must be symmetric and positive semidefinite."
        )
    return Psi


def _to_predictors(
    design: Design, beta: np.ndarray, V: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and covariance from the orthonormal basis to the user's predictors."""
    T = design.basis if design.k == 1 else np.kron(design.basis, np.eye(design.k))
    P = len(T)  # what follows fills their number up: see `Tensors.absent`
    vcov = T @ V[:P, :P] @ T.T
    return T @ beta[:P], 0.5 * (vcov + vcov.T)
