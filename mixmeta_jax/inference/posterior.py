"""Random effects given the data: BLUPs of effects and outcomes, with both of their covariances.

For the levels 1…ℓ, ĝ = Z ΨZᵀ Σ⁻¹ r is predicted with the full marginal Σ. What the outer levels and
the coefficients leave uncertain, Ω, comes down the tree (``model.sweep``); inside a block

    g = U v + G₀ W (r − U_o v),   Cov = (U − G₀WU_o) Ω (U − G₀WU_o)ᵀ + G − G₀WG₀ᵀ,

with W the inverse of the block's own covariance, v the outer effects and coefficients, U and U_o
their columns at the predicted and at the observed outcomes, and G, G₀ the covariances ZΨZᵀ of the
inner levels among the predicted, and between predicted and observed, outcomes. So missing outcomes
are predicted from the observed ones, and nothing of size n_i × n_i is formed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mixmeta_jax.design.design import BlockTensors, Design, Tensors, arrange
from mixmeta_jax.likelihood.algebra import matmul, transpose
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
    V = inverse @ vcov @ inverse.T
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        found = jax.device_get(
            _predictions(Psi, arrange(design), arrange(everywhere), V, level=level)
        )
    means, *covariances = zip(*found.outcomes, strict=True)
    mean = _to_units(design, means)[:, :, 0]
    random_variance, exact, residual_exact = (_to_units(design, c) for c in covariances)
    effects, effect_vcov = [], []
    for index in range(level):
        if index in design.layout.absorbed:
            b, cov = found.effects[index]
            groups = int(design.groups[:, index].max()) + 1
            b, cov = b.T[:groups], np.moveaxis(cov, -1, 0)[:groups]
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Found:
    """What the device computes, batch last.

    Attributes
    ----------
    outcomes
        Per bucket: mean, shape (n_b, k, 1, N), and the three covariances of `Posterior`, shape
        (n_b, k, k, N).
    projections
        Per bucket: e = Σ⁻¹r, shape (s, N), and the block of Σ⁻¹, shape (s, s, N).
    effects
        Per absorbed level, by its index: b̂, shape (d, G), and its covariance, (d, d, G).
    """

    outcomes: tuple[tuple[Array, ...], ...]
    projections: tuple[tuple[Array, Array], ...]
    effects: dict[int, tuple[Array, Array]]


@functools.partial(jax.jit, static_argnames="level")
def _predictions(
    Psi: tuple[Array, ...], seen: Tensors, everywhere: Tensors, V: Array, *, level: int
) -> Found:
    """Predict from the observed outcomes (``seen``) at all of them (``everywhere``)."""
    assert not seen.shifts  # the states hold −b itself
    up = upward(Psi, seen)
    nothing = jnp.zeros(V.shape[0])
    given = downward(up, seen, nothing, jnp.zeros_like(V))
    joint = downward(up, seen, nothing, V)
    effects = {}
    for a, index in enumerate(reversed(seen.absorbed)):
        d = Psi[index].shape[0]
        c, omega = given.states[a + 1]
        effects[index] = (-c[:d], omega[:d, :d])
    outcomes = []
    for b, block in enumerate(seen.blocks):
        c, omega = _state(given.states[-1], block.parent)
        _, omega_joint = _state(joint.states[-1], block.parent)
        R = up.whiteners[b]
        target = everywhere.blocks[b]
        inner = [Psi[index] if index < level else None for index in seen.inside]
        across = jnp.zeros_like(R) + prior_covariance(target, block, inner)
        project = matmul(across, transpose(R))
        G = prior_covariance(target, target, inner) - matmul(project, transpose(project))
        U_seen = jnp.swapaxes(up.columns[b], 0, 1)  # whitened [Z, X, y], (s, r, N)
        shown = [index < level for index in seen.absorbed]
        U_random = _columns(target, len(seen.inside), [*shown, False])
        U_fixed = _columns(target, len(seen.inside), [*shown, True])
        explained = matmul(project, U_seen)
        mean = matmul(explained, c[:, None]) - matmul(U_random, c[:-1, None])
        explained = explained[:, :-1]
        covariances = [
            _sandwich(U_random - explained, omega) + G,
            _sandwich(U_fixed - explained, omega_joint) + G,
            _sandwich(U_random - explained, omega_joint) + G,
        ]
        n_b, k, N = block.y.shape
        outcomes.append(
            (
                mean.reshape(n_b, k, 1, -1),
                *(_unit_blocks(cov, n_b, k) for cov in covariances),
            )
        )
    projections = tuple(zip(given.residuals, given.precisions, strict=True))
    return Found(tuple(outcomes), projections, effects)


def _state(state: tuple[Array, Array], parent: Array | None) -> tuple[Array, Array]:
    c, omega = state
    return (c, omega) if parent is None else (c[:, parent], omega[:, :, parent])


def _sandwich(A: Array, B: Array) -> Array:
    return matmul(matmul(A, B), transpose(A))


def _unit_blocks(cov: Array, n_b: int, k: int) -> Array:
    cov = cov.reshape(n_b, k, n_b, k, cov.shape[-1])
    return jnp.stack([cov[u, :, u] for u in range(n_b)])


def _columns(block: BlockTensors, n_inside: int, shown: list[bool]) -> Array:
    """Columns [absorbed Z, X] at the outcomes of a bucket, zero unless shown, (s, r − 1, N)."""
    n_b, k, N = block.y.shape
    eye = jnp.eye(k)[None, None, :, :, None]
    parts = []
    for predictors, visible in zip((*block.z[n_inside:], block.x), shown, strict=True):
        q = predictors.shape[0]
        spread = predictors[:, :, :, None] * eye * (1.0 if visible else 0.0)
        # (q, n_b, k, k, N) to rows (n_b, k) and columns (q, k)
        parts.append(jnp.transpose(spread, (1, 2, 0, 3, 4)).reshape(n_b * k, q * k, N))
    return jnp.concatenate(parts, 1)


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
