"""Each R call of ``r_mixmeta.json`` as a call of ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from tests.reference import R

_loaded = cache(mx.load_dataset)


def load(name):
    """A data set of one's own, which a test may change."""
    return _loaded(name).copy()


@cache
def thrombolytic() -> pd.DataFrame:
    """The data that may not be shipped, with a label for each row; skips where they are absent."""
    folder = os.environ.get("MIXMETA_JAX_DATA")
    if not folder:
        pytest.skip("MIXMETA_JAX_DATA does not name the folder with thrombolytic.csv")
    frame = pd.read_csv(Path(folder) / "thrombolytic.csv")
    return frame.assign(subtrial=np.arange(1, len(frame) + 1))


def gliomas_blocks() -> dict[int, np.ndarray]:
    """Error covariances over the times of each trial, correlation 0.61^|lag|, lag in half years."""
    blocks = {}
    for study, rows in load("gliomas").groupby("study"):
        time, sd = rows["time"].to_numpy(), np.sqrt(rows["logORvar"].to_numpy())
        correlation = 0.61 ** (np.abs(time[:, None] - time) / 6)
        blocks[study] = correlation * np.outer(sd, sd)
    return blocks


def smoking_long() -> tuple[pd.DataFrame, dict[int, np.ndarray]]:
    """A row per observed contrast with indicators of treatment and design; S by study."""
    rows, blocks = [], {}
    for trial in load("smoking").to_dict("records"):
        observed = [t for t in "BCD" if not np.isnan(trial[f"y{t}"])]
        rows += [
            {"study": trial["study"], "outcome": t, "y": trial[f"y{t}"], "design": trial["design"]}
            for t in observed
        ]
        blocks[trial["study"]] = np.array(
            [[trial["S" + "".join(sorted(a + b))] for b in observed] for a in observed]
        )
    frame = pd.DataFrame(rows)
    for treatment in "BCD":
        frame[f"y{treatment}"] = (frame["outcome"] == treatment).astype(float)
    for design in ("acd", "bc", "bcd", "bd", "cd"):
        frame[design] = (frame["design"] == design).astype(float)
    return frame, blocks


def alcohol_fitted() -> pd.DataFrame:
    """The rows without the reference dose, with R's spline basis as columns ns1, ns2, ns3."""
    frame = load("alcohol").query("dose > 0").reset_index(drop=True)
    basis = R["alcohol_ns_basis"]
    np.testing.assert_array_equal(frame["dose"], basis["dose"])
    frame[["ns1", "ns2", "ns3"]] = basis["basis"]
    return frame


def alcohol_blocks() -> dict[str, np.ndarray]:
    """R's Greenland-Longnecker covariances of each cohort."""
    return {cohort: np.array(S) for cohort, S in R["alcohol_GL"].items()}


BERKEY_S = ["var_PD", "cov_PD_AL", "var_AL"]
SMOKING_S = ["SBB", "SBC", "SBD", "SCC", "SCD", "SDD"]
DBS_S = ["var_month3", "var_month6", "var_month12", "var_long"]
# Pc of the R calls: "a correlation matrix of 0.2".
PC = np.full((3, 3), 0.2) + 0.8 * np.eye(3)
INCONSISTENCY = "y ~ 0 + yB + yC + yC:acd + yC:bc + yC:bcd + yD + yD:acd + yD:bcd + yD:bd + yD:cd"


def bcg(formula: str, method: str) -> mx.Fit:
    return mx.mixmeta(formula, S="logorvar", data=load("bcg"), method=method)


def berkey(formula: str, method: str, **arguments: object) -> mx.Fit:
    return mx.mixmeta(formula, S=BERKEY_S, data=load("berkey98"), method=method, **arguments)


def smoking(bscov: str, method: str, Psi_fix: np.ndarray | None = None) -> mx.Fit:
    return mx.mixmeta(
        "yB + yC + yD",
        S=SMOKING_S,
        data=load("smoking"),
        method=method,
        bscov=bscov,
        Psi_fix=Psi_fix,
    )


def smoking_inconsistency() -> mx.Fit:
    frame, blocks = smoking_long()
    return mx.mixmeta(
        INCONSISTENCY,
        S=blocks,
        data=frame,
        random="~ 0 + C(outcome) | study",
        bscov="prop",
        Psi_fix=np.eye(3) + 1,
    )


