"""What is saved while training goes on, and what is left of a checkpoint that was being deleted."""

import copy
import shutil
from pathlib import Path
from typing import Any

import chex
import numpy as np
import pytest
from samples import final_arrays, rows
from single import ONE_DEVICE
from stopping import stop_after

from cmath_jax.config import override
from cmath_jax.errors import InputError, Terminated
from cmath_jax.training import fit as fitting
from cmath_jax.training.checkpoint import Checkpoints


@pytest.mark.slow
def test_remains_of_a_deleted_checkpoint_do_no_harm(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while an old checkpoint was being deleted: some of its files are left, under its final name."""
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        with pytest.raises(Terminated):
            fitting.fit(ONE_DEVICE, tmp_path)
    folder = tmp_path / "checkpoints" / "seed_0"
    (folder / "1").mkdir()
    shutil.copytree(folder / "8", folder / "2")
    for path in sorted((folder / "2").rglob("*"))[::2]:
        if path.is_file():
            path.unlink()
    shutil.rmtree(folder / "2" / "metrics", ignore_errors=True)
    fitting.fit(ONE_DEVICE, tmp_path)
    assert rows(tmp_path) == rows(undisturbed[0])
    chex.assert_trees_all_equal(final_arrays(tmp_path, ONE_DEVICE), final_arrays(undisturbed[0], ONE_DEVICE))


@pytest.mark.slow
def test_what_is_being_saved_does_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is written while the next epoch is already trained."""
    saved: list[tuple[Any, Any]] = []
    real = Checkpoints.save

    def save(self: Checkpoints, step: int, arrays: Any, record: Any, best: float | None) -> None:
        saved.append((copy.deepcopy((arrays, record)), (arrays, record)))
        real(self, step, arrays, record, best)

    monkeypatch.setattr(Checkpoints, "save", save)
    fitting.fit(override(ONE_DEVICE, {"seeds": 2, "parallel.population": 2}), tmp_path)
    assert len(saved) == 6
    for (arrays, record), (arrays_now, record_now) in saved:
        assert record == record_now
        assert record["sums"] == {}
        chex.assert_trees_all_equal(arrays, arrays_now)


def test_a_checkpoint_of_another_optimizer_is_told(tmp_path: Path) -> None:
    """An earlier version kept other moments; no option of the config says so."""
    earlier, now = {"moments": {"rates": np.zeros(2)}}, {"moments": (np.zeros(2), np.zeros(2))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, earlier, {}, 0.5)
    with Checkpoints(tmp_path) as checkpoints:
        for read in (checkpoints.latest, checkpoints.best):
            with pytest.raises(InputError, match=r"its checkpoints are of an earlier version, .* another --workdir$"):
                read(now)
        chex.assert_trees_all_equal(checkpoints.latest(earlier), earlier)
