"""Cross-bases of exposure and lag, and what their coefficients reduce to.

With a basis b of the exposure, k columns, and a basis c of the lag, K columns, the regression has
the k K columns

    w_jl(t) = Σ_ℓ b_j(x_{t-ℓ}) c_l(ℓ),        ℓ = first, ..., last,

l fastest, with coefficients η_jl. The effect of an exposure x at lag ℓ is Σ_jl b_j(x) c_l(ℓ) η_jl,
so every reduction is a matrix: over all lags I ⊗ Σ_ℓ c(ℓ)', at one lag I ⊗ c(ℓ)', at one exposure
b(x)' ⊗ I.

References
----------
Gasparrini A, Armstrong B, Kenward MG (2010). Distributed lag non-linear models. Statistics in
Medicine 29, 2224-2234.

Gasparrini A, Armstrong B (2013). Reducing and meta-analysing estimates from distributed lag
non-linear models. BMC Medical Research Methodology 13, 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.errors import InputError, shown

MOST_LAGS = 5_000
"""Longest lag: the basis of each may be a column of its own."""


def cross_basis(b: Array, c: Array, first: int = 0) -> Array:
    """The columns of a distributed-lag model, NaN where the exposure of any lag is missing.

    They are products of a basis of the exposure and one of the lag, summed over the lags.

    Parameters
    ----------
    b
        Basis of the exposure at n successive times, shape (n, k).
    c
        Basis of the lag at the lags ``first``, ``first + 1``, ..., shape (L, K).
    first
        The first lag, no longer than the series.

    Returns
    -------
    Array
        Shape (n, k K), the columns of the lag fastest. Of JAX where b or c is traced.

    Raises
    ------
    InputError
        For arrays of other shapes.

    References
    ----------
    Gasparrini A, Armstrong B, Kenward MG (2010). Distributed lag non-linear models. Statistics in
    Medicine 29, 2224-2234.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> mx.cross_basis([[1.0], [2.0], [3.0]], [[1.0], [1.0]])[:, 0]
    array([nan,  3.,  5.])
    """
    b = gates.numbers(b, "b", ("n", "k"), missing=True)
    c = gates.numbers(c, "c", ("L", "K"))
    first = gates.whole(first, "first", 0, len(b))
    if not len(c) or not b.size:
        raise InputError(f"b and c have the shapes {b.shape} and {c.shape}: give at least a lag.")
    xp = namespace(b, c)
    n, k = b.shape
    L, K = c.shape
    if xp is np:
        # Windows of L values that end at each time, without a copy: the lags run backwards in them.
        missing = np.full((k, min(first, n) + L - 1), np.nan)
        padded = np.concatenate([missing, b.T], 1)[:, : n + L - 1]
        windows = np.lib.stride_tricks.sliding_window_view(padded, L, axis=1)
        return (windows @ c[::-1]).transpose(1, 0, 2).reshape(n, k * K)
    source = xp.arange(n)[:, None] - first - xp.arange(L)
    before = xp.where((source >= 0)[:, :, None], b[xp.where(source >= 0, source, 0)], xp.nan)
    return (xp.swapaxes(before, 1, 2) @ c).reshape(n, k * K)


def over_lags(c: Array, k: int) -> Array:
    """What sums the effects of the lags of c, shape (L, K): a matrix of shape (k, k K)."""
    xp = namespace(c)
    return xp.kron(xp.eye(k), c.sum(0)[None, :])


def at_exposure(b: Array, K: int) -> Array:
    """What gives the effects over lags of the values b, shape (k,), of the basis of the exposure.

    Shape (K, k K).
    """
    xp = namespace(b)
    return xp.kron(b[None, :], xp.eye(K))


def read_lags(lag: Any, what: str) -> tuple[int, int]:
    """The first and the last lag of what was given: a lag from 0, or two.

    Raises
    ------
    InputError
        Unless they are whole numbers from 0 on, the first not after the last.
    """
    if isinstance(lag, (tuple, list)):
        wanted = "a lag, or the first and the last as (0, 21)"
        if len(lag) != 2:
            raise gates.refused(what, wanted, lag)
        first, last = (gates.whole(one, f"{what}, an entry,", 0, MOST_LAGS) for one in lag)
        if first > last:
            raise InputError(f"{what} is {shown(lag)}: the first lag comes before the last.")
        return first, last
    last = gates.whole(lag, f"{what}, if given,", 0, MOST_LAGS)
    return last, last
