"""The gates: what passes, and what is said of everything else."""

import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from mixmeta_jax import gates, memory
from mixmeta_jax.errors import MESSAGE_LENGTH, InputError

WRONG_NUMBERS = {
    "text": "1.5",
    "texts": ["1", "2"],
    "nothing": None,
    "ragged": [[1.0], [1.0, 2.0]],
    "dict": {"a": 1.0},
    "set": {1.0},
    "complex": [1j, 2.0],
    "dates": np.array(["2001-01-01"], "M8[D]"),
    "date": [datetime.date(2001, 1, 1)],
    "durations": np.array([3], "m8[s]"),
    "truths": [True, False],
    "object": [object()],
    "masked": np.ma.masked_array([1.0, 2.0], [True, False]),
    "huge": [10**400],
    "periods": pd.Series(pd.period_range("2001", periods=2, freq="Y")),
    "intervals": pd.Series(pd.interval_range(0, 2)),
    "series of texts": pd.Series(["1", "2"]),
    "frame of dates": pd.DataFrame({"a": pd.date_range("2001", periods=2)}),
    "lists": pd.Series([[1.0], [2.0]]),
    "function": len,
    "missing": [1.0, np.nan],
    "infinite": [1.0, np.inf],
}


@pytest.mark.parametrize("name", WRONG_NUMBERS)
def test_what_is_no_array_of_finite_numbers(name):
    with pytest.raises(InputError, match=r"^basis ") as caught:
        gates.numbers(WRONG_NUMBERS[name], "basis")
    assert len(str(caught.value)) <= MESSAGE_LENGTH


def test_a_list_that_holds_itself():
    endless = []
    endless.append(endless)
    with pytest.raises(InputError, match="basis"):
        gates.numbers(endless, "basis")


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        (1.0, 2.0),
        np.array([1, 2], np.int8),
        np.array([1, 2], object),
        [Decimal(1), Fraction(2)],
        pd.Series([1, 2], dtype="Int64"),
        pd.Series([1, 2], dtype=object),
        pd.Series([1, 2], dtype="category"),
        pd.DataFrame({"a": [1, 2]})["a"],
        pd.Index([1, 2]),
    ],
    ids=lambda values: type(values).__name__,
)
def test_numbers_in_any_container(values):
    found = gates.numbers(values, "basis")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [1.0, 2.0])


def test_missing_values_of_any_kind_are_nan_where_they_may_be():
    values = pd.Series([1.0, None, pd.NA, np.nan], dtype=object)
    np.testing.assert_array_equal(
        gates.numbers(values, "y", missing=True), [1.0, np.nan, np.nan, np.nan]
    )
    with pytest.raises(InputError, match=r"y is missing in row 1\."):
        gates.numbers(values, "y")


def test_the_place_is_named_by_its_labels():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, -np.inf]}, index=["one", "two"])
    with pytest.raises(InputError, match=r"S is infinite in row 'two', column 'b'\."):
        gates.numbers(frame, "S")
    with pytest.raises(InputError, match=r"S \(column 'b'\) holds 'x' in row 'two', which is not"):
        gates.numbers(frame.assign(b=[1.0, "x"]), "S")
    with pytest.raises(InputError, match=r"at the position \(0, 1, 0\)"):
        gates.numbers([[[1.0], [np.nan]]], "S")


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((2, 3), True),
        (("n", 3), True),
        (("k", "k"), False),
        ((3, "k"), False),
        ((..., 3), True),
        ((..., "a", "b", "c"), False),
        ((..., "k", "k"), False),
    ],
)
def test_shapes(shape, fits):
    if fits:
        assert gates.numbers(np.ones((2, 3)), "L", shape).shape == (2, 3)
    else:
        with pytest.raises(InputError, match=r"L has the shape \(2, 3\), but must have"):
            gates.numbers(np.ones((2, 3)), "L", shape)


def test_truths_where_they_count_as_numbers():
    np.testing.assert_array_equal(gates.numbers([True, False], "X", truths=True), [1.0, 0.0])
    frame = pd.DataFrame({"a": [True, False]})
    np.testing.assert_array_equal(gates.numbers(frame, "X", truths=True), [[1.0], [0.0]])


