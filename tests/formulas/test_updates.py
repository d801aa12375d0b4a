"""Dot formulas: what R's ``update`` makes of the same, and what they may not be."""

import pytest

from mixmeta_jax.errors import InputError
from mixmeta_jax.formulas.formula import parse, split_formula
from mixmeta_jax.formulas.updates import droppable_terms, has_dots, updated_formula


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # formula(update(y ~ x, . ~ . + z)) and so on, in R's words less its order by degree.
        ("y ~ x", "~ . + z", "y ~ x + z"),
        ("y ~ x + z", ". ~ . - x", "y ~ z"),
        ("y ~ x", "~ . - x", "y ~ 1"),
        ("y", "~ . + z", "y ~ z"),
        ("y ~ x - 1", "~ . + z", "y ~ 0 + x + z"),
        ("y ~ 0 + x", "~ . + 1", "y ~ x"),
        ("y ~ x", "~ . - 1", "y ~ 0 + x"),
        ("y ~ x", "~ z", "y ~ z"),
        ("y ~ 0 + x", "~ z", "y ~ z"),
        ("y ~ a * b", "~ . - a:b", "y ~ a + b"),
        ("y ~ a + b", "~ .^2", "y ~ a + b + a:b"),
        ("y ~ x", "~ .:z", "y ~ x:z"),
        ("y ~ x", "log(.) ~ .", "log(y) ~ x"),
        ("y ~ x", "w ~ .", "w ~ x"),
        ("PD + AL ~ x", "~ . + z", "PD + AL ~ x + z"),
        ("cbind(PD, AL) ~ x", ". ~ . + z", "PD + AL ~ x + z"),
        ("y ~ factor(g) + I(x^2)", "~ . + log(z)", "y ~ C(g) + I(x ** 2) + log(z)"),
        ("y ~ ns(d, df=3) + `my col`", "~ . - ns(d, df=3)", "y ~ `my col`"),
        ("y ~ log(`my col`)", "~ . + `a.b c`", "y ~ log(`my col`) + `a.b c`"),
        ("y ~ x", "~ . + x", "y ~ x"),
        ("y ~ x", "~ . + `~ . +`", "y ~ x + `~ . +`"),
    ],
)
def test_dots_stand_for_the_old_sides(old, new, expected):
    assert has_dots(new)
    assert updated_formula(old, new) == expected
    # What is written reads as itself.
    assert updated_formula(expected, "~ .") == expected


def test_what_has_no_dots():
    for formula in ("y ~ x", "y ~ a.b + np.log(x)", "y", "y ~ I(x * .5)", "y ~ `a . b`"):
        assert not has_dots(formula)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (". + x", "two sides"),
        ("~ . ~ x", "two sides"),
        ("~ . + __import__('os')", "formula"),
        ("~ . + y", "among its own predictors"),
        ("~ . + (", "cannot be read"),
    ],
)
def test_formulas_that_say_nothing(new, message):
    with pytest.raises(InputError, match=message):
        split_formula(updated_formula("y ~ x", new))


def test_terms_that_may_go():
    assert sorted(droppable_terms("y ~ a * b + z")) == ["a:b", "z"]
    assert droppable_terms("y ~ a + b") == ["a", "b"]
    assert droppable_terms("y") == []
    assert set(parse("a * b")) == set(parse("a + b + a:b"))
