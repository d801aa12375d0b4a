"""Tables and lines of text as HTML, Markdown and LaTeX, and as tables of great_tables."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError

MOST_DIGITS = 12
"""Places after the point that may be asked for."""


@dataclass(frozen=True)
class Table:
    """A table whose cells are text.

    Attributes
    ----------
    header
        Titles of the columns, that of the names first.
    names
        Names of the rows.
    rows
        Their cells, as many as titles but one.
    """

    header: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Lines:
    """Lines of running text; the first may be a title."""

    lines: tuple[str, ...]
    title: bool = False


@dataclass(frozen=True)
class Panel:
    """A table with groups of rows, for great_tables.

    Attributes
    ----------
    title, subtitle
        What stands above it.
    header
        Titles of the columns, that of the names first.
    groups
        Title of a group of rows, and its rows: the name, then as many cells as titles but one.
    spanners
        Titles over several columns, and which, from 1.
    notes
        Sentences below.
    """

    title: str
    subtitle: str
    header: tuple[str, ...]
    groups: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    spanners: tuple[tuple[str, tuple[int, ...]], ...] = ()
    notes: tuple[str, ...] = ()


class Written:
    """What results share that are written as tables."""

    def _blocks(self, digits: int | None) -> list[Table | Lines]:
        """What is written, with ``digits`` places after the point; None for as many as needed."""
        raise NotImplementedError

    def _panel(self, digits: int | None) -> Panel:
        """The same as one table."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self, digits: int | None = None) -> str:
        """The result as HTML, its names escaped.

        Parameters
        ----------
        digits
            Places after the point, from 0 to 12; None for as many as are needed.

        Raises
        ------
        InputError
            For digits that are none.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.summary().to_html(digits=2)[:48]
        '<h4>Univariate random-effects meta-analysis</h4>'
        """
        return as_html(self._blocks(_checked(digits)))

    def to_markdown(self, digits: int | None = None) -> str:
        """The result as Markdown; see `to_html`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.summary().to_markdown(digits=2).splitlines()[0]
        '**Univariate random-effects meta-analysis**'
        """
        return as_markdown(self._blocks(_checked(digits)))

    def to_latex(self, digits: int | None = None) -> str:
        """The result as LaTeX, with tables that need no package; see `to_html`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> "(Intercept) & -0.75 & 0.19" in fit.summary().to_latex(digits=2)
        True
        """
        return as_latex(self._blocks(_checked(digits)))

    def to_gt(self, digits: int | None = None) -> Any:
        """The result as one table of great_tables, to style, save and put into documents.

        Rows are grouped and columns have titles in common, as journals set them. Its
        ``as_raw_html()`` and ``as_latex()`` (with booktabs) escape names. Frames, as those of
        `Fit.varcomp` and `Fit.tidy`, go into ``great_tables.GT`` as they are.

        Parameters
        ----------
        digits
            As in `to_html`.

        Returns
        -------
        great_tables.GT

        Raises
        ------
        InputError
            For digits that are none, or where great_tables is not installed.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> "(Intercept) & -0.75 & 0.19" in fit.summary().to_gt(digits=2).as_latex()
        True
        """
        return as_gt(self._panel(_checked(digits)))


def _checked(digits: int | None) -> int | None:
    if digits is None:
        return None
    return gates.whole(digits, "digits, if given,", 0, MOST_DIGITS)


def as_gt(panel: Panel) -> Any:
    """The panel as a `great_tables.GT`."""
    try:
        from great_tables import GT
    except ImportError as error:
        raise InputError(
            "to_gt needs great_tables, which is not installed: pip install 'mixmeta_jax[tables]'."
        ) from error
    import pandas as pd

    # Columns by number, since titles may repeat; the titles are put over them.
    columns = [str(c) for c in range(len(panel.header))]
    rows = [(*row, title) for title, own in panel.groups for row in own]
    frame = pd.DataFrame(rows, columns=[*columns, "group"])
    grouped = {"groupname_col": "group"} if any(title for title, _ in panel.groups) else {}
    if not grouped:
        frame = frame.drop(columns="group")
    table = GT(frame, rowname_col="0", **grouped).tab_header(panel.title, panel.subtitle)
    table = table.cols_label(dict(zip(columns[1:], panel.header[1:], strict=True)))
    table = table.cols_align("right", columns[1:]).tab_stubhead(panel.header[0])
    for title, of in panel.spanners:
        table = table.tab_spanner(title, [columns[c] for c in of])
    for note in panel.notes:
        table = table.tab_source_note(note)
    return table


def tabled(header: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A `Table` of stripped cells, without columns in which nothing stands."""
    cells = [
        [str(name), *(cell.strip() for cell in row)] for name, row in zip(names, rows, strict=True)
    ]
    kept = [
        c for c, head in enumerate(header) if head.strip() or any(row[c] for row in cells) or c == 0
    ]
    return Table(
        tuple(header[c] for c in kept),
        tuple(row[0] for row in cells),
        tuple(tuple(row[c] for c in kept[1:]) for row in cells),
    )


def as_html(blocks: Sequence[Table | Lines]) -> str:
    """The blocks as HTML."""
    return "".join(_html_lines(b) if isinstance(b, Lines) else _html_table(b) for b in blocks)


def _html_lines(block: Lines) -> str:
    tag = "h4" if block.title else "p"
    return f"<{tag}>" + "<br>".join(html.escape(line.strip()) for line in block.lines) + f"</{tag}>"


def _html_table(block: Table) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in block.header)
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for name, row in zip(block.names, block.rows, strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def as_markdown(blocks: Sequence[Table | Lines]) -> str:
    """The blocks as Markdown, with tables as GitHub and pandoc read them."""
    parts = []
    for block in blocks:
        if isinstance(block, Lines):
            lines = [_plain_markdown(line.strip()) for line in block.lines]
            parts.append(f"**{lines[0]}**" if block.title else "  \n".join(lines))
        else:
            rows = [block.header, *((n, *r) for n, r in zip(block.names, block.rows, strict=True))]
            written = [f"| {' | '.join(map(_plain_markdown, row))} |" for row in rows]
            rule = ["---", *["---:"] * (len(block.header) - 1)]
            parts.append("\n".join([written[0], f"| {' | '.join(rule)} |", *written[1:]]))
    return "\n\n".join(parts) + "\n"


def _plain_markdown(text: str) -> str:
    """Text whose characters stand for themselves."""
    return re.sub(r"([\\|*_`~<&$])", r"\\\1", text)


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "²": r"\textsuperscript{2}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def as_latex(blocks: Sequence[Table | Lines]) -> str:
    """The blocks as LaTeX, with tables that need no package."""
    parts = []
    for block in blocks:
        if isinstance(block, Lines):
            lines = [_plain_latex(line.strip()) for line in block.lines]
            parts.append(f"\\textbf{{{lines[0]}}}" if block.title else " \\\\\n".join(lines))
        else:
            rows = [block.header, *((n, *r) for n, r in zip(block.names, block.rows, strict=True))]
            written = [" & ".join(map(_plain_latex, row)) + r" \\" for row in rows]
            columns = "l" + "r" * (len(block.header) - 1)
            body = [written[0], r"\hline", *written[1:]]
            lines = [f"\\begin{{tabular}}{{{columns}}}", r"\hline", *body, r"\hline"]
            parts.append("\n".join([*lines, r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _plain_latex(text: str) -> str:
    """Text whose characters stand for themselves."""
    return "".join(LATEX.get(character, character) for character in text)
