"""Network contrasts against the shipped smoking data (Hasselblad 1998; White 2011)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixmeta_jax.errors import InputError
from mixmeta_jax.prepare.network import long_contrasts, network_contrasts

DATASETS = Path(__file__).parents[2] / "mixmeta_jax" / "datasets"
COLUMNS = ("study", "treatment", "events", "total")

PRINTED = 1e-12
"""Relative: the shipped contrasts have 15 digits."""


@pytest.fixture
def smoking() -> pd.DataFrame:
    return pd.read_csv(DATASETS / "smoking.csv")


@pytest.fixture
def arms(smoking) -> pd.DataFrame:
    """The counts before correction: no augmented arms, zero cells as zero."""
    rows = []
    for trial in smoking.itertuples():
        for t in "ABCD":
            d, n = getattr(trial, f"d{t}"), getattr(trial, f"n{t}")
            if np.isnan(n) or n == 0.01:
                continue
            zero_cell = trial.study in (9, 20)
            rows.append((trial.study, t, d - 0.5 * zero_cell, n - zero_cell))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_contrasts_are_those_of_the_smoking_data(arms, smoking):
    contrasts = network_contrasts(arms, *COLUMNS, reference="A")
    shipped = smoking.drop(columns=[f"{c}{t}" for c in "dn" for t in "ABCD"])
    assert list(contrasts.columns) == list(shipped.columns)
    assert list(contrasts["design"]) == list(shipped["design"])
    assert list(contrasts["study"]) == list(shipped["study"])
    np.testing.assert_allclose(
        contrasts.iloc[:, 2:].to_numpy(), shipped.iloc[:, 2:].to_numpy(), PRINTED, 1e-14
    )


def test_order_of_arms_and_names_of_columns_do_not_matter(arms):
    expected = network_contrasts(arms, *COLUMNS, reference="A")
    renamed = arms.sample(frac=1, random_state=0).set_axis(["s", "t", "d", "n"], axis=1)
    found = network_contrasts(renamed, "s", "t", "d", "n", "A").set_index("s").sort_index()
    pd.testing.assert_frame_equal(found, expected.set_index("study"), check_names=False)


def test_another_reference_says_the_same(arms):
    """D against C from the reference C: the difference of the contrasts with A."""
    of_a = network_contrasts(arms, *COLUMNS, reference="A").set_index("study")
    of_c = network_contrasts(arms, *COLUMNS, reference="C").set_index("study")
    assert list(of_c.columns[1:4]) == ["yA", "yB", "yD"]
    np.testing.assert_allclose(of_c["yD"][23], of_a["yD"][23] - of_a["yC"][23], rtol=1e-12)
    variance = of_a["SDD"][23] + of_a["SCC"][23] - 2 * of_a["SCD"][23]
    np.testing.assert_allclose(of_c["SDD"][23], variance, rtol=1e-8)


def test_corrections_are_arguments(arms):
    contrasts = network_contrasts(arms, *COLUMNS, reference="A", zero_cell=1, augment=(0.01, 0.02))
    one = contrasts.set_index("study")
    np.testing.assert_allclose(one["yC"][9], np.log(10 / 40) - np.log(1 / 34), rtol=1e-12)
    np.testing.assert_allclose(one["SBC"][21], 200, rtol=1e-12)
    np.testing.assert_allclose(one["yB"][21], np.log(20 / 29), rtol=1e-12)


def test_long_names_are_joined(arms):
    named = arms.assign(treatment=arms["treatment"].replace({"C": "group", "D": "single"}))
    contrasts = network_contrasts(named, *COLUMNS, reference="A")
    assert list(contrasts.columns[2:]) == [
        *("yB", "ygroup", "ysingle"),
        *("SB_B", "SB_group", "SB_single", "Sgroup_group", "Sgroup_single", "Ssingle_single"),
    ]
    assert contrasts["design"][0] == "A_group_single"


def test_long_format_holds_the_same_contrasts(arms):
    wide = network_contrasts(arms, *COLUMNS, reference="A")
    long = long_contrasts(arms, *COLUMNS, reference="A")
    assert long.contrasts == ["yB", "yC", "yD"]
    assert list(long.S) == list(wide["study"])
    back = long.data.pivot(index="study", columns="treatment", values="logor")
    np.testing.assert_array_equal(back.to_numpy(), wide[["yB", "yC", "yD"]].to_numpy())
    np.testing.assert_array_equal(long.S[3], wide.loc[2, ["SBB"]].to_numpy(float)[None])
    np.testing.assert_array_equal(
        long.S[1], wide.loc[0, ["SCC", "SCD", "SCD", "SDD"]].to_numpy(float).reshape(2, 2)
    )
    indicators = long.data[long.contrasts].to_numpy()
    np.testing.assert_array_equal(indicators.sum(1), 1)
    assert (np.array(list("BCD"))[indicators.argmax(1)] == long.data["treatment"]).all()


def test_inconsistency_columns_are_those_of_white_2012(arms):
    """The seven terms of the call `smoking_inconsistency_reml`."""
    long = long_contrasts(arms, *COLUMNS, reference="A")
    assert long.inconsistency == [
        *("yC_acd", "yC_bc", "yC_bcd"),
        *("yD_acd", "yD_bcd", "yD_bd", "yD_cd"),
    ]
    design = long.data["design"]
    np.testing.assert_array_equal(
        long.data["yD_bcd"], (design == "bcd") & (long.data["treatment"] == "D")
    )
    X = long.data[[*long.contrasts, *long.inconsistency]].to_numpy()
    assert np.linalg.matrix_rank(X) == 10


def test_a_network_without_loops_has_no_inconsistency(arms):
    star = arms[arms["study"].between(3, 20)]
    assert long_contrasts(star, *COLUMNS, reference="A").inconsistency == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a[~((a["study"] == 5) & (a["treatment"] == "B"))], "Study 5 has one arm only"),
        (lambda a: pd.concat([a, a.iloc[[0]]]), "Study 1 has treatment 'A' twice"),
        (lambda a: a.assign(events=a["events"].where(a.index != 0, 1e4)), "Study 1 .* more events"),
        (lambda a: a.assign(events=a["events"].where(a.index != 0, -1)), "Study 1 .* no count in"),
        (lambda a: a.assign(events=a["events"].where(a.index != 0)), "Study 1 .* no count in 'ev"),
        (lambda a: a.assign(total=a["total"].where(a.index != 0, 0)), "Study 1 .* no count in 'to"),
        (lambda a: a.assign(treatment=a["treatment"].where(a.index != 0)), "Row 0 has no value"),
        (lambda a: a.drop(columns="total"), "no column 'total'"),
        (
            lambda a: pd.concat(
                [a, pd.DataFrame([[99, "E", 1, 9], [99, "F", 2, 9]], columns=a.columns)]
            ),
            r"No path of trials connects treatment 'E' \(studies \[99\]\)",
        ),
    ],
)
def test_bad_arms_are_one_sentence(arms, change, said):
    with pytest.raises(InputError, match=said):
        network_contrasts(change(arms), *COLUMNS, reference="A")


def test_bad_options_are_one_sentence(arms):
    with pytest.raises(InputError, match=r"reference must be one of .*, not 'Z'"):
        network_contrasts(arms, *COLUMNS, reference="Z")
    with pytest.raises(InputError, match="Study 9 has an arm with no events"):
        network_contrasts(arms, *COLUMNS, reference="A", zero_cell=0)
    with pytest.raises(InputError, match="zero_cell"):
        network_contrasts(arms, *COLUMNS, reference="A", zero_cell=-1)
    for augment in ((1, 1), 0.01, (0.001,)):
        with pytest.raises(InputError, match="augment"):
            network_contrasts(arms, *COLUMNS, reference="A", augment=augment)
    renamed = arms.rename(columns={"study": "design"})
    with pytest.raises(InputError, match="called 'design'"):
        network_contrasts(renamed, "design", *COLUMNS[1:], reference="A")


def test_arms_may_be_a_mapping_of_columns(arms):
    wide = network_contrasts(arms, *COLUMNS, reference="A")
    again = network_contrasts(arms.to_dict("list"), *COLUMNS, reference="A")
    pd.testing.assert_frame_equal(again, wide)
