"""The highest likelihood with one natural parameter held at a value, for many values at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.covariance.held import Held
from mixmeta_jax.covariance.holding import hold, regime
from mixmeta_jax.covariance.parameters import Parameter
from mixmeta_jax.covariance.side_by_side import SideBySide
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.estimation.estimator import fit_design
from mixmeta_jax.estimation.executors import AtOnce, by_numpy
from mixmeta_jax.estimation.newton import Problem
from mixmeta_jax.estimation.start import SMALL, natural_units, starting_variances
from mixmeta_jax.status import Status

TOGETHER = 100_000
"""Numbers in the columns of X, times paths, up to which all of them climb side by side."""


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
        Shape (B,).
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
        Whether every path is searched for as a fit of its own is, from all starts.
    """
    settings = replace(control, start=None, n_starts=None, verbose=False)
    B = len(values)
    found = Maxima(np.full(B, np.nan), tuple(np.array(P) for P in near))
    scales = [scale[:, 0] for scale in starting_variances(design)]
    near = [_moved_in(P, scale) for P, scale in zip(near, scales, strict=True)]
    size = design.X.size * design.k**2 * B
    closed = all(structure.closed for structure in design.structures)
    together = size <= TOGETHER and closed and by_numpy(design, settings, None, B)
    left, follows = np.arange(B), not searched and not together
    if not searched and together:
        left = _side_by_side(design, method, settings, places, values, near, scales, found)
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
    structures[place.level] = hold(structures[place.level], d, {place.parameter: values})
    return tuple(structures)


def _moved_in(Psi: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Ψ (B, d, d) away from its bounds, where every path would stay."""
    return Psi + SMALL**2 * np.diag(scale)


def _side_by_side(
    design: Design,
    method: str,
    control: Control,
    places: Sequence[Place],
    values: np.ndarray,
    near: Sequence[np.ndarray],
    scales: Sequence[np.ndarray],
    found: Maxima,
) -> np.ndarray:
    """All paths at once; those that are to be searched by themselves are returned."""
    B = len(values)
    keys = [
        (p.level, p.parameter, regime(p.parameter, v)) for p, v in zip(places, values, strict=True)
    ]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    order = np.argsort([number[key] for key in keys], kind="stable")
    runs = [list(own) for _, own in itertools.groupby(order, key=lambda b: keys[b])]
    made = [_structures(design, places[own[0]], values[own]) for own in runs]
    counts = [len(own) for own in runs]
    levels = [SideBySide(own, counts) for own in zip(*made, strict=True)]
    thetas, units = [], []
    for side, d, Psi, scale in zip(levels, design.dims, near, scales, strict=True):
        theta, unit = np.zeros((2, side.n_parameters(d), B))
        unit += 1.0
        for structure, (a, b) in zip(side.structures, side.runs, strict=True):
            start = _starting(structure, Psi[order[a:b]])
            if not len(start):
                continue
            theta[: len(start), a:b] = start
            own = [np.broadcast_to(s, start.shape) for s in _starts(structure, scale, b - a)]
            unit[: len(start), a:b] = natural_units(np.stack([start, *own]))
        thetas.append(theta)
        units.append(unit)
    theta = np.concatenate(thetas)
    run = AtOnce(arrange(replace(design, structures=tuple(levels))))
    if not len(theta):
        loglik, _, _, Psi = run.solution(theta, restricted=method == "reml")
        _store(found, order, loglik, Psi)
        return order[:0]
    wide = tuple(np.broadcast_to(scale[:, None], (len(scale), B)) for scale in scales)
    problem = Problem(np.concatenate(units), wide, None, control.max_iter, control.gradient_tol, 0)
    ends = run.ascend(theta, problem, restricted=method == "reml")
    verdict = ends.verdict
    sound = (verdict.status <= Status.BOUNDARY) & ~verdict.rising
    _store(found, order, ends.loglik, ends.Psi)
    return order[~sound]


def _store(found: Maxima, order: np.ndarray, loglik: np.ndarray, Psi: Sequence[np.ndarray]) -> None:
    found.loglik[order] = loglik
    for P, matrix in zip(found.Psi, Psi, strict=True):
        P[order] = np.moveaxis(matrix, -1, 0)


def _starting(structure: Structure, Psi: np.ndarray) -> np.ndarray:
    """θ near Ψ of shape (b, d, d), shape (n_θ, b)."""
    if isinstance(structure, Held):
        whole = np.stack([structure.base.theta(own) for own in Psi], -1)
        return structure.parameters(whole)
    return np.stack([structure.theta(own) for own in Psi], -1)


def _starts(structure: Structure, scale: np.ndarray, b: int) -> list[np.ndarray]:
    return structure.starts(np.repeat(scale[:, None], b, 1))
