"""Training by a curriculum: epochs of different numbers of steps, and all that holds for epochs of the same."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chex
import numpy as np
import pytest
from samples import final_arrays, rows, tiny
from stopping import stop_after

from cmath_jax.data.prepared import streaming
from cmath_jax.errors import InputError, Terminated
from cmath_jax.training import fit as fitting
from cmath_jax.training import step, trainer
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.grouping import next_group
from cmath_jax.training.optim import schedule
from cmath_jax.training.trainer import Trainer

# 11 conversations in batches of 3: buckets of 3 are epochs of 1, 2, 3, 4, 4 steps.
OPTIONS = {"train__curriculum": 4, "train__epochs": 5, "optim__schedule": "cosine", "optim__warmup_epochs": 1.5}
CONFIG = tiny(**OPTIONS, parallel__devices=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    fitting.fit(CONFIG, folder)
    return folder


@pytest.mark.slow
def test_epochs_have_their_own_numbers_of_steps(whole: Path) -> None:
    assert [row["step"] for row in rows(whole)] == [1, 3, 6, 10, 14]
    state = final_arrays(whole, CONFIG)[0]["state"]
    assert int(state.step) == 14
    # Means over the steps of an epoch: a sum over few of them that is divided by many would be near 0.
    losses = [row["train"]["loss"] for row in rows(whole)]
    assert min(losses) > 0.5 * max(losses)


def test_the_schedule_goes_over_the_true_number_of_steps() -> None:
    batches = Trainer.of(CONFIG, load_configured(CONFIG)).batches
    share = schedule(CONFIG.optim, batches.steps_before, 5)
    rates = np.array([float(share(step)) for step in range(15)])
    np.testing.assert_allclose(rates[:3], [0.5, 0.75, 1], atol=1e-6)  # an epoch and a half are 2 steps
    assert rates[13] > 1e-3 and rates[14] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("after", [[2], [1, 1, 3], [5, 4, 2]], ids=str)
def test_an_interruption_changes_nothing(
    after: list[int], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of short epochs and of long ones, and at their ends: bit for bit."""
    for steps in after:
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            with pytest.raises(Terminated):
                fitting.fit(CONFIG, tmp_path)
    fitting.fit(CONFIG, tmp_path)
    assert rows(tmp_path) == rows(whole)
    chex.assert_trees_all_equal(final_arrays(tmp_path, CONFIG), final_arrays(whole, CONFIG))


@pytest.mark.slow
def test_an_interrupted_stream_comes_to_the_same(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 3000)  # several chunks an epoch
    config = tiny(**OPTIONS, parallel__devices=1, data__stream=True, data__prepared_dir=str(tmp_path / "prepared"))
    fitting.fit(config, tmp_path / "whole")
    for steps in (2, 5):
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            with pytest.raises(Terminated):
                fitting.fit(config, tmp_path / "cut")
    fitting.fit(config, tmp_path / "cut")
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")
    chex.assert_trees_all_equal(*(final_arrays(tmp_path / name, config) for name in ("whole", "cut")))
    for streamed, resident in zip(rows(tmp_path / "cut"), rows(whole), strict=True):
        assert streamed["train"]["loss"] == pytest.approx(resident["train"]["loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"parallel__devices": 2}, {"parallel__devices": 2, "parallel__engine": "pmap"}])
def test_devices_change_nothing(options: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    fitting.fit(tiny(**OPTIONS, **options), tmp_path)
    for ours, theirs in zip(rows(tmp_path), rows(whole), strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["train"]["loss"] == pytest.approx(theirs["train"]["loss"], rel=1e-3)


@pytest.mark.slow
def test_one_compiled_step_serves_all_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "train_step", chex.assert_max_traces(step.train_step, n=1))
    made: list[Trainer] = []
    real = fitting.make_trainer
    monkeypatch.setattr(fitting, "make_trainer", lambda *given: made.append(real(*given)) or made[-1])
    fitting.fit(CONFIG, tmp_path)
    chex.clear_trace_counter()
    (only,) = made
    assert len(only.train_steps._executables) == 1


@pytest.mark.slow
def test_trials_that_stop_earlier_leave_the_others_alone(tmp_path: Path) -> None:
    """They stop in epochs of fewer steps than those that the others go on to."""
    options = {
        **OPTIONS,
        **{"train__curriculum": 11, "train__epochs": 8, "train__patience": 2, "optim__schedule": "constant"},
        **{"seeds": 4, "parallel__devices": 1, "data__prepared_dir": str(tmp_path / "prepared")},
    }
    fitting.fit(tiny(**options, data__stream=True, parallel__population=4), tmp_path / "together")
    fitting.fit(tiny(**options, parallel__population=1), tmp_path / "alone")
    ours, theirs = (
        sorted(rows(tmp_path / name), key=lambda row: (row["seed"], row["epoch"])) for name in ("together", "alone")
    )
    places = [[(row["seed"], row["epoch"], row["step"]) for row in each] for each in (ours, theirs)]
    assert places[0] == places[1]
    last = [max(epoch for seed, epoch, _ in places[0] if seed == wanted) for wanted in range(4)]
    assert len(set(last)) > 1  # or it would show nothing
    for one, other in zip(ours, theirs, strict=True):
        assert one["train"]["loss"] == pytest.approx(other["train"]["loss"], rel=2e-3)


def test_only_trials_whose_epochs_have_equally_many_steps_go_together() -> None:
    batches = Trainer.of(CONFIG, load_configured(CONFIG)).batches

    def trial(epoch: int, into: int) -> Any:
        return SimpleNamespace(history=[{}] * epoch, done=batches.steps_before(epoch) + into)

    first, second, third = trial(0, 0), trial(1, 0), trial(2, 0)
    assert next_group([first, second, third, trial(0, 0)], batches, 4) == [first, trial(0, 0)]
    # From the fourth epoch on all conversations are known.
    whole = [trial(3, 0), trial(7, 0), trial(4, 0)]
    assert next_group([*whole, trial(3, 1), second], batches, 4) == whole
    assert next_group(whole, batches, 2) == whole[:2]


def test_a_negative_curriculum_is_refused() -> None:
    with pytest.raises(InputError, match=r"^train\.curriculum=-1 must not be negative$"):
        tiny(train__curriculum=-1)
