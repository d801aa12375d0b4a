"""First-order influence against finite differences of a dense weighted likelihood."""

import functools
import itertools
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.inference import influence as first_order
from mixmeta_jax.inference import outer_groups
from mixmeta_jax.many import influence, refits
from tests.dense_inference import dense
from tests.dense_model import stacked
from tests.models import NUMPY, fitted

EXTRA = json.loads((Path(__file__).parents[1] / "reference" / "extra.json").read_text())

EXACT = 1e-8
"""Relative to the largest entry: fits end at gradients of 1e-10, whose step is that of ψ̂."""

CLASSES = (
    *("univariate", "multivariate, missing outcomes", "two levels", "random slope"),
    *("three outcomes, two levels", "three levels", "blocks of S", "dose-response", "network"),
    *("ar1", "hcar1", "maximum likelihood"),
)
"""Of `tests.models`."""

TINY = 1e-30
"""A complex step: no difference is taken, so that nothing cancels."""

STEP = 1e-3
"""Of the weights, in which the likelihood is nearly linear: two central differences leave 1e-11."""

METAFOR_DELETED = 1e-6
"""Absolute: residuals from metafor's own refits, whose variances are good to about 1e-6."""


class Weighted:
    """ℓ_w, or ℓ_R,w, with the weight w of one case, as functions of Σ; complex ones too."""

    def __init__(self, fit, maps):
        self.seen = stacked(fit)[4]
        self.k, self.restricted = fit.frame.k, fit.method == "reml"
        at = dense(fit, maps)
        self.y, self.X, self.Sigma = at.y, at.X, at.Sigma
        self.first, self.second = at.first, at.second
        self.slopes = []
        for (psi, values), P in zip(maps, fit.Psi_by_level, strict=True):
            with jax.enable_x64(True):
                at = jax.numpy.asarray(np.asarray(values(P), float))
                self.slopes.append(np.asarray(jax.jacfwd(psi)(at)))

    def of(self, case):
        """The weight is that of these units."""
        self.own = np.flatnonzero(np.repeat(case, self.k)[self.seen])
        return self

    def at(self, Sigma, w):
        """ℓ_w, β̂_w and log|V_w|."""
        own = np.ix_(self.own, self.own)
        W = np.linalg.inv(Sigma)
        case = W[own]
        weighted = W - (1 - w) * W[:, self.own] @ np.linalg.solve(case, W[self.own])
        A = self.X.T @ weighted @ self.X
        beta = np.linalg.solve(A, self.X.T @ weighted @ self.y)
        r = self.y - self.X @ beta
        value = -0.5 * (log_det(Sigma) + (1 - w) * log_det(case) + r @ weighted @ r)
        if self.restricted:
            value = value - 0.5 * log_det(A)
        return value, beta, -log_det(A)

    def slope(self, w):
        """∂ℓ_w/∂ψ."""
        return np.array([self.at(self.Sigma + 1j * TINY * S, w)[0].imag for S in self.first]) / TINY

    @functools.cached_property
    def information(self):
        """−∂²ℓ/∂ψ∂ψᵀ, the gradient ½(eᵀΣ_a e − tr PΣ_a) differentiated by complex steps."""
        n = len(self.first)
        made = np.zeros((n, n))
        for a in range(n):
            e, kernel = self.projected(self.Sigma + 1j * TINY * self.first[a])
            own, fixed = self.projected(self.Sigma)
            for b in range(n):
                gradient = 0.5 * (e @ self.first[b] @ e - np.trace(kernel @ self.first[b]))
                bend = self.second[a][b]
                made[a, b] = -gradient.imag / TINY
                made[a, b] -= 0.5 * (own @ bend @ own - np.trace(fixed @ bend)).real
        return made

    def projected(self, Sigma):
        """Py, and P (Σ⁻¹ for maximum likelihood)."""
        W = np.linalg.inv(Sigma)
        WX = W @ self.X
        P = W - WX @ np.linalg.solve(self.X.T @ WX, WX.T)
        return P @ self.y, P if self.restricted else W

    def derivatives(self):
        """∂ψ̂/∂w, ∂β̂/∂w and ∂ log|V|/∂w."""
        moved = np.zeros(0)
        if self.first:
            mixed = [(self.slope(1 + h) - self.slope(1 - h)) / (2 * h) for h in (STEP, 2 * STEP)]
            moved = np.linalg.solve(self.information, (4 * mixed[0] - mixed[1]) / 3)
        along = sum((c * S for c, S in zip(moved, self.first, strict=True)), 0.0 * self.Sigma)
        _, beta, logdet = self.at(self.Sigma + 1j * TINY * along, 1 + 1j * TINY)
        return moved, beta.imag / TINY, logdet.imag / TINY


