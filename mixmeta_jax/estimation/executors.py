"""Who executes the numbers of a fit: NumPy at once, or a compiled program.

A new program takes seconds to trace and compile, however small the fit; NumPy starts at once and is
several times slower on small arrays, and as fast in products of matrices. So a design goes to NumPy
unless a program would save more than its compilation takes, and a shape that is fitted again and
again is compiled when it would have saved that: never much more than twice the time of the better
choice.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, is_jax
from mixmeta_jax.control import Control
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.layout import family_length
from mixmeta_jax.design.sharding import over_mesh, placed, print_once
from mixmeta_jax.design.tensors import Tensors, arrange
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.ascent import (
    Ends,
    ascend,
    ascend_each,
    joined,
    solution,
    taken_problem,
    values_at,
)
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.estimation.newton import Path, Problem
from mixmeta_jax.estimation.programs import PROGRAMS
from mixmeta_jax.forking import is_lost, refuse_lost
from mixmeta_jax.likelihood.likelihood import prepared
from mixmeta_jax.status import Status

COMPILING = 2.0
"""Seconds that a compilation takes, about: a second for one level, five for three."""

EVALUATIONS = 12
"""Evaluations of a path, about."""

CALLS, PER_NUMBER, PER_PRODUCT = 1e-3, 1.2e-8, 1e-10
"""Seconds of NumPy per evaluation: whatever the data; per number of the arrays that hold the
columns, for all that is done with it; and per multiplication in products of matrices."""

SAVED = 0.75
"""Part of the first two that a program saves; products of matrices take it as long."""

TOGETHER = 8_000
"""Numbers in the columns of X up to which NumPy follows several paths of one data set together."""

MOST_SHAPES = 1_000
"""Shapes whose times are remembered."""


@contextmanager
def _numpy() -> Iterator[None]:
    # What overflows or is singular is told by the numbers that come out.
    with np.errstate(all="ignore"), one_thread():
        yield


class AtOnce:
    """NumPy's execution, on the tensors of a design."""

    def __init__(self, tensors: Tensors, shape: Any = None, saved: float = 0.0) -> None:
        self.tensors = tensors
        self._shape = shape
        self._saved = saved
        self._ready: dict[bool, tuple[Tensors, Any]] = {}

    def ascend(self, start: Any, problem: Problem, told: Told | None = None, **static: Any) -> Ends:
        """See `ascent.ascend`; ``told`` for a line per evaluation."""
        began = time.perf_counter()
        report = None if told is None else partial(_print, told)
        with _numpy():
            ready = self._prepared(static.get("shift", True))
            settings = {**static, "report": report, "ready": ready}
            if self._one_by_one and not isinstance(start, Path):
                ends = self._ascend_each(start, problem, settings)
            else:
                ends = ascend(start, self.tensors, problem, **settings)
        SPENT.add(self._shape, self._saved * (time.perf_counter() - began))
        return ends

    def _ascend_each(self, start: np.ndarray, problem: Problem, settings: dict) -> Ends:
        """One path after the other; those that come to the end of the first stop there."""
        ends: list[Ends] = []
        for b in range(start.shape[1]):
            own = taken_problem(problem, [b])
            if settings["report"] is not None:
                settings["report"] = partial(settings["report"], which=[b])
            if ends and ends[0].verdict.status[0] <= Status.BOUNDARY:
                own = replace(own, known=ends[0].Psi)
            ends.append(ascend(start[:, [b]], self.tensors, own, **settings))
        return joined(ends)

    @property
    def _one_by_one(self) -> bool:
        """Whether the paths of one data set go one by one, by products of whole matrices.

        Together they take fewer calls, which is what counts where data are small.
        """
        size = sum(block.x.size * block.y.shape[1] for block in self.tensors.blocks)
        return size > TOGETHER and len(self.tensors.n_obs) == 1

    def values_at(self, starts: np.ndarray, restricted: bool) -> np.ndarray:
        """See `ascent.values_at`."""
        with _numpy():
            ready = self._prepared(True)
            return values_at(starts, self.tensors, restricted=restricted, ready=ready)

    def _prepared(self, shift: bool) -> tuple[Tensors, Any]:
        """See `likelihood.prepared`; once for all ways to go on with the tensors."""
        if shift not in self._ready:
            self._ready[shift] = prepared(self.tensors, shift)
        return self._ready[shift]

    def solution(self, theta: np.ndarray, restricted: bool) -> Any:
        """See `ascent.solution`."""
        with _numpy():
            return solution(theta, self.tensors, restricted=restricted)


