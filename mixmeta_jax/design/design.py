"""The design: what a model is made of, as one pytree of arrays.

`Design` keeps the arrays as the user has them (one row per unit), so that they can be replaced,
batched and differentiated; ``tensors.arrange`` puts them into the padded tensors of
``likelihood.sweep``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import linalg

from mixmeta_jax.arrays import Array, tree
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.design.layout import Bucket, Layout, build_layout
from mixmeta_jax.tolerances import BASIS_RANK

Blocks = tuple[Array, ...]


@tree
@dataclass(frozen=True)
class Design:
    """A model for n units with k outcomes, p predictors and L levels.

    For B data sets of one shape, ``y``, ``X``, ``S``, ``Z`` and ``mask`` may have a leading axis B;
    without it they are shared.

    A tree of JAX whose leaves are of two parts. ``y``, ``X``, ``S`` and ``Z`` (`quantities`), and
    arrays of the structures, are numbers that can move. ``mask``, ``groups`` and the layout are
    truth values and labels: they may be traced and mapped, but have no derivative, and JAX has to
    be told to pass over them: ``jax.grad(f, allow_int=True)(design)`` is a `Design` whose numbers
    are the derivatives and whose labels are of the type ``float0``. No result depends on ``basis``,
    whose derivative is zero.

    Attributes
    ----------
    y
        Outcomes less their offset, shape (n, k); the value at a missing one is not read.
    X
        Fixed-effects predictors, shape (n, p).
    S
        Error covariances, shape (n, k, k); or, where blocks span units, one array per bucket of
        the layout, shape (N, n_b·k, n_b·k), outcome fastest. What JAX holds is averaged with its
        transpose: of a derivative in a covariance the entries jl and lj take half each.
    Z
        Random-effects predictors of each level, outer first, shape (n, q) each.
    mask
        Which outcomes are observed, shape (n, k).
    basis
        (p, p) matrix T for which the columns of XT are orthonormal over the units: the numbers
        are computed in that basis, so that the scale of the predictors does not matter.
    groups
        Group of each unit at each level, outer first, shape (n, L).
    structures
        Covariance structure of each level.
    layout
        Arrangement of the units in padded blocks.
    complete
        Whether no outcome is missing.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> design = mx.make_design(bcg.logor, S=bcg.logorvar)
    >>> design.n, design.k, design.p, design.n_parameters
    (13, 1, 1, (1,))
    """

    y: Array
    X: Array
    S: Array | Blocks
    Z: tuple[Array, ...]
    mask: Array
    basis: Array
    groups: Array
    structures: tuple[Structure, ...]
    layout: Layout
    complete: bool = field(metadata={"static": True})

    @property
    def quantities(self) -> dict[str, Any]:
        """What can move, by name: y, X, S and Z, a tree without labels, masks or whole numbers.

        JAX differentiates in all of it at once: ``jax.grad(lambda q: f(replace(design,
        **q)))(design.quantities)``, with `dataclasses.replace`.
        """
        return {"y": self.y, "X": self.X, "S": self.S, "Z": self.Z}

    @property
    def n(self) -> int:
        """Number of units."""
        return self.X.shape[-2]

    @property
    def n_sets(self) -> int:
        """Number of data sets."""
        held = (self.y, self.X, self.mask, *self.Z)
        units = () if isinstance(self.S, tuple) else (self.S,)
        lengths = [a.shape[0] for a in held if a.ndim == 3] + [
            a.shape[0] for a in units if a.ndim == 4
        ]
        return max(lengths, default=1)

    @property
    def k(self) -> int:
        """Number of outcomes."""
        return self.y.shape[-1]

    @property
    def p(self) -> int:
        """Number of predictors."""
        return self.X.shape[-1]

    @property
    def dims(self) -> tuple[int, ...]:
        """Number of random effects of each level, outer first."""
        return tuple(self.k * Z.shape[-1] for Z in self.Z)

    @property
    def n_parameters(self) -> tuple[int, ...]:
        """Number of parameters θ of each level, outer first."""
        return tuple(s.n_parameters(d) for s, d in zip(self.structures, self.dims, strict=True))

    def Psi(self, theta: Array) -> tuple[Array, ...]:
        """Ψ of each level, outer first, at θ."""
        levels = parameters_by_level(self.structures, self.dims, theta)
        return tuple(s.psi(t, d) for s, t, d in levels)

    def taken(self, members: Array) -> Design:
        """Some of the data sets."""

        def own(values: Array, ndim: int) -> Array:
            return values[members] if values.ndim == ndim else values

        return replace(
            self,
            y=own(self.y, 3),
            X=own(self.X, 3),
            S=self.S if isinstance(self.S, tuple) else own(self.S, 4),
            Z=tuple(own(Z, 3) for Z in self.Z),
            mask=own(self.mask, 3),
        )

    def one(self, member: int) -> Design:
        """The design of one of the data sets, by itself."""
        own = self.taken(np.array([member]))
        mask = own.mask[0] if own.mask.ndim == 3 else own.mask
        return replace(
            own,
            y=own.y[0] if own.y.ndim == 3 else own.y,
            X=own.X[0] if own.X.ndim == 3 else own.X,
            S=own.S[0] if not isinstance(own.S, tuple) and own.S.ndim == 4 else own.S,
            Z=tuple(Z[0] if Z.ndim == 3 else Z for Z in own.Z),
            mask=mask,
            complete=bool(mask.all()),
        )

    def without_levels(self) -> Design:
        """The fixed-effects model: S alone."""
        if isinstance(self.S, tuple):
            buckets = tuple(Bucket(bucket.rows, None, ()) for bucket in self.layout.buckets)
            layout = Layout(buckets, (), (), (), ())
        else:
            layout = build_layout(self.n, self.k, [], [])
        return replace(self, Z=(), structures=(), groups=self.groups[:, :0], layout=layout)


def parameters_by_level(
    structures: tuple[Structure, ...], dims: tuple[int, ...], theta: Array
) -> list[tuple[Structure, Array, int]]:
    """Each level's structure, parameters and number of random effects, outer first."""
    levels, first = [], 0
    for structure, d in zip(structures, dims, strict=True):
        end = first + structure.n_parameters(d)
        levels.append((structure, theta[first:end], d))
        first = end
    return levels