def log_det(A):
    sign, size = np.linalg.slogdet(A)
    return size + np.log(sign)


def variances_along(slopes, moved):
    """∂Ψ_jj/∂w of all levels."""
    ends = np.cumsum([part.shape[2] for part in slopes])[:-1]
    parts = zip(slopes, np.split(moved, ends), strict=True)
    return np.concatenate([np.diagonal(part @ own) for part, own in parts])


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=EXACT * np.abs(expected).max())


@pytest.mark.parametrize("name", CLASSES)
def test_derivatives_of_the_weighted_likelihood(name):
    if name == "maximum likelihood":
        fit, maps = fitted("two levels")
        fit = fit.update(method="ml")
    else:
        fit, maps = fitted(name)
    se = np.sqrt(np.diag(fit.vcov))
    weighted = Weighted(fit, maps)
    for by in dict.fromkeys(["unit", *fit.level_names]):
        table = fit.influence(by, method="first_order")
        levels = dict(zip(fit.level_names, fit.frame.levels, strict=True))
        codes = levels[by].codes if by in levels else np.arange(fit.frame.n)
        for case in (0, len(table) - 2):
            with one_thread():
                moved, beta, logdet = weighted.of(codes == case).derivatives()
            row = table.iloc[case]
            close(row.filter(like="dfbetas").to_numpy() * se, beta)
            close(row.filter(like="variance").to_numpy(), variances_along(weighted.slopes, moved))
            assert row.cook == pytest.approx(beta @ np.linalg.solve(fit.vcov, beta), rel=1e-7)
            assert np.log(row.covratio) == pytest.approx(-logdet, rel=1e-7, abs=1e-10)


def test_a_weight_of_zero_leaves_the_case_out():
    fit, maps = fitted("two levels")
    weighted = Weighted(fit, maps).of(np.arange(fit.frame.n) == 3)
    left = np.delete(np.arange(len(weighted.y)), weighted.own)
    value, beta, logdet = weighted.at(weighted.Sigma, 0.0)
    weighted.y, weighted.X = weighted.y[left], weighted.X[left]
    weighted.own = np.zeros(0, int)
    without = weighted.at(weighted.Sigma[np.ix_(left, left)], 1.0)
    assert value == pytest.approx(without[0], rel=1e-12)
    np.testing.assert_allclose(beta, without[1], rtol=1e-11)
    assert logdet == pytest.approx(without[2], rel=1e-11)


def test_a_fixed_effects_model():
    fit = mx.mixmeta("logor ~ ablat", "logorvar", mx.load_dataset("bcg"), method="fixed")
    table = fit.influence(method="first_order")
    # Closed form: V x_i r_i / s_i.
    X, s = fit.frame.X, fit.S[:, 0, 0]
    expected = X * (fit.residuals.to_numpy() / s)[:, None] @ fit.vcov.to_numpy()
    close(table.filter(like="dfbetas") * np.sqrt(np.diag(fit.vcov)), expected)
    assert not list(table.filter(like="variance"))


