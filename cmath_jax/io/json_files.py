"""Files of JSON: one value in a file, or one in each line.

A reader tells apart a file that is absent (FileNotFoundError), one that the system does not give (another OSError, with
a note of the path), and one that is damaged (InputError).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from cmath_jax.errors import InputError, doing
from cmath_jax.io.whole import write_whole

CUT, WRONG = "; it ends too early: write or copy it again", "; mend it, or write it again"


def to_json(value: Any) -> str:
    """Returns the text of a file that holds one value. Raises ValueError for NaN and the infinities."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_line(value: Any) -> str:
    """Returns a value as a line, with its end. Raises ValueError for NaN and the infinities."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes a file that holds one value, whole or not at all."""
    write_whole(path, to_json(value))


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a file with an object in each line, whole or not at all."""
    write_whole(path, "".join(map(to_line, rows)))


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Writes a line to the end of a file; half a one that a killed process has left there ends before it."""
    line = to_line(row)
    with doing("writing", path), open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            line = line if file.read() == b"\n" else f"\n{line}"
        file.write(line.encode())


def read_json(path: Path) -> Any:
    """Returns the value in a file. Raises as the module says."""
    with doing("reading", path):
        data = path.read_bytes()
    return from_json(data, str(path))


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object in a file. Raises as the module says."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object: it holds {brief(value)}")
    return value


def read_lines(path: Path) -> Iterator[Any]:
    """Yields the value in each line of a file that is not empty. Raises as the module says."""
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield from_json(line, f"{path}, line {number}")


def read_whole_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the objects in the lines of a file that processes may have been killed writing to, without halves."""
    rows = []
    for line in _lines(path) if path.exists() else ():
        try:
            rows.append(from_json(line, str(path)))
        except InputError:
            continue
    return [row for row in rows if isinstance(row, dict)]


def from_json(text: str | bytes, where: str, cut: str = CUT, wrong: str = WRONG) -> Any:
    """Returns the value that a text holds.

    Args:
      where: names its place in the message.
      cut: what ends the message where the text ends before its value does.
      wrong: what ends it where the text is wrong otherwise.

    Raises:
      InputError: it is not UTF-8, or not JSON.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(text, parse_constant=no_constant)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}") from error
    except (ValueError, RecursionError) as error:
        too_short = isinstance(error, json.JSONDecodeError) and error.pos >= len(error.doc.rstrip())
        raise InputError(f"{where}: not JSON: {error}{cut if too_short else wrong}") from error


def no_constant(name: str) -> float:
    """Raises ValueError, as `parse_constant` of `json.loads`: NaN and the infinities are no numbers of JSON."""
    raise ValueError(f"{name} is no number of JSON")


def _lines(path: Path) -> list[bytes]:
    # Not splitlines(), which also breaks at separators that a text may hold.
    with doing("reading", path):
        return path.read_bytes().split(b"\n")
