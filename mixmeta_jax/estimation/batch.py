"""Many data sets of one shape: chunks of lanes, in rounds, over all cores and devices.

A chunk of lanes climbs until a quarter of it is left running; what is left over from several chunks
is joined to new full ones, so that a handful of compilations and no waiting for the slowest serve
any number of data sets. All lanes climb from the start that `start` thinks best. Those that end
where the likelihood may have another maximum, at a bound with several parameters, climb from the
other starts too, and the highest end is kept; those that end at a saddle leave it along the
direction of ascent; those that still have not converged are handed to `estimator.fit_design`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.estimator import CLEARLY, ESCAPES, SEVERAL_SIZE, fit_design
from mixmeta_jax.estimation.jobs import LARGE, Job, ManyEstimates, Pool, full_chunk, joined, ready
from mixmeta_jax.estimation.lane_data import ManyData, lane_arrays, shared_tensors
from mixmeta_jax.estimation.lane_starts import lane_restarts, lane_starts
from mixmeta_jax.estimation.lanes import JOINED, RUNNING, climb, departure, solve
from mixmeta_jax.estimation.restarts import FEW_PARAMETERS, worth_restarting
from mixmeta_jax.status import Status

CACHE_BYTES = 2**21
"""What the whitened columns of a chunk may take: an evaluation holds several times as much."""

MOST_LANES, FEWEST_LANES = 4096, 32
"""Lanes of a chunk, whatever fits: with fewer than these the calls cost more than the numbers."""

IMPRECISE = 1e-9
"""Gradient above which a lane has stopped at its rounding. Where random effects are many orders
larger than errors the estimator of single fits, whose data are `shifted`, rounds less."""

RESTARTED_AT_ONCE = 4096
"""Data sets that climb together where each of them is restarted, of up to `FEW_PARAMETERS`; of
more, fewer, since both the restarts and the numbers of a path grow with the parameters."""


def fit_lanes(
    many: ManyData,
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
    many
        The data sets.
    members
        Which of them to fit; the others keep NaN and the status INTERRUPTED.
    method
        "fixed", "ml" or "reml".
    control
        Settings.
    batch_size
        Lanes in a chunk; None for as many as fit a core's cache.
    tick
        Called with the number of data sets that are done since.
    wanted
        Which of the `LARGE` estimates to keep.
    """
    size = chunk_size(many, batch_size, len(members))
    run = _Run(many, method, control, size, wanted)
    try:
        if method == "fixed" or sum(many.design.n_parameters) == 0:
            run.solve_all(members, tick)
        else:
            run.climb_all(members, tick)
    except KeyboardInterrupt:
        # What has been stored is done, unless more of it was to be followed.
        run.found.withdraw(np.flatnonzero(run.open > 0))
        return run.found
    return run.found