def school(formula: str, random: str, method: str) -> mx.Fit:
    return mx.mixmeta(formula, S="var", data=load("school"), random=random, method=method)


def risk(formula: str, random: str) -> mx.Fit:
    return mx.mixmeta(formula, S="var", data=thrombolytic(), random=random)


def gliomas(formula: str, random: str, bscov: str, blocks: bool, method: str = "reml") -> mx.Fit:
    return mx.mixmeta(
        formula,
        S=gliomas_blocks() if blocks else "logORvar",
        data=load("gliomas"),
        random=random,
        bscov=bscov,
        method=method,
    )


def p53(rho: float, method: str) -> mx.Fit:
    return mx.mixmeta("y1 + y2", S=["V1", "V2"], data=load("p53"), rho=rho, method=method)


def dbs(bscov: str, rho: float) -> mx.Fit:
    return mx.mixmeta(
        "eff_month3 + eff_month6 + eff_month12 + eff_long",
        S=DBS_S,
        data=load("dbs"),
        rho=rho,
        bscov=bscov,
    )


def alcohol(formula: str, random: str, **arguments: object) -> mx.Fit:
    return mx.mixmeta(
        formula,
        data=alcohol_fitted(),
        random=random,
        method="ml",
        **{"S": alcohol_blocks(), **arguments},
    )


ALONE, YEAR = "PD + AL", "PD + AL ~ I(pubyear - 1983)"
AT_TIMES, TIMES = "logOR ~ 0 + C(time)", "~ 0 + C(time) | study"
SLOPE = "~ I(time - 15) | study"
NESTED, SCHOOL_YEAR = "~ 1 | district/study", "effect ~ I(year - 1990)"
SPLINE = "logrr ~ 0 + ns1 + ns2 + ns3"

