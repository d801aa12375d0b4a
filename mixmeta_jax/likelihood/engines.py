"""The engines: ways to the likelihood and its derivatives, behind one function.

`Sweep` is for every design, `Packed` for many units of one level. Which one a design gets is
decided here alone; the tests run both, and a dense likelihood, through the same interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mixmeta_jax.arrays import Array, Float, shaped, tree
from mixmeta_jax.design.tensors import Tensors
from mixmeta_jax.likelihood import packed
from mixmeta_jax.likelihood.information import (
    Slopes,
    average_information,
    block_sums,
    both_informations,
    has_closed_expected,
)
from mixmeta_jax.likelihood.likelihood import both_sweeps, profile
from mixmeta_jax.likelihood.sweep import upward


@tree
@dataclass(frozen=True)
class Derivatives:
    """The profiled log-likelihood of B data sets at their Ψ.

    Attributes
    ----------
    value
        Log-likelihood without the terms that do not depend on Ψ, shape (B,).
    gradients
        2 ∂ℓ/∂Ψ of each level, outermost first, shape (d, d, B).
    average
        ½ f_aᵀ P f_b for the parameters of the slopes, shape (n_θ, n_θ, B).
    expected
        ½ tr(P Σ_a P Σ_b), where it is a closed form, else None; see `information.is_exact`.
    beta, root
        Coefficients, shape (P, B), and a root of their covariance rootᵀ root, shape (P, P, B).
    """

    value: Array
    gradients: tuple[Array, ...]
    average: Array
    expected: Array | None
    beta: Array
    root: Array


class Engine(Protocol):
    """What an engine does; the data are `likelihood.prepared`."""

    def covers(self, data: Tensors, n_paths: int) -> bool:
        """Whether it is for data like these, at so many Ψ at once."""

    def value(self, Psi: tuple[Array, ...], data: Tensors, restricted: bool) -> Array:
        """The log-likelihood without its constant terms, shape (B,)."""

    def derivatives(
        self, Psi: tuple[Array, ...], slopes: Slopes, data: Tensors, restricted: bool
    ) -> Derivatives:
        """The likelihood and its derivatives."""


class Sweep:
    """Both sweeps over the tree, for every design."""

    def covers(self, data: Tensors, n_paths: int) -> bool:
        return True

    @shaped
    def value(
        self, Psi: tuple[Float[Array, "_ _ #B"], ...], data: Tensors, restricted: bool
    ) -> Float[Array, " B"]:
        return profile(upward(Psi, data)).value(restricted)

    @shaped
    def derivatives(
        self,
        Psi: tuple[Float[Array, "_ _ #B"], ...],
        slopes: Slopes,
        data: Tensors,
        restricted: bool,
    ) -> Derivatives:
        up, solution, down = both_sweeps(Psi, data, restricted)
        root = solution.root
        gradients = tuple(P - T for P, T in zip(down.products, down.traces, strict=True))
        if has_closed_expected(data):
            sums = block_sums(up, down, data, root, restricted)
            average, expected = both_informations(sums, slopes[0])
        else:
            average, expected = average_information(up, down, data, root, slopes), None
        value = solution.value(restricted)
        return Derivatives(value, gradients, average, expected, solution.beta, root)


class Packed:
    """One level with one random predictor: many units, or many data sets; see `packed`."""

    def covers(self, data: Tensors, n_paths: int) -> bool:
        return packed.covers(data, n_paths)

    def value(self, Psi: tuple[Array, ...], data: Tensors, restricted: bool) -> Array:
        return Sweep().value(Psi, data, restricted)

    @shaped
    def derivatives(
        self,
        Psi: tuple[Float[Array, "_ _ #B"], ...],
        slopes: Slopes,
        data: Tensors,
        restricted: bool,
    ) -> Derivatives:
        at, sums = packed.two_passes(Psi[0], data, restricted)
        average, expected = both_informations(sums, slopes[0])
        gradients = (at["gradient"],)
        return Derivatives(at["value"], gradients, average, expected, at["beta"], at["root"])


ENGINES: tuple[Engine, ...] = (Packed(), Sweep())
"""The first that covers a design is for it."""


def engine_for(data: Tensors, n_paths: int) -> Engine:
    """The engine of a design, at so many Ψ at once."""
    return next(engine for engine in ENGINES if engine.covers(data, n_paths))
