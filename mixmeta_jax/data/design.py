"""The design: what a model is made of, as one pytree of arrays.

`Design` keeps the arrays as the user has them (one row per unit), so that they can be replaced,
batched and differentiated; ``arrange`` puts them into the padded tensors of ``model.sweep``, on the
host with numpy or inside a traced function with ``jax.numpy``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from mixmeta_jax.data.layout import Bucket, Layout, build_layout
from mixmeta_jax.errors import InputError
from mixmeta_jax.model.structure import Structure

Array = Any
"""An array of numpy or of JAX: a design holds either."""

Blocks = tuple[Any, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Design:
    """A model for n units with k outcomes, p predictors and L levels.

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
    def n(self) -> int:
        """Number of units."""
        return self.X.shape[0]

    @property
    def k(self) -> int:
        """Number of outcomes."""
        return self.y.shape[1]

    @property
    def p(self) -> int:
        """Number of predictors."""
        return self.X.shape[1]

    @property
    def dims(self) -> tuple[int, ...]:
        """Number of random effects of each level, outer first."""
        return tuple(self.k * Z.shape[1] for Z in self.Z)

    @property
    def n_parameters(self) -> tuple[int, ...]:
        """Number of parameters θ of each level, outer first."""
        return tuple(s.n_parameters(d) for s, d in zip(self.structures, self.dims, strict=True))

    def Psi(self, theta: Array) -> tuple[Array, ...]:
        """Ψ of each level, outer first, at θ."""
        levels = parameters_by_level(self.structures, self.dims, theta)
        return tuple(s.psi(t, d) for s, t, d in levels)

    def without_levels(self) -> Design:
        """The fixed-effects model: S alone."""
        if isinstance(self.S, tuple):
            buckets = tuple(Bucket(bucket.rows, None, ()) for bucket in self.layout.buckets)
            layout = Layout(buckets, (), (), (), ())
        else:
            layout = build_layout(self.n, self.k, [], [])
        return replace(self, Z=(), structures=(), groups=self.groups[:, :0], layout=layout)


def _weighted(structure: Structure, d: int, rise: Array, theta: Array) -> Array:
    return 0.5 * (rise * structure.psi(theta, d)).sum()


