"""Differentiable estimates: fits, BLUPs, predictions and heterogeneity as pure functions.

Every function takes a design, whose arrays may be traced, and composes with ``jit``, ``vmap``,
``grad``, ``jacfwd``, ``jacrev`` and ``hessian``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax import gates
from mixmeta_jax.arrays import traced_as_ours, tree
from mixmeta_jax.choices import LikelihoodMethod
from mixmeta_jax.control import Control, as_control
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.estimator import given_start
from mixmeta_jax.estimation.implicit import Search, optimum
from mixmeta_jax.estimation.restarts import restartable, restarts
from mixmeta_jax.estimation.start import (
    follows_all,
    natural_units,
    starting_parameters,
    starting_variances,
)
from mixmeta_jax.functional.model import checked_design, likelihood_method, require_float64
from mixmeta_jax.inference.effects import random_part
from mixmeta_jax.likelihood.likelihood import prepared, profile, solution_at
from mixmeta_jax.likelihood.sweep import upward
from mixmeta_jax.status import Status


@tree
@dataclass(frozen=True)
class Estimate:
    """What `estimate` returns: a pytree of JAX arrays.

    Attributes
    ----------
    beta, vcov
        Coefficients, shape (p·k,), predictor-major, and their covariance, shape (p·k, p·k).
    theta, Psi
        Parameters of all levels, outer first, and Ψ of each level, shape (d, d).
    loglik
        Log-likelihood, restricted under REML.
    status
        Code of a `Status`: ``mx.Status(int(estimate.status))``.
    n_iter, gradient_norm
        Evaluations of the likelihood; scale-free norm of the gradient.
    k
        Number of outcomes.

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> with jax.enable_x64(True):
    ...     fitted = mx.estimate(mx.make_design(bcg.logor, S=bcg.logorvar), method="fixed")
    >>> fitted.beta.round(3).tolist(), round(float(fitted.loglik), 3)
    ([-0.436], -76.029)
    >>> mx.Status(int(fitted.status)).name
    'CONVERGED'
    """

    beta: Array
    vcov: Array
    theta: Array
    Psi: tuple[Array, ...]
    loglik: Array
    status: Array
    n_iter: Array
    gradient_norm: Array
    k: int = field(metadata={"static": True})


@traced_as_ours
def estimate(
    design: Design,
    method: LikelihoodMethod = "reml",
    control: Control | Mapping[str, Any] | None = None,
) -> Estimate:
    """Fit a model as a function that JAX can differentiate.

    The numbers are those of `mixmeta`. Their derivatives follow from the implicit function
    theorem at the optimum, forward and reverse, to second order: in ``y``, ``X``, ``S``, ``Z`` and
    whatever these are computed from (an offset, a correlation, a first-stage setting). ∂/∂S is
    symmetric: the two entries of a covariance take half of its derivative each.

    Parameters
    ----------
    design
        From `make_design`.
    method
        "reml", "ml" or "fixed".
    control
        `Control`, or a dict of its fields; ``start`` maps levels, outer first, to their Ψ where
        there are several; ``verbose``, ``mesh`` and
        ``backend`` are not read.

    Returns
    -------
    Estimate

    Raises
    ------
    PrecisionError
        Where float64 is off.
    InputError
        For an unknown method, a ``start`` that does not fit the levels, or ``groups`` or a ``mask``
        of floating-point numbers, as where a derivative in them is asked for.

    Notes
    -----
    The search is that of `mixmeta`, traced: its starts, the way off saddles, and the restarts from
    random points where a fit may have missed a higher maximum. Above 2,000 outcomes neither
    restarts, and both follow one start, `mixmeta` one of its own from the residuals. Where the
    iterations run out `mixmeta` goes on with Λ in another order; this function reports MAX_ITER as
    it stands.

    At a boundary (``status`` BOUNDARY: a zero variance) the derivative is that of the constrained
    optimum: the null variance stays null. Where the likelihood is flat in some parameters
    (NOT_IDENTIFIED), they are held; β̂, Ψ̂ and the rest are right as far as the data identify them.
    Where a fit has not converged the derivatives are those at the point it reached, or NaN; where
    the likelihood is not finite (NOT_FINITE) the estimates themselves are NaN. Derivatives are NaN
    too where the likelihood curves upwards at the optimum by so little, below 1e-5 of the
    information, that the status lets it pass as flat.

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> def pooled(y):
    ...     return mx.estimate(mx.make_design(y, S=bcg.logorvar)).beta[0]
    >>> with jax.enable_x64(True):
    ...     influence = jax.grad(pooled)(jax.numpy.asarray(bcg.logor))
    >>> influence.shape, round(float(influence[0]), 3) > 0
    ((13,), True)
    """
    require_float64()
    method = likelihood_method(method)
    checked_design(design)
    settings = as_control(control)
    if method == "fixed":
        design = design.without_levels()
    restricted = method == "reml"
    tensors = arrange(design)
    theta, status, n_iter, norm = _found(design, tensors, restricted, settings)
    Psi = design.Psi(theta)
    loglik, beta, V = solution_at(tuple(P[:, :, None] for P in Psi), tensors, restricted)
    T = jnp.kron(jnp.asarray(design.basis), jnp.eye(design.k))
    vcov = T @ V[:, :, 0] @ T.T
    status = jnp.where(jnp.isfinite(loglik[0]), status, int(Status.NOT_FINITE))
    lost = status == int(Status.NOT_FINITE)

    def known(values: Array) -> Array:
        # A likelihood that is not finite says nothing of any of them.
        return jnp.where(lost, jnp.nan, values)

    return Estimate(
        known(T @ beta[:, 0]),
        known(0.5 * (vcov + vcov.T)),
        known(theta),
        tuple(map(known, _at_bounds(design, Psi, status))),
        known(loglik[0]),
        status,
        n_iter,
        norm,
        design.k,
    )


def _at_bounds(design: Design, Psi: tuple[Array, ...], status: Array) -> tuple[Array, ...]:
    """Ψ of each level where the search has ended so, variances at their bound exactly 0."""
    if sum(design.n_parameters) == 0:
        return Psi
    ended = (status <= int(Status.BOUNDARY)) | (status == int(Status.NOT_IDENTIFIED))
    scales = starting_variances(jax.lax.stop_gradient(design))
    return tuple(
        jnp.where(ended, structure.without_null(P[:, :, None], jnp.asarray(scale))[:, :, 0], P)
        for structure, P, scale in zip(design.structures, Psi, scales, strict=True)
    )


def _found(
    design: Design, tensors: Any, restricted: bool, control: Control
) -> tuple[Array, Array, Array, Array]:
    """θ at the maximum, the code of its status, evaluations, and norm of the gradient."""
    if sum(design.n_parameters) == 0:
        zero = jnp.zeros((), int)
        return jnp.zeros(0), zero + int(Status.CONVERGED), zero, jnp.zeros(())
    still = jax.lax.stop_gradient(design)
    scales = tuple(map(jnp.asarray, starting_variances(still)))
    own = jnp.asarray(starting_parameters(still.structures, scales))[:, :, 0]
    starts = own[: control.n_starts]
    further = None
    if control.start is not None:
        starts = jnp.asarray(_given(design, control.start))
    elif restartable(design, control, restricted):
        further = jnp.asarray(restarts(still.structures, scales, len(starts)))
        further = further.reshape(-1, len(starts), own.shape[1]).swapaxes(1, 2)
    units = natural_units(own[:, :, None])
    given = Search(
        starts,
        further,
        scales,
        units,
        control.max_iter,
        control.gradient_tol,
        several=follows_all(design),
    )
    found = optimum(tensors, given, restricted)
    return found.theta[:, 0], found.status[0], found.n_iter[0], found.norm[0]


def _given(design: Design, start: Any) -> np.ndarray:
    n_levels = len(design.structures)
    names = [str(level + 1) for level in range(n_levels)]
    if isinstance(start, Mapping):
        if len(start) != n_levels:
            raise InputError(
                f"control: start has {len(start)} matrices, but the design has {n_levels} level(s)."
            )
        start = dict(zip(names, start.values(), strict=True))
    return given_start(design, start, names)


@traced_as_ours
def predict(fitted: Estimate, X: Any) -> tuple[Array, Array]:
    """Predicted outcomes X₀β̂ and their covariances X₀VX₀ᵀ.

    Parameters
    ----------
    fitted
        From `estimate`.
    X
        Predictors, shape (m, p), in the columns of the design.

    Returns
    -------
    mean, covariance
        Shapes (m, k) and (m, k, k).

    Raises
    ------
    InputError
        Where X does not have the predictors of the fit.

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> with jax.enable_x64(True):
    ...     fitted = mx.estimate(mx.make_design(bcg.logor, S=bcg.logorvar), method="fixed")
    ...     mean, covariance = mx.predict(fitted, [[1.0]])
    >>> mean.round(3).tolist(), covariance.shape
    ([[-0.436]], (1, 1, 1))
    """
    k = _checked_estimate(fitted).k
    p = len(fitted.beta) // k
    X = gates.numbers(X, "X", ("m", p), missing=True, infinite=True, truths=True)
    V = fitted.vcov.reshape(p, k, p, k)
    return X @ fitted.beta.reshape(p, k), jnp.einsum("na,aobr,nb->nor", X, V, X)


@traced_as_ours
def blups(fitted: Estimate, design: Design) -> Array:
    """Best linear unbiased predictions Xβ̂ + Zb̂ of every unit, missing outcomes included.

    Parameters
    ----------
    fitted
        From `estimate`.
    design
        The design it was estimated from.

    Returns
    -------
    jax.Array
        Shape (n, k), without the offset.

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> design = mx.make_design(bcg.logor, S=bcg.logorvar, bscov=mx.Fixed([[0.3]]))
    >>> with jax.enable_x64(True):
    ...     predicted = mx.blups(mx.estimate(design), design)
    >>> [round(float(value), 3) for value in predicted[:2, 0]]
    [-0.832, -1.288]
    """
    require_float64()
    checked_design(design)
    dims = tuple(P.shape[-1] for P in _checked_estimate(fitted).Psi)
    if len(fitted.beta) != design.p * design.k or dims not in ((), design.dims):
        raise InputError(
            "fitted is not the estimate of this design: their coefficients or random effects "
            "differ in number."
        )
    fixed = jnp.asarray(design.X) @ fitted.beta.reshape(design.p, design.k)
    y = jnp.where(design.mask, jnp.where(design.mask, design.y, 0.0) - fixed, 0.0)
    if not dims:  # of method "fixed"
        return fixed
    stacked = tuple(P[:, :, None] for P in fitted.Psi)
    groups, Z = jnp.asarray(design.groups), tuple(map(jnp.asarray, design.Z))
    tensors = arrange(replace(design, y=y))
    return fixed + random_part(stacked, tensors, design.layout, groups, Z)[:, :, 0]


def _checked_estimate(value: Any) -> Estimate:
    return gates.instance(value, Estimate, "fitted", "an estimate, as mx.estimate returns it")


@traced_as_ours
def cochran_q(design: Design) -> tuple[Array, Array]:
    """Cochran's Q of all outcomes together, and I² in percent.

    Q is the residual sum of squares of the fixed-effects model with the full S; I² is
    max(0, (Q − df)/Q), whose derivative is zero where Q is below its degrees of freedom.

    Parameters
    ----------
    design
        From `make_design`.

    Returns
    -------
    Q, I2
        Scalars.

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> with jax.enable_x64(True):
    ...     Q, I2 = mx.cochran_q(mx.make_design(bcg.logor, S=bcg.logorvar))
    >>> round(float(Q), 2), round(float(I2), 2)
    (163.16, 92.65)
    """
    require_float64()
    checked_design(design)
    data, _ = prepared(arrange(design.without_levels()))
    up = upward((), data)
    Q = (profile(up).deviance - up.logdet)[0]
    df = data.n_obs[0] - design.p * design.k
    return Q, 100 * jnp.maximum(0.0, (Q - df) / Q)
