"""Several processes on this machine train one run: as one process would, and none goes on without the others."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import chex
import pytest
from samples import final_arrays, rows, tiny

from cmath_jax.config import ParallelConfig, override, to_dict
from cmath_jax.errors import InputError
from cmath_jax.training import fit as fitting
from cmath_jax.training import multihost, run_folder
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
RUN = tiny(
    data__simulation__train=160, optim__average=0.9, train__batch_size=8, train__epochs=8, train__patience=0
)  # 20 steps an epoch


class Processes:
    """The processes of one run, each with so many of the devices; all but the first may have a folder of their own."""

    def __init__(self, count: int, devices: int, folder: Path, *options: str, others: Path | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = folder.with_suffix(".json")
        config.write_text(json.dumps(to_dict(RUN)))
        cache = str(folder.parent / "jax")
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_COMPILATION_CACHE_DIR": cache}
        told = {"distributed": "true", "coordinator": f"127.0.0.1:{port}", "num_processes": count}
        self.all = [
            subprocess.Popen(
                [
                    *(sys.executable, "launch.py", "--config", config, *options),
                    *("--workdir", others if others and i else folder),
                    *(f"--config.parallel.{name}={value}" for name, value in {**told, "process_id": i}.items()),
                ],
                cwd=ROOT,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for i in range(count)
        ]

    def finish(self, seconds: float = 300) -> list[tuple[int, str, str]]:
        """Exit code, standard output and error of each."""
        try:
            outputs = [process.communicate(timeout=seconds) for process in self.all]
        finally:
            for process in self.all:
                process.kill()
        return [(process.returncode, *output) for process, output in zip(self.all, outputs, strict=True)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By one process, on four devices."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    fitting.fit(override(RUN, {"parallel.devices": 4}), folder)
    return folder


def assert_same_run(folder: Path, other: Path) -> None:
    """Up to rounding, since sums over devices come in another order."""
    ours, theirs = ([row["train"]["loss"] for row in rows(each)] for each in (folder, other))
    assert ours == pytest.approx(theirs, rel=1e-4)
    chex.assert_trees_all_close(final_arrays(folder, RUN)[0], final_arrays(other, RUN)[0], rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_four_processes_share_a_run(alone: Path, tmp_path: Path) -> None:
    """And read features from disk, each those of its own rows."""
    folder = tmp_path / "run"
    streamed = ("--config.data.stream=true", f"--config.data.prepared_dir={tmp_path / 'prepared'}")
    ended = Processes(4, 1, folder, "--config.parallel.engine=pmap", *streamed).finish()
    assert [code for code, _, _ in ended] == [0] * 4, ended
    assert "weighted F1" in ended[0][1]
    for _, output, errors in ended[1:]:  # only the first speaks
        assert "F1" not in output + errors
    assert_same_run(folder, alone)
    assert len(json.loads((folder / "environment.json").read_text())["devices"]) == 4


@pytest.mark.slow
def test_when_one_dies_all_end_and_nothing_is_lost(alone: Path, tmp_path: Path) -> None:
    """Killed in the middle of an epoch, one and then the other. What goes on is the run that was not disturbed, on as
    many devices and on fewer or more."""
    folder = tmp_path / "run"
    seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
    print(f"KILL_SEED={seed}")  # pytest shows it where the test fails
    rng = random.Random(seed)
    for victim in (1, 0):
        run = Processes(2, 2, folder, "--config.parallel.engine=jit")
        kill_in_an_epoch(run.all[victim], folder, rng.uniform(0, 0.1))
        began = time.monotonic()
        code, _, errors = run.finish(2 * multihost.SILENCE)[1 - victim]
        assert time.monotonic() - began < 2 * multihost.SILENCE
        if code == 1:
            assert errors.splitlines()[-1].startswith("error: another process is lost"), errors
        else:  # JAX was faster: it aborts where the process with the coordinator has gone, or one is silent
            assert code == -signal.SIGABRT
            assert "This most likely indicates that another task died" in errors
        assert not (folder / "result.json").exists()
    moved = {devices: shutil.copytree(folder, tmp_path / f"on_{devices}") for devices in (1, 8)}
    ended = Processes(2, 2, folder, "--config.parallel.engine=jit").finish()
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert_same_run(folder, alone)
    for devices, copy in moved.items():
        fitting.fit(override(RUN, {"parallel.devices": devices}), copy)
        assert_same_run(copy, alone)


@pytest.mark.slow
def test_processes_that_see_different_checkpoints_do_not_start(tmp_path: Path) -> None:
    """As they would in folders that they do not share: one has an epoch behind it, the other none."""
    fitting.fit(override(RUN, {"train.epochs": 1}), tmp_path / "run")
    ended = Processes(2, 1, tmp_path / "run", others=tmp_path / "elsewhere").finish()
    for code, _, errors in ended:
        assert code == 2, errors
        assert "see different options, data or checkpoints" in errors
        assert "Traceback" not in errors


def kill_in_an_epoch(process: subprocess.Popen[str], folder: Path, seconds: float) -> None:
    """So long after it has logged the next two epochs."""
    log = folder / "metrics.jsonl"

    def logged() -> int:
        return log.read_text().count("\n") if log.exists() else 0

    before = logged()
    while logged() < before + 2:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(seconds)
    process.kill()


def test_processes_that_nobody_has_started_are_not_waited_for(tmp_path: Path) -> None:
    command = [sys.executable, "launch.py", "--config", "experiments/demo.py", "--workdir", str(tmp_path / "run")]
    ended = subprocess.run(
        [*command, "--config.parallel.distributed=true"], cwd=ROOT, text=True, capture_output=True, timeout=100
    )
    assert ended.returncode == 2
    assert "parallel.coordinator=HOST:PORT" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"coordinator": "localhost:1"},
        {"distributed": True, "coordinator": "localhost:1"},
        {"distributed": True, "coordinator": "localhost:1", "num_processes": 2, "process_id": 2},
    ],
)
def test_half_an_address_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"parallel\.coordinator"):
        ParallelConfig(**options)  # type: ignore[arg-type]


def test_only_the_first_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder.multihost, "writes", lambda: False)
    with RunFolder(tmp_path / "run") as folder, folder.metrics(0, []) as log:
        folder.begin(RUN, load_configured(RUN))
        folder.write_environment({})
        folder.write_predictions([])
        folder.write_representations({})
        folder.write_result({})
        folder.remove_result()
        folder.sort_metrics()
        log.write({})
    assert not (tmp_path / "run").exists()
