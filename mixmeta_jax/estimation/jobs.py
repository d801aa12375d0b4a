"""Paths on their way between rounds, and where their estimates end up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.design.design import Design
from mixmeta_jax.estimation.ascent import joined, taken
from mixmeta_jax.estimation.estimator import SingleEstimate
from mixmeta_jax.status import Status

LARGE = ("se", "vcov", "theta", "Psi")
"""Estimates with several numbers per data set, beside the coefficients."""


@dataclass
class ManyEstimates:
    """Estimates of B data sets, as `estimator.SingleEstimate` with a leading B.

    The larger ones are None where they are not wanted: they take no memory then.

    Attributes
    ----------
    beta, se, vcov
        Shape (B, P), (B, P) and (B, P, P), in the user's predictors.
    theta, Psi
        Shape (B, n_θ), and (B, d, d) per level, outer first.
    loglik, gradient_norm
        Shape (B,).
    n_iter, status
        Shape (B,), whole numbers.
    """

    beta: np.ndarray
    se: np.ndarray | None
    vcov: np.ndarray | None
    theta: np.ndarray | None
    Psi: tuple[np.ndarray, ...] | None
    loglik: np.ndarray
    gradient_norm: np.ndarray
    n_iter: np.ndarray
    status: np.ndarray

    @classmethod
    def empty(cls, design: Design, wanted: Collection[str] = LARGE) -> ManyEstimates:
        """Nothing estimated yet; ``wanted`` names those of `LARGE` that shall be kept."""
        B, P = design.n_sets, design.p * design.k
        n_theta = sum(design.n_parameters)
        nan = np.nan
        return cls(
            np.full((B, P), nan),
            np.full((B, P), nan) if "se" in wanted else None,
            np.full((B, P, P), nan) if "vcov" in wanted else None,
            np.full((B, n_theta), nan) if "theta" in wanted else None,
            tuple(np.full((B, d, d), nan) for d in design.dims) if "Psi" in wanted else None,
            np.full(B, nan),
            np.full(B, nan),
            np.zeros(B, int),
            np.full(B, int(Status.INTERRUPTED)),
        )

    def keep(
        self,
        members: Any,
        beta: np.ndarray,
        vcov: np.ndarray,
        theta: np.ndarray,
        Psi: Sequence[np.ndarray],
    ) -> None:
        """Store what is wanted of some data sets, or of one."""
        self.beta[members] = beta
        if self.vcov is not None:
            self.vcov[members] = vcov
        if self.se is not None:
            with np.errstate(invalid="ignore"):
                self.se[members] = np.sqrt(np.diagonal(vcov, axis1=-2, axis2=-1))
        if self.theta is not None:
            self.theta[members] = theta
        if self.Psi is not None:
            for own, P in zip(self.Psi, Psi, strict=True):
                own[members] = P

    def estimate(self, member: int, theta: np.ndarray) -> SingleEstimate:
        """That of one data set, of which all is kept, at parameters θ of its Ψ, (n_θ,)."""
        assert self.vcov is not None and self.Psi is not None
        return SingleEstimate(
            self.beta[member],
            self.vcov[member],
            theta,
            tuple(P[member] for P in self.Psi),
            float(self.loglik[member]),
            int(self.n_iter[member]),
            float(self.gradient_norm[member]),
            Status(int(self.status[member])),
        )

    def withdraw(self, members: np.ndarray, status: Status = Status.INTERRUPTED) -> None:
        """Take back estimates that further work might have changed, or that say nothing."""
        for values in (self.beta, self.se, self.vcov, self.theta, *(self.Psi or ())):
            if values is not None:
                values[members] = np.nan
        self.loglik[members] = self.gradient_norm[members] = np.nan
        self.status[members] = int(status)


@dataclass
class Job:
    """Paths on their way, their arrays numpy's.

    Attributes
    ----------
    members
        The data sets they belong to, shape (b,).
    path, ends
        Where they stand, and what `ascent.ascend` said last, or None.
    units, scales
        Sizes of the parameters, (n_θ, b), and of the random effects of each level, (d, b).
    starts
        Where each may start, best guess first, (n_starts, n_θ, b); None where none is left to try.
    known
        Ψ of each level at a maximum that was found before, (d, d, b); NaN where there is none.
    """

    members: np.ndarray
    path: Any
    units: np.ndarray
    scales: tuple[np.ndarray, ...]
    starts: Any
    known: tuple[np.ndarray, ...]
    ends: Any = None

    def taken(self, chosen: np.ndarray) -> Job:
        """Some of the paths."""
        return taken(self, chosen)


def ready(job: Job) -> Callable[[], Job]:
    """A job that is there already, as one that is still to be made."""
    return lambda: job


def full_chunk(left: list[Job], size: int) -> Job | None:
    """A full chunk of what is left, if there is enough of it."""
    if sum(len(job.members) for job in left) < size:
        return None
    whole = joined(left)
    left.clear()
    if len(whole.members) > size:
        left.append(whole.taken(np.arange(size, len(whole.members))))
    return whole.taken(np.arange(size))


class Pool(ThreadPoolExecutor):
    """Threads that drop what has not begun when the block is left, as by Ctrl-C."""

    def __exit__(self, *error: Any) -> None:
        self.shutdown(wait=True, cancel_futures=True)
