"""BCG vaccine: Sera et al. 2019, section 4.1, text (after Van Houwelingen et al. 2002)."""

import numpy as np
import pytest

import mixmeta_jax as mx
from tests.reference.published import TEXT_4_1
from tests.tolerances import agrees_with_print

Z_975 = 1.959963984540054


@pytest.fixture(scope="module")
def standard():
    return mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"), method="ml")


@pytest.fixture(scope="module")
def latitude():
    return mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"), method="ml")


def test_odds_ratio_and_its_interval(standard):
    pooled = np.exp(standard.predict(ci=True)[["fit", "ci_lower", "ci_upper"]].iloc[0])
    for ours, printed in zip(pooled, TEXT_4_1["odds ratio"], strict=True):
        assert agrees_with_print(ours, printed)


def test_heterogeneity(standard):
    assert agrees_with_print(standard.Psi.to_numpy().item(), TEXT_4_1["tau2"])
    assert agrees_with_print(standard.qtest().loc["overall", "I2"], TEXT_4_1["I2"])


def test_latitude_and_its_interval(latitude):
    estimate = latitude.coef["ablat"]
    margin = Z_975 * np.sqrt(latitude.vcov.loc["ablat", "ablat"])
    interval = (estimate, estimate - margin, estimate + margin)
    for ours, printed in zip(interval, TEXT_4_1["latitude"], strict=True):
        assert agrees_with_print(ours, printed)


def test_residual_heterogeneity(latitude):
    assert agrees_with_print(latitude.Psi.to_numpy().item(), TEXT_4_1["latitude tau2"])
    assert agrees_with_print(latitude.qtest().loc["overall", "I2"], TEXT_4_1["latitude I2"])
