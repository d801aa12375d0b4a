"""A formula is data, not code: what is refused, wherever it is typed, and how soon."""

import ast
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixmeta_jax as mx
from mixmeta_jax import __main__ as command_line
from mixmeta_jax.errors import MESSAGE_LENGTH
from mixmeta_jax.formulas import evaluation
from mixmeta_jax.formulas.evaluation import MAX_COLUMNS, Evaluator
from mixmeta_jax.formulas.expressions import MAX_DEPTH, MAX_LENGTH, NODES, read_expression
from mixmeta_jax.formulas.formula import parse
from mixmeta_jax.formulas.term_count import MAX_TERMS
from mixmeta_jax.formulas.transforms import is_known
from mixmeta_jax.table.frame import build_frame

SECONDS = 10
"""In which anything is answered; the machine may be busy."""

ATTACKS = {
    "method": "x.to_csv('{path}')",
    "method that reorders": "x.sort_values()",
    "method that draws": "x.sample(frac=1)",
    "chain of methods": "x.values.tofile('{path}')",
    "method in a call": "np.log(x.abs())",
    "dunder chain": "x.__class__.__mro__[1].__subclasses__()",
    "globals of a function": "poly.__globals__['os'].system('touch {path}')",
    "globals in a call": "log(poly.__globals__)",
    "format of a string": "'{0.__class__}'.format(x)",
    "import": "__import__('os').system('touch {path}')",
    "import as argument": "I(__import__('os').system('touch {path}'))",
    "open": "open('{path}', 'w')",
    "eval": "eval('1')",
    "getattr": "getattr(x, 'to_csv')('{path}')",
    "numpy's files": "np.save('{path}', x)",
    "numpy's files in a call": "I(np.savetxt('{path}', x))",
    "numpy's submodules": "np.random.permutation(x)",
    "numpy's memory": "np.lib.format.open_memmap('{path}', 'w+')",
    "numpy's own modules": "np.os.system('touch {path}')",
    "output argument": "np.log(x, x)",
    "output by keyword": "np.log(x, out=x)",
    "lambda": "(lambda: open('{path}', 'w'))()",
    "lambda as argument": "I((lambda a: a)(x))",
    "function as argument": "hashed(x, 3, hash_func=lambda a: open('{path}', 'w'))",
    "comprehension": "I([a for a in x])",
    "generator": "I(sum(a for a in x))",
    "f-string": "I(f'{x.to_csv(1)}')",
    "walrus": "I((a := x))",
    "subscript": "x[0]",
    "subscript in a call": "I(x[::-1])",
    "choice": "I(x if x else x)",
    "star": "I(*x)",
    "stars": "I(**x)",
    "state of a transform": "center(x, _state=x)",
    "await": "I(await x)",
    "yield": "I((yield x))",
    "bytes": "I(b'x')",
    "complex number": "I(x * 1j)",
    "matrix product": "I(x @ x)",
    "no known function": "nothing(x)",
    "function of a column": "x(x)",
    "call of a call": "I(x)(x)",
    "call of a quoted column": "`x`(x)",
    "repeated text": "I('a' * 100000000000)",
    "repeated list": "I([1] * 100000000000)",
    "power of integers": "I(x * 9**9**9**9)",
    "text of categories": "I(kind * 1000000000000)",
    "formatted text": "I('%1000000000000d' % 1)",
}


@pytest.fixture
def data():
    g = np.random.default_rng(1)
    n = 30
    return pd.DataFrame(
        {
            "y": g.normal(size=n),
            "z": g.normal(size=n),
            "v": g.uniform(0.5, 1, n),
            "x": g.uniform(1, 2, n),
            "kind": np.resize(["a", "b", "c"], n),
            "study": np.arange(n) // 2,
        }
    )


def fixed(text, data):
    mx.mixmeta(f"y ~ {text}", S="v", data=data)


def in_braces(text, data):
    mx.mixmeta(f"y ~ {{{text}}}", S="v", data=data)


def quoted(text, data):
    mx.mixmeta(f"y ~ `x` + ({text}) + `x`", S="v", data=data)


def left(text, data):
    mx.mixmeta(f"{text} ~ x", S="v", data=data)


def left_in_cbind(text, data):
    mx.mixmeta(f"cbind(y, {text}) ~ x", S=["v", "v"], data=data)


def random(text, data):
    mx.mixmeta("y ~ x", S="v", data=data, random=f"~ {text} | study")


def random_by_level(text, data):
    mx.mixmeta("y ~ x", S="v", data=data, random={"study": f"~ {text}"})


