"""Values that JAX traces, told apart without importing JAX: a fit of numbers does not need it."""

from mixmeta_jax.arrays import is_traced
from mixmeta_jax.arrays import traced_namespace as namespace

__all__ = ["is_traced", "namespace"]
