"""Effect sizes: figures of metafor, closed covariances of shared controls, refused figures.

The reference figures are those of R 4.2.2 with metafor 3.8-1, ``escalc(measure, ...)`` with its
defaults (0.5 is added to all cells of a table with an empty one), printed with 15 digits.
"""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.prepare.measures import KINDS

# What two formulas for the same figure, and 15 printed digits, leave.
AGREE = 1e-12

COUNTS = pd.DataFrame(
    {
        "ai": [4, 6, 0, 62, 11],
        "n1i": [123, 306, 40, 13598, 50],
        "ci": [11, 29, 3, 248, 50],
        "n2i": [139, 303, 40, 12867, 50],
        "t1i": [100.5, 200, 50, 1000, 40],
        "t2i": [90.0, 210, 55, 990, 45],
    }
)
MEANS = pd.DataFrame(
    {
        "m1i": [103.2, 95.1, 12],
        "sd1i": [10.1, 9, 3],
        "n1i": [20, 35, 8],
        "m2i": [100, 96.3, 10],
        "sd2i": [9.5, 11, 2.5],
        "n2i": [22, 30, 9],
        "ri": [0.6, 0.3, 0.8],
    }
)
TWO_ARMS = {"events": "ai", "total": "n1i", "control_events": "ci", "control_total": "n2i"}
TWO_RATES = {"events": "ai", "time": "t1i", "control_events": "ci", "control_time": "t2i"}
TWO_MEANS = {
    "mean": "m1i",
    "sd": "sd1i",
    "n": "n1i",
    "control_mean": "m2i",
    "control_sd": "sd2i",
    "control_n": "n2i",
}
CHANGE = {
    "mean": "m1i",
    "sd": "sd1i",
    "mean_before": "m2i",
    "sd_before": "sd2i",
    "n": "n1i",
    "r": "ri",
}
PROPORTION = {"events": "ai", "total": "n1i"}

METAFOR = {
    "logor": (
        [
            -0.938694140870392,
            -1.666190729026550,
            -2.022871190191441,
            -1.456443549312985,
            -5.849074153379135,
        ],
        [
            0.3571249522536287,
            0.2081323936571860,
            2.3370723104056439,
            0.0203144129731974,
            2.1320749576333529,
        ],
    ),
    "logrr": (
        [
            -0.889311333920205,
            -1.585388657201431,
            -1.945910149055313,
            -1.441551190021305,
            -1.479626300912110,
        ],
        [
            0.3255847650039613,
            0.1945811213981438,
            2.2369337979094075,
            0.0200100319022476,
            0.0675428156626404,
        ],
    ),
    "rd": (
        [
            -0.0466163654442300,
            -0.0761017278198408,
            -0.0731707317073171,
            -0.0147146180263938,
            -0.7647058823529412,
        ],
        [
            7.80068664855938e-04,
            3.48462574726583e-04,
            2.19816891803659e-03,
            1.80285493533638e-06,
            3.61474847532246e-03,
        ],
    ),
    "peto": (
        [
            -0.860383347316419,
            -1.402605224654459,
            -1.557692307692308,
            -1.271042173597490,
            -3.176612903225807,
        ],
        [
            0.2828361819283587,
            0.1210581890326766,
            1.0384615384615385,
            0.0130656352078063,
            0.1629032258064516,
        ],
    ),
    "logirr": (
        [
            -1.12194896884735,
            -1.52674619658899,
            -1.85059996925099,
            -1.39634469697339,
            -1.39634469697339,
        ],
        [
            0.3409090909090909,
            0.2011494252873563,
            2.2857142857142856,
            0.0201612903225806,
            0.1109090909090909,
        ],
    ),
    "logit": (
        [
            -3.39282913199164,
            -3.91202300542815,
            -4.39444915467244,
            -5.38597369680091,
            -1.26566637333128,
        ],
        [
            0.2584033613445378,
            0.1700000000000000,
            2.0246913580246915,
            0.0162029093266224,
            0.1165501165501165,
        ],
    ),
    "arcsine": (
        [
            0.1813259334541121,
            0.1404897017535204,
            0.0,
            0.0675754438079349,
            0.4882052633969172,
        ],
        [
            2.03252032520325e-03,
            8.16993464052288e-04,
            6.25000000000000e-03,
            1.83850566259744e-05,
            5.00000000000000e-03,
        ],
    ),
    "md": ([3.2, -1.2, 2.0], [9.20277272727273, 6.34761904761905, 1.81944444444444]),
    "smd": (
        [0.320703952624776, -0.118914488853568, 0.691522138111224],
        [0.0966789624215592, 0.0620135361790643, 0.2501759013316381],
    ),
    "rom": (
        [0.0314986670593710, -0.0125393492527353, 0.1823215567939546],
        [0.000889136668196295, 0.000690813712582938, 0.014756944444444444],
    ),
    "smcc": (
        [0.3497817478425744, -0.0982538072660184, 0.9853726543477885],
        [0.0530586817780952, 0.0287093401520324, 0.1856849542460254],
    ),
    "z": (
        [0.693147180559945, 0.309519604203112, 1.098612288668110],
        [0.0588235294117647, 0.0312500000000000, 0.2000000000000000],
    ),
}
"""{kind: (yi, vi)}."""

