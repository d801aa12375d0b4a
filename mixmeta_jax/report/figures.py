"""The figures of a fit for machines: plain values, and strict JSON.

It is read for the help of the command line too, and imports nothing that loads slowly.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def figures(fit: Any, summary: Any) -> dict[str, Any]:
    """The figures of a fit as plain values; matrices are lists of rows, in the order of ``coef``.

    Parameters
    ----------
    fit
        A `Fit`.
    summary
        Its `SummaryResult`.
    """
    frame = fit.frame
    Psi = {
        name: {"names": frame.random_names(number), "matrix": matrix.tolist()}
        for number, (name, matrix) in enumerate(zip(fit.level_names, fit.Psi_by_level, strict=True))
    }
    return {
        "formula": fit.formula,
        "random": fit.random,
        "method": fit.method,
        "bscov": fit.bscov,
        "n": frame.n,
        "dropped": _records(fit.dropped),
        "df": {count: getattr(fit.df, count) for count in ("nall", "nobs", "fixed", "random")},
        "coef": fit.coef.to_dict(),
        "vcov": fit.vcov.to_numpy().tolist(),
        "coefficients": summary.coefficients.to_dict("index"),
        "conf_level": summary.conf_level,
        "Psi": Psi,
        "loglik": fit.loglik,
        "aic": fit.aic,
        "bic": fit.bic,
        "aicc": fit.aicc,
        "Q": summary.qtest.to_dict("index"),
        "status": fit.status.name,
        "converged": fit.converged,
    }


def _records(dropped: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows and reasons, labels as numbers or text."""
    return [
        {"row": row if isinstance(row, (int, float)) else str(row), "reason": reason}
        for row, reason in dropped.itertuples(index=False)
    ]


def to_json(value: Any) -> str:
    """Strict JSON: what is not a finite number becomes null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    # numpy's numbers are floats, or have `item`.
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
