"""Malignant gliomas: Sera et al. 2019, section 4.5, Table 5 and Model 7 (after Musekiwa et al.
2016)."""

import numpy as np
import pytest
from scipy.stats import chi2, norm

import mixmeta_jax as mx
from tests import dense_fit
from tests.reference.calls import fit, gliomas_blocks
from tests.reference.published import TABLE_5, TEXT_4_5
from tests.tolerances import agrees_with_print

TIMES = [6, 12, 18, 24]
INDICATORS = "~ 0 + C(time) | study"
RANDOM_AND_STRUCTURE = {
    "M1": (INDICATORS, "diag"),
    # A compound symmetry with correlation 1 between the times: one effect per trial.
    "M2": ("~ 1 | study", "unstr"),
    "M3": (INDICATORS, "har1"),
    "M4": (INDICATORS, "diag"),
    "M5": (INDICATORS, "har1"),
    "M6": (INDICATORS, "unstr"),
}


def model(name, method="reml"):
    random, bscov = RANDOM_AND_STRUCTURE[name]
    return mx.mixmeta(
        "logOR ~ 0 + C(time)",
        S="logORvar" if name in ("M1", "M2", "M3") else gliomas_blocks(),
        data=mx.load_dataset("gliomas"),
        random=random,
        bscov=bscov,
        method=method,
    )


@pytest.mark.parametrize("name", TABLE_5)
def test_table_5(name):
    df, aic = TABLE_5[name]
    fit = model(name)
    assert fit.df.fixed + fit.df.random == df
    assert agrees_with_print(fit.aic, aic)


def test_model_7_against_model_4():
    linear = mx.mixmeta(
        "logOR ~ time",
        S=gliomas_blocks(),
        data=mx.load_dataset("gliomas"),
        random="~ I(time - 15) | study",
        bscov="diag",
        method="ml",
    )
    assert agrees_with_print(linear.aic, TEXT_4_5["M7 aic"])
    assert agrees_with_print(model("M4", method="ml").aic, TEXT_4_5["M4 aic"])
    z = linear.coef["time"] / np.sqrt(linear.vcov.loc["time", "time"])
    assert agrees_with_print(2 * norm.sf(abs(z)), TEXT_4_5["M7 p"])


@pytest.fixture(scope="module")
def data():
    return mx.load_dataset("gliomas")


@pytest.fixture(scope="module")
def observed(data):
    return data.dropna(subset="logOR")


@pytest.fixture(scope="module")
def correlated(data):
    """The paper's errors: correlation 0.61 between neighbouring times, half a year apart."""
    return mx.ar1_blocks(data, "study", "logORvar", 0.61, time="time", unit=6)


def test_blocks_from_a_correlation_and_times(data, correlated):
    from_blocks = mx.mixmeta(
        "logOR ~ 0 + C(time)", S=correlated, data=data, random=INDICATORS, bscov="diag"
    )
    assert from_blocks.loglik == pytest.approx(fit("gliomas_M4_reml").loglik, rel=1e-12)


def test_missing_times_keep_their_lags(data):
    """Trials that skip a time, as studies do: the errors left over stay as correlated as before."""
    skipped = data.drop(index=data.index[(data["time"] == 12) & (data["study"] % 2 == 0)])
    blocks = mx.ar1_blocks(skipped, "study", "logORvar", 0.61, time="time", unit=6)
    sd = np.sqrt(skipped.loc[skipped["study"] == 2, "logORvar"].to_numpy())
    lag = np.abs(np.subtract.outer([0, 2, 3], [0, 2, 3]))
    np.testing.assert_allclose(blocks[2], 0.61**lag * np.outer(sd, sd), rtol=1e-14)
    as_missing = data.assign(logOR=data["logOR"].where(data.index.isin(skipped.index)))
    arguments = {"random": INDICATORS, "bscov": "diag"}
    left = mx.mixmeta("logOR ~ 0 + C(time)", S=blocks, data=skipped, **arguments)
    whole = mx.mixmeta("logOR ~ 0 + C(time)", S=gliomas_blocks(), data=as_missing, **arguments)
    assert left.loglik == pytest.approx(whole.loglik, rel=1e-10)
    np.testing.assert_allclose(left.coef, whole.coef, rtol=1e-8)


def test_fixed_effects_with_blocks(data, observed, correlated):
    """No random effects: generalised least squares with the whole error covariance, in one go."""
    ours = mx.mixmeta(
        "logOR ~ 0 + C(time)", S=correlated, data=data, random="~ 1 | study", method="fixed"
    )
    y = observed["logOR"].to_numpy()
    X = (observed["time"].to_numpy()[:, None] == TIMES).astype(float)
    W = np.linalg.inv(dense_fit.spread(observed["study"], correlated))
    V = np.linalg.inv(X.T @ W @ X)
    beta = V @ X.T @ W @ y
    Q = (y - X @ beta) @ W @ (y - X @ beta)
    np.testing.assert_allclose(ours.coef, beta, rtol=1e-10)
    np.testing.assert_allclose(ours.vcov, V, rtol=1e-10)
    loglik = -0.5 * (len(y) * np.log(2 * np.pi) - np.linalg.slogdet(W)[1] + Q)
    assert ours.loglik == pytest.approx(loglik, rel=1e-12)
    assert ours.Psi is None
    overall = ours.qtest().loc["overall"]
    assert overall["Q"] == pytest.approx(Q, rel=1e-10)
    assert overall["pvalue"] == pytest.approx(chi2.sf(Q, len(y) - 4), rel=1e-8)


def test_correlation_in_months_is_that_in_positions(data):
    """The times are evenly spaced: `car1` is `ar1` here, as its correlation is not negative."""
    in_months = mx.mixmeta(
        "logOR ~ 0 + C(time)",
        S="logORvar",
        data=data,
        random=INDICATORS,
        bscov=mx.ContinuousAR1(times=TIMES),
    )
    in_positions = fit("gliomas_M3ar1_reml")
    assert in_months.loglik == pytest.approx(in_positions.loglik, rel=1e-10)
    np.testing.assert_allclose(in_months.Psi, in_positions.Psi, rtol=1e-6)


def test_heterogeneous_correlation_in_months(data):
    """`hcar1` and `har1` both end at a correlation of one (Model 3)."""
    in_months = mx.mixmeta(
        "logOR ~ 0 + C(time)",
        S="logORvar",
        data=data,
        random=INDICATORS,
        bscov=mx.HeterogeneousContinuousAR1(times=TIMES),
    )
    assert in_months.status is mx.Status.BOUNDARY
    assert in_months.loglik == pytest.approx(fit("gliomas_M3_reml").loglik, abs=1e-8)


def test_a_line_in_time_for_each_trial(data, observed, correlated):
    """Random intercepts and slopes, unstructured, with correlated errors, by the dense
    likelihood."""
    ours = mx.mixmeta(
        "logOR ~ time", S=correlated, data=data, random="~ I(time - 15) | study", method="ml"
    )
    time = observed["time"].to_numpy(float)
    dense = dense_fit.maximum(
        observed["logOR"].to_numpy(),
        np.stack([np.ones(len(time)), time], axis=1),
        dense_fit.indicators(observed["study"], np.stack([np.ones(len(time)), time - 15], axis=1)),
        dense_fit.spread(observed["study"], correlated),
        dense_fit.cholesky(2),
        [0.2, 0.0, 0.02],
        method="ml",
    )
    assert ours.loglik == pytest.approx(dense.loglik, abs=1e-6)
    np.testing.assert_allclose(ours.coef, dense.beta, rtol=1e-4, atol=1e-6)
