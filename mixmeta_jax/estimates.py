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

from mixmeta_jax.control import Control, as_control
from mixmeta_jax.design.design import Design, arrange
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.estimator import given_start
from mixmeta_jax.estimation.implicit import optimum
from mixmeta_jax.estimation.search import Found, Problem
from mixmeta_jax.estimation.start import natural_units, starting_parameters, starting_variances
from mixmeta_jax.functional import METHODS, require_float64
from mixmeta_jax.likelihood.likelihood import profile, solution_at
from mixmeta_jax.likelihood.sweep import downward, upward
from mixmeta_jax.status import Status


@jax.tree_util.register_dataclass
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


def estimate(
    design: Design, method: str = "reml", control: Control | Mapping[str, Any] | None = None
) -> Estimate:
    """Fit a model as a function that JAX can differentiate.

    The numbers are those of `mixmeta`, unless `mixmeta` restarts from random points or turns Λ,
    which is not followed here (see Notes). Their derivatives follow from the implicit function
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
        there are several; ``verbose`` and ``mesh`` are not read.

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
    The search is one traced loop: the starts and the way off saddles of `mixmeta`. Where `mixmeta`
    then goes further, from random starts if a fit ended at a bound (there may be several maxima)
    and with Λ in another order if it ran out of iterations, this one reports BOUNDARY or MAX_ITER
    as it stands. ``control={"start": fit.Psi}``, the ``fit`` by `mixmeta`, starts at its maximum.

    At a boundary (``status`` BOUNDARY: a zero variance) the derivative is that of the constrained
    optimum: the null variance stays null. Where the likelihood is flat in some parameters
    (NOT_IDENTIFIED), they are held; β̂, Ψ̂ and the rest are right as far as the data identify them.
    Where a fit has not converged the derivatives are those at the point it reached, or NaN. They
    are NaN too where the likelihood curves upwards at the optimum by so little, below 1e-5 of the
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
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}.")
    settings = as_control(control)
    if method == "fixed":
        design = design.without_levels()
    with jax.default_matmul_precision("highest"):
        tensors = arrange(design)
        found = _found(design, tensors, method, settings)
        Psi = design.Psi(found.theta)
        loglik, beta, V = solution_at(Psi, tensors, method=method)
        T = jnp.kron(jnp.asarray(design.basis), jnp.eye(design.k))
        vcov = T @ V @ T.T
        return Estimate(
            T @ beta,
            0.5 * (vcov + vcov.T),
            found.theta,
            Psi,
            loglik,
            jnp.where(jnp.isfinite(loglik), found.status, int(Status.NOT_FINITE)),
            found.n_iter,
            found.norm,
            design.k,
        )


def _found(design: Design, tensors: Any, method: str, control: Control) -> Found:
    if sum(design.n_parameters) == 0:
        zero = jnp.zeros((), int)
        return Found(jnp.zeros(0), zero + int(Status.CONVERGED), zero, jnp.zeros(()))
    still = jax.lax.stop_gradient(design)
    scales = starting_variances(still)
    own = starting_parameters(still.structures, scales)
    starts = own[: control.n_starts]
    if control.start is not None:
        starts = _given(design, control.start)
    problem = Problem(
        jnp.asarray(starts),
        tuple(jnp.asarray(scale) for scale in scales),
        jnp.asarray(natural_units(own)),
        jnp.asarray(control.max_iter),
        jnp.asarray(control.gradient_tol),
    )
    return optimum(tensors, problem, method)


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
    """
    X = jnp.asarray(X)
    k = fitted.k
    p = len(fitted.beta) // k
    if X.ndim != 2 or X.shape[1] != p:
        raise InputError(f"X has shape {X.shape}: it must be (m, {p}), the predictors of the fit.")
    V = fitted.vcov.reshape(p, k, p, k)
    return X @ fitted.beta.reshape(p, k), jnp.einsum("na,aobr,nb->nor", X, V, X)


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
    """
    require_float64()
    with jax.default_matmul_precision("highest"):
        fixed = jnp.asarray(design.X) @ fitted.beta.reshape(design.p, design.k)
        y = jnp.where(design.mask, jnp.where(design.mask, design.y, 0.0) - fixed, 0.0)
        return fixed + random_part(fitted.Psi, design, y)


def random_part(Psi: tuple[Array, ...], design: Design, residual: Array) -> Array:
    """Zb̂ = Σ_ℓ Z ΨZᵀ Σ⁻¹ r of every unit, shape (n, k)."""
    tensors = arrange(replace(design, y=residual))
    up = upward(Psi, tensors)
    zero = jnp.zeros(design.p * design.k)
    down = downward(up, tensors, zero, jnp.zeros((len(zero), len(zero))))
    weighted = jnp.zeros((design.n + 1, design.k))
    for bucket, e in zip(design.layout.buckets, down.residuals, strict=True):
        n_b, N = bucket.rows.shape
        values = jnp.moveaxis(e.reshape(n_b, design.k, N), 1, 2)
        weighted = weighted.at[bucket.rows].set(values)
    weighted = jnp.where(design.mask, weighted[: design.n], 0.0)  # Σ⁻¹r
    total = jnp.zeros((design.n, design.k))
    for level, (P, Z) in enumerate(zip(Psi, design.Z, strict=True)):
        group = jnp.asarray(design.groups)[:, level]
        q = Z.shape[1]
        scores = (jnp.asarray(Z)[:, :, None] * weighted[:, None]).reshape(design.n, -1)
        sums = jnp.zeros((design.n, q * design.k)).at[group].add(scores)
        effects = (sums @ P)[group].reshape(design.n, q, design.k)
        total = total + (jnp.asarray(Z)[:, :, None] * effects).sum(1)
    return total


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
    """
    require_float64()
    with jax.default_matmul_precision("highest"):
        tensors = arrange(design.without_levels())
        up = upward((), tensors)
        solution = profile(up)
        Q = solution.deviance - up.logdet
        df = tensors.n_obs - design.p * design.k
        return Q, 100 * jnp.maximum(0.0, (Q - df) / Q)
