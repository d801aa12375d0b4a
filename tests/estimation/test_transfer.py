"""Results that a program returns as one vector."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from mixmeta_jax.estimation.transfer import SMALL_DOWNLOAD, OneVector, in_one_vector


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pair:
    matrix: jax.Array
    count: jax.Array


def test_a_tree_comes_back_as_it_was():
    whole = jnp.asarray([True, False])
    tree = {"pair": Pair(jnp.arange(6.0).reshape(2, 3), jnp.asarray(7)), "none": (), "x": [0.5]}
    with jax.enable_x64(True):
        large = 2**53 - 1
        packed = jax.jit(lambda tree, count: in_one_vector((tree, count, whole)))(tree, large)
        back, count, flags = packed.fetched()
    assert packed.values.shape == (11,)
    assert count == large and count.dtype == int
    assert isinstance(back["pair"], Pair) and back["none"] == ()
    np.testing.assert_array_equal(back["pair"].matrix, tree["pair"].matrix)
    assert back["pair"].count == 7 and back["x"] == [0.5]
    assert flags.tolist() == [True, False] and flags.dtype == bool
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((back, count)))


def test_many_numbers_stay_arrays():
    few, many = jnp.zeros(SMALL_DOWNLOAD), jnp.zeros(SMALL_DOWNLOAD + 1)
    assert isinstance(in_one_vector((few,)), OneVector)
    assert not isinstance(in_one_vector((many,)), OneVector)
