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
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.design.tensors import Block, Tensors
from mixmeta_jax.likelihood.algebra import gram, matmul, transpose
from mixmeta_jax.likelihood.columns import sum_by
from mixmeta_jax.likelihood.sweep import Downward, Upward, effects_along, weighted

MOST_COEFFICIENTS = 24
"""Coefficients up to which what they take of the expected information is formed exactly."""

Slopes = tuple[Array, ...]
"""∂Ψ/∂θ of each level in its own parameters, outermost first, shape (d, d, n_θ of the level, B)."""


def average_information(
    up: Upward, down: Downward, tensors: Tensors, root: Array, slopes: Slopes
) -> Array:
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
    """Whether `expected_information` covers the design: one level, one of its groups per block."""
    alone = len(tensors.inside) == 1 and not tensors.absorbed
    return alone and all(block.same[0] is None for block in tensors.blocks)


def is_exact(tensors: Tensors, restricted: bool) -> bool:
    """Whether the information is the observed one, rather than a matrix close to it."""
    small = not restricted or tensors.n_coefficients <= MOST_COEFFICIENTS
    return has_closed_expected(tensors) and small


def expected_information(
    up: Upward, tensors: Tensors, root: Array, slope: Array, restricted: bool
) -> Array:
    """½ tr(P Σ_a P Σ_b) for one inside level, shape (n_θ, n_θ, B); P is Σ⁻¹ for ML.

    With w = ZᵀΣ⁻¹Z and h = ZᵀΣ⁻¹X Vᐟ of each block, V = Vᐟ Vᐟᵀ,

        tr(PΣ_aPΣ_b) = Σ tr(w ∂_a w ∂_b) − 2 Σ tr(hhᵀ ∂_a w ∂_b) + tr(A_a A_b),

    where A_a = Σ hᵀ ∂_a h and ∂_a = ∂Ψ/∂θ_a. The last term, whose cost grows with the square of
    the coefficients, is left out beyond `MOST_COEFFICIENTS`: see `is_exact`.
    """
    d, P = len(slope), len(root)
    squares: Any = 0.0
    mixed: Any = 0.0
    products: Any = 0.0
    for block, own in zip(tensors.blocks, up.columns, strict=True):
        Z = _whitened_effects(own.R, block)  # (s, d, N, B)
        w = _as_rows(matmul(transpose(Z), Z))
        squares = squares + gram(w, w)
        if restricted:
            h = matmul(root[:, :, None], matmul(own.x, Z))  # (P, d, N, B)
            mixed = mixed + gram(w, _as_rows(matmul(transpose(h), h)))
            if P <= MOST_COEFFICIENTS:
                h = _as_rows(transpose(h))
                products = products + gram(h, h)
    if not restricted:
        (squares,) = tensors.total((squares,))
        return 0.5 * contract(squares, slope)
    squares, mixed, products = tensors.total((squares, mixed, products))
    total = contract(squares, slope)
    twice = contract(mixed, slope)
    total = total - twice - transpose(twice)
    if P <= MOST_COEFFICIENTS:
        B = products.shape[2]
        pairs = namespace(products).transpose(products.reshape(d, P, d, P, B), (1, 3, 0, 2, 4))
        A = matmul(pairs.reshape(P * P, d * d, B), slope.reshape(d * d, -1, slope.shape[3]))
        total = total + matmul(transpose(A), A)
    return 0.5 * total


def contract(products: Array, slope: Array) -> Array:
    """Σ w_rs v_uv ∂_a,su ∂_b,vr for the products w_rs v_uv, shape (n_θ, n_θ, B): tr(w ∂_a v ∂_b).

    ``products`` has the shape (d², d², B), the slope (d, d, n_θ, B).
    """
    d, _, n, _ = slope.shape
    B = products.shape[2]
    xp = namespace(products, slope)
    # Σ_su w_rs v_uv ∂_a,su: (r, v) rows from (s, u) columns.
    by_ends = products.reshape(d, d, d, d, B)
    left = xp.transpose(by_ends, (0, 3, 1, 2, 4)).reshape(d * d, d * d, B)
    half = matmul(left, slope.reshape(d * d, n, -1))  # (rv, a, B)
    right = xp.swapaxes(slope, 0, 1).reshape(d * d, n, -1)  # ∂_b,vr at (r, v)
    return matmul(transpose(half), right)


def _as_rows(matrices: Array) -> Array:
    """A stack of matrices (i, j, N, B) as one of single columns of their entries, (i·j, 1, N, B)."""
    return matrices.reshape(-1, 1, *matrices.shape[2:])


def _whitened_effects(R: Array, block: Block) -> Array:
    """R Z of the first inside level, shape (s, d, N, B)."""
    z = block.z[0]
    n_b, s = z.shape[1], len(R)
    by_place = R.reshape(s, n_b, s // n_b, *R.shape[2:])
    if n_b == 1:
        made = by_place[:, 0][:, None] * z[:, 0][None]
    else:
        terms = [by_place[:, u][:, None] * z[:, u][None] for u in range(n_b)]
        made = sum(terms[1:], start=terms[0])
    return made.reshape(s, -1, *made.shape[3:])
