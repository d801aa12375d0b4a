"""Which rows are fitted, and what is given beside them; order and labels do not matter."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmeta_jax.table.frame import build_frame
from mixmeta_jax.table.levels import random_levels


@pytest.fixture
def data():
    return pd.DataFrame(
        {
            "y": [0.1, 0.4, -0.2, 0.3, 0.6, 0.0, 0.2, 0.5],
            "z": [0.2, 0.5, 0.1, 0.0, 0.4, 0.3, 0.1, 0.1],
            "v": [0.1, 0.2, 0.1, 0.3, 0.2, 0.1, 0.2, 0.1],
            "w": [0.3, 0.1, 0.2, 0.3, 0.1, 0.1, 0.2, 0.2],
            "x": [1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0, 20.0],
            "kind": ["p", "q", "p", "r", "p", "q", "r", "q"],
            "g": [1, 1, 2, 2, 3, 3, 3, 4],
            "o": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
        },
        index=list("abcdefgh"),
    )


def test_arrays_and_names(data):
    frame = build_frame("y + z ~ x + kind", ["v", "w"], data, "~ x | g", rho=0.5)
    assert (frame.n, frame.k, frame.p) == (8, 2, 4)
    np.testing.assert_array_equal(frame.y, data[["y", "z"]])
    np.testing.assert_array_equal(frame.X[:, 1], data["x"])
    assert frame.x_names == ["(Intercept)", "x", "kind[T.q]", "kind[T.r]"]
    assert frame.coef_names()[:4] == ["y.(Intercept)", "z.(Intercept)", "y.x", "z.x"]
    assert frame.random_names(0) == ["y.(Intercept)", "z.(Intercept)", "y.x", "z.x"]
    assert frame.index.equals(data.index) and frame.full_index.equals(data.index)
    assert frame.kept.all() and not frame.offset.any()


def test_names_of_one_outcome_and_of_an_intercept_alone(data):
    assert build_frame("y ~ x", "v", data).coef_names() == ["(Intercept)", "x"]
    assert build_frame("y + z", ["v", "w"], data).coef_names() == ["y", "z"]
    assert build_frame("y + z", ["v", "w"], data).random_names(0) == ["y", "z"]


@pytest.mark.parametrize("na_action", ["omit", "exclude"])
def test_what_is_missing_decides_which_rows_are_fitted(data, na_action):
    data.loc["a", "y"] = np.nan  # one of two outcomes: stays
    data.loc["b", ["y", "z"]] = np.nan
    data.loc["c", "x"] = np.nan
    data.loc["d", "g"] = np.nan
    data.loc["e", "kind"] = None
    data.loc["f", "o"] = np.nan
    frame = build_frame(
        "y + z ~ x", ["v", "w"], data, "~ 1 | g/kind", offset="o", na_action=na_action
    )
    assert frame.index.tolist() == ["a", "g", "h"]
    assert frame.full_index.equals(data.index)
    assert frame.kept.tolist() == [True] + [False] * 5 + [True] * 2
    np.testing.assert_array_equal(np.isnan(frame.y), [[True, False], [False] * 2, [False] * 2])


def test_a_missing_category_is_missing_and_never_the_reference(data):
    data.loc[["b", "d"], "kind"] = None
    frame = build_frame("y ~ kind", "v", data)
    assert frame.index.tolist() == list("acefgh")
    assert frame.x_names == ["(Intercept)", "kind[T.q]", "kind[T.r]"]
    np.testing.assert_array_equal(frame.X.sum(1), [1, 1, 1, 2, 2, 2])


@pytest.mark.parametrize("term", ["poly(x, 2)", "ns(x, df=2)", "center(x)", "scale(x)", "kind"])
def test_terms_are_learnt_from_the_rows_that_are_fitted(data, term):
    data.loc["h", ["y", "kind"]] = [np.nan, "only here"]
    dropped = build_frame(f"y ~ {term}", "v", data)
    without = build_frame(f"y ~ {term}", "v", data.iloc[:-1])
    left_out = build_frame(f"y ~ {term}", "v", data, subset="x < 20")
    assert dropped.x_names == without.x_names
    np.testing.assert_array_equal(dropped.X, without.X)
    np.testing.assert_array_equal(left_out.X, without.X)


SUBSETS = {
    "query": "x > 2 and kind != 'r'",
    "list": [False, False, True, False, True, True, False, True],
    "array": np.array([0, 0, 1, 0, 1, 1, 0, 1], bool),
    "objects": np.array([False, False, True, False, True, True, False, True], object),
    "series": pd.Series([False, False, True, False, True, True, False, True]),
    "nullable": pd.Series([False, False, True, False, True, True, False, True], dtype="boolean"),
    "function": lambda frame: (frame["x"] > 2) & (frame["kind"] != "r"),
}


@pytest.mark.parametrize("subset", SUBSETS.values(), ids=SUBSETS)
def test_subset_in_every_form(data, subset):
    frame = build_frame("y ~ x", "v", data, subset=subset)
    assert frame.full_index.tolist() == list("cefh")
    np.testing.assert_array_equal(frame.y[:, 0], data.loc[list("cefh"), "y"])
    np.testing.assert_array_equal(frame.within.unit[:, 0, 0], data.loc[list("cefh"), "v"])


OFFSET = np.arange(8) / 10


@pytest.mark.parametrize(
    "offset",
    ["o", ["o"], OFFSET, OFFSET.tolist(), OFFSET[:, None], pd.Series(OFFSET), ["o", "o"]]
    + [np.column_stack([OFFSET, OFFSET]), pd.DataFrame({"a": OFFSET, "b": OFFSET})]
    + [pd.Series(pd.array(OFFSET, "Float64"))],
)
def test_offset_in_every_form(data, offset):
    data.loc["b", "x"] = np.nan
    frame = build_frame("y + z ~ x", ["v", "w"], data, offset=offset, subset="x != 3")
    np.testing.assert_array_equal(frame.offset, np.tile(OFFSET[[0, 3, 4, 5, 6, 7], None], 2))
    np.testing.assert_array_equal(frame.y, data.loc[list("adefgh"), ["y", "z"]])


@pytest.mark.parametrize(
    ("outcomes", "names"),
    [
        (np.arange(8.0), ["y"]),
        (list(range(8)), ["y"]),
        (np.arange(16.0).reshape(8, 2), ["y1", "y2"]),
        (pd.Series(np.arange(8.0)), ["y"]),
        (pd.Series(np.arange(8.0), name="logor"), ["logor"]),
        (pd.DataFrame({"a": np.arange(8), "b": np.arange(8)}), ["a", "b"]),
        (pd.DataFrame({0: pd.array(np.arange(8), "Int64")}), ["0"]),
    ],
)
def test_outcomes_in_place_of_a_formula(data, outcomes, names):
    S = np.ones((8, len(names)))
    for frame in (build_frame(outcomes, S), build_frame(outcomes, S, data, "~ x | g")):
        assert frame.outcome_names == names
        assert frame.x_names == ["(Intercept)"]
        np.testing.assert_array_equal(frame.y, np.asarray(outcomes, float).reshape(8, -1))


def test_labels_of_rows_may_repeat(data):
    data.index = [3, 3, 1, 1, 2, 2, 2, 3]
    data.iloc[1, 4] = np.nan
    frame = build_frame("y ~ x * kind", "v", data, "~ x | g", subset=data["y"].to_numpy() > -1)
    assert frame.index.tolist() == [3, 1, 1, 2, 2, 2, 3]
    np.testing.assert_array_equal(frame.y[:, 0], data["y"].iloc[[0, 2, 3, 4, 5, 6, 7]])
    assert frame.levels[0].labels == [1, 2, 3, 4]


@pytest.mark.parametrize("form", ["mapping", "nullable", "pyarrow", "objects"])
def test_frames_of_every_kind(data, form):
    expected = build_frame("y ~ x + kind", "v", data.reset_index(drop=True), "~ x | g")
    if form == "mapping":
        given = {name: data[name].tolist() for name in data}
    elif form == "nullable":
        given = data.convert_dtypes()
    elif form == "pyarrow":
        pytest.importorskip("pyarrow")
        given = data.convert_dtypes(dtype_backend="pyarrow")
    else:
        given = data.astype(object)
    frame = build_frame("y ~ x + kind", "v", given, "~ x | g")
    assert_same(frame, expected)


def test_polars_frames(data):
    polars = pytest.importorskip("polars")
    data.loc["c", ["y", "x"]] = np.nan
    given = polars.DataFrame({name: data[name].tolist() for name in data}, nan_to_null=True)
    frame = build_frame("y ~ x + kind", given["v"], given, "~ x | g", subset=given["x"] < 10)
    expected = build_frame("y ~ x + kind", "v", data, "~ x | g", subset="x < 10")
    assert_same(frame, expected)
    assert_same(build_frame(given["y"], "v", given), build_frame("y", "v", data))


def assert_same(frame, expected):
    np.testing.assert_array_equal(frame.y, expected.y)
    np.testing.assert_array_equal(frame.X, expected.X)
    assert frame.x_names == expected.x_names
    assert len(frame.levels) == len(expected.levels)
    for level, other in zip(frame.levels, expected.levels, strict=True):
        np.testing.assert_array_equal(level.codes, other.codes)
        np.testing.assert_array_equal(level.Z, other.Z)
        if other.name != "unit":
            assert level.labels == other.labels
    np.testing.assert_array_equal(frame.within.unit, expected.within.unit)


def test_the_data_of_the_user_are_not_changed(data):
    data["kind"] = pd.Categorical(data["kind"], categories=["z", "r", "q", "p"])
    data["x"] = data["x"].astype(object)
    data.loc["b", "y"] = np.nan
    before = data.copy(deep=True)
    frame = build_frame("y ~ x + kind", "v", data, "~ 1 | g/kind", offset="o", subset="o < 0.7")
    frame.new_X(data)
    frame.new_levels(data)
    pd.testing.assert_frame_equal(data, before)
    assert list(data["kind"].cat.categories) == ["z", "r", "q", "p"]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), labels=st.permutations(range(20)))
def test_order_of_rows_and_labels_of_groups_do_not_matter(seed, labels):
    rng = np.random.default_rng(seed)
    n = 20
    data = pd.DataFrame(
        {
            "y": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "z": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "v": rng.uniform(0.1, 1, n),
            "w": rng.uniform(0.1, 1, n),
            "x": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "kind": np.array(["p", "q"])[np.arange(n) % 2],
            "g": rng.integers(0, 5, n),
            "h": rng.integers(0, 2, n),
        },
        index=labels,
    )
    arguments = {"S": ["v", "w"], "random": "~ x | g/h", "rho": 0.3}
    frame = build_frame("y + z ~ x * kind", data=data, **arguments)
    order = rng.permutation(n)
    names = {old: f"group {new}" for old, new in enumerate(rng.permutation(5))}
    moved = data.assign(g=data["g"].map(names)).iloc[order]
    other = build_frame("y + z ~ x * kind", data=moved, **arguments)
    assert sorted(frame.index) == sorted(other.index)
    at = other.index.get_indexer(frame.index)
    np.testing.assert_array_equal(frame.y, other.y[at])
    np.testing.assert_array_equal(frame.X, other.X[at])
    np.testing.assert_array_equal(frame.within.unit, other.within.unit[at])
    for mine, theirs in zip(frame.levels, other.levels, strict=True):
        codes = theirs.codes[at]
        same = mine.codes[:, None] == mine.codes
        np.testing.assert_array_equal(same, codes[:, None] == codes)
        np.testing.assert_array_equal(mine.Z, theirs.Z[at])


# New data


def test_new_data_without_outcomes_or_groups(data):
    frame = build_frame("y ~ x + kind", "v", data, "~ 1 | g")
    X, index = frame.new_X({"x": [1.0, 2.0], "kind": ["q", "p"]})
    np.testing.assert_array_equal(X, [[1, 1, 1, 0], [1, 2, 0, 0]])
    assert index.tolist() == [0, 1]


def test_new_groups_are_all_new(data):
    frame = build_frame("y", "v", data, "~ x | g/kind")
    outer, inner = frame.new_levels(data.iloc[[7, 0, 1]])
    assert outer.labels == [4, 1]
    assert inner.labels == [(4, "q"), (1, "p"), (1, "q")]
    np.testing.assert_array_equal(outer.Z[:, 1], [20, 1, 2])
    (unit,) = build_frame("y", "v", data).new_levels(data.iloc[:2])
    assert unit.codes.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("newdata", "message"),
    [
        ({"g": [1]}, "'x'"),
        ({"x": [1.0]}, "'g'"),
        ({"x": [1.0, 2.0], "g": [1, None]}, "row 1"),
        ([1.0], "newdata must be a data frame"),
        ({"x": [], "g": []}, "newdata has no rows"),
    ],
)
def test_new_groups_that_cannot_be_read(data, newdata, message):
    frame = build_frame("y", "v", data, "~ x | g")
    with pytest.raises(ValueError, match=message):
        frame.new_levels(newdata)


# Levels without a formula


def test_levels_of_complete_rows(data):
    frame = build_frame("y", "v", data, "~ x | g/kind")
    for level, other in zip(frame.levels, random_levels("~ x | g/kind", data, 8), strict=True):
        assert (level.name, level.labels) == (other.name, other.labels)
        np.testing.assert_array_equal(level.codes, other.codes)
        np.testing.assert_array_equal(level.Z, other.Z)
    (unit,) = random_levels(None, None, 3)
    assert (unit.name, unit.labels) == ("unit", [0, 1, 2])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("g", np.nan, "'g' of random is missing in row 'b'"), ("x", np.inf, "infinite in row 'b'")],
)
def test_levels_of_rows_with_gaps(data, column, value, message):
    data[column] = data[column].astype(float)
    data.loc["b", column] = value
    with pytest.raises(ValueError, match=message):
        random_levels("~ x | g", data, 8)