def level(text, data):
    mx.mixmeta("y ~ x", S="v", data=data, random=f"~ 1 | {text}")


def subset(text, data):
    mx.mixmeta("y ~ x", S="v", data=data, subset=f"x > 1 & {text}")


def pooled(text, data):
    estimates = {i: ([data.y[i], data.z[i]], np.eye(2)) for i in range(len(data))}
    mx.pool(estimates, predictors=f"~ {text}", data=data[["x", "kind"]])


def fit_many(text, data):
    mx.fit_many(np.ones((2, len(data))), data.v, formula=f"~ {text}", data=data)


def functional(text, data):
    mx.make_design(data.y, S=data.v, random=f"~ {text} | study", data=data)


PLACES = (
    *(fixed, in_braces, quoted, left, left_in_cbind, random, random_by_level, level),
    *(subset, pooled, fit_many, functional),
)


def refusal(call, *arguments):
    """The sentence by which a call is refused."""
    with pytest.raises(mx.InputError) as caught:
        call(*arguments)
    sentence = str(caught.value)
    assert len(sentence) <= MESSAGE_LENGTH
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_code_is_refused_wherever_it_stands(attack, place, data, tmp_path):
    path = tmp_path / "written"
    before = data.copy()
    refusal(place, attack.replace("{path}", str(path)), data)
    assert not path.exists()
    pd.testing.assert_frame_equal(data, before)


@pytest.mark.parametrize("option", ["formula", "--random", "--subset"])
@pytest.mark.parametrize("attack", ["x.to_csv('{path}')", "np.save('{path}', x)", "open('{path}')"])
def test_code_is_refused_on_the_command_line(option, attack, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command_line, "keep_compiled_programs", lambda: None)
    path, source = tmp_path / "written", tmp_path / "data.csv"
    data.to_csv(source, index=False)
    code = attack.replace("{path}", str(path))
    formula = f"y ~ {code}" if option == "formula" else "y ~ x"
    more = {"formula": [], "--random": [f"~ {code} | study"], "--subset": [code]}[option]
    arguments = ["fit", formula, "--S", "v", "--data", str(source)]
    assert command_line.main([*arguments, *([option, *more] if more else [])]) == 2
    told = capsys.readouterr()
    assert not told.out
    assert told.err.count("\n") == 1
    assert not path.exists()


def test_a_refusal_says_what_and_where_and_what_to_do(data):
    sentence = refusal(fixed, "kind + x.sort_values()", data)
    assert "method 'x.sort_values'" in sentence
    assert "as a column of the data first" in sentence
    assert "`log.x`" in refusal(fixed, "I(log.x + 1)", data)
    assert "np.save" in refusal(subset, "np.save('f', x)", data)


# What may be written, and what it gives.


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("np.log(x) + exp(z)", lambda d: [np.log(d.x), np.exp(d.z)]),
        ("I(x**2) + I(-x / 3)", lambda d: [d.x**2, -d.x / 3]),
        ("{x > 1.5}", lambda d: [d.x > 1.5]),
        ("I(1.2 < x < 1.5)", lambda d: [(d.x > 1.2) & (d.x < 1.5)]),
        ("I((x < 1.2) | (x > 1.5))", lambda d: [(d.x < 1.2) | (d.x > 1.5)]),
        ("I(x < 1.2 or not z > 0)", lambda d: [(d.x < 1.2) | ~(d.z > 0)]),
        ("I(kind in ['a', 'b'])", lambda d: [d.kind.isin(["a", "b"])]),
        ("np.sin(2 * np.pi * x / 12)", lambda d: [np.sin(2 * np.pi * d.x / 12)]),
        ("np.where(x > 1.5, x, 0)", lambda d: [np.where(d.x > 1.5, d.x, 0)]),
        ("np.clip(x, 1.2, 1.5)", lambda d: [d.x.clip(1.2, 1.5)]),
        ("np.maximum(x, z)", lambda d: [np.maximum(d.x, d.z)]),
        ("np.round(x, 1)", lambda d: [d.x.round(1)]),
        ("exp10(x)", lambda d: [10**d.x]),
        ("center(x)", lambda d: [d.x - d.x.mean()]),
        ("center(log(x)) ", lambda d: [np.log(d.x) - np.log(d.x).mean()]),
        ("np.power(10, 20) * 0 + x", None),
        ("C(kind, Treatment('b'))", lambda d: [d.kind == "a", d.kind == "c"]),
        ("C(kind, contr.treatment(base='b'))", lambda d: [d.kind == "a", d.kind == "c"]),
    ],
)
def test_what_may_be_written(term, expected, data):
    if expected is None:
        refusal(fixed, term, data)
        return
    frame = build_frame(f"y ~ {term}", "v", data)
    values = np.column_stack([np.asarray(column, float) for column in expected(data)])
    np.testing.assert_allclose(frame.X[:, 1:], values, rtol=1e-14)
    np.testing.assert_allclose(frame.new_X(data.iloc[::-1])[0], frame.X[::-1], rtol=1e-14)


