"""Covariance matrices from and to the rows in which tables hold them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.arrays import is_traced, traced_namespace
from mixmeta_jax.errors import InputError
from mixmeta_jax.table.positive_definite import ASYMMETRY, INDEFINITE_BELOW
from mixmeta_jax.tolerances import BEYOND_ONE


def vech(matrices: Any) -> np.ndarray:
    """Lower triangles of symmetric matrices, by column.

    Parameters
    ----------
    matrices
        Shape (..., k, k); NaN where missing.

    Returns
    -------
    numpy.ndarray
        Shape (..., k(k+1)/2); for k = 3 the elements 11, 21, 31, 22, 32, 33.

    Raises
    ------
    InputError
        If the last two axes differ, a matrix is not symmetric, or a value is no finite number.

    Examples
    --------
    >>> vech([[1.0, 0.5], [0.5, 2.0]])
    array([1. , 0.5, 2. ])
    """
    gates.refuse_traced({"matrices": matrices}, "vech")
    matrices = gates.numbers(matrices, "matrices", missing=True)
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise InputError(
            f"matrices has the shape {matrices.shape}: vech needs square matrices, (..., k, k)."
        )
    skew = _asymmetric(matrices)
    if skew.any():
        *matrix, i, j = np.argwhere(skew)[0].tolist()
        where = f" of matrix {tuple(matrix) if len(matrix) > 1 else matrix[0]}" if matrix else ""
        raise InputError(
            f"matrices is not symmetric: the elements ({i}, {j}) and ({j}, {i}){where} are "
            f"{matrices[(*matrix, i, j)]:g} and {matrices[(*matrix, j, i)]:g}."
        )
    columns, rows = np.triu_indices(matrices.shape[-1])
    return matrices[..., rows, columns]


def xpnd(rows: Any) -> np.ndarray:
    """Symmetric matrices from their lower triangles by column: the inverse of `vech`.

    Parameters
    ----------
    rows
        Shape (..., k(k+1)/2); NaN where missing.

    Returns
    -------
    numpy.ndarray
        Shape (..., k, k).

    Raises
    ------
    InputError
        If the last axis has no length k(k+1)/2, or a value is no finite number.

    Examples
    --------
    >>> xpnd([1.0, 0.5, 2.0])
    array([[1. , 0.5],
           [0.5, 2. ]])
    """
    gates.refuse_traced({"rows": rows}, "xpnd")
    rows = gates.numbers(rows, "rows", missing=True)
    if not (rows.ndim and triangle_size(rows.shape[-1])):
        raise InputError(
            f"rows has the shape {rows.shape}: xpnd needs rows of length k(k+1)/2 (1, 3, 6, 10, "
            "...)."
        )
    return expanded(rows)


def expanded(rows: np.ndarray) -> np.ndarray:
    """Symmetric matrices from triangles of a length k(k+1)/2, whatever is in them."""
    k = triangle_size(rows.shape[-1])
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
        Standard deviations, shape (n, k), or (k,) of one study; NaN gives NaN.
    cor
        Correlation: a scalar, one per study (n), one per pair (k(k−1)/2, by column of the lower
        triangle), or a k × k matrix. None for zero.

    Returns
    -------
    numpy.ndarray
        Shape (n, k, k), or (k, k) of one study.

    Raises
    ------
    InputError
        For a standard deviation that is negative or infinite, or a correlation of another shape,
        outside [−1, 1], or whose matrix has a negative eigenvalue, so that no variables have it.

    Examples
    --------
    >>> inputcov([[1.0, 2.0]], 0.5)
    array([[[1., 1.],
            [1., 4.]]])
    """
    sd = gates.numbers(sd, "sd", missing=True)
    if sd.ndim == 1 and sd.size:
        return inputcov(sd[None], cor)[0]
    sd = gates.numbers(sd, "sd", ("n", "k"), missing=True)
    if (sd < 0).any():
        row, column = np.argwhere(sd < 0)[0].tolist()
        raise InputError(
            f"sd holds a negative standard deviation ({sd[row, column]:g}) in row {row}, column "
            f"{column}."
        )
    n, k = sd.shape
    C = correlations(cor, n, k, "cor")
    _refuse_indefinite(C)
    return sd[:, :, None] * sd[:, None, :] * C


