"""Columns are read by the names that were typed, whatever letters they have."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.formulas.expressions import masked, restored
from mixmeta_jax.formulas.formula import parse
from mixmeta_jax.formulas.updates import updated_formula
from mixmeta_jax.table.frame import build_frame

WIDE = "\uff58"
"""The letter x, in the width of Chinese ones."""

NAMES = (
    *("x", "xx", "a b", "a b c", "_formulaic_a_b", "_quoted_0_", "_quoted__1_", "lambda", "log"),
    *("e", "a.b", "a-b", "a~b", "a|b", "a(b", "a{b}", "x'", '"', "1a", "None", ".", " ", "x:z"),
    *("µg", "μg", WIDE, "ﬁsh", "é", "e\u0301", "हिन्दी", "∑", "__class__", "C", "np", "a\\b", "#"),
)
"""One within another, signs of formulas, words of Python, and letters that Python exchanges: the
micro sign and the Greek letter, a wide one, a ligature, an accent apart."""

BARE = ("x", "xx", "_quoted_0_", "e", "µg", "μg", WIDE, "ﬁsh", "é", "e\u0301", "हिन्दी", "log")


@pytest.fixture(scope="module")
def data():
    g = np.random.default_rng(2)
    columns = {name: g.normal(size=90) for name in ("y", *NAMES)}
    return pd.DataFrame({**columns, "v": 1.0, "study": np.arange(90) // 2})


def predictors(text, data):
    return build_frame(f"y ~ 0 + {text}", "v", data).X


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_backquotes(name, data):
    np.testing.assert_array_equal(predictors(f"`{name}`", data)[:, 0], data[name])
    np.testing.assert_array_equal(predictors(f"exp(`{name}`)", data)[:, 0], np.exp(data[name]))


@pytest.mark.parametrize("name", BARE)
def test_a_name_without_backquotes(name, data):
    np.testing.assert_array_equal(predictors(name, data)[:, 0], data[name])
    np.testing.assert_array_equal(predictors(f"exp({name})", data)[:, 0], np.exp(data[name]))


@pytest.mark.parametrize("other", NAMES)
def test_two_names_in_one_expression(other, data):
    """Each with each: no name is looked for within another."""
    X = predictors(" + ".join(f"I(`{name}` - 2 * `{other}`)" for name in NAMES), data)
    for i, name in enumerate(NAMES):
        np.testing.assert_array_equal(X[:, i], data[name] - 2 * data[other])


def test_all_names_in_one_formula(data):
    terms = " + ".join(f"`{name}`" for name in NAMES)
    frame = build_frame(f"y ~ 0 + {terms}", "v", data)
    np.testing.assert_array_equal(frame.X, data[list(NAMES)])
    assert list(frame.x_names) == list(NAMES)
    np.testing.assert_array_equal(frame.new_X(data.iloc[:4])[0], data[list(NAMES)].iloc[:4])


@pytest.mark.parametrize("name", ["µg", WIDE, "a b"])
def test_names_in_every_part_of_a_model(name, data):
    quoted = f"`{name}`"
    random = build_frame("y", "v", data, random=f"~ 0 + I({quoted} * 2) | study")
    np.testing.assert_array_equal(random.levels[0].Z[:, 0], 2 * data[name])
    subset = build_frame("y", "v", data, subset=f"{quoted} > 0.5")
    assert subset.index.tolist() == data.index[data[name] > 0.5].tolist()
    left = build_frame(f"I({quoted} * 2)", "v", data)
    np.testing.assert_array_equal(left.y[:, 0], 2 * data[name])


def test_a_letter_that_python_exchanges_is_no_other_column(data):
    """Without the column of the micro sign, that of the Greek letter is not read in its place."""
    without = data.drop(columns=["µg", WIDE])
    for text, there in (("exp(µg)", "μg"), (f"I({WIDE})", "x"), ("µg", "μg")):
        assert there in without.columns
        with pytest.raises(mx.InputError, match=rf"There is no column '(µg|{WIDE})'"):
            predictors(text, without)
    with pytest.raises(mx.InputError, match="no known function"):
        predictors("l\u2134g(x)", data)
    with pytest.raises(mx.InputError, match=r"name.* must be a Python name"):
        mx.register_transform("µ", abs)


def test_one_spelling_of_one_expression(data):
    assert len(parse("I(x) + I(`x`) + I( x )")) == 2
    assert [str(term) for term in parse("0 + exp(`x`) + exp(`a b`)")] == ["exp(x)", "exp(`a b`)"]
    with pytest.raises(mx.InputError, match="its own predictors"):
        build_frame("log(`a b`) ~ log( `a b` )", "v", data)
    with pytest.raises(mx.InputError, match="rename the column"):
        predictors("`I(x * 2)` + I(`x`*2)", data.assign(**{"I(x * 2)": 1.0}))


def test_updates_keep_the_names():
    old = "y ~ {`a b` + xx} + exp(`x`) + `a.b` + µg"
    new = "y ~ {`a b` + xx} + exp(x) + `a.b` + µg + z"
    assert updated_formula(old, "~ . + z") == new


@pytest.mark.parametrize("text", ["``", "x + ``", "I(``)"])
def test_a_name_without_letters(text, data):
    with pytest.raises(mx.InputError, match="no name between two backquotes"):
        predictors(text, data.assign(**{"": 1.0}))


@pytest.mark.parametrize("sign", ["\u200b", "\u202e", "\u0301"])
def test_a_sign_that_is_not_seen_is_spelled_out(sign, data):
    with pytest.raises(mx.InputError, match=r"has '.*' between its terms.*in backquotes"):
        predictors(f"x + {sign}", data)


@pytest.mark.parametrize("text", ["`a` + _quoted_0_", "_quoted_ + _quoted__0_ + `b`", "µ.x + 'µ'"])
def test_marks_are_no_names_of_the_text(text):
    hidden, names = masked(text)
    assert names and not any(mark in text for mark in names)
    assert restored(hidden, names).replace(" ", "") == text.replace("`", "").replace(" ", "")
