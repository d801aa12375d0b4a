"""Degrees of freedom by containment, beside those of R metafor."""

import numpy as np
import pytest

import mixmeta_jax as mx
from tests.models import NUMPY, fitted
from tests.reference import SMALL_SAMPLE as R


def school(formula, random="~ 1 | district/study", **arguments):
    data = mx.load_dataset("school").assign(
        decade=lambda d: (d["year"] - 1990) / 10,
        w=lambda d: d["district"] % 3,
        region=lambda d: d["district"] % 7,
        r=lambda d: np.array([-1, 0, 2, 1, 3, -2, 1])[d["district"] % 7],
    )
    return mx.mixmeta(formula, "var", data, random=random, control=NUMPY, **arguments)


def test_containment_agrees_with_metafor():
    fit = school("effect")
    interval = fit.confint(test="t", df="contain").loc["(Intercept)"]
    assert interval["df"] == R["contain"]["ddf"] == 10
    np.testing.assert_allclose(interval[["lower", "upper"]], R["contain"]["ci"], atol=1e-6)


@pytest.mark.parametrize(
    ("entry", "formula", "random", "constant"),
    [
        ("two", "effect ~ w + decade", "~ 1 | district/study", 2),
        ("three", "effect ~ r + decade", "~ 1 | region/district/study", 2),
    ],
)
def test_the_groups_are_those_of_metafor_but_not_what_is_subtracted(
    entry, formula, random, constant
):
    """Metafor subtracts all three coefficients, we the two that are constant within the groups."""
    own = school(formula, random).confint(test="t", df="contain")["df"].to_numpy()
    theirs = np.array(R["contain_mods"][entry])
    assert own.tolist() == (theirs + [3 - constant, 3 - constant, 0]).tolist()
    # Those of the outermost level: a coefficient of the groups compares these.
    groups = {"two": 11, "three": 7}[entry]
    assert own[:2].tolist() == [groups - constant] * 2 and own[2] == 56 - 3


def test_containment_of_each_coefficient():
    fit, _ = fitted("two levels")  # x varies within groups, w between 7 of them, u is the row
    n = fit.frame.n
    expected = {"(Intercept)": 7 - 2, "x": n - 3, "w": 7 - 2}
    assert fit.confint(test="t", df="contain")["df"].to_dict() == expected
    # Within the groups of every level: what residuals leave.
    slope, _ = fitted("random slope")
    assert slope.confint(test="t", df="contain")["df"].to_dict() == {
        "(Intercept)": 9 - 1,
        "x": slope.frame.n - 2,
    }
    # Of an outcome that fewer groups report, those are counted.
    berkey = mx.load_dataset("berkey98")
    berkey.loc[0, "AL"] = np.nan
    two = mx.mixmeta("PD + AL", ["var_PD", "cov_PD_AL", "var_AL"], berkey, control=NUMPY)
    assert two.confint(test="t", df="contain")["df"].to_dict() == {"PD": 4, "AL": 3}
    # A combination has the smallest of those it is made of.
    assert fit.wald_test([[0, 1, 1]], test="t", df="contain").df_residual == 5
    assert fit.wald_test("x", test="t", df="contain").df_residual == n - 3


def test_no_degrees_of_freedom_by_containment():
    data = mx.load_dataset("school").assign(
        a=lambda d: d["district"] % 3, b=lambda d: d["district"] % 5
    )
    three = data[data["district"].isin(data["district"].unique()[:3])]
    fit = mx.mixmeta(
        "effect ~ a + b",
        "var",
        three,
        random="~ 1 | district/study",
        bscov={"district": "fixed"},
        Psi_fix={"district": [[0.05]]},
        control=NUMPY,
    )
    with pytest.raises(mx.InputError, match="0 degrees of freedom by containment"):
        fit.confint(test="t", df="contain")
