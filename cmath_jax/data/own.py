"""A folder of one's own conversations <-> a `Corpus`. docs/data.md describes the folder.

Shapes: n utterances of a conversation, d features.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief
from typing import Any, overload
from zipfile import ZipFile

import numpy as np

from cmath_jax.data.arrays import FeatureTable, append_array
from cmath_jax.data.conversations import MODALITIES, SPLITS, UNLABELLED, Conversation, Corpus
from cmath_jax.data.transcripts import Transcript, Utterance, no_constant, numbered_transcripts, to_json, transcript_of
from cmath_jax.errors import InputError, suggestion
from cmath_jax.files import unreadable
from cmath_jax.new_folder import new_folder

CONVERSATIONS = "conversations.jsonl"
CORPUS = "corpus.json"
EXTRACTION = "features.json"
_FIELDS = {"name": str, "classes": list, "speakers": int, "license": str, "source": str}
_INDICES = 1000  # a number as a speaker is an index; one as large as this is more likely a name


@dataclass(frozen=True)
class OwnFolder:
    """What a folder says about its conversations, without their features.

    Attributes:
      path: the folder.
      places: of each conversation the file and the line, for messages.
      transcripts: the conversations, in the order of the lines.
      name, classes, speakers, license, source: as in `Corpus`.
    """

    path: Path
    places: tuple[str, ...]
    transcripts: tuple[Transcript, ...]
    name: str
    classes: tuple[str, ...]
    speakers: int
    license: str
    source: str

    def conversation(self, c: int, features: Mapping[str, np.ndarray]) -> Conversation:
        transcript = self.transcripts[c]
        index = {name: i for i, name in enumerate(self.classes)}
        labels = [UNLABELLED if u.label is None else index[u.label] for u in transcript.utterances]
        ids, texts = ([getattr(u, name) for u in transcript.utterances] for name in ("id", "text"))
        return Conversation(
            transcript.id,
            features,
            transcript.speaker_indices(),
            np.array(labels, np.int32),
            tuple(id or "" for id in ids) if any(id is not None for id in ids) else (),
            tuple(text or "" for text in texts) if any(text is not None for text in texts) else (),
        )

    def lines(self, split: str) -> tuple[int, ...]:
        """Which of the transcripts are of a split."""
        return tuple(c for c, transcript in enumerate(self.transcripts) if transcript.split == split)


@dataclass(frozen=True)
class OwnSplit(Sequence[Conversation]):
    """The conversations of a split, read from the folder when they are asked for."""

    folder: OwnFolder
    tables: Mapping[str, FeatureTable] = field(repr=False)
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, i: int) -> Conversation: ...
    @overload
    def __getitem__(self, i: slice) -> list[Conversation]: ...
    def __getitem__(self, i: int | slice) -> Conversation | list[Conversation]:
        if isinstance(i, slice):
            return [self[k] for k in range(len(self))[i]]
        c = self.lines[i]
        return self.folder.conversation(c, {m: table[c] for m, table in self.tables.items()})


def read_own(folder: str | os.PathLike[str], lazy: bool = False) -> Corpus:
    """The corpus in a folder.

    Args:
      lazy: features are read when they are asked for, and are checked then.

    Raises:
      InputError: it cannot be used; the message names the file, the line, the conversation and the utterance.
    """
    own = read_folder(folder)
    paths = feature_paths(own.path)
    if not paths:
        raise InputError(
            f"{own.path}: it has no features (text, audio or visual, as .npz or .npy); extract them with "
            f"`python -m cmath_jax.extract {own.path} --text` (or --audio, --video)"
        )
    places = [
        (f"conversation {brief(t.id)} ({place})", t.id, len(t))
        for place, t in zip(own.places, own.transcripts, strict=True)
    ]
    tables = {m: FeatureTable(path, places) for m, path in paths.items()}
    lazy_splits = {split: OwnSplit(own, tables, own.lines(split)) for split in SPLITS}
    splits: Mapping[str, Sequence[Conversation]] = lazy_splits if lazy else {s: [*c] for s, c in lazy_splits.items()}
    extraction = extraction_of(own.path, tables)
    return Corpus(own.name, own.classes, splits, own.speakers, own.source, own.license, extraction, lazy)


def read_folder(folder: str | os.PathLike[str]) -> OwnFolder:
    """What a folder says without its features. Raises InputError."""
    folder = Path(folder)
    path = folder / CONVERSATIONS
    if not path.is_file():
        what = "is a folder without" if folder.is_dir() else "is no folder with"
        raise InputError(f"{folder} {what} {CONVERSATIONS}, in which each line is a conversation; see docs/data.md")
    stated = read_json(folder / CORPUS)
    _check_fields(stated, folder / CORPUS)
    places, transcripts = _read_conversations(path)
    classes = _classes(stated.get("classes"), folder / CORPUS, places, transcripts)
    return OwnFolder(
        folder,
        places,
        transcripts,
        name=stated.get("name") or folder.resolve().name,
        classes=classes,
        speakers=_speakers(stated.get("speakers"), folder / CORPUS, places, transcripts),
        license=stated.get("license", ""),
        source=stated.get("source", f"conversations of {folder.resolve().name}"),
    )


def feature_paths(folder: Path) -> dict[str, Path]:
    """Modality letter -> the file of its features, for those that are there. Raises InputError where two are."""
    paths: dict[str, Path] = {}
    for m, name in MODALITIES.items():
        there = [path for path in (folder / f"{name}.npz", folder / f"{name}.npy") if path.exists()]
        if len(there) > 1:
            raise InputError(f"{folder} holds both {name}.npz and {name}.npy: remove one")
        if there:
            paths[m] = there[0]
    return paths


def content_paths(folder: Path) -> list[Path]:
    """The files of a folder that are read, of those that are there."""
    paths = [folder / name for name in (CONVERSATIONS, CORPUS, EXTRACTION)]
    return [path for path in paths if path.exists()] + [*feature_paths(folder).values()]


def write_own(corpus: Corpus, folder: str | os.PathLike[str]) -> Path:
    """Writes a corpus as a new folder, of which `read_own` makes the same corpus. Returns the folder.

    It gets its name when all in it is written.

    Raises:
      InputError: the folder is there and not empty, cannot be written, or cannot hold the corpus.
    """
    if not corpus.name:
        raise InputError("the corpus has no name: read again it would have that of its folder")
    _check_classes(corpus.classes, corpus.name)
    stated = {"name": corpus.name, "classes": list(corpus.classes), "speakers": corpus.speakers}
    stated |= {"license": corpus.license, "source": corpus.source}
    dims = corpus.dims
    with new_folder(Path(folder)) as partial, contextlib.ExitStack() as stack:
        archives = {m: stack.enter_context(ZipFile(partial / f"{MODALITIES[m]}.npz", "w")) for m in dims}
        lines = stack.enter_context(open(partial / CONVERSATIONS, "w", encoding="utf-8"))
        for split, conversation in corpus.checked():
            transcript = _transcript(conversation, split, corpus.classes)
            lines.write(_line(transcript))
            for m, archive in archives.items():
                append_array(archive, conversation.id, conversation.features[m].astype(np.float32))
        _write_json(partial / CORPUS, stated)
        if corpus.extraction:
            _write_json(partial / EXTRACTION, {MODALITIES[m]: corpus.extraction[m] for m in corpus.extraction})
    return Path(folder)


def write_transcripts(
    transcripts: Iterable[Transcript], folder: str | os.PathLike[str], stated: Mapping[str, Any]
) -> Path:
    """Writes conversations without features as a new folder; `stated` is its corpus.json. Raises as `write_own`."""
    with new_folder(Path(folder)) as partial:
        with open(partial / CONVERSATIONS, "w", encoding="utf-8") as lines:
            lines.writelines(_line(transcript) for transcript in transcripts)
        _write_json(partial / CORPUS, stated)
    return Path(folder)


# Reading.


def _read_conversations(path: Path) -> tuple[tuple[str, ...], tuple[Transcript, ...]]:
    lines: dict[str, int] = {}
    places, transcripts = [], []
    for line, transcript in numbered_transcripts(path):
        where = f"{path}, line {line}, conversation {brief(transcript.id)}"
        if transcript.id in lines:
            raise InputError(f"{where}: the same id is also in line {lines[transcript.id]}")
        if transcript.split is None:
            raise InputError(f"{where}: its split is missing; it is one of {', '.join(SPLITS)}")
        lines[transcript.id] = line
        places.append(f"{path}, line {line}")
        transcripts.append(transcript)
    if not transcripts:
        raise InputError(f"{path}: it holds no conversations")
    return tuple(places), tuple(transcripts)


def _labelled(places: Sequence[str], transcripts: Sequence[Transcript]) -> Iterator[tuple[str, str]]:
    """The place and the label of every utterance that has one."""
    for place, transcript in zip(places, transcripts, strict=True):
        for i, utterance in enumerate(transcript.utterances):
            if utterance.label is not None:
                yield f"{place}, conversation {brief(transcript.id)}, utterance {i}", utterance.label


def _classes(
    stated: list[Any] | None, path: Path, places: Sequence[str], transcripts: Sequence[Transcript]
) -> tuple[str, ...]:
    """Those that corpus.json names, or else the labels that there are, sorted."""
    for where, label in _labelled(places, transcripts):
        if not label:
            raise InputError(f"{where}: label is empty; leave it out where there is none")
        if stated is not None and label not in stated:
            hint = suggestion(label, [str(name) for name in stated], otherwise=f"{path.name} has")
            raise InputError(f"{where}: label {brief(label)} is none of the classes; {hint}")
    if stated is not None:
        _check_classes(stated, str(path))
        return tuple(stated)
    found = sorted({label for _, label in _labelled(places, transcripts)})
    if len(found) < 2:
        labels = f"only one label, {brief(found[0])}" if found else "no labels"
        raise InputError(f"{path.with_name(CONVERSATIONS)}: it has {labels}, and {CORPUS} names no classes")
    return tuple(found)


def _check_classes(classes: Sequence[Any], where: str) -> None:
    for name in classes:
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: the class {brief(name)} is no name")
    if len(set(classes)) < max(2, len(classes)):
        raise InputError(f"{where}: classes are {', '.join(classes)}: they must be two at least, and all different")


def _speakers(stated: int | None, path: Path, places: Sequence[str], transcripts: Sequence[Transcript]) -> int:
    """How many speaker indices there are: as corpus.json says, or else as are found, two at least."""
    limit = _INDICES if stated is None else stated
    most = 2
    for place, transcript in zip(places, transcripts, strict=True):
        speaker_n = transcript.speaker_indices()
        if speaker_n.max() >= limit:
            i = int(np.argmax(speaker_n >= limit))
            speaker = transcript.utterances[i].speaker
            reason = (
                f"{path.name} says that there are {stated}"
                if stated is not None
                else f"a number is an index; write a name as text, or how many speakers there are in {path.name}"
            )
            where = f"{place}, conversation {brief(transcript.id)}, utterance {i}"
            raise InputError(f"{where}: speaker {brief(speaker)} has the index {speaker_n[i]}; {reason}")
        most = max(most, int(speaker_n.max()) + 1)
    return most if stated is None else stated


def extraction_of(folder: Path, modalities: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Modality letter -> settings, for the modalities whose features are there."""
    stated = read_json(folder / EXTRACTION)
    for name, settings in stated.items():
        if name not in MODALITIES.values() or not isinstance(settings, dict):
            raise InputError(
                f"{folder / EXTRACTION}: {brief(name)}: it holds the settings, an object, of text, audio and visual"
            )
    return {m: stated[MODALITIES[m]] for m in modalities if MODALITIES[m] in stated}


