"""Random effects given the data: BLUPs of effects and outcomes, with both of their covariances.

For the levels 1…ℓ, ĝ = Z ΨZᵀ Σ⁻¹ r is predicted with the full marginal Σ. What the outer levels and
the coefficients leave uncertain, Ω, comes down the tree (``likelihood.sweep``); inside a block

    g = U v + G₀ W (r − U_o v),   Cov = (U − G₀WU_o) Ω (U − G₀WU_o)ᵀ + G − G₀WG₀ᵀ,

with W the inverse of the block's own covariance, v the outer effects and coefficients, U and U_o
their columns at the predicted and at the observed outcomes, and G, G₀ the covariances ZΨZᵀ of the
inner levels among the predicted, and between predicted and observed, outcomes. So missing outcomes
are predicted from the observed ones, and nothing of size n_i × n_i is formed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace, tree
from mixmeta_jax.design.design import Design
from mixmeta_jax.design.tensors import Block, Tensors, arrange, masked
from mixmeta_jax.estimation.executors import executed
from mixmeta_jax.likelihood.algebra import matmul, transpose, vector
from mixmeta_jax.likelihood.columns import State
from mixmeta_jax.likelihood.sweep import downward, prior_covariance, upward


@dataclass(frozen=True)
class Posterior:
    """Predictions at levels 1…ℓ of L.

    Attributes
    ----------
    mean
        Sum of the random effects Z b, shape (n, k).
    random_variance
        ZΨZᵀ − ZΨZᵀΣ⁻¹ZΨZᵀ of each unit, shape (n, k, k).
    variance_paper
        XVXᵀ + ``random_variance`` (equation 6), shape (n, k, k).
    variance_exact
        Covariance of Xβ̂ + Zb̂ − Zb that counts Cov(β̂, b̂), shape (n, k, k).
    residual_exact
        The same of Zb̂ − Zb alone, shape (n, k, k).
    effects, effect_vcov
        Per level up to ℓ, outer first: b̂, shape (groups, d), and its covariance given the
        coefficients, shape (groups, d, d).
    """

    mean: np.ndarray
    random_variance: np.ndarray
    variance_paper: np.ndarray
    variance_exact: np.ndarray
    residual_exact: np.ndarray
    effects: tuple[np.ndarray, ...]
    effect_vcov: tuple[np.ndarray, ...]


def posterior(
    design: Design,
    Psi: tuple[np.ndarray, ...],
    beta: np.ndarray,
    vcov: np.ndarray,
    level: int | None = None,
) -> Posterior:
    """Predict the random effects of the levels 1…``level`` (default: all).

    Parameters
    ----------
    design
        The data, of the fit or of new groups, its arrays numpy's.
    Psi
        Covariance of the random effects per level, outer first.
    beta, vcov
        Coefficients, shape (P,), and their covariance, shape (P, P).
    level
        Innermost level whose effects are added, 0…L; 0 gives zeros and XVXᵀ.
    """
    n, k = design.n, design.k
    level = len(Psi) if level is None else level
    X = np.kron(design.X[:, None, :], np.eye(k)).reshape(n, k, -1)
    fixed = X @ vcov @ X.transpose(0, 2, 1)
    nothing = np.zeros((n, k, k))
    if level == 0:
        return Posterior(np.zeros((n, k)), nothing, fixed, fixed, nothing, (), ())
    residual = np.where(design.mask, design.y, 0.0) - (X @ beta)
    design = replace(design, y=residual)
    everywhere = replace(design, mask=np.ones((n, k), bool), complete=True)
    inverse = np.kron(np.linalg.inv(design.basis), np.eye(k))
    found = executed(
        _predictions,
        design,
        tuple(P[:, :, None] for P in Psi),
        arrange(design),
        arrange(everywhere),
        _root(inverse @ vcov @ inverse.T)[:, :, None],
        level=level,
    )
    means, *covariances = zip(*found.outcomes, strict=True)
    mean = _to_units(design, means)[:, :, 0]
    random_variance, exact, residual_exact = (_to_units(design, c) for c in covariances)
    effects, effect_vcov = [], []
    for index in range(level):
        if index in design.layout.absorbed:
            b, cov = found.effects[index]
            groups = int(design.groups[:, index].max()) + 1
            b, cov = b[..., 0].T[:groups], np.moveaxis(cov[..., 0], -1, 0)[:groups]
        else:
            b, cov = _inside_effects(design, index, Psi[index], found.projections)
        effects.append(b)
        effect_vcov.append(cov)
    return Posterior(
        mean,
        random_variance,
        fixed + random_variance,
        exact,
        residual_exact,
        tuple(effects),
        tuple(effect_vcov),
    )


@tree
@dataclass(frozen=True)
class PosteriorParts:
    """What is computed bucket by bucket, the blocks and an axis of length 1 last.

    Attributes
    ----------
    outcomes
        Per bucket: mean, shape (n_b, k, 1, N), and the three covariances of `Posterior`, shape
        (n_b, k, k, N).
    projections
        Per bucket: e = Σ⁻¹r, shape (s, N, 1), and the block of Σ⁻¹, shape (s, s, N, 1).
    effects
        Per level, outer first: b̂ of an absorbed one, shape (d, G, 1), and its covariance, (d, d, G,
        1); None for the others.
    """

    outcomes: tuple[tuple[Array, ...], ...]
    projections: tuple[tuple[Array, Array], ...]
    effects: tuple[tuple[Array, Array] | None, ...]


def _predictions(
    Psi: tuple[Array, ...], seen: Tensors, everywhere: Tensors, root: Array, *, level: int
) -> PosteriorParts:
    """Predict from the observed outcomes (``seen``) at all of them (``everywhere``)."""
    seen, everywhere = masked(seen), masked(everywhere)
    up = upward(Psi, seen, whole=True)
    xp = namespace(*Psi, root)
    nothing = xp.zeros((len(root), 1))
    given = downward(up, seen, nothing, None)
    joint = downward(up, seen, nothing, root)
    effects: list[Any] = [None] * len(Psi)
    for state, index in zip(given.states, seen.absorbed, strict=True):
        d = len(Psi[index])
        effects[index] = (-state.c[:d], state.zz[:d, :d])
    outcomes = []
    for b, block in enumerate(seen.blocks):
        columns, target = up.columns[b], everywhere.blocks[b]
        inner = [Psi[index] if index < level else None for index in seen.inside]
        across = xp.zeros_like(columns.R) + prior_covariance(target, block, inner)
        project = matmul(across, transpose(columns.R))
        G = prior_covariance(target, target, inner) - matmul(project, transpose(project))
        mean = vector(project, columns.y[0])
        explained = matmul(project, transpose(columns.x))
        fixed = _columns([target.x], block) - explained
        above = joined = None
        random = None
        if seen.absorbed:
            above = given.states[0].at(block.parent)
            joined = joint.states[0].at(block.parent)
            levels = zip(target.z[len(seen.inside) :], seen.absorbed, strict=True)
            shown = [z * (1.0 if index < level else 0.0) for z, index in levels]
            random = _columns(shown, block) - matmul(project, transpose(columns.z))
            mean = mean - vector(random, above.c)
        n_b, k, N, _ = block.y.shape
        covariances = (
            _spread(random, None, above, None),
            _spread(random, fixed, joined, root),
            _spread(random, -explained, joined, root),
        )
        outcomes.append(
            (
                mean.reshape(n_b, k, 1, -1),
                *(_unit_blocks(cov + G, n_b, k) for cov in covariances),
            )
        )
    projections = tuple(zip(given.residuals, given.precisions, strict=True))
    return PosteriorParts(tuple(outcomes), projections, tuple(effects))


def _spread(
    random: Array | None, fixed: Array | None, state: State | None, root: Array | None
) -> Array | float:
    """The covariance of columns times the weights of outer effects and coefficients."""
    total: Any = 0.0
    if fixed is not None and root is not None:
        half = matmul(fixed, transpose(root)[:, :, None])
        total = matmul(half, transpose(half))
    if random is not None and state is not None:
        total = total + matmul(matmul(random, state.zz), transpose(random))
        if state.zx is not None and fixed is not None:
            mixed = matmul(matmul(random, state.zx), transpose(half))
            total = total + mixed + transpose(mixed)
    return total


def _root(V: np.ndarray) -> np.ndarray:
    """R with V = RᵀR; NaN where there is none."""
    try:
        return np.linalg.cholesky(V).T
    except np.linalg.LinAlgError:
        return np.full_like(V, np.nan)


def _unit_blocks(cov: Array, n_b: int, k: int) -> Array:
    """The blocks of units with themselves, shape (n_b, k, k, N)."""
    cov = cov.reshape(n_b, k, n_b, k, -1)
    return namespace(cov).einsum("ukuln->ukln", cov)


def _columns(levels: list[Array], block: Block) -> Array:
    """Predictors ⊗ I_k at the outcomes of a bucket, shape (s, columns, N, 1)."""
    n_b, k, N, _ = block.y.shape
    xp = namespace(*levels)
    eye = np.eye(k)[None, None, :, :, None, None]
    parts = []
    for predictors in levels:
        spread = predictors[:, :, :, None] * eye
        # (q, n_b, k, k, N, 1) to rows (n_b, k) and columns (q, k)
        spread = xp.transpose(spread, (1, 2, 0, 3, 4, 5))
        parts.append(spread.reshape(n_b * k, len(predictors) * k, N, 1))
    return xp.concatenate(parts, 1)


def _to_units(design: Design, parts: tuple[np.ndarray, ...]) -> np.ndarray:
    """Bucket arrays (n_b, k, c, N) back to units, shape (n, k, c)."""
    k, c = parts[0].shape[1:3]
    units = np.zeros((design.n, k, c))
    for bucket, values in zip(design.layout.buckets, parts, strict=True):
        used = bucket.rows < design.n
        units[bucket.rows[used]] = np.moveaxis(values, -1, 1)[used]
    return units


def _inside_effects(
    design: Design, index: int, Psi: np.ndarray, projections: tuple[tuple[np.ndarray, ...], ...]
) -> tuple[np.ndarray, np.ndarray]:
    """b̂ = ΨZᵀe and Ψ − ΨZᵀΣ⁻¹ZΨ for the groups of a level inside the blocks."""
    k, q = design.k, design.Z[index].shape[1]
    group = np.append(design.groups[:, index], -1)
    Z = np.append(design.Z[index], np.zeros((1, q)), axis=0)
    seen = np.append(design.mask, np.zeros((1, k), bool), axis=0)
    n_groups = int(group.max()) + 1
    s = np.zeros((n_groups, q, k))
    T = np.zeros((n_groups, q, k, q, k))
    for bucket, (e, P) in zip(design.layout.buckets, projections, strict=True):
        n_b, N = bucket.rows.shape
        e = e.reshape(n_b, k, -1)
        P = P.reshape(n_b, k, n_b, k, -1)
        for u, rows in enumerate(bucket.rows):
            used = rows < design.n
            at = rows[used]
            left = Z[at][:, :, None] * seen[at][:, None, :]
            np.add.at(s, group[at], left * e[u].T[used][:, None])
            for v, others in enumerate(bucket.rows):
                pair = used & (group[rows] == group[others])
                a, b = rows[pair], others[pair]
                block = np.moveaxis(P[u, :, v], -1, 0)[pair]
                block = block * seen[a][:, :, None] * seen[b][:, None, :]
                term = np.einsum("ga,gop,gb->gaobp", Z[a], block, Z[b])
                np.add.at(T, group[a], term)
    d = q * k
    s, T = s.reshape(-1, d), T.reshape(-1, d, d)
    return s @ Psi, Psi - Psi @ T @ Psi
