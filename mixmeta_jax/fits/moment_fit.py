"""Moment estimation of a model frame: what it is for, and its result as a `SingleEstimate`."""

from __future__ import annotations

from mixmeta_jax.control import Control
from mixmeta_jax.design.design import Design
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.estimator import SingleEstimate
from mixmeta_jax.estimation.moments import moment_estimate
from mixmeta_jax.status import Status
from mixmeta_jax.table.frame import ModelFrame

VARIANCE_ONLY = ("diag", "id")
"""Structures that are the unstructured one when there is a single random effect."""


def fit_moments(frame: ModelFrame, design: Design, method: str, control: Control) -> SingleEstimate:
    """Estimate Ψ by the method of moments, and the fixed effects given it.

    Raises
    ------
    InputError
        Where the model is not one unstructured effect vector per unit, with S by unit.
    """
    if control.mesh is not None:
        raise InputError(
            f"control: mesh divides a likelihood among devices, and method='{method}' has none: "
            "leave it out, or use 'ml' or 'reml'."
        )
    if frame.random is not None:
        raise InputError(
            f"method='{method}' is for one vector of random effects per unit: leave `random` out, "
            "or use 'ml' or 'reml'."
        )
    structure = design.structures[0]
    if structure.name != "unstr" and not (frame.k == 1 and structure.name in VARIANCE_ONLY):
        raise InputError(
            f"method='{method}' estimates an unstructured covariance, not bscov="
            f"'{structure.name}': leave bscov out, or use 'ml' or 'reml'."
        )
    if frame.within.unit is None:
        raise InputError(
            f"method='{method}' needs S by unit, not blocks that span units: use 'ml' or 'reml'."
        )
    found = moment_estimate(
        method,
        design.y,
        design.X,
        frame.within.unit,
        vc_adjust=control.vc_adjust,
        max_iter=control.max_iter,
    )
    status = Status.BOUNDARY if found.clipped else Status.CONVERGED
    return SingleEstimate(
        beta=found.beta,
        vcov=found.vcov,
        theta=structure.theta(found.Psi),
        Psi=(found.Psi,),
        loglik=float("nan"),
        n_iter=found.n_iter,
        gradient_norm=float("nan"),
        status=status if found.converged else Status.MAX_ITER,
    )
