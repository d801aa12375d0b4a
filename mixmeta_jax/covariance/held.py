"""A structure with some of its natural parameters held at values: `Held`.

Ψ = Ψ_base(g(θ)), where g takes the parameters that are left to those of the base: most of them as
they are, the held ones as constants, and where a held value ties two of them, along a curve:

    ray         (c_0 t, c_1 t)             a correlation, of two eigenvalues
    square      t²                         a standard deviation that a correlation takes as positive
    beam        (c_0 t², c_1 t²)           a correlation, of a Cholesky factor
    circle      (c_0 sin t, c_1 cos t)     a variance that is the sum of two squares
    hyperbola   (t, √(t² + c_0))           a covariance, of two eigenvalues
    reciprocal  (t, c_0 / t)               a covariance, of a Cholesky factor

So the constraint is met exactly, at the bounds of the parameter too, and the derivatives of every
held structure are those of its base, by the chain rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mixmeta_jax.arrays import Array, namespace
from mixmeta_jax.covariance.natural import Natural, elements
from mixmeta_jax.covariance.parameters import Parameter
from mixmeta_jax.covariance.structure import Structure

MODEST = 0.1
"""Part of a covariance that is held by which a start lies inside its bound."""


@dataclass(frozen=True)
class Curve:
    """One or two parameters of the base, made of one.

    Attributes
    ----------
    kind
        As above.
    at
        Their places in θ of the base.
    constants
        c_0 and c_1, shape (2,), or (2, B) for as many paths.
    weights
        Of their squares, in the variance that a start keeps.
    beside
        For a reciprocal, the place of the third entry of the factor of both effects.
    """

    kind: str
    at: tuple[int, ...]
    constants: Any = (1.0, 1.0)
    weights: tuple[float, float] = (1.0, 1.0)
    beside: int = -1


@dataclass
class Recipe:
    """What `Held` is made of; places are those of the base's θ.

    Attributes
    ----------
    base
        The structure, its effects in the order that suits what is held.
    fixed
        Value of θ by place, numbers or of shape (B,).
    curves
        What is tied.
    free_effects
        Random effects whose variances are not held at zero, nor tied to others by a correlation of
        ±1: of them alone a bound is a finding.
    correlated
        Whether a singular correlation among them is a finding too.
    """

    base: Structure
    free_effects: tuple[int, ...]
    fixed: dict[int, Any] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    correlated: bool = True


class Held(Structure):
    """A structure, some natural parameters of which are held.

    Parameters
    ----------
    origin
        The structure without what is held.
    d
        Number of random effects.
    held
        The parameters.
    values
        Their values, shape (h,), or (h, B) for as many paths.
    recipe
        How they are met.
    """

    name = "held"

    def __init__(
        self,
        origin: Structure,
        d: int,
        held: Sequence[Parameter],
        values: np.ndarray,
        recipe: Recipe,
    ) -> None:
        self.origin, self.base = origin, recipe.base
        # What asks a structure for its name asks what kind of matrix it makes.
        self.name, self.label, self.rugged = origin.name, origin.label, origin.rugged  # type: ignore[misc]
        self.held, self.values = tuple(held), np.asarray(values, float)
        curves = recipe.curves
        self.curves = tuple((c.kind, c.at, c.weights, c.beside) for c in curves)
        self.tied = tuple(place for curve in curves for place in curve.at)
        constants = [np.asarray(curve.constants, float) for curve in curves]
        wide = np.broadcast_shapes(*(c.shape[1:] for c in constants))
        self.constants = np.zeros((len(curves), 2, *wide))
        for own, c in zip(self.constants, constants, strict=True):
            own[:] = c.reshape(2, *(c.shape[1:] or (1,) * len(wide)))
        n = recipe.base.n_parameters(d)
        places = tuple(sorted(recipe.fixed))
        self.fixed_at = places
        rows = [np.asarray(recipe.fixed[place], float) for place in places]
        self.fixed = np.stack(np.broadcast_arrays(*rows)) if rows else np.zeros(0)
        self.kept = tuple(a for a in range(n) if a not in places and a not in self.tied)
        self.free_effects = recipe.free_effects
        self.correlated = recipe.correlated

    def __repr__(self) -> str:
        return f"{self.origin!r} with {len(self.held)} held"

    def n_parameters(self, d: int) -> int:
        return len(self.kept) + len(self.curves)

    def min_groups(self, d: int) -> int:
        return self.origin.min_groups(d)

    def check(self, d: int, level: str) -> None:
        self.origin.check(d, level)

    # θ of the base, and back

    def whole(self, theta: Array) -> Array:
        """θ of the base, shape (n, ...)."""
        xp, rest, m = namespace(theta, self.fixed), theta.shape[1:], len(self.curves)
        parts = [theta[m:]]
        for number in range(m):
            parts.append(xp.stack(self._along(number, theta[number])[0]))
        if self.fixed_at:
            parts.append(xp.broadcast_to(_beside(self.fixed, rest), (len(self.fixed_at), *rest)))
        order = np.argsort([*self.kept, *self.tied, *self.fixed_at])
        return xp.concatenate(parts)[order]

    def _along(self, number: int, t: Array) -> tuple[tuple[Array, ...], ...]:
        """What a curve makes of t, and its first and second derivatives, each of shape (...)."""
        xp, kind = namespace(t, self.constants), self.curves[number][0]
        c = _beside(self.constants[number], t.shape)
        zero, one = xp.zeros_like(t), xp.ones_like(t)
        if kind == "ray":
            return (c[0] * t, c[1] * t), (c[0] * one, c[1] * one), (zero, zero)
        if kind == "square":
            return (t * t,), (2 * t,), (2 * one,)
        if kind == "beam":
            return tuple((c[0] * part, c[1] * part) for part in (t * t, 2 * t, 2 * one))
        if kind == "circle":
            pair = c[0] * xp.sin(t), c[1] * xp.cos(t)
            return pair, (c[0] * xp.cos(t), -c[1] * xp.sin(t)), (-pair[0], -pair[1])
        if kind == "hyperbola":
            root = xp.sqrt(t * t + c[0])
            return (t, root), (one, t / root), (zero, c[0] / root**3)
        other = c[0] / t
        return (t, other), (one, -other / t), (zero, 2 * other / t**2)

    def parameters(self, whole: Array) -> Array:
        """θ close to a θ of the base that need not meet what is held, shape (n_θ, ...)."""
        kept = whole[np.array(self.kept, int)]
        xp = namespace(whole, self.constants)
        made = []
        for number, (kind, at, weights, beside) in enumerate(self.curves):
            p, q = whole[at[0]], whole[at[-1]]
            c = _beside(self.constants[number], p.shape)
            size = weights[0] * p**2 + weights[1] * q**2
            if kind == "square":
                t = xp.sqrt(xp.abs(p))
            elif kind in ("ray", "beam"):
                t = xp.sqrt(size / (weights[0] * c[0] ** 2 + weights[1] * c[1] ** 2))
                t = t if kind == "ray" else xp.sqrt(t)
            elif kind == "circle":
                t = xp.arctan2(p / c[0], q / c[1])
            elif kind == "hyperbola":
                square = size / sum(weights) - c[1] * c[0]
                t = xp.sqrt(xp.where(square > 0, square, MODEST * c[0]))
            else:
                t, third = _inside(p**2, q**2 + whole[beside] ** 2, c[0])
                mine = np.array(self.kept)[:, None] == beside
                kept = xp.where(mine.reshape(-1, *(1,) * p.ndim), third, kept)
            made.append(t[None])
        return xp.concatenate([*made, kept])

    # The map and its derivatives

    def psi(self, theta: Array, d: int) -> Array:
        return self.base.psi(self.whole(theta), d)

    def slopes(self, theta: Array, d: int) -> Array:
        slopes = self.base.slopes(self.whole(theta), d)
        kept = slopes[:, :, np.array(self.kept, int)]
        if not self.curves:
            return kept
        tied = [
            sum(slopes[:, :, a] * f for a, f in zip(curve[1], first, strict=True))[:, :, None]
            for curve, first in zip(self.curves, self._derivatives(theta, 1), strict=True)
        ]
        return namespace(theta, slopes).concatenate([*tied, kept], 2)

    def _derivatives(self, theta: Array, order: int) -> list[tuple[Array, ...]]:
        return [self._along(n, theta[n])[order] for n in range(len(self.curves))]

    def curvature(self, theta: Array, d: int, rise: Array) -> Array:
        whole = self.whole(theta)
        bent = self.base.curvature(whole, d, rise)
        kept = np.array(self.kept, int)
        if not self.curves:
            return bent[kept[:, None], kept]
        xp = namespace(theta, rise)
        slopes = self.base.slopes(whole, d)
        first, second = self._derivatives(theta, 1), self._derivatives(theta, 2)
        # Jᵀ (bent) J, row by row, and what the curves themselves bend.
        rows = [
            sum(bent[a] * f for a, f in zip(curve[1], own, strict=True))
            for curve, own in zip(self.curves, first, strict=True)
        ]
        half = xp.concatenate([xp.stack(rows), bent[kept]])
        columns = [
            sum(half[:, a] * f for a, f in zip(curve[1], own, strict=True))
            for curve, own in zip(self.curves, first, strict=True)
        ]
        whole_square = xp.concatenate([xp.stack(columns, 1), half[:, kept]], 1)
        turned = [
            sum(
                0.5 * (rise * slopes[:, :, a]).sum((0, 1)) * s
                for a, s in zip(curve[1], own, strict=True)
            )
            for curve, own in zip(self.curves, second, strict=True)
        ]
        unit = np.eye(len(whole_square))[:, : len(self.curves)]
        return whole_square + xp.einsum("am,bm,m...->ab...", unit, unit, xp.stack(turned))

    def natural(self, theta: np.ndarray, Psi: np.ndarray, scale: np.ndarray) -> Natural:
        if self.curves or self.origin.name in ("unstr", "cs"):
            # θ is of factors or eigenvalues: what is held leaves Ψ linear in the elements that are
            # left, but for a correlation between effects with variances of their own.
            own = super().natural(theta, Psi, scale)
            pairs = [parameter.at for parameter in self.held if parameter.kind == "cor"]
            if not any(pairs):
                return replace(own, second=None)
            if not own.free.all():
                return own
            others = [parameter.at for parameter in self.held if parameter.kind != "cor"]
            return elements(Psi, pairs, others)
        # Each natural parameter of these has its place in θ.
        own = self.origin.natural(self.whole(theta), Psi, scale)
        free = own.free & ~np.isin(np.arange(len(own.free)), self.fixed_at)[:, None]
        second = None if own.second is None else np.where(free[:, None] & free, own.second, 0.0)
        return Natural(np.where(free, own.slopes, 0.0), second, free, own.bounds)

    # Where to start, and where it ends

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        return self.parameters(self.base.theta(Psi))

    def starts(self, variances: Any) -> list[Any]:
        return [self.parameters(start) for start in self.base.starts(variances)]

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        free = np.array(self.free_effects, int)
        xp = namespace(Psi)
        if not len(free) or not (self.kept or self.curves):
            return xp.zeros(Psi.shape[2], bool)
        own = Psi[free[:, None], free]
        if not self.correlated:
            own = own * np.eye(len(free))[:, :, None]
        judge: Structure = self.base if len(free) == len(Psi) and self.correlated else _Judge()
        return judge.at_bound(own, scale[free])

    def null_variances(self, Psi: Any, scale: Any) -> Any:
        # A variance that is held is at its value, however small.
        about = [
            [
                parameter.kind != "cor" and (not parameter.at or i in parameter.at)
                for i in range(len(Psi))
            ]
            for parameter in self.held
        ]
        kept = (np.array(about)[..., None] & (self.values != 0).reshape(len(about), 1, -1)).any(0)
        return self.base.null_variances(Psi, scale) & ~kept


class _Judge(Structure):
    """What judges a part of Ψ by its variances and correlations."""

    name = "part"


def _beside(values: Array, rest: tuple[int, ...]) -> Array:
    """Constants (c,) or (c, B) beside values of shape (c, ...)."""
    if values.ndim > 1:
        return values
    return values.reshape(len(values), *(1,) * len(rest))


def _inside(x: Array, y: Array, c: Array) -> tuple[Array, Array]:
    """Λ_11 and Λ_22 of two effects of covariance c, their variances enlarged until it fits."""
    xp = namespace(x, y, c)
    size = xp.abs(c)
    x, y = xp.where(x > 0, x, size), xp.where(y > 0, y, size)
    product = xp.sqrt(x * y)
    more = xp.where(product > size, 1.0, (1 + MODEST) * size / product)
    x, y = more * x, more * y
    return xp.sqrt(x), xp.sqrt(y - c**2 / x)
