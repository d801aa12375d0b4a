"""Kinds of effect sizes: from the figures of studies to effects, as one function each.

Each returns the effect y, its sampling variance v, and what the control arm puts into v: effects of
one study that share their control arm have that part as their covariance.

References
----------
Borenstein M, Hedges LV (2019). Effect sizes for meta-analysis. In: The Handbook of Research
Synthesis and Meta-Analysis, 3rd ed., 207-243.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

Figures = dict[str, np.ndarray]


class Effects(NamedTuple):
    """Effects of n rows, each of shape (n,).

    Attributes
    ----------
    effect, variance
        y and its sampling variance.
    control
        The part of the variance that comes from the control arm; None for kinds without one.
    """

    effect: np.ndarray
    variance: np.ndarray
    control: np.ndarray | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of effect size.

    Attributes
    ----------
    measure
        From the figures by name, each of shape (n,), to their effects.
    figures
        What it needs, by the names of the arguments of `effect_sizes`.
    code
        Its name in R `metafor`, understood too.
    corrected
        Whether a count of zero in a row has something added to all counts of the row.
    """

    measure: Callable[[Figures], Effects]
    figures: tuple[str, ...]
    code: str
    corrected: bool = False


def _log_odds_ratio(x: Figures) -> Effects:
    a, b, c, d = _cells(x)
    return Effects(np.log(a * d / (b * c)), 1 / a + 1 / b + 1 / c + 1 / d, 1 / c + 1 / d)


def _log_risk_ratio(x: Figures) -> Effects:
    a, b, c, d = _cells(x)
    control = 1 / c - 1 / (c + d)
    return Effects(
        np.log(a / (a + b)) - np.log(c / (c + d)), 1 / a - 1 / (a + b) + control, control
    )


def _risk_difference(x: Figures) -> Effects:
    a, b, c, d = _cells(x)
    n, m = a + b, c + d
    control = c * d / m**3
    return Effects(a / n - c / m, a * b / n**3 + control, control)


def _peto(x: Figures) -> Effects:
    """Observed less expected events over their hypergeometric variance."""
    a, b, c, d = _cells(x)
    n, m = a + b, c + d
    N = n + m
    variance = n * m * (a + c) * (b + d) / (N**2 * (N - 1))
    return Effects((a - n * (a + c) / N) / variance, 1 / variance)


def _log_rate_ratio(x: Figures) -> Effects:
    a, c = x["events"], x["control_events"]
    return Effects(np.log(a / x["time"]) - np.log(c / x["control_time"]), 1 / a + 1 / c, 1 / c)


def _mean_difference(x: Figures) -> Effects:
    control = x["control_sd"] ** 2 / x["control_n"]
    return Effects(x["mean"] - x["control_mean"], x["sd"] ** 2 / x["n"] + control, control)


def _standardised_difference(x: Figures) -> Effects:
    """Hedges' g: the difference over the pooled standard deviation, less its bias."""
    n, m = x["n"], x["control_n"]
    df = n + m - 2
    pooled = np.sqrt(((n - 1) * x["sd"] ** 2 + (m - 1) * x["control_sd"] ** 2) / df)
    g = _unbiased(df) * (x["mean"] - x["control_mean"]) / pooled
    return Effects(g, 1 / n + 1 / m + g**2 / (2 * (n + m)), 1 / m)


def _log_ratio_of_means(x: Figures) -> Effects:
    control = (x["control_sd"] / x["control_mean"]) ** 2 / x["control_n"]
    own = (x["sd"] / x["mean"]) ** 2 / x["n"]
    return Effects(np.log(x["mean"] / x["control_mean"]), own + control, control)


def _standardised_change(x: Figures) -> Effects:
    """The mean change over the standard deviation of changes, less its bias."""
    sd, before, n = x["sd"], x["sd_before"], x["n"]
    spread = np.sqrt(sd**2 + before**2 - 2 * x["r"] * sd * before)
    g = _unbiased(n - 1) * (x["mean"] - x["mean_before"]) / spread
    return Effects(g, 1 / n + g**2 / (2 * n))


def _fisher_z(x: Figures) -> Effects:
    return Effects(np.arctanh(x["r"]), 1 / (x["n"] - 3))


def _logit(x: Figures) -> Effects:
    a, b = x["events"], x["total"] - x["events"]
    return Effects(np.log(a / b), 1 / a + 1 / b)


def _arcsine(x: Figures) -> Effects:
    return Effects(np.arcsin(np.sqrt(x["events"] / x["total"])), 1 / (4 * x["total"]))


_TWO_ARMS = ("events", "total", "control_events", "control_total")
_TWO_RATES = ("events", "time", "control_events", "control_time")
_TWO_MEANS = ("mean", "sd", "n", "control_mean", "control_sd", "control_n")
_CHANGE = ("mean", "sd", "mean_before", "sd_before", "n", "r")

KINDS = {
    "logor": Kind(_log_odds_ratio, _TWO_ARMS, "OR", corrected=True),
    "logrr": Kind(_log_risk_ratio, _TWO_ARMS, "RR", corrected=True),
    "rd": Kind(_risk_difference, _TWO_ARMS, "RD", corrected=True),
    "peto": Kind(_peto, _TWO_ARMS, "PETO", corrected=True),
    "logirr": Kind(_log_rate_ratio, _TWO_RATES, "IRR", corrected=True),
    "md": Kind(_mean_difference, _TWO_MEANS, "MD"),
    "smd": Kind(_standardised_difference, _TWO_MEANS, "SMD"),
    "rom": Kind(_log_ratio_of_means, _TWO_MEANS, "ROM"),
    "smcc": Kind(_standardised_change, _CHANGE, "SMCC"),
    "z": Kind(_fisher_z, ("r", "n"), "ZCOR"),
    "logit": Kind(_logit, ("events", "total"), "PLO", corrected=True),
    "arcsine": Kind(_arcsine, ("events", "total"), "PAS"),
}


def _cells(x: Figures) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Events and others of the treated arm, then of the control arm."""
    a, c = x["events"], x["control_events"]
    return a, x["total"] - a, c, x["control_total"] - c


def _unbiased(df: np.ndarray) -> np.ndarray:
    """What makes a standardised difference with df degrees of freedom unbiased (Hedges 1981)."""
    return np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / np.sqrt(df / 2)
