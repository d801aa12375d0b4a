"""The pages for those who change the code name what is there: files, modules, functions."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mixmeta_jax"
PAGES = ("CONTRIBUTING.md", "mixmeta_jax/likelihood/README.md")

# Names of other programs, of Python, and of what a reader sees rather than a module has.
OTHERS = {
    *("metafor", "mvmeta", "dosresmeta", "eval", "np", "jnp", "jax.jit", "thrombolytic.csv"),
    "thrombolytic",  # a tag of notebooks
    *("MIXMETA_JAX_DATA", "__init__", "__main__"),
}

NAMES, MEMBERS = set(), set()
for path in PACKAGE.rglob("*.py"):
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    top = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            top.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            top.add(node.id)
        elif isinstance(node, ast.arg):
            NAMES.add(node.arg)
        if isinstance(node, ast.ClassDef):
            for part in ast.walk(node):
                if isinstance(part, ast.FunctionDef):
                    MEMBERS |= {f"{node.name}.{part.name}", f"{module}.{node.name}.{part.name}"}
                elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    MEMBERS.add(f"{node.name}.{part.target.id}")
    NAMES |= top | {module, *module.split(".")}
    MEMBERS |= {f"{module}.{name}" for name in top}


def is_there(name):
    if "/" in name or name.endswith((".py", ".pyi", ".md")):
        return any((folder / name).exists() for folder in (ROOT, PACKAGE))
    name = name.lstrip(".").removesuffix("()")
    if "*" in name:
        pattern = re.compile(name.replace(".", r"\.").replace("*", r"\w+"))
        return any(pattern.fullmatch(other) for other in NAMES)
    if name in NAMES or name in MEMBERS:
        return True
    return "." in name and any(member.endswith(f".{name}") for member in MEMBERS)


def names_in(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    quoted = set(re.findall(r"`([^`\n]+)`", text))
    # What holds a space, a sign or a call is code to type, not a name.
    return {name for name in quoted if re.fullmatch(r"[\w./*]+(\(\))?", name)} - OTHERS


@pytest.mark.parametrize("page", PAGES)
def test_every_name_is_there(page):
    names = names_in(page)
    assert len(names) > 50
    assert not {name for name in names if not is_there(name)}


def test_what_is_not_there_is_noticed():
    for name in ("data/traced.py", "estimation.search.nothing", "Nothing", "Tensors.nothing"):
        assert not is_there(name)
    for name in ("table/rules.py", "estimation.search.search", "ManyFits", "Tensors.total"):
        assert is_there(name)


def test_the_part_that_ci_runs_is_there():
    part = re.search(r"part=\((.*?)\)", (ROOT / ".ci" / "run").read_text(), re.DOTALL)[1].split()
    assert part and all((ROOT / path).exists() for path in part)
