"""Further starts where the likelihood often has several maxima: for most fits that end at a bound.

Which of the variances vanish is a discrete choice: a path that has let one go does not come back
for another. Starts from the moment estimate all lead to the same choice more often than not, so the
search goes on from starts in which some variances, drawn at random, are already small. The draws
come from a fixed seed: a fit is the same every time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.control import Control
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.design.design import Design
from mixmeta_jax.estimation.start import SEVERAL_SIZE
from mixmeta_jax.status import Status
from mixmeta_jax.tolerances import NEARLY_SINGULAR

RESTARTS = 24
"""Least number of further starts of a fit of few parameters."""

FEW_PARAMETERS = 6
"""Parameters up to which `RESTARTS` suffice; of more, in proportion to them."""

MOST_PARAMETERS = 32
"""Parameters up to which a fit is restarted; beyond, every path costs too much."""

OWN_CHOICES = 2
"""Levels up to which the model's own starts have every choice of null ones: `start._shares`."""

DROPPED, SMALLER = 0.01, 0.03
"""Factors of a variance that starts as good as null, and of all variances of a small level."""


def restartable(design: Design, control: Control, restricted: bool) -> bool:
    """Whether fits of a design are restarted where they end as `worth_restarting` says."""
    own_choice = control.start is None and control.n_starts is None
    small = design.n * design.k <= SEVERAL_SIZE
    if not own_choice or not small or (restricted and _two_outcomes(design)):
        return False
    return may_restart(design.structures, design.dims)


def _two_outcomes(design: Design) -> bool:
    """One level of two effects, those of the outcomes, and each unit a group by itself.

    Under REML no restart ever came out higher there, of 4,800 ends at bounds whose studies (6 to
    30) had errors that differed up to a hundredfold; under ML, of 2,800, twenty-one did.
    """
    layout = design.layout
    alone = not layout.absorbed and all(bucket.rows.shape[0] == 1 for bucket in layout.buckets)
    return design.k == 2 and design.dims == (2,) and alone


def may_restart(structures: Sequence[Structure], dims: Sequence[int]) -> bool:
    """Whether fits of the model may miss a maximum at all, and have few enough parameters.

    Not in one or two levels of structures whose starts suffice: then the model's own starts have
    all the choices of what vanishes.
    """
    n = sum(s.n_parameters(d) for s, d in zip(structures, dims, strict=True))
    beyond = any(d > 1 and not s.starts_suffice for s, d in zip(structures, dims, strict=True))
    return 2 <= n <= MOST_PARAMETERS and max(dims) > 1 and (beyond or len(dims) > OWN_CHOICES)


def is_rugged(structures: Sequence[Structure], dims: Sequence[int]) -> bool:
    """Whether one correlation, or given ones, tie three or more variances.

    Any of them may vanish instead, inside the bounds too.
    """
    return any(s.rugged and d > 2 for s, d in zip(structures, dims, strict=True))


def worth_restarting(structures: Sequence[Structure], status: Array, Psi: Sequence[Array]) -> Array:
    """Which fits that ended so, at Ψ of shape (d, d, B), may have missed a higher maximum, (B,).

    At a bound, or where the steps ran out; inside too where the model `is_rugged`, and where three
    or more random effects are nearly collinear, since a singular Ψ may be higher.
    """
    xp = namespace(status, *Psi)
    dims = [len(P) for P in Psi]
    if not may_restart(structures, dims):
        return xp.zeros(status.shape, bool)
    worth = (status == int(Status.BOUNDARY)) | (status == int(Status.MAX_ITER))
    worth |= is_rugged(structures, dims)
    for structure, P in zip(structures, Psi, strict=True):
        if structure.name == "unstr" and len(P) > 2:
            worth |= _nearly_singular(P)
    return worth


def _nearly_singular(Psi: Array) -> Array:
    xp, d = namespace(Psi), len(Psi)
    variances = xp.einsum("iib->ib", Psi)
    sound = xp.isfinite(Psi).all((0, 1)) & (variances > 0).all(0)
    sd = xp.sqrt(xp.where(sound, variances, 1.0))
    within = xp.where(sound, Psi / (sd[:, None] * sd), np.eye(d)[:, :, None])
    least = xp.linalg.eigvalsh(xp.moveaxis(within, -1, 0))[:, 0]
    return (least < NEARLY_SINGULAR) | ~sound


def n_restarts(structures: Sequence[Structure], dims: Sequence[int]) -> int:
    """Least number of restarts of a fit."""
    n = sum(s.n_parameters(d) for s, d in zip(structures, dims, strict=True))
    return math.ceil(RESTARTS * max(n, FEW_PARAMETERS) / FEW_PARAMETERS)


def restarts(structures: Sequence[Structure], scales: Sequence[Array], paths: int) -> Array:
    """Starts of θ, shape (n_starts, n_θ, B), as many as fill whole batches of ``paths``.

    Every level takes one of its structure's own starts at variances of the given scale, shape (d,
    B), of which some are drawn to be small, and random signs, which turn correlations around. The
    draws do not depend on the data. Scales of numpy give numpy's arrays, those of JAX may be
    traced.
    """
    xp = namespace(*scales)
    dims = [len(scale) for scale in scales]
    counts = [s.n_parameters(d) for s, d in zip(structures, dims, strict=True)]
    candidates = [len(s.starts_of_sets(c)) for s, c in zip(structures, scales, strict=True)]
    n_starts = math.ceil(n_restarts(structures, dims) / paths) * paths
    draws = _draws(tuple(zip(dims, counts, candidates, strict=True)), n_starts)
    parts = []
    for structure, scale, (factors, which, signs) in zip(structures, scales, draws, strict=True):
        d, B = scale.shape
        sets = (scale[:, None] * factors[:, :, None]).reshape(d, -1)
        if structure.closed or sets.shape[1] > n_starts or xp is not np:
            own = xp.stack(structure.starts_of_sets(sets))
        else:
            # JAX would compile the starts of a structure of one's own for all of them at once.
            each = [structure.starts_of_sets(sets[:, [i]]) for i in range(n_starts)]
            own = np.stack([np.concatenate(parts, 1) for parts in zip(*each, strict=True)])
        own = own.reshape(len(own), len(signs), n_starts, B)
        theta = own[which, :, np.arange(n_starts)]  # (n_starts, n_θ, B)
        parts.append(theta * signs.T[:, :, None])
    return xp.concatenate(parts, 1)


@functools.cache
def _draws(sizes: tuple[tuple[int, int, int], ...], n_starts: int) -> list[tuple[np.ndarray, ...]]:
    """What is drawn of each level, of d random effects, n_θ parameters and so many candidates.

    Factors of its variances, (d, n_starts), which of its structure's own starts, (n_starts,), and
    signs of the parameters, (n_θ, n_starts).
    """
    rng = np.random.default_rng(0)
    drawn: list[list[tuple]] = [[] for _ in sizes]
    for _ in range(n_starts):
        for level, (d, n, n_candidates) in zip(drawn, sizes, strict=True):
            kept = np.where(rng.random(d) < 0.4, DROPPED, 1.0)
            small = SMALLER if rng.random() < 0.2 else 1.0
            factor = kept * small * np.exp(rng.standard_normal(d))
            level.append((factor, rng.integers(n_candidates), rng.choice([-1.0, 1.0], n)))
    return [tuple(np.stack(part, -1) for part in zip(*level, strict=True)) for level in drawn]
