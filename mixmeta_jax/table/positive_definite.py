"""Error matrices judged all at once: there where observed, finite, symmetric, positive definite.

A matrix without a fault is `MatrixStatus.SOUND`. One that is singular is no fault by itself: a
known error may be zero, or the same for two outcomes, wherever the random effects make up for it
(`table.rules`). Everything from `MatrixStatus.MISSING` on is a fault in any model.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np

from mixmeta_jax.tolerances import ASYMMETRY, BORDER, CLEAR_PIVOT, INDEFINITE_BELOW, SMALLEST_PIVOT

WRITTEN_OUT_SIZE, WRITTEN_OUT_NUMBER = 6, 64
"""Sizes up to which, and numbers from which on, elimination written out is faster than LAPACK."""

MATRICES_PER_PIECE = 8_192
"""Matrices that are judged together: what is in memory at once does not grow with their number."""


class MatrixStatus(IntEnum):
    """What a matrix is."""

    SOUND = 0
    SINGULAR = 1
    MISSING = 2
    INFINITE = 3
    NEGATIVE = 4
    ASYMMETRIC = 5
    INDEFINITE = 6


def judged(S: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrices with zeros for what is missing, exactly symmetric; and what each of them is.

    Parameters
    ----------
    S, seen
        Matrices, shape (N, d, d), and which of their elements are observed, shape (N, d).

    Returns
    -------
    ndarray
        Shape (N, d, d); a matrix with a fault is as it was.
    ndarray
        `MatrixStatus` of each, shape (N,).
    """
    if len(S) <= MATRICES_PER_PIECE:
        return _judged(S, seen)
    clean, verdict = np.empty(S.shape), np.empty(len(S), np.int8)
    for first in range(0, len(S), MATRICES_PER_PIECE):
        part = slice(first, first + MATRICES_PER_PIECE)
        clean[part], verdict[part] = _judged(S[part], seen[part])
    return clean, verdict


