"""What `variance_information` needs of large outer groups, by derivatives of the upward sweep.

With Ψ moved along the natural parameters, A = XᵀWX and log|Σ| (`likelihood.sweep`) have

    ∂A/∂ψ_a = P_a,    ∂²A/∂ψ_a∂ψ_b = Q_ab + Q_ba,    ∂² log|Σ|/∂ψ_a∂ψ_b = −tr(WΣ_aWΣ_b)

along straight lines (Σ_ab = 0): linear in the rows of a group, at the price of a compilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, tree
from mixmeta_jax.covariance.natural import Natural
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.tensors import Tensors, arrange
from mixmeta_jax.estimation.executors import compiled
from mixmeta_jax.likelihood.likelihood import prepared, profile
from mixmeta_jax.likelihood.sweep import upward


@tree
@dataclass(frozen=True)
class Curved:
    """Derivatives of the sweep in n natural parameters, in the orthonormal basis.

    Attributes
    ----------
    A, slopes, seconds
        A, shape (P, P), its derivatives, (P, P, n), and second derivatives, (P, P, n, n).
    logdet
        Second derivatives of log|Σ|, shape (n, n).
    hessian
        Of the log-likelihood along Ψ of the natural parameters, its bends included, shape (n, n).
    """

    A: Array
    slopes: Array
    seconds: Array
    logdet: Array
    hessian: Array


def curved(
    design: Design, Psi: Sequence[np.ndarray], natural: Sequence[Natural], restricted: bool
) -> Curved:
    """The derivatives at Ψ of one data set, shape (d, d) per level."""
    slopes = tuple(own.slopes[..., 0] for own in natural)
    bends = tuple(
        np.zeros((*own.slopes.shape[:2], own.slopes.shape[2], own.slopes.shape[2]))
        if own.second is None
        else own.second[..., 0]
        for own in natural
    )
    return compiled(_curved, tuple(Psi), slopes, bends, arrange(design), restricted=restricted)


def moved_products(
    design: Design, Psi: Sequence[np.ndarray], changes: Sequence[np.ndarray]
) -> np.ndarray:
    """XᵀWZ(∂Ψ)ZᵀWX in the orthonormal basis, for a change of Ψ of each level: shape (P, P)."""
    return compiled(_moved, tuple(Psi), tuple(changes), arrange(design))


def _curved(
    Psi: tuple[Array, ...],
    slopes: tuple[Array, ...],
    bends: tuple[Array, ...],
    tensors: Tensors,
    *,
    restricted: bool,
) -> Curved:
    import jax
    import jax.numpy as jnp

    data, _ = prepared(tensors)
    counts = [own.shape[2] for own in slopes]
    starts = np.cumsum([0, *counts])
    delta = jnp.zeros(int(starts[-1]))

    def at(delta: Array, bent: bool) -> Any:
        moved = []
        for P, slope, bend, start, n in zip(Psi, slopes, bends, starts, counts, strict=False):
            own = delta[start : start + n]
            P = P + slope @ own
            moved.append((P + 0.5 * (bend @ own) @ own if bent else P)[..., None])
        return upward(tuple(moved), data)

    def straight(delta: Array) -> tuple[Array, Array]:
        up = at(delta, False)
        return up.A[..., 0], up.logdet[0]

    def value(delta: Array) -> Array:
        return profile(at(delta, True)).value(restricted)[0]

    A, _ = straight(delta)
    first = jax.jacfwd(straight)
    seconds, logdet = jax.jacfwd(first)(delta)
    return Curved(A, first(delta)[0], seconds, logdet, jax.jacfwd(jax.jacfwd(value))(delta))


def _moved(Psi: tuple[Array, ...], changes: tuple[Array, ...], tensors: Tensors) -> Array:
    import jax

    data, _ = prepared(tensors)

    def products(Psi: tuple[Array, ...]) -> Array:
        return upward(tuple(P[..., None] for P in Psi), data).A[..., 0]

    return -jax.jvp(products, (Psi,), (changes,))[1]
