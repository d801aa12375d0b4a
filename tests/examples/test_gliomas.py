"""Malignant gliomas: Sera et al. 2019, section 4.5, Table 5 and Model 7 (after Musekiwa et al.
2016)."""

import numpy as np
import pytest
from scipy.stats import norm

import mixmeta_jax as mx
from tests.reference.calls import gliomas_blocks
from tests.reference.published import TABLE_5, TEXT_4_5
from tests.tolerances import agrees_with_print

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
