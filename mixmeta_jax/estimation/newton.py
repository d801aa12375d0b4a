"""Newton's method on the log-likelihood of θ, damped where the quadratic model fails.

One evaluation gives the value, the gradient and two information matrices in closed form:

- the *observed* information −∂²ℓ/∂θ∂θᵀ, whose steps converge quadratically, and
- the *average* information ½ f_aᵀPf_b, f_a = Z (∂Ψ/∂θ_a) s, positive semidefinite everywhere, to
  which the curvature of the map θ → Ψ is added on the diagonal: it leads the way where the
  likelihood is not concave, and away from the saddle that every null variance is.

Steps are damped as Levenberg and Marquardt do, in units of the information's diagonal, so that the
path does not depend on the scale of the data. A step is taken only where it raises the
log-likelihood, or, next to the maximum, where that is level to rounding and the gradient falls.
After the gradient has vanished one more Newton step polishes the estimate, and is undone where the
gradient grows by it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mixmeta_jax.data.design import Tensors
from mixmeta_jax.data.sharding import over_mesh, print_once
from mixmeta_jax.estimation.packing import Packed, pack
from mixmeta_jax.model import one_level
from mixmeta_jax.model.information import (
    average_information,
    expected_information,
    has_closed_expected,
)
from mixmeta_jax.model.likelihood import centred, constant, profile
from mixmeta_jax.model.small import whitener
from mixmeta_jax.model.sweep import Upward, downward, upward

RUNNING, POLISHING, DONE = 0, 1, 2

CLOSE = 1e-4
"""Norm of the gradient below which a step may be judged by what it leaves of the gradient."""

NO_INFORMATION = 1e-10
"""Least information on a parameter, in its natural unit, by which its gradient is scaled."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Evaluation:
    """The likelihood and its derivatives at one θ.

    Attributes
    ----------
    value
        Log-likelihood without the terms that do not depend on θ.
    gradient
        ∂ℓ/∂θ, shape (n_θ,).
    observed
        −∂²ℓ/∂θ∂θᵀ, shape (n_θ, n_θ); the guiding matrix again where it was not asked for.
    guide
        Average information plus the absolute curvature of θ → Ψ on the diagonal, shape (n_θ, n_θ).
    beta, V
        Coefficients and their covariance, as in `model.likelihood.Profile`.
    """

    value: Array
    gradient: Array
    observed: Array
    guide: Array
    beta: Array
    V: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Maximum:
    """What `maximise` returns; a leading axis for the starts everywhere but in the last two.

    Fetched from `packed_maximum`, its arrays are numpy's and of floats, counts included.

    Attributes
    ----------
    path
        The ends of the paths.
    Psi, slopes
        Ψ of each level, outer first, shape (d, d), and ∂Ψ/∂θ in the parameters of the level, shape
        (d, d, n_θ of the level), there.
    centre
        Coefficients that were taken out to centre the data, shape (p, k).
    constant
        What the log-likelihood has beside the values of the paths.
    """

    path: Path
    Psi: tuple[Array, ...]
    slopes: tuple[Array, ...]
    centre: Array
    constant: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Path:
    """Where an optimisation stands.

    Attributes
    ----------
    theta, at
        Best parameters so far and the evaluation there.
    trial, predicted
        Parameters to evaluate next and the gain that the quadratic model promises.
    damping
        Levenberg-Marquardt parameter.
    norm
        Scale-free norm of the gradient at ``theta``.
    n_iter, phase
        Evaluations so far; running, polishing or done.
    """

    theta: Array
    at: Evaluation
    trial: Array
    predicted: Array
    damping: Array
    norm: Array
    n_iter: Array
    phase: Array


def evaluate(theta: Array, data: Tensors, restricted: bool, exact: bool) -> Evaluation:
    """Value, gradient and information at θ; ``data`` is centred."""
    slopes = data.slopes(theta)
    if one_level.covers(data):
        at = one_level.derivatives(data.Psi(theta)[0], slopes[0], data, restricted, exact)
        value, rises, beta, V = at.value, [at.rise], at.beta, at.V
        average, expected = at.average, at.expected
    else:
        up = upward(data.Psi(theta), data)
        solution = profile(up)
        beta, V = solution.beta, solution.V
        down = downward(up, data, beta, V if restricted else jnp.zeros_like(V))
        value = -0.5 * (solution.deviance + (solution.logdet_A if restricted else 0.0))
        rises = [P - T for P, T in zip(down.products, down.traces, strict=True)]  # 2 ∂ℓ/∂Ψ
        average = average_information(up, down, data, V, slopes)
        expected = _expected(theta, up, data, V, slopes, restricted) if exact else average
    gradient = jnp.concatenate(
        [0.5 * jnp.einsum("ija,ij->a", dP, g) for dP, g in zip(slopes, rises, strict=True)]
    )
    curvature = data.curvature(theta, rises)
    guide = average + jnp.diag(jnp.abs(jnp.diagonal(curvature)))
    observed = 2 * average - expected - curvature if exact else guide
    return Evaluation(value, gradient, observed, guide, beta, V)


