"""Covariances of the log relative risks of a study that share one reference group.

A published dose-response table gives, for each dose, a log relative risk against the reference
and its standard error, but not the covariances. Both methods rebuild counts of cases that agree
with the relative risks, and read the covariances off them. For a dose with A cases among N
(persons or person-time) and a reference with A₀ among N₀, the log relative risk has

=======  =========================  ==========================  =======================
type     relative risk              variance d of a dose        covariance c (reference)
=======  =========================  ==========================  =======================
``ir``   (A/N) / (A₀/N₀)            1/A                         1/A₀
``ci``   (A/N) / (A₀/N₀)            1/A - 1/N                   1/A₀ - 1/N₀
``cc``   (A/B) / (A₀/B₀), B = N-A   1/A + 1/B                   1/A₀ + 1/B₀
=======  =========================  ==========================  =======================

so that the covariance matrix is diag(d) + c throughout.

References
----------
Greenland S, Longnecker MP (1992). Methods for trend estimation from summarized dose-response
data, with applications to meta-analysis. American Journal of Epidemiology 135, 1301-1309.

Hamling J, Lee P, Weitkunat R, Ambuhl M (2008). Facilitating meta-analyses by deriving relative
effect and precision estimates for alternative comparisons from a set of estimates presented by
exposure level or disease category. Statistics in Medicine 27, 954-970.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.table.columns import label_codes, numeric, refuse_twice_named, row_label
from mixmeta_jax.table.rows import as_pandas

NON_CASES = {"ir": 0.0, "ci": -1.0, "cc": 1.0}
"""Sign of the non-case term, 1/B or 1/N, in the variance of a log relative risk."""

GRID = 101
"""Points at which the search for Hamling's reference risk looks for a change of sign."""


@dataclass(frozen=True)
class DoseTable:
    """The table of one study: its reference, and r other doses in the order of the data.

    Attributes
    ----------
    study
        Label, for messages.
    type
        ``"ir"``, ``"cc"`` or ``"ci"``.
    logrr, se
        Log relative risks and their standard errors, shape (r,).
    cases, n
        Cases, and persons or person-time, at the r doses, shape (r,).
    cases_reference, n_reference
        The same in the reference group.
    """

    study: Hashable
    type: str
    logrr: np.ndarray
    se: np.ndarray
    cases: np.ndarray
    n: np.ndarray
    cases_reference: float
    n_reference: float


def greenland_longnecker(
    data: pd.DataFrame,
    study: str,
    logrr: str,
    se: str,
    cases: str,
    n: str,
    type: str,
    dose: str | None = "dose",
) -> dict[Hashable, np.ndarray]:
    """Covariances of log relative risks by the method of Greenland and Longnecker (1992).

    The counts of cases are those that give the reported relative risks and have the reported sum,
    at the reported persons or person-time. They give the correlations; the variances are the
    reported ones.

    Parameters
    ----------
    data
        Long frame, one row per dose and one reference row per study (logrr 0, se missing
        or 0).
    study, logrr, se, cases, n, type
        Names of its columns. ``type`` holds ``"ir"`` (n = person-time), ``"cc"`` (n = cases +
        controls) or ``"ci"`` (n = persons), one value per study.
    dose
        Column of the doses, used only to refuse a dose that a study gives twice; None, or the
        default where the data have no such column, for none.

    Returns
    -------
    dict
        For each study a matrix (r, r) over its rows but the reference, in the order of the data:
        the ``S`` of `mixmeta` on those rows.

    Raises
    ------
    InputError
        If a study's table is not as above; the message names the study.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> alcohol = mx.load_dataset("alcohol")
    >>> columns = {"study": "id", "logrr": "logrr", "se": "se", "cases": "cases", "n": "peryears"}
    >>> S = mx.greenland_longnecker(alcohol, **columns, type="type")
    >>> list(S)[:2], S["atm"].shape
    (['atm', 'hpm'], (5, 5))
    >>> doses = alcohol[alcohol.dose > 0]
    >>> fit = mx.mixmeta("logrr ~ 0 + dose", S=S, data=doses, random="~ 0 + dose | id", method="ml")
    >>> fit.coef.round(4).to_dict()
    {'dose': 0.0064}
    """
    tables = _read_tables(data, study, logrr, se, cases, n, type, dose)
    return {table.study: _greenland_longnecker(table) for table in tables}


def hamling(
    data: pd.DataFrame,
    study: str,
    logrr: str,
    se: str,
    cases: str,
    n: str,
    type: str,
    dose: str | None = "dose",
) -> dict[Hashable, np.ndarray]:
    """Covariances of log relative risks by the method of Hamling et al. (2008).

    The pseudo-counts give the reported relative risks and the reported standard errors exactly,
    and keep two ratios of the table: of the reference group to all (non-cases for ``"cc"``,
    persons or person-time otherwise), and of these to all cases. The covariances then are all
    equal within a study: 1/A₀, with the non-case term of the type.

    Parameters and what is returned and raised are those of `greenland_longnecker`.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> alcohol = mx.load_dataset("alcohol")
    >>> columns = {"study": "id", "logrr": "logrr", "se": "se", "cases": "cases", "n": "peryears"}
    >>> S = mx.hamling(alcohol, **columns, type="type")
    >>> S["atm"][:2, :2].round(4)
    array([[0.0631, 0.0378],
           [0.0378, 0.0603]])
    """
    tables = _read_tables(data, study, logrr, se, cases, n, type, dose)
    return {table.study: _hamling(table) for table in tables}


