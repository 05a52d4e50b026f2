"""Predictions as a table for a terminal: a line for each utterance, as it comes."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from textwrap import wrap
from typing import Any

NAME, LEAST_TEXT = 12, 20  # columns of the speaker; least columns of the text
PROBABILITY = 11  # columns, with its heading
CUT = "…"


def table_lines(rows: Iterable[Mapping[str, Any]], classes: Sequence[str], width: int) -> Iterator[str]:
    """Yields the lines of a table: who said what, the emotion, its probability; a warning once for a conversation.

    Args:
      rows: as the command writes them to files.
      classes: the emotions that there may be.
      width: of the terminal; the text is cut to fit.
    """
    emotion = max(len("emotion"), *map(width_of, classes))
    text = max(LEAST_TEXT, width - NAME - emotion - PROBABILITY - 3 * 2)
    told: set[str] = set()
    yield _line("speaker", "text", "emotion", "probability", text, emotion)
    for row in rows:
        if row["utterance"] == 0:
            told = set()
            yield from ("", cut(str(row["conversation"]), width))
        share = f"{row['probabilities'][row['label']]:.2f}"
        yield _line(str(row["speaker"]), row["text"] or "", row["label"], share, text, emotion)
        for warning in row["warnings"]:
            if warning not in told:
                told.add(warning)
                yield from (f"  {line}" for line in wrap(f"warning: {shown(warning)}", max(LEAST_TEXT, width - 2)))


def shown(text: str) -> str:
    """Returns a text in one line, without what a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def width_of(text: str) -> int:
    """Counts the columns of a text: letters of East Asia take two, marks on a letter none."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def cut(text: str, width: int) -> str:
    """Returns a text in one line that is no wider than `width` columns; where it is cut, it ends with an ellipsis."""
    text = shown(text)
    if width_of(text) <= width:
        return text
    columns = accumulate(map(width_of, text))
    return text[: sum(column < width for column in columns)].rstrip() + CUT


def _line(speaker: str, said: str, label: str, share: str, text: int, emotion: int) -> str:
    columns = ((speaker, NAME), (said, text), (label, emotion))
    cells = (cut(value, width) for value, width in columns)
    padded = (cell + " " * (width - width_of(cell)) for cell, (_, width) in zip(cells, columns, strict=True))
    return "  ".join([*padded, share.rjust(PROBABILITY)])
