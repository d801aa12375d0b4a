"""The highest likelihood with one natural parameter held at a value, for many values at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.covariance.held import Held
from mixmeta_jax.covariance.holding import hold_too, regime
from mixmeta_jax.covariance.parameters import Parameter
from mixmeta_jax.covariance.side_by_side import SideBySide
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.estimator import fit_design
from mixmeta_jax.estimation.executors import AtOnce
from mixmeta_jax.estimation.newton import Problem, departure
from mixmeta_jax.estimation.start import (
    SMALL_LEVEL,
    follows_all,
    natural_units,
    starting_variances,
)
from mixmeta_jax.likelihood.information import is_exact
from mixmeta_jax.status import Status

HELD_TOGETHER = 1_000_000
"""Numbers in the columns of X, times paths, up to which all of them climb side by side: an
evaluation of NumPy's takes some 10 ns for each."""


STARTS = ((0, 1.0), (1, 1.0), (2, 1.0), (0, SMALL_LEVEL))
"""Which of a structure's own starts a search takes, and at what part of the variances: those of
single fits, but for the two of moderate correlations."""


@dataclass(frozen=True)
class Place:
    """A natural parameter of one of the levels.

    Attributes
    ----------
    level
        Number of the level, outer first.
    parameter
        Which of its parameters.
    """

    level: int
    parameter: Parameter


@dataclass(frozen=True)
class Maxima:
    """Maxima of B paths.

    Attributes
    ----------
    loglik
        Shape (B,); NaN where no covariance matrix has the value, beside what the model holds.
    Psi
        Per level, outer first, shape (B, d, d).
    """

    loglik: np.ndarray
    Psi: tuple[np.ndarray, ...]


def held_maxima(
    design: Design,
    method: str,
    control: Control,
    places: Sequence[Place],
    values: np.ndarray,
    near: Sequence[np.ndarray],
    searched: bool = False,
) -> Maxima:
    """Maximise with ``places[b]`` held at ``values[b]``.

    Parameters
    ----------
    design, method, control
        The model, "ml" or "reml", and the settings of its fit.
    places, values
        What each path holds, and where, B of them.
    near
        Ψ of each level from which the paths start, outer first, shape (B, d, d).
    searched
        Whether every path is searched for as a fit of its own is: from all starts, but of data so
        many that single fits have one start.
    """
    settings = replace(control, start=None, n_starts=None, verbose=False)
    closed = all(structure.closed for structure in design.structures)
    if closed and settings.backend == "auto" and settings.mesh is None:
        # Of every parameter that is held a program would be another, used a few times.
        settings = replace(settings, backend="numpy")
    found = Maxima(np.full(len(values), np.nan), tuple(np.array(P) for P in near))
    there = np.flatnonzero([can_hold(design, *own) for own in zip(places, values, strict=True)])
    if not len(there):
        return found
    if len(there) < len(values):
        chosen = [places[b] for b in there.tolist()], values[there], [P[there] for P in near]
        some = held_maxima(design, method, control, *chosen, searched)
        found.loglik[there] = some.loglik
        for P, matrix in zip(found.Psi, some.Psi, strict=True):
            P[there] = matrix
        return found
    B = len(values)
    searched = searched and follows_all(design)
    scales = [scale[:, 0] for scale in starting_variances(design)]
    near = [_moved_in(P, scale) for P, scale in zip(near, scales, strict=True)]
    size = design.X.size * design.k**2 * B
    together = size <= HELD_TOGETHER and settings.backend == "numpy"
    left = np.arange(B)
    if together:
        problem = _Problem(design, method, settings, places, values, scales)
        sound = np.zeros(B, bool)
        # A search is on from all starts too, of which the highest end is kept.
        for start in (None, *(STARTS if searched else ())):
            ends, good = problem.side_by_side(near, start)
            better = good & ~(ends.loglik <= np.where(sound, found.loglik, -np.inf))
            found.loglik[better] = ends.loglik[better]
            for P, matrix in zip(found.Psi, ends.Psi, strict=True):
                P[better] = matrix[better]
            sound |= good
        left = np.flatnonzero(~sound)
    follows = not searched and not together
    names = [str(level) for level in range(len(design.dims))]
    for b in left.tolist():
        own = replace(design, structures=_structures(design, places[b], values[b]))
        control = settings
        if follows:
            start = {name: P[b] for name, P in zip(names, near, strict=True)}
            control = replace(settings, start=start)
        one = fit_design(own, method, control, names)
        found.loglik[b] = one.loglik
        for P, matrix in zip(found.Psi, one.Psi or (), strict=True):
            P[b] = matrix
    return found


