"""From the bytes of a request to conversations that may be predicted."""

import json
import re
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from reprlib import repr as brief
from typing import IO, Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from cmath_jax.data.transcripts import Transcript, no_constant, transcript_of
from cmath_jax.errors import InputError
from cmath_jax.serve.limits import Limits, Refused, TooLargeError
from cmath_jax.serve.sound import rewrite

JSON = "application/json"
FORM = "multipart/form-data"
CONVERSATION, FILES = "conversation", "files"  # the fields of a form
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")


@dataclass(frozen=True)
class Form(AbstractContextManager["Form"]):
    """A conversation with recordings; closes them.

    Attributes:
      conversation: its JSON.
      uploads: name that the client gave -> recording.
    """

    conversation: bytes
    uploads: Mapping[str, IO[bytes]]

    def __exit__(self, *_: object) -> None:
        for upload in self.uploads.values():
            upload.close()


class _Parser(MultiPartParser):
    """Knows whether the form has come to its end, which the one of Starlette does not ask."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def read_json(request: Request, limits: Limits) -> Any:
    """The decoded body. Raises Refused."""
    _expect(request, JSON)
    return decoded(b"".join([chunk async for chunk in _limited(request, limits.body_bytes)]))


def decoded(body: bytes) -> Any:
    """JSON in UTF-8 without the liberties of Python's parser. Raises Refused (400)."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_without_doubles, parse_constant=no_constant)
    except RecursionError:
        raise Refused(400, "the body is not JSON: it is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON in UTF-8: {error}") from error


async def read_form(request: Request, limits: Limits) -> Form:
    """The conversation and the recordings of a form. Raises Refused."""
    boundary = _expect(request, FORM).get_param("boundary")
    if not isinstance(boundary, str) or not _BOUNDARY.fullmatch(boundary):
        raise Refused(400, "the form has no boundary, or one that RFC 2046 does not allow")
    # Only the boundary: a charset would choose the codec that decodes what the client sends.
    headers = Headers({"content-type": f'{FORM}; boundary="{boundary}"'})

    async def stream() -> AsyncGenerator[bytes, None]:
        async for chunk in _limited(request, limits.upload_bytes):
            yield chunk
        if not parser.ended:
            raise Refused(400, "the form is cut off")

    parser = _Parser(
        headers,
        stream(),
        max_files=limits.utterances + 1,
        max_fields=1,
        max_part_size=limits.body_bytes,
    )
    try:
        items = (await parser.parse()).multi_items()
    except MultiPartException as error:
        raise Refused(400, f"the form cannot be read: {error.message}") from error
    with ExitStack() as opened:
        for _, value in items:
            if isinstance(value, UploadFile):
                opened.callback(value.file.close)
        form = _sorted(items, limits)
        opened.pop_all()
    return form


def conversations(value: Any, limits: Limits) -> list[Transcript]:
    """The conversations of `{"conversations": [...]}`. Raises InputError, which names conversation and utterance."""
    if not isinstance(value, dict) or set(value) != {"conversations"}:
        raise InputError('the body is not of the form {"conversations": [{"utterances": [...]}]}')
    given = value["conversations"]
    if not isinstance(given, list) or not given:
        raise InputError("conversations is not a list with a conversation in it")
    if len(given) > limits.conversations:
        raise TooLargeError(f"{len(given)} conversations are more than the {limits.conversations} of a request")
    transcripts = [_conversation(one, f"conversations[{i}]", str(i + 1), limits) for i, one in enumerate(given)]
    for transcript in transcripts:
        for i, utterance in enumerate(transcript.utterances):
            if utterance.audio is not None or utterance.video is not None:
                raise InputError(
                    f"conversation {brief(transcript.id)}, utterance {i}: it names a recording, but paths are not read "
                    "here; send recordings to /api/predict-with-audio"
                )
    return transcripts


