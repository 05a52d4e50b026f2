"""Text that people wrote or other programs saved: its characters and its lines.

A line ends at \\n, \\r\\n or \\r and nowhere else. `str.splitlines` also ends one at U+0085, U+2028, form feeds and
others, which occur inside of what people say.
"""

import codecs
import re
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from cmath_jax.errors import InputError, reason

_PIECE = 1 << 16  # bytes
_END = re.compile(r"\r\n|\r|\n")
# cp1252 leaves five bytes undefined; they stay the control characters that they are in Latin-1.
_CP1252 = "".join(bytes([b]).decode("cp1252" if b not in b"\x81\x8d\x8f\x90\x9d" else "latin1") for b in range(256))


def lines_of(text: str) -> list[str]:
    """Returns the lines of a text without their ends; what follows the last end is a line unless it is empty."""
    lines = _END.split(text)
    return lines if lines[-1] else lines[:-1]


def text_of(data: bytes) -> str:
    """Decodes bytes that do not say what they are: as UTF-8, or else as cp1252, which older files are in."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return codecs.charmap_decode(data, "strict", _CP1252)[0]


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a file in UTF-8 with their numbers, from 1.

    Raises:
      InputError: there is no such file, it cannot be read, or a line is not UTF-8; the message says which.
    """
    try:
        with open(path, "rb") as file:
            yield from numbered_lines_of(file, str(path))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error


def numbered_lines_of(file: BufferedIOBase, name: str) -> Iterator[tuple[int, str]]:
    """Yields the lines of an open file in UTF-8 with their numbers, from 1, each as soon as it has ended.

    Args:
      name: what to call the file in a message.

    Raises:
      InputError: a line is not UTF-8; the message says which.
    """
    for number, line in enumerate(_byte_lines(file), start=1):
        yield number, _utf8(line, f"{name}, line {number}", first=number == 1)


def read_text(path: Path) -> str:
    """Returns the text of a file in UTF-8, with \\n at the end of every line. Raises InputError as `numbered_lines`."""
    return "".join(f"{line}\n" for _, line in numbered_lines(path))


def _byte_lines(file: BufferedIOBase) -> Iterator[bytes]:
    begun: list[bytes] = []  # of a line that has not ended
    after_return = False
    while piece := file.read1(_PIECE):
        if after_return:
            piece = piece.removeprefix(b"\n")  # the second half of an end
            after_return = False
            if not piece:
                continue
        after_return = piece.endswith(b"\r")
        first, *others = re.split(rb"\r\n|\r|\n", piece)
        begun.append(first)
        for other in others:
            yield b"".join(begun)
            begun = [other]
    if any(begun):
        yield b"".join(begun)


def _utf8(line: bytes, where: str, first: bool) -> str:
    try:
        return line.decode("utf-8-sig" if first else "utf-8")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        wrong = line[error.start : error.start + 1].hex()
        hint = "; it is UTF-16: save it as UTF-8" if line[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""
        raise InputError(f"{where}: cannot be read as UTF-8 text: byte {error.start + 1} is 0x{wrong}{hint}") from error
