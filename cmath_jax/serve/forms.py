"""Reads forms with recordings, as browsers, libraries and old programs write them (RFC 7578 and what came before it).

Recordings go to files as they come. Names are only compared: none of them becomes a path.
"""

import re
import unicodedata
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from email.header import decode_header
from email.message import Message
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import anyio
import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from cmath_jax.errors import InputError, reason, suggestion
from cmath_jax.serve.limits import Limits, Refused, TooLargeError

CONVERSATION, FILES = "conversation", "files"  # the fields of a form
FIELDS = f"a form has {CONVERSATION} (JSON) and {FILES} (recordings, each with a file name)"
CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "iso-8859-1": "latin-1", "latin1": "latin-1"}
PLAIN = ("", "7bit", "8bit", "binary")  # transfer encodings that leave bytes as they are
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")


@dataclass(frozen=True)
class Form:
    """A conversation with recordings.

    Attributes:
      conversation: its JSON.
      uploads: name that the client gave, as `key` writes it -> the file that holds the recording.
      names: the same key -> the name as the client wrote it.
    """

    conversation: bytes
    uploads: Mapping[str, Path]
    names: Mapping[str, str]


def key(name: str) -> str:
    """Returns what two spellings of the name of a file have in common.

    Browsers write quotes and line ends as %22, %0D and %0A, and some systems write accents apart from their letters.
    """
    spelled = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return unicodedata.normalize("NFC", spelled)


def boundary_of(content_type: Message) -> str:
    """Returns the boundary that a content type names. Raises Refused (400)."""
    boundary = content_type.get_param("boundary")
    if not isinstance(boundary, str) or not _BOUNDARY.fullmatch(boundary):
        raise Refused(400, "the form has no boundary, or one that RFC 2046 does not allow")
    return boundary


async def read(
    chunks: AsyncIterator[bytes], boundary: str, folder: Path, limits: Limits, writing: anyio.CapacityLimiter
) -> Form:
    """Reads a form, its recordings into files of the folder, in threads that are limited.

    Raises:
      Refused: 400 it cannot be read, 503 the recordings cannot be stored.
      InputError: a part is not wanted; TooLargeError: there are too many, or the conversation is too long.
    """
    parts = _FormParts(folder, limits)
    parser = MultipartParser(boundary.encode(), parts.callbacks())
    try:
        async for chunk in chunks:
            parser.write(chunk)
            if parts.unwritten:
                await anyio.to_thread.run_sync(parts.write, limiter=writing)
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, f"the form cannot be read: {str(error)[:200]}") from error
    except OSError as error:
        raise Refused(503, f"the server cannot store recordings now ({reason(error)}); ask again later") from error
    if not parts.ended:
        raise Refused(400, "the form is cut off")
    return parts.form()


@dataclass
class _FormPart:
    """A part of a form.

    Attributes:
      name: of the field.
      file: the name of the file as the client gave it; None where it gave none.
      path: where a recording goes.
    """

    name: str
    file: str | None
    path: Path | None = None
    size: int = 0
    content: bytearray = field(default_factory=bytearray)


