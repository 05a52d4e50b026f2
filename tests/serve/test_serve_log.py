"""The log of the server: whatever clients do, it stays short, and holds nothing that they have written."""

import io
import logging
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import serve_samples as samples
from hypothesis import given
from hypothesis import strategies as st
from serve_samples import FORM, ask, form, predict, predict_spoken

from cmath_jax.serve.log import Discreet, Sparse

samples.skip_without_packages()
soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed (requirements-serve.txt)")
ROOT = Path(__file__).parents[2]
WORD = "Xanthippe"  # what clients write
KINDS = 11  # of hostile requests


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server around a stand-in that warns, and that fails with a message of what was said; and its address."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import serve_samples
import cmath_jax.serve.__main__ as command

def fail(batch):
    for transcript in batch:
        for utterance in transcript.utterances:
            if "bug" in (utterance.text or ""):
                raise KeyError(f"{{transcript.id}} {{utterance.speaker}} {{utterance.text}}")

command._ready = lambda checkpoint, limits: serve_samples.StandIn(before=fail)
sys.exit(command.main(["--checkpoint", "x", "--port", "0"]))
"""
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().removeprefix("serving on ").strip()
        finally:
            process.kill()


@cache
def mp3() -> bytes:
    written = io.BytesIO()
    soundfile.write(written, 0.3 * np.sin(np.arange(16_000) * 0.1), 16_000, format="MP3")
    return written.getvalue()


def raw(url: str, content: bytes) -> None:
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(content)
        assert connection.recv(65536).startswith(b"HTTP/1.1 ")


def hostile(url: str, i: int) -> None:
    """One of some kinds of requests that a server may be tempted to write down."""
    spoken = {"id": WORD, "utterances": [{"speaker": WORD, "text": f"odd {WORD}", "audio": f"{WORD}.wav"}]}
    sound = samples.recording(0.1)
    garbled = bytearray(form(b"{}", (f"{WORD}.wav", sound)))
    garbled[random.Random(i).randrange(100)] ^= 255
    noisy, chance = bytearray(mp3()), random.Random(i)
    for _ in range(20):
        noisy[chance.randrange(4, len(noisy))] ^= 255
    host = "Host: 127.0.0.1\r\n"
    kinds = (
        lambda: predict(url, {"id": f"{WORD}{i}", "utterances": [{"speaker": WORD, "text": f"odd {WORD}"}]}),
        lambda: predict(url, {"id": f"{WORD}{i}", "utterances": [{"speaker": WORD, "text": f"bug {WORD}{i}"}]}),
        lambda: predict_spoken(url, spoken, (f"{WORD}.wav", sound)),
        lambda: predict_spoken(url, spoken, (f"{WORD}.wav", b"RIFF" + bytes(range(200)))),
        lambda: ask(url, "/api/predict-with-audio", bytes(garbled), FORM),
        lambda: predict_spoken(url, spoken, (f"{WORD}.wav", bytes(noisy))),
        lambda: ask(url, f"/{WORD}/{i}", method=WORD.upper()),
        lambda: ask(url, "/health", Host=WORD),
        lambda: raw(url, f"{WORD} {i}\r\n\r\n".encode()),
        lambda: raw(url, f"GET / HTTP/1.1\r\n{host}Upgrade: websocket\r\nConnection: upgrade, close\r\n\r\n".encode()),
        lambda: raw(url, f"POST /api/predict HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{WORD}".encode()),
    )
    kinds[i % KINDS]()


@pytest.mark.slow
def test_clients_do_not_write_the_log(server: tuple[subprocess.Popen[str], str]) -> None:
    process, url = server
    for i in range(800):
        hostile(url, i)
    metrics = ask(url, "/metrics").body.decode()
    process.terminate()
    assert process.wait(20) == 0
    assert process.stderr is not None
    log = process.stderr.read()
    assert WORD.lower() not in log.lower()
    assert "KeyError" in log and "predict" in log  # whoever runs it can find the fault
    assert log.count("KeyError") <= 2 and len(log) < 10_000, log  # once a minute
    [garbled] = re.findall(r'cmath_connections_ended_total{reason="garbled"} (\S+)', metrics)
    assert float(garbled) >= 800 // KINDS
    [warnings] = re.findall(r"^cmath_warnings_total (\S+)", metrics, re.M)
    assert float(warnings) >= 3 * (800 // KINDS)  # one of what was said, two of what was said and recorded
    assert WORD.lower() not in metrics.lower()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.Logger("test")
    yield logger
    logger.handlers.clear()


@given(st.floats(0, 1e9), st.floats(1e-3, 1e3))
def test_the_first_of_a_place_is_written_at_any_time(now: float, seconds: float) -> None:
    record = logging.LogRecord("test", logging.WARNING, "place.py", 1, "it happened", (), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmath_jax.serve.log.time.monotonic", lambda: now)
        sparse = Sparse(seconds)
        assert sparse.filter(record) and not sparse.filter(record)


def test_what_repeats_itself_is_counted(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Sparse(seconds=0.3))
    logger.addHandler(handler)
    for _ in range(2):
        for i in range(50):
            logger.warning("it happened to %s", i)
        logger.warning("something else")
        time.sleep(0.35)
    assert capsys.readouterr().err.splitlines() == [
        "it happened to 0",
        "something else",
        "it happened to 0 (and 49 times before)",
        "something else",
    ]


def test_an_exception_tells_where_and_not_what(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Discreet())
    logger.addHandler(handler)
    for error in (ValueError(WORD), OSError(28, "No space left on device", f"/tmp/{WORD}")):
        try:
            try:
                raise error
            except Exception as cause:
                raise RuntimeError(WORD) from cause
        except RuntimeError:
            logger.exception("it failed: %s", "x" * 10_000)
    written = capsys.readouterr().err
    assert WORD not in written
    assert written.count("builtins.RuntimeError\n") == 2
    for words in (
        "builtins.ValueError\n",
        "builtins.OSError: No space left on device\n",
        "raise error",
        "it failed: x",
    ):
        assert words in written
    assert "x" * 501 not in written
