"""Every recording gives its vector or the reason why not, whatever happens to the process that reads it."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extraction import conversation

from cmath_jax.data.sources.schema import Utterance
from cmath_jax.extract import Execution, recordings
from cmath_jax.extract.cache import Cache, Found, Missing
from cmath_jax.extract.recordings import Read, Span, SpanContent, UnreadableError, extract


def utterance(name: str) -> Utterance:
    return Utterance("Ann", audio=name)


def deadly(mark: str) -> Read:
    """Reads a file as a number; one that holds the mark ends the process."""

    def read(span: Span) -> SpanContent:
        content = span.path.read_text()
        if content.startswith(mark):
            os._exit(3)
        if not content.isdigit():
            raise UnreadableError("no number")
        return SpanContent(np.array([int(content)], np.float32))

    return read


@pytest.mark.slow
def test_a_recording_that_kills_its_reader_does_not_stop_the_others(tmp_path: Path) -> None:
    contents = ["0", "dead", "2", "x", "4", "dead too"]
    for i, content in enumerate(contents):
        (tmp_path / f"{i}").write_text(content)
    talk = conversation(*(utterance(str(i)) for i in range(6)))
    cache = Cache(tmp_path / "cache", "a", {})
    make = partial(deadly, "dead")
    found = extract([talk], lambda u: u.audio, tmp_path, make, np.asarray, 1, cache, Execution(workers=2), "audio")
    np.testing.assert_array_equal(found.features[0][:, 0], [0, np.nan, 2, np.nan, 4, np.nan])
    assert ["killed" in problem.reason for problem in found.problems] == [True, False, True]
    # What killed a process may have been something else: it is tried again; what is unreadable stays so.
    kept = [path.read_text() for path in (tmp_path / "cache").rglob("*.txt")]
    assert kept == ["no number"]


class Pool:
    """Stands in for a pool of processes. The first one breaks over its first call, and refuses the second."""

    made = 0

    def __init__(self, workers: int, context: Any, begin: Any) -> None:
        Pool.made += 1
        (make,) = begin.args
        self._read, self._calls, self._breaks = make(), 0, Pool.made == 1

    def submit(self, attempt: Callable[..., Any], span: Span) -> Future[Any]:
        self._calls += 1
        future: Future[Any] = Future()
        if self._breaks and self._calls == 2:
            raise BrokenProcessPool
        if self._breaks:
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(self._read(span))
        return future

    def shutdown(self, cancel_futures: bool) -> None:
        pass


def read_by(workers: int, folder: Path, names: list[str], cache: Cache | None = None) -> tuple[np.ndarray, list[str]]:
    """What `deadly` reads, [n], and the problems."""
    talk = conversation(*(utterance(name) for name in names))
    make = partial(deadly, "dead")
    cache = cache or Cache(None, "a", {})
    found = extract([talk], lambda u: u.audio, folder, make, np.asarray, 1, cache, Execution(workers=workers), "audio")
    return found.features[0][:, 0], [str(problem) for problem in found.problems]


@pytest.mark.parametrize("count", [1, 4])  # one recording, too, is read by a process of its own
def test_no_recording_is_lost_where_nothing_more_can_be_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(recordings, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(Pool, "made", 0)
    for i in range(count):
        (tmp_path / str(i)).write_text(str(i))
    found_n, problems = read_by(2, tmp_path, [str(i) for i in range(count)])
    assert found_n.tolist() == list(range(count)) and problems == [] and Pool.made >= 2


def test_what_is_no_file_is_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    (tmp_path / "folder").mkdir()
    (tmp_path / "1").write_text("1")
    found_n, problems = read_by(0, tmp_path, ["pipe", "folder", "a\0b", "1"])
    np.testing.assert_array_equal(found_n, [np.nan, np.nan, np.nan, 1])
    for line, words in zip(problems, ("no regular file", "no regular file", "null"), strict=True):
        assert words in line


def test_an_unknown_defect_of_one_recording_is_told_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1").write_text("1")
    (tmp_path / "2").write_bytes(b"\xff")  # no UTF-8
    (tmp_path / "x").write_text("x")
    found_n, problems = read_by(0, tmp_path, ["2", "x", "1"], Cache(tmp_path / "cache", "a", {}))
    np.testing.assert_array_equal(found_n, [np.nan, np.nan, 1])
    assert "UnicodeDecodeError" in problems[0] and "no number" in problems[1]
    assert [path.read_text() for path in (tmp_path / "cache").rglob("*.txt")] == ["no number"]


def test_what_is_kept_is_found_by_content_and_settings(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "a", {"set": "IS10"})
    cache.put("k" * 64, Found(np.arange(3, dtype=np.float32), ("too loud",)))
    cache.put("m" * 64, Missing("too short"))
    again = Cache(tmp_path, "a", {"set": "IS10"})
    kept = again.get("k" * 64)
    assert isinstance(kept, Found) and kept.notes == ("too loud",)
    np.testing.assert_array_equal(kept.vector, [0, 1, 2])
    assert again.get("m" * 64) == Missing("too short") and again.get("x" * 64) is None
    assert Cache(tmp_path, "a", {"set": "IS09"}).get("k" * 64) is None
    assert Cache(tmp_path, "a", {"set": "IS10"}, {"revision": 2}).get("k" * 64) is None
    (path,) = tmp_path.rglob("k*.npy")
    path.write_bytes(path.read_bytes()[:100])
    assert again.get("k" * 64) is None  # damaged: it is computed again


@pytest.mark.parametrize("fails", ["write", "folder", "file"])
def test_a_cache_that_cannot_be_written_is_done_without_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    for i in range(3):
        (tmp_path / str(i)).write_text(str(i))
    place = tmp_path / "cache"
    if fails == "file":
        place.write_text("a file")
    elif fails == "folder":
        monkeypatch.setattr(Path, "mkdir", failing(PermissionError(13, "Permission denied")))
    else:
        Cache(place, "a", {}).put("k" * 64, Found(np.zeros(1)))
        monkeypatch.setattr(np, "save", failing(OSError(28, "No space left on device")))
    caches = [Cache(place, m, {}) for m in "ta"]
    found_n, problems = read_by(0, tmp_path, ["0", "1", "2"], caches[1])
    caches[0].put("x" * 64, Found(np.zeros(1)))
    assert found_n.tolist() == [0, 1, 2] and problems == []
    (line,) = caplog.messages
    assert str(place) in line and "goes on" in line
    assert not list(tmp_path.rglob("*.partial"))
    if fails == "write":  # what is there is read all the same
        assert isinstance(Cache(place, "a", {}).get("k" * 64), Found)


def failing(error: OSError) -> Callable[..., Any]:
    def fails(*arguments: Any, **named: Any) -> Any:
        raise error

    return fails
