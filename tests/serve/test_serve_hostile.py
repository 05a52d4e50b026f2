"""Whatever a client sends is answered with what is wrong with it, and the server goes on."""

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serve_samples as samples
from serve_samples import FORM, ask, form, predict, predict_spoken, recording, served

from cmath_jax.serve.limits import Limits

samples.skip_without_packages()
ONE = '{"conversations": [{"utterances": [{"speaker": "A", "text": "a"%s}]}]}'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(samples.StandIn(), Limits(body_bytes=500_000, upload_bytes=500_000, audio_seconds=5.0)) as url:
        yield url


@pytest.fixture(autouse=True)
def healthy_afterwards(url: str) -> Iterator[None]:
    yield
    assert ask(url, "/health").status == 200
    assert predict(url, samples.conversation("happy")).labels == [["joy"]]


def refused(answer: samples.Answer, *statuses: int) -> None:
    assert answer.status in statuses, answer.body
    assert 0 < len(answer.error) < 1000
    assert "Traceback" not in answer.error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\x00",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"conversations": [}',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000,
        b'{"conversations": NaN}',
        (ONE % ', "start": NaN').encode(),
        (ONE % ', "end": Infinity').encode(),
        (ONE % ', "end": -Infinity').encode(),
        (ONE % ', "text": "twice"').encode(),
        (ONE % (', "start": ' + "9" * 5000)).encode(),
        b'{"conversations": [], "conversations": []}',
        (ONE % "").encode("utf-16"),
        (ONE % "").encode("utf-32"),
        b"\x1f\x8b\x08 gzip",
    ],
    ids=range(19),
)
def test_what_is_not_json(url: str, body: bytes) -> None:
    refused(ask(url, "/api/predict", body), 400)
    refused(ask(url, "/api/predict-with-audio", form(body), FORM), 400)


@pytest.mark.parametrize(
    "more",
    [
        ', "start": 1e999',
        ', "start": -1',
        ', "start": 2, "end": 1',
        ', "start": "1"',
        ', "start": ' + "9" * 4000,
        ', "id": "\\ud800"',
        ', "label": "\\udfff x"',
        ', "\\ud800": 1',
        ', "' + "x" * 400_000 + '": 1',
        ', "label": []',
        ', "__class__": "os"',
        ', "label": ' + "[" * 500 + "]" * 500,
    ],
    ids=range(12),
)
def test_what_is_no_utterance(url: str, more: str) -> None:
    answer = ask(url, "/api/predict", (ONE % more).encode())
    refused(answer, 422)
    assert "utterance 0" in answer.error


@pytest.mark.parametrize("speaker", ["null", "true", "-1", "2147483648", "9" * 4000, "1.5", '"\\udc00"', "[]", "{}"])
def test_who_is_no_speaker(url: str, speaker: str) -> None:
    body = '{"conversations": [{"id": "x", "utterances": [{"text": "a", "speaker": ' + speaker + "}]}]}"
    answer = ask(url, "/api/predict", body.encode())
    refused(answer, 422)
    assert "conversation 'x', utterance 0" in answer.error


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00\x01\x1b[31m",
        "\u202eright to left \u200f\u0634\u0643\u0631\u0627",
        "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
        "Z" + "\u0300" * 1500,
        "<script>alert(1)</script>",
        "'; DROP TABLE utterances; --",
        "{{ 7 * 7 }} %s %n ${x}",
        "\u2028\u2029\ufeff\ufffe\U0010ffff",
        "a\r\nX-Injected: yes",
    ],
    ids=range(11),
)
def test_any_text_is_text(url: str, text: str) -> None:
    answer = predict(url, {"id": text or "empty", "utterances": [{"speaker": text or "empty", "text": text}]})
    assert answer.status == 200
    assert answer.json()["conversations"][0]["id"] == (text or "empty")
    assert "X-Injected" not in answer.headers


def test_many_small_utterances(url: str) -> None:
    many = b'{"conversations":[{"utterances":[' + b",".join([b'{"speaker":0}'] * 30_000) + b"]}]}"
    refused(ask(url, "/api/predict", many), 413)
    doubles = b'{"conversations":{' + b",".join(b'"%d":0' % i for i in range(40_000)) + b',"1":0}}'
    refused(ask(url, "/api/predict", doubles), 400)


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", FORM, "application/json/x", "\xe9", ";;;="]
)
def test_other_content_types(url: str, kind: str | None) -> None:
    refused(ask(url, "/api/predict", (ONE % "").encode(), kind), 415)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_the_content_type_may_be_spelled_out(url: str, kind: str) -> None:
    assert ask(url, "/api/predict", (ONE % "").encode(), kind).status == 200


SPOKEN = {"id": "x", "utterances": [{"speaker": "A", "audio": "a.wav"}]}
WAV = recording(0.2)


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 5000,
        'multipart/form-data; boundary="\x01"',
        "multipart/form-data; boundary=other",
        "multipart/mixed; boundary=a-boundary",
        "application/json",
    ],
    ids=range(7),
)
def test_forms_without_their_boundary(url: str, kind: str) -> None:
    body = form(json.dumps(SPOKEN).encode(), ("a.wav", WAV))
    refused(ask(url, "/api/predict-with-audio", body, kind), 400, 415, 422)


@pytest.mark.parametrize("codec", ["utf-7", "rot13", "zlib", "idna", "punycode", "no-codec"])
def test_the_client_does_not_choose_the_codec(url: str, codec: str) -> None:
    body = form(json.dumps(SPOKEN).encode(), ("a.wav", WAV))
    assert ask(url, "/api/predict-with-audio", body, f"{FORM}; charset={codec}").status == 200


