"""The page of differences from R: each of our figures pinned, and quoted on the page.

R's figures are R mixmeta 1.2.1's: of tests/reference where an entry is named, else of the list of
known differences that came with the model's specification, with the call on the page.
"""

import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

import mixmeta_jax as mx
from mixmeta_jax.control import Control
from tests.reference import EXTRA, R
from tests.reference.calls import fit, gliomas_blocks, load
from tests.reference.published import TABLE_1, TABLE_3

PAGE = (Path(__file__).parent / "R_DIFFERENCES.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| (.+?) \| (\S+) \| (\S+) \|$", PAGE, re.MULTILINE)


def quoted(number, what):
    """R's figure and ours in the one row of the page's table that is on ``what``."""
    found = [(r, here) for n, text, r, here in ROWS if n == str(number) and what in text]
    assert len(found) == 1, found
    return found[0]


def decimals(text):
    return len(text.partition(".")[2])


def assert_quoted(number, what, theirs, ours):
    """That the page gives these two figures, to the digits it gives."""
    r, here = quoted(number, what)
    for text, value in ((r, theirs), (here, ours)):
        if isinstance(value, str):
            assert text == value
        else:
            assert f"{value:.{decimals(text)}f}" == text


def test_every_row_has_its_section():
    sections = set(re.findall(r"^## (\d+)\.", PAGE, re.MULTILINE))
    # The last is a table of its own.
    assert {n for n, *_ in ROWS} == sections - {"17"}


def test_1_blup_of_an_outer_level():
    school, ours = load("school"), fit("school_district_study_reml")
    in_11 = school["district"] == 11
    blup = ours.blup(level="district")["blup"][in_11]
    # R metafor's random effect of the district, beside the mean.
    metafor = EXTRA["school"]["ranef_district"]["pred"][0]
    mean = ours.coef["(Intercept)"]
    np.testing.assert_allclose(blup - mean, metafor, rtol=0, atol=1e-6)
    # R's: the same with the variance between studies left out of the marginal covariance.
    variance = ours.Psi["district"].to_numpy().item()
    Sigma = np.diag(school.loc[in_11, "var"]) + variance
    weights = np.linalg.solve(Sigma, np.full(in_11.sum(), variance))
    theirs = mean + weights @ (school.loc[in_11, "effect"] - mean)
    assert_quoted(1, "district 11", theirs, blup.iloc[0])


def test_2_q_of_an_outcome_that_is_missing_somewhere():
    ours = fit("p53_rho05_reml")
    residuals = ours.fixed_fit.residuals[:, 0]
    variances = load("p53")["V1"].to_numpy()
    assert np.isnan(residuals).any()
    Q = np.nansum(residuals**2 / variances)
    assert ours.qtest().loc["y1", "Q"] == pytest.approx(Q, rel=1e-10)
    assert_quoted(2, "p53", "NA", Q)


def test_2_q_of_an_outcome_with_blocks():
    ours = fit("gliomas_M4_reml")
    variances = ours.frame.within.blocks
    diagonal = np.concatenate([np.diag(matrix) for _, matrix in variances])
    rows = np.concatenate([rows for rows, _ in variances])
    Q = np.sum(ours.fixed_fit.residuals[rows, 0] ** 2 / diagonal)
    assert ours.qtest().loc["logOR", "Q"] == pytest.approx(Q, rel=1e-10)
    assert_quoted(2, "with blocks", "0", Q)


def test_3_q_with_an_offset():
    bcg, offset = load("bcg"), np.arange(1, 14) / 10
    ours = mx.mixmeta("logor", S="logorvar", data=bcg, offset=offset).qtest()
    y, w = bcg["logor"] - offset, 1 / bcg["logorvar"]
    Q = np.sum(w * (y - np.sum(w * y) / np.sum(w)) ** 2)
    assert ours.loc["overall", "Q"] == pytest.approx(Q, rel=1e-10)
    assert_quoted(3, "offset", R["bcg_reml"]["Q"], Q)


