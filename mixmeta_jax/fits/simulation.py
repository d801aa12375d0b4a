"""Simulated outcomes: `mixmeta_sim`, and those of a fit for the studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.choices import Generator
from mixmeta_jax.covariance.structure import is_semidefinite, is_symmetric
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.draws import draws, semidefinite_root
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.drawn import drawn_outcomes
from mixmeta_jax.memory import refuse_size
from mixmeta_jax.table.array_frame import array_frame, judged_within
from mixmeta_jax.table.frame import ModelFrame
from mixmeta_jax.table.frame_design import design_from_frame
from mixmeta_jax.table.within_study import WithinStudy

Errors = Sequence[tuple[np.ndarray, np.ndarray]]

MOST_NUMBERED = 2**32 - 1
"""Largest number of a data set that JAX folds into a key."""


def mixmeta_sim(
    y: Any,
    S: Any,
    Psi: Any,
    random: Any = None,
    data: Any = None,
    nsim: int = 1,
    seed: int = 0,
    rho: Any = None,
    first: int = 0,
    generator: Generator = "numpy",
) -> np.ndarray:
    """Simulate outcomes from the model with known expectations and covariances.

    Data set b is drawn from a stream of its own: a study can be cut into parts by ``first`` and
    joined, with the same draws.

    Parameters
    ----------
    y
        Expected outcomes, shape (n,) or (n, k); NaN where the simulated outcome shall be missing.
    S, rho
        Error covariances in any form of `mixmeta`.
    Psi
        Covariance of the random effects, or one per level as a list, outer first, or {level:
        matrix}; positive semidefinite; None for no random effects.
    random, data
        Grouping and random predictors, as in `mixmeta`.
    nsim
        Number of data sets.
    seed
        Whole number from 0.
    first
        Number of the first data set.
    generator
        "numpy": Philox with the key (seed, b), the same bit for bit on every machine. "jax":
        Threefry with the key ``jax.random.fold_in(jax.random.key(seed), b)``, on JAX's default
        device; other numbers, those of `simulate`, the same up to rounding wherever they are drawn.

    Returns
    -------
    ndarray
        Shape (nsim, n, k).

    Raises
    ------
    InputError
        For shapes that do not fit, or a Psi that is not positive semidefinite.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> y = mx.mixmeta_sim(np.zeros(13), S=np.full(13, 0.1), Psi=[[0.3]], nsim=1000, seed=1)
    >>> y.shape, float(y.var().round(2))
    ((1000, 13, 1), 0.4)
    """
    gates.refuse_traced({"y": y, "S": S, "Psi": Psi, "data": data, "rho": rho}, "mixmeta_sim")
    frame = array_frame(y, S, None, random, data, rho)
    levels, mean = frame.levels, frame.y
    nsim = check_draws(nsim, seed, first, mean.size, generator=generator)
    matrices = given_matrices(frame, Psi)
    if generator == "jax":
        frame = replace(frame, within=judged_within(frame, ~np.isnan(mean)))
        design = design_from_frame(frame, ())
        return drawn_outcomes(design, mean, matrices, nsim, seed, first)[:]
    groups = np.stack([level.codes for level in levels], axis=1)
    Z = [level.Z for level in levels] if matrices else []
    errors = error_factors(judged_within(frame, ~np.isnan(mean)))
    return mean + draws(first, nsim, seed, groups, Z, matrices, errors, mean.shape)


def simulate_fitted(
    design: Design,
    within: WithinStudy,
    mean: np.ndarray,
    Psi: Sequence[np.ndarray],
    nsim: int,
    seed: int,
    first: int = 0,
    generator: Generator = "numpy",
) -> np.ndarray:
    """Outcomes of a fitted design around their mean, NaN where its own are: (nsim, n, k)."""
    nsim = check_draws(nsim, seed, first, mean.size, generator=generator)
    mean = np.where(design.mask, mean, np.nan)
    if generator == "jax":
        return drawn_outcomes(design, mean, Psi, nsim, seed, first)[:]
    errors = error_factors(within)
    shape = (design.n, design.k)
    return mean + draws(first, nsim, seed, design.groups, design.Z, Psi, errors, shape)


def fresh_seed() -> int:
    """A seed that no call has had before, from the system's entropy."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> 1)


def error_factors(within: WithinStudy) -> Errors:
    """The factors of S, as `design.draws` takes them."""
    if within.unit is not None:
        return [(np.arange(len(within.unit))[:, None], semidefinite_root(within.unit))]
    return [(units[None], semidefinite_root(S)[None]) for units, S in within.blocks or ()]


def check_draws(
    count: Any, seed: Any, first: Any, size: int, what: str = "nsim", generator: Any = "numpy"
) -> int:
    """The number of data sets that are drawn, of ``size`` numbers each that are kept.

    Raises
    ------
    InputError
        For numbers that are none, streams that do not exist, or a result beyond the memory.
    """
    count = gates.whole(count, what, 1)
    gates.seed(seed)
    refuse_size(count * size, f"{what}={gates.described(count)}")
    gates.choice(generator, "generator", Generator)
    gates.whole(first, "first", 0, gates.MOST_SEED - count)
    if generator == "jax" and first + count - 1 > MOST_NUMBERED:
        raise InputError(
            f"first: generator='jax' numbers its data sets up to {MOST_NUMBERED:,}, but the last "
            f"would be {first + count - 1:,}: take another seed, or generator='numpy'."
        )
    return count


def given_matrices(frame: ModelFrame, Psi: Any) -> list[np.ndarray]:
    """Ψ of each level of a frame, outer first, as a user gives them; none for None."""
    if Psi is None:
        return []
    names = [level.name for level in frame.levels]
    dims = [frame.k * level.Z.shape[1] for level in frame.levels]
    if isinstance(Psi, Mapping):
        if set(Psi) != set(names):
            raise InputError(
                f"Psi must give a matrix for each level ({', '.join(names)}); it has "
                f"{', '.join(map(str, Psi))}."
            )
        given = [Psi[name] for name in names]
    elif isinstance(Psi, (list, tuple)) and len(names) > 1:
        given = list(Psi)
    else:
        given = [Psi]
    if len(given) != len(names):
        raise InputError(
            f"Psi has {len(given)} matrices for {len(names)} level(s), {', '.join(names)}: give "
            "one per level, outer first, or a mapping by level."
        )
    matrices = []
    for matrix, name, d in zip(given, names, dims, strict=True):
        P = gates.numbers(matrix, f"Psi of level '{name}'")
        P = P.reshape(1, 1) if P.ndim == 0 else np.atleast_2d(P)
        if P.shape != (d, d) or not is_symmetric(P):
            raise InputError(f"Psi of level '{name}' must be a finite symmetric {d} × {d} matrix.")
        if not is_semidefinite(P):
            raise InputError(f"Psi of level '{name}' is not positive semidefinite.")
        matrices.append(P)
    return matrices
