"""`hold`: fits with natural parameters at given values."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from tests import dense_fit
from tests.models import NUMPY, fitted
from tests.tolerances import BACKENDS, MAXIMUM, SIMPLEX

METAFOR = json.loads((Path(__file__).parents[1] / "reference" / "variances.json").read_text())
METAFOR_LOGLIK = 1e-8  # its optimiser stops at 1e-10 of the log-likelihood


@pytest.fixture(scope="module")
def berkey():
    data = mx.load_dataset("berkey98")
    S = ["var_PD", "cov_PD_AL", "var_AL"]
    return mx.mixmeta("PD + AL ~ 1", S, data, control=NUMPY)


@pytest.fixture(scope="module")
def school():
    data = mx.load_dataset("school")
    data = data.assign(decade=(data["year"] - 1990) / 10)
    return mx.mixmeta("effect", "var", data, random="~ 1 | district/study", control=NUMPY)


def highest(fit, psi, starts):
    """The dense likelihood of one level of two outcomes, maximised over the parameters of Ψ."""
    frame, n = fit.frame, fit.frame.n
    y, X = frame.y.ravel(), np.kron(frame.X, np.eye(2))
    S = np.zeros((2 * n, 2 * n))
    for i in range(n):
        S[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = frame.within.unit[i]
    Z = np.stack([np.eye(2 * n)[:, 2 * i : 2 * i + 2] for i in range(n)])
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000, "maxfev": 4000}
    return max(
        -minimize(
            lambda t: -dense_fit.at(y, X, Z, S, psi(t), "reml").loglik,
            start,
            method="Nelder-Mead",
            options=options,
        ).fun
        for start in starts
    )


def of_two(a, b, c):
    return np.array([[a, c], [c, b]])


@pytest.mark.parametrize(
    ("name", "value", "psi"),
    [
        ("var(PD)", 0.05, lambda t: of_two(0.05, t[0] ** 2, np.tanh(t[1]) * np.sqrt(0.05) * t[0])),
        ("cor(PD, AL)", -0.4, lambda t: of_two(t[0] ** 2, t[1] ** 2, -0.4 * abs(t[0] * t[1]))),
        ("cor(PD, AL)", 1.0, lambda t: of_two(t[0] ** 2, t[1] ** 2, abs(t[0] * t[1]))),
        ("cov(PD, AL)", -0.01, lambda t: of_two(t[0] ** 2, t[1] ** 2 + 1e-4 / t[0] ** 2, -0.01)),
    ],
)
def test_against_a_dense_likelihood(berkey, name, value, psi):
    fit = berkey.update(hold={"unit": {name: value}})
    expected = highest(berkey, psi, [(0.1, 0.1), (0.1, 0.3)])
    assert fit.loglik == pytest.approx(expected, abs=SIMPLEX)
    assert fit.df.random == 2
    assert fit.converged


@pytest.mark.parametrize(
    ("case", "bscov", "hold"),
    [
        ("un_rho", "unstr", {"rho": -0.4}),
        ("un_tau2", "unstr", {"var(PD)": 0.05}),
        ("hcs_rho", "hcs", {"rho": 0.3}),
        ("cs_rho", "cs", {"rho": 0.3}),
        ("cs_tau2", "cs", {"var": 0.05}),
        ("ar_rho", "ar1", {"rho": 0.7}),
        ("har_tau2", "har1", {"AL": 0.05}),
        ("diag_tau2", "diag", {"PD": 0.05}),
        ("id_tau2", "id", {"tau2": 0.05}),
    ],
)
def test_metafor_holds_the_same(berkey, case, bscov, hold):
    fit = berkey.update(bscov=bscov, hold={"unit": hold})
    assert fit.loglik == pytest.approx(METAFOR["berkey"]["held"][case], abs=METAFOR_LOGLIK)


def test_metafor_holds_the_same_of_a_level(school):
    fit = school.update(hold={"district": {"sigma2": 0.1}})
    assert fit.loglik == pytest.approx(METAFOR["school"]["held"], abs=METAFOR_LOGLIK)


def test_a_variance_at_zero_is_the_model_without_it(school):
    without = school.update(random="~ 1 | study")
    held = school.update(hold={"district": {"var": 0}})
    assert held.loglik == pytest.approx(without.loglik, rel=MAXIMUM)
    assert held.df == without.df
    assert held.status.name == "CONVERGED"
    np.testing.assert_allclose(held.vcov, without.vcov, rtol=1e-8)
    test, expected = mx.lr_test(held, school), mx.lr_test(without, school)
    assert test.pvalue_mixture == pytest.approx(expected.pvalue_mixture, rel=1e-8)


@pytest.mark.parametrize("test", ["satterthwaite", "kenward-roger"])
def test_small_sample_tests_of_what_is_left(school, test):
    without = school.update(random="~ 1 | study").confint(test=test)
    held = school.update(hold={"district": {"var": 0}}).confint(test=test)
    np.testing.assert_allclose(held, without, rtol=1e-6)


@pytest.mark.parametrize("test", ["satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("bscov", ["diag", "hcs"])
def test_a_variance_is_as_good_as_known_where_it_is_held(berkey, bscov, test):
    fit = berkey.update(bscov=bscov)
    held = fit.update(hold={"unit": {"PD": float(fit.Psi.iloc[0, 0])}})
    table, own = fit.confint(test=test), held.confint(test=test)
    np.testing.assert_allclose(own["estimate"], table["estimate"], rtol=1e-6)
    assert own.loc["PD", "df"] > table.loc["PD", "df"]


def test_an_effect_at_zero_takes_its_covariances_along(school):
    wider = school.update(random=["~ decade | district", "~ 1 | study"])
    held = wider.update(hold={"district": {"decade": 0}})
    assert held.loglik == pytest.approx(school.loglik, rel=MAXIMUM)
    assert mx.lr_test(held, wider).df == 2
    expected = mx.lr_test(school, wider).pvalue_mixture
    assert mx.lr_test(held, wider).pvalue_mixture == pytest.approx(expected, rel=1e-6)


def test_all_held_leaves_nothing_to_climb(berkey):
    one = berkey.update(bscov="id", hold={"unit": {"var": 0.02}})
    fixed = berkey.update(bscov="fixed", Psi_fix=0.02 * np.eye(2))
    assert one.loglik == pytest.approx(fixed.loglik, rel=1e-13)
    assert one.df.random == 0
    assert len(one.varcomp()) == 0
    assert len(one.varcomp("delta", test=True)) == 0
    assert one.i2()["se"].isna().all()


@pytest.mark.parametrize("bscov", ["cs", "hcs", "ar1", "har1"])
def test_one_constraint_in_every_structure_of_two(berkey, bscov):
    # Of two effects hcs and har1 are unstructured, and cs is ar1.
    of = berkey if bscov.startswith("h") else berkey.update(bscov="cs")
    for value in (-1.0, 0.3, 1.0):
        fit = berkey.update(bscov=bscov, hold={"unit": {"rho": value}})
        expected = of.update(hold={"unit": {"cor": value}})
        assert fit.loglik == pytest.approx(expected.loglik, rel=MAXIMUM), value


@pytest.mark.parametrize("name", ["three outcomes, two levels", "hcar1", "cor", "random slope"])
def test_held_at_its_estimate_a_parameter_changes_nothing(name):
    fit, _ = fitted(name)
    table = fit.varcomp(ci=None)
    for parameter, row in list(table.iterrows())[:: max(1, len(table) // 3)]:
        held = fit.update(hold={row["level"]: {parameter: row["estimate"]}})
        assert held.loglik == pytest.approx(fit.loglik, abs=1e-7)
        np.testing.assert_allclose(held.coef, fit.coef, rtol=1e-5)
        assert held.df.random == fit.df.random - 1


def test_both_backends(berkey):
    # Both hold: Λ begins with the second effect, and its other row is a beam.
    held = berkey.update(hold={"unit": {"AL": 0.02, "rho": 0.3}})
    other = held.update(control={"backend": "jax"})
    assert other.loglik == pytest.approx(held.loglik, rel=BACKENDS)
    np.testing.assert_allclose(other.Psi, held.Psi, rtol=1e-7)


def test_summary_says_what_is_held(berkey):
    held = berkey.update(hold={"unit": {"AL": 0.5}})
    assert "unstructured, var(AL) held at 0.5" in str(held.summary())
    assert "var(AL) held at 0.5" in held.summary()._repr_html_()
    assert held.bscov == "unstr"


def test_refits_keep_what_is_held(berkey):
    held = berkey.update(hold={"unit": {"AL": 0.5}})
    again = pickle.loads(pickle.dumps(held))
    assert again.loglik == held.loglik
    pd_only = again.update(method="ml")
    assert pd_only.Psi.loc["AL", "AL"] == pytest.approx(0.5, rel=1e-14)
    draws = mx.bootstrap(again, n=3)
    np.testing.assert_allclose(draws.Psi[:, 1, 1], 0.5, rtol=1e-14)


def test_many_fits_hold_too(berkey):
    y = np.stack([berkey.frame.y, berkey.frame.y + 0.1])
    hold = {"unit": {"cor(y1, y2)": 0.5}}
    many = mx.fit_many(y, berkey.S, hold=hold, control=NUMPY)
    expected = berkey.update(hold={"unit": {"rho": 0.5}})
    np.testing.assert_allclose(many.loglik, expected.loglik, rtol=1e-8)


@pytest.mark.parametrize(
    ("hold", "said"),
    [
        ({"levels": {"var(PD)": 1}}, "names the level 'levels', but the levels are 'unit'"),
        ({"unit": {"var": 1}}, r"names 'var', which the structure 'unstr'.* var\(PD\), var\(AL\)"),
        ({"unit": {"tau": 1}}, "does not have"),
        ({"unit": {"var(PD)": -1}}, "a variance is not negative"),
        ({"unit": {"cor(PD, AL)": 1.01}}, "it lies between -1 and 1"),
        ({"unit": {"cor(AL, PD)": np.nan}}, "must be a finite number"),
        ({"unit": {"var(PD)": 10**400}}, "must be a finite number"),
        ({"unit": {"cor(AL, PD)": "0.5"}}, "must be a finite number"),
        ({"unit": {"cor(AL, PD)": True}}, "must be a finite number"),
        ({"unit": 0.5}, "must be a mapping of levels"),
        (0.5, "must be a mapping of levels"),
        ({"unit": {"var(PD)": 0, "rho": 0.5}}, "hold of level 'unit'.* has no meaning"),
    ],
)
def test_what_cannot_be_held(berkey, hold, said):
    with pytest.raises(InputError, match=said) as error:
        berkey.update(hold=hold)
    assert len(str(error.value)) <= 400


def test_bounds_of_a_correlation_that_all_share(berkey):
    third = berkey.update(bscov="cs", hold={"unit": {"cor": -1}})
    assert third.Psi.iloc[0, 1] == pytest.approx(-third.Psi.iloc[0, 0])
    with pytest.raises(InputError, match="between -1 and 1"):
        berkey.update(bscov="hcs", hold={"unit": {"cor": -1.1}})


def test_only_likelihoods_hold(berkey):
    for method in ("mm", "fixed"):
        with pytest.raises(InputError, match="hold is for the likelihoods"):
            berkey.update(method=method, hold={"unit": {"rho": 0.5}})


def test_a_structure_of_ones_own_has_no_names():
    class Own(mx.Identity):
        name = "own"

    data = mx.load_dataset("bcg")
    with pytest.raises(InputError, match="'own' is not one of the catalogue"):
        mx.mixmeta("logor", "logorvar", data, bscov=Own(), hold={"unit": {"var": 0.1}})