def _check_fields(stated: Mapping[str, Any], path: Path) -> None:
    for name, value in stated.items():
        if name not in _FIELDS:
            raise InputError(f"{path}: unknown field {brief(name)}; {suggestion(name, _FIELDS)}")
        if not isinstance(value, _FIELDS[name]) or isinstance(value, bool):
            kind = {str: "text", list: "a list of names", int: "a number"}[_FIELDS[name]]
            raise InputError(f"{path}: {name} is {brief(value)}, not {kind}")
    if not 1 <= stated.get("speakers", 1) < 2**31:
        raise InputError(f"{path}: speakers is {stated['speakers']}: one is the least")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no file. Raises InputError."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair, which no file can hold
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: it holds {brief(value)}, not an object")
    return value


# Writing.


def _transcript(c: Conversation, split: str, classes: Sequence[str]) -> Transcript:
    ids, texts = (values or (None,) * len(c) for values in (c.utterance_ids, c.sentences))
    labels = [None if label == UNLABELLED else classes[label] for label in c.labels]
    columns = zip(c.speakers.tolist(), texts, labels, ids, strict=True)
    return Transcript(c.id, tuple(Utterance(*values) for values in columns), split)


def _line(transcript: Transcript) -> str:
    line = to_json(transcript)
    transcript_of(json.loads(line), "the corpus")  # an id that is empty, or text that no file can hold
    return line + "\n"


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
