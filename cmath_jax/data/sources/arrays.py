"""Features in .npz and .npy files that anyone may have written: numbers come out, or an `InputError` says why not.

Nothing in a file is run: arrays of Python objects, which are pickles, are refused.

Shapes: n utterances of a conversation, d features.
"""

import contextlib
import lzma
import tokenize
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from reprlib import repr as brief
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np

from cmath_jax.data.corpus import is_present
from cmath_jax.errors import InputError
from cmath_jax.io.files import unreadable

# What the readers of zip archives and of arrays raise for bytes that are neither, or not whole.
_DAMAGED = (
    *(EOFError, BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError),
    *(ValueError, TypeError, LookupError, SyntaxError, OverflowError, MemoryError, NotImplementedError, RuntimeError),
)


class FeatureTable:
    """The features of one modality of a folder of conversations.

    Args:
      path: a .npz archive with an array [n, d] per conversation, keyed by its id, or a .npy array [n, d] of all.
      places: of each conversation the words that name its place, its id and its length, in the order of the lines.

    Attributes:
      dim: d.

    Raises:
      InputError: the file cannot be read, holds something else than numbers, or does not fit the conversations.
    """

    def __init__(self, path: Path, places: Sequence[tuple[str, str, int]]) -> None:
        self._path, self._places = path, places
        self._archive: ZipFile | None = None
        if path.suffix == ".npz":
            self._archive = _open(path)
            self._names = _names(self._archive, path, [id for _, id, _ in places])
            first = next(c for c, (_, id, _) in enumerate(places) if id in self._names)
            self.dim = _matrix(self._entry(first), places[first][2], self._where(first)).shape[1]
        else:
            with _readable(path):
                self._x_nd = np.lib.format.open_memmap(path, mode="r")  # refuses Python objects
            total = sum(n for _, _, n in places)
            _check_array(self._x_nd, total, str(path), f"the lines of conversations.jsonl have {total} utterances")
            self.dim = self._x_nd.shape[1]
            self._start_b = np.cumsum([0, *(n for _, _, n in places)])

    def __getitem__(self, c: int) -> np.ndarray:
        """Reads float32 [n, d] of a conversation; rows of NaN where it lacks the modality. Raises InputError."""
        where, n = self._where(c), self._places[c][2]
        if self._archive is None:
            return _matrix(self._x_nd[self._start_b[c] : self._start_b[c] + n], n, where)
        if self._places[c][1] not in self._names:
            return np.full((n, self.dim), np.nan, np.float32)
        x_nd = _matrix(self._entry(c), n, where)
        if x_nd.shape[1] != self.dim:
            raise InputError(f"{where}: it has {x_nd.shape[1]} features, the conversations before have {self.dim}")
        return x_nd

    def _where(self, c: int) -> str:
        return f"{self._path}: {self._places[c][0]}"

    def _entry(self, c: int) -> Any:
        assert self._archive is not None
        with _readable(self._where(c)), self._archive.open(f"{self._places[c][1]}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def append_array(archive: ZipFile, id: str, x_nd: np.ndarray) -> None:
    """Writes one more array into an archive. Raises InputError for an id that cannot be the name of a member."""
    if "\0" in id or len(id.encode()) > 60_000:
        raise InputError(f"conversation {brief(id)}: the id cannot be a key of an .npz archive")
    # The fixed date of `ZipInfo` keeps the time of writing out of the file.
    with archive.open(ZipInfo(f"{id}.npy"), "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(x_nd), allow_pickle=False)


def _open(path: Path) -> ZipFile:
    with _readable(path):
        return ZipFile(path)


def _names(archive: ZipFile, path: Path, ids: Sequence[str]) -> set[str]:
    """Returns the ids that are keys of the archive. Raises InputError where a key is none, or twice there."""
    keys = [name.removesuffix(".npy") for name in archive.namelist()]
    known = set(ids)
    for key, name in zip(keys, archive.namelist(), strict=True):
        if key not in known or key == name:
            raise InputError(f"{path}: its key {brief(key)} is no id of a conversation, such as {brief(ids[0])}")
    if not keys:
        raise InputError(f"{path}: it holds no arrays; a conversation's is [utterances, features] under its id")
    if len(keys) > len(set(keys)):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"{path}: it holds two arrays of conversation {brief(twice)}")
    return set(keys)


def _matrix(array: Any, n: int, where: str) -> np.ndarray:
    """Converts an array to float32 [n, d], whose rows are whole or all NaN. Raises InputError for anything else."""
    _check_array(array, n, where, f"the conversation has {n} utterances")
    with np.errstate(over="ignore"):  # what float32 cannot hold turns into inf, which is refused by its place
        x_nd = np.array(array, np.float32)
    wrong_nd = ~np.isfinite(x_nd) & is_present(x_nd)[:, None]
    if wrong_nd.any():
        utterance, feature = np.argwhere(wrong_nd)[0]
        raise InputError(
            f"{where}, utterance {utterance}: feature {feature} is {array[utterance, feature]}; features are finite "
            "numbers of float32, or all NaN where the utterance lacks the modality"
        )
    return x_nd


def _check_array(array: np.ndarray, n: int, where: str, wanted: str) -> None:
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: its type is {array.dtype}, not real numbers")
    if array.ndim != 2 or len(array) != n or array.shape[1] == 0:
        raise InputError(f"{where}: its shape is {array.shape}, but {wanted}: it must be [{n}, features]")


@contextlib.contextmanager
def _readable(where: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # without a number it is numpy's, for a file that is cut off
            raise unreadable(str(where), error) from error
        raise InputError(f"{where}: it cannot be read, write it anew: {error!s:.200}") from error
    except _DAMAGED as error:
        # numpy has no exception of its own for them.
        if any(word in str(error) for word in ("pickle", "Object arrays", "Python objects")):
            raise InputError(
                f"{where}: it holds Python objects, not numbers; they are never read, since reading them can run code"
            ) from error
        raise InputError(
            f"{where}: it cannot be read, write it anew: {type(error).__name__}: {error!s:.200}"
        ) from error
