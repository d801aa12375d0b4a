"""Alcohol and colorectal cancer, dose-response in one stage: Sera et al. 2019, section 4.4, Table 4
and Figure 2 (data of Orsini et al. 2012)."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from tests.dense_model import levels_covariance, stacked
from tests.reference.published import RATE_RATIO_AT_12_G, TABLE_4
from tests.tolerances import agrees_with_print

SPLINE = "ns(dose, knots=[10, 25])"
LINEAR_RANDOM = "~ 0 + dose | id"
KNOTS = np.array([0.9667, 10.0, 25.0, 60.6])
Z_975 = 1.959963984540054

CLOSED = 1e-8
"""Relative: the same numbers by other algebra, through matrices with condition numbers near 1e4."""


@pytest.fixture(scope="module")
def alcohol():
    return mx.load_dataset("alcohol")


@pytest.fixture(scope="module")
def fitted(alcohol):
    """The reference dose has no error of its own: it is the origin of every curve."""
    return alcohol[alcohol["dose"] > 0]


@pytest.fixture(scope="module")
def models(alcohol, fitted):
    S = mx.greenland_longnecker(
        alcohol, study="id", logrr="logrr", se="se", cases="cases", n="peryears", type="type"
    )
    linear, spline = "logrr ~ 0 + dose", f"logrr ~ 0 + {SPLINE}"

    def fit(formula, random, S, method="ml"):
        return mx.mixmeta(formula, S=S, data=fitted, random=random, method=method)

    return {
        "L1": fit(linear, LINEAR_RANDOM, fitted["se"] ** 2),
        "L2": fit(linear, LINEAR_RANDOM, S),
        "NL1": fit(spline, f"~ 0 + {SPLINE} | id", S),
        "NL2": fit(spline, LINEAR_RANDOM, S),
        # No random effects; the cohorts are still named, since their blocks are.
        "NL3": fit(spline, "~ 1 | id", S, method="fixed"),
    }


@pytest.mark.parametrize("name", TABLE_4)
def test_table_4(models, name):
    n_parameters, aic = TABLE_4[name]
    assert models[name].df.total == n_parameters
    assert agrees_with_print(models[name].aic, aic)


@pytest.mark.parametrize("name", RATE_RATIO_AT_12_G)
def test_rate_ratio_at_12_g(models, name):
    log_ratio = models[name].predict(pd.DataFrame({"dose": [12.0]}), ci=True).iloc[0]
    for value, printed in zip(np.exp(log_ratio), RATE_RATIO_AT_12_G[name], strict=True):
        assert agrees_with_print(value, printed)


@pytest.mark.parametrize("name", ["NL1", "NL2"])
def test_heterogeneity_around_the_curve(models, name):
    """Section 4.4, text: "p-value = 0.25"."""
    assert agrees_with_print(models[name].qtest().loc["overall", "pvalue"], "0.25")


def test_non_drinkers_are_the_origin_of_the_line(models):
    at_zero = models["L2"].predict(pd.DataFrame({"dose": [0.0]}), se=True).iloc[0]
    assert list(at_zero) == [0, 0]


def natural_basis(dose):
    """Natural cubic splines that vanish at the lowest knot, by truncated powers (Hastie,
    Tibshirani, Friedman 2009, equation 5.4)."""

    def ratio(knot):
        power = np.maximum(dose - knot, 0) ** 3 - np.maximum(dose - KNOTS[-1], 0) ** 3
        return power / (KNOTS[-1] - knot)

    return np.stack(
        [dose - KNOTS[0], *(ratio(knot) - ratio(KNOTS[-2]) for knot in KNOTS[:-2])], axis=1
    )


def curve(fit, basis):
    """Generalised least squares in another basis of the same curves, given the fit's Psi."""
    y, _, _, S, _ = stacked(fit)
    X = basis(fit.frame.index)
    W = np.linalg.inv(S + levels_covariance(fit))
    V = np.linalg.inv(X.T @ W @ X)
    return V @ X.T @ W @ y, V


@pytest.mark.parametrize("name", ["L2", "NL1", "NL2", "NL3"])
def test_figure_2(models, fitted, name):
    """The curves and their intervals over the range of the doses."""
    basis = natural_basis if name != "L2" else lambda dose: np.asarray(dose)[:, None]
    beta, V = curve(models[name], lambda index: basis(fitted.loc[index, "dose"].to_numpy()))
    dose = np.linspace(1, 60, 60)
    X = basis(dose)
    mean, se = X @ beta, np.sqrt(np.einsum("ij,jk,ik->i", X, V, X))
    ours = models[name].predict(pd.DataFrame({"dose": dose}), se=True, ci=True)
    np.testing.assert_allclose(ours["fit"], mean, rtol=0, atol=CLOSED)
    np.testing.assert_allclose(ours["se"], se, rtol=CLOSED)
    np.testing.assert_allclose(ours["ci_lower"], mean - Z_975 * se, rtol=0, atol=CLOSED)
    np.testing.assert_allclose(ours["ci_upper"], mean + Z_975 * se, rtol=0, atol=CLOSED)


def test_figure_2_against_non_drinkers(models, fitted):
    """A spline is zero at the lowest fitted dose; contrasted with dose 0 it starts from there."""
    beta, V = curve(
        models["NL1"], lambda index: natural_basis(fitted.loc[index, "dose"].to_numpy())
    )
    dose = np.array([0.0, 5, 12, 30, 60])
    # Below the lowest knot a natural spline is straight, as the truncated powers are there.
    X = natural_basis(dose) - natural_basis(np.zeros(1))
    ours = models["NL1"].predict(pd.DataFrame({"dose": dose}), se=True, reference={"dose": 0})
    np.testing.assert_allclose(ours["fit"], X @ beta, rtol=0, atol=CLOSED)
    np.testing.assert_allclose(
        ours["se"], np.sqrt(np.einsum("ij,jk,ik->i", X, V, X)), rtol=CLOSED, atol=1e-12
    )
    assert list(ours.iloc[0]) == [0, 0]


def test_linear_random_effects_around_a_spline_vanish(models):
    """The data ask for none (Table 4): NL2 is NL3, at the bound, with one parameter more."""
    assert models["NL2"].status is mx.Status.BOUNDARY
    assert models["NL2"].loglik == pytest.approx(models["NL3"].loglik, abs=1e-9)
    np.testing.assert_allclose(models["NL2"].coef, models["NL3"].coef, rtol=1e-7)
