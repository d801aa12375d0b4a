"""Structures made of two or more others: a Kronecker product, and blocks along the diagonal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mixmeta_jax import gates
from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.covariance.catalogue import resolve_part
from mixmeta_jax.covariance.holding import hold
from mixmeta_jax.covariance.parameters import natural_parameters
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.errors import InputError

MOST_EFFECTS = 10_000
"""Most random effects of a part."""


class _Joined(Structure):
    """Of parts, each with its own run of the parameters."""

    by_parameters = True
    from_moments = True

    def _take(self, parts: Sequence[Any], names: Sequence[str], sizes: Any) -> None:
        what = type(self).__name__
        if not isinstance(sizes, (tuple, list)):
            raise gates.refused(f"sizes of {what}", "a tuple of whole numbers", sizes)
        numbers = [gates.whole(size, f"sizes of {what}", 1, MOST_EFFECTS) for size in sizes]
        if len(numbers) != len(parts):
            raise InputError(
                f"{what} has {len(parts)} parts and {len(numbers)} sizes: give one size for each."
            )
        self.sizes = tuple(numbers)
        for number, (part, name) in enumerate(zip(parts, names, strict=True)):
            said = f"{name} of {what}"
            own = resolve_part(part, said, self.sizes[number])
            if not own.closed:
                raise InputError(
                    f"{said}, '{own.name}', is a structure without slopes and curvature of its "
                    "own: give one of the catalogue."
                )
            # Each an attribute, since arrays and structures that are attributes are traced.
            setattr(self, f"part{number}", own)

    @property
    def parts(self) -> tuple[Structure, ...]:
        """The structures."""
        return tuple(getattr(self, f"part{number}") for number in range(len(self.sizes)))

    def __repr__(self) -> str:
        parts = ", ".join(map(repr, self.parts))
        return f"{type(self).__name__}({parts}, sizes={self.sizes})"

    def _counts(self) -> list[int]:
        return [part.n_parameters(d) for part, d in zip(self.parts, self.sizes, strict=True)]

    def n_parameters(self, d: int) -> int:
        return sum(self._counts())

    def _shares(self, theta: Array) -> list[tuple[Structure, Array, int]]:
        ends = np.cumsum([0, *self._counts()]).tolist()
        runs = itertools.pairwise(ends)
        return [
            (part, theta[a:b], d)
            for part, (a, b), d in zip(self.parts, runs, self.sizes, strict=True)
        ]

    def _starts(self, variances: Sequence[Any]) -> list[Any]:
        xp = namespace(*variances)
        own = [part.starts(v) for part, v in zip(self.parts, variances, strict=True)]
        n = max(len(starts) for starts in own)
        return [xp.concatenate([starts[i % len(starts)] for starts in own]) for i in range(n)]


class BlockDiagonal(_Joined):
    """Structures one after the other along the diagonal of Ψ.

    Effects of different parts are uncorrelated. θ holds the parameters of one part after the other.

    Parameters
    ----------
    parts
        A list of names or instances of structures, at least one.
    sizes
        Number of random effects of each part; they sum to that of the level.

    Raises
    ------
    InputError
        For sizes that are not one per part, and a part that is no structure of the catalogue or is
        not one of so many effects; when fitted, for sizes with another sum.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> blocks = mx.BlockDiagonal(["id", "unstr"], sizes=(1, 2))
    >>> blocks.psi(np.array([2.0, 1.0, 0.5, 1.0]), 3)
    array([[4.  , 0.  , 0.  ],
           [0.  , 1.  , 0.5 ],
           [0.  , 0.5 , 1.25]])
    """

    name = "blocks"
    label = "Block-diagonal"

    def __init__(self, parts: Sequence[Any], sizes: Sequence[int]) -> None:
        if not isinstance(parts, (list, tuple)) or not parts:
            raise gates.refused("parts of BlockDiagonal", "a list of structures", parts)
        self._take(parts, [f"parts[{number}]" for number in range(len(parts))], sizes)

    def __repr__(self) -> str:
        return f"BlockDiagonal({list(self.parts)!r}, sizes={self.sizes})"

    def check(self, d: int, level: str) -> None:
        if sum(self.sizes) != d:
            raise InputError(
                f"The sizes of BlockDiagonal, {self.sizes}, sum to {sum(self.sizes)}, but level "
                f"'{level}' has {d} random effects."
            )

    def _runs(self) -> list[tuple[int, int]]:
        return list(itertools.pairwise(np.cumsum([0, *self.sizes]).tolist()))

    def _placed(self, blocks: Sequence[Array], d: int) -> Array:
        """Blocks (d_a, d_a, ...) along the diagonal of (d, d, ...), whose other axes they share."""
        xp, rows = namespace(*blocks), []
        for block, (a, b) in zip(blocks, self._runs(), strict=True):
            left, right = (xp.zeros((b - a, n, *block.shape[2:])) for n in (a, d - b))
            rows.append(xp.concatenate([left, block, right], 1))
        return xp.concatenate(rows)

    def psi(self, theta: Array, d: int) -> Array:
        return self._placed([s.psi(own, n) for s, own, n in self._shares(theta)], d)

    def slopes(self, theta: Array, d: int) -> Array:
        xp, made, rest = namespace(theta), [], theta.shape[1:]
        for number, (s, own, n) in enumerate(self._shares(theta)):
            blocks = [xp.zeros((size, size, len(own), *rest)) for size in self.sizes]
            blocks[number] = s.slopes(own, n)
            made.append(self._placed(blocks, d))
        return xp.concatenate(made, 2)

    def curvature(self, theta: Array, d: int, gradient: Array) -> Array:
        xp, rows, total, first = namespace(theta, gradient), [], len(theta), 0
        for (s, own, n), (a, b) in zip(self._shares(theta), self._runs(), strict=True):
            block = s.curvature(own, n, gradient[a:b, a:b])
            before, after = first, total - first - len(own)
            left, right = (xp.zeros((len(own), c, gradient.shape[2])) for c in (before, after))
            rows.append(xp.concatenate([left, block, right], 1))
            first += len(own)
        return xp.concatenate(rows)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        blocks = [Psi[a:b, a:b] for a, b in self._runs()]
        return np.concatenate([s.theta(own) for s, own in zip(self.parts, blocks, strict=True)])

    def starts(self, variances: Any) -> list[Any]:
        return self._starts([variances[a:b] for a, b in self._runs()])

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        found = [
            s.at_bound(Psi[a:b, a:b], scale[a:b])
            for s, (a, b) in zip(self.parts, self._runs(), strict=True)
        ]
        return namespace(Psi).stack(found).any(0)


class Kronecker(_Joined):
    """Ψ of outcomes × times: the effects of outcomes o at t and o' at t' covary as A_oo′ B_tt′.

    Ψ = B ⊗ A, since the outcomes are the faster in the order of the random effects. B has its first
    variance held at 1, so that A is the covariance at the first time. θ holds the parameters of A,
    then those that are left to B.

    Parameters
    ----------
    A, B
        Names or instances of structures, of the outcomes and of the times (or other predictors).
    sizes
        Numbers of outcomes and of times; their product is the number of random effects.

    Raises
    ------
    InputError
        For a part that is no structure of the catalogue or is not one of so many effects; when
        fitted, for sizes with another product.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> product = mx.Kronecker("id", "ar1", sizes=(2, 2))
    >>> product.psi(np.array([2.0, np.arcsin(0.5)]), 4).round(4)
    array([[4., 0., 2., 0.],
           [0., 4., 0., 2.],
           [2., 0., 4., 0.],
           [0., 2., 0., 4.]])
    """

    name = "kron"
    label = "Kronecker product"

    def __init__(self, A: Any, B: Any, sizes: Sequence[int]) -> None:
        self._take((A, B), ("A", "B"), sizes)
        times, n = self.part1, self.sizes[1]  # type: ignore[has-type]
        parameters = natural_parameters(times, n)
        if not parameters or times.by_parameters:
            raise InputError(
                f"Kronecker: B is '{times.name}', which has no variance that can be held at 1: "
                "give a structure of variances and correlations."
            )
        self.part1 = hold(times, n, {parameters[0]: 1.0})

    def check(self, d: int, level: str) -> None:
        if self.sizes[0] * self.sizes[1] != d:
            raise InputError(
                f"The sizes of Kronecker, {self.sizes}, multiply to {self.sizes[0] * self.sizes[1]}"
                f", but level '{level}' has {d} random effects."
            )

    def _pair(self, theta: Array, of: Callable[[Structure, Array, int], Array]) -> list[Array]:
        return [of(*share) for share in self._shares(theta)]

    def psi(self, theta: Array, d: int) -> Array:
        A, B = self._pair(theta, lambda s, own, n: s.psi(own, n))
        product = namespace(theta).einsum("ij...,kl...->kilj...", A, B)
        return product.reshape(d, d, *theta.shape[1:])

    def slopes(self, theta: Array, d: int) -> Array:
        xp = namespace(theta)
        A, B = self._pair(theta, lambda s, own, n: s.psi(own, n))
        dA, dB = self._pair(theta, lambda s, own, n: s.slopes(own, n))
        first = xp.einsum("ijab,klb->kiljab", dA, B).reshape(d, d, dA.shape[2], -1)
        second = xp.einsum("ijb,klab->kiljab", A, dB).reshape(d, d, dB.shape[2], -1)
        return xp.concatenate([first, second], 2)

    def curvature(self, theta: Array, d: int, gradient: Array) -> Array:
        xp = namespace(theta, gradient)
        A, B = self._pair(theta, lambda s, own, n: s.psi(own, n))
        dA, dB = self._pair(theta, lambda s, own, n: s.slopes(own, n))
        k, q = self.sizes
        G = gradient.reshape(q, k, q, k, -1)
        pulls = (xp.einsum("kiljb,klb->ijb", G, B), xp.einsum("kiljb,ijb->klb", G, A))
        own = [
            s.curvature(part, n, pull)
            for (s, part, n), pull in zip(self._shares(theta), pulls, strict=True)
        ]
        turned = xp.einsum("kiljb,ijab->klab", G, dA)
        edge = 0.5 * xp.einsum("klab,klcb->acb", turned, dB)
        upper = xp.concatenate([own[0], edge], 1)
        lower = xp.concatenate([xp.swapaxes(edge, 0, 1), own[1]], 1)
        return xp.concatenate([upper, lower])

    def _factors(self, Psi: Any) -> tuple[Any, Any]:
        """Means of Ψ over the times, and over the outcomes: multiples of A and B."""
        xp, (k, q) = namespace(Psi), self.sizes
        parts = Psi.reshape(q, k, q, k, *Psi.shape[2:])
        return xp.einsum("kikj...->ij...", parts) / q, xp.einsum("kili...->kl...", parts) / k

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        A, B = self._factors(Psi)
        size = B[0, 0] if B[0, 0] > 0 else 1.0
        mean = np.trace(B) / len(B) / size
        parts = (A / (mean or 1.0), B / size)
        return np.concatenate([s.theta(own) for s, own in zip(self.parts, parts, strict=True)])

    def starts(self, variances: Any) -> list[Any]:
        k, q = self.sizes
        table = variances.reshape(q, k, *variances.shape[1:])
        size = table.mean(1)
        return self._starts([table.mean(0), size / size.mean(0)])

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        xp, (k, q) = namespace(Psi), self.sizes
        wide = xp.broadcast_to(scale, (len(Psi), Psi.shape[2])).reshape(q, k, -1)
        A, B = self._factors(Psi)
        found = [self.part0.at_bound(A, wide.mean(0))]  # type: ignore[attr-defined]
        found.append(self.part1.at_bound(B, wide.mean(1)))
        return xp.stack(found).any(0)
