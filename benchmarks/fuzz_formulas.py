"""Random formulas and subsets, legal ones and broken ones, for as long as you like.

    python benchmarks/fuzz_formulas.py --seconds 3600 --seed 1

Anything but a design or an `InputError` of at most 400 characters is printed, and so is what took
longer than ten seconds; the exit code is then 1.
"""

import argparse
import random
import sys
import time
import warnings

import numpy as np
import pandas as pd

from mixmeta_jax import InputError
from mixmeta_jax.errors import MOST
from mixmeta_jax.table.frame import build_frame

SLOW = 10.0
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


def word(g: random.Random, kind: str) -> str:
    """One of the words of a kind."""
    return g.choice(LISTS[kind])


def expression(g: random.Random, depth: int) -> str:
    """One that is nearly one of Python's."""
    kind = g.random()
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


def main() -> int:
    """Fuzz until the time is over."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    g = random.Random(chosen.seed)
    data = pd.DataFrame(
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
    S = np.ones((6, 1))
    tried = read = failed = 0
    end = time.monotonic() + chosen.seconds
    while time.monotonic() < end:
        text = formula(g)
        for arguments in (
            {"formula": f"y ~ {text}"},
            {"formula": f"y ~ {{{text}}}"},
            {"formula": f"{text} ~ x"},
            {"formula": "y ~ x", "random": f"~ {text} | kind"},
            {"formula": "y", "subset": text},
        ):
            start, said = time.monotonic(), ""
            try:
                frame = build_frame(S=S, data=data, **arguments)
                frame.new_X(data.iloc[::-1])
                read += 1
            except InputError as error:
                said = "too long a message" if len(str(error)) > MOST else ""
            except Exception as error:
                said = repr(error)[:200]
            if time.monotonic() - start > SLOW:
                said += " too slow"
            if said:
                print(f"{arguments}: {said}", flush=True)
            tried += 1
            failed += bool(said)
    print(f"seed {chosen.seed}: {tried:,} tried, {read:,} read, {failed:,} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
