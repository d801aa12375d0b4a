"""The package's architecture, held by reading its source: imports run one way."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "mixmeta_jax"
ROOT = Path(__file__).parents[1] / PACKAGE

# A module imports from its own row and the rows above it. A folder stands for its modules, unless a
# module is named by itself.
LAYERS = (
    (
        "arrays",
        "choices",
        "errors",
        "forking",
        "gates",
        "memory",
        "status",
        "control",
        "tolerances",
    ),
    ("covariance",),
    ("table", "formulas", "prepare"),
    ("design", "table.frame_design"),
    ("likelihood",),
    ("estimation",),
    ("inference",),
    ("fits", "report"),
    ("many", "functional"),
    (
        "fits.fit",
        "fits.coefficient_methods",
        "fits.familiar_names",
        "fits.diagnostic_methods",
        "fits.mean_methods",
        "fits.prediction_methods",
        "plots",
        "fits.variance_methods",
        "two_stage",
    ),
    ("__main__", ""),
)
# Outside the rows: may be imported by the edges only, and imports nothing but errors and gates.
STANDALONE = ("datasets",)

# Frames and formulas stay at the edges: these have none.
NUMERICAL = (
    "arrays",
    "choices",
    "errors",
    "forking",
    "gates",
    "memory",
    "status",
    "control",
    "tolerances",
    "covariance",
    "design",
    "likelihood",
    "estimation",
)
FRAMES = ("pandas", "formulaic", "narwhals")

MAX_LINES = 400


def modules():
    """Name within the package (the package itself is "") and file of every module."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


FILES = dict(modules())


def covers(entry, module):
    return module == entry or (entry != "" and module.startswith(f"{entry}."))


def layer(module):
    """Index of the row, by the longest entry that covers the module."""
    found = [(len(e), i) for i, row in enumerate(LAYERS) for e in row if covers(e, module)]
    assert found, f"{module} is in no layer: give it a row in LAYERS"
    return max(found)[1]


def imported(node):
    """Full names that an import statement may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def own_imports(tree):
    """Modules of the package that a tree imports."""
    found = set()
    for node in ast.walk(tree):
        for name in imported(node):
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                inner = name.removeprefix(PACKAGE).removeprefix(".")
                # ``from package.module import object`` names an object of the module.
                found.add(inner if inner in FILES else inner.rpartition(".")[0])
    return found


TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}
IMPORTS = {module: own_imports(tree) for module, tree in TREES.items()}


def is_standalone(module):
    return any(covers(entry, module) for entry in STANDALONE)


def test_the_package_was_found():
    assert {"", "errors", "fits.fit"} <= set(FILES)


@pytest.mark.parametrize("module", FILES)
def test_imports_run_one_way(module):
    if is_standalone(module):
        assert all(m in ("errors", "gates") or is_standalone(m) for m in IMPORTS[module])
        return
    for other in IMPORTS[module]:
        if is_standalone(other):
            assert layer(module) == len(LAYERS) - 1, f"{module} imports the data sets"
        else:
            assert layer(other) <= layer(module), f"{module} imports {other}, which lies above it"


def test_there_is_no_import_cycle():
    tuple(TopologicalSorter(IMPORTS).static_order())


@pytest.mark.parametrize("module", FILES)
def test_frames_and_formulas_stay_at_the_edges(module):
    if any(covers(entry, module) for entry in NUMERICAL):
        loaded = {name.partition(".")[0] for n in ast.walk(TREES[module]) for name in imported(n)}
        assert not loaded & set(FRAMES)


@pytest.mark.parametrize("module", FILES)
def test_no_function_imports_our_own_modules(module):
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not own_imports(node), f"{node.name} imports inside itself"


@pytest.mark.parametrize("module", FILES)
def test_modules_are_short(module):
    assert len(FILES[module].read_text().splitlines()) <= MAX_LINES


def assigned(node):
    """Names that a statement at the head of a module defines."""
    if isinstance(node, ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return []


def test_no_class_and_no_constant_has_a_name_twice():
    homes = {}
    for module, tree in TREES.items():
        for name in (name for node in tree.body for name in assigned(node)):
            homes.setdefault(name, []).append(module)
    del homes["__all__"]
    assert not {name: found for name, found in homes.items() if len(found) > 1}


# Numbers in scientific notation that are no thresholds, and what they are.
NUMBERS = {
    "memory": {1e9},  # bytes
    "plots.canvas": {1e-9},  # rounding at the ends of an axis
    "inference.drawn": {1e-9},  # rounding of a rank
    "inference.profiles": {1e-9},  # keeps a bracket open
    "covariance.structure": {1e-12},  # keeps a square root differentiable
    "estimation.executors": {1e-3, 1.2e-8, 1e-10},  # seconds
    "inference.wald": {1e-3, 1e-300, 1e-16},  # of a bracket; of the normal quantile's domain
    "prepare.dose_response": {1e-3, 1e-9, 1e-14, 1e-15},  # brackets and precision of root finders
    "table.levels": {1e-300},  # in the place of a zero to divide by
}


@pytest.mark.parametrize("module", FILES)
def test_thresholds_have_one_place(module):
    """Small and large numbers stand in `tolerances`, and nowhere else but for a known reason."""
    if module in ("tolerances", "control") or is_standalone(module):
        return
    source = FILES[module].read_text()
    written = [
        ast.get_source_segment(source, n)
        for n in ast.walk(TREES[module])
        if isinstance(n, ast.Constant) and isinstance(n.value, float)
    ]
    found = {float(text) for text in written if "e" in text.lower()}
    assert not found - NUMBERS.get(module, set())


def test_only_what_traces_imports_jax_at_its_head():
    """A small fit needs none of it: others import it where they use it."""
    tracing = {
        "functional.model",
        "functional.estimates",
        "functional.bayes",
        "functional.simulation",
        "estimation.implicit",
    }
    heads = {
        module
        for module, tree in TREES.items()
        for node in tree.body
        if any(name.partition(".")[0] in ("jax", "jaxlib") for name in imported(node))
    }
    assert heads == tracing


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT.parent,
        env={"PATH": "", **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_importing_changes_no_configuration():
    code = """
import warnings, jax, numpy, pandas
import formulaic, scipy.special  # which add warning filters of their own
before = dict(jax.config.values), numpy.geterr(), list(warnings.filters)
options = pandas.describe_option(_print_desc=False)
import mixmeta_jax
assert (dict(jax.config.values), numpy.geterr(), list(warnings.filters)) == before
assert pandas.describe_option(_print_desc=False) == options
"""
    run(code)


def test_importing_starts_no_device():
    # With a platform that does not exist, whatever touches a device fails.
    run("import mixmeta_jax", JAX_PLATFORMS="none_such")


def test_importing_loads_only_what_a_fit_needs():
    heavy = {"matplotlib", "numpyro", "optax", "tqdm", "polars", "IPython", "scipy.stats"}
    heavy |= {"scipy.optimize", "scipy.interpolate", "jax", "jaxlib"}
    loaded = run("import sys, mixmeta_jax.fits.fit; print(*sys.modules)").split()
    assert not heavy & set(loaded)
