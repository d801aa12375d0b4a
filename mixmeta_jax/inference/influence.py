"""First-order influence: exact derivatives of the estimates in the weights of cases.

The weight w_c of a case c (a unit, or a group of any level) is that of its log-density given all
other outcomes,

    ℓ_w(β, θ) = ℓ(β, θ) − Σ_c (1 − w_c) log f(y_c | y_−c; β, θ),

so that a weight of 1 keeps a case and a weight of 0 leaves it out; of independent groups it is
Σ_c w_c ℓ_c. Σ⁻¹ = W is linear in each weight, W_w = W − (1 − w_c) U_c with U_c = W_·c W_cc⁻¹ W_c·.
The restricted likelihood with weights is what integrating exp ℓ_w over β leaves,

    ℓ_R,w(θ) = ℓ_w(β̂_w, θ) − ½ log|XᵀW_wX| + constants,

which at w_c = 0 is, as it should be, that of the data without the case. With H = −∂²ℓ/∂θ∂θᵀ at the
maximum, e = Wr, t_c = W_·c W_cc⁻¹ e_c, q_a = XᵀWΣ_a e and Q_a = XᵀWΣ_aWX,

    ∂θ̂/∂w_c = H⁻¹ m_c,    ∂β̂/∂w_c = V (Xᵀt_c − Σ_a q_a ∂θ̂_a/∂w_c),
    m_ca = ½ ⟨Σ_a, 2 t_c eᵀ − t_c t_cᵀ − U_c + 2 U_c XVXᵀW − U_c XVXᵀ U_c⟩
           − (Xᵀt_c)ᵀ V q_a − ½ tr(V Q_a V XᵀU_cX)

without the terms in XVXᵀ for maximum likelihood. Of the outer groups U_c = W_c and t_c = e_c, and
m_c is the score of a group. Everything is one pass over the outer groups, in which Ψ stays whole:
the parameters come in at the end, by ∂Ψ/∂θ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg

from mixmeta_jax.covariance.structure import Structure
from mixmeta_jax.design.design import Design, parameters_by_level
from mixmeta_jax.inference.outer_groups import OuterGroups, Piece
from mixmeta_jax.tolerances import NO_INFLUENCE

INFLUENCE_NUMBERS = 4_000_000
"""Numbers of one array of the cases that are taken at a time: 32 megabytes."""


@dataclass(frozen=True)
class CaseDerivatives:
    """What the weights of C cases change, to first order.

    Attributes
    ----------
    beta
        ∂β̂/∂w, shape (C, P).
    theta
        ∂θ̂/∂w, shape (C, n_θ).
    Psi
        ∂Ψ̂/∂w of each level, outer first, shape (C, d, d).
    logdet
        ∂ log|V|/∂w, shape (C,).
    """

    beta: np.ndarray
    theta: np.ndarray
    Psi: tuple[np.ndarray, ...]
    logdet: np.ndarray


def case_derivatives(
    design: Design,
    Psi: Sequence[np.ndarray],
    theta: np.ndarray,
    beta: np.ndarray,
    vcov: np.ndarray,
    codes: np.ndarray,
    restricted: bool,
) -> CaseDerivatives:
    """Derivatives of the estimates in the weights of cases.

    Parameters
    ----------
    design
        The data.
    Psi, theta
        Ψ̂ of each level, outer first, and its parameters, shape (n_θ,); none for fixed effects.
    beta, vcov
        β̂, shape (P,), and V, shape (P, P).
    codes
        Case of each unit, 0…C−1, shape (n,); each within one outer group.
    restricted
        Whether the likelihood is the restricted one.
    """
    basis = np.kron(design.basis, np.eye(design.k))
    inverse = np.linalg.inv(basis)
    V = inverse @ vcov @ inverse.T
    C, P = int(codes.max()) + 1, len(beta)
    dims = [len(own) for own in Psi]
    sums, cases = _Sums(dims, P, V, restricted), _Cases(C, dims, V, restricted)
    expected = design.X @ beta.reshape(design.p, design.k)
    only = replace(design, y=np.where(design.mask, design.y - expected, 0.0))
    by_place = np.append(codes, -1)
    for piece in OuterGroups(only, tuple(own[None] for own in Psi), basis):
        part = _Columns(piece, design, len(Psi))
        sums.add(part)
        for which, g, at in _cases(by_place[piece.rows], design.k, P + sum(dims)):
            cases.add(part, which, g, at)
    if not len(theta):
        nothing = np.zeros((C, 0))
        slope = cases.scores @ V
        logdet = -np.einsum("cpq,pq->c", cases.products, V)
        return CaseDerivatives(slope @ basis.T, nothing, (), logdet)
    slopes, curvature = _maps(design, theta, sums.rises)
    q, Q, H = sums.in_parameters(slopes, curvature)
    mixed = np.concatenate(
        [
            np.einsum("cde,dea->ca", R, slope, optimize=True)
            for R, slope in zip(cases.rises, slopes, strict=True)
        ],
        1,
    )
    Vq = V @ q
    mixed -= cases.scores @ Vq
    VQV = np.einsum("ij,jka,kl->ila", V, Q, V, optimize=True)
    flat = cases.products.reshape(C, -1)
    if restricted:
        mixed -= 0.5 * flat @ VQV.reshape(P * P, -1)
    moved = mixed @ _inverse(H)
    slope = cases.scores @ V - moved @ Vq.T
    logdet = moved @ np.einsum("ij,jia->a", V, Q) - flat @ V.ravel()
    ends = np.cumsum([part.shape[2] for part in slopes])[:-1]
    changes = tuple(
        np.einsum("dea,ca->cde", part, own)
        for part, own in zip(slopes, np.split(moved, ends, axis=1), strict=True)
    )
    return CaseDerivatives(slope @ basis.T, moved, changes, logdet)


def _maps(
    design: Design, theta: np.ndarray, rises: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray]:
    """∂Ψ/∂θ of each level, (d, d, n), and ½ Σ ⟨rise, ∂²Ψ/∂θ∂θᵀ⟩, (n_θ, n_θ)."""
    levels = parameters_by_level(design.structures, design.dims, theta[:, None])
    slopes, parts = [], []
    with _double_precision(design.structures):
        for (structure, own, d), rise in zip(levels, rises, strict=True):
            slopes.append(np.asarray(structure.slopes(own, d))[..., 0])
            parts.append(np.asarray(structure.curvature(own, d, rise[..., None]))[..., 0])
    return slopes, linalg.block_diag(*parts)


def _double_precision(structures: Sequence[Structure]) -> Any:
    """That of JAX, where it takes the derivatives of a structure."""
    if all(structure.closed for structure in structures):
        return nullcontext()
    import jax

    return jax.enable_x64(True)


def _inverse(H: np.ndarray) -> np.ndarray:
    """The inverse of the information, null along directions that have none."""
    size = np.sqrt(np.maximum(np.diag(H), 0.0))
    size[size == 0] = 1.0
    values, vectors = np.linalg.eigh(H / np.outer(size, size))
    kept = values > NO_INFLUENCE
    scaled = vectors[:, kept] / size[:, None]
    return (scaled / values[kept]) @ scaled.T


class _Columns:
    """The columns of some outer groups, projected on the effects of every level.

    Attributes
    ----------
    seen
        Which places hold an observed outcome, shape (G, N).
    W, e, WX
        Σ⁻¹, shape (G, N, N), Wr, shape (G, N), and WX, shape (G, N, P).
    Z
        Per level: whether unit u belongs to inner group j, shape (G, J, n_u); Z, shape (G, n_u, q).
    s, H
        Per level: ZᵀWr and ZᵀWX of every inner group, shape (G, J, d) and (G, J, d, P).
    """

    def __init__(self, piece: Piece, design: Design, n_levels: int) -> None:
        self.k = design.k
        rows = piece.rows
        at = np.minimum(rows, design.n - 1)
        seen = design.mask[at] & (rows < design.n)[..., None]
        self.seen = seen.reshape(len(rows), -1)
        # A missing outcome has null columns, but a variance of one.
        self.W = piece.W[0] * self.seen[:, None]
        self.e = (self.W @ piece.y[0][..., None])[..., 0]
        self.WX = self.W @ piece.X[0]
        self.Z = []
        for level in range(n_levels):
            local = _numbered(np.where(rows < design.n, design.groups[:, level][at], -1))
            member = local[:, None] == np.arange(local.max() + 1)[:, None]
            self.Z.append((1.0 * member, design.Z[level][at], seen))
        self.s = [self.on_effects(level, self.e[..., None])[..., 0] for level in range(n_levels)]
        self.H = [self.on_effects(level, self.WX) for level in range(n_levels)]

    def on_effects(self, level: int, values: np.ndarray, g: Any = slice(None)) -> np.ndarray:
        """Zᵀ of columns at the outcomes, (C, N, c), by inner group: (C, J, d, c).

        ``g`` is the outer group of each of the C.
        """
        member, Z, seen = (array[g] for array in self.Z[level])
        C, n_u, q = Z.shape
        J = member.shape[1]
        values = values.reshape(C, n_u, self.k, -1) * seen[..., None]
        c = values.shape[-1]
        wide = Z[:, :, :, None, None] * values[:, :, None]  # (C, n_u, q, k, c)
        return (member @ wide.reshape(C, n_u, -1)).reshape(C, J, q * self.k, c)

    def between(self, left: int, right: int) -> np.ndarray:
        """ZᵀWZ of all pairs of inner groups of two levels, (G, J, d, J', d')."""
        half = self.on_effects(left, self.W)  # (G, J, d, N)
        G, J, d, N = half.shape
        made = self.on_effects(right, half.reshape(G, J * d, N).swapaxes(1, 2))
        return np.moveaxis(made.reshape(*made.shape[:3], J, d), (3, 4), (1, 2))


def _numbered(codes: np.ndarray) -> np.ndarray:
    """The distinct codes of each row numbered from 0, shape (G, n_u)."""
    order = np.argsort(codes, axis=1, kind="stable")
    inorder = np.take_along_axis(codes, order, 1)
    new = np.diff(inorder, axis=1, prepend=inorder[:, :1]) != 0
    numbers = np.empty_like(codes)
    np.put_along_axis(numbers, order, np.cumsum(new, 1), 1)
    return numbers


class _Sums:
    """Sums over all outer groups, in Ψ of each level."""

    def __init__(self, dims: Sequence[int], P: int, V: np.ndarray, restricted: bool) -> None:
        self.V, self.restricted = V, restricted
        self.rises = [np.zeros((d, d)) for d in dims]
        self.q = [np.zeros((P, d, d)) for d in dims]
        self.Q = [np.zeros((d * P, d * P)) for d in dims]
        self.pairs = {
            (a, b): np.zeros((dims[a] * dims[b],) * 2)
            for a in range(len(dims))
            for b in range(a, len(dims))
        }

    def add(self, own: _Columns) -> None:
        """Some outer groups."""
        for a, (s, H) in enumerate(zip(own.s, own.H, strict=True)):
            d, P = H.shape[2:]
            s, H = s.reshape(-1, d), H.reshape(-1, d, P)
            self.q[a] += np.einsum("jdp,je->pde", H, s, optimize=True)
            flat = H.reshape(-1, d * P)
            self.Q[a] += flat.T @ flat
        for a, b in self.pairs:
            w = own.between(a, b)  # (G, J, d, J', d')
            spread = own.s[a][:, :, :, None, None] * own.s[b][:, None, None]
            taken = 0.0
            if self.restricted:
                taken = np.einsum("gjdp,pq,gieq->gjdie", own.H[a], self.V, own.H[b], optimize=True)
            m = spread - 0.5 * w + taken
            if a == b:
                rise = spread - w + taken
                self.rises[a] += np.einsum("gjdje->de", rise)
            self.pairs[a, b] += _by_pair(m).T @ _by_pair(w)

    def in_parameters(
        self, slopes: Sequence[np.ndarray], curvature: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, shape (P, n_θ), Q, shape (P, P, n_θ), and H = −∂²ℓ/∂θ∂θᵀ, shape (n_θ, n_θ)."""
        P = len(self.V)
        q = np.concatenate(
            [np.einsum("pde,dea->pa", q, part) for q, part in zip(self.q, slopes, strict=True)], 1
        )
        Q = np.concatenate(
            [
                np.einsum(
                    "dpeq,dea->pqa", Q.reshape(len(part), P, len(part), P), part, optimize=True
                )
                for Q, part in zip(self.Q, slopes, strict=True)
            ],
            2,
        )
        blocks = [[np.zeros((a.shape[2], b.shape[2])) for b in slopes] for a in slopes]
        for (a, b), products in self.pairs.items():
            d, e = len(slopes[a]), len(slopes[b])
            # Σ m_de w_fg ∂_a,df ∂_b,eg
            own = np.einsum(
                "defg,dfa,egb->ab",
                products.reshape(d, e, d, e),
                slopes[a],
                slopes[b],
                optimize=True,
            )
            blocks[a][b] = own
            if a != b:
                blocks[b][a] = own.T
        H = np.block(blocks) - q.T @ self.V @ q - curvature
        if self.restricted:
            VQ = np.einsum("ij,jka->ika", self.V, Q)
            H -= 0.5 * np.einsum("ija,jib->ab", VQ, VQ, optimize=True)
        return q, Q, 0.5 * (H + H.T)


