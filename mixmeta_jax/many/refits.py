"""A fitted model on other data: outcomes or predictors replaced, or its groups drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mixmeta_jax.control import Control, as_control
from mixmeta_jax.design.design import Design, orthonormal_basis
from mixmeta_jax.estimation.drawn import drawn_outcomes
from mixmeta_jax.estimation.estimator import fit_design
from mixmeta_jax.estimation.interrupts import heed, listening
from mixmeta_jax.estimation.jobs import ManyEstimates
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.many.many_checks import sound_members
from mixmeta_jax.many.many_data import ManyModel
from mixmeta_jax.many.many_fits import DEFAULT_RETURNS, ManyFits, fit_model, many_result
from mixmeta_jax.many.progress import progress_bar
from mixmeta_jax.status import Status
from mixmeta_jax.table.frame_design import arranged
from mixmeta_jax.table.within_study import WithinStudy

REFIT_RETURNS = (*DEFAULT_RETURNS, "se", "reason")

REFIT_NUMBERS = 20_000_000
"""Outcomes of the data sets that are there at a time: 160 megabytes."""


def refit(
    fit: FittedModel,
    y: np.ndarray,
    X: np.ndarray | None = None,
    progress: bool = True,
    more: Sequence[str] = (),
) -> ManyFits:
    """The model on other outcomes, the offset taken off, and predictors of each data set, if any.

    Parameters
    ----------
    fit
        The fitted model.
    y, X
        Shape (B, n, k) and (B, n, p).
    progress
        Whether long work shows a bar.
    more
        What they return beside `REFIT_RETURNS`.
    """
    design, seen = _tight(fit), np.isfinite(y)
    same = bool((seen == seen[:1]).all())
    design = replace(
        design,
        y=y,
        X=design.X if X is None else X,
        mask=seen[0] if same else seen,
        complete=bool(seen.all()),
    )
    return _fits(fit, design, progress, more)


def refit_drawn(
    fit: FittedModel, mean: np.ndarray, n: int, seed: int, first: int, progress: bool = True
) -> ManyFits:
    """The model on n data sets that JAX draws from it around a mean, where they are fitted."""
    design = _tight(fit)
    mean = np.where(design.mask, mean, np.nan)
    Psi = () if fit.method == "fixed" else fit.Psi_by_level
    outcomes: Any = drawn_outcomes(design, mean, Psi, n, seed, first)
    return _fits(fit, replace(design, y=outcomes), progress)


def _tight(fit: FittedModel) -> Design:
    """The design of a fit as many data sets share it, its axes not padded."""
    design = fit.design
    shape = design.y.shape[-2:]
    layout, S = arranged(fit.frame.within, list(design.groups.T), design.dims, shape)
    return replace(design, S=S, layout=layout)


def levels_of(found: ManyFits) -> list[np.ndarray]:
    """Ψ of each level of the refits, outer first, shape (B, d, d); none for fixed effects."""
    if isinstance(found.Psi, dict):
        return list(found.Psi.values())
    return [] if found.Psi is None else [found.Psi]


def without(fit: FittedModel, out: np.ndarray, progress: bool = True) -> ManyFits:
    """The model without some of its units, those that are True in ``out``, shape (B, n)."""
    y = fit.design.y
    parts: list[ManyFits] = []
    at_once = max(1, REFIT_NUMBERS // y.size)
    for first in range(0, len(out), at_once):
        chosen = out[first : first + at_once]
        if parts and was_interrupted(parts[-1]):
            parts.append(nothing_fitted(fit, len(chosen)))
            continue
        parts.append(refit(fit, np.where(chosen[:, :, None], np.nan, y), progress=progress))
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: Sequence[ManyFits]) -> ManyFits:
    """Several of one kind as one."""
    arrays: dict[str, Any] = {"n_sets": sum(map(len, parts))}
    for name in REFIT_RETURNS:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], dict):
            arrays[name] = {
                level: np.concatenate([own[level] for own in values]) for level in values[0]
            }
        elif values[0] is not None:
            arrays[name] = np.concatenate(values)
    return replace(parts[0], **arrays)


def converged(found: ManyFits) -> np.ndarray:
    """Which of the refits are maxima, shape (B,)."""
    assert found.converged is not None
    return found.converged


def resample(fit: FittedModel, drawn: np.ndarray, progress: bool = True) -> ManyFits:
    """The model on outer groups, shape (B, m), each a group of its own as often as it is there."""
    codes = fit.design.groups
    members = [np.flatnonzero(codes[:, 0] == g) for g in range(int(codes[:, 0].max()) + 1)]
    n, L = codes.shape
    untied = L == 1 or (L == 2 and len(np.unique(codes[:, 1])) == n)
    if untied and fit.frame.within.blocks is None:
        return _fits(fit, _in_slots(fit.design, members, drawn), progress)
    return _one_by_one(fit, members, drawn, progress)


def _in_slots(design: Design, members: Sequence[np.ndarray], drawn: np.ndarray) -> Design:
    """Drawn groups of rows without further ties, each in a slot as long as the longest of them."""
    B, m = drawn.shape
    r = max(map(len, members))
    table = np.full((len(members), r), design.n)
    for g, rows in enumerate(members):
        table[g, : len(rows)] = rows
    source = table[drawn].reshape(B, m * r)
    empty = source == design.n
    row = np.minimum(source, design.n - 1)
    y = np.where(empty[..., None], np.nan, design.y[row])
    seen = np.isfinite(y)
    S = design.S[row]
    codes = [np.repeat(np.arange(m), r), np.arange(m * r)][: design.groups.shape[1]]
    layout, _ = arranged(WithinStudy(S[0], None), codes, design.dims, y.shape[1:])
    return replace(
        design,
        y=y,
        X=design.X[row],
        S=S,
        Z=tuple(Z[row] for Z in design.Z),
        mask=seen,
        groups=np.stack(codes, axis=1),
        layout=layout,
        complete=bool(seen.all()),
    )


def nothing_fitted(fit: FittedModel, n: int) -> ManyFits:
    """The result of an interrupt before the first of n data sets was fitted, with its warning."""
    own = fit.design.without_levels() if fit.method == "fixed" else fit.design
    own = replace(own, y=np.broadcast_to(own.y, (n, *own.y.shape)))
    found, reason = ManyEstimates.empty(own, REFIT_RETURNS), np.full(n, "", dtype=object)
    return many_result(
        ManyModel(own, fit.frame), found, {"reason": reason}, fit.method, REFIT_RETURNS
    )


def refit_both(
    fits: Sequence[FittedModel], y: np.ndarray, progress: bool = True
) -> tuple[ManyFits, ManyFits]:
    """Two models on the same data sets; the second is not begun where Ctrl-C ended the first."""
    one, other = fits
    found = refit(one, y, progress=progress)
    if was_interrupted(found):
        return found, nothing_fitted(other, len(y))
    return found, refit(other, y, progress=progress)


def was_interrupted(found: ManyFits) -> bool:
    """Whether Ctrl-C has left some of the refits."""
    return bool((found.status == Status.INTERRUPTED).any())


def _one_by_one(
    fit: FittedModel, members: Sequence[np.ndarray], drawn: np.ndarray, progress: bool
) -> ManyFits:
    """Draws in which S or inner levels tie rows differently: every one by itself."""
    own = fit.design.without_levels() if fit.method == "fixed" else fit.design
    own = replace(own, y=np.broadcast_to(own.y, (len(drawn), *own.y.shape)))
    found = ManyEstimates.empty(own, REFIT_RETURNS)
    reason = np.full(len(drawn), "", dtype=object)
    try:
        with listening(), progress_bar(len(drawn), progress) as tick:
            for b, groups in enumerate(drawn):
                design = _drawn(fit, [members[g] for g in groups])
                alone = replace(design, y=design.y[None], X=design.X[None])
                _, status, words = sound_members(ManyModel(alone, fit.frame), fit.method)
                found.status[b], reason[b] = status[0], words[0]
                if status[0] < 0:
                    one = fit_design(design, fit.method, settings_of(fit))
                    found.keep(b, one.beta, one.vcov, one.theta, one.Psi or ())
                    found.loglik[b], found.n_iter[b] = one.loglik, one.n_iter
                    found.status[b] = one.status
                tick(1)
                heed()
    except KeyboardInterrupt:
        found.withdraw(np.flatnonzero(found.status < 0))
    return many_result(
        ManyModel(own, fit.frame), found, {"reason": reason}, fit.method, REFIT_RETURNS
    )


def _drawn(fit: FittedModel, members: Sequence[np.ndarray]) -> Design:
    """The design of groups of rows that stand side by side, as `design_from_frame` makes it."""
    design, within = fit.design, fit.frame.within
    rows = np.concatenate(members)
    slot = np.repeat(np.arange(len(members)), [len(own) for own in members])
    pairs = [np.column_stack([slot, codes]) for codes in design.groups[rows].T]
    codes = [np.unique(pair, axis=0, return_inverse=True)[1].ravel() for pair in pairs]
    if within.unit is not None:
        drawn = WithinStudy(within.unit[rows], None)
    else:
        # A block of S covers rows of one outer group.
        first = np.cumsum([0, *map(len, members)])
        of = {units[0]: (units, S) for units, S in within.blocks or ()}
        blocks = [
            (first[s] + np.searchsorted(own, of[row][0]), of[row][1])
            for s, own in enumerate(members)
            for row in own
            if row in of
        ]
        drawn = WithinStudy(None, tuple(blocks))
    X, mask = design.X[rows], design.mask[rows]
    layout, S = arranged(drawn, codes, design.dims, mask.shape, tight=False)
    return replace(
        design,
        y=design.y[rows],
        X=X,
        S=S,
        Z=tuple(Z[rows] for Z in design.Z),
        mask=mask,
        basis=orthonormal_basis(X),
        groups=np.stack(codes, axis=1),
        layout=layout,
        complete=bool(mask.all()),
    )


def _fits(fit: FittedModel, design: Design, progress: bool, more: Sequence[str] = ()) -> ManyFits:
    model, returns = ManyModel(design, fit.frame), (*REFIT_RETURNS, *more)
    return fit_model(model, fit.method, settings_of(fit), returns, None, progress)


def settings_of(fit: FittedModel) -> Control:
    """Those of the fit, less what is for a single fit."""
    return replace(as_control(fit._arguments["control"]), start=None, mesh=None, verbose=False)
