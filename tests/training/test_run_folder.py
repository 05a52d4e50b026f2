"""What a run leaves behind, and what survives in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from cmath_jax.training.run_folder import RunFolder


def row(seed: int, epoch: int) -> dict[str, Any]:
    scores = {"loss": 1.0, "accuracy": 50.0, "weighted_f1": 40.0 + epoch}
    return {
        "seed": seed, "epoch": epoch, "step": 10 * epoch, "train": {"loss": 2.0},
        "validation": scores, "test": scores, "seconds": 1.5,
    }  # fmt: skip


def test_a_log_goes_on_from_what_was_saved(tmp_path: Path) -> None:
    """Rows that no checkpoint holds go, half a line goes, the rows of other seeds stay."""
    with RunFolder(tmp_path) as folder:
        with folder.metrics(0, []) as log:
            log.write(row(0, 1))
            log.write(row(0, 2))
        with folder.metrics(1, []) as log:
            log.write(row(1, 1))
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write('{"seed": 1, "epo')
        with folder.metrics(0, [row(0, 1)]) as log:
            log.write(row(0, 2))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    kept = sorted((r["seed"], r["epoch"]) for r in map(json.loads, lines))
    assert kept == [(0, 1), (0, 2), (1, 1)]
    assert sorted(path.name for path in (tmp_path / "tensorboard").iterdir()) == ["seed_0", "seed_1"]


def test_no_half_file_and_no_nan(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        folder.write_result({"a": 1.0})
        with pytest.raises(ValueError, match="not JSON compliant"):
            folder.write_result({"a": float("nan")})
        assert json.loads((tmp_path / "result.json").read_text()) == {"a": 1.0}
        folder.remove_result()
        folder.remove_result()
    assert not (tmp_path / "result.json").exists()
