"""Small-sample and robust sums of many data sets are those of each by itself."""

import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.design.design import parameters_by_level
from mixmeta_jax.estimation.start import starting_variances
from mixmeta_jax.inference import cluster_robust, small_sample
from mixmeta_jax.inference.outer_groups import outer_groups
from mixmeta_jax.inference.variance_information import (
    kenward_roger_covariance,
    variance_information,
)
from mixmeta_jax.many.many_data import many_model
from tests.models import NUMPY, fitted


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", ["two levels", "three outcomes, two levels", "random slope"])
def test_a_batch_is_its_members(name, missing):
    fit, _ = fitted(name)
    y = fit.simulate(nsim=5, seed=3)
    if missing:
        y[1:3, ::4] = np.nan
    given = fit.arguments
    S = fit.S if fit.frame.k > 1 else np.asarray(fit.S)[:, 0]
    shared = {"random": given["random"], "data": given["data"], "bscov": given["bscov"]}
    formula = "~" + fit.formula.partition("~")[2]
    returns = ("Psi", "theta", "vcov")
    many = mx.fit_many(y, S, formula, returns=returns, progress=False, control=NUMPY, **shared)
    design = many_model(y, S, formula, Psi_fix=None, rho=None, offset=None, **shared).design
    Psi = list(many.Psi.values()) if isinstance(many.Psi, dict) else [many.Psi]
    L = np.eye(many.vcov.shape[1])
    cluster = outer_groups(design)

    def quantities(design, theta, Psi):
        levels = parameters_by_level(design.structures, design.dims, theta.T)
        scales = starting_variances(design)
        natural = [
            s.natural(own, np.moveaxis(P, 0, -1), scale)
            for (s, own, _), P, scale in zip(levels, Psi, scales, strict=True)
        ]
        found = variance_information(design, Psi, natural)
        robust = cluster_robust.cluster_sums(design, Psi, cluster, "CR2")
        yield small_sample.combination_df(L, found)
        yield kenward_roger_covariance(design, Psi, natural, found)
        yield variance_information(design, Psi, natural, observed=True).inverse
        yield robust.vcov
        yield cluster_robust.combination_df(L, robust)
        yield cluster_robust.wishart_df(L, robust)

    together = quantities(design, many.theta, Psi)
    alone = [
        quantities(design.taken(np.array([b])), many.theta[[b]], [P[[b]] for P in Psi])
        for b in range(5)
    ]
    for values, *own in zip(together, *alone, strict=True):
        np.testing.assert_allclose(values, np.concatenate(own), rtol=1e-7, atol=1e-12)