class Compiled:
    """Execution by compiled programs, on the tensors of a design where these lie."""

    def __init__(self, tensors: Tensors, device: Any = None) -> None:
        self.tensors = tensors
        self._device = device

    def _placed(self, *args: Any) -> Any:
        """The arguments on the device, if there is one to choose."""
        if self._device is None:
            return args
        import jax

        return jax.device_put(args, self._device)

    def ascend(self, start: Any, problem: Problem, told: Told | None = None, **static: Any) -> Ends:
        """See `AtOnce.ascend`."""
        function = _ascend
        if told is not None:
            function, static = _ascend_told, {**static, "told": told}
        elif not isinstance(start, Path) and len(self.tensors.n_obs) == 1:
            function = _ascend_each
        with _precision():
            args = self._placed(start, self.tensors, problem)
            return PROGRAMS(function, *args, **static)

    def values_at(self, starts: np.ndarray, restricted: bool) -> np.ndarray:
        """See `ascent.values_at`."""
        with _precision():
            return PROGRAMS(_values_at, starts, self.tensors, restricted=restricted)

    def solution(self, theta: np.ndarray, restricted: bool) -> Any:
        """See `ascent.solution`."""
        with _precision():
            args = self._placed(theta, self.tensors)
            return PROGRAMS(_solution, *args, restricted=restricted)


_ascend = over_mesh(ascend)
_ascend_each = over_mesh(ascend_each)
_values_at = over_mesh(values_at)
_solution = over_mesh(solution)


@dataclass(frozen=True)
class Told:
    """Which paths a user is told of.

    Attributes
    ----------
    what
        What they start from: "start", "restart", or "way on" from where others have ended.
    numbers, total
        Which of them they are, from 0, and of how many.
    """

    what: str
    numbers: tuple[int, ...]
    total: int

    def words(self, which: Any = None) -> str:
        """Those of the paths that are still under way, all for None: "starts 1 to 3, 5 of 6"."""
        left = self.numbers if which is None else [self.numbers[int(i)] for i in which]
        runs: list[list[int]] = []
        for number in left:
            if runs and number == runs[-1][1] + 1:
                runs[-1][1] = number
            else:
                runs.append([number, number])
        shown = [f"{a + 1}" if a == b else f"{a + 1} to {b + 1}" for a, b in runs]
        what = self.what if len(left) == 1 else self.what.replace("way", "ways")
        several = "" if len(left) == 1 or what.startswith("ways") else "s"
        return f"{what}{several} {', '.join(shown)} of {self.total}"


@over_mesh
def _ascend_told(
    start: Array, tensors: Tensors, problem: Problem, *, told: Told, **static: Any
) -> Ends:
    def report(path: Path) -> None:
        print_once(tensors, told.words() + LINE, *_progress(path))

    return ascend(start, tensors, problem, report=report, **static)


LINE = ", evaluation {}: log-likelihood {} + constant, gradient {}, damping {}"


def _print(told: Told, path: Path, which: Any = None) -> None:
    with np.printoptions(precision=6):
        print(told.words(which) + LINE.format(*_progress(path)))  # noqa: T201


def _progress(path: Path) -> tuple[Array, ...]:
    return path.n_iter.max(), path.at.value, path.norm, path.damping


class _Precision:
    """Float64 and products at full precision, for JAX, while a program of ours is made and run.

    What the user has forbidden to programs of their own (transfers, promotions) ours may do, and
    keys give the numbers that they give by default.
    """

    def __enter__(self) -> None:
        import jax

        refuse_lost("This fit")
        self._scopes = (
            jax.enable_x64(True),
            jax.default_matmul_precision("highest"),
            jax.transfer_guard("allow"),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            jax.threefry_partitionable(True),
        )
        for scope in self._scopes:
            scope.__enter__()

    def __exit__(self, *error: Any) -> None:
        for scope in reversed(self._scopes):
            scope.__exit__(*error)


