"""The functional core: designs and log-likelihoods for ``jit``, ``vmap``, ``grad`` and ``hessian``.

The functions are pure and take every number as an argument. They need float64, which a pure
function cannot switch on for its caller: they ask for it in one sentence where it is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mixmeta_jax import gates
from mixmeta_jax.arrays import is_jax, is_traced, register_trees, traced_as_ours
from mixmeta_jax.choices import LikelihoodMethod
from mixmeta_jax.covariance.catalogue import Structures, resolve_structures
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.errors import InputError, PrecisionError
from mixmeta_jax.forking import refuse_lost
from mixmeta_jax.likelihood.likelihood import log_likelihood_at
from mixmeta_jax.table.array_frame import array_frame, judged_arrays
from mixmeta_jax.table.frame_design import design_from_frame

register_trees()


@traced_as_ours
def make_design(
    y: Any,
    X: Any = None,
    S: Any = None,
    random: Any = None,
    data: Any = None,
    bscov: Structures = "unstr",
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
        A pytree, differentiable in ``y``, ``S``, ``X`` and ``Z``; replace its arrays by
        ``dataclasses.replace``. In the whole of it: ``jax.grad(f, allow_int=True)(design)``, or
        ``design.quantities``; see `Design`.

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
    _refuse_traced(data, Psi_fix)
    frame = judged_arrays(array_frame(y, S, X, random, data, rho, offset))
    names = [level.name for level in frame.levels]
    dims = [frame.k * level.Z.shape[1] for level in frame.levels]
    return design_from_frame(frame, resolve_structures(bscov, Psi_fix, names, dims))


@traced_as_ours
def log_likelihood(theta: Array, design: Design, method: LikelihoodMethod = "reml") -> Array:
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
        and ``X`` of the design are closed forms, and are themselves differentiable; those in ``Z``
        are taken by JAX.

    Raises
    ------
    PrecisionError
        Where float64 is off.
    InputError
        For an unknown method or a ``theta`` of the wrong length.

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> design = mx.make_design(bcg.logor, S=bcg.logorvar)
    >>> with jax.enable_x64(True):
    ...     print(round(float(mx.log_likelihood(jax.numpy.array([0.5]), design)), 4))
    -12.7419
    """
    require_float64()
    checked_design(design)
    method = likelihood_method(method)
    if method == "fixed":
        return log_likelihood_at((), arrange(design.without_levels()), method)
    theta = parameters(theta, "theta", sum(design.n_parameters))
    return log_likelihood_at(design.Psi(theta), arrange(design), method)


def likelihood_method(method: Any) -> LikelihoodMethod:
    """The name of a likelihood in small letters."""
    return gates.choice(
        method.lower() if isinstance(method, str) else method, "method", LikelihoodMethod
    )


def require_float64() -> None:
    """Raise `PrecisionError` where JAX computes in single precision."""
    refuse_lost("The functional core")
    if not jax.config.read("jax_enable_x64"):
        raise PrecisionError(
            "The functional core needs float64: call jax.config.update('jax_enable_x64', True) "
            "first, or wrap the call in 'with jax.enable_x64(True):'."
        )


def checked_design(value: Any) -> Design:
    """A design, as `make_design` returns it, its arrays perhaps traced."""
    design = gates.instance(value, Design, "design", "a design, as make_design returns it")
    for name, part in design.quantities.items():
        if any(map(_divided_explicitly, jax.tree.leaves(part))):
            raise InputError(
                f"design: its {name} is divided over a mesh whose axes are of the type Explicit, "
                "by which JAX divides no program on its own: make the mesh with "
                "axis_types=(jax.sharding.AxisType.Auto,) for each axis."
            )
    return design


def _divided_explicitly(leaf: Any) -> bool:
    """Whether the type of an array says among which devices it is divided."""
    if not is_jax(leaf):
        return False
    sharding = jax.typeof(leaf).sharding
    explicit = jax.sharding.AxisType.Explicit in sharding.mesh.axis_types
    return explicit and any(part is not None for part in sharding.spec)


def parameters(values: Any, what: str, n: int) -> Array:
    """A vector of n parameters, perhaps traced, of JAX."""
    return jnp.asarray(gates.numbers(values, what, (n,), infinite=True, missing=True))


def _refuse_traced(data: Any, Psi_fix: Any) -> None:
    """What the shape of a model depends on, or its checks read, has no derivative and no trace."""
    if isinstance(data, Mapping) and is_traced(data):
        raise InputError(
            "data holds a traced column: labels of groups and random predictors are read where "
            "the design is made and cannot be traced. Trace y, X, S, rho or offset."
        )
    if is_traced(Psi_fix):
        raise InputError(
            "Psi_fix is traced, but it is checked where the design is made. To differentiate in "
            "it, replace the matrix of the design's structure."
        )
