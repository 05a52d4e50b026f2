"""Clients that are slow, on purpose or not: they lose their own connection, and nobody else notices."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import serve_samples as samples
from serve_samples import FORM, ask, conversation, form, predict, served

from benchmarks import serving
from cmath_jax.serve.limits import Limits

samples.skip_without_packages()
LIMITS = Limits(requests=2, stall_seconds=0.4, min_rate=2000, transfer_seconds=2.0, head_seconds=0.5)
BODY = json.dumps({"conversations": [conversation("happy")]}).encode()
SPOKEN = form(json.dumps({"utterances": [{"speaker": "A", "audio": "a"}]}).encode(), ("a", samples.recording(0.2)))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(samples.StandIn(), LIMITS) as url:
        yield url


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        yield connection


def head(length: int, path: str = "/api/predict", kind: str = "application/json") -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}", f"Content-Length: {length}")
    return "\r\n".join((*lines, "", "")).encode()


def everything(connection: socket.socket) -> bytes:
    """What the server sends until it closes."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def answer(connection: socket.socket) -> tuple[int, str]:
    """The status and the error of the next answer."""
    received = b""
    while not (found := re.match(rb"HTTP/1.1 (\d+) .*content-length: (\d+).*?\r\n\r\n(.*)", received, re.S | re.I)) or (
        len(found[3]) < int(found[2])
    ):
        part = connection.recv(65536)
        assert part, received
        received += part
    return int(found[1]), str(json.loads(found[3]).get("error", ""))


def ended(url: str, reason: str) -> float:
    found = re.search(rf'cmath_connections_ended_total{{reason="{reason}"}} (\S+)', ask(url, "/metrics").body.decode())
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [("/api/predict", "application/json", BODY), ("/api/predict-with-audio", FORM, SPOKEN)],
)
@pytest.mark.parametrize("every", [None, 0.05])
def test_a_body_that_comes_too_slowly(url: str, path: str, kind: str, body: bytes, every: float | None) -> None:
    """It stalls, or a byte comes now and then; it says what is wrong, and takes none of the two places meanwhile."""
    with ExitStack() as open_:
        slow = [open_.enter_context(connected(url)) for _ in range(5)]
        began = time.monotonic()
        for connection in slow:
            connection.sendall(head(len(body), path, kind) + body[:20])
        stop = threading.Event()

        def drip() -> None:
            for i in range(20, len(body)):
                if stop.wait(every):
                    return
                for connection in slow:
                    connection.sendall(body[i : i + 1])

        dripping = threading.Thread(target=drip)
        if every:
            dripping.start()
        assert predict(url, conversation("happy")).labels == [["joy"]]
        for connection in slow:
            status, error = answer(connection)
            assert status == 408
            assert re.fullmatch(
                r"the body came too slowly: \d+ bytes in \d+\.\d seconds; send 2000 bytes a second at least", error
            )
        assert 0.3 < time.monotonic() - began < 2
        stop.set()
        if every:
            dripping.join()


def test_a_slow_line_is_fast_enough(url: str) -> None:
    """At 2.5 times the least rate, and for longer than a client may be behind it."""
    body = BODY[:-1] + b" " * 6000 + b"}"

    def pieces() -> Iterator[bytes]:
        for i in range(0, len(body), 500):
            yield body[i : i + 500]
            time.sleep(0.1)

    assert ask(url, "/api/predict", pieces()).labels == [["joy"]]


def test_nobody_saves_up_time(url: str) -> None:
    """What came fast does not excuse a stall; and the whole has its time, however steady it is."""
    body = BODY + b" " * 100_000
    with connected(url) as connection:
        began = time.monotonic()
        connection.sendall(head(len(body)) + body[:50_000])
        assert answer(connection)[0] == 408
        assert time.monotonic() - began < 2
    with connected(url) as connection:
        began = time.monotonic()
        connection.sendall(head(len(body)))
        connection.settimeout(0.1)
        for i in range(0, len(body), 500):
            connection.sendall(body[i : i + 500])
            try:
                said = connection.recv(65536)
                break
            except TimeoutError:
                continue
        assert said.startswith(b"HTTP/1.1 408") and b"it may take 2 seconds" in said
        assert 1.9 < time.monotonic() - began < 4


def test_a_newcomer_gets_the_place_of_the_slowest() -> None:
    limits = Limits(bodies=2, stall_seconds=5.0)
    with served(samples.StandIn(), limits) as url, connected(url) as first, connected(url) as second:
        first.sendall(head(len(BODY)) + BODY[:5])
        samples.until(lambda: b"cmath_requests_receiving 1.0" in ask(url, "/metrics").body)
        second.sendall(head(len(BODY)) + BODY[:5])
        samples.until(lambda: b"cmath_requests_receiving 2.0" in ask(url, "/metrics").body)
        # Nobody is behind yet.
        crowded = predict(url, conversation("happy"))
        assert crowded.status == 503 and crowded.headers["Retry-After"] == "1"
        time.sleep(0.7)
        second.sendall(BODY[5:10])
        assert predict(url, conversation("happy")).status == 200
        status, error = answer(first)
        assert status == 408 and error.endswith("while others waited; send it again")
        second.sendall(BODY[10:])
        assert answer(second) == (200, "")


