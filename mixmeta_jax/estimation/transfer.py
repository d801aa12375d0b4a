"""The arrays that a program returns as one vector: one transfer from the device, not one each.

A small fit returns some twenty small arrays; to fetch them takes as long as to compute them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, tree

SMALL_DOWNLOAD = 100_000
"""Numbers up to which one vector is fetched faster than the arrays."""


@tree
@dataclass(frozen=True)
class OneVector:
    """A tree of arrays in one vector.

    Attributes
    ----------
    values
        The entries of all arrays, one after the other, as floats: in double precision exact for
        integers up to 2^53.
    tree, kinds
        What they are put back into, and the shape and type of each.
    """

    values: Array
    tree: Any = field(metadata={"static": True})
    kinds: tuple[tuple[tuple[int, ...], str], ...] = field(metadata={"static": True})

    def fetched(self) -> Any:
        """The tree, its arrays numpy's."""
        values, leaves, first = np.asarray(self.values), [], 0
        for shape, kind in self.kinds:
            size = math.prod(shape)
            leaf = values[first : first + size].reshape(shape)
            leaves.append(leaf if kind == "float64" else leaf.astype(kind))
            first += size
        return self.tree.unflatten(leaves)


def in_one_vector(tree: Any) -> Any:
    """A tree of arrays as one vector, inside a program; as it is where its numbers are many."""
    import jax

    leaves, structure = jax.tree_util.tree_flatten(tree)
    if sum(leaf.size for leaf in leaves) > SMALL_DOWNLOAD:
        return tree
    values = jax.numpy.concatenate([jax.numpy.ravel(leaf).astype(float) for leaf in leaves])
    return OneVector(values, structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))
