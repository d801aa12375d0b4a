"""Moment estimators against R mixmeta, R metafor and direct implementations of their formulas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag, sqrtm
from scipy.optimize import brentq

from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.moment_data import prepare
from mixmeta_jax.estimation.moments import moment_estimate
from mixmeta_jax.estimation.univariate import hedges

ROOT = Path(__file__).parents[2]
R = json.loads((ROOT / "tests" / "reference" / "r_mixmeta.json").read_text())
EXTRA = json.loads((ROOT / "tests" / "reference" / "extra.json").read_text())

EXPLICIT = 1e-10
"""Relative: closed forms, and 15 printed digits."""
ITERATED = 1e-7
"""Relative: both sides stop at a relative change of 1.5e-8."""
CLIPPED = 1e-7
"""Relative: R sets negative eigenvalues to 1.5e-8, we to 0 (model.md, section 2)."""
METAFOR = 1e-7
"""Absolute, as reference/README.md says."""


def lower_triangle(columns: np.ndarray, k: int) -> np.ndarray:
    S = np.empty((len(columns), k, k))
    for c, (j, i) in enumerate(zip(*np.triu_indices(k), strict=True)):
        S[:, i, j] = S[:, j, i] = columns[:, c]
    return S


def example(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, X and S of the reference entries that start with ``name``."""
    frame = pd.read_csv(ROOT / "mixmeta_jax" / "datasets" / f"{FILES[name]}.csv")
    y, S, covariate = COLUMNS[name]
    X = np.ones((len(frame), 1))
    if covariate is not None:
        X = np.column_stack([X, frame[covariate] - (1983 if covariate == "pubyear" else 0)])
    return frame[y].to_numpy(), X, lower_triangle(frame[S].to_numpy(), len(y))


PERIODONTAL = (["PD", "AL"], ["var_PD", "cov_PD_AL", "var_AL"])
FILES = {
    "bcg": "bcg",
    "bcg_ablat": "bcg",
    "berkey": "berkey98",
    "berkey_pubyear": "berkey98",
    "smoking": "smoking",
}
COLUMNS: dict[str, tuple[list[str], list[str], str | None]] = {
    "bcg": (["logor"], ["logorvar"], None),
    "bcg_ablat": (["logor"], ["logorvar"], "ablat"),
    "berkey": (*PERIODONTAL, None),
    "berkey_pubyear": (*PERIODONTAL, "pubyear"),
    "smoking": (["yB", "yC", "yD"], ["SBB", "SBC", "SBD", "SCC", "SCD", "SDD"], None),
}


def simulated(n: int, k: int, p: int, missing: float, seed: int, tau: float = 1.0):
    """Data with heterogeneity tau² (0.5 I + 0.5), covariances in S, and outcomes missing."""
    g = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), g.normal(3, 1, (n, p - 1))])
    root = g.normal(size=(n, k, k)) * 0.5
    S = root @ root.swapaxes(1, 2) + 0.1 * np.eye(k)
    Psi = tau**2 * (0.5 * np.eye(k) + 0.5)
    y = np.stack([g.multivariate_normal(np.zeros(k), Psi + S_i) for S_i in S])
    y += X @ g.normal(size=(p, k))
    y[g.random((n, k)) < missing] = np.nan
    S[np.isnan(y)[:, :, None] | np.isnan(y)[:, None, :]] = np.nan
    return y, X, S


def dense(y: np.ndarray, X: np.ndarray, S: np.ndarray):
    """Stacked y (n·k,), design (n·k, p·k), list of S_i and indicator R, zeros where missing."""
    k = y.shape[1]
    seen = np.isfinite(y).ravel()
    design = np.vstack([np.kron(x[None], np.eye(k)) for x in X]) * seen[:, None]
    return np.nan_to_num(y.ravel()), design, np.nan_to_num(S), np.diag(seen.astype(float))


