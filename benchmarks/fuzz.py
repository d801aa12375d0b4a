"""Random formulas, frames and arguments, legal ones and broken ones, for as long as you like.

    python -m benchmarks.fuzz --seconds 3600 --seed 1

Anything but a result or an error of the library's own of at most 400 characters is told, once for
each place that it comes from: other exceptions, warnings that are not the library's, what takes
more than ten seconds, and code that ran (a file, an environment variable, an attribute that only a
formula could have made). The exit code is then 1. The same seed makes the same calls.
"""

import argparse
import faulthandler
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager

import jax
import numpy as np
import pandas as pd

import mixmeta_jax as mx
from mixmeta_jax.errors import MESSAGE_LENGTH
from mixmeta_jax.table.frame import build_frame
from tests.arguments import CALLS, ENGINE, WRONG, axes, call

SLOW = 10.0
"""Seconds of the process's own time that a call may take: others may keep the machine busy."""

WAITING = 60.0
"""Seconds by the clock in which a call that runs takes at least a tenth of one of its own."""

CANARY = "FUZZ_CANARY"
WORDS = {
    "function": """log exp abs exp10 np.log np.sqrt np.where np.clip np.power np.round poly ns bs cr
        cc cs C I center scale standardize hashed Treatment Sum contr.sum contr.treatment np.save
        open lag""",
    "argument": """df knots degree levels raw intercept lower_bound extrapolation base scale
        _state ddof constraints contrasts spans_intercept boundary_knots intercept out""",
    "value": """x z kind flag `a_b` when cat y 1 2 0 -1 3.5 1e400 10**9 'a' True None np.pi [1,2] []
        ['a','b'] {'a':[1,0,-1]} (1,2) np Sum log x.sum() x[0] f'{x}' {x}""",
    "operator": "+ - * / // % ** & | ^ == != < > <= in not_in and or @ << is",
    "sign": "- + ~ not_",
    "between": "+ * : / ** - %in% | ~",
}
LISTS = {
    kind: [word.replace("not_", "not ").replace("a_b", "a b") for word in words.split()]
    for kind, words in WORDS.items()
}
NOISE = "()[]{}`'\"~|:*^.,\\#\n\t%$@ é0"

ATTACKS = (
    f"__import__('os').environ.__setitem__('{CANARY}', '1')",
    f"x.to_csv('{CANARY}')",
    f"x.values.tofile('{CANARY}')",
    f"np.save('{CANARY}', x)",
    f"{{np.save('{CANARY}', x)}}",
    f"open('{CANARY}', 'w')",
    f"np.random.__class__.__init__.__globals__['os'].system('touch {CANARY}')",
    f"().__class__.__base__.__subclasses__()[0].{CANARY}",
    f"I(setattr(x, '{CANARY}', 1))",
    f"setattr(np, '{CANARY}', 1)",
    f'exec(\'import os; os.environ["{CANARY}"] = "1"\')',
    f'eval(\'open("{CANARY}", "w")\')',
    f"[open('{CANARY}', 'w') for i in x]",
    f"(lambda: open('{CANARY}', 'w'))()",
    f"@pd.io.common.os.system('touch {CANARY}')",
    f"`x`.map(lambda v: open('{CANARY}', 'w'))",
    f"C(x, contr.treatment(open('{CANARY}', 'w')))",
    f"log(x, out=np.memmap('{CANARY}', mode='w+', shape=6))",
    f"bs(x, df=__import__('os').system('touch {CANARY}'))",
    f'f\'{{open("{CANARY}", "w")}}\'',
    f"x if open('{CANARY}', 'w') else z",
    f"x[open('{CANARY}', 'w')]",
    f"poly(x, 2, _state=setattr(np, '{CANARY}', 1))",
)
"""Expressions that leave a trace wherever one of them is run as code."""


def word(g: random.Random, kind: str) -> str:
    """One of the words of a kind."""
    return g.choice(LISTS[kind])