class _FormParts:
    """The parts of a form as they come, told by the parser.

    Attributes:
      unwritten: parts and bytes of recordings that have to be written to their files.
      ended: whether the form has come to its end, which the parser does not ask.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.unwritten: list[tuple[_FormPart, bytes]] = []
        self.ended = False
        self._folder = folder
        self._limits = limits
        self._parts: list[_FormPart] = []
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""

    def callbacks(self) -> Any:
        names = ("part_begin", "part_data", "header_field", "header_value", "header_end", "headers_finished", "end")
        return {f"on_{name}": getattr(self, f"_{name}") for name in names}

    def write(self) -> None:
        """Writes what has come to the files."""
        for part, content in self.unwritten:
            assert part.path is not None
            with open(part.path, "ab") as file:
                file.write(content)
        self.unwritten.clear()

    def form(self) -> Form:
        """Returns what the parts make. Raises InputError."""
        spoken = [part for part in self._parts if part.name == CONVERSATION]
        if len(spoken) != 1:
            raise InputError(f"the form has {len(spoken)} fields named {CONVERSATION}, not one; {FIELDS}")
        uploads: dict[str, Path] = {}
        names: dict[str, str] = {}
        for part in self._parts:
            if part.name != FILES or not (part.file or part.size):
                continue  # a field of a page that was left empty has no name and no bytes
            if not part.file:
                raise InputError(f"a recording has no file name; {FIELDS}")
            assert part.path is not None
            if key(part.file) in uploads:
                raise InputError(f"two uploads are named {brief(part.file)}")
            part.path.touch()  # one of no bytes has not been written
            uploads[key(part.file)], names[key(part.file)] = part.path, part.file
        return Form(bytes(spoken[0].content), uploads, names)

    def _part_begin(self) -> None:
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        name, file = _disposition(self._headers.get(b"content-disposition", b""))
        if name not in (CONVERSATION, FILES):
            near = re.sub(r"\[.*\]$", "", name).lower()  # PHP's forms write files[]
            hint = f"name it {near}" if near in (CONVERSATION, FILES) else suggestion(near, (CONVERSATION, FILES))
            raise InputError(f"unknown field {brief(name)}; {hint}; {FIELDS}")
        encoding = self._headers.get(b"content-transfer-encoding", b"").decode("latin-1").strip().lower()
        if encoding not in PLAIN:
            raise Refused(400, f"the field {name} comes in {brief(encoding)}; send its bytes as they are (binary)")
        if self._headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
            raise Refused(400, f"the field {name} is a form in the form; send every recording as a field {FILES}")
        if name == FILES and file is None:
            raise InputError(f"a field {FILES} has no file name; {FIELDS}")
        if len(self._parts) > self._limits.utterances + 1:
            raise TooLargeError(f"the form has more than {self._limits.utterances} recordings")
        self._parts.append(
            _FormPart(name, file, self._folder / f"{len(self._parts)}.upload" if name == FILES else None)
        )

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._parts[-1]
        part.size += end - start
        if part.path is not None:
            self.unwritten.append((part, data[start:end]))
        elif part.size > self._limits.body_bytes:
            raise TooLargeError(f"{CONVERSATION} has more than {self._limits.body_bytes} bytes")
        else:
            part.content += data[start:end]

    def _end(self) -> None:
        self.ended = True


def _disposition(header: bytes) -> tuple[str, str | None]:
    """Returns the names of the field and of the file in a Content-Disposition.

    Either may be in the way of RFC 2231 and RFC 5987 (`filename*=UTF-8''...`), which forms should not use and old
    libraries do; where there are both, that one says more. Raises Refused (400).
    """
    message = Message()
    message["content-disposition"] = header.decode("latin-1")
    try:
        given = message.get_params([], "content-disposition")
    except (TypeError, ValueError, LookupError) as error:
        raise Refused(400, "a Content-Disposition of the form cannot be read") from error
    found: dict[str, str] = {}
    for parameter, value in given[1:]:
        if parameter in ("name", "filename") and (isinstance(value, tuple) or parameter not in found):
            found[parameter] = _decoded(parameter, value)
    if not found.get("name"):
        raise Refused(400, "the form cannot be read: a part of it has no name")
    file = found.get("filename")
    if file is not None and file.startswith("=?") and file.endswith("?="):
        file = _encoded_words(file)
    # Some browsers of old told the whole path.
    if file is not None and (file[1:3] == ":\\" or file.startswith("\\\\")):
        file = file.split("\\")[-1]
    return found["name"], file


def _encoded_words(name: str) -> str:
    """Decodes a name in the way of mail headers (RFC 2047), `=?UTF-8?B?...?=`. Raises Refused (400)."""
    try:
        words = [("filename", (charset, None, str(text, "latin-1"))) for text, charset in decode_header(name)]
    except ValueError as error:
        raise Refused(400, "a file name is written as =?...?= and cannot be read; write it in UTF-8") from error
    return "".join(_decoded(*word) for word in words)


def _decoded(parameter: str, value: str | tuple[str | None, str | None, str]) -> str:
    """Returns the text of a parameter. Raises Refused (400) for another encoding than UTF-8 and ISO-8859-1.

    The client does not choose the codec.
    """
    if isinstance(value, str):
        raw = value.encode("latin-1")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return value
    charset, _, text = value
    codec = CHARSETS.get((charset or "utf-8").lower())
    if codec is None:
        raise Refused(400, f"{parameter}* is in {brief(charset)}; write it in UTF-8 or ISO-8859-1")
    try:
        return text.encode("latin-1").decode(codec)
    except UnicodeError as error:
        raise Refused(400, f"{parameter}* is not in {charset or 'UTF-8'}, as it says") from error
