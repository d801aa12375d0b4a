"""What steers the estimation, beside the model itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mixmeta_jax.errors import InputError

BACKENDS = ("auto", "numpy", "jax")
"""What can execute the numbers of a fit."""


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
        a ``jax.sharding.Mesh``, whatever its axes; None for one device. With several processes
        (``jax.distributed``) each makes the same call. See ``notebooks/many_devices.md``.
    backend
        What executes the search for the maximum: "numpy" at once, "jax" compiled; "auto" chooses by
        the size of the problem and by what has been spent on its shape. The estimates are the same
        to 1e-10.
    """

    max_iter: int = 100
    gradient_tol: float = 1e-6
    start: Any = None
    n_starts: int | None = None
    vc_adjust: bool = True
    verbose: bool = False
    mesh: Any = None
    backend: str = "auto"

    def __post_init__(self) -> None:
        if not _is_count(self.max_iter):
            raise InputError(
                f"control: max_iter must be a whole number of at least 1, not {self.max_iter!r}."
            )
        if self.n_starts is not None and not _is_count(self.n_starts):
            raise InputError(
                f"control: n_starts must be None or a whole number of at least 1, not "
                f"{self.n_starts!r}."
            )
        if not isinstance(self.gradient_tol, (int, float)) or not self.gradient_tol > 0:
            raise InputError(
                f"control: gradient_tol must be a positive number, not {self.gradient_tol!r}."
            )
        if self.backend not in BACKENDS:
            listed = ", ".join(map(repr, BACKENDS))
            raise InputError(f"control: backend must be one of {listed}, not {self.backend!r}.")
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
    if not isinstance(value, Mapping):
        raise InputError(
            f"control must be a Control or a dict of its fields, not {type(value).__name__}."
        )
    known = [field.name for field in fields(Control)]
    for name in value:
        if name not in known:
            raise InputError(f"control has no setting {name!r}: choose among {', '.join(known)}.")
    return Control(**value)


def _is_mesh(value: Any) -> bool:
    # Who has a mesh has imported JAX.
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.sharding.Mesh)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
