"""The examples in docstrings are executed."""

import doctest
import importlib
from pathlib import Path

import pytest

import mixmeta_jax

ROOT = Path(mixmeta_jax.__file__).parent
WITH_EXAMPLES = [
    ".".join(("mixmeta_jax", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples(module):
    results = doctest.testmod(
        importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert results.attempted > 0
    assert results.failed == 0
