"""The regression of one location as a pure function, which JAX differentiates.

At the maximum γ̂ the score g(γ; data) is zero. One more Newton step, γ̂ + G⁻¹g with γ̂ held, changes
no number but has the derivative G⁻¹ ∂g of the implicit function theorem. A second step from there
makes the second derivatives right, and the third, since the error of each step is the square of the
one before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mixmeta_jax import gates
from mixmeta_jax.arrays import Array, constant, mapped, tree
from mixmeta_jax.errors import InputError
from mixmeta_jax.functional.model import require_float64
from mixmeta_jax.likelihood.elimination import whitener
from mixmeta_jax.two_stage.families import FAMILIES, Family
from mixmeta_jax.two_stage.regressions import Regressions, newton_step, regress


@tree
@dataclass(frozen=True)
class Regression:
    """What `regression` returns: a pytree of JAX arrays.

    Attributes
    ----------
    coef, vcov
        Coefficients, shape (p,), and their covariance, shape (p, p).
    dispersion
        By Pearson's statistic; 1 for "poisson" and "binomial".
    converged
        Whether a maximum was found.

    Examples
    --------
    >>> import jax, numpy as np, mixmeta_jax as mx
    >>> X = np.stack([np.ones(6), np.arange(6.0)], axis=1)
    >>> with jax.enable_x64(True):
    ...     found = mx.regression(np.array([1.0, 3, 2, 5, 8, 9]), X, family="poisson")
    >>> bool(found.converged), float(found.dispersion)
    (True, 1.0)
    """

    coef: Array
    vcov: Array
    dispersion: Array
    converged: Array


def regression(
    y: Any, X: Any, family: str = "quasipoisson", offset: Any = None, weights: Any = None
) -> Regression:
    """Regress one location's outcomes on columns, as a function that JAX can differentiate.

    The numbers are those of `first_stage`. Their derivatives in y, X, offset and weights, and in
    what these are made of, as knots, are those of the maximum, to second order.

    Parameters
    ----------
    y
        Outcomes, shape (n,); for "binomial" and "quasibinomial" parts of the trials. Rows where y,
        X, offset or weights are NaN, as the first days of a cross-basis, are left out.
    X
        Columns, the constant among them, shape (n, p).
    family
        As in `first_stage`.
    offset, weights
        Added to the linear predictor; prior weights, and trials. Shape (n,).

    Returns
    -------
    Regression
        NaN where the columns are collinear.

    Raises
    ------
    PrecisionError
        Where float64 is off.
    InputError
        For an unknown family, or shapes that do not belong together.

    Examples
    --------
    The slope of a coefficient in a knot:

    >>> import dataclasses, jax, numpy as np, pandas as pd, mixmeta_jax as mx
    >>> heat = np.linspace(0, 30, 200)
    >>> deaths = np.random.default_rng(1).poisson(20 + heat)
    >>> data = pd.DataFrame({"city": "Rome", "heat": heat, "deaths": deaths})
    >>> first = mx.first_stage(data, "city", "deaths", "heat", "ns(knots=[20])")
    >>> def last(knot):
    ...     basis = dataclasses.replace(first.bases["Rome"], knots=knot[None])
    ...     b = basis(heat)
    ...     X = jax.numpy.concatenate([b, jax.numpy.ones((200, 1))], 1)
    ...     return mx.regression(deaths, X).coef[1]
    >>> with jax.enable_x64(True):
    ...     value, slope = map(float, jax.value_and_grad(last)(20.0))
    >>> bool(abs(value - first.coef.iloc[0, 1]) < 1e-9)
    True
    """
    require_float64()
    import jax.numpy as xp

    known = FAMILIES[gates.choice(family, "family", list(FAMILIES))]
    X = xp.asarray(gates.numbers(X, "X", ("n", "p"), missing=True))
    n, p = X.shape
    given = {"y": y, "offset": offset, "weights": weights}
    rows = {}
    for name, value in given.items():
        own = [float(name == "weights")] * n if value is None and name != "y" else value
        rows[name] = xp.asarray(gates.numbers(own, name, ("n",), missing=True))
        if len(rows[name]) != n:
            raise InputError(f"{name} has {len(rows[name])} values, but X has {n} rows.")
    if n <= p or p == 0:
        raise InputError(
            f"X has {n} rows and {p} columns: give a column, and more rows than those."
        )
    there = ~xp.isnan(X).any(1)
    for value in rows.values():
        there = there & ~xp.isnan(value)

    def filled(values: Array) -> Array:
        return xp.where(there.reshape(n, *(1,) * (values.ndim - 1)), values, 0.0)

    X, y, offset, weights = filled(X), *(filled(rows[name]) for name in given)
    T = constant(_orthonormal(X))
    data = Regressions(
        (X @ T)[None],
        y[None],
        offset[None],
        weights[None],
        xp.zeros((1, p)),
        (there.sum() - p)[None] * 1.0,
    )
    return _differentiable(data, known, T)


def _orthonormal(X: Array) -> Array:
    """What makes the columns nearly orthonormal, shape (p, p): see `two_stage.batches`."""
    size = (X * X).sum(0) ** 0.5
    scaled = X / size
    R, _ = whitener((scaled.T @ scaled)[:, :, None])
    return R[:, :, 0].T / size[:, None]


def _differentiable(data: Regressions, family: Family, T: Array) -> Regression:
    """The maximum of one regression, with the derivatives of what holds there."""
    import jax.numpy as xp

    held = mapped(constant, data)
    ends = regress(held, family)
    coefficients = constant(ends.coefficients)
    for _ in range(2):
        coefficients = coefficients + newton_step(data, family, coefficients).step
    here = newton_step(data, family, coefficients)
    R, _ = whitener(xp.moveaxis(here.information, 0, -1))
    root = T @ R[:, :, 0].T
    dispersion = here.pearson[0] / data.df[0] if family.dispersed else xp.ones(())
    found = Regression(
        T @ coefficients[0], dispersion * (root @ root.T), dispersion, ends.settled[0]
    )
    failed = ~found.converged
    values = (found.coef, found.vcov, found.dispersion)
    coef, vcov, dispersion = (xp.where(failed, xp.nan, value) for value in values)
    return replace(found, coef=coef, vcov=vcov, dispersion=dispersion)
