"""The shipped data sets: whole, documented, and refused by name when unknown."""

import hashlib
from importlib.resources import files

import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.datasets import describe_dataset

# Rows, and the SHA-256 of the file as it was received.
SHIPPED = {
    "alcohol": (48, "ddc7a4da4af85a954f26e03be095a17c88fb03024615b7d3f7186565412a0e0c"),
    "bcg": (13, "f7a310fafa74d75d33e292b674f923607cbf75d9df4b764afb7e1d9fad1a73b7"),
    "berkey98": (5, "92d94fe3ef721bf4cdf152ab2f22cdd4be69aaead066a26086ab07dffb82d15c"),
    "dbs": (46, "6cdc1de17defae33329615f9689bdc27819b167ea1798297ee79386e00e0d5a0"),
    "gliomas": (68, "5b2a28c0b4b2bcff388437869f04d38a4d52badf42eae3c41d16950dda77c437"),
    "p53": (6, "a846f41b31fabe0a4f53aa059782d8d3f68d00019bce857ba6e271af7730979b"),
    "school": (56, "a5cbfb10af82be8fc68aaefb50af9613477fef811e677a3613ddcf03e0b740f0"),
    "smoking": (24, "35fef53c25bae318bdbd9c1aa3af516162b958b798a64843db3c64f5b847e585"),
}


def test_list():
    assert mx.list_datasets() == sorted(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_file_is_as_received(name):
    content = (files("mixmeta_jax.datasets") / f"{name}.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHIPPED[name][1]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_column_is_documented(name):
    frame, description = mx.load_dataset(name), describe_dataset(name)
    assert len(frame) == SHIPPED[name][0]
    assert list(frame) == list(description.columns)
    assert description.name == name
    for column, text in description.columns.items():
        assert f"{column} " in str(description)
        assert text in str(description)
    assert description.source in str(description)


@pytest.mark.parametrize("name", SHIPPED)
def test_docstring_of_the_loader_names_it_and_its_rows(name):
    row = next(line for line in mx.load_dataset.__doc__.splitlines() if line.split()[:1] == [name])
    assert int(row.split()[1]) == SHIPPED[name][0]


@pytest.mark.parametrize("name", ["BCG", "", "thrombolytic", None, ["bcg"]])
def test_unknown_name_is_answered_with_the_names(name):
    with pytest.raises(mx.InputError, match=r"name must be one of 'alcohol', 'bcg', "):
        mx.load_dataset(name)


def test_each_call_gives_a_frame_of_its_own():
    frame = mx.load_dataset("bcg")
    frame["logor"] = 0.0
    assert mx.load_dataset("bcg")["logor"].ne(0.0).all()


def test_bcg_effects_follow_from_the_counts():
    data = mx.load_dataset("bcg")
    odds_ratio = data["tpos"] * data["cneg"] / (data["tneg"] * data["cpos"])
    np.testing.assert_allclose(data["logor"], np.log(odds_ratio), rtol=1e-12)
    variance = (1 / data[["tpos", "tneg", "cpos", "cneg"]]).sum(axis=1)
    np.testing.assert_allclose(data["logorvar"], variance, rtol=1e-12)


def test_gliomas_effects_follow_from_the_counts():
    data = mx.load_dataset("gliomas").dropna()
    cells = data[["streat", "scontr"]].assign(
        dtreat=data["ntreat"] - data["streat"], dcontr=data["ncontr"] - data["scontr"]
    )
    cells = cells.add(0.5 * cells.eq(0).any(axis=1), axis=0)
    odds_ratio = cells["streat"] * cells["dcontr"] / (cells["dtreat"] * cells["scontr"])
    np.testing.assert_allclose(data["logOR"], np.log(odds_ratio), rtol=1e-12)
    np.testing.assert_allclose(data["logORvar"], (1 / cells).sum(axis=1), rtol=1e-12)
