"""What formulas say: outcomes, the columns they read, and the matrices that they make."""

import numpy as np
import pandas as pd
import pytest

from mixmeta_jax.errors import InputError
from mixmeta_jax.formulas.formula import columns_of, evaluate_outcome, split_formula
from mixmeta_jax.formulas.model_matrix import build_matrix


@pytest.fixture
def data():
    return pd.DataFrame(
        {
            "y": [1.0, 2.0, np.nan, 4.0, 5.0],
            "x": [1, 2, 3, 4, 6],
            "log.or": [0.1, 0.2, 0.3, 0.4, 0.5],
            "a b": [2.0, 3.0, 5.0, 7.0, 11.0],
            "kind": ["q", "p", "q", "r", "p"],
            "scale": [3.0, 1.0, 4.0, 1.0, 5.0],
            "dose": [10, 20, 10, 20, 10],
        },
        index=[7, 7, 8, 9, 9],
    )


def matrix(predictors, data):
    """The matrix of a right-hand side as a frame, by the way that a fit takes."""
    sides = split_formula(f"y ~ {predictors}")
    columns = columns_of(sides.predictors, data, "the formula")
    made = build_matrix(sides.predictors, data, columns)
    return pd.DataFrame(made.values, columns=made.names, index=data.index)


@pytest.mark.parametrize(
    ("formula", "outcomes", "predictors"),
    [
        ("logor", ["logor"], "1"),
        ("logor ~ 1", ["logor"], "1"),
        ("logor ~", ["logor"], "1"),
        ("PD + AL ~ x", ["PD", "AL"], "x"),
        ("cbind(PD, AL) ~ x", ["PD", "AL"], "x"),
        ("cbind(PD + AL) ~ x", ["PD", "AL"], "x"),
        ("cbind( a , b,c )", ["a", "b", "c"], "1"),
        ("`a b` + `c+d` ~ x", ["a b", "c+d"], "x"),
        ("log(a) + I(b + c) + {d + e}", ["log(a)", "I(b + c)", "{d + e}"], "1"),
        ("cbind(f(a, b), c)", ["f(a, b)", "c"], "1"),
        ("y ~ factor(x) + as.factor(z)", ["y"], "C(x) + C(z)"),
    ],
)
def test_sides(formula, outcomes, predictors):
    sides = split_formula(formula)
    assert sides.names == outcomes
    assert sides.predictors == predictors


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("y", [1, 2, np.nan, 4, 5]),
        ("`a b`", [2, 3, 5, 7, 11]),
        ("log.or", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("log(x)", np.log([1, 2, 3, 4, 6])),
        ("np.sqrt(`a b`)", np.sqrt([2, 3, 5, 7, 11])),
        ("I(y - x)", [0, 0, np.nan, 0, -1]),
        ("{y + x}", [2, 4, np.nan, 8, 11]),
        ("y - x", [0, 0, np.nan, 0, -1]),
        ("scale * 2", [6, 2, 8, 2, 10]),
    ],
)
def test_outcomes_are_columns_or_expressions(data, expression, values):
    np.testing.assert_allclose(evaluate_outcome(expression, data), values, rtol=1e-15)


@pytest.mark.parametrize(
    "values",
    [
        pd.array([1.5, None, 2.0], "Float64"),
        pd.array([1, None, 2], "Int64"),
        pd.array([True, None, False], "boolean"),
        np.array([1, None, 2.0], object),
        np.array([1, pd.NA, 2.0], object),
        pd.Categorical([1, None, 2]),
        np.array([1.5, np.nan, 2.0], np.float32),
    ],
    ids=["Float64", "Int64", "boolean", "object", "object with NA", "categorical", "float32"],
)
def test_outcomes_of_every_type(values):
    y = evaluate_outcome("y", pd.DataFrame({"y": values}))
    assert y.dtype == np.float64
    expected = [float(v) if not pd.isna(v) else np.nan for v in values]
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pd.to_datetime(["2001-01-01", "2002-01-01"]), "real numbers, not of dates"),
        (np.array([1.0, 2j]), "real numbers, not of complex numbers"),
        (["0.1", "0.2"], "'0.1' in row 0, which is not a number"),
        (["0.1", "n/a"], "'n/a' in row 1, which is not a number"),
        (pd.Categorical(["0.1", "n/a"]), "'n/a' in row 1, which is not a number"),
        ([0.1, [0.2]], r"row 1"),
    ],
)
def test_outcomes_that_are_no_numbers(values, message):
    with pytest.raises(InputError, match=message):
        evaluate_outcome("y", pd.DataFrame({"y": values}))


