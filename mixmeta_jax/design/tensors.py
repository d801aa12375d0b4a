"""A design in padded tensors: N blocks of n_b units, B data sets, these two the last axes.

What all data sets share has B = 1; for one data set B is 1 throughout. Numpy's arrays give
numpy's; a design with arrays of JAX, which may be traced, gives JAX's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, Float, namespace, shaped, tree
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.design.design import Design, parameters_by_level
from mixmeta_jax.design.layout import family_length, in_order
from mixmeta_jax.errors import InputError


@tree
@dataclass(frozen=True)
class Block:
    """The data of one bucket.

    Attributes
    ----------
    y
        Outcomes, shape (n_b, k, N, B), zero where missing.
    x
        Predictors in the orthonormal basis, shape (p, n_b, k or 1, N, B). They carry the mask (zero
        where an outcome is missing); where nothing is missing their outcome axis has length 1.
    z
        The same of each level, in the order inside then absorbed of the layout, (q, n_b, k or 1, N,
        B) each.
    S
        Error covariances, shape (n_b, k, n_b, k, N, B), or (n_b, k, 1, k, N, B) of each unit with
        itself alone; missing outcomes and empty places have variance 1.
    seen
        Which outcomes are observed, where that differs between data sets, shape (n_b, k, N, B): the
        other arrays do not carry the mask then, until `masked` has put it there. Else None.
    parent, same
        As in `design.layout.Bucket`, ``same`` with a last axis of length 1; ``parent`` may be
        `design.layout.EqualGroups`.
    """

    y: Array
    x: Array
    z: tuple[Array, ...]
    S: Array
    seen: Array | None
    parent: Any
    same: tuple[Array | None, ...]


@tree
@dataclass(frozen=True)
class Tensors:
    """All that the likelihood needs of a design.

    Attributes
    ----------
    blocks
        The data, bucket by bucket.
    parents, inside, absorbed, n_groups
        As in `design.layout.Layout`.
    n_obs
        Number of observed outcomes, shape (B,) or (1,).
    structures
        Covariance structure of each level, outermost first.
    mesh
        Devices among which the outer groups are divided, each holding its own blocks and groups
        (`design.sharding`); None for one device. ``n_obs`` and ``structures`` are those of all.
    absent
        1 for predictors that are there only to fill their number up, shape (p,); None where none
        is. Their columns are null, and their coefficients have the variance 1.
    shifts
        Per absorbed level: what was taken out of the columns [outer Z, X, y] along its Z, shape
        (d, r, G, B); empty where nothing was (`likelihood.shifts`).
    """

    blocks: tuple[Block, ...]
    parents: tuple[Any, ...]
    n_obs: Array
    structures: tuple[Structure, ...]
    inside: tuple[int, ...] = field(metadata={"static": True})
    absorbed: tuple[int, ...] = field(metadata={"static": True})
    n_groups: tuple[int, ...] = field(metadata={"static": True})
    mesh: Any = field(default=None, metadata={"static": True})
    absent: Array | None = None
    shifts: tuple[Array, ...] = ()

    @property
    def k(self) -> int:
        """Number of outcomes."""
        return self.blocks[0].y.shape[1]

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients P = p·k."""
        return self.blocks[0].x.shape[0] * self.k

    @property
    def n_fixed(self) -> Any:
        """Number of coefficients, without those that only fill their number up."""
        if self.absent is None:
            return self.n_coefficients
        return self.n_coefficients - self.k * self.absent.sum()

    def with_absent(self, products: Array, copies: int) -> Array:
        """Products of predictors, (p·copies, p·copies, ...), made regular for those absent."""
        if self.absent is None:
            return products
        xp = namespace(products, self.absent)
        diagonal = xp.repeat(self.absent, copies)[:, None] * np.eye(len(self.absent) * copies)
        return products + diagonal.reshape(*diagonal.shape, *(1,) * (products.ndim - 2))

    @property
    def dims(self) -> tuple[int, ...]:
        """Number of random effects of each level, outermost first."""
        dims = [0] * len(self.structures)
        for level, z in zip((*self.inside, *self.absorbed), self.blocks[0].z, strict=True):
            dims[level] = z.shape[0] * self.k
        return tuple(dims)

    def shift(self, a: int) -> Array | None:
        """``shifts`` of the absorbed level a, None where nothing was taken out."""
        return self.shifts[a] if self.shifts else None

    def total(self, sums: Any) -> Any:
        """Sums over the groups at hand, made sums over the groups of all devices."""
        if self.mesh is None:
            return sums
        import jax

        return jax.lax.psum(sums, self.mesh.axis_names)

    @shaped
    def Psi(self, theta: Float[Array, "theta ..."]) -> tuple[Float[Array, "_ _ ..."], ...]:
        """Ψ of each level, outermost first, (d, d, B), at θ of shape (n_θ, B), or without B."""
        return tuple(s.matrices(t, d) for s, t, d in self._by_level(theta))

    @shaped
    def slopes(self, theta: Float[Array, "theta ..."]) -> tuple[Float[Array, "_ _ _ ..."], ...]:
        """∂Ψ/∂θ of each level in its own parameters, shape (d, d, n_θ of the level, B)."""
        return tuple(s.slopes(t, d) for s, t, d in self._by_level(theta))

    @shaped
    def curvature(
        self, theta: Float[Array, "theta B"], gradients: tuple[Float[Array, "_ _ #B"], ...]
    ) -> Float[Array, "theta theta B"]:
        """½ Σ ⟨gradient, ∂²Ψ/∂θ∂θᵀ⟩ over the levels, shape (n_θ, n_θ, B)."""
        xp = namespace(theta, *gradients)
        n, first, rows = len(theta), 0, []
        for (s, t, d), gradient in zip(self._by_level(theta), gradients, strict=True):
            own = s.curvature(t, d, gradient)
            if len(own) == n:
                return own
            left = xp.zeros((len(own), first, own.shape[2]))
            right = xp.zeros((len(own), n - first - len(own), own.shape[2]))
            rows.append(xp.concatenate([left, own, right], 1))
            first += len(own)
        return xp.concatenate(rows)

    def _by_level(self, theta: Array) -> list[tuple[Structure, Array, int]]:
        return parameters_by_level(self.structures, self.dims, theta)


