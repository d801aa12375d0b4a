"""The likelihood and its derivatives for one level with one random predictor, unit by unit.

This is the model of most meta-analyses, y_i = X_i β + z_i b_i + ε_i with X_i = x_iᵀ ⊗ I_k and
Σ_i = S_i + z_i² Ψ. Here the two sweeps of ``sweep`` need not carry general matrices: with
W_i = Σ_i⁻¹ and e_i = W_i (y_i − X_i β̂), all that the gradient and both information matrices need
are sums over units of products of the entries of

    w_i = z_i² W_i,    s_i = z_i e_i,    G_i = z_i² W_i X_i V X_iᵀ W_i    and    x_i.

Symmetric matrices are packed, one array of shape (N,) per entry, or (N, B) for B data sets. Of one
data set these sums are matrix products of w with the rest; where predictors are many, so are those
of the first pass. Long data go by in pieces: beside the data, memory holds one triangular factor
per unit, and a piece stays in the cache. Of many data sets of few units all sums of a pass are made
in one loop over the units, which writes none of the products (`algebra.sums_in_one_loop`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace, once, scan, tree
from mixmeta_jax.design.tensors import Tensors
from mixmeta_jax.likelihood.algebra import (
    matmul,
    packing,
    sum_over,
    sums_in_one_loop,
    transpose,
    vector,
)
from mixmeta_jax.likelihood.elimination import UNROLL, eliminate, whitener
from mixmeta_jax.likelihood.entries import (
    Entries,
    dot,
    entries,
    lower_times,
    precision,
    row,
    transpose_times,
)
from mixmeta_jax.likelihood.information import MOST_PRODUCTS, BlockSums, sizes_of

UNITS_PER_PIECE = 8_192
"""Units in one piece."""

FEWEST = 512
"""Units of one data set from which on this pays: entry by entry it takes longer to compile."""

MOST_SUMS = 160
"""Sums of a pass in one loop over the units of many data sets, each a number that it carries."""

PerUnit = Sequence[Array] | Array
"""Numbers per unit, each of shape (N,) or (N, B)."""

Sums = dict[str, Array]


@tree
@dataclass(frozen=True)
class _Units:
    """A piece of the data; those of many data sets have a last axis B more, or 1 where shared.

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


def covers(tensors: Tensors, n_paths: int) -> bool:
    """Whether the model has one level with one random predictor, and one unit per block.

    And many units of one data set, or many data sets in a program, of few outcomes and predictors.
    """
    if tensors.absorbed or len(tensors.inside) != 1 or len(tensors.blocks) != 1:
        return False
    block = tensors.blocks[0]
    n_b, k, N, B = block.y.shape
    alone = n_b == 1 and block.parent is None and block.same[0] is None
    if not alone or len(block.z[0]) != 1 or k > UNROLL or block.seen is not None:
        return False
    if n_paths == 1:
        return B == 1 and block.S.shape[-1] == 1 and N >= FEWEST
    return n_paths == B and namespace(block.y) is not np and _n_sums(k, len(block.x)) <= MOST_SUMS


