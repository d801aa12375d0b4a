"""Smoking cessation: Sera et al. 2019, section 4.2, Table 1 and text (after White 2011)."""

import numpy as np
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
    """The seven design-by-treatment interactions of the long-format fit are jointly tested."""
    inconsistency = fit("smoking_inconsistency_reml")
    tested = ~inconsistency.coef.index.isin(["yB", "yC", "yD"])
    beta = inconsistency.coef.to_numpy()[tested]
    V = inconsistency.vcov.to_numpy()[np.ix_(tested, tested)]
    statistic = beta @ np.linalg.solve(V, beta)
    assert agrees_with_print(chi2.sf(statistic, len(beta)), TEXT_4_2["inconsistency p"])
