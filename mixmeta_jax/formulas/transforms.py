"""The functions that formulas may call: a list, to which users add their own.

A formula is data, not code: it computes with columns, and what it may call stands here. All of it
is pure and keeps the order of the rows. Functions of numpy work value by value, since whatever
learns from all rows (``np.mean``) would learn anew from the rows of ``predict``; `center`, `scale`,
`poly` and the splines remember what they have learnt.
"""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
from formulaic.transforms import TRANSFORMS, ContrastsRegistry

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.splines import bs, ns

BARE = frozenset(
    {"abs", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "sign", "sqrt"}
    | {"cos", "cosh", "sin", "sinh", "tan", "tanh", "arccos", "arcsin", "arctan", "ceil", "floor"}
)
"""Functions of numpy that are known without ``np.`` too."""


def _exp10(x: Any) -> Any:
    # formulaic's own is x to the tenth.
    return np.power(10.0, x)


def _round(x: Any, decimals: float = 0.0) -> Any:
    return np.round(x, int(decimals))


def _elementwise() -> dict[str, tuple[Callable, tuple[int, ...]]]:
    known: dict[str, tuple[Callable, tuple[int, ...]]] = {}
    for name, function in vars(np).items():
        # A number for a number of each argument; a signature belongs to functions of vectors.
        if not isinstance(function, np.ufunc) or function.nout != 1 or function.signature:
            continue
        known[f"np.{name}"] = (function, (function.nin,))
        if name in BARE:
            known[name] = known[f"np.{name}"]
    known["np.where"] = (np.where, (3,))
    known["np.clip"] = (np.clip, (3,))
    known["np.round"] = (_round, (1, 2))
    known["exp10"] = (_exp10, (1,))
    return known


ELEMENTWISE = _elementwise()
"""Functions of numbers, value by value, with the numbers of arguments that they take; no keywords,
since an output among the arguments would be written to."""

NAMED_NUMBERS = {"np.pi": np.pi, "np.e": np.e}

CONTRASTS: dict[str, Any] = {
    **{
        f"contr.{name}": getattr(ContrastsRegistry, name)
        for name in ("treatment", "sum", "helmert", "poly", "diff", "SAS")
        if hasattr(ContrastsRegistry, name)
    },
    **{name: TRANSFORMS[name] for name in ("Treatment", "Poly", "Sum", "Helmert", "Diff")},
}
"""Codings of categories, for ``C(x, contr.sum)`` or ``C(x, Treatment('a'))``."""

BASES: dict[str, Callable] = {
    **{name: TRANSFORMS[name] for name in ("C", "I", "center", "scale", "standardize")},
    **{name: TRANSFORMS[name] for name in ("poly", "cr", "cs", "cc", "hashed")},
    "bs": bs,
    "ns": ns,
    "c": lambda *values: list(values),
}
"""Functions of a column that give a column or several; their sizes are limited. ``c`` is R's: a
list of numbers, as of knots."""

RESERVED = frozenset({"np", "contr", "cbind", "factor", "index"})
"""Names that mean something else to formulas."""

_own_functions: dict[str, Callable] = {}


def register_transform(name: str, function: Callable) -> None:
    """Let formulas call a function of one's own.

    Parameters
    ----------
    name
        What formulas call it; a name that is registered already is replaced.
    function
        Takes columns (Series of n values) and the numbers or strings that the formula gives, and
        returns n values, or an array of shape (n, m), row by row in the same order. It is called a
        second time with the rows in another order, and refused where it does not say the same
        of each of them: what sorts, or draws at random, is no transform. One that learns
        from the rows it is fitted on is decorated by ``formulaic.transforms.stateful_transform``.

    Raises
    ------
    InputError
        If the name is no Python name or belongs to a function that formulas know already, or the
        function cannot be called.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> mx.register_transform("decades", lambda year: (year - 1900) / 10)
    >>> fit = mx.mixmeta("logor ~ decades(year)", S="logorvar", data=mx.load_dataset("bcg"))
    >>> list(fit.coef.index)
    ['(Intercept)', 'decades(year)']
    """
    is_name = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
    if not is_name or not unicodedata.is_normalized("NFKC", name):
        raise gates.refused("name, that of a transform,", "a Python name", name)
    if name in RESERVED or (is_known(name) and name not in _own_functions):
        raise InputError(f"Formulas know '{name}' already: register the transform by another name.")
    _own_functions[name] = gates.function(function, f"function, the transform '{shown(name)}',")


def is_known(name: str) -> bool:
    """Whether formulas may call a function of this name."""
    return name in ELEMENTWISE or name in BASES or name in CONTRASTS or name in _own_functions


def registered(name: str) -> Callable | None:
    """The user's transform of this name; None where there is none."""
    return _own_functions.get(name)


def stands_for_no_column(name: str) -> bool:
    """Whether a name has a meaning of its own where no column has it."""
    return is_known(name) or name in ("np", "contr")


def known_names() -> list[str]:
    """The functions that are called without a prefix, for sentences."""
    return sorted({*BASES, *(name for name in ELEMENTWISE if "." not in name), *_own_functions})
