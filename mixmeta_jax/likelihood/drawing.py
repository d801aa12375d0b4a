"""Outcomes drawn from the model with keys of JAX: pure, for one data set, to be mapped over keys.

    y = m + Σ_ℓ Z_ℓ (I ⊗ Λ_ℓ) u_ℓ + L e,    Ψ_ℓ = Λ_ℓ Λ_ℓᵀ,  S = L Lᵀ,  u and e unit normals

The numbers of a level come from the key with the number of the level folded in, outermost 0, those
of the errors from the key with the number of levels. The roots are lower triangular, so that an
outcome that is missing disturbs no other; those of singular matrices have null columns.
`design.draws` draws the same model with numbers of NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace, tree
from mixmeta_jax.design.design import Design
from mixmeta_jax.likelihood.elimination import semidefinite_factor


@tree
@dataclass(frozen=True)
class Drawing:
    """What outcomes are drawn from.

    Attributes
    ----------
    mean
        Expected outcomes, shape (n, k).
    effects
        Λ of each level, outer first, shape (k·q, k·q), outcome fastest.
    Z, groups
        Random predictors of each level, (n, q), and group of each unit at each, (n, L).
    errors
        L of every unit, one array (k, k, n); or of the blocks of each bucket, (n_b·k, n_b·k, N).
    rows
        Units of the blocks of each bucket, (n_b, N), n where there is none; () by unit.
    counts
        Number of effect vectors of each level that are drawn: no fewer than it has groups, and the
        same whether or not the groups are traced.
    """

    mean: Array
    effects: tuple[Array, ...]
    Z: tuple[Array, ...]
    groups: Array
    errors: tuple[Array, ...]
    rows: tuple[Array, ...]
    counts: tuple[int, ...] = field(metadata={"static": True})

    def draw(self, key: Any) -> Array:
        """One data set, shape (n, k), from a key of JAX."""
        return self.mean + self.deviations(*self.normals(key))

    def normals(self, key: Any) -> tuple[tuple[Array, ...], Array]:
        """u of each level, shape (count, k·q), and e, shape (n, k)."""
        from jax import random

        shapes = [(count, len(root)) for count, root in zip(self.counts, self.effects, strict=True)]
        shapes.append(self.mean.shape)
        *u, e = (
            random.normal(random.fold_in(key, number), shape, float)
            for number, shape in enumerate(shapes)
        )
        return tuple(u), e

    def deviations(self, u: Sequence[Array], e: Array) -> Array:
        """What is added to the expected outcomes, shape (n, k): linear in u and e."""
        n, k = self.mean.shape
        xp = namespace(self.mean, self.groups, e, *u, *self.effects, *self.errors)
        total = self._errors(xp, e)
        for level, (own, root, Z) in enumerate(zip(u, self.effects, self.Z, strict=True)):
            effects = (xp.asarray(own) @ root.T)[self.groups[:, level]]
            total = total + (effects.reshape(n, -1, k) * xp.asarray(Z)[:, :, None]).sum(1)
        return total

    def _errors(self, xp: Any, e: Array) -> Array:
        n, k = self.mean.shape
        if not self.rows:
            return xp.einsum("abn,nb->na", self.errors[0], e)
        moved, places = [], []
        for root, rows in zip(self.errors, self.rows, strict=True):
            own = xp.asarray(e)[xp.minimum(rows, n - 1)]  # (n_b, N, k)
            white = xp.swapaxes(own, 1, 2).reshape(len(root), -1)
            turned = xp.einsum("abN,bN->aN", root, white).reshape(len(rows), k, -1)
            moved.append(xp.swapaxes(turned, 1, 2).reshape(-1, k))
            places.append(xp.asarray(rows).ravel())
        # Every unit has one place; the empty ones, numbered n, come last.
        order = xp.argsort(xp.concatenate(places))[:n]
        return xp.concatenate(moved)[order]


def drawing(design: Design, mean: Array, Psi: Sequence[Array]) -> Drawing:
    """Draws from the model of a design around a mean of shape (n, k), for Ψ of each level.

    Numpy's arrays give numpy's; those of JAX, which may be traced, JAX's. Without any Ψ only the
    errors are drawn.
    """
    n, layout = design.n, design.layout
    counts = [n] * design.groups.shape[1]
    for level, count in zip(layout.absorbed, layout.n_groups, strict=True):
        counts[level] = min(n, count)
    spanning = isinstance(design.S, tuple)
    return Drawing(
        mean,
        tuple(map(semidefinite_factor, Psi)),
        design.Z if Psi else (),
        design.groups,
        _error_roots(design),
        tuple(bucket.rows for bucket in layout.buckets) if spanning else (),
        tuple(counts[: len(Psi)]),
    )


def _error_roots(design: Design) -> tuple[Array, ...]:
    """Lower roots of S, as `Drawing.errors`; where an outcome is missing S is not read."""
    mask = namespace(design.mask).asarray(design.mask)
    if not isinstance(design.S, tuple):
        return (_root(design.S, mask),)
    roots = []
    for S, bucket in zip(design.S, design.layout.buckets, strict=True):
        xp = namespace(mask, bucket.rows)
        there = xp.asarray(bucket.rows) < design.n
        seen = mask[xp.minimum(bucket.rows, design.n - 1)] & there[..., None]  # (n_b, N, k)
        roots.append(_root(S, xp.swapaxes(seen, 0, 1).reshape(S.shape[0], -1)))
    return tuple(roots)


def _root(S: Array, seen: Array) -> Array:
    """Lower roots (s, s, N) of matrices (N, s, s), null where nothing is observed, (N, s)."""
    xp = namespace(S, seen)
    pair = seen[:, :, None] & seen[:, None]
    known = xp.where(pair, 0.5 * (S + xp.swapaxes(S, 1, 2)), 0.0)
    return semidefinite_factor(xp.moveaxis(known, 0, -1))


def numbered_keys(words: Array, numbers: Array) -> Array:
    """The keys of data sets, ``fold_in(key(seed), number)``, whatever the default kind of key.

    ``words`` are those of the seed (`seed_words`), the numbers have 32 bits, shape (B,).
    """
    import jax

    key = jax.random.wrap_key_data(words, impl="threefry2x32")
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


def seed_words(seed: int) -> np.ndarray:
    """The two words of a seed of 64 bits."""
    return np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)
