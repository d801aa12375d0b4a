"""The functional core: designs and log-likelihoods for ``jit``, ``vmap``, ``grad`` and ``hessian``.

The functions are pure and take every number as an argument. They need float64, which a pure
function cannot switch on for its caller: they ask for it in one sentence where it is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array
from jax.core import Tracer

from mixmeta_jax.arrays import register_trees
from mixmeta_jax.covariance.catalogue import resolve_structures
from mixmeta_jax.data.blocks import is_spanning
from mixmeta_jax.data.frame import random_levels
from mixmeta_jax.data.grouping import parse_random
from mixmeta_jax.data.matrices import correlations, triangle_size
from mixmeta_jax.data.rows import as_pandas
from mixmeta_jax.data.within_study import holds_variances, unit_matrices, within_study
from mixmeta_jax.design.design import Blocks, Design, orthonormal_basis, spanning_blocks
from mixmeta_jax.design.layout import Layout, build_layout
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.errors import InputError, PrecisionError
from mixmeta_jax.likelihood.likelihood import log_likelihood_at

register_trees()

METHODS = ("ml", "reml", "fixed")


def make_design(
    y: Any,
    X: Any = None,
    S: Any = None,
    random: Any = None,
    data: Any = None,
    bscov: Any = "unstr",
    Psi_fix: Any = None,
    rho: Any = None,
    offset: Any = None,
) -> Design:
    """The design of a model, from arrays that may be traced.

    Parameters
    ----------
    y
        Outcomes, shape (n, k) or (n,), NaN where missing.
    X
        Fixed-effects predictors, shape (n, p); None for a column of ones.
    S
        Error covariances in any form of `mixmeta`; traced: (n,), (n, k), (n, k(k+1)/2) or
        (n, k, k), as an array or a list of its rows, or {group label: matrix} over the rows of
        the group. Where an outcome is missing its entries are not read. A matrix is averaged with
        its transpose: of the derivative in a covariance each of its two entries takes half.
    random, data
        Grouping and random predictors, as in `mixmeta`, and the frame with their columns, which
        must be complete. None: every row is a group of its own.
    bscov, Psi_fix
        Covariance structures, as in `mixmeta`.
    rho
        Correlation where S holds variances; a scalar or a matrix may be traced.
    offset
        Subtracted from the outcomes, shape (n,) or (n, k).

    Returns
    -------
    Design
        A pytree, differentiable in ``y``, ``S`` and ``X``; replace its arrays by
        ``dataclasses.replace``.

    Raises
    ------
    InputError
        For shapes that do not fit, and for anything `mixmeta` would refuse in the parts that are
        not traced.

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> design = mx.make_design(bcg.logor, S=bcg.logorvar)
    >>> with jax.enable_x64(True):
    ...     slope = jax.grad(mx.log_likelihood)(jax.numpy.array([0.5]), design)
    >>> round(float(slope[0]), 4)
    4.4939
    """
    y = _concrete(y)
    y = y[:, None] if y.ndim == 1 else y
    if y.ndim != 2:
        raise InputError(f"y has shape {y.shape}: it must have shape (n,) or (n, k).")
    n, k = y.shape
    mask = _xp(y).isfinite(y)
    if offset is not None:
        shift = _concrete(offset)
        y = y - (shift[:, None] if shift.ndim == 1 else shift)
    X = np.ones((n, 1)) if X is None else _concrete(X)
    if X.ndim != 2 or X.shape[0] != n:
        raise InputError(
            f"X has shape {X.shape}: it must have shape ({n}, p), one row per outcome."
        )
    _refuse_traced(data, Psi_fix)
    table = None if data is None else as_pandas(data)
    if table is not None and len(table) != n:
        raise InputError(f"data has {len(table)} rows, but y has {n}.")
    levels = random_levels(random, table, n)
    dims = [k * level.Z.shape[1] for level in levels]
    structures = resolve_structures(bscov, Psi_fix, [level.name for level in levels], dims)
    codes = [level.codes for level in levels]
    if not is_spanning(S, k) and _traced([S, rho, mask]):
        layout = build_layout(n, k, codes, dims)
        errors = _traced_errors(S, rho, table, mask)
    else:
        layout, errors = _checked_errors(S, rho, table, random, mask, codes, dims)
    basis = np.eye(X.shape[1]) if isinstance(X, Tracer) else orthonormal_basis(X)
    return Design(
        y=y,
        X=X,
        S=errors,
        Z=tuple(level.Z for level in levels),
        mask=mask,
        basis=basis,
        groups=np.stack(codes, axis=1),
        structures=structures,
        layout=layout,
        complete=not isinstance(mask, Tracer) and bool(mask.all()),
    )


def log_likelihood(theta: Array, design: Design, method: str = "reml") -> Array:
    """The log-likelihood of the covariance parameters, profiled over the coefficients.

    Parameters
    ----------
    theta
        Parameters of all levels, outer first, shape (n_θ,); any real values. What they mean says
        the docstring of each structure.
    design
        From `make_design`.
    method
        "reml", "ml", or "fixed" (S alone; ``theta`` is not read).

    Returns
    -------
    jax.Array
        Scalar, equation 2 of the paper. Its first derivatives in ``theta`` and in the ``y``, ``S``
        and ``X`` of the design are closed forms, and are themselves differentiable.

    Raises
    ------
    PrecisionError
        Where float64 is off.
    InputError
        For an unknown method or a ``theta`` of the wrong length.
    """
    require_float64()
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}.")
    if method == "fixed":
        return log_likelihood_at((), arrange(design.without_levels()), method)
    theta = jnp.asarray(theta)
    n_theta = sum(design.n_parameters)
    if theta.shape != (n_theta,):
        raise InputError(
            f"theta has shape {theta.shape}, but the structures have {n_theta} parameter(s)."
        )
    return log_likelihood_at(design.Psi(theta), arrange(design), method)


def require_float64() -> None:
    """Raise `PrecisionError` where JAX computes in single precision."""
    if not jax.config.read("jax_enable_x64"):
        raise PrecisionError(
            "The functional core needs float64: call jax.config.update('jax_enable_x64', True) "
            "first, or wrap the call in 'with jax.enable_x64(True):'."
        )


def _refuse_traced(data: Any, Psi_fix: Any) -> None:
    """What the shape of a model depends on, or its checks read, has no derivative and no trace."""
    columns = data.values() if isinstance(data, Mapping) else ()
    if any(isinstance(column, Tracer) for column in columns):
        raise InputError(
            "data holds a traced column: labels of groups and random predictors are read where "
            "the design is made and cannot be traced. Trace y, X, S, rho or offset."
        )
    if any(isinstance(leaf, Tracer) for leaf in jax.tree_util.tree_leaves(Psi_fix)):
        raise InputError(
            "Psi_fix is traced, but it is checked where the design is made. To differentiate in "
            "it, replace the matrix of the design's structure."
        )


def _concrete(values: Any) -> Any:
    """Traced arrays as they are but for their precision, everything else as numpy's float64."""
    return values.astype(float) if isinstance(values, Tracer) else np.asarray(values, np.float64)


