"""The step and the loop: the same whatever interrupts them, and honest about what they selected."""

import copy
import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samples import final_arrays, rows, tiny
from stopping import stop_after

from cmath_jax.config import override, to_dict
from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import SPLITS
from cmath_jax.data.load import load_corpus
from cmath_jax.errors import InputError, Terminated, TrainingDivergedError
from cmath_jax.models.registry import make_model
from cmath_jax.training import epoch, step, trainer
from cmath_jax.training import fit as fitting
from cmath_jax.training.checkpoint import Checkpoints
from cmath_jax.training.devices import Jit, Pmap, host_copy, make_engine
from cmath_jax.training.losses import LossWeights, loss_terms, total_loss
from cmath_jax.training.run_folder import RunFolder
from cmath_jax.training.trainer import Program
from cmath_jax.training.trial import finished

# With everything that has a state of its own: averages, a schedule, clipping.
ONE_DEVICE = tiny(
    parallel__devices=1, optim__average=0.9, optim__schedule="cosine", optim__warmup_epochs=0.5, optim__clip_norm=1.0
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, fitting.fit(ONE_DEVICE, folder)


def test_run_folder(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    """The files and the keys that users and tools rely on."""
    folder, result = undisturbed
    config = ONE_DEVICE
    corpus = fitting.load_configured(config)
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


@pytest.mark.parametrize("after", [[1], [4, 3], [2, 1, 4, 2]], ids=str)
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
    monkeypatch.setattr(fitting, "train_epoch", lambda *_: pytest.fail("it trains"))
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


def test_checkpoints_that_are_there_need_no_more_room(
    undisturbed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fitting.make_program(ONE_DEVICE, fitting.load_configured(ONE_DEVICE), 1)
    model = sum(x.nbytes for x in jax.tree.leaves(made.initialize(0).params))
    monkeypatch.setattr(fitting.shutil, "disk_usage", lambda _: SimpleNamespace(free=model))
    member = SimpleNamespace(folder=RunFolder(undisturbed[0]), seed=0)
    monkeypatch.setattr(RunFolder, "steps_saved", lambda _, seed: [4, 8] if seed == 0 else [])
    fitting.check_room(made, member.folder, [member])
    member.seed = 1  # of which nothing is saved
    with pytest.raises(InputError, match="left on the disk"):
        fitting.check_room(made, member.folder, [member])


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


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(state: step.TrainState, batch: Batch, *others: Any, **options: Any) -> Any:
        a_rld = jnp.where((state.step == 6) & (batch.segment_rl > 0)[..., None], jnp.inf, batch.features["a"])
        return step.train_step(state, replace(batch, features={**batch.features, "a": a_rld}), *others, **options)

    monkeypatch.setattr(trainer, "train_step", poisoned)
    config = ONE_DEVICE
    with pytest.raises(TrainingDivergedError) as error:
        fitting.fit(config, tmp_path)
    made = Program.of(config, fitting.load_configured(config))
    for word in ("epoch 2", "step 7", *made.batches.conversations(1, 2)):
        assert word in str(error.value)
    latest, _ = final_arrays(tmp_path, config)
    assert int(latest["state"].step) == 4
    chex.assert_tree_all_finite(latest["state"].params)


def test_early_stopping_and_the_first_of_equals() -> None:
    def history(*scores: float) -> list[dict[str, Any]]:
        return [{"validation": {"weighted_f1": score}} for score in scores]

    config = tiny(train__epochs=9, train__patience=2)
    assert not finished([], config)
    assert not finished(history(1, 3, 3), config)
    assert finished(history(1, 3, 3, 2), config)
    assert finished(history(*range(9)), config)
    assert not finished(history(5, 1, 1, 1, 1), tiny(train__epochs=9, train__patience=0))


@pytest.mark.parametrize(("engine", "average"), [("pmap", 0.0), ("jit", 0.9)])
def test_a_step_on_many_devices_is_a_step_on_one(engine: str, average: float) -> None:
    """Same losses and same state after three steps, with dropout and noise, when the batch does not divide."""
    corpus = fitting.load_configured(tiny())
    options = {"parallel__engine": engine, "optim__average": average, "loss__class_weights": True}
    results = {}
    for devices in (1, 2, 4, 8):
        # Batches of three conversations: on four devices and more some of them have nothing but padding.
        made = Program.of(tiny(parallel__devices=devices, **options), corpus)
        state, settings = made.engine.put([host_copy(made.initialize(0))]), made.settings([made.config])
        plan = made.engine.put_steps([made.batches.plan(0)])
        with jax.transfer_guard("disallow"):
            state, _ = made.advance(state, plan, settings, 0, 1)
            state, metrics = made.advance(state, plan, settings, 1, 3)
            losses = made.engine.get_metrics(metrics)
        probability_nc = made.probabilities(state.evaluated, "test")[0]
        _, scores = made.score("test", probability_nc)
        results[devices] = losses, made.engine.get(state)[0], probability_nc, scores["loss"]
    for devices in (2, 4, 8):
        for ours, theirs in zip(results[devices], results[1], strict=True):
            chex.assert_trees_all_close(ours, theirs, rtol=2e-5, atol=2e-5)


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


def test_too_many_devices_are_refused() -> None:
    with pytest.raises(InputError, match="but there are 8"):
        make_engine(tiny(parallel__devices=9).parallel, 3)
    assert len(make_engine(tiny().parallel, 16).devices) == 8
    assert len(make_engine(tiny().parallel, 3).devices) == 3  # a fourth would have nothing but padding
    assert isinstance(make_engine(tiny().parallel, 16), Pmap)
    assert isinstance(make_engine(tiny(parallel__devices=1).parallel, 16), Jit)
    assert isinstance(make_engine(tiny(parallel__engine="jit").parallel, 16), Jit)
    assert isinstance(make_engine(tiny(parallel__engine="pmap", parallel__devices=1).parallel, 16), Pmap)


def test_random_streams_are_addressed() -> None:
    keys = [step.stream(jnp.int32(s), n, t) for s, n, t in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]]
    assert len({bytes(np.asarray(jax.random.key_data(key))) for key in keys}) == 4
    np.testing.assert_array_equal(jax.random.key_data(step.stream(jnp.int32(0), "a", 0)), jax.random.key_data(keys[0]))


def test_the_average_follows_the_parameters() -> None:
    """By the weights of `optim.average`, from the first step on, and without the initial ones."""
    config = tiny(optim__average=0.7, parallel__devices=1)
    made = Program.of(config, fitting.load_configured(config))
    state = made.initialize(0)
    plan = made.engine.put_steps([made.batches.plan(0)])
    passed: list[Any] = []
    for number in range(3):
        state, _ = made.advance(state, plan, made.settings([config]), number, number + 1)
        passed.append(jax.tree.map(np.array, state.params))
        weights = 0.7 ** np.arange(len(passed))[::-1]
        expected = jax.tree.map(lambda *x, w=weights: sum(w * x for w, x in zip(w / w.sum(), x, strict=True)), *passed)
        chex.assert_trees_all_close(state.average, expected, rtol=1e-5, atol=1e-6)
    assert state.evaluated is state.average


def test_a_step_is_adam_on_the_loss_of_the_reference_tests() -> None:
    """The loss and its gradient are those that test_model.py compares with the reference; the rest is optax."""
    config = tiny(parallel__devices=1, loss__gamma1=0.7, loss__class_weights=True, optim__clip_norm=1.0)
    corpus = fitting.load_configured(config)
    made = Program.of(config, corpus)
    state = made.initialize(0)
    params = jax.tree.map(jnp.copy, state.params)
    batch = next(made.batches.epoch(0))
    rngs = {name: step.stream(jnp.int32(0), name, 0) for name in ("dropout", "noise")}

    weights = LossWeights.of(config.loss, trainer.class_weights(corpus))

    def loss_of(params: Any) -> jax.Array:
        model = make_model(config.model, corpus, config.data.modalities, config.precision)
        outputs = model.apply({"params": params}, batch, train=True, rngs=rngs)
        terms = {name: term.value() for name, term in loss_terms(outputs, batch, weights).items()}
        return total_loss(terms, weights)

    loss, grads = jax.jit(jax.value_and_grad(loss_of))(params)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.optim.learning_rate))
    updates, _ = tx.update(grads, tx.init(params), params)
    plan = made.engine.put_steps([made.batches.plan(0)])
    state, metrics = made.advance(state, plan, made.settings([config]), 0, 1)
    assert float(metrics["loss"][0]) == pytest.approx(float(loss), rel=1e-5)
    assert float(metrics["gradient_norm"][0]) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-4)
    chex.assert_trees_all_close(state.params, optax.apply_updates(params, updates), rtol=1e-4, atol=1e-4)


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


