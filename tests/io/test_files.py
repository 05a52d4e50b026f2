"""Sizes, locks, and who waits."""

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmath_jax.io import waiting
from cmath_jax.io.files import UNITS, size, sizes
from cmath_jax.io.lock import FolderLock
from cmath_jax.io.waiting import announced, duration
from cmath_jax.training.run_folder import RunFolder

FACTORS = {unit: 1000**i for i, unit in enumerate(UNITS)} | {"byte": 1}


@given(st.integers(0, 10**15))
def test_a_size_has_a_unit_that_fits(count: int) -> None:
    number, unit = size(count).split()
    assert abs(float(number) * FACTORS[unit] - count) <= 0.05 * FACTORS[unit] * (unit not in ("byte", "bytes"))
    assert (float(number) >= 1 or count == 0) and (float(number) < 1000 or unit == UNITS[-1])


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_unequal_sizes_do_not_look_alike(one: int, other: int) -> None:
    told = sizes(one, other)
    assert (told[0] == told[1]) == (one == other)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (45, "45 s"), (60, "1 min"), (290, "4 min 50 s"), (3600, "1 h"), (59.7, "1 min")]
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "a" / "b"), FolderLock(tmp_path / "a" / "b")
    first.acquire(wait=False)
    with pytest.raises(BlockingIOError):
        second.acquire(wait=False)
    first.release_without_trace(lambda path: True)
    assert not (tmp_path / "a").exists()
    second.acquire(wait=False)  # makes it anew
    (tmp_path / "a" / "b" / "work").write_text("x")
    second.release_without_trace(lambda path: False)
    assert (tmp_path / "a" / "b" / "work").exists()


def test_who_waited_for_a_folder_that_went_takes_the_new_one(tmp_path: Path) -> None:
    for _ in range(20):
        first, second = FolderLock(tmp_path / "a"), FolderLock(tmp_path / "a")
        first.acquire(wait=True)
        waits = threading.Thread(target=second.acquire, args=(True,))
        waits.start()
        time.sleep(0.01)
        first.release_without_trace(lambda path: True)
        waits.join(10)
        assert (tmp_path / "a" / ".lock").exists()
        with open(tmp_path / "a" / ".lock") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        second.release_without_trace(lambda path: True)
        assert not (tmp_path / "a").exists()


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    lock = FolderLock(tmp_path / "a" / "b")
    lock.acquire(wait=False)
    lock.release_without_trace(lambda path: True)
    assert (tmp_path / "a").exists() and not (tmp_path / "a" / "b").exists()
    lock = FolderLock(tmp_path / "a")
    lock.acquire(wait=False)
    (tmp_path / "a" / "work").touch()
    lock.release_without_trace(lambda path: True)
    assert (tmp_path / "a" / "work").exists()


def test_of_a_folder_that_was_there_only_the_lock_goes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("somebody's")
    lock = FolderLock(tmp_path)
    lock.acquire(wait=False)
    lock.release_without_trace(lambda path: True)
    assert os.listdir(tmp_path) == ["config.json"]
    (tmp_path / ".lock").touch()  # of an earlier run
    lock.acquire(wait=False)
    lock.release_without_trace(lambda path: True)
    assert sorted(os.listdir(tmp_path)) == [".lock", "config.json"]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_behind_a_link_stays(there: bool, tmp_path: Path) -> None:
    """`link/../theirs` is beside what the link leads to, not beside the link."""
    (tmp_path / "here").mkdir()
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "real" / "deep")
    if there:
        (tmp_path / "real" / "theirs").mkdir()
        (tmp_path / "real" / "theirs" / "config.json").touch()
    lock = FolderLock(tmp_path / "here" / "link" / ".." / "theirs")
    lock.acquire(wait=False)
    assert (tmp_path / "real" / "theirs" / ".lock").exists()
    lock.release_without_trace(lambda path: True)
    assert (tmp_path / "real" / "theirs" / "config.json").exists() == there
    assert (tmp_path / "real" / "theirs").exists() == there and (tmp_path / "real" / "deep").exists()


TRACES = ("config.json", "environment.json", "metrics.jsonl", "tensorboard/seed_0/events", ".result.json.7.partial")
SAVED = (
    "checkpoints/seed_0/12/x",
    "model/model.json",
    "predictions.jsonl",
    "notes.txt",
    "runs/a/config.json",
    "figures/x",
)


@pytest.mark.parametrize("kept", [None, *SAVED])
def test_a_run_that_fails_leaves_what_it_has_saved_and_nothing_else(kept: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x"
    with contextlib.suppress(KeyError), RunFolder(folder) as run:
        for name in (*TRACES, "checkpoints/seed_0/12.orbax-checkpoint-tmp/x", *([kept] if kept else [])):
            (run.path / name).parent.mkdir(parents=True, exist_ok=True)
            (run.path / name).touch()
        raise KeyError
    assert folder.exists() == bool(kept)
    assert (tmp_path / "runs").exists() == bool(kept)
    assert not kept or ((folder / kept).exists() and (folder / "config.json").exists())


def test_whoever_waits_says_so(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(waiting, "FIRST", 0.2)
    monkeypatch.setattr(waiting, "AGAIN", 0.1)
    with announced(lambda seconds: f"waited {seconds:.1f} s"):
        pass
    assert capsys.readouterr().err == ""
    with announced(lambda seconds: f"waited {seconds:.1f} s"):
        time.sleep(0.55)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "waited 0.2 s" and 2 <= len(lines) <= 4


def test_whoever_waits_for_a_lock_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(waiting, "FIRST", 0.1)
    holds = f"f = open({str(tmp_path / '.lock')!r}, 'w'); fcntl.flock(f, 2); print(1, flush=True); time.sleep(1)"
    program = f"import fcntl, time; {holds}"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        lock = FolderLock(tmp_path)
        lock.acquire(wait=True)
        lock.release()
    assert f"waiting for another process that is at work in {tmp_path}" in capsys.readouterr().err
    assert os.listdir(tmp_path) == [".lock"]
