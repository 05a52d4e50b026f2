"""MELD's annotations, `train.csv`, `dev.csv` and `test.csv` as they are published -> conversations without features."""

import csv
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from cmath_jax.data.conversations import CLASSES
from cmath_jax.data.transcripts import Transcript, Utterance
from cmath_jax.errors import InputError


@dataclass(frozen=True)
class _File:
    """One of the three files.

    Attributes:
      split: what it is here.
      offset: what the published feature files add to its Dialogue_ID.
      clips: the folder of its recordings in MELD.Raw.
    """

    split: str
    offset: int
    clips: str


FILES: Mapping[str, _File] = {
    "train.csv": _File("train", 0, "train_splits"),
    "dev.csv": _File("validation", 1039, "dev_splits_complete"),
    "test.csv": _File("test", 1153, "output_repeated_splits_test"),
}
STATED: Mapping[str, Any] = {  # the corpus.json of the conversations
    "name": "meld",
    "classes": list(CLASSES["meld"]),
    "speakers": 9,  # as many indices as in the feature files
    "license": "GPL-3.0",
    "source": "MELD, train.csv, dev.csv and test.csv",
}
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime")
# Of subtitles: the last number counts thousandths of a second. Three times MELD gives only two of its digits.
_TIME = re.compile(r"(\d{1,3}):(\d\d):(\d\d),(\d{1,3})", re.ASCII)


def is_meld(folder: Path) -> bool:
    return any((folder / name).is_file() for name in FILES)


def read_meld_csv(folder: Path, clips: Path | None = None, target: Path | None = None) -> Iterator[Transcript]:
    """The dialogues of the three files, under the ids that the published feature files have.

    Args:
      clips: the folder of MELD.Raw with the recordings. A clip is one utterance, so that with them there are no
        times; without them times are seconds in the episode.
      target: the folder to which the paths of the clips shall be relative.

    Raises:
      InputError: a file is missing or is not as published; the message names the file and the line.
    """
    for name, file in FILES.items():
        rows: dict[int, dict[int, tuple[str, dict[str, str]]]] = {}
        for where, row in _rows(folder / name):
            dialogue, utterance = (_number(row[column], f"{where}: {column}") for column in _COLUMNS[3:5])
            of_dialogue = rows.setdefault(dialogue, {})
            if utterance in of_dialogue:
                raise InputError(f"{where}: dialogue {dialogue} has utterance {utterance} twice")
            of_dialogue[utterance] = where, row
        for dialogue in sorted(rows):
            utterances = []
            for number, (where, row) in sorted(rows[dialogue].items()):
                stem = f"dia{dialogue}_utt{number}"
                recording: dict[str, Any] = _span(row, where)
                if clips is not None:
                    clip = clips / file.clips / f"{stem}.mp4"
                    recording = {"video": os.path.relpath(clip, target) if target else str(clip)}
                utterances.append(Utterance(row["Speaker"], row["Utterance"], _label(row, where), stem, **recording))
            yield Transcript(str(dialogue + file.offset), tuple(utterances), file.split)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The place and the columns of each row."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: it has no column {missing[0]}; MELD's files have {', '.join(_COLUMNS)}")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise InputError(f"{where}: it has not as many columns as the first line")
                yield where, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as MELD's CSV in UTF-8: {error}") from error


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InputError(f"{where} is {brief(text)}, not a number")
    return int(text)


def _label(row: Mapping[str, str], where: str) -> str:
    if row["Emotion"] not in CLASSES["meld"]:
        raise InputError(f"{where}: Emotion is {brief(row['Emotion'])}, none of {', '.join(CLASSES['meld'])}")
    return row["Emotion"]


def _span(row: Mapping[str, str], where: str) -> dict[str, float]:
    """Start and end in seconds; nothing where the span is empty, as it is once in MELD."""
    seconds = []
    for column in ("StartTime", "EndTime"):
        time = _TIME.fullmatch(row[column])
        if time is None:
            raise InputError(f"{where}: {column} is {brief(row[column])}, not a time such as 00:16:16,059")
        hours, minutes, second, thousandths = map(int, time.groups())
        seconds.append((3_600_000 * hours + 60_000 * minutes + 1000 * second + thousandths) / 1000)
    start, end = seconds
    return {"start": start, "end": end} if start < end else {}