def test_4_structures_by_name():
    slopes = {"district": "~ I(year - 1990)", "study": "~ 1"}
    school = {"formula": "effect ~ I(year - 1990)", "S": "var", "data": load("school")}
    ours = mx.mixmeta(**school, random=slopes, bscov={"study": "id", "district": "diag"})
    assert ours.bscov == {"district": "diag", "study": "id"}
    assert ours.Psi["district"].to_numpy()[0, 1] == 0
    in_order = mx.mixmeta(**school, random=slopes, bscov=["diag", "id"])
    assert ours.loglik == in_order.loglik
    default = mx.mixmeta(**school, random=slopes)
    assert_quoted(4, "school with slopes", str(default.df.random), str(ours.df.random))


def test_5_blocks_by_label():
    gliomas, whole = load("gliomas"), gliomas_blocks()
    complete = [s for s, rows in gliomas.groupby("study") if rows["logOR"].notna().all()][:12]
    data = gliomas[gliomas["study"].isin(complete)].assign(study=np.repeat(range(1, 13), 4))
    blocks = dict(zip(range(1, 13), (whole[s] for s in complete), strict=True))

    def loglik(S):
        random = "~ 0 + C(time) | study"
        return mx.mixmeta("logOR ~ 0 + C(time)", S=S, data=data, random=random, bscov="diag").loglik

    ours = loglik(blocks)
    assert loglik(dict(reversed(blocks.items()))) == ours
    as_text = sorted(blocks, key=str)
    assert as_text[:3] == [1, 10, 11]
    exchanged = dict(zip(blocks, (blocks[label] for label in as_text), strict=True))
    assert_quoted(5, "blocks", loglik(exchanged), ours)


def test_6_parameters_of_moment_estimates():
    ours = fit("smoking_mm")
    assert_quoted(6, "parameters", str(R["smoking_mm"]["df"]["random"]), str(ours.df.random))
    assert np.isnan(ours.loglik) and R["smoking_mm"]["logLik"] is None


def test_6_clipped_eigenvalues():
    theirs = np.linalg.eigvalsh(np.array(R["smoking_mm"]["Psi"][0]))[0]
    ours = np.linalg.eigvalsh(fit("smoking_mm").Psi)[0]
    assert quoted(6, "eigenvalue") == (f"{theirs:.1e}".replace("e-0", "e-"), "0")
    assert abs(ours) < 1e-15
    assert fit("smoking_mm").status is mx.Status.BOUNDARY


def test_7_where_the_iterations_stop():
    ours, theirs = fit("gliomas_M3_reml"), R["gliomas_M3_reml"]["logLik"]
    assert_quoted(7, "Model 3", theirs, ours.loglik)
    assert ours.status is mx.Status.BOUNDARY and ours.converged
    assert ours.loglik > theirs


def test_8_what_the_paper_prints():
    assert_quoted(8, "Model 2", "117.0", fit("gliomas_M2_reml").aic)
    assert R["gliomas_M2_reml"]["AIC"] == pytest.approx(117.99, abs=0.005)


def test_8_a_p_value_of_the_paper():
    name, (estimate, se, printed) = "yC", TABLE_1["yC"]
    ours = fit("smoking_prop_reml")
    z = ours.coef[name] / np.sqrt(ours.vcov.loc[name, name])
    pvalue = 2 * norm.sf(z)
    assert_quoted(8, "p-value of C", printed, pvalue)
    # By the paper's own figures, rounded as they are.
    assert 2 * norm.sf(float(estimate) / float(se)) == pytest.approx(pvalue, abs=5e-6)


@pytest.mark.parametrize(
    ("level", "group", "what"),
    [("trial", "trials", "of the trials"), ("subtrial", "times", "strata")],
)
def test_8_deviations_of_the_paper(thrombolytic, level, group, what):
    ours = mx.mixmeta(
        "absrisk ~ time2treat", S="var", data=thrombolytic, random="~ 1 | trial/subtrial"
    )
    deviation = np.sqrt(ours.Psi[level].to_numpy().item())
    assert_quoted(8, what, TABLE_3["two-level, delay"][group], deviation)


