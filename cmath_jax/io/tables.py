"""Tables of words and numbers, as text and as HTML.

The HTML has no colours and no script: it takes those of the page around it, light or dark.
"""

import re
from collections.abc import Collection, Sequence
from html import escape

Rows = Sequence[Sequence[str]]


def text_table(rows: Rows) -> list[str]:
    """Returns the lines of a table: its first column begins on the left, the others end on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def html_table(rows: Rows, words: Collection[int] = (0,), caption: str = "", head: bool = True) -> str:
    """Returns a table in HTML, all of it escaped.

    Args:
      words: the columns that begin on the left; the others are of numbers.
      caption: stands above it.
      head: whether the first row is the head; otherwise the first column names the rows.
    """

    def cell(text: str, kind: str, i: int) -> str:
        return f'<{kind} style="text-align:{"left" if i in words else "right"}">{escape(text)}</{kind}>'

    def line(row: Sequence[str], first: str, others: str) -> str:
        return f"<tr>{''.join(cell(text, others if i else first, i) for i, text in enumerate(row))}</tr>"

    above = f'<caption style="text-align:left">{escape(caption)}</caption>\n' if caption else ""
    top = f"<thead>{line(rows[0], 'th', 'th')}</thead>\n" if head else ""
    body = "\n".join(line(row, "td" if head else "th", "td") for row in rows[head:])
    return f"<table>{above}{top}<tbody>\n{body}\n</tbody></table>"


def markdown_table(rows: Rows) -> str:
    """Returns a table in Markdown, whose first row is the head; what Markdown would read in a cell is escaped."""
    lines = [f"| {' | '.join(plain(cell) for cell in row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def plain(text: str) -> str:
    """Returns a text in one line in which Markdown finds nothing to obey."""
    return re.sub(r"([\\`*_\[\]<>|&#])", r"\\\1", " ".join(text.split()))
