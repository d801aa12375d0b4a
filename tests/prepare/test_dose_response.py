"""Covariances of dose-response tables against R dosresmeta and the equations that define them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import root

from mixmeta_jax.errors import InputError
from mixmeta_jax.prepare.dose_response import (
    DoseTable,
    _fitted_counts,
    _pseudo_counts,
    greenland_longnecker,
    hamling,
)

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "tests" / "reference"
COLUMNS = ("id", "logrr", "se", "cases", "peryears", "type")
BOTH = pytest.mark.parametrize("method", [greenland_longnecker, hamling])

DIAGONAL = 2e-7
"""The references' diagonals differ from se² by up to 1e-7, relative to values near 0.05 or so."""
GL_ITERATED = 6e-5
"""Relative: dosresmeta stops its iterations there (reference/README.md)."""
HAMLING_OPTIMISED = {"nt": 0.05, "ntm": 0.02}
"""Relative: how far dosresmeta's optimiser stays from 1/A₀ (reference/README.md); else 5e-4."""


@pytest.fixture
def alcohol() -> pd.DataFrame:
    return pd.read_csv(ROOT / "mixmeta_jax" / "datasets" / "alcohol.csv")


def reference(file: str, entry: str) -> dict[str, np.ndarray]:
    values = json.loads((REFERENCE / file).read_text())[entry]
    return {study: np.array(matrix) for study, matrix in values.items()}


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return matrix[~np.eye(len(matrix), dtype=bool)]


def table(kind: str, seed: int = 0, r: int = 4) -> DoseTable:
    """A study whose relative risks and errors come from counts, then are blurred."""
    g = np.random.default_rng(seed)
    n = g.integers(80, 400, r + 1).astype(float)
    cases = np.round(n * g.uniform(0.05, 0.3, r + 1))
    rest = n - cases if kind == "cc" else n
    sign = {"ir": 0, "ci": -1, "cc": 1}[kind]
    variance = 1 / cases + sign / rest
    logrr = np.log(cases[1:] / rest[1:]) - np.log(cases[0] / rest[0])
    return DoseTable(
        "a",
        kind,
        logrr + g.normal(0, 0.05, r),
        np.sqrt(variance[1:] + variance[0]) * g.uniform(1.0, 1.1, r),
        cases[1:],
        n[1:],
        cases[0],
        n[0],
    )


@pytest.mark.parametrize(
    ("file", "entry"), [("r_mixmeta.json", "alcohol_GL"), ("extra.json", "alcohol_gl")]
)
def test_greenland_longnecker_agrees_with_r(alcohol, file, entry):
    ours = greenland_longnecker(alcohol, *COLUMNS)
    theirs = reference(file, entry)
    assert list(ours) == list(theirs) == list(alcohol["id"].unique())
    for study, matrix in theirs.items():
        np.testing.assert_allclose(np.diag(ours[study]), np.diag(matrix), rtol=0, atol=DIAGONAL)
        np.testing.assert_allclose(off_diagonal(ours[study]), off_diagonal(matrix), GL_ITERATED)


def test_hamling_agrees_with_r(alcohol):
    ours = hamling(alcohol, *COLUMNS)
    theirs = reference("extra.json", "alcohol_hamling")
    assert list(ours) == list(theirs)
    for study, matrix in theirs.items():
        np.testing.assert_allclose(np.diag(ours[study]), np.diag(matrix), rtol=0, atol=DIAGONAL)
        np.testing.assert_allclose(
            off_diagonal(ours[study]), off_diagonal(matrix), HAMLING_OPTIMISED.get(study, 5e-4)
        )


@BOTH
def test_matrices_are_covariances_with_the_reported_variances(alcohol, method):
    rest = alcohol[alcohol["se"].notna()]
    for study, matrix in method(alcohol, *COLUMNS).items():
        np.testing.assert_array_equal(np.diag(matrix), rest.loc[rest["id"] == study, "se"] ** 2)
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix).min() > 0


@pytest.mark.parametrize("kind", ["ir", "cc", "ci"])
@pytest.mark.parametrize("seed", range(5))
def test_greenland_longnecker_counts_meet_their_equations(kind, seed):
    study = table(kind, seed)
    cases, persons = _fitted_counts(study)
    assert (cases > 0).all()
    np.testing.assert_allclose(cases.sum(), study.cases_reference + study.cases.sum(), rtol=1e-12)
    rest = persons - cases if kind == "cc" else persons
    ratio = (cases / rest)[1:] / (cases / rest)[0]
    np.testing.assert_allclose(np.log(ratio), study.logrr, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["ir", "cc", "ci"])
