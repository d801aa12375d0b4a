"""Effect sizes of studies from the figures that they print, with variances and shared controls.

References
----------
Gleser LJ, Olkin I (2009). Stochastically dependent effect sizes. In: The Handbook of Research
Synthesis and Meta-Analysis, 2nd ed., 357-376.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import overload

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import EffectCode, EffectKind
from mixmeta_jax.errors import InputError
from mixmeta_jax.prepare.measures import KINDS, Effects, Figures
from mixmeta_jax.table.columns import label_codes, numeric, refuse_twice_named, row_label
from mixmeta_jax.table.rows import as_pandas
from mixmeta_jax.tolerances import SQUARE_OVERFLOWS

# Events and what they are counted among.
_AMONG = {"events": "total", "control_events": "control_total"}
_POSITIVE = ("total", "control_total", "time", "control_time")
_NOT_NEGATIVE = ("events", "control_events", "sd", "control_sd", "sd_before")

# Figures of which one column cannot hold both; two groups may well have one size.
_APART = (
    *_AMONG.items(),
    ("events", "control_events"),
    ("mean", "control_mean"),
    ("mean", "mean_before"),
)

# The smallest group whose effect has a variance.
_FEWEST = {"md": 2, "smd": 2, "rom": 2, "smcc": 3, "z": 4}


@overload
def effect_sizes(
    kind: EffectKind | EffectCode,
    data: pd.DataFrame,
    *,
    study: None = None,
    zero_cell: float = 0.5,
    **columns: str,
) -> pd.DataFrame: ...


@overload
def effect_sizes(
    kind: EffectKind | EffectCode,
    data: pd.DataFrame,
    *,
    study: str,
    zero_cell: float = 0.5,
    **columns: str,
) -> tuple[pd.DataFrame, dict[Hashable, pd.DataFrame]]: ...


def effect_sizes(
    kind: EffectKind | EffectCode,
    data: pd.DataFrame,
    *,
    study: str | None = None,
    zero_cell: float = 0.5,
    **columns: str,
) -> pd.DataFrame | tuple[pd.DataFrame, dict[Hashable, pd.DataFrame]]:
    """Effects and their variances from the figures of each row, and their shared controls.

    ========= ===================================== ================================================
    kind      effect                                columns it takes
    ========= ===================================== ================================================
    "logor"   log odds ratio                        events, total, control_events, control_total
    "logrr"   log risk ratio                        the same
    "rd"      risk difference                       the same
    "peto"    Peto's log odds ratio                 the same
    "logirr"  log ratio of incidence rates          events, time, control_events, control_time
    "md"      mean difference                       mean, sd, n, control_mean, control_sd, control_n
    "smd"     standardised difference, Hedges' g    the same
    "rom"     log ratio of means                    the same
    "smcc"    standardised mean change              mean, sd, mean_before, sd_before, n, r
    "z"       Fisher's z of a correlation           r, n
    "logit"   log odds of a proportion              events, total
    "arcsine" arcsine of its root                   events, total
    ========= ===================================== ================================================

    Parameters
    ----------
    kind
        Of the table, or its name in R metafor ("OR", "SMD", ...).
    data
        Frame with one row per effect.
    study
        Column of labels: rows with one label share their control arm, which makes their effects
        correlated. For effects that a study measures at several times or in several ways, give the
        variances to `ar1_blocks` or `cs_blocks`.
    zero_cell
        Added to every cell of a row that has a count of zero among them (events, and people
        without); 0 adds nothing, and refuses what is infinite then.
    **columns
        Names of columns, by what they hold: see the table.

    Returns
    -------
    DataFrame
        The data with columns ``effect`` and ``variance``, NaN where a figure is missing.
    dict
        With ``study``: {label: covariance matrix of its rows}, the ``S`` of `mixmeta`, labelled by
        rows; rows without an effect are left out.

    Raises
    ------
    InputError
        For an unknown kind, a column that is missing or not asked for, a figure that cannot be
        (negative counts, events above the total, a correlation outside (-1, 1)): the row is named.

    Notes
    -----
    Effects i and j that share a control arm have its part of the variance as their covariance, for
    "smd" 1/n_c + g_i g_j / (2N) with N people in all arms of the study (Gleser & Olkin 2009).

    Examples
    --------
    >>> import pandas as pd
    >>> import mixmeta_jax as mx
    >>> trials = pd.DataFrame({"d": [4, 6], "n": [123, 306], "d0": [11, 29], "n0": [139, 303]})
    >>> frame = mx.effect_sizes(
    ...     "logor", trials, events="d", total="n", control_events="d0", control_total="n0"
    ... )
    >>> frame[["effect", "variance"]].round(4)
       effect  variance
    0 -0.9387    0.3571
    1 -1.6662    0.2081
    """
    name = _kind_name(kind)
    data = as_pandas(data)
    for made in ("effect", "variance"):
        if made in data.columns:
            raise InputError(
                f"The data have a column '{made}' already, which the result would overwrite: "
                "rename it."
            )
    figures = _read(name, data, columns)
    _check(name, figures, data.index)
    if study is not None:
        _check_shared(name, figures, data, study)
    zero_cell = gates.number(zero_cell, "zero_cell", least=0)
    if KINDS[name].corrected:
        _correct(figures, zero_cell)
    with np.errstate(all="ignore"):  # what is not finite is refused with its row
        found = KINDS[name].measure(figures)
    seen = np.logical_and.reduce([np.isfinite(values) for values in figures.values()])
    _refuse_infinite(name, found, seen, figures, data.index)
    effect, variance = (np.where(seen, values, np.nan) for values in found[:2])
    frame = data.assign(effect=effect, variance=variance)
    if study is None or found.control is None:
        return frame
    return frame, _shared(frame, found.control, figures, study, standardised=name == "smd")


def _kind_name(kind: object) -> str:
    codes = {known.code: name for name, known in KINDS.items()}
    return gates.choice(codes.get(kind, kind) if isinstance(kind, str) else kind, "kind", KINDS)


def _read(name: str, data: pd.DataFrame, columns: dict[str, str]) -> Figures:
    """The figures of a kind as floats, NaN where missing."""
    needed = KINDS[name].figures
    listed = ", ".join(needed)
    for given in columns:
        if given not in needed:
            raise InputError(f"'{name}' takes no argument '{given}': it takes {listed}.")
    for wanted in needed:
        if columns.get(wanted) is None:
            raise InputError(
                f"'{name}' needs the column of '{wanted}': name the columns of {listed}."
            )
    for wanted in needed:
        gates.column(columns[wanted], data, wanted)
    for pair in _APART:
        refuse_twice_named({figure: columns[figure] for figure in pair if figure in columns})
    return {
        wanted: numeric(
            data[columns[wanted]], f"column '{columns[wanted]}' ({wanted})", truths=False
        ).copy()
        for wanted in needed
    }


def _check(name: str, figures: Figures, index: pd.Index) -> None:
    """Raise for figures that cannot be; comparisons with what is missing are false."""
    few = _FEWEST.get(name, 0)
    for figure, values in figures.items():
        wrong, why = np.zeros(len(values), bool), ""
        if figure in _NOT_NEGATIVE:
            wrong, why = values < 0, "is negative"
        elif figure in _POSITIVE:
            wrong, why = values <= 0, "must be above 0"
        elif figure in ("n", "control_n"):
            wrong, why = values < few, f"must be at least {few}"
        elif figure == "r":
            wrong, why = np.abs(values) >= 1, "must lie between -1 and 1"
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(f"{figure} {why} in row {row_label(index, row)!r}: {values[row]:g}.")
        among = figures.get(_AMONG.get(figure, ""))
        if among is not None and (values > among).any():
            row = int(np.argmax(values > among))
            raise InputError(
                f"Row {row_label(index, row)!r} has {values[row]:g} {figure} among {among[row]:g}: "
                "there cannot be more events than people."
            )


def _correct(figures: Figures, zero_cell: float) -> None:
    """Add to the cells of rows with an empty one, in place."""
    empty = np.zeros(len(figures["events"]), bool)
    for events, total in _AMONG.items():
        if events in figures:
            empty |= figures[events] == 0
        if total in figures:
            empty |= figures[events] == figures[total]
    for events, total in _AMONG.items():
        if events in figures:
            figures[events][empty] += zero_cell
        if total in figures:
            figures[total][empty] += 2 * zero_cell


def _refuse_infinite(
    name: str, found: Effects, seen: np.ndarray, figures: Figures, index: pd.Index
) -> None:
    wrong = seen & ~(np.isfinite(found.effect) & np.isfinite(found.variance))
    if wrong.any():
        i = int(np.argmax(wrong))
        row = row_label(index, i)
        for figure, values in figures.items():
            if abs(values[i]) > SQUARE_OVERFLOWS:
                raise InputError(
                    f"The effect '{name}' of row {row!r} is not finite: {figure} is "
                    f"{values[i]:g}, of which the square is beyond double precision."
                )
        what = {
            "smd": "the standard deviations are 0",
            "smcc": "changes do not vary",
            "rom": "the means have different signs, or one is 0",
        }
        why = what.get(name, "a count is 0: set zero_cell above 0")
        raise InputError(f"The effect '{name}' of row {row!r} is not finite: {why}.")


def _check_shared(name: str, figures: Figures, data: pd.DataFrame, study: str) -> None:
    """Raise where rows of one label do not share a control, or blocks cannot name their rows."""
    gates.column(study, data, "study")
    control = [figure for figure in figures if figure.startswith("control_")]
    if not control or name == "peto":
        raise InputError(f"Effects '{name}' have no covariance through a control: leave out study.")
    index = data.index
    if not index.is_unique:
        row = index[index.duplicated()].tolist()[0]
        raise InputError(
            f"The row label {row!r} occurs more than once, so blocks cannot name their rows; use "
            "data.reset_index(drop=True)."
        )
    codes, labels = label_codes(data, study)
    if (codes < 0).any():
        raise InputError(
            f"Row {row_label(index, int(np.argmin(codes)))!r} has no label in column '{study}', "
            "named in study."
        )
    for figure in control:
        several = pd.Series(figures[figure]).groupby(codes).nunique() > 1
        if several.any():
            label = labels[int(np.argmax(several))]
            raise InputError(
                f"The rows of {study} {label!r} are to share their control arm, but differ in "
                f"{figure}: give each control arm a label of its own."
            )


def _shared(
    frame: pd.DataFrame,
    control: np.ndarray,
    figures: Figures,
    study: str,
    standardised: bool,
) -> dict[Hashable, pd.DataFrame]:
    """Covariance matrices of the rows that share a control arm, by the label they share."""
    codes, labels = pd.factorize(frame[study])
    effect, variance = frame["effect"].to_numpy(), frame["variance"].to_numpy()
    blocks = {}
    for code, label in enumerate(labels.tolist()):
        rows = np.flatnonzero((codes == code) & np.isfinite(variance))
        if not len(rows):
            continue
        # A correction for empty cells may have met the control arm in some of its rows only.
        root = np.sqrt(control[rows])
        covariance = np.outer(root, root)
        if standardised:
            g, N = effect[rows], figures["n"][rows].sum() + figures["control_n"][rows[0]]
            covariance = covariance + np.outer(g, g) / (2 * N)
        np.fill_diagonal(covariance, variance[rows])
        names = frame.index[rows]
        blocks[label] = pd.DataFrame(covariance, index=names, columns=names)
    return blocks
