"""Many runs as one trainer: each member is the run that it would have been alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from samples import rows, tiny
from single import ONE_DEVICE
from stopping import stop_after

from cmath_jax.config import Config, override, structure
from cmath_jax.errors import InputError, Terminated, TrainingDivergedError
from cmath_jax.io.termination import Termination
from cmath_jax.results.summary import References
from cmath_jax.training import fit as fitting
from cmath_jax.training import grouping
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.run_folder import RunFolder
from cmath_jax.training.trainer import Trainer
from cmath_jax.training.trial import Trial

# Everything in which the members of one trainer may differ.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "seeds": {"seeds": 2},
    "settings": {"optim.learning_rate": 3e-3, "model.dropout": 0.4, "loss.gamma1": 0.3, "loss.gamma2": 2.0},
    "switches": {"loss.reconstruction": 0.0, "loss.gamma1": 0.0, "loss.gamma2": 0.0, "loss.class_weights": True},
    "teacher": {"loss.stop_teacher": False, "loss.temperature": 2.0},
}
BASE = tiny(
    parallel__population=8,
    optim__average=0.9,
    optim__schedule="cosine",
    optim__clip_norm=1.0,
    train__patience=0,
    train__epochs=2,
)


def variants(**options: Any) -> dict[str, Config]:
    base = override(BASE, {name.replace("__", "."): value for name, value in options.items()})
    return {name: override(base, {"experiment": name, **change}) for name, change in VARIANTS.items()}


def train_together(configs: dict[str, Config], folder: Path) -> list[Any]:
    corpus = load_configured(BASE)
    folders = {name: RunFolder(folder / name) for name in configs}
    for run in folders.values():
        run.__enter__()
    try:
        with Termination() as termination:
            runs = [(config, folders[name]) for name, config in configs.items()]
            return fitting.fit_runs(runs, corpus, References(corpus), termination)
    finally:
        for run in folders.values():
            run.__exit__(None, None, None)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    for name, config in variants(parallel__devices=1, parallel__population=1).items():
        fitting.fit(config, folder / name)
    return folder


def assert_same_runs(ours: Path, theirs: Path, tolerance: float) -> None:
    for name in VARIANTS:
        key = lambda row: (row["seed"], row["epoch"])  # noqa: E731
        pairs = zip(sorted(rows(ours / name), key=key), sorted(rows(theirs / name), key=key), strict=True)
        for one, other in pairs:
            assert {**one, "train": 0, "validation": 0, "test": 0} == {**other, "train": 0, "validation": 0, "test": 0}
            for split in ("train", "validation", "test"):
                assert one[split] == pytest.approx(other[split], rel=tolerance), (name, split)
    assert (
        len({row["train"]["loss"] for name in VARIANTS for row in rows(ours / name)}) == 10
    )  # 6 runs, of which two are the same


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_a_trial_is_the_run_alone(devices: int, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds, rates, dropout and losses of every kind in one trainer, on one device and spread over four."""
    made: list[Trainer] = []
    real = Trainer.of.__func__  # type: ignore[attr-defined]

    def of(config: Config, corpus: Any, trials: int = 1) -> Trainer:
        made.append(real(Trainer, config, corpus, trials))
        return made[-1]

    monkeypatch.setattr(grouping.Trainer, "of", of)
    train_together(variants(parallel__devices=devices), tmp_path)
    (trainer,) = made
    assert trainer.devices.trials == 6
    assert len(trainer.devices.devices) == devices
    assert_same_runs(tmp_path, alone, tolerance=2e-3)
    if devices > 1:
        (executable,) = trainer.train_steps._executables.values()
        text = executable.as_text()
        for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
            assert collective not in text


