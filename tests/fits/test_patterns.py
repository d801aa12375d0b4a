"""Regular expressions of users: those whose search might not end are told before it begins."""

import subprocess
import sys
from itertools import product
from math import comb, log
from re import _parser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixmeta_jax as mx
from mixmeta_jax.fits.patterns import MOST_PATTERN, MOST_SEARCHED, compiled, steps

NAME = "a" * 36 + "b"

ENDLESS = [
    "(a+)+$",
    "(a*)*c",
    "(?P<name>a?)*c",
    "((a)(a*)){2,}c",
    "(?:aa?|a)+c",
    "(?:a?){20,}c",
    "(a|aa)" * 28 + "c",
    "a?" * 60 + "a" * 60,
    ".*" * 8 + "c",
    "(?=(a+)+c)a",
    "(?!(a+)+c)b",
    "(?x)(a+) +$",
    "(?ix:(a+)# once\n+$)",
    "(a+)(?# once)+$",
    "(?>(a+)+c)",
    "(?:a+)++(?:a+)++(?:(?:a+)+)c",
    "(a)?(?(1)(a+)+c|b)",
    "(^)*c",
]


@pytest.fixture(scope="module")
def fit():
    """Twelve studies, one predictor with a long name."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.normal(size=12), NAME: rng.normal(size=12), "v": 0.1})
    return mx.mixmeta(f"y ~ {NAME}", S="v", data=data, control={"backend": "numpy"})


@pytest.mark.parametrize("pattern", ENDLESS)
def test_patterns_that_might_not_end(fit, pattern):
    for one in (pattern, [pattern]):
        with pytest.raises(mx.InputError, match=r"terms_or_matrix: the regular expression .*list"):
            fit.wald_test(one)


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("a+b$", 1),
        ("^a{36}b", 1),
        ("(ab)+", 1),
        ("(?:aa|ab)+", 1),
        ("(?i)A", 1),
        ("(?ix: A # a letter\n)", 1),
        (r"^\(Int", 1),
        ("[(+*)]", 1),
        ("Intercept|" + "|".join(["x.*y"] * 20) + "|a", 2),
        (NAME, 1),
        (r"^(?!\()(a|b)", 1),
        (r"(a)\1", 1),
        ("(?>a+)b", 1),
        ("a++b", 1),
        ("a.*a.*b", 1),
        (".*:trt|b$", 1),
    ],
)
def test_patterns_that_select(fit, pattern, chosen):
    assert fit.wald_test(pattern).df == chosen


@pytest.mark.parametrize("pattern", ["(a", "*", "a{99999999999}", r"\9"])
def test_what_is_no_pattern(fit, pattern):
    with pytest.raises(mx.InputError, match="nor a regular expression"):
        fit.wald_test(pattern)


def test_the_length_of_a_pattern(fit):
    """One sentence on each side of the limit; a name of any length is never a pattern."""
    assert compiled("a" * MOST_PATTERN, ["a"], "terms").search("b") is None
    with pytest.raises(mx.InputError, match="may have 200 characters, not 201"):
        compiled("a" * (MOST_PATTERN + 1), ["a"], "terms")
    with pytest.raises(mx.InputError, match="not 100,000: give a list"):
        fit.wald_test("a" * 100_000)


def counted(pattern, length):
    """The number of steps itself."""
    return np.exp(steps(_parser.parse(pattern), length))


def test_the_steps_are_the_choices_at_every_place():
    """Begin and lengths that are together at most n, counted out; ``?`` doubles them."""
    n = 7
    pairs = sum(sum(own) <= n for own in product(range(n + 1), repeat=3))
    assert pairs == comb(n + 3, 3)
    # The end, c, and for each repetition itself and its body.
    assert counted("a*a*c", n) == pytest.approx(pairs * counted("aaaa", n) / counted("", n) * 1.2)
    assert counted("ab?c?", n) >= 4 * (n + 1)
    assert counted("(?:a*)*", n) == np.inf


def test_names_decide_what_is_too_long():
    """Five repetitions in a short name, and in one that is too long for them."""
    pattern = "a*a*a*a*c"
    limit = next(n for n in range(200) if counted(pattern, n) > MOST_SEARCHED)
    assert 30 < limit < 100
    assert compiled(pattern, ["b" * (limit - 1)], "terms")
    with pytest.raises(mx.InputError, match="ways to match open"):
        compiled(pattern, ["b" * limit], "terms")
    with pytest.raises(mx.InputError, match="ways to match open"):
        compiled(pattern, ["b" * (limit - 1)] * 2, "terms")


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", r"\w", "[^c]", r"\b", "(?:)"])
REPEATS = st.sampled_from(["", "", "*", "+", "?", "*?", "{2}", "{1,3}", "{2,}", "*+", "?+"])
GROUPS = st.sampled_from(["({})", "(?:{})", "(?={})", "(?!{})", "(?>{})", "(?i:{})"])
PATTERNS = st.recursive(
    st.builds("{}{}".format, ATOMS, REPEATS),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join),
        st.builds(lambda group, own, times: group.format(own) + times, GROUPS, inner, REPEATS),
    ),
    max_leaves=8,
)


def ways(tree, text, at):
    """Where a match of a parsed pattern may end, once for each way to it, by going through all."""
    if not len(tree):
        return [at]
    (op, value), rest = tree[0], tree[1:]
    return [end for own in _ways_of(str(op), value, text, at) for end in ways(rest, text, own)]


def _ways_of(op, value, text, at):
    match op:
        case "BRANCH":
            return [end for way in value[1] for end in ways(way, text, at)]
        case "SUBPATTERN":
            return ways(value[-1], text, at)
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, part = value
            ends, now = [at] if least == 0 else [], [at]
            for time in range(1, min(int(most), len(text) + 1) + 1):
                now = [end for own in now for end in ways(part, text, own)]
                ends += now if time >= least else []
            return ends
        case _:
            return [at + 1] if at < len(text) else []


PLAIN = st.recursive(
    st.builds("{}{}".format, st.just("a"), st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}"])),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join),
        st.builds("(?:{}){}".format, inner, st.sampled_from(["", "*", "?", "{1,2}"])),
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(PLAIN)
def test_no_search_has_more_ways_than_are_counted(pattern):
    """All ways of a pattern through four letters, gone through one by one."""
    tree, text = _parser.parse(pattern), "aaaa"
    if steps(tree, len(text)) < log(20_000):
        taken = sum(len(ways(tree, text, at)) for at in range(len(text) + 1))
        assert taken <= counted(pattern, len(text)) * (1 + 1e-9)


def test_accepted_patterns_end():
    """Patterns out of a grammar, in names of 200 letters: in another process, which is timed."""
    taken = []

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(PATTERNS)
    def collect(pattern):
        try:
            compiled(pattern + "c", ["a" * 200], "terms")
        except mx.InputError:
            return
        taken.append(pattern + "c")

    collect()
    assert len(taken) > 50
    program = f"import re\nfor pattern in {taken!r}:\n    re.search(pattern, 'a' * 200)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)