def test_the_row_at_fault_is_found_by_position(data):
    data["x"] = [1.0, 2.0, 3.0, np.inf, 5.0]
    data["text"] = [1, "two", 3, 4, 5]
    with pytest.raises(InputError, match="infinite in row 9"):
        evaluate_outcome("x", data)
    with pytest.raises(InputError, match="'two' in row 7"):
        evaluate_outcome("text", data)


@pytest.mark.parametrize(
    ("predictors", "columns"),
    [
        ("1", []),
        ("x + kind", ["x", "kind"]),
        ("x * kind", ["x", "kind"]),
        ("I(x**2) + {x - scale}", ["x", "scale"]),
        ("`a b` + log(`a b`)", ["a b"]),
        ("poly(x, 2) + ns(x, knots=[3])", ["x"]),
        ("C(dose, Treatment(20))", ["dose"]),
        ("np.log(x) + scale(x)", ["x"]),
        ("scale(scale)", ["scale"]),
        ("I(scale + x)", ["scale", "x"]),
        ("log.or", ["log.or"]),
    ],
)
def test_columns_that_a_formula_reads(data, predictors, columns):
    assert columns_of(predictors, data, "the formula") == columns


@pytest.mark.parametrize(
    ("predictors", "names"),
    [
        ("x", ["(Intercept)", "x"]),
        ("0 + x", ["x"]),
        ("x - 1", ["x"]),
        ("-1 + kind", ["kind[p]", "kind[q]", "kind[r]"]),
        ("kind", ["(Intercept)", "kind[T.q]", "kind[T.r]"]),
        ("factor(dose)", ["(Intercept)", "C(dose)[T.20]"]),
        ("x:scale", ["(Intercept)", "x:scale"]),
        ("`a b`", ["(Intercept)", "a b"]),
    ],
)
def test_names_of_the_matrix(data, predictors, names):
    assert list(matrix(predictors, data)) == names


