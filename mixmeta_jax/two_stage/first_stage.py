"""One regression per location: the first stage of a two-stage analysis.

The outcome of day t has the linear predictor

    η(t) = Σ_ℓ s(x(t − ℓ), ℓ) + controls(t) + offset(t),

where s is spanned by the products of a basis of the exposure x and one of the lag ℓ. Its
coefficients are reduced to those of the basis of the exposure, which `pool` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.control import Control, as_control
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.formulas.formula import as_formulaic, columns_of
from mixmeta_jax.formulas.model_matrix import build_matrix
from mixmeta_jax.status import Status
from mixmeta_jax.table.columns import missing_rows
from mixmeta_jax.table.rows import as_pandas
from mixmeta_jax.two_stage.bases import Basis
from mixmeta_jax.two_stage.basis_text import BASIS_EXAMPLE, BasisForm, read_basis
from mixmeta_jax.two_stage.batches import Columns, Estimated, estimated
from mixmeta_jax.two_stage.families import FAMILIES, Family
from mixmeta_jax.two_stage.first_stage_result import FirstStage
from mixmeta_jax.two_stage.lags import cross_basis, read_lags
from mixmeta_jax.two_stage.series import Series, read_series


def first_stage(
    data: Any,
    by: str,
    outcome: str,
    exposure: str,
    basis: Any = "ns(df=3)",
    lag: Any = None,
    lag_basis: str | None = None,
    controls: str = "~ 1",
    family: str = "quasipoisson",
    offset: str | None = None,
    weights: str | None = None,
    trials: str | None = None,
    time: str | None = None,
    control: Control | Mapping[str, Any] | None = None,
) -> FirstStage:
    """Regress the outcome on a basis of the exposure and its lags, location by location.

    Parameters
    ----------
    data
        Frame with a row per location and day, those of a location in order of time.
    by, outcome, exposure
        Names of its columns: the location, the outcome and the exposure.
    basis
        Of the exposure: "ns(...)", "bs(..., degree=2)", "strata(...)", "threshold(...)" or
        "linear()". Knots are ``knots=[10, 20]`` (strata: ``breaks``), ``percentiles=[10, 75, 90]``
        or ``df=3`` (quantiles), of the exposures of each location, or with ``of='all'`` of all
        locations together, and so is ``boundary``, the range unless it is given. ``threshold``
        takes ``low``, ``high``, ``low_percentile``, ``high_percentile``. Or a function of exposures
        (m,) that returns (m, k), for all locations, or {location: function}.
    lag
        The longest lag, or the first and the last, ``(0, 21)``; None for the exposure of the day.
        Lag ℓ is that of ℓ rows before, or of ℓ steps of ``time``.
    lag_basis
        Of the lag, with an intercept unless it says ``intercept=False``: the same, and
        ``ns(log_knots=3)`` for knots at equal distances of the logarithm. None, or "integer()", for
        coefficients of its own at every lag.
    controls
        Right-hand side of what else explains the outcome, as "~ ns(day, df=7 * years) + dow", made
        anew for each location; the number of columns may be a column that is constant there.
    family
        "quasipoisson", "poisson", "gaussian", "binomial" or "quasibinomial", with the canonical
        link.
    offset, weights, trials
        Columns: added to the linear predictor; prior weights; trials of a binomial outcome, which
        counts events then, and is 0 or 1 without them.
    time
        Column of dates or whole numbers, which ascend within each location. With it, lags are
        steps of time (the smallest difference), and those across a gap are missing; without it
        they are rows.
    control
        Of which ``backend`` is read: who executes, "numpy", "jax" or "auto".

    Returns
    -------
    FirstStage
        Coefficients and covariances by location, those over all lags. A location that cannot be
        regressed has a status and a sentence, and disturbs no other. Rows that miss a value or a
        lag are left out, and counted in ``locations``; ``controls`` learn their knots from all rows
        of the location.

    Raises
    ------
    InputError
        For columns that are not there, counts that are negative or fractional (with row and
        location), a basis or formula that cannot be read, and where no location can be regressed.

    References
    ----------
    McCullagh P, Nelder JA (1989). Generalized Linear Models, second edition, chapter 2.

    Gasparrini A, Armstrong B (2013). Reducing and meta-analysing estimates from distributed lag
    non-linear models. BMC Medical Research Methodology 13, 1.

    Examples
    --------
    >>> import numpy as np, pandas as pd, mixmeta_jax as mx
    >>> rng = np.random.default_rng(1)
    >>> heat = rng.normal(20, 5, 900)
    >>> data = pd.DataFrame({"city": np.repeat(["Bonn", "Oslo", "Rome"], 300), "heat": heat,
    ...                      "deaths": rng.poisson(np.exp(3 + 0.02 * heat))})
    >>> first = mx.first_stage(data, by="city", outcome="deaths", exposure="heat",
    ...                        basis="ns(percentiles=[50])")
    >>> first.coef.shape, list(first)
    ((3, 2), ['Bonn', 'Oslo', 'Rome'])
    >>> fit = mx.pool(first, bscov="diag")
    """
    gates.refuse_traced({"data": data}, "first_stage")
    table = as_pandas(data)
    family = gates.choice(family, "family", list(FAMILIES))
    settings = as_control(control)
    roles = {"by": by, "outcome": outcome, "exposure": exposure, "offset": offset}
    roles |= {"weights": weights, "trials": trials, "time": time}
    every = list(read_series(table, roles, family))
    lags, lag_values, lag_function = _lags(lag, lag_basis)
    predictors, names = _controls(controls, table, outcome)
    made = _Maker(
        table[names],
        predictors,
        _forms(basis, every),
        lag_values,
        lags[0],
        longest=lags[1],
        exposure=exposure,
        family=FAMILIES[family],
    )
    ends: dict[int, Estimated] = {}
    rows = sum(len(one.rows) for one in every)
    for end in estimated(made.columns(every), family, outcome, settings, rows):
        ends[end.place] = end
    ends |= made.failed
    return _result(every, ends, made, lags, lag_function, lag_values, family)


def _lags(lag: Any, lag_basis: Any) -> tuple[tuple[int, int], np.ndarray | None, Basis | None]:
    """The first and last lag, the values of its basis there, shape (L, K), and the basis."""
    if lag is None:
        if lag_basis is not None:
            raise InputError(
                "lag_basis is given, but lag is None: give the longest lag, as lag=21."
            )
        return (0, 0), None, None
    first, last = read_lags(lag, "lag")
    if not isinstance(lag, (tuple, list)):
        first = 0
    form = read_basis("integer()" if lag_basis is None else lag_basis, "lag_basis", lag=True)
    at = np.arange(first, last + 1.0)
    try:
        made = form.made(at)
    except InputError as error:
        raise InputError(f"lag_basis, at the lags {first} to {last}: {error}") from error
    values = made(at)
    if np.linalg.matrix_rank(values) < values.shape[1]:
        raise InputError(
            f"lag_basis has {values.shape[1]} columns, which lag={shown(lag)} does not tell apart: "
            "give it fewer, or more lags."
        )
    return (first, last), values, made


def _controls(controls: Any, table: pd.DataFrame, outcome: str) -> tuple[str, list[str]]:
    """The right-hand side, and the columns that it reads."""
    wanted = "a right-hand side, as '~ ns(day, df=4) + dow'"
    text = gates.text(controls, "controls", wanted).strip()
    if not text.startswith("~"):
        raise gates.refused("controls", wanted, controls)
    predictors = as_formulaic(text[1:]).strip() or "1"
    columns = columns_of(predictors, table, "controls")
    if outcome in columns:
        raise InputError(f"The outcome '{shown(outcome)}' is among its own controls: leave it out.")
    return predictors, columns


Form = BasisForm | Callable


def _forms(basis: Any, every: Sequence[Series]) -> Callable[[Series], Callable]:
    """What gives each location its basis."""
    if isinstance(basis, str):
        form = read_basis(basis, "basis")
        if form.of_all:
            made = form.made(np.concatenate([one.exposure for one in every]))
            return lambda one: made
        return lambda one: form.made(one.exposure)
    if isinstance(basis, Mapping):
        absent = [one.label for one in every if one.label not in basis]
        if absent:
            raise InputError(
                f"basis has no entry for location {shown(repr(absent[0]), 40)} (of {len(absent)} "
                "without one)."
            )
        for label, own in basis.items():
            gates.function(own, f"basis, for {shown(repr(label), 40)},")
        return lambda one: basis[one.label]
    if not callable(basis):
        raise gates.refused(
            "basis", f"{BASIS_EXAMPLE}, a function or a mapping of functions", basis
        )
    return lambda one: basis


@dataclass
class _Maker:
    """Makes the columns of one location after the other, and keeps what failed on the way."""

    table: pd.DataFrame
    controls: str
    basis_of: Callable[[Series], Callable]
    lag_values: np.ndarray | None
    first: int
    longest: int
    exposure: str
    family: Family
    bases: dict[Any, Callable] = field(default_factory=dict)
    failed: dict[int, Estimated] = field(default_factory=dict)
    widths: list[int] = field(default_factory=list)
    used: dict[int, tuple[int, int]] = field(default_factory=dict)
    _kept: tuple[pd.DataFrame, np.ndarray, list[str], np.ndarray] | None = None

    def columns(self, every: Sequence[Series]) -> Iterator[Columns]:
        """Those of the locations that can be regressed."""
        for place, one in enumerate(every):
            try:
                made = self._of(place, one)
            except InputError as error:
                self.failed[place] = Estimated(place, Status.NOT_IDENTIFIED, str(error))
            else:
                yield made

    def _of(self, place: int, one: Series) -> Columns:
        self._refuse_series(one)
        b = self._values(one)
        w = b if self.lag_values is None else cross_basis(b, self.lag_values, self.first)
        w = w[one.places]
        Z, names, there = self._control_columns(one)
        whole = there & ~np.isnan(w).any(1)
        for values in (one.y, one.weights, one.offset):
            whole &= ~np.isnan(values)
        X = np.concatenate([w[whole], Z[whole[there]]], 1)
        self.used[place] = X.shape
        y, weights = one.y[whole], one.weights[whole]
        return Columns(
            place,
            X,
            y,
            weights,
            one.offset[whole],
            [*coefficient_names(self.widths[0], self.lag_values), *names],
            w.shape[1],
            self.family.saturated(y, weights, one.trials[whole]),
        )

    def _refuse_series(self, one: Series) -> None:
        """Raise for an exposure that is not there or never varies, and series shorter than lags."""
        seen = one.exposure[~np.isnan(one.exposure)]
        if not len(seen):
            raise InputError(f"The exposure '{shown(self.exposure)}' is missing in all its rows.")
        if seen.min() == seen.max():
            raise InputError(
                f"The exposure '{shown(self.exposure)}' is {seen[0]:.10g} in all its rows: without "
                "a difference it has no effect to estimate."
            )
        if len(one.exposure) <= self.longest:
            raise InputError(
                f"lag={self.longest} is longer than its series, which has {len(one.exposure)} "
                "step(s) of time."
            )

    def _values(self, one: Series) -> np.ndarray:
        """The basis at the exposures, shape (n, k), NaN where they are missing."""
        basis, seen = self.basis_of(one), ~np.isnan(one.exposure)
        try:
            known = np.array(basis(one.exposure[seen]), float)
        except InputError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {shown(error, 120)}"
            raise InputError(f"basis, a function, fails on the exposures with {reason}.") from error
        if known.ndim != 2 or len(known) != seen.sum() or not known.shape[1]:
            raise InputError(
                f"basis, a function, returns the shape {known.shape} for {seen.sum()} "
                "exposures: it must be (m, k)."
            )
        self.widths = self.widths or [known.shape[1]]
        if known.shape[1] != self.widths[0]:
            raise InputError(
                f"Its basis has {known.shape[1]} column(s), that of the first location "
                f"{self.widths[0]}: give all locations as many."
            )
        self.bases[one.label] = basis
        b = np.full((len(seen), known.shape[1]), np.nan)
        b[seen] = known
        return b

    def _control_columns(self, one: Series) -> tuple[np.ndarray, list[str], np.ndarray]:
        """The controls of the rows that have them, their names, and which rows these are."""
        names = list(self.table.columns)
        rows = self.table.iloc[one.rows]
        if self._kept is not None and _alike(rows, self._kept[0]):
            return self._kept[1], self._kept[2], self._kept[3]
        there = ~missing_rows(rows, names)
        if not there.any():
            raise InputError("The controls are missing in all its rows.")
        matrix = build_matrix(self.controls, rows[there], names)
        # Locations often share a calendar, whose columns need not be made again.
        self._kept = rows, matrix.values, matrix.names, there
        return matrix.values, matrix.names, there


def _alike(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether the rows say the same, whatever their labels."""
    if len(one) != len(other):
        return False
    return all(one[name].array.equals(other[name].array) for name in one.columns)


