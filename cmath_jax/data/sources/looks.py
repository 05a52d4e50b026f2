"""Tests of what a file or a folder is, by its first bytes, its text, its name or the names in it.

Each function makes a test of a file or of a folder: it returns what was found, to be named in a message, or "" to say
that it fits; None where it does not.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from cmath_jax.data.sources.meld_files import lacking, parts_of
from cmath_jax.data.sources.plain_text import lines_of
from cmath_jax.errors import InputError

HEAD = 4096  # bytes of a file that are looked at
_MANY = 1000  # names of a folder that are looked at
_INNER = 200  # folders inside of a folder that are looked into
_MELD_COLUMNS = {"Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID"}


@dataclass(frozen=True)
class File:
    """A file, of which the beginning was read."""

    path: Path
    head: bytes

    @property
    def text(self) -> str:
        """The beginning as text; "" for what is none."""
        return "" if b"\0" in self.head else self.head.decode("utf-8-sig", errors="ignore").lstrip()

    @property
    def names(self) -> list[str]:
        """The names in a zip archive."""
        try:
            with ZipFile(self.path) as archive:
                return archive.namelist()[:_MANY]
        except (OSError, BadZipFile, ValueError, NotImplementedError):
            return []


@dataclass(frozen=True)
class Folder:
    """A folder with the names in it."""

    path: Path
    names: Sequence[str]

    def matching(self, pattern: str) -> list[str]:
        """Returns the names that a pattern fits, whatever their case."""
        return [name for name in self.names if re.fullmatch(pattern, name, re.IGNORECASE)]


def starts(*starts: bytes) -> Callable[[File], str | None]:
    """Fits a file by its first bytes, which are given in lower case; white space before them does not count."""
    return lambda file: "" if file.head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(starts) else None


def begins(pattern: str) -> Callable[[File], str | None]:
    """Fits a text by its beginning."""

    def fits(file: File) -> str | None:
        return "" if re.match(pattern, file.text) else None

    return fits


def suffix(*suffixes: str) -> Callable[[File], str | None]:
    """Fits a file by the end of its name, which is given in lower case."""
    return lambda file: "" if file.path.name.lower().endswith(suffixes) else None


def zip_of(pattern: str) -> Callable[[File], str | None]:
    """Fits a zip archive that holds a name of this pattern, which it finds."""

    def fits(file: File) -> str | None:
        if not file.head.startswith(b"PK\x03\x04"):
            return None
        return next((name for name in file.names if re.search(pattern, name)), None)

    return fits


def both(*parts: Callable[[File], str | None]) -> Callable[[File], str | None]:
    """Fits a file that all the parts fit."""
    return lambda file: "" if all(part(file) is not None for part in parts) else None


def columns(file: File) -> set[str]:
    """Returns the names in the first line of a file, as if it were CSV."""
    first = lines_of(file.text)[:1]
    try:
        return {column.strip() for column in next(csv.reader(first), [])}
    except csv.Error:
        return set()


def meld_csv(file: File) -> str | None:
    """Fits one of MELD's CSV files; finds what its folder lacks, for the advice."""
    if not columns(file) >= _MELD_COLUMNS:
        return None
    names = entries(file.path.parent)
    twice, missing = _doubled(names), lacking(_parts(names))
    if twice:
        return f", where {twice}"
    return f", which lacks {' and '.join(missing)}" if missing else ""


def files(pattern: str) -> Callable[[Folder], str | None]:
    """Fits a folder with a name of this pattern, which it finds."""
    return lambda folder: next(iter(folder.matching(pattern)), None)


def _parts(names: Sequence[str]) -> dict[str, str]:
    try:
        return parts_of(names)
    except InputError:  # two are the same part: neither is taken
        return {}


def _doubled(names: Sequence[str]) -> str:
    """Says which of MELD's CSV files are the same part, and what to do; "" where none are."""
    try:
        parts_of(names)
    except InputError as error:
        return str(error)
    return ""


def meld_folder(folder: Folder) -> str | None:
    """Fits a folder with MELD's three CSV files, which it finds."""
    parts = _parts(folder.names)
    return ", ".join(parts.values()) if parts and not lacking(parts) else None


def doubled_meld(folder: Folder) -> str | None:
    """Fits a folder with two files that are the same part of MELD; finds which, with what to do."""
    return _doubled(folder.names) or None


def part_of_meld(folder: Folder) -> str | None:
    """Fits a folder with one or two of MELD's CSV files; finds which are not there."""
    parts = _parts(folder.names)
    return " and ".join(lacking(parts)) if parts and lacking(parts) else None


def inside(folder: Folder) -> str | None:
    """Fits a folder with one inside, or inside of that, that can be read."""
    inner = [*_subfolders(folder.path, folder.names)]
    inner += [below for entry in inner[:_INNER] for below in _subfolders(entry, entries(entry))]
    for entry in inner[:_INNER]:
        names = entries(entry)
        if "conversations.jsonl" in names or _parts(names):
            return str(entry)
    return None


def opened(path: Path) -> File | None:
    """Reads the beginning of a file; None where there is no file that can be read."""
    if not path.is_file():  # reading from a pipe could take what others wait for
        return None
    try:
        with open(path, "rb") as file:
            return File(path, file.read(HEAD))
    except OSError:
        return None


def entries(folder: Path) -> list[str]:
    """Returns the names in a folder, sorted; none where it cannot be read."""
    try:
        return sorted(entry.name for entry in folder.iterdir())[:_MANY]
    except OSError:
        return []


def _subfolders(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    return (folder / name for name in names if not name.startswith(".") and (folder / name).is_dir())