@pytest.mark.parametrize("contrasts", ["contr.sum", "Sum", "contr.helmert", "Poly", "contr.poly()"])
def test_codings_of_categories(contrasts, data):
    assert build_frame(f"y ~ C(kind, {contrasts})", "v", data).p == 3


def test_two_quoted_columns_learn_apart(data):
    named = data.rename(columns={"x": "a b", "z": "c d"})
    apart = build_frame("y ~ center(`a b`) + center(`c d`)", "v", named).X
    np.testing.assert_array_equal(apart, build_frame("y ~ center(x) + center(z)", "v", data).X)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("x > 1.5", lambda d: d.x > 1.5),
        ("x > 1.2 & x < 1.5", lambda d: (d.x > 1.2) & (d.x < 1.5)),
        ("x < 1.2 | kind == 'a'", lambda d: (d.x < 1.2) | (d.kind == "a")),
        ("not x < 1.2 and ~(kind == 'a')", lambda d: (d.x >= 1.2) & (d.kind != "a")),
        ("kind in ['a', 'c']", lambda d: d.kind.isin(["a", "c"])),
        ("kind not in ('a', 'c')", lambda d: d.kind == "b"),
        ("kind == ['a', 'c']", lambda d: d.kind.isin(["a", "c"])),
        ("kind != 'a|b & c'", lambda d: d.kind == d.kind),
        ("index > 3 and index <= 20", lambda d: (d.index > 3) & (d.index <= 20)),
        ("1.2 < x < 1.5", lambda d: (d.x > 1.2) & (d.x < 1.5)),
        ("x * 2 - z > log(x) + study % 2", lambda d: d.x * 2 - d.z > np.log(d.x) + d.study % 2),
        ("study ** 2 > 10", lambda d: d.study**2 > 10),
        ("x == x", lambda d: d.x == d.x),
        ("x >\n 1.5", lambda d: d.x > 1.5),
    ],
)
def test_subsets(condition, expected, data):
    chosen = build_frame("y", "v", data, subset=condition)
    assert chosen.index.tolist() == data.index[expected(data)].tolist()


def test_a_subset_of_quoted_and_dated_columns(data):
    data["a b"] = data["x"]
    data["day"] = pd.date_range("2001-01-01", periods=len(data))
    frame = build_frame("y", "v", data, subset="`a b` > 1.5 & day >= '2001-01-05'")
    expected = (data["x"] > 1.5) & (data["day"] >= pd.Timestamp("2001-01-05"))
    assert frame.index.tolist() == data.index[expected].tolist()


def test_a_transform_of_ones_own(data):
    mx.register_transform("thirds", lambda x, by=3: x / by)
    frame = build_frame("y ~ thirds(x, by=3.0)", "v", data)
    np.testing.assert_array_equal(frame.X[:, 1], data["x"] / 3)
    mx.register_transform("thirds", lambda x: x.iloc[::-1])
    assert "another order" in refusal(fixed, "thirds(x)", data)
    mx.register_transform("thirds", lambda x: x.iloc[:3])
    assert "30 rows" in refusal(fixed, "thirds(x)", data)


@pytest.mark.parametrize(
    ("name", "function", "said"),
    [
        ("np", abs, "know 'np' already"),
        ("log", abs, "know 'log' already"),
        ("two words", abs, "Python name"),
        ("lambda", abs, "Python name"),
        (3, abs, "Python name"),
        ("mine", 3, "must be a function"),
    ],
)
def test_what_cannot_be_registered(name, function, said):
    with pytest.raises(mx.InputError, match=said):
        mx.register_transform(name, function)


# Sizes, told before anything is built.


def sums(count):
    return " + ".join(f"c{i}" for i in range(count))


