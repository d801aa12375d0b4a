"""The values of an expression over the columns of a frame.

It walks the tree that `formulas.expressions` has read: a node that this module does not know cannot
be evaluated, and only functions of `formulas.transforms` are ever called. Numbers are reckoned with
as floats, so that no power of integers overflows or fills the memory.
"""

from __future__ import annotations

import ast
import copy
import functools
import operator
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from formulaic.materializers.types import FactorValues

from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.expressions import Expression, dotted, is_contrast
from mixmeta_jax.formulas.transforms import BASES, CONTRASTS, ELEMENTWISE, NAMED_NUMBERS, registered
from mixmeta_jax.table.columns import is_numeric, numeric, refuse_reordered
from mixmeta_jax.tolerances import SUMS

MAX_COLUMNS = 5_000
"""Columns that a term, or a design matrix, may have: their square must fit into memory."""

COUNTS = ("df", "degree", "levels")
"""Arguments of transforms that say how many columns there are to be."""

ARITHMETIC: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
LOGIC: dict[type, Callable] = {
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.And: operator.and_,
    ast.Or: operator.or_,
}
COMPARISONS: dict[type, Callable] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass
class Evaluator:
    """One evaluation of an expression.

    Attributes
    ----------
    expression
        What to evaluate.
    columns
        The columns, by name.
    state
        What transforms have learnt, by expression and call; filled where it is not there yet.
    spec
        formulaic's specification, which its transforms ask for.
    """

    expression: Expression
    columns: Mapping[str, Any]
    state: MutableMapping[str, Any] = field(default_factory=dict)
    spec: Any = None

    def result(self) -> Any:
        """The values of the whole expression.

        Raises
        ------
        InputError
            For arithmetic with what is no number, a wrong argument, or sizes beyond all use.
        """
        try:
            return self._value(self.expression.root)
        except InputError:
            raise
        except RecursionError as error:
            raise self._error("nests too deeply to be evaluated") from error
        except Exception as error:
            # What numpy, pandas or a user's transform say of their arguments.
            reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
            reason = shown(reason or type(error).__name__, 160).rstrip(".")
            raise self._error(f"cannot be evaluated: {reason}") from error

    def _error(self, what: str) -> InputError:
        return InputError(f"The expression '{shown(self.expression.text)}' {what}.")

    def _value(self, node: ast.AST) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self._named(node)
            case ast.Attribute():
                return self._dotted(node)
            case ast.BinOp() if type(node.op) in LOGIC:
                return self._joined(node.op, [node.left, node.right])
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.BoolOp():
                return self._joined(node.op, node.values)
            case ast.UnaryOp(op=ast.Not() | ast.Invert()):
                return ~self._truths(node.operand)
            case ast.UnaryOp(op=ast.USub()):
                return -self._numbers(node.operand)
            case ast.UnaryOp(op=ast.UAdd()):
                return +self._numbers(node.operand)
            case ast.Compare():
                return self._compared(node)
            case ast.List() | ast.Tuple():
                return self._listed(node.elts)
            case ast.Dict():
                keys = [self._value(key) for key in node.keys if key is not None]
                return dict(zip(keys, (self._value(v) for v in node.values), strict=True))
            case ast.Call():
                return self._called(node)
        raise self._error(f"holds {type(node).__name__}, which is not known")

    def _named(self, node: ast.Name) -> Any:
        name = self.expression.column(node)
        if name in self.columns:
            return self.columns[name]
        if node.id not in self.expression.quoted and is_contrast(name):
            return CONTRASTS[name]
        raise self._error(f"names '{shown(name, 40)}', which is no column of the data")

    def _dotted(self, node: ast.Attribute) -> Any:
        name = dotted(node)
        if name in NAMED_NUMBERS:
            return NAMED_NUMBERS[name]
        if name is not None and is_contrast(name):
            return CONTRASTS[name]
        raise self._error(f"names the function '{name}' without its arguments")

    def _numbers(self, node: ast.AST) -> Any:
        """A value to reckon with; what holds no numbers is refused."""
        value = _bare(self._value(node))
        if isinstance(value, (bool, int, float, np.number, np.bool_)):
            return value
        if isinstance(value, pd.Series) and value.dtype == object and is_numeric(value):
            return pd.Series(numeric(value, "column"), index=value.index)
        if isinstance(value, (pd.Series, np.ndarray)):
            plain = isinstance(value.dtype, np.dtype)
            if value.dtype.kind in "biufmM" if plain else pd.api.types.is_numeric_dtype(value):
                return value
        raise self._error(f"reckons with '{self.expression.source(node)}', which is no number")

    def _arithmetic(self, node: ast.BinOp) -> Any:
        left, right = self._numbers(node.left), self._numbers(node.right)
        if isinstance(node.op, ast.Pow):
            left = _float(left)
        with np.errstate(all="ignore"):
            return ARITHMETIC[type(node.op)](left, right)

    def _truths(self, node: ast.AST) -> Any:
        """Values that are true or false."""
        value = _bare(self._value(node))
        if isinstance(value, (bool, np.bool_)):
            return np.bool_(value)
        if isinstance(value, (pd.Series, np.ndarray)):
            if value.dtype == bool or value.dtype == "boolean":
                return value
            if value.dtype == object and pd.api.types.infer_dtype(value) == "boolean":
                return pd.Series(value).astype("boolean")
        raise self._error(
            f"joins '{self.expression.source(node)}', which is neither true nor false: put "
            "comparisons in brackets"
        )

    def _joined(self, op: ast.AST, nodes: Sequence[ast.AST]) -> Any:
        result = self._truths(nodes[0])
        for node in nodes[1:]:
            result = LOGIC[type(op)](result, self._truths(node))
        return result

    def _compared(self, node: ast.Compare) -> Any:
        """``a < b <= c`` is ``(a < b) and (b <= c)``."""
        result = None
        left = _bare(self._value(node.left))
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = _bare(self._value(right_node))
            one = self._comparison(op, left, right)
            result = one if result is None else result & one
            left = right
        return result

    def _comparison(self, op: ast.cmpop, left: Any, right: Any) -> Any:
        if isinstance(op, (ast.In, ast.NotIn)) or isinstance(right, list):
            if not isinstance(right, (list, pd.Series)) or not isinstance(left, pd.Series):
                raise self._error("looks for other things than a column's values in a list")
            if type(op) not in (ast.In, ast.NotIn, ast.Eq, ast.NotEq):
                raise self._error("orders a column and a list")
            found = left.isin(right)
            return found if isinstance(op, (ast.In, ast.Eq)) else ~found
        return COMPARISONS[type(op)](left, right)

    def _listed(self, nodes: Sequence[ast.AST]) -> list:
        values = [self._value(node) for node in nodes]
        if any(isinstance(value, (pd.Series, np.ndarray, FactorValues)) for value in values):
            raise self._error("puts a column into a list, which takes numbers and strings")
        return values

    def _called(self, node: ast.Call) -> Any:
        name = dotted(node.func) or ""
        if name in ELEMENTWISE:
            function, counts = ELEMENTWISE[name]
            if node.keywords or len(node.args) not in counts:
                many = " or ".join(map(str, counts))
                raise self._error(f"must give {name}() {many} argument(s), without keywords")
            arguments = [_float(self._numbers(argument)) for argument in node.args]
            with np.errstate(all="ignore"):
                return function(*arguments)
        arguments = [self._value(argument) for argument in node.args]
        keywords = {k.arg: self._value(k.value) for k in node.keywords if k.arg is not None}
        if name in CONTRASTS:
            return CONTRASTS[name](*arguments, **keywords)
        keywords |= {key: self._one_number(key, keywords[key]) for key in COUNTS if key in keywords}
        own = registered(name)
        function = BASES[name] if own is None else own
        if own is None:
            self._refuse_size(name, arguments, keywords)
        if getattr(function, "__is_stateful_transform__", False):
            key = f"{ast.unparse(node)} in {self.expression.text}"
            keywords |= {"_state": self.state.setdefault(key, {}), "_spec": self.spec}
        if own is None:
            return function(*arguments, **keywords)
        return self._of_own(own, name, arguments, keywords)

    def _one_number(self, key: str, value: Any) -> Any:
        """How many columns there are to be: a number, or a column that holds one only."""
        if isinstance(value, pd.Series):
            found = pd.unique(value)
            if len(found) != 1:
                raise self._error(
                    f"needs one number for {key}, not a column of {len(found)} values"
                )
            value = found[0]
        if not isinstance(value, (float, np.floating)):
            return value
        if value % 1 != 0:
            raise self._error(f"needs a whole number for {key}, not {value:g}")
        return int(value)

    def _of_own(self, function: Callable, name: str, given: list, keywords: dict[str, Any]) -> Any:
        """What a user's transform returns, which must say of each row the same in any order."""
        columns = [v for v in (*given, *keywords.values()) if isinstance(v, pd.Series)]
        # What is learnt in the first call must not be known in the second.
        known = {"_state": copy.deepcopy(keywords["_state"])} if "_state" in keywords else {}
        # No function of use takes this order to itself, as the opposite one takes reversals.
        order = np.random.default_rng(0).permutation(len(columns[0]) if columns else 0)
        shuffled = functools.partial(_shuffled, order=order)
        found = []
        for taken, state in ((_copied, {}), (shuffled, known)):
            named = {key: taken(value) for key, value in keywords.items()} | state
            found.append(self._rows(function(*map(taken, given), **named), columns, name))
        first, second = map(_table, found)
        if columns and first.ndim and not _same(first[order], second):
            raise self._error(
                f"calls {name}(), whose values depend on the order of the rows or are drawn anew: "
                "compute such a column of the data first"
            )
        return found[0]

    def _refuse_size(self, name: str, arguments: list, keywords: dict[str, Any]) -> None:
        """Raise where a basis would have more columns than can be of use."""
        given = [*arguments[1:2], *(keywords[key] for key in COUNTS if key in keywords)]
        given += [value for value in keywords.values() if isinstance(value, list)]
        for value in given:
            size = len(value) if isinstance(value, list) else value
            if isinstance(size, (int, float)) and size > MAX_COLUMNS:
                raise self._error(
                    f"asks {name}() for about {size:,} columns, more than {MAX_COLUMNS:,}"
                )

    def _rows(self, result: Any, columns: list[pd.Series], name: str) -> Any:
        """What a user's transform returned: a value per row, or several, in the rows' order."""
        if isinstance(result, FactorValues):
            return result
        if columns:
            refuse_reordered(result, columns[0].index, f"what {name}() returns")
            values = result if isinstance(result, pd.Series) else np.asarray(result)
            if values.ndim not in (1, 2) or len(values) != len(columns[0]):
                raise self._error(
                    f"calls {name}(), which returns the shape {values.shape} for "
                    f"{len(columns[0])} rows"
                )
            return values
        return result