def parameters_by_level(
    structures: tuple[Structure, ...], dims: tuple[int, ...], theta: Array
) -> list[tuple[Structure, Array, int]]:
    """Each level's structure, parameters and number of random effects, outer first."""
    ends = np.cumsum([0, *(s.n_parameters(d) for s, d in zip(structures, dims, strict=True))])
    parts = [theta[a:b] for a, b in itertools.pairwise(ends)]
    return list(zip(structures, parts, dims, strict=True))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BlockTensors:
    """The data of one bucket, batch last: N blocks of n_b units.

    The predictors carry the mask (zero where an outcome is missing); where nothing is missing,
    their outcome axis has length 1.

    Attributes
    ----------
    y
        Shape (n_b, k, N), zero where missing.
    x
        Shape (p, n_b, k or 1, N), in the orthonormal basis.
    z
        Per level, in the order inside then absorbed of the layout: shape (q, n_b, k or 1, N).
    S
        Shape (n_b, k, n_b, k, N); missing outcomes and empty places have variance 1.
    parent, same
        As in `data.layout.Bucket`; ``parent`` may be `data.layout.EqualGroups`.
    """

    y: Array
    x: Array
    z: tuple[Array, ...]
    S: Array
    parent: Any
    same: tuple[Array | None, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tensors:
    """All that the likelihood needs of a design.

    Attributes
    ----------
    blocks
        The data, bucket by bucket.
    parents, inside, absorbed, n_groups
        As in `data.layout.Layout`.
    basis
        As in `Design`.
    n_obs
        Number of observed outcomes.
    structures
        Covariance structure of each level, outermost first.
    mesh
        Devices among which the outer groups are divided, each holding its own blocks and groups
        (`data.sharding`); None for one device. ``basis``, ``n_obs`` and ``structures`` are those of
        all.
    shifts
        Per absorbed level: what was taken out of the columns [outer Z, X, y] along its Z, shape
        (d, r, G); empty where nothing was (`model.shifts`).
    """

    blocks: tuple[BlockTensors, ...]
    parents: tuple[Array, ...]
    basis: Array
    n_obs: Array
    structures: tuple[Structure, ...]
    inside: tuple[int, ...] = field(metadata={"static": True})
    absorbed: tuple[int, ...] = field(metadata={"static": True})
    n_groups: tuple[int, ...] = field(metadata={"static": True})
    mesh: jax.sharding.Mesh | None = field(default=None, metadata={"static": True})
    shifts: tuple[Array, ...] = ()

    def shift(self, a: int) -> Array | None:
        """``shifts`` of the absorbed level a, None where nothing was taken out."""
        return self.shifts[a] if self.shifts else None

    def total(self, sums: Any) -> Any:
        """Sums over the groups at hand, made sums over the groups of all devices."""
        return sums if self.mesh is None else jax.lax.psum(sums, self.mesh.axis_names)

    @property
    def dims(self) -> tuple[int, ...]:
        """Number of random effects of each level, outermost first."""
        block = self.blocks[0]
        dims = [0] * len(self.structures)
        for level, z in zip((*self.inside, *self.absorbed), block.z, strict=True):
            dims[level] = z.shape[0] * block.y.shape[1]
        return tuple(dims)

    def Psi(self, theta: Array) -> tuple[Array, ...]:
        """Ψ of each level, outermost first, at θ."""
        return tuple(s.psi(t, d) for s, t, d in self._by_level(theta))

    def slopes(self, theta: Array) -> tuple[Array, ...]:
        """∂Ψ/∂θ of each level in its own parameters, shape (d, d, n_θ of the level)."""
        return tuple(
            jax.jacfwd(functools.partial(s.psi, d=d))(t) for s, t, d in self._by_level(theta)
        )

    def curvature(self, theta: Array, rises: Sequence[Array]) -> Array:
        """½ Σ ⟨rise, ∂²Ψ/∂θ∂θᵀ⟩ over the levels, shape (n_θ, n_θ)."""
        blocks = []
        for (s, t, d), rise in zip(self._by_level(theta), rises, strict=True):
            weigh = functools.partial(_weighted, s, d, rise)
            blocks.append(jax.hessian(weigh)(t))
        return jax.scipy.linalg.block_diag(*blocks)

    def _by_level(self, theta: Array) -> list[tuple[Structure, Array, int]]:
        return parameters_by_level(self.structures, self.dims, theta)


def arrange(design: Design) -> Tensors:
    """The padded tensors of a design: numpy in, numpy out; traced in, traced out.

    Raises
    ------
    InputError
        Where ``groups`` or ``mask`` are floating-point numbers, as they are where a derivative in
        them is asked for: it would be a zero that means nothing.
    """
    _refuse_slopes("groups", design.groups, np.integer, "labels")
    _refuse_slopes("mask", design.mask, np.bool_, "what is observed")
    leaves = jax.tree_util.tree_leaves((design.y, design.X, design.S, design.mask, design.Z))
    xp: ModuleType = np if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp
    layout = design.layout
    mask = xp.asarray(design.mask)
    y = xp.where(mask, design.y, 0.0)
    X = xp.asarray(design.X) @ design.basis
    levels = [design.Z[level] for level in (*layout.inside, *layout.absorbed)]
    blocks = []
    for b, bucket in enumerate(layout.buckets):
        places = _Places(xp, bucket.rows, design.n)
        # What is observed, (n_b, k, N), or which places are filled, (n_b, 1, N).
        seen = places.filled if design.complete else places.gather(mask)
        blocks.append(
            BlockTensors(
                y=places.gather(y),
                x=places.predictors(X, seen),
                z=tuple(places.predictors(Z, seen) for Z in levels),
                S=_errors(xp, design, b, places, seen),
                parent=bucket.parent,
                same=bucket.same,
            )
        )
    return Tensors(
        tuple(blocks),
        layout.parents,
        design.basis,
        mask.sum() * 1.0,
        design.structures,
        layout.inside,
        layout.absorbed,
        layout.n_groups,
    )


def _refuse_slopes(name: str, values: Array, kind: type, meaning: str) -> None:
    if not np.issubdtype(values.dtype, kind):
        raise InputError(
            f"{name} of the design has no derivative: it holds {meaning}, not quantities that can "
            f"move. It must be of type {kind.__name__.rstrip('_')}, not {values.dtype}; "
            "differentiate in y, X or S."
        )


class _Places:
    """The places of a bucket, read from arrays with one row per unit.

    Empty places read the last row and drop it: to append a row of zeros instead compiles to a pad,
    on some shapes of which the LLVM of jaxlib 0.9.2 crashes.
    """

    def __init__(self, xp: ModuleType, rows: np.ndarray, n: int) -> None:
        self.xp = xp
        self.shape = rows.shape
        self.filled = (rows < n)[:, None]
        self._units = xp.minimum(rows, n - 1)

    def read(self, values: Array) -> Array:
        """Values of shape (n, c) as (n_b, c, N), those of the last unit in empty places."""
        return self.xp.swapaxes(values[self._units], 1, 2)

    def gather(self, values: Array) -> Array:
        """Values of shape (n, c) as (n_b, c, N), zero in empty places."""
        return self.xp.where(self.filled, self.read(values), self.xp.zeros((), values.dtype))

    def predictors(self, values: Array, weight: Array) -> Array:
        """Predictors of shape (n, c) as (c, n_b, k or 1, N), each times its weight."""
        return self.xp.swapaxes(self.gather(self.xp.asarray(values)), 0, 1)[:, :, None] * weight


def _errors(xp: ModuleType, design: Design, b: int, places: _Places, seen: Array) -> Array:
    n_b, N = places.shape
    k = design.k
    if isinstance(design.S, tuple):
        S = xp.moveaxis(_symmetric(xp, design.S[b]), 0, -1).reshape(n_b, k, n_b, k, N)
    else:
        units = places.read(_symmetric(xp, design.S).reshape(design.n, k * k))
        S = units.reshape(n_b, k, 1, k, N)
        if n_b > 1:
            S = S * np.eye(n_b)[:, None, :, None, None]
    pair = seen[:, :, None, None] & seen[None, None]
    unit = np.eye(n_b * k).reshape(n_b, k, n_b, k, 1)
    return xp.where(pair, S, unit)


def _symmetric(xp: ModuleType, S: Array) -> Array:
    """Matrices as they are where numpy holds them, else their means with their transposes.

    The eliminations read one triangle, which would get the whole derivative.
    """
    return xp.asarray(S) if isinstance(S, np.ndarray) else 0.5 * (S + jnp.swapaxes(S, -1, -2))


def orthonormal_basis(X: np.ndarray) -> np.ndarray:
    """T for which XT has columns of mean square one and no correlation, shape (p, p)."""
    n, p = X.shape
    if p == 0 or n < p:
        return np.eye(p)
    size = np.sqrt((X * X).sum(0) / n)
    size[size == 0] = 1.0
    R = np.linalg.qr(X / size, mode="r")
    diagonal = np.abs(np.diagonal(R))
    if diagonal.min() <= 1e-12 * diagonal.max():
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
