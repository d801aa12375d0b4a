"""Every public name has an example in its docstring, and the examples are executed."""

import doctest
import importlib
import inspect
import sys
from pathlib import Path

import pytest

import mixmeta_jax
from mixmeta_jax.many.named_array import NamedArray
from mixmeta_jax.plots.accessor import OF_FITS
from mixmeta_jax.report.summary import SummaryResult
from tests.arguments import NOT_CALLED, fit
from tests.test_arguments import PUBLIC, called

ROOT = Path(mixmeta_jax.__file__).parent
WITH_EXAMPLES = [
    ".".join(("mixmeta_jax", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text()
]

RESULTS = (NamedArray, SummaryResult)
"""Classes of results with methods that legal arguments are not listed for."""


def documented():
    """Docstrings of public functions, classes, methods and pictures, by name."""
    found = {name: called(name) for name in PUBLIC}
    found |= {name: getattr(mixmeta_jax, name) for name in NOT_CALLED}
    for kind in RESULTS:
        own = {f"{kind.__name__}.{name}": value for name, value in vars(kind).items()}
        functions = {name: value for name, value in own.items() if inspect.isfunction(value)}
        found |= {kind.__name__: kind} | {n: v for n, v in functions.items() if "._" not in n}
    found |= {f"fit.plot.{name}": getattr(fit().plot, name) for name in OF_FITS}
    return {name: inspect.getdoc(value) or "" for name, value in found.items()}


def test_every_public_name_has_an_example_that_shows_a_result():
    lacking = []
    for name, text in documented().items():
        examples = doctest.DocTestParser().get_examples(text)
        left_out = any(doctest.SKIP in example.options for example in examples)
        headed = "Examples\n--------\n" in text
        if left_out or not headed or not any(example.want for example in examples):
            lacking.append(name)
    assert not lacking, "their docstrings lack an example that runs and shows a result"


@pytest.fixture
def _figures_closed():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.mark.parametrize("module", WITH_EXAMPLES)
@pytest.mark.usefixtures("_figures_closed")
def test_examples(module):
    results = doctest.testmod(
        importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert results.attempted > 0
    assert results.failed == 0
