"""Reads a folder of one's own conversations as a `Corpus`, and writes it. docs/data.md describes the folder.

Shapes: n utterances of a conversation, d features.
"""

import contextlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief
from typing import Any, overload
from zipfile import ZipFile

import numpy as np

from cmath_jax.data.corpus import MODALITIES, SPLITS, UNLABELLED, Conversation, Corpus
from cmath_jax.data.sources import counts
from cmath_jax.data.sources.arrays import FeatureTable, append_array
from cmath_jax.data.sources.card import data_card
from cmath_jax.data.sources.near_misses import likeness
from cmath_jax.data.sources.schema import Stated, Transcript, Utterance, decode
from cmath_jax.data.sources.stated import check_classes, classes_of, label_indices, read_stated, speakers_of
from cmath_jax.data.sources.transcripts import numbered_transcripts, to_json, transcript_of
from cmath_jax.errors import InputError, InputWarning
from cmath_jax.io.json_files import write_json
from cmath_jax.io.whole import new_folder

CONVERSATIONS = "conversations.jsonl"
CORPUS = "corpus.json"
EXTRACTION = "features.json"
CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class OwnTranscripts(Stated):
    """A folder of conversations without their features: what it says, and what is found where it says nothing.

    Attributes:
      path: the folder.
      places: of each conversation the file and the line, for messages.
      transcripts: the conversations, in the order of the lines.
    """

    path: Path
    places: tuple[str, ...]
    transcripts: tuple[Transcript, ...]

    def conversation(self, b: int, features: Mapping[str, np.ndarray]) -> Conversation:
        transcript = self.transcripts[b]
        ids, texts = ([getattr(u, name) for u in transcript.utterances] for name in ("id", "text"))
        return Conversation(
            transcript.id,
            features,
            transcript.speaker_indices(),
            label_indices(transcript, self.classes),
            tuple(id or "" for id in ids) if any(id is not None for id in ids) else (),
            tuple(text or "" for text in texts) if any(text is not None for text in texts) else (),
        )

    def labels(self) -> counts.Labels:
        """Returns the labels of each conversation of each split: int32 [n], as in `Conversation`."""
        return {
            split: [label_indices(self.transcripts[b], self.classes) for b in self.lines(split)] for split in SPLITS
        }

    def lines(self, split: str) -> tuple[int, ...]:
        """Returns which of the transcripts are of a split."""
        return tuple(b for b, transcript in enumerate(self.transcripts) if transcript.split == split)


@dataclass(frozen=True)
class OwnSplit(Sequence[Conversation]):
    """The conversations of a split, read from the folder when they are asked for."""

    folder: OwnTranscripts
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
        b = self.lines[i]
        return self.folder.conversation(b, {m: table[b] for m, table in self.tables.items()})


def read_own(folder: str | os.PathLike[str], lazy: bool = False, check_counts: str = "error") -> Corpus:
    """Reads the corpus in a folder.

    Args:
      lazy: features are read when they are asked for, and are checked then.
      check_counts: as in `read_folder`.

    Raises:
      InputError: it cannot be used; the message names the file, the line, the conversation and the utterance.
    """
    own = read_folder(folder, check_counts)
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


def read_folder(folder: str | os.PathLike[str], check_counts: str = "error") -> OwnTranscripts:
    """Reads a folder without its features.

    Args:
      check_counts: `error` or `warn`: what to do when it bears the name of a known data set, and conversations,
        utterances or classes are not as many as in that; its corpus.json can say `warn` as well.

    Raises:
      InputError: it cannot be used; the message names the file, the line, the conversation and the utterance.
    """
    folder = Path(folder)
    path = folder / CONVERSATIONS
    if not path.is_file():
        what = "is a folder without" if folder.is_dir() else "is no folder with"
        near = likeness(folder) if folder.exists() else "; there is no such folder"
        raise InputError(
            f"{folder} {what} {CONVERSATIONS}, in which each line is a conversation; see docs/data.md{near}"
        )
    default = {"source": f"conversations of {folder.resolve().name}"}
    stated = decode(Stated, default | read_stated(folder / CORPUS), str(folder / CORPUS))
    places, transcripts = _read_conversations(path)
    found = {
        "name": stated.name or folder.resolve().name,
        "classes": classes_of(stated.classes, folder / CORPUS, places, transcripts),
        "speakers": speakers_of(stated.speakers, folder / CORPUS, places, transcripts),
    }
    own = OwnTranscripts(**vars(stated) | found, path=folder, places=places, transcripts=transcripts)
    accepted = stated.check_counts if check_counts == "error" else check_counts
    counts.check_counts(folder, own.name, own.classes, own.labels(), accepted, own=True)
    return own