def _n_sums(k: int, p: int) -> int:
    """Sums of the second pass."""
    w, pairs = k * (k + 1) // 2, p * (p + 1) // 2
    return w * (2 * w + p * k + (w + 1) // 2 + pairs * w + 1) + 1


def two_passes(Psi: Array, tensors: Tensors, restricted: bool) -> tuple[Sums, BlockSums]:
    """What the likelihood and its derivatives are made of.

    Parameters
    ----------
    Psi
        Between-unit covariance, shape (k, k, B).
    tensors
        Data that `covers` accepts, prepared.
    restricted
        Whether the likelihood is the restricted one.

    Returns
    -------
    dict
        ``value``, shape (B,), without the terms that do not depend on Ψ; ``gradient``, 2 ∂ℓ/∂Ψ,
        shape (k, k, B); ``beta`` and a ``root`` of its covariance, shape (P, B) and (P, P, B).
    BlockSums
        What both information matrices follow from.
    """
    k, N, B = tensors.blocks[0].y.shape[1:]
    p = len(tensors.blocks[0].x)
    length = math.gcd(N, UNITS_PER_PIECE) if B == 1 and N > 2 * UNITS_PER_PIECE else N

    def of_each(values: Array) -> Array:
        """Of one data set, (…, 1), as they are; of many, (…, B), beside their units."""
        return values if B == 1 else values[..., None, :]

    def first(i: Any, _: None) -> tuple[Sums, Array]:
        return _first_pass(_units(tensors, i, length), of_each(Psi))

    made, factors = _sum_over(first, N // length, None, Psi)
    made = tensors.total(made)
    sizes = sizes_of(made["traces"])
    A = made["A"][:, :, packing(k)].swapaxes(1, 2).reshape(p * k, p * k, B)
    R, logdet_A = whitener(tensors.with_absent(A, k))
    back = transpose(R)
    beta, V = vector(back, vector(R, made["b"].reshape(p * k, B))), matmul(back, R)
    known = beta.reshape(p, k, B), V.reshape(p, k, p, k, B), sizes
    at_beta, at_V, at_sizes = map(of_each, known)

    def second(i: Any, factor: Array) -> tuple[Sums, None]:
        units = _units(tensors, i, length)
        return _second_pass(units, factor, at_beta, at_V, at_sizes, restricted), None

    products = tensors.total(_sum_over(second, N // length, factors, Psi)[0])
    deviance = made["logdet"][0] + products["quadratic"][0]
    value = -0.5 * (deviance + logdet_A if restricted else deviance)
    gradient = products["gradient"][packing(k)] / (sizes[:, None] * sizes)
    found = {"value": value, "gradient": gradient, "beta": beta, "root": R}
    return found, _sums(products, R, sizes)


def _sums(products: Sums, R: Array, sizes: Array) -> BlockSums:
    """The products of the second pass as `information.BlockSums`."""
    xp, P, (k, B) = namespace(R), len(R), sizes.shape
    p, n_w, pack = P // k, len(products["scores"]), packing(k)
    # Of w, both of whose axes are in units of the sizes, one becomes that of the coefficients.
    turned = sizes / sizes[:, None]  # (o, s)
    # h of a unit is W z x ⊗ I R^T: the columns of the coefficients turned by R.
    crossed = products["crossed"].reshape(n_w, p, k, B)[pack]  # (u, o, a, s): w_uo x_a s_s
    crossed = crossed * turned[:, None]
    crossed = xp.transpose(crossed, (2, 1, 0, 3, 4)).reshape(P, k * k, B)
    crossed = matmul(R, crossed).reshape(P, k, k, B)
    both = None
    if "predictors" in products:
        both = products["predictors"][pack][:, :, :, :, pack]
        both = both * turned[:, None, None, :, None]
        # (u, o, a, b, s, v): w_uo x_a x_b W_sv to rows (a, o, u) and columns (b, v, s).
        both = xp.transpose(both, (2, 1, 0, 3, 5, 4, 6)).reshape(P, -1, B)
        both = matmul(R, both).reshape(P, k, P, k, B)
        both = xp.transpose(both, (2, 3, 0, 1, 4)).reshape(P, -1, B)
        both = xp.transpose(matmul(R, both).reshape(P, k, P, k, B), (2, 3, 0, 1, 4))
    scores, squares, mixed = (products.get(name) for name in ("scores", "squares", "mixed"))
    return BlockSums(sizes, scores, crossed, squares, mixed, both)


def _units(tensors: Tensors, i: Any, length: int) -> _Units:
    """The ``i``-th piece of the data."""
    block = tensors.blocks[0]
    k, N, B = block.y.shape[1:]
    whole = (block.y[0], block.S.reshape(k, k, N, -1), block.x[:, 0], block.z[0][0, 0])
    if B == 1:
        whole = tuple(_piece(a[..., 0], i, length, N) for a in whole)
    y, S, x, z = whole
    if x.shape[1] == 1:
        return _Units(y, S, x[:, 0], z[0], None)
    # The predictors carry the mask: of the k copies of each, those of observed outcomes are left.
    # Where all are zero the outcome adds nothing to any sum, observed or not.
    observed = (z != 0) | (x != 0).any(0)
    return _Units(y, S, _first_nonzero(x.swapaxes(0, 1)), _first_nonzero(z), observed * 1.0)


def _piece(values: Array, i: Any, length: int, N: int) -> Array:
    if length == values.shape[-1]:
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
    part: Callable[[Any, Any], tuple[Sums, Any]], n_pieces: int, given: Any, like: Array
) -> tuple[Sums, Any]:
    """Sums of the first output of ``part`` over the pieces, and its second outputs stacked."""
    if n_pieces == 1:
        return part(0, given)
    xp = namespace(like)
    own = (lambda i: None) if given is None else (lambda i: given[i])
    first, kept = part(0, own(0))

    def add(sums: Sums, i: Any, piece: Any) -> tuple[Sums, Any]:
        more, kept = part(i + 1, piece)
        return {name: sums[name] + more[name] for name in sums}, kept

    rest = None if given is None else given[1:]
    sums, others = scan(xp, add, first, n_pieces - 1, rest)
    return sums, None if kept is None else xp.concatenate([kept[None], others])


def _first_pass(units: _Units, Psi: Array) -> tuple[Sums, Array]:
    """XᵀWX, shape (p, p, entries, B), XᵀWy, log|Σ|, Σ z²W_ii; and the R with W = RᵀR, packed."""
    xp, k = namespace(units.y, Psi), len(units.y)
    R, logdet = eliminate(_marginal(units, Psi), k)
    R, logdet = once((R, logdet), Psi)
    W = precision(R, units.observed, k)
    Wy = transpose_times(R, lower_times(R, units.y))
    square = units.z**2
    weighed = _weighed(units, [W[entry] for entry in entries(k)])
    sums = _summed(
        {
            "A": weighed,
            "b": (units.x, Wy),
            "logdet": [logdet],
            "traces": [W[i, i] * square for i in range(k)],
        },
        units.y,
    )
    sums["A"] = _by_pair(sums["A"], len(units.x), len(W))
    return sums, xp.stack([R[entry] for entry in entries(k)])


def _weighed(units: _Units, weights: PerUnit) -> tuple[PerUnit, PerUnit]:
    """Rows whose products summed are Σ x_a x_b w for all weights, the smaller factor formed."""
    x, p = units.x, len(units.x)
    if p <= len(weights) or units.y.ndim > 2:
        return [x[a] * x[b] for a, b in entries(p)], weights
    rows = x[:, None] * namespace(x).stack(weights)[None]
    return rows.reshape(-1, *x.shape[1:]), x


def _by_pair(sums: Array, p: int, n_w: int) -> Array:
    """What `_weighed` has made as (p, p, n_w, B)."""
    if len(sums) == p * (p + 1) // 2 and sums.shape[1] == n_w:
        return sums[packing(p)]
    return sums.reshape(p, n_w, p, -1).swapaxes(1, 2)


def _summed(parts: dict[str, tuple[PerUnit, PerUnit] | list[Array]], like: Array) -> Sums:
    """Sums over the units, (n, B), of n rows, and of the products of n rows with m, (n, m, B)."""
    xp = namespace(like)
    if like.ndim == 2:

        def stacked(rows: PerUnit) -> Array:
            return rows if hasattr(rows, "ndim") else xp.stack(rows)

        return {
            name: (stacked(part[0]) @ stacked(part[1]).T)[..., None]
            if isinstance(part, tuple)
            else stacked(part).sum(1)[:, None]
            for name, part in parts.items()
        }
    shape = like.shape[1:]
    terms: list[Array] = []
    for part in parts.values():
        if not isinstance(part, tuple):
            terms += part
        elif part[0] is part[1]:
            terms += [part[0][i] * part[0][j] for i, j in entries(len(part[0]))]
        else:
            terms += [a * b for a in part[0] for b in part[1]]
    left = sums_in_one_loop([xp.broadcast_to(term, shape) for term in terms])
    sums: Sums = {}
    for name, part in parts.items():
        if not isinstance(part, tuple):
            sums[name], left = left[: len(part)], left[len(part) :]
            continue
        n, m = map(len, part)
        count = n * (n + 1) // 2 if part[0] is part[1] else n * m
        own, left = left[:count], left[count:]
        sums[name] = own[packing(n)] if part[0] is part[1] else own.reshape(n, m, -1)
    return sums


def _second_pass(
    units: _Units, factor: Array, beta: Array, V: Array, sizes: Array, restricted: bool
) -> Sums:
    """Σ (s sᵀ − w + G) packed, Σ rᵀWr, and the products of w with the other quantities.

    Of w, s sᵀ and G in units of the sizes: each axis is multiplied by its own.

    The products have first the axis of w packed, then their own: "scores" that of s sᵀ packed;
    "crossed" predictor and outcome of x eᵀ; "squares" and "mixed" those of w and G, packed;
    "predictors" the two of x xᵀ and that of W packed.
    """
    p, k = beta.shape[:2]
    xp, x = namespace(units.y, factor), units.x
    own_entries = entries(k)
    R = dict(zip(own_entries, factor, strict=True))
    W = precision(R, units.observed, k)
    fitted = matmul(beta.swapaxes(0, 1), x[:, None])[:, 0]
    if units.observed is not None:
        fitted = fitted * units.observed
    u = lower_times(R, units.y - fitted)
    W, u, e = _made_once((W, u, transpose_times(R, u)), factor)
    square = units.z**2
    squares = [square * (sizes[i] * sizes[j]) for i, j in own_entries]
    w = [own * W[entry] for own, entry in zip(squares, own_entries, strict=True)]
    ss = [own * e[i] * e[j] for own, (i, j) in zip(squares, own_entries, strict=True)]
    gradient = [a - b for a, b in zip(ss, w, strict=True)]
    parts: dict[str, Any] = {
        "scores": (w, ss),
        "crossed": (w, [each * own for each in x for own in e]),
        "squares": (w, w),
    }
    exact = restricted and k * p * k <= MOST_PRODUCTS
    if restricted:
        G = _explained(W, x, V)
        G = [own * each for own, each in zip(squares, G, strict=True)]
        gradient = [a + b for a, b in zip(gradient, G, strict=True)]
        parts["mixed"] = (w, G)
    if exact:
        weights = [W[entry] for entry in own_entries]
        if p * p <= len(w):
            pairs = [x[a] * x[b] for a, b in entries(p)]
            parts["predictors"] = (w, [pair * own for pair in pairs for own in weights])
        else:
            parts["predictors"] = _weighed(units, [own * other for own in w for other in weights])
    parts |= {"gradient": gradient, "quadratic": [dot(u, u)]}
    sums = _summed(parts, units.y)
    if exact:
        n_w, made = len(w), sums["predictors"]
        if p * p <= n_w:
            sums["predictors"] = made.reshape(n_w, -1, n_w, made.shape[-1])[:, packing(p)]
        else:
            made = _by_pair(made, p, n_w * n_w)
            sums["predictors"] = xp.moveaxis(made.reshape(p, p, n_w, n_w, -1), 2, 0)
    return sums


def _made_once(values: Any, factor: Array) -> Any:
    """For one data set as `arrays.once`; the one loop over the units of many makes them there."""
    return once(values, factor) if factor.ndim == 2 else values


def _marginal(units: _Units, Psi: Array) -> Entries:
    """S + z² Ψ; missing outcomes stand alone with variance 1."""
    Sigma = {}
    for i, j in entries(len(units.y)):
        shared = units.z**2 * Psi[i, j]
        if units.observed is not None:
            shared = shared * units.observed[i] * units.observed[j]
        Sigma[i, j] = units.S[i, j] + shared
    return Sigma


def _explained(W: Entries, x: Array, V: Array) -> list[Array]:
    """W X V Xᵀ W, packed: the part of W that the estimated coefficients take up."""
    p, k = V.shape[:2]
    C = {}
    for i, j in entries(k):
        # xᵀ V_ij x of every unit.
        along = matmul(V[:, i, :, j], x[:, None])[:, 0]
        C[i, j] = sum_over(along * x, 0) if p > 1 else (along * x)[0]
    half = [[dot(row(W, i, k), row(C, j, k)) for j in range(k)] for i in range(k)]
    half = _made_once(half, x)
    return [dot(half[i], row(W, j, k)) for i, j in entries(k)]
