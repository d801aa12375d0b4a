"""The model frame: which rows are fitted, what stands beside each, and what new data become."""

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix

from mixmeta_jax.errors import InputError
from mixmeta_jax.formulas.transforms import register_transform
from mixmeta_jax.table.frame import build_frame

NAN = np.nan

ROUNDING = 1e-12
"""Absolute, on polynomials whose entries are below one."""


@pytest.fixture
def data():
    return pd.DataFrame(
        {
            "y": [0.1, 0.4, -0.2, 0.3, 0.6, 0.0, 0.2],
            "z": [0.2, 0.5, 0.1, 0.0, 0.4, 0.3, 0.1],
            "v": [0.1, 0.2, 0.1, 0.3, 0.2, 0.1, 0.4],
            "w": [0.2, 0.1, 0.1, 0.2, 0.2, 0.1, 0.3],
            "x": [1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 11.0],
            "kind": ["p", "q", "p", "q", "r", "q", "r"],
            "district": [12, 11, 12, 11, 13, 13, 12],
            "study": [1, 1, 2, 2, 1, 2, 1],
            "shift": [0.0, 0.1, 0.0, 0.2, 0.0, 0.3, 0.0],
        },
        index=list("abcdefg"),
    )


def with_value(data, row, column, value):
    """A copy of the data with one value changed."""
    data = data.astype({column: object}) if isinstance(value, str) or value is None else data.copy()
    data.loc[row, column] = value
    return data


def labels(frame):
    return "".join(frame.index)


# Which rows are fitted.


@pytest.mark.parametrize(
    ("column", "changes"),
    [
        ("x", {"formula": "y ~ x"}),
        ("x", {"formula": "y ~ poly(x, 2)"}),
        ("x", {"formula": "y ~ I(x**2)"}),
        ("x", {"formula": "y ~ kind + {x - 1}"}),
        ("kind", {"formula": "y ~ kind"}),
        ("kind", {"formula": "y ~ C(kind)"}),
        ("district", {"formula": "y", "random": "~ 1 | district/study"}),
        ("study", {"formula": "y", "random": "~ 1 | district/study"}),
        ("x", {"formula": "y", "random": "~ x | district"}),
        ("shift", {"formula": "y", "offset": "shift"}),
        ("y", {"formula": "y"}),
    ],
)
@pytest.mark.parametrize("dtype", [None, "object", "nullable"])
def test_a_row_without_a_predictor_group_offset_or_outcome_is_dropped(data, column, changes, dtype):
    if dtype == "object":
        data = data.astype({column: object})
        data.loc["d", column] = None
    else:
        data.loc["d", column] = None if column == "kind" else NAN
        data = data.convert_dtypes() if dtype == "nullable" else data
    frame = build_frame(**{"S": "v", "data": data, **changes})
    assert labels(frame) == "abcefg"
    assert frame.kept.tolist() == [True] * 3 + [False] + [True] * 3
    assert "".join(frame.full_index) == "abcdefg"
    assert frame.n == len(frame.X) == len(frame.offset) == len(frame.within.unit) == 6
    assert not np.isnan(frame.X).any()


def test_an_outcome_that_is_missing_leaves_its_row(data):
    data.loc["b", "y"] = NAN
    data.loc["d", ["y", "z"]] = NAN
    frame = build_frame("y + z ~ x", ["v", "w"], data)
    assert labels(frame) == "abcefg"
    np.testing.assert_array_equal(np.isnan(frame.y)[1], [True, False])
    np.testing.assert_array_equal(frame.X[:, 1], data["x"][frame.kept])


def test_a_missing_category_is_never_the_reference(data):
    for nothing in (None, NAN, pd.NA):
        data["kind"] = pd.Categorical(["p", "q", nothing, "q", "r", "q", "r"])
        frame = build_frame("y ~ kind", "v", data)
        assert labels(frame) == "abdefg"
        assert frame.x_names == ["(Intercept)", "kind[T.q]", "kind[T.r]"]