def test_values_of_the_matrix(data):
    made = matrix("x * kind + I(x**2) + {scale - 1} + x:scale", data)
    x, q = data["x"].astype(float), (data["kind"] == "q").astype(float)
    expected = {
        "(Intercept)": x * 0 + 1,
        "x": x,
        "kind[T.q]": q,
        "x:kind[T.q]": x * q,
        "I(x ** 2)": x**2,
        "scale - 1": data["scale"] - 1,
        "x:scale": x * data["scale"],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(made[name], values, rtol=1e-15, err_msg=name)


def test_a_column_of_the_name_of_a_function_does_not_hide_it(data):
    assert "scale" in data
    without = data.drop(columns="scale")
    pd.testing.assert_frame_equal(
        matrix("scale(`log.or`)", data), matrix("scale(`log.or`)", without)
    )


def test_a_subclass_of_a_data_frame_is_one(data):
    # formulaic 1.1 does not know it; later ones read it by other code.
    class Own(pd.DataFrame):
        pass

    expected = matrix("`log.or`", data)
    pd.testing.assert_frame_equal(matrix("`log.or`", Own(data)), expected)


def test_powers_as_in_r(data):
    np.testing.assert_array_equal(matrix("I(x^2)", data).iloc[:, 1], data["x"] ** 2)


def test_powers_do_not_overflow(data):
    data["year"] = [2001, 2002, 2003, 2004, 2005]
    np.testing.assert_allclose(
        matrix("I(year**6)", data).iloc[:, 1], data["year"].astype(float) ** 6, rtol=1e-14
    )
    np.testing.assert_allclose(
        matrix("I(year**-1)", data).iloc[:, 1], 1 / data["year"].astype(float), rtol=1e-14
    )


@pytest.mark.parametrize("dtype", ["int8", "Int64", "float32", "Float64", object])
def test_numbers_of_every_type_are_numbers(data, dtype):
    typed = data.assign(x=data["x"].astype(dtype))
    np.testing.assert_allclose(matrix("x + I(x**2)", typed), matrix("x + I(x**2)", data))


@pytest.mark.parametrize("dtype", [object, "string", "category", "str"])
def test_categories_of_every_type_are_categories(data, dtype):
    typed = data.assign(kind=data["kind"].astype(dtype))
    pd.testing.assert_frame_equal(matrix("kind", typed), matrix("kind", data))


@pytest.mark.parametrize("dtype", [bool, "boolean", object])
def test_truth_values(data, dtype):
    typed = data.assign(flag=pd.Series(data["x"] > 2).astype(dtype))
    made = matrix("flag", typed)
    np.testing.assert_array_equal(made.iloc[:, 1], (data["x"] > 2).astype(float))


def test_categories_keep_their_order_and_lose_those_that_do_not_occur(data):
    kinds = pd.Categorical(data["kind"], categories=["unused", "r", "p", "q", "other"])
    assert list(matrix("kind", data.assign(kind=kinds))) == [
        "(Intercept)",
        "kind[T.p]",
        "kind[T.q]",
    ]


def rebuild(predictors, data, newdata):
    sides = split_formula(f"y ~ {predictors}")
    columns = columns_of(sides.predictors, data, "the formula")
    return build_matrix(sides.predictors, data, columns).rebuild(newdata, "the formula")


@pytest.mark.parametrize(
    "predictors",
    [
        "1",
        "x",
        "0 + kind",
        "kind * x",
        "C(dose)",
        "C(dose) + dose",
        "`a b` + np.log(x)",
        "poly(x, 2)",
        "ns(x, knots=[3])",
        "center(x)",
        "scale(x)",
        "C(kind, Treatment('q'))",
        "I(x > 2)",
    ],
)
def test_rows_of_the_data_are_rebuilt_one_by_one(data, predictors):
    made = matrix(predictors, data)
    for row in range(len(data)):
        again = rebuild(predictors, data, data.iloc[[row]])
        np.testing.assert_allclose(again[0], made.iloc[row], rtol=1e-12, atol=1e-12)


def test_new_rows_with_a_missing_predictor_are_nan(data):
    newdata = pd.DataFrame({"x": [1.0, None, 3.0], "kind": ["p", "q", None]}, index=[1, 1, 2])
    made = rebuild("x + kind", data, newdata)
    np.testing.assert_array_equal(np.isnan(made).all(1), [False, True, True])
    np.testing.assert_array_equal(made[0], [1, 1, 0, 0])


@pytest.mark.parametrize(
    ("predictors", "newdata", "words"),
    [
        ("x", {"z": [1.0]}, ["'x'"]),
        ("kind", {"kind": ["p", "s"]}, ["'kind'", "'s'", "'p', 'q', 'r'"]),
        ("C(dose)", {"dose": [10, 30]}, ["'dose'", "30", "10, 20"]),
        ("factor(kind) * x", {"kind": ["s"], "x": [1.0]}, ["'kind'", "'s'"]),
        ("x", {"x": [1.0, np.inf]}, ["'x'", "infinite", "row 1"]),
        ("x", {"x": ["one"]}, ["x"]),
        ("log(x)", {"x": [1.0, 0.0]}, ["log(x)", "row 1"]),
    ],
)
def test_new_rows_that_cannot_be_read(data, predictors, newdata, words):
    with pytest.raises(InputError) as caught:
        rebuild(predictors, data, pd.DataFrame(newdata))
    for word in words:
        assert word in str(caught.value)


def test_new_categories_may_come_with_other_categoricals(data):
    newdata = pd.DataFrame({"kind": pd.Categorical(["r", "q"], categories=["r", "z", "q"])})
    np.testing.assert_array_equal(rebuild("kind", data, newdata), [[1, 0, 1], [1, 1, 0]])