def expression(g: random.Random, depth: int) -> str:
    """One that is nearly one of Python's."""
    kind = g.random()
    if kind < 0.03:
        return g.choice(ATTACKS)
    if depth <= 0 or kind < 0.3:
        return word(g, "value")
    if kind < 0.6:
        given = [expression(g, depth - 1) for _ in range(g.choice([0, 1, 1, 1, 2, 2, 3]))]
        named = [
            f"{word(g, 'argument')}={expression(g, depth - 2)}" for _ in range(g.choice([0, 0, 1]))
        ]
        return f"{word(g, 'function')}({', '.join(given + named)})"
    if kind < 0.9:
        left, right = expression(g, depth - 1), expression(g, depth - 1)
        return f"({left} {word(g, 'operator')} {right})"
    return word(g, "sign") + expression(g, depth - 1)


def disturbed(g: random.Random, text: str) -> str:
    """The text, in one of four cases with a character too many or another."""
    if not text or g.random() > 0.25:
        return text
    at = g.randrange(len(text))
    return text[:at] + g.choice(NOISE) + text[at + g.choice([0, 1]) :]


def formula(g: random.Random) -> str:
    """A sum or product of expressions."""
    text = disturbed(g, expression(g, g.choice([1, 2, 3, 4])))
    if g.random() < 0.3:
        text = disturbed(g, f"{text} {word(g, 'between')} {expression(g, 2)}")
    return text


def plain_frame() -> pd.DataFrame:
    """Columns of the usual types."""
    return pd.DataFrame(
        {
            "x": [1.0, 2, 3, 4, 5, 7],
            "z": [2.0, 1, 1, 0, 3, -1],
            "kind": list("ababca"),
            "flag": [True, False] * 3,
            "a b": range(6),
            "y": [1.0, 0, 2, 1, 0, 1],
            "when": pd.date_range("2001", periods=6),
            "cat": pd.Categorical(list("ppqqrr")),
        }
    )


def of_formulas(g: random.Random) -> tuple:
    """A formula, or one of the other texts of `mixmeta`, and the frame that reads it."""
    text = formula(g)
    arguments = g.choice(
        [
            {"formula": f"y ~ {text}"},
            {"formula": f"y ~ {{{text}}}"},
            {"formula": f"{text} ~ x"},
            {"formula": "y ~ x", "random": f"~ {text} | kind"},
            {"formula": "y", "subset": text},
            {"formula": "y", "random": f"~ 1 | {text}"},
            {"formula": "y", "offset": text},
        ]
    )

    def call() -> None:
        data = plain_frame()
        frame = build_frame(S=np.ones((6, 1)), data=data, **arguments)
        frame.new_X(data.iloc[::-1])

    return call, f"build_frame {arguments}"


# Frames


def column(g: random.Random, n: int) -> object:
    """A column of n values of one of the types that frames have."""
    numbers = np.array([g.choice([0.0, 1.0, -2.5, 3.25, 1e-8, 1e8]) + g.random() for _ in range(n)])
    kind = g.randrange(16)
    if kind < 5:
        holes = g.random() < 0.3
        numbers[g.randrange(n)] = g.choice([np.nan, np.inf, 1e300, 0.0]) if holes else 1.0
        return numbers
    return (
        lambda: [g.randrange(3) for _ in range(n)],
        lambda: pd.array([g.choice([1, 2, None]) for _ in range(n)], "Int64"),
        lambda: pd.array([g.choice([True, False, None]) for _ in range(n)], "boolean"),
        lambda: pd.Categorical([g.choice("pqr") for _ in range(n)]),
        lambda: [g.choice("ab") for _ in range(n)],
        lambda: [g.choice(["", " ", "a", None, "1"]) for _ in range(n)],
        lambda: [g.choice([1, "a", 2.5, None, [1]]) for _ in range(n)],
        lambda: pd.date_range("2001", periods=n),
        lambda: numbers * 1j,
        lambda: numbers.astype(np.float32),
        lambda: np.zeros(n),
    )[kind - 5]()


