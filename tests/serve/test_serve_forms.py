"""Forms as old and odd clients write them: they are read, or answered with what is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import serve_samples as samples
from serve_samples import BOUNDARY, FORM, ask, predict_spoken, recording, served

from cmath_jax.serve.forms import _disposition, key
from cmath_jax.serve.limits import Limits, Refused

samples.skip_without_packages()
WAV = recording(0.1)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(samples.StandIn(), Limits()) as url:
        yield url


def sent(url: str, *parts: tuple[bytes, bytes], kind: str = FORM, audio: str | None = None) -> samples.Answer:
    """The answer to a form of parts, head and content; with a conversation that names the recording before them."""
    spoken = json.dumps({"utterances": [{"speaker": "A", "audio": audio}]}).encode()
    first = [] if audio is None else [(b'Content-Disposition: form-data; name="conversation"', spoken)]
    start = f"--{BOUNDARY}\r\n".encode()
    body = b"".join(start + head + b"\r\n\r\n" + content + b"\r\n" for head, content in [*first, *parts])
    return ask(url, "/api/predict-with-audio", body + f"--{BOUNDARY}--\r\n".encode(), kind)


@pytest.mark.parametrize(
    ("written", "audio"),
    [
        (b"filename*=UTF-8''holiday.wav", "holiday.wav"),
        (b"filename*=utf-8'de'%C3%BCber%20uns.wav", "über uns.wav"),
        (b"filename*=ISO-8859-1''%FCber%20uns.wav", "über uns.wav"),
        (b"filename*=\"UTF-8''a%20b.wav\"", "a b.wav"),
        ("filename*=UTF-8''über.wav".encode(), "über.wav"),
        (b'filename*0="holi"; filename*1=day.wav', "holiday.wav"),
        (b"filename*0*=UTF-8''%C3%BC; filename*1=ber.wav", "über.wav"),
        (b"filename=\"ber.wav\"; filename*=UTF-8''%C3%BCber.wav", "über.wav"),
        (b"filename*=UTF-8''%C3%BCber.wav; filename=\"ber.wav\"", "über.wav"),
        ('filename="über.wav"'.encode(), "über.wav"),
        ('filename="über.wav"'.encode("latin-1"), "über.wav"),
        (b'filename="=?UTF-8?B?w7xiZXIud2F2?="', "über.wav"),
        (b'filename="=?ISO-8859-1?Q?=FCber.wav?="', "über.wav"),
        (b"filename=holiday.wav", "holiday.wav"),
        (b'FileName="holiday.wav" ; size=44', "holiday.wav"),
        (b'filename="C:\\Users\\Ann\\holiday.wav"', "holiday.wav"),
        (b'filename="../../etc/passwd"', "../../etc/passwd"),
        (b'filename="..\\holiday.wav"', "..\\holiday.wav"),
        (b'filename="say \\"hi\\".wav"', 'say "hi".wav'),
        (b'filename="say %22hi%22.wav"', 'say "hi".wav'),
        (b'filename="say %22hi%22.wav"', "say %22hi%22.wav"),
        (b'filename="a%0D%0Ab.wav"', "a\r\nb.wav"),
        (b'filename="a;b=c.wav"', "a;b=c.wav"),
        ('filename="u\u0308ber.wav"'.encode(), "über.wav"),
        ('filename="über.wav"'.encode(), "u\u0308ber.wav"),
        (b'filename="100%.wav"', "100%.wav"),
        (b"filename*=holiday.wav", "holiday.wav"),
    ],
)
def test_a_name_is_read_however_it_is_written(url: str, written: bytes, audio: str) -> None:
    answer = sent(url, (b'Content-Disposition: form-data; name="files"; ' + written, WAV), audio=audio)
    assert answer.status == 200, answer.body
    [[prediction]] = [one["predictions"] for one in answer.json()["conversations"]]
    assert prediction["missing"] == "t"


@pytest.mark.parametrize(
    ("head", "status", "words"),
    [
        (b'form-data; name="files"', 422, "a field files has no file name"),
        (b'form-data; name="files[]"; filename="a"', 422, "unknown field 'files[]'; name it files"),
        (b'form-data; name="files[0]"; filename="a"', 422, "unknown field 'files[0]'; name it files"),
        (b'form-data; name="Files"; filename="a"', 422, "unknown field 'Files'; name it files"),
        (b'form-data; name="file"; filename="a"', 422, "unknown field 'file'; did you mean files?"),
        (b'form-data; name="x"; filename="a"', 422, "unknown field 'x'; there are conversation, files"),
        (b'form-data; filename="a"', 400, "a part of it has no name"),
        (b'form-data; name=""; filename="a"', 400, "a part of it has no name"),
        (b"form-data; name=files; filename*=rot13''n.jni", 400, "filename* is in 'rot13'; write it in UTF-8"),
        (b"form-data; name=files; filename*=UTF-8''%FF.wav", 400, "filename* is not in UTF-8, as it says"),
        (b"form-data; name=files; filename*=UTF-8''a; filename*0=b", 400, "Content-Disposition of the form cannot"),
        (b'form-data; name="files"; filename="=?rot13?Q?a?="', 400, "filename* is in 'rot13'"),
        (b'form-data; name="files"; filename=""', 422, "a recording has no file name"),
        (b'form-data; name="files"; filename="b"', 422, "there is no upload named 'a'; there are 'b'"),
        (b'form-data; name="files"; filename="a"\r\nContent-Transfer-Encoding: base64', 400, "in 'base64'; send its"),
        (
            b'form-data; name="files"; filename="a"\r\nContent-Transfer-Encoding: QUOTED-PRINTABLE',
            400,
            "send its bytes",
        ),
        (
            b'form-data; name="files"; filename="a"\r\nContent-Type: multipart/mixed; boundary=b',
            400,
            "a form in the form",
        ),
    ],
)
def test_what_cannot_be_read_says_what_is_wrong(url: str, head: bytes, status: int, words: str) -> None:
    answer = sent(url, (b"Content-Disposition: " + head, WAV), audio="a")
    assert (answer.status, words in answer.error) == (status, True), answer.body
    assert answer.error.count("\n") == 0


@pytest.mark.parametrize(
    "more",
    [
        b"",
        b"Content-Type: audio/wav\r\n",
        b"Content-Transfer-Encoding: binary\r\n",
        b"content-transfer-encoding: 8BIT\r\nX-More: \xff\r\n",
        b"Content-Length: 3\r\n",
    ],
)
@pytest.mark.parametrize("kind", [FORM, f'Multipart/Form-Data; boundary="{BOUNDARY}"', f"{FORM}; charset=utf-8"])
def test_heads_of_parts_and_forms(url: str, more: bytes, kind: str) -> None:
    answer = sent(url, (more + b'CONTENT-DISPOSITION: form-data; name=files; filename="a"', WAV), kind=kind, audio="a")
    assert answer.status == 200, answer.body


def test_a_field_of_a_page_that_was_left_empty_is_no_recording(url: str) -> None:
    empty = (
        b'Content-Disposition: form-data; name="files"; filename=""\r\nContent-Type: application/octet-stream',
        b"",
    )
    spoken = b'{"utterances": [{"speaker": "A", "text": "happy"}]}'
    answer = sent(url, (b'Content-Disposition: form-data; name="conversation"', spoken), empty)
    assert answer.labels == [["joy"]]


def test_a_conversation_is_not_read_in_another_encoding(url: str) -> None:
    """As in plain JSON: what is no UTF-8 is refused, and not read as Latin-1."""
    spoken = '{"utterances": [{"speaker": "A", "text": "é"}]}'.encode("latin-1")
    answer = sent(url, (b'Content-Disposition: form-data; name="conversation"', spoken))
    assert answer.status == 400 and "not JSON in UTF-8" in answer.error


def test_names_of_all_kinds_find_their_recordings(url: str, tmp_path: Path) -> None:
    """Whatever the name: as RFC 5987 writes it, and as browsers do."""
    hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
    pytest.importorskip("hypothesis.configuration").set_hypothesis_home_dir(tmp_path)
    strategies = pytest.importorskip("hypothesis.strategies")
    names = strategies.text(min_size=1, max_size=20).filter(lambda name: name.isprintable() and name.strip() == name)

    @hypothesis.settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @hypothesis.given(names, strategies.booleans())
    def found(name: str, extended: bool) -> None:
        if extended:
            header = f"form-data; name=files; filename*=UTF-8''{quote(name, safe='')}"
        else:
            if "\\" in name or name.startswith("=?"):  # these have a meaning there
                return
            escaped = name.replace('"', "%22")
            header = f'form-data; name=files; filename="{escaped}"'
        field, file = _disposition(header.encode())
        assert field == "files" and file is not None
        if not (name[1:3] == ":\\" or name.startswith(("\\\\", "=?"))):
            assert key(file) == key(name)

    @hypothesis.settings(max_examples=500, deadline=None, database=None, derandomize=True)
    @hypothesis.given(strategies.binary(max_size=80), strategies.sampled_from([b"", b"filename*=", b"filename*0*="]))
    def refused_or_read(garbage: bytes, before: bytes) -> None:
        try:
            _disposition(b"form-data; name=files; " + before + garbage)
        except Refused as refused:
            assert refused.status == 400

    found()
    refused_or_read()


def test_errors_tell_their_place(url: str) -> None:
    """For programs: the number of the utterance, the file, and what is wrong without them."""
    spoken: dict[str, Any] = {
        "id": "x",
        "utterances": [{"speaker": "A", "text": "a"}, {"speaker": "A", "audio": "b.wav"}],
    }
    answer = predict_spoken(url, spoken, ("b.wav", b"RIFF no sound"))
    told = answer.json()
    assert answer.status == 422 and told["error"].startswith("conversation 'x', utterance 1: the upload 'b.wav' ")
    assert {name: told[name] for name in ("conversation", "utterance", "file")} == {
        "conversation": 0,
        "utterance": 1,
        "file": "b.wav",
    }
    assert told["error"].endswith(told["reason"]) and not told["reason"].startswith((":", "conversation"))
    good = samples.conversation("a")
    for wrong, reason, place in (
        ({"speaker": "A", "text": 3}, "text is 3 (int), not text", (1, 1)),
        ({"speaker": "A", "text": "a" * 2001}, "text has 2001 characters, more than 2000", (1, 1)),
        ({"speaker": "A", "audio": "x"}, "it names a recording, but paths are not read here; ", (1, 1)),
        ({"speaker": "A", "text": "poison"}, "cannot be used", (1, 1)),
    ):
        bad = {"id": "bad", "utterances": [good["utterances"][0], wrong]}
        told = samples.predict(url, good, bad).json()
        assert (told["conversation"], told.get("utterance")) == place
        assert told["reason"].startswith(reason) and told["error"].endswith(told["reason"])
        assert "bad" in told["error"]
    told = samples.predict(url, good, {"id": "empty", "utterances": []}).json()
    assert (told["conversation"], "utterance" in told) == (1, False)


def test_warnings_are_in_the_answer_under_the_names_of_the_client(url: str) -> None:
    spoken = {"utterances": [{"speaker": "A", "text": "odd", "audio": "holiday.wav"}, {"speaker": "B", "text": "so"}]}
    answer = predict_spoken(url, spoken, ("holiday.wav", WAV))
    told = [each["warnings"] for each in answer.json()["conversations"][0]["predictions"]]
    assert told == [["holiday.wav: it is cut", "the words are odd"], []]
    assert b"cmath_serve" not in answer.body and b"0.wav" not in answer.body


def test_paths_of_the_server_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in warnings nor in errors, whatever the predictor says of the file."""
    from dataclasses import replace

    from cmath_jax.errors import InputError
    from cmath_jax.io.places import placed

    class Talkative(samples.StandIn):
        def predict(self, transcripts: Any, folder: Path | None = None) -> Any:
            found = super().predict(transcripts, folder)
            [[utterance]] = [transcript.utterances for transcript in transcripts]
            assert folder is not None
            full, short = folder / utterance.audio, utterance.audio
            if utterance.text == "fail":
                with placed("conversation '1', utterance 0", utterance=0):
                    raise InputError(f"conversation '1', utterance 0: {full} and {short} cannot be used")
            return [[replace(found[0][0], warnings=(f"{short}: as in {full}",))]]

    with served(Talkative(), Limits()) as url:
        spoken = {"utterances": [{"speaker": "A", "text": "so", "audio": "holiday.wav"}]}
        answer = predict_spoken(url, spoken, ("holiday.wav", WAV))
        [[prediction]] = [one["predictions"] for one in answer.json()["conversations"]]
        assert prediction["warnings"] == ["holiday.wav: as in holiday.wav"]
        spoken["utterances"][0]["text"] = "fail"
        told = predict_spoken(url, spoken, ("holiday.wav", WAV)).json()
        assert told == {
            "error": "conversation '1', utterance 0: holiday.wav and holiday.wav cannot be used",
            "reason": "holiday.wav and holiday.wav cannot be used",
            "conversation": 0,
            "utterance": 0,
        }
