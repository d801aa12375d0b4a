"""Every parameter of every public function and method, given values of every wrong kind.

Each call ends in an `InputError`, whose one sentence is short and names the parameter, or in a
result where the value is legal. What is public is found here, by inspection; legal arguments are
those of `tests/arguments.py`.
"""

import inspect
import re
import signal
import warnings
from contextlib import contextmanager

import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.errors import MESSAGE_LENGTH
from tests.arguments import (
    CALLS,
    INNER,
    NOT_CALLED,
    OWNERS,
    PROTOCOL,
    WRONG,
    call,
    called,
)

TRUTHS = ("True", "False", "NumPy's True")
LARGE = ("beyond 64 bits", "huge", "thousands of digits")
SCALARS = {
    **dict.fromkeys(("nsim", "n"), ("one", "no axes")),
    **dict.fromkeys(("seed", "first"), ("zero", "one", "no axes", "status")),
    **dict.fromkeys(("batch_size",), ("None", "one", "no axes", *LARGE)),
    "conf_level": ("half",),
    "alpha": ("half",),
    "digits": ("zero", "one", "no axes", "status"),
    **dict.fromkeys(("se", "ci", "pi", "vcov", "progress", "verbose", "vc_adjust"), TRUTHS),
    **dict.fromkeys(("adhoc", "blup", "return_data"), TRUTHS),
    **dict.fromkeys(("method", "kind", "report", "test", "type", "se_method", "na_action"), ()),
    **dict.fromkeys(("information", "form", "weights"), ()),
    "simultaneous": ("None",),
    **dict.fromkeys(("fit", "smaller", "larger"), ("fit",)),
    "design": ("design",),
    "fitted": (),
}
"""The kinds that are legal, where a parameter of one name is of one kind everywhere."""


LEGAL = {
    ("make_design", "y"): ("frame",),
    ("make_design", "X"): ("frame",),
    ("mixmeta", "formula"): ("frame",),
    ("mixmeta", "random"): ("None",),
    ("Fit.add_terms", "df"): ("None",),
    ("mixmeta_sim", "y"): ("frame",),
    ("curves", "fit"): ("fit",),
    ("pool", "estimates"): ("odd dict",),
}
"""Values that are legal, but not together with the other arguments, on which the sentence is."""

SAID = {
    "formula": "(formula|outcome)",
    "newdata": "(newdata|new data)",
    "reference": "(reference|new data)",
    "of": "(of|new data)",
    "against": "(against|new data)",
    "terms": "(terms?|formula)",
    "parameter": "parameters?",
}
"""What sentences call an argument beside its name."""


OWN = {
    ("Fit.h2", "ci"): ("None",),
    ("Fit.i2", "ci"): ("None",),
    ("Fit.r2", "ci"): ("None",),
    ("Fit.varcomp", "ci"): ("None",),
    ("Fit.varcomp", "test"): TRUTHS,
    ("Fit.profile", "n"): LARGE,  # the values are given
    ("Fit.simulate", "seed"): ("None", "zero", "one", "no axes", "status"),
    ("first_stage", "weights"): ("None",),
    ("regression", "weights"): ("None",),
    ("FirstStage.reduce", "reference"): ("None", "zero", "one", "negative", "half", "fractional")
    + ("no axes", "status", *LARGE[:1]),
    ("lr_test", "n"): ("zero", "one", "no axes", "status"),
}
"""The kinds that are legal of one parameter, where others of its name are of another kind."""


def is_column(function, parameter):
    """Whether the parameter is the name of a column, though one of the same name is not."""
    return function in ("greenland_longnecker", "hamling", "effect_sizes") and parameter != "kind"


def public_calls():
    """Names of public functions, classes and pictures, and of methods, ``Class.method``."""
    classes = {name: type(make()) for name, make in OWNERS.items()}
    for name in mx.__all__:
        value = getattr(mx, name)
        if name not in NOT_CALLED:
            yield name
        if inspect.isclass(value) and not issubclass(value, (Exception, mx.Status, mx.Design)):
            classes[name] = value
    for name, value in classes.items():
        for method, _ in inspect.getmembers(value, callable):
            if not (method.startswith("_") or method in PROTOCOL or method in INNER):
                yield f"{name}.{method}"
    yield from (f"plots.{name}" for name in mx.plots.__all__)


LONGEST = 10.0
"""Seconds that a call with wrong arguments may take; most take a thousandth."""

PUBLIC = list(public_calls())