CALLS: dict[str, Callable[[], mx.Fit]] = {
    "bcg_fixed": lambda: bcg("logor", "fixed"),
    "bcg_ml": lambda: bcg("logor", "ml"),
    "bcg_reml": lambda: bcg("logor", "reml"),
    "bcg_ablat_fixed": lambda: bcg("logor ~ ablat", "fixed"),
    "bcg_ablat_ml": lambda: bcg("logor ~ ablat", "ml"),
    "bcg_ablat_reml": lambda: bcg("logor ~ ablat", "reml"),
    "bcg_alloc_ml": lambda: bcg("logor ~ alloc + ablat", "ml"),
    "berkey_fixed": lambda: berkey(ALONE, "fixed"),
    "berkey_ml": lambda: berkey(ALONE, "ml"),
    "berkey_reml": lambda: berkey(ALONE, "reml"),
    "berkey_pubyear_fixed": lambda: berkey(YEAR, "fixed"),
    "berkey_pubyear_ml": lambda: berkey(YEAR, "ml"),
    "berkey_pubyear_reml": lambda: berkey(YEAR, "reml"),
    "bcg_mm": lambda: bcg("logor", "mm"),
    "bcg_vc": lambda: bcg("logor", "vc"),
    "bcg_ablat_mm": lambda: bcg("logor ~ ablat", "mm"),
    "bcg_ablat_vc": lambda: bcg("logor ~ ablat", "vc"),
    "berkey_mm": lambda: berkey(ALONE, "mm"),
    "berkey_vc": lambda: berkey(ALONE, "vc"),
    "berkey_pubyear_mm": lambda: berkey(YEAR, "mm"),
    "berkey_pubyear_vc": lambda: berkey(YEAR, "vc"),
    "berkey_pubyear_vc_noadj": lambda: berkey(YEAR, "vc", control={"vc_adjust": False}),
    "smoking_mm": lambda: smoking("unstr", "mm"),
    "smoking_unstr_ml": lambda: smoking("unstr", "ml"),
    "smoking_unstr_reml": lambda: smoking("unstr", "reml"),
    "smoking_diag_ml": lambda: smoking("diag", "ml"),
    "smoking_diag_reml": lambda: smoking("diag", "reml"),
    "smoking_id_ml": lambda: smoking("id", "ml"),
    "smoking_id_reml": lambda: smoking("id", "reml"),
    "smoking_cs_ml": lambda: smoking("cs", "ml"),
    "smoking_cs_reml": lambda: smoking("cs", "reml"),
    "smoking_hcs_ml": lambda: smoking("hcs", "ml"),
    "smoking_hcs_reml": lambda: smoking("hcs", "reml"),
    "smoking_ar1_ml": lambda: smoking("ar1", "ml"),
    "smoking_ar1_reml": lambda: smoking("ar1", "reml"),
    "smoking_har1_ml": lambda: smoking("har1", "ml"),
    "smoking_har1_reml": lambda: smoking("har1", "reml"),
    "smoking_prop_reml": lambda: smoking("prop", "reml", np.eye(3) + 1),
    "smoking_cor_reml": lambda: smoking("cor", "reml", PC),
    "smoking_fixed_reml": lambda: smoking("fixed", "reml", 0.3 * PC),
    "smoking_inconsistency_reml": smoking_inconsistency,
    "school_study_ml": lambda: school("effect", "~ 1 | study", "ml"),
    "school_study_reml": lambda: school("effect", "~ 1 | study", "reml"),
    "school_district_ml": lambda: school("effect", "~ 1 | district", "ml"),
    "school_district_reml": lambda: school("effect", "~ 1 | district", "reml"),
    "school_district_study_ml": lambda: school("effect", NESTED, "ml"),
    "school_district_study_reml": lambda: school("effect", NESTED, "reml"),
    "school_year_district_study_ml": lambda: school(SCHOOL_YEAR, NESTED, "ml"),
    "school_year_district_study_reml": lambda: school(SCHOOL_YEAR, NESTED, "reml"),
    "thrombolytic_subtrial_reml": lambda: risk("absrisk", "~ 1 | subtrial"),
    "thrombolytic_trial_subtrial_reml": lambda: risk("absrisk", "~ 1 | trial/subtrial"),
    "thrombolytic_time_trial_subtrial_reml": lambda: risk(
        "absrisk ~ time2treat", "~ 1 | trial/subtrial"
    ),
    "gliomas_M1_reml": lambda: gliomas(AT_TIMES, TIMES, "diag", blocks=False),
    "gliomas_M2_reml": lambda: gliomas(AT_TIMES, "~ 1 | study", "unstr", blocks=False),
    "gliomas_M3_reml": lambda: gliomas(AT_TIMES, TIMES, "har1", blocks=False),
    "gliomas_M3ar1_reml": lambda: gliomas(AT_TIMES, TIMES, "ar1", blocks=False),
    "gliomas_M4_reml": lambda: gliomas(AT_TIMES, TIMES, "diag", blocks=True),
    "gliomas_M5_reml": lambda: gliomas(AT_TIMES, TIMES, "har1", blocks=True),
    "gliomas_M6_reml": lambda: gliomas(AT_TIMES, TIMES, "unstr", blocks=True),
    "gliomas_M4_ml": lambda: gliomas(AT_TIMES, TIMES, "diag", blocks=True, method="ml"),
    "gliomas_M7_ml": lambda: gliomas("logOR ~ time", SLOPE, "diag", blocks=True, method="ml"),
    "gliomas_slope_unstr_reml": lambda: gliomas("logOR ~ time", SLOPE, "unstr", blocks=False),
    "p53_rho05_reml": lambda: p53(0.5, "reml"),
    "p53_rho095_ml": lambda: p53(0.95, "ml"),
    "dbs_diag_reml": lambda: dbs("diag", 0.97),
    "dbs_har1_reml": lambda: dbs("har1", 0.5),
    "alcohol_L1_ml": lambda: alcohol(
        "logrr ~ 0 + dose", "~ 0 + dose | id", S=alcohol_fitted()["se"] ** 2
    ),
    "alcohol_L2_ml": lambda: alcohol("logrr ~ 0 + dose", "~ 0 + dose | id"),
    "alcohol_NL1_ml": lambda: alcohol(SPLINE, "~ 0 + ns1 + ns2 + ns3 | id"),
    "alcohol_NL2_ml": lambda: alcohol(SPLINE, "~ 0 + dose | id"),
    "alcohol_NL3_ml": lambda: alcohol(SPLINE, "~ 1 | id", bscov="fixed", Psi_fix=np.zeros((1, 1))),
}


@cache
def fit(name: str) -> mx.Fit:
    """Our fit of an entry of ``r_mixmeta.json``, made once a session."""
    return CALLS[name]()