_precision = _Precision


class Spent:
    """The time that NumPy has spent on each shape."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[Any, float] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, shape: Any, seconds: float) -> None:
        """Time has been spent on a shape; None is not counted."""
        if shape is None:
            return
        with self._lock:
            self._seconds[shape] = self._seconds.pop(shape, 0.0) + seconds
            if len(self._seconds) > MOST_SHAPES:
                self._seconds.popitem(last=False)

    def on(self, shape: Any) -> float:
        """Seconds spent on a shape."""
        return self._seconds.get(shape, 0.0)

    def clear(self) -> None:
        """Forget all of it."""
        self._seconds.clear()


SPENT = Spent()
"""Of this process."""


def executor(design: Design, method: str, control: Control, paths: int = 1) -> AtOnce | Compiled:
    """Who shall execute a fit of so many paths at once, with the tensors of its design.

    Raises
    ------
    InputError
        For ``backend="numpy"`` where a structure has no derivatives but JAX's.
    """
    shape = shape_of(design, method, paths) if control.backend == "auto" else None
    if by_numpy(design, control, shape, paths):
        return AtOnce(arrange(design), shape, saved_share(design))
    with _precision():
        return Compiled(placed(design, control.mesh))


def by_numpy(design: Design, control: Control, shape: Any, paths: int) -> bool:
    """The one place that decides."""
    opened = [s for s in design.structures if not s.closed]
    leaves = (design.y, design.X, design.mask, *design.Z)
    if control.backend == "numpy":
        if opened:
            raise InputError(
                f"control: backend='numpy' cannot fit the structure '{opened[0].name}', whose "
                "derivatives only JAX can take: leave backend out, or give the structure the "
                "methods `slopes` and `curvature`."
            )
        return True
    if control.backend == "jax" or control.mesh is not None or opened or any(map(is_jax, leaves)):
        return False
    if is_lost():
        return True
    saved = EVALUATIONS * seconds_of_evaluation(design, paths)[1]
    return max(saved, SPENT.on(shape) + 0.5 * saved) <= COMPILING


def executed(function: Callable, design: Design, *args: Any, **static: Any) -> Any:
    """``function(*args, **static)`` of a design: one pass over its data, at once or compiled."""
    leaves = (design.y, design.X, design.mask, *design.Z)
    at_once = is_lost() or seconds_of_evaluation(design, design.n_sets)[1] <= COMPILING
    if at_once and not any(map(is_jax, leaves)):
        with _numpy():
            return function(*args, **static)
    return compiled(function, *args, **static)


def compiled(function: Callable, *args: Any, **static: Any) -> Any:
    """``function(*args, **static)``, compiled whatever its size."""
    with _precision():
        return PROGRAMS(function, *args, **static)


def seconds_of_evaluation(design: Design, paths: int) -> tuple[float, float]:
    """About how long NumPy takes for an evaluation, and what of that a program saves."""
    k, P = design.k, design.p * design.k
    n_theta, widths = sum(design.n_parameters), sum(design.dims)
    numbers = products = 0.0
    for bucket in design.layout.buckets:
        n_b, N = bucket.rows.shape
        s = n_b * k
        numbers += N * s * (s + P + widths + n_theta)
        products += N * s * (s**2 + P**2 * (1 + 2 * len(design.layout.absorbed)))
    products += n_theta * sum(d**4 for d in design.dims) + n_theta**3
    few = CALLS + paths * PER_NUMBER * numbers
    return few + paths * PER_PRODUCT * products, SAVED * few


def saved_share(design: Design) -> float:
    """Part of the time of NumPy that a program would save."""
    whole, saved = seconds_of_evaluation(design, 1)
    return saved / whole


def shape_of(design: Design, method: str, paths: int) -> Any:
    """What two fits must have in common for one program to serve both."""
    layout = design.layout
    return (
        method,
        paths,
        design.n,
        design.k,
        family_length(design.p),
        tuple((s.name, d) for s, d in zip(design.structures, design.dims, strict=True)),
        tuple((b.rows.shape, tuple(same is None for same in b.same)) for b in layout.buckets),
        (layout.inside, layout.absorbed, layout.n_groups, design.complete),
    )
