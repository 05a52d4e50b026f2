"""Files of every kind: text that is read with the true reason where it cannot be, files that are whole or not there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cmath_jax.errors import InputError, doing, reason

UNITS = ("bytes", "kB", "MB", "GB", "TB")


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Reads the text of a file.

    Raises:
      InputError: it is not there, is a folder, may not be read, or is not text in the encoding; the line says which.
    """
    try:
        return path.read_bytes().decode(encoding)
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding.startswith("utf-8") else encoding
        byte = error.object[error.start]
        raise InputError(f"{path}: not {name} text: byte {error.start} is 0x{byte:02x}") from error


def unreadable(path: Path | str, error: OSError) -> InputError:
    """Makes the error for a file that the system does not give: its name is wrong, or reading it failed."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: there is no such file")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{path}: it is a folder, not a file")
    return InputError(f"{path}: cannot be read: {reason(error)}")


@contextlib.contextmanager
def whole(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file to write into, which gets its name once all of it is on the disk, and is not there where that fails.

    A reader never sees half of it, nor does a power cut leave an empty one; what had the name before keeps it until
    then.
    """
    encoding = None if "b" in mode else "utf-8"
    with doing("writing", path):
        if path.exists() and not path.is_file():  # a device or a pipe, which nothing may take the place of
            with open(path, mode, encoding=encoding) as file:
                yield file
            return
        path = path.resolve()  # what a link leads to is replaced, not the link
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with open(partial, mode, encoding=encoding) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            if error.filename == str(partial):  # a name that nobody has given
                error.filename = error.filename2 = None
            raise
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes a text as a file that is `whole`."""
    with whole(path) as file:
        file.write(text)


def size(count: float) -> str:
    """Returns a number of bytes in the unit that fits it: `999 bytes`, `1.5 kB`, `12.0 GB`."""
    return sizes(count)[0]


def sizes(*counts: float) -> tuple[str, ...]:
    """Returns numbers of bytes as `size` has them, with so many digits that unequal ones do not look alike."""
    for digits in range(1, 10):
        told = tuple(_size(count, digits) for count in counts)
        if len(set(told)) == len({int(count) for count in counts}):
            break
    return told


def _size(count: float, digits: int) -> str:
    value = float(count)
    for unit in UNITS:
        rounded = round(value) if unit == UNITS[0] else round(value, digits)
        if rounded < 1000 or unit == UNITS[-1]:
            break
        value /= 1000
    if unit == UNITS[0]:
        return "1 byte" if rounded == 1 else f"{rounded} bytes"
    return f"{rounded:.{digits}f} {unit}"


def made_folders(folder: Path) -> list[Path]:
    """Makes a folder and those above it. Returns the ones that were not there, the innermost first."""
    made = []
    # Where links lead to: behind one, `..` is another folder than its letters say.
    folder = above = Path(os.path.realpath(folder))
    while not above.exists():
        made.append(above)
        above = above.parent
    folder.mkdir(parents=True, exist_ok=True)
    return made


def remove_empty(folders: list[Path]) -> None:
    """Removes folders, the first one first, as long as nothing is in them."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
