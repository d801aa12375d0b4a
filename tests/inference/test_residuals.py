"""Residuals and leverage against full matrices."""

import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from tests.dense_model import gls, levels_covariance, stacked
from tests.models import MODELS, fitted

EXACT = 1e-8


@pytest.mark.parametrize("name", MODELS)
def test_residuals_and_leverage(name):
    fit, _ = fitted(name)
    y, X, _, S, seen = stacked(fit)
    beta, V, _ = gls(fit)
    n, k = fit.frame.n, fit.frame.k
    Sigma = (levels_covariance(fit) + S)[np.ix_(seen, seen)]
    X, r = X[seen], (y - X @ beta)[seen]
    left = Sigma - X @ V @ X.T
    hat = X @ V @ X.T @ np.linalg.inv(Sigma)
    # Within groups in the order of the data, which all rows together have too.
    order = np.argsort(np.repeat(fit.frame.levels[0].codes, k)[seen], kind="stable")
    white = np.empty(len(r))
    white[order] = np.linalg.solve(np.linalg.cholesky(Sigma[np.ix_(order, order)]), r[order])
    expected = {
        "raw": r,
        "pearson": r / np.sqrt(np.diag(Sigma)),
        "standardised": r / np.sqrt(np.diag(left)),
        "cholesky": white,
    }
    for kind, values in expected.items():
        found = fit.resid(kind).to_numpy().ravel()
        assert np.isnan(found[~seen]).all()
        np.testing.assert_allclose(found[seen], values, rtol=EXACT, atol=EXACT)
    leverage = fit.leverages.ravel()
    assert np.isnan(leverage[~seen]).all() and leverage.shape == (n * k,)
    np.testing.assert_allclose(leverage[seen], np.diag(hat), rtol=EXACT, atol=EXACT)
    assert np.nansum(leverage) == pytest.approx(len(beta), rel=EXACT)


def test_deleted_residuals_are_from_refits():
    fit, _ = fitted("multivariate, missing outcomes")
    found = fit.resid("deleted")
    data = fit.arguments["data"]
    row = int(np.flatnonzero(found.notna().all(axis=1))[1])
    again = fit.update(data=data.drop(index=data.index[row]))
    X = np.kron(fit.frame.X[row], np.eye(2))
    variance = np.diag(fit.S[row] + again.Psi.to_numpy() + X @ again.vcov.to_numpy() @ X.T)
    expected = (fit.frame.y[row] - X @ again.coef.to_numpy()) / np.sqrt(variance)
    np.testing.assert_allclose(found.iloc[row], expected, rtol=EXACT)
    assert (found.isna().to_numpy() == np.isnan(fit.frame.y)).all()


def test_an_outcome_with_a_coefficient_of_its_own_has_no_residual():
    data = mx.load_dataset("bcg").assign(first=[1.0] + [0.0] * 12)
    fit = mx.mixmeta("logor ~ first", "logorvar", data)
    assert np.isnan(fit.resid("standardised").iloc[0])
    assert fit.leverages[0, 0] == pytest.approx(1, rel=EXACT)


def test_residuals_of_moment_and_fixed_fits():
    for method in ("dl", "fixed"):
        fit = mx.mixmeta("logor ~ ablat", "logorvar", mx.load_dataset("bcg"), method=method)
        tau2 = 0.0 if method == "fixed" else fit.Psi.iloc[0, 0]
        total = tau2 + fit.S[:, 0, 0]
        np.testing.assert_allclose(fit.resid("pearson"), fit.residuals / np.sqrt(total), rtol=EXACT)
        assert np.nansum(fit.leverages) == pytest.approx(2, rel=EXACT)


def test_excluded_rows_are_padded():
    data = mx.load_dataset("bcg")
    data.loc[2, "ablat"] = np.nan
    fit = mx.mixmeta("logor ~ ablat", "logorvar", data, na_action="exclude")
    assert np.isnan(fit.resid("cholesky").loc[2]) and fit.resid("pearson").notna().sum() == 12


def test_an_unknown_kind():
    fit, _ = fitted("univariate")
    with pytest.raises(InputError, match="'deleted'"):
        fit.resid("studentised")
