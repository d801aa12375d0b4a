"""The information on θ in closed form: average, and expected where no level is absorbed.

With f_a = Z (∂Ψ/∂θ_a) s, s_j = Z_jᵀPy, the average information is ½ f_aᵀP f_b. The f_a are
columns like any other: they go up the tree with the Gram matrices, from the level of their
parameter. The expected information ½ tr(P Σ_a P Σ_b), Σ_a = Z (∂Ψ/∂θ_a) Zᵀ, is a contraction of
three Gram matrices over blocks where all levels lie inside them. The observed information in Ψ is
twice the average less the expected.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, Float, constant, namespace, shaped, tree, widened
from mixmeta_jax.design.tensors import Block, Tensors
from mixmeta_jax.likelihood.algebra import gram, matmul, packing, sum_over, transpose, triangle
from mixmeta_jax.likelihood.columns import sum_by
from mixmeta_jax.likelihood.sweep import Downward, Upward, effects_along, weighted

MOST_PRODUCTS = 150
"""Random effects times coefficients up to which what these take of the expected information is
formed exactly: its cost grows with their square."""

Slopes = tuple[Array, ...]
"""∂Ψ/∂θ of each level in its own parameters, outermost first, shape (d, d, n_θ of the level, B)."""


@shaped
def average_information(
    up: Upward, down: Downward, tensors: Tensors, root: Float[Array, "P P #B"], slopes: Slopes
) -> Float[Array, "theta theta B"]:
    """½ f_aᵀ P f_b for all pairs of parameters, shape (n_θ, n_θ, B).

    Parameters
    ----------
    up, down
        Both sweeps at the same Ψ.
    tensors
        The data.
    root
        A root of V = (XᵀΣ⁻¹X)⁻¹ = rootᵀ root, shape (P, P, B).
    slopes
        ∂Ψ/∂θ of each level.
    """
    cross, fixed, within = _of_blocks(up, down, tensors, slopes)
    for a, level in enumerate(tensors.absorbed):
        at = up.levels[a]
        d, P = len(at.D), tensors.n_coefficients
        n_z = at.S.shape[1] - P - 1
        weights = weighted(slopes[level], down.scores[a])  # (d, n_θ, G, B)
        rows = transpose(weights)
        own = gram(transpose(at.S[:, n_z:-1]), rows)
        corner = gram(rows, transpose(matmul(at.T, weights)))
        new = matmul(transpose(at.S[:, :n_z]), weights) if n_z else None
        if fixed is None:
            fixed, within, cross = own, corner, new
        else:
            xp = namespace(within)
            Zf = cross[:d]
            f = transpose(Zf)
            link = gram(f, transpose(weights - matmul(at.K, matmul(at.D, weights))))
            within = within - gram(f, transpose(matmul(at.K, Zf)))
            within = _bordered(within, link, corner)
            fixed = fixed + gram(transpose(at.along[:, n_z:-1]), f)
            fixed = xp.concatenate([fixed, own], 1)
            if n_z:
                passed = cross[d:] + matmul(transpose(at.along[:, :n_z]), Zf)
                cross = xp.concatenate([passed, new], 1)
        if n_z:
            cross = sum_by(tensors.parents[a], cross, tensors.n_groups[a + 1])
    fixed, within = tensors.total((fixed, within))
    half = matmul(root, fixed)
    information = 0.5 * (within - matmul(transpose(half), half))
    order = _order_of_parameters(tensors, slopes)
    return information if order is None else information[np.ix_(order, order)]


def _bordered(inner: Array, edge: Array, corner: Array) -> Array:
    xp = namespace(inner, edge, corner)
    return xp.concatenate(
        [xp.concatenate([inner, edge], 1), xp.concatenate([transpose(edge), corner], 1)]
    )


def _order_of_parameters(tensors: Tensors, slopes: Slopes) -> np.ndarray | None:
    """Where each parameter of θ stands among the columns, which go from the finest level up."""
    levels = (*tensors.inside, *tensors.absorbed)
    if levels == (0,):
        return None
    ends = np.cumsum([0, *(slope.shape[2] for slope in slopes)])
    ranges = [np.arange(lo, hi) for lo, hi in itertools.pairwise(ends)]
    return np.argsort(np.concatenate([ranges[level] for level in levels]))


def _of_blocks(
    up: Upward, down: Downward, tensors: Tensors, slopes: Slopes
) -> tuple[Any, Any, Any]:
    """Products of the f_a of the inside levels: with Z by group; with X and one another in all."""
    if not tensors.inside:
        return None, None, None
    sums: list[Any] = [None, None, None]
    for block, own, e in zip(tensors.blocks, up.columns, down.residuals, strict=True):
        parts = [
            effects_along(z, same, e, slopes[level])
            for z, same, level in zip(block.z, block.same, tensors.inside, strict=False)
        ]
        f = parts[0] if len(parts) == 1 else namespace(e).concatenate(parts, 1)
        by_group = None
        if tensors.absorbed:
            by_group = functools.partial(sum_by, block.parent, n_groups=tensors.n_groups[0])
        for i, value in enumerate(own.along(f, by_group)):
            sums[i] = value if sums[i] is None else sums[i] + value
    return sums[0], sums[1], sums[2]


def has_closed_expected(tensors: Tensors) -> bool:
    """Whether the expected information is a closed form: one level, one of its groups per block."""
    alone = len(tensors.inside) == 1 and not tensors.absorbed
    return alone and all(block.same[0] is None for block in tensors.blocks)


def is_exact(tensors: Tensors, restricted: bool) -> bool:
    """Whether the information is the observed one, rather than a matrix close to it."""
    if not has_closed_expected(tensors):
        return False
    return not restricted or _few_products(tensors.dims[0], tensors.n_coefficients)


def _few_products(d: int, P: int) -> bool:
    return d * P <= MOST_PRODUCTS


@tree
@dataclass(frozen=True)
class BlockSums:
    """Sums over the blocks of a closed form, from which both information matrices follow.

    With s = Zᵀe, w = ZᵀΣ⁻¹Z and h = ZᵀΣ⁻¹X Vᐟ of each block, V = Vᐟ Vᐟᵀ; symmetric matrices packed.
    Z is in the units of ``sizes``, so that no product over- or underflows.

    Attributes
    ----------
    sizes
        What each column of Z is multiplied by, shape (d, B): see `sizes_of`.
    scores
        Σ s sᵀ ⊗ w, shape (d(d+1)/2, d(d+1)/2, B).
    crossed
        Σ h ⊗ s, shape (P, d, d, B).
    squares, mixed
        Σ w ⊗ w and Σ h hᵀ ⊗ w, packed like the scores; ``mixed`` is None for ML.
    products
        Σ h ⊗ h, shape (P, d, P, d, B); None for ML, and where there are too many.
    """

    sizes: Array
    scores: Array
    crossed: Array
    squares: Array
    mixed: Array | None
    products: Array | None


@shaped
def both_informations(
    sums: BlockSums, slope: Float[Array, "d d theta #B"]
) -> tuple[Float[Array, "theta theta B"], Float[Array, "theta theta B"]]:
    """½ f_aᵀ P f_b, and ½ tr(P Σ_a P Σ_b), shape (n_θ, n_θ, B) each; P is Σ⁻¹ for ML.

    The first is ½ Σ sᵀ ∂_a w ∂_b s, less what the coefficients take of it; the second

        tr(PΣ_aPΣ_b) = Σ tr(w ∂_a w ∂_b) − 2 Σ tr(hhᵀ ∂_a w ∂_b) + tr(A_a A_b)

    with A_a = Σ hᵀ ∂_a h and ∂_a = ∂Ψ/∂θ_a. Its last term is left out where there are too many
    coefficients, which then cost no more than the data: see `is_exact`.
    """
    d, _, n, _ = slope.shape
    P, B = len(sums.crossed), sums.crossed.shape[3]
    slope = slope / (sums.sizes[:, None] * sums.sizes)[:, :, None]
    flat = slope.reshape(d * d, n, -1)
    along = matmul(sums.crossed.reshape(P, d * d, B), flat)
    # Only of the pairs of effects that a parameter moves: of `diag` these are few, at Ψ = 0 none.
    moved = np.ones((d, d), bool)
    if namespace(slope) is np:
        moved = slope.any((2, 3)) | np.eye(d, dtype=bool)
    contracted = functools.partial(contract, slope=slope, pairs=np.nonzero(moved))
    average = contracted(sums.scores) - matmul(transpose(along), along)
    expected = contracted(sums.squares)
    if sums.mixed is not None:
        twice = contracted(sums.mixed)
        expected = expected - twice - transpose(twice)
    if sums.products is not None:
        pairs = namespace(sums.products).transpose(sums.products, (0, 2, 1, 3, 4))
        A = matmul(pairs.reshape(P * P, d * d, B), flat)
        expected = expected + matmul(transpose(A), A)
    return 0.5 * average, 0.5 * expected


def block_sums(
    up: Upward, down: Downward, tensors: Tensors, root: Array, restricted: bool
) -> BlockSums:
    """The sums of a design that `has_closed_expected`."""
    total: list[Any] = []
    sizes = sizes_of(namespace(root).einsum("iib->ib", down.traces[0]))
    few = _few_products(tensors.dims[0], len(root))
    parts = zip(tensors.blocks, up.columns, down.residuals, down.halves, strict=True)
    for block, own, e, half in parts:
        xp = namespace(own.R, e)
        z, k = block.z[0], block.y.shape[1]
        Z = _whitened_effects(own.R, block) * sizes[:, None]  # (s, d, N, B)
        d = Z.shape[1]
        upper, lower = triangle(d)
        scores = sum_over(z * e.reshape(1, -1, k, *e.shape[1:]), 1)
        scores = scores.reshape(d, *scores.shape[2:]) * sizes[:, None]  # (d, N, B)
        w = matmul(transpose(Z), Z)[lower, upper][:, None]
        rows = [(scores[lower] * scores[upper])[:, None], w]
        h = matmul(own.turned(root) if half is None else half, Z)  # (P, d, N, B)
        if restricted:
            rows.append(matmul(transpose(h), h)[lower, upper][:, None])
        widest = np.broadcast_shapes(*(row.shape[1:] for row in rows))
        rows = [widened(row, (len(row), *widest)) for row in rows]
        sums = [gram(xp.concatenate(rows), w)]
        h = h.reshape(-1, 1, *h.shape[2:])
        sums.append(gram(h, scores[:, None]))
        if restricted and few:
            sums.append(gram(h, h))
        total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
    total = tensors.total(tuple(total))
    P, n_w = len(root), len(triangle(d)[0])
    B = total[0].shape[2]
    packed = total[0].reshape(-1, n_w, n_w, B)
    return BlockSums(
        sizes,
        packed[0],
        total[1].reshape(P, d, d, B),
        packed[1],
        packed[2] if restricted else None,
        total[2].reshape(P, d, P, d, B) if len(total) > 2 else None,
    )


def sizes_of(traces: Array) -> Array:
    """One over the size of ZᵀΣ⁻¹Z: roots of the inverse diagonal of its sum, constants."""
    xp = namespace(traces)
    return constant(xp.where(traces > 0, xp.abs(traces), 1.0) ** -0.5)


@shaped
def contract(
    products: Float[Array, "e e #B"],
    slope: Float[Array, "d d theta #B"],
    pairs: tuple[np.ndarray, ...],
) -> Float[Array, "theta theta B"]:
    """Σ w_rs v_uv ∂_a,su ∂_b,vr for the packed products w_rs v_uv, (n_θ, n_θ, B): tr(w∂_a v∂_b).

    ``products`` has the shape (d(d+1)/2, d(d+1)/2, B), the slope (d, d, n_θ, B); it is null but at
    the ``pairs``, a symmetric set.
    """
    place, (s, u) = packing(len(slope)), pairs
    # Σ_su w_rs v_uv ∂_a,su: rows (r, v) from columns (s, u).
    left = products[place[s[:, None], s], place[u[:, None], u]]
    half = matmul(left, slope[s, u])  # (rv, a, B)
    return matmul(transpose(half), slope[u, s])  # ∂_b,vr at (r, v)


def _whitened_effects(R: Array, block: Block) -> Array:
    """R Z of the first inside level, shape (s, d, N, B)."""
    z = block.z[0]
    q, n_b = z.shape[:2]
    s, k = len(R), len(R) // n_b
    xp = namespace(R, z)
    if n_b == 1 and q == 1:
        return R * z[0]
    every = xp.broadcast_to(z, (q, n_b, k, *z.shape[3:]))
    made = xp.einsum("suo...,quo...->sqo...", R.reshape(s, n_b, k, *R.shape[2:]), every)
    return made.reshape(s, q * k, *made.shape[3:])