def _judged(S: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    verdict = np.zeros(len(S), np.int8)
    d, pair = S.shape[1], None
    if not (seen.all() and np.isfinite(S).all()):
        pair = seen[:, :, None] & seen[:, None, :]
        S = np.where(pair, S, 0.0)
        _note(verdict, np.isnan(S).any((1, 2)), MatrixStatus.MISSING)
        _note(verdict, np.isinf(S).any((1, 2)), MatrixStatus.INFINITE)
    variances = np.diagonal(S, axis1=1, axis2=2)
    low: Any = variances <= 0
    if low.any():
        _note(verdict, (low & (variances < 0)).any(1), MatrixStatus.NEGATIVE)
        if d == 1:
            _note(verdict, (low & seen).any(1), MatrixStatus.SINGULAR)
    if d == 1:
        return S, verdict
    mirrored = S.transpose(0, 2, 1)
    if not (mirrored == S).all():
        with np.errstate(invalid="ignore", over="ignore"):
            skew = np.abs(S - mirrored).max((1, 2)) > ASYMMETRY * np.abs(S).max((1, 2))
            _note(verdict, skew, MatrixStatus.ASYMMETRIC)
            S = np.where((verdict == 0)[:, None, None], S / 2 + mirrored / 2, S)
    if not verdict.any():
        return S, _definiteness(S, seen, pair)
    left = verdict == 0
    if left.any():
        own = None if pair is None else pair[left]
        verdict[left] = _definiteness(S[left], seen[left], own)
    return S, verdict


def _note(verdict: np.ndarray, hit: np.ndarray, kind: MatrixStatus) -> None:
    """The kind where nothing was found before."""
    verdict[hit & (verdict == 0)] = kind


def _definiteness(S: np.ndarray, seen: np.ndarray, pair: np.ndarray | None) -> np.ndarray:
    """Whether matrices without another fault are sound, singular or indefinite, shape (N,).

    Those not in ``pair`` count as none; without it all are observed.
    """
    N, d = seen.shape
    variances = np.diagonal(S, axis1=1, axis2=2)
    positive = variances > 0
    whole = bool((positive | ~seen).all())
    if not whole:  # a variance of zero has the unit of the largest
        variances = np.where(positive, variances, variances.max(1, keepdims=True))
        positive = variances > 0
    precision = 1 / np.sqrt(np.where(positive, variances, 1.0))
    if (
        whole
        and d <= WRITTEN_OUT_SIZE
        and N >= WRITTEN_OUT_NUMBER
        and _clearly_definite(S, precision)
    ):
        return np.zeros(N, np.int8)
    with np.errstate(over="ignore"):
        scaled = S * precision[:, :, None]
        scaled *= precision[:, None, :]
    # A correlation above one is as indefinite as one of two, which no algebra overflows with.
    scaled = np.clip(scaled, -2.0, 2.0, out=scaled)
    if pair is not None:
        scaled = np.where(pair, scaled, np.eye(d))
    if whole and _pivots_are_large(scaled):
        return np.zeros(N, np.int8)
    least = np.linalg.eigvalsh(scaled)[:, 0]
    verdict = np.where(
        least < INDEFINITE_BELOW, MatrixStatus.INDEFINITE, MatrixStatus.SOUND
    ).astype(np.int8)
    for b in np.flatnonzero((least >= INDEFINITE_BELOW) & (least <= BORDER)):
        if not _pivots_are_large(scaled[b]):
            verdict[b] = MatrixStatus.SINGULAR
    return verdict


def _pivots_are_large(scaled: np.ndarray) -> bool:
    try:
        factor = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return False
    return bool(np.diagonal(factor, axis1=-2, axis2=-1).min(initial=1.0) > SMALLEST_PIVOT)


def _clearly_definite(S: np.ndarray, precision: np.ndarray) -> bool:
    """Whether the correlations of all matrices are definite, by elimination of all at once.

    The squared pivots of Cholesky's elimination are the conditional variances, each given the
    outcomes before it; where one is next to zero, the caller judges. ``precision`` is the inverse
    of the standard deviations, shape (N, d).
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


def null_vectors(S: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Directions in which the observed part of a singular matrix has no error, shape (d, r)."""
    at = np.flatnonzero(seen)
    own = S[np.ix_(at, at)]
    variances = np.diagonal(own)
    variances = np.where(variances > 0, variances, variances.max() or 1.0)
    precision = 1 / np.sqrt(variances)
    values, axes = np.linalg.eigh(own * precision[:, None] * precision)
    found = np.zeros((len(seen), int((values <= BORDER).sum())))
    found[at] = precision[:, None] * axes[:, values <= BORDER]
    return found


def fault(
    S: np.ndarray,
    seen: np.ndarray,
    verdict: int,
    where: str,
    entry: Callable[[int], str],
) -> str:
    """What is wrong with one matrix, without the full stop.

    Parameters
    ----------
    S, seen, verdict
        The matrix, shape (d, d), which of its elements are observed, and what it is.
    where, entry
        What the sentence calls the matrix, and each of its elements.
    """
    pair = seen[:, None] & seen
    variances = np.where(seen, np.diagonal(S), np.inf)
    if verdict == MatrixStatus.MISSING:
        j, i = np.argwhere(pair & np.isnan(S))[0].tolist()
        what = entry(i) if i == j else f"{entry(i)} with {entry(j)}"
        return (
            f"S is missing for {what} in {where}, where the outcome is observed: give it, or set "
            "the outcome to missing"
        )
    if verdict == MatrixStatus.INFINITE:
        return f"S is infinite for {entry(int(np.argwhere(pair & np.isinf(S))[0, 0]))} in {where}"
    if verdict != MatrixStatus.ASYMMETRIC and (variances <= 0).any():
        i = int(np.argmax(variances < 0 if verdict == MatrixStatus.NEGATIVE else variances == 0))
        kind = "negative" if verdict == MatrixStatus.NEGATIVE else "zero"
        beside = ", but a covariance beside it" if verdict == MatrixStatus.INDEFINITE else ""
        return f"S has a {kind} variance ({variances[i]:g}) for {entry(i)} in {where}{beside}"
    if verdict == MatrixStatus.ASYMMETRIC:
        return f"S is not symmetric in {where}"
    at = np.flatnonzero(seen)
    try:
        eigenvalue = np.linalg.eigvalsh(S[np.ix_(at, at)])[0]
    except np.linalg.LinAlgError:  # of numbers near the ends of double precision
        eigenvalue = -np.inf
    return f"S is not positive definite in {where}: its smallest eigenvalue is {eigenvalue:.4g}"
