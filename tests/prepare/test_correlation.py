"""Blocks of correlated errors: closed forms, and the gliomas blocks of the paper's section 5.5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixmeta_jax.errors import InputError
from mixmeta_jax.prepare.correlation import ar1_blocks, cs_blocks

DATASETS = Path(__file__).parents[2] / "mixmeta_jax" / "datasets"


@pytest.fixture
def visits() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["a", "a", "b", "a", "b"],
            "t": [0.0, 1.5, 0.0, 4.0, 3.0],
            "v": [1.0, 4.0, 9.0, 16.0, 25.0],
        },
        index=list("pqrst"),
    )


def test_gliomas_blocks_have_correlation_061_per_lag():
    gliomas = pd.read_csv(DATASETS / "gliomas.csv")
    blocks = ar1_blocks(gliomas, "study", "logORvar", 0.61)
    assert list(blocks) == list(gliomas["study"].unique())
    v = gliomas.loc[gliomas["study"] == 1, "logORvar"].to_numpy()
    lag = np.abs(np.subtract.outer(range(4), range(4)))
    np.testing.assert_allclose(blocks[1], 0.61**lag * np.sqrt(np.outer(v, v)), rtol=1e-14)
    in_time = ar1_blocks(gliomas, "study", "logORvar", 0.61, time="time", unit=6)
    for study, block in blocks.items():
        np.testing.assert_allclose(in_time[study], block, rtol=1e-14)


def test_blocks_name_their_rows_and_keep_the_variances(visits):
    block = ar1_blocks(visits, "id", "v", 0.5)["a"]
    assert list(block.index) == list(block.columns) == ["p", "q", "s"]
    np.testing.assert_allclose(block, [[1, 1, 1], [1, 4, 4], [1, 4, 16]], rtol=1e-14)


def test_time_may_be_irregular(visits):
    block = ar1_blocks(visits, "id", "v", 0.5, time="t", unit=2)["a"]
    np.testing.assert_allclose(block.loc["p", "q"], 2 * 0.5**0.75, rtol=1e-14)
    np.testing.assert_allclose(block.loc["q", "s"], 8 * 0.5**1.25, rtol=1e-14)


def test_rows_without_a_variance_are_left_out_but_keep_their_place(visits):
    visits.loc["q", "v"] = np.nan
    blocks = ar1_blocks(visits, "id", "v", 0.5)
    assert list(blocks["a"].index) == ["p", "s"]
    np.testing.assert_allclose(blocks["a"].loc["p", "s"], 4 * 0.25, rtol=1e-14)
    visits["v"] = [np.nan, np.nan, 9.0, np.nan, 25.0]
    assert list(ar1_blocks(visits, "id", "v", 0.5)) == ["b"]


def test_a_correlation_may_be_negative_by_position(visits):
    block = ar1_blocks(visits, "id", "v", -0.5)["a"]
    np.testing.assert_allclose(block.iloc[0], [1, -1, 1], rtol=1e-14)


def test_no_correlation_is_diagonal(visits):
    for blocks in (
        ar1_blocks(visits, "id", "v", 0.0),
        ar1_blocks(visits, "id", "v", 0.0, time="t"),
        cs_blocks(visits, "id", "v", 0.0),
    ):
        np.testing.assert_array_equal(blocks["a"], np.diag([1.0, 4, 16]))


def test_compound_symmetry(visits):
    blocks = cs_blocks(visits, "id", "v", 0.25)
    np.testing.assert_allclose(blocks["b"], [[9, 3.75], [3.75, 25]], rtol=1e-14)
    np.testing.assert_allclose(blocks["a"].iloc[0], [1, 0.5, 1], rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda d: ar1_blocks(d, "id", "v", 1.0), "between -1 and 1"),
        (lambda d: ar1_blocks(d, "id", "v", -0.2, time="t"), "at least 0"),
        (lambda d: ar1_blocks(d, "id", "v", 0.2, time="t", unit=0), "unit"),
        (lambda d: ar1_blocks(d.assign(t=0.0), "id", "v", 0.2, time="t"), "'a' has a time twice"),
        (
            lambda d: ar1_blocks(d.assign(t=[0, np.nan, 0, 1, 1]), "id", "v", 0.2, time="t"),
            "Row 'q' of group 'a' has no time",
        ),
        (lambda d: ar1_blocks(d.assign(v=-d["v"]), "id", "v", 0.2), "Row 'p' has a negative"),
        (lambda d: ar1_blocks(d.assign(v="x"), "id", "v", 0.2), "not a number"),
        (lambda d: ar1_blocks(d, "id", "w", 0.2), "no column 'w'"),
        (lambda d: ar1_blocks(d.set_index("id", drop=False), "id", "v", 0.2), "label 'a' occurs"),
        (lambda d: cs_blocks(d, "id", "v", -0.5), "between -0.5 and 1 for group 'a'"),
    ],
)
def test_bad_input_is_one_sentence(visits, call, said):
    with pytest.raises(InputError, match=said):
        call(visits)