CODES = {
    "logor": "OR",
    "logrr": "RR",
    "rd": "RD",
    "peto": "PETO",
    "logirr": "IRR",
    "md": "MD",
    "smd": "SMD",
    "rom": "ROM",
    "smcc": "SMCC",
    "z": "ZCOR",
    "logit": "PLO",
    "arcsine": "PAS",
}


def given(kind):
    """Data and columns for a kind."""
    if kind in ("logor", "logrr", "rd", "peto"):
        return COUNTS, TWO_ARMS
    if kind == "logirr":
        return COUNTS, TWO_RATES
    if kind in ("logit", "arcsine"):
        return COUNTS, PROPORTION
    if kind in ("md", "smd", "rom"):
        return MEANS, TWO_MEANS
    return MEANS, CHANGE if kind == "smcc" else {"r": "ri", "n": "n1i"}


@pytest.mark.parametrize("kind", METAFOR)
def test_effects_are_those_of_metafor(kind):
    data, columns = given(kind)
    found = mx.effect_sizes(kind, data, **columns)
    effect, variance = METAFOR[kind]
    np.testing.assert_allclose(found["effect"], effect, rtol=AGREE, atol=1e-15)
    np.testing.assert_allclose(found["variance"], variance, rtol=AGREE)
    pd.testing.assert_frame_equal(found[data.columns], data)
    pd.testing.assert_frame_equal(mx.effect_sizes(CODES[kind], data, **columns), found)


def test_every_kind_is_compared():
    assert set(KINDS) == set(METAFOR)


def test_the_log_odds_ratios_of_the_bcg_trials():
    bcg = mx.load_dataset("bcg")
    columns = {
        "events": "tpos",
        "total": "n_treated",
        "control_events": "cpos",
        "control_total": "n_control",
    }
    table = bcg.assign(n_treated=bcg.tpos + bcg.tneg, n_control=bcg.cpos + bcg.cneg)
    found = mx.effect_sizes("logor", table, **columns)
    np.testing.assert_allclose(found["effect"], bcg["logor"], rtol=1e-9)
    np.testing.assert_allclose(found["variance"], bcg["logorvar"], rtol=1e-9)


ARMS = pd.DataFrame(
    {
        "s": ["p", "p", "q"],
        "m1i": [5.0, 6, 4],
        "sd1i": [2.0, 2, 2],
        "n1i": [20, 30, 25],
        "m2i": [4.0, 4, 3],
        "sd2i": [2.0, 2, 2],
        "n2i": [25, 25, 30],
    },
    index=["a", "b", "c"],
)