def arrange(design: Design, equal: bool = False) -> Tensors:
    """The tensors of a design; with ``equal``, groups of one size in order are marked as such.

    They sum faster then, in a program of their own.

    Raises
    ------
    InputError
        Where ``groups`` or ``mask`` are floating-point numbers, as they are where a derivative in
        them is asked for: it would be a zero that means nothing.
    """
    _refuse_slopes("groups", design.groups, np.integer, "labels")
    _refuse_slopes("mask", design.mask, np.bool_, "what is observed")
    layout = design.layout
    counts = layout.n_groups
    parents: Any = layout.parents
    above: Any = [bucket.parent for bucket in layout.buckets]
    if equal:
        parents = tuple(map(in_order, parents, counts[1:]))
        above = [in_order(parent, (*counts, 1)[0]) for parent in above]
    blocks = tuple(
        Block(
            **_own_arrays(design, b),
            parent=above[b],
            same=tuple(None if same is None else same[..., None] for same in bucket.same),
        )
        for b, bucket in enumerate(layout.buckets)
    )
    mask = namespace(design.mask).asarray(design.mask)
    n_obs = mask.sum((-2, -1)) * 1.0
    return Tensors(
        blocks,
        parents,
        n_obs.reshape(-1),
        design.structures,
        layout.inside,
        layout.absorbed,
        counts,
    )


def filled_up(tensors: Tensors) -> Tensors:
    """The data with null predictors up to a number from a short list; see `Tensors.absent`."""
    p = len(tensors.blocks[0].x)
    width = family_length(p)
    blocks = tuple(replace(block, x=_widened(block.x, width)) for block in tensors.blocks)
    return replace(tensors, blocks=blocks, absent=1.0 * (np.arange(width) >= p))


def _widened(x: Array, width: int) -> Array:
    """Predictors with null ones up to a number."""
    null = np.zeros((width - len(x), *x.shape[1:]))
    return namespace(x).concatenate([x, null]) if len(null) else x


def shared_by_all(design: Design) -> Tensors:
    """What the data sets of a design share, for `of_members`; the rest is that of the first."""
    first = design.taken(np.arange(1))
    if design.mask.ndim == 3:
        first = replace(first, mask=design.mask.any(0, keepdims=True))
    return arrange(first, equal=True)


def of_members(shared: Tensors, design: Design, members: Any) -> Tensors:
    """The tensors of some data sets, those arrays that all share taken from ``shared``."""
    own = design.taken(members)
    blocks = []
    for b, block in enumerate(shared.blocks):
        arrays = _own_arrays(own, b, alone=True)
        if "x" in arrays:  # theirs may be filled up
            arrays["x"] = _widened(arrays["x"], len(block.x))
        blocks.append(replace(block, **arrays))
    n_obs = shared.n_obs
    if own.mask.ndim == 3:
        n_obs = own.mask.sum((1, 2)) * 1.0
    return replace(shared, blocks=tuple(blocks), n_obs=n_obs)


def masked(tensors: Tensors) -> Tensors:
    """The data with the mask of each data set in them, and S between all units of a block."""
    return replace(tensors, blocks=tuple(_masked(block) for block in tensors.blocks))


