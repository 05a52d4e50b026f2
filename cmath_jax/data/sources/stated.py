"""Reads what the corpus.json of a folder of conversations states, and finds what it does not state."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np

from cmath_jax.data.corpus import UNLABELLED
from cmath_jax.data.sources.schema import Transcript
from cmath_jax.errors import InputError, suggestion
from cmath_jax.io.files import unreadable
from cmath_jax.io.json_files import read_object, to_json

_INDICES = 1000  # a number as a speaker is an index; one as large as this is more likely a name


def read_stated(path: Path) -> dict[str, Any]:
    """Reads the object in a file; empty where there is no file. Raises InputError."""
    if not path.exists():
        return {}
    try:
        value = read_object(path)
        to_json(value).encode()
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeEncodeError as error:  # half of a surrogate pair, which no file can hold
        raise InputError(f"{path}: not Unicode text: {error}") from error
    return value


def _labelled(places: Sequence[str], transcripts: Sequence[Transcript]) -> Iterator[tuple[str, str]]:
    """Yields the place and the label of every utterance that has one."""
    for place, transcript in zip(places, transcripts, strict=True):
        for i, utterance in enumerate(transcript.utterances):
            if utterance.label is not None:
                yield f"{place}, conversation {brief(transcript.id)}, utterance {i}", utterance.label


def label_indices(transcript: Transcript, classes: Sequence[str]) -> np.ndarray:
    """Returns the labels of a conversation as indices into the classes, int32 [n]; `UNLABELLED` where there is none."""
    index = {name: i for i, name in enumerate(classes)}
    labels = [UNLABELLED if u.label is None else index[u.label] for u in transcript.utterances]
    return np.array(labels, np.int32)


def classes_of(
    stated: Sequence[Any], path: Path, places: Sequence[str], transcripts: Sequence[Transcript]
) -> tuple[str, ...]:
    """Returns the classes that corpus.json names, or else (none) the labels that there are, sorted."""
    for where, label in _labelled(places, transcripts):
        if not label:
            raise InputError(f"{where}: label is empty; leave it out where there is none")
        if stated and label not in stated:
            hint = suggestion(label, [str(name) for name in stated], otherwise=f"{path.name} has")
            raise InputError(f"{where}: label {brief(label)} is none of the classes; {hint}")
    if stated:
        check_classes(stated, str(path))
        return tuple(stated)
    found = sorted({label for _, label in _labelled(places, transcripts)})
    if len(found) < 2:
        labels = f"only one label, {brief(found[0])}" if found else "no labels"
        beside = path.with_name("conversations.jsonl")
        raise InputError(f"{beside}: it has {labels}, and {path.name} names no classes")
    return tuple(found)


def check_classes(classes: Sequence[Any], where: str) -> None:
    """Raises InputError for classes that are no names, fewer than two, or twice the same."""
    for name in classes:
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: the class {brief(name)} is no name")
    if len(set(classes)) < max(2, len(classes)):
        raise InputError(f"{where}: classes are {', '.join(classes)}: they must be two at least, and all different")


def speakers_of(stated: int, path: Path, places: Sequence[str], transcripts: Sequence[Transcript]) -> int:
    """Returns how many speaker indices there are: as corpus.json says, or else (0) as are found, two at least."""
    limit = stated or _INDICES
    most = 2
    for place, transcript in zip(places, transcripts, strict=True):
        speaker_n = transcript.speaker_indices()
        if speaker_n.max() >= limit:
            i = int(np.argmax(speaker_n >= limit))
            speaker = transcript.utterances[i].speaker
            reason = (
                f"{path.name} says that there are {stated}"
                if stated
                else f"a number is an index; write a name as text, or how many speakers there are in {path.name}"
            )
            where = f"{place}, conversation {brief(transcript.id)}, utterance {i}"
            raise InputError(f"{where}: speaker {brief(speaker)} has the index {speaker_n[i]}; {reason}")
        most = max(most, int(speaker_n.max()) + 1)
    return stated or most
