"""What the user gives for many data sets, read and checked: `ManyModel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax.arrays import Array, is_jax
from mixmeta_jax.covariance.catalogue import resolve_structures
from mixmeta_jax.data.collinearity import refuse_collinear
from mixmeta_jax.data.columns import missing_rows, refuse_infinite, row_label
from mixmeta_jax.data.formula import columns_of
from mixmeta_jax.data.frame import crossed, random_levels
from mixmeta_jax.data.grouping import parse_random
from mixmeta_jax.data.matrices import correlations, triangle_size, xpnd
from mixmeta_jax.data.model_matrix import build_matrix
from mixmeta_jax.data.rows import as_pandas, offset_values
from mixmeta_jax.data.within_study import WithinStudy, within_study
from mixmeta_jax.design.design import Blocks, Design, orthonormal_basis, spanning_blocks
from mixmeta_jax.design.layout import Layout, build_layout
from mixmeta_jax.errors import InputError


@dataclass(frozen=True)
class ManyModel:
    """A model, many data sets, and the names.

    Attributes
    ----------
    design
        The data, with a leading axis of the data sets where they differ.
    coef_names, level_names, random_names
        Names of the coefficients, of the levels, and of the random effects of each level.
    random
        As the user gave it.
    offset
        What was subtracted from the outcomes, shape (1 or B, n or 1, k or 1).
    """

    design: Design
    coef_names: list[str]
    level_names: list[str]
    random_names: list[list[str]]
    random: Any
    offset: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 1)))


def many_model(
    y: Any,
    S: Any,
    formula: str,
    random: Any,
    data: Any,
    bscov: Any,
    Psi_fix: Any,
    rho: Any,
    offset: Any,
) -> ManyModel:
    """Read the arguments of `fit_many`."""
    values = _outcomes(y)
    S = np.asarray(S) if is_jax(S) else S
    B, n, k = values.shape
    table = pd.DataFrame(index=pd.RangeIndex(n)) if data is None else as_pandas(data)
    if len(table) != n:
        raise InputError(
            f"y has {n} rows in each of its {B} data sets, but data has {len(table)}: give y the "
            "shape (B, n) or (B, n, k)."
        )
    names = ["y"] if k == 1 else [f"y{o + 1}" for o in range(k)]
    fixed = _predictors(formula, table)
    levels = random_levels(random, None if data is None else table, n)
    dims = [k * level.Z.shape[1] for level in levels]
    structures = resolve_structures(bscov, Psi_fix, [level.name for level in levels], dims)
    shift = _shift(offset, table, B, n, k)
    values = values - shift
    seen = ~np.isnan(values)
    same = bool((seen == seen[:1]).all())
    ever = seen.any(0)
    if same:
        refuse_collinear(fixed.values, fixed.names, ever, names, fixed.cells)
    codes = [level.codes for level in levels]
    own = _own_errors(S, rho, B, n, k)
    if own is None:
        outer = None if random is None else parse_random(random, table)[0].name
        every = np.ones(n, bool)
        within = within_study(S, rho, table, outer, ever, every, every, names)
    else:
        within = WithinStudy(np.broadcast_to(np.eye(k), (n, k, k)), None)
    layout, errors = arranged(within, codes, dims, (n, k))
    design = Design(
        y=values,
        X=np.asarray(fixed.values, float),
        S=errors if own is None else own,
        Z=tuple(np.asarray(level.Z, float) for level in levels),
        mask=ever if same else np.isfinite(values),
        basis=orthonormal_basis(np.asarray(fixed.values, float)),
        groups=np.stack(codes, axis=1),
        structures=structures,
        layout=layout,
        complete=bool(seen.all()),
    )
    return ManyModel(
        design,
        crossed(names, fixed.names),
        [level.name for level in levels],
        [crossed(names, level.z_names) for level in levels],
        random,
        shift,
    )


def arranged(
    within: WithinStudy,
    codes: Sequence[np.ndarray],
    dims: Sequence[int],
    shape: tuple[int, int],
    tight: bool = True,
) -> tuple[Layout, Array | Blocks]:
    """The layout of (n, k) outcomes, as `build_layout`, and S as a `Design` with it holds it."""
    if within.blocks is None:
        return build_layout(*shape, codes, dims, None, tight), within.unit
    layout = build_layout(*shape, codes, dims, [units for units, _ in within.blocks], tight)
    return layout, spanning_blocks(layout, within.blocks, *shape)


def _outcomes(y: Any) -> np.ndarray:
    try:
        values = np.asarray(y, float)
    except (TypeError, ValueError) as error:
        raise InputError(
            "y cannot be read as numbers: give an array (B, n) or (B, n, k)."
        ) from error
    if values.ndim not in (2, 3) or not values.size:
        raise InputError(f"y has the shape {values.shape}: it must be (B, n) or (B, n, k).")
    return values[:, :, None] if values.ndim == 2 else values


def _predictors(formula: str, table: pd.DataFrame) -> Any:
    text = formula.strip()
    if not text.startswith("~"):
        raise InputError(
            f"formula={formula!r} must be the right-hand side alone, as '~ 1' or '~ year': the "
            "outcomes are y."
        )
    right = text[1:].strip()
    columns = columns_of(right, table, "the formula")
    refuse_infinite(table, columns)
    for column in columns:
        gaps = missing_rows(table, [column])
        if gaps.any():
            row = row_label(table.index, int(np.argmax(gaps)))
            raise InputError(
                f"The column '{column}' of the formula is missing in row {row!r}: all data sets "
                "share the predictors, which must be complete."
            )
    return build_matrix(right, table, columns)


def _shift(offset: Any, table: pd.DataFrame, B: int, n: int, k: int) -> np.ndarray:
    """The offset, shape (1 or B, n or 1, k or 1), none of it missing."""
    if offset is None:
        return np.zeros((1, 1, 1))
    if isinstance(offset, np.ndarray) or is_jax(offset):
        values = np.asarray(offset, float)
        if k == 1 and values.shape == (B, n):
            values = values[:, :, None]
        if values.ndim == 3:
            if values.shape != (B, n, k):
                raise InputError(
                    f"offset has the shape {values.shape}: per data set it must be {(B, n, k)}."
                )
            if np.isnan(values).any():
                b, row, _ = np.argwhere(np.isnan(values))[0]
                raise InputError(
                    f"The offset is missing in data set {b}, row {row}: complete it; an outcome "
                    "that is not to count is NaN in y."
                )
            return values
    shared = offset_values(offset, table, np.ones(n, bool), k)
    gaps = np.isnan(shared).any(1)
    if gaps.any():
        row = row_label(table.index, int(np.argmax(gaps)))
        raise InputError(
            f"The offset is missing in row {row!r}: complete it; an outcome that is not to count "
            "is NaN in y."
        )
    return shared[None]


def _own_errors(S: Any, rho: Any, B: int, n: int, k: int) -> np.ndarray | None:
    """S of each data set, shape (B, n, k, k); None where S is shared."""
    if not isinstance(S, np.ndarray):
        if not isinstance(S, (list, tuple)) or (S and isinstance(S[0], str)):
            return None
        try:
            S = np.asarray(S, float)
        except (TypeError, ValueError):
            return None
    S = np.asarray(S, float)
    triangle = k * (k + 1) // 2
    widths = {k, triangle}
    shared = S.shape in {(n, w) for w in widths} | {(n, k, k)} or (k == 1 and S.shape == (n,))
    own = (
        (k == 1 and S.shape == (B, n))
        or (S.ndim == 3 and S.shape[:2] == (B, n) and S.shape[2] in widths)
        or S.shape == (B, n, k, k)
    )
    if shared and own:
        raise InputError(
            f"S has the shape {S.shape}, which can be one S for all data sets or one for "
            f"each: give n x k x k matrices, shape {(n, k, k)}, or one per data "
            f"set, shape {(B, n, k, k)}."
        )
    if not own:
        if not shared and S.ndim > 2:
            raise InputError(
                f"S has the shape {S.shape}: for {B} data sets of {n} rows and {k} outcome(s) it "
                f"must be shared, as in mixmeta, or {(B, n, k)}, {(B, n, triangle)} or "
                f"{(B, n, k, k)}."
            )
        return None
    if S.ndim == 4:
        if rho is not None:
            raise InputError("rho is given, but S holds covariances already.")
        return S
    if k == 1:
        if rho is not None:
            raise InputError("rho is given, but one outcome has no correlation: leave it out.")
        return S.reshape(B, n, 1, 1)
    if S.shape[2] == triangle and triangle_size(triangle) == k:
        if rho is not None:
            raise InputError("rho is given, but S holds covariances already.")
        return xpnd(S.reshape(B * n, triangle)).reshape(B, n, k, k)
    sd = np.sqrt(np.abs(S))
    matrices = sd[..., :, None] * sd[..., None, :] * correlations(rho, n, k)
    matrices[..., range(k), range(k)] = S
    return matrices
