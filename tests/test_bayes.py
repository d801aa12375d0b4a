"""The log density with priors: normalisation, Jacobian, agreement with the likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import mixmeta_jax as mx
from mixmeta_jax.bayes import log_prior
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


BOUNDS = {"cs": (-0.5, 1), "hcs": (-0.5, 1), "ar1": (-1, 1), "har1": (-1, 1)}


@pytest.mark.parametrize("bscov", BOUNDS)
def test_one_correlation_has_a_beta_prior_over_its_range(bscov):
    design = random_design(k=3, n=4, missing=0.0, bscov=bscov)
    n_sd = sum(design.n_parameters) - 1
    log_sd, u = np.linspace(-0.4, 0.6, n_sd), 0.7
    priors = mx.Priors(concentration=2.5, sd_scale=0.7, sd_df=4.0)
    (Psi,) = mx.covariances(np.append(log_sd, u), design)
    sd = np.exp(log_sd)
    np.testing.assert_allclose(np.sqrt(np.diag(Psi)), np.broadcast_to(sd, 3))
    low, high = BOUNDS[bscov]
    rho = float(Psi[1, 0] / np.sqrt(Psi[0, 0] * Psi[1, 1]))
    place = (rho - low) / (high - low)
    assert 2 * place - 1 == pytest.approx(np.tanh(u))
    far = rho**2 if "ar1" in bscov else rho
    assert float(Psi[2, 0] / np.sqrt(Psi[0, 0] * Psi[2, 2])) == pytest.approx(far)
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


def test_the_likelihood_is_that_of_the_dense_model():
    design = random_design(seed=1, k=2, q=(1, 1), n=10)
    beta, eta = np.array([0.3, -0.2, 0.1, 0.4]), np.linspace(-1, 0.5, 6)
    found = mx.log_density(beta, eta, design) - log_prior(eta, design, mx.Priors())
    Psi = [np.asarray(P) for P in mx.covariances(eta, design)]
    seen = design.mask.ravel()
    Sigma = np.zeros((20, 20))
    for i in range(10):
        Sigma[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = design.S[i]
    for P, codes in zip(Psi, design.groups.T, strict=True):
        Sigma += np.kron(codes[:, None] == codes[None], P)
    Sigma = Sigma[np.ix_(seen, seen)]
    r = (design.y - design.X @ beta.reshape(2, 2)).ravel()[seen]
    expected = -0.5 * (np.linalg.slogdet(2 * np.pi * Sigma)[1] + r @ np.linalg.solve(Sigma, r))
    assert float(found) == pytest.approx(expected, rel=1e-10)
    normal = mx.log_density(beta, eta, design, mx.Priors(beta_scale=2.0)) - found
    flat = log_prior(eta, design, mx.Priors())
    expected = (-0.5 * (beta / 2) ** 2 - np.log(2) - 0.5 * np.log(2 * np.pi)).sum()
    assert float(normal - flat) == pytest.approx(expected)


def test_bad_input():
    design = random_design(k=2, n=6, bscov="cor", Psi_fix=np.eye(2))
    with pytest.raises(mx.InputError, match="'cor' has no prior here"):
        mx.log_density(np.zeros(4), np.zeros(2), design)
    design = random_design(k=2, n=6)
    with pytest.raises(mx.InputError, match=r"beta has shape \(3,\).*4 coef"):
        mx.log_density(np.zeros(3), np.zeros(3), design)
    with pytest.raises(mx.InputError, match=r"eta has shape \(2,\).*3 param"):
        mx.log_density(np.zeros(4), np.zeros(2), design)
