"""Variances at their bound are exactly 0 in Psi, whoever executes the fit."""

import jax
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.covariance.holding import hold
from mixmeta_jax.covariance.parameters import natural_parameters
from mixmeta_jax.tolerances import NULL_VARIANCE

M = np.array([[1.0, 0.5], [0.5, 1.0]])

STRUCTURES = [
    mx.Unstructured(),
    mx.Diagonal(),
    mx.Identity(),
    mx.CompoundSymmetry(),
    mx.HeterogeneousCompoundSymmetry(),
    mx.AR1(),
    mx.HeterogeneousAR1(),
    mx.ContinuousAR1(times=[0, 2]),
    mx.HeterogeneousContinuousAR1(times=[0, 2]),
    mx.Proportional(M),
    mx.Correlation(M),
    mx.Toeplitz(),
    mx.HeterogeneousToeplitz(),
]

ALONE = ("unstr", "diag", "hcs", "har1", "hcar1", "cor", "htoep")
"""Structures in which one variance may vanish without the other."""


def alike(n=12):
    """Outcomes that differ by less than their errors: no variance is left for random effects."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(0, 0.3, n), "b": rng.normal(0, 0.3, n)})


def fitted(structure, backend="numpy", data=None, **options):
    S = np.ones((12, 2))
    control = {"backend": backend}
    data = alike() if data is None else data
    return mx.mixmeta("a + b", S=S, rho=0.0, data=data, bscov=structure, control=control, **options)


def by_name(structure):
    return structure.name


@pytest.mark.parametrize("structure", STRUCTURES, ids=by_name)
def test_what_vanishes_is_exactly_zero(structure):
    fit = fitted(structure)
    assert fit.status is mx.Status.BOUNDARY
    assert not fit.Psi.to_numpy().any()
    # As fixed effects have it, to which that is the same model.
    np.testing.assert_allclose(fit.coef, fit.update(method="fixed").coef, rtol=1e-12)
    assert (fit.summary().random["sd"] == 0).all()
    if structure.by_parameters:
        return
    parameters = fit.varcomp(ci=None)
    variances = parameters.index.str.startswith(("var", "tau2"))
    assert (parameters.loc[variances, "estimate"] == 0).all()
    correlations = parameters.loc[~variances]
    assert correlations["estimate"].isna().all()


@pytest.mark.parametrize("structure", ["unstr", "hcs"])
def test_compiled_fits_have_the_same_zeros(structure):
    assert not fitted(structure, "jax").Psi.to_numpy().any()


@pytest.mark.parametrize("structure", STRUCTURES, ids=by_name)
@pytest.mark.parametrize("part", [0.99, 1.01])
def test_a_variance_counts_as_zero_up_to_its_threshold(structure, part):
    """Both variances that much of the threshold, then the first alone beside one of full size."""
    scale = np.array([[2.0], [3.0]])
    small = part * NULL_VARIANCE
    for own in (np.array([small, small]), np.array([small, 1.0])):
        sd = np.sqrt(own[:, None] * scale)
        Psi = (M[:, :, None] * sd[:, None] * sd).copy()
        alone = own[1] == 1.0
        null = part < 1 and (not alone or structure.name in ALONE)
        expected = Psi * np.where([null, null and not alone], 0, 1)[:, None, None]
        expected = (
            np.swapaxes(expected, 0, 1) * np.where([null, null and not alone], 0, 1)[:, None, None]
        )
        np.testing.assert_array_equal(structure.without_null(Psi, scale), expected)


def test_a_matrix_that_is_given_stays_as_it_is():
    tiny = 1e-12 * M
    assert (
        mx.mixmeta("a + b", S=np.ones((12, 2)), rho=0.0, data=alike(), bscov="fixed", Psi_fix=tiny)
        .Psi.to_numpy()
        .tolist()
        == tiny.tolist()
    )


@pytest.mark.parametrize("name", ["unstr", "diag", "id", "cs", "hcs"])
def test_a_variance_that_is_held_is_at_its_value(name):
    """Held at far below the threshold, and at zero: neither is what the other is."""
    structure = {s.name: s for s in STRUCTURES}[name]
    variance = natural_parameters(structure, 2)[0]
    scale = np.ones((2, 1))
    for value in (1e-14, 0.0):
        held = hold(structure, 2, {variance: value})
        Psi = held.matrices(np.full((held.n_parameters(2), 1), 1e-8), 2)
        own = held.without_null(Psi, scale)
        np.testing.assert_allclose(own[0, 0, 0], value, rtol=1e-12)


def test_one_variance_of_two_vanishes_with_its_covariance():
    rng = np.random.default_rng(5)
    data = alike().assign(b=rng.normal(0, 4, 12))
    fit = fitted("diag", data=data)
    assert fit.Psi.iloc[0].tolist() == [0, 0] and fit.Psi.iloc[1, 1] > 1
    table = fit.varcomp(ci=None)
    assert table.loc["var(a)", "estimate"] == 0 and table.loc["var(a)", "note"]


def test_many_fits_and_estimates_have_the_same_zeros():
    data = alike()
    y = np.stack([data.to_numpy(), 10 * data.to_numpy()])
    many = mx.fit_many(y, np.ones((12, 2)), rho=0.0, bscov="id", progress=False)
    assert many.status[0] == mx.Status.BOUNDARY and not many.Psi[0].any()
    assert (np.diag(many.Psi[1]) > 0.5).all()
    for method in ("mm", "dl"):
        one = mx.fit_many(y[:, :, :1], np.ones((12, 1)), method=method, progress=False)
        assert one.Psi[0].tolist() == [[0.0]]
    with jax.enable_x64(True):
        design = mx.make_design(y[0][:, :1], S=np.ones(12))
        found = mx.estimate(design)
        assert found.Psi[0].tolist() == [[0.0]]
        slope = jax.jacfwd(lambda y: mx.estimate(mx.make_design(y, S=np.ones(12))).Psi[0])
        assert not np.asarray(slope(jax.numpy.asarray(y[0][:, 0]))).any()


def test_a_report_has_no_correlation_beside_a_deviation_of_zero():
    fit = fitted("unstr")
    assert "Their correlation" not in fit.report()
    data = mx.load_dataset("berkey98")
    other = mx.mixmeta("PD + AL", S=["var_PD", "cov_PD_AL", "var_AL"], data=data)
    assert "Their correlation was" in other.report(digits=1)
    # 0.117 and 0.326: with no places, both are shown as 0.
    assert "Their correlation" not in other.report(digits=0)
    # Printed as 0 with two places, a summary leaves the correlation out too.
    small = mx.mixmeta(
        data[["PD", "AL"]] / 100, S=data[["var_PD", "cov_PD_AL", "var_AL"]].to_numpy() / 1e4
    )
    assert "| - |" in small.summary().to_markdown(digits=2)