def test_what_may_differ_shares_a_program_and_nothing_else_does() -> None:
    assert len({structure(config) for config in variants().values()}) == 1
    for name, value in {
        "model.dropout": 0.0,
        "model.width": 10,
        "data.modalities": "t",
        "model.noise": False,
        "optim.clip_norm": 2.0,
        "train.patience": 3,
        "precision": "bfloat16",
    }.items():
        assert structure(override(BASE, {name: value})) != structure(BASE), name


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_interrupted_and_resumed(devices: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of an epoch and at its end: bit for bit as if nothing had happened."""
    config = override(BASE, {"seeds": 3, "train.epochs": 3, "parallel.devices": devices})
    fitting.fit(config, tmp_path / "undisturbed")
    for steps in (2, 3, 1):
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            with pytest.raises(Terminated):
                fitting.fit(config, tmp_path / "stopped")
    fitting.fit(config, tmp_path / "stopped")
    for seed in range(3):
        ours, theirs = (
            [row for row in rows(tmp_path / name) if row["seed"] == seed] for name in ("stopped", "undisturbed")
        )
        assert ours == theirs
    for name in ("predictions.jsonl", "representations.npz"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


@pytest.mark.slow
def test_trials_scattered_by_a_kill_find_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are saved in the middle of an epoch, the others only at its beginning."""
    config = override(BASE, {"seeds": 3, "parallel.devices": 1})
    fitting.fit(config, tmp_path / "undisturbed")
    saved: list[int] = []
    real = Trial.save

    def save(self: Trial, *arguments: Any, **best: Any) -> None:
        saved.append(self.seed)
        if len(saved) == 2:
            raise KeyboardInterrupt  # the first has saved its middle of an epoch, the others have nothing
        real(self, *arguments, **best)

    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        patch.setattr(Trial, "save", save)
        with pytest.raises(KeyboardInterrupt):
            fitting.fit(config, tmp_path / "killed")
    sizes: list[int] = []
    train = fitting.train

    def counted(trainer: Trainer, trials: Any, termination: Any) -> None:
        sizes.append(len(trials))
        train(trainer, trials, termination)

    monkeypatch.setattr(fitting, "train", counted)
    fitting.fit(config, tmp_path / "killed")
    assert sizes == [1, 2]  # those that are at the same step go together again
    for ours, theirs in zip(
        sorted(rows(tmp_path / "killed"), key=lambda row: (row["seed"], row["epoch"])),
        sorted(rows(tmp_path / "undisturbed"), key=lambda row: (row["seed"], row["epoch"])),
        strict=True,
    ):
        assert ours["train"] == pytest.approx(theirs["train"], rel=2e-3)
        assert (ours["epoch"], ours["step"]) == (theirs["epoch"], theirs["step"])


@pytest.mark.slow
def test_early_stopping_is_each_trials_own(tmp_path: Path) -> None:
    """Trials that stop leave the others to a smaller group; each has the epochs that it would have alone."""
    options = {"seeds": 4, "train.epochs": 8, "train.patience": 2, "optim.schedule": "constant", "parallel.devices": 1}
    config = override(BASE, options)
    fitting.fit(config, tmp_path / "together")
    fitting.fit(override(config, {"parallel.population": 1}), tmp_path / "alone")
    epochs = {
        name: [len([row for row in rows(tmp_path / name) if row["seed"] == seed]) for seed in range(4)]
        for name in ("together", "alone")
    }
    assert epochs["together"] == epochs["alone"]
    assert len(set(epochs["alone"])) > 1  # or it would show nothing


@pytest.mark.slow
def test_a_run_that_diverges_leaves_the_others_alone(alone: Path, tmp_path: Path) -> None:
    configs = variants(parallel__devices=1)
    configs["plain"] = override(configs["plain"], {"optim.learning_rate": 1e38})
    outcomes = dict(zip(configs, train_together(configs, tmp_path), strict=True))
    assert isinstance(outcomes["plain"], TrainingDivergedError)
    assert str(outcomes["plain"]).startswith("plain, seed 0, epoch 1, step 2: the loss is")
    assert not (tmp_path / "plain" / "result.json").exists()
    for name in ("seeds", "settings", "switches", "teacher"):
        assert outcomes[name]["test"]["accuracy"]["mean"] >= 0
        ours, theirs = ([row["train"]["loss"] for row in rows(folder / name)] for folder in (tmp_path, alone))
        assert sorted(ours) == pytest.approx(sorted(theirs), rel=1e-4)


@pytest.mark.slow
def test_a_population_that_would_not_fit_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, config = load_configured(BASE), override(BASE, {"parallel.devices": 1})
    sizes = {members: grouping.memory_needed(Trainer.of(config, corpus, members)) for members in (2, 3)}
    state = jax.eval_shape(Trainer.of(config, corpus).initialize, 0)
    of_state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    for members, size in sizes.items():
        assert members * of_state < size < members * of_state + 64e6
    monkeypatch.setattr(grouping, "free_memory", lambda devices: (sizes[2] + sizes[3]) / 2 / grouping.SHARE)
    assert grouping.make_trainer(config, corpus, 3).devices.trials == 2
    monkeypatch.setattr(grouping, "free_memory", lambda devices: 0)
    assert grouping.make_trainer(config, corpus, 2).devices.trials == 1
    # Nobody is forgotten: 3 in groups of 2.
    monkeypatch.setattr(grouping, "free_memory", lambda devices: (sizes[2] + sizes[3]) / 2 / grouping.SHARE)
    result = fitting.fit(override(config, {"seeds": 3}), tmp_path)
    assert result["seeds"] == [0, 1, 2]
    assert len(rows(tmp_path)) == 6
    assert np.unique([row["train"]["loss"] for row in rows(tmp_path)]).size == 6


def test_the_option_limits_the_population(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "memory_needed", lambda trainer: 0)
    corpus = load_configured(BASE)
    for limit, members in {1: 1, 2: 2, 3: 3, 4: 3}.items():  # 6 in groups of 4 and 2 would leave the last half empty
        assert (
            grouping.make_trainer(override(BASE, {"parallel.population": limit}), corpus, 6).devices.trials == members
        )
    # By itself a processor takes one after another, and anything else as many as memory holds.
    free = override(BASE, {"parallel.population": 0})
    assert grouping.make_trainer(free, corpus, 6).devices.trials == 1


def test_a_full_disk_is_seen_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping.shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(InputError, match=r"checkpoints of 2 runs need up to [0-9.]+ kB, and there are 10.0 kB"):
        fitting.fit(override(BASE, {"seeds": 2}), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_checkpoints_that_are_there_need_no_more_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = grouping.make_trainer(ONE_DEVICE, load_configured(ONE_DEVICE), 1)
    model = sum(x.nbytes for x in jax.tree.leaves(made.initialize(0).params))
    monkeypatch.setattr(grouping.shutil, "disk_usage", lambda _: SimpleNamespace(free=model))
    trial: Any = SimpleNamespace(folder=RunFolder(tmp_path), seed=0)
    monkeypatch.setattr(RunFolder, "steps_saved", lambda _, seed: [4, 8] if seed == 0 else [])
    grouping.check_disk(made, [trial])
    trial.seed = 1  # of which nothing is saved
    with pytest.raises(InputError, match="left on the disk"):
        grouping.check_disk(made, [trial])
