"""The table of coefficients, as lines of text and as cells, and how numbers are written in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from mixmeta_jax.inference.reference import NORMAL
from mixmeta_jax.report.results import df_text, p_text

STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))
LEGEND = "Significance: *** p < 0.001, ** p < 0.01, * p < 0.05, . p < 0.1"


def stars(pvalue: float) -> str:
    """Marks of significance."""
    return next((mark for bound, mark in STARS if pvalue < bound), "")


def decimals(values: Sequence[float]) -> int:
    """Places after the point that show the smallest of the values to three figures, 4 to 8."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v != 0]
    if not sizes:
        return 4
    return min(8, max(4, 2 - math.floor(math.log10(min(sizes)))))


def text_table(
    header: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  "
) -> list[str]:
    """Lines of a table: names to the left, cells to the right under their header."""
    first = max((len(name) for name in names), default=0)
    widths = [max(len(title), *(len(row[c]) for row in rows)) for c, title in enumerate(header)]
    lines = []
    for name, cells in [("", header), *zip(names, rows, strict=True)]:
        body = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{indent}{name.ljust(first)}  {body}".rstrip())
    return lines


def coefficient_header(table: pd.DataFrame, conf_level: float) -> list[str]:
    """Titles of the columns of `coefficient_cells`."""
    percent = f"{100 * conf_level:.4g}%"
    bounds = [f"{percent} lower", f"{percent} upper"]
    tested = ["t", "df", "Pr(>|t|)"] if "df" in table else ["z", "Pr(>|z|)"]
    return ["Estimate", "Std. Error", *tested, *bounds, ""]


def coefficient_cells(table: pd.DataFrame, digits: int | None = None) -> list[list[str]]:
    """The table as text, with ``digits`` places after the point or as many as its errors need."""
    places = decimals(list(table["se"])) if digits is None else digits
    rows = []
    for row in table.to_dict("records"):
        estimate, se, lower, upper = (
            f"{row[name]:.{places}f}" for name in ("estimate", "se", "lower", "upper")
        )
        tested = [f"{row['z']:.4f}"] if "z" in row else [f"{row['t']:.4f}", df_text(row["df"])]
        pvalue = row["pvalue"]
        rows.append([estimate, se, *tested, p_text(pvalue), lower, upper, stars(pvalue)])
    # Marks are aligned to the left of their column.
    width = max((len(row[-1]) for row in rows), default=0)
    return [[*row[:-1], row[-1].ljust(width)] for row in rows]


def coefficient_lines(
    table: pd.DataFrame, conf_level: float, outcomes: Sequence[str], predictors: Sequence[str]
) -> list[str]:
    """The printed table of `coefficients.coefficient_frame`, one part per outcome."""
    header, cells = coefficient_header(table, conf_level), coefficient_cells(table)
    p = len(predictors)
    if len(outcomes) == 1 or tuple(predictors) == ("(Intercept)",):
        lines = text_table(header, list(table.index), cells)
    else:
        names = [f"  {name}" for name in predictors] * len(outcomes)
        rows = text_table(header, names, cells)
        lines = [rows[0]]
        for o, outcome in enumerate(outcomes):
            lines += [f"  {outcome}", *rows[1 + o * p : 1 + (o + 1) * p]]
    if any(row[-1].strip() for row in cells):
        lines.append(LEGEND)
    return lines


def reference_lines(words: str, notes: Sequence[str]) -> list[str]:
    """Which test the table shows, if it is not the usual one, and what to know of it."""
    return list(notes) if words in ("", NORMAL) else [f"Tests and intervals: {words}", *notes]
