"""What a search draws, where it keeps it, and the budgets and spaces that there are not."""

import importlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tuning import BASE, SPACE, TUNE, tuned

from cmath_jax.config import Config, override
from cmath_jax.errors import InputError
from cmath_jax.models.options import MODELS, model_named
from cmath_jax.models.options.space import Dimension
from cmath_jax.sweeps import sampling
from cmath_jax.sweeps.experiment import Tuning, load
from cmath_jax.sweeps.sampling import Searched, draw, store
from cmath_jax.sweeps.shards import Shard
from cmath_jax.sweeps.sweep import run_sweep


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 1001}, "seeds=1001"),
        ({"train.patience": 3}, "train.patience=0"),
        ({"parallel.distributed": True}, "--shard"),
    ],
)
def test_what_a_search_cannot_have_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_sweep(tuned(base=override(BASE, options)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_optuna_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError("No module named 'optuna'")

    monkeypatch.setattr(sampling.importlib, "import_module", missing)
    with pytest.raises(InputError, match=r'pip install "cmath_jax\[tune\]" .*-r requirements-tune\.txt'):
        run_sweep(tuned(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("budget", "message"),
    [({"trials": 0}, "trials=0"), ({"halvings": -1}, "halvings=-1"), ({"sampler": "grid"}, "sampler.*random, tpe")],
)
def test_a_budget_that_is_none_is_refused(budget: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tuning(("cmath",), **budget)


def test_a_draw_is_a_function_of_its_number() -> None:
    def drawn(number: int, address: str = "0 cmath") -> dict[str, Any]:
        return draw(SPACE, "random", address, number, [])

    assert drawn(3) == drawn(3)
    assert len({str(drawn(number)) for number in range(8)}) == 8
    assert drawn(3) != drawn(3, "1 cmath") != drawn(3, "0 sdt")


def test_what_is_given_is_not_drawn() -> None:
    experiment = load(TUNE, {"model.name": "cmath,sdt", "optim.learning_rate": "1e-3", "loss.gamma1": "0.5"})
    points = experiment.sections[0].points
    assert points["cmath"]["optim.learning_rate"] == points["sdt"]["optim.learning_rate"] == 1e-3
    assert points["cmath"]["loss.gamma1"] == 0.5
    assert experiment.runs["main_results", "cmath"][1].loss.gamma1 == 0.5


def test_tpe_learns_from_the_trials_that_are_done() -> None:
    def last(scores: Callable[[int], float]) -> dict[str, Any]:
        done: list[Searched] = []
        for number in range(12):
            options = draw(SPACE, "tpe", "0 cmath", number, done)
            state = "stopped" if number % 3 else "complete"
            done.append(Searched(number, options, [scores(number)], state, 0.0, 0.0))
        return draw(SPACE, "tpe", "0 cmath", 12, done)

    assert last(lambda number: number) != last(lambda number: -number)


@pytest.mark.parametrize(
    ("said", "code"), [("database or disk is full", 28), ("attempt to write a readonly database", 30)]
)
def test_a_storage_that_cannot_be_written_is_no_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, code: int
) -> None:
    errors = importlib.import_module("sqlalchemy").exc

    def fails(*arguments: Any, **named: Any) -> None:
        raise errors.OperationalError("insert", {}, Exception(said))

    monkeypatch.setattr(importlib.import_module("optuna"), "create_study", fails)
    with pytest.raises(OSError, match=re.escape(os.strerror(code))) as raised:
        store(tmp_path, "cmath", SPACE, [])
    assert raised.value.errno == code


@pytest.mark.parametrize("name", ["a b", "what?", "50%", "no#1"])
def test_a_storage_lies_in_any_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    options = draw(SPACE, "random", "0 cmath", 0, [])
    for _ in range(2):
        store(tmp_path / name, "cmath", SPACE, [Searched(0, options, [1.0, 2.0], "complete", 0.0, 0.0)])
    assert [path.name for path in (tmp_path / name).iterdir()] == ["optuna.db"]


@pytest.mark.parametrize("model", MODELS)
def test_the_ends_of_a_space_are_options(model: str) -> None:
    space = model_named(model).space
    assert space[0].name == "optim.learning_rate" and len({each.name for each in space}) == len(space)
    for each in space:
        for value in each.values:
            override(Config(), {"model.name": model, each.name: value})


@pytest.mark.parametrize(
    ("values", "scale", "message"),
    [
        ((1.0,), "linear", "lowest and its highest"),
        ((2.0, 1.0), "linear", "lowest and its highest"),
        ((0.0, 1.0), "log", "begins above 0"),
        ((True,), "choice", "two values"),
        ((0.0, 1.0), "square", "scale"),
    ],
)
def test_a_dimension_that_is_none_is_refused(values: Sequence[float], scale: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Dimension("loss.gamma1", values, scale)


def test_models_are_chosen_and_dealt_out() -> None:
    experiment = load(TUNE, {"dataset": "meld", "model.name": "cmath,sdt", "trials": "7"})
    assert experiment.tuning == Tuning(("cmath", "sdt"), 7)
    assert [*experiment.sections[0].points] == ["cmath", "sdt", "cmath_paper"]
    parts = [Shard(index, 3).of(experiment) for index in range(3)]
    assert sorted(point for part in parts for point in part.sections[0].points) == ["cmath", "cmath_paper", "sdt"]
    assert all(part.tuning == experiment.tuning and part.whole == experiment.sections for part in parts)
    assert load(TUNE, {"model.name": "sdt, cmath"}).tuning == Tuning(("sdt", "cmath"), 32)
    assert load(TUNE, {"model.name": "sdt", "quick": "true"}).tuning == Tuning(("sdt",), 4)
    with pytest.raises(InputError, match="mean the same"):
        load(TUNE, {"model.name": "cmath", "models": "sdt"})
    with pytest.raises(InputError, match="did you mean cmath"):
        load(TUNE, {"model.name": "cmaht"})


def test_it_runs_again_from_its_config_json(tmp_path: Path) -> None:
    experiment = tuned(("cmath", "sdt"), trials=5)
    (tmp_path / "config.json").write_text(json.dumps(experiment.to_dict()))
    assert load(tmp_path / "config.json") == experiment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 2.5}, "tuning.trials"),
        ({"trials": True}, "tuning.trials"),
        ({"points": "sdt"}, "list of names"),
        ({"points": ["nix"]}, "'nix' is the name of 0 points"),
        ({"budget": 3}, "holds no sweep"),
    ],
)
def test_a_config_json_without_a_budget_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    values = json.loads(json.dumps(tuned(("cmath", "sdt"), trials=5).to_dict()))
    values["tuning"] |= changes
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=message):
        load(tmp_path / "config.json")


def test_rungs() -> None:
    assert Tuning((), halvings=2).rungs(16) == [4, 8, 16]
    assert Tuning((), halvings=0).rungs(16) == [16]
    assert Tuning((), halvings=10**9).rungs(5) == [1, 2, 5]
    assert Tuning((), halvings=2).rungs(1) == [1]
