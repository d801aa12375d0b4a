"""Many data sets of one shape: chunks of paths, in rounds, over all cores and devices.

A chunk of paths climbs until a quarter of it is left running; what is left over from several chunks
is joined to new full ones, so that a handful of compilations and no waiting for the slowest serve
any number of data sets. All climb from the start that `start` thinks best. Those that end where the
likelihood may have another maximum, at a bound with several parameters, climb from the other starts
too, and the highest end is kept; those that end at a saddle leave it along the direction of ascent.
Then those that single fits restart are restarted (`restarts.worth_restarting` says which), and
those that still have not converged are handed to `estimator.fit_design`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.design.design import Design
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.ascent import joined, nothing_known, taken
from mixmeta_jax.estimation.chunks import Chunks
from mixmeta_jax.estimation.estimator import SingleEstimate, fit_design, parameters, pivoted
from mixmeta_jax.estimation.interrupts import heed, listening
from mixmeta_jax.estimation.jobs import LARGE, Job, ManyEstimates, Pool, ready
from mixmeta_jax.estimation.newton import JOINED
from mixmeta_jax.estimation.restarts import (
    n_restarts,
    restartable,
    restarts,
    worth_restarting,
)
from mixmeta_jax.estimation.rounds import Rounds
from mixmeta_jax.estimation.search import ESCAPES, RESTART_ITER, clearly_above
from mixmeta_jax.status import Status
from mixmeta_jax.tolerances import AS_HIGH_ALONE, IMPRECISE


def fit_batch(
    design: Design,
    members: np.ndarray,
    method: str,
    control: Control,
    batch_size: int | None = None,
    tick: Callable[[int], None] = lambda count: None,
    wanted: Collection[str] = LARGE,
) -> ManyEstimates:
    """Estimate the members, all of them sound, by fixed effects, ML or REML.

    Parameters
    ----------
    design
        The data sets.
    members
        Which of them to fit; the others keep NaN and the status INTERRUPTED.
    method
        "fixed", "ml" or "reml".
    control
        Settings.
    batch_size
        Paths in a chunk; None for as many as fit a core's cache.
    tick
        Called with the number of data sets that are done since.
    wanted
        Which of the `LARGE` estimates to keep.
    """
    run = _Run(design, len(members), method, control, batch_size, wanted)
    try:
        with listening(), np.errstate(all="ignore"):
            if method == "fixed" or sum(design.n_parameters) == 0:
                run.solve_all(members, tick)
            else:
                run.climb_all(members, tick)
    except KeyboardInterrupt:
        # What has been stored is done, unless more of it was to be followed.
        run.found.withdraw(np.flatnonzero(run.open > 0))
        return run.found
    return run.found


class _Run:
    """The state of one call: its data in chunks, and the results."""

    def __init__(
        self,
        design: Design,
        count: int,
        method: str,
        control: Control,
        batch_size: int | None,
        wanted: Collection[str],
    ):
        self.data = Chunks(design, count, method, control, batch_size)
        self.design, self.method, self.control = design, method, control
        self.restricted = method == "reml"
        self.rounds = Rounds(self.data, control, self.restricted)
        self.found = ManyEstimates.empty(design, wanted)
        # Paths of each data set that are still to be followed, beside its first.
        self.open = np.zeros(design.n_sets, int)
        self.restartable = restartable(design, control, self.restricted)
        # Where each data set stands.
        self.Psi = tuple(np.full((d, d, design.n_sets), np.nan) for d in design.dims)

    # Nothing to iterate

    def solve_all(self, members: np.ndarray, tick: Callable[[int], None]) -> None:
        """Coefficients where there is nothing to iterate."""

        def one(part: np.ndarray) -> tuple[np.ndarray, Any]:
            padded = self.data.padded(part)
            theta = np.zeros((0, len(padded)))
            return part, self.data.solution(padded, theta, self.restricted)

        with Pool(self.data.workers) as pool:
            for part, (value, beta, V, Psi) in pool.map(one, self.data.chunks(members)):
                keep = np.arange(len(part))
                status = np.where(np.isfinite(value), Status.CONVERGED, Status.NOT_FINITE)
                theta = np.zeros((0, len(value)))
                self._store(part, keep, value, beta, V, theta, Psi, status)
                self.found.gradient_norm[part] = 0.0
                tick(len(part))
                heed()

    def _store(
        self,
        members: np.ndarray,
        keep: np.ndarray,
        value: np.ndarray,
        beta: np.ndarray,
        V: np.ndarray,
        theta: np.ndarray,
        Psi: Sequence[np.ndarray],
        status: np.ndarray,
    ) -> None:
        """The paths ``keep`` are the estimates of ``members``."""
        basis = np.kron(self.design.basis, np.eye(self.design.k))
        P = len(basis)  # what follows fills their number up: see `Tensors.absent`
        V = np.broadcast_to(V[:P, :P], (P, P, len(value)))
        beta = np.broadcast_to(beta[:P], (P, len(value)))
        vcov = basis @ np.moveaxis(V[..., keep], -1, 0) @ basis.T
        vcov = 0.5 * (vcov + np.swapaxes(vcov, 1, 2))
        matrices = [np.moveaxis(own[..., keep], -1, 0) for own in Psi]
        coefficients = beta[:, keep].T @ basis.T
        self.found.keep(members, coefficients, vcov, theta[:, keep].T, matrices)
        self.found.loglik[members] = value[keep]
        self.found.status[members] = status[keep]

    # Climbing

    def climb_all(self, members: np.ndarray, tick: Callable[[int], None]) -> None:
        """Every member: from its first start, then those that need more."""
        firsts = (self._begin(part) for part in self.data.chunks(members))
        troubled = self._pursue(firsts, self.control.max_iter, tick)
        found = self.found
        lost = np.unique(troubled).astype(int)
        self._turn(lost[found.status[lost] == Status.MAX_ITER])
        if self.restartable:
            sound = members[self._sound(members)]
            Psi = [P[..., sound] for P in self.Psi]
            again = sound[worth_restarting(self.design.structures, found.status[sound], Psi)]
            self.open[again] += n_restarts(self.design.structures, self.design.dims)
            limit = min(self.control.max_iter, RESTART_ITER)
            troubled += self._pursue(self._restarts(again), limit, None)
            lost = np.unique(troubled).astype(int)
        for member in lost[~self._sound(lost)].tolist():
            self._alone(member)
            self.open[member] = 0
        self.open[lost] = 0

    def _sound(self, members: np.ndarray) -> np.ndarray:
        """Which of the members have ended well."""
        converged = self.found.status[members] <= Status.BOUNDARY
        return converged & (self.found.gradient_norm[members] <= IMPRECISE)

    def _pursue(
        self,
        makers: Iterable[Callable[[], Job]],
        max_iter: int,
        tick: Callable[[int], None] | None,
    ) -> list[int]:
        """Paths to their ends, then what these call for; the members that come to no good end.

        ``tick`` is that of first paths, which alone go on from other starts.
        """
        again: list[Job] = []
        troubled: list[int] = []

        def first(ended: Job) -> None:
            attempt = 0 if tick is not None else 1
            again.extend(self._conclude(ended, tick, troubled, attempt))

        self.rounds.follow(makers, max_iter, first)
        for attempt in range(1, ESCAPES + 2):
            if not again:
                break
            jobs, again = again, []
            whole = joined(jobs)
            pieces = (whole.taken(part) for part in self.data.chunks(np.arange(len(whole.members))))

            def later(ended: Job, attempt: int = attempt, again: list[Job] = again) -> None:
                again.extend(self._conclude(ended, None, troubled, attempt))

            self.rounds.follow((ready(piece) for piece in pieces), self.control.max_iter, later)
        return troubled

    def _restarts(self, members: np.ndarray) -> Iterator[Callable[[], Job]]:
        """Jobs of all restarts of some members, which join where these stand."""
        structures = self.design.structures
        count = n_restarts(structures, self.design.dims)
        stand = tuple(P[..., members] for P in self.Psi)

        def make(first: int) -> Job:
            places, number = np.divmod(np.arange(first, last_of(first)), count)
            own, index = np.unique(places, return_inverse=True)
            begun = self.data.starts(members[own])
            starts = restarts(structures, begun.scales, 1)[number, :, index].T
            known = taken(stand, places)
            units, scales = taken((begun.units, begun.scales), index)
            path = self.data.departure(starts)
            return Job(members[places], path, units, scales, None, known)

        def last_of(first: int) -> int:
            return min(first + self.data.size, count * len(members))

        for first in range(0, count * len(members), self.data.size):
            yield functools.partial(make, first)

    def _begin(self, part: np.ndarray) -> Callable[[], Job]:
        def make() -> Job:
            begun = self.data.first_starts(part)
            known = nothing_known(self.design.dims, len(part))
            path = self.data.departure(begun.starts[0])
            return Job(part, path, begun.units, begun.scales, begun.starts, known)

        return make

    def _conclude(
        self,
        ended: Job,
        tick: Callable[[int], None] | None,
        troubled: list[int],
        attempt: int,
    ) -> list[Job]:
        """Keep what is higher than before; the jobs that go on from there."""
        ends, path, members = ended.ends, ended.path, ended.members
        if attempt > 0:
            np.subtract.at(self.open, members, 1)
        # A path that has joined a maximum ends below it.
        value = np.where(path.phase == JOINED, -np.inf, ends.loglik)
        verdict = ends.verdict
        before = self.found.loglik[members]
        np.add.at(self.found.n_iter, members, path.n_iter)  # several paths of one data set
        higher = np.isnan(before) | (value > clearly_above(before))
        # Or as high, and an end where there was none: as `_alone` judges.
        ended_now = (verdict.status <= Status.BOUNDARY) & ~verdict.rising
        lost_before = self.found.status[members] > Status.BOUNDARY
        higher |= ended_now & lost_before & (value > before - AS_HIGH_ALONE * (1 + np.abs(before)))
        order = np.lexsort((value, members))
        last = np.append(members[order][1:] != members[order][:-1], True)
        best = np.zeros(len(members), bool)
        best[order[last]] = True
        keep = np.flatnonzero(higher & best)
        kept = members[keep]
        self._store(kept, keep, value, ends.beta, ends.V, path.theta, ends.Psi, verdict.status)
        for own, P in zip(self.Psi, ends.Psi, strict=True):
            own[..., kept] = P[..., keep]
        self.found.gradient_norm[kept] = path.norm[keep]
        if tick is not None:
            tick(len(members))
        imprecise = (verdict.status[keep] == Status.MAX_ITER) | (path.norm[keep] > IMPRECISE)
        lost = kept[imprecise]
        troubled.extend(lost.tolist())
        self.open[lost] += 1
        jobs = []
        saddle = keep[verdict.rising[keep]]
        if len(saddle) and attempt > ESCAPES:
            self.found.status[members[saddle]] = Status.MAX_ITER
            troubled.extend(members[saddle].tolist())
            self.open[members[saddle]] += 1
        elif len(saddle):
            part = ended.taken(saddle)
            for side in (1.0, -1.0):
                step = side * 0.1 * 2.0**attempt * verdict.ascent[:, saddle]
                fresh = self.data.departure(path.theta[:, saddle] + step)
                unknown = nothing_known(self.design.dims, len(saddle))
                jobs.append(Job(part.members, fresh, part.units, part.scales, None, unknown))
        if attempt == 0 and self.control.n_starts != 1:
            jobs += self._other_starts(ended, verdict.status)
        for job in jobs:
            np.add.at(self.open, job.members, 1)
        return jobs

    def _other_starts(self, ended: Job, status: np.ndarray) -> list[Job]:
        """Ends that may not be the highest, from the other starts: one job, or none.

        At a bound of several parameters, where steps ran out, and where single fits are restarted,
        from all of them; elsewhere from those that begin with small variances, where the likelihood
        is higher without them.
        """
        value = ended.ends.loglik
        higher = ended.ends.without > clearly_above(value)
        several = (status == Status.BOUNDARY) | (status == Status.MAX_ITER)
        several &= len(ended.units) > 1
        if self.restartable:
            worth = worth_restarting(self.design.structures, status, ended.ends.Psi)
            several |= np.isfinite(value) & worth
        chosen = np.flatnonzero(several | higher.any(0))
        if not len(chosen):
            return []
        part = ended.taken(chosen)
        starts = part.starts
        follow = np.tile(several[chosen], (len(starts), 1))
        follow[-len(higher) :] |= higher[:, chosen]
        departures = list(zip(starts, follow, strict=True))[1 : self.control.n_starts]
        paths = np.concatenate([np.flatnonzero(leave) for _, leave in departures])
        theta = np.concatenate([start[:, leave] for start, leave in departures], 1)
        own = replace(part, path=None, starts=None).taken(paths)
        # Ends that are no maximum are none to join.
        maximum = (own.ends.verdict.status <= Status.BOUNDARY) & ~own.ends.verdict.rising
        known = tuple(np.where(maximum, P, np.nan) for P in own.ends.Psi)
        fresh = self.data.departure(theta)
        return [Job(own.members, fresh, own.units, own.scales, None, known)]

    def _turn(self, members: np.ndarray) -> None:
        """Members whose steps ran out, on with Λ in another order, as single fits: see there."""
        scales = self.data.starts(members).scales if len(members) else ()
        groups: dict[tuple, list[int]] = {}
        for place, member in enumerate(members.tolist()):
            sizes = [scale[:, place] for scale in scales]
            orders = pivoted([P[:, :, member] for P in self.Psi], sizes)
            groups.setdefault(orders, []).append(member)
        for orders, own in groups.items():
            structures = self.design.structures
            turned = tuple(
                s.ordered(np.array(order)) for s, order in zip(structures, orders, strict=True)
            )
            if any(a is not b for a, b in zip(turned, structures, strict=True)):
                self._go_on(np.array(own), turned)

    def _go_on(self, members: np.ndarray, turned: tuple[Structure, ...]) -> None:
        """From where the members stand, with structures whose parameters are others."""
        design = replace(self.design.taken(members), structures=turned)
        run = _Run(design, len(members), self.method, self.control, None, LARGE)
        Psi = [np.moveaxis(P[..., members], -1, 0) for P in self.Psi]
        theta = np.stack([parameters(turned, own) for own in zip(*Psi, strict=True)], -1)

        def begin(part: np.ndarray) -> Callable[[], Job]:
            begun = run.data.starts(part)
            path, known = run.data.departure(theta[:, part]), nothing_known(design.dims, len(part))
            return ready(Job(part, path, begun.units, begun.scales, None, known))

        whole = np.arange(len(members))
        run._pursue(map(begin, run.data.chunks(whole)), self.control.max_iter, None)
        for place, member in enumerate(members.tolist()):
            own = [P[place] for P in run.found.Psi or ()]
            one = parameters(self.design.structures, own) if np.isfinite(own[0]).all() else None
            if one is not None:
                self._adopt(member, run.found.estimate(place, one))

    def _alone(self, member: int) -> None:
        """One data set by the estimator of single fits, on from its end or from its own starts."""
        found, design = self.found, self.design.one(member)
        names = [str(level) for level in range(len(design.dims))]
        start = {name: P[member] for name, P in zip(names, found.Psi or (), strict=False)}
        sound = start and all(np.isfinite(P).all() for P in start.values())
        ways = [replace(self.control, start=start)] if sound else []
        spent = 0
        try:
            for control in (*ways, self.control):
                estimate = fit_design(design, self.method, control, names)
                spent += estimate.n_iter
                if estimate.status <= Status.BOUNDARY:
                    break
        except InputError:
            return
        self._adopt(member, replace(estimate, n_iter=spent))

    def _adopt(self, member: int, estimate: SingleEstimate) -> None:
        """The estimate of a data set, if it is as high as that which is there."""
        found = self.found
        found.n_iter[member] += estimate.n_iter
        # What a path that has not converged says of its height does not count.
        lost = found.status[member] > Status.BOUNDARY and estimate.status <= Status.BOUNDARY
        slack = AS_HIGH_ALONE * (1 + abs(estimate.loglik))
        as_high = estimate.loglik > found.loglik[member] - slack
        if not (as_high or lost):
            return
        found.keep(member, estimate.beta, estimate.vcov, estimate.theta, estimate.Psi or ())
        found.loglik[member], found.gradient_norm[member] = (
            estimate.loglik,
            estimate.gradient_norm,
        )
        found.status[member] = estimate.status
        for own, P in zip(self.Psi, estimate.Psi or (), strict=True):
            own[..., member] = P
