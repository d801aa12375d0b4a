"""Settings and data that all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pandas as pd
import pytest
from hypothesis import settings

from mixmeta_jax.arrays import register_trees
from tests import shapes

shapes.check()  # before any module with shapes is imported

from mixmeta_jax.estimation.programs import PROGRAMS  # noqa: E402
from tests.reference import calls  # noqa: E402

QUICK = "--xla_cpu_use_fusion_emitters=false --xla_llvm_disable_expensive_passes=true"
"""The tests run most programs once: so XLA makes them in two thirds of the time. Whoever sets
XLA_FLAGS has what they set; the parts of CI with other versions run with XLA's own choice."""
os.environ.setdefault("XLA_FLAGS", QUICK)

# XLA reports on every program that it loads from the cache; set before its first use.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# For the tests only: what one worker or run has compiled, the next one loads. Without a minimum
# compile time of 0 the cache would stay empty, since the programs are small.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# The tests hand trees of the library's own to JAX before any module that does so is imported.
register_trees()

MOST_MAPS = 25_000
"""Memory maps of a worker above which its programs are let go: one module adds some 15,000."""

# Compilation takes the first example far past any deadline; no test asserts a duration.
settings.register_profile("mixmeta_jax", deadline=None, max_examples=30)
settings.load_profile("mixmeta_jax")


@pytest.fixture(scope="module", autouse=True)
def _few_memory_maps() -> Iterator[None]:
    """Let go of all programs where they hold many memory maps, of which Linux allows 65,530.

    A worker that kept its programs to the end came to 64,000, or died in the load of the next one.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        PROGRAMS.clear()
        jax.clear_caches()


@pytest.fixture(scope="session")
def thrombolytic() -> pd.DataFrame:
    """The thrombolytic data from the folder named by MIXMETA_JAX_DATA; skips without it."""
    return calls.thrombolytic()
