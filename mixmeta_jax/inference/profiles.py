"""Profile-likelihood intervals of natural parameters: all parameters and both ends together.

The signed root r(η) = sign(η − η̂) √(2(ℓ̂ − ℓ_p(η))) is nearly linear in a standard deviation or a
correlation; an end is where it is ±√χ²_1. The delta method says about where that is. Every round
evaluates the profile ℓ_p of all ends that are still open as one batch of fits, and brackets them as
Chandrupatla's method does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import chdtri

from mixmeta_jax.covariance.parameters import Parameter
from mixmeta_jax.tolerances import END_FOUND, FURTHEST, HIGHER_MAXIMUM, NARROW

MOST_ROUNDS = 60
"""Evaluations of an end at most; a dozen are usual."""

FURTHER = 4.0
"""Factor by which an upper end of a variance is looked for further out."""

BEYOND = 1.1
"""Part of the way to an end, as the delta method has it, at which the profile is met first: mostly
beyond the end, and close to it."""

ProfileFunction = Callable[[np.ndarray, np.ndarray, bool], np.ndarray]
"""ℓ_p of the parameters of some numbers, (b,), at some values, (b,); whether each is searched for
from all starts, rather than followed from one fit to the next."""


@dataclass(frozen=True)
class Intervals:
    """Profile intervals of n parameters, shape (n,) each.

    Attributes
    ----------
    lower, upper
        The ends; NaN where the parameter has no value.
    open_below, open_above
        Whether the end is a bound of the parameter, which the interval holds.
    highest
        The highest log-likelihood that was met.
    """

    lower: np.ndarray
    upper: np.ndarray
    open_below: np.ndarray
    open_above: np.ndarray
    highest: float


def profile_intervals(
    profile: ProfileFunction,
    parameters: Sequence[Parameter],
    estimates: np.ndarray,
    steps: np.ndarray,
    loglik: float,
    conf_level: float,
    errors: np.ndarray,
    thorough: bool = True,
) -> Intervals:
    """Intervals of all parameters.

    Parameters
    ----------
    profile
        The profiled log-likelihood.
    parameters, estimates
        The parameters and where their profiles are highest, shape (n,); NaN for none.
    steps
        A variance of the size to be expected, for those whose estimate is zero, shape (n,).
    loglik
        The log-likelihood there.
    conf_level
        Level of the intervals.
    errors
        Standard errors of the estimates, shape (n,), NaN where there is none.
    thorough
        Whether bounds are looked at where an end has been found before them, since the profile may
        rise again.
    """
    n, cut = len(parameters), float(np.sqrt(chdtri(1, 1 - conf_level)))
    bounds = np.array([[p.lower for p in parameters], [p.upper for p in parameters]])
    ends = np.full((2, n), np.nan)
    held = np.zeros((2, n), bool)
    there = np.isfinite(estimates)
    seen = _Seen(profile, estimates, loglik)
    variances = np.array([p.is_variance for p in parameters], bool)
    near, far, outside = _first(estimates, errors, variances, bounds, cut)
    inner, at_inner = np.stack([estimates] * 2), np.full((2, n), -cut)
    side, which = np.nonzero(there & np.isfinite(near))
    roots = np.full((2, n), np.nan)
    roots[side, which] = np.abs(seen.roots(which, near[side, which], side)) - cut
    beyond, within = roots > 0, roots <= 0
    far[beyond], outside[beyond] = near[beyond], roots[beyond]
    inner[within], at_inner[within] = near[within], roots[within]
    # Ends that are bounds, or within which an end must lie.
    side, which = np.nonzero(np.isfinite(bounds) & there & (thorough | ~beyond))
    found = np.abs(seen.roots(which, bounds[side, which], side, searched=True)) - cut
    held[side, which] = found <= 0
    ends[held] = bounds[held]
    first = ~beyond[side, which]
    far[side[first], which[first]] = bounds[side[first], which[first]]
    outside[side[first], which[first]] = found[first]
    # Of a variance above: as far out as it takes.
    open_ended = np.flatnonzero(there & np.isinf(bounds[1]) & ~beyond[1])
    start = np.maximum(FURTHER * np.where(within[1], near[1], estimates), steps)
    value = start.copy()
    while len(open_ended):
        left = np.abs(seen.roots(open_ended, value[open_ended], np.ones(len(open_ended), int)))
        far[1, open_ended], outside[1, open_ended] = value[open_ended], left - cut
        value[open_ended] *= FURTHER
        open_ended = open_ended[left <= cut]
        lost = value[open_ended] > FURTHEST * start[open_ended]
        ends[1, open_ended[lost]], held[1, open_ended[lost]] = np.inf, True
        open_ended = open_ended[~lost]
    side, which = np.nonzero(there & ~held)
    if len(which):
        root = variances[which]

        def values(active: np.ndarray, z: np.ndarray) -> np.ndarray:
            return np.where(root[active], z**2, z)

        def excess(active: np.ndarray, z: np.ndarray, searched: bool = False) -> np.ndarray:
            roots = seen.roots(which[active], values(active, z), side[active], searched)
            return np.abs(roots) - cut

        a, b = inner[side, which], far[side, which]
        a, b = (np.where(root, np.sqrt(np.abs(v)), v) for v in (a, b))
        beyond_end = outside[side, which]
        z = bracketed(excess, a, b, at_inner[side, which], beyond_end)
        # Where another maximum is higher at the end, the end lies further out, on that.
        every = np.arange(len(which))
        left = excess(every, z, searched=True)
        again = np.flatnonzero(left < -HIGHER_MAXIMUM)
        if len(again):

            def searched(active: np.ndarray, z: np.ndarray) -> np.ndarray:
                return excess(again[active], z, searched=True)

            inside, at_inside = z[again], left[again]
            beyond_it = b[again]
            at_beyond = excess(again, beyond_it, searched=True)
            limit = bounds[side[again], which[again]]
            limit = np.where(root[again], np.sqrt(np.abs(limit)), limit)
            short = np.flatnonzero(at_beyond <= 0)
            while len(short):
                # It is as high there too: on to the bound, or further out.
                inside[short], at_inside[short] = beyond_it[short], at_beyond[short]
                further = np.sqrt(FURTHER) * beyond_it[short]
                beyond_it[short] = np.where(np.isfinite(limit[short]), limit[short], further)
                at_beyond[short] = searched(short, beyond_it[short])
                short = short[(at_beyond[short] <= 0) & (beyond_it[short] < limit[short])]
            z[again] = bracketed(searched, inside, beyond_it, at_inside, at_beyond)
        ends[side, which] = values(every, z)
    return Intervals(ends[0], ends[1], held[0], held[1], seen.highest)


def _first(
    estimates: np.ndarray,
    errors: np.ndarray,
    variances: np.ndarray,
    bounds: np.ndarray,
    cut: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where ends are looked for first, shape (2, n), NaN for nowhere; and outside of them nothing.

    Standard deviations and correlations at `BEYOND` times their distance by the delta method.
    """
    with np.errstate(all="ignore"):
        centre = np.where(variances, np.sqrt(np.abs(estimates)), estimates)
        half = BEYOND * cut * np.where(variances, errors / (2 * centre), errors)
        near = centre + np.array([[-1.0], [1.0]]) * half
        near = np.where(variances & (near > 0), near**2, np.where(variances, np.nan, near))
        near[~((near > bounds[0]) & (near < bounds[1]))] = np.nan
    return near, bounds.copy(), np.full(near.shape, np.nan)


