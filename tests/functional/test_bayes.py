"""The log density with priors: normalisation, Jacobian, agreement with the likelihood."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import mixmeta_jax as mx
from mixmeta_jax.functional.bayes import log_prior
from tests.dense_likelihood import marginal_covariance
from tests.designs import random_design


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def lower(Psi):
    d = len(Psi)
    sd = jnp.sqrt(jnp.diagonal(Psi))
    return jnp.append(sd, (Psi / jnp.outer(sd, sd))[np.tril_indices(d, -1)])


def test_the_prior_is_lkj_times_half_t_with_its_jacobian():
    design = random_design(k=3, n=4, missing=0.0)
    priors = mx.Priors(concentration=2.5, sd_scale=0.7, sd_df=4.0)

    def shape(eta):
        Psi = mx.covariances(eta, design)[0]
        sd = jnp.sqrt(jnp.diagonal(Psi))
        _, logdet = jnp.linalg.slogdet(Psi / jnp.outer(sd, sd))
        _, jacobian = jnp.linalg.slogdet(
            jax.jacfwd(lambda e: lower(mx.covariances(e, design)[0]))(eta)
        )
        tails = -2.5 * jnp.log1p((sd / 0.7) ** 2 / 4).sum()
        return 1.5 * logdet + tails + jacobian

    rng = np.random.default_rng(2)
    gaps = [log_prior(e, design, priors) - shape(e) for e in rng.normal(size=(4, 6))]
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-10)


# Bounds of the correlation, and the power of it that the first and last of three effects have.
ONE_CORRELATION = {
    "cs": (-0.5, 1, 1),
    "hcs": (-0.5, 1, 1),
    "ar1": (-1, 1, 2),
    "har1": (-1, 1, 2),
    mx.ContinuousAR1(times=(0.0, 1.0, 2.5)): (0, 1, 2.5),
    mx.HeterogeneousContinuousAR1(times=(0.0, 1.0, 2.5)): (0, 1, 2.5),
}


@pytest.mark.parametrize("bscov", ONE_CORRELATION, ids=str)
def test_one_correlation_has_a_beta_prior_over_its_range(bscov):
    design = random_design(k=3, n=4, missing=0.0, bscov=bscov)
    n_sd = sum(design.n_parameters) - 1
    log_sd, u = np.linspace(-0.4, 0.6, n_sd), 0.7
    priors = mx.Priors(concentration=2.5, sd_scale=0.7, sd_df=4.0)
    (Psi,) = mx.covariances(np.append(log_sd, u), design)
    sd = np.exp(log_sd)
    np.testing.assert_allclose(np.sqrt(np.diag(Psi)), np.broadcast_to(sd, 3))
    low, high, power = ONE_CORRELATION[bscov]
    rho = float(Psi[1, 0] / np.sqrt(Psi[0, 0] * Psi[1, 1]))
    place = (rho - low) / (high - low)
    assert 2 * place - 1 == pytest.approx(np.tanh(u))
    far = float(Psi[2, 0] / np.sqrt(Psi[0, 0] * Psi[2, 2]))
    assert far == pytest.approx(rho**power)
    # In η: the densities of ρ and the standard deviations times dρ/du and d sd / d log sd.
    slope = (1 - np.tanh(u) ** 2) / 2
    expected = stats.beta(2.5, 2.5).logpdf(place) + np.log(slope)
    expected += (stats.t(4.0, scale=0.7).logpdf(sd) + np.log(2 * sd)).sum()
    assert float(log_prior(np.append(log_sd, u), design, priors)) == pytest.approx(expected)


def test_the_prior_integrates_to_one():
    design = random_design(k=2, n=4, missing=0.0)
    priors = mx.Priors(concentration=1.7)
    density = jax.jit(lambda eta: jnp.exp(log_prior(eta, design, priors)))
    point = jnp.array([0.3, -0.2, 0.4])
    at = float(density(point))

    def along(i):
        return quad(lambda v: float(density(point.at[i].set(v))), -25, 25, limit=200)[0]

    parts = [along(i) for i in range(3)]
    # A product: the three integrals along the axes hold every factor three times but one.
    assert np.prod(parts) == pytest.approx(at**2, rel=1e-6)


GIVEN = 0.5 * np.eye(3) + 0.5


@pytest.mark.parametrize(
    ("bscov", "sd", "Psi"),
    [
        ("prop", [0.7], 0.49 * GIVEN),
        ("cor", [0.7, 1.5, 2.0], np.outer([0.7, 1.5, 2.0], [0.7, 1.5, 2.0]) * GIVEN),
        ("fixed", [], GIVEN),
    ],
)
def test_around_a_given_matrix_only_sizes_have_a_prior(bscov, sd, Psi):
    design = random_design(k=3, n=4, missing=0.0, bscov=bscov, Psi_fix=GIVEN)
    eta = np.log(sd)
    np.testing.assert_allclose(mx.covariances(eta, design)[0], Psi)
    expected = (stats.t(3.0, scale=0.7).logpdf(sd) + np.log(2 * np.asarray(sd))).sum()
    assert float(log_prior(eta, design, mx.Priors(sd_scale=0.7))) == pytest.approx(expected)


@pytest.mark.parametrize("blocks", [False, True])
def test_value_and_gradients_are_those_of_the_dense_model(blocks):
    design = random_design(seed=1, k=2, q=(1, 1), n=10, blocks=blocks)
    priors = mx.Priors(beta_scale=2.0)
    rows, seen = np.arange(10)[None], np.flatnonzero(design.mask)

    def ours(beta, eta, y, S):
        return mx.log_density(beta, eta, replace(design, y=y, S=S), priors)

    def dense(beta, eta, y, S):
        moved = replace(design, S=S)
        Sigma = marginal_covariance(mx.covariances(eta, design), moved, rows)[0]
        r = (y - design.X @ beta.reshape(2, 2)).ravel()[seen]
        Sigma = Sigma[seen][:, seen]
        value = jax.scipy.stats.multivariate_normal.logpdf(r, jnp.zeros_like(r), Sigma)
        prior = jax.scipy.stats.norm.logpdf(beta, scale=2.0).sum()
        return value + prior + log_prior(eta, design, priors)

    y, S = jnp.nan_to_num(design.y), jax.tree.map(jnp.asarray, design.S)
    at = (jnp.array([0.3, -0.2, 0.1, 0.4]), jnp.linspace(-1, 0.5, 6), y, S)
    found, expected = (jax.jit(jax.value_and_grad(f, (0, 1, 2, 3)))(*at) for f in (ours, dense))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


class AnyFactor(mx.Structure):
    name = "any"

    def n_parameters(self, d):
        return d

    def psi(self, theta, d):
        return theta[0] ** 2 * np.eye(d)


def test_bad_input():
    design = random_design(k=2, n=6, bscov=AnyFactor())
    with pytest.raises(mx.InputError, match="'any' has no prior here"):
        mx.log_density(np.zeros(4), np.zeros(2), design)
    design = random_design(k=2, n=6)
    with pytest.raises(mx.InputError, match=r"beta has the shape \(3,\).*\(4,\)"):
        mx.log_density(np.zeros(3), np.zeros(3), design)
    with pytest.raises(mx.InputError, match=r"eta has the shape \(2,\).*\(3,\)"):
        mx.log_density(np.zeros(4), np.zeros(2), design)
