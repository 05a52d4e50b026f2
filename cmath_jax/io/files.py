"""Files of every kind: why one cannot be read, how large it is, the folders above it."""

import contextlib
import os
from pathlib import Path

from cmath_jax.errors import InputError, reason

UNITS = ("bytes", "kB", "MB", "GB", "TB")


def unreadable(path: Path | str, error: OSError) -> InputError:
    """Makes the error for a file that the system does not give: its name is wrong, or reading it failed."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: there is no such file")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{path}: it is a folder, not a file")
    return InputError(f"{path}: cannot be read: {reason(error)}")


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
