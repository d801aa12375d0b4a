"""The maps θ → Ψ that the catalogue is made of, with their derivatives: factors, squares, angles.

    factored   Ψ = ΛΛᵀ, Λ a lower trapezoid        unstr, rr, fa
    squares    Ψ = Σ_a θ_a² M_a                    diag, id, cs, prop
    one scale  Ψ = θ_0² C(φ)                       ar1, car1
    scaled     Ψ = (s sᵀ) ∘ C(φ), s_i = θ_i²       hcs, har1, hcar1, cor

with an angle φ, the last parameter, where the correlation C has one. Arrays of θ may have a last
axis B, which Ψ and its derivatives then have too.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, Ruled, namespace
from mixmeta_jax.covariance import natural
from mixmeta_jax.covariance.natural import Bound, Natural
from mixmeta_jax.covariance.structure import START_POSITIONS, Structure, mean_variance
from mixmeta_jax.tolerances import NULL_VARIANCE


class Factored(Structure):
    """Ψ = ΛΛᵀ: θ begins with the lower trapezoid, by column, of Λ."""

    def __init__(self) -> None:
        # Order of the random effects in Λ, None for their own; the estimator may turn it.
        self.order: np.ndarray | None = None

    def _columns(self, d: int) -> int:
        """Number of columns of Λ."""
        raise NotImplementedError

    def ordered(self, order: np.ndarray) -> Structure:
        if (np.diff(order) > 0).all():
            return self
        turned = copy.copy(self)
        turned.order = order
        return turned

    def n_parameters(self, d: int) -> int:
        return len(trapezoid(d, self._columns(d))[0])

    def factor(self, theta: Array, d: int) -> Array:
        """Λ, its rows in the order of the random effects, shape (d, columns, ...)."""
        xp = namespace(theta)
        padded = xp.concatenate([xp.zeros((1, *theta.shape[1:])), theta])
        place = _places(d, self._columns(d))
        order = self.order
        return padded[place if order is None else xp.asarray(place)[_inverse(order)]]

    def psi(self, theta: Array, d: int) -> Array:
        factor = self.factor(theta, d)
        return namespace(theta).einsum("ij...,kj...->ik...", factor, factor)

    def _entries(self, xp: Any, d: int) -> tuple[Any, Any]:
        columns, rows = trapezoid(d, self._columns(d))
        return columns, rows if self.order is None else xp.asarray(self.order)[rows]

    def slopes(self, theta: Array, d: int) -> Array:
        # ∂Ψ/∂Λ_rc = e_r Λ_cᵀ + Λ_c e_rᵀ with the column c of Λ.
        xp = namespace(theta)
        columns, rows = self._entries(xp, d)
        moved = self.factor(theta, d)[:, columns]  # (d, n_θ, B)
        unit = xp.eye(d)[:, rows]
        half = unit[:, None, :, None] * moved[None]
        return half + xp.swapaxes(half, 0, 1)

    def curvature(self, theta: Array, d: int, gradient: Array) -> Array:
        columns, rows = self._entries(namespace(theta, gradient), d)
        together = columns[:, None] == columns
        return gradient[rows[:, None], rows] * together[:, :, None]

    def _in_order(self, Psi: np.ndarray) -> np.ndarray:
        """Ψ, its random effects in the order that they have in Λ."""
        return Psi if self.order is None else Psi[np.ix_(self.order, self.order)]

    def _turned(self, root: np.ndarray) -> np.ndarray:
        """θ of any F with FFᵀ = Ψ in the order of Λ, turned into a trapezoid; (d, columns)."""
        R = np.linalg.qr(root.T, mode="r")
        signs = np.where(np.diag(R) < 0, -1.0, 1.0)
        columns, rows = trapezoid(*root.shape)
        return (signs[:, None] * R).T[rows, columns]


@cache
def trapezoid(d: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the entries on and below the diagonal of a d × r matrix, by column."""
    return np.triu_indices(r, 0, d)


@cache
def _places(d: int, r: int) -> np.ndarray:
    """Where each entry of Λ stands in θ, from 1; 0 above the diagonal."""
    columns, rows = trapezoid(d, r)
    place = np.zeros((d, r), int)
    place[rows, columns] = np.arange(1, len(rows) + 1)
    return place


def _inverse(order: Array) -> Array:
    return namespace(order).argsort(order)