def parameters(name):
    """Names of the parameters, those of ``**options`` by the legal arguments."""
    signature = inspect.signature(called(name)).parameters.values()
    own = [p.name for p in signature if p.kind is not p.VAR_KEYWORD]
    return list(dict.fromkeys([*own, *CALLS[name]()])) if name in CALLS else own


@contextmanager
def within(seconds):
    """End what hangs, where the system has alarms; far beyond what any of the calls takes."""

    def ring(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_every_public_name_has_legal_arguments():
    assert not [name for name in PUBLIC if name not in CALLS], "add them to CALLS"
    assert not [name for name in CALLS if name not in PUBLIC], "they are not public"


@pytest.mark.parametrize("name", CALLS)
def test_the_legal_arguments_are_all_there_and_legal(name):
    function = called(name)
    given = CALLS[name]()
    for parameter in inspect.signature(function).parameters.values():
        varied = parameter.kind is parameter.VAR_KEYWORD
        assert varied or parameter.name in given, f"{parameter.name} is missing in CALLS"
    call(name, given)


@pytest.mark.parametrize(
    ("name", "parameter"), [(name, each) for name in PUBLIC for each in parameters(name)]
)
def test_wrong_kinds_are_told_in_a_sentence(name, parameter):
    faults = []
    legal = None if is_column(name, parameter) else SCALARS.get(parameter)
    legal = OWN.get((name, parameter), legal)
    for kind, make in WRONG.items():
        value = make()
        try:
            with within(LONGEST), warnings.catch_warnings():
                # The library's own warnings are sentences; those of others are faults.
                warnings.simplefilter("ignore", UserWarning)
                call(name, CALLS[name]() | {parameter: value})
        except mx.InputError as error:
            said = str(error)
            named = re.search(rf"\b{SAID.get(parameter, re.escape(parameter))}\b", said)
            if len(said) > MESSAGE_LENGTH:
                faults.append(f"{kind}: {len(said)} characters")
            elif not named and kind not in (*(legal or ()), *LEGAL.get((name, parameter), ())):
                faults.append(f"{kind}: not named in: {said}")
            elif "\n" in said:
                faults.append(f"{kind}: several lines: {said}")
        except Exception as error:
            faults.append(f"{kind}: {type(error).__name__}: {str(error)[:120]}")
        else:
            if legal is not None and kind not in legal:
                faults.append(f"{kind}: taken")
    assert not faults, "\n".join(["", *faults])


INSIDE = (
    *("None", "text", "half a character", "True", "negative", "complex", "thousands of digits"),
    *("nan", "infinite", "Decimal", "numbers", "dict", "rude object", "class", "timestamp"),
    *("missing", "records"),
)
"""Kinds that entries of lists and mappings, and values of columns, are given."""


def with_one_changed(value, other):
    """The list, mapping, array or frame with one of its parts another, in each place in turn."""
    if isinstance(value, dict):
        yield from (value | {key: other} for key in value)
        try:
            yield {other: next(iter(value.values()))} if value else {}
        except Exception:  # what cannot be hashed is no key
            return
    elif isinstance(value, (list, tuple)) and value:
        yield [*value[:-1], other]
        yield [other]
    elif isinstance(value, pd.DataFrame):
        for column in value.columns:
            rest = value[column].tolist()[:-1]
            yield value.assign(**{column: pd.Series([*rest, other], value.index, dtype=object)})
            yield value.assign(**{column: pd.Series([other] * len(value), value.index, object)})
            yield value.rename(columns={column: value.columns[0]})


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (name, parameter)
        for name in CALLS
        for parameter, value in CALLS[name]().items()
        if isinstance(value, (dict, list, tuple, pd.DataFrame))
    ],
)
def test_wrong_parts_are_told_in_a_sentence(name, parameter):
    """One entry, label or column of another kind, where the argument itself is of the right one."""
    faults = []
    for kind in INSIDE:
        for value in with_one_changed(CALLS[name]()[parameter], WRONG[kind]()):
            try:
                with within(LONGEST), warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    call(name, CALLS[name]() | {parameter: value})
            except mx.InputError as error:
                said = str(error)
                if len(said) > MESSAGE_LENGTH or "\n" in said:
                    faults.append(f"{kind}: {said}")
                said.encode("utf-8")
            except Exception as error:
                faults.append(f"{kind}: {type(error).__name__}: {str(error)[:120]}")
    assert not faults, "\n".join(["", *faults])
