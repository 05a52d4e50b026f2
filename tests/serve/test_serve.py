"""The API: what it answers, what it refuses and how, and what it keeps of what it was sent."""

import json
import re
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import serve_samples as samples
from serve_samples import LIMITS, ask, conversation, predict, predict_spoken, recording, served

from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.serve.page import facts

samples.skip_without_packages()


def test_it_predicts(url: str, model: samples.StandIn) -> None:
    answer = predict(url, conversation("I am happy", "No way", id="x"), conversation("hm"))
    assert answer.status == 200
    assert [one["id"] for one in answer.json()["conversations"]] == ["x", "2"]
    assert answer.labels == [["joy", "surprise"], ["neutral"]]
    first = answer.json()["conversations"][0]["predictions"][0]
    expected = model.predict([Transcript("x", (Utterance("A", "I am happy"),))])[0][0]
    assert first == expected.to_dict()
    assert first["probabilities"]["joy"] == round(expected.probabilities["joy"], 6) != expected.probabilities["joy"]


def test_it_predicts_recordings(url: str, model: samples.StandIn) -> None:
    spoken = {
        "id": "s",
        "utterances": [
            {"speaker": "A", "text": "happy", "audio": "a.wav"},
            {"speaker": "B", "audio": "b.wav", "start": 0.1, "end": 0.3},
            {"speaker": "A", "audio": "a.wav"},
            {"speaker": "A", "text": "so"},
        ],
    }
    answer = predict_spoken(url, spoken, ("a.wav", recording()), ("b.wav", recording(0.3, channels=2)))
    assert answer.status == 200
    assert answer.labels == [["joy", "neutral", "neutral", "neutral"]]
    assert [each["missing"] for each in answer.json()["conversations"][0]["predictions"]] == ["", "t", "t", "a"]
    [[heard]] = model.batches
    names = [utterance.audio for utterance in heard.utterances]
    assert names[0] == names[2] != names[1] and names[3] is None
    assert all(re.fullmatch(r"[\w-]+/\d+\.wav", name) for name in names if name)
    assert heard.utterances[1].start == 0.1


@pytest.mark.parametrize("raw", ["t", "ta"])
def test_the_page_says_what_becomes_of_recordings(raw: str) -> None:
    with served(samples.StandIn(raw=raw), LIMITS) as url:
        said = ask(url, "/").body.decode()
    assert "is used for the answer and not kept." in said
    assert "in memory" not in said
    assert ("Recordings are written to a private temporary folder" in said) == ("a" in raw)


def test_recordings_are_not_kept(model: samples.StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[int] = []
    model.before = lambda batch: seen.append(len(list(tmp_path.glob("*/*/*.wav"))))
    spoken = {"utterances": [{"speaker": "A", "audio": "a.wav"}]}
    with served(model, LIMITS) as url:
        [root] = tmp_path.iterdir()
        assert root.stat().st_mode & 0o077 == 0
        assert predict_spoken(url, spoken, ("a.wav", recording())).status == 200
        assert predict_spoken(url, spoken, ("a.wav", b"RIFF no sound")).status == 422
        assert predict_spoken(url, spoken | {"utterances": []}, ("a.wav", recording())).status == 422
        assert seen == [1]
        assert list(root.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_samples_survive_the_rewriting(tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    from cmath_jax.serve.sound import rewrite

    (tmp_path / "sent").write_bytes(recording(0.5))
    assert rewrite(tmp_path / "sent", tmp_path / "x.wav", 1.0, "x") == 0.5
    before, rate = soundfile.read(tmp_path / "sent", dtype="float32")
    after, same_rate = soundfile.read(tmp_path / "x.wav", dtype="float32")
    assert rate == same_rate
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3", "AIFF"])
def test_other_kinds_of_recordings(url: str, kind: str) -> None:
    import io

    import numpy as np
    import soundfile

    written = io.BytesIO()
    soundfile.write(written, 0.3 * np.sin(np.arange(8000) * 0.1), 16_000, format=kind)
    spoken = {"utterances": [{"speaker": "A", "audio": "x"}]}
    assert predict_spoken(url, spoken, ("x", written.getvalue())).status == 200


def test_speakers_may_be_numbers(url: str) -> None:
    assert predict(url, {"utterances": [{"speaker": 0, "text": "a"}, {"speaker": 1, "text": "b"}]}).status == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "the body is not of the form"),
        ({"conversation": []}, "the body is not of the form"),
        ({"conversations": [], "more": 1}, "the body is not of the form"),
        ({"conversations": []}, "not a list with a conversation"),
        ({"conversations": {}}, "not a list with a conversation"),
        ({"conversations": [3]}, r"conversations\[0\]: 3 \(int\)"),
        ({"conversations": [{"id": "x"}]}, "conversation 'x': utterances is missing"),
        ({"conversations": [conversation("a"), conversation(id="x")]}, r"conversations\[1\], .*'x': it is empty"),
        ({"conversations": [{"id": "x", "utterances": [{"text": "a"}]}]}, "'x', utterance 0: speaker is missing"),
        ({"conversations": [{"utterances": [{"speaker": "A", "txt": "a"}]}]}, "utterance 0: .* did you mean text"),
        ({"conversations": [{"utterances": [{"speaker": "A", "text": 1}]}]}, "utterance 0: text is 1"),
        ({"conversations": [conversation("a", "poison", id="x")]}, "conversation 'x', utterance 1: cannot be used"),
    ],
)
def test_it_says_what_is_wrong(url: str, body: Any, words: str) -> None:
    answer = ask(url, "/api/predict", json.dumps(body).encode())
    assert answer.status == 422
    assert re.search(words, answer.error)