class Squares(Structure):
    """Ψ = Σ_a θ_a² M_a for matrices M_a that do not depend on θ."""

    def terms(self, d: int) -> Array:
        """The matrices M_a, shape (n_θ, d, d)."""
        raise NotImplementedError

    def psi(self, theta: Array, d: int) -> Array:
        xp = namespace(theta)
        return xp.einsum("aij,a...->ij...", self.terms(d), theta**2)

    def slopes(self, theta: Array, d: int) -> Array:
        xp = namespace(theta)
        return xp.einsum("aij,ab->ijab", self.terms(d), 2 * theta)

    def curvature(self, theta: Array, d: int, gradient: Array) -> Array:
        xp = namespace(theta, gradient)
        n = len(theta)
        slope = xp.einsum("aij,ijb->ab", self.terms(d), gradient)
        return slope[:, None] * np.eye(n)[:, :, None]

    def natural(self, theta: np.ndarray, Psi: np.ndarray, scale: np.ndarray) -> Natural:
        # Each term is a variance.
        terms = np.asarray(self.terms(len(Psi)))
        own = np.einsum("aii->ai", terms)[:, :, None]
        size = natural.coefficients(Psi, terms)[:, None] * own
        null = ((size <= NULL_VARIANCE * scale) | (own == 0)).all(1)
        alone = len(terms) == 1
        bounds = tuple(
            Bound("variance", -1 if alone else a, null[a])
            for a in range(len(terms))
            if null[a].any()
        )
        return natural.linear(terms, ~null, bounds)


class Turned(Structure):
    """Of sizes and the correlation C(φ), φ the last parameter."""

    angles: tuple[float, ...] = tuple(np.arcsin(2 * np.array(START_POSITIONS) - 1))
    """φ to start from."""

    def correlation(self, angle: Array, d: int) -> tuple[Array, Array, Array]:
        """C and its first two derivatives in the angle, shape (d, d, ...)."""
        raise NotImplementedError

    def sizes(self, variances: Any) -> Any:
        """The other parameters at variances of shape (d, ...)."""
        raise NotImplementedError

    def angle_of(self, Psi: np.ndarray) -> float:
        """φ of a matrix."""
        raise NotImplementedError

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return np.append(self.sizes(np.diag(Psi)), self.angle_of(Psi))

    def starts(self, variances: Any) -> list[Any]:
        xp, sizes = namespace(variances), self.sizes(variances)
        rest = (1, *sizes.shape[1:])
        return [xp.concatenate([sizes, xp.full(rest, angle)]) for angle in self.angles]