def test_garbled_forms(url: str) -> None:
    whole = form(json.dumps(SPOKEN).encode(), ("a.wav", WAV))
    refused(ask(url, "/api/predict-with-audio", b"", FORM), 400, 422)
    refused(ask(url, "/api/predict-with-audio", whole.replace(b'name="files"', b"name=1234567"), FORM), 422)
    refused(ask(url, "/api/predict-with-audio", whole.replace(b'; name="files"', b""), FORM), 400)
    refused(ask(url, "/api/predict-with-audio", whole.replace(b'name="conversation"', b'name="x"'), FORM), 422)
    refused(ask(url, "/api/predict-with-audio", whole[:-5], FORM), 400)
    chance = random.Random(0)
    for _ in range(60):
        cut = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.3 else whole)
        for _ in range(chance.randrange(1, 4)):
            cut[chance.randrange(min(len(cut), 400) or 1) : chance.randrange(400)] = chance.randbytes(2)
        answer = ask(url, "/api/predict-with-audio", bytes(cut), FORM)
        assert answer.status < 500, answer.body


def header(**fields: int) -> bytes:
    """A WAV file whose header says what is not so."""
    given = {"riff": 2**32 - 1, "channels": 1, "rate": 16_000, "bits": 16, "size": 2**32 - 1, "kind": 1} | fields
    rate, channels, bits = given["rate"], given["channels"], given["bits"]
    per_second, per_frame = (rate * channels * bits // 8) % 2**32, (channels * bits // 8) % 2**16
    form = struct.pack("<HHIIHH", given["kind"], channels, rate, per_second, per_frame, bits)
    head = b"RIFF" + struct.pack("<I", given["riff"]) + b"WAVEfmt " + struct.pack("<I", 16) + form
    return head + b"data" + struct.pack("<I", given["size"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Ann: hello",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"\x80\x04\x95 a pickle",
        WAV[:3],
        WAV[:20],
        WAV[:44],
        b"RIFF" + bytes(1000),
        b"fLaC" + bytes(1000),
        b"OggS" + bytes(1000),
        b"ID3" + bytes(1000),
        b"\xff\xfb" + bytes(1000),
        b"FORM" + bytes(1000),
        header(),
        header(channels=0) + bytes(100),
        header(channels=65535) + bytes(200_000),
        header(rate=2**32 - 1) + bytes(1000),
        header(rate=0) + bytes(1000),
        header(bits=0) + bytes(1000),
        header(kind=3, bits=32) + struct.pack("<3f", 0.0, float("nan"), 1.0),
        header(kind=3, bits=32) + struct.pack("<3f", 0.0, float("inf"), 1.0),
        header(kind=3, bits=64) + struct.pack("<d", 1e300),
        recording(0.1, channels=3),
    ],
    ids=range(23),
)
def test_what_is_no_recording(url: str, content: bytes) -> None:
    answer = predict_spoken(url, SPOKEN, ("a.wav", content))
    refused(answer, 422)
    assert "conversation 'x', utterance 0: the upload 'a.wav'" in answer.error


def test_headers_that_promise_more_than_there_is(url: str) -> None:
    assert predict_spoken(url, SPOKEN, ("a.wav", header() + bytes(3200))).status == 200
    assert predict_spoken(url, SPOKEN, ("a.wav", WAV[:-100])).status == 200


def test_a_small_file_of_hours_of_silence(url: str) -> None:
    import io

    import numpy as np
    import soundfile

    written = io.BytesIO()
    soundfile.write(written, np.zeros(16_000 * 600, np.int16), 16_000, format="FLAC")
    assert len(written.getvalue()) < 100_000
    refused(predict_spoken(url, SPOKEN, ("a.wav", written.getvalue())), 413)


def test_garbled_recordings(url: str) -> None:
    import io

    import numpy as np
    import soundfile

    chance = random.Random(0)
    for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF"):
        written = io.BytesIO()
        soundfile.write(written, 0.3 * np.sin(np.arange(4000) * 0.1), 16_000, format=kind)
        for _ in range(15):
            garbled = bytearray(written.getvalue())
            for _ in range(5):
                garbled[chance.randrange(4, min(len(garbled), 300))] = chance.randrange(256)
            answer = predict_spoken(url, SPOKEN, ("a.wav", bytes(garbled)))
            assert answer.status in (200, 413, 422), answer.body


def test_anything_that_is_json(url: str, tmp_path: Path) -> None:
    hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
    pytest.importorskip("hypothesis.configuration").set_hypothesis_home_dir(tmp_path)
    strategies = pytest.importorskip("hypothesis.strategies")
    names = strategies.sampled_from(["speaker", "text", "id", "label", "start", "end", "audio", "split", "utterances"])
    scalars = strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(max_size=5)
    leaves = scalars | strategies.floats(allow_nan=False, allow_infinity=False)
    anything = strategies.recursive(
        leaves, lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(names, inner, max_size=4)
    )
    utterance = strategies.fixed_dictionaries({"speaker": scalars}, optional={"text": scalars, "start": leaves})
    conversation = strategies.fixed_dictionaries({"utterances": strategies.lists(utterance | anything, max_size=3)})
    bodies = strategies.fixed_dictionaries({"conversations": strategies.lists(conversation | anything, max_size=3)})

    @hypothesis.settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @hypothesis.given(bodies | anything)
    def answers(body: Any) -> None:
        answer = ask(url, "/api/predict", json.dumps(body).encode())
        assert answer.status in (200, 413, 422), answer.body
        assert answer.status == 200 or answer.error

    answers()
