"""Trials side by side, spread over several processes: as one process would train them, and written by the first."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from samples import rows, tiny

from cmath_jax.config import override, to_dict
from cmath_jax.training import fit as fitting
from cmath_jax.training.checkpoint import Checkpoints
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
RUN = tiny(
    seeds=3, data__simulation__train=40, optim__average=0.9, train__batch_size=4, train__epochs=12, train__patience=0
)
EPOCHS = RUN.seeds * RUN.train.epochs


def start(folder: Path, devices: int, *options: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder.with_suffix(".json")
    config.write_text(json.dumps(to_dict(RUN)))
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "jax"),
    }
    told = {"distributed": "true", "coordinator": f"127.0.0.1:{port}", "num_processes": 2, "population": 2}
    return [
        subprocess.Popen(
            [
                *(sys.executable, "launch.py", "--config", str(config), "--workdir", str(folder), *options),
                *(f"--config.parallel.{name}={value}" for name, value in {**told, "process_id": i}.items()),
            ],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    fitting.fit(override(RUN, {"parallel.devices": 1}), folder)
    return folder


def params_of(folder: Path) -> list[np.ndarray]:
    """Of the latest checkpoint of every seed."""
    trainer = Trainer.of(override(RUN, {"parallel.devices": 1}), load_configured(RUN))
    leaves = []
    for seed in range(RUN.seeds):
        with Checkpoints(folder / "checkpoints" / f"seed_{seed}") as checkpoints:
            leaves += jax.tree.leaves(checkpoints.latest(trainer.saved_like())["state"].params)
    return leaves


def assert_same(folder: Path, other: Path) -> None:
    ours, theirs = ([row["train"]["loss"] for row in rows(each)] for each in (folder, other))
    assert len(ours) == EPOCHS
    assert ours == pytest.approx(theirs, rel=1e-4)
    for mine, yours in zip(params_of(folder), params_of(other), strict=True):
        np.testing.assert_allclose(mine, yours, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_two_processes_share_a_population(alone: Path, tmp_path: Path, devices: int) -> None:
    """Three seeds, two at once: each process trains one of them, on all of its devices; only the first writes."""
    folder = tmp_path / "run"
    ended = finish(start(folder, devices))
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "F1" in ended[0][1] and "F1" not in ended[1][1] + ended[1][2]
    assert_same(folder, alone)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_population_of_two_processes_goes_on(alone: Path, tmp_path: Path, kind: int) -> None:
    folder = tmp_path / "run"
    processes = start(folder, 1)
    log = folder / "metrics.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= 3):
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.005)
    processes[1].send_signal(kind)  # one alone: the other has to notice
    ended = finish(processes)
    if kind == signal.SIGTERM:
        assert [code for code, _, _ in ended] == [0, 0], ended
        assert ["goes on from there" in errors for _, _, errors in ended] == [True, True]
    else:
        assert ended[0][0] in (1, -signal.SIGABRT), ended
    assert not (folder / "result.json").exists()
    ended = finish(start(folder, 1))
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert_same(folder, alone)
