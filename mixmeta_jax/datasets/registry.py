"""What each data set holds: its source, and every column with its unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DATASETS", "Dataset"]


@dataclass(frozen=True)
class Dataset:
    """The description of a data set.

    Attributes
    ----------
    name : str
        The name that ``load_dataset`` takes.
    title : str
        What was studied, in one sentence.
    source : str
        The original publication, and the one that the values were taken from if it is another.
    columns : Mapping of str to str
        Meaning and unit of each column, in the order of the data.
    """

    name: str
    title: str
    source: str
    columns: Mapping[str, str]

    def __str__(self) -> str:
        """The description as text."""
        width = max(map(len, self.columns))
        columns = "\n".join(f"  {key:<{width}}  {text}" for key, text in self.columns.items())
        return f"{self.name}: {self.title}\n\nSource: {self.source}\n\nColumns\n{columns}"


_ALL = (
    Dataset(
        "alcohol",
        "Alcohol intake and colorectal cancer in eight cohort studies, six doses in each.",
        "Orsini N, Li R, Wolk A, Khudyakov P, Spiegelman D (2012), American Journal of "
        "Epidemiology 175(1):66-73; the cohorts are those of Cho E et al. (2004), Annals of "
        "Internal Medicine 140(8):603-613.",
        {
            "id": "label of the cohort",
            "type": "kind of counts: ir, incidence rates",
            "dose": "alcohol intake assigned to the category, grams per day; 0 is the reference",
            "cases": "cases of colorectal cancer, persons",
            "peryears": "person-time at risk, person-years",
            "logrr": "adjusted log incidence rate ratio against the reference dose, where it is 0",
            "se": "standard error of logrr; missing at the reference dose",
        },
    ),
    Dataset(
        "bcg",
        "Thirteen trials of the BCG vaccine against tuberculosis.",
        "Colditz GA, Brewer TF, Berkey CS, et al. (1994), JAMA 271(9):698-702.",
        {
            "trial": "number of the trial",
            "author": "authors of the trial's report",
            "year": "year of publication",
            "tpos": "vaccinated persons with tuberculosis",
            "tneg": "vaccinated persons without tuberculosis",
            "cpos": "unvaccinated persons with tuberculosis",
            "cneg": "unvaccinated persons without tuberculosis",
            "ablat": "distance of the place from the equator, absolute latitude in degrees",
            "alloc": "allocation of the treatment: random, alternate or systematic",
            "logor": "log odds ratio of tuberculosis, vaccinated against unvaccinated",
            "logorvar": "variance of logor, 1/tpos + 1/tneg + 1/cpos + 1/cneg",
        },
    ),
    Dataset(
        "berkey98",
        "Five trials of surgical against non-surgical treatment of periodontal disease.",
        "Berkey CS, Hoaglin DC, Antczak-Bouckoms A, Mosteller F, Colditz GA (1998), Statistics in "
        "Medicine 17(22):2537-2550.",
        {
            "trial": "first author of the trial's report",
            "pubyear": "year of publication",
            "npat": "number of patients",
            "PD": "improvement of probing depth, surgical minus non-surgical, mm",
            "AL": "improvement of attachment level, surgical minus non-surgical, mm",
            "var_PD": "variance of PD, mm^2",
            "cov_PD_AL": "covariance of PD and AL, mm^2",
            "var_AL": "variance of AL, mm^2",
        },
    ),
    Dataset(
        "dbs",
        "Deep-brain stimulation of the subthalamic nucleus in Parkinson's disease, at four times.",
        "Ishak KJ, Platt RW, Joseph L, Hanley JA, Caro JJ (2007), Clinical Trials 4(5):525-539.",
        {
            "study": "first author and year of the study",
            "eff_month3": "mean change of the motor score at 3 months, points (below 0 is better)",
            "var_month3": "variance of eff_month3, points^2",
            "eff_month6": "mean change of the motor score at 6 months, points",
            "var_month6": "variance of eff_month6, points^2",
            "eff_month12": "mean change of the motor score at 12 months, points",
            "var_month12": "variance of eff_month12, points^2",
            "eff_long": "mean change of the motor score at the long-term follow-up, points",
            "var_long": "variance of eff_long, points^2",
            "duration": "mean duration of the disease before stimulation, years",
            "baseline": "mean motor score before stimulation, points",
        },
    ),
    Dataset(
        "gliomas",
        "Radiotherapy with and without chemotherapy for malignant gliomas: survival in 17 trials.",
        "Fine HA, Dear KBG, Loeffler JS, Black PMcL, Canellos GP (1993), Cancer 71(8):2585-2597.",
        {
            "study": "number of the trial",
            "time": "time since the start of treatment, months",
            "ntreat": "persons randomised to radiotherapy with chemotherapy",
            "ncontr": "persons randomised to radiotherapy alone",
            "streat": "survivors at that time, radiotherapy with chemotherapy",
            "scontr": "survivors at that time, radiotherapy alone",
            "logOR": "log odds ratio of survival, with against without chemotherapy; 0.5 is added "
            "to all four cells where one is 0",
            "logORvar": "variance of logOR",
        },
    ),
    Dataset(
        "p53",
        "Mutant p53 as a prognostic factor in squamous cell carcinoma of the oropharynx.",
        "Jackson D, Riley R, White IR (2011), Statistics in Medicine 30(20):2481-2498.",
        {
            "study": "number of the study",
            "y1": "log hazard ratio for disease-free survival, mutant against normal p53",
            "y2": "log hazard ratio for overall survival, mutant against normal p53",
            "V1": "variance of y1",
            "V2": "variance of y2; the correlation of y1 and y2 within a study is not known",
        },
    ),
    Dataset(
        "school",
        "Modified school calendars and reading achievement: 56 studies in 11 districts.",
        "Konstantopoulos S (2011), Research Synthesis Methods 2(1):61-76; the studies are those of "
        "Cooper H, Valentine JC, Charlton K, Melson A (2003), Review of Educational Research "
        "73(1):1-52.",
        {
            "district": "number of the school district",
            "study": "number of the study",
            "effect": "standardised mean difference of achievement, modified against traditional "
            "calendar, standard deviations",
            "var": "variance of effect",
            "year": "year of the study",
        },
    ),
    Dataset(
        "smoking",
        "Twenty-four trials of help to stop smoking: no contact (A), self-help (B), individual "
        "counselling (C) and group counselling (D).",
        "Hasselblad V (1998), Medical Decision Making 18(1):37-43, as analysed by White IR (2011), "
        "Stata Journal 11(2):255-270.",
        {
            "study": "number of the trial",
            "design": "the arms of the trial, a letter for each",
            "dA": "persons who stopped smoking, arm A; trials without arm A have 0.001, and 0.5 is "
            "added in every arm of a trial with a zero",
            "nA": "persons in arm A; trials without arm A have 0.01, and 1 is added in every arm "
            "of a trial with a zero",
            "dB": "persons who stopped smoking, arm B, as for dA",
            "nB": "persons in arm B, as for nA",
            "dC": "persons who stopped smoking, arm C, as for dA",
            "nC": "persons in arm C, as for nA",
            "dD": "persons who stopped smoking, arm D, as for dA",
            "nD": "persons in arm D, as for nA",
            "yB": "log odds ratio of stopping, B against A",
            "yC": "log odds ratio of stopping, C against A",
            "yD": "log odds ratio of stopping, D against A",
            "SBB": "variance of yB",
            "SBC": "covariance of yB and yC",
            "SBD": "covariance of yB and yD",
            "SCC": "variance of yC",
            "SCD": "covariance of yC and yD",
            "SDD": "variance of yD",
        },
    ),
)

DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in _ALL}