def test_only_rows_that_are_fitted_teach_a_transform(data):
    """Rows that leave do so before ``poly`` and the levels of a category are learnt."""
    data.loc["g", "y"] = NAN
    data.loc["b", "x"] = NAN
    data["kind"] = ["p", "q", "p", "q", "q", "q", "only where y is missing"]
    frame = build_frame("y ~ poly(x, 2) + kind", "v", data, subset=data["study"] < 3)
    clean = model_matrix("~ poly(x, 2) + kind", data.loc[list("acdef")])
    np.testing.assert_allclose(frame.X, clean, rtol=0, atol=ROUNDING)
    assert frame.x_names[1:] == list(clean.columns)[1:]


def test_a_bare_name_is_an_outcome(data):
    bare, written = build_frame("y", "v", data), build_frame("y ~ 1", "v", data)
    assert bare.outcome_names == ["y"]
    assert bare.x_names == written.x_names == ["(Intercept)"]
    np.testing.assert_array_equal(bare.y[:, 0], data["y"])
    np.testing.assert_array_equal(bare.X, np.ones((7, 1)))


@pytest.mark.parametrize(
    "subset",
    [
        [True, False, True, True, False, True, True],
        np.array([1, 0, 1, 1, 0, 1, 1], bool),
        pd.Series([True, False, True, True, False, True, True]),
        pd.array([True, False, True, True, False, True, True], "boolean"),
        "kind != 'x' and not (index == 'b' or index == 'e')",
        lambda frame: ~frame.index.isin(["b", "e"]),
    ],
    ids=["list", "array", "series", "nullable", "query", "function"],
)
def test_subset_comes_first(data, subset):
    data.loc["b", "x"] = np.inf
    data.loc["e", "v"] = -1.0
    data.loc["g", "x"] = NAN
    frame = build_frame("y ~ x", "v", data, subset=subset)
    assert labels(frame) == "acdf"
    assert "".join(frame.full_index) == "acdfg"
    assert frame.kept.tolist() == [True] * 4 + [False]
    np.testing.assert_array_equal(frame.within.unit.ravel(), data["v"][list("acdf")])


def test_an_outcome_need_not_be_defined_in_rows_that_subset_takes_away(data):
    frame = build_frame("log(z)", "v", data, subset="z > 0")
    np.testing.assert_array_equal(frame.y[:, 0], np.log(data["z"][data["z"] > 0]))
    with pytest.raises(InputError, match=r"outcome 'log\(z\)' is -inf in row 'd', where z is 0"):
        build_frame("log(z)", "v", data)
    with pytest.raises(InputError, match=r"outcome 'log\(y\)' is nan in row 'c', where y is -0.2"):
        build_frame("log(y)", "v", data)


def test_na_action(data):
    gap = with_value(data, "d", "x", NAN)
    omit = build_frame("y ~ x", "v", gap, na_action="omit")
    exclude = build_frame("y ~ x", "v", gap, na_action="exclude")
    np.testing.assert_array_equal(omit.kept, exclude.kept)
    with pytest.raises(InputError, match="In row 'd' 'x' is missing"):
        build_frame("y ~ x", "v", gap, na_action="raise")
    nothing = with_value(data, "d", "y", NAN)
    with pytest.raises(InputError, match="In row 'd' every outcome is missing"):
        build_frame("y ~ x", "v", nothing, na_action="raise")
    with pytest.raises(InputError, match="In row 'c' the offset is missing"):
        build_frame("y", "v", data, offset=[0, 0, NAN, 0, 0, 0, 0], na_action="raise")
    assert build_frame("y ~ x", "v", data, na_action="raise").n == 7
    with pytest.raises(InputError, match="'omit', 'exclude', 'raise'"):
        build_frame("y", "v", data, na_action="pass")


