"""Many data sets of one shape: chunks of paths, in rounds, over all cores and devices.

A chunk of paths climbs until a quarter of it is left running; what is left over from several chunks
is joined to new full ones, so that a handful of compilations and no waiting for the slowest serve
any number of data sets. All climb from the start that `start` thinks best. Those that end where the
likelihood may have another maximum, at a bound with several parameters, climb from the other starts
too, and the highest end is kept; those that end at a saddle leave it along the direction of ascent;
those that still have not converged are handed to `estimator.fit_design`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import Any

import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.design.design import Design
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.ascent import joined, nothing_known, taken
from mixmeta_jax.estimation.chunks import Chunks
from mixmeta_jax.estimation.estimator import SEVERAL_SIZE, fit_design
from mixmeta_jax.estimation.jobs import LARGE, Job, ManyEstimates, Pool, full_chunk, ready
from mixmeta_jax.estimation.newton import JOINED, RUNNING, Problem
from mixmeta_jax.estimation.restarts import FEW_PARAMETERS, is_rugged, may_restart, restarts
from mixmeta_jax.estimation.search import ESCAPES, clearly_above
from mixmeta_jax.status import Status

IMPRECISE = 2e-10
"""Gradient above which a path has stopped at its rounding. Where random effects are many orders
larger than errors the estimator of single fits, whose data are `shifted`, rounds less."""

RESTARTED_AT_ONCE = 4096
"""Data sets that climb together where each of them is restarted, of up to `FEW_PARAMETERS`; of
more, fewer, since both the restarts and the numbers of a path grow with the parameters."""


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
        with np.errstate(all="ignore"):
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
        self.found = ManyEstimates.empty(design, wanted)
        # Paths of each data set that are still to be followed, beside its first.
        self.open = np.zeros(design.n_sets, int)
        own_choice = control.start is None and control.n_starts is None
        seen = design.mask.any(0) if design.mask.ndim == 3 else design.mask
        model = design.structures, design.dims
        # Single fits of such models are restarted inside too.
        always = bool(model[0]) and may_restart(*model) and is_rugged(*model)
        self.restarted = own_choice and seen.sum() <= SEVERAL_SIZE and always

    # Nothing to iterate

    def solve_all(self, members: np.ndarray, tick: Callable[[int], None]) -> None:
        """Coefficients where there is nothing to iterate."""

        def one(part: np.ndarray) -> tuple[np.ndarray, Any]:
            padded = self.data.padded(part)
            theta = np.zeros((0, len(padded)))
            return part, self.data.executor(padded).solution(theta, restricted=self.restricted)

        with Pool(self.data.workers) as pool:
            for part, (value, beta, V, Psi) in pool.map(one, self.data.chunks(members)):
                keep = np.arange(len(part))
                status = np.where(np.isfinite(value), Status.CONVERGED, Status.NOT_FINITE)
                theta = np.zeros((0, len(value)))
                self._store(part, keep, value, beta, V, theta, Psi, status)
                self.found.gradient_norm[part] = 0.0
                tick(len(part))

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
        """Every member, as many at a time as their further paths leave memory for."""
        step = len(members)
        if self.restarted:
            n = sum(self.design.n_parameters)
            step = int(RESTARTED_AT_ONCE * min(1, FEW_PARAMETERS / n))
        for first in range(0, len(members), max(1, step)):
            self._climb_some(members[first : first + step], tick)

    def _climb_some(self, members: np.ndarray, tick: Callable[[int], None]) -> None:
        """Members from their first starts, then those that need more."""
        again: list[Job] = []
        troubled: list[int] = []

        def first(ended: Job) -> None:
            again.extend(self._conclude(ended, tick, troubled, 0))

        self._follow((self._begin(part) for part in self.data.chunks(members)), first)
        for attempt in range(1, ESCAPES + 2):
            if not again:
                break
            jobs, again = again, []
            whole = joined(jobs)
            pieces = (whole.taken(part) for part in self.data.chunks(np.arange(len(whole.members))))

            def later(ended: Job, attempt: int = attempt, again: list[Job] = again) -> None:
                again.extend(self._conclude(ended, tick, troubled, attempt))

            self._follow((ready(piece) for piece in pieces), later)
        for member in sorted(set(troubled)):
            found = self.found
            if found.status[member] > Status.BOUNDARY or found.gradient_norm[member] > IMPRECISE:
                self._alone(member)
            self.open[member] = 0

    def _begin(self, part: np.ndarray) -> Callable[[], Job]:
        def make() -> Job:
            scales, starts, units = self.data.starts(part)
            known = nothing_known(self.design.dims, len(part))
            path = self.data.departure(starts[0])
            return Job(part, path, units, scales, starts, known)

        return make

    def _follow(self, makers: Iterable[Callable[[], Job]], sink: Callable[[Job], None]) -> None:
        """Run jobs to their ends, compacting what is left between rounds."""
        fresh = iter(makers)
        left: list[Job] = []
        flying: set[Future] = set()
        with Pool(self.data.workers) as pool:
            while True:
                while len(flying) < 2 * self.data.workers:
                    job = full_chunk(left, self.data.size)
                    if job is not None:
                        flying.add(pool.submit(self._round, ready(job), self.data.size // 4))
                        continue
                    maker = next(fresh, None)
                    if maker is None:
                        break
                    flying.add(pool.submit(self._round, maker, self.data.size // 4))
                if not flying:
                    if not left:
                        return
                    rest = joined(left)
                    left.clear()
                    flying.add(pool.submit(self._round, ready(rest), 0))
                done, flying = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    job = future.result()
                    running = job.path.phase == RUNNING
                    if running.any():
                        left.append(replace(job, ends=None).taken(np.flatnonzero(running)))
                    if not running.all():
                        sink(job.taken(np.flatnonzero(~running)) if running.any() else job)

    def _round(self, maker: Callable[[], Job], few: int) -> Job:
        """One climb, until few paths are running."""
        job = maker()
        b = len(job.members)
        padded = job
        if b < self.data.size and not self.data.at_once:
            padded = job.taken(np.resize(np.arange(b), self.data.size))
            # Paths that only fill the chunk have ended before they begin.
            padded.path.phase[b:] = -1
        problem = Problem(
            padded.units,
            padded.scales,
            padded.known,
            self.control.max_iter,
            self.control.gradient_tol,
            min(few, b // 2),
        )
        ends = self.data.executor(padded.members).ascend(
            padded.path, problem, restricted=self.restricted, shift=False, without=True
        )
        if b < self.data.size and not self.data.at_once:
            ends = taken(ends, np.arange(b))
        return replace(job, path=ends.path, ends=ends)

    def _conclude(
        self, ended: Job, tick: Callable[[int], None], troubled: list[int], attempt: int
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
        order = np.lexsort((value, members))
        last = np.append(members[order][1:] != members[order][:-1], True)
        best = np.zeros(len(members), bool)
        best[order[last]] = True
        keep = np.flatnonzero(higher & best)
        kept = members[keep]
        self._store(kept, keep, value, ends.beta, ends.V, path.theta, ends.Psi, verdict.status)
        self.found.gradient_norm[kept] = path.norm[keep]
        if attempt == 0:
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

        At a bound of several parameters from all of them; elsewhere from those that begin with
        small variances, where the likelihood is higher without them. Where single fits are
        restarted wherever they end, so are these.
        """
        value = ended.ends.loglik
        higher = ended.ends.without > clearly_above(value)
        several = (status == Status.BOUNDARY) & (len(ended.units) > 1)
        if self.restarted:
            several |= np.isfinite(value)
        chosen = np.flatnonzero(several | higher.any(0))
        if not len(chosen):
            return []
        part = ended.taken(chosen)
        starts = part.starts
        follow = np.tile(several[chosen], (len(starts), 1))
        follow[-len(higher) :] |= higher[:, chosen]
        departures = list(zip(starts, follow, strict=True))[1 : self.control.n_starts]
        if self.restarted:
            more = restarts(self.design.structures, part.scales, len(starts))
            departures += [(theta, several[chosen]) for theta in more]
        paths = np.concatenate([np.flatnonzero(leave) for _, leave in departures])
        theta = np.concatenate([start[:, leave] for start, leave in departures], 1)
        own = replace(part, path=None, starts=None).taken(paths)
        # Ends that are no maximum are none to join.
        maximum = (own.ends.verdict.status <= Status.BOUNDARY) & ~own.ends.verdict.rising
        known = tuple(np.where(maximum, P, np.nan) for P in own.ends.Psi)
        fresh = self.data.departure(theta)
        return [Job(own.members, fresh, own.units, own.scales, None, known)]

    def _alone(self, member: int) -> None:
        """One data set by the estimator of single fits."""
        try:
            estimate = fit_design(self.design.one(member), self.method, self.control)
        except InputError:
            return
        found = self.found
        found.n_iter[member] += estimate.n_iter
        # What a path that has not converged says of its height does not count.
        lost = found.status[member] > Status.BOUNDARY and estimate.status <= Status.BOUNDARY
        as_high = estimate.loglik > found.loglik[member] - 1e-6 * (1 + abs(estimate.loglik))
        if not (as_high or lost):
            return
        found.keep(member, estimate.beta, estimate.vcov, estimate.theta, estimate.Psi or ())
        found.loglik[member], found.gradient_norm[member] = (
            estimate.loglik,
            estimate.gradient_norm,
        )
        found.status[member] = estimate.status
