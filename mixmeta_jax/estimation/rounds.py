"""Jobs to their ends in rounds: what is left over of several chunks joined to new full ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace

import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.estimation.ascent import joined, taken
from mixmeta_jax.estimation.chunks import Chunks
from mixmeta_jax.estimation.interrupts import heed
from mixmeta_jax.estimation.jobs import Job, Pool, full_chunk, ready
from mixmeta_jax.estimation.newton import RUNNING, Problem


@dataclass(frozen=True)
class Rounds:
    """Who follows paths, on which data.

    Attributes
    ----------
    data
        The data sets in chunks.
    control
        Settings.
    restricted
        Whether to maximise the restricted likelihood.
    """

    data: Chunks
    control: Control
    restricted: bool

    def follow(
        self, makers: Iterable[Callable[[], Job]], max_iter: int, sink: Callable[[Job], None]
    ) -> None:
        """Run jobs to their ends, compacting what is left between rounds."""
        fresh = iter(makers)
        left: list[Job] = []
        flying: set[Future] = set()
        few = self.data.size // 4
        with Pool(self.data.workers) as pool:

            def begin(maker: Callable[[], Job], few: int) -> None:
                flying.add(pool.submit(self._round, maker, few, max_iter))

            while True:
                heed()
                while len(flying) < 2 * self.data.workers:
                    job = full_chunk(left, self.data.size)
                    maker = next(fresh, None) if job is None else ready(job)
                    if maker is None:
                        break
                    begin(maker, few)
                if not flying:
                    if not left:
                        return
                    rest = joined(left)
                    left.clear()
                    begin(ready(rest), 0)
                done = wait(flying, return_when=FIRST_COMPLETED).done
                flying -= done
                for future in done:
                    job = future.result()
                    running = job.path.phase == RUNNING
                    if running.any():
                        left.append(replace(job, ends=None).taken(np.flatnonzero(running)))
                    if not running.all():
                        sink(job.taken(np.flatnonzero(~running)) if running.any() else job)

    def _round(self, maker: Callable[[], Job], few: int, max_iter: int) -> Job:
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
            max_iter,
            self.control.gradient_tol,
            min(few, b // 2),
        )
        ends, start = self.data.climb(
            padded.members,
            padded.path,
            problem,
            restricted=self.restricted,
            shift=False,
            without=True,
        )
        if b < self.data.size and not self.data.at_once:
            ends, start = taken((ends, start), np.arange(b))
        if start is not None:
            starts = None if job.starts is None else start.starts
            job = replace(job, units=start.units, scales=start.scales, starts=starts)
        return replace(job, path=ends.path, ends=ends)