def test_the_users_data_are_not_changed(data):
    data.loc["d", "kind"] = None
    data["flag"] = pd.array([True, False, None, True, False, True, True], "boolean")
    before, S = data.copy(deep=True), data[["v"]].to_numpy().copy()
    frame = build_frame(
        "y ~ kind + flag", S, data, random="~ x | district", offset="shift", subset="x != 2"
    )
    frame.new_X(data)
    pd.testing.assert_frame_equal(data, before)
    np.testing.assert_array_equal(S, before[["v"]])


# Names.


@pytest.mark.parametrize(
    ("formula", "names"),
    [
        ("y", ["(Intercept)"]),
        ("y ~ x", ["(Intercept)", "x"]),
        ("y + z", ["y", "z"]),
        ("y + z ~ x", ["y.(Intercept)", "z.(Intercept)", "y.x", "z.x"]),
        ("y + z ~ 0 + x", ["y.x", "z.x"]),
        (
            "cbind(y, log(x)) ~ study",
            ["y.(Intercept)", "log(x).(Intercept)", "y.study", "log(x).study"],
        ),
    ],
)
def test_names_of_coefficients(data, formula, names):
    S = np.full((7, 1 if "+ z" not in formula and "cbind" not in formula else 2), 0.1)
    assert build_frame(formula, S, data).coef_names() == names


def test_names_of_random_effects(data):
    frame = build_frame(
        "y + z", ["v", "w"], data, random={"district": "~ x", "district/study": "~ 1"}
    )
    assert frame.random_names(0) == ["y.(Intercept)", "z.(Intercept)", "y.x", "z.x"]
    assert frame.random_names(1) == ["y", "z"]
    assert build_frame("y", "v", data, random="~ x | study").random_names(0) == ["(Intercept)", "x"]


def test_a_column_called_intercept_keeps_its_name(data):
    data["Intercept"] = data["x"]
    assert build_frame("y ~ 0 + Intercept", "v", data).x_names == ["Intercept"]
    assert build_frame("y ~ Intercept", "v", data).x_names == ["(Intercept)", "Intercept"]


# Outcomes, offsets and data of other kinds.


def test_several_outcomes_without_data(data):
    y = data[["y", "z"]].to_numpy()
    frame = build_frame(y, data[["v", "w"]].to_numpy(), rho=0.5, subset=[True] * 6 + [False])
    assert frame.outcome_names == frame.coef_names() == ["y1", "y2"]
    assert frame.index.tolist() == list(range(6))
    assert build_frame(data[["y", "z"]], [[1, 0, 1]] * 7).index.tolist() == list("abcdefg")


def test_offsets_of_several_outcomes(data):
    one = build_frame("y + z", ["v", "w"], data, offset="shift").offset
    np.testing.assert_array_equal(one, np.column_stack([data["shift"]] * 2))
    two = build_frame("y + z", ["v", "w"], data, offset=["shift", "x"]).offset
    np.testing.assert_array_equal(two, data[["shift", "x"]])
    data.loc["c", "x"] = NAN
    assert labels(build_frame("y + z", ["v", "w"], data, offset=["shift", "x"])) == "abdefg"


class Table:
    """What polars and narwhals frames have in common, as far as it is used."""

    def __init__(self, frame, converts):
        self.frame = frame
        self.columns = list(frame.columns)
        self.converts = converts

    def __getitem__(self, name):
        return self.frame[name]

    def to_pandas(self):
        if not self.converts:
            raise ModuleNotFoundError("pyarrow is required")
        return self.frame.copy()


@pytest.mark.parametrize("converts", [True, False], ids=["pyarrow", "no pyarrow"])
def test_frames_of_other_libraries(data, converts):
    data.loc["b", "kind"] = None
    data.loc["c", "x"] = NAN
    expected = build_frame("y ~ x + kind", "v", data, random="~ 1 | district")
    frame = build_frame("y ~ x + kind", "v", Table(data, converts), random="~ 1 | district")
    np.testing.assert_array_equal(frame.X, expected.X)
    assert frame.x_names == expected.x_names
    assert frame.levels[0].labels == expected.levels[0].labels == [12, 11, 13]
    np.testing.assert_array_equal(frame.new_X(Table(data, converts))[0], expected.new_X(data)[0])


