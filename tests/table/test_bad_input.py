"""Bad input to `mixmeta`: one sentence that names what is at fault, and no result."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError

LABELS = ["a", "b", "c", "d", "e", "f"]


def table(**changes):
    """Six studies with labels, two outcomes, their errors, predictors and groups."""
    data = pd.DataFrame(
        {
            "y": [0.1, 0.4, -0.2, 0.3, 0.6, 0.0],
            "y2": [0.2, 0.5, 0.1, 0.0, 0.4, 0.3],
            "v": [0.1, 0.2, 0.1, 0.3, 0.2, 0.1],
            "v2": [0.2, 0.1, 0.1, 0.2, 0.2, 0.1],
            "c": [0.01, 0.02, 0.0, 0.0, 0.1, 0.0],
            "x": [1.0, 2.0, 3.0, 4.0, 5.0, 7.0],
            "kind": ["p", "q", "p", "q", "p", "q"],
            "district": [11, 11, 12, 12, 13, 13],
            "study": [1, 2, 1, 2, 1, 2],
        },
        index=LABELS,
    )
    return data.assign(**changes)


def with_value(column, row, value):
    """The table with one value changed."""
    data = table()
    data[column] = data[column].astype(object if isinstance(value, str) else float)
    data.loc[row, column] = value
    return data


def blocks(data=None, **changes):
    """Diagonal blocks of S by district."""
    data = table() if data is None else data
    return {label: np.diag(rows["v"]) for label, rows in data.groupby("district")} | changes


def square(values, labels, columns=None):
    return pd.DataFrame(values, index=labels, columns=labels if columns is None else columns)


ONE = "~ 1 | district"
LEVELS = "~ 1 | district/study"
TRIANGLE = ["v", "c", "v2"]

# What is changed in mixmeta("y ~ x", S="v", data=table()), and what the sentence must say.
CASES = {
    # columns and formulas
    "unknown outcome": ({"formula": "yy ~ x"}, ["'yy'", "left-hand side", "Did you mean 'y'"]),
    "unknown predictor": ({"formula": "y ~ xx"}, ["'xx'", "Did you mean 'x'"]),
    "unknown in a term": ({"formula": "y ~ poly(xx, 2)"}, ["'xx'"]),
    "unknown in an outcome": ({"formula": "log(yy) ~ x"}, ["'yy'"]),
    "unknown S": ({"S": "w"}, ["'w'", "named in S"]),
    "unknown among S": ({"formula": "y + y2", "S": ["v", "w"]}, ["'w'", "named in S"]),
    "unknown group": ({"random": "~ 1 | town"}, ["'town'", "random"]),
    "unknown slope": ({"random": "~ xx | district"}, ["'xx'", "district"]),
    "unknown offset": ({"offset": "o"}, ["'o'", "offset"]),
    "unknown in subset": ({"subset": "z > 1"}, ["subset", "z"]),
    "unknown function": ({"formula": "y ~ spline(x)"}, ["'spline'", "poly"]),
    "no outcome": ({"formula": "~ x"}, ["outcomes on the left"]),
    "two tildes": ({"formula": "y ~ x ~ x"}, ["one '~'"]),
    "empty outcome": ({"formula": "cbind(y, ) ~ x"}, ["empty outcome"]),
    "outcome twice": ({"formula": "y + y"}, ["'y'", "twice"]),
    "broken formula": ({"formula": "y ~ x +"}, ["x +"]),
    "broken bracket": ({"formula": "y ~ I(x"}, ["x"]),
    "the other columns": ({"formula": "y ~ ."}, ["'.'", "name"]),
    "lme4's bars": ({"formula": "y ~ x + (1 | district)"}, ["random='~ 1 | district'"]),
    "a bar": ({"formula": "y ~ x | district"}, ["random"]),
    "no predictor": ({"formula": "y ~ 0"}, ["no predictor"]),
    "one category": ({"formula": "y ~ kind", "subset": "kind == 'p'"}, ["kind", "single category"]),
    "text as outcome": ({"formula": "kind ~ x"}, ["'kind'", "'p'", "'a'", "not a number"]),
    "text in a transform": ({"formula": "y ~ log(kind)"}, ["log(kind)"]),
    "logarithm of zero": (
        {"formula": "y ~ log(x)", "data": with_value("x", "d", 0.0)},
        ["log(x)", "'d'"],
    ),
    "logarithm of a negative outcome": ({"formula": "log(y) ~ x"}, ["log(y)", "'c'"]),
    # missing, infinite, negative
    "all outcomes missing": ({"data": table(y=np.nan)}, ["6 row(s)", "every outcome is missing"]),
    "one outcome always missing": (
        {"formula": "y + y2", "S": ["v", "v2"], "data": table(y2=np.nan)},
        ["'y2'", "missing in every row"],
    ),
    "all predictors missing": ({"data": table(x=np.nan)}, ["None of the 6"]),
    "a missing value is refused": (
        {"na_action": "raise", "data": with_value("x", "e", np.nan)},
        ["'e'", "'x'", "'raise'"],
    ),
    "na_action": ({"na_action": "drop"}, ["'omit'", "'drop'"]),
    "infinite outcome": ({"data": with_value("y", "c", np.inf)}, ["'y'", "infinite", "'c'"]),
    "infinite predictor": ({"data": with_value("x", "b", -np.inf)}, ["'x'", "infinite", "'b'"]),
    "infinite predictor held as objects": (
        {"data": with_value("x", "b", np.inf).astype({"x": object})},
        ["'x'", "infinite", "'b'"],
    ),
    "infinite slope": (
        {"formula": "y", "random": "~ x | district", "data": with_value("x", "b", np.inf)},
        ["'x'", "infinite", "'b'"],
    ),
    "infinite offset": ({"offset": [0, 0, 0, 0, np.inf, 0]}, ["offset", "infinite", "'e'"]),
    "infinite variance": ({"data": with_value("v", "c", np.inf)}, ["S", "infinite", "'c'"]),
    "missing variance": ({"data": with_value("v", "f", np.nan)}, ["S is missing", "'y'", "'f'"]),
    "missing covariance": (
        {"formula": "y + y2", "S": TRIANGLE, "data": with_value("c", "b", np.nan)},
        ["S is missing", "'y'", "'y2'", "'b'"],
    ),
    "negative variance": ({"data": with_value("v", "d", -0.3)}, ["negative", "-0.3", "'d'"]),
    "negative second variance": (
        {"formula": "y + y2", "S": ["v", "v2"], "data": with_value("v2", "d", -0.3)},
        ["negative", "-0.3", "'y2'", "'d'"],
    ),
    "zero variance": (
        {"data": with_value("v", "a", 0.0), "method": "fixed"},
        ["zero variance", "'a'", "'fixed'", "'reml'"],
    ),
    "two zero variances in one group": (
        {
            "formula": "y",
            "random": ONE,
            "S": blocks() | {12: np.zeros((2, 2))},
        },
        ["zero variance", "row 'c'", "'district'", "make up"],
    ),
    "text as variance": ({"data": with_value("v", "b", "n/a")}, ["'v'", "'n/a'", "'b'"]),
    # S
    "no S": ({"S": None}, ["S", "missing"]),
    "S of another length": ({"S": [0.1, 0.2]}, ["S has 2", "6"]),
    "S with too many columns": ({"S": ["v", "v2"]}, ["S has 2 column", "1 outcome"]),
    "S as matrices of another size": ({"S": np.ones((6, 2, 2))}, ["2 x 2", "1 x 1"]),
    "S with too many axes": ({"S": np.ones((6, 1, 1, 1))}, ["4 axes"]),
    "S as one number": ({"S": 0.1}, ["S"]),
    "S as ragged matrices": ({"S": [np.eye(1)] * 5 + [np.eye(2)]}, ["rows of one length"]),
    "S in another order": ({"S": table()["v"].iloc[::-1]}, ["S", "another order"]),
    "S not positive definite": (
        {"formula": "y + y2", "S": TRIANGLE, "data": with_value("c", "e", 0.5)},
        ["not positive definite", "'e'", "-0.3"],
    ),
    "S not symmetric": (
        {"formula": "y + y2", "S": np.array([[[1, 0.5], [0.1, 1]]] * 6)},
        ["not symmetric", "'a'"],
    ),
    "columns without data": ({"formula": [0.1, 0.2, 0.3], "data": None}, ["S", "no data"]),
    "rho beside covariances": (
        {"formula": "y + y2", "S": TRIANGLE, "rho": 0.5},
        ["rho", "covariances already"],
    ),
    "rho beside blocks": ({"random": ONE, "S": blocks(), "rho": 0.5}, ["rho", "blocks"]),
    "rho for one outcome": ({"rho": 0.5}, ["rho", "one outcome"]),
    "rho above one": ({"formula": "y + y2", "S": ["v", "v2"], "rho": 1.5}, ["rho", "-1 and 1"]),
    "rho as text": ({"formula": "y + y2", "S": ["v", "v2"], "rho": "high"}, ["rho", "number"]),
    "rho of another shape": (
        {"formula": "y + y2", "S": ["v", "v2"], "rho": [0.1, 0.2, 0.3]},
        ["rho has shape (3,)", "per row (6)"],
    ),
    "rho not symmetric": (
        {"formula": "y + y2", "S": ["v", "v2"], "rho": [[1, 0.1], [0.2, 1]]},
        ["rho", "symmetric"],
    ),
    # blocks
    "block without a group": (
        {"random": ONE, "S": blocks() | {14: np.eye(2)}},
        ["district 14", "11, 12, 13"],
    ),
    "group without a block": (
        {"random": ONE, "S": {11: np.eye(2), 13: np.eye(2)}},
        ["no block for district 12"],
    ),
    "labels of another type": (
        {"random": ONE, "S": {str(k): v for k, v in blocks().items()}},
        ["district '11'", "11, 12, 13"],
    ),
    "block of another size": (
        {"random": ONE, "S": blocks() | {12: np.eye(3)}},
        ["district 12", "3 x 3", "2 x 2"],
    ),
    "block that is not square": (
        {"random": ONE, "S": blocks() | {12: np.ones((2, 3))}},
        ["district 12", "(2, 3)", "square"],
    ),
    "block of text": ({"random": ONE, "S": blocks() | {12: "v"}}, ["district 12", "numbers"]),
    "block not positive definite": (
        {"random": ONE, "S": blocks() | {12: [[1.0, 2.0], [2.0, 1.0]]}},
        ["district 12", "not positive definite", "smallest eigenvalue is -1"],
    ),
    "block not symmetric": (
        {"random": ONE, "S": blocks() | {12: [[1.0, 0.2], [0.1, 1.0]]}},
        ["district 12", "not symmetric"],
    ),
    "block with a gap": (
        {"random": ONE, "S": blocks() | {12: [[1.0, np.nan], [np.nan, 1.0]]}},
        ["district 12", "missing"],
    ),
    "infinite block": (
        {"random": ONE, "S": blocks() | {12: [[np.inf, 0.0], [0.0, 1.0]]}},
        ["district 12", "infinite"],
    ),
    "block with a negative variance": (
        {"random": ONE, "S": blocks() | {12: np.diag([0.1, -0.2])}},
        ["district 12", "-0.2"],
    ),
    "block of a foreign row": (
        {"random": ONE, "S": blocks() | {12: square(np.eye(2), ["c", "a"])}},
        ["district 12", "'a'", "'c', 'd'"],
    ),
    "block that leaves a row out": (
        {"random": ONE, "S": blocks() | {12: square([[0.1]], ["d"])}},
        ["district 12", "row 'c'"],
    ),
    "block with a row twice": (
        {"random": ONE, "S": blocks() | {12: square(np.eye(2), ["d", "d"])}},
        ["district 12", "twice"],
    ),
    "block with other columns": (
        {"random": ONE, "S": blocks() | {12: square(np.eye(2), ["c", "d"], ["d", "c"])}},
        ["district 12", "columns"],
    ),
    "blocks by row without random": ({"S": blocks()}, ["row 11"]),
    # random
    "random without a group": ({"random": "~ 1"}, ["bar"]),
    "random with two bars": ({"random": "~ 1 | district | study"}, ["bar"]),
    "random with an outcome": ({"random": "y ~ 1 | district"}, ["outcome"]),
    "random of another type": ({"random": 3}, ["random", "3"]),
    "random that is empty": ({"random": []}, ["random is empty"]),
    "level twice": ({"random": ["~ 1 | district", "~ x | district"]}, ["'district'", "twice"]),
    "level with a bar in a mapping": ({"random": {"district": "~ 1 | study"}}, ["without a bar"]),
    "level without a predictor": ({"random": "~ 0 | district"}, ["district", "no predictor"]),
    "collinear slopes": (
        {"formula": "y", "random": "~ x + I(2 * x) | district"},
        ["district", "collinear"],
    ),
    # the rest of the data
    "no data": ({"data": None}, ["no data"]),
    "empty data": ({"data": table().iloc[:0]}, ["no rows"]),
    "data of another type": ({"data": [1, 2]}, ["data frame", "list"]),
    "columns of several lengths": ({"data": {"y": [1.0, 2.0], "v": [1.0]}}, ["data"]),
    "column twice": ({"data": pd.concat([table(), table()[["x"]]], axis=1)}, ["two", "'x'"]),
    "outcomes of another length": ({"formula": np.ones(5)}, ["5", "6"]),
    "outcomes with three axes": ({"formula": np.ones((6, 2, 2))}, ["(6, 2, 2)"]),
    "outcomes in another order": ({"formula": table()["y"].iloc[::-1]}, ["another order"]),
    "infinite outcome of an array": (
        {"formula": np.array([0.1, 0.2, np.inf, 0.1, 0.1, 0.1])},
        ["'y'", "infinite", "'c'"],
    ),
    "offset of another length": ({"offset": [0.1, 0.2]}, ["offset", "(2, 1)", "6 rows"]),
    "offset as text": ({"offset": [["a"]] * 6}, ["offset", "'a'", "not a number"]),
    "subset of another length": ({"subset": [True, False]}, ["subset", "6", "(2,)"]),
    "subset with a gap": (
        {"subset": pd.Series([True, None, True, True, True, True])},
        ["subset", "missing", "'b'"],
    ),
    "subset of text": ({"subset": ["yes"] * 6}, ["subset"]),
    "subset in another order": (
        {"subset": (table()["x"] > 2).iloc[::-1]},
        ["subset", "another order"],
    ),
    "subset of nothing": ({"subset": "x > 100"}, ["no row"]),
    # what the data cannot carry
    "collinear predictors": ({"formula": "y ~ x + I(2 * x)"}, ["collinear", "x"]),
    "constant predictor": ({"data": table(x=3.0)}, ["collinear", "x", "(Intercept)"]),
    "zero predictor": ({"formula": "y ~ 0 + x", "data": table(x=0.0)}, ["'x'", "zero"]),
    "more coefficients than rows": (
        {"formula": "y ~ x + kind", "subset": "x < 3"},
        ["'y'", "2 row(s)", "3"],
    ),
    "collinear for one outcome": (
        {"formula": "y + y2 ~ kind", "S": ["v", "v2"], "data": table(y2=[1, np.nan] * 3)},
        ["kind[T.q]", "'y2'"],
    ),
    "one study under REML": ({"formula": "y", "subset": "x == 1"}, ["REML", "one study"]),
    "one group": ({"formula": "y", "random": ONE, "subset": "district == 11"}, ["'district'"]),
    "fewer groups than the outer level needs": (
        {"formula": "y", "random": LEVELS, "data": table(district=1)},
        ["'district'", "one group"],
    ),
    "fewer groups than an unstructured matrix needs": (
        {
            "formula": "y",
            "random": "~ x + I(x ** 2) | district",
            "subset": "district < 13",
        },
        ["'district'", "2 groups", "'unstr'", "variance of '(Intercept)'", "'diag'"],
    ),
    "outcomes that are never seen together": (
        {
            "formula": "y + y2",
            "S": ["v", "v2"],
            "data": table(y=[1, np.nan] * 3, y2=[np.nan, 1] * 3),
        },
        ["covariance of 'y' and 'y2'", "'unit'", "'unstr'"],
    ),
    "two levels of the same groups": (
        {"formula": "y", "random": "~ 1 | district/town", "data": table(town=1)},
        ["the variance of '(Intercept)' at level 'district'", "at level 'town'", "3 groups"],
    ),
    "cs of one effect": ({"bscov": "cs"}, ["'cs'", "id"]),
    "ar1 of one effect": ({"random": LEVELS, "bscov": {"study": "ar1"}}, ["'study'", "id"]),
    "unknown structure": ({"bscov": "toeplitz"}, ["'toeplitz'", "'unstr'"]),
    "unknown level": ({"random": ONE, "bscov": {"town": "id"}}, ["'town'", "'district'"]),
    "unknown method": ({"method": "remll"}, ["'remll'", "'reml'"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_that_names_what_is_at_fault(case):
    changes, words = CASES[case]
    arguments = {"formula": "y ~ x", "S": "v", "data": table(), **changes}
    with pytest.raises(InputError) as caught:
        mx.mixmeta(**arguments)
    sentence = str(caught.value)
    for word in words:
        assert word in sentence, sentence
    assert sentence.endswith((".", "?")), sentence
    assert "\n" not in sentence
    assert "np." not in sentence, sentence


def test_errors_are_value_errors():
    with pytest.raises(ValueError, match="no column"):
        mx.mixmeta("y ~ z", S="v", data=table())


def test_suspicious_rows_that_are_not_fitted_are_not_judged():
    bad = table(v=[0.1, 0.2, 0.1, 0.3, np.inf, -1.0], y=[0.1, 0.4, -0.2, 0.3, np.inf, np.nan])
    fit = mx.mixmeta("y ~ x", S="v", data=bad, subset=[True] * 4 + [False, True])
    assert list(fit.fitted.index) == ["a", "b", "c", "d"]