def test_a_head_has_its_time(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: 127.")
        said = everything(connection)
    assert said.startswith(b"HTTP/1.1 408")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"].startswith("the head of the request has not come within")
    assert ended(url, "head too slow") >= 1


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", head(100, "/nowhere")])
def test_a_connection_without_a_request_is_closed(url: str, before: bytes) -> None:
    """Whether it is silent, has been answered, or sends a body that nobody reads, or another head, byte by byte."""
    for drip in (b"", b"x"):
        with connected(url) as connection:
            began = time.monotonic()
            connection.sendall(before)
            connection.settimeout(0.05)
            while time.monotonic() - began < 5:
                try:
                    if drip and before:
                        connection.sendall(drip)
                    if not connection.recv(65536):
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            assert time.monotonic() - began < 2.5


@pytest.mark.slow
def test_an_answer_that_is_not_taken(url: str) -> None:
    """Who takes nothing of it, or a little now and then, is left; what was not taken takes no memory any more."""
    limits = Limits(stall_seconds=0.5, min_rate=100_000)
    many = json.dumps({"conversations": [{"utterances": [{"speaker": 0}] * 256}] * 64}).encode()
    with served(samples.StandIn(), limits) as url:
        for sip in (0, 100):
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect((urlsplit(url).hostname, urlsplit(url).port))
                connection.settimeout(10)
                connection.sendall(head(len(many)) + many)
                before, began = ended(url, "answer not taken"), time.monotonic()
                while ended(url, "answer not taken") == before:
                    assert time.monotonic() - began < 20
                    time.sleep(0.1)
                    if sip:
                        connection.recv(sip)
        whole = ask(url, "/api/predict", many)
        assert whole.status == 200 and len(whole.body) > 2**22


def test_connections_are_limited() -> None:
    """The one that has waited longest makes room; those with a request are left alone."""
    free = threading.Event()
    model = samples.StandIn(before=lambda batch: free.wait(10) and None)
    with served(model, Limits(connections=3)) as url, connected(url) as busy, connected(url) as idle:
        busy.sendall(head(len(BODY)) + BODY)
        samples.until(lambda: model.batches)
        idle.sendall(b"GET /hea")
        time.sleep(0.1)
        assert ask(url, "/health").status == 200
        with connected(url) as third:
            third.sendall(b"GET /hea")
            samples.until(lambda: ask(url, "/health").status == 200)
            assert everything(idle) == b""
            assert ask(url, "/health").status == 200
        free.set()
        assert answer(busy) == (200, "")
        assert ended(url, "too many connections") >= 1


def statuses(url: str, times: int, clients: int) -> tuple[list[int], list[float]]:
    """What so many clients get that ask so often, and the seconds that each answer took."""
    found: list[int] = []
    seconds: list[float] = []

    def client() -> None:
        for _ in range(times):
            began = time.monotonic()
            found.append(predict(url, conversation("happy", "no way")).status)
            seconds.append(time.monotonic() - began)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, sorted(seconds)


@pytest.mark.slow
@pytest.mark.parametrize("kind", serving.SLOW)
def test_a_hundred_slow_clients_take_nothing_from_others(kind: str) -> None:
    with served(samples.StandIn(before=lambda batch: time.sleep(0.01)), Limits()) as url:
        port = urlsplit(url).port
        assert port is not None
        alone, before = statuses(url, 20, 32)
        with serving.slow_clients(port, 100, kind):
            beside, meanwhile = statuses(url, 20, 32)
            time.sleep(6)  # the slow ones have been sent away, and come again
            later, afterwards = statuses(url, 20, 32)
    assert alone == beside == later == [200] * 640
    for seconds in (meanwhile, afterwards):
        # Generous, as others may use the processor; who waited for slow clients would wait for seconds.
        assert seconds[320] < 5 * before[320] + 0.5
        assert seconds[-1] < 5 * before[-1] + 2.0


def test_uploads_that_are_given_up_leave_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with served(samples.StandIn(), LIMITS) as url, connected(url) as connection:
        connection.sendall(head(len(SPOKEN), "/api/predict-with-audio", FORM) + SPOKEN[:3000])
        samples.until(lambda: list(tmp_path.glob("*/*/*.upload")))
        assert answer(connection)[0] == 408
        [root] = tmp_path.iterdir()
        samples.until(lambda: not list(root.iterdir()))
