"""Makes of the bytes of a request conversations that may be predicted."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from email.message import Message
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from starlette.requests import Request

from cmath_jax.data.sources.schema import Transcript
from cmath_jax.data.sources.transcripts import transcript_of
from cmath_jax.errors import InputError
from cmath_jax.io.json_files import no_constant
from cmath_jax.io.places import placed
from cmath_jax.serve import forms
from cmath_jax.serve.forms import CONVERSATION, Form, key
from cmath_jax.serve.limits import Limits, Refused, TooLargeError
from cmath_jax.serve.log import without_native_words
from cmath_jax.serve.reading import Reading
from cmath_jax.serve.schema import SPOKEN, WRITTEN
from cmath_jax.serve.sound import rewrite

JSON = "application/json"
FORM = "multipart/form-data"


async def read_json(request: Request, reading: Reading) -> bytes:
    """Returns the body. Raises Refused."""
    expect(request, JSON)
    with reading.place() as body:
        read = b"".join([chunk async for chunk in reading.chunks(request, body)])
    return read


async def read_form(request: Request, reading: Reading, folder: Path, limits: Limits) -> Form:
    """Returns the parts of a form, its recordings in the folder. Raises Refused and InputError."""
    boundary = forms.boundary_of(expect(request, FORM))
    with reading.place() as body:
        form = await forms.read(reading.chunks(request, body), boundary, folder, limits, reading.writing)
    return form


def decoded(body: bytes) -> Any:
    """Returns JSON in UTF-8 without the liberties of Python's parser. Raises Refused (400)."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_without_doubles, parse_constant=no_constant)
    except RecursionError:
        raise Refused(400, "the body is not JSON: it is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON in UTF-8: {error}") from error


def conversations(value: Any, limits: Limits) -> list[Transcript]:
    """Returns the conversations of `{"conversations": [...]}`.

    Raises InputError, which names conversation and utterance.
    """
    if not isinstance(value, dict) or set(value) != {"conversations"}:
        raise InputError('the body is not of the form {"conversations": [{"utterances": [...]}]}')
    given = value["conversations"]
    if not isinstance(given, list) or not given:
        raise InputError("conversations is not a list with a conversation in it")
    if len(given) > limits.conversations:
        raise TooLargeError(f"{len(given)} conversations are more than the {limits.conversations} of a request")
    transcripts = []
    for i, one in enumerate(given):
        with placed(conversation=i):
            transcripts.append(_conversation(one, f"conversations[{i}]", str(i + 1), limits, WRITTEN))
    return transcripts


def with_audio(form: Form, folder: Path, limits: Limits) -> tuple[Transcript, dict[str, str]]:
    """Returns the conversation of a form, its recordings written to `folder` / generated names.

    Returns:
      the conversation, `audio` being paths relative to the parent of `folder`; and each path -> the name that the
      client knows.

    Raises:
      InputError: which names conversation and utterance.
    """
    with placed(conversation=0):
        transcript = _conversation(decoded(form.conversation), CONVERSATION, "1", limits, SPOKEN)
        return _with_audio(form, transcript, folder, limits)


def _with_audio(form: Form, transcript: Transcript, folder: Path, limits: Limits) -> tuple[Transcript, dict[str, str]]:
    where = f"conversation {brief(transcript.id)}"
    paths: dict[str, str] = {}
    names: dict[str, str] = {}
    left = limits.audio_seconds
    spoken = []
    for i, utterance in enumerate(transcript.utterances):
        place, name = f"{where}, utterance {i}", utterance.audio
        with placed(place, utterance=i):
            if name is None:
                spoken.append(utterance)
                continue
            upload = key(name)
            if upload not in form.uploads:
                raise InputError(f"{place}: there is no upload named {brief(name)}; {_uploads(form)}")
            if upload not in paths:
                path = folder / f"{len(paths)}.wav"
                place = f"{place}: the upload {brief(name)}"
                with placed(place, utterance=i, recording=name), without_native_words():
                    left -= rewrite(form.uploads[upload], path, left, place)
                form.uploads[upload].unlink()
                paths[upload] = str(path.relative_to(folder.parent))
                names[paths[upload]] = name
            spoken.append(replace(utterance, audio=paths[upload]))
    unused = [name for upload, name in form.names.items() if upload not in paths]
    if unused:
        raise InputError(f"{where}: no utterance names the upload {brief(unused[0])} as its audio")
    return replace(transcript, utterances=tuple(spoken)), names


def _uploads(form: Form) -> str:
    """Returns what uploads there are, in words."""
    given = [brief(name) for name in form.names.values()]
    more = f" and {len(given) - 5} more" if len(given) > 5 else ""
    return f"there are {', '.join(given[:5])}{more}" if given else "the form has no recording"


def _conversation(value: Any, where: str, default_id: str, limits: Limits, refused: Mapping[str, str]) -> Transcript:
    """Returns a conversation of a request. `refused` has the fields that no utterance may have, and why."""
    # What is too much is refused before time is spent on each of it.
    given = value.get("utterances") if isinstance(value, dict) else None
    if isinstance(given, list) and len(given) > limits.utterances:
        raise TooLargeError(f"{where}: {len(given)} utterances are more than the {limits.utterances} of a conversation")
    transcript = transcript_of(value, where, default_id)
    with placed(where):
        _check_length(transcript.id, f"{where}: its id", limits)
    for i, utterance in enumerate(transcript.utterances):
        place = f"{where}, conversation {brief(transcript.id)}, utterance {i}"
        with placed(place, utterance=i):
            for name, text in vars(utterance).items():
                if name in refused and text is not None:
                    raise InputError(f"{place}: {refused[name]}")
                if isinstance(text, str):
                    _check_length(text, f"{place}: {name}", limits)
    return transcript


def _check_length(text: str, where: str, limits: Limits) -> None:
    if len(text) > limits.characters:
        raise TooLargeError(f"{where} has {len(text)} characters, more than {limits.characters}")


def expect(request: Request, kind: str) -> Message:
    """Returns the content type. Raises Refused (415) if it is another than the kind."""
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    if header.get_content_type() != kind:
        raise Refused(415, f"the content type is not {kind}")
    return header


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(double, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has {brief(double)} twice")
    return value
