"""School calendars: Sera et al. 2019, section 4.3, Table 2 (after Konstantopoulos 2011)."""

import numpy as np
import pytest

import mixmeta_jax as mx
from tests.reference.published import TABLE_2
from tests.tolerances import agrees_with_print


@pytest.fixture(scope="module")
def fits():
    data = mx.load_dataset("school")
    return {
        grouping: mx.mixmeta("effect", S="var", data=data, random=f"~ 1 | {grouping}", method="ml")
        for grouping in TABLE_2
    }


@pytest.mark.parametrize("grouping", TABLE_2)
def test_table_2(fits, grouping):
    ours, printed = fits[grouping], TABLE_2[grouping]
    assert agrees_with_print(ours.coef["(Intercept)"], printed["b0"])
    assert agrees_with_print(np.sqrt(ours.vcov.to_numpy().item()), printed["se"])
    assert agrees_with_print(ours.aic, printed["aic"])
    levels = ours.Psi.values() if isinstance(ours.Psi, dict) else [ours.Psi]
    for Psi, tau2 in zip(levels, printed["tau2"], strict=True):
        assert agrees_with_print(Psi.to_numpy().item(), tau2)


def test_blup_of_a_district_keeps_the_whole_marginal_covariance():
    """Difference 1 from R: -0.0053 for district 11, where R's level-1 BLUP is -0.0224."""
    data = mx.load_dataset("school")
    fit = mx.mixmeta("effect", S="var", data=data, random="~ 1 | district/study")
    district_11 = fit.blup(level="district")["blup"][data["district"] == 11]
    for blup in district_11:
        assert agrees_with_print(blup, "-0.0053")
