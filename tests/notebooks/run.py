"""Executes the notebooks, stores what they print, and says where a stored output is not that.

``python -m tests.notebooks.run [NAME ...]`` executes them, all or those whose name begins so, and
stores the outputs. Tags of cells: ``varies`` for numbers that another machine or version has
otherwise (timings, draws of a sampler), which are not compared; ``thrombolytic`` for cells that need
those data, which are compared where the environment variable ``MIXMETA_JAX_DATA`` names their folder.
"""

import os
import re
import sys
import tempfile
from itertools import zip_longest
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

RELATIVE = 1e-3
"""Of a number with decimals: what is printed is rounded, and samples of other versions differ."""

UNIT = 1.01
"""The same in units of its last printed digit, which rounding may move by one."""

NUMBER = re.compile(r"[-+\u2212]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")

QUIET = "ignore:IProgress not found"
"""What tqdm says in a notebook without ipywidgets, for a bar that is not drawn."""

OF_A_MACHINE = re.compile(r"/(?:home|Users|root|tmp|work|usr|opt)/\S*|0x[0-9a-f]{6,}")
"""Paths and addresses in memory."""


def executed(notebook, folder):
    """The notebook with the outputs of a run in a folder; nothing of the given one is changed."""
    notebook = nbformat.from_dict(notebook)
    kept = dict(notebook.metadata)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, "PYTHONWARNINGS": QUIET})
    notebook.metadata = nbformat.from_dict(kept)  # not the Python of this machine
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return notebook


def joined(outputs):
    """The outputs, those of one stream in a row as one: what comes in how many pieces is chance."""
    found = []
    for output in outputs:
        if found and output.output_type == "stream" and output.get("name") == found[-1].get("name"):
            found[-1] = nbformat.from_dict({**found[-1], "text": found[-1].text + output.text})
        else:
            found.append(output)
    return found


def printed(cell):
    """The text that a code cell has printed or shown."""
    parts = []
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            parts.append(output["text"])
        else:
            parts.append(output.get("data", {}).get("text/plain", ""))
    return "\n".join(map("".join, parts))


def noise(notebook):
    """What a stored notebook must not have: warnings and errors, paths, addresses, gaps in order."""
    found, count = [], 0
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        count += 1
        if cell.execution_count != count:
            found.append(f"cell {number} was not executed in the order of the cells")
        for output in cell.outputs:
            if output["output_type"] == "error" or output.get("name") == "stderr":
                found.append(f"cell {number} has an error or a warning")
        own = OF_A_MACHINE.search(printed(cell))
        if own:
            found.append(f"cell {number} shows {own.group()!r}, which is of one machine")
    return found


def differences(stored, found):
    """Where the outputs of two runs of a notebook differ, a sentence each."""
    has_data = bool(os.environ.get("MIXMETA_JAX_DATA"))
    told = []
    for number, (old, new) in enumerate(zip_longest(stored.cells, found.cells)):
        if old is None or new is None or old.cell_type != "code":
            continue
        tags = old.metadata.get("tags", [])
        if bool(old.outputs) != bool(new.outputs):
            told.append(f"cell {number} has {'an output' if old.outputs else 'none'} stored alone")
        kinds = [[sorted(o.get("data", {"text": ""})) for o in cell.outputs] for cell in (old, new)]
        if kinds[0] != kinds[1] and bool(old.outputs) == bool(new.outputs):
            told.append(f"cell {number} has other kinds of outputs: {kinds[0]}, now {kinds[1]}")
        if "varies" in tags or ("thrombolytic" in tags and not has_data):
            continue
        why = text_difference(printed(old), printed(new))
        if why:
            told.append(f"cell {number}: {why}")
    return told


def text_difference(old, new):
    """How two texts differ other than by small parts of their numbers; empty where they do not."""
    for a, b in zip_longest(words(old), words(new), fillvalue=""):
        if not alike(a, b):
            return f"stored {a!r}, now {b!r}"
    return ""


def words(text):
    """Numbers, and what stands between them without white space and rules of tables."""
    between = NUMBER.split(text)
    numbers = [*NUMBER.findall(text), ""]
    pairs = zip(between, numbers, strict=True)
    return [part for b, n in pairs for part in ("".join(re.findall(r"[^\s\-]+", b)), n)]


def alike(a, b):
    """Whether two words or numbers are the same, up to rounding of numbers with decimals."""
    if a == b:
        return True
    if not (NUMBER.fullmatch(a) and NUMBER.fullmatch(b)) or not ({".", "e"} & set(a + b)):
        return False
    x, y = (float(text.replace("\u2212", "-")) for text in (a, b))
    unit = max(last_digit(a), last_digit(b))
    return abs(x - y) <= max(RELATIVE * max(abs(x), abs(y)), UNIT * unit)


def last_digit(text):
    """What one more in the last digit of a number would add."""
    digits, _, exponent = text.lower().partition("e")
    places = len(digits.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - places)


def main(names):
    for path in NOTEBOOKS:
        if names and not path.stem.startswith(tuple(names)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(nbformat.read(path, as_version=4), folder)
        problems = noise(notebook)
        nbformat.write(notebook, path)
        print(path.stem, *(problems or ["stored"]), sep="\n  ")


if __name__ == "__main__":
    main(sys.argv[1:])
