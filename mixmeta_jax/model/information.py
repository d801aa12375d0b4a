"""The information on θ in closed form: average, and expected where no level is absorbed.

With f_a = Z (∂Ψ/∂θ_a) s, s_j = Z_jᵀPy, the average information is ½ f_aᵀP f_b. The f_a are
columns like any other: they join the Gram matrices at the level of their parameter and go up the
tree with them. The expected information ½ tr(P Σ_a P Σ_b), Σ_a = Z (∂Ψ/∂θ_a) Zᵀ, is a contraction
of three Gram matrices over blocks where all levels lie inside them. The observed information in Ψ
is twice the average less the expected.
"""

from __future__ import annotations

import functools
import itertools

import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.data.design import BlockTensors, Tensors
from mixmeta_jax.model.small import matmul, root_product, sum_blocks, sum_over, transpose
from mixmeta_jax.model.sweep import Downward, Upward, gram_of_all, sum_by
from mixmeta_jax.model.units import UnitColumns, unit_products

Slopes = tuple[Array, ...]
"""∂Ψ/∂θ of each level in its own parameters, outermost first, shape (d, d, n_θ of the level)."""


def average_information(
    up: Upward, down: Downward, tensors: Tensors, V: Array, slopes: Slopes
) -> Array:
    """½ f_aᵀ P f_b for all pairs of parameters, shape (n_θ, n_θ).

    Parameters
    ----------
    up, down
        Both sweeps at the same Ψ.
    tensors
        The data.
    V
        (XᵀΣ⁻¹X)⁻¹, shape (P, P).
    slopes
        ∂Ψ/∂θ of each level.
    """
    cross, within = _block_columns(up, down, tensors, slopes)
    for a, level in enumerate(tensors.absorbed):
        group = up.levels[a]
        D, K, S, along = group.D, group.K, group.S[:, :-1], group.along[:, :-1]
        weights = _weights(slopes[level], down.scores[a])  # (d, n_θ, G)
        own, corner = (
            matmul(transpose(S), weights),
            matmul(transpose(weights), matmul(group.T, weights)),
        )
        if cross is None or within is None:
            cross, within = own, corner
        else:
            Zf = cross[: len(D)]
            link = matmul(transpose(Zf), weights - matmul(K, matmul(D, weights)))
            shrunk = within - matmul(transpose(Zf), matmul(K, Zf))
            within = jnp.concatenate(
                [
                    jnp.concatenate([shrunk, link], 1),
                    jnp.concatenate([transpose(link), corner], 1),
                ]
            )
            cross = jnp.concatenate([cross[len(D) :] + matmul(transpose(along), Zf), own], 1)
        if a < len(tensors.parents):
            parent, n_groups = tensors.parents[a], tensors.n_groups[a + 1]
            cross, within = sum_by(parent, cross, n_groups), sum_by(parent, within, n_groups)
        else:
            cross, within = sum_blocks(cross)[:, :, None], sum_blocks(within)[:, :, None]
    assert cross is not None and within is not None
    cross, within = tensors.total((cross, within))
    at_root = cross[:, :, 0]
    information = 0.5 * (
        within[:, :, 0] - root_product(root_product(transpose(at_root), V), at_root)
    )
    order = _order_of_parameters(tensors, slopes)
    return information[np.ix_(order, order)]


def _order_of_parameters(tensors: Tensors, slopes: Slopes) -> np.ndarray:
    """Where each parameter of θ stands among the columns, which go from the finest level up."""
    ends = np.cumsum([0, *(slope.shape[2] for slope in slopes)])
    ranges = [np.arange(lo, hi) for lo, hi in itertools.pairwise(ends)]
    columns = np.concatenate([ranges[level] for level in (*tensors.inside, *tensors.absorbed)])
    return np.argsort(columns)


def _weights(slope: Array, s: Array) -> Array:
    """(∂Ψ/∂θ_a) s for all a: shape (d, n_θ, N)."""
    slope = jnp.swapaxes(slope, 1, 2)
    if slope.ndim == 3:
        return jnp.tensordot(slope, s, axes=1)
    terms = [slope[:, :, j, None] * s[j] for j in range(len(s))]
    return sum(terms[1:], start=terms[0])


def _block_columns(
    up: Upward, down: Downward, tensors: Tensors, slopes: Slopes
) -> tuple[Array | None, Array | None]:
    """Gram matrices of [Z, X] with the f_a of the inside levels, and of the f_a, by parent."""
    if not tensors.inside:
        return None, None
    crosses, withins = [], []
    for block, R, H, e in zip(
        tensors.blocks, up.whiteners, up.columns, down.residuals, strict=True
    ):
        parts = [
            _effects_along(z, same, e, slopes[level])
            for z, same, level in zip(block.z, block.same, tensors.inside, strict=False)
        ]
        f = jnp.concatenate(parts, 1)
        if isinstance(H, UnitColumns):
            by_group = functools.partial(sum_by, block.parent, n_groups=tensors.n_groups[0])
            cross, within = unit_products(H, f, by_group)
            crosses.append(cross)
            withins.append(within)
            continue
        whitened = jnp.swapaxes(matmul(R, f), 0, 1)  # (n_θ, s, N)
        H = H[:-1]
        if block.parent is None:
            crosses.append(gram_of_all(H, whitened)[:, :, None])
            withins.append(gram_of_all(whitened, whitened)[:, :, None])
        else:
            columns = jnp.swapaxes(whitened, 0, 1)
            n_groups = tensors.n_groups[0]
            crosses.append(sum_by(block.parent, matmul(H, columns), n_groups))
            withins.append(sum_by(block.parent, matmul(whitened, columns), n_groups))
    return jnp.stack(crosses).sum(0), jnp.stack(withins).sum(0)


