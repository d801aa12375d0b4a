"""Moment estimates of many data sets of one shape, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.design.design import Design
from mixmeta_jax.estimation.interrupts import heed, listening
from mixmeta_jax.estimation.jobs import LARGE, ManyEstimates
from mixmeta_jax.estimation.moments import moment_estimates
from mixmeta_jax.estimation.multivariate import KRONECKER_NUMBERS
from mixmeta_jax.status import Status


def fit_moment_batch(
    design: Design,
    members: np.ndarray,
    method: str,
    control: Control,
    reason: np.ndarray,
    batch_size: int | None = None,
    tick: Callable[[int], None] = lambda count: None,
    wanted: Collection[str] = LARGE,
) -> ManyEstimates:
    """Estimate the members, all of them sound, by a moment estimator.

    Parameters
    ----------
    design, members, method, control, tick, wanted
        As in `batch.fit_batch`.
    reason
        Takes the sentence on each member that does not identify the model, shape (B,).
    batch_size
        Data sets in a chunk; None for as many as a single fit has numbers in memory.
    """
    found = ManyEstimates.empty(design, wanted)
    n, k, p = design.n, design.k, design.p
    numbers = max(n * (k**4 + p**2 + p * k**2), p**2 * k**4)
    size = batch_size or max(1, KRONECKER_NUMBERS // numbers)
    try:
        with listening():
            for first in range(0, len(members), size):
                part = members[first : first + size]
                own = design.taken(part)
                estimates, reason[part] = moment_estimates(
                    method,
                    own.y,
                    np.broadcast_to(own.X, (len(part), n, p)),
                    np.broadcast_to(own.S, (len(part), n, k, k)),
                    vc_adjust=control.vc_adjust,
                    max_iter=control.max_iter,
                )
                fitted = reason[part] == ""
                theta = np.full((len(part), sum(design.n_parameters)), np.nan)
                if found.theta is not None:
                    for b in np.flatnonzero(fitted):
                        theta[b] = design.structures[0].theta(estimates.Psi[b])
                found.keep(part, estimates.beta, estimates.vcov, theta, [estimates.Psi])
                found.n_iter[part] = estimates.n_iter
                ended = np.where(estimates.clipped, Status.BOUNDARY, Status.CONVERGED)
                ended = np.where(estimates.converged, ended, Status.MAX_ITER)
                found.status[part] = np.where(fitted, ended, Status.NOT_IDENTIFIED)
                tick(len(part))
                heed()
    except KeyboardInterrupt:
        found.withdraw(np.flatnonzero(found.status == Status.INTERRUPTED))
    return found