def test_8_a_sum_of_outcomes_is_several():
    names = ["y1", "y2"]
    for formula in ("y1 + y2", "cbind(y1, y2)", "cbind(y1 + y2)"):
        ours = mx.mixmeta(formula, S=["V1", "V2"], data=load("p53"), rho=0.5, method="fixed")
        assert list(ours.coef.index) == names


def test_9_fitted_values_of_missing_outcomes():
    p53, ours = load("p53"), fit("p53_rho05_reml")
    assert np.isnan(p53["y1"][1])
    assert ours.fitted["y1"][1] == ours.coef["y1"]
    assert_quoted(9, "fitted", "NA", ours.fitted["y1"][1])


def test_9_groups_are_nested_by_value():
    data = pd.DataFrame(
        {
            "outer": ["b", "b", "b-c", "b-c"] * 2,
            "inner": ["c-d", "e", "d", "e"] * 2,
            "y": [0.1, 0.5, 0.2, 0.9, 0.3, 0.4, 0.8, 0.6],
            "v": 0.1,
        }
    )
    ours = mx.mixmeta("y", S="v", data=data, random="~ 1 | outer/inner")
    expected = [("b", "c-d"), ("b", "e"), ("b-c", "d"), ("b-c", "e")]
    assert list(ours.ranef("inner").index) == expected


def test_10_blups_of_an_outcome_without_its_value():
    berkey, names = load("berkey98"), ["var_PD", "cov_PD_AL", "var_AL"]
    S = mx.xpnd(berkey[names])
    berkey.loc[0, "PD"] = np.nan
    ours = mx.mixmeta("PD + AL", S=names, data=berkey)
    beta, Psi = ours.coef.to_numpy(), ours.Psi.to_numpy()
    own = beta[0] + Psi[0, 1] / (Psi[1, 1] + S[0, 1, 1]) * (berkey.loc[0, "AL"] - beta[1])
    assert ours.blup().loc[0, "PD"] == pytest.approx(own, rel=1e-10)
    counted = np.array([0.0, berkey.loc[0, "AL"]]) - beta
    theirs = beta + Psi @ np.linalg.solve(Psi + S[0], counted)
    assert_quoted(10, "BLUP of `PD`", theirs[0], own)
    # Without its S, as R has it too.
    berkey.loc[0, ["var_PD", "cov_PD_AL"]] = np.nan
    assert mx.mixmeta("PD + AL", S=names, data=berkey).blup().loc[0, "PD"] == pytest.approx(own)


def test_11_variance_components_cut_short():
    bcg = load("bcg")
    ours = mx.mixmeta("logor", S="logorvar", data=bcg, method="vc", control={"max_iter": 1})
    assert ours.status is mx.Status.MAX_ITER
    w = 1 / (bcg["logorvar"] + ours.Psi.iloc[0, 0])
    assert ours.coef.iloc[0] == pytest.approx((w @ bcg["logor"]) / w.sum(), rel=1e-12)
    assert_quoted(11, "max_iter=1", fit("bcg_fixed").coef.iloc[0], ours.coef.iloc[0])
    whole = mx.mixmeta("logor", S="logorvar", data=bcg, method="vc")
    assert whole.coef.iloc[0] == pytest.approx(R["bcg_vc"]["coef"]["(Intercept)"], abs=1e-6)


def test_12_ordered_factors():
    bcg = load("bcg")
    eras = pd.cut(bcg["year"], [0, 1955, 1970, 1999], labels=["early", "mid", "late"])
    assert eras.cat.ordered
    call = {"S": "logorvar", "data": bcg.assign(era=eras), "method": "ml"}
    ours = mx.mixmeta("logor ~ era", **call)
    polynomial = mx.mixmeta("logor ~ C(era, contr.poly)", **call)
    assert list(ours.coef.index[1:]) == ["era[T.mid]", "era[T.late]"]
    assert [name[-3:] for name in polynomial.coef.index[1:]] == [".L]", ".Q]"]
    assert ours.loglik == pytest.approx(polynomial.loglik, abs=1e-10)
    assert_quoted(12, "ordered factor", polynomial.coef.iloc[0], ours.coef.iloc[0])


