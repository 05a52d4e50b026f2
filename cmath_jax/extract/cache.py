"""Vectors that were computed before, in a folder: a file each, under a hash of what they were computed from.

An entry is whole or not there, so that an interrupted extraction goes on where it was.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.errors import reason
from cmath_jax.extract.weights import hash_of
from cmath_jax.io.json_files import read_json
from cmath_jax.io.whole import whole_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Missing:
    """The answer that there is no vector.

    Attributes:
      reason: why, to be read after the name of the recording.
      lasting: whether the same bytes will always fail.
    """

    reason: str
    lasting: bool = True


@dataclass(frozen=True)
class Found:
    """A vector, and what there is to say of it.

    Attributes:
      vector: float32 [d].
      notes: what its user should know, each to be read after the name of the recording.
    """

    vector: np.ndarray
    notes: tuple[str, ...] = ()


Result = Found | Missing


class Cache:
    """The vectors of one modality and its settings, kept in a folder.

    What cannot be kept is computed again: no error of the cache ends an extraction.

    Args:
      folder: of the caches of all settings; None: nothing is kept.
      maker: what else the vectors depend on, as JSON: the revision of the algorithm, the versions of libraries.
    """

    def __init__(
        self, folder: Path | None, modality: str, settings: Mapping[str, Any], maker: Mapping[str, Any] | None = None
    ) -> None:
        made_by = dict(maker or {})
        name = hash_of([modality, json.dumps(settings, sort_keys=True), json.dumps(made_by, sort_keys=True)])[:16]
        self._root, self._folder = folder, None if folder is None else folder / "features" / name
        self._writes = self._folder is not None
        self._write("settings.json", json.dumps({modality: settings, "maker": made_by}, indent=2).encode())

    def get(self, key: str) -> Result | None:
        """Returns what is kept under a key; None where nothing is, or it cannot be read."""
        if self._folder is None:
            return None
        place = self._folder / key[:2] / key
        try:
            vector = np.load(place.with_suffix(".npy"), allow_pickle=False)
            return Found(vector, _notes(place.with_suffix(".json")))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError):
            return None  # half a disk is no reason to fail: it is computed again
        try:
            return Missing(place.with_suffix(".txt").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return None

    def put(self, key: str, result: Result) -> None:
        """Keeps a result under a key, unless it may be another one the next time."""
        place = f"{key[:2]}/{key}"
        if isinstance(result, Missing):
            if result.lasting:
                self._write(f"{place}.txt", result.reason.encode())
            return
        if result.notes:  # before the vector, which is not to be found without them
            self._write(f"{place}.json", json.dumps(result.notes).encode())
        self._write(f"{place}.npy", result.vector)

    def _write(self, name: str, content: bytes | np.ndarray) -> None:
        if not self._writes or self._folder is None or self._root is None:
            return
        try:
            with whole_file(self._folder / name, "wb", parents=True, durable=False) as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    np.save(file, content, allow_pickle=False)
        except OSError as error:
            self._writes = False
            _tell(self._root, reason(error))


def _notes(path: Path) -> tuple[str, ...]:
    try:
        return tuple(read_json(path))
    except FileNotFoundError:
        return ()


@cache  # each modality has a cache of its own in the same folder
def _tell(folder: Path, reason: str) -> None:
    log.warning("the cache %s cannot be written (%s): extraction goes on, but keeps nothing new", folder, reason)