def test_a_mapping_of_columns(data):
    frame = build_frame("y ~ kind", "v", data.to_dict("list"))
    np.testing.assert_array_equal(frame.X, build_frame("y ~ kind", "v", data).X)


# New data.


def test_new_predictors(data):
    frame = build_frame("y ~ poly(x, 2) + C(study)", "v", data)
    X, index = frame.new_X(data[::-1])
    np.testing.assert_allclose(X, frame.X[::-1], rtol=0, atol=ROUNDING)
    assert list(index) == list("gfedcba")
    newdata = data[["x", "study"]].astype({"x": "Float64"})
    newdata.loc["c", "x"] = None
    gap, _ = frame.new_X(newdata)
    assert np.isnan(gap).all(axis=1).tolist() == [False, False, True] + [False] * 4
    np.testing.assert_allclose(gap[3:], frame.X[3:], rtol=0, atol=ROUNDING)


def test_new_data_that_cannot_be_read(data):
    frame = build_frame("y ~ x + kind", "v", data)
    with pytest.raises(InputError, match="no column 'x' in the new data"):
        frame.new_X(data[["kind"]])
    with pytest.raises(InputError, match=r"'kind' of the new data holds 's'.*knows 'p', 'q', 'r'"):
        frame.new_X({"x": [1.0, 2.0], "kind": ["p", "s"]})
    with pytest.raises(InputError, match="newdata must be a data frame"):
        frame.new_X([1, 2])
    with pytest.raises(InputError, match="newdata has no rows"):
        frame.new_X(data.iloc[:0])
    with pytest.raises(InputError, match="newdata is not a mapping of columns of one length"):
        frame.new_X({"x": 1.0, "kind": "p"})


def test_an_intercept_alone_takes_any_new_data(data):
    X, index = build_frame("y", "v", data).new_X(pd.DataFrame({"other": [1, 2]}, index=[5, 6]))
    np.testing.assert_array_equal(X, [[1.0], [1.0]])
    assert index.tolist() == [5, 6]


def test_new_levels(data):
    frame = build_frame("y", "v", data, random={"district": "~ x", "district/study": "~ 1"})
    newdata = pd.DataFrame({"x": [2.0, 3.0, 4.0], "district": [9, 9, 11], "study": [1, 2, 1]})
    outer, inner = frame.new_levels(newdata)
    assert outer.labels == [9, 11]
    assert outer.codes.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(outer.Z, [[1, 2], [1, 3], [1, 4]])
    assert inner.labels == [(9, 1), (9, 2), (11, 1)]
    np.testing.assert_array_equal(inner.Z, np.ones((3, 1)))
    with pytest.raises(InputError, match="no column 'study' in the new data"):
        frame.new_levels(newdata[["x", "district"]])
    with pytest.raises(InputError, match="newdata has no group in row 1"):
        frame.new_levels(newdata.assign(study=[1, None, 2]))


def test_new_units(data):
    (level,) = build_frame("y", "v", data).new_levels(pd.DataFrame({"a": [1, 2]}, index=["s", "t"]))
    assert level.labels == ["s", "t"]
    assert level.codes.tolist() == [0, 1]