@pytest.mark.parametrize("name", ["audio", "video"])
@pytest.mark.parametrize("path", ["../../etc/passwd", "a.wav", ""])
def test_paths_of_clients_are_not_read(url: str, model: samples.StandIn, name: str, path: str) -> None:
    answer = predict(url, {"id": "x", "utterances": [{"speaker": "A", "text": "a", name: path}]})
    assert answer.status == 422
    assert "conversation 'x', utterance 0" in answer.error
    assert model.batches == []


@pytest.mark.parametrize(
    "name", ["../../../tmp/evil.wav", "/etc/passwd", "..\\evil.wav", "a/../../b", ".", "\u202eevil"]
)
def test_names_of_uploads_are_only_names(url: str, model: samples.StandIn, name: str) -> None:
    spoken = {"utterances": [{"speaker": "A", "audio": name}]}
    assert predict_spoken(url, spoken, (name, recording())).status == 200
    [[heard]] = model.batches
    assert re.fullmatch(r"[\w-]+/0\.wav", heard.utterances[0].audio or "")


@pytest.mark.parametrize(
    ("audio", "files", "words"),
    [
        ("a.wav", [], "utterance 0: there is no upload named 'a.wav'"),
        (None, ["a.wav"], "no utterance names the upload 'a.wav'"),
        ("a.wav", ["a.wav", "a.wav"], "two uploads are named 'a.wav'"),
    ],
)
def test_recordings_and_utterances_belong_together(url: str, audio: str, files: list[str], words: str) -> None:
    spoken = {"utterances": [{"speaker": "A", "text": "a", "audio": audio}]}
    answer = predict_spoken(url, spoken, *((name, recording()) for name in files))
    assert answer.status == 422
    assert words in answer.error


def test_a_model_without_audio_takes_no_recordings() -> None:
    with served(samples.StandIn(raw="t", modalities="t"), LIMITS) as url:
        answer = predict_spoken(url, {"utterances": [{"speaker": "A", "audio": "a"}]}, ("a", recording()))
        assert answer.status == 422
        assert "recording" in answer.error


