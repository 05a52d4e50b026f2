"""A stand-in for a predictor, whose answers can be foretold; a server around it, and a client."""

import http.client
import io
import json
import socket
import threading
import time
import wave
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.errors import InputError
from cmath_jax.io.places import placed
from cmath_jax.prediction.predictor import Prediction
from cmath_jax.serve.limits import Limits

CLASSES = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
WORDS = {"happy": "joy", "scared": "fear", "awful": "sadness", "way": "surprise", "could": "anger", "ugh": "disgust"}
LIMITS = Limits(
    body_bytes=4000,
    conversations=3,
    utterances=5,
    characters=100,
    upload_bytes=200_000,
    audio_seconds=2.0,
    requests=4,
    seconds=2.0,
)


@dataclass
class StandIn:
    """Knows emotions by a word. `before` is called with each batch, before it is answered."""

    raw: str = "ta"
    modalities: str = "ta"
    classes: tuple[str, ...] = CLASSES
    card: Mapping[str, Any] = field(
        default_factory=lambda: {
            "name": "stand-in",
            "parameters": 1234567,
            "dataset": "meld",
            "source": "drawn by hand",
            "license": "none needed",
            "scores": {
                "test": {"weighted_f1": 65.43, "accuracy": 66.0},
                "majority": {"weighted_f1": 31.3, "accuracy": 48.1},
            },
            "f1": {name: 50.0 for name in CLASSES},
            "calibration": {"before": 9.0, "after": 2.1},
        }
    )
    before: Callable[[Sequence[Transcript]], None] = lambda batch: None
    batches: list[list[Transcript]] = field(default_factory=list)
    disagree: float | None = None  # its uncertainty of all that is said; None: it depends on the words

    def predict(self, transcripts: Sequence[Transcript], folder: Path | None = None) -> list[list[Prediction]]:
        self.batches.append(list(transcripts))
        self.before(transcripts)
        for transcript in transcripts:
            for i, utterance in enumerate(transcript.utterances):
                place = f"conversation {transcript.id!r}, utterance {i}"
                if utterance.text == "poison":
                    with placed(place, utterance=i):
                        raise InputError(f"{place}: cannot be used")
                if utterance.text == "bug":
                    raise ZeroDivisionError("a secret of the server")
                if utterance.audio is not None:
                    assert folder is not None
                    with wave_of(folder / utterance.audio) as frames:
                        assert frames > 0
        return [[self._one(utterance) for utterance in transcript.utterances] for transcript in transcripts]

    def _one(self, utterance: Utterance) -> Prediction:
        words = (utterance.text or "").lower()
        label = next((label for word, label in WORDS.items() if word in words), "neutral")
        share = 0.45 + 0.4 * ((len(words) * 37) % 97) / 97
        rest = (1 - share) / (len(self.classes) - 1)
        probabilities = {name: share if name == label else rest for name in self.classes}
        missing = "".join(m for m, there in (("t", utterance.text), ("a", utterance.audio)) if not there)
        heard = (0.3, 0.5) if utterance.audio else (0.0, 0.0)
        gates = {centre: {"t": 1 - share_a, "a": share_a} for centre, share_a in zip("ta", heard, strict=True)}
        uncertainty = (1 - share) / 3 if self.disagree is None else self.disagree
        cut = (f"{utterance.audio}: it is cut",) if utterance.audio else ()
        warnings = (*cut, "the words are odd") if "odd" in words else ()
        return Prediction(label, probabilities, uncertainty, 0.62, gates, missing, warnings)


def skip_without_packages() -> None:
    """Skips a module of tests where the server cannot run."""
    for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "soundfile"):
        pytest.importorskip(package, reason=f"{package} is not installed (requirements-serve.txt)")


@contextmanager
def wave_of(path: Path) -> Iterator[int]:
    """The frames of a recording as the server stores it."""
    import soundfile

    with soundfile.SoundFile(path) as recording:
        yield recording.frames


def recording(seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> bytes:
    """A WAV file with a tone."""
    tone_n = (8000 * np.sin(np.arange(int(seconds * rate)) * 0.05)).astype("<i2")
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(tone_n, channels).tobytes())
    return written.getvalue()


def conversation(*texts: str, **others: Any) -> dict[str, Any]:
    return {"utterances": [{"speaker": "AB"[i % 2], "text": text} for i, text in enumerate(texts)], **others}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json()["error"])

    @property
    def labels(self) -> list[list[str]]:
        return [[each["label"] for each in one["predictions"]] for one in self.json()["conversations"]]


def ask(
    url: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    kind: str | None = "application/json",
    method: str | None = None,
    **headers: str,
) -> Answer:
    """One request on a connection of its own; a body that is no bytes is sent in chunks, without its length."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None and kind:
        given["Content-Type"] = kind
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body=body, headers=given)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def predict(url: str, *conversations: Any, **headers: str) -> Answer:
    return ask(url, "/api/predict", json.dumps({"conversations": conversations}).encode(), **headers)


BOUNDARY = "a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(conversation: bytes, *files: tuple[str, bytes]) -> bytes:
    """The body of a form with a conversation and files, as browsers write it."""
    parts = [(b'name="conversation"', conversation)]
    parts += [(b'name="files"; filename="' + name.encode() + b'"', content) for name, content in files]
    start = f"--{BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
    written = b"".join(start + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return written + f"--{BOUNDARY}--\r\n".encode()


def predict_spoken(url: str, conversation: Any, *files: tuple[str, bytes]) -> Answer:
    return ask(url, "/api/predict-with-audio", form(json.dumps(conversation).encode(), *files), FORM)


@contextmanager
def served(model: Any, limits: Limits, hosts: Collection[str] = ("127.0.0.1",)) -> Iterator[str]:
    """The address of a server around a model, in a thread of this process."""
    import uvicorn

    from cmath_jax.serve.app import create_app
    from cmath_jax.serve.connections import configured

    app = create_app(model, limits, hosts)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(configured(app, limits))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits until it is true; fails if it never is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