def test_mean_differences_that_share_a_control_are_those_of_vcalc():
    """metafor 3.8-1: vcalc(vi, cluster=s, grp1=arm, grp2="C", w1=n1i, w2=n2i)."""
    frame, S = mx.effect_sizes("md", ARMS, study="s", **TWO_MEANS)
    assert list(S) == ["p", "q"] and list(S["p"].index) == list(S["p"].columns) == ["a", "b"]
    np.testing.assert_allclose(S["p"], [[0.36, 0.16], [0.16, 0.293333333333333]], rtol=AGREE)
    np.testing.assert_allclose(S["q"], [[0.293333333333333]], rtol=AGREE)
    fit = mx.mixmeta("effect", S=S, data=frame, random="~ 1 | s", method="fixed")
    assert np.isfinite(fit.coef).all()


def test_standardised_differences_share_their_control_as_gleser_and_olkin_have_it():
    frame, S = mx.effect_sizes("smd", ARMS, study="s", **TWO_MEANS)
    g = frame["effect"]
    np.testing.assert_allclose(
        S["p"].loc["a", "b"], 1 / 25 + g["a"] * g["b"] / (2 * 75), rtol=AGREE
    )
    assert S["p"].loc["a", "a"] == frame.loc["a", "variance"]


@pytest.mark.parametrize("kind", ["logor", "logrr", "rd", "logirr", "md", "rom"])
def test_shared_controls_are_what_the_effects_vary_together(kind):
    """The delta method: the covariance through the control arm alone, by simulated figures."""
    rng = np.random.default_rng(7)
    B = 200_000
    if kind in ("md", "rom"):
        columns, n = TWO_MEANS, 40
        base = {"sd1i": 2.0, "n1i": n, "sd2i": 2.0, "n2i": n}
        control = rng.normal(20, 2 / np.sqrt(n), B)
        tables = [
            pd.DataFrame({"m1i": rng.normal(m, 2 / np.sqrt(n), B), "m2i": control, **base})
            for m in (21, 24)
        ]
        exact = pd.DataFrame({"s": 1, "m1i": [21.0, 24], "m2i": 20.0, **base})
    else:
        columns, n = (TWO_RATES if kind == "logirr" else TWO_ARMS), 2000
        base = {"n1i": n, "n2i": n, "t1i": 1.0, "t2i": 1.0}
        draw = (
            (lambda p: rng.poisson(n * p, B))
            if kind == "logirr"
            else (lambda p: rng.binomial(n, p, B))
        )
        control = draw(0.3)
        tables = [pd.DataFrame({"ai": draw(p), "ci": control, **base}) for p in (0.35, 0.4)]
        exact = pd.DataFrame({"s": 1, "ai": [0.35 * n, 0.4 * n], "ci": 0.3 * n, **base})
    effects = [mx.effect_sizes(kind, table, **columns)["effect"] for table in tables]
    _, S = mx.effect_sizes(kind, exact, study="s", **columns)
    # Four Monte Carlo standard errors of a covariance, about v / sqrt(B), and the delta method.
    v = float(np.sqrt(S[1].iloc[0, 0] * S[1].iloc[1, 1]))
    assert abs(np.cov(*effects)[0, 1] - S[1].iloc[0, 1]) < 4 * v / np.sqrt(B) + 0.01 * v


def test_blocks_of_shared_controls_are_positive_definite_with_corrected_cells():
    table = COUNTS.assign(s="one", ci=3, n2i=40)
    _, S = mx.effect_sizes("logor", table, study="s", **TWO_ARMS)
    assert np.linalg.eigvalsh(S["one"].to_numpy())[0] > 0