def frame(g: random.Random) -> pd.DataFrame:
    """A frame with the columns of the tests' data, some of them of any type, of any length."""
    n = g.choice([0, 1, 2, 3, 5, 6, 8, 12])
    names = ["y", "y2", "v", "v2", "x", "group", "time"]
    data = pd.DataFrame(
        {
            name: column(g, n) if n and g.random() < 0.25 else np.arange(1.0, n + 1) % (2 + i)
            for i, name in enumerate(names)
        }
    )
    if "v" in data and g.random() < 0.9 and n:
        data["v"], data["v2"] = 0.1 + np.arange(n) / 10, 0.2
    if g.random() < 0.2 and n:
        data.index = g.choice(
            [
                pd.Index(["same"] * n),
                pd.Index([None, *range(n - 1)]),
                pd.MultiIndex.from_arrays([range(n), ["a"] * n]),
                pd.date_range("2001", periods=n),
                pd.Index([(i, i) for i in range(n)], tupleize_cols=False),
            ]
        )
    if g.random() < 0.05:
        data = data.drop(columns=g.choice(names))
    return data


def of_frames(g: random.Random) -> tuple:
    """A model of a random frame, and what its fit says."""
    arguments = {
        "formula": g.choice(["y", "y ~ x", "y ~ C(group)", "y + y2 ~ x", "y ~ x * time", "y ~ 0"]),
        "S": g.choice(["v", "v", ["v", "v2"], ["v", "v2", "time"]]),
        "random": g.choice([None, None, "~ 1 | group", "~ x | group", "~ 1 | group/time"]),
        "method": g.choice(["reml", "reml", "ml", "fixed", "mm", "vc", "dl", "pm"]),
        "bscov": g.choice(["unstr", "unstr", "diag", "id", "cs", "ar1"]),
        "na_action": g.choice(["omit", "exclude", "raise"]),
        "offset": g.choice([None, None, "time"]),
        "rho": g.choice([None, None, 0.3, 1.0]),
    }
    data = frame(g)
    methods = [name for name in CALLS if name.startswith("Fit.") and name != "Fit.update"]
    method = g.choice(methods)

    def call() -> None:
        fit = mx.mixmeta(data=data, control=ENGINE, **arguments)
        str(fit.summary())
        given = CALLS[method]()
        if "newdata" in given:
            given["newdata"] = g.choice([data, None])
            given |= {} if given["newdata"] is not None or "S" not in given else {"S": None}
        getattr(fit, method.partition(".")[2])(**given)

    return call, f"mixmeta {arguments} of {dict(data.dtypes)}, {len(data)} rows, then {method}"


# Arguments


def changed(g: random.Random, value: object) -> object:
    """A legal value, disturbed a little; or a value of any other kind."""
    if g.random() < 0.5:
        return WRONG[g.choice(list(WRONG))]()
    if isinstance(value, str):
        return disturbed(g, value) if g.random() < 0.5 else formula(g)
    if isinstance(value, dict):
        own = dict(value)
        if own:
            key = g.choice(list(own))
            own[key] = changed(g, own[key])
        return own
    if isinstance(value, pd.DataFrame):
        own = value.copy()
        name = g.choice(list(own.columns))
        own[name] = column(g, len(own)) if len(own) else []
        return own
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (list, tuple)):
        own = list(value)
        own[g.randrange(len(own))] = g.choice([np.nan, np.inf, -1, 0, None, "a", 1e300, [], own])
        return own
    if isinstance(value, np.ndarray) and value.size:
        own = np.array(value, float)
        own.flat[g.randrange(own.size)] = g.choice([np.nan, np.inf, -1.0, 0.0, 1e300, 1e-300])
        return g.choice([own, own.T, own[:-1], own[None], own[..., None], own.ravel(), -own])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return g.choice([-value, value + 1, value * 1.5, np.float32(value), 10**12, 10**20])
    return value


