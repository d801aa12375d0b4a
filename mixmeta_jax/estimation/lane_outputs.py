"""What follows from many estimates: BLUPs of the outcomes, and Cochran's Q."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.design.design import Tensors
from mixmeta_jax.estimation.lane_data import (
    ManyData,
    complete_tensors,
    lane_arrays,
    shared_tensors,
)
from mixmeta_jax.likelihood.likelihood import centred, profile
from mixmeta_jax.likelihood.sweep import downward, upward

LaneParts = list[dict[str, Array]]


def lane_blups(
    many: ManyData, members: np.ndarray, beta: np.ndarray, Psi: tuple[np.ndarray, ...], size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Xβ̂ + Zb̂ of every row, observed or not, without the offset: members, and shape (b, n, k).

    Parameters
    ----------
    many
        The data; all data sets share X and Z.
    members
        Data sets whose estimates are finite.
    beta, Psi
        Estimates of all B data sets, shape (B, P), and (B, d, d) per level, outer first; no level
        for fixed effects.
    size
        Data sets in a chunk.
    """
    design = many.design
    p, k = design.p, design.k
    to_basis = np.linalg.inv(design.basis)
    rows = tuple(bucket.rows for bucket in design.layout.buckets)
    for part, padded in _chunks(members, size):
        own = beta[padded].reshape(-1, p, k)
        expected = design.X @ own
        if Psi:
            with jax.enable_x64(True), jax.default_matmul_precision("highest"):
                found = _random_parts(
                    tuple(np.moveaxis(P[padded], 0, -1) for P in Psi),
                    np.moveaxis(to_basis @ own, 0, -1),
                    shared_tensors(many),
                    lane_arrays(many, padded),
                    rows,
                    np.asarray(design.groups),
                    tuple(np.asarray(Z) for Z in design.Z),
                )
                expected = expected + np.moveaxis(jax.device_get(found), -1, 0)
        yield part, expected[: len(part)]


def lane_Q(
    many: ManyData, members: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Members, Q of the fixed-effects fit with the full S, and its degrees of freedom."""
    plain = replace(many, design=many.design.without_levels(), Z=None)
    for part, padded in _chunks(members, size):
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            Q = jax.device_get(_residual_squares(shared_tensors(plain), lane_arrays(plain, padded)))
        count = np.broadcast_to(many.seen(part).sum((1, 2)), len(part))
        yield part, Q[: len(part)], count - many.n_coefficients


def _chunks(members: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The members in turn, and the same filled up to one length: one compilation."""
    size = min(size, len(members))
    for first in range(0, len(members), max(1, size)):
        part = members[first : first + size]
        yield part, np.resize(part, size)


@jax.jit
def _residual_squares(shared: Tensors, parts: LaneParts) -> Array:
    data, _ = centred(complete_tensors(shared, parts))
    up = upward((), data)
    return profile(up).deviance - up.logdet


@jax.jit
def _random_parts(
    Psi: tuple[Array, ...],
    beta: Array,
    shared: Tensors,
    parts: LaneParts,
    rows: tuple[Array, ...],
    groups: Array,
    Z: tuple[Array, ...],
) -> Array:
    """Σ_ℓ Z ΨZᵀ Σ⁻¹ (y − Xβ̂) of every row, shape (n, k, B).

    Missing outcomes have null rows in Zᵀ and in Σ⁻¹r, and their own in Z: they are predicted from
    those that are observed.
    """
    tensors = complete_tensors(shared, parts)
    blocks = tuple(
        replace(b, y=b.y - sum(x * beta[a][None, :, None] for a, x in enumerate(b.x)))
        for b in tensors.blocks
    )
    data = replace(tensors, blocks=blocks)
    p, k, B = beta.shape
    down = downward(upward(Psi, data), data, jnp.zeros((p * k, B)), jnp.zeros((p * k, p * k, B)))
    n = len(groups)
    weighted = jnp.zeros((n + 1, k, B))
    for places, e in zip(rows, down.residuals, strict=True):
        values = e.reshape(places.shape[0], k, places.shape[1], B)
        weighted = weighted.at[places].set(jnp.swapaxes(values, 1, 2))
    weighted = weighted[:n]
    total = jnp.zeros((n, k, B))
    for level, (P, z) in enumerate(zip(Psi, Z, strict=True)):
        d, q = len(P), z.shape[1]
        scores = (z[:, :, None, None] * weighted[:, None]).reshape(n, d, B)
        sums = jnp.zeros((n, d, B)).at[groups[:, level]].add(scores)
        terms = [sums[:, j, None] * P[j] for j in range(d)]
        effects = sum(terms[1:], start=terms[0])[groups[:, level]]
        total = total + (z[:, :, None, None] * effects.reshape(n, q, k, B)).sum(1)
    return total
