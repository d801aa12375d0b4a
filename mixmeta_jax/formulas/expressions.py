"""Expressions in formulas and subsets, as data: read, and held to what may stand in them.

An expression such as ``log(dose + 1)`` is parsed into a tree of Python's grammar, of which columns,
numbers, strings, arithmetic, comparisons and calls of listed functions (`formulas.transforms`) are
allowed and nothing else; `formulas.evaluation` walks the same tree. No text is given to ``eval``.
"""

from __future__ import annotations

import ast
import keyword
import re
import unicodedata
import warnings
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.transforms import (
    BASES,
    CONTRASTS,
    NAMED_NUMBERS,
    is_known,
    known_names,
    stands_for_no_column,
)
from mixmeta_jax.gates import close_matches

MAX_LENGTH = 50_000
"""Characters of a formula or subset: reading so many takes a second."""

MAX_DEPTH = 60
"""Brackets within brackets, or signs before signs: Python's own parser gives up at 100 to 200."""

WORD = re.compile(r"[^\W\d]\w*")
QUOTED = re.compile(r"`([^`]*)`")
_PIECES = re.compile(r"(`[^`]*`|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")", re.DOTALL)
_SIGNS = re.compile(rf"(?:[-+~!]\s*){{{MAX_DEPTH},}}|(?:\bnot\s+){{{MAX_DEPTH},}}")

ALLOWED = (
    "it takes columns, numbers, strings, arithmetic, comparisons and calls of known functions; "
    "compute anything else as a column of the data first"
)

OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow),
    *(ast.BitAnd, ast.BitOr, ast.BitXor),
    *(ast.UAdd, ast.USub, ast.Invert, ast.Not, ast.And, ast.Or),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn),
)
NODES = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.List, ast.Tuple, ast.Dict, ast.Load)
CONSTANTS = (int, float, str, bool, type(None))

WORDS = {
    ast.Lambda: "a lambda",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.JoinedStr: "an f-string",
    ast.NamedExpr: "an assignment (:=)",
    ast.Subscript: "a subscript in [ ]",
    ast.IfExp: "a choice by if and else",
    ast.Starred: "a star before an argument",
    ast.MatMult: "a matrix product",
    ast.LShift: "a shift of bits",
    ast.RShift: "a shift of bits",
    ast.Is: "'is'",
    ast.IsNot: "'is not'",
    ast.Set: "a set",
}


@dataclass(frozen=True)
class Expression:
    """An expression that holds nothing but what is allowed.

    Attributes
    ----------
    text
        As it was written.
    root
        Its tree.
    quoted
        Columns by the marks that stand for their names in the tree (`masked`).
    """

    text: str
    root: ast.expr
    quoted: dict[str, str]

    def column(self, node: ast.Name) -> str:
        """The column that a name in the tree stands for."""
        return self.quoted.get(node.id, node.id)

    def source(self, node: ast.AST) -> str:
        """A part of the expression as it was written, or nearly so, for a sentence."""
        try:
            return shown(restored(ast.unparse(node), self.quoted), 40)
        except (RecursionError, ValueError):
            return "..."

    def spelled(self) -> str:
        """The expression in the one spelling that all with the same meaning have."""
        return restored(ast.unparse(self.root), self.quoted)

    def names(self) -> Iterator[ast.Name]:
        """Every name that is not a function."""
        functions = {id(part) for node in ast.walk(self.root) for part in _function_parts(node)}
        for node in ast.walk(self.root):
            if isinstance(node, ast.Name) and id(node) not in functions:
                yield node

    def columns(self, known: Container[str]) -> list[str]:
        """Columns that the expression reads, as often as it does.

        A name that formulas know as a function, such as ``center``, is a column only where the
        data have one of that name.
        """
        return [
            self.column(node)
            for node in self.names()
            if node.id in self.quoted or not stands_for_no_column(node.id) or node.id in known
        ]


