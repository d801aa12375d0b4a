"""The likelihood and its derivatives for one level with one random predictor, unit by unit.

This is the model of most meta-analyses, y_i = X_i β + z_i b_i + ε_i with X_i = x_iᵀ ⊗ I_k and
Σ_i = S_i + z_i² Ψ. Here the two sweeps of ``sweep`` need not carry general matrices: with
W_i = Σ_i⁻¹ and e_i = W_i (y_i − X_i β̂), all that the gradient and both information matrices need
are sums over units of products of the entries of

    w_i = z_i² W_i,    s_i = z_i e_i,    G_i = z_i² W_i X_i V X_iᵀ W_i    and    x_i.

Symmetric matrices are packed, one row of length N per entry and the units last, so that these sums
are one matrix product of w with the rest. Long data go by in pieces: beside the data, memory holds
one triangular factor per unit, and a piece stays in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.data.design import Tensors
from mixmeta_jax.model.information import contract
from mixmeta_jax.model.small import UNROLL, eliminate, whitener

PIECE = 8_192
"""Units in one piece."""

FEWEST = 512
"""Units from which on this pays: written out entry by entry it takes longer to compile."""

Entries = dict[tuple[int, int], Array]
"""Entries i ≥ j of a symmetric or lower triangular matrix per unit, each of shape (N,)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Derivatives:
    """The profiled log-likelihood at Ψ.

    Attributes
    ----------
    value
        Log-likelihood without the terms that do not depend on Ψ.
    rise
        2 ∂ℓ/∂Ψ, shape (k, k).
    average, expected
        ½ f_aᵀ P f_b and ½ tr(P Σ_a P Σ_b) for the parameters of the slope, shape (n_θ, n_θ).
    beta, V
        As in `model.likelihood.Profile`.
    """

    value: Array
    rise: Array
    average: Array
    expected: Array
    beta: Array
    V: Array


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
    n_b, k, N = block.y.shape
    alone = n_b == 1 and block.parent is None and block.same[0] is None
    return alone and block.z[0].shape[0] == 1 and k <= UNROLL and N >= FEWEST


