"""Tables and lines of text as HTML, Markdown and LaTeX."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass


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
    return re.sub(r"([\\|*_`~<])", r"\\\1", text)


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