def dotted(node: ast.AST) -> str | None:
    """``"np.log"`` of the tree of ``np.log``, ``"log"`` of ``log``; None for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return None


def _function_parts(node: ast.AST) -> tuple[ast.AST, ...]:
    """Names that are part of the name of a function or number: ``np`` of ``np.log``."""
    if isinstance(node, ast.Call):
        return (node.func,)
    if isinstance(node, ast.Attribute):
        return (node.value,)
    return ()


def masked(text: str, what: str = "The formula") -> tuple[str, dict[str, str]]:
    """A text in which names that Python would not read as they are typed have given way to marks.

    These are names in backquotes, words of which Python makes others, as of the micro sign the
    Greek letter, which may well be another column, and those with marks upon their letters.

    Returns
    -------
    tuple of str and dict
        The text, and the names by their marks, for `restored`.
    """
    names: dict[str, str] = {}
    mark = "_quoted_"
    while mark in text:
        mark += "_"

    def hidden(name: str) -> str:
        key = f"{mark}{len(names)}_"
        names[key] = name
        return key

    def word(typed: str) -> str:
        read = WORD.fullmatch(typed) and unicodedata.is_normalized("NFKC", typed)
        return typed if read or not typed.isidentifier() else hidden(typed)

    parts = pieces(text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = part if part.isascii() else "".join(map(word, _runs(part)))
        elif part == "``":
            raise InputError(f"{what} '{shown(text, 60)}' has no name between two backquotes.")
        elif part.startswith("`"):
            parts[i] = f" {hidden(part[1:-1])} "
    return "".join(parts), names


def _runs(text: str) -> list[str]:
    """The text cut where a name may begin or end."""
    runs = groupby(text, key=lambda character: f"a{character}".isidentifier())
    return ["".join(characters) for _, characters in runs]


def restored(text: str, names: dict[str, str]) -> str:
    """A text with the names in the places of their marks, in backquotes where they need them."""
    if not names:
        return text
    return WORD.sub(lambda found: _typed(names[found[0]]) if found[0] in names else found[0], text)


def _typed(name: str) -> str:
    plain = name.isidentifier() and not keyword.iskeyword(name) and not stands_for_no_column(name)
    return name if plain else f"`{name}`"


def refuse_length(text: str, what: str) -> None:
    """Raise where a text is longer, or its brackets are deeper, than anyone writes by hand."""
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"{what} '{shown(text, 40)}' has {len(text):,} characters, more than the "
            f"{MAX_LENGTH:,} that are read: compute columns or knots first."
        )
    depth = deepest = 0
    for character in "".join(pieces(text)[::2]):
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    if deepest > MAX_DEPTH or _SIGNS.search(text):
        raise InputError(
            f"{what} '{shown(text, 40)}' nests brackets or signs more than {MAX_DEPTH} deep: "
            "compute a column first."
        )


def pieces(text: str) -> list[str]:
    """The text cut at its strings and backquoted names, which are the pieces of odd number."""
    return _PIECES.split(text)


def unquoted(name: str) -> str:
    """A name without the backquotes around the whole of it."""
    quoted = QUOTED.fullmatch(name)
    return quoted.group(1) if quoted else name


@lru_cache(maxsize=256)
def read_expression(text: str, what: str = "The formula") -> Expression:
    """An expression, held to what is allowed.

    Parameters
    ----------
    text
        The expression, columns with other characters than a name's in backquotes.
    what
        What it belongs to, for the sentence.

    Raises
    ------
    InputError
        If it cannot be read, or holds what is not allowed.
    """
    refuse_length(text, what)
    source, quoted = masked(text, what)
    try:
        with warnings.catch_warnings():
            # Of escapes in strings, or numbers next to names: the user asked for no syntax check.
            warnings.simplefilter("ignore")
            root = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{what} cannot be read at '{shown(text)}': {ALLOWED}.") from error
    expression = Expression(text, root, quoted)
    for node in ast.walk(root):
        _refuse(node, expression, what)
    return expression


def _refuse(node: ast.AST, expression: Expression, what: str) -> None:
    """Raise where a node of the tree is not allowed."""
    found = None
    if isinstance(node, ast.Call):
        return _refuse_call(node, expression, what)
    if isinstance(node, ast.Attribute):
        name = dotted(node)
        if name not in NAMED_NUMBERS and not (name and is_known(name)):
            found = f"the attribute '.{shown(node.attr, 30)}'"
    elif isinstance(node, ast.Constant):
        if type(node.value) not in CONSTANTS:
            found = f"a constant of the type {type(node.value).__name__}"
    elif isinstance(node, ast.Dict):
        if not all(isinstance(key, ast.Constant) for key in node.keys):
            found = "a dictionary whose keys are not plain"
    elif isinstance(node, ast.keyword):
        if node.arg is None:
            found = "stars before an argument"
        elif node.arg.startswith("_"):
            found = f"the argument '{shown(node.arg, 30)}'"
    elif not isinstance(node, (ast.Name, *NODES, *OPERATORS)):
        found = WORDS.get(type(node), f"this ({type(node).__name__})")
    if found is None:
        return None
    hint = ""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        hint = f" (a column of that name is written `{expression.source(node)}`)"
    signs = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.keyword)
    place = "" if isinstance(node, signs) else f" at '{expression.source(node)}'"
    raise InputError(
        f"{what} has {found}{place} in '{shown(expression.text, 60)}', which is not "
        f"allowed{hint}: {ALLOWED}."
    )


def _refuse_call(node: ast.Call, expression: Expression, what: str) -> None:
    name = dotted(node.func)
    text = shown(expression.text, 60)
    if name is not None and isinstance(node.func, ast.Name) and node.func.id in expression.quoted:
        name = None
    if name is None:
        raise InputError(
            f"{what} calls what is no known function, '{expression.source(node.func)}', in "
            f"'{text}': {ALLOWED}."
        )
    if is_known(name):
        return
    if "." in name:
        prefix = name.partition(".")[0]
        kind = "function" if prefix in ("np", "contr") else "method"
        raise InputError(
            f"{what} calls the {kind} '{shown(name, 40)}' in '{text}', which is not allowed: "
            f"{ALLOWED}."
        )
    raise InputError(
        f"{what} calls the unknown function '{shown(name, 40)}' in '{text}': it knows "
        f"{', '.join(sorted(BASES))} and functions of numbers such as log.{_hint(name)} Compute a "
        "column first, or make your function known with register_transform."
    )


def _hint(name: str) -> str:
    return close_matches(name, [n for n in known_names() if len(n) > 1]) if len(name) < 40 else ""


def is_contrast(name: str | None) -> bool:
    """Whether a name stands for a coding of categories where it is not called."""
    return name in CONTRASTS