def coefficient_names(k: int, lag_values: np.ndarray | None) -> list[str]:
    """Names of the columns of a basis, or of a cross-basis, l fastest."""
    names = [f"b{j + 1}" for j in range(k)]
    if lag_values is None:
        return names
    return [f"{name}.l{i + 1}" for name in names for i in range(lag_values.shape[1])]


def _result(
    every: Sequence[Series],
    ends: Mapping[int, Estimated],
    made: _Maker,
    lags: tuple[int, int],
    lag_function: Basis | None,
    lag_values: np.ndarray | None,
    family: str,
) -> FirstStage:
    if not any(end.status.converged for end in ends.values()):
        first = ends[0]
        raise InputError(
            f"No location can be regressed, of {len(every)}. Location "
            f"{shown(repr(every[0].label), 40)}: {first.message}"
        )
    n = len(every)
    names = coefficient_names(made.widths[0], lag_values)
    full = np.full((n, len(names)), np.nan)
    covariance = np.full((n, len(names), len(names)), np.nan)
    for i, end in ends.items():
        if end.coefficients is not None:
            full[i], covariance[i] = end.coefficients, end.covariance
    index = pd.Index([one.label for one in every], name="location", tupleize_cols=False)
    used = [made.used.get(i, (0, 0)) for i in range(n)]
    locations = pd.DataFrame(
        {
            "status": pd.Series([ends[i].status for i in range(n)], dtype=object).to_numpy(),
            "message": [ends[i].message for i in range(n)],
            "n_rows": [len(one.rows) for one in every],
            "n_used": [rows for rows, _ in used],
            "n_columns": [columns for _, columns in used],
            "df_resid": [rows - columns for rows, columns in used],
            "dispersion": [ends[i].dispersion for i in range(n)],
            "deviance": [ends[i].deviance for i in range(n)],
            "qaic": [ends[i].qaic for i in range(n)],
            "n_iter": [ends[i].evaluations for i in range(n)],
        },
        index=index,
    )
    table = pd.DataFrame(full, index=index, columns=names)
    whole = FirstStage(
        coef=table,
        vcov=covariance,
        full_coef=table,
        full_vcov=covariance,
        bases=made.bases,
        lag_basis=lag_function,
        lags=lags,
        locations=locations,
        family=family,
        reduction="cross-basis",
        series={one.label: (one.exposure, one.outcome) for one in every},
        exposure_bases=made.bases,
        controls={index[i]: end.controls for i, end in sorted(ends.items()) if end.controls},
    )
    return whole.reduce()
