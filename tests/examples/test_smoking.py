"""Smoking cessation: Sera et al. 2019, section 4.2, Table 1 and text (after White 2011)."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, norm

import mixmeta_jax as mx
from tests.reference.calls import fit
from tests.reference.published import TABLE_1, TEXT_4_2
from tests.tolerances import agrees_with_print


@pytest.fixture(scope="module")
def consistency():
    return mx.mixmeta(
        "yB + yC + yD",
        S=["SBB", "SBC", "SBD", "SCC", "SCD", "SDD"],
        data=mx.load_dataset("smoking"),
        bscov="prop",
        Psi_fix=np.eye(3) + 1,
    )


@pytest.mark.parametrize("contrast", TABLE_1)
def test_table_1(consistency, contrast):
    estimate, se, p_value = TABLE_1[contrast]
    ours = consistency.coef[contrast]
    our_se = np.sqrt(consistency.vcov.loc[contrast, contrast])
    our_p = 2 * norm.sf(abs(ours / our_se))
    assert agrees_with_print(ours, estimate)
    assert agrees_with_print(our_se, se)
    if p_value.startswith("<"):
        # A z of 3.58 has p = 0.00034: the print's bound of 0.0001 is one zero too many.
        assert our_p < 0.001
    else:
        assert agrees_with_print(our_p, p_value)


def test_heterogeneity(consistency):
    for tau2 in np.diag(consistency.Psi):
        assert agrees_with_print(tau2, TEXT_4_2["tau2"])
    assert agrees_with_print(consistency.qtest().loc["overall", "I2"], TEXT_4_2["I2"])


def test_inconsistency():
    """The seven design-by-treatment interactions of the long-format fit, as R's call has them."""
    inconsistency = fit("smoking_inconsistency_reml")
    tested = ~inconsistency.coef.index.isin(["yB", "yC", "yD"])
    beta = inconsistency.coef.to_numpy()[tested]
    V = inconsistency.vcov.to_numpy()[np.ix_(tested, tested)]
    statistic = beta @ np.linalg.solve(V, beta)
    assert agrees_with_print(chi2.sf(statistic, len(beta)), TEXT_4_2["inconsistency p"])
    ours = inconsistency.wald_test(list(inconsistency.coef.index[tested]))
    assert ours.statistic == pytest.approx(statistic, rel=1e-10)
    assert ours.df == 7


@pytest.fixture(scope="module")
def arms():
    """The counts as they were before trials without an arm A were given one, and before 0.5 was
    added to the cells of the two trials with a zero (data/README.md)."""
    rows = []
    for trial in mx.load_dataset("smoking").to_dict("records"):
        for treatment in "ABCD":
            events, total = trial[f"d{treatment}"], trial[f"n{treatment}"]
            if total > 1:
                added = 0.5 * (trial["study"] in (9, 20))
                rows.append((trial["study"], treatment, events - added, total - 2 * added))
    return pd.DataFrame(rows, columns=["study", "treatment", "events", "total"])


def test_contrasts_from_the_arms(arms):
    """From 50 arms to the outcomes and covariances that come with the data."""
    assert len(arms) == 50
    assert (arms["events"] == arms["events"].round()).all()
    ours = mx.network_contrasts(arms, "study", "treatment", "events", "total", reference="A")
    shipped = mx.load_dataset("smoking")[ours.columns]
    pd.testing.assert_frame_equal(ours, shipped, check_dtype=False, rtol=1e-12)


@pytest.fixture(scope="module")
def long(arms):
    return mx.long_contrasts(arms, "study", "treatment", "events", "total", reference="A")


def long_fit(long, terms):
    contrasts = " + ".join(long.contrasts)
    return mx.mixmeta(
        f"logor ~ 0 + {' + '.join(terms)}",
        S=long.S,
        data=long.data,
        random=f"~ 0 + {contrasts} | study",
        bscov="prop",
        Psi_fix=np.eye(3) + 1,
    )


def test_table_1_in_long_format(consistency, long):
    """One row per contrast, the error covariances as blocks that span rows."""
    ours = long_fit(long, long.contrasts)
    assert list(ours.coef.index) == ["yB", "yC", "yD"]
    np.testing.assert_allclose(ours.coef, consistency.coef, rtol=1e-7)
    np.testing.assert_allclose(ours.vcov, consistency.vcov, rtol=1e-6)
    np.testing.assert_allclose(ours.Psi, consistency.Psi, rtol=1e-6)
    assert ours.loglik == pytest.approx(consistency.loglik, rel=1e-9)


def test_design_by_treatment_inconsistency_from_the_arms(long):
    ours = long_fit(long, [*long.contrasts, *long.inconsistency])
    assert len(long.inconsistency) == 7
    test = ours.wald_test(long.inconsistency)
    assert test.df == 7
    assert agrees_with_print(test.pvalue, TEXT_4_2["inconsistency p"])
    r = fit("smoking_inconsistency_reml")
    assert ours.loglik == pytest.approx(r.loglik, rel=1e-9)
    np.testing.assert_allclose(np.sort(ours.coef), np.sort(r.coef), rtol=0, atol=1e-6)
