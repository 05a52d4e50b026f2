"""Vectors that were computed before, in a folder: a file each, under a hash of what they were computed from.

An entry is whole or not there, so that an interrupted extraction goes on where it was.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.errors import InputError
from cmath_jax.extract.weights import hash_of


@dataclass(frozen=True)
class Missing:
    """There is no vector.

    Attributes:
      reason: why, to be read after the name of the recording.
      lasting: whether the same bytes will always fail.
    """

    reason: str
    lasting: bool = True


Result = np.ndarray | Missing


class Cache:
    """Of one modality and its settings.

    Args:
      folder: of the caches of all settings; None: nothing is kept.
      maker: what else the vectors depend on, as JSON: the revision of the algorithm, the versions of libraries.

    Raises:
      InputError: it cannot be written.
    """

    def __init__(
        self, folder: Path | None, modality: str, settings: Mapping[str, Any], maker: Mapping[str, Any] | None = None
    ) -> None:
        made_by = dict(maker or {})
        name = hash_of([modality, json.dumps(settings, sort_keys=True), json.dumps(made_by, sort_keys=True)])[:16]
        self._folder = None if folder is None else folder / "features" / name
        try:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._write("settings.json", json.dumps({modality: settings, "maker": made_by}, indent=2).encode())
        except OSError as error:
            raise InputError(f"--cache {folder}: {error.strerror}") from error

    def get(self, key: str) -> Result | None:
        """What is kept under a key; None where nothing is."""
        if self._folder is None:
            return None
        place = self._folder / key[:2] / key
        try:
            return np.load(place.with_suffix(".npy"), allow_pickle=False)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError):
            return None  # half a disk is no reason to fail: it is computed again
        try:
            return Missing(place.with_suffix(".txt").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return None

    def put(self, key: str, result: Result) -> None:
        if self._folder is None:
            return
        (self._folder / key[:2]).mkdir(exist_ok=True)
        if isinstance(result, np.ndarray):
            self._write(f"{key[:2]}/{key}.npy", result)
        elif result.lasting:
            self._write(f"{key[:2]}/{key}.txt", result.reason.encode())

    def _write(self, name: str, content: bytes | np.ndarray) -> None:
        assert self._folder is not None
        partial = self._folder / f"{name}.{os.getpid()}.partial"
        with open(partial, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                np.save(file, content, allow_pickle=False)
        partial.replace(self._folder / name)