def _greenland_longnecker(table: DoseTable) -> np.ndarray:
    """Covariance matrix of one study, shape (r, r)."""
    sign = NON_CASES[table.type]
    counts, persons = _fitted_counts(table)
    non_cases = persons - counts if table.type == "cc" else persons
    variance = 1 / counts + sign / non_cases
    d, c = variance[1:], variance[0]
    total = np.sqrt(d + c)
    matrix = c / np.outer(total, total) * np.outer(table.se, table.se)
    np.fill_diagonal(matrix, table.se**2)
    return matrix


def _fitted_counts(table: DoseTable) -> tuple[np.ndarray, np.ndarray]:
    """Cases that agree with the relative risks, and the persons; reference first, (1 + r,)."""
    persons = np.append(table.n_reference, table.n)
    ratio = np.exp(np.append(0.0, table.logrr))
    total = table.cases_reference + table.cases.sum()
    if table.type != "cc":
        counts = total * persons * ratio / (persons * ratio).sum()
        if table.type == "ci" and (counts >= persons).any():
            raise InputError(
                f"Study {table.study!r}: its relative risks need more cases than persons at a "
                "dose; check logrr, cases and n."
            )
        return counts, persons

    def excess(log_odds: float) -> float:
        return float((persons / (1 + np.exp(-log_odds) / ratio)).sum() - total)

    # the odds of the reference lie between those that put all cases at its smallest and largest
    overall = np.log(total / (persons.sum() - total))
    span = np.abs(np.log(ratio)).max() + 1
    log_odds = brentq(excess, overall - span, overall + span, xtol=1e-15, rtol=1e-15)
    return persons / (1 + np.exp(-log_odds) / ratio), persons


def _hamling(table: DoseTable) -> np.ndarray:
    """Covariance matrix of one study, shape (r, r)."""
    covariance, _ = _pseudo_counts(table)
    matrix = np.full((len(table.se), len(table.se)), covariance)
    np.fill_diagonal(matrix, table.se**2)
    return matrix


def _pseudo_counts(table: DoseTable) -> tuple[float, np.ndarray]:
    """Common covariance c, and pseudo-counts (A, B) with the reference first, shape (2, 1 + r).

    Let h be the risk (odds for ``cc``, rate for ``ir``) in the reference, s the sign of the
    non-case term, and g = h RR. Then A/B = g and 1/A + s/B = v - c give
    A = (1 + s g)/(v - c) and B = A/g, and in the reference A₀ = (1 + s h)/c and B₀ = A₀/h.
    For given h the ratio B₀/ΣB determines c, monotonically; ΣB/ΣA then determines h.
    """
    sign = NON_CASES[table.type]
    ratio = np.exp(table.logrr)
    variance = table.se**2
    cases = np.append(table.cases_reference, table.cases)
    persons = np.append(table.n_reference, table.n)
    non_cases = persons - cases if table.type == "cc" else persons
    share = non_cases[0] / non_cases.sum()
    per_case = non_cases.sum() / cases.sum()
    if not 0 < share < 1:
        raise InputError(
            f"Study {table.study!r}: only its reference, or only the other doses, have non-cases; "
            "Hamling's method needs both."
        )

    def common(h: float) -> float:
        """The covariance for which B₀/ΣB is the reported one."""
        weight = (1 / (h * ratio) + sign) * h / (1 + sign * h)

        top = variance.min()

        def balance(fraction: float) -> float:
            c = fraction * top
            return float((1 - share) / share - (weight * c / (variance - c)).sum())

        return top * _root(balance, 0.0, 1 - 1e-15, table)

    def counts(h: float) -> np.ndarray:
        c = common(h)
        A = np.append((1 + sign * h) / c, (1 + sign * h * ratio) / (variance - c))
        return np.stack([A, A / (h * np.append(1.0, ratio))])

    if table.type == "ir":
        # the rate only scales person-time, which no variance holds
        return common(1.0), counts(1.0)

    def misfit(log_h: float) -> float:
        A, B = counts(np.exp(log_h))
        return float(np.log(B.sum() / A.sum() / per_case))

    # ΣB/ΣA lies between the smallest and the largest of 1/(h RR): h is bracketed by these
    widest = np.abs(table.logrr).max() + 1e-3
    lower, upper = -np.log(per_case) - widest, -np.log(per_case) + widest
    if table.type == "ci":
        upper = min(upper, -max(0.0, table.logrr.max()) - 1e-9)
    # for ``ci`` with high risks there may be two solutions: the one near the reported risk is meant
    grid = np.linspace(lower, upper, GRID)
    above = np.array([misfit(log_h) for log_h in grid]) > 0
    change = np.flatnonzero(above[1:] != above[:-1])
    if len(change) == 0:
        raise _no_solution(table)
    start = np.log(cases[0] / non_cases[0]) if cases[0] > 0 else -np.log(per_case)
    nearest = change[np.abs(grid[change] + grid[change + 1] - 2 * start).argmin()]
    h = np.exp(_root(misfit, grid[nearest], grid[nearest + 1], table))
    return common(h), counts(h)


