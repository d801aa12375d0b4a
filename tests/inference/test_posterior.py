"""Random effects given the data, against their definitions on one dense matrix."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest

from mixmeta_jax.inference.fixed_effects import fixed_effects
from mixmeta_jax.inference.posterior import posterior
from tests.dense_likelihood import marginal_covariance
from tests.designs import KINDS, random_design

EXACT = {"rtol": 1e-9, "atol": 1e-10}


@dataclass
class Dense:
    """The whole data as one vector of n·k outcomes."""

    design: object
    Psi: tuple

    def __post_init__(self):
        d = self.design
        n, k = d.n, d.k
        self.seen = d.mask.ravel()
        self.X = np.kron(d.X[:, None, :], np.eye(k)).reshape(n * k, -1)
        self.Z, self.prior = [], []
        for level, (Z, Psi) in enumerate(zip(d.Z, self.Psi, strict=True)):
            groups = d.groups[:, level]
            B = np.zeros((n, k, groups.max() + 1, Z.shape[1], k))
            for o in range(k):
                B[np.arange(n), o, groups, :, o] = Z
            self.Z.append(B.reshape(n * k, -1))
            self.prior.append(np.kron(np.eye(groups.max() + 1), Psi))
        with jax.enable_x64(True):
            Sigma = np.asarray(marginal_covariance(self.Psi, d, np.arange(n)[None])[0])
        self.W = np.zeros_like(Sigma)
        pair = np.ix_(self.seen, self.seen)
        self.W[pair] = np.linalg.inv(Sigma[pair])

    def units(self, A):
        n, k = self.design.n, self.design.k
        return np.einsum("iaib->iab", A.reshape(n, k, n, k))


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    design = random_design(3, **KINDS[request.param])
    rng = np.random.default_rng(4)
    with jax.enable_x64(True):
        theta = rng.normal(size=sum(design.n_parameters))
        Psi = tuple(np.asarray(P) for P in design.Psi(theta))
    P = design.p * design.k
    root = rng.normal(size=(P, P))
    return Dense(design, Psi), rng.normal(size=P), 0.1 * root @ root.T


def test_predictions_at_every_level(case):
    dense, beta, V = case
    design = dense.design
    r = np.where(dense.seen, np.nan_to_num(design.y.ravel()) - dense.X @ beta, 0.0)
    for level in range(len(dense.Psi) + 1):
        found = posterior(design, dense.Psi, beta, V, level)
        parts = zip(dense.Z[:level], dense.prior[:level], strict=True)
        G = sum((Z @ prior @ Z.T for Z, prior in parts), start=np.zeros_like(dense.W))
        GW = G @ dense.W
        given = G - GW @ G
        C, R = dense.X - GW @ dense.X, GW @ dense.X
        np.testing.assert_allclose(found.mean.ravel(), GW @ r, **EXACT)
        np.testing.assert_allclose(found.random_variance, dense.units(given), **EXACT)
        paper = dense.units(dense.X @ V @ dense.X.T + given)
        np.testing.assert_allclose(found.variance_paper, paper, **EXACT)
        exact = dense.units(C @ V @ C.T + given)
        np.testing.assert_allclose(found.variance_exact, exact, **EXACT)
        residual = dense.units(R @ V @ R.T + given)
        np.testing.assert_allclose(found.residual_exact, residual, **EXACT)
        assert len(found.effects) == level


def test_effects_of_every_group(case):
    dense, beta, V = case
    design = dense.design
    r = np.where(dense.seen, np.nan_to_num(design.y.ravel()) - dense.X @ beta, 0.0)
    found = posterior(design, dense.Psi, beta, V)
    for b, cov, Z, prior, Psi in zip(
        found.effects, found.effect_vcov, dense.Z, dense.prior, dense.Psi, strict=True
    ):
        d = len(Psi)
        gain = prior @ Z.T @ dense.W
        np.testing.assert_allclose(b.ravel(), gain @ r, **EXACT)
        whole = (prior - gain @ Z @ prior).reshape(len(b), d, len(b), d)
        np.testing.assert_allclose(cov, np.einsum("gagb->gab", whole), **EXACT)


def test_fixed_effects_with_blocks_and_missing_outcomes(case):
    dense, *_ = case
    design = dense.design
    nothing = tuple(np.zeros_like(P) for P in dense.Psi)
    W = Dense(design, nothing).W
    X, y = dense.X, np.where(dense.seen, np.nan_to_num(design.y.ravel()), 0.0)
    vcov = np.linalg.inv(X.T @ W @ X)
    beta = vcov @ X.T @ W @ y
    found = fixed_effects(design)
    np.testing.assert_allclose(found.beta, beta, **EXACT)
    np.testing.assert_allclose(found.vcov, vcov, **EXACT)
    r = y - X @ beta
    assert pytest.approx(r @ W @ r, rel=1e-10) == found.Q
    expected = np.where(dense.seen, r, np.nan).reshape(design.y.shape)
    np.testing.assert_allclose(found.residuals, expected, **EXACT)
