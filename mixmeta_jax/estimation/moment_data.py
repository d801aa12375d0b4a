"""What moment estimators share: data sets of one shape side by side, and how one is refused.

Here x_i are the predictors of unit i, X_i = x_iᵀ ⊗ I_k, and coefficients are predictor-major.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mixmeta_jax.tolerances import MOMENT_DEPENDENT

OUT_OF_RANGE = (
    "The moments are not finite: the scales of the outcomes and of S go beyond double precision; "
    "rescale them."
)


class Unidentified(Exception):
    """Some data sets do not identify the model: the others can be estimated without them.

    Attributes
    ----------
    reasons
        A sentence for each of them, by its number in `MomentData.member`.
    """

    def __init__(self, reasons: dict[int, str]):
        super().__init__(*reasons.values())
        self.reasons = reasons


@dataclass(frozen=True)
class MomentData:
    """B data sets of n units.

    Attributes
    ----------
    y, S
        Outcomes (B, n, k) and error covariances (B, n, k, k), 0 where missing.
    X
        Predictors, orthonormal over the units with an outcome and 0 for the others, (B, n, p).
    seen
        Which outcomes are observed, shape (B, n, k).
    member
        The number of each data set in the call, shape (B,).
    """

    y: np.ndarray
    S: np.ndarray
    X: np.ndarray
    seen: np.ndarray
    member: np.ndarray

    def taken(self, chosen: np.ndarray) -> MomentData:
        """Some of the data sets."""
        return MomentData(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def refuse(self, bad: Any, sentence: str | Callable[[int], str]) -> None:
        """Raise `Unidentified` where there are bad data sets, shape (B,)."""
        if bad.any():
            raise Unidentified(
                {
                    int(self.member[b]): sentence if isinstance(sentence, str) else sentence(b)
                    for b in np.flatnonzero(bad).tolist()
                }
            )


def prepare(
    y: np.ndarray, X: np.ndarray, S: np.ndarray, member: np.ndarray
) -> tuple[MomentData, np.ndarray]:
    """The data in an orthonormal basis of the predictors, and the matrices back, (B, p, p).

    ``y`` is NaN where missing, and ``S`` is not read there.
    """
    seen = np.isfinite(y)
    there = seen.any(2)
    n, p = X.shape[1:]
    X = np.where(there[:, :, None], X, 0.0)
    Q, R = np.linalg.qr(X)
    data = MomentData(
        np.where(seen, y, 0.0), np.where(both_observed(seen), S, 0.0), Q, seen, member
    )
    dependent = np.full(len(y), n < p)
    if n >= p:
        dependent = (np.abs(diagonals(R)) <= MOMENT_DEPENDENT * np.sqrt((X**2).sum(1))).any(1)
    data.refuse(
        dependent,
        lambda b: (
            f"The {p} predictors are linearly dependent over the {there[b].sum()} units; "
            "leave out those that others determine."
        ),
    )
    return data, np.linalg.inv(R)


def both_observed(seen: np.ndarray) -> np.ndarray:
    """Which pairs of outcomes are both observed, shape (B, n, k, k)."""
    return seen[..., :, None] & seen[..., None, :]


def diagonals(matrices: np.ndarray) -> np.ndarray:
    """The diagonals of stacked matrices, on the last axis."""
    return np.diagonal(matrices, axis1=-2, axis2=-1)


def transposed(matrices: np.ndarray) -> np.ndarray:
    """The last two axes exchanged."""
    return np.swapaxes(matrices, -2, -1)


def over_units(X: np.ndarray, M: np.ndarray) -> np.ndarray:
    """Σ X_iᵀ M_i X_i for M of shape (B, n, k, k): (B, p·k, p·k)."""
    B, n, p = X.shape
    k = M.shape[2]
    weighted = (X[..., None] * M.reshape(B, n, 1, k * k)).reshape(B, n, -1)
    sums = transposed(X) @ weighted
    return sums.reshape(B, p, p, k, k).transpose(0, 1, 3, 2, 4).reshape(B, p * k, p * k)


def spread_to_units(X: np.ndarray, V: np.ndarray) -> np.ndarray:
    """X_i V X_iᵀ for V of shape (B, p·k, p·k): (B, n, k, k)."""
    B, n, p = X.shape
    k = V.shape[1] // p
    by_predictor = V.reshape(B, p, k, p, k).transpose(0, 1, 3, 2, 4).reshape(B, p, -1)
    left = (X @ by_predictor).reshape(B, n, p, k, k)
    return np.einsum("bnv,bnvol->bnol", X, left)
