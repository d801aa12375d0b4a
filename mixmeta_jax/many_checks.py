"""Which of many data sets can be fitted, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixmeta_jax.checks import check_groups
from mixmeta_jax.control import Control
from mixmeta_jax.design.design import Design
from mixmeta_jax.errors import InputError
from mixmeta_jax.status import Status

Fault = tuple[Any, Status, str]
"""Which data sets have it, shape (b,), the status it gives them, and what it is in words."""

CHUNK_NUMBERS = 2**22
"""Numbers that are looked at at once."""

DEPENDENT = 1e-9
"""Smallest eigenvalue of the predictors' products, orthonormal over all rows, that counts."""


def check_single_settings(control: Control) -> None:
    """Raise `InputError` for settings that only a single fit follows."""
    if control.start is not None or control.mesh is not None or control.verbose:
        raise InputError(
            "control: start, mesh and verbose are for single fits (`mixmeta`); leave them out: "
            "many fits choose starts for each data set and use all devices by themselves."
        )


def check_shared_pattern(design: Design, level_names: Sequence[str]) -> None:
    """Raise `InputError` where all data sets alike have too few groups or outcomes."""
    rows = design.mask.any(1)
    groups = {
        name: len(np.unique(codes[rows]))
        for name, codes in zip(level_names, design.groups.T, strict=True)
    }
    nall = int(design.mask.sum())
    check_groups(groups, design.p * design.k, nall, design.structures, design.dims)


def sound_members(design: Design, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The data sets to fit; the status of the others, −1 for those; and the reasons in words."""
    B = design.n_sets
    status = np.full(B, -1)
    reason = np.full(B, "", dtype=object)
    width = max(1, design.n * design.k * (design.k if _own_S(design) else 1))
    width += design.n * design.p**2 if design.X.ndim == 3 else 0
    step = max(1, CHUNK_NUMBERS // width)
    for first in range(0, B, step):
        part = slice(first, min(first + step, B))
        for bad, end, words in _faults(design.taken(part), method):
            index = np.flatnonzero(bad & (status[part] < 0)) + first
            status[index] = end
            reason[index] = words
    return np.flatnonzero(status < 0), status, reason


def _own_S(design: Design) -> bool:
    return not isinstance(design.S, tuple) and design.S.ndim == 4


def _faults(design: Design, method: str) -> list[Fault]:
    y = design.y
    k, p = design.k, design.p
    seen = np.isfinite(y)
    count = seen.sum((1, 2))
    faults: list[Fault] = [
        (np.isinf(y).any((1, 2)), Status.NOT_FINITE, "an outcome is infinite"),
        (count == 0, Status.NOT_FINITE, "no outcome is observed"),
    ]
    if _own_S(design):
        faults += _error_faults(design.S, seen)
    varies = design.mask.ndim == 3
    if varies or design.X.ndim == 3:
        words = "an outcome is observed in fewer rows than there are predictors"
        faults.append(((seen.sum(1) < p).any(1), Status.NOT_IDENTIFIED, words))
        X = design.X
        # One predictor without zeros, as the intercept, is identified wherever it is observed.
        if p > 1 or not X.all():
            words = "the predictors are collinear in the rows where an outcome is observed"
            faults.append((_collinear(X @ design.basis, seen), Status.NOT_IDENTIFIED, words))
    if varies and method != "fixed":
        there = seen.any(2)
        for level, counts in enumerate(design.n_parameters):
            codes = design.groups[:, level]
            hit = np.zeros((len(y), int(codes.max()) + 1), bool)
            lane, row = np.nonzero(there)
            hit[lane, codes[row]] = True
            needed = design.structures[level].min_groups(design.dims[level])
            short = (hit.sum(1) < needed) & (counts > 0)
            words = "a level has too few groups with an observed outcome"
            faults.append((short, Status.NOT_IDENTIFIED, words))
    P = p * k
    if method == "reml":
        words = "there are no more observed outcomes than coefficients"
        faults.append((count <= P, Status.NOT_IDENTIFIED, words))
    if method != "fixed":
        words = "there are more parameters than observed outcomes"
        faults.append((P + sum(design.n_parameters) > count, Status.NOT_IDENTIFIED, words))
    return faults


def _collinear(X: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Where the rows (n, p), or (b, n, p), of some outcome leave their products singular: (b,)."""
    b, n, k = seen.shape
    p = X.shape[-1]
    products = (X[..., :, None] * X[..., None, :]).reshape(*X.shape[:-1], p * p)
    rows = np.swapaxes(seen, 1, 2) * 1.0
    sums = (rows.reshape(b * k, n) if X.ndim == 2 else rows) @ products / n
    least = np.linalg.eigvalsh(sums.reshape(b, k, p, p))[..., 0].min(1)
    return least <= DEPENDENT


def _error_faults(S: np.ndarray, seen: np.ndarray) -> list[Fault]:
    k = seen.shape[2]
    pair = seen[..., :, None] & seen[..., None, :]
    used: Any = np.where(pair, S, np.eye(k))
    strange = ~np.isfinite(used).all((1, 2, 3))
    faults: list[Fault] = [
        (strange, Status.NOT_FINITE, "S is missing or infinite where an outcome is observed")
    ]
    used = np.where(np.isfinite(used), used, np.eye(k))
    if k == 1:
        bad = (used[..., 0, 0] <= 0).any(1)
    else:
        uneven = np.abs(used - np.swapaxes(used, 2, 3)) > 1e-8 * np.abs(used).max(
            (2, 3), keepdims=True
        )
        faults.append((uneven.any((1, 2, 3)), Status.NOT_FINITE, "a matrix of S is not symmetric"))
        variances: Any = np.diagonal(used, axis1=2, axis2=3)
        positive: Any = (variances > 0).all(2)
        sd = np.sqrt(np.where(positive[..., None], variances, 1.0))
        scaled = used / (sd[..., :, None] * sd[..., None, :])
        scaled = np.where(positive[..., None, None], scaled, -np.eye(k))
        bad = (np.linalg.eigvalsh(scaled)[..., 0] <= 1e-12).any(1)
    faults.append((bad, Status.NOT_FINITE, "a matrix of S is not positive definite"))
    return faults
