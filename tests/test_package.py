"""What ``import mixmeta_jax`` offers, and which versions of other packages it runs with."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mixmeta_jax as mx

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_dir_shows_the_public_names_and_nothing_else():
    assert dir(mx) == sorted([*mx.__all__, "__version__"])
    assert len(set(mx.__all__)) == len(mx.__all__)


@pytest.mark.parametrize("name", mx.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(mx, name).__doc__


def test_type_checkers_know_the_public_names():
    tree = ast.parse((ROOT / "mixmeta_jax" / "__init__.pyi").read_text())
    imported = [
        (alias.asname, node.module)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(imported) == sorted([*mx._HOME_OF.items(), ("plots", "mixmeta_jax")])


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="nothing"):
        _ = mx.nothing


def test_the_version_is_that_of_the_package():
    assert mx.__version__ == importlib.metadata.version("mixmeta_jax") == PROJECT["version"]


def test_the_import_does_not_look_the_version_up():
    code = "import sys, mixmeta_jax; print('importlib.metadata' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert ran.stdout.strip() == "False"


def test_the_lowest_versions_are_those_that_are_allowed():
    """CI runs with them: a bound that is raised in one place is raised in the other."""
    lowest = (ROOT / "tests" / "lowest.txt").read_text().split("\n")
    pinned = dict(line.split("==") for line in lowest if "==" in line)
    for requirement in PROJECT["dependencies"]:
        name, bound = re.match(r"([\w.-]+)>=([\d.]+)", requirement).groups()
        full = ".".join([*bound.split("."), "0", "0"][:3])
        assert pinned.pop(name) in (bound, full), name
    assert not set(pinned) - {"pytest", "pytest-xdist", "hypothesis", "mpmath"}
