"""Factors, Toeplitz, Kronecker products and blocks: maps, derivatives, fits and refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import mixmeta_jax as mx
from mixmeta_jax.fits.references import variances_of

STEP = 1e-5
OUTCOMES = "a + b + c + d ~ 1"
ORDER = np.array([2, 0, 1, 3, 4])
CASES = {
    "rr": (mx.ReducedRank(2), 5),
    "rr turned": (mx.ReducedRank(2).ordered(ORDER), 5),
    "fa": (mx.FactorAnalytic(2), 5),
    "fa turned": (mx.FactorAnalytic(2).ordered(ORDER), 5),
    "toep": (mx.Toeplitz(), 4),
    "htoep": (mx.HeterogeneousToeplitz(), 4),
    "unstr × ar1": (mx.Kronecker("unstr", "ar1", sizes=(2, 3)), 6),
    "id × unstr": (mx.Kronecker("id", "unstr", sizes=(2, 2)), 4),
    "fa × har1": (mx.Kronecker(mx.FactorAnalytic(1), "har1", sizes=(3, 2)), 6),
    "blocks": (mx.BlockDiagonal(["id", "unstr", mx.Toeplitz()], sizes=(1, 2, 3)), 6),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_the_map(name):
    structure, d = CASES[name]
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(structure.n_parameters(d), 2))
    gradient = rng.normal(size=(d, d, 2))
    gradient = gradient + gradient.swapaxes(0, 1)
    Psi = structure.psi(theta, d)
    assert np.linalg.eigvalsh(Psi[..., 0])[0] > -1e-12
    # By central differences, exact to 1e-8 or so: programs of JAX would take seconds each.
    slopes = structure.slopes(theta, d)
    curvature = structure.curvature(theta, d, gradient)
    for a, step in enumerate(STEP * np.eye(len(theta))[:, :, None]):
        up, down = theta + step, theta - step
        moved = (structure.psi(up, d) - structure.psi(down, d)) / (2 * STEP)
        np.testing.assert_allclose(slopes[:, :, a], moved, atol=1e-6)
        bent = (structure.slopes(up, d) - structure.slopes(down, d)) / (2 * STEP)
        half = 0.5 * (gradient[:, :, None] * bent).sum((0, 1))
        np.testing.assert_allclose(curvature[a], half, atol=1e-5)
    # And back: θ of a Ψ of the structure gives it again.
    again = structure.psi(structure.theta(Psi[..., 0]), d)
    np.testing.assert_allclose(again, Psi[..., 0], atol=1e-6 * np.abs(Psi).max())
    for start in structure.starts_of_sets(np.arange(1.0, d + 1)[:, None]):
        assert start.shape == (structure.n_parameters(d), 1)
        found = structure.at_bound(structure.psi(start, d), np.ones((d, 1)))
        assert not found.any()


def test_patterns_of_products_and_bands():
    theta = np.array([0.9, 0.4, 0.7, 0.5])
    product = mx.Kronecker("unstr", "ar1", sizes=(2, 3)).psi(theta, 6)
    A, rho = mx.Unstructured().psi(theta[:3], 2), np.sin(0.5)
    B = rho ** np.abs(np.subtract.outer(range(3), range(3)))
    np.testing.assert_allclose(product, np.kron(B, A), atol=1e-14)
    P = mx.Toeplitz().psi(np.array([1.3, 0.3, -1.2, 0.8]), 4)
    for lag in range(4):
        assert np.ptp(np.diagonal(P, lag)) < 1e-14


def data(d=4, m=30, seed=3):
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(d, 1))
    y = rng.normal(size=(m, 1)) @ loadings.T + rng.normal(size=(m, d)) * 0.7
    S = np.full((m, d), 0.1) * rng.uniform(0.5, 2, size=(m, 1))
    table = pd.DataFrame(y + rng.normal(size=y.shape) * np.sqrt(S), columns=list("abcd")[:d])
    return table, S


MODELS = {
    "fa": mx.FactorAnalytic(1),
    "rr": mx.ReducedRank(2),
    "toep": mx.Toeplitz(),
    "htoep": mx.HeterogeneousToeplitz(),
    "kron": mx.Kronecker("unstr", "unstr", sizes=(2, 2)),
    "blocks": mx.BlockDiagonal(["unstr", "diag"], sizes=(2, 2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_is_the_maximum_of_the_dense_likelihood(name):
    table, S = data()
    y, structure = table.to_numpy(), MODELS[name]
    fit = mx.mixmeta(OUTCOMES, S=S, data=table, bscov=structure, method="ml")
    assert fit.converged
    assert fit.df.random == structure.n_parameters(4)

    def negative(parameters):
        Psi = structure.psi(parameters[4:], 4)
        logs = [
            multivariate_normal.logpdf(row, parameters[:4], np.diag(s) + Psi)
            for row, s in zip(y, S, strict=True)
        ]
        return -sum(logs)

    at = np.concatenate([fit.coef, structure.theta(fit.Psi.to_numpy())])
    assert -negative(at) == pytest.approx(fit.loglik, abs=1e-7)
    found = minimize(negative, at, options={"maxiter": 30})
    assert -found.fun <= fit.loglik + 1e-6
    wide = mx.mixmeta(OUTCOMES, S=S, data=table, method="ml")
    assert fit.loglik <= wide.loglik + 1e-8
    assert fit.blup().shape[0] == len(table)
    assert "(" in str(fit.summary())


@pytest.mark.parametrize("name", MODELS)
def test_both_executors_agree(name):
    table, S = data()
    fits = [
        mx.mixmeta(OUTCOMES, S=S, data=table, bscov=MODELS[name], control={"backend": backend})
        for backend in ("numpy", "jax")
    ]
    assert fits[0].loglik == pytest.approx(fits[1].loglik, rel=1e-10)
    np.testing.assert_allclose(fits[0].Psi, fits[1].Psi, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_of_unstructured_matrices_they_are_a_part(name):
    table, S = data()
    wide = mx.mixmeta(OUTCOMES, S=S, data=table)
    test = mx.lr_test(wide.update(bscov=MODELS[name]), wide)
    assert test.df == 10 - MODELS[name].n_parameters(4)


@pytest.mark.parametrize("name", MODELS)
def test_many_fits_are_those_of_each(name):
    sets = [data(seed=seed)[0] for seed in (3, 4)]
    S = data()[1]
    y = np.stack([own.to_numpy() for own in sets])
    many = mx.fit_many(y, S, bscov=MODELS[name], control={"backend": "numpy"})
    alone = [mx.mixmeta(OUTCOMES, S=S, data=own, bscov=MODELS[name]) for own in sets]
    np.testing.assert_allclose(many.loglik, [fit.loglik for fit in alone], rtol=1e-9)


def test_inside_another_level():
    table, S = data(m=40)
    table["g"] = np.repeat(np.arange(10), 4)
    table["u"] = np.arange(40)
    arguments = {"S": S, "data": table, "random": "~ 1 | g/u", "method": "ml"}
    few = mx.mixmeta(OUTCOMES, bscov=[mx.ReducedRank(1), mx.FactorAnalytic(1)], **arguments)
    wide = mx.mixmeta(OUTCOMES, bscov="unstr", **arguments)
    none = mx.mixmeta(OUTCOMES, **(arguments | {"random": "~ 1 | u"}), bscov=mx.FactorAnalytic(1))
    assert few.converged and none.loglik - 1e-8 <= few.loglik <= wide.loglik + 1e-8
    assert np.linalg.matrix_rank(few.Psi["g"], tol=1e-8) <= 1
    test = mx.lr_test(none, few)
    assert test.df == 4
    assert few.blup(level="g").shape[0] == 40


def test_the_differentiable_estimate_moves_as_refits_do():
    jax = pytest.importorskip("jax")
    table, S = data()
    y, structure = table.to_numpy(), MODELS["kron"]

    with jax.enable_x64(True):
        design = mx.make_design(y, S=S, bscov=structure)

        def trace(y):
            return mx.estimate(replace(design, y=y), method="ml").Psi[0].trace()

        slope = float(jax.jit(jax.grad(trace))(y)[3, 1])
    refits = []
    for step in (1e-4, -1e-4):
        moved = table.copy()
        moved.iloc[3, 1] += step
        fit = mx.mixmeta(OUTCOMES, S=S, data=moved, bscov=structure, method="ml")
        refits.append(np.trace(fit.Psi))
    assert slope == pytest.approx((refits[0] - refits[1]) / 2e-4, rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_what_has_no_variances_of_its_own_is_told(name):
    table, S = data()
    fit = mx.mixmeta(OUTCOMES, S=S, data=table, bscov=MODELS[name])
    with pytest.raises(mx.InputError, match="has parameters of its own, not variances"):
        fit.varcomp()
    with pytest.raises(mx.InputError, match="has parameters of its own: a variance"):
        fit.update(hold={"unit": {"var(a)": 1.0}})
    # What needs no names of them is there.
    assert fit.simulate(2, seed=1).shape == (2, 30, 4)
    assert mx.bootstrap(fit, n=3, progress=False).Psi.shape == (3, 4, 4)
    assert np.isfinite(fit.summary(test="kenward-roger").coefficients["df"]).all()


def test_a_specific_variance_of_zero_is_a_bound():
    """Of errors next to nothing and b = 2a: neither has a variance of its own."""
    table, S = data(m=60)
    table["b"] = 2 * table["a"]
    fit = mx.mixmeta(OUTCOMES, S=0.3 * S, data=table, bscov=mx.FactorAnalytic(1))
    assert fit.status.name == "BOUNDARY"
    _, held = variances_of(fit, "expected")
    assert held and set(held) <= {f"the specific variance of {name}" for name in "ab"}


@pytest.mark.parametrize(
    ("make", "d", "sentence"),
    [
        (lambda: mx.ReducedRank(0), 3, "whole number of at least 1"),
        (lambda: mx.ReducedRank(3), 3, "rank of 3 for 3 random effects"),
        (lambda: mx.FactorAnalytic(4), 4, "rank of 4 for 4 random effects"),
        (lambda: mx.FactorAnalytic(2), 4, "11 parameters for the 10 variances"),
        (lambda: mx.Kronecker("unstr", "ar1", sizes=(2, 2)), 6, "multiply to 4.* has 6 random"),
        (lambda: mx.Kronecker("unstr", mx.Toeplitz(), sizes=(2, 2)), 4, "held at 1"),
        (lambda: mx.Kronecker("unstr", "ar1", sizes=(2,)), 4, "2 parts and 1 sizes"),
        (lambda: mx.BlockDiagonal(["id", "unstr"], sizes=(1, 2)), 4, "sum to 3.* has 4 random"),
        (
            lambda: mx.BlockDiagonal(["id", "cs"], sizes=(1, 1)),
            2,
            "needs at least 2 random effects",
        ),
        (
            lambda: mx.BlockDiagonal(["nope"], sizes=(1,)),
            1,
            r"^parts\[0\] of BlockDiagonal must be one of",
        ),
        (mx.Toeplitz, 1, "needs at least 2 random effects"),
    ],
)
def test_what_is_refused(make, d, sentence):
    with pytest.raises(mx.InputError, match=sentence):
        make().check(d, "study")