def _asymmetric(matrices: np.ndarray) -> np.ndarray:
    """Elements that differ from their mirrored ones by more than rounding explains."""
    mirrored = np.swapaxes(matrices, -1, -2)
    one = np.isnan(matrices) != np.isnan(mirrored)
    largest = np.nan_to_num(np.abs(matrices)).max((-1, -2), initial=0.0, keepdims=True)
    return one | (np.abs(matrices - mirrored) > ASYMMETRY * largest)


def _refuse_indefinite(C: np.ndarray) -> None:
    """Raise where a matrix of correlations (n or 1, k, k), complete or NaN, is that of nothing."""
    whole = np.flatnonzero(np.isfinite(C).all((1, 2)))
    if not len(whole) or C.shape[1] < 3:
        return
    least = np.linalg.eigvalsh(C[whole])[:, 0]
    if least.min() < INDEFINITE_BELOW:
        first = int(np.argmax(least < INDEFINITE_BELOW))
        where = f" of row {whole[first]}" if len(C) > 1 else ""
        raise InputError(
            f"cor{where} is no matrix of correlations: its smallest eigenvalue is "
            f"{least[first]:.4g}, so that no variables have these correlations together."
        )


def correlations(rho: Any, n: int, k: int, what: str = "rho") -> Any:
    """Correlation matrices from any form of ``rho``, shape (n, k, k) or (1, k, k).

    A traced one may be a scalar or a k × k matrix, whose values are not looked at. ``what`` is the
    name of the argument, for sentences.

    Raises
    ------
    InputError
        For another shape, an ambiguous one, or a value outside [−1, 1].
    """
    if rho is None:
        return np.eye(k)[None]
    if is_traced(rho):
        xp = traced_namespace(rho)
        values = gates.numbers(rho, what)
        if values.shape not in ((), (k, k)):
            raise InputError(
                f"{what} has shape {values.shape}: traced, it must be a scalar or {k} x {k}."
            )
        return xp.where(np.eye(k, dtype=bool), 1.0, values)[None]
    values = gates.numbers(rho, what, missing=True, infinite=True)
    per_row = values.ndim == 1 and len(values) == n > 1
    if (np.abs(values) > 1 + BEYOND_ONE).any() or (np.isnan(values).any() and not per_row):
        raise InputError(
            f"{what} must lie between -1 and 1 and, but for one per row, not be missing."
        )
    values = np.clip(values, -1, 1)
    pairs = k * (k - 1) // 2
    if values.ndim == 2:
        if values.shape != (k, k):
            raise InputError(f"{what} has shape {values.shape}, but there are {k} outcomes.")
        if _asymmetric(values).any() or (np.abs(np.diag(values) - 1) > ASYMMETRY).any():
            raise InputError(f"{what} as a matrix must be symmetric with ones on its diagonal.")
        return np.where(np.eye(k, dtype=bool), 1.0, (values + values.T) / 2)[None]
    if values.ndim == 0 or values.shape == (1,):
        return np.where(np.eye(k, dtype=bool), 1.0, values.reshape(1, 1, 1))
    if values.ndim == 1 and len(values) in (n, pairs):
        if n == pairs:
            raise InputError(
                f"{what} has {n} values, the number of rows as well as of pairs of outcomes: give "
                f"a {k} x {k} matrix for one per pair, or S with covariances for one per row."
            )
        if len(values) == n:
            return np.where(np.eye(k, dtype=bool), 1.0, values[:, None, None])
        matrix = np.eye(k)
        columns, rows = np.triu_indices(k, 1)
        matrix[rows, columns] = matrix[columns, rows] = values
        return matrix[None]
    raise InputError(
        f"{what} has shape {values.shape}: give a scalar, one value per row ({n}), one per pair of "
        f"outcomes ({pairs}), or a {k} x {k} matrix."
    )