def _effects_along(z: Array, same: Array | None, e: Array, slope: Array) -> Array:
    """f_a = Z (∂Ψ/∂θ_a) Zᵀe of an inside level, shape (s, n_θ, N)."""
    q, n_b = z.shape[:2]
    k, rest = e.shape[0] // n_b, e.shape[1:]
    scores = z * e.reshape(1, n_b, k, *rest)  # by place, (q, n_b, k, N)
    rows = []
    for u in range(n_b):
        member = scores if same is None else scores * same[u][None, :, None]
        weights = _weights(slope, sum_over(member, 1).reshape(q * k, *rest))
        weights = weights.reshape(q, k, slope.shape[2], *rest)
        rows.append(sum(z[a, u][:, None] * weights[a] for a in range(q)))
    return jnp.stack(rows).reshape(n_b * k, slope.shape[2], *rest)


def has_closed_expected(tensors: Tensors) -> bool:
    """Whether `expected_information` covers the design: one level, one of its groups per block."""
    alone = len(tensors.inside) == 1 and not tensors.absorbed
    return alone and all(block.same[0] is None for block in tensors.blocks)


def expected_information(
    up: Upward, tensors: Tensors, V: Array, slope: Array, restricted: bool
) -> Array:
    """½ tr(P Σ_a P Σ_b) for one inside level, shape (n_θ, n_θ); P is Σ⁻¹ for ML.

    With w = ZᵀΣ⁻¹Z and h = ZᵀΣ⁻¹X of each block,

        tr(PΣ_aPΣ_b) = Σ tr(w ∂_a w ∂_b) − 2 Σ tr(hVhᵀ ∂_a w ∂_b) + tr(V A_a V A_b),

    where A_a = Σ hᵀ ∂_a h and ∂_a = ∂Ψ/∂θ_a.
    """
    d, P = slope.shape[0], V.shape[0]
    sets = V.shape[2:]
    squares = jnp.zeros((d * d, d * d, *sets))
    mixed = jnp.zeros((d * d, d * d, *sets))
    products = jnp.zeros((d * P, d * P, *sets))
    for block, R, H in zip(tensors.blocks, up.whiteners, up.columns, strict=True):
        Z = _whitened_effects(R, block)  # (s, d, N)
        w = _as_rows(matmul(transpose(Z), Z))
        squares += gram_of_all(w, w)
        if restricted:
            h = matmul(transpose(Z), jnp.swapaxes(H[:-1], 0, 1))  # (d, P, N)
            g = _as_rows(matmul(matmul(h, V[:, :, None]), transpose(h)))
            mixed += gram_of_all(w, g)
            h = _as_rows(h)
            products += gram_of_all(h, h)
    squares, mixed, products = tensors.total((squares, mixed, products))
    # tr(w ∂_a w ∂_b) = Σ w_rs w_uv ∂_a,su ∂_b,vr
    total = contract(squares.reshape(d, d, d, d, *sets), slope)
    if restricted:
        twice = contract(mixed.reshape(d, d, d, d, *sets), slope)
        A = jnp.einsum("rpsq...,rsa...->pqa...", products.reshape(d, P, d, P, *sets), slope)
        VA = jnp.einsum("op...,pqa...->oqa...", V, A)
        squared = jnp.einsum("oqa...,qob...->ab...", VA, VA)
        total = total - twice - transpose(twice) + squared
    return 0.5 * total


def contract(gram: Array, slope: Array) -> Array:
    """Σ w_rs v_uv ∂_a,su ∂_b,vr for the products w_rs v_uv, shape (n_θ, n_θ): tr(w ∂_a v ∂_b)."""
    half = jnp.einsum("rsuv...,sua...->rva...", gram, slope)
    return jnp.einsum("rva...,vrb...->ab...", half, slope)


def _as_rows(matrices: Array) -> Array:
    """A stack of matrices (i, j, N) as one of single columns of their entries, (i·j, 1, N)."""
    return matrices.reshape(-1, 1, *matrices.shape[2:])


def _whitened_effects(R: Array, block: BlockTensors) -> Array:
    """R Z of the first inside level, shape (s, d, N)."""
    z = block.z[0]
    n_b, s = z.shape[1], R.shape[0]
    by_place = R.reshape(s, n_b, s // n_b, *R.shape[2:])
    terms = [by_place[:, u][:, None] * z[:, u][None] for u in range(n_b)]
    total = sum(terms[1:], start=terms[0])
    return total.reshape(s, -1, *total.shape[3:])