def chunk_size(many: ManyData, batch_size: int | None, B: int) -> int:
    """Data sets in a chunk: ``batch_size``, or as many as fit a core's cache."""
    if batch_size is not None:
        return max(1, min(batch_size, B))
    columns = 1 + many.n_coefficients + sum(many.design.dims)
    places = sum(bucket.rows.size for bucket in many.design.layout.buckets) * many.design.k
    fitting = CACHE_BYTES // (8 * columns * places)
    size = 1 << max(0, int(fitting).bit_length() - 1)
    # Every core gets something to do.
    share = -(-B // max(os.cpu_count() or 1, len(jax.local_devices())))
    return int(max(min(size, MOST_LANES, share), min(FEWEST_LANES, B)))


class _Run:
    """The state of one call: results, devices and what all lanes share."""

    def __init__(
        self, many: ManyData, method: str, control: Control, size: int, wanted: Collection[str]
    ):
        self.many, self.method, self.control, self.size = many, method, control, size
        self.found = ManyEstimates.empty(many, wanted)
        self.devices = jax.local_devices()
        with jax.enable_x64(True):
            shared = shared_tensors(many)
            self.shared = [jax.device_put(shared, device) for device in self.devices]
        self.workers = max(len(self.devices), os.cpu_count() or 1)
        self.turn = 0
        # Paths of each data set that are still to be followed, beside its first.
        self.open = np.zeros(len(many.y), int)
        self.lock = threading.Lock()
        own_choice = control.start is None and control.n_starts is None
        small = np.asarray(many.design.mask).sum() <= SEVERAL_SIZE
        # Single fits of such models are restarted inside too.
        self.restarted = own_choice and small and worth_restarting(many.design, Status.CONVERGED)

    def chunks(self, members: np.ndarray) -> Iterator[np.ndarray]:
        """The members, a chunk at a time."""
        for first in range(0, len(members), self.size):
            yield members[first : first + self.size]

    def next_device(self) -> int:
        """Devices in turn."""
        with self.lock:
            self.turn += 1
            return self.turn % len(self.devices)

    # Nothing to iterate

    def solve_all(self, members: np.ndarray, tick: Callable[[int], None]) -> None:
        """Coefficients where there is nothing to iterate."""
        theta = np.zeros((0, self.size))

        def one(part: np.ndarray) -> tuple[np.ndarray, Any]:
            padded = np.resize(part, self.size)
            with jax.enable_x64(True), jax.default_matmul_precision("highest"):
                where = self.next_device()
                data = jax.device_put((theta, lane_arrays(self.many, padded)), self.devices[where])
                solved = solve(data[0], self.shared[where], data[1], method=self.method)
                return part, jax.device_get(solved)

        with Pool(self.workers) as pool:
            for part, (value, beta, V, Psi) in pool.map(one, self.chunks(members)):
                keep = np.arange(len(part))
                finite = np.isfinite(value[keep])
                status = np.where(finite, Status.CONVERGED, Status.NOT_FINITE)
                self._store(part, keep, value, beta, V, theta, Psi, np.resize(status, self.size))
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
        """The lanes ``keep`` are the estimates of ``members``."""
        basis = np.kron(self.many.design.basis, np.eye(self.many.design.k))
        vcov = basis @ np.moveaxis(V[..., keep], -1, 0) @ basis.T
        vcov = 0.5 * (vcov + np.swapaxes(vcov, 1, 2))
        matrices = [np.moveaxis(P[..., keep], -1, 0) for P in Psi]
        coefficients = beta[:, keep].T @ basis.T
        self.found.keep(members, coefficients, vcov, theta[:, keep].T, matrices)
        self.found.loglik[members] = value[keep]
        self.found.status[members] = status[keep]

    # Climbing

    def climb_all(self, members: np.ndarray, tick: Callable[[int], None]) -> None:
        """Every member, as many at a time as their further paths leave memory for."""
        step = len(members)
        if self.restarted:
            n = sum(self.many.design.n_parameters)
            step = int(RESTARTED_AT_ONCE * min(1, FEW_PARAMETERS / n))
        for first in range(0, len(members), max(1, step)):
            self._climb_some(members[first : first + step], tick)

    def _climb_some(self, members: np.ndarray, tick: Callable[[int], None]) -> None:
        """Members from their first starts, then those that need more."""
        again: list[Job] = []
        troubled: list[int] = []

        def first(ended: Job) -> None:
            again.extend(self._conclude(ended, tick, troubled, 0))

        self._follow((self._begin(part) for part in self.chunks(members)), first)
        for attempt in range(1, ESCAPES + 2):
            if not again:
                break
            jobs, again = again, []
            whole = joined(jobs)
            pieces = (whole.taken(part) for part in self.chunks(np.arange(len(whole.members))))

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
            scales, starts, units = lane_starts(self.many, part, self.size)
            lanes = departure(starts[0], self.many.n_coefficients)
            return Job(part, lanes, units, scales, starts, self._nothing_known(len(part)))

        return make

    def _nothing_known(self, b: int) -> list[np.ndarray]:
        return [np.full((d, d, b), np.nan) for d in self.many.design.dims]

    def _follow(self, makers: Iterable[Callable[[], Job]], sink: Callable[[Job], None]) -> None:
        """Run jobs to their ends, compacting what is left between rounds."""
        fresh = iter(makers)
        left: list[Job] = []
        flying: set[Future] = set()
        with Pool(self.workers) as pool:
            while True:
                while len(flying) < 2 * self.workers:
                    job = full_chunk(left, self.size)
                    if job is not None:
                        flying.add(pool.submit(self._round, ready(job), self.size // 4))
                        continue
                    maker = next(fresh, None)
                    if maker is None:
                        break
                    flying.add(pool.submit(self._round, maker, self.size // 4))
                if not flying:
                    if not left:
                        return
                    rest = joined(left)
                    left.clear()
                    flying.add(pool.submit(self._round, ready(rest), 0))
                done, flying = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    job = future.result()
                    running = job.lanes.phase == RUNNING
                    if running.any():
                        left.append(replace(job, stop=None).taken(np.flatnonzero(running)))
                    if not running.all():
                        sink(job.taken(np.flatnonzero(~running)) if running.any() else job)

    def _round(self, maker: Callable[[], Job], few: int) -> Job:
        """One call of the compiled loop."""
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            job = maker()
            b = len(job.members)
            padded = job
            if b < self.size:
                padded = job.taken(np.resize(np.arange(b), self.size))
                # Lanes that only fill the chunk have ended before they begin.
                padded.lanes.phase[b:] = -1
            where = self.next_device()
            data = jax.device_put(
                (
                    padded.lanes,
                    lane_arrays(self.many, padded.members),
                    padded.units,
                    [scale.T for scale in padded.scales],
                    padded.known,
                ),
                self.devices[where],
            )
            stop = climb(
                data[0],
                self.shared[where],
                data[1],
                data[2],
                data[3],
                data[4],
                self.control.max_iter,
                self.control.gradient_tol,
                min(few, b // 2),
                restricted=self.method == "reml",
            )
            stop = jax.device_get(stop)
            if b < self.size:
                stop = jax.tree.map(lambda leaf: leaf[..., :b], stop)
            return replace(job, lanes=stop.lanes, stop=replace(stop, lanes=None))

    def _conclude(
        self, ended: Job, tick: Callable[[int], None], troubled: list[int], attempt: int
    ) -> list[Job]:
        """Keep what is higher than before; the jobs that go on from there."""
        stop, members = ended.stop, ended.members
        if attempt > 0:
            np.subtract.at(self.open, members, 1)
        lanes = ended.lanes
        # A path that has joined a maximum ends below it.
        value = np.where(lanes.phase == JOINED, -np.inf, lanes.at.value + stop.constant)
        verdict = stop.verdict
        before = self.found.loglik[members]
        np.add.at(self.found.n_iter, members, lanes.n_iter)  # several paths of one data set
        with np.errstate(invalid="ignore"):
            higher = np.isnan(before) | (value > before + 1e-9 * (1 + np.abs(before)))
        order = np.lexsort((value, members))
        last = np.append(members[order][1:] != members[order][:-1], True)
        best = np.zeros(len(members), bool)
        best[order[last]] = True
        keep = np.flatnonzero(higher & best)
        kept = members[keep]
        beta = lanes.at.beta + stop.centre
        V = lanes.at.V
        self._store(kept, keep, value, beta, V, lanes.theta, stop.Psi, verdict.status)
        self.found.gradient_norm[kept] = lanes.norm[keep]
        if attempt == 0:
            tick(len(members))
        imprecise = (verdict.status[keep] == Status.MAX_ITER) | (lanes.norm[keep] > IMPRECISE)
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
                theta = (
                    lanes.theta[:, saddle] + side * 0.1 * 2.0**attempt * verdict.ascent[:, saddle]
                )
                fresh = departure(theta, self.many.n_coefficients)
                unknown = self._nothing_known(len(saddle))
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
        value = ended.lanes.at.value
        with np.errstate(invalid="ignore"):
            higher = ended.stop.without > value + CLEARLY * (1 + np.abs(value))
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
            more = lane_restarts(self.many, part.scales, len(starts), self.size)
            departures += [(theta, several[chosen]) for theta in more]
        lanes = np.concatenate([np.flatnonzero(leave) for _, leave in departures])
        theta = np.concatenate([start[:, leave] for start, leave in departures], 1)
        own = replace(part, lanes=None, starts=None).taken(lanes)
        # Ends that are no maximum are none to join.
        maximum = (own.stop.verdict.status <= Status.BOUNDARY) & ~own.stop.verdict.rising
        known = [np.where(maximum, P, np.nan) for P in own.stop.Psi]
        fresh = departure(theta, self.many.n_coefficients)
        return [Job(own.members, fresh, own.units, own.scales, None, known)]

    def _alone(self, member: int) -> None:
        """One data set by the estimator of single fits."""
        try:
            estimate = fit_design(self.many.one(member), self.method, self.control)
        except InputError:
            return
        found = self.found
        found.n_iter[member] += estimate.n_iter
        # What a lane that has not converged says of its height does not count.
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