def _by_pair(values: np.ndarray) -> np.ndarray:
    """(G, J, d, J', d') as one row per pair of groups, (G·J·J', d·d')."""
    G, J, d, K, e = values.shape
    return values.transpose(0, 1, 3, 2, 4).reshape(G * J * K, d * e)


class _Cases:
    """What the cases have, each in one outer group."""

    def __init__(self, C: int, dims: Sequence[int], V: np.ndarray, restricted: bool) -> None:
        P = len(V)
        self.V, self.restricted = V, restricted
        self.scores = np.zeros((C, P))
        self.products = np.zeros((C, P, P))
        self.rises = [np.zeros((C, d, d)) for d in dims]

    def add(self, own: _Columns, which: np.ndarray, g: np.ndarray, at: np.ndarray) -> None:
        """Cases of one size.

        Parameters
        ----------
        own
            Outer groups.
        which, g
            Numbers of the cases, and the outer group of each, shape (C,).
        at
            Their outcomes within it, shape (C, m).
        """
        V = self.V
        places = g[:, None], at
        rows = own.W[places]  # (C, m, N)
        inner = np.take_along_axis(rows, at[:, None, :], 2)
        gaps = ~own.seen[places]
        inner = inner + gaps[:, :, None] * np.eye(at.shape[1])
        R = np.linalg.inv(np.linalg.cholesky(inner))
        e = (R @ own.e[places][..., None])[..., 0]
        F = R @ rows  # U = FᵀF
        FX = R @ own.WX[places]
        t = np.einsum("cmn,cm->cn", F, e)
        self.scores[which] = np.einsum("cmp,cm->cp", FX, e)
        self.products[which] = FX.swapaxes(1, 2) @ FX
        columns = np.concatenate([t[..., None], F.swapaxes(1, 2)], 2)
        for level, rises in enumerate(self.rises):
            on = own.on_effects(level, columns, g)  # (C, J, d, 1 + m)
            C, J, d, _ = on.shape
            zt, ZF = on[..., 0], on[..., 1:]
            cross = np.einsum("cjd,cje->cde", zt, own.s[level][g])
            less = np.einsum("cjd,cje->cde", zt, zt)
            U = np.einsum("cjdm,cjem->cde", ZF, ZF, optimize=True)
            if self.restricted:
                HV = own.H[level][g] @ V  # (C, J, d, P)
                UX = ZF @ FX[:, None]  # ZᵀU X
                cross = cross + np.einsum("cjdp,cjep->cde", UX, HV, optimize=True)
                less = less + np.einsum("cjdp,cjep->cde", UX @ V, UX, optimize=True)
            rises[which] = 0.5 * (cross + cross.swapaxes(1, 2) - less - U)


def _cases(
    codes: np.ndarray, k: int, widths: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The cases of some outer groups, those of one size together, a part at a time.

    ``codes`` has the case at each place, −1 for none, shape (G, n_u). Yields numbers of cases,
    their outer groups and their outcomes, as `_Cases.add` takes them.
    """
    n_u = codes.shape[1]
    flat = codes.ravel()
    order = np.argsort(flat, kind="stable")
    order = order[flat[order] >= 0]
    which, first, sizes = np.unique(flat[order], return_index=True, return_counts=True)
    for size in np.unique(sizes):
        same = np.flatnonzero(sizes == size)
        at_once = max(1, INFLUENCE_NUMBERS // int(n_u * k * (size * k + 1) * (1 + widths)))
        for start in range(0, len(same), at_once):
            chosen = same[start : start + at_once]
            places = order[first[chosen][:, None] + np.arange(size)]
            g, units = np.divmod(places, n_u)
            at = (units[:, :, None] * k + np.arange(k)).reshape(len(chosen), -1)
            yield which[chosen], g[:, 0], at
