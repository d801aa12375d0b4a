"""What steers the estimation, beside the model itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mixmeta_jax import gates
from mixmeta_jax.choices import Backend
from mixmeta_jax.errors import InputError

LOOSEST = 1.0
"""Gradient of a point that is a standard error away from its maximum: it would pass for one."""


@dataclass(frozen=True)
class Control:
    """Settings of the estimation.

    Attributes
    ----------
    max_iter
        Most Newton iterations from one start, or iterations of the moment estimators "vc" and "pm".
    gradient_tol
        Bound on the gradient of the log-likelihood, in units free of the data's scale, at which
        the iterations stop; one more Newton step follows.
    start
        Ψ to start from, or {level: Ψ}; None for starts of the library's own.
    n_starts
        Most starting values that are tried; None for as many as the structures suggest.
    vc_adjust
        For ``method="vc"``: whether residuals are adjusted for the estimated coefficients.
    verbose
        Whether to print the iterations.
    mesh
        Devices among which the outer groups are divided, for the methods "fixed", "ml" and "reml":
        a ``jax.sharding.Mesh``, whatever its axes; None for that of outcomes, S or an offset that
        are arrays of JAX divided among devices, else for one device. With several processes
        (``jax.distributed``) each makes the same call. See ``notebooks/many_devices.md``.
    backend
        What executes the search for the maximum: "numpy" at once, "jax" compiled; "auto" chooses by
        the size of the problem and by what has been spent on its shape. The estimates are the same
        to 1e-10.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> control = mx.Control(max_iter=200, backend="numpy")
    >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"), control=control)
    >>> fit.converged
    True
    """

    max_iter: int = 100
    gradient_tol: float = 1e-6
    start: Any = None
    n_starts: int | None = None
    vc_adjust: bool = True
    verbose: bool = False
    mesh: Any = None
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        # Frozen, but what is kept is what the checks return: Python's own numbers.
        own = {
            "max_iter": gates.whole(self.max_iter, "control: max_iter", 1),
            "gradient_tol": gates.number(
                self.gradient_tol, "control: gradient_tol", above=0, below=LOOSEST
            ),
            "vc_adjust": gates.flag(self.vc_adjust, "control: vc_adjust"),
            "verbose": gates.flag(self.verbose, "control: verbose"),
            "backend": gates.choice(self.backend, "control: backend", Backend),
        }
        if self.n_starts is not None:
            own["n_starts"] = gates.whole(self.n_starts, "control: n_starts, if given,", 1)
        for name, value in own.items():
            object.__setattr__(self, name, value)
        if self.mesh is not None and self.backend == "numpy":
            raise InputError(
                "control: mesh divides the work among the devices of JAX, which backend='numpy' "
                "does not use: leave one of the two out."
            )
        if self.mesh is not None and not _is_mesh(self.mesh):
            raise InputError(
                "control: mesh must be None or a jax.sharding.Mesh, as jax.make_mesh((4,), "
                f"('groups',)) makes it, not {type(self.mesh).__name__}."
            )


def as_control(value: Control | Mapping[str, Any] | None) -> Control:
    """A `Control` from what the user gives: one, a mapping of its fields, or None."""
    if value is None:
        return Control()
    if isinstance(value, Control):
        return value
    known = [field.name for field in fields(Control)]
    for name in gates.mapping(value, "control", "a Control or a dict of its fields"):
        gates.choice(name, "a setting of control", known)
    return Control(**value)


def _is_mesh(value: Any) -> bool:
    # Who has a mesh has imported JAX.
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.sharding.Mesh)