def direct_mm(y: np.ndarray, X: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Jackson, White, Riley (2013) by their double sum over units; not clipped."""
    n, k = y.shape
    stacked, design, S, indicator = dense(y, X, S)
    W = block_diag(*[np.linalg.pinv(S_i) for S_i in S])
    H = design @ np.linalg.inv(design.T @ W @ design) @ design.T @ W
    free = indicator - H
    A, B = free.T @ W, free.T @ indicator
    e = free @ stacked
    outer = W @ np.outer(e, e) @ indicator

    def at(M, i, j):
        return M[i * k : (i + 1) * k, j * k : (j + 1) * k]

    Q = sum(at(outer, i, i) - at(B, i, i) for i in range(n))
    system = sum(np.kron(at(B, j, i).T, at(A, i, j)) for i in range(n) for j in range(n))
    Psi = np.linalg.solve(system, Q.ravel(order="F")).reshape(k, k, order="F")
    return (Psi + Psi.T) / 2


def direct_vc_step(y: np.ndarray, X: np.ndarray, S: np.ndarray, Psi, adjust: bool) -> np.ndarray:
    """One iteration of Berkey et al. (1998), unit by unit; not clipped."""
    n, k = y.shape
    p = X.shape[1]
    units = []
    for i in range(n):
        o = np.isfinite(y[i])
        Sigma = (S[i] + Psi)[np.ix_(o, o)]
        units.append((o, np.kron(X[i][None], np.eye(k))[o], Sigma, y[i][o]))
    V = np.linalg.inv(sum(x.T @ np.linalg.solve(Sigma, x) for _, x, Sigma, _ in units))
    beta = V @ sum(x.T @ np.linalg.solve(Sigma, y_i) for _, x, Sigma, y_i in units)
    squares, errors, counts = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, k))
    for i, (o, x, Sigma, y_i) in enumerate(units):
        r = y_i - x @ beta
        if adjust:
            r = np.linalg.solve(sqrtm(np.eye(len(r)) - x @ V @ x.T @ np.linalg.inv(Sigma)).real, r)
        squares[np.ix_(o, o)] += np.outer(r, r)
        errors[np.ix_(o, o)] += S[i][np.ix_(o, o)]
        counts[np.ix_(o, o)] += 1
    return squares / (counts - (0 if adjust else p)) - errors / counts


def assert_agrees(fit, entry: dict, rtol: float) -> None:
    Psi = np.array(entry["Psi"][0])
    np.testing.assert_allclose(fit.Psi, Psi, rtol=0, atol=rtol * np.abs(Psi).max())
    np.testing.assert_allclose(fit.beta, list(entry["coef"].values()), rtol=rtol)
    vcov = np.array(entry["vcov"])
    np.testing.assert_allclose(fit.vcov, vcov, rtol=0, atol=rtol * np.abs(vcov).max())
    assert fit.converged


@pytest.mark.parametrize("name", [*FILES])
def test_mm_agrees_with_r(name):
    fit = moment_estimate("mm", *example(name))
    assert_agrees(fit, R[f"{name}_mm"], CLIPPED if name == "smoking" else EXPLICIT)
    assert fit.clipped == (name == "smoking")
    assert fit.n_iter == 0


@pytest.mark.parametrize("name", ["bcg", "bcg_ablat", "berkey", "berkey_pubyear"])
@pytest.mark.parametrize("count", ["pairs", "smaller"])
def test_vc_agrees_with_r(name, count):
    assert_agrees(moment_estimate("vc", *example(name), vc_count=count), R[f"{name}_vc"], ITERATED)


def test_vc_without_adjustment_agrees_with_r():
    fit = moment_estimate("vc", *example("berkey_pubyear"), vc_adjust=False)
    assert_agrees(fit, R["berkey_pubyear_vc_noadj"], ITERATED)


@pytest.mark.parametrize("name", ["bcg", "bcg_ablat"])
@pytest.mark.parametrize("method", ["DL", "HE", "HS", "SJ", "PM", "EB"])
def test_tau2_agrees_with_metafor(name, method):
    fit = moment_estimate(method.lower(), *example(name))
    np.testing.assert_allclose(fit.Psi[0, 0], EXTRA[f"{name}_tau2"][method], rtol=0, atol=METAFOR)
    assert fit.converged


@pytest.mark.parametrize(
    ("n", "k", "p", "missing"), [(12, 1, 2, 0.2), (15, 2, 1, 0.0), (15, 2, 2, 0.3), (20, 3, 2, 0.4)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_mm_is_the_double_sum(n, k, p, missing, seed):
    data = simulated(n, k, p, missing, seed, tau=3.0)
    expected = direct_mm(*data)
    fit = moment_estimate("mm", *data)
    if np.linalg.eigvalsh(expected).min() >= 0:
        assert not fit.clipped
        np.testing.assert_allclose(fit.Psi, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    else:
        values, vectors = np.linalg.eigh(expected)
        clipped = vectors * np.maximum(values, 0) @ vectors.T
        assert fit.clipped
        np.testing.assert_allclose(fit.Psi, clipped, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("adjust", [True, False])
@pytest.mark.parametrize(("k", "p", "missing"), [(1, 2, 0.0), (2, 2, 0.3), (3, 1, 0.3)])
def test_vc_is_a_fixed_point_of_its_iteration(adjust, k, p, missing):
    data = simulated(60, k, p, missing, 2, tau=3.0)
    fit = moment_estimate("vc", *data, vc_adjust=adjust)
    assert fit.converged
    assert not fit.clipped
    step = direct_vc_step(*data, fit.Psi, adjust)
    np.testing.assert_allclose(step, fit.Psi, rtol=0, atol=1e-7 * np.abs(step).max())


def test_the_fixed_effects_are_gls_given_psi():
    y, X, S = simulated(20, 2, 2, 0.3, 4)
    fit = moment_estimate("mm", y, X, S)
    stacked, design, S, indicator = dense(y, X, S)
    seen = np.diag(indicator) > 0
    Sigma = block_diag(*(S + fit.Psi))[np.ix_(seen, seen)]
    x = design[seen]
    V = np.linalg.inv(x.T @ np.linalg.solve(Sigma, x))
    np.testing.assert_allclose(fit.vcov, V, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fit.beta, V @ x.T @ np.linalg.solve(Sigma, stacked[seen]), rtol=1e-9)


@pytest.mark.parametrize("method", ["mm", "vc"])
def test_units_can_be_permuted_and_values_rescaled(method):
    y, X, S = simulated(30, 2, 2, 0.2, 5, tau=2.0)
    fit = moment_estimate(method, y, X, S)
    order = np.random.default_rng(0).permutation(30)
    moved = moment_estimate(method, y[order], X[order], S[order])
    scaled = moment_estimate(method, y * 1e4, X * [1, 1e-3], S * 1e8)
    shifted = moment_estimate(method, y, X + np.array([0, 2000]), S)
    for other, factor in ((moved, 1), (scaled, 1e8), (shifted, 1)):
        np.testing.assert_allclose(other.Psi / factor, fit.Psi, rtol=0, atol=1e-8)
    np.testing.assert_allclose(scaled.beta[2:], fit.beta[2:] * 1e7, rtol=1e-7)
    np.testing.assert_allclose(shifted.beta[2:], fit.beta[2:], rtol=1e-7)


@pytest.mark.parametrize("method", ["mm", "vc", "dl", "he", "hs", "sj", "pm", "eb"])
def test_a_missing_outcome_is_as_if_the_unit_were_absent(method):
    y, X, S = example("bcg_ablat")
    y = y.copy()
    y[[2, 7]] = np.nan
    here = np.isfinite(y[:, 0])
    padded = moment_estimate(method, y, X, S)
    dropped = moment_estimate(method, y[here], X[here], S[here])
    np.testing.assert_allclose(padded.Psi, dropped.Psi, rtol=1e-9)
    np.testing.assert_allclose(padded.beta, dropped.beta, rtol=1e-9)


@pytest.mark.parametrize("method", ["mm", "vc", "dl", "he", "hs", "pm", "eb"])
def test_homogeneous_studies_are_clipped_at_zero(method):
    y = np.array([[0.1], [0.12], [0.09], [0.11]])
    fit = moment_estimate(method, y, np.ones((4, 1)), np.full((4, 1, 1), 1.0))
    assert fit.clipped
    assert fit.converged
    assert fit.Psi[0, 0] == 0


def test_studies_all_the_same():
    y, X, S = np.ones((4, 1)), np.ones((4, 1)), np.full((4, 1, 1), 0.5)
    assert moment_estimate("sj", y, X, S).Psi[0, 0] == 0
    assert moment_estimate("pm", y, X, S).Psi[0, 0] == 0


def test_paule_mandel_solves_the_generalised_q_equation():
    data = example("bcg_ablat")
    y, X, v = data[0][:, 0], data[1], data[2][:, 0, 0]

    def excess(tau2):
        W = np.diag(1 / (v + tau2))
        e = y - X @ np.linalg.solve(X.T @ W @ X, X.T @ W @ y)
        return e @ W @ e - 11

    fit = moment_estimate("pm", *data)
    assert fit.converged
    np.testing.assert_allclose(fit.Psi[0, 0], brentq(excess, 0, 10, xtol=1e-14), rtol=1e-10)
    assert not moment_estimate("pm", *data, max_iter=2).converged


def test_hedges_is_unbiased():
    """Over 4,000 data sets of 10 studies the mean is within four standard errors of τ² = 0.5."""
    g = np.random.default_rng(0)
    X = np.column_stack([np.ones(10), np.arange(10.0)])
    v = g.uniform(0.1, 1, 10)
    y = g.normal(0, np.sqrt(v + 0.5), (4000, 10))[..., None]
    many = [np.broadcast_to(one, (4000, *one.shape)) for one in (X, v[:, None, None])]
    draws = hedges(prepare(y, *many, np.arange(4000))[0])[0]
    assert abs(draws.mean() - 0.5) < 4 * draws.std() / np.sqrt(4000)


def test_a_unit_that_alone_determines_a_coefficient_says_nothing_on_psi():
    y, X, S = simulated(20, 2, 2, 0.0, 6, tau=2.0)
    alone = np.zeros((20, 1))
    alone[4] = 1
    with_it = moment_estimate("vc", y, np.hstack([X, alone]), S)
    rest = np.arange(20) != 4
    without = moment_estimate("vc", y[rest], X[rest], S[rest])
    np.testing.assert_allclose(with_it.Psi, without.Psi, rtol=1e-6)


def test_vc_says_when_its_iterations_run_out():
    fit = moment_estimate("vc", *example("berkey"), max_iter=2)
    assert not fit.converged
    assert fit.n_iter == 2


def test_memory_and_time_grow_with_the_number_of_units():
    """5,000 units: the double sum would hold 225 million numbers."""
    fit = moment_estimate("mm", *simulated(5000, 3, 2, 0.2, 8))
    np.testing.assert_allclose(fit.Psi, 0.5 * np.eye(3) + 0.5, atol=0.1)


@pytest.mark.parametrize(
    ("method", "change", "said"),
    [
        ("dl", lambda y, X, S: (y, X, S), "'dl' is for one outcome"),
        ("median", lambda y, X, S: (y, X, S), "No moment estimator is called 'median'"),
        ("mm", lambda y, X, S: (y, X[:, [0, 0]], S), "linearly dependent"),
        ("mm", lambda y, X, S: (y[:1], X[:1, :1], S[:1]), "do not identify Psi"),
        ("vc", lambda y, X, S: (y[:1], X[:1, :1], S[:1]), "the variance of outcome 1"),
        ("mm", lambda y, X, S: (apart(y), X, S), "do not identify Psi"),
        ("vc", lambda y, X, S: (apart(y), X[:, :1], S), "covariance of outcomes 1 and 2"),
        ("mm", lambda y, X, S: (only(y, 1), X, S), "fixed effects are not identified"),
        ("mm", lambda y, X, S: (y, X, S * 0), "covariance matrix is singular"),
        ("pm", lambda y, X, S: (y[:, :1], X, S[:, :1, :1] * 0), "error variance is zero"),
        ("he", lambda y, X, S: (y[:2, :1], X[:2], S[:2, :1, :1]), "more units than predictors"),
    ],
)
def test_data_that_do_not_identify_the_model_are_refused(method, change, said):
    y, X, S = example("berkey_pubyear")
    with pytest.raises(InputError, match=said):
        moment_estimate(method, *change(y, X, S))


def test_predictors_that_do_not_vary_where_the_outcome_is_seen_are_refused():
    y, S = np.array([[1.0], [2], [4], [np.nan]]), np.ones((4, 1, 1))
    X = np.column_stack([np.ones(4), [3.0, 3, 3, 5]])
    for method in ("he", "mm"):
        with pytest.raises(InputError, match="linearly dependent over the 3 units"):
            moment_estimate(method, y, X, S)
    y = np.column_stack([y, [1.0, 3, 2, 2]])
    with pytest.raises(InputError, match="are not identified"):
        moment_estimate("mm", y, X, np.broadcast_to(np.eye(2), (4, 2, 2)))


@pytest.mark.parametrize("method", ["mm", "vc", "pm"])
def test_outcomes_beyond_double_precision_are_refused(method):
    y, X, S = example("bcg_ablat")
    with pytest.raises(InputError, match="beyond double precision"):
        moment_estimate(method, y * 1e200, X, S)


def apart(y: np.ndarray) -> np.ndarray:
    """No unit reports both outcomes."""
    y = y.copy()
    y[:3, 0] = np.nan
    y[3:, 1] = np.nan
    return y


def only(y: np.ndarray, units: int) -> np.ndarray:
    """The second outcome in so many units only."""
    y = y.copy()
    y[units:, 1] = np.nan
    return y
