"""Covariance matrices from and to the rows in which tables hold them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixmeta_jax.errors import InputError
from mixmeta_jax.table.traced import is_traced, namespace

ROUNDING = 1e-12
"""By how much a correlation may exceed one: C / np.outer(s, s) rarely has a diagonal of ones."""


def vech(matrices: Any) -> np.ndarray:
    """Lower triangles of symmetric matrices, by column.

    Parameters
    ----------
    matrices
        Shape (..., k, k).

    Returns
    -------
    numpy.ndarray
        Shape (..., k(k+1)/2); for k = 3 the elements 11, 21, 31, 22, 32, 33.

    Raises
    ------
    InputError
        If the last two axes differ.

    Examples
    --------
    >>> vech([[1.0, 0.5], [0.5, 2.0]])
    array([1. , 0.5, 2. ])
    """
    matrices = np.asarray(matrices, float)
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise InputError(f"vech needs square matrices, not an array of shape {matrices.shape}.")
    columns, rows = np.triu_indices(matrices.shape[-1])
    return matrices[..., rows, columns]


def xpnd(rows: Any) -> np.ndarray:
    """Symmetric matrices from their lower triangles by column: the inverse of `vech`.

    Parameters
    ----------
    rows
        Shape (..., k(k+1)/2).

    Returns
    -------
    numpy.ndarray
        Shape (..., k, k).

    Raises
    ------
    InputError
        If the last axis has no length k(k+1)/2.

    Examples
    --------
    >>> xpnd([1.0, 0.5, 2.0])
    array([[1. , 0.5],
           [0.5, 2. ]])
    """
    rows = np.asarray(rows, float)
    k = triangle_size(rows.shape[-1]) if rows.ndim else 0
    if not k:
        raise InputError(
            f"xpnd needs rows of length k(k+1)/2 (1, 3, 6, 10, ...), not shape {rows.shape}."
        )
    matrices = np.empty((*rows.shape[:-1], k, k))
    columns, lower = np.triu_indices(k)
    matrices[..., lower, columns] = rows
    matrices[..., columns, lower] = rows
    return matrices


def triangle_size(length: int) -> int:
    """k for which k(k+1)/2 is the length; 0 where there is none."""
    k = int((np.sqrt(8 * length + 1) - 1) / 2 + 0.5)
    return k if k * (k + 1) // 2 == length else 0


def inputcov(sd: Any, cor: Any = None) -> np.ndarray:
    """Error covariances from standard deviations and a correlation.

    Parameters
    ----------
    sd
        Standard deviations, shape (n, k); NaN gives NaN.
    cor
        Correlation: a scalar, one per study (n), one per pair (k(k−1)/2, by column of the lower
        triangle), or a k × k matrix. None for zero.

    Returns
    -------
    numpy.ndarray
        Shape (n, k, k).

    Raises
    ------
    InputError
        For a negative standard deviation, or a correlation of another shape or outside [−1, 1].

    Examples
    --------
    >>> inputcov([[1.0, 2.0]], 0.5)
    array([[[1., 1.],
            [1., 4.]]])
    """
    sd = np.asarray(sd, float)
    if sd.ndim != 2:
        raise InputError(f"inputcov needs standard deviations of shape (n, k), not {sd.shape}.")
    if (sd < 0).any():
        row, column = np.argwhere(sd < 0)[0].tolist()
        raise InputError(
            f"inputcov got a negative standard deviation ({sd[row, column]:g}) in row {row}, "
            f"column {column}."
        )
    return sd[:, :, None] * sd[:, None, :] * correlations(cor, *sd.shape)


def correlations(rho: Any, n: int, k: int) -> Any:
    """Correlation matrices from any form of ``rho``, shape (n, k, k) or (1, k, k).

    A traced one may be a scalar or a k × k matrix, whose values are not looked at.

    Raises
    ------
    InputError
        For another shape, an ambiguous one, or a value outside [−1, 1].
    """
    if rho is None:
        return np.eye(k)[None]
    if is_traced(rho):
        xp = namespace(rho)
        values = xp.asarray(rho, float)
        if values.shape not in ((), (k, k)):
            raise InputError(
                f"rho has shape {values.shape}: traced, it must be a scalar or {k} x {k}."
            )
        return xp.where(np.eye(k, dtype=bool), 1.0, values)[None]
    try:
        values = np.asarray(rho, float)
    except (TypeError, ValueError) as error:
        raise InputError(f"rho must be made of numbers, not {rho!r}.") from error
    per_row = values.ndim == 1 and len(values) == n > 1
    if (np.abs(values) > 1 + ROUNDING).any() or (np.isnan(values).any() and not per_row):
        raise InputError("rho must lie between -1 and 1 and, but for one per row, not be missing.")
    values = np.clip(values, -1, 1)
    pairs = k * (k - 1) // 2
    if values.ndim == 2:
        if values.shape != (k, k):
            raise InputError(f"rho has shape {values.shape}, but there are {k} outcomes.")
        if not np.allclose(values, values.T) or not np.allclose(np.diag(values), 1):
            raise InputError("rho as a matrix must be symmetric with ones on its diagonal.")
        return np.where(np.eye(k, dtype=bool), 1.0, (values + values.T) / 2)[None]
    if values.ndim == 0 or values.shape == (1,):
        return np.where(np.eye(k, dtype=bool), 1.0, values.reshape(1, 1, 1))
    if values.ndim == 1 and len(values) in (n, pairs):
        if n == pairs:
            raise InputError(
                f"rho has {n} values, the number of rows as well as of pairs of outcomes: give "
                f"a {k} x {k} matrix for one per pair, or S with covariances for one per row."
            )
        if len(values) == n:
            return np.where(np.eye(k, dtype=bool), 1.0, values[:, None, None])
        matrix = np.eye(k)
        columns, rows = np.triu_indices(k, 1)
        matrix[rows, columns] = matrix[columns, rows] = values
        return matrix[None]
    raise InputError(
        f"rho has shape {values.shape}: give a scalar, one value per row ({n}), one per pair of "
        f"outcomes ({pairs}), or a {k} x {k} matrix."
    )
