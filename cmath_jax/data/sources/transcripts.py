"""Conversations as people write them down: who says what, and where it was recorded; before there are features.

The JSON form is that of a line of `conversations.jsonl` (docs/data.md):

    {"id": "c1", "split": "train", "utterances": [{"speaker": "Ann", "text": "You came!", "label": "joy"}]}

Everywhere `where` is the place that an `InputError` names first.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from reprlib import repr as brief
from typing import Any, TypeVar

import numpy as np

from cmath_jax.data.corpus import SPLITS
from cmath_jax.data.sources.near_misses import no_json
from cmath_jax.data.sources.plain_text import lines_of, numbered_lines
from cmath_jax.errors import InputError, suggestion
from cmath_jax.io.json_files import decode
from cmath_jax.io.places import placed

FAR = 1e12  # seconds; no recording is longer, and an infinity is no number


@dataclass(frozen=True)
class Utterance:
    """What one speaker says in one go.

    Attributes:
      speaker: a name, or the index of a speaker.
      text: the words; None where they are not known.
      label: the name of the emotion; None where nobody has labelled it.
      id: a name of its own.
      start, end: seconds in the recording.
      audio, video: paths of the recording, relative to the folder of the file.
    """

    speaker: str | int
    text: str | None = None
    label: str | None = None
    id: str | None = None
    start: float | None = None
    end: float | None = None
    audio: str | None = None
    video: str | None = None


@dataclass(frozen=True)
class Transcript:
    """A conversation without features.

    Attributes:
      id: its name.
      utterances: in time order; one at least.
      split: train, validation or test; None where it belongs to none.
    """

    id: str
    utterances: tuple[Utterance, ...]
    split: str | None = None

    def __len__(self) -> int:
        return len(self.utterances)

    def speaker_indices(self) -> np.ndarray:
        """int32 [n]: names are numbered by their first appearance in the conversation, numbers are indices already."""
        order: dict[str | int, int] = {}
        for utterance in self.utterances:
            order.setdefault(utterance.speaker, len(order))
        numbered = all(isinstance(speaker, int) for speaker in order)
        return np.array([u.speaker if numbered else order[u.speaker] for u in self.utterances], np.int32)


def read_transcripts(path: Path) -> Iterator[Transcript]:
    """The conversations of a JSON-lines file. Raises InputError, naming file, line, conversation and utterance."""
    return (transcript for _, transcript in numbered_transcripts(path))


def numbered_transcripts(path: Path) -> Iterator[tuple[int, Transcript]]:
    """As `read_transcripts`, each with the number of its line, from 1: lines may be blank."""
    found = False
    try:
        for number, line in numbered_lines(path):
            if line.strip():
                where = f"{path}, line {number}"
                value = decoded(line, where)
                if isinstance(value, list):
                    raise InputError(f"{where}: a list of JSON; write each conversation of it as a line of its own")
                found = True
                yield number, transcript_of(value, where, str(number))
    except InputError as error:
        # Perhaps it is a file of another kind.
        raise error if found else InputError(f"{error}{no_json(path)}") from error


def transcript_of(value: Any, where: str, default_id: str = "") -> Transcript:
    """A conversation from decoded JSON; without an id it gets the default one. Raises InputError."""
    given = _object(value, Transcript, where)
    id = _optional(given, "id", str, where)
    id = default_id if id is None else id
    if not id:
        raise InputError(f"{where}: the conversation has no id")
    where = f"{where}, conversation {brief(id)}"
    split = _optional(given, "split", str, where)
    if split not in (None, *SPLITS):
        raise InputError(f"{where}: split {brief(split)} is not one of {', '.join(SPLITS)}")
    spoken = given.get("utterances")
    if not isinstance(spoken, list):
        raise InputError(f"{where}: utterances is {_kind(spoken)}, not a list")
    if not spoken:
        raise InputError(f"{where}: it is empty (0 utterances)")
    utterances = tuple(_numbered(i, u, where) for i, u in enumerate(spoken))
    kinds = {type(utterance.speaker) for utterance in utterances}
    if len(kinds) > 1:
        raise InputError(f"{where}: some speakers are names and some are numbers")
    return Transcript(id, utterances, split)


def _numbered(i: int, value: Any, where: str) -> Utterance:
    with placed(f"{where}, utterance {i}", utterance=i):
        return utterance_of(value, f"{where}, utterance {i}")


def utterance_of(value: Any, where: str) -> Utterance:
    """An utterance from decoded JSON. Raises InputError."""
    given = _object(value, Utterance, where)
    speaker = given.get("speaker")
    if isinstance(speaker, bool) or not isinstance(speaker, str | int):
        raise InputError(f"{where}: speaker is {_kind(speaker)}, neither a name nor a number")
    if isinstance(speaker, str):
        _check_text(speaker, f"{where}: speaker")
    elif not 0 <= speaker < 2**31:
        raise InputError(f"{where}: speaker {brief(speaker)} is not an index")
    texts = {name: _optional(given, name, str, where) for name in ("text", "label", "id", "audio", "video")}
    start, end = (_optional(given, name, float, where) for name in ("start", "end"))
    if (start is not None and start < 0) or (end is not None and end <= (start or 0)):
        raise InputError(f"{where}: start {start} and end {end} are no span of time")
    return Utterance(speaker, **texts, start=start, end=end)


def to_json(transcript: Transcript) -> str:
    """A line of `conversations.jsonl`; what is not known is left out."""
    utterances = [_known(vars(utterance)) for utterance in transcript.utterances]
    values = {"id": transcript.id, "split": transcript.split, "utterances": utterances}
    return json.dumps(_known(values), ensure_ascii=False, allow_nan=False)


def from_lines(text: str, id: str) -> Transcript:
    """A conversation written as lines `speaker: words`; a line without a colon goes on with the one before.

    White space around speakers and words is dropped; what ends a line, `plain_text` says.

    Raises:
      InputError: the first line names no speaker, or there is none.
    """
    return from_lines_with_numbers(text, id)[0]


def from_lines_with_numbers(text: str, id: str) -> tuple[Transcript, list[int]]:
    """Reads what `from_lines` reads, and returns also the line, from 1, where each utterance begins."""
    begins: list[int] = []
    utterances: list[Utterance] = []
    for number, line in enumerate(lines_of(text), start=1):
        if not line.strip():
            continue
        speaker, colon, words = (part.strip() for part in line.partition(":"))
        if colon and speaker:
            _check_text(line, f"{id}, line {number}")
            utterances.append(Utterance(speaker, words))
            begins.append(number)
        elif utterances:
            last = utterances[-1]
            utterances[-1] = Utterance(last.speaker, f"{last.text} {line.strip()}".strip())
        else:
            raise InputError(f"{id}, line {number}: write it as SPEAKER: WORDS; {brief(line)} names no speaker")
    if not utterances:
        raise InputError(f"{id}: it is empty (0 utterances)")
    return Transcript(id, tuple(utterances)), begins


Value = TypeVar("Value", str, float)


def _optional(given: Mapping[str, Any], name: str, kind: type[Value], where: str) -> Value | None:
    """The value of a field as text or as a finite number; None where it is not given."""
    value = given.get(name)
    if value is None:
        return None
    if kind is str and isinstance(value, str):
        _check_text(value, f"{where}: {name}")
        return kind(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < FAR:
        return kind(value)
    raise InputError(f"{where}: {name} is {_kind(value)}, not {'text' if kind is str else 'a number'}")


def decoded(line: str, where: str) -> Any:
    """What a line of JSON holds. Raises InputError."""
    return decode(line, where, cut="; it begins here and goes on: all of it has to be on one line", wrong="")


def _object(value: Any, kind: type, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: {_kind(value)} stands where an object is wanted ({kind.__name__.lower()})")
    names = [field.name for field in fields(kind)]
    for name in value:
        if name not in names:
            raise InputError(f"{where}: unknown field {brief(name)}; {suggestion(str(name), names)}")
    return value


def _check_text(text: str, where: str) -> None:
    # JSON can spell half of a surrogate pair, which no file can hold.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where} is not Unicode text: {brief(text)} has a lone surrogate") from error


def _kind(value: Any) -> str:
    return "missing" if value is None else f"{brief(value)} ({type(value).__name__})"


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