def _root(f: Callable[[float], float], lower: float, upper: float, table: DoseTable) -> float:
    """The zero of a function that changes sign on an interval."""
    if f(lower) * f(upper) <= 0:
        root, report = brentq(
            f, lower, upper, xtol=1e-15, rtol=1e-14, maxiter=500, full_output=True, disp=False
        )
        if report.converged:
            return float(root)
    raise _no_solution(table)


def _no_solution(table: DoseTable) -> InputError:
    return InputError(
        f"Study {table.study!r}: no pseudo-counts give its relative risks and standard errors "
        "with its cases and n, so Hamling's method has no solution; check the table or use "
        "greenland_longnecker."
    )


def _read_tables(
    data: pd.DataFrame,
    study: str,
    logrr: str,
    se: str,
    cases: str,
    n: str,
    type: str,
    dose: str | None,
) -> list[DoseTable]:
    """The checked tables of all studies, by first appearance."""
    data = as_pandas(data)
    names = ("study", "logrr", "se", "cases", "n", "type")
    roles = dict(zip(names, (study, logrr, se, cases, n, type), strict=True))
    if dose is not None and not (isinstance(dose, str) and dose == "dose"):
        roles["dose"] = dose
    for role, name in roles.items():
        gates.column(name, data, role)
    refuse_twice_named(roles)
    codes, labels = label_codes(data, study)
    for role, found in (("study", codes), ("type", label_codes(data, type)[0])):
        if (found < 0).any():
            row = row_label(data.index, int(np.argmin(found)))
            raise InputError(
                f"Row {row!r} has no {role} in column {roles[role]!r}; every row needs one."
            )
    tables = []
    numbers = pd.DataFrame(
        {
            name: numeric(data[name], f"column '{name}' ({role})", finite=False, truths=False)
            for role, name in roles.items()
            if role not in ("study", "type", "dose")
        },
        index=data.index,
    )
    data = data.assign(**numbers)
    for code, label in enumerate(labels):
        rows = data[codes == code]
        tables.append(_read_table(label, rows, logrr, se, cases, n, type))
        if dose is None or dose not in data.columns:
            continue
        of_dose = pd.Series(label_codes(rows, dose)[0], rows.index)
        repeated = rows[dose].notna() & of_dose.duplicated()
        if repeated.any():
            raise InputError(
                f"Study {label!r} gives the dose {rows[dose][repeated].iloc[0]} twice, again in "
                f"row {rows.index[repeated].tolist()[0]!r}; every dose has one row."
            )
    return tables


def _read_table(
    label: Hashable, rows: pd.DataFrame, logrr: str, se: str, cases: str, n: str, type: str
) -> DoseTable:
    """The checked table of one study."""
    types = label_codes(rows, type)[1]
    if len(types) > 1:
        raise InputError(f"Study {label!r} has the types {types}; a study has one type.")
    if types[0] not in NON_CASES:
        raise InputError(
            f"Study {label!r} has the type {types[0]!r}; known types are 'ir', 'cc' and 'ci'."
        )
    effect, error, count, persons = (rows[name].to_numpy() for name in (logrr, se, cases, n))
    # Other programs' files mark the reference by an error of zero.
    reference = (np.isnan(error) | (error == 0)) & (effect == 0)
    if reference.sum() != 1:
        found = (
            "no reference row"
            if not reference.any()
            else (f"{reference.sum()} reference rows ({rows.index[reference].tolist()})")
        )
        raise InputError(
            f"Study {label!r} has {found}; each study needs exactly one, with {logrr} 0 and {se} "
            "missing or 0."
        )
    if reference.all():
        raise InputError(f"Study {label!r} has its reference row only; leave it out.")
    faults = [
        (~np.isfinite(effect), f"no finite {logrr}"),
        (~reference & ~(np.isfinite(error) & (error > 0)), f"no positive {se}"),
        (~(np.isfinite(count) & (count >= 0)), f"no count of {cases}"),
        (~(np.isfinite(persons) & (persons > 0)), f"no positive {n}"),
        ((count > persons) & (types[0] != "ir"), f"more {cases} than {n}"),
    ]
    for fault, what in faults:
        if fault.any():
            row = rows.index[fault].tolist()[0]
            raise InputError(
                f"Study {label!r} has {what} in row {row!r}; correct the row or leave it out."
            )
    if count.sum() == 0 or (types[0] != "ir" and count.sum() >= persons.sum()):
        raise InputError(
            f"Study {label!r} has {'no' if count.sum() == 0 else 'nothing but'} cases; leave it "
            "out."
        )
    rest = ~reference
    return DoseTable(
        label,
        types[0],
        effect[rest],
        error[rest],
        count[rest],
        persons[rest],
        float(count[reference][0]),
        float(persons[reference][0]),
    )