def test_parameters_that_are_not_finite_have_no_score() -> None:
    made = Program.of(ONE_DEVICE, fitting.load_configured(ONE_DEVICE))
    params = jax.tree.map(lambda x: x * np.nan, made.initialize(0).params)
    with pytest.raises(TrainingDivergedError, match="no longer finite"):
        made.score("validation", made.probabilities(params, "validation")[0])


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


def test_bfloat16_trains_and_keeps_its_parameters_in_float32(tmp_path: Path) -> None:
    config = tiny(precision="bfloat16", parallel__devices=1)
    fitting.fit(config, tmp_path)
    losses = [row["train"]["loss"] for row in rows(tmp_path)]
    assert losses == sorted(losses, reverse=True)
    state = final_arrays(tmp_path, config)[0]["state"]
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_without_labels_is_refused_at_the_door(split: str) -> None:
    corpus = load_corpus("simulated", simulation=tiny().data.simulation)
    for conversation in corpus.splits[split]:
        conversation.labels[:] = -1
    with pytest.raises(InputError, match=f"{split} split of simulated has no labelled utterance"):
        Program.of(tiny(), corpus)


def test_class_weights_are_inverse_frequencies_of_training() -> None:
    corpus = fitting.load_configured(tiny())
    weights, counts = trainer.class_weights(corpus), corpus.class_counts("train")
    there = counts > 0
    np.testing.assert_allclose((weights * counts)[there], counts.sum() / len(counts), rtol=1e-5)


def test_missing_modalities_are_refused() -> None:
    corpus = load_corpus("simulated", simulation=tiny().data.simulation)
    for split in SPLITS:
        for conversation in corpus.splits[split]:
            del conversation.features["a"]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="has only"):
        Program.of(tiny(), corpus)


def test_a_profile_is_a_trace_of_some_steps(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With names for the parts of the model; and the run is what it is without."""
    monkeypatch.setattr(epoch, "TRACED", 2)
    fitting.fit(override(ONE_DEVICE, {"profile": "steps"}), tmp_path)
    (trace,) = (tmp_path / "profile").rglob("perfetto_trace.json.gz")
    assert json.loads(gzip.decompress(trace.read_bytes()))
    (measured,) = (tmp_path / "profile").rglob("*.xplane.pb")
    for name in (b"fusion", b"optimizer", b"losses"):
        assert name in measured.read_bytes()
    assert rows(tmp_path) == rows(undisturbed[0])
    with pytest.raises(InputError, match="profile='epochs'"):
        override(ONE_DEVICE, {"profile": "epochs"})