class OneScale(Turned):
    """Ψ = θ_0² C(φ)."""

    one_size = True

    def sizes(self, variances: Any) -> Any:
        return mean_variance(variances)

    def n_parameters(self, d: int) -> int:
        return 2

    def psi(self, theta: Array, d: int) -> Array:
        return theta[0] ** 2 * self.correlation(theta[1], d)[0]

    def slopes(self, theta: Array, d: int) -> Array:
        xp = namespace(theta)
        C, first, _ = self.correlation(theta[1], d)
        return xp.stack([2 * theta[0] * C, theta[0] ** 2 * first], 2)

    def curvature(self, theta: Array, d: int, gradient: Array) -> Array:
        xp = namespace(theta, gradient)
        C, first, second = ((gradient * part).sum((0, 1)) for part in self.correlation(theta[1], d))
        both = theta[0] * first
        return xp.stack([xp.stack([C, both]), xp.stack([both, 0.5 * theta[0] ** 2 * second])])

    def in_correlation(
        self, angle: np.ndarray, d: int
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """ρ at the angle, whether it is at a lower bound of 0, and C with its derivatives in ρ."""
        raise NotImplementedError

    def natural(self, theta: np.ndarray, Psi: np.ndarray, scale: np.ndarray) -> Natural:
        _, low, C = self.in_correlation(theta[-1], len(Psi))
        variance = np.einsum("iib->ib", Psi).mean(0)
        null = (variance <= NULL_VARIANCE * scale).any(0)
        return natural.one_scale(variance, C, null, low | natural.singular(C[0]))


class Scaled(Turned):
    """Ψ = (s sᵀ) ∘ C(φ) with the standard deviations s_i = θ_i²."""

    rugged = True
    has_angle = True

    def sizes(self, variances: Any) -> Any:
        return variances**0.25

    def n_parameters(self, d: int) -> int:
        return d + self.has_angle

    def psi(self, theta: Array, d: int) -> Array:
        sd = theta[:d] ** 2
        return sd[:, None] * sd[None] * self.correlation(theta[-1], d)[0]

    def slopes(self, theta: Array, d: int) -> Array:
        xp = namespace(theta)
        root, sd = theta[:d], theta[:d] ** 2
        C, first, _ = self.correlation(theta[-1], d)
        rows = C * sd[None]  # ∂Ψ/∂s_i = e_i rows_iᵀ + rows_i e_iᵀ
        own = np.eye(d)[:, None, :, None] * (2 * rows * root[:, None])[:, :, None]
        slopes = own + xp.swapaxes(own, 0, 1)
        if self.has_angle:
            turned = (sd[:, None] * sd[None] * first)[:, :, None]
            slopes = xp.concatenate([slopes, turned], 2)
        return slopes

    def curvature(self, theta: Array, d: int, gradient: Array) -> Array:
        # ½ sᵀ (gradient ∘ C) s, differentiated in the roots of s and in the angle.
        xp = namespace(theta, gradient)
        root, sd = theta[:d], theta[:d] ** 2
        C, first, second = (gradient * part for part in self.correlation(theta[-1], d))
        pull = (C * sd[None]).sum(1)
        own = 4 * root[:, None] * root[None] * C + 2 * pull[:, None] * np.eye(d)[:, :, None]
        if not self.has_angle:
            return own
        turned = first * sd[None]
        edge = 2 * root * turned.sum(1)
        corner = 0.5 * (second * sd[:, None] * sd[None]).sum((0, 1))
        inner = xp.concatenate([own, edge[:, None]], 1)
        last = xp.concatenate([edge, corner[None]])[None]
        return xp.concatenate([inner, last])

    def in_correlation(
        self, angle: np.ndarray, d: int
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """As `OneScale.in_correlation`."""
        raise NotImplementedError

    def natural(self, theta: np.ndarray, Psi: np.ndarray, scale: np.ndarray) -> Natural:
        variances = np.einsum("iib->ib", Psi)
        null = variances <= NULL_VARIANCE * scale
        _, low, C = self.in_correlation(theta[-1], len(Psi))
        return natural.scaled(variances, C, null, low | natural.singular(C[0]))


def power_of_sine(angle: Array, lags: np.ndarray) -> tuple[Array, Array, Array]:
    """ρ^lag of ρ = sin φ for whole lags, and its first two derivatives in φ."""
    xp = namespace(angle)
    rho, slope = xp.sin(angle), xp.cos(angle)
    highest = int(lags.max(initial=0))
    # As products: a power has no second derivative at ρ = 0.
    powers = [xp.ones_like(rho)]
    for _ in range(highest):
        powers.append(powers[-1] * rho)
    zero = xp.zeros_like(rho)
    first = [zero, *(lag * powers[lag - 1] for lag in range(1, highest + 1))]
    second = [zero, zero, *(lag * (lag - 1) * powers[lag - 2] for lag in range(2, highest + 1))]
    C, one, two = (xp.stack(part[: highest + 1])[lags] for part in (powers, first, second))
    return C, one * slope, two * slope**2 - one * rho


@Ruled
def power_of_squared_sine(angle: Array, powers: Array) -> tuple[Array, Array, Array]:
    """(sin² φ)^p for powers that are 0 or at least 1, and its first two derivatives in φ."""
    xp = namespace(angle)
    sine, cosine = xp.sin(angle), xp.cos(angle)
    square = sine * sine
    p, held, below = _powers_below(sine, powers)
    C = xp.where(held, 1.0, below * square)
    first = xp.where(held, 0.0, 2 * p * below * sine * cosine)
    bent = 4 * (p - 1) * cosine**2 + 2 * (cosine**2 - square)
    return C, first, xp.where(held, 0.0, p * below * bent)


@power_of_squared_sine.defjvp
def _power_of_squared_sine_jvp(primals: tuple, tangents: tuple) -> tuple:
    # By the derivatives that are there: those of the factors do not exist at φ = 0.
    (angle, powers), (dangle, _) = primals, tangents
    xp = namespace(angle, dangle)
    C, first, second = found = power_of_squared_sine(angle, powers)
    sine, cosine = xp.sin(angle), xp.cos(angle)
    p, held, below = _powers_below(sine, powers)
    # The second derivative is even in φ, with a cusp at 0 for 1 < p < 1.5: it does not move there.
    null = sine == 0
    bent = (2 * p - 1) * cosine**2 - sine**2
    slope = (p - 1) * bent / xp.where(null, 1.0, sine) - 2 * p * sine
    third = xp.where(held | null, 0.0, 4 * p * below * cosine * slope)
    return found, (first * dangle, second * dangle, third * dangle)


def _powers_below(sine: Array, powers: Array) -> tuple[Array, Array, Array]:
    """p, where it is 0, and (sin² φ)^(p−1).

    The derivatives share it: their other factors are bounded, where (sin² φ)^(p−2) is not.
    """
    xp = namespace(sine, powers)
    p = _behind(xp.maximum(powers, 1.0), sine)
    return p, _behind(powers == 0, sine), xp.where(p == 1, 1.0, xp.abs(sine) ** (2 * (p - 1)))


def _behind(values: Array, angle: Array) -> Array:
    """Constants (d, d) with as many axes behind them as the angle has."""
    return values.reshape(*values.shape, *(1,) * angle.ndim)
