"""From the columns of each location to its estimates: made fit to reckon with, and in batches.

Columns are scaled to length one and made nearly orthonormal by the Cholesky factor R of their
products: as stable, row by row, as an orthogonal factorisation, for a tenth of its time. Where a
pivot is small an orthogonal factorisation decides instead. Locations of like sizes are regressed
together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
from scipy import linalg

from mixmeta_jax.control import Control
from mixmeta_jax.design.layout import close_length, family_length
from mixmeta_jax.errors import shown
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.estimation.executors import compiled
from mixmeta_jax.forking import is_lost
from mixmeta_jax.status import Status
from mixmeta_jax.table.collinearity import dependence, sentence
from mixmeta_jax.tolerances import EXACT_FIT, PLAIN_PIVOT
from mixmeta_jax.two_stage.families import FAMILIES, OF_PARTS, Family
from mixmeta_jax.two_stage.regressions import Regressed, Regressions, regress

NUMPY_NUMBERS = 2**18
"""Entries of the columns of a batch by NumPy, about: more find no place in the cache."""

COMPILED_NUMBERS = 2**24
"""Entries of the columns of a batch by a compiled program: 128 MB."""

WAITING = 2
"""Batches per worker that are made ready before one is finished."""


@dataclass(frozen=True)
class Columns:
    """A location's regression, as its columns stand.

    Attributes
    ----------
    place
        Number of the location.
    X, y, weights, offset
        Columns, shape (n, p), of which the first m are of the exposure, and the rows' values.
    names
        Of the columns.
    m
        Columns of the exposure.
    saturated
        −2 log L of the saturated model: `Family.saturated`.
    """

    place: int
    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    names: Sequence[str]
    m: int
    saturated: float = np.nan


@dataclass(frozen=True)
class ControlEstimates:
    """What a location's regression says of the controls.

    Attributes
    ----------
    names
        Of q columns.
    coef, vcov
        Shapes (q,) and (q, q).
    """

    names: Sequence[str]
    coef: np.ndarray
    vcov: np.ndarray


@dataclass(frozen=True)
class Estimated:
    """What a location's regression gave.

    Attributes
    ----------
    place
        Number of the location.
    status, message
        How it ended.
    coefficients, covariance
        Of the columns of the exposure, shape (m,) and (m, m); None where it failed.
    dispersion, df
        Dispersion and residual degrees of freedom.
    evaluations
        Of the deviance.
    deviance, qaic
        Deviance, and `Family.criterion`.
    controls
        Coefficients of the controls; None where it failed.
    """

    place: int
    status: Status
    message: str
    coefficients: np.ndarray | None = None
    covariance: np.ndarray | None = None
    dispersion: float = np.nan
    df: int = 0
    evaluations: int = 0
    deviance: float = np.nan
    qaic: float = np.nan
    controls: ControlEstimates | None = None


@dataclass(frozen=True)
class _Ready:
    """Columns made nearly orthonormal in place: X of the columns times diag(1/size) R⁻¹."""

    columns: Columns
    R: np.ndarray
    size: np.ndarray


def estimated(
    columns: Iterator[Columns], family: str, outcome: str, control: Control, rows: int
) -> Iterator[Estimated]:
    """The estimates of all locations, in any order.

    Parameters
    ----------
    columns
        One location after the other, made when it is asked for.
    family, outcome
        Name of the family, and of the outcome for sentences.
    control
        Whose ``backend`` chooses who executes.
    rows
        Of all locations.
    """
    head = list(islice(columns, 1))
    by_numpy = _by_numpy(control, max((rows * one.X.shape[1] ** 2 for one in head), default=0))
    workers = max(1, os.cpu_count() or 1) if by_numpy else 1
    settle = _numpy_batch if by_numpy else _compiled_batch
    with ThreadPoolExecutor(workers) as pool, one_thread():
        waiting: list[Future] = []
        for batch in _batches(
            chain(head, columns), NUMPY_NUMBERS if by_numpy else COMPILED_NUMBERS
        ):
            waiting.append(pool.submit(_finished, batch, FAMILIES[family], outcome, settle))
            if len(waiting) >= WAITING * workers:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()


def _by_numpy(control: Control, work: float) -> bool:
    """Whether NumPy executes: on a CPU its products are as fast, and nothing has to compile."""
    if control.backend != "auto":
        return control.backend == "numpy"
    if work < ENOUGH_WORK or is_lost():
        return True
    import jax

    return jax.default_backend() == "cpu"


ENOUGH_WORK = 10**9
"""Rows times squared columns below which no accelerator is asked for: a second on a CPU."""


def _batches(columns: Iterable[Columns], numbers: int) -> Iterator[list[Columns]]:
    """Locations one after the other whose columns are not too many together, and of like sizes."""
    batch: list[Columns] = []
    largest = (0, 0)
    for one in columns:
        shape = close_length(one.X.shape[0]), family_length(one.X.shape[1])
        union = max(largest[0], shape[0]), max(largest[1], shape[1])
        total = (len(batch) + 1) * union[0] * union[1]
        if batch and (total > numbers or union != shape or largest != shape):
            yield batch
            batch, union = [], shape
        batch.append(one)
        largest = union
    if batch:
        yield batch


def _finished(
    batch: list[Columns],
    family: Family,
    outcome: str,
    settle: Callable[[list[_Ready], Family], Regressed],
) -> list[Estimated]:
    """One batch, in a thread."""
    found: list[Estimated] = []
    ready: list[_Ready] = []
    with np.errstate(all="ignore"):
        for one in batch:
            checked = _checked(one, family, outcome)
            if isinstance(checked, Estimated):
                found.append(checked)
            else:
                ready.append(checked)
        if ready:
            ends = settle(ready, family)
            found += [_estimate(own, ends, b, family) for b, own in enumerate(ready)]
    return found


def _checked(one: Columns, family: Family, outcome: str) -> _Ready | Estimated:
    """A location that can be regressed, or why it cannot."""
    n, p = one.X.shape

    def failed(message: str, status: Status = Status.NOT_IDENTIFIED) -> Estimated:
        return Estimated(one.place, status, message, df=n - p)

    if n <= p:
        return failed(
            f"It has {n} row(s) in which nothing is missing for {p} columns: more rows than "
            "columns are needed."
        )
    if family.name != "gaussian":
        none, every = not one.y.any(), family.name in OF_PARTS and bool((one.y == 1).all())
        if none or every:
            word = "zero" if none else "all there is"
            return failed(f"The outcome '{shown(outcome)}' is {word} in all its {n} rows.")
    size = np.sqrt((one.X * one.X).sum(0))
    if not size.all():
        return failed(sentence((int(np.argmin(size)), []), one.names, shown(outcome)))
    X = one.X / size
    R = _factor(X)
    if R is None:
        found = dependence(X)
        if found is not None:
            return failed(sentence(found, one.names, shown(outcome)))
        R = linalg.qr(X, mode="r", check_finite=False)[0][:p]
    # X stands by rows, so that its transpose is what LAPACK calls a matrix; it is overwritten.
    Q = linalg.blas.dtrsm(1.0, R, X.T, trans_a=1, overwrite_b=1).T
    return _Ready(replace(one, X=Q), R, size)


def _factor(X: np.ndarray) -> np.ndarray | None:
    """R of X'X = R'R; None where its rounding would matter."""
    try:
        R = linalg.cholesky(X.T @ X, check_finite=False)
    except linalg.LinAlgError:
        return None
    return R if np.diagonal(R).min() > PLAIN_PIVOT else None


def _numpy_batch(ready: list[_Ready], family: Family) -> Regressed:
    n, p = (max(own.columns.X.shape[axis] for own in ready) for axis in (0, 1))
    return regress(_padded(ready, len(ready), n, p), family)


def _compiled_batch(ready: list[_Ready], family: Family) -> Regressed:
    n, p = (max(own.columns.X.shape[axis] for own in ready) for axis in (0, 1))
    B = family_length(len(ready))
    return compiled(regress, _padded(ready, B, close_length(n), family_length(p)), family=family)


def _padded(ready: list[_Ready], B: int, n: int, p: int) -> Regressions:
    """The batch as arrays, the first location again where locations pad."""
    X = np.zeros((B, n, p))
    y, offset, weights = np.zeros((3, B, n))
    padding, df = np.zeros((B, p)), np.ones(B)
    for b in range(B):
        own = ready[b if b < len(ready) else 0].columns
        rows, width = own.X.shape
        X[b, :rows, :width] = own.X
        y[b, :rows], offset[b, :rows], weights[b, :rows] = own.y, own.offset, own.weights
        padding[b, width:] = 1.0
        df[b] = rows - width
    return Regressions(X, y, offset, weights, padding, df)


def _estimate(ready: _Ready, ends: Regressed, b: int, family: Family) -> Estimated:
    """Back in the user's columns, of which those of the exposure are kept."""
    own = ready.columns
    n, p = own.X.shape
    place, df, count = own.place, n - p, int(ends.evaluations[b])
    back = linalg.solve_triangular(ready.R, np.eye(p), check_finite=False) / ready.size[:, None]
    if not ends.settled[b]:
        status, message = _failure(ready, ends, b, back, family)
        return Estimated(place, status, message, df=df, evaluations=count)
    dispersion = float(ends.pearson[b]) / df if family.dispersed else 1.0
    inverse = linalg.cho_solve(linalg.cho_factor(ends.information[b, :p, :p], lower=True), back.T)
    covariance = dispersion * (back @ inverse)
    covariance = 0.5 * (covariance + covariance.T)
    deviance, m = float(ends.deviance[b]), own.m
    exact = EXACT_FIT * float((own.weights * own.y**2).sum())
    if family.dispersed and not ends.pearson[b] > exact:
        message = "The columns explain the outcome exactly, which leaves no dispersion."
        return Estimated(place, Status.NOT_FINITE, message, df=df, evaluations=count)
    coefficients = back @ ends.coefficients[b, :p]
    return Estimated(
        place,
        Status.CONVERGED,
        "",
        coefficients[:m],
        covariance[:m, :m].copy(),
        dispersion,
        df,
        count,
        deviance,
        family.criterion(deviance, own.saturated, dispersion, n, p),
        ControlEstimates(own.names[m:], coefficients[m:], covariance[m:, m:].copy()),
    )


def _failure(
    ready: _Ready, ends: Regressed, b: int, back: np.ndarray, family: Family
) -> tuple[Status, str]:
    """Why the search found no maximum."""
    p = len(back)
    if ends.parted[b]:
        step = np.abs(back @ ends.step[b, :p]) * ready.size
        name = ready.columns.names[int(np.argmax(step))]
        towards = "0 or 1" if family.name in OF_PARTS else "0"
        return Status.NOT_IDENTIFIED, (
            f"Some rows are parted from the others by the columns, above all by '{shown(name)}': "
            f"their fitted values run to {towards} and the coefficients to infinity. Join "
            "categories without events, or leave the column out."
        )
    if not np.isfinite(ends.decrement[b]):
        return Status.NOT_FINITE, (
            "The deviance is not finite: the values of some columns, offsets or weights differ "
            "beyond double precision."
        )
    return Status.MAX_ITER, (
        f"The deviance was still falling after {int(ends.evaluations[b])} evaluations: check the "
        "outcome and the columns for values far from all others."
    )