def test_traced_numbers_stay_traced():
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        slope = jax.grad(lambda x: gates.numbers([x, 2.0], "y", ("n",)).sum())(jnp.asarray(1.0))
        assert slope == 1.0
        with pytest.raises(InputError, match="y must be made of real numbers"):
            jax.jit(lambda x: gates.numbers(x, "y"))(jnp.asarray(1j))


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_whole_numbers(value):
    found = gates.whole(value, "nsim", 1)
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize(
    "value",
    [
        None,
        "3",
        3.0,
        np.float64(3),
        True,
        np.True_,
        0,
        -1,
        [3],
        np.array([3]),
        1j,
        float("nan"),
        {},
    ],
)
def test_what_is_no_whole_number(value):
    with pytest.raises(InputError, match=r"^nsim must be a whole number of at least 1, not "):
        gates.whole(value, "nsim", 1)


def test_seeds_fit_64_bits():
    assert gates.seed(gates.MOST_SEED) == 2**64 - 1
    with pytest.raises(InputError, match="seed"):
        gates.seed(gates.MOST_SEED + 1)
    with pytest.raises(InputError, match="thousands of digits"):
        gates.seed(10**5000)


@pytest.mark.parametrize("value", [0.95, np.float32(0.5), Fraction(1, 2), np.array(0.5)])
def test_fractions(value):
    assert gates.fraction(value, "conf_level") == float(value)


@pytest.mark.parametrize("value", [0, 1, 1.5, -1, np.nan, np.inf, None, "0.9", True, [0.9], 1j])
def test_what_is_no_fraction(value):
    with pytest.raises(InputError, match=r"^conf_level must be .* strictly between 0 and 1, not "):
        gates.fraction(value, "conf_level")


def test_a_percentage_is_told():
    with pytest.raises(InputError, match=r"write 0\.95 for 95 percent"):
        gates.fraction(95, "conf_level")


def test_words():
    assert gates.choice("sd", "report", ("sd", "var")) == "sd"
    assert gates.choice(None, "simultaneous", (None, "max-t")) is None
    assert gates.choice("b", "kind", Literal["a", "b", None]) == "b"
    assert gates.choice(None, "kind", Literal["a", None]) is None
    with pytest.raises(InputError, match=r"^kind must be one of 'a', None, not 'b'\.$"):
        gates.choice("b", "kind", Literal["a", None])
    for value in ("SD", None, 3, ["sd"], np.zeros(2)):
        with pytest.raises(InputError, match="report must be one of 'sd', 'var', not "):
            gates.choice(value, "report", ("sd", "var"))
    assert gates.choices("a", "returns", ("a", "b")) == ("a",)
    with pytest.raises(InputError, match="returns"):
        gates.choices(["a", 3], "returns", ("a", "b"))


def test_columns():
    frame = pd.DataFrame({"year": [1], 3: [2]})
    assert gates.column("year", frame, "time") == "year"
    assert gates.column(3, frame, "time") == 3
    with pytest.raises(InputError, match=r"named in time\. Did you mean 'year'"):
        gates.column("yaer", frame, "time")
    for value in (None, ["year"], {}, 3.5, np.zeros(2), frame):
        with pytest.raises(InputError, match="time must be the name of a column"):
            gates.column(value, frame, "time")


def test_whatever_is_given_is_described_in_short():
    class Unprintable:
        def __repr__(self):
            raise RuntimeError

        __str__ = __repr__

    for value in ("x" * 10**6, b"y" * 10**6, 10**4999, Unprintable(), pd.DataFrame(), [1] * 10**6):
        assert len(gates.described(value)) < 100
    assert gates.described(np.zeros((2, 3))) == "a ndarray of shape (2, 3)"


def test_sizes():
    fitting = memory.memory() // 8
    memory.refuse_size(fitting, "nsim")
    with pytest.raises(InputError, match=r"nsim=9 asks for .* numbers, .* GB, and the machine has"):
        memory.refuse_size(fitting + 1, "nsim=9")
    with pytest.raises(InputError, match=r"about 10\*\*30"):
        memory.refuse_size(10**30, "nsim")


def test_of_numbers_held_as_text_the_one_that_is_none_is_named():
    with pytest.raises(InputError, match="'n/a' in row 1, which is not a number"):
        gates.numbers(["0.1", "n/a"], "y")
    with pytest.raises(InputError, match=r"'0\.1' in row 0, which is not a number"):
        gates.numbers(["0.1", "0.2"], "y")
