"""Bootstraps of many data sets: those of single fits, set by set."""

import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.inference.drawn import quantiles, tails
from mixmeta_jax.many.bootstrap_sets import bootstrap_t_sets, wild_sets
from tests.models import NUMPY

N = 19


@pytest.fixture(scope="module")
def bcg():
    data = mx.load_dataset("bcg")
    return mx.mixmeta("logor ~ ablat", "logorvar", data, control=NUMPY)


@pytest.mark.parametrize(
    ("kind", "function"), [("parametric", bootstrap_t_sets), ("wild", wild_sets)]
)
def test_each_set_has_the_inference_of_its_own_fit(bcg, kind, function):
    y = bcg.simulate(3, seed=9)
    found = function(bcg, y, np.array([0.0, 1.0]), n=N, seed=1)
    for i in range(3):
        data = bcg.arguments["data"].assign(drawn=y[i, :, 0])
        one = bcg.update(formula="drawn ~ ablat", data=data)
        alone = one.bootstrap_inference(N, seed=1, kind=kind, first=N * i)
        row = alone.coefficients.loc["ablat"]
        assert found.estimate[i] == pytest.approx(row["estimate"], rel=1e-6)
        assert found.se[i] == pytest.approx(row["se"], rel=1e-6)
        assert found.pvalue[i] == pytest.approx(row["pvalue"])
        upper = found.estimate[i] + found.quantile[i] * found.se[i]
        assert upper == pytest.approx(row["upper"], rel=1e-5)


def test_wild_sets_of_a_level_with_groups():
    data = mx.load_dataset("school")
    fit = mx.mixmeta("effect ~ year", "var", data, random="~ 1 | district/study", control=NUMPY)
    found = wild_sets(fit, fit.design.y[None], np.array([0.0, 1.0]), n=N, seed=6)
    alone = fit.bootstrap_inference(N, seed=6, kind="wild").coefficients.loc["year"]
    assert found.pvalue[0] == pytest.approx(alone["pvalue"])
    # Clusters of one's own: whole districts, in pairs.
    pairs = fit.frame.levels[0].codes // 2
    wider = wild_sets(fit, fit.design.y[None], np.array([0.0, 1.0]), n=N, seed=6, groups=pairs)
    assert wider.se[0] != found.se[0]


def test_tails_count_what_is_there():
    drawn = np.array([[0.1, np.nan], [0.2, 3.0], [0.3, np.nan], [0.4, 1.0]])
    pvalue, quantile = tails(drawn, np.array([0.3, 2.0]), 0.5)
    np.testing.assert_allclose(pvalue, [3 / 5, 2 / 3])
    np.testing.assert_allclose(quantile, [0.3, 3.0])
    # Of four draws none is beyond 95 percent.
    assert np.isnan(quantiles(drawn, 0.95)).all()
    np.testing.assert_allclose(quantiles(drawn, 0.8)[0], 0.4)