# What the data cannot carry.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formula": "y ~ x + I(2 * x)"}, r"'.*x.*' is collinear with '.*x.*' in the rows where"),
        ({"formula": "y ~ x + I(1e9 * x + 1e9)"}, "is collinear with .*x.* in the rows where"),
        ({"formula": "y ~ 0 + kind + I(kind == 'p')"}, r"is collinear with 'kind\[p\]'"),
        ({"formula": "y ~ I(0 * x)"}, r"'I\(0 \* x\)' is zero in every row"),
        ({"formula": "y ~ x + kind", "subset": "x < 3"}, r"'y' is observed in 2 row\(s\), fewer"),
        ({"formula": "y ~ kind", "subset": "kind == 'p'"}, "'kind' has a single category"),
        ({"formula": "y ~ 0"}, "has no predictor"),
        ({"formula": "y ~ ."}, "name the predictors one by one"),
        ({"formula": "y ~ x | kind"}, "groups belong in random"),
        (
            {"formula": "y ~ log(shift)"},
            r"term 'log\(shift\)' is -inf in row 'a', where shift is 0",
        ),
        ({"formula": "y ~ ns(x, knots=[99])"}, r"knot 99 of ns\(\) lies outside"),
    ],
)
def test_formulas_that_the_data_cannot_carry(data, changes, message):
    with pytest.raises(InputError, match=message):
        build_frame(**{"S": "v", "data": data, **changes})


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1e9, 1e150])
def test_predictors_of_any_scale_can_be_told_apart(data, scale):
    data["x"] = (data["x"] - 4) * scale
    assert build_frame("y ~ x", "v", data).p == 2


def test_predictors_are_judged_for_each_outcome(data):
    """A contrast that the rows of one outcome hold need not be there for the other."""
    data.loc[data["kind"] == "q", "z"] = NAN
    with pytest.raises(InputError, match=r"'kind\[T.q\]' is zero .* outcome 'z'"):
        build_frame("y + z ~ kind", ["v", "w"], data)
    assert build_frame("y ~ kind", "v", data).p == 3
    data["half"] = (data["kind"] != "q").astype(float)
    with pytest.raises(InputError, match=r"'.*' is collinear with '.*' .* outcome 'z' is observed"):
        build_frame("y + z ~ half", ["v", "w"], data)


def test_an_outcome_that_is_never_observed(data):
    data["z"] = NAN
    with pytest.raises(InputError, match="outcome 'z' is missing in every row"):
        build_frame("y + z", ["v", "w"], data)
    with pytest.raises(InputError, match=r"None of the 7 row\(s\).*every outcome is missing"):
        build_frame("z", "v", data)
    data["x"] = NAN
    with pytest.raises(InputError, match=r"None of the 7 row\(s\).*misses a predictor"):
        build_frame("y ~ x", "v", data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "no data"),
        ({"data": 3}, "data must be a data frame .* not int"),
        ({"S": None}, "S, the error variances of the outcomes, is missing"),
        ({"formula": 3}, "must be text, or the outcomes .* not 3"),
        ({"formula": None}, "must be text, or the outcomes"),
        ({"formula": ["y"]}, "must be text, or the outcomes"),
        ({"formula": np.ones(3)}, "3 rows of outcomes, but data has 7"),
        ({"formula": np.empty((0, 1))}, "no outcomes"),
        ({"formula": pd.DataFrame(np.ones((7, 2)), columns=["a", "a"])}, "'a' is named twice"),
        ({"subset": [1, 0, 1, 1, 1, 1, 1]}, "true or false values .* type int64"),
        ({"subset": "nothing > 1"}, "subset='nothing > 1' cannot be evaluated"),
        ({"subset": lambda frame: frame["x"] > 99}, "subset selects no row"),
        ({"offset": "shft"}, "'shft'.*offset.*Did you mean 'shift'"),
        ({"offset": [0.0] * 6}, r"offset has shape \(6, 1\): it must have 7 rows"),
        ({"offset": np.ones((7, 2))}, "one column"),
    ],
)
def test_arguments_of_another_kind(data, changes, message):
    with pytest.raises(InputError, match=message):
        build_frame(**{"formula": "y", "S": "v", "data": data, **changes})


def test_the_formula_is_evaluated_once(data):
    calls = []
    register_transform("counted", lambda x: calls.append(1) or x)
    assert build_frame("y ~ counted(x)", "v", data).p == 2
    # Once, and once with the rows in another order.
    assert len(calls) == 2
