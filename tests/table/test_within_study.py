"""S in all the forms that users have it: one answer, checked, and matched to rows by label."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixmeta_jax.errors import InputError
from mixmeta_jax.table.blocks import Rows
from mixmeta_jax.table.frame import build_frame
from mixmeta_jax.table.matrices import vech
from mixmeta_jax.table.names import Names
from mixmeta_jax.table.rules import error_faults, judge_errors, raise_first
from mixmeta_jax.table.within_study import WithinStudy, read_errors

SD = np.array([[1.0, 2.0], [2.0, 2.0], [1.0, 3.0], [0.5, 1.0]])
RHO = 0.4
MATRICES = SD[:, :, None] * SD[:, None, :] * np.array([[1.0, RHO], [RHO, 1.0]])
TRIANGLES = vech(MATRICES)


def unit_matrices(S, rho, data, k):
    return read_errors(S, rho, Rows(data, ["y", "z"][:k])).unit


def check_units(S, index, outcomes):
    """Judge the matrices of units, all of them observed."""
    errors = judge_errors(WithinStudy(S, None), np.ones((1, *S.shape[:2]), bool))
    raise_first(error_faults(errors, Names(outcomes, ["x"], ["unit"], [["x"]], index)))


@pytest.fixture
def data():
    frame = pd.DataFrame(
        TRIANGLES.copy(), columns=["s11", "s21", "s22"], index=["i", "j", "k", "l"]
    )
    frame["y"] = [0.1, 0.2, 0.5, 0.4]
    frame["z"] = [1.0, 3.0, 2.0, 5.0]
    frame["study"] = ["b", "a", "b", "a"]
    return frame


@pytest.mark.parametrize(
    "S",
    [
        ["s11", "s21", "s22"],
        ("s11", "s21", "s22"),
        TRIANGLES,
        TRIANGLES.tolist(),
        pd.DataFrame(TRIANGLES, columns=["p", "q", "r"]),
        pd.DataFrame(TRIANGLES).astype("Float64"),
        MATRICES,
        list(MATRICES),
        [pd.DataFrame(matrix) for matrix in MATRICES],
    ],
    ids=["names", "tuple", "array", "lists", "frame", "nullable", "stack", "matrices", "frames"],
)
def test_all_forms_of_covariances_are_one(data, S):
    np.testing.assert_array_equal(unit_matrices(S, None, data, 2), MATRICES)
    frame = build_frame("y + z", S, data)
    np.testing.assert_allclose(frame.within.unit, MATRICES, rtol=1e-15)
    assert frame.within.blocks is None


@pytest.mark.parametrize(
    "S", [["s11", "s22"], SD**2, pd.DataFrame(SD**2)], ids=["names", "array", "frame"]
)
@pytest.mark.parametrize(
    "rho", [RHO, [RHO], np.full(4, RHO), [[1, RHO], [RHO, 1]]], ids=["1", "pair", "row", "matrix"]
)
def test_variances_and_a_correlation(data, S, rho):
    np.testing.assert_allclose(unit_matrices(S, rho, data, 2), MATRICES, rtol=1e-15)


@pytest.mark.parametrize("rows", [2, 3])
def test_a_square_frame_without_labels_has_a_line_for_each_row(data, rows):
    S = TRIANGLES[:2, [0, 2]] if rows == 2 else TRIANGLES[:3]
    outcomes = data[["y", "z"]].to_numpy()[:rows]
    by_array = build_frame(outcomes, S).within.unit
    np.testing.assert_array_equal(build_frame(outcomes, pd.DataFrame(S)).within.unit, by_array)


def test_variances_alone_have_no_correlation(data):
    S = unit_matrices(["s11", "s22"], None, data, 2)
    np.testing.assert_array_equal(S, SD[:, :, None] ** 2 * np.eye(2))


@pytest.mark.parametrize(
    "S",
    [
        "s11",
        ["s11"],
        TRIANGLES[:, 0],
        TRIANGLES[:, :1],
        pd.Series(TRIANGLES[:, 0]),
        MATRICES[:, :1, :1],
    ],
    ids=["name", "list", "vector", "column", "series", "stack"],
)
def test_one_outcome(data, S):
    expected = TRIANGLES[:, :1, None]
    np.testing.assert_array_equal(unit_matrices(S, None, data, 1), expected)


def test_values_are_read_by_position_over_the_rows_before_subset(data):
    values = pd.Series([1.0, 2.0, 3.0, 4.0], index=[9, 8, 7, 6])
    frame = build_frame("y", values, data, subset=[False, True, False, True])
    np.testing.assert_array_equal(frame.within.unit.ravel(), [2, 4])
    with pytest.raises(InputError, match=r"S has 2 rows, but the data have 4.*before subset"):
        build_frame("y", [2.0, 4.0], data, subset=[False, True, False, True])


def test_values_with_the_labels_of_the_data_in_another_order_are_refused(data):
    with pytest.raises(InputError, match=r"S.*another order.*loc\[data.index\]"):
        build_frame("y", data["s11"].iloc[::-1], data)


def test_rows_and_columns_of_missing_outcomes_are_zero(data):
    data.loc["j", "z"] = np.nan
    data.loc["j", ["s21", "s22"]] = np.nan
    S = build_frame("y + z", ["s11", "s21", "s22"], data).within.unit
    np.testing.assert_array_equal(S[1], [[4.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(S[0], MATRICES[0])


def test_what_is_wrong_where_no_outcome_is_observed_does_no_harm(data):
    data.loc["j", "z"] = np.nan
    data.loc["j", "s22"] = -np.inf
    S = build_frame("y + z", ["s11", "s22"], data, rho=[0.1, np.nan, 0.1, 0.1]).within.unit
    np.testing.assert_array_equal(S[1], [[4.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        ("j", "s11", np.nan, r"S is missing for 'y' in row 'j', where the outcome is observed"),
        ("j", "s21", np.nan, r"S is missing for 'z' with 'y' in row 'j'"),
        ("k", "s22", -1.0, r"negative variance \(-1\) for 'z' in row 'k'"),
        ("k", "s11", 0.0, r"zero variance \(0\) for 'y' in row 'k', but a covariance"),
        ("l", "s22", np.inf, r"infinite for 'z' in row 'l'"),
        ("l", "s21", -0.6, r"not positive definite in row 'l'.*smallest eigenvalue is -0.08"),
    ],
)
def test_matrices_that_are_no_covariances(data, row, column, value, message):
    data.loc[row, column] = value
    with pytest.raises(InputError, match=message):
        build_frame("y + z", ["s11", "s21", "s22"], data)


def test_singular_matrices_are_read_and_told(data):
    data.loc["l", "s21"] = 0.5
    assert build_frame("y + z", ["s11", "s21", "s22"], data).within.singular == (3,)
    data.loc["l", "y"] = np.nan
    assert build_frame("y + z", ["s11", "s21", "s22"], data).within.singular == ()
    blocks = {"a": A, "b": [[1.0, 1.0], [1.0, 1.0]]}
    assert build_frame("y", blocks, data.assign(y=1.0), random=ONE).within.singular == (0,)


@pytest.mark.parametrize("forms", [["s11", "s21", "s22"], "array"])
def test_rows_at_fault_are_counted_among_those_that_are_fitted(data, forms):
    data.loc["i", ["y", "z"]] = np.nan
    data.loc["k", "s22"] = -1.0
    S = data[["s11", "s21", "s22"]].to_numpy() if forms == "array" else forms
    with pytest.raises(InputError, match=r"negative variance \(-1\) for 'z' in row 'k'"):
        build_frame("y + z", S, data)
    with pytest.raises(InputError, match=r"negative variance \(-1\) for 'z' in row 'k'"):
        build_frame("y + z", S, data, subset=np.array([True, False, True, True]))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_definiteness_does_not_depend_on_the_scale(data, scale):
    stretch = np.array([1.0, scale])
    S = MATRICES * stretch[:, None] * stretch
    check_units(S, data.index, ["y", "z"])
    S[2, 0, 1] = S[2, 1, 0] = 1.01 * np.sqrt(S[2, 0, 0] * S[2, 1, 1])
    with pytest.raises(InputError, match="row 'k'"):
        check_units(S, data.index, ["y", "z"])


def test_asymmetry_beyond_rounding_is_refused(data):
    S = MATRICES.copy()
    S[1, 0, 1] *= 1 + 1e-13
    units = build_frame("y + z", S, data).within.unit
    np.testing.assert_array_equal(units, units.transpose(0, 2, 1))
    S[1, 0, 1] *= 1.1
    with pytest.raises(InputError, match="not symmetric in row 'j'"):
        build_frame("y + z", S, data)


@pytest.mark.parametrize("k", [1, 3])
def test_many_units_are_checked_at_once(k):
    n = 1_000_000 // k
    S = np.broadcast_to(np.eye(k), (n, k, k)).copy()
    S[-1, -1, -1] = -1.0
    index, outcomes = pd.RangeIndex(n), list("abc")[:k]
    start = time.perf_counter()
    with pytest.raises(InputError, match=f"negative variance .* in row {n - 1}"):
        check_units(S, index, outcomes)
    # A loop over a million rows takes longer than this on any machine.
    assert time.perf_counter() - start < 1.0


# Blocks that span rows, by the label of the outer group.

ONE = "~ 1 | study"
A = np.array([[1.0, 0.3], [0.3, 2.0]])
B = np.array([[3.0, -0.5], [-0.5, 1.0]])


def dense(within, n, k=1):
    """The blocks put into one matrix over all units."""
    matrix = np.zeros((n * k, n * k))
    for rows, block in within.blocks:
        lines = (rows[:, None] * k + np.arange(k)).ravel()
        matrix[np.ix_(lines, lines)] = block
    return matrix


def labelled(matrix, labels):
    return pd.DataFrame(matrix, index=labels, columns=labels)


def whole_of_a_and_b():
    """Rows are i (b), j (a), k (b), l (a)."""
    matrix = np.zeros((4, 4))
    matrix[np.ix_([0, 2], [0, 2])] = B
    matrix[np.ix_([1, 3], [1, 3])] = A
    return matrix


@pytest.mark.parametrize(
    "S",
    [
        {"a": A, "b": B},
        {"b": B.tolist(), "a": A},
        {"a": labelled(A, ["j", "l"]), "b": labelled(B, ["i", "k"])},
        {"a": labelled(A[::-1, ::-1], ["l", "j"]), "b": B},
        {"a": pd.DataFrame(A, index=["j", "l"]), "b": B},
        labelled(whole_of_a_and_b(), ["i", "j", "k", "l"]),
        labelled(whole_of_a_and_b()[::-1, ::-1], ["l", "k", "j", "i"]),
    ],
    ids=["arrays", "order", "labels", "turned", "index only", "whole", "whole turned"],
)
def test_blocks_are_matched_by_label(data, S):
    within = build_frame("y", S, data, random=ONE).within
    assert within.unit is None
    np.testing.assert_array_equal(dense(within, 4), whole_of_a_and_b())


def test_a_plain_block_covers_rows_that_are_dropped_for_missing_values(data):
    data.loc["i", "y"] = np.nan
    within = build_frame("y", {"a": A, "b": B}, data, random=ONE).within
    np.testing.assert_array_equal(dense(within, 3), whole_of_a_and_b()[1:, 1:])


def test_a_plain_block_covers_no_rows_that_subset_takes_away(data):
    S = {"a": A, "b": B[1:, 1:]}
    within = build_frame("y", S, data, random=ONE, subset=[False, True, True, True]).within
    np.testing.assert_array_equal(dense(within, 3), whole_of_a_and_b()[1:, 1:])
    with pytest.raises(InputError, match=r"study 'b' is 2 x 2, but the group has 1 row.*1 x 1"):
        build_frame("y", {"a": A, "b": B}, data, random=ONE, subset=[False, True, True, True])


def test_a_labelled_block_may_leave_out_rows_that_are_not_fitted(data):
    data.loc["i", "y"] = np.nan
    S = {"a": A, "b": labelled(B[1:, 1:], ["k"])}
    within = build_frame("y", S, data, random=ONE).within
    np.testing.assert_array_equal(dense(within, 3), whole_of_a_and_b()[1:, 1:])


def test_blocks_of_groups_without_fitted_rows_are_left_alone(data):
    data.loc[["i", "k"], "y"] = np.nan
    for S in ({"a": A}, {"a": A, "b": B}, {"a": A, "b": np.eye(7)}):
        within = build_frame("y", S, data, random=ONE).within
        np.testing.assert_array_equal(dense(within, 2), A)
    within = build_frame("y", {"a": A, "b": B}, data, random=ONE, subset="study == 'a'").within
    np.testing.assert_array_equal(dense(within, 2), A)


BIG = np.diag([1.0, 2.0, 3.0, 4.0]) + 0.1


def test_blocks_of_several_outcomes_are_outcome_fastest(data):
    data.loc["j", "z"] = np.nan
    within = build_frame("y + z", {"a": BIG, "b": 2 * BIG}, data, random=ONE).within
    expected = np.zeros((8, 8))
    expected[np.ix_([0, 1, 4, 5], [0, 1, 4, 5])] = 2 * BIG
    seen = [2, 6, 7]
    expected[np.ix_(seen, seen)] = BIG[np.ix_([0, 2, 3], [0, 2, 3])]
    np.testing.assert_allclose(dense(within, 4, 2), expected, rtol=1e-15)


def test_blocks_may_name_rows_and_outcomes(data):
    plain = dense(build_frame("y + z", {"a": BIG, "b": 2 * BIG}, data, random=ONE).within, 4, 2)
    pairs = pd.MultiIndex.from_product([["j", "l"], ["y", "z"]])
    block = labelled(BIG, pairs)
    order = [3, 0, 2, 1]
    rows = labelled(BIG, ["j", "j", "l", "l"])
    for S in (block, block.iloc[order, order], rows):
        within = build_frame("y + z", {"a": S, "b": 2 * BIG}, data, random=ONE).within
        np.testing.assert_array_equal(dense(within, 4, 2), plain)
    # An outcome that is missing need not be in the block.
    data.loc["j", "z"] = np.nan
    within = build_frame(
        "y + z",
        {"a": block.drop(("j", "z")).drop(columns=[("j", "z")]), "b": BIG},
        data,
        random=ONE,
    ).within
    assert dense(within, 4, 2)[3].tolist() == [0.0] * 8


@given(order=st.permutations(range(4)), turned=st.permutations(range(2)))
def test_the_order_of_the_rows_changes_no_covariance(order, turned):
    data = pd.DataFrame({"y": 0.1, "study": ["b", "a", "b", "a"]}, index=["i", "j", "k", "l"])
    shuffled = data.iloc[list(order)]
    t = list(turned)
    S = {"a": labelled(A[np.ix_(t, t)], [["j", "l"][i] for i in t]), "b": labelled(B, ["i", "k"])}
    frame = build_frame("y", S, shuffled, random=ONE)
    expected = labelled(whole_of_a_and_b(), data.index).loc[shuffled.index, shuffled.index]
    np.testing.assert_array_equal(dense(frame.within, 4), expected)


def test_labels_are_values(data):
    data["study"] = [2, 1, 2, 1]
    within = build_frame("y", {1.0: A, np.int64(2): B}, data, random=ONE).within
    np.testing.assert_array_equal(dense(within, 4), whole_of_a_and_b())
    with pytest.raises(InputError, match=r"study '1'.*no such group.*look like 2, 1"):
        build_frame("y", {"1": A, "2": B}, data, random=ONE)


def test_inner_levels_do_not_split_a_block(data):
    data["arm"] = [1, 1, 2, 2]
    within = build_frame("y", {"a": A, "b": B}, data, random="~ 1 | study/arm").within
    np.testing.assert_array_equal(dense(within, 4), whole_of_a_and_b())


def test_without_random_the_label_is_that_of_the_row(data):
    data["unit"] = 1  # No group: only the name that a row's own level has in tables.
    S = {label: [[v]] for label, v in data["s11"].items()}
    within = build_frame("y", S, data).within
    np.testing.assert_array_equal(dense(within, 4), np.diag(data["s11"]))
    twice = data.set_axis(["i", "i", "k", "l"])
    with pytest.raises(InputError, match="label 'i' occurs twice"):
        build_frame("y", S, twice)


@pytest.mark.parametrize(
    ("S", "message"),
    [
        ({"a": A}, "no block for study 'b', which has rows to fit"),
        ({"a": A, "b": B, "c": A}, "block for study 'c', but the data have no such group"),
        ({"a": A, "b": np.eye(3)}, r"study 'b' is 3 x 3.*2 row\(s\) of 1 outcome.*must be 2 x 2"),
        ({"a": A, "b": B[:1]}, r"study 'b' has shape \(1, 2\): it must be square"),
        ({"a": A, "b": [["x", 1], [1, 2]]}, "study 'b' holds 'x' in row 0, column 0"),
        ({"a": A, "b": -B}, r"negative variance \(-3\) for row 'i' in the block for study 'b'"),
        ({"a": A, "b": [[1, 2], [2, 1]]}, "not positive definite in the block for study 'b'.* -1"),
        ({"a": A, "b": [[1, 0.2], [0.1, 1]]}, "not symmetric in the block for study 'b'"),
        ({"a": A, "b": [[1, np.nan], [np.nan, 1]]}, "missing for row 'k' with row 'i' in .* 'b'"),
        ({"a": A, "b": [[np.inf, 0], [0, 1]]}, "infinite for row 'i' in the block for study 'b'"),
        (
            {"a": A, "b": labelled(B, ["i", "j"])},
            "'b' covers a row 'j', which is not among .*'i', 'k'",
        ),
        ({"a": A, "b": labelled(B, ["i", "i"])}, "'b' covers a row twice"),
        ({"a": A, "b": labelled(B[:1, :1], ["k"])}, "'b' does not cover row 'i'"),
        (
            {"a": A, "b": labelled(B, ["i", "k"])[["k", "i"]]},
            "'b' must have the labels of its index",
        ),
        (
            labelled(BIG, ["i", "j", "k", "l"]),
            r"0.1 between the rows 'i' and 'j'.*share their outer",
        ),
    ],
)
def test_blocks_that_do_not_fit(data, S, message):
    with pytest.raises(InputError, match=message):
        build_frame("y", S, data, random=ONE)


def test_blocks_of_several_outcomes_that_do_not_fit(data):
    slowest = labelled(BIG, ["j", "l", "j", "l"])
    with pytest.raises(InputError, match="'a' must hold the label of each of its rows 2 times"):
        build_frame("y + z", {"a": slowest, "b": BIG}, data, random=ONE)
    names = labelled(BIG, pd.MultiIndex.from_product([["j", "l"], ["y", "w"]]))
    with pytest.raises(InputError, match=r"'a' names the outcome 'w'.*'y', 'z'"):
        build_frame("y + z", {"a": names, "b": BIG}, data, random=ONE)
    negative = {"a": np.diag([1.0, 1, 1, -1]), "b": BIG}
    with pytest.raises(InputError, match="outcome 2 of row 'l' in the block for study 'a'"):
        build_frame("y + z", negative, data, random=ONE)


def test_correlations_beside_covariances_are_refused(data):
    with pytest.raises(InputError, match="rho is given, but the blocks"):
        build_frame("y", {"a": A, "b": B}, data, random=ONE, rho=0.5)
    with pytest.raises(InputError, match="rho is given, but S holds covariances"):
        build_frame("y + z", MATRICES, data, rho=0.5)
    with pytest.raises(InputError, match="one outcome has no correlation"):
        build_frame("y", "s11", data, rho=0.5)


@pytest.mark.parametrize(
    ("S", "message"),
    [
        ("s12", "no column 's12'.*named in S.*Did you mean"),
        (["s11", "s12"], "no column 's12'"),
        ("s11", r"S has 1 columns for 2 outcome\(s\): give 2 \(variances\) or 3"),
        (np.ones((4, 4)), "S has 4 columns for 2"),
        (np.ones((4, 3, 3)), r"matrices of 3 x 3, but there are 2.*2 x 2"),
        (np.ones((3, 2)), "S has 3 rows, but the data have 4"),
        (1.0, "S has 0 axes"),
        ([np.eye(2), np.eye(3), np.eye(2), np.eye(2)], "S must be rows of one length"),
    ],
)
def test_forms_that_cannot_be_read(data, S, message):
    with pytest.raises(InputError, match=message):
        build_frame("y + z", S, data)


def test_text_among_the_variances_is_named(data):
    data["s11"] = [1.0, "n/a", 2.0, 3.0]
    with pytest.raises(InputError, match="S column 's11' holds 'n/a' in row 'j'"):
        build_frame("y", "s11", data)


def test_blocks_without_a_grouping_say_how_to_give_one():
    data = pd.DataFrame({"y": [0.1, 0.2, 0.3], "g": ["a", "a", "b"]})
    blocks = {"a": np.eye(2), "b": np.eye(1)}
    with pytest.raises(InputError, match=r"no such group.*random='~ 1 \| group'"):
        build_frame("y", blocks, data)
