"""Files and folders that are whole or not there.

What is written lies beside its place, as `.NAME.LETTERS.partial`, until all of it is on the disk; then it gets its
name. What had the name before keeps it until then. A block that fails or is interrupted leaves nothing; a process that
is killed leaves the partial one, which `remove_partials` removes.
"""

import contextlib
import ctypes
import errno
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cmath_jax.errors import InputError, doing, reason
from cmath_jax.io.files import made_folders, remove_empty

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux


@contextlib.contextmanager
def whole_file(path: Path, mode: str = "w", *, parents: bool = False, durable: bool = True) -> Iterator[IO[Any]]:
    """Yields a file to write into, which is whole or not there under the name `path`.

    A device or a pipe is written to, since nothing may take its place; so is what a link leads to.

    Args:
      parents: makes the folders above it, which go again where the block fails.
      durable: waits for the disk, so that a power cut does not leave an empty file.

    Raises:
      OSError: it cannot be written; a note names the path.
    """
    encoding = None if "b" in mode else "utf-8"
    with doing("writing", path):
        if path.exists() and not path.is_file():
            with open(path, mode, encoding=encoding) as file:
                yield file
            return
        path = Path(os.path.realpath(path))
        with _partial(path, parents) as partial:
            with open(partial, mode, encoding=encoding) as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            partial.replace(path)


def write_whole(path: Path, text: str) -> None:
    """Writes a text as a `whole_file`."""
    with whole_file(path) as file:
        file.write(text)


@contextlib.contextmanager
def whole_folder(folder: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yields a folder to write into, which is whole or not there under the name `folder`. Makes the folders above it.

    Args:
      replace: takes the place of a folder that is there; else only of an empty one.

    Raises:
      OSError: it cannot be written; a note names the folder.
    """
    with doing("writing", folder):
        folder = Path(os.path.realpath(folder))  # what a link leads to is made, not the link
        with _partial(folder, parents=True) as partial:
            partial.mkdir()
            yield partial
            for path in partial.rglob("*"):
                _to_disk(path)
            try:
                partial.rename(folder)
            except OSError as error:
                if not replace or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                _exchange(partial, folder)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yields a `whole_folder` that takes the place of none.

    Raises:
      InputError: the folder is there and not empty, or cannot be written.
    """
    real = Path(os.path.realpath(folder))
    try:
        # Both cannot be made anew: the one has no name, and whoever is in the other would lose the ground.
        if not real.name or real == Path.cwd():
            raise InputError(f"{real} is there already: name a new folder")
        if real.exists() and (not real.is_dir() or any(real.iterdir())):
            raise InputError(f"{real} is there already, and is not empty: name a new folder")
        with whole_folder(real, replace=False) as partial:
            yield partial
    except OSError as error:
        raise InputError(f"{real}: cannot be written: {reason(error)}") from error


def remove_partials(path: Path) -> None:
    """Removes what killed processes have left of a file or folder; only who alone writes it may."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


def is_partial(path: Path) -> bool:
    """Whether a process has not written the file or folder to its end, as its name says."""
    return path.name.startswith(".") and path.name.endswith(".partial")


def _partial_of(path: Path) -> Path:
    # The number of a process would not tell apart those of two hosts that share a disk.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


@contextlib.contextmanager
def _partial(path: Path, parents: bool) -> Iterator[Path]:
    """Yields the name of what is written, and leaves nothing of that name, nor folders that were made for it and are
    empty. An error does not tell the name, which nobody has given.
    """
    partial = _partial_of(path)
    made = made_folders(path.parent) if parents and not path.parent.exists() else []
    try:
        yield partial
    except OSError as error:
        if str(error.filename).startswith(str(partial)):
            error.filename = error.filename2 = None
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
        shutil.rmtree(partial, ignore_errors=True)
        remove_empty(made)


def _to_disk(path: Path) -> None:
    if path.is_file():
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _exchange(one: Path, other: Path) -> None:
    """Gives each of two folders the name of the other: in one step where the system can, else in three."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    if swap is not None and swap(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    aside = _partial_of(other)
    for name, new in ((other, aside), (one, other), (aside, one)):
        name.rename(new)
