"""The limits of the API: how much is taken, how much at once, and for how long."""

import json
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
import serve_samples as samples
from serve_samples import ask, conversation, form, predict, predict_spoken, recording, served

from cmath_jax.errors import InputError
from cmath_jax.serve.limits import Limits

samples.skip_without_packages()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([conversation("a")] * 4, "4 conversations are more than the 3"),
        ([conversation(*"abcdef")], "6 utterances are more than the 5"),
        (
            [conversation("a", "b" * 101, id="x")],
            "conversation 'x', utterance 1: text has 101 characters, more than 100",
        ),
        ([{"utterances": [{"speaker": "A" * 101}]}], "utterance 0: speaker has 101 characters"),
        ([conversation("a", id="x" * 101)], "its id has 101 characters"),
        ([conversation("a" * 5000)], "the body has more than 4000 bytes"),
    ],
)
def test_limits_of_conversations(url: str, model: samples.StandIn, given: list[Any], words: str) -> None:
    answer = predict(url, *given)
    assert answer.status == 413
    assert words in answer.error
    assert model.batches == []


def test_what_is_just_within_the_limits(url: str) -> None:
    assert predict(url, *[conversation(*"abcd", "e" * 100)] * 3).status == 200


def test_a_body_is_not_read_beyond_its_limit(url: str) -> None:
    head = "POST /api/predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n"
    chunk = f"{5000:x}\r\n{' ' * 5000}\r\n"
    # More would come, but the answer is there already.
    assert begun(url, head, chunk).startswith(b"HTTP/1.1 413")
    head = f"POST /api/predict-with-audio HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: {samples.FORM}\r\n"
    start = form(b"{}", ("a.wav", b" " * 250_000))[:240_000].decode()
    assert begun(url, head, f"{len(start):x}\r\n{start}\r\n").startswith(b"HTTP/1.1 413")


def test_an_announced_body_is_not_waited_for(url: str) -> None:
    head = "POST /api/predict HTTP/1.1\r\nContent-Length: 4001\r\nContent-Type: application/json\r\n"
    assert begun(url, head, "").startswith(b"HTTP/1.1 413")


def test_a_client_that_leaves(url: str) -> None:
    head = "POST /api/predict HTTP/1.1\r\nContent-Length: 400\r\nContent-Type: application/json\r\n"
    begun(url, head, "{", wait=False)
    samples.until(lambda: b'cmath_requests_total{path="/api/predict",status="499"}' in ask(url, "/metrics").body)


def begun(url: str, head: str, body: str, wait: bool = True) -> bytes:
    """What the server answers to a request of which not all is sent."""
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=10) as connection:
        connection.sendall(f"{head}Host: 127.0.0.1\r\n\r\n{body}".encode())
        return connection.recv(1000) if wait else b""


def test_limits_of_recordings(url: str) -> None:
    two = {"id": "s", "utterances": [{"speaker": "A", "audio": "a"}, {"speaker": "A", "audio": "b"}]}
    assert predict_spoken(url, two, ("a", recording(1)), ("b", recording(1))).status == 200
    long = predict_spoken(url, two, ("a", recording(1)), ("b", recording(1.1)))
    assert long.status == 413
    assert "conversation 's', utterance 1: the upload 'b'" in long.error
    chunks = (form(json.dumps(two).encode(), ("a", recording()), ("b", bytes(300_000))),)
    large = ask(url, "/api/predict-with-audio", chunks, samples.FORM)
    assert large.status == 413
    assert "more than 200000 bytes" in large.error
    many = {"utterances": [{"speaker": "A", "audio": "a"}]}
    assert predict_spoken(url, many, *((f"{i}", b"") for i in range(9))).status == 413
    spoken = json.dumps(many | {"id": "x" * 5000}).encode()
    assert ask(url, "/api/predict-with-audio", form(spoken, ("a", recording())), samples.FORM).status in (400, 413)


def test_too_many_at_once(url: str, model: samples.StandIn) -> None:
    free, busy = threading.Event(), threading.Event()

    def hold(batch: Any) -> None:
        busy.set()
        assert free.wait(10)

    model.before = hold
    answers: list[samples.Answer] = []
    clients = [threading.Thread(target=lambda: answers.append(predict(url, conversation("a")))) for _ in range(4)]
    for client in clients:
        client.start()
    assert busy.wait(10)
    samples.until(lambda: b"cmath_requests_in_flight 4.0" in ask(url, "/metrics").body)
    fifth = predict(url, conversation("a"))
    assert fifth.status == 503
    assert fifth.headers["Retry-After"] == "1"
    assert "4 requests" in fifth.error
    free.set()
    for client in clients:
        client.join(10)
    assert [answer.status for answer in answers] == [200] * 4
    assert predict(url, conversation("a")).status == 200


def test_a_request_has_its_time(model: samples.StandIn) -> None:
    free = threading.Event()
    model.before = lambda batch: free.wait(10)
    with served(model, Limits(seconds=0.3)) as url:
        slow = predict(url, conversation("a"))
        assert slow.status == 503
        assert slow.headers["Retry-After"] == "1"
        assert "within 0.3 seconds" in slow.error
        assert predict(url, conversation("never computed")).status == 503
        samples.until(lambda: ask(url, "/health").status == 503)
        assert "busy" in ask(url, "/health").json()["status"]
        free.set()
        samples.until(lambda: ask(url, "/health").status == 200)
        assert predict(url, conversation("b")).status == 200
    assert [transcript.utterances[0].text for [transcript] in model.batches] == ["a", "b"]


def test_limits_are_positive() -> None:
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="--max-body-bytes"):
            Limits(body_bytes=wrong)  # type: ignore[arg-type]
