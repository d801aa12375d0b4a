"""The search for the maximum of one data set: several starts, saddles left, restarts, a verdict.

One machine of three phases, whose state is a tree of arrays: it runs on the host, where each climb
is NumPy's or a compiled program, or inside a traced function, as one loop.

- CLIMBING: the ends of all starts are judged, and the highest is kept. Where it is a saddle, the
  next climb starts on both sides of it, along the direction of ascent.
- RESTARTING: where the end may not be the highest, from random starts (`restarts`), in batches.
  If one of them ends higher, the search climbs from there.
- ENDED.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, mapped, namespace, tree, while_loop
from mixmeta_jax.estimation.ascent import Ends, taken
from mixmeta_jax.status import Status
from mixmeta_jax.tolerances import AS_HIGH, CLEARLY

LARGEST = np.finfo(float).max
"""The largest number, for what is not finite."""

ESCAPES = 4
"""How often a saddle is left before the fit is given up."""

RESTART_ITER = 50
"""Most evaluations of a restarted path: the best one is followed to its end afterwards."""

CLIMBING, RESTARTING, ENDED = range(3)


@tree
@dataclass(frozen=True)
class Maximum:
    """The highest point found so far, every array with a last axis of length 1.

    Attributes
    ----------
    theta, loglik, norm
        Parameters (n_θ, 1), log-likelihood (1,), and scale-free norm of its gradient (1,).
    Psi, beta, V
        As in `ascent.Ends`.
    status, n_iter
        Code of a `Status`; evaluations of the paths that were kept.
    """

    theta: Array
    loglik: Array
    norm: Array
    Psi: tuple[Array, ...]
    beta: Array
    V: Array
    status: Array
    n_iter: Array


@tree
@dataclass(frozen=True)
class _State:
    """Where the search stands: the next starts, the best point, the best of the restarts."""

    starts: Array
    best: Maximum
    candidate: Maximum
    phase: Array
    round: Array
    restarted: Array


Climb = Callable[[Array, Any, Any], Ends]
"""From starts of shape (n_θ, paths), the largest number of evaluations, and Ψ at a maximum that is
known (NaN or None: at none), to the ends."""


def search(
    climb: Climb,
    starts: Array,
    further: Callable[[], Array] | None,
    worth: Callable[[Array, tuple[Array, ...]], Array],
    max_iter: Any,
    gradient_tol: Any,
    dims: Sequence[int],
    n_coefficients: int,
) -> Maximum:
    """The highest point found from the starts.

    Parameters
    ----------
    climb
        Follows paths to their ends.
    starts
        Parameters to start from, shape (n_θ, paths).
    further
        Gives starts to go on from where the end may not be the highest, shape (batches, n_θ, paths
        of a batch), when they are needed; None for none.
    worth
        Whether that is so, from status and Ψ; see `restarts.worth_restarting`.
    max_iter, gradient_tol
        As in `Control`.
    dims, n_coefficients
        Numbers of random effects of each level, and of coefficients.
    """
    xp = namespace(starts)
    zero = xp.zeros(1, int)

    def attempt(state: _State) -> _State:
        restarting = state.phase == RESTARTING
        limit = xp.where(restarting[0], xp.minimum(max_iter, RESTART_ITER), max_iter)
        known = None
        if further is not None:
            # What a restart is for is another maximum.
            sound = restarting & (state.best.norm <= gradient_tol)
            known = tuple(xp.where(sound, P, np.nan) for P in state.best.Psi)
        ends = climb(state.starts, limit, known)

        def climbed() -> _State:
            on = _climbed(state, ends, starts.shape[1])
            if further is None:
                return on
            go = (on.phase == ENDED) & ~state.restarted & worth(on.best.status, on.best.Psi)
            begun = {"phase": zero + RESTARTING, "round": zero, "restarted": zero == 0}
            return _either(go, lambda: replace(on, starts=further()[0], **begun), lambda: on)

        if further is None:
            return climbed()
        again = functools.partial(_restarted, state, ends)
        return _either(restarting, lambda: again(further(), starts.shape[1], gradient_tol), climbed)

    nowhere = _nowhere(starts[:, :1], dims, n_coefficients)
    state = _State(starts, nowhere, nowhere, zero, zero, zero > 0)
    return while_loop(xp, lambda state: (state.phase != ENDED)[0], attempt, state).best


def _nowhere(theta: Array, dims: Sequence[int], n_coefficients: int) -> Maximum:
    """A place below every other."""
    xp = namespace(theta)
    low, P = xp.full(1, -np.inf), n_coefficients
    Psi = tuple(xp.zeros((d, d, 1)) for d in dims)
    count = xp.zeros(1, int)
    return Maximum(theta, low, -low, Psi, xp.zeros((P, 1)), xp.zeros((P, P, 1)), count, count)


def _climbed(state: _State, ends: Ends, paths: int) -> _State:
    """After a climb: on from a saddle, or the end."""
    xp = namespace(ends.loglik)
    first, spent = state.round == 0, state.round == ESCAPES
    new, rising, ascent = _found(ends, AS_HIGH)
    better = first | (new.loglik > clearly_above(state.best.loglik))
    rising &= better
    best = _either(better, lambda: new, lambda: state.best)
    status = xp.where(rising & spent, int(Status.MAX_ITER), best.status)
    best = replace(best, status=status, n_iter=state.best.n_iter + new.n_iter)
    phase = xp.where(rising & ~spent, CLIMBING, ENDED)
    starts = new.theta + ascent * _both_sides(paths)
    return _State(starts, best, state.candidate, phase, state.round + 1, state.restarted)


def _restarted(state: _State, ends: Ends, further: Array, paths: int, gradient_tol: Any) -> _State:
    """After a batch of restarts: the next one, on from the best of them, or the end."""
    xp = namespace(ends.loglik)
    new, _, _ = _found(ends, CLEARLY)
    old, best = state.candidate, state.best
    both = best_path(
        xp.concatenate([old.loglik, new.loglik]), xp.concatenate([old.norm, new.norm]), CLEARLY
    )
    candidate = _either((state.round == 0) | (both == 1), lambda: new, lambda: old)
    last = state.round + 1 == len(further)
    # Or as high with a gradient that counts as zero, where that of the best does not.
    vanished = (candidate.norm <= gradient_tol) & ~(best.norm <= gradient_tol)
    as_high = (clearly_above(candidate.loglik) > best.loglik) & vanished
    higher = (candidate.loglik > clearly_above(best.loglik)) | as_high
    phase = xp.where(last, xp.where(higher, CLIMBING, ENDED), RESTARTING)
    following = further[xp.minimum(state.round + 1, len(further) - 1)[0]]
    anew = xp.broadcast_to(candidate.theta, (len(candidate.theta), paths))
    starts = _either(last, lambda: anew, lambda: following)
    climbs = last & higher
    count = xp.where(climbs, 0, best.n_iter)
    return replace(
        state,
        starts=starts,
        best=replace(best, n_iter=count),
        candidate=candidate,
        phase=phase,
        round=xp.where(last, 0, state.round + 1),
    )


def _either(which: Array, one: Callable[[], Any], other: Callable[[], Any]) -> Any:
    """One of two trees, of which the host makes only that: they may have different shapes there."""
    xp = namespace(which)
    if xp is np:
        return one() if which[0] else other()
    return mapped(lambda a, b: xp.where(which[0], a, b), one(), other())


def _found(ends: Ends, margin: float) -> tuple[Maximum, Array, Array]:
    """The best of the ends, whether the likelihood still rises there, and the way up."""
    path, verdict = ends.path, ends.verdict
    at = path.theta, ends.loglik, path.norm, ends.Psi, ends.beta, ends.V, verdict.status
    chosen = best_path(ends.loglik, path.norm, margin)
    *found, rising, ascent = taken((*at, path.n_iter, verdict.rising, verdict.ascent), chosen)
    return Maximum(*found), rising, ascent


def clearly_above(value: Any) -> Any:
    """What a log-likelihood must exceed to be higher by more than rounding."""
    return value + CLEARLY * (1 + abs(value))


def best_path(values: Array, norms: Array, margin: float) -> Array:
    """Of the ends that are as high as the highest, up to a margin, the one of least gradient, (1,).

    NaN is lower than any number.
    """
    xp = namespace(values)
    values = xp.fmin(xp.fmax(values, -np.inf), LARGEST)
    highest = values.max()
    level = values >= highest - margin * (1 + xp.abs(highest))
    return xp.argmin(xp.where(level, xp.fmin(norms, LARGEST), np.inf))[None]


def _both_sides(paths: int) -> np.ndarray:
    """Steps to both sides, ever further."""
    return np.array([(-1) ** path * 0.1 * 2.0 ** (path // 2) for path in range(paths)])
