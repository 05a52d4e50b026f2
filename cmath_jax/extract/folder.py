"""Writes the feature files of a folder of conversations, one per modality, and `features.json`: how they were made.

A file is whole or not there. While one is replaced `features.json` says nothing of it: what it says is always true.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from zipfile import ZipFile

import numpy as np

from cmath_jax.data.corpus import MODALITIES, is_present
from cmath_jax.data.sources.arrays import append_array
from cmath_jax.data.sources.near_misses import likeness
from cmath_jax.data.sources.own import CONVERSATIONS, EXTRACTION, transcripts_by_id
from cmath_jax.data.sources.schema import Transcript
from cmath_jax.data.sources.stated import read_stated
from cmath_jax.errors import InputError, reason
from cmath_jax.extract import Execution, Extractor, make_extractor
from cmath_jax.io.json_files import write_json
from cmath_jax.io.lock import held
from cmath_jax.io.whole import whole_file


@dataclass(frozen=True)
class Summary:
    """The outcome of extracting one modality of a folder.

    Attributes:
      modality: letter.
      path: of the features.
      utterances, missing: how many there are, and how many lack the modality.
      dim: how many features an utterance has.
      problems: a line for each utterance that lacks it because something is absent or broken.
      notes: a line for each thing that is not as its user will think, of utterances that have it.
    """

    modality: str
    path: Path
    utterances: int
    missing: int
    dim: int
    problems: list[str]
    notes: list[str]


def extract_folder(
    folder: Path, settings: Mapping[str, Mapping[str, Any]], execution: Execution | None = None
) -> Iterator[Summary]:
    """Extracts the modalities of the settings, letter -> settings, one after the other. Yields a summary of each.

    Raises:
      InputError: the conversations or the settings cannot be used, or no utterance has the modality.
    """
    transcripts = read_conversations(folder)
    read_stated(folder / EXTRACTION)
    for m in settings:
        other = folder / f"{MODALITIES[m]}.npy"
        if other.exists():
            raise InputError(f"{other} is there already, and would be read beside a new one: move it away")
    _check_writable(folder)  # not after hours
    # Settings that are wrong are known before the first recording is read.
    for m, extractor in {m: make_extractor(m, given, execution) for m, given in settings.items()}.items():
        yield _extract(folder, transcripts, m, extractor)


def read_conversations(folder: Path) -> list[Transcript]:
    """Returns the conversations of a folder. Raises InputError."""
    path = folder / CONVERSATIONS
    if not path.is_file():
        raise InputError(f"{path} is not there; docs/data.md says what is in it{likeness(folder)}")
    transcripts = [transcript for _, transcript in transcripts_by_id(path)]
    if not transcripts:
        raise InputError(f"{path}: there are no conversations in it")
    return transcripts


def _extract(folder: Path, transcripts: Sequence[Transcript], m: str, extractor: Extractor) -> Summary:
    name = MODALITIES[m]
    found = extractor.features(transcripts, folder)
    problems, notes = (
        [problem.line(transcripts) for problem in found.problems if problem.used == used] for used in (False, True)
    )
    utterances = sum(len(transcript) for transcript in transcripts)
    missing = utterances - sum(int(is_present(x_nd).sum()) for x_nd in found.features)
    if missing == utterances:
        first = f"; the first of {len(problems)} problems: {problems[0]}" if problems else ""
        raise InputError(f"{folder / CONVERSATIONS}: none of {utterances} utterances has {name}{first}")
    path = folder / f"{name}.npz"
    try:
        with held(folder):  # two extractions into one folder write one after the other
            with whole_file(path, "wb") as file:
                _write_features(file, {t.id: x_nd for t, x_nd in zip(transcripts, found.features, strict=True)})
                _write_settings(folder, name, None)  # before they get their name: they never are beside old settings
            _write_settings(folder, name, extractor.settings)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {reason(error)}") from error
    return Summary(m, path, utterances, missing, extractor.dim, problems, notes)


def _check_writable(folder: Path) -> None:
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder}: features cannot be written there: {reason(error)}") from error


def _write_features(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    with ZipFile(file, "w") as archive:
        for id, x_nd in arrays.items():
            append_array(archive, id, x_nd)


def _write_settings(folder: Path, name: str, settings: Mapping[str, Any] | None) -> None:
    path = folder / EXTRACTION
    known = read_stated(path)
    known.pop(name, None)
    if settings is not None:
        known[name] = dict(settings)
    write_json(path, known)
