"""Network meta-analysis: from the counts of trial arms to contrasts with one reference treatment.

Every trial gives the log odds ratio of each of its treatments against the reference of the
network. A trial without the reference gets an arm of it with hardly any information (0.001 events
in 0.01 people): the variances of its contrasts are huge, but their differences keep the
information of the trial.

References
----------
White IR (2011). Multivariate random-effects meta-regression: updates to mvmeta. The Stata Journal
11, 255-270.

White IR, Barrett JK, Jackson D, Higgins JPT (2012). Consistency and inconsistency in network
meta-analysis: model estimation using multivariate meta-regression. Research Synthesis Methods 3,
111-125.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.table.columns import label_codes, numeric, refuse_twice_named, row_label
from mixmeta_jax.table.rows import as_pandas


@dataclass(frozen=True)
class LongContrasts:
    """The contrasts of a network, one per row, for models that differ between contrasts.

    Attributes
    ----------
    data
        One row per contrast: study, ``design``, ``treatment``, ``logor``, one indicator per
        contrast (``yB``, ...) and one per inconsistency parameter (``yC_bcd``, ...).
    S
        Covariance matrix of each study's rows, by study.
    contrasts
        Names of the indicators of the contrasts.
    inconsistency
        Names of the indicators that the design-by-treatment interaction model adds.
    """

    data: pd.DataFrame
    S: dict[Hashable, np.ndarray]
    contrasts: list[str]
    inconsistency: list[str]


def network_contrasts(
    data: pd.DataFrame,
    study: str,
    treatment: str,
    events: str,
    total: str,
    reference: Hashable,
    zero_cell: float = 0.5,
    augment: tuple[float, float] = (0.001, 0.01),
) -> pd.DataFrame:
    """Log odds ratios of every treatment against the reference, one row per study.

    Parameters
    ----------
    data
        Long frame, one row per arm of a study.
    study, treatment, events, total
        Names of its columns.
    reference
        The treatment that all others are compared with.
    zero_cell
        Added to the events and to the non-events of every arm of a study in which an arm has no
        events, or nothing else.
    augment
        Events and people of the reference arm given to a study that has none.

    Returns
    -------
    DataFrame
        Column ``study``; ``design``, the treatments compared; ``y`` + treatment, the log odds
        ratios, missing where the study does not have the treatment; and ``S`` + two treatments,
        the lower triangle of their covariance matrix by column: for T treatments, 2 + (T - 1) +
        T (T - 1)/2 columns. Treatments are sorted; names of more than one letter are joined by
        ``_``.

    Raises
    ------
    InputError
        If counts are impossible, a column is named twice, a study has one arm or a treatment twice,
        or no path of trials links a treatment to the reference; the message names the study or
        treatment.

    Examples
    --------
    >>> import pandas as pd, mixmeta_jax as mx
    >>> arms = pd.DataFrame(
    ...     {
    ...         "study": [1, 1, 2, 2, 3, 3, 4, 4],
    ...         "treatment": ["A", "B", "A", "B", "A", "C", "B", "C"],
    ...         "quit": [9, 23, 10, 18, 20, 31, 12, 11],
    ...         "people": [140, 140, 138, 142, 150, 148, 100, 98],
    ...     }
    ... )
    >>> wide = mx.network_contrasts(arms, "study", "treatment", "quit", "people", reference="A")
    >>> wide[["study", "design", "yB", "yC"]].round(3)
       study design     yB     yC
    0      1     ab  1.051    NaN
    1      2     ab  0.620    NaN
    2      3     ac    NaN  0.544
    3      4     bc  0.205  0.129
    >>> S = ["SBB", "SBC", "SCC"]
    >>> mx.mixmeta("yB + yC ~ 1", S=S, data=wide, bscov="id").coef.round(3).to_dict()
    {'yB': 0.787, 'yC': 0.6}
    """
    arms = _read_arms(data, study, treatment, events, total)
    treatments = _sorted(arms["treatment"].unique())
    reference = gates.label(reference, "reference", treatments)
    _check_connected(arms, treatments, reference)
    _check_corrections(zero_cell, augment)
    others = [t for t in treatments if t != reference]

    studies = arms["study"].unique()
    row = pd.Index(studies).get_indexer(arms["study"])
    place = pd.Index([reference, *others]).get_indexer(arms["treatment"])
    d = np.full((len(studies), len(treatments)), np.nan)
    n = d.copy()
    d[row, place] = arms["events"]
    n[row, place] = arms["total"]

    empty = ((d == 0) | (d == n)).any(1)
    d[empty] += zero_cell
    n[empty] += 2 * zero_cell
    if (d == 0).any() or (d == n).any():
        label = studies[((d == 0) | (d == n)).any(1)].tolist()[0]
        raise InputError(
            f"Study {label!r} has an arm with no events or nothing else, whose log odds are "
            "infinite; set zero_cell above 0."
        )
    without = np.isnan(d[:, 0])
    d[without, 0], n[without, 0] = augment

    joint = _joint(treatments)
    log_odds, variance = np.log(d / (n - d)), 1 / d + 1 / (n - d)
    frame = {study: studies, "design": _designs(arms, studies)}
    if len(frame) < 2:
        raise InputError(
            "The column of studies is called 'design', as a column of the result: rename it."
        )
    for j, t in enumerate(others, 1):
        frame[f"y{t}"] = log_odds[:, j] - log_odds[:, 0]
    for j, t in enumerate(others, 1):
        for i, u in enumerate(others[j - 1 :], j):
            both = np.isfinite(d[:, i]) & np.isfinite(d[:, j])
            own = variance[:, j] if i == j else 0.0
            frame[f"S{t}{joint}{u}"] = np.where(both, own + variance[:, 0], np.nan)
    return pd.DataFrame(frame)


def long_contrasts(
    data: pd.DataFrame,
    study: str,
    treatment: str,
    events: str,
    total: str,
    reference: Hashable,
    zero_cell: float = 0.5,
    augment: tuple[float, float] = (0.001, 0.01),
) -> LongContrasts:
    """The contrasts of `network_contrasts` one per row, with the columns of inconsistency models.

    Consistency is ``logor ~ 0 + yB + yC + ...`` with ``random="~ 0 + yB + yC + ... | study"``.
    The design-by-treatment interaction model adds the columns ``inconsistency``: a design has a
    parameter for each of its contrasts that consistency would derive from designs before it,
    designs with fewer arms and those with the reference coming first.

    Parameters and errors are those of `network_contrasts`.

    Examples
    --------
    >>> import pandas as pd, mixmeta_jax as mx
    >>> arms = pd.DataFrame(
    ...     {
    ...         "study": [1, 1, 2, 2, 3, 3, 4, 4],
    ...         "treatment": ["A", "B", "A", "B", "A", "C", "B", "C"],
    ...         "quit": [9, 23, 10, 18, 20, 31, 12, 11],
    ...         "people": [140, 140, 138, 142, 150, 148, 100, 98],
    ...     }
    ... )
    >>> found = mx.long_contrasts(arms, "study", "treatment", "quit", "people", reference="A")
    >>> found.data[["study", "treatment", "logor", *found.contrasts]].round(3)
       study treatment  logor   yB   yC
    0      1         B  1.051  1.0  0.0
    1      2         B  0.620  1.0  0.0
    2      3         C  0.544  0.0  1.0
    3      4         B  0.205  1.0  0.0
    4      4         C  0.129  0.0  1.0
    >>> fit = mx.mixmeta("logor ~ 0 + yB + yC", S=found.S, data=found.data, random="~ 1 | study")
    >>> fit.coef.round(3).to_dict()
    {'yB': 0.787, 'yC': 0.6}
    """
    wide = network_contrasts(data, study, treatment, events, total, reference, zero_cell, augment)
    arms = _read_arms(data, study, treatment, events, total)
    others = [t for t in _sorted(arms["treatment"].unique()) if t != reference]
    columns = [f"y{t}" for t in others]
    y = wide[columns].to_numpy()
    seen = np.isfinite(y)
    row, place = np.nonzero(seen)
    frame = pd.DataFrame(
        {
            study: wide[study].to_numpy()[row],
            "design": wide["design"].to_numpy()[row],
            "treatment": [others[j] for j in place],
            "logor": y[row, place],
        }
    )
    for j, column in enumerate(columns):
        frame[column] = (place == j).astype(float)
    present = {
        design: [t for t in [reference, *others] if t in set(treatments)]
        for design, treatments in arms.groupby(_design_of_arm(arms))["treatment"]
    }
    added = []
    for design, t in _inconsistency(present, reference, others):
        added.append(f"y{t}_{design}")
        frame[added[-1]] = ((frame["design"] == design) & (frame["treatment"] == t)).astype(float)

    lower = [(i, j) for j in range(len(others)) for i in range(j, len(others))]
    S = np.zeros((len(wide), len(others), len(others)))
    for (i, j), column in zip(lower, wide.columns[2 + len(others) :], strict=True):
        S[:, i, j] = S[:, j, i] = wide[column]
    blocks = {label: S[r][np.ix_(seen[r], seen[r])] for r, label in enumerate(wide[study].tolist())}
    return LongContrasts(frame, blocks, columns, added)


def refuse_unlabelled(data: pd.DataFrame, study: str, treatment: str) -> None:
    """Raise where an arm has no study or no treatment, or what is no label for one."""
    for role, column in (("study", study), ("treatment", treatment)):
        gates.column(column, data, role)
        codes, _ = label_codes(data, column)
        if (codes < 0).any():
            row = row_label(data.index, int(np.argmin(codes)))
            raise InputError(
                f"Row {row!r} has no value in column {column!r}; every arm needs its study and "
                "treatment."
            )
    refuse_twice_named({"study": study, "treatment": treatment})


def _read_arms(
    data: pd.DataFrame, study: str, treatment: str, events: str, total: str
) -> pd.DataFrame:
    """The arms, with columns study, treatment, events, total, after checks of each study."""
    data = as_pandas(data)
    roles = {"study": study, "treatment": treatment, "events": events, "total": total}
    for role, name in roles.items():
        gates.column(name, data, role)
    refuse_twice_named(roles)
    counts = {
        role: numeric(data[roles[role]], f"column '{roles[role]}' ({role})", truths=False)
        for role in ("events", "total")
    }
    refuse_unlabelled(data, study, treatment)
    arms = pd.DataFrame(
        {
            "study": data[study].tolist(),
            "treatment": pd.Series(data[treatment].tolist(), dtype=object),
            **counts,
        }
    )
    faults = [
        (arms.duplicated(["study", "treatment"]), "twice; add up its arms or give them two names"),
        (~(arms["events"] >= 0), f"with no count in {events!r}; correct the row or leave it out"),
        (~(arms["total"] > 0), f"with no count in {total!r}; correct the row or leave it out"),
        (arms["events"] > arms["total"], "with more events than people; correct its counts"),
    ]
    for fault, what in faults:
        if fault.any():
            label, t = (arms.loc[fault, column].tolist()[0] for column in ("study", "treatment"))
            raise InputError(f"Study {label!r} has treatment {t!r} {what}.")
    sizes = arms.groupby("study", sort=False).size()
    if (sizes < 2).any():
        label = sizes.index[sizes < 2].tolist()[0]
        raise InputError(f"Study {label!r} has one arm only, and nothing to compare; leave it out.")
    return arms


def _check_connected(arms: pd.DataFrame, treatments: list, reference: Hashable) -> None:
    """Refuse a treatment that no chain of trials links to the reference."""
    codes, labels = pd.factorize(arms["study"])
    place = pd.Index(treatments).get_indexer(arms["treatment"])
    size = len(treatments) + len(labels)
    links = coo_array((np.ones(len(arms)), (place, len(treatments) + codes)), shape=(size, size))
    component = connected_components(links, directed=False)[1][: len(treatments)]
    apart = component != component[treatments.index(reference)]
    if apart.any():
        lost = treatments[int(np.flatnonzero(apart)[0])]
        studies = arms.loc[arms["treatment"] == lost, "study"].unique().tolist()
        raise InputError(
            f"No path of trials connects treatment {lost!r} (studies {studies}) to the reference "
            f"{reference!r}; leave its studies out or analyse them apart."
        )


def _check_corrections(zero_cell: float, augment: tuple[float, float]) -> None:
    gates.number(zero_cell, "zero_cell", least=0)
    events, people = gates.numbers(augment, "augment", (2,))
    if not 0 < events < people:
        raise InputError(
            f"augment gives events and people of an arm, 0 < events < people, not {events:g} and "
            f"{people:g}."
        )


def _sorted(values: np.ndarray) -> list:
    """Labels in order; by their text where they cannot be compared."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=str)


