"""What the data can carry: one set of rules, for B data sets side by side.

Each rule returns the data sets that break it, the status that this gives them, and what makes its
sentence. A single fit is a batch of one that raises the first sentence; a batch records them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.errors import InputError
from mixmeta_jax.status import Status
from mixmeta_jax.table.collinearity import dependence, doubtful, sentence
from mixmeta_jax.table.identified import interior, lacking, obvious, psi_and_slopes
from mixmeta_jax.table.names import Names, crossed
from mixmeta_jax.table.positive_definite import MatrixStatus, fault, judged, null_vectors
from mixmeta_jax.table.within_study import WithinStudy
from mixmeta_jax.tolerances import MAKES_UP, TAKES_PART


@dataclass(frozen=True)
class Fault:
    """A rule that some data sets break.

    Attributes
    ----------
    which
        Those data sets, shape (B,).
    status
        The status that it gives them.
    sentence
        What is wrong with data set b.
    """

    which: np.ndarray
    status: Status
    sentence: Callable[[int], str]


Faults = Iterator[Fault]


def raise_first(faults: Iterable[Fault], b: int = 0) -> None:
    """Raise `InputError` with the sentence of the first rule that data set b breaks."""
    for found in faults:
        if found.which[b]:
            raise InputError(found.sentence(b))


def outcome_faults(y: np.ndarray, seen: np.ndarray, names: Names) -> Faults:
    """Outcomes (B, n, k) that are infinite or missing altogether."""
    if not seen.all():
        infinite = np.isinf(y)

        def where(b: int) -> str:
            row, outcome = np.argwhere(infinite[b])[0]
            return f"The outcome '{names.outcomes[outcome]}' is infinite in {names.row(row)}."

        yield Fault(infinite.any((1, 2)), Status.NOT_FINITE, where)
        never: Any = ~seen.any(1)
        words = f"None of the {y.shape[1]} row(s) can be fitted: every outcome is missing."
        yield Fault(never.all(1), Status.NOT_FINITE, lambda b: words)
        yield Fault(
            never.any(1),
            Status.NOT_IDENTIFIED,
            lambda b: (
                f"The outcome '{names.outcomes[int(np.argmax(never[b]))]}' is missing in every row "
                "that can be fitted: leave it out."
            ),
        )


def predictor_faults(X: np.ndarray, seen: np.ndarray, names: Names) -> Faults:
    """Outcomes with fewer rows than coefficients, or with predictors that are collinear.

    ``X`` are the predictors, shape (n, p) or (B, n, p), and ``seen`` the observed outcomes,
    shape (B, n, k).
    """
    B, n, k = seen.shape
    p = X.shape[-1]
    if B == 1 and n >= p and seen.all() and dependence(X) is None:
        return
    count = seen.sum(1)
    few = count < p
    yield Fault(
        few.any(1),
        Status.NOT_IDENTIFIED,
        lambda b: (
            f"The outcome '{names.outcomes[int(np.argmax(few[b]))]}' is observed in "
            f"{count[b][int(np.argmax(few[b]))]} row(s), fewer than its {p} coefficients "
            f"({', '.join(names.predictors)})."
        ),
    )
    found: dict[int, tuple[Any, int]] = {}
    known: dict[Any, Any] = {}
    # One data set is asked at once: its products would take as long.
    asked = doubtful(X, seen) if B > 1 else np.ones((1, k), bool)
    for b, outcome in np.argwhere(asked & ~few).tolist():
        rows = seen[b, :, outcome]
        key = (b if X.ndim == 3 else 0, rows.tobytes())
        if key not in known:
            known[key] = dependence((X if X.ndim == 2 else X[b])[rows])
        if known[key] is not None:
            found.setdefault(b, (known[key], outcome))
    which = np.zeros(B, bool)
    which[list(found)] = True
    yield Fault(
        which,
        Status.NOT_IDENTIFIED,
        lambda b: (
            names.empty_cell(seen[b, :, found[b][1]], found[b][1])
            or sentence(found[b][0], names.predictors, names.outcomes[found[b][1]])
        ),
    )


@dataclass(frozen=True)
class JudgedErrors:
    """S of B data sets and what it is.

    Attributes
    ----------
    parts
        Per kind of matrix (by unit, or the blocks of one size): numbers of its units or blocks,
        shape (m,), the units of each, shape (m, r), the matrices as judged, shape (B, m, d, d),
        which of their elements are observed, shape (B, m, d), and verdicts, shape (B, m).
    """

    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
    by_unit: bool

    @property
    def sound(self) -> bool:
        """Whether no matrix of any data set is singular or worse."""
        return not any(part[4].any() for part in self.parts)

    def any(self, least: MatrixStatus) -> np.ndarray:
        """Which data sets hold a matrix with this verdict or a later one, shape (B,)."""
        return np.any([(part[4] >= least).any(1) for part in self.parts], axis=0)

    def fault(self, b: int, least: MatrixStatus, names: Names) -> str:
        """What is wrong with data set b, without the full stop: first what is missing."""
        worst, part, m = MatrixStatus.INDEFINITE + 1, 0, 0
        for i, (*_, verdict) in enumerate(self.parts):
            kinds = np.where(verdict[b] >= least, verdict[b], MatrixStatus.INDEFINITE + 1)
            if kinds.min() < worst:
                worst, part, m = int(kinds.min()), i, int(np.argmin(kinds))
        _, units, S, seen, _ = self.parts[part]
        own = S[b, m]
        if self.by_unit:
            where = names.row(int(units[m, 0]))
            return fault(own, seen[b, m], worst, where, lambda i: f"'{names.outcomes[i]}'")
        where = names.block(units[m])
        return fault(own, seen[b, m], worst, where, lambda i: names.entry(units[m], i))


def judge_errors(within: WithinStudy, seen: np.ndarray) -> JudgedErrors:
    """S, shared or of each data set, where outcomes (B, n, k) are observed."""
    B, n, k = seen.shape
    if within.blocks is None:
        S = within.unit if within.per_data_set else within.unit[None]
        every = np.arange(n)
        return JudgedErrors([(every, every[:, None], *_judged(S, seen))], True)
    sizes = np.array([len(units) for units, _ in within.blocks])
    parts = []
    for size in np.unique(sizes):
        numbers = np.flatnonzero(sizes == size)
        units = np.stack([within.blocks[i][0] for i in numbers])
        S = np.stack([within.blocks[i][1] for i in numbers])[None]
        observed = seen[:, units].reshape(B, len(numbers), size * k)
        parts.append((numbers, units, *_judged(S, observed)))
    return JudgedErrors(parts, False)


def _judged(S: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    B, m, d = seen.shape
    if len(S) < B:
        S = np.broadcast_to(S, (B, m, d, d))
    clean, verdict = judged(S.reshape(-1, d, d), seen.reshape(-1, d))
    return clean.reshape(B, m, d, d), seen, verdict.reshape(B, m)


def error_faults(errors: JudgedErrors, names: Names) -> Faults:
    """Matrices of S that no model can use."""

    def words(b: int) -> str:
        return errors.fault(b, MatrixStatus.MISSING, names) + "."

    yield Fault(errors.any(MatrixStatus.MISSING), Status.NOT_FINITE, words)


def clean_errors(within: WithinStudy, errors: JudgedErrors) -> WithinStudy:
    """S of one data set as it was judged: zeros for what is missing, exactly symmetric."""
    singular: list[int] = []
    if not errors.sound:
        for numbers, *_, verdict in errors.parts:
            singular += numbers[verdict[0] == MatrixStatus.SINGULAR].tolist()
    if within.blocks is None:
        return WithinStudy(errors.parts[0][2][0], None, tuple(singular))
    blocks = list(within.blocks)
    for numbers, _, S, _, _ in errors.parts:
        for number, matrix in zip(numbers.tolist(), S[0], strict=True):
            blocks[number] = (blocks[number][0], matrix)
    return replace(within, blocks=tuple(blocks), singular=tuple(singular))


@dataclass(frozen=True)
class Model:
    """What B data sets share beside the outcomes, or have of their own.

    Attributes
    ----------
    X, Z
        Predictors, shape (n, p) or (B, n, p), and random predictors of each level, (…, n, q).
    groups
        Group of each unit at each level, outer first, shape (n, L).
    structures
        Covariance structure of each level; none where no random effects are fitted.
    names
        For the sentences.
    """

    X: np.ndarray
    Z: Sequence[np.ndarray]
    groups: np.ndarray
    structures: Sequence[Structure]
    names: Names

    def one(self, b: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """X and Z of data set b."""
        return self.X if self.X.ndim == 2 else self.X[b], [
            z if z.ndim == 2 else z[b] for z in self.Z
        ]


def count_faults(method: str, seen: np.ndarray, p: int) -> Faults:
    """Data sets that leave the restricted likelihood nothing."""
    if method == "reml":
        P, count = p * seen.shape[2], seen.sum((1, 2))
        yield Fault(
            count <= P,
            Status.NOT_IDENTIFIED,
            lambda b: (
                f"REML needs more observed outcomes ({count[b]}) than coefficients ({P}): with one "
                "study, or a coefficient for each outcome, use method='fixed'."
            ),
        )


def identification_faults(model: Model, seen: np.ndarray) -> Faults:
    """Data sets that do not identify the covariance of the random effects."""
    k, p = seen.shape[2], model.X.shape[-1]
    dims = [k * z.shape[-1] for z in model.Z]
    counts = [s.n_parameters(d) for s, d in zip(model.structures, dims, strict=True)]
    if not sum(counts):
        return
    clear = obvious(seen, model.Z, model.groups, p)
    which = ~clear
    if not which.any():
        return
    slopes = [
        psi_and_slopes(s, interior(s, z, k), d)[1]
        for s, z, d in zip(model.structures, model.one(0)[1], dims, strict=True)
    ]
    shared = model.X.ndim == 2 and all(z.ndim == 2 for z in model.Z)
    known: dict[Any, list[np.ndarray]] = {}

    def lack(b: int) -> list[np.ndarray]:
        key = seen[b].tobytes() if shared else b
        if key not in known:
            known[key] = lacking(*model.one(b), model.groups, seen[b], slopes)
        return known[key]

    for b in np.flatnonzero(which & seen.any((1, 2))).tolist():
        which[b] = len(lack(b)[0]) > 0
    yield Fault(which, Status.NOT_IDENTIFIED, lambda b: _unidentified(lack(b), model, seen[b]))


def _unidentified(lack: list[np.ndarray], model: Model, seen: np.ndarray) -> str:
    """The sentence on elements of Ψ that move without a trace."""
    names, rows = model.names, seen.any(1)
    parts = []
    for level, directions in enumerate(lack):
        moved = np.abs(directions).max(0, initial=0.0)
        if not moved.any():
            continue
        effects = crossed(names.outcomes, names.effects[level])
        count = len(np.unique(model.groups[rows, level]))
        groups = "one group" if count == 1 else f"{count} groups"
        parts.append(
            f"{_elements(moved, effects)} at level '{names.levels[level]}' (structure "
            f"'{model.structures[level].name}', {groups})"
        )
    return (
        f"The data do not identify {' beside '.join(parts)}: the fixed effects and the other "
        "variances leave nothing of it; use a structure with fewer parameters, such as 'diag' or "
        "'id', leave the level out, or use method='fixed'."
    )


def _elements(moved: np.ndarray, effects: Sequence[str]) -> str:
    """The elements of Ψ, in words; three at most."""
    d = len(moved)
    at = [(i, j) for j in range(d) for i in range(j, d) if moved[i, j] > TAKES_PART * moved.max()]
    at.sort(key=lambda pair: pair[0] != pair[1])
    words = [
        f"the variance of '{effects[i]}'"
        if i == j
        else f"the covariance of '{effects[j]}' and '{effects[i]}'"
        for i, j in at[:3]
    ]
    more = [f"{len(at) - 3} more"] if len(at) > 3 else []
    return ", ".join([*words, *more])


def model_faults(method: str, model: Model, within: WithinStudy, seen: np.ndarray) -> Faults:
    """What a method cannot do with one data set, whose S has been judged."""
    yield from identification_faults(model, seen)
    if within.singular:
        yield from singular_faults(method, model, judge_errors(within, seen))


def singular_faults(method: str, model: Model, errors: JudgedErrors) -> Faults:
    """Data sets whose S is singular where the method or the random effects do not allow it."""
    some = errors.any(MatrixStatus.SINGULAR)
    if not some.any():
        return
    names = model.names
    if method not in ("ml", "reml"):

        def refused(b: int) -> str:
            return (
                f"{errors.fault(b, MatrixStatus.SINGULAR, names)}; method='{method}' weights "
                "by the inverse of S: use 'ml' or 'reml'."
            )

        yield Fault(some, Status.NOT_FINITE, refused)
        return
    which = some.copy()
    for b in np.flatnonzero(some).tolist():
        which[b] = not _made_up_for(b, model, errors)

    def words(b: int) -> str:
        return (
            f"{errors.fault(b, MatrixStatus.SINGULAR, names)}, and the random effects of level "
            f"'{names.levels[-1]}' do not make up for it: an error variance must be positive there."
        )

    yield Fault(which, Status.NOT_FINITE, words)


def _made_up_for(b: int, model: Model, errors: JudgedErrors) -> bool:
    """Whether S + ZΨZᵀ of the innermost level is definite for Ψ > 0, in data set b.

    vᵀSv = 0 for the v that S's null vectors span; of these none may have Zᵀv = 0. Units in one
    group, or in one block of S, are judged together.
    """
    k = len(model.names.outcomes)
    codes, z = model.groups[:, -1], model.one(b)[1][-1]
    d = k * z.shape[1]
    structure = model.structures[-1]
    Psi, _ = psi_and_slopes(structure, interior(structure, z, k), d)
    # Zᵀv by component, shape (groups, d, r), and the same of absolute values.
    reach: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for numbers, units, S, seen, verdict in errors.parts:
        for m in np.flatnonzero(verdict[b] == MatrixStatus.SINGULAR):
            own = S[b, m]
            null = null_vectors(own, seen[b, m]).reshape(len(units[m]), k, -1)
            inner, at = np.unique(codes[units[m]], return_inverse=True)
            sums = []
            for x, v in ((z[units[m]], null), (np.abs(z[units[m]]), np.abs(null))):
                total = np.zeros((len(inner), d, v.shape[2]))
                np.add.at(total, at, np.einsum("iq,ior->iqor", x, v).reshape(len(at), d, -1))
                sums.append(total)
            component = int(inner[0]) if errors.by_unit else -1 - int(numbers[m])
            reach.setdefault(component, []).append((sums[0], sums[1]))
    for totals in reach.values():
        A, most = (np.concatenate(each, axis=2) for each in zip(*totals, strict=True))
        size = np.sqrt(np.einsum("gdr,de,ger->r", most, np.abs(Psi), most))
        if not size.all():
            return False
        left = np.einsum("gdr,de,ges->rs", A / size, Psi, A / size)
        if np.linalg.eigvalsh(left)[0] <= MAKES_UP:
            return False
    return True