def of_arguments(g: random.Random) -> tuple:
    """A public function or method, one to three of its arguments changed."""
    name = g.choice(list(CALLS))
    given = CALLS[name]()
    for parameter in g.sample(list(given), min(len(given), g.choice([1, 1, 2, 3]))):
        given[parameter] = changed(g, given[parameter])

    def attempt() -> None:
        if name.startswith("plots."):
            _wipe()
        call(name, dict(given))

    return attempt, f"{name}({', '.join(f'{key}={_short(value)}' for key, value in given.items())})"


def _wipe() -> None:
    """Pictures are drawn upon shared axes, which would fill over an hour."""
    for given in (axes(), *axes(4), *axes(5)):
        given.clear()


def _short(value: object) -> str:
    try:
        return " ".join(repr(value).split())[:80]
    except Exception:
        return f"<{type(value).__name__}>"


# The run


class TooSlow(BaseException):
    """No Exception: what catches those, as the gates do, is not to catch this."""


@contextmanager
def alarm(seconds: float):
    """End what takes longer, or waits for what never comes."""
    seen = [time.process_time()]

    def ring(kind: int, _: object) -> None:
        used, seen[0] = time.process_time() - seen[0], time.process_time()
        if kind == signal.SIGPROF or used < 0.1:
            raise TooSlow("it waits" if kind == signal.SIGALRM else "it takes too long")

    signal.signal(signal.SIGPROF, ring)
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAITING, WAITING)
    # Where Python is not reached, as in one long call of a library, at least the place is told.
    faulthandler.dump_traceback_later(15 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


def traces() -> list[str]:
    """What code that was run has left."""
    left = [os.environ.pop(CANARY)] if CANARY in os.environ else []
    if os.path.exists(CANARY):
        os.remove(CANARY)
        left.append("a file")
    for owner in (np, pd, mx, pd.Series):
        if hasattr(owner, CANARY):
            delattr(owner, CANARY)
            left.append(f"an attribute of {owner.__name__}")
    return left


def outcome(call: object) -> tuple[str, str]:
    """What is wrong with how a call ends, and where; both empty where nothing is."""
    try:
        with alarm(SLOW), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)
            call()
    except mx.MixmetaError as error:
        said = str(error)
        wrong = len(said) > MESSAGE_LENGTH or "\n" in said
        return ("too long a message", said[:60]) if wrong else ("", "")
    except (Exception, SystemExit, TooSlow) as error:
        own = [f for f in traceback.extract_tb(error.__traceback__) if "mixmeta_jax" in f.filename]
        place = f"{os.path.basename(own[-1].filename)}:{own[-1].lineno}" if own else "outside"
        return f"{type(error).__name__}: {_short(error)}", place
    return "", ""


def main() -> int:
    """Fuzz until the time is over."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    g = random.Random(chosen.seed)
    told: Counter = Counter()
    tried: Counter = Counter()
    versions = ", ".join(f"{module.__name__} {module.__version__}" for module in (mx, jax, np, pd))
    print(versions, flush=True)
    before = dict(os.environ)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        while time.monotonic() < start + chosen.seconds:
            kind = g.choice([of_formulas, of_formulas, of_frames, of_arguments, of_arguments])
            call, said = kind(g)
            tried[kind.__name__] += 1
            wrong, place = outcome(call)
            left = traces()
            if left:
                wrong, place = f"code ran and left {', '.join(left)}; {wrong}", said
            if wrong:
                key = (wrong.partition(":")[0], place)
                told[key] += 1
                if told[key] == 1:
                    print(f"{wrong} at {place}: {said[:600]}", flush=True)
        os.chdir("/")
    changes = sorted(set(before.items()) ^ set(os.environ.items()))
    if changes:
        told["the environment has changed", ""] += 1
        print(f"the environment has changed: {changes}", flush=True)
    counts = ", ".join(f"{count:,} {name}" for name, count in tried.items())
    failed = sum(told.values())
    print(f"seed {chosen.seed}, {time.monotonic() - start:.0f} s: {counts}; {failed:,} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
