"""The last numbers of a two-stage analysis as functions that JAX can differentiate.

With `estimate` and `blups` between them and the first stage, ``jax.grad`` of an exposure of minimum
risk or of an attributable fraction reaches whatever the coefficients were computed from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mixmeta_jax import gates
from mixmeta_jax.arrays import Array, is_traced
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.estimation.executors import compiled
from mixmeta_jax.functional.model import require_float64
from mixmeta_jax.two_stage.attribution import attributed, following_means
from mixmeta_jax.two_stage.bases import Basis
from mixmeta_jax.two_stage.locations import lag_days
from mixmeta_jax.two_stage.lowest import lowest


def minimum_exposure(coef: Any, basis: Callable, low: Any, high: Any) -> Array:
    """The exposure at which a curve is lowest within a range, for ``grad``, ``jit`` and ``vmap``.

    Parameters
    ----------
    coef
        Coefficients, shape (k,), or (n, k) of n curves with one basis.
    basis
        A function of `jax.numpy` that makes (m, k) columns of m exposures; it may be made of traced
        numbers, as knots.
    low, high
        Ends of the range; may be traced.

    Returns
    -------
    jax.Array
        A scalar, or shape (n,). Inside the range its derivative is −df′ / f″, by the implicit
        function theorem, forward and reverse, to second order, where the basis has the
        derivatives. At an end of the range it is that of the end; where the curve is flat or has a
        kink it is none or of no meaning, which `minimum_risk` tells of a fit.

    Raises
    ------
    PrecisionError
        Where float64 is off.
    InputError
        For a basis that fails or has not k columns, and a range without a width.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, mixmeta_jax as mx
    >>> def basis(x):
    ...     return jnp.stack([x, x**2], axis=1)
    >>> with jax.enable_x64(True):
    ...     slope = jax.grad(mx.minimum_exposure)(jnp.array([-0.4, 0.01]), basis, 0.0, 30.0)
    >>> slope.round(6).tolist()
    [-50.0, -2000.0]
    """
    require_float64()
    import jax.numpy as jnp

    b, one = _coefficients(coef)
    start, end = (
        jnp.asarray(gates.numbers(own, what, ())) for own, what in ((low, "low"), (high, "high"))
    )
    if not is_traced([start, end]) and not start < end:
        raise InputError(f"low is {start:g} and high {end:g}: low must be below high.")
    # What a basis of ours is made of is known: one program serves all of its form.
    ours = isinstance(basis, Basis) and not is_traced([b, start, end, *vars(basis).values()])
    given = b, start, end, basis
    x = jnp.asarray(compiled(_minima, *given)) if ours else _minima(*given)
    return x[0] if one else x


def _minima(b: Array, low: Array, high: Array, basis: Any) -> Array:
    return lowest(_checked_basis(basis, b.shape[1]), b, low, high)[0]


def attributable_fraction(
    coef: Any,
    basis: Callable,
    exposure: Any,
    outcome: Any,
    reference: Any,
    lag: Any = 0,
    low: Any = None,
    high: Any = None,
) -> tuple[Array, Array]:
    """The fraction and number of outcomes that are attributable to an exposure, as JAX's function.

    Parameters
    ----------
    coef
        Coefficients of the log risk, shape (k,), or (n, k) for n vectors of them.
    basis
        As in `minimum_exposure`.
    exposure, outcome
        Day after day, shape (T,), NaN where missing; may be traced.
    reference
        The exposure that the others are compared with, as `minimum_exposure` finds it.
    lag
        L, or (first, last), as in `attributable`; forward.
    low, high
        The days with low <= exposure < high; None for no end.

    Returns
    -------
    fraction, number
        Scalars, or shape (n,).

    Raises
    ------
    PrecisionError
        Where float64 is off.
    InputError
        For shapes that do not fit, or a basis that fails or has not k columns.

    Notes
    -----
    As `attributable` has it, without intervals. The derivative in an end of the range is zero: it
    counts whole days.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, mixmeta_jax as mx
    >>> def fraction(coef):
    ...     return mx.attributable_fraction(coef, lambda x: x[:, None], [1, 2], [10, 5], 0)[0]
    >>> with jax.enable_x64(True):
    ...     value, slope = jax.value_and_grad(fraction)(jnp.array([0.1]))
    >>> round(float(value), 4), slope.round(4).tolist()
    (0.1239, [1.149])
    """
    require_float64()
    import jax.numpy as jnp

    b, one = _coefficients(coef)
    columns = _checked_basis(basis, b.shape[1])
    x, y = (
        jnp.asarray(gates.numbers(own, what, ("T",), missing=True))
        for own, what in ((exposure, "exposure"), (outcome, "outcome"))
    )
    if len(x) != len(y):
        raise InputError(f"exposure has {len(x)} days and outcome {len(y)}: give the same days.")
    centre = jnp.asarray(gates.numbers(reference, "reference", ()))
    y = following_means(y, *lag_days(lag))
    used = jnp.isfinite(x) & jnp.isfinite(y)
    # What is not used is the reference, so that its derivative is finite.
    x, y = jnp.where(used, x, centre), jnp.where(used, y, 0.0)
    inside = used
    if low is not None:
        inside = inside & (x >= gates.numbers(low, "low", ()))
    if high is not None:
        inside = inside & (x < gates.numbers(high, "high", ()))
    weights = jnp.where(inside, y, 0.0)[:, None]
    number = attributed(columns(x) - columns(centre[None]), weights, b)[:, 0]
    fraction = number / y.sum()
    return (fraction[0], number[0]) if one else (fraction, number)


def _coefficients(coef: Any) -> tuple[Array, bool]:
    """Coefficients (n, k), and whether they are one vector."""
    import jax.numpy as jnp

    b = jnp.asarray(gates.numbers(coef, "coef", missing=True, infinite=True))
    if b.ndim not in (1, 2) or not b.size:
        raise InputError(f"coef has the shape {b.shape}, but must have (k,) or (n, k).")
    return jnp.atleast_2d(b), b.ndim == 1


def _checked_basis(basis: Any, k: int) -> Callable:
    """The basis, which says what is wrong with it."""
    gates.function(basis, "basis")

    def columns(x: Array) -> Array:
        import jax.numpy as jnp

        try:
            found = jnp.asarray(basis(x))
        except Exception as error:
            why = shown(f"{type(error).__name__}: {error}", 120)
            raise InputError(
                f"basis fails at an array of JAX of shape {x.shape}: {why}. Use jax.numpy in it."
            ) from error
        if found.shape != (len(x), k) or found.dtype.kind != "f":
            raise InputError(
                f"basis makes {found.dtype} of shape {found.shape} of {len(x)} exposures: it must "
                f"be floating-point numbers of shape ({len(x)}, {k}), a column for each of coef."
            )
        return found

    return columns