def _expected(
    theta: Array, up: Upward, data: Tensors, V: Array, slopes: tuple[Array, ...], restricted: bool
) -> Array:
    """½ tr(PΣ_aPΣ_b): in closed form, or from the derivatives of Σ_j T_j, one after the other."""
    if has_closed_expected(data):
        return expected_information(up, data, V, slopes[0], restricted)

    def traces(theta: Array) -> tuple[Array, ...]:
        up = upward(data.Psi(theta), data)
        V = profile(up).V
        Omega = V if restricted else jnp.zeros_like(V)
        return downward(up, data, jnp.zeros(len(V)), Omega).traces

    def along(direction: Array) -> Array:
        _, moved = jax.jvp(traces, (theta,), (direction,))
        return jnp.concatenate(
            [-0.5 * jnp.einsum("ija,ij->a", dP, dT) for dP, dT in zip(slopes, moved, strict=True)]
        )

    expected = jax.lax.map(along, jnp.eye(len(theta)))
    return 0.5 * (expected + expected.T)


@functools.partial(jax.jit, static_argnames=("method", "exact", "verbose"))
@over_mesh
def maximise(
    starts: Array,
    tensors: Tensors,
    units: Array,
    max_iter: Array,
    gradient_tol: Array,
    *,
    method: str,
    exact: bool,
    verbose: bool = False,
) -> Maximum:
    """Maximise the log-likelihood from each start.

    Parameters
    ----------
    starts
        Parameters to start from, shape (n_starts, n_θ).
    tensors
        The data.
    units
        Natural size of each parameter, shape (n_θ,).
    max_iter
        Largest number of evaluations per start.
    gradient_tol
        Scale-free gradient norm at which a path has converged.
    method
        "ml" or "reml".
    exact
        Whether to form the observed information at every step.
    verbose
        Whether to print every evaluation.
    """
    data, centre = centred(tensors)
    restricted = method == "reml"
    step = functools.partial(
        _step,
        data=data,
        restricted=restricted,
        exact=exact,
        units=units,
        max_iter=max_iter,
        gradient_tol=gradient_tol,
        verbose=verbose,
    )

    def follow(theta: Array) -> Path:
        return jax.lax.while_loop(lambda path: path.phase != DONE, step, _departure(theta, data))

    if len(starts) == 1:
        # Without the axis of a batch the programs of large data are half as long.
        paths = jax.tree.map(lambda leaf: leaf[None], follow(starts[0]))
    else:
        paths = jax.vmap(follow)(starts)
    Psi = jax.vmap(data.Psi)(paths.theta)
    slopes = jax.vmap(data.slopes)(paths.theta)
    return Maximum(paths, Psi, slopes, centre, constant(tensors, restricted))


@functools.partial(jax.jit, static_argnames=("method", "exact", "verbose"))
def packed_maximum(*args: Any, **kwargs: Any) -> Packed:
    """What `maximise` returns, as one vector, of the same arguments."""
    return pack(maximise(*args, **kwargs))


@functools.partial(jax.jit, static_argnames="method")
@over_mesh
def values_at(starts: Array, tensors: Tensors, *, method: str) -> Array:
    """Log-likelihood at each start less the same constant, shape (n_starts,), one by one."""
    data, _ = centred(tensors)
    value = lambda theta: evaluate(theta, data, method == "reml", False).value  # noqa: E731
    return jax.lax.map(value, starts)