def test_13_covariances_of_cumulative_incidence():
    table = pd.DataFrame(
        {
            "cases": [165.0, 74, 90, 122],
            "n": [337.0, 167, 186, 212],
            "logrr": [0, -0.21, -0.17, 0.41],
            "se": [np.nan, 0.21, 0.2, 0.18],
        }
    ).assign(study="a", type="ci")
    columns = {name: name for name in ("study", "logrr", "se", "cases", "n", "type")}
    ours = mx.greenland_longnecker(table, **columns)["a"]
    n, total = table["n"].to_numpy(), table["cases"].sum()
    ratio = np.exp(table["logrr"].to_numpy())

    def correlation(counts):
        u = 1 / counts - 1 / n
        return u[0] / np.sqrt((u[1] + u[0]) * (u[2] + u[0]))

    # In closed form: risks in the reported ratios, with the reported sum of cases.
    by_risk = total * n * ratio / (n * ratio).sum()
    found = ours[0, 1] / np.sqrt(ours[0, 0] * ours[1, 1])
    assert found == pytest.approx(correlation(by_risk), rel=1e-12)

    def by_odds(log_odds):
        odds = ratio * np.exp(log_odds)
        return n * odds / (1 + odds)

    root = brentq(lambda log_odds: by_odds(log_odds).sum() - total, -9, 9, xtol=1e-14)
    assert_quoted(13, "cumulative incidence", correlation(by_odds(root)), found)


def test_14_fewer_groups_than_effects():
    """R mixmeta 1.2.1: mixmeta(Y, S) on these five groups, restricted log-likelihood 0.249038."""
    rng = np.random.default_rng(13)
    S = np.array([np.cov(rng.normal(size=(12, 6)).T) * 0.05 for _ in range(5)])
    ours = mx.pool((rng.normal(0, 0.3, (5, 6)), S))
    assert ours.status is mx.Status.BOUNDARY
    assert np.linalg.matrix_rank(ours.Psi, tol=1e-6) == 3
    assert_quoted(14, "six effects", 0.249038, ours.loglik)


def test_15_a_study_without_error():
    """R mixmeta 1.2.1 and metafor 3.8-1: restricted log-likelihood -0.578384."""
    y, v = [0.1, 0.5, 0.3, 0.9, 0.2, 0.4], [0, 0.02, 0.03, 0.05, 0.01, 0.04]
    ours = mx.mixmeta(y, S=v)
    assert_quoted(15, "without error", -0.578384, ours.loglik)
    assert ours.qtest()["Q"].isna().all()
    with pytest.raises(mx.InputError, match="use 'ml' or 'reml'"):
        ours.update(method="fixed")


def test_16_lower_maxima():
    """R metafor 3.8-1, rma.mv by ML: tau 0.115895, log-likelihood -6.63892603."""
    ours = mx.mixmeta("logor ~ ablat + year + alloc", "logorvar", load("bcg"), method="ml")
    assert_quoted(16, "rma.mv", 0.115895, np.sqrt(ours.Psi.iloc[0, 0]))
    assert f"{ours.loglik:.4f}" in PAGE and f"{-6.63892603:.4f}" in PAGE
    assert ours.loglik > -6.6389 and ours.status is mx.Status.BOUNDARY


def test_17_names_of_settings():
    ours = re.findall(r"^\| `control = list\([\w.]+ = \)` \| `(.+?)` \|$", PAGE, re.MULTILINE)
    assert len(ours) == 8
    settings = {f.name for f in dataclasses.fields(Control)}
    arguments = set(inspect.signature(mx.mixmeta).parameters)
    for name in ours:
        inside = re.fullmatch(r'control=\{"(\w+)": \}', name)
        assert inside[1] in settings if inside else name.partition("=")[0] in arguments