def _joint(treatments: list) -> str:
    """What stands between treatments in a name: nothing between single letters."""
    return "" if all(len(str(t)) == 1 for t in treatments) else "_"


def _design_of_arm(arms: pd.DataFrame) -> np.ndarray:
    """Name of the design of each arm's study: its treatments, as ``acd`` or ``cbt_ssri``."""
    treatments = _sorted(arms["treatment"].unique())
    joint = _joint(treatments)
    short = [str(t).lower() for t in treatments]
    if joint or len(set(short)) < len(short):
        short = [str(t) for t in treatments]
    names = dict(zip(treatments, short, strict=True))
    order = {t: i for i, t in enumerate(treatments)}
    design = {
        label: joint.join(names[t] for t in sorted(of_study, key=order.__getitem__))
        for label, of_study in arms.groupby("study", sort=False)["treatment"]
    }
    return arms["study"].map(design).to_numpy()


def _designs(arms: pd.DataFrame, studies: np.ndarray) -> np.ndarray:
    first = ~arms["study"].duplicated().to_numpy()
    return _design_of_arm(arms)[first]


def _inconsistency(
    present: dict[str, list], reference: Hashable, others: list
) -> list[tuple[str, Hashable]]:
    """The (design, treatment) pairs that have a parameter of their own.

    A design with treatments t₀, t₁, ... tells T - 1 means, one for each tⱼ against t₀. In the
    order below, a mean that is a combination of those before it under consistency is free in the
    interaction model; the others identify the contrasts of the network.
    """
    order = sorted(
        present, key=lambda design: (len(present[design]), reference not in present[design], design)
    )
    identified = np.zeros((0, len(others)))
    pairs = []
    for design in order:
        base, *rest = present[design]
        for t in rest:
            mean = np.array([(u == t) - float(u == base) for u in others])
            extended = np.vstack([identified, mean])
            if np.linalg.matrix_rank(extended) > len(identified):
                identified = extended
            else:
                pairs.append((design, t))
    rank = {t: j for j, t in enumerate(others)}
    return sorted(pairs, key=lambda pair: (rank[pair[1]], pair[0]))