TOO_LARGE = {
    "power of a sum": ("(a + b + c + d + e + f)**30", "63 different"),
    "crossing of 12": (" * ".join("abcdefghijkl"), "4,096 terms"),
    "crossing of 40": (" * ".join(f"c{i}" for i in range(40)), "1,099,511,627,776 terms"),
    "power of a column": ("x**1000000000", "1 different"),
    "power with many digits": ("x**" + "9" * 5000, "I(x**2)"),
    "power of a power": ("((a + b)**40)**40", "different"),
    "power of a name": ("x**kind", "whole number"),
    "power of a sum of numbers": ("x**(1000000000 + 2)", "only 0 and 1"),
    "power of a million digits": ("x**" + "9" * 1_000_000, "1,000,007 characters"),
    "a million numbers": (f"ns(x, knots=[{','.join(map(str, range(1_000_000)))}])", "characters"),
    "many knots": (f"ns(x, knots=[{','.join(map(str, range(6000)))}])", "6,000 columns"),
    "many degrees of freedom": ("ns(x, df=1000000000)", "1,000,000,000 columns"),
    "degree of a polynomial": ("poly(x, 1000000000)", "1,000,000,000 columns"),
    "hashed levels": ("hashed(kind, levels=1000000000)", "1,000,000,000 columns"),
    "deep brackets": ("(" * 5000 + "x" + ")" * 5000, "60 deep"),
    "deep brackets in a call": ("I(" + "(" * 90 + "x" + ")" * 90 + ")", "60 deep"),
    "many signs": ("I(" + "-" * 25_000 + "x)", "60 deep"),
    "many nots": ("I(" + "not " * 10_000 + "x)", "60 deep"),
    "a long sum in a call": ("I(" + "x+" * 20_000 + "x)", ""),
}


@pytest.mark.parametrize(("text", "said"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_the_size_is_told_before_it_is_built(text, said, data):
    start = time.perf_counter()
    assert said in refusal(fixed, text, data)
    assert time.perf_counter() - start < SECONDS


def test_categories_are_counted_before_they_are_crossed(data):
    many = {f"f{i}": np.arange(len(data)).astype(str) for i in range(3)}
    sentence = refusal(fixed, "f0 * f1 * f2", data.assign(**many))
    assert "26,999 columns" in sentence or "27,000 columns" in sentence
    long = pd.DataFrame({"y": np.zeros(MAX_COLUMNS + 1), "v": 1.0})
    long["id"] = np.arange(len(long)).astype(str)
    assert "5,001 columns" in refusal(fixed, "id", long)


def test_on_this_side_of_every_threshold(data):
    assert len(parse(sums(MAX_TERMS - 1))) == MAX_TERMS
    assert "2,001 terms" in refusal(parse, sums(MAX_TERMS))
    read_expression("(" * MAX_DEPTH + "x" + ")" * MAX_DEPTH)
    refusal(read_expression, "(" * (MAX_DEPTH + 1) + "x" + ")" * (MAX_DEPTH + 1))
    read_expression("x" * MAX_LENGTH)
    refusal(read_expression, "x" * (MAX_LENGTH + 1))
    assert build_frame("y ~ (x + z + v)**4", "v", data).p == 8
    expression = read_expression(f"ns(x, knots=[{','.join(['1'] * (MAX_COLUMNS + 1))}])")
    assert "columns" in refusal(Evaluator(expression, data).result)
    short = read_expression(f"ns(x, knots=[{','.join(['1'] * MAX_COLUMNS)}])")
    assert "columns" not in refusal(Evaluator(short, data).result)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ " + "x" * 45_000,
        "y" * 45_000 + " ~ x",
        "y ~ `" + "x" * 45_000,
        "cbind(" + "y, " * 15_000 + "z) ~ x",
        "y ~ " + "~" * 45_000,
        "y ~ I(" + "'" + "a" * 45_000 + "')",
        "y ~ {" * 20_000,
        "y ~ " + "nothing(" * 50 + ")" * 50,
    ],
)
def test_long_formulas_are_answered_shortly(formula, data):
    start = time.perf_counter()
    refusal(mx.mixmeta, formula, "v", data)
    assert time.perf_counter() - start < SECONDS


# What would go unnoticed.


@pytest.mark.parametrize(
    "formula",
    ["y ~ y", "y ~ x + y", "y ~ x*y", "y ~ I(y**2)", "y ~ log( y )", "z + y ~ x + y", "`y` ~ `y`"],
)
def test_an_outcome_does_not_explain_itself(formula, data):
    assert "its own predictors" in refusal(mx.mixmeta, formula, "v", data)


def test_an_expression_does_not_explain_itself(data):
    assert "its own" in refusal(mx.mixmeta, "log(x+1) ~ log(x + 1)", "v", data)
    build_frame("log(x + 1) ~ log(x)", "v", data)


@pytest.mark.parametrize("name", ["1", "0", "2.5", "1e3"])
def test_a_column_named_as_a_number(name, data):
    data[name] = data["x"]
    assert "rename" in refusal(fixed, f"`{name}`", data)
    assert "rename" in refusal(fixed, f"x + z:`{name}`", data)


