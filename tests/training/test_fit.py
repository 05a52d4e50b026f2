"""A run: the same whatever interrupts it, and nobody else's is lost."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest
from samples import final_arrays, rows, tiny
from single import ONE_DEVICE
from stopping import stop_after

from cmath_jax.config import override, to_dict
from cmath_jax.data.load import load_corpus
from cmath_jax.errors import InputError, Terminated, TrainingDivergedError
from cmath_jax.training import fit as fitting
from cmath_jax.training import step, trainer
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.run_folder import RunFolder


def test_run_folder(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    """The files and the keys that users and tools rely on."""
    folder, result = undisturbed
    config = ONE_DEVICE
    corpus = load_configured(config)
    assert json.loads((folder / "config.json").read_text()) == to_dict(config)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["jax"] == jax.__version__
    assert environment["data"]["fingerprint"] == corpus.fingerprint()
    assert json.loads((folder / "result.json").read_text()) == result
    assert [*(folder / "tensorboard" / "seed_0").glob("events.*")]

    history = rows(folder)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["step"] for row in history] == [4, 8, 12]
    assert set(history[0]["train"]) >= {"loss", "ce", "reconstruction", "mse", "kl", "gradient_norm"}
    for split in ("validation", "test"):
        assert set(history[0][split]) == {"loss", "accuracy", "weighted_f1"}

    assert result["seeds"] == [0]
    assert result["classes"] == list(corpus.classes)
    best = result["validation"]["best_epoch"][0]
    validation = [row["validation"]["weighted_f1"] for row in history]
    assert validation[best - 1] == max(validation) == result["validation"]["weighted_f1"]["mean"]
    # The headline is the test score of that epoch, and the peak is only a diagnostic.
    test = [row["test"]["weighted_f1"] for row in history]
    assert result["test"]["weighted_f1"]["values"] == [test[best - 1]]
    assert result["diagnostics"]["test_peak"]["weighted_f1"]["mean"] == max(test)
    assert set(result["test"]["f1"]) == set(corpus.classes)
    assert set(result["diagnostics"]) == {"test_peak", "majority", "collapsed", "collapsed_seeds"}
    assert set(result["seconds"]) == {"compile", "train", "per_epoch"}

    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    utterances = [(c.id, i, corpus.classes[label]) for c in corpus.splits["test"] for i, label in enumerate(c.labels)]
    assert [(line["conversation"], line["utterance"], line["label"]) for line in lines] == utterances
    confusion = np.zeros((7, 7), int)
    for line in lines:
        assert sum(line["probabilities"]) == pytest.approx(1, abs=1e-4)
        assert line["prediction"] == corpus.classes[int(np.argmax(line["probabilities"]))]
        confusion[corpus.classes.index(line["label"]), corpus.classes.index(line["prediction"])] += 1
    assert result["test"]["confusion_matrix"] == confusion.tolist()


def test_a_run_is_repeatable_bit_for_bit(undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    fitting.fit(ONE_DEVICE, tmp_path)
    assert rows(tmp_path) == rows(undisturbed[0])
    chex.assert_trees_all_equal(final_arrays(tmp_path, ONE_DEVICE), final_arrays(undisturbed[0], ONE_DEVICE))
    assert (tmp_path / "predictions.jsonl").read_bytes() == (undisturbed[0] / "predictions.jsonl").read_bytes()


@pytest.mark.parametrize("after", [[1], [4, 3], pytest.param([2, 1, 4, 2], marks=pytest.mark.slow)], ids=str)
def test_sigterm_saves_and_the_rest_is_as_if_nothing_had_happened(
    after: list[int], undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after so many steps, again and again, in the middle of an epoch and at its end."""
    for steps in after:
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            with pytest.raises(Terminated):
                fitting.fit(ONE_DEVICE, tmp_path)
        assert not (tmp_path / "result.json").exists()
    fitting.fit(ONE_DEVICE, tmp_path)
    assert rows(tmp_path) == rows(undisturbed[0])
    chex.assert_trees_all_equal(final_arrays(tmp_path, ONE_DEVICE), final_arrays(undisturbed[0], ONE_DEVICE))