def _traced(values: Any) -> bool:
    """Whether an array, or one of a list of them, is traced."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree_util.tree_leaves(values))


def _xp(values: Any) -> Any:
    return jnp if isinstance(values, Tracer) else np


def _checked_errors(
    S: Any,
    rho: Any,
    table: pd.DataFrame | None,
    random: Any,
    mask: Any,
    codes: list[np.ndarray],
    dims: list[int],
) -> tuple[Layout, Any]:
    """Layout and S of numbers that are not traced, with all the checks of `mixmeta`."""
    n, k = mask.shape
    seen = np.ones((n, k), bool) if isinstance(mask, Tracer) else np.asarray(mask)
    rows = pd.DataFrame(index=pd.RangeIndex(n)) if table is None else table
    level = None if random is None else parse_random(random, rows)[0].name
    every = np.ones(n, bool)
    names = [f"y{o + 1}" for o in range(k)] if k > 1 else ["y"]
    checked = S
    if isinstance(S, Mapping):
        checked = {label: _stand_in(block) for label, block in S.items()}
    within = within_study(checked, rho, rows, level, seen, every, every, names)
    if within.blocks is None:
        return build_layout(n, k, codes, dims), within.unit
    layout = build_layout(n, k, codes, dims, [units for units, _ in within.blocks])
    if not isinstance(S, Mapping) or not _traced(list(S.values())):
        return layout, spanning_blocks(layout, within.blocks, n, k)
    labels = (rows.index if level is None else rows[level]).tolist()
    matrices = []
    for units, matrix in within.blocks:
        block = S[labels[units[0]]]
        matrices.append(jnp.atleast_2d(block) if isinstance(block, Tracer) else matrix)
    return layout, _traced_blocks(layout, [units for units, _ in within.blocks], matrices, n, k)


def _stand_in(block: Any) -> Any:
    """An identity in place of a traced block, for the checks of labels and sizes."""
    if not isinstance(block, Tracer):
        return block
    return np.eye(*block.shape) if block.ndim == 2 else np.ones(block.shape)


def _traced_blocks(
    layout: Layout, units: list[np.ndarray], matrices: list[Any], n: int, k: int
) -> Blocks:
    """As `spanning_blocks`, which here places the positions of all entries in one long vector."""
    ends = np.cumsum([1, *(matrix.size for matrix in matrices)])
    positions = [
        np.arange(first, first + matrix.size).reshape(matrix.shape)
        for first, matrix in zip(ends[:-1], matrices, strict=True)
    ]
    entries = jnp.concatenate([jnp.zeros(1), *(jnp.ravel(matrix) for matrix in matrices)])
    placed = spanning_blocks(layout, tuple(zip(units, positions, strict=True)), n, k)
    return tuple(entries[at.astype(int)] for at in placed)


def _traced_errors(S: Any, rho: Any, table: pd.DataFrame | None, mask: Any) -> Array:
    """S of every row where it, its correlation or the mask is traced, shape (n, k, k)."""
    n, k = mask.shape
    if not _traced(S):
        matrices = unit_matrices(S, None, table, n, k)
        variances = holds_variances(S, table, k)
        S = np.diagonal(matrices, axis1=1, axis2=2) if variances else matrices
    try:
        S = jnp.asarray(S, float)
    except (TypeError, ValueError) as error:
        raise InputError(
            "S is traced and its entries differ in shape: give one of the same shape per row, or "
            "blocks by group as {label: matrix}."
        ) from error
    S = S[:, None] if S.ndim == 1 else S
    if S.shape == (n, k):
        # A variance that is not read must not meet the infinite slope of the root at zero.
        sd = jnp.sqrt(jnp.where(mask, S, 1.0))
        return sd[:, :, None] * sd[:, None, :] * _correlation(rho, n, k)
    if rho is not None:
        raise InputError(
            "rho is given, but S holds covariances already: give one of the two, or variances."
        )
    if S.ndim == 2 and triangle_size(S.shape[1]) == k:
        columns, rows = np.triu_indices(k)
        lower = jnp.zeros((n, k, k), S.dtype).at[:, rows, columns].set(S)
        return lower.at[:, columns, rows].set(S)
    if S.shape == (n, k, k):
        return S
    raise InputError(
        f"S has shape {S.shape}: traced, it must be ({n},), ({n}, {k}), ({n}, {k * (k + 1) // 2}) "
        f"or ({n}, {k}, {k})."
    )


def _correlation(rho: Any, n: int, k: int) -> Any:
    if rho is not None and k == 1:
        raise InputError("rho is given, but one outcome has no correlation: leave it out.")
    if not _traced(rho):
        return correlations(rho, n, k)
    rho = jnp.asarray(rho, float)
    if rho.shape not in ((), (k, k)):
        raise InputError(f"rho has shape {rho.shape}: traced, it must be a scalar or {k} x {k}.")
    return jnp.where(np.eye(k, dtype=bool), 1.0, rho)
