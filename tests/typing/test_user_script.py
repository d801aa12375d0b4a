"""A user's script passes a strict type checker, runs, and is refused where it is wrong."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import mixmeta_jax as mx
from mixmeta_jax import choices
from mixmeta_jax.covariance.catalogue import STRUCTURES
from mixmeta_jax.fits.arguments import BlupOptions, ModelOptions, PredictOptions, method_of
from mixmeta_jax.fits.fit import mixmeta
from mixmeta_jax.fits.predictions import TRANSFORMS
from mixmeta_jax.plots.canvas import SCALES
from mixmeta_jax.prepare.measures import KINDS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.parametrize("name", ["user_script.py", "wrong_calls.py"])
def test_mypy_says_nothing(name):
    """Of the wrong calls, whose errors are expected one by one, too."""
    api = pytest.importorskip("mypy.api")
    settings = ["--config-file", str(HERE / "mypy.ini"), "--cache-dir", str(ROOT / ".cache/mypy")]
    said, trouble, _ = api.run([*settings, str(HERE / name)])
    assert said.startswith("Success"), said + trouble


def test_the_script_runs():
    command = [sys.executable, "-W", "error", str(HERE / "user_script.py")]
    environment = {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "PATH": ""}
    subprocess.run(command, check=True, capture_output=True, env=environment)


def test_choices_are_those_of_the_tables():
    """Where a table says what each value does, it has the values of the type."""
    assert set(choices.words(choices.StructureName)) == set(STRUCTURES)
    assert set(choices.words(choices.EffectKind)) == set(KINDS)
    assert set(choices.words(choices.EffectCode)) == {kind.code for kind in KINDS.values()}
    assert choices.words(choices.RatioTransform) == tuple(SCALES)
    assert choices.words(choices.Transform) == (None, *TRANSFORMS)


def test_methods_in_capitals_are_the_methods():
    methods = choices.words(choices.Method)
    capitals = choices.words(choices.CapitalMethod)
    assert ["fixed", *(name.lower() for name in capitals)] == sorted(
        methods, key=["fixed", *(name.lower() for name in capitals)].index
    )
    for name in capitals:
        assert method_of(name, 1) == name.lower()


@pytest.mark.parametrize(
    ("function", "options", "others"),
    [
        (mx.Fit.predict, PredictOptions, {"self", "newdata", "vcov"}),
        (mx.Fit.blup, BlupOptions, {"self", "level", "vcov"}),
        (mixmeta, ModelOptions, {"formula", "S", "data", "random", "method"}),
    ],
)
def test_overloads_have_the_arguments_of_the_function(function, options, others):
    parameters = inspect.signature(function).parameters
    assert set(parameters) == set(options.__annotations__) | others
    written = get_type_hints(options)
    for name, hint in get_type_hints(function).items():
        if name in written:
            assert written[name] == hint, name