@pytest.mark.parametrize("seed", range(5))
def test_hamling_counts_meet_their_equations(kind, seed):
    study = table(kind, seed)
    c, (A, B) = _pseudo_counts(study)
    sign = {"ir": 0, "ci": -1, "cc": 1}[kind]
    np.testing.assert_allclose(1 / A[0] + sign / B[0], c, rtol=1e-10)
    np.testing.assert_allclose(1 / A[1:] + sign / B[1:] + c, study.se**2, rtol=1e-10)
    np.testing.assert_allclose(np.log(A / B)[1:] - np.log(A / B)[0], study.logrr, atol=1e-10)
    cases = np.append(study.cases_reference, study.cases)
    rest = np.append(study.n_reference, study.n) - (cases if kind == "cc" else 0)
    np.testing.assert_allclose(B[0] / B.sum(), rest[0] / rest.sum(), rtol=1e-10)
    if kind != "ir":  # for rates, the last condition only sets the unit of person-time
        np.testing.assert_allclose(B.sum() / A.sum(), rest.sum() / cases.sum(), rtol=1e-10)


@pytest.mark.parametrize("kind", ["cc", "ci"])
def test_hamling_agrees_with_solving_the_equations_in_two_unknowns(kind):
    """The published form: the reference's two counts are unknown, the others follow from them."""
    study = table(kind, 7)
    _, (A, B) = _pseudo_counts(study)
    sign = 1 if kind == "cc" else -1
    cases = np.append(study.cases_reference, study.cases)
    rest = np.append(study.n_reference, study.n) - (cases if kind == "cc" else 0)

    def equations(log_counts):
        a0, b0 = np.exp(log_counts)
        remaining = study.se**2 - 1 / a0 - sign / b0
        odds = np.exp(study.logrr) * a0 / b0
        a = (1 + sign * odds) / remaining
        b = a / odds
        total = b0 + b.sum()
        return [
            b0 / total - rest[0] / rest.sum(),
            np.log(total / (a0 + a.sum()) * cases.sum() / rest.sum()),
        ]

    solution = root(equations, np.log([cases[0], rest[0]]), tol=1e-13)
    assert solution.success
    np.testing.assert_allclose(np.exp(solution.x), [A[0], B[0]], rtol=1e-8)


def test_of_two_hamling_solutions_the_one_near_the_reported_risk_is_taken():
    """At high risks the equations of this table hold with reference risks of 0.40 and of 0.97."""
    study = DoseTable(
        "a",
        "ci",
        logrr=np.array([-2.9989, -0.5928]),
        se=np.array([0.21505, 0.09439]),
        cases=np.array([32.0, 364.0]),
        n=np.array([1514.0, 905.0]),
        cases_reference=52.0,
        n_reference=90.0,
    )
    _, (A, B) = _pseudo_counts(study)
    np.testing.assert_allclose(A[0] / B[0], 0.40, atol=0.01)


@pytest.mark.parametrize("kind", ["ir", "cc", "ci"])
@BOTH
def test_both_recover_the_covariances_of_an_unadjusted_table(kind, method):
    """Relative risks and errors straight from counts: the covariance is that of these counts."""
    cases, n = np.array([40.0, 22, 31, 9]), np.array([300.0, 150, 240, 60])
    rest = n - cases if kind == "cc" else n
    variance = 1 / cases + {"ir": 0, "ci": -1, "cc": 1}[kind] / rest
    rate = np.log(cases / rest)
    data = pd.DataFrame(
        {
            "s": 1,
            "y": rate - rate[0],
            "se": np.append(np.nan, np.sqrt(variance[0] + variance[1:])),
            "d": cases,
            "n": n,
            "t": kind,
        }
    )
    expected = np.diag(variance[1:]) + variance[0]
    np.testing.assert_allclose(method(data, "s", "y", "se", "d", "n", "t")[1], expected, rtol=1e-9)


@BOTH
def test_order_of_rows_and_position_of_the_reference_carry_over(alcohol, method):
    expected = method(alcohol, *COLUMNS)
    mixed = alcohol.sample(frac=1, random_state=3)
    for study, matrix in method(mixed, *COLUMNS).items():
        rows = mixed[(mixed["id"] == study) & mixed["se"].notna()].index
        order = np.argsort(np.argsort(rows))
        np.testing.assert_allclose(matrix, expected[study][np.ix_(order, order)], rtol=1e-10)


@BOTH
def test_types_can_differ_between_studies(alcohol, method):
    alcohol.loc[alcohol["id"] == "hpm", "type"] = "cc"
    mixed = method(alcohol, *COLUMNS)
    rates = method(alcohol.assign(type="ir"), *COLUMNS)
    np.testing.assert_array_equal(mixed["atm"], rates["atm"])
    # controls are so many that the non-case terms hardly show
    np.testing.assert_allclose(mixed["hpm"], rates["hpm"], rtol=0.02)
    assert (mixed["hpm"] != rates["hpm"]).any()


