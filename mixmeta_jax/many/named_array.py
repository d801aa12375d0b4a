"""Arrays of many fits whose last axes have names: `NamedArray`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates


class NamedArray(np.ndarray):
    """An array over data sets that takes names where positions may stand, and is read-only.

    Coefficients, shape (B, p), have a name per column: ``coef["x"]`` has the shape (B,). Matrices,
    shape (B, p, p), have the names twice: ``vcov["x", "z"]`` has the shape (B,), ``vcov["x"]`` the
    shape (B, p). All else is NumPy's; what is computed from it is an array without names.

    Attributes
    ----------
    columns
        The names.
    twice
        Whether they are those of the last two axes.

    Raises
    ------
    InputError
        For a name that is not there.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> y = np.stack([bcg.logor, 2 * bcg.logor])
    >>> coef = mx.fit_many(y, bcg.logorvar, "~ ablat", data=bcg).coef
    >>> coef["ablat"].round(3)
    array([-0.032, -0.058])
    >>> coef.round(3)[0], coef.columns
    (array([ 0.301, -0.032]), ('(Intercept)', 'ablat'))
    """

    columns: tuple[str, ...]
    twice: bool

    def __new__(cls, values: Any, columns: Sequence[str], twice: bool = False) -> NamedArray:
        array = np.asarray(values).view(cls)
        array.columns, array.twice = tuple(columns), twice
        array.flags.writeable = False
        return array

    def __array_finalize__(self, other: Any) -> None:
        # A view by NumPy may have any other axes: it has no names until it is given them.
        self.columns, self.twice = (), False

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain

    def __reduce__(self) -> Any:
        return NamedArray, (np.array(self), self.columns, self.twice)

    def __copy__(self) -> NamedArray:
        return NamedArray(np.array(self), self.columns, self.twice)

    def __deepcopy__(self, memo: Any) -> NamedArray:
        return self.__copy__()

    def __getitem__(self, key: Any) -> Any:
        plain = np.asarray(self)
        if isinstance(key, str):
            return plain.take(self._place(key), axis=-1 - self.twice)
        if isinstance(key, (list, tuple)) and key and all(isinstance(name, str) for name in key):
            places = [self._place(name) for name in key]
            if isinstance(key, list):
                return plain.take(places, axis=-1 - self.twice)
            if len(key) == 1 + self.twice:
                at: tuple[Any, ...] = (..., *places)
                return plain[at]
            raise gates.refused(
                "what stands between the brackets", "one name, or two of a matrix", key
            )
        found = plain[key]
        # Some of the data sets, whose columns are the same.
        if isinstance(key, (slice, np.ndarray, list)) and found.ndim == self.ndim == 2 + self.twice:
            return NamedArray(found, self.columns, self.twice)
        return found

    def _place(self, name: str) -> int:
        return self.columns.index(gates.choice(name, "a column's name", self.columns))

    def to_frame(self) -> pd.DataFrame:
        """One row per data set, or per data set and name; one column per name.

        Examples
        --------
        >>> import numpy as np, mixmeta_jax as mx
        >>> bcg = mx.load_dataset("bcg")
        >>> y = np.stack([bcg.logor, 2 * bcg.logor])
        >>> mx.fit_many(y, bcg.logorvar, "~ ablat", data=bcg).coef.to_frame().round(3)
                  (Intercept)  ablat
        data_set
        0               0.301 -0.032
        1               0.366 -0.058
        """
        sets = pd.RangeIndex(self.shape[0], name="data_set")
        if not self.twice:
            return pd.DataFrame(np.array(self), index=sets, columns=list(self.columns))
        rows = pd.MultiIndex.from_product([sets, self.columns], names=["data_set", None])
        flat = np.array(self).reshape(-1, len(self.columns))
        return pd.DataFrame(flat, index=rows, columns=list(self.columns))

    def __repr__(self) -> str:
        return repr(self.to_frame()) if self.columns else repr(np.asarray(self))


def named(values: Any, columns: Sequence[str], twice: bool = False) -> NamedArray | None:
    """Values with the names of their last axis, or last two; None stays None."""
    return None if values is None else NamedArray(values, columns, twice)