def test_a_column_named_as_an_expression(data):
    data["log(x)"] = data["z"]
    assert build_frame("y ~ `log(x)`", "v", data).X[:, 1].tolist() == data["z"].tolist()
    assert "rename" in refusal(fixed, "`log(x)` + log( x )", data)


@pytest.mark.parametrize("term", ["5", "x:2", "2:x", "x + 2.5", "x*3", "'a'", "x:'a'", "(x + 2)"])
def test_a_number_among_the_terms(term, data):
    """It would scale the term without a trace in its name."""
    assert "only 0 and 1" in refusal(fixed, term, data)


@pytest.mark.parametrize("term", ["0 + x", "1 + x", "x - 1", "x:1", "(x + z)**2", "(x + z)^(2)"])
def test_numbers_that_mean_something(term, data):
    assert "x" in build_frame(f"y ~ {term}", "v", data).x_names


def test_a_term_without_a_column(data):
    assert "no column" in refusal(fixed, "{2 + 1}", data)


# Whatever is accepted is made of what is listed.

WORDS = """
x z kind y v np log poly C I ns bs center np.log np.save x.sum __class__ open `x` `a b` 1 2.5 'a'
( ) [ ] { } , : + - * / ** ^ ~ | & @ = == < in not and or lambda if else := . for f' ' \\
knots= df= _state= out= # $ % %in% ; await yield None True
"""
PARTS = st.sampled_from([*WORDS.split(), "\n"])


def _answer(arguments, data):
    """What a user is told: nothing where the formula can be fitted."""
    try:
        build_frame(data=data, **arguments)
    except mx.InputError as error:
        return str(error)
    return ""


@settings(max_examples=300)
@given(st.lists(PARTS, max_size=12).map("".join) | st.lists(PARTS, max_size=9).map(" ".join))
def test_anything_accepted_is_made_of_what_is_listed(text):
    data = pd.DataFrame({"x": [1.0, 2, 3], "z": [2.0, 1, 1], "kind": list("aba")})
    data["y"], data["v"] = [1.0, 0, 2], 1.0
    for part in (
        {"formula": f"y ~ {text}"},
        {"formula": f"{text} ~ x"},
        {"random": f"~ {text} | kind"},
        {"subset": text},
    ):
        assert (
            len(_answer({"formula": "y", "S": data[["v"]].to_numpy(), **part}, data))
            <= MESSAGE_LENGTH
        )
    try:
        expression = read_expression(text)
    except mx.InputError:
        return
    for node in ast.walk(expression.root):
        assert isinstance(
            node,
            (ast.Name, ast.Constant, ast.Attribute, ast.Call, ast.keyword, *NODES)
            + (ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
        )
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            assert name in ("np.pi", "np.e") or is_known(name)
        if isinstance(node, ast.Call):
            assert is_known(ast.unparse(node.func))


def test_no_text_is_given_to_eval():
    source = ast.parse(Path(evaluation.__file__).read_text())
    called = {ast.unparse(node.func) for node in ast.walk(source) if isinstance(node, ast.Call)}
    assert not called & {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize(
    "outcome",
    [
        *("{" * n + "y" + "}" * n for n in (2, 20, 3000)),
        *("{" * n + "y" for n in (1, 20, 3000)),
        *(
            ".*",
            "y.*",
            "^y$",
            "[a-z]+",
            "(?P<a>y)",
            "y{1,3}",
            "(y|z)",
            "\\d",
            "y;z",
            "y z",
            "*",
            "?",
        ),
    ],
)
@pytest.mark.parametrize("left", ["cbind({}, z)", "cbind(z, {})", "cbind({})", "{}", "z + {}"])
def test_what_is_no_outcome_is_answered_shortly(outcome, left, data):
    refusal(mx.mixmeta, f"{left.replace('{}', outcome)} ~ x", ["v", "v"], data)


@pytest.mark.parametrize("what", ["data", "newdata"])
def test_a_frame_without_rows_is_told_apart(what, data):
    none = data[data["x"] > 99]
    if what == "data":
        sentence = refusal(mx.mixmeta, "y", "v", none)
    else:
        fit = mx.mixmeta("y ~ x", "v", data, method="fixed", control={"backend": "numpy"})
        sentence = refusal(fit.predict, none)
    assert sentence.startswith(f"{what} has no rows, only the columns 'y', 'z', 'v', 'x', 'kind'")
    assert "no columns" in refusal(mx.mixmeta, "y", "v", pd.DataFrame())