def _bare(value: Any) -> Any:
    """Values without formulaic's wrapper."""
    return value.__wrapped__ if isinstance(value, FactorValues) else value


def _float(value: Any) -> Any:
    """Numbers as floats, whose powers end in infinity where those of integers never end."""
    if isinstance(value, (bool, np.bool_)):
        return value
    if isinstance(value, (int, float, np.number)):
        return np.float64(value)
    if isinstance(value.dtype, np.dtype) and value.dtype.kind in "iu":
        return value.astype(float)
    return value


def _shuffled(value: Any, order: np.ndarray) -> Any:
    """A column with its values in another order, under the same labels."""
    return value.iloc[order].set_axis(value.index) if isinstance(value, pd.Series) else value


def _table(values: Any) -> np.ndarray:
    """What a transform returned, shape (n,) or (n, m); of another shape where it has no rows."""
    values = _bare(values)
    if isinstance(values, Mapping):
        values = np.column_stack([np.asarray(column) for column in values.values()])
    return np.asarray(values)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether values are the same but for the rounding of sums in another order."""
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "iufb" and other.dtype.kind in "iufb":
        size = np.abs(one[np.isfinite(one)]).max(initial=0.0)
        return np.allclose(one, other, rtol=0, atol=SUMS * size, equal_nan=True)
    return bool(pd.Series(one.ravel()).equals(pd.Series(other.ravel())))


def _copied(value: Any) -> Any:
    """A column that a user's function may write to without changing the data."""
    return value.copy() if isinstance(value, pd.Series) else value