@BOTH
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.drop(index=6), "'hpm' has no reference row"),
        (lambda d: d.assign(se=d["se"].where(d.index != 6, 0.1)), "'hpm' has no reference row"),
        (lambda d: pd.concat([d, d.iloc[[6]]]), "'hpm' has 2 reference rows"),
        (lambda d: pd.concat([d, d.iloc[[8]]]), "'hpm' gives the dose 9.5 twice"),
        (lambda d: d.assign(dose=d["dose"].replace(9.5, 2.1)), "'hpm' gives the dose 2.1 twice"),
        (lambda d: d.assign(se=d["se"].where(d.index != 8)), "'hpm' has no positive se in row 8"),
        (lambda d: d.assign(se=d["se"].where(d.index != 8, 0)), "'hpm' has no positive se"),
        (lambda d: d.assign(logrr=d["logrr"].where(d.index != 8)), "'hpm' has no finite logrr"),
        (lambda d: d.assign(cases=d["cases"].where(d.index != 8)), "'hpm' has no count of cases"),
        (lambda d: d.assign(cases=d["cases"].where(d.index != 8, -1)), "'hpm' has no count"),
        (lambda d: d.assign(peryears=d["peryears"].where(d.index != 8, 0)), "'hpm' has no positiv"),
        (
            lambda d: d.assign(type="ci", peryears=d["peryears"].where(d.index != 8, 103)),
            "'hpm' has more cases than peryears in row 8",
        ),
        (
            lambda d: d.assign(type="cc", cases=d["cases"].where(d["id"] != "hpm", d["peryears"])),
            "'hpm' has nothing but cases",
        ),
        (lambda d: d.assign(cases=d["cases"].where(d["id"] != "hpm", 0)), "'hpm' has no cases"),
        (lambda d: d.assign(type=d["type"].where(d["id"] != "hpm", "rr")), "'hpm' has the type"),
        (lambda d: d.assign(type=d["type"].where(d.index != 8, "cc")), "'hpm' has the types"),
        (lambda d: d.drop(index=range(7, 12)), "'hpm' has its reference row only"),
        (lambda d: d.assign(id=d["id"].where(d.index != 8)), "Row 8 has no study"),
        (lambda d: d.drop(columns="cases"), "no column 'cases'"),
        (lambda d: d.assign(cases=d["cases"].astype(object).where(d.index != 8, "x")), "a number"),
    ],
)
def test_bad_input_is_one_sentence_that_names_the_study(alcohol, method, change, said):
    with pytest.raises(InputError, match=said):
        method(change(alcohol), *COLUMNS)


@BOTH
def test_an_error_of_zero_marks_the_reference_too(alcohol, method):
    blocks = method(alcohol, *COLUMNS)
    again = method(alcohol.assign(se=alcohol["se"].fillna(0.0)), *COLUMNS)
    for label, block in blocks.items():
        np.testing.assert_array_equal(again[label], block)


@BOTH
def test_the_table_may_be_a_mapping_of_columns(alcohol, method):
    blocks = method(alcohol, *COLUMNS)
    again = method(alcohol.to_dict("list"), *COLUMNS)
    assert list(again) == list(blocks)
    for label, block in blocks.items():
        np.testing.assert_array_equal(again[label], block)


@BOTH
def test_the_dose_column_is_a_choice(alcohol, method):
    alcohol["dose"] = alcohol["dose"].replace(9.5, 2.1)
    assert len(method(alcohol, *COLUMNS, dose=None)) == 8
    with pytest.raises(InputError, match="'absent' in the data, named in dose"):
        method(alcohol, *COLUMNS, dose="absent")
    assert len(method(alcohol.drop(columns="dose"), *COLUMNS)) == 8


def test_no_solution_is_said():
    data = pd.DataFrame(
        {
            "s": "x",
            "y": [0.0, 2.5],
            "se": [np.nan, 0.2],
            "d": [50.0, 50.0],
            "n": [100.0, 100.0],
            "t": "ci",
        }
    )
    with pytest.raises(InputError, match="'x': its relative risks need more cases than persons"):
        greenland_longnecker(data.assign(d=[90.0, 99.0]), "s", "y", "se", "d", "n", "t")
    with pytest.raises(InputError, match="'x': no pseudo-counts"):
        hamling(data.assign(y=[0.0, -2.5], d=[99.0, 99.0]), "s", "y", "se", "d", "n", "t")
