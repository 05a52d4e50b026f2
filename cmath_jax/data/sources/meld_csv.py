"""MELD's annotations, three CSV files as they are published -> conversations without features."""

import codecs
import csv
import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from cmath_jax.data.corpus import CLASSES
from cmath_jax.data.sources.meld_files import NAMES, lacking, parts_of
from cmath_jax.data.sources.near_misses import no_data_file
from cmath_jax.data.sources.plain_text import lines_of, text_of
from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.errors import InputError, InputWarning, reason


@dataclass(frozen=True)
class _CsvFile:
    """A CSV file of MELD, which is one of three.

    Attributes:
      split: what it is here.
      offset: what the published feature files add to its Dialogue_ID.
      room: how many numbers of conversations have room before the next offset; None for any.
      clips: the folder of its recordings in MELD.Raw.
    """

    split: str
    offset: int
    room: int | None
    clips: str


_PARTS: Mapping[str, _CsvFile] = {
    "train": _CsvFile("train", 0, 1039, "train_splits"),
    "dev": _CsvFile("validation", 1039, 114, "dev_splits_complete"),
    "test": _CsvFile("test", 1153, None, "output_repeated_splits_test"),
}
STATED: Mapping[str, Any] = {  # the corpus.json of the conversations
    "name": "meld",
    "classes": list(CLASSES["meld"]),
    "speakers": 9,  # as many indices as in the feature files
    "license": "GPL-3.0",
    "source": "MELD, train.csv, dev.csv and test.csv",
}
CLIPS = ", ".join(part.clips for part in _PARTS.values())
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime")
# Of subtitles: the last number counts thousandths of a second. Three times MELD gives only two of its digits.
_TIME = re.compile(r"(\d{1,3}):(\d\d):(\d\d),(\d{1,3})", re.ASCII)


def is_meld(folder: Path) -> bool:
    """Whether a folder holds at least one of the three files. Raises InputError as `parts_of`."""
    return bool(_parts_in(folder))


def read_meld_csv(folder: Path, clips: Path | None = None, target: Path | None = None) -> Iterator[Transcript]:
    """Reads the conversations of the three files, under the ids that the published feature files have.

    Files of other conversations (MELD_Dyadic) may have numbers for which those ids have no room: then the ids are
    `train_0`, `dev_0`, `test_0` and so on. Whether there are as many conversations as in MELD, `check_counts` knows.

    Args:
      clips: the folder of MELD.Raw with the recordings. A clip is one utterance, so that with them there are no
        times; without them times are seconds in the episode.
      target: the folder to which the paths of the clips shall be relative.

    Raises:
      InputError: a file is missing or is not as published; the message names the file and the line.
    """
    # `..` goes up from where a link leads to, not from where it lies.
    clips, target = (path and Path(os.path.realpath(path)) for path in (clips, target))
    names = _parts_in(folder)
    if len(names) < len(_PARTS):
        raise InputError(f"{folder}: it lacks {' and '.join(lacking(names))}; MELD's files are {NAMES}")
    conversations = {part: _conversations(folder / names[part]) for part in _PARTS}
    room = all(
        _PARTS[part].room is None or number < _PARTS[part].room  # type: ignore[operator]
        for part, rows in conversations.items()
        for number in rows
    )
    for name, part in _PARTS.items():
        for conversation, rows in sorted(conversations[name].items()):
            utterances = []
            for number, (where, row) in sorted(rows.items()):
                stem = f"dia{conversation}_utt{number}"
                recording: dict[str, Any] = _span(row, where)
                if clips is not None:
                    clip = clips / part.clips / f"{stem}.mp4"
                    recording = {"video": os.path.relpath(clip, target) if target else str(clip)}
                utterances.append(Utterance(row["Speaker"], row["Utterance"], _label(row, where), stem, **recording))
            id = str(conversation + part.offset) if room else f"{name}_{conversation}"
            yield Transcript(id, tuple(utterances), part.split)


def _parts_in(folder: Path) -> dict[str, str]:
    try:
        return parts_of(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {reason(error)}") from error
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error


_Rows = dict[int, tuple[str, dict[str, str]]]  # Utterance_ID -> the place and the columns of its row


def _conversations(path: Path) -> dict[int, _Rows]:
    """Groups the rows of a part by their Dialogue_ID."""
    conversations: dict[int, _Rows] = {}
    for where, row in _rows(path):
        number, utterance = (_number(row[column], f"{where}: {column}") for column in COLUMNS[3:5])
        rows = conversations.setdefault(number, {})
        if utterance in rows:
            raise InputError(f"{where}: dialogue {number} has utterance {utterance} twice")
        rows[utterance] = where, row
    return conversations


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the place and the columns of each row."""
    text = _text(path)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            head = next(iter(lines_of(text)), "")
            other = next((f" (they are separated by {brief(s)}, not by commas)" for s in ";\t" if s in head), "")
            raise InputError(f"{path}: it has no column {missing[0]}; MELD's files have {', '.join(COLUMNS)}{other}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise InputError(f"{where}: it has not as many columns as the first line")
            yield where, row
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as MELD's CSV: {error}") from error


def _text(path: Path) -> str:
    """Reads the text of a file, whose lines are in UTF-8 or else, with a warning, in cp1252, as in older copies."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    other = no_data_file(path, data)
    if other:
        raise InputError(f"{path}: it is none of MELD's CSV files{other}")
    lines = data.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)  # of bytes: at ends of lines alone
    old = [number for number, line in enumerate(lines, start=1) if not _is_utf8(line)]
    if old:
        more = f" and {len(old) - 1} more are" if len(old) > 1 else " is"
        warnings.warn(f"{path}: line {old[0]}{more} not UTF-8, and read as cp1252", InputWarning, stacklevel=2)
    return "".join(map(text_of, lines))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InputError(f"{where} is {brief(text)}, not a number")
    return int(text)


def _label(row: Mapping[str, str], where: str) -> str:
    if row["Emotion"] not in CLASSES["meld"]:
        raise InputError(f"{where}: Emotion is {brief(row['Emotion'])}, none of {', '.join(CLASSES['meld'])}")
    return row["Emotion"]


def _span(row: Mapping[str, str], where: str) -> dict[str, float]:
    """Returns start and end in seconds; nothing where the span is empty, as it is once in MELD."""
    seconds = []
    for column in ("StartTime", "EndTime"):
        time = _TIME.fullmatch(row[column])
        if time is None:
            raise InputError(f"{where}: {column} is {brief(row[column])}, not a time such as 00:16:16,059")
        hours, minutes, second, thousandths = map(int, time.groups())
        seconds.append((3_600_000 * hours + 60_000 * minutes + 1000 * second + thousandths) / 1000)
    start, end = seconds
    return {"start": start, "end": end} if start < end else {}