def test_a_fault_of_the_server_is_its_own(url: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = predict(url, conversation("bug"))
    assert answer.status == 500
    assert b"secret" not in answer.body and "log" in answer.error
    assert "ZeroDivisionError" in caplog.text
    assert predict(url, conversation("a")).status == 200


def test_it_answers_under_its_names_only(url: str) -> None:
    assert ask(url, "/api/model", Host="evil.example").status == 400
    assert ask(url, "/api/model", Host="127.0.0.1:80").status == 200
    with served(samples.StandIn(), LIMITS, hosts=("*",)) as anywhere:
        assert ask(anywhere, "/api/model", Host="any.example:8000").status == 200


def test_pages_of_others_may_not_ask(url: str, model: samples.StandIn) -> None:
    assert predict(url, conversation("a"), Sec_Fetch_Site="cross-site").status == 403
    assert model.batches == []
    answer = predict(url, conversation("a"), Sec_Fetch_Site="same-origin", Origin=url)
    assert answer.status == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1", 200),
        ("https://127.0.0.1:8443", 200),  # behind a proxy that has TLS
        ("http://LOCALHOST:8000", 200),
        ("http://[::1]:8000", 200),
        ("https://evil.example", 403),
        ("https://127.0.0.1.evil.example", 403),
        ("https://evil.example:127", 403),
        ("https://x@evil.example", 403),
        ("127.0.0.1", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_page_may_ask_where_the_server_answers_for_its_host(model: samples.StandIn, origin: str, status: int) -> None:
    """Without Sec-Fetch headers, as of older browsers."""
    with served(model, LIMITS, hosts=("127.0.0.1", "localhost", "[::1]")) as url:
        assert predict(url, conversation("a"), Origin=origin).status == status
        assert ask(url, "/api/model", Origin=origin).status == status
    assert len(model.batches) == (status == 200)


def test_under_any_name_a_page_may_ask_its_own(model: samples.StandIn) -> None:
    with served(model, LIMITS, hosts=("*",)) as url:
        own = {"Host": "any.example:8000"}
        assert predict(url, conversation("a"), **own, Origin="http://any.example:8000").status == 200
        for other in ("http://evil.example", "null"):
            assert predict(url, conversation("a"), **own, Origin=other).status == 403


def test_every_answer_is_guarded(url: str) -> None:
    for path in ("/", "/app.js", "/answer.js", "/style.css", "/api/model", "/health", "/nowhere"):
        headers = ask(url, path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
    assert ask(url, "/health", Host="evil.example").headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(("path", "method", "status"), [("/nowhere", "GET", 404), ("/api/predict", "GET", 405)])
def test_what_there_is_not(url: str, path: str, method: str, status: int) -> None:
    answer = ask(url, path, method=method)
    assert answer.status == status
    assert answer.error
    for name in ("/docs", "/redoc"):
        assert ask(url, name).status == 404


def test_it_tells_of_its_model(url: str, model: samples.StandIn) -> None:
    told = ask(url, "/api/model").json()
    assert told["classes"] == list(model.classes)
    assert (told["modalities"], told["raw"]) == ("ta", "ta")
    assert told["limits"] == vars(LIMITS)
    assert told["card"] == model.card


def test_openapi_describes_what_is_parsed(url: str) -> None:
    described = ask(url, "/openapi.json").json()
    schemas = described["components"]["schemas"]
    assert set(schemas["SpokenUtterance"]["properties"]) == {each.name for each in fields(Utterance)} - {"video"}
    assert set(schemas["Utterance"]["properties"]) == {each.name for each in fields(Utterance)} - {"audio", "video"}
    assert set(schemas["Conversation"]["properties"]) == {each.name for each in fields(Transcript)}
    assert (schemas["Conversation"]["required"], schemas["Utterance"]["required"]) == (["utterances"], ["speaker"])
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert references <= set(schemas)
    assert {"/api/predict", "/api/predict-with-audio", "/api/model", "/health"} == set(described["paths"])
    body = described["paths"]["/api/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/Conversations"}
    answered = predict(url, conversation("a")).json()["conversations"][0]["predictions"][0]
    assert set(schemas["UtterancePrediction"]["required"]) == set(answered)


def test_it_counts() -> None:
    with served(samples.StandIn(), LIMITS) as url:
        predict(url, conversation("a", "b"), conversation("c"))
        predict(url)
        ask(url, "/some/where")
        text = ask(url, "/metrics").body.decode()
    assert 'cmath_requests_total{path="/api/predict",status="200"} 1.0' in text
    assert 'cmath_requests_total{path="/api/predict",status="422"} 1.0' in text
    assert 'cmath_requests_total{path="other",status="404"} 1.0' in text
    assert 'cmath_request_seconds_count{path="/api/predict"} 2.0' in text
    assert "cmath_batch_conversations_sum 2.0" in text
    assert "cmath_batch_utterances_sum 3.0" in text
    assert "cmath_queue_length 0.0" in text
    assert "some" not in text


def test_the_page_says_which_features_a_score_belongs_to() -> None:
    text = {"origin": "extracted", "size": 384, "settings": {"encoder": "minilm"}, "fine_tuned": False}
    stated = {"model": "cmath", "modalities": "t", "features": {"t": text}}
    card = samples.StandIn().card
    assert dict(facts(card | {"circumstances": stated}))["Features"] == "text 384 (minilm, frozen)"
    # A model of before they were recorded.
    assert dict(facts(card | {"circumstances": {}}))["Features"] == dict(facts(card))["Features"] == "not stated"
