"""From starts to judged ends: what is executed at once by NumPy, or compiled, for B paths."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, cond, mapped, namespace, tree
from mixmeta_jax.design.tensors import Tensors
from mixmeta_jax.estimation.newton import (
    ARRIVED,
    NOWHERE,
    RUNNING,
    Path,
    Problem,
    climb,
    covariance_of,
    departure,
)
from mixmeta_jax.estimation.verdict import Verdict, judge
from mixmeta_jax.likelihood.engines import engine_for
from mixmeta_jax.likelihood.information import is_exact
from mixmeta_jax.likelihood.likelihood import constant_terms, prepared, solution_at


@tree
@dataclass(frozen=True)
class Ends:
    """Where paths have ended, and what that is.

    Attributes
    ----------
    path
        Where the optimisations stand.
    loglik
        Log-likelihood, shape (B,).
    Psi
        Ψ of each level there, shape (d, d, B); variances at their bound are exactly 0.
    beta, V
        Coefficients, shape (P, B), and their covariance, shape (P, P, B), in the orthonormal basis.
    verdict
        What the ends are. Along the directions in which Ψ does not move, the information that leads
        a path is the observed one.
    without
        Log-likelihood of each path with no variance at one level after the other, outer first, then
        at none (`start` begins with small variances there), shape (1 or L + 1, B); None if not
        wanted.
    """

    path: Path
    loglik: Array
    Psi: tuple[Array, ...]
    beta: Array
    V: Array
    verdict: Verdict
    without: Array | None


def ascend(
    start: Array | Path,
    tensors: Tensors,
    problem: Problem,
    *,
    restricted: bool,
    shift: bool = True,
    without: bool = False,
    together: bool = False,
    report: Callable[..., None] | None = None,
    ready: tuple[Tensors, Array] | None = None,
) -> Ends:
    """Climb from θ of shape (n_θ, B), or on from where paths stand, and judge the ends.

    Parameters
    ----------
    start
        Where to start.
    tensors
        The data; of one data set, which all paths share, or of as many as there are paths.
    problem
        What steers the paths.
    restricted
        Whether to maximise the restricted likelihood.
    shift
        Whether data of one set are `shifts.shifted`.
    without
        Whether the likelihoods without variances are wanted.
    together
        Whether they are paths of one data set, of which NumPy need not follow all to their ends.
    report
        Called with the paths after every step, and with ``which`` where they are some of them.
    ready
        What `likelihood.prepared` makes of the tensors, where it is there already.
    """
    data, centre = prepared(tensors, shift) if ready is None else ready
    if not isinstance(start, Path):
        start = departure(start, data.n_coefficients, is_exact(data, restricted))
    xp = namespace(start.theta)
    follow = _climb_together if together and xp is np else climb
    path = follow(start, data, problem, restricted, report)
    rest = constant_terms(tensors, restricted)
    Psi, slopes, at = data.Psi(path.theta), data.slopes(path.theta), path.at
    value = xp.where(path.phase == NOWHERE, np.nan, at.value)
    verdict = judge(
        data.structures,
        value,
        path.norm,
        at.information,
        at.preconditioner,
        Psi,
        slopes,
        problem.scales,
        problem.units,
        problem.gradient_tol,
    )
    # Elsewhere a small variance may still grow, which an exact zero would not.
    ended = (path.norm <= problem.gradient_tol) & ~verdict.rising
    Psi = tuple(
        xp.where(ended, structure.without_null(P, scale), P)
        for structure, P, scale in zip(data.structures, Psi, problem.scales, strict=True)
    )
    others = None
    if without:
        kept = _kept_parameters(tuple(slope.shape[2] for slope in slopes))

        def values(theta: Array) -> Array:
            return xp.stack([_value(theta * own, data, restricted) for own in kept]) + rest

        def nothing(theta: Array) -> Array:
            return xp.full((len(kept), theta.shape[1]), np.nan)

        # Only of paths that do not look for another maximum than one that is known.
        unknown = True if problem.known is None else xp.isnan(problem.known[0]).any()
        others = cond(xp, unknown, values, nothing, path.theta)
    return Ends(path, value + rest, Psi, at.beta + centre, covariance_of(at), verdict, others)


def _climb_together(
    path: Path,
    data: Tensors,
    problem: Problem,
    restricted: bool,
    report: Callable[..., None] | None,
) -> Path:
    """`climb` of paths of one data set, by NumPy: when a quarter has ended the others go on alone.

    Those that come to the highest of the ends stop there.
    """
    while True:
        left = np.flatnonzero(path.phase == RUNNING)
        if len(left) <= problem.few:
            return path
        own = replace(taken_problem(problem, left), few=len(left) * 3 // 4)
        if (path.phase == ARRIVED).any() and not _is_known(problem):
            highest = np.argmax(np.where(path.phase == ARRIVED, path.at.value, -np.inf))
            known = data.Psi(path.theta[:, [highest]])
            own = replace(own, known=taken(known, np.zeros(len(left), int)))
        told = report
        if report is not None and len(left) < len(path.phase):
            told = functools.partial(report, which=left)
        ended = climb(taken(path, left), data, own, restricted, told)
        order = np.arange(len(path.phase))
        order[left] = len(order) + np.arange(len(left))
        path = taken(joined([path, ended]), order)


def _is_known(problem: Problem) -> bool:
    """Whether a maximum is known to any path."""
    return problem.known is not None and not np.isnan(problem.known[0]).all()


def ascend_each(start: Array, tensors: Tensors, problem: Problem, **static: Any) -> Ends:
    """`ascend` from several starts with the data of one set, (n_θ, B), traced.

    As a map over the starts, whose axis then comes first: along the last one, of the data sets, few
    starts would leave nothing to vectorise.
    """
    if start.shape[1] == 1:
        return ascend(start, tensors, problem, **static)
    import jax

    def one(start: Array, *steering: Any) -> Ends:
        start, units, scales, known = mapped(lambda leaf: leaf[..., None], (start, *steering))
        own = replace(problem, units=units, scales=scales, known=known)
        return mapped(lambda leaf: leaf[..., 0], ascend(start, tensors, own, **static))

    return jax.vmap(one, -1, -1)(start, problem.units, problem.scales, problem.known)


def values_at(
    starts: Array,
    tensors: Tensors,
    *,
    restricted: bool,
    ready: tuple[Tensors, Array] | None = None,
) -> Array:
    """Log-likelihood at each start less a constant, (n_starts,), for starts (n_starts, n_θ, 1)."""
    data, _ = prepared(tensors) if ready is None else ready
    return namespace(starts).stack([_value(theta, data, restricted)[0] for theta in starts])


def solution(
    theta: Array, tensors: Tensors, *, restricted: bool
) -> tuple[Array, Array, Array, tuple[Array, ...]]:
    """Log-likelihood (B,), β (P, B), V (P, P, B) and Ψ at θ, where there is nothing to iterate."""
    Psi = tensors.Psi(theta)
    return *solution_at(Psi, tensors, restricted), Psi


def _value(theta: Array, data: Tensors, restricted: bool) -> Array:
    return engine_for(data, theta.shape[1]).value(data.Psi(theta), data, restricted)


def _kept_parameters(counts: tuple[int, ...]) -> np.ndarray:
    """1 for the parameters of the levels that stay, as in `Ends.without`; θ = 0 is Ψ = 0."""
    level = np.repeat(np.arange(len(counts)), counts)
    each = [level != lost for lost in range(len(counts))] if len(counts) > 1 else []
    return np.array([*each, np.zeros(len(level), bool)], float)[:, :, None]


def problem_of(
    paths: int,
    units: Array,
    scales: Sequence[Array],
    known: tuple[Array, ...] | None,
    max_iter: Any,
    gradient_tol: Any,
) -> Problem:
    """What steers so many paths of one data set, from what they share: last axes of length 1."""
    xp = namespace(units, *scales)

    def wide(leaf: Array) -> Array:
        return xp.broadcast_to(leaf, (*leaf.shape[:-1], paths))

    units, scales, known = mapped(wide, (units, tuple(scales), known))
    return Problem(units, tuple(scales), known, max_iter, gradient_tol, 0)


def nothing_known(dims: tuple[int, ...], B: int) -> tuple[np.ndarray, ...]:
    """`Problem.known` where no maximum is known."""
    return tuple(np.full((d, d, B), np.nan) for d in dims)


def taken(tree: Any, chosen: Any) -> Any:
    """Some of the paths of a tree of arrays."""
    return mapped(lambda leaf: leaf.take(chosen, -1), tree)


def joined(trees: Sequence[Any]) -> Any:
    """The paths of several trees of numpy's arrays, side by side."""
    if len(trees) == 1:
        return trees[0]
    return mapped(lambda *leaves: np.concatenate(leaves, -1), *trees)


def taken_problem(problem: Problem, chosen: Any) -> Problem:
    """The problem of some of the paths."""
    units, scales, known = taken((problem.units, problem.scales, problem.known), chosen)
    return replace(problem, units=units, scales=scales, known=known)
