"""Further starts where the likelihood often has several maxima: for most fits that end at a bound.

Which of the variances vanish is a discrete choice: a path that has let one go does not come back
for another. Starts from the moment estimate all lead to the same choice more often than not, so the
search goes on from starts in which some variances, drawn at random, are already small. The draws
come from a fixed seed: a fit is the same every time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mixmeta_jax.data.design import Array, Design
from mixmeta_jax.model.structure import Structure, namespace
from mixmeta_jax.status import Status

RESTARTS = 24
"""Least number of further starts of a fit of few parameters."""

FEW_PARAMETERS = 6
"""Parameters up to which `RESTARTS` suffice; of more, in proportion to them."""

MOST_PARAMETERS = 32
"""Parameters up to which a fit is restarted; beyond, every path costs too much."""

NEARLY_SINGULAR = 0.05
"""Least eigenvalue of an estimated correlation matrix below which a fit is as one at a bound."""

DROPPED, SMALLER = 0.01, 0.03
"""Factors of a variance that starts as good as null, and of all variances of a small level."""


def worth_restarting(
    design: Design, status: Status, Psi: Sequence[np.ndarray] | None = None
) -> bool:
    """Whether a fit that ended so, at Ψ where it is given, may have missed a higher maximum.

    At a bound, or where the steps ran out. Inside too where three or more random effects are nearly
    collinear, since a singular Ψ may be higher, and where one correlation, or given ones, tie as
    many variances, any of which may vanish instead (``Structure.rugged``).
    """
    if not 2 <= sum(design.n_parameters) <= MOST_PARAMETERS or max(design.dims) == 1:
        return False
    pairs = zip(design.structures, design.dims, strict=True)
    rugged = any(structure.rugged and d > 2 for structure, d in pairs)
    collinear = any(
        structure.name == "unstr" and len(P) > 2 and _least_eigenvalue(P) < NEARLY_SINGULAR
        for structure, P in zip(design.structures, Psi or (), strict=False)
    )
    return rugged or collinear or status in (Status.BOUNDARY, Status.MAX_ITER)


def _least_eigenvalue(Psi: np.ndarray) -> float:
    """Of the correlations; 0 where a variance is null."""
    sd = np.sqrt(np.maximum(np.diag(Psi), 0))
    if not np.isfinite(Psi).all() or sd.min() == 0:
        return 0.0
    return float(np.linalg.eigvalsh(Psi / np.outer(sd, sd))[0])


def restarts(structures: Sequence[Structure], scales: Sequence[Array], lanes: int) -> list[Array]:
    """Starts of θ in batches of ``lanes``, shape (lanes, n_θ) each.

    Every level takes one of its structure's own starts at variances of the given scale, of which
    some are drawn to be small, and random signs, which turn correlations around. The draws do not
    depend on the data. Scales of numpy give numpy's arrays, those of JAX may be traced.
    """
    xp = namespace(*scales)
    rng = np.random.default_rng(0)
    n = sum(s.n_parameters(len(scale)) for s, scale in zip(structures, scales, strict=True))
    wanted = RESTARTS * max(n, FEW_PARAMETERS) / FEW_PARAMETERS
    batches = math.ceil(wanted / lanes)
    return [
        xp.stack([_draw(structures, scales, rng) for _ in range(lanes)]) for _ in range(batches)
    ]


def _draw(
    structures: Sequence[Structure], scales: Sequence[Array], rng: np.random.Generator
) -> Array:
    xp = namespace(*scales)
    parts = []
    for structure, scale in zip(structures, scales, strict=True):
        kept = np.where(rng.random(len(scale)) < 0.4, DROPPED, 1.0)
        level = SMALLER if rng.random() < 0.2 else 1.0
        candidates = structure.starts(
            scale * kept * level * np.exp(rng.standard_normal(len(scale)))
        )
        theta = candidates[rng.integers(len(candidates))]
        parts.append(theta * rng.choice([-1.0, 1.0], len(theta)))
    return xp.concatenate(parts)