def test_missing_figures_have_no_effect_and_keep_their_row():
    table = ARMS.assign(sd1i=[2.0, np.nan, 2.0])
    frame, S = mx.effect_sizes("md", table, study="s", **TWO_MEANS)
    assert np.isnan(frame.loc["b", ["effect", "variance"]].to_numpy(float)).all()
    assert list(S["p"].index) == ["a"]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("logor", {"ai": [4, -1, 0, 62, 11]}, "events is negative in row 1: -1"),
        ("logor", {"ai": [4, 400, 0, 62, 11]}, "Row 1 has 400 events among 306"),
        ("logor", {"ci": [4, 4, 4, 4, 51]}, "Row 4 has 51 control_events among 50"),
        ("logor", {"n1i": [123, 306, 0, 13598, 50]}, "total must be above 0 in row 2"),
        ("logirr", {"t2i": [90.0, -1, 55, 990, 45]}, "control_time must be above 0 in row 1"),
        ("md", {"sd1i": [10.1, -9, 3]}, "sd is negative in row 1"),
        ("md", {"n1i": [20, 35, 1]}, "n must be at least 2 in row 2: 1"),
        ("smd", {"sd1i": 0.0, "sd2i": 0.0}, "row 0 is not finite: the standard deviations are 0"),
        ("rom", {"m1i": [103.2, -5, 12]}, "row 1 is not finite: the means"),
        ("smcc", {"ri": [0.6, 1.0, 0.8]}, "r must lie between -1 and 1 in row 1: 1"),
        ("z", {"ri": [0.6, -1.0, 0.8]}, "r must lie between -1 and 1 in row 1: -1"),
        ("z", {"n1i": [20, 3, 8]}, "n must be at least 4 in row 1: 3"),
        ("logit", {"ai": ["a", 6, 0, 62, 11]}, "holds 'a' in row 0"),
    ],
)
def test_figures_that_cannot_be_name_their_row(kind, change, message):
    data, columns = given(kind)
    with pytest.raises(mx.InputError, match=message):
        mx.effect_sizes(kind, data.assign(**change), **columns)


@pytest.mark.parametrize(("kind", "n"), [("md", 2), ("smcc", 3), ("z", 4)])
def test_the_smallest_group_has_an_effect(kind, n):
    data, columns = given(kind)
    found = mx.effect_sizes(kind, data.assign(n1i=n), **columns)
    assert np.isfinite(found["variance"]).all() and (found["variance"] > 0).all()


def test_wrong_arguments_are_told():
    for call, message in (
        (lambda: mx.effect_sizes("odds", COUNTS, **TWO_ARMS), "not an effect size"),
        (lambda: mx.effect_sizes(None, COUNTS, **TWO_ARMS), "not an effect size"),
        (lambda: mx.effect_sizes("logor", COUNTS, **PROPORTION), "needs the column of 'control_e"),
        (lambda: mx.effect_sizes("logit", COUNTS, **TWO_ARMS), "takes no argument 'control_e"),
        (lambda: mx.effect_sizes("logit", COUNTS, events="x", total="n1i"), "no column 'x'"),
        (lambda: mx.effect_sizes("logor", COUNTS, zero_cell=-1, **TWO_ARMS), "zero_cell"),
        (lambda: mx.effect_sizes("logor", COUNTS, zero_cell=0, **TWO_ARMS), "row 2 is not finite"),
        (lambda: mx.effect_sizes("logor", COUNTS.assign(effect=1), **TWO_ARMS), "rename it"),
        (lambda: mx.effect_sizes("z", MEANS, study="m1i", r="ri", n="n1i"), "leave out study"),
        (
            lambda: mx.effect_sizes("logor", COUNTS.assign(s=1), study="s", **TWO_ARMS),
            "of s 1 are to share their control arm, but differ in control_events",
        ),
        (
            lambda: mx.effect_sizes("md", ARMS.assign(s=[1, np.nan, 2]), study="s", **TWO_MEANS),
            "Row 'b' has no label in column 's'",
        ),
        (
            lambda: mx.effect_sizes("md", ARMS.set_index("s", drop=False), study="s", **TWO_MEANS),
            "occurs more than once",
        ),
    ):
        with pytest.raises(mx.InputError, match=message):
            call()