def test_metafor_bcg():
    found = EXTRA["bcg_infl"]
    fit = mx.mixmeta("logor", "logorvar", mx.load_dataset("bcg"), control=NUMPY)
    table = fit.influence()
    np.testing.assert_allclose(table.cook, found["cooks"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(table.leverage, found["hat"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(table["dfbetas[(Intercept)]"], found["dfbetas"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(fit.resid("deleted"), found["rstudent"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(fit.resid("standardised"), found["rstandard"], rtol=0, atol=1e-7)


def test_metafor_school():
    found = EXTRA["school"]
    school = mx.load_dataset("school")
    fit = mx.mixmeta("effect", "var", school, random="~ 1 | district/study", control=NUMPY)
    cook = fit.influence("district").cook
    assert list(cook.index) == list(pd.unique(school.district))
    np.testing.assert_allclose(cook, found["cooks"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(fit.augment().leverage, found["hat"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(fit.resid("standardised"), found["rstandard"], rtol=0, atol=1e-7)
    deleted = fit.resid("deleted")
    np.testing.assert_allclose(deleted, found["rstudent"], rtol=0, atol=METAFOR_DELETED)


def test_exact_is_refitting():
    fit, _ = fitted("three outcomes, two levels")
    table = fit.influence("g")
    data = fit.arguments["data"]
    again = fit.update(data=data[data.g != 2])
    row, moved = table.loc[2], fit.coef - again.coef
    assert row.status == again.status.name
    assert row.cook == pytest.approx(moved @ np.linalg.solve(fit.vcov, moved), rel=EXACT)
    ratio = np.linalg.det(again.vcov) / np.linalg.det(fit.vcov)
    assert row.covratio == pytest.approx(ratio, rel=EXACT)
    for level in fit.level_names:
        change = np.diag(fit.Psi[level]) - np.diag(again.Psi[level])
        close(row.filter(like=f"variance[{level}.").astype(float), change)


def test_first_order_is_the_limit_of_leaving_out():
    """The more data, the less a case changes: the difference is of second order."""
    bcg = mx.load_dataset("bcg")
    apart = []
    for times in (1, 4, 16):
        data = pd.concat([bcg] * times, ignore_index=True)
        fit = mx.mixmeta("logor", "logorvar", data, control=NUMPY)
        exact = fit.influence().filter(like="[").iloc[:13]
        first = fit.influence(method="first_order").filter(like="[").iloc[:13]
        apart.append(((first - exact).abs().max() / exact.abs().max()).to_numpy())
    # Of the largest change of the mean and of the variance: 17 and 38 %, 4 and 10 %, 1 and 2 %.
    assert (apart[0] < [0.2, 0.5]).all() and (apart[2] < [0.012, 0.03]).all()
    for before, after in itertools.pairwise(apart):
        assert (after < before / 3).all()


def test_what_cannot_be_left_out_is_nan():
    data = mx.load_dataset("bcg").assign(first=[1.0] + [0.0] * 12)
    table = mx.mixmeta("logor ~ first", "logorvar", data, control=NUMPY).influence()
    assert table.status.iloc[0] == "NOT_IDENTIFIED" and np.isnan(table.cook.iloc[0])
    assert np.isfinite(table.cook.iloc[1:]).all()


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {"by": "district"}, "by must be one of 'unit'"),
        ({}, {"method": "second_order"}, "one of 'exact', 'first_order'"),
        ({"method": "dl"}, {"method": "first_order"}, "has no likelihood"),
        ({"control": {"max_iter": 1}}, {"method": "first_order"}, "not reached"),
    ],
)
def test_influence_that_is_not_there(changes, arguments, message):
    fit = mx.mixmeta("logor ~ ablat", "logorvar", mx.load_dataset("bcg"), **changes)
    with pytest.raises(InputError, match=message):
        fit.influence(**arguments)


class OneVariance(mx.Structure):
    """A structure of one's own, whose derivatives only JAX can take."""

    name = "one"

    def n_parameters(self, d):
        return 1

    def psi(self, theta, d):
        return theta[0] ** 2 * jax.numpy.eye(d)


def test_a_structure_of_ones_own():
    S = ["var_PD", "cov_PD_AL", "var_AL"]
    fit = mx.mixmeta("PD + AL", S, mx.load_dataset("berkey98"), bscov="id", control=NUMPY)
    own = replace(fit, design=replace(fit.design, structures=(OneVariance(),)))
    expected = fit.influence(method="first_order")
    close(own.influence(method="first_order").to_numpy(), expected.to_numpy())


def test_refits_in_parts_are_those_of_one_batch(monkeypatch):
    fit, _ = fitted("two levels")
    whole, left = fit.influence(), mx.leave_one_out(fit)
    monkeypatch.setattr(refits, "REFIT_NUMBERS", 5 * fit.frame.n)
    monkeypatch.setattr(influence, "ORDER_NUMBERS", 1)
    pd.testing.assert_frame_equal(fit.influence(), whole, rtol=EXACT)
    pd.testing.assert_frame_equal(mx.leave_one_out(fit), left, rtol=EXACT)


def test_cases_in_parts_are_those_of_one(monkeypatch):
    fit, _ = fitted("three outcomes, two levels")
    whole = fit.influence(method="first_order")
    monkeypatch.setattr(first_order, "INFLUENCE_NUMBERS", 1)
    monkeypatch.setattr(outer_groups, "PIECE", 1)
    again = fit.influence(method="first_order")
    pd.testing.assert_frame_equal(again, whole, rtol=EXACT, atol=1e-12)


def test_cases_are_labelled_as_in_the_data():
    school = mx.load_dataset("school").set_index(["district", "study"], drop=False)
    school.index.names = ["place", "number"]
    fit = mx.mixmeta("effect", "var", school, random="~ 1 | district/study", control=NUMPY)
    for by, names in (("unit", ["place", "number"]), ("study", ["district", "study"])):
        found = fit.influence(by, method="first_order")
        assert list(found.index.names) == names and found.index[0] == (11, 1)
    assert fit.influence("district", method="first_order").index.names == ["district"]