def feature_paths(folder: Path) -> dict[str, Path]:
    """Returns the files of features by modality letter, of those that are there. Raises InputError where two are."""
    paths: dict[str, Path] = {}
    for m, name in MODALITIES.items():
        found = [path for path in (folder / f"{name}.npz", folder / f"{name}.npy") if path.exists()]
        if len(found) > 1:
            raise InputError(f"{folder} holds both {name}.npz and {name}.npy: remove one")
        if found:
            paths[m] = found[0]
    return paths


def content_paths(folder: Path) -> list[Path]:
    """Lists the files of a folder that are read, of those that are there."""
    paths = [folder / name for name in (CONVERSATIONS, CORPUS, EXTRACTION)]
    return [path for path in paths if path.exists()] + [*feature_paths(folder).values()]


def write_own(corpus: Corpus, folder: str | os.PathLike[str], check_counts: str = "error") -> Path:
    """Writes a corpus as a new folder, of which `read_own` makes the same corpus. Returns the folder.

    It gets its name when all in it is written and was read again.

    Args:
      check_counts: `warn` writes a corpus that has the name of a known data set and not its counts, and notes that in
        corpus.json, so that the folder is accepted, with a warning, whenever it is read.

    Raises:
      InputError: the folder is there and not empty, cannot be written, or cannot hold the corpus.
    """
    if not corpus.name:
        raise InputError("the corpus has no name: read again it would have that of its folder")
    check_classes(corpus.classes, corpus.name)
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
        if corpus.extraction:
            write_json(partial / EXTRACTION, {MODALITIES[m]: corpus.extraction[m] for m in corpus.extraction})
        for archive in archives.values():
            archive.close()
        lines.close()
        _finish(partial, Path(folder), stated, check_counts)
    return Path(folder)


def write_transcripts(
    transcripts: Iterable[Transcript],
    folder: str | os.PathLike[str],
    stated: Mapping[str, Any],
    check_counts: str = "error",
) -> Path:
    """Writes conversations without features as a new folder; `stated` is its corpus.json. Raises as `write_own`."""
    with new_folder(Path(folder)) as partial:
        with open(partial / CONVERSATIONS, "w", encoding="utf-8") as lines:
            lines.writelines(_line(transcript) for transcript in transcripts)
        _finish(partial, Path(folder), stated, check_counts)
    return Path(folder)


def _finish(partial: Path, folder: Path, stated: Mapping[str, Any], check_counts: str) -> None:
    """Writes corpus.json and reads all of the folder again, so that nothing is left behind which `check` refuses."""
    try:
        write_json(partial / CORPUS, stated)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)  # whoever made the corpus was warned
            own = read_folder(partial, check_counts)
            if counts.count_differences(own.name, own.classes, own.labels()):
                write_json(partial / CORPUS, {**stated, "check_counts": "warn"})
            if feature_paths(partial):
                for _ in read_own(partial, lazy=True).checked():
                    pass
        splits = {split: [own.conversation(b, {}) for b in own.lines(split)] for split in SPLITS}
        (partial / CARD).write_text(data_card(own, splits), encoding="utf-8")
    except InputError as error:
        raise InputError(str(error).replace(str(partial), str(folder))) from error


# Reading.


def transcripts_by_id(path: Path) -> Iterator[tuple[int, Transcript]]:
    """Yields what `numbered_transcripts` does. Raises InputError for an id that two of them have, too."""
    lines: dict[str, int] = {}
    for line, transcript in numbered_transcripts(path):
        if transcript.id in lines:
            where = f"{path}, line {line}, conversation {brief(transcript.id)}"
            raise InputError(f"{where}: the same id is also in line {lines[transcript.id]}")
        lines[transcript.id] = line
        yield line, transcript


def _read_conversations(path: Path) -> tuple[tuple[str, ...], tuple[Transcript, ...]]:
    places, transcripts = [], []
    for line, transcript in transcripts_by_id(path):
        if transcript.split is None:
            where = f"{path}, line {line}, conversation {brief(transcript.id)}"
            raise InputError(f"{where}: its split is missing; it is one of {', '.join(SPLITS)}")
        places.append(f"{path}, line {line}")
        transcripts.append(transcript)
    if not transcripts:
        raise InputError(f"{path}: it holds no conversations")
    return tuple(places), tuple(transcripts)


def extraction_of(folder: Path, modalities: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Reads the settings of extraction by modality letter, for the modalities whose features are there."""
    stated = read_stated(folder / EXTRACTION)
    for name, settings in stated.items():
        if name not in MODALITIES.values() or not isinstance(settings, dict):
            raise InputError(
                f"{folder / EXTRACTION}: {brief(name)}: it holds the settings, an object, of text, audio and visual"
            )
    return {m: stated[MODALITIES[m]] for m in modalities if MODALITIES[m] in stated}


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
