"""A disk that fills up: every command says so in a line that names the file, and nothing that was saved is lost."""

import asyncio
import contextlib
import errno
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import rows, tiny

from cmath_jax.config import override, to_dict
from cmath_jax.errors import InputError, is_of_machine
from cmath_jax.training.checkpoint import Checkpoints
from cmath_jax.training.fit import fit

ROOT = Path(__file__).parents[2]
RUN = tiny(train__epochs=40, train__patience=0, parallel__devices=1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path, left: int) -> Path:
    """Takes all room of a disk but so many bytes."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:  # the run may be faster
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - left)))
    return filler


def launch(config: Path, workdir: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "launch.py", "--config", str(config), "--workdir", str(workdir)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 16_000, 60_000])
def test_a_run_on_a_disk_that_fills_up_goes_on_when_there_is_room(left: int, disk: Path, tmp_path: Path) -> None:
    config, folder = tmp_path / "config.json", disk / "run"
    config.write_text(json.dumps(to_dict(RUN)))
    process = launch(config, folder)
    log = folder / "metrics.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= 2):
        assert process.poll() is None
        time.sleep(0.01)
    filler = fill(disk, left)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1, output + errors
    assert errors.splitlines()[-1].startswith("error: ") and str(folder) in errors.splitlines()[-1], errors
    assert errors.endswith("No space left on device\n")
    assert "Traceback" not in errors
    with Checkpoints(folder / "checkpoints" / "seed_0") as checkpoints:
        saved = len(checkpoints.record()["history"])
    assert saved >= 1
    filler.unlink()
    again = launch(config, folder)
    output, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert f"epoch {saved + 1}/40" in errors and f"epoch {saved}/40" not in errors
    undisturbed = launch(config, tmp_path / "undisturbed")
    assert undisturbed.communicate(timeout=300) and undisturbed.returncode == 0
    assert rows(folder) == rows(tmp_path / "undisturbed")


@pytest.mark.slow
def test_commands_on_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """A report, an export and predictions: a line with the file, and no half of one."""
    run = tmp_path / "run"
    fit(override(RUN, {"train.epochs": 1}), run)
    fill(disk, 8_000)
    for arguments in (
        ["report", str(run), "-o", str(disk / "new" / "report.html")],
        ["export", "--checkpoint", str(run), "-o", str(disk / "new" / "out")],
    ):
        done = subprocess.run(
            [sys.executable, "-m", f"cmath_jax.{arguments[0]}", *arguments[1:]],
            cwd=ROOT,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 1, done.stderr
        assert done.stderr.count("\n") == 1 and str(disk / "new") in done.stderr, done.stderr
        assert done.stderr.endswith("No space left on device\n")
        assert [path.name for path in disk.iterdir()] == ["filler"]


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 100, 20_000])
def test_a_limit_on_files_is_told_like_a_full_disk(most: int, tmp_path: Path) -> None:
    """As quotas are: the folder of a launch that could not even begin goes again."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(to_dict(RUN)))
    limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most})); "
    limited += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", limited, "launch.py", "--config", str(config), "--workdir", str(tmp_path / "run")]
    # The limit is on all files of the process: also on those of a cache, and of coverage.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment["JAX_COMPILATION_CACHE_DIR"] = ""
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, env=environment)
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and str(tmp_path / "run") in last and last.endswith("File too large"), done.stderr
    assert "Traceback" not in done.stderr
    assert most > 100 or not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [("RESOURCE_EXHAUSTED: [os_error_code='28']", False), ("No space left on device", False), ("a bug", True)],
)
def test_what_a_full_disk_refuses_beside_is_not_told(error: str, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def dropped() -> None:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(ValueError(error))

    asyncio.run(dropped())
    gc.collect()
    assert ("never retrieved" in caplog.text) == told


def test_an_error_that_is_its_own_cause_is_looked_at_once() -> None:
    error = InputError("line 2: not JSON")
    error.__cause__ = error
    assert not is_of_machine(error)
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    error.__cause__.__cause__ = error
    assert is_of_machine(error)
