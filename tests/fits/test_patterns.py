"""Regular expressions of users: those whose search would not end are told before it begins."""

import time

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.fits.patterns import MOST_CHARACTERS, MOST_SEARCH_STEPS, _steps, compiled

NAME = "a" * 36 + "b"


@pytest.fixture(scope="module")
def fit():
    """Twelve studies, one predictor with a long name."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.normal(size=12), NAME: rng.normal(size=12), "v": 0.1})
    return mx.mixmeta(f"y ~ {NAME}", S="v", data=data)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*c",
        "(?:a|aa)+c",
        "(?P<name>a?)*c",
        "((a)(a*)){2,}c",
        "(a|aa)" * 30 + "c",
        "a?" * 100 + "a" * 100,
        ".*" * 8 + "c",
        "a*" * 8 + "c",
        "[(]?" * 40 + "c",
        "(?x)(a+) +$",
        "(?ix:(a+)# once\n+$)",
        "(a+)(?# once)+$",
    ],
)
def test_patterns_that_would_go_on_for_ever(fit, pattern):
    begun = time.perf_counter()
    for given in (pattern, [pattern]):
        with pytest.raises(mx.InputError, match=r"terms_or_matrix: the regular expression .*list"):
            fit.wald_test(given)
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("a+b$", 1),
        ("^a{36}b", 1),
        ("(ab)+", 1),
        ("(?i)A", 1),
        (r"^\(Int", 1),
        ("[(+*)]", 1),
        ("Intercept|" + "|".join(["x.*y"] * 20) + "|a", 2),
        (NAME, 1),
        (r"^(?!\()(a|b)", 1),
        ("a.*a.*b", 1),
    ],
)
def test_patterns_that_select(fit, pattern, chosen):
    assert fit.wald_test(pattern).df == chosen


@pytest.mark.parametrize("pattern", ["(a", "*", "a{99999999999}", r"\9"])
def test_what_is_no_pattern(fit, pattern):
    with pytest.raises(mx.InputError, match="nor a regular expression"):
        fit.wald_test(pattern)


def test_the_length_of_a_pattern():
    """One sentence on each side of the limit; the name itself is never a pattern."""
    assert compiled("a" * MOST_CHARACTERS, ["a"], "terms").search("b") is None
    with pytest.raises(mx.InputError, match="1,001 characters, more than the 1,000 that are read"):
        compiled("a" * (MOST_CHARACTERS + 1), ["a"], "terms")


def test_the_steps_are_those_that_a_backtracking_search_may_take():
    """Of ``a*a*c`` in n letters: from each of n + 1 places every pair of lengths, at most."""
    n = 9
    taken = sum(1 for place in range(n + 1) for first in range(n + 1) for second in range(n + 1))
    assert _steps("a*a*c", n) == taken
    assert _steps("a?a?c", n) == (n + 1) * 4
    assert _steps("x|a*c", n) == (n + 1) * (1 + n + 1)


def test_names_decide_what_is_too_long():
    """99 letters are 100**4 steps for three repetitions, 100 are more than may be taken."""
    assert MOST_SEARCH_STEPS == (99 + 1) ** 4
    assert compiled("a*a*a*c", ["b" * 99], "terms")
    with pytest.raises(mx.InputError, match="too many choices open for names of up to 100"):
        compiled("a*a*a*c", ["b" * 100], "terms")
