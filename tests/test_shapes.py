"""That the shapes in annotations are checked, in whole tests and traced ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmeta_jax.inference.prediction import quadratic_form
from mixmeta_jax.likelihood.algebra import gram

jaxtyping = pytest.importorskip("jaxtyping")


def test_a_wrong_shape_is_refused():
    quadratic_form(np.ones((3, 2)), np.eye(4), 2)
    with pytest.raises(jaxtyping.TypeCheckError, match="matrix"):
        quadratic_form(np.ones((3, 2)), np.ones((4, 2)), 2)
    with pytest.raises(jaxtyping.TypeCheckError, match="rows"):
        quadratic_form(np.ones((3, 2), int), np.eye(4), 2)


def test_what_was_right_once_is_no_excuse_for_another_shape():
    left, right = np.ones((2, 3, 5, 1)), np.ones((4, 3, 5, 1))
    assert gram(left, right).shape == (2, 4, 1)
    with pytest.raises(jaxtyping.TypeCheckError):
        gram(left, right[:, :2])


def test_tracers_are_checked_too():
    with pytest.raises(jaxtyping.TypeCheckError):
        jax.jit(gram)(jnp.ones((2, 3, 5, 1)), jnp.ones((4, 2, 5, 1)))
