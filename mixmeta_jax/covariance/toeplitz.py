"""Toeplitz structures: a correlation of its own for each lag, the lag counted in positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.covariance.structure import START_POSITIONS, Structure, mean_variance, pairs

_Jet = tuple[Array, Array, Array]
"""Values (j, ...), slopes (j, n, ...) and second derivatives (j, n, n, ...) in n angles."""


class _ByLags(Structure):
    """Ψ = (s sᵀ) ∘ C, where C_ij depends on the lag |i − j| alone.

    The partial autocorrelations of C are the sines of angles: any in [−1, 1] make a positive
    semidefinite C, and every such C has some (Durbin and Levinson's recursion).
    """

    min_dim = 2
    rugged = True
    by_parameters = True

    def _sizes(self, theta: Array, d: int) -> _Jet:
        """The standard deviations s, and their derivatives in the parameters before the angles."""
        raise NotImplementedError

    def _of_sizes(self, variances: Any) -> Any:
        """The parameters before the angles, at variances of shape (d, ...)."""
        raise NotImplementedError

    def _parts(self, theta: Array, d: int) -> tuple[_Jet, _Jet]:
        lags = np.abs(np.subtract.outer(np.arange(d), np.arange(d)))
        values, first, second = autocorrelations(theta[len(theta) - d + 1 :])
        return self._sizes(theta, d), (values[lags], first[lags], second[lags])

    def psi(self, theta: Array, d: int) -> Array:
        (s, _, _), (C, _, _) = self._parts(theta, d)
        return s[:, None] * s[None] * C

    def slopes(self, theta: Array, d: int) -> Array:
        (s, ds, _), (C, dC, _) = self._parts(theta, d)
        half = ds[:, None] * (s[None] * C)[:, :, None]
        turned = (s[:, None] * s[None])[:, :, None] * dC
        return namespace(theta).concatenate([half + half.swapaxes(0, 1), turned], 2)

    def curvature(self, theta: Array, d: int, gradient: Array) -> Array:
        xp = namespace(theta, gradient)
        (s, ds, dds), (C, dC, ddC) = self._parts(theta, d)
        pull = xp.einsum("ijb,jb->ib", gradient * C, s)
        own = xp.einsum("iab,ijb,jcb->acb", ds, gradient * C, ds)
        own = own + xp.einsum("iacb,ib->acb", dds, pull)
        edge = xp.einsum("iab,ijb,ijcb,jb->acb", ds, gradient, dC, s, optimize=True)
        corner = 0.5 * xp.einsum("ijb,ijacb->acb", gradient * s[:, None] * s[None], ddC)
        upper = xp.concatenate([own, edge], 1)
        lower = xp.concatenate([xp.swapaxes(edge, 0, 1), corner], 1)
        return xp.concatenate([upper, lower])

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        sd = np.sqrt(np.diag(Psi))
        there = sd > 0
        root = np.where(there, sd, 1.0)
        R, d = Psi / np.outer(root, root), len(Psi)
        lags = [[(i, j) for i, j in pairs(d, lag) if there[i] and there[j]] for lag in range(1, d)]
        means = [np.mean([R[at] for at in own]) if own else 0.0 for own in lags]
        return np.concatenate([self._of_sizes(np.diag(Psi)), angles_of(np.array(means))])

    def starts(self, variances: Any) -> list[Any]:
        xp, sizes, d = namespace(variances), self._of_sizes(variances), len(variances)
        rest = sizes.shape[1:]
        first = [np.arcsin(2 * part - 1) for part in START_POSITIONS]
        others = xp.zeros((d - 2, *rest))
        return [xp.concatenate([sizes, xp.full((1, *rest), one), others]) for one in first]


class Toeplitz(_ByLags):
    """One variance and a correlation of its own for each lag, the lag counted in positions.

    θ holds the standard deviation, then angles whose sines are the partial autocorrelations of the
    lags 1, ..., d − 1.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> theta = np.array([2.0, np.arcsin(0.5), 0.0])  # no partial correlation at lag 2
    >>> mx.Toeplitz().psi(theta, 3).round(4)
    array([[4., 2., 1.],
           [2., 4., 2.],
           [1., 2., 4.]])
    """

    name = "toep"
    label = "Toeplitz"
    one_size = True

    def n_parameters(self, d: int) -> int:
        return d

    def _sizes(self, theta: Array, d: int) -> _Jet:
        xp, rest = namespace(theta), theta.shape[1:]
        one = xp.ones((d, *rest))
        return one * theta[0], one[:, None], xp.zeros((d, 1, 1, *rest))

    def _of_sizes(self, variances: Any) -> Any:
        return mean_variance(variances)


class HeterogeneousToeplitz(_ByLags):
    """One variance each and a correlation of its own for each lag, the lag counted in positions.

    θ holds the square roots of the standard deviations, then the angles of `Toeplitz`.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> theta = np.array([1.0, 2.0**0.5, 1.0, np.arcsin(0.5), 0.0])
    >>> mx.HeterogeneousToeplitz().psi(theta, 3).round(4)
    array([[1.  , 1.  , 0.25],
           [1.  , 4.  , 1.  ],
           [0.25, 1.  , 1.  ]])
    """

    name = "htoep"
    label = "Heterogeneous Toeplitz"

    def n_parameters(self, d: int) -> int:
        return 2 * d - 1

    def _sizes(self, theta: Array, d: int) -> _Jet:
        unit = np.eye(d).reshape(d, d, *(1,) * (theta.ndim - 1))
        root = theta[:d]
        both = unit[:, :, None] * unit[:, None]
        return root**2, 2 * unit * root, 2 * both * namespace(theta).ones_like(root)

    def _of_sizes(self, variances: Any) -> Any:
        return variances**0.25


def autocorrelations(angles: Array) -> _Jet:
    """1, r_1, ..., r_n of partial autocorrelations sin φ_1, ..., sin φ_n, in angles (n, ...)."""
    xp, n = namespace(angles), len(angles)
    unit = np.eye(n).reshape(n, n, *(1,) * (angles.ndim - 1))
    sine, cosine = xp.sin(angles), xp.cos(angles)

    def times(a: _Jet, b: _Jet) -> _Jet:
        mixed = a[1][:, :, None] * b[1][:, None]
        bent = a[2] * b[0][:, None, None] + mixed + xp.swapaxes(mixed, 1, 2)
        first = a[1] * b[0][:, None] + a[0][:, None] * b[1]
        return a[0] * b[0], first, bent + a[0][:, None, None] * b[2]

    def joined(a: _Jet, b: _Jet, sign: float = 0.0) -> _Jet:
        if sign:
            return tuple(x + sign * y for x, y in zip(a, b, strict=True))
        return tuple(xp.concatenate([x, y]) for x, y in zip(a, b, strict=True))

    rest = angles.shape[1:]
    one: _Jet = (xp.ones((1, *rest)), xp.zeros((1, n, *rest)), xp.zeros((1, n, n, *rest)))
    r, weights, left = one, None, one
    for k in range(n):
        turn = unit[k][None]
        partial: _Jet = (
            sine[k : k + 1],
            turn * cosine[k],
            -(unit[k][:, None] * unit[k])[None] * sine[k],
        )
        new = times(partial, left)
        if weights is not None:
            back = tuple(part[1:][::-1] for part in r)
            ahead = times(weights, back)
            new = joined(new, tuple(part.sum(0)[None] for part in ahead), 1.0)
            turned = tuple(part[::-1] for part in weights)
            weights = joined(weights, times(partial, turned), -1.0)
            weights = joined(weights, partial)
        else:
            weights = partial
        r = joined(r, new)
        left = joined(left, times(times(partial, partial), left), -1.0)
    return r


def angles_of(correlations: np.ndarray) -> np.ndarray:
    """Angles of the autocorrelations at lags 1, ..., n, those that are none brought to a bound."""
    weights, left, angles = np.zeros(0), 1.0, []
    r = np.append(1.0, correlations)
    for k in range(1, len(r)):
        excess = r[k] - weights @ r[1:k][::-1]
        partial = np.clip(excess / left, -1, 1) if left > 0 else 0.0
        weights = np.append(weights - partial * weights[::-1], partial)
        r[k] = r[k] - (excess - partial * left)
        left *= 1 - partial**2
        angles.append(np.arcsin(partial))
    return np.array(angles)
