"""Conversations as people write them down: who says what, and where it was recorded; before there are features.

The JSON form is that of a line of `conversations.jsonl` (docs/data.md):

    {"id": "c1", "split": "train", "utterances": [{"speaker": "Ann", "text": "You came!", "label": "joy"}]}

Everywhere `where` is the place that an `InputError` names first.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from cmath_jax.data.sources.near_misses import no_json
from cmath_jax.data.sources.plain_text import lines_of, numbered_lines
from cmath_jax.data.sources.schema import Transcript, Utterance, decode
from cmath_jax.errors import InputError
from cmath_jax.io.json_files import from_json


def read_transcripts(path: Path) -> Iterator[Transcript]:
    """Reads the conversations of a JSON-lines file. An InputError names file, line and conversation."""
    return (transcript for _, transcript in numbered_transcripts(path))


def numbered_transcripts(path: Path) -> Iterator[tuple[int, Transcript]]:
    """Yields what `read_transcripts` reads, each with the number of its line, from 1: lines may be blank."""
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
        if found:
            raise
        raise InputError(f"{error}{no_json(path)}") from error


def transcript_of(value: Any, where: str, default_id: str = "") -> Transcript:
    """Returns a conversation from decoded JSON; without an id it gets the default one. Raises InputError."""
    if isinstance(value, Mapping):
        value = {**value, "id": default_id if value.get("id") is None else value["id"]}
    transcript = decode(Transcript, value, where)
    if len({type(utterance.speaker) for utterance in transcript.utterances}) > 1:
        raise InputError(f"{where}, conversation {brief(transcript.id)}: some speakers are names and some are numbers")
    return transcript


def to_json(transcript: Transcript) -> str:
    """Returns a line of `conversations.jsonl`; what is not known is left out."""
    utterances = [_known(vars(utterance)) for utterance in transcript.utterances]
    values = {"id": transcript.id, "split": transcript.split, "utterances": utterances}
    return json.dumps(_known(values), ensure_ascii=False, allow_nan=False)


def from_lines(text: str, id: str) -> Transcript:
    """Reads a conversation written as lines `speaker: words`; a line without a colon goes on with the one before.

    White space around speakers and words is dropped; what ends a line, `plain_text` says.

    Raises:
      InputError: the first line names no speaker, or there is none.
    """
    return from_lines_with_numbers(text, id)[0]


def from_lines_with_numbers(text: str, id: str) -> tuple[Transcript, list[int]]:
    """Reads what `from_lines` reads, and returns also the line, from 1, where each utterance begins."""
    begins: list[int] = []
    said: list[dict[str, str]] = []
    for number, line in enumerate(lines_of(text), start=1):
        if not line.strip():
            continue
        speaker, colon, words = (part.strip() for part in line.partition(":"))
        if colon and speaker:
            said.append({"speaker": speaker, "text": words})
            begins.append(number)
        elif said:
            said[-1]["text"] = f"{said[-1]['text']} {line.strip()}".strip()
        else:
            raise InputError(f"{id}, line {number}: write it as SPEAKER: WORDS; {brief(line)} names no speaker")
    if not said:
        raise InputError(f"{id}: it is empty (0 utterances)")
    utterances = (decode(Utterance, one, f"{id}, line {line}") for one, line in zip(said, begins, strict=True))
    return Transcript(id, tuple(utterances)), begins


def decoded(line: str, where: str) -> Any:
    """Returns the value in a line of JSON. Raises InputError."""
    return from_json(line, where, cut="; it begins here and goes on: all of it has to be on one line", wrong="")


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
