"""The notebooks run from top to bottom, and print what is stored with them."""

import nbformat
import pytest

from tests.notebooks import run


def test_notebooks_were_found():
    assert run.NOTEBOOKS


@pytest.mark.parametrize("path", run.NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, tmp_path):
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    assert run.noise(stored) == []
    found = run.executed(stored, tmp_path)
    assert run.noise(found) == []
    assert run.differences(stored, found) == []


def notebook(*texts, tags=(), kind="stdout"):
    """A code cell for each text, which printed it; None for no output."""
    cells = []
    for count, text in enumerate(texts, 1):
        outputs = [] if text is None else [nbformat.v4.new_output("stream", name=kind, text=text)]
        cell = nbformat.v4.new_code_cell("print()", outputs=outputs, execution_count=count)
        cell.metadata["tags"] = list(tags)
        cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("tau2 = 0.300000", "tau2 = 0.300290", True),  # 0.97 of a thousandth
        ("tau2 = 0.300000", "tau2 = 0.300310", False),  # 1.03 of it
        ("p 0.0012", "p 0.0013", True),  # one unit of the last digit
        ("p 0.0012", "p 0.0014", False),
        ("1.5e-10", "1.6e-10", True),
        ("1.5e-10", "1.7e-10", False),
        ("13 units", "13  units", True),  # the width of a column
        ("13 units", "14 units", False),  # a count is what it is
        ("2000 rows", "2001 rows", False),
        ("-0.500", "0.500", False),
        ("status CONVERGED", "status BOUNDARY", False),
        ("1.0 2.0", "1.0", False),
        ("nan", "0.1", False),
    ],
)
def test_numbers_are_compared_up_to_rounding_and_words_to_the_letter(old, new, same):
    told = run.differences(notebook(old), notebook(new))
    assert (told == []) is same


def test_a_cell_whose_output_is_not_stored_is_told():
    told = run.differences(notebook("1.0", None), notebook("1.0", "2.0"))
    assert told == ["cell 1 has none stored alone", "cell 1: stored '', now '2.0'"]
    assert run.differences(notebook("1.0", "2.0"), notebook("1.0", None))[0].startswith("cell 1")


def test_tags_say_what_is_not_compared(monkeypatch):
    other = notebook("2.0")
    assert run.differences(notebook("1.0", tags=["varies"]), other) == []
    assert run.differences(notebook(None, tags=["varies"]), other) != []
    tagged = notebook("1.0", tags=["thrombolytic"])
    monkeypatch.delenv("MIXMETA_JAX_DATA", raising=False)
    assert run.differences(tagged, other) == []
    monkeypatch.setenv("MIXMETA_JAX_DATA", "a folder")
    assert run.differences(tagged, other) != []


def test_what_is_of_one_run_or_machine_is_told():
    assert run.noise(notebook("1.0", None)) == []
    assert run.noise(notebook("a warning", kind="stderr")) != []
    assert run.noise(notebook("file /home/me/data.csv")) != []
    assert run.noise(notebook("<object at 0x7f3a2b1c>")) != []
    unordered = notebook("1.0", "2.0")
    unordered.cells[1].execution_count = 5
    assert run.noise(unordered) != []


def test_pieces_of_a_stream_are_one():
    output = nbformat.v4.new_output
    pieces = [output("stream", name="stdout", text=text) for text in ("a\n", "b\n")]
    shown = output("display_data", {"text/plain": "c"})
    last = output("stream", name="stdout", text="d\n")
    found = run.joined([*pieces, shown, last])
    assert [o.get("text") for o in found] == ["a\nb\n", None, "d\n"]
    assert [o.text for o in run.joined([pieces[0], output("stream", name="stderr", text="e")])] == [
        "a\n",
        "e",
    ]