def _departure(theta: Array, data: Tensors) -> Path:
    n, P = theta.shape[0], data.blocks[0].x.shape[0] * data.blocks[0].y.shape[1]
    zero = jnp.zeros(())
    nowhere = Evaluation(
        jnp.asarray(-jnp.inf),
        jnp.zeros(n),
        jnp.eye(n),
        jnp.eye(n),
        jnp.zeros(P),
        jnp.zeros((P, P)),
    )
    count = jnp.zeros((), int)
    return Path(theta, nowhere, theta, zero, zero, jnp.asarray(jnp.inf), count, count)


def _step(
    path: Path,
    data: Tensors,
    restricted: bool,
    exact: bool,
    units: Array,
    max_iter: Array,
    gradient_tol: Array,
    verbose: bool,
) -> Path:
    new = evaluate(path.trial, data, restricted, exact)
    first = path.n_iter == 0
    gain = new.value - path.at.value
    rounding = 1e-13 * (1 + jnp.abs(path.at.value))
    rises = first | (gain >= 1e-4 * path.predicted - rounding)
    # Next to the maximum of ill-conditioned data the gradient is more precise than the value.
    level = (path.norm < CLOSE) & (gain >= -100 * rounding)
    rises |= jax.lax.cond(level, _flatter, lambda *_: jnp.asarray(False), new, path.at, units)
    accepted = rises & jnp.isfinite(new.value) & jnp.isfinite(new.gradient).all()
    theta, at = jax.tree.map(
        lambda a, b: jnp.where(accepted, a, b), (path.trial, new), (path.theta, path.at)
    )
    ratio = jnp.where(first, 1.0, gain / jnp.maximum(path.predicted, rounding))
    relaxed = jnp.where(ratio > 0.7, path.damping / 10, path.damping)
    relaxed = jnp.where(ratio < 0.25, jnp.maximum(2 * path.damping, 1e-3), relaxed)
    relaxed = jnp.where(relaxed < 1e-6, 0.0, relaxed)
    damping = jnp.where(accepted, relaxed, jnp.maximum(8 * path.damping, 1e-2))
    move, predicted, norm = _newton_step(at, damping, units)
    # A gradient that is all rounding may grow by the last step, which is undone then.
    back = (path.phase == POLISHING) & ~(norm <= path.norm)
    theta, at, norm = jax.tree.map(
        lambda a, b: jnp.where(back, a, b), (path.theta, path.at, path.norm), (theta, at, norm)
    )
    n_iter = path.n_iter + 1
    if verbose:
        print_once(
            data,
            "evaluation {}: log-likelihood {:.6f} + constant, gradient {:.1e}, damping {:.0e}",
            n_iter,
            at.value,
            norm,
            damping,
        )
    arrived = (path.phase == POLISHING) | (norm == 0)
    vanished = norm <= gradient_tol
    out = (n_iter >= max_iter) | (damping > 1e12) | (first & ~accepted)
    phase = jnp.where(arrived | out, DONE, jnp.where(vanished, POLISHING, RUNNING))
    return Path(theta, at, theta + move, predicted, damping, norm, n_iter, phase)


def _flatter(new: Evaluation, at: Evaluation, units: Array) -> Array:
    """Whether the largest element of the gradient is smaller than before."""
    root = _root(at, units)
    return jnp.abs(new.gradient / root).max() < jnp.abs(at.gradient / root).max()


def _root(at: Evaluation, units: Array) -> Array:
    """Square root of the information on each parameter, the size of its gradient."""
    # A parameter on which there is no information must not divide rounding by rounding.
    return jnp.sqrt(jnp.maximum(jnp.diagonal(at.guide), NO_INFORMATION / units**2))


def _newton_step(at: Evaluation, damping: Array, units: Array) -> tuple[Array, Array, Array]:
    """Damped step, the gain it promises, and the scale-free norm of the gradient."""
    root = _root(at, units)
    scaled = at.gradient / root
    ridge = (damping + 1e-14) * jnp.eye(len(root))
    observed = at.observed / jnp.outer(root, root) + ridge
    guide = at.guide / jnp.outer(root, root) + ridge
    R, _ = whitener(jnp.stack([observed, guide], -1))
    concave = jnp.isfinite(R[:, :, 0]).all()
    R = jnp.where(concave, R[:, :, 0], R[:, :, 1])
    white = R @ scaled
    move = R.T @ white
    # The quadratic model with the damped matrix promises a little less than the undamped one.
    predicted = 0.5 * (white @ white)
    norm = jnp.maximum(jnp.sqrt(white @ white), jnp.abs(scaled).max(initial=0.0))
    return move / root, predicted, norm
