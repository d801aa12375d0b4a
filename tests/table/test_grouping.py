"""Grouping levels: every form of ``random``, and groups whose labels are compared as values."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixmeta_jax.errors import InputError
from mixmeta_jax.table.frame import build_frame
from mixmeta_jax.table.grouping import nested_groups, parse_random
from mixmeta_jax.table.levels import random_levels


@pytest.fixture
def data():
    return pd.DataFrame(
        {
            "district": ["b", "a", "b", "a", "c", "b"],
            "study": [2, 1, 1, 2, 1, 2],
            "arm/side": ["l", "r", "l", "r", "r", "r"],
            "time": [0.0, 1.0, 2.0, 0.0, 1.0, 3.0],
            "visit": [1, 2, 3, 1, 2, 3],
            "y": [0.1, 0.2, 0.4, 0.3, 0.6, 0.5],
            "v": 0.1,
        }
    )


@pytest.mark.parametrize(
    ("random", "levels"),
    [
        ("~ 1 | study", [("study", "1")]),
        ("1|study", [("study", "1")]),
        ("~ 1 | district/study", [("district", "1"), ("study", "1")]),
        ("~ time | district / study", [("district", "time"), ("study", "time")]),
        (["~ time | district", "~ 1 | study"], [("district", "time"), ("study", "1")]),
        (("~ 1 | district",), [("district", "1")]),
        ({"district": "~ 1", "study": "~ time"}, [("district", "1"), ("study", "time")]),
        ({"district": "~ 1", "district/study": "~ time"}, [("district", "1"), ("study", "time")]),
        ({"study": "0 + time"}, [("study", "0 + time")]),
        ("~ 0 + factor(visit) | study", [("study", "0 + C(visit)")]),
        ("~ 1 | district/`arm/side`", [("district", "1"), ("arm/side", "1")]),
        ("~ I(time | (visit > 1)) | study", [("study", "I(time | (visit > 1))")]),
        (None, []),
    ],
)
def test_forms_of_random(data, random, levels):
    terms = parse_random(random, data)
    assert [(term.name, term.predictors) for term in terms] == levels


def test_columns_that_the_random_predictors_read(data):
    (term,) = parse_random("~ time + log(1 + visit) | study", data)
    assert term.columns == ("time", "visit")


@pytest.mark.parametrize(
    ("random", "message"),
    [
        ("~ 1", "behind a bar"),
        ("~ 1 | ", "behind a bar"),
        ("~ 1 | district | study", "behind a bar"),
        ("~ 1 | district//study", "behind a bar"),
        ("y ~ 1 | study", "has an outcome"),
        ("~ 0 | study", "level 'study' has no predictor"),
        ("~ 1 | studi", "'studi'.*Did you mean 'study'"),
        ("~ tme | study", "'tme'.*level 'study'.*Did you mean 'time'"),
        ("~ 1 | study/study", "level 'study' twice"),
        (["~ 1 | study", "~ time | study"], "level 'study' twice"),
        ({"study": "~ 1 | district"}, "level 'study'.*without a bar"),
        ({"study": 1}, "level 'study'.*not 1"),
        ([], "random is empty"),
        ({}, "random is empty"),
        (3, "random must be a formula.*not 3"),
        (["~ 1 | study", 3], "random must be a formula"),
    ],
)
def test_forms_that_cannot_be_read(data, random, message):
    with pytest.raises(InputError, match=message):
        parse_random(random, data)


def test_groups_are_numbered_by_first_appearance_and_need_not_be_contiguous(data):
    outer, inner = nested_groups(data, ["district", "study"])
    assert outer.codes.tolist() == [0, 1, 0, 1, 2, 0]
    assert outer.labels == ["b", "a", "c"]
    assert inner.codes.tolist() == [0, 1, 2, 3, 4, 0]
    assert inner.labels == [("b", 2), ("a", 1), ("b", 1), ("a", 2), ("c", 1)]


@pytest.mark.parametrize(
    "random", [["~ 1 | district", "~ time | study"], {"district": "~ 1", "study": "~ time"}]
)
def test_an_inner_label_under_two_parents_is_refused_unless_it_is_said_to_nest(data, random):
    message = (
        r"label 1 of 'study' occurs under 'district' a and b.*'district/study' if.*crossed, which"
    )
    with pytest.raises(InputError, match=message):
        build_frame("y", "v", data, random=random)
    nested = {"district": "~ 1", "district/study": "~ time"}
    inner = build_frame("y", "v", data, random=nested).levels[1]
    assert inner.labels == [("b", 2), ("a", 1), ("b", 1), ("a", 2), ("c", 1)]
    # Labels that are unique in themselves stay as they are.
    data["study"] = [2, 1, 4, 3, 5, 2]
    frame = build_frame("y", "v", data, random=random)
    assert frame.levels[1].codes.tolist() == [0, 1, 2, 3, 4, 0]
    # The same of new data, of batches and of designs.
    new = pd.DataFrame({"district": ["d", "e"], "study": [1, 1], "time": 1.0})
    for read in (
        lambda: frame.new_levels(new),
        lambda: random_levels(random, new, 2),
    ):
        with pytest.raises(InputError, match="label 1 of 'study' occurs under 'district' d and e"):
            read()


def test_labels_are_compared_as_values_and_never_pasted():
    data = pd.DataFrame({"outer": ["b", "b-c", "b"], "inner": ["c-d", "d", "c-d"]})
    _, inner = nested_groups(data, ["outer", "inner"])
    assert inner.codes.tolist() == [0, 1, 0]
    assert inner.labels == [("b", "c-d"), ("b-c", "d")]


def test_a_number_and_its_text_are_two_groups():
    (groups,) = nested_groups(pd.DataFrame({"g": [1, "1", 1.0]}), ["g"])
    assert groups.codes.tolist() == [0, 1, 0]


LABELS = st.text("ab-/", max_size=3)


@given(st.lists(st.tuples(LABELS, LABELS, LABELS), min_size=1, max_size=20))
def test_two_rows_share_a_group_exactly_where_all_their_labels_agree(rows):
    data = pd.DataFrame(rows, columns=["a", "b", "c"])
    for depth, groups in enumerate(nested_groups(data, ["a", "b", "c"]), 1):
        own = [row[:depth] for row in rows]
        labels = list(dict.fromkeys(own))
        assert groups.codes.tolist() == [labels.index(label) for label in own]
        assert groups.labels == ([label for (label,) in labels] if depth == 1 else labels)


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20),
    names=st.permutations(["w", "x", "y", "z"]),
)
def test_relabelling_changes_no_group(rows, names):
    data = pd.DataFrame(rows, columns=["a", "b"])
    renamed = data.assign(b=data["b"].map(lambda label: names[label]))
    for before, after in zip(
        nested_groups(data, ["a", "b"]), nested_groups(renamed, ["a", "b"]), strict=True
    ):
        np.testing.assert_array_equal(before.codes, after.codes)


@pytest.mark.parametrize("dtype", ["category", "string", "object", "str"])
def test_labels_of_every_type(data, dtype):
    typed = data.assign(district=data["district"].astype(dtype))
    outer, inner = nested_groups(typed, ["district", "study"])
    assert outer.labels == ["b", "a", "c"]
    assert inner.labels[0] == ("b", 2)


def test_dates_and_nullable_integers_are_labels_too():
    dates = pd.to_datetime(["2001-01-01", "2000-01-01", "2001-01-01"])
    data = pd.DataFrame({"d": dates, "i": pd.array([2, 2, 1], "Int64")})
    outer, inner = nested_groups(data, ["d", "i"])
    assert outer.codes.tolist() == [0, 1, 0]
    assert inner.labels == [(dates[0], 2), (dates[1], 2), (dates[0], 1)]


def test_both_levels_of_a_nested_formula_have_the_same_predictors(data):
    outer, inner = build_frame("y", "v", data, random="~ time | district/study").levels
    assert (outer.name, inner.name) == ("district", "study")
    assert outer.z_names == inner.z_names == ["(Intercept)", "time"]
    np.testing.assert_array_equal(outer.Z, np.column_stack([np.ones(6), data["time"]]))
    np.testing.assert_array_equal(outer.Z, inner.Z)


def test_indicators_as_random_predictors(data):
    (level,) = build_frame("y", "v", data, random="~ 0 + C(visit) | district").levels
    assert level.z_names == ["C(visit)[1]", "C(visit)[2]", "C(visit)[3]"]
    np.testing.assert_array_equal(level.Z, np.eye(3)[data["visit"] - 1])


def test_collinear_random_predictors_are_refused(data):
    with pytest.raises(InputError, match=r"level 'study' .*time.* collinear"):
        build_frame("y", "v", data, random="~ time + I(time + 1) | study")


def test_without_random_every_row_is_a_group(data):
    (level,) = build_frame("y", "v", data.set_index("time")).levels
    assert level.codes.tolist() == list(range(6))
    assert level.labels == data["time"].tolist()
    assert level.z_names == ["(Intercept)"]
    np.testing.assert_array_equal(level.Z, np.ones((6, 1)))
