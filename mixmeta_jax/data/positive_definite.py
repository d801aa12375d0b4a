"""Error matrices judged all at once: there where observed, finite, symmetric, positive definite."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixmeta_jax.errors import InputError

ASYMMETRY = 1e-8
"""Difference of two mirrored elements, relative to the largest, that rounding explains."""

SMALLEST_PIVOT = 1e-7
"""Of the Cholesky factor of the correlations; its square, 1e-14, bounds their least eigenvalue."""

CLEAR_PIVOT = 1e-7
"""Squared pivot above which the rounding that it magnifies in later ones changes no verdict."""

SMALL, MANY = 6, 64
"""Sizes up to which, and numbers from which on, elimination written out is faster than LAPACK."""

PIECE = 8_192
"""Matrices that are judged together: what is in memory at once does not grow with their number."""


def checked_matrices(
    S: np.ndarray,
    seen: np.ndarray,
    where: Callable[[int], str],
    entry: Callable[[int, int], str],
) -> np.ndarray:
    """The matrices with zeros for what is missing, exactly symmetric and positive definite.

    Parameters
    ----------
    S, seen
        Matrices, shape (B, d, d), and which of their elements are observed, shape (B, d).
    where, entry
        What a sentence calls a matrix, and one element of it.

    Raises
    ------
    InputError
        For the first matrix that cannot be an error covariance.
    """
    checked = np.empty(S.shape)
    for first in range(0, len(S), PIECE):
        part = slice(first, first + PIECE)
        checked[part] = _checked_piece(S[part], seen[part], first, where, entry)
    return checked


def _checked_piece(
    S: np.ndarray,
    seen: np.ndarray,
    first: int,
    where: Callable[[int], str],
    entry: Callable[[int, int], str],
) -> np.ndarray:
    """`checked_matrices` of the matrices from ``first`` on."""
    pair = None
    if not (seen.all() and np.isfinite(S).all()):
        pair = seen[:, :, None] & seen[:, None, :]
        S = _observed(S, pair, first, where, entry)
    variances = np.diagonal(S, axis1=1, axis2=2)
    bad = seen & (variances <= 0)
    if bad.any():
        b, i = (int(a) for a in np.argwhere(bad)[0])
        kind = "negative" if variances[b, i] < 0 else "zero"
        raise InputError(
            f"S has a {kind} variance ({variances[b, i]:g}) for {entry(first + b, i)} in "
            f"{where(first + b)}: an error variance must be positive."
        )
    if S.shape[1] == 1:
        return S
    mirrored = S.transpose(0, 2, 1)
    if not (mirrored == S).all():
        S = _symmetric(S, mirrored, first, where)
    _refuse_indefinite(S, pair, variances, first, where)
    return S


def _observed(
    S: np.ndarray,
    pair: np.ndarray,
    first: int,
    where: Callable[[int], str],
    entry: Callable[[int, int], str],
) -> np.ndarray:
    """The matrices with zeros for what is missing, all else there and finite."""
    absent = pair & np.isnan(S)
    if absent.any():
        b, j, i = (int(a) for a in np.argwhere(absent)[0])
        b += first
        what = entry(b, i) if i == j else f"{entry(b, i)} with {entry(b, j)}"
        raise InputError(
            f"S is missing for {what} in {where(b)}, where the outcome is observed: give it, or "
            "set the outcome to missing."
        )
    S = np.where(pair, S, 0.0)
    infinite = np.isinf(S)
    if infinite.any():
        b, i, _ = (int(a) for a in np.argwhere(infinite)[0])
        raise InputError(f"S is infinite for {entry(first + b, i)} in {where(first + b)}.")
    return S


def _symmetric(
    S: np.ndarray, mirrored: np.ndarray, first: int, where: Callable[[int], str]
) -> np.ndarray:
    """The matrices without the rounding by which they differ from their transposes."""
    skew = np.abs(S - mirrored).max((1, 2), initial=0) > ASYMMETRY * np.abs(S).max((1, 2))
    if skew.any():
        raise InputError(f"S is not symmetric in {where(first + int(np.argmax(skew)))}.")
    return (S + mirrored) / 2


def _refuse_indefinite(
    S: np.ndarray,
    pair: np.ndarray | None,
    variances: np.ndarray,
    first: int,
    where: Callable[[int], str],
) -> None:
    """Raise where the correlations are singular or worse.

    Those not in ``pair`` count as none; without it all are observed.
    """
    precision = 1 / np.sqrt(np.where(variances > 0, variances, 1.0))
    if S.shape[1] <= SMALL and len(S) >= MANY and _clearly_definite(S, precision):
        return
    with np.errstate(over="ignore"):
        scaled = S * precision[:, :, None]
        scaled *= precision[:, None, :]
    # A correlation above one is as indefinite as one of two, which no algebra overflows with.
    scaled = np.clip(scaled, -2.0, 2.0, out=scaled)
    if pair is not None:
        scaled = np.where(pair, scaled, np.eye(S.shape[1]))
    try:
        pivots = np.diagonal(np.linalg.cholesky(scaled), axis1=1, axis2=2).min(initial=1.0)
    except np.linalg.LinAlgError:
        pivots = 0.0
    if pivots > SMALLEST_PIVOT:
        return
    b = int(np.argmin(np.linalg.eigvalsh(scaled)[:, 0]))
    seen = slice(None) if pair is None else np.flatnonzero(pair[b].any(axis=0))
    try:
        eigenvalue = np.linalg.eigvalsh(S[b][seen][:, seen])[0]
    except np.linalg.LinAlgError:  # of numbers near the ends of double precision
        eigenvalue = -np.inf
    raise InputError(
        f"S is not positive definite in {where(first + b)}: its smallest eigenvalue is "
        f"{eigenvalue:.4g}."
    )


def _clearly_definite(S: np.ndarray, precision: np.ndarray) -> bool:
    """Whether the correlations of all matrices are definite, by elimination of all at once.

    The squared pivots of Cholesky's elimination are the conditional variances, each given the
    outcomes before it; where one is next to zero, the caller judges. ``precision`` is the inverse
    of the standard deviations, shape (B, d).
    """
    d = S.shape[1]
    entries = np.ascontiguousarray(S.reshape(len(S), -1).T).reshape(d, d, -1)
    scale = np.ascontiguousarray(precision.T)
    factor: dict[tuple[int, int], np.ndarray] = {}
    with np.errstate(all="ignore"):  # what is not finite is not clear
        for j in range(d):
            left = 1.0 - sum(factor[j, a] ** 2 for a in range(j))
            if not np.all(left > CLEAR_PIVOT):
                return False
            root = np.sqrt(left)
            for i in range(j + 1, d):
                shared = sum(factor[i, a] * factor[j, a] for a in range(j))
                factor[i, j] = (entries[i, j] * scale[i] * scale[j] - shared) / root
    return True