def _structures(design: Design, place: Place, values: Any) -> tuple[Structure, ...]:
    """Those of a model that holds a parameter, at one value or at as many as there are paths."""
    structures = list(design.structures)
    d = design.dims[place.level]
    structures[place.level] = hold_too(structures[place.level], d, place.parameter, values)
    return tuple(structures)


def can_hold(design: Design, place: Place, value: float) -> bool:
    """Whether a covariance matrix has the value, beside what the model holds."""
    try:
        _structures(design, place, value)
    except InputError:
        return False
    return True


def _moved_in(Psi: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Ψ (B, d, d) away from its bounds, where every path would stay; where it is inside, itself."""
    sd = np.sqrt(scale)
    least = np.linalg.eigvalsh(Psi / np.outer(sd, sd))[:, 0]
    short = np.maximum(SMALL_LEVEL**2 - least, 0.0)
    return Psi + short[:, None, None] * np.diag(scale)


@dataclass(frozen=True)
class _Problem:
    """What B paths have in common that climb side by side, and what each holds."""

    design: Design
    method: str
    control: Control
    places: Sequence[Place]
    values: np.ndarray
    scales: Sequence[np.ndarray]

    def side_by_side(
        self, near: Sequence[np.ndarray], start: tuple[int, float] | None
    ) -> tuple[Maxima, np.ndarray]:
        """The ends of all paths, and which of them are maxima.

        They start near Ψ of each level, (B, d, d), or from a start of the structures' own: which,
        and by what factor the variances are smaller.
        """
        B, design = len(self.values), self.design
        pairs = zip(self.places, self.values, strict=True)
        keys = [(p.level, p.parameter, regime(p.parameter, v)) for p, v in pairs]
        number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        order = np.argsort([number[key] for key in keys], kind="stable")
        runs = [list(own) for _, own in itertools.groupby(order, key=lambda b: keys[b])]
        made = [_structures(design, self.places[own[0]], self.values[own]) for own in runs]
        counts = [len(own) for own in runs]
        levels = [SideBySide(own, counts) for own in zip(*made, strict=True)]
        thetas, units = [], []
        for side, d, Psi, scale in zip(levels, design.dims, near, self.scales, strict=True):
            theta, unit = np.zeros((2, side.n_parameters(d), B))
            unit += 1.0
            for structure, (a, b) in zip(side.structures, side.runs, strict=True):
                m = structure.n_parameters(d)
                if not m:
                    continue
                own = _starts(structure, scale, b - a)
                first = _starting(structure, Psi[order[a:b]])
                if start is not None:
                    first = _starts(structure, scale * start[1], b - a)[min(start[0], len(own) - 1)]
                theta[:m, a:b] = first
                own = [np.broadcast_to(s, (m, b - a)) for s in own]
                unit[:m, a:b] = natural_units(np.stack([theta[:m, a:b], *own]))
            thetas.append(theta)
            units.append(unit)
        theta, restricted = np.concatenate(thetas), self.method == "reml"
        run = AtOnce(arrange(replace(design, structures=tuple(levels))))
        back = np.argsort(order)
        if not len(theta):
            loglik, _, _, Psi = run.solution(theta, restricted=restricted)
            found = Maxima(loglik[back], tuple(np.moveaxis(P, -1, 0)[back] for P in Psi))
            return found, np.ones(B, bool)
        wide = tuple(np.broadcast_to(scale[:, None], (len(scale), B)) for scale in self.scales)
        limits = self.control.max_iter, self.control.gradient_tol, 0
        problem = Problem(np.concatenate(units), wide, None, *limits)
        # As paths, which go together whatever their size: each has its own structures.
        exact = is_exact(run.tensors, restricted)
        path = departure(theta, run.tensors.n_coefficients, exact)
        ends = run.ascend(path, problem, restricted=restricted)
        verdict = ends.verdict
        sound = (verdict.status <= Status.BOUNDARY) & ~verdict.rising
        found = Maxima(ends.loglik[back], tuple(np.moveaxis(P, -1, 0)[back] for P in ends.Psi))
        return found, sound[back]


def _starting(structure: Structure, Psi: np.ndarray) -> np.ndarray:
    """θ near Ψ of shape (b, d, d), shape (n_θ, b)."""
    if isinstance(structure, Held):
        whole = np.stack([structure.base.theta(own) for own in Psi], -1)
        return structure.parameters(whole)
    return np.stack([structure.theta(own) for own in Psi], -1)


def _starts(structure: Structure, scale: np.ndarray, b: int) -> list[np.ndarray]:
    return structure.starts(np.repeat(scale[:, None], b, 1))
