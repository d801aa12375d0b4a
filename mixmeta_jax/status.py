"""How a fit ended, as a value that can live in an array and a sentence that a person can read."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """The end of an estimation.

    The first two are successes: ``converged`` is true for them.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    >>> fit.status, fit.status.converged
    (<Status.CONVERGED: 0>, True)
    >>> fit.status.sentence
    'The likelihood has its maximum inside the parameter space.'
    """

    CONVERGED = 0
    BOUNDARY = 1
    MAX_ITER = 2
    NOT_FINITE = 3
    NOT_IDENTIFIED = 4
    INTERRUPTED = 5

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(self.name, spec)

    @property
    def converged(self) -> bool:
        """Whether the estimate is a maximum of the likelihood."""
        return self in (Status.CONVERGED, Status.BOUNDARY)

    @property
    def sentence(self) -> str:
        """What happened, what it usually means, and what to try."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.CONVERGED: "The likelihood has its maximum inside the parameter space.",
    Status.BOUNDARY: (
        "The likelihood has its maximum at the boundary: a variance is zero or a correlation is "
        "at its bound. The data hold little information on that parameter; a simpler structure "
        "gives the same fit."
    ),
    Status.MAX_ITER: (
        "The iterations ran out before the gradient vanished. The likelihood may be flat; raise "
        "control={'max_iter': ...} or choose a structure with fewer parameters."
    ),
    Status.NOT_FINITE: (
        "The likelihood was not finite. An error covariance is close to singular or the scales "
        "differ beyond double precision; check S and rescale the outcomes."
    ),
    Status.NOT_IDENTIFIED: (
        "The maximum is not unique: some variances or correlations do not change the likelihood. "
        "There are too few groups or outcomes for this structure; choose one with fewer "
        "parameters."
    ),
    Status.INTERRUPTED: (
        "The data set was not fitted, or not to the end: the run was interrupted. Fit it again."
    ),
}