def _masked(block: Block) -> Block:
    xp = namespace(block.y, block.S, block.x)
    n_b, k = block.y.shape[:2]
    x, z, S = block.x, block.z, block.S
    if S.shape[2] < n_b:
        S = S * np.eye(n_b)[:, None, :, None, None, None]
    if block.seen is not None:
        seen = block.seen
        x, z = x * seen, tuple(predictors * seen for predictors in z)
        pair = seen[:, :, None, None] & seen[None, None]
        S = xp.where(pair, S, np.eye(n_b * k).reshape(n_b, k, n_b, k, 1, 1))
    return replace(block, x=x, z=z, S=S, seen=None)


def _own_arrays(design: Design, b: int, alone: bool = False) -> dict[str, Any]:
    """The arrays of a bucket; ``alone``: only those that differ between data sets."""
    arrays = (design.y, design.X, design.mask, *design.Z)
    errors = design.S if isinstance(design.S, tuple) else (design.S,)
    xp = namespace(*arrays, *errors)
    bucket = design.layout.buckets[b]
    places = _Places(xp, bucket.rows, design.n)
    varies = design.mask.ndim == 3
    seen = None
    weight: Any = places.filled[..., None]
    if not design.complete:
        seen = places.gather(xp.asarray(design.mask))
        weight = weight if varies else seen
    made: dict[str, Any] = {}
    if not alone or design.y.ndim == 3:
        made["y"] = places.gather(xp.where(design.mask, design.y, 0.0))
    if not alone or varies:
        made["seen"] = seen if varies else None
    if not alone or design.X.ndim == 3:
        made["x"] = places.predictors(xp.asarray(design.X) @ design.basis, weight)
    if not alone or any(Z.ndim == 3 for Z in design.Z):
        levels = [design.Z[level] for level in (*design.layout.inside, *design.layout.absorbed)]
        made["z"] = tuple(places.predictors(xp.asarray(Z), weight) for Z in levels)
    if not alone or (not isinstance(design.S, tuple) and design.S.ndim == 4):
        made["S"] = _errors(xp, design, b, places, seen)
    return made


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
        self.full = bool((np.asarray(rows) < n).all()) if isinstance(rows, np.ndarray) else False
        self.filled = (rows < n)[:, None]
        self._units = xp.minimum(rows, n - 1)

    def read(self, values: Array) -> Array:
        """Values (n, c) or (B, n, c) as (n_b, c, N, B), those of the last unit in empty places."""
        xp = self.xp
        values = values[..., None] if values.ndim == 2 else xp.moveaxis(values, 0, -1)
        if xp is np:
            values = np.ascontiguousarray(values)
        return xp.swapaxes(values[self._units], 1, 2)

    def gather(self, values: Array) -> Array:
        """The same, zero in empty places."""
        read = self.read(values)
        if self.full:
            return read
        return self.xp.where(self.filled[..., None], read, self.xp.zeros((), values.dtype))

    def predictors(self, values: Array, weight: Array) -> Array:
        """Predictors (n, c) or (B, n, c) as (c, n_b, k or 1, N, B), each times its weight."""
        return self.xp.swapaxes(self.gather(values), 0, 1)[:, :, None] * weight


def _errors(xp: ModuleType, design: Design, b: int, places: _Places, seen: Array | None) -> Array:
    """S of a bucket; 1 where an outcome is missing, in all data sets where that differs."""
    n_b, N = design.layout.buckets[b].rows.shape
    k = design.k
    if isinstance(design.S, tuple):
        S = xp.moveaxis(_symmetric(xp, design.S[b]), 0, -1).reshape(n_b, k, n_b, k, N, 1)
        axis = n_b
    else:
        S = _symmetric(xp, design.S)
        if design.mask.ndim == 3 and S.ndim == 4:
            # What is not observed is not read: it may be anything.
            pair = design.mask[..., :, None] & design.mask[..., None, :]
            S = xp.where(pair, S, np.eye(k))
        S = places.read(S.reshape(*S.shape[:-2], k * k))
        S = S.reshape(n_b, k, 1, k, N, -1)
        axis = 1
    there = places.filled[..., None] & np.ones((1, k, 1, 1), bool)
    if seen is not None:
        there = seen.any(-1, keepdims=True) if design.mask.ndim == 3 else seen
    if axis == 1:
        pair = there[:, :, None, None] & there[:, None, None, :]
        unit = np.eye(k)[None, :, None, :, None, None]
    else:
        pair = there[:, :, None, None] & there[None, None]
        unit = np.eye(n_b * k).reshape(n_b, k, n_b, k, 1, 1)
    return xp.where(pair, S, unit)


def _symmetric(xp: ModuleType, S: Array) -> Array:
    """Matrices as they are where numpy holds them, else their means with their transposes.

    The eliminations read one triangle, which would get the whole derivative.
    """
    return xp.asarray(S) if isinstance(S, np.ndarray) else 0.5 * (S + xp.swapaxes(S, -1, -2))