def orthonormal_basis(X: np.ndarray) -> np.ndarray:
    """T for which XT has columns of mean square one and no correlation, shape (p, p)."""
    n, p = X.shape
    if p == 0 or n < p:
        return np.eye(p)
    with np.errstate(over="ignore"):
        size = np.sqrt((X * X).sum(0) / n)
    huge = np.isinf(size)
    if huge.any():
        peak = np.abs(X[:, huge]).max(0)
        size[huge] = peak * np.sqrt(((X[:, huge] / peak) ** 2).sum(0) / n)
    size[size == 0] = 1.0
    if p == 1:
        return np.diag(1 / size)
    R = np.linalg.qr(X / size, mode="r")
    diagonal = np.abs(np.diagonal(R))
    if diagonal.min() <= BASIS_RANK * diagonal.max():
        return np.diag(1 / size)
    inverse, _ = linalg.lapack.dtrtri(R)
    return inverse * np.sqrt(n) / size[:, None]


def spanning_blocks(
    layout: Layout, blocks: tuple[tuple[np.ndarray, np.ndarray], ...], n: int, k: int
) -> Blocks:
    """Blocks of S that span units, as one array per bucket: shape (N, n_b·k, n_b·k)."""
    place = np.zeros((n, 3), int)  # bucket, block, position of each unit
    arrays = []
    for b, bucket in enumerate(layout.buckets):
        position, column = np.nonzero(bucket.rows < n)
        place[bucket.rows[position, column]] = np.column_stack(
            [np.full(len(column), b), column, position]
        )
        size = bucket.rows.shape[0] * k
        arrays.append(np.zeros((bucket.rows.shape[1], size, size)))
    for rows, matrix in blocks:
        b, column, _ = place[rows[0]]
        index = (place[rows, 2][:, None] * k + np.arange(k)).ravel()
        arrays[b][column][np.ix_(index, index)] = matrix
    return tuple(arrays)
