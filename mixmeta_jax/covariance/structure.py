"""The covariance structures of the random effects: how the parameters θ of a level make its Ψ.

Every map θ → Ψ is smooth, defined for every real θ, and reaches the whole closed set of matrices
that the structure allows: a variance is an even power, so that zero is an ordinary value, and a
correlation is a sine between its bounds, so that it can touch them. A bound is then a stationary
point whose curvature tells whether the likelihood would rise inside (see
``estimation/verdict.py``).

Those of the catalogue know the derivatives of their map in closed form, and take θ of B data sets,
shape (n_θ, B), as well as one. A structure of one's own is a subclass of `Structure` with ``name``,
``n_parameters`` and ``psi``: JAX differentiates it. Arrays among its attributes are traced,
everything else is static. One that overrides ``starts`` works with the arrays of `namespace`, so
that estimates can be traced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mixmeta_jax.arrays import Array, is_jax, namespace, tree_of
from mixmeta_jax.covariance.natural import Bound, Natural
from mixmeta_jax.errors import InputError
from mixmeta_jax.tolerances import ASYMMETRY, INDEFINITE_BELOW, NULL_VARIANCE, SINGULAR

START_POSITIONS = (0.5, 0.985, 0.015, 0.8, 0.25)
"""Where starting correlations lie between their bounds, as fractions: the middle, near each end."""


LEAVES = "_leaves"
"""Where a structure that JAX put together keeps the names of its arrays."""

NEAREST_STEPS = 30
"""Steps towards the parameters of a given Ψ, for a structure that does not know its inverse."""


class Structure:
    """Base class of covariance structures for d random effects.

    Attributes
    ----------
    name
        Short name, as in ``bscov="unstr"``.
    label
        The structure in words, for printing; the name where it is not given.
    rugged
        Whether the likelihood often has several maxima away from the bounds too.
    starts_suffice
        Whether the starts of the structure have every choice of what may vanish at a bound.
    one_size
        Whether all variances are multiples of one, so that none vanishes alone.
    from_moments
        Whether ``theta`` of a moment estimate of Ψ is worth more than the starts.
    at_zeros
        Whether a bound is where a parameter has no slope, though Ψ may be regular there.
    by_parameters
        Whether its natural parameters are not variances and correlations but its own.

    Examples
    --------
    >>> import numpy as np, mixmeta_jax as mx
    >>> class Shared(mx.Structure):  # one effect, which all positions share
    ...     name, label = "shared", "Shared effect"
    ...     def n_parameters(self, d):
    ...         return 1
    ...     def psi(self, theta, d):
    ...         return theta[0] ** 2 * np.ones((d, d))
    >>> Shared().psi(np.array([0.5]), 2)  # of mx.mixmeta(..., bscov=Shared())
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """

    name: ClassVar[str]
    label: ClassVar[str]
    min_dim: ClassVar[int] = 1
    rugged: ClassVar[bool] = False
    starts_suffice: ClassVar[bool] = False
    one_size: ClassVar[bool] = False
    from_moments: ClassVar[bool] = False
    at_zeros: ClassVar[bool] = False
    by_parameters: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not hasattr(cls, "label"):
            cls.label = getattr(cls, "name", cls.__name__)
        if "psi" in vars(cls) and "slopes" not in vars(cls):
            # Another map than that of the parent, whose derivatives are not its own.
            cls.slopes = Structure.slopes  # type: ignore[method-assign]
            cls.curvature = Structure.curvature  # type: ignore[method-assign]
            cls.starts_suffice = vars(cls).get("starts_suffice", False)
        own_map = ("psi" in vars(cls), "natural" in vars(cls))
        own_correlation = ("correlation" in vars(cls), "in_correlation" in vars(cls))
        if (True, False) in (own_map, own_correlation) and "natural" not in vars(cls):
            cls.natural = Structure.natural  # type: ignore[method-assign]
        tree_of(cls, _flatten, lambda aux, leaves: _unflatten(cls, aux, leaves))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def n_parameters(self, d: int) -> int:
        """Number of parameters θ for d random effects."""
        raise NotImplementedError

    def psi(self, theta: Array, d: int) -> Array:
        """Ψ, shape (d, d), from θ, shape (n_parameters(d),)."""
        raise NotImplementedError

    # Many data sets: a last axis B

    @property
    def closed(self) -> bool:
        """Whether the derivatives are written down, so that NumPy can fit the structure."""
        return type(self).slopes is not Structure.slopes

    def matrices(self, theta: Array, d: int) -> Array:
        """Ψ of B data sets, shape (d, d, B), from θ of shape (n_θ, B)."""
        if self.closed:
            return self.psi(theta, d)
        import jax

        return jax.vmap(lambda one: self.psi(one, d), -1, -1)(theta)

    def slopes(self, theta: Array, d: int) -> Array:
        """∂Ψ/∂θ of B data sets, shape (d, d, n_θ, B)."""
        import jax

        return jax.vmap(jax.jacfwd(lambda one: self.psi(one, d)), -1, -1)(theta)

    def curvature(self, theta: Array, d: int, gradient: Array) -> Array:
        """½ ⟨gradient, ∂²Ψ/∂θ∂θᵀ⟩, shape (n_θ, n_θ, B), for symmetric gradients (d, d, B)."""
        import jax

        def weighted(one: Array, own: Array) -> Array:
            return 0.5 * (own * self.psi(one, d)).sum()

        return jax.vmap(jax.hessian(weighted), -1, -1)(theta, gradient)

    def theta(self, Psi: np.ndarray) -> np.ndarray:
        """Parameters whose Ψ is close to the given positive semidefinite matrix.

        Structures that know the inverse of their map override this least-squares search.
        """
        from scipy.optimize import least_squares

        d = len(Psi)
        size = float(np.sqrt(np.mean(np.diag(Psi)))) or 1.0

        import jax

        def distance(theta: np.ndarray) -> np.ndarray:
            with jax.enable_x64(True):
                return (np.asarray(self.psi(jax.numpy.asarray(theta), d)) - Psi).ravel()

        start = size * np.linspace(0.9, 1.1, self.n_parameters(d))
        return least_squares(distance, start).x

    def starts(self, variances: Any) -> list[Any]:
        """Starting values of θ around a diagonal Ψ with these variances, the best guess first.

        Arrays of numpy in and out, or of JAX, which may be traced; those of the catalogue take
        variances of B data sets too, shape (d, B).
        """
        if namespace(variances) is np:
            return [self.theta(np.diag(variances))]
        return [_nearest(self, namespace(variances).diag(variances))]

    def starts_of_sets(self, variances: Any) -> list[Any]:
        """The same for B data sets: shape (d, B) in, (n_θ, B) out."""
        if self.closed and type(self).starts is not Structure.starts:
            return self.starts(variances)
        if variances.shape[1] == 1:
            return [start[:, None] for start in self.starts(variances[:, 0])]
        import jax

        traced = jax.vmap(self.starts, -1, -1)
        if namespace(variances) is not np:
            return traced(variances)
        with jax.enable_x64(True):
            return [np.asarray(start) for start in jax.jit(traced)(variances)]

    def ordered(self, order: np.ndarray) -> Structure:
        """The same structure with parameters for another order of the random effects.

        Only structures whose parameters depend on the order return something new.
        """
        return self

    def min_groups(self, d: int) -> int:
        """Fewest groups from which the covariance of d random effects can be estimated."""
        return 2

    def check(self, d: int, level: str) -> None:
        """Raise `InputError` where the structure cannot describe d random effects."""
        if d < self.min_dim:
            raise InputError(
                f"The structure '{self.name}' needs at least {self.min_dim} random effects, but "
                f"level '{level}' has {d}: use bscov='id' there."
            )

    def natural(self, theta: np.ndarray, Psi: np.ndarray, scale: np.ndarray) -> Natural:
        """The natural parameters at Ψ: variances, covariances, correlations; see `natural`.

        Of a structure that does not say which they are, its own parameters.

        Parameters
        ----------
        theta, Psi
            Parameters and Ψ of B data sets, arrays of numpy, shape (n_θ, B) and (d, d, B).
        scale
            As in `at_bound`.
        """
        d, n = len(Psi), len(theta)
        # The second derivatives of an entry: the curvature with a gradient in that entry alone.
        unit = np.eye(d * d).reshape(d, d, d * d, 1)
        unit = unit + np.swapaxes(unit, 0, 1)

        def by_entry(one: np.ndarray) -> np.ndarray:
            many = np.broadcast_to(one[:, None], (n, d * d))
            return np.asarray(self.curvature(many, d, unit[..., 0])).reshape(n, n, d, d)

        def both() -> tuple[np.ndarray, np.ndarray]:
            second = np.stack([by_entry(one) for one in theta.T], -1)
            return np.asarray(self.slopes(theta, d)), second

        slopes, second = both() if self.closed else _in_double(both)
        second = np.moveaxis(second, (2, 3), (0, 1))
        units = slopes / np.sqrt(scale[:, None] * scale)[:, :, None]
        free = np.abs(units).max((0, 1)) > np.sqrt(NULL_VARIANCE)
        bounds = tuple(Bound("parameter", a, ~free[a]) for a in range(n) if not free[a].all())
        second = np.where(free[:, None] & free, second, 0.0)
        return Natural(np.where(free, slopes, 0.0), second, free, bounds)

    def at_bound(self, Psi: Any, scale: Any) -> Any:
        """Whether Ψ lies on the boundary of what the structure allows, shape (B,).

        Ψ has the shape (d, d, B). ``scale``, shape (d, B), holds a variance per random effect that
        counts as one unit of size: by it a variance is judged to be zero.
        """
        xp, d = namespace(Psi, scale), len(Psi)
        variances = xp.einsum("iib->ib", Psi)
        null = (variances <= NULL_VARIANCE * scale).any(0)
        if d == 1:
            return null
        sd = xp.sqrt(xp.where(null, 1.0, variances))
        within = xp.where(null, np.eye(d)[:, :, None], Psi / (sd[:, None] * sd))
        least = xp.linalg.eigvalsh(xp.moveaxis(within, -1, 0))[:, 0]
        return null | (least <= SINGULAR)

    def null_variances(self, Psi: Any, scale: Any) -> Any:
        """Which variances count as zero, shape (d, B); ``Psi`` and ``scale`` as in `at_bound`.

        Examples
        --------
        >>> import numpy as np, mixmeta_jax as mx
        >>> Psi = np.diag([0.4, 1e-40])[:, :, None]
        >>> mx.Diagonal().null_variances(Psi, np.ones((2, 1))).ravel()
        array([False,  True])
        """
        xp = namespace(Psi, scale)
        null = xp.einsum("iib->ib", Psi) <= NULL_VARIANCE * scale
        return null & null.all(0) if self.one_size else null

    def without_null(self, Psi: Any, scale: Any) -> Any:
        """Ψ with zeros, and not what rounding leaves, in the rows and columns of null variances.

        Examples
        --------
        >>> import numpy as np, mixmeta_jax as mx
        >>> Psi = np.diag([0.4, 1e-40])[:, :, None]
        >>> mx.Diagonal().without_null(Psi, np.ones((2, 1)))[:, :, 0]
        array([[0.4, 0. ],
               [0. , 0. ]])
        """
        if not self.n_parameters(len(Psi)):
            return Psi
        xp, null = namespace(Psi, scale), self.null_variances(Psi, scale)
        return xp.where(null[:, None] | null, 0.0, Psi)


def _in_double(function: Any) -> Any:
    """What a function makes, its arrays of JAX in double precision."""
    import jax

    with jax.enable_x64(True):
        return function()


def _nearest(structure: Structure, Psi: Array) -> Array:
    """θ whose Ψ is close to the given matrix, by the steps of Levenberg and Marquardt."""
    import jax
    import jax.numpy as jnp

    d = Psi.shape[0]
    n = structure.n_parameters(d)
    size = jnp.sqrt(jnp.mean(jnp.diagonal(Psi)))

    def distance(theta: Array) -> Array:
        return ((structure.psi(theta, d) - Psi) / size**2).ravel()

    def step(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        theta, damping = state
        r, J = distance(theta), jax.jacfwd(distance)(theta)
        norms = jnp.sqrt((J**2).sum(0) + 1e-12)
        J = J / norms
        trial = theta - jnp.linalg.solve(J.T @ J + damping * jnp.eye(n), J.T @ r) / norms
        falls = (distance(trial) ** 2).sum() < (r**2).sum()
        return jnp.where(falls, trial, theta), jnp.where(falls, damping / 5, damping * 5)

    start = (size * jnp.linspace(0.9, 1.1, n), jnp.asarray(0.01))
    return jax.lax.fori_loop(0, NEAREST_STEPS, step, start)[0]


def _flatten(structure: Structure) -> tuple[tuple, tuple]:
    held = dict(vars(structure))
    # What JAX put together may hold other things in the places of arrays.
    names = held.pop(LEAVES, None)
    if names is None:
        parts = (np.ndarray, Structure)
        names = tuple(k for k, v in held.items() if isinstance(v, parts) or is_jax(v))
    static = tuple((k, v) for k, v in held.items() if k not in names)
    return tuple(held[name] for name in names), (names, static)


def _unflatten(cls: type[Structure], aux: tuple, leaves: Sequence[Any]) -> Structure:
    names, static = aux
    structure = object.__new__(cls)
    vars(structure).update(dict(static))
    vars(structure).update(zip(names, leaves, strict=True))
    vars(structure)[LEAVES] = names
    return structure


def mean_variance(variances: Any) -> Any:
    """The square root of the mean of the variances, shape (1,) or (1, B)."""
    xp = namespace(variances)
    return xp.sqrt(variances.mean(0))[None]


def mean_correlation(Psi: np.ndarray, among: list[tuple[int, int]]) -> float:
    """Mean of the correlations of the given pairs, those with a zero variance left out."""
    sd = np.sqrt(np.diag(Psi))
    values = [Psi[i, j] / (sd[i] * sd[j]) for i, j in among if sd[i] * sd[j] > 0]
    return float(np.mean(values)) if values else 0.0


def angle_between(correlation: float, low: float, high: float) -> float:
    """The angle in [−π/2, π/2] whose sine, scaled to [low, high], is the correlation."""
    return float(np.arcsin(np.clip((2 * correlation - low - high) / (high - low), -1, 1)))


def is_symmetric(matrix: np.ndarray) -> bool:
    """Whether a matrix that a user gives is symmetric up to rounding."""
    return bool(np.abs(matrix - matrix.T).max() <= ASYMMETRY * np.abs(matrix).max())


def is_semidefinite(matrix: np.ndarray) -> bool:
    """Whether a symmetric matrix that a user gives has no negative eigenvalue but rounding."""
    return bool(np.linalg.eigvalsh(matrix)[0] >= INDEFINITE_BELOW * np.abs(matrix).max())


def pairs(d: int, lag: int | None = None) -> list[tuple[int, int]]:
    """Pairs i > j of d positions; only those ``lag`` apart where it is given."""
    return [(i, j) for i in range(d) for j in range(i) if lag is None or i - j == lag]
