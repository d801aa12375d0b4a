"""Natural parameters ψ of a covariance structure: variances, covariances, correlations.

Where Ψ is linear in its natural parameters (unstr, diag, id, prop, cs) any other linear ones serve
inference as well, since all that follows from the derivatives of Σ does not depend on the choice:
the elements of Ψ along the eigenvectors of its correlation matrix, or its eigenvalues. Those of a
null space or of a zero are then simply absent.

Parameters at a bound are *held*: their derivatives are null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixmeta_jax.tolerances import NULL_VARIANCE, SINGULAR


@dataclass(frozen=True)
class Bound:
    """A parameter that is held.

    Attributes
    ----------
    kind
        "variance", "specific variance", "correlation", "null space" or "parameter".
    effect
        Number of the random effect whose variance it is; for a null space, its dimension; else 0.
    where
        In which data sets, shape (B,).
    """

    kind: str
    effect: int
    where: np.ndarray


@dataclass(frozen=True)
class Natural:
    """The natural parameters of one level, of B data sets at their Ψ.

    Attributes
    ----------
    slopes
        ∂Ψ/∂ψ, shape (d, d, n, B); null for parameters that are held.
    second
        ∂²Ψ/∂ψ∂ψ, shape (d, d, n, n, B); None where Ψ is linear in ψ.
    free
        Which parameters are not held, shape (n, B).
    bounds
        What is held.
    """

    slopes: np.ndarray
    second: np.ndarray | None
    free: np.ndarray
    bounds: tuple[Bound, ...]


def linear(terms: np.ndarray, free: np.ndarray, bounds: tuple[Bound, ...]) -> Natural:
    """Ψ = Σ_a ψ_a M_a for M of shape (n, d, d)."""
    slopes = np.moveaxis(terms, 0, -1)[..., None] * free
    return Natural(slopes, None, free, bounds)


def along_bound(slopes: np.ndarray, second: np.ndarray) -> Natural:
    """The parameters θ themselves, of one Ψ that is singular: Ψ keeps its rank, not its null space.

    ``slopes`` is ∂Ψ/∂θ, shape (d, d, n), and ``second`` ∂²Ψ/∂θ∂θ, shape (d, d, n, n). Directions in
    which the rank would rise move Ψ in second order only.
    """
    free = np.ones((slopes.shape[2], 1), bool)
    return Natural(slopes[..., None], second[..., None], free, ())


def coefficients(Psi: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """ψ with Ψ = Σ_a ψ_a M_a, shape (n, B)."""
    flat = terms.reshape(len(terms), -1)
    return np.linalg.solve(flat @ flat.T, flat @ Psi.reshape(flat.shape[1], -1))


def unstructured(Psi: np.ndarray, scale: np.ndarray) -> Natural:
    """The elements of Ψ along the eigenvectors of its correlation matrix."""
    d, _, B = Psi.shape
    variances = np.einsum("iib->ib", Psi)
    null = variances <= NULL_VARIANCE * scale
    sd = np.sqrt(np.where(null, 1.0, variances))
    there = ~null
    R = np.where(there[:, None] & there, Psi / (sd[:, None] * sd), 0.0)
    values, vectors = np.linalg.eigh(np.moveaxis(R, -1, 0))
    vectors = sd[:, None] * np.moveaxis(vectors, 0, -1)  # (d, eigenvector, B)
    kept = values.T > SINGULAR
    rows, columns = np.tril_indices(d)
    made = vectors[:, None, rows] * vectors[None][:, :, columns]
    slopes = made + np.swapaxes(made, 0, 1)
    slopes[:, :, rows == columns] *= 0.5
    free = kept[rows] & kept[columns]
    lost = (~kept).sum(0) - null.sum(0)
    bounds = tuple(Bound("variance", i, null[i]) for i in range(d) if null[i].any())
    bounds += tuple(
        Bound("null space", int(size), lost == size) for size in np.unique(lost[lost > 0])
    )
    return Natural(slopes * free, None, free, bounds)


def elements(
    Psi: np.ndarray, correlations: Sequence[tuple[int, ...]], held: Sequence[tuple[int, ...]]
) -> Natural:
    """The elements of Ψ but those that are held, (i,) or (i, j), and held correlations (i, j).

    The covariance of a held correlation r follows from its variances, r√(v_i v_j). All variances
    are positive.
    """
    d, _, B = Psi.shape
    gone = {frozenset(at) for at in (*correlations, *held)}
    kept = [(i, j) for i in range(d) for j in range(i + 1) if frozenset((i, j)) not in gone]
    place = {i: a for a, (i, j) in enumerate(kept) if i == j}
    n = len(kept)
    slopes, second = np.zeros((d, d, n, B)), np.zeros((d, d, n, n, B))
    for a, (i, j) in enumerate(kept):
        slopes[i, j, a] = slopes[j, i, a] = 1.0
    for pair in correlations:
        i, j = pair
        half = {x: 0.5 / Psi[x, x] for x in pair if x in place}
        for x, own in half.items():
            slopes[i, j, place[x]] = slopes[j, i, place[x]] = Psi[i, j] * own
            for z, other in half.items():
                bend = (-1.0 if x == z else 1.0) * Psi[i, j] * own * other
                second[i, j, place[x], place[z]] = second[j, i, place[x], place[z]] = bend
    return Natural(slopes, second, np.ones((n, B), bool), ())


def scaled(
    variances: np.ndarray,
    C: tuple[np.ndarray, np.ndarray, np.ndarray],
    null: np.ndarray,
    at_bound: np.ndarray | None,
) -> Natural:
    """Ψ = (s sᵀ) ∘ C(ρ), s² the variances; ψ are these, then ρ.

    Parameters
    ----------
    variances, null
        The variances and which are zero, shape (d, B).
    C
        The correlation and its first two derivatives in ρ, shape (d, d, B).
    at_bound
        Whether ρ is at a bound, shape (B,); None where there is no ρ.
    """
    d, B = variances.shape
    own, one, two = C
    n = d + (at_bound is not None)
    v = np.where(null, 1.0, variances)
    s = np.where(null, 0.0, np.sqrt(v))
    first, bend = 0.5 / np.sqrt(v), -0.25 / v**1.5  # ∂s/∂v, ∂²s/∂v²
    unit = np.eye(d)[:, :, None]
    # ∂(s sᵀ)/∂s_i has s in the row and in the column i.
    cross = unit[:, None] * s[None, :, None] + unit[None] * s[:, None, None]  # (d, d, i, B)
    slopes, second = np.zeros((d, d, n, B)), np.zeros((d, d, n, n, B))
    slopes[:, :, :d] = cross * first * own[:, :, None]
    pair = (
        unit[:, None, :, None] * unit[None, :, None] + unit[:, None, None] * unit[None, :, :, None]
    )
    second[:, :, :d, :d] = pair * (first[:, None] * first) * own[:, :, None, None]
    second[:, :, range(d), range(d)] += cross * bend * own[:, :, None]
    free = ~null
    bounds = tuple(Bound("variance", i, null[i]) for i in range(d) if null[i].any())
    if at_bound is not None:
        slopes[:, :, d] = s[:, None] * s * one
        mixed = cross * first * one[:, :, None]
        second[:, :, :d, d], second[:, :, d, :d] = mixed, mixed
        second[:, :, d, d] = s[:, None] * s * two
        single = free.sum(0) < 2  # a correlation with nothing
        free = np.concatenate([free, ~(at_bound | single)[None]])
        if (at_bound & ~single).any():
            bounds += (Bound("correlation", 0, at_bound & ~single),)
    slopes = np.where(free, slopes, 0.0)
    second = np.where(free[:, None] & free, second, 0.0)
    return Natural(slopes, second, free, bounds)


def one_scale(
    variance: np.ndarray,
    C: tuple[np.ndarray, np.ndarray, np.ndarray],
    null: np.ndarray,
    at_bound: np.ndarray,
) -> Natural:
    """Ψ = σ² C(ρ); ψ are σ² and ρ. Arrays as in `scaled`, ``variance`` and ``null`` (B,)."""
    own, one, two = C
    free = np.stack([~null, ~(null | at_bound)])
    slopes = np.where(free, np.stack([own, variance * one], 2), 0.0)
    nothing = np.zeros_like(own)
    rows = [np.stack(row, 2) for row in ((nothing, one), (one, variance * two))]
    second = np.where(free[:, None] & free, np.stack(rows, 2), 0.0)
    bounds = tuple(
        Bound(kind, -1 if kind == "variance" else 0, where)
        for kind, where in (("variance", null), ("correlation", at_bound & ~null))
        if where.any()
    )
    return Natural(slopes, second, free, bounds)


def powers(rho: np.ndarray, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ρ^p and its first two derivatives in ρ, shape (d, d, B), for exponents of shape (d, d)."""
    p = exponents[:, :, None]

    def power(lowered: int) -> np.ndarray:
        factor = np.prod([p - j for j in range(lowered)], axis=0) if lowered else np.ones_like(p)
        with np.errstate(all="ignore"):  # a null factor meets an infinite power at ρ = 0
            values = factor * rho ** (p - lowered)
        return np.where(factor == 0, 0.0, values)

    return power(0), power(1), power(2)


def singular(C: np.ndarray) -> np.ndarray:
    """Whether correlation matrices, shape (d, d, B), are singular, shape (B,)."""
    finite = np.where(np.isfinite(C), C, 0.0)
    return np.linalg.eigvalsh(np.moveaxis(finite, -1, 0))[:, 0] <= SINGULAR
