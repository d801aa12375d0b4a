"""The likelihood and its derivatives for one level with one random predictor, unit by unit.

This is the model of most meta-analyses, y_i = X_i β + z_i b_i + ε_i with X_i = x_iᵀ ⊗ I_k and
Σ_i = S_i + z_i² Ψ. Here the two sweeps of ``sweep`` need not carry general matrices: with
W_i = Σ_i⁻¹ and e_i = W_i (y_i − X_i β̂), all that the gradient and both information matrices need
are sums over units of products of the entries of

    w_i = z_i² W_i,    s_i = z_i e_i,    G_i = z_i² W_i X_i V X_iᵀ W_i    and    x_i.

Symmetric matrices are packed, one row of length N per entry and the units last, so that these sums
are one matrix product of w with the rest; where predictors are many, so are those of the first
pass. Long data go by in pieces: beside the data, memory holds one triangular factor per unit, and a
piece stays in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace, once, scan, tree
from mixmeta_jax.design.tensors import Tensors
from mixmeta_jax.likelihood.algebra import matmul, packing, sum_over, triangle
from mixmeta_jax.likelihood.elimination import UNROLL, eliminate, whitener
from mixmeta_jax.likelihood.information import MOST_PRODUCTS, BlockSums, sizes_of

UNITS_PER_PIECE = 8_192
"""Units in one piece."""

FEWEST = 512
"""Units from which on this pays: written out entry by entry it takes longer to compile."""

Entries = dict[tuple[int, int], Array]
"""Entries i ≥ j of a symmetric or lower triangular matrix per unit, each of shape (N,)."""


@tree
@dataclass(frozen=True)
class _Units:
    """A piece of the data.

    Attributes
    ----------
    y, S
        Outcomes, shape (k, N), and their error covariances, shape (k, k, N).
    x, z
        Predictors, shape (p, N) and (N,), whether the outcomes are observed or not.
    observed
        1 where an outcome is observed, else 0, shape (k, N); None where all are.
    """

    y: Array
    S: Array
    x: Array
    z: Array
    observed: Array | None


def covers(tensors: Tensors) -> bool:
    """Whether the model has one level with one random predictor, and one unit per block."""
    if tensors.absorbed or len(tensors.inside) != 1 or len(tensors.blocks) != 1:
        return False
    block = tensors.blocks[0]
    n_b, k, N, B = block.y.shape
    alone = n_b == 1 and block.parent is None and block.same[0] is None
    one_set = B == 1 and block.S.shape[-1] == 1 and block.seen is None
    return alone and one_set and len(block.z[0]) == 1 and k <= UNROLL and N >= FEWEST


FOUND = ("gradient", "value", "beta", "root")
"""What `two_passes` finds beside the sums."""


def two_passes(
    Psi: Array, tensors: Tensors, restricted: bool
) -> tuple[dict[str, Array], BlockSums]:
    """What the likelihood and its derivatives are made of.

    Parameters
    ----------
    Psi
        Between-unit covariance, shape (k, k).
    tensors
        Data that `covers` accepts, prepared.
    restricted
        Whether the likelihood is the restricted one.

    Returns
    -------
    dict
        ``value``, scalar, without the terms that do not depend on Ψ; ``gradient``, 2 ∂ℓ/∂Ψ, shape
        (k, k); ``beta`` and a ``root`` of its covariance, shape (P,) and (P, P).
    BlockSums
        What both information matrices follow from.
    """
    k, N = tensors.blocks[0].y.shape[1:3]
    p = len(tensors.blocks[0].x)
    length = math.gcd(N, UNITS_PER_PIECE) if N > 2 * UNITS_PER_PIECE else N

    def first(i: Any, _: None) -> tuple[Any, Array]:
        return _first_pass(_units(tensors, i, length), Psi)

    made, factors = _sum_over(first, N // length, None, Psi)
    A, b, logdet, traces = tensors.total(made)
    sizes = sizes_of(traces)
    A = A[:, :, packing(k)].transpose(0, 2, 1, 3).reshape(p * k, p * k)
    A = tensors.with_absent(A, k)
    R, logdet_A = (part[..., 0] for part in whitener(A[:, :, None]))
    beta, V = R.T @ (R @ b.ravel()), R.T @ R

    def second(i: Any, factor: Array) -> tuple[Any, None]:
        units = _units(tensors, i, length)
        return _second_pass(units, factor, beta.reshape(p, k), V, sizes, restricted), None

    gradient, quadratic, products = tensors.total(_sum_over(second, N // length, factors, Psi)[0])
    value = -0.5 * (logdet + quadratic + (logdet_A if restricted else 0.0))
    gradient = gradient[packing(k)] / (sizes[:, None] * sizes)
    found = {"value": value, "gradient": gradient, "beta": beta, "root": R}
    return found, _sums(products, R, sizes)


def _sums(products: dict[str, Array], R: Array, sizes: Array) -> BlockSums:
    """The products of the second pass as `information.BlockSums`."""
    xp, P, k = namespace(R), len(R), len(sizes)
    p, n_w, pack = P // k, len(products["scores"]), packing(k)
    # Of w, both of whose axes are in units of the sizes, one becomes that of the coefficients.
    turned = sizes / sizes[:, None]  # (o, s)
    # h of a unit is W z x ⊗ I R^T: the columns of the coefficients turned by R.
    crossed = products["crossed"].reshape(n_w, p, k)[pack]  # (u, o, a, s): w_uo x_a s_s
    crossed = crossed * turned[:, None]
    crossed = xp.transpose(crossed, (2, 1, 0, 3)).reshape(P, k * k)
    crossed = (R @ crossed).reshape(P, k, k, 1)
    both = None
    if "predictors" in products:
        both = products["predictors"].reshape(n_w, p, p, n_w)[pack][..., pack]
        both = both * turned[:, None, None, :, None]
        # (u, o, a, b, s, v): w_uo x_a x_b W_sv to rows (a, o, u) and columns (b, v, s).
        both = xp.transpose(both, (2, 1, 0, 3, 5, 4)).reshape(P, k, P, k)
        both = xp.einsum("pq,qurs,tr->puts", R, both, R)[..., None]
    scores, squares = products["scores"][..., None], products["squares"][..., None]
    mixed = products["mixed"][..., None] if "mixed" in products else None
    return BlockSums(sizes[:, None], scores, crossed, squares, mixed, both)


def _units(tensors: Tensors, i: Any, length: int) -> _Units:
    """The ``i``-th piece of the data."""
    block = tensors.blocks[0]
    k, N = block.y.shape[1:3]
    whole = (block.y[0], block.S.reshape(k, k, N), block.x[:, 0], block.z[0][0, 0])
    y, S, x, z = (
        _piece(a.reshape(*a.shape[:-2], N) if a.shape[-1] == 1 else a, i, length, N) for a in whole
    )
    if x.shape[1] == 1:
        return _Units(y, S, x[:, 0], z[0], None)
    # The predictors carry the mask: of the k copies of each, those of observed outcomes are left.
    # Where all are zero the outcome adds nothing to any sum, observed or not.
    observed = (z != 0) | (x != 0).any(0)
    return _Units(y, S, _first_nonzero(x.swapaxes(0, 1)), _first_nonzero(z), observed * 1.0)


def _piece(values: Array, i: Any, length: int, N: int) -> Array:
    if length == N:
        return values
    if namespace(values, i) is np:
        return values[..., i * length : (i + 1) * length]
    import jax

    return jax.lax.dynamic_slice_in_dim(values, i * length, length, -1)


def _first_nonzero(values: Array) -> Array:
    xp, found = namespace(values), values[0]
    for other in values[1:]:
        found = xp.where(found != 0, found, other)
    return found


def _sum_over(
    part: Callable[[Any, Any], tuple[Any, Any]], n_pieces: int, given: Any, like: Array
) -> tuple[Any, Any]:
    """Sums of the first output of ``part`` over the pieces, and its second outputs stacked."""
    if n_pieces == 1:
        return part(0, given)
    xp = namespace(like)
    own = (lambda i: None) if given is None else (lambda i: given[i])
    first, kept = part(0, own(0))

    def add(sums: Any, i: Any, piece: Any) -> tuple[Any, Any]:
        more, kept = part(i + 1, piece)
        return _added(sums, more), kept

    rest = None if given is None else given[1:]
    sums, others = scan(xp, add, first, n_pieces - 1, rest)
    return sums, None if kept is None else xp.concatenate([kept[None], others])


def _added(left: Any, right: Any) -> Any:
    if isinstance(left, dict):
        return {name: left[name] + right[name] for name in left}
    return (
        tuple(_added(a, b) for a, b in zip(left, right))
        if isinstance(left, tuple)
        else left + right
    )


def _first_pass(units: _Units, Psi: Array) -> tuple[tuple[Array, ...], Array]:
    """XᵀWX, shape (p, p, entries), XᵀWy, log|Σ|, Σ z²W_ii; and the R with W = RᵀR, packed."""
    xp, k, p = namespace(units.y, Psi), len(units.y), len(units.x)
    R, logdet = eliminate(_marginal(units, Psi), k)
    R, logdet = once((R, logdet), Psi)
    W = _precision(R, units.observed, k)
    u = _lower_times(R, units.y)
    Wy = xp.stack(_transpose_times(R, u))
    W = xp.stack([W[entry] for entry in _entries(k)])
    A = _weighted_products(units.x, W).reshape(p, p, len(W))
    traces = W[packing(k).diagonal()] @ units.z**2
    sums = (A, units.x @ Wy.T, logdet.sum(), traces)
    return sums, xp.stack([R[entry] for entry in _entries(k)])


def _weighted_products(x: Array, weights: Array) -> Array:
    """Σ x_a x_b w over the units for all weights, shape (p, p, n_w), the smaller factor formed."""
    (p, N), n_w = x.shape, len(weights)
    if p <= n_w:
        pairs = (x[:, None] * x[None]).reshape(p * p, N)
        return (pairs @ weights.T).reshape(p, p, n_w)
    rows = (x[:, None] * weights[None]).reshape(p * n_w, N)
    return (rows @ x.T).reshape(p, n_w, p).swapaxes(1, 2)


def _second_pass(
    units: _Units, factor: Array, beta: Array, V: Array, sizes: Array, restricted: bool
) -> tuple[Array, Array, dict[str, Array]]:
    """Σ (s sᵀ − w + G) packed, Σ rᵀWr, and the products of w with the other quantities.

    Of w, s sᵀ and G in units of the sizes: each axis is multiplied by its own.

    The products have first the axis of w packed, then their own: "scores" that of s sᵀ packed;
    "crossed" predictor and outcome of x eᵀ; "squares" and "mixed" those of w and G, packed;
    "predictors" those of x xᵀ and W packed.
    """
    p, k = beta.shape
    xp = namespace(units.y, factor)
    R = dict(zip(_entries(k), factor, strict=True))
    W = _precision(R, units.observed, k)
    fitted = matmul(beta.T[:, :, None], units.x[:, None])[:, 0]
    if units.observed is not None:
        fitted = fitted * units.observed
    u = _lower_times(R, units.y - fitted)
    W, u, e = once((W, u, _transpose_times(R, u)), factor)
    square = units.z**2
    squares = [square * (sizes[i] * sizes[j]) for i, j in _entries(k)]
    w = [own * W[entry] for own, entry in zip(squares, _entries(k), strict=True)]
    ss = [own * e[i] * e[j] for own, (i, j) in zip(squares, _entries(k), strict=True)]
    crossed = units.x[:, None] * xp.stack(e)[None]
    rows = {"scores": xp.stack(ss), "crossed": crossed.reshape(p * k, -1)}
    gradient = [a - b for a, b in zip(ss, w, strict=True)]
    if restricted:
        G = _explained(W, units.x, V.reshape(p, k, p, k))
        G = [own * each for own, each in zip(squares, G, strict=True)]
        gradient = [a + b for a, b in zip(gradient, G, strict=True)]
    w = xp.stack(w)
    rows["squares"] = w
    if restricted:
        rows["mixed"] = xp.stack(G)
    predictors = None
    if restricted and k * p * k <= MOST_PRODUCTS:
        packed = xp.stack([W[entry] for entry in _entries(k)])
        if p * p <= len(w):
            pairs = (units.x[:, None] * units.x[None]).reshape(p * p, 1, -1)
            rows["predictors"] = (pairs * packed[None]).reshape(p * p * len(w), -1)
        else:
            both = (w[:, None] * packed[None]).reshape(len(w) ** 2, -1)
            predictors = _weighted_products(units.x, both).reshape(p * p, len(w), len(w))
    product = w @ xp.concatenate(list(rows.values())).T
    ends = np.cumsum([len(part) for part in rows.values()])
    parts = xp.split(product, ends[:-1], axis=1)
    found = dict(zip(rows, parts, strict=True))
    if predictors is not None:
        found["predictors"] = predictors.swapaxes(0, 1).reshape(len(w), -1)
    return xp.stack(gradient).sum(1), _dot(u, u).sum(), found


def _marginal(units: _Units, Psi: Array) -> Entries:
    """S + z² Ψ; missing outcomes stand alone with variance 1."""
    Sigma = {}
    for i, j in _entries(len(units.y)):
        shared = units.z**2 * Psi[i, j]
        if units.observed is not None:
            shared = shared * units.observed[i] * units.observed[j]
        Sigma[i, j] = units.S[i, j] + shared
    return Sigma


def _explained(W: Entries, x: Array, V: Array) -> list[Array]:
    """W X V Xᵀ W, packed: the part of W that the estimated coefficients take up."""
    p, k = V.shape[:2]
    C = {}
    for i, j in _entries(k):
        # xᵀ V_ij x of every unit.
        along = matmul(V[:, i, :, j][:, :, None], x[:, None])[:, 0]
        C[i, j] = sum_over(along * x, 0) if p > 1 else (along * x)[0]
    half = [[_dot(_row(W, i, k), _row(C, j, k)) for j in range(k)] for i in range(k)]
    half = once(half, x)
    return [_dot(half[i], _row(W, j, k)) for i, j in _entries(k)]


def _entries(k: int) -> list[tuple[int, int]]:
    """The packed entries (i, j), i ≥ j, of a k × k matrix."""
    columns, rows = triangle(k)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _precision(R: Entries, observed: Array | None, k: int) -> Entries:
    """W = RᵀR, without the rows and columns of missing outcomes."""
    W = {
        (i, j): _dot([R[r, i] for r in range(i, k)], [R[r, j] for r in range(i, k)])
        for i, j in _entries(k)
    }
    if observed is None:
        return W
    return {(i, j): W[i, j] * (observed[i] if i == j else 1.0) for i, j in _entries(k)}


def _row(A: Entries, i: int, k: int) -> list[Array]:
    return [A[max(i, j), min(i, j)] for j in range(k)]


def _lower_times(R: Entries, v: Sequence[Array] | Array) -> list[Array]:
    return [_dot([R[i, j] for j in range(i + 1)], v[: i + 1]) for i in range(len(v))]


def _transpose_times(R: Entries, v: Sequence[Array]) -> list[Array]:
    k = len(v)
    return [_dot([R[i, j] for i in range(j, k)], v[j:]) for j in range(k)]


def _dot(a: Sequence[Array], b: Sequence[Array] | Array) -> Array:
    terms = [left * right for left, right in zip(a, b, strict=True)]
    return sum(terms[1:], start=terms[0])