class _Seen:
    """The signed roots, and the highest likelihood on the way."""

    def __init__(self, profile: ProfileFunction, estimates: np.ndarray, loglik: float) -> None:
        self.profile, self.estimates, self.loglik = profile, estimates, loglik
        self.highest = loglik

    def roots(
        self, which: np.ndarray, values: np.ndarray, side: np.ndarray, searched: bool = False
    ) -> np.ndarray:
        if not len(which):
            return np.zeros(0)
        found = self.profile(which, values, searched)
        self.highest = max(self.highest, float(np.nanmax(found, initial=-np.inf)))
        size = np.sqrt(np.maximum(2 * (self.loglik - found), 0.0))
        # A likelihood that is not finite is as low as can be.
        size = np.where(np.isnan(size), np.inf, size)
        return np.where(side == 1, size, -size)


def bracketed(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    a: np.ndarray,
    b: np.ndarray,
    at_a: np.ndarray,
    at_b: np.ndarray,
) -> np.ndarray:
    """Roots of n functions between a and b, where their signs differ, by Chandrupatla's method.

    Parameters
    ----------
    function
        Of the numbers of the functions that are asked, (m,), and one value for each.
    a, b, at_a, at_b
        The brackets and the values there, shape (n,).

    References
    ----------
    Chandrupatla (1997), A new hybrid quadratic/bisection algorithm for finding the zero of a
    nonlinear function without using derivatives, Advances in Engineering Software 28:145-149.
    """
    x1, x2, f1, f2 = (np.array(v, float) for v in (b, a, at_b, at_a))
    x3, f3 = x2.copy(), f2.copy()
    t = np.full(len(x1), 0.5)
    # Without a finite value outside, the secant says nothing.
    secant = np.isfinite(f1)
    t[secant] = np.clip(f1[secant] / (f1[secant] - f2[secant]), 0.05, 0.95)
    active = np.arange(len(x1))
    best = np.where(np.abs(f1) < np.abs(f2), x1, x2)
    for _ in range(MOST_ROUNDS):
        x = x1[active] + t[active] * (x2[active] - x1[active])
        f = function(active, x)
        same = np.sign(f) == np.sign(f1[active])
        keep = active[same]
        x3[keep], f3[keep] = x1[keep], f1[keep]
        swap = active[~same]
        x3[swap], f3[swap] = x2[swap], f2[swap]
        x2[swap], f2[swap] = x1[swap], f1[swap]
        x1[active], f1[active] = x, f
        one = np.abs(f1[active]) < np.abs(f2[active])
        best[active] = np.where(one, x1[active], x2[active])
        least = np.minimum(np.abs(f1[active]), np.abs(f2[active]))
        width = np.abs(x2[active] - x1[active])
        size = np.maximum(np.abs(x1[active]), np.abs(x2[active]))
        active = active[(least > END_FOUND) & (width > NARROW * size)]
        if not len(active):
            break
        t[active] = _step(*(v[active] for v in (x1, x2, x3, f1, f2, f3)))
    return best


def _step(x1: Any, x2: Any, x3: Any, f1: Any, f2: Any, f3: Any) -> np.ndarray:
    """Where between x1 and x2 to go: by inverse quadratic interpolation where that is safe."""
    with np.errstate(all="ignore"):
        xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
        safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
        alpha = (x3 - x1) / (x2 - x1)
        t = f1 / (f1 - f2) * f3 / (f3 - f2) - alpha * f1 / (f3 - f1) * f2 / (f2 - f3)
        safe &= np.isfinite(t)
        least = 1e-9
    return np.clip(np.where(safe, t, 0.5), least, 1 - least)
