"""Outcomes drawn from a model as a pure function of a key, for ``jit``, ``vmap`` and ``grad``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax import gates
from mixmeta_jax.arrays import traced_as_ours
from mixmeta_jax.design.design import Design
from mixmeta_jax.functional.model import checked_design, parameters, require_float64
from mixmeta_jax.likelihood.drawing import drawing


@traced_as_ours
def simulate(key: Any, theta: Any, beta: Any, design: Design) -> Array:
    """One data set drawn from the model: Xβ, effects of all levels, and errors.

    Parameters
    ----------
    key
        A key of JAX, as ``jax.random.key(0)``; for B data sets map over B keys by ``jax.vmap``.
    theta
        Parameters of all levels, outer first, shape (n_θ,), as in `log_likelihood` and
        ``estimate(...).theta``; None for the fixed-effects model, which draws the errors alone.
    beta
        Coefficients, predictor-major, shape (p·k,), as ``estimate(...).beta``.
    design
        From `make_design`; the values of its ``y`` are not read.

    Returns
    -------
    jax.Array
        Outcomes in the units of the design's ``y``, so without an offset, shape (n, k); NaN where
        its mask says that they are missing, and nowhere else.

    Raises
    ------
    PrecisionError
        Where float64 is off.
    InputError
        For a key that is none, or several, and for parameters of the wrong length.

    Notes
    -----
    With ``key = jax.random.fold_in(jax.random.key(seed), b)`` this is data set b of
    `simulation_study`, `bootstrap` and `mixmeta_sim` with ``generator="jax"``. Ψ and S enter by
    their lower roots, so that at a fixed key the outcomes are differentiable in ``theta``,
    ``beta``, ``X``, ``Z`` and ``S``: the derivatives of a mean over keys are those of the expected
    value.

    Examples
    --------
    >>> import dataclasses, jax, numpy, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> design = mx.make_design(bcg.logor, S=bcg.logorvar)
    >>> with jax.enable_x64(True):
    ...     fitted = mx.estimate(design)
    ...     def refit(key):
    ...         y = mx.simulate(key, fitted.theta, fitted.beta, design)
    ...         return mx.estimate(dataclasses.replace(design, y=y)).beta[0]
    ...     keys = jax.random.split(jax.random.key(1), 200)
    ...     drawn = numpy.asarray(jax.jit(jax.vmap(refit))(keys))
    >>> drawn.shape, bool(abs(drawn.mean() - float(fitted.beta[0])) < 0.05)
    ((200,), True)
    """
    require_float64()
    checked_design(design)
    key = _checked_key(key)
    beta = parameters(beta, "beta", design.p * design.k)
    Psi: tuple[Array, ...] = ()
    if theta is not None:
        Psi = design.Psi(parameters(theta, "theta", sum(design.n_parameters)))
    mean = jnp.asarray(design.X) @ beta.reshape(design.p, design.k)
    return jnp.where(design.mask, drawing(design, mean, Psi).draw(key), jnp.nan)


def _checked_key(key: Any) -> Any:
    """A key of JAX: typed, or the words of one of the default kind, as ``PRNGKey`` makes them."""
    wanted = "a key of JAX, as jax.random.key(0) makes it"
    if not isinstance(key, (jax.Array, np.ndarray)):
        raise gates.refused("key", wanted, key)
    found: Any = key
    if not jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        try:
            found = jax.random.wrap_key_data(jnp.asarray(key))
        except (TypeError, ValueError) as error:
            raise gates.refused("key", wanted, key) from error
    if found.shape != ():
        raise gates.refused("key", "one key: simulate draws one data set, jax.vmap maps it", key)
    return found
