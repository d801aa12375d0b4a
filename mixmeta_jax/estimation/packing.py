"""The arrays that a program returns as one vector: one transfer from the device, not one each.

A small fit returns some twenty small arrays; to fetch them takes as long as to compute them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Packed:
    """A tree of arrays in one vector.

    Attributes
    ----------
    values
        The entries of all arrays, one after the other, as floats: in double precision exact for
        integers up to 2^53.
    tree, shapes
        What they are put back into, and the shape of each.
    """

    values: Array
    tree: Any = field(metadata={"static": True})
    shapes: tuple[tuple[int, ...], ...] = field(metadata={"static": True})

    def fetched(self) -> Any:
        """The tree, its arrays numpy's and of floats."""
        values, leaves, first = np.asarray(self.values), [], 0
        for shape in self.shapes:
            size = math.prod(shape)
            leaves.append(values[first : first + size].reshape(shape))
            first += size
        return self.tree.unflatten(leaves)


def pack(tree: Any) -> Packed:
    """A tree of arrays as one vector, inside a program."""
    leaves, structure = jax.tree_util.tree_flatten(tree)
    values = jnp.concatenate([jnp.ravel(leaf).astype(float) for leaf in leaves])
    return Packed(values, structure, tuple(leaf.shape for leaf in leaves))