def test_a_finished_run_is_not_trained_again(
    undisturbed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = undisturbed
    monkeypatch.setattr(fitting, "train", lambda *_: pytest.fail("it trains"))
    again = fitting.fit(ONE_DEVICE, folder)
    assert again["test"] == result["test"]
    assert len(rows(folder)) == 3


def test_another_run_is_not_overwritten(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    folder = undisturbed[0]
    before = (folder / "config.json").read_bytes()
    with pytest.raises(InputError) as error:
        fitting.fit(tiny(model__width=16, loss__gamma1=0.5), folder)
    assert "model.width: 8 there, 16 now" in str(error.value)
    assert "loss.gamma1: 1.0 there, 0.5 now" in str(error.value)
    assert "dropout" not in str(error.value)
    assert (folder / "config.json").read_bytes() == before


def test_a_result_without_its_checkpoints_is_not_lost_to_another_run(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed[0], folder, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(InputError, match=r"holds another run.*model\.width: 8 there, 16 now"):
        fitting.fit(tiny(model__width=16), folder)
    assert (folder / "model" / "model.json").exists() and (folder / "result.json").exists()
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("model/weights.pt", "", "it holds model, but no config.json"),
        ("report.html", "", "it holds report.html, but no config.json"),
        ("config.json", '{"debug": true}', "its config.json is not that of a run"),
    ],
)
def test_files_of_somebody_else_are_left_alone(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=words):
        fitting.fit(tiny(train__epochs=1), tmp_path)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / name).read_text() == text


def test_other_data_under_the_same_config_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting.fit(tiny(train__epochs=1), tmp_path)
    other = load_corpus("simulated", simulation=tiny(data__simulation__seed=9).data.simulation)
    monkeypatch.setattr(fitting, "load_configured", lambda config: other)
    with pytest.raises(InputError, match="fingerprint of the data"):
        fitting.fit(tiny(train__epochs=1), tmp_path)


def test_one_run_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with RunFolder(tmp_path), pytest.raises(InputError, match="another run is at work"):
        fitting.fit(tiny(), tmp_path)


def test_seeds_differ_extend_and_compile_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More seeds later keep the earlier ones; all of them and all epochs go through one compiled step."""
    monkeypatch.setattr(trainer, "train_step", chex.assert_max_traces(step.train_step, n=1))
    config = tiny(train__epochs=2, parallel__devices=1, parallel__population=1)
    one = fitting.fit(config, tmp_path / "extended")
    chex.clear_trace_counter()
    three = fitting.fit(override(config, {"seeds": 3}), tmp_path / "extended")
    chex.clear_trace_counter()
    fitting.fit(override(config, {"seeds": 3}), tmp_path / "at_once")
    chex.clear_trace_counter()
    assert rows(tmp_path / "extended") == rows(tmp_path / "at_once")
    tmp_path = tmp_path / "extended"
    assert three["seeds"] == [0, 1, 2]
    assert three["test"]["accuracy"]["values"][0] == one["test"]["accuracy"]["mean"]
    assert [row["seed"] for row in rows(tmp_path)] == [0, 0, 1, 1, 2, 2]
    losses = [row["train"]["loss"] for row in rows(tmp_path) if row["epoch"] == 1]
    assert len(set(losses)) == 3
    predictions = [json.loads(line)["seed"] for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert sorted(set(predictions)) == [0, 1, 2]


@pytest.mark.slow
def test_a_run_may_move_to_other_devices(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five steps on four devices and the rest on one: as all on one, up to rounding."""
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(Terminated):
            fitting.fit(override(ONE_DEVICE, {"parallel.devices": 4}), tmp_path)
    fitting.fit(ONE_DEVICE, tmp_path)
    for moved, stayed in zip(rows(tmp_path), rows(undisturbed[0]), strict=True):
        assert moved["train"]["loss"] == pytest.approx(stayed["train"]["loss"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_each_step_is_compiled_once(devices: int, tmp_path: Path) -> None:
    """Over two epochs, two seeds and the evaluation of the restored best epoch."""
    compiled: list[str] = []

    def listen(event: str, seconds: float, **details: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(details.get("fun_name", ""))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        fitting.fit(tiny(train__epochs=2, seeds=2, parallel__devices=devices), tmp_path)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) == 3, compiled  # the initialization, the two steps, and nothing small around them


@pytest.mark.slow
def test_bfloat16_trains_and_keeps_its_parameters_in_float32(tmp_path: Path) -> None:
    config = tiny(precision="bfloat16", parallel__devices=1)
    fitting.fit(config, tmp_path)
    losses = [row["train"]["loss"] for row in rows(tmp_path)]
    assert losses == sorted(losses, reverse=True)
    state = final_arrays(tmp_path, config)[0]["state"]
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}


def test_sigterm_in_the_test_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several processes one would end, and the others wait for it."""
    real = fitting.test

    def test(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        real(*arguments)

    monkeypatch.setattr(fitting, "test", test)
    assert fitting.fit(tiny(train__epochs=1, parallel__devices=1), tmp_path / "run")["test"]


def test_all_seeds_may_fail(tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError):
        fitting.fit(tiny(seeds=2, optim__learning_rate=1e38, parallel__devices=1), tmp_path / "run")
