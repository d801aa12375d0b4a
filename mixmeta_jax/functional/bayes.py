"""The log density of all parameters with priors on Ψ, a plain function of arrays for any sampler.

θ is made for optimisation: a variance is an even power and a factor has signs, so that several θ
give one Ψ. A sampler walks in η instead, one-to-one with Ψ and free of bounds: for each level the
logarithms of the standard deviations, then atanh of the partial correlations of i and j given the
random effects before j, by column. In these coordinates the prior is a product: half-t for each
standard deviation and, for the correlation matrix, the distribution of Lewandowski, Kurowicka and
Joe (2009, Journal of Multivariate Analysis 100:1989-2001), whose partial correlations are
independent Beta variables on (−1, 1). Structures with one correlation take a symmetric Beta prior
stretched over its range, and atanh of its place there, from −1 to 1. The Jacobian of η → Ψ is part
of the density.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import betaln, gammaln

from mixmeta_jax import gates
from mixmeta_jax.arrays import is_traced, traced_as_ours
from mixmeta_jax.covariance.catalogue import NEEDS_TIMES, STRUCTURES
from mixmeta_jax.covariance.given import Correlation
from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.covariance.structures import CompoundSymmetry, Unstructured
from mixmeta_jax.design.design import Design, parameters_by_level
from mixmeta_jax.design.tensors import arrange, masked
from mixmeta_jax.errors import InputError
from mixmeta_jax.functional.model import checked_design, parameters, require_float64
from mixmeta_jax.likelihood.likelihood import LOG_2PI
from mixmeta_jax.likelihood.shifts import shifted
from mixmeta_jax.likelihood.sweep import upward

LOG_2 = 0.6931471805599453
NO_CORRELATION = tuple(STRUCTURES[name] for name in ("diag", "id", "prop", "cor", "fixed"))
IN_TIME = tuple(STRUCTURES[name] for name in NEEDS_TIMES)
ONE_CORRELATION = (*(STRUCTURES[name] for name in ("cs", "hcs", "ar1", "har1")), *IN_TIME)


@dataclass(frozen=True)
class Priors:
    """Priors of β and Ψ.

    Attributes
    ----------
    sd_scale, sd_df
        Scale, in units of the outcome, and degrees of freedom of the half-t of each standard
        deviation; of τ, where Ψ is τ² times a given matrix.
    concentration
        Of the LKJ prior: 1 is uniform over correlation matrices. Where a structure has one
        correlation, both parameters of its Beta prior: 1 is uniform over its range.
    beta_scale
        Standard deviation of a normal prior of each coefficient; None for a flat one.

    Raises
    ------
    InputError
        For a value that is not a positive, finite number.

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> design = mx.make_design(bcg.logor, S=bcg.logorvar)
    >>> narrow = mx.Priors(sd_scale=0.1)
    >>> with jax.enable_x64(True):
    ...     at = jax.numpy.array([-0.7]), jax.numpy.array([-0.5])
    ...     print(bool(mx.log_density(*at, design) > mx.log_density(*at, design, narrow)))
    True
    """

    sd_scale: float = 1.0
    sd_df: float = 3.0
    concentration: float = 1.0
    beta_scale: float | None = None

    def __post_init__(self) -> None:
        for name in ("sd_scale", "sd_df", "concentration", "beta_scale"):
            value = getattr(self, name)
            # Traced, a sampler's own parameter has no value to look at.
            if not (is_traced(value) or (name == "beta_scale" and value is None)):
                gates.number(value, f"Priors: {name}", above=0)


@traced_as_ours
def log_density(beta: Array, eta: Array, design: Design, priors: Priors | None = None) -> Array:
    """Log of likelihood times prior, as a density in (β, η).

    Parameters
    ----------
    beta
        Coefficients, predictor-major, shape (p·k,).
    eta
        Free parameters of all levels, outer first, shape (n_θ,): per level the log standard
        deviations (one for "id", "cs", "ar1" and "car1"; log τ for "prop"; nothing for "fixed");
        then, for "unstr", atanh of the partial correlations by column, and for structures with one
        correlation atanh of its place between its bounds, from −1 to 1 ("car1" and "hcar1": the
        correlation of the two closest times, from 0 to 1).
    design
        From `make_design`, its structures among those that `mixmeta` knows by name.
    priors
        `Priors`; default half-t₃ of scale 1, uniform correlations, flat β.

    Returns
    -------
    jax.Array
        Scalar; its derivatives in every argument are exact.

    Raises
    ------
    PrecisionError
        Where float64 is off.
    InputError
        For a structure of one's own, or parameters of the wrong length.

    Notes
    -----
    Nothing here belongs to one sampler: any that takes a log density of arrays will do. NumPyro
    samples it in ``notebooks/03_bayesian.ipynb``; with BlackJAX (not installed with this package)::

        def density(q):
            return mx.log_density(q["beta"], q["eta"], design)
        start = {"beta": jnp.zeros(1), "eta": jnp.full(2, -1.0)}
        warmup = blackjax.window_adaptation(blackjax.nuts, density)
        (state, settings), _ = warmup.run(jax.random.key(0), start, num_steps=300)
        step = jax.jit(blackjax.nuts(density, **settings).step)  # state, info = step(key, state)

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> design = mx.make_design(bcg.logor, S=bcg.logorvar)
    >>> with jax.enable_x64(True):
    ...     beta, eta = jax.numpy.array([-0.7]), jax.numpy.array([-0.5])
    ...     print(round(float(mx.log_density(beta, eta, design)), 3))
    -14.212
    """
    require_float64()
    checked_design(design)
    priors = Priors() if priors is None else gates.instance(priors, Priors, "priors", "Priors")
    beta = parameters(beta, "beta", design.p * design.k)
    total = log_prior(eta, design, priors)
    if priors.beta_scale is not None:
        size = jnp.log(priors.beta_scale) + 0.5 * LOG_2PI
        total = total - (0.5 * (beta / priors.beta_scale) ** 2 + size).sum()
    seen = jnp.asarray(design.mask)
    expected = jnp.asarray(design.X) @ beta.reshape(design.p, design.k)
    residual = jnp.where(seen, jnp.where(seen, design.y, 0.0) - expected, 0.0)
    tensors = shifted(masked(arrange(replace(design, y=residual))))
    up = upward(tuple(P[:, :, None] for P in covariances(eta, design)), tensors)
    return total - 0.5 * (up.logdet + up.c + tensors.n_obs * LOG_2PI)[0]


@traced_as_ours
def covariances(eta: Array, design: Design) -> tuple[Array, ...]:
    """Ψ of each level, outer first, at η; see `log_density`.

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> bcg = mx.load_dataset("bcg")
    >>> design = mx.make_design(bcg.logor, S=bcg.logorvar)
    >>> with jax.enable_x64(True):
    ...     (Psi,) = mx.covariances(jax.numpy.log(jax.numpy.array([0.6])), design)
    >>> round(float(Psi[0, 0]), 2)
    0.36
    """
    require_float64()
    return tuple(_covariance(s, t, d) for s, t, d in _levels(eta, checked_design(design)))


def log_prior(eta: Array, design: Design, priors: Priors) -> Array:
    """The log prior density of η, normalised."""
    total = jnp.zeros(())
    for structure, part, d in _levels(eta, design):
        n_sd = len(part) - 1 if isinstance(structure, ONE_CORRELATION) else d
        log_sd, u = part[:n_sd], part[n_sd:]
        nu = priors.sd_df
        constant = LOG_2 + gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * jnp.log(nu * jnp.pi)
        tail = jnp.log1p((jnp.exp(log_sd) / priors.sd_scale) ** 2 / nu)
        density = constant - jnp.log(priors.sd_scale) - (nu + 1) / 2 * tail
        total = total + (density + log_sd).sum()
        if u.size:
            j, _ = np.triu_indices(d, 1)  # by column
            given = 0.0 if isinstance(structure, ONE_CORRELATION) else (d - 2 - j) / 2
            a = priors.concentration + given
            rest = -2 * (jnp.logaddexp(u, -u) - LOG_2)  # log(1 − tanh² u)
            total = total + (a * rest - (2 * a - 1) * LOG_2 - betaln(a, a)).sum()
    return total


def _levels(eta: Array, design: Design) -> list[tuple[Structure, Array, int]]:
    for structure in design.structures:
        if not isinstance(structure, (Unstructured, *NO_CORRELATION, *ONE_CORRELATION)):
            raise InputError(
                f"The structure '{structure.name}' has no prior here: choose one that mixmeta "
                "knows by name, or write the density of its parameters with log_likelihood."
            )
    eta = parameters(eta, "eta", sum(design.n_parameters))
    return parameters_by_level(design.structures, design.dims, eta)


def _covariance(structure: Structure, part: Array, d: int) -> Array:
    if not isinstance(structure, Unstructured):
        return structure.psi(_parameters(structure, part, d), d)
    sd = jnp.exp(part[:d])
    columns, rows = np.triu_indices(d, 1)
    partial = jnp.zeros((d, d)).at[rows, columns].set(jnp.tanh(part[d:]))
    left = jnp.zeros((d, d)).at[rows, columns].set(1 / jnp.cosh(part[d:]))
    factor, remaining = jnp.zeros((d, d)), jnp.ones(d)
    for j in range(d):
        below = np.arange(d) > j
        column = jnp.where(below, partial[:, j] * remaining, 0.0).at[j].set(remaining[j])
        factor = factor.at[:, j].set(column)
        remaining = jnp.where(below, remaining * left[:, j], remaining)
    scaled = sd[:, None] * factor
    return scaled @ scaled.T


def _parameters(structure: Structure, part: Array, d: int) -> Array:
    """θ of a structure with at most one correlation, which lies at tanh u between its bounds."""
    if isinstance(structure, NO_CORRELATION):
        return jnp.exp(part / 2 if isinstance(structure, Correlation) else part)
    log_sd, u = part[:-1], part[-1]
    if isinstance(structure, CompoundSymmetry):  # roots of σ²(1 − ρ) and σ²(1 + (d − 1)ρ)
        shares = jax.nn.sigmoid(jnp.stack([-2 * u, 2 * u])) * jnp.array([d / (d - 1), d])
        return jnp.exp(log_sd) * jnp.sqrt(shares)
    sizes = jnp.exp(log_sd if len(log_sd) == 1 else log_sd / 2)  # several: roots of the sds
    half = jnp.arctan(jnp.tanh(u / 2))  # of the angle whose sine is tanh u
    angle = jnp.pi / 4 + half if isinstance(structure, IN_TIME) else 2 * half
    return jnp.append(sizes, angle)