def derivatives(
    Psi: Array, slope: Array, tensors: Tensors, restricted: bool, exact: bool
) -> Derivatives:
    """Value, gradient and information matrices in two passes over the units.

    Parameters
    ----------
    Psi
        Between-unit covariance, shape (k, k).
    slope
        ∂Ψ/∂θ, shape (k, k, n_θ).
    tensors
        Data that `covers` accepts, centred.
    restricted
        Whether the likelihood is the restricted one.
    exact
        Whether the expected information is wanted; otherwise it is zero.
    """
    k, N = tensors.blocks[0].y.shape[1:]
    p = tensors.blocks[0].x.shape[0]
    length = math.gcd(N, PIECE) if N > 2 * PIECE else N

    def first(i: Array | int, _: None) -> tuple[Any, Array]:
        return _first_pass(_units(tensors, i, length), Psi)

    sums, factors = _sum_over(first, N // length, None)
    A, b, logdet = tensors.total(sums)
    A = A[:, _packing(k)][_packing(p)].transpose(0, 2, 1, 3).reshape(p * k, p * k)
    R, logdet_A = whitener(A[:, :, None])
    R = R[:, :, 0]
    beta, V = R.T @ (R @ b.ravel()), R.T @ R

    def second(i: Array | int, factor: Array) -> tuple[Any, None]:
        units = _units(tensors, i, length)
        return _second_pass(units, factor, beta.reshape(p, k), V, restricted, exact), None

    rise, quadratic, products = tensors.total(_sum_over(second, N // length, factors)[0])
    value = -0.5 * (logdet + quadratic + (logdet_A[0] if restricted else 0.0))
    average = _average(products, V, slope)
    expected = _expected(products, V, slope, restricted) if exact else jnp.zeros_like(average)
    return Derivatives(value, rise[_packing(k)], average, expected, beta, V)


def _units(tensors: Tensors, i: Array | int, length: int) -> _Units:
    """The ``i``-th piece of the data."""
    block = tensors.blocks[0]
    k, N = block.y.shape[1:]
    p = block.x.shape[0]
    whole = (block.y[0], block.S.reshape(k, k, N), block.x[:, 0], block.z[0][0, 0])
    if length < N:
        start = i * length
        y, S, x, z = (jax.lax.dynamic_slice_in_dim(a, start, length, -1) for a in whole)
    else:
        y, S, x, z = whole
    if x.shape[1] == 1:
        return _Units(y, S, x[:, 0], z[0], None)
    # The predictors carry the mask: of the k copies of each, those of observed outcomes are left.
    # Where all are zero the outcome adds nothing to any sum, observed or not.
    observed = (z != 0) | (x != 0).any(0)
    return _Units(
        y,
        S,
        jnp.stack([_first_nonzero(x[a]) for a in range(p)]),
        _first_nonzero(z),
        observed.astype(y.dtype),
    )


def _first_nonzero(values: Array) -> Array:
    found = values[0]
    for other in values[1:]:
        found = jnp.where(found != 0, found, other)
    return found


def _sum_over(
    part: Callable[[Any, Any], tuple[Any, Any]], n_pieces: int, given: Any
) -> tuple[Any, Any]:
    """Sums of the first output of ``part`` over the pieces, and its second outputs stacked."""
    if n_pieces == 1:
        return part(0, given)
    shapes = jax.eval_shape(part, 0, jax.tree.map(lambda a: a[0], given))[0]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(sums: Any, piece: Any) -> tuple[Any, Any]:
        more, kept = part(*piece)
        return jax.tree.map(jnp.add, sums, more), kept

    return jax.lax.scan(add, zeros, (jnp.arange(n_pieces), given))


def _first_pass(units: _Units, Psi: Array) -> tuple[tuple[Array, Array, Array], Array]:
    """XᵀWX packed in predictors and outcomes, XᵀWy, log|Σ|; and the R with W = RᵀR, packed."""
    k = len(units.y)
    R, logdet = eliminate(_marginal(units, Psi), k)
    R, logdet = _once((R, logdet))
    W = _precision(R, units.observed, k)
    u = _lower_times(R, units.y)
    Wy = jnp.stack(_transpose_times(R, u))
    pairs = jnp.stack([units.x[a] * units.x[b] for a, b in _entries(len(units.x))])
    sums = (pairs @ jnp.stack([W[entry] for entry in _entries(k)]).T, units.x @ Wy.T, logdet.sum())
    return sums, jnp.stack([R[entry] for entry in _entries(k)])


def _second_pass(
    units: _Units, factor: Array, beta: Array, V: Array, restricted: bool, exact: bool
) -> tuple[Array, Array, dict[str, Array]]:
    """Σ (s sᵀ − w + G) packed, Σ rᵀWr, and the products of w with the other quantities.

    The products have first the axis of w packed, then their own: "average" that of s sᵀ packed;
    "crossed" predictor and outcome of x eᵀ; "squares" and "mixed" those of w and G, packed;
    "predictors" those of x xᵀ and W, both packed.
    """
    p, k = beta.shape
    R = dict(zip(_entries(k), factor, strict=True))
    W = _precision(R, units.observed, k)
    fitted = [sum(beta[a, o] * units.x[a] for a in range(p)) for o in range(k)]
    if units.observed is not None:
        fitted = [f * seen for f, seen in zip(fitted, units.observed, strict=True)]
    u = _lower_times(R, [y - f for y, f in zip(units.y, fitted, strict=True)])
    W, u, e = _once((W, u, _transpose_times(R, u)))
    square = units.z**2
    w = [square * W[entry] for entry in _entries(k)]
    ss = [square * e[i] * e[j] for i, j in _entries(k)]
    rows = {"average": ss, "crossed": [x * each for x in units.x for each in e]}
    rise = [a - b for a, b in zip(ss, w, strict=True)]
    if restricted:
        G = _explained(W, units.x, V.reshape(p, k, p, k))
        G = [square * each for each in G]
        rise = [a + b for a, b in zip(rise, G, strict=True)]
    if exact:
        rows["squares"] = w
    if exact and restricted:
        rows["mixed"] = G
        pairs = [units.x[a] * units.x[b] for a, b in _entries(p)]
        rows["predictors"] = [pair * W[entry] for pair in pairs for entry in _entries(k)]
    product = jnp.stack(w) @ jnp.stack([row for part in rows.values() for row in part]).T
    ends = np.cumsum([len(part) for part in rows.values()])
    parts = jnp.split(product, ends[:-1], axis=1)
    quadratic = _dot(u, u).sum()
    return jnp.stack(rise).sum(1), quadratic, dict(zip(rows, parts, strict=True))


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
        both = [x[a] * x[b] * (V[a, i, b, j] + (a != b) * V[b, i, a, j]) for a, b in _entries(p)]
        C[i, j] = sum(both[1:], start=both[0])
    half = [[_dot(_row(W, i, k), _row(C, j, k)) for j in range(k)] for i in range(k)]
    half = _once(half)
    return [_dot(half[i], _row(W, j, k)) for i, j in _entries(k)]


def _average(products: dict[str, Array], V: Array, slope: Array) -> Array:
    """½ f_aᵀ P f_b: ½ Σ sᵀ ∂_a w ∂_b s, less what V takes of it."""
    k = len(slope)
    pack = _packing(k)
    own = products["average"][pack][:, :, pack]
    total = jnp.einsum("uvrq,rua,vqb->ab", own, slope, slope)
    crossed = products["crossed"].reshape(len(products["crossed"]), -1, k)[pack]
    along = jnp.einsum("rucs,rsa->cua", crossed, slope).reshape(len(V), -1)  # Σ hᵀ ∂_a s
    return 0.5 * (total - along.T @ V @ along)


def _expected(products: dict[str, Array], V: Array, slope: Array, restricted: bool) -> Array:
    """½ tr(P Σ_a P Σ_b), as in `information.expected_information`."""
    k, P = len(slope), len(V)
    pack = _packing(k)
    total = contract(products["squares"][pack][:, :, pack], slope)
    if restricted:
        twice = contract(products["mixed"][pack][:, :, pack], slope)
        n_pairs = len(products["predictors"])
        both = products["predictors"].reshape(n_pairs, -1, n_pairs)[pack]
        both = both[:, :, :, pack][:, :, _packing(P // k)]
        A = jnp.einsum("ruabsv,rst->aubvt", both, slope).reshape(P, P, -1)  # Σ hᵀ ∂_t h
        VA = jnp.einsum("op,pqa->oqa", V, A)
        total = total - twice - twice.T + jnp.einsum("oqa,qob->ab", VA, VA)
    return 0.5 * total


def _entries(k: int) -> list[tuple[int, int]]:
    """The packed entries (i, j), i ≥ j, of a k × k matrix."""
    return [(i, j) for j in range(k) for i in range(j, k)]


def _packing(k: int) -> np.ndarray:
    """Where each entry of a symmetric matrix stands when packed, shape (k, k)."""
    place = np.zeros((k, k), int)
    for at, (i, j) in enumerate(_entries(k)):
        place[i, j] = place[j, i] = at
    return place


def _precision(R: Entries, observed: Array | None, k: int) -> Entries:
    """W = RᵀR, without the rows and columns of missing outcomes."""
    W = {
        (i, j): _dot([R[r, i] for r in range(i, k)], [R[r, j] for r in range(i, k)])
        for i, j in _entries(k)
    }
    if observed is None:
        return W
    return {(i, j): W[i, j] * (observed[i] if i == j else 1.0) for i, j in _entries(k)}


def _once(values: Any) -> Any:
    """The values, computed once: XLA would repeat them in every sum that reads them."""
    return jax.lax.optimization_barrier(values)


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