def with_audio(form: Form, folder: Path, limits: Limits) -> Transcript:
    """The conversation of a form, its recordings written to `folder` / generated names.

    Returns:
      the conversation, `audio` being paths relative to the parent of `folder`.

    Raises:
      InputError: which names conversation and utterance.
    """
    transcript = _conversation(decoded(form.conversation), CONVERSATION, "1", limits)
    where = f"conversation {brief(transcript.id)}"
    paths: dict[str, str] = {}
    left = limits.audio_seconds
    spoken = []
    for i, utterance in enumerate(transcript.utterances):
        if utterance.video is not None:
            raise InputError(f"{where}, utterance {i}: video is not read here")
        name = utterance.audio
        if name is not None and name not in form.uploads:
            raise InputError(f"{where}, utterance {i}: there is no upload named {brief(name)}")
        if name is not None and name not in paths:
            path = folder / f"{len(paths)}.wav"
            place = f"{where}, utterance {i}: the upload {brief(name)}"
            left -= _stored(form.uploads[name], path, left, place)
            paths[name] = str(path.relative_to(folder.parent))
        spoken.append(utterance if name is None else replace(utterance, audio=paths[name]))
    unused = [name for name in form.uploads if name not in paths]
    if unused:
        raise InputError(f"{where}: no utterance names the upload {brief(unused[0])} as its audio")
    return replace(transcript, utterances=tuple(spoken))


def _stored(upload: IO[bytes], path: Path, most_seconds: float, where: str) -> float:
    received = path.with_suffix(".upload")
    try:
        with open(received, "wb") as file:
            upload.seek(0)
            shutil.copyfileobj(upload, file)
        return rewrite(received, path, most_seconds, where)
    finally:
        received.unlink()


def _conversation(value: Any, where: str, default_id: str, limits: Limits) -> Transcript:
    # What is too much is refused before time is spent on each of it.
    given = value.get("utterances") if isinstance(value, dict) else None
    if isinstance(given, list) and len(given) > limits.utterances:
        raise TooLargeError(f"{where}: {len(given)} utterances are more than the {limits.utterances} of a conversation")
    transcript = transcript_of(value, where, default_id)
    _check_length(transcript.id, f"{where}: its id", limits)
    for i, utterance in enumerate(transcript.utterances):
        for name, text in vars(utterance).items():
            if isinstance(text, str):
                _check_length(text, f"{where}, conversation {brief(transcript.id)}, utterance {i}: {name}", limits)
    return transcript


def _check_length(text: str, where: str, limits: Limits) -> None:
    if len(text) > limits.characters:
        raise TooLargeError(f"{where} has {len(text)} characters, more than {limits.characters}")


def _sorted(items: Sequence[tuple[str, UploadFile | str]], limits: Limits) -> Form:
    spoken: list[bytes] = []
    uploads: dict[str, IO[bytes]] = {}
    for field, value in items:
        if field == CONVERSATION and isinstance(value, str):
            spoken.append(value.encode())
        elif field == CONVERSATION and isinstance(value, UploadFile):
            spoken.append(value.file.read(limits.body_bytes + 1))
            value.file.close()
        elif field == FILES and isinstance(value, UploadFile):
            name = value.filename or ""
            if not name or name in uploads:
                raise InputError(f"two uploads are named {brief(name)}" if name else "an upload has no name")
            uploads[name] = value.file
        else:
            raise InputError(f"unknown field {brief(field)}; a form has {CONVERSATION} (JSON) and {FILES} (recordings)")
    if len(spoken) != 1:
        raise InputError(f"the form has {len(spoken)} fields named {CONVERSATION}, not one")
    if len(spoken[0]) > limits.body_bytes:
        raise TooLargeError(f"{CONVERSATION} has more than {limits.body_bytes} bytes")
    return Form(spoken[0], uploads)


def _expect(request: Request, kind: str) -> Message:
    """The content type. Raises Refused (415) if it is another than the kind."""
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    if header.get_content_type() != kind:
        raise Refused(415, f"the content type is not {kind}")
    return header


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The bytes of the body as they come. Raises Refused (413) as soon as there are too many, or they are announced."""
    message = f"the body has more than {most} bytes"
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 15 or int(announced) > most):
        raise Refused(413, message)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise Refused(413, message)
        yield chunk


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(double, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has {brief(double)} twice")
    return value
