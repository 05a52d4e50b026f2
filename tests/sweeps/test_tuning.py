"""The search for hyper-parameters: one budget for every model, judged on validation alone, and as good after a kill."""

import dataclasses
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stopping import stop_after
from tuning import BASE, SPACE, TUNE, tuned

from cmath_jax.commands.train import main
from cmath_jax.config import Config, override
from cmath_jax.data.corpus import Corpus
from cmath_jax.errors import InputError, Terminated
from cmath_jax.io.json_files import read_lines
from cmath_jax.models.options.cmath import CMATHOptions
from cmath_jax.models.options.sdt import SDTOptions
from cmath_jax.models.options.space import Dimension
from cmath_jax.sweeps import sampling, search
from cmath_jax.sweeps.experiment import Experiment
from cmath_jax.sweeps.sweep import run_sweep
from cmath_jax.training import fit
from cmath_jax.training.evaluator import Evaluator

pytestmark = pytest.mark.slow  # they search


def found(folder: Path, point: str = "cmath") -> list[dict[str, Any]]:
    """The trials of a search, without the times, which no two searches share."""
    trials = json.loads((folder / "search" / f"{point}.json").read_text())["trials"]
    return [{name: value for name, value in trial.items() if "seconds" not in name} for trial in trials]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("tuned")
    return folder, run_sweep(tuned(("cmath", "sdt"), trials=5), folder)


def test_every_model_gets_the_same_budget(done: tuple[Path, dict[str, Any]]) -> None:
    _, result = done
    tuning = result["tuning"]
    assert (tuning["trials"], tuning["epochs"], tuning["rungs"]) == (5, 4, [1, 2, 4])
    for name in ("cmath", "sdt"):
        trials = tuning["models"][name]["trials"]
        assert [trial["number"] for trial in trials] == list(range(5))
        # Of five trials three go on after an epoch, of three two after two.
        assert sorted(len(trial["validation"]) for trial in trials) == [1, 1, 2, 4, 4]
        assert [trial["state"] for trial in trials] == [
            "complete" if len(trial["validation"]) == 4 else "stopped" for trial in trials
        ]


def test_the_better_half_goes_on(done: tuple[Path, dict[str, Any]]) -> None:
    for model in done[1]["tuning"]["models"].values():
        left = model["trials"]
        for rung, kept in ((1, 3), (2, 2)):
            ranked = sorted(left, key=lambda trial: -max(trial["validation"][:rung]))
            left = [trial for trial in left if len(trial["validation"]) > rung]
            assert len(left) == kept
            assert {trial["number"] for trial in left} == {trial["number"] for trial in ranked[:kept]}
        assert model["best"] == max(left, key=lambda trial: max(trial["validation"]))["number"]


def test_the_best_is_trained_with_seeds_that_the_search_never_used(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    for name, model in result["tuning"]["models"].items():
        best = model["trials"][model["best"]]["options"]
        (section,) = result["sections"]
        point = section["points"][name]
        assert {key: point["options"][key] for key in best} == best
        run = folder / "runs" / point["run"]
        config = json.loads((run / "config.json").read_text())
        assert config["optim"]["learning_rate"] == best["optim.learning_rate"]
        assert json.loads((run / "result.json").read_text())["seeds"] == [0, 1]
        rows = read_lines(folder / "search" / name / "000" / "metrics.jsonl")
        assert {row["seed"] for row in rows} == {1000}


def test_what_is_drawn_lies_in_the_space(done: tuple[Path, dict[str, Any]]) -> None:
    for model in done[1]["tuning"]["models"].values():
        drawn = [trial["options"] for trial in model["trials"]]
        assert len({str(options) for options in drawn}) == len(drawn)
        for options in drawn:
            assert list(options) == [each["name"] for each in model["space"]]
            for each in model["space"]:
                value, values = options[each["name"]], each["values"]
                assert value in values if each["scale"] == "choice" else values[0] <= value <= values[1]


def test_of_a_search_no_parameters_are_kept(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    assert not [*folder.glob("search/*/*/checkpoints")]
    assert len([*folder.glob("search/*/*/metrics.jsonl")]) == 10


def test_optuna_knows_the_trials(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    optuna = importlib.import_module("optuna")
    with sampling.opened(folder / "optuna.db") as storage:
        assert set(optuna.get_all_study_names(storage)) == {"cmath", "sdt"}
        study = optuna.load_study(study_name="cmath", storage=storage)
        model = result["tuning"]["models"]["cmath"]
        assert study.best_trial.user_attrs["number"] == model["best"]
        assert [trial.user_attrs["number"] for trial in study.trials] == list(range(5))
        assert study.best_value == max(model["trials"][model["best"]]["validation"])
        assert [trial.params for trial in study.trials] == [trial["options"] for trial in model["trials"]]
        assert sorted(trial.state.name for trial in study.trials) == [
            "COMPLETE",
            "COMPLETE",
            "PRUNED",
            "PRUNED",
            "PRUNED",
        ]
        assert [[*trial.intermediate_values.values()] for trial in study.trials] == [
            trial["validation"] for trial in model["trials"]
        ]


def test_no_test_score_is_read_before_the_final_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = Evaluator._evaluations
    final: list[bool] = []

    def evaluations(self: Evaluator, params: Any, split: str) -> Any:
        assert final or split != "test"
        return real(self, params, split)

    real_halve: Callable[..., Any] = search._halve

    def halve(*arguments: Any) -> Any:
        monkeypatch.setattr(Evaluator, "_evaluations", evaluations)
        trials = real_halve(*arguments)
        final.append(True)
        return trials

    monkeypatch.setattr(search, "_halve", halve)
    run_sweep(tuned(trials=2), tmp_path)
    assert final
    rows = [row for path in tmp_path.glob("search/*/*/metrics.jsonl") for row in read_lines(path)]
    assert rows and all("validation" in row and "test" not in row for row in rows)
    # The guard would see it.
    final.clear()
    monkeypatch.setattr(search, "SCORED", ("validation", "test"))
    result = run_sweep(tuned(trials=2), tmp_path / "other")
    assert (
        list(result["failed"]) == ["main_results_cmath"] and "AssertionError" in result["failed"]["main_results_cmath"]
    )


@pytest.fixture(scope="module", params=["random", "tpe"])
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    """A search, and its folder when it is done."""
    experiment = tuned(base=override(BASE, {"seeds": 1}), trials=4, sampler=request.param)
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "GENERATION", 2)
        run_sweep(experiment, folder)
    return experiment, folder


@pytest.mark.parametrize("steps", [1, 9, 25])
def test_a_search_that_is_stopped_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[Experiment, Path], steps: int
) -> None:
    experiment, whole = undisturbed
    monkeypatch.setattr(search, "GENERATION", 2)
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Terminated):
            run_sweep(experiment, tmp_path)
    resumed = run_sweep(experiment, tmp_path)
    assert found(tmp_path) == found(whole)
    best = json.loads((whole / "result.json").read_text())["tuning"]["models"]["cmath"]["best"]
    assert resumed["tuning"]["models"]["cmath"]["best"] == best


def test_a_search_that_is_done_is_not_done_again(
    done: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = done
    monkeypatch.setattr(search, "make_trainer", None)
    monkeypatch.setattr(fit, "make_trainer", None)
    again = run_sweep(tuned(("cmath", "sdt"), trials=5), folder)
    assert again["tuning"] == result["tuning"] and again["sections"] == result["sections"]


@pytest.mark.parametrize("population", [1, 4])
def test_trials_of_one_structure_share_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, population: int
) -> None:
    """Each number of places is compiled once, for all rungs and generations."""
    real: Callable[..., Any] = search.make_trainer
    made: list[Any] = []

    def make_trainer(config: Config, corpus: Corpus, trials: int) -> Any:
        made.append(real(config, corpus, trials))
        return made[-1]

    monkeypatch.setattr(search, "make_trainer", make_trainer)
    monkeypatch.setattr(search, "GENERATION", 4)
    base = override(BASE, {"parallel.population": population, "seeds": 1})
    run_sweep(tuned(("sdt",), base, trials=8, sampler="tpe"), tmp_path)  # whose space has numbers of the step alone
    compiled = [len(trainer.train_steps._executables) for trainer in made]
    assert sum(compiled) == {1: 1, 4: 3}[population]  # of 4, 2 and 1 trials


def test_a_trial_that_diverges_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = Dimension("optim.learning_rate", (1e-3, 1e30), "choice")
    monkeypatch.setattr(SDTOptions, "space", (rate,))
    run_sweep(tuned(("sdt",), trials=6), tmp_path)
    rates = {trial["state"]: trial["options"]["optim.learning_rate"] for trial in found(tmp_path, "sdt")}
    assert rates["failed"] == 1e30 and rates["complete"] == 1e-3
    assert [] in [trial["validation"] for trial in found(tmp_path, "sdt")]  # it diverged in its first epoch
    run_sweep(tuned(("sdt",), trials=6), tmp_path)  # goes on with what is done


def test_a_model_whose_search_fails_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, nothing of it is written, and the same command searches again."""
    real: Callable[..., Any] = search.make_trainer

    def make_trainer(config: Config, corpus: Corpus, trials: int) -> Any:
        if config.model.name == "cmath":
            raise MemoryError("no memory left")
        return real(config, corpus, trials)

    experiment = tuned(("cmath", "sdt"), override(BASE, {"seeds": 1}), trials=2)
    with monkeypatch.context() as patch:
        patch.setattr(search, "make_trainer", make_trainer)
        result = run_sweep(experiment, tmp_path)
    assert result["failed"] == {"main_results_cmath": "MemoryError: no memory left"}
    assert [*result["tuning"]["models"]] == ["sdt"] and not (tmp_path / "search" / "cmath.json").exists()
    result = run_sweep(experiment, tmp_path)
    assert result["failed"] == {} and [*result["tuning"]["models"]] == ["cmath", "sdt"]


def test_where_all_trials_diverge_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Dimension("optim.learning_rate", (1e30, 2e30), "choice")
    monkeypatch.setattr(SDTOptions, "space", (rates,))
    result = run_sweep(tuned(("sdt",), trials=2), tmp_path)
    assert "no trial came to its end" in result["failed"]["main_results_sdt"]
    assert result["missing"] == []


def test_side_by_side_trials_are_what_they_are_alone(tmp_path: Path) -> None:
    """But for rounding, which after an epoch shows in the last digits."""
    losses = []
    for size in (1, 3):
        base = override(BASE, {"parallel.population": size, "seeds": 1})
        run_sweep(tuned(("sdt",), base, trials=3, halvings=0), tmp_path / str(size))
        first = [next(read_lines(tmp_path / f"{size}/search/sdt/00{n}/metrics.jsonl")) for n in range(3)]
        losses.append([row["train"]["loss"] for row in first])
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3)


def test_models_join_a_search_and_another_budget_is_refused(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "more"
    shutil.copytree(done[0], folder)
    result = run_sweep(tuned(("cmath", "sdt", "dialogue_rnn"), trials=5), folder)
    assert [*result["tuning"]["models"]] == ["cmath", "sdt", "dialogue_rnn"]
    assert found(folder) == found(done[0])
    with pytest.raises(InputError, match=r"budget of the search: trials=5.* there, trials=6.* now"):
        run_sweep(tuned(("cmath", "sdt"), trials=6), folder)
    with pytest.raises(InputError, match="budget of the search"):
        run_sweep(dataclasses.replace(tuned(("cmath",)), tuning=None), folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text("{}"), "not as a search writes it"),
        (lambda path: path.write_text(path.read_text()[:-50]), "sdt.json"),
        (lambda path: path.write_text(path.read_text().replace('"number": 1', '"number": 7')), "trials are missing"),
        (lambda path: path.write_text(path.read_text().replace('"state"', '"status"')), "not as a search writes it"),
    ],
)
def test_a_damaged_search_is_named(
    done: tuple[Path, dict[str, Any]], tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(done[0], folder)
    damage(folder / "search" / "sdt.json")
    with pytest.raises(InputError, match=message):
        run_sweep(tuned(("cmath", "sdt"), trials=5), folder)


@pytest.mark.parametrize("content", [None, b"", b"no database at all" * 100])
def test_without_its_storage_a_search_goes_on(
    done: tuple[Path, dict[str, Any]], tmp_path: Path, content: bytes | None
) -> None:
    """It is a copy. One that is no storage is named, and not overwritten."""
    folder = tmp_path / "copy"
    shutil.copytree(done[0], folder)
    (folder / "optuna.db").unlink()
    if content is not None:
        (folder / "optuna.db").write_bytes(content)
    experiment = tuned(("cmath", "sdt"), trials=5)
    if content:
        with pytest.raises(InputError, match=r"optuna\.db: not a storage of Optuna .* move it away"):
            run_sweep(experiment, folder)
        return
    assert run_sweep(experiment, folder)["tuning"] == done[1]["tuning"]
    with sampling.opened(folder / "optuna.db") as storage:
        assert len(importlib.import_module("optuna").load_study(study_name="sdt", storage=storage).trials) == 5


def test_the_search_of_other_data_is_not_taken(
    done: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(done[0], folder)
    shutil.rmtree(folder / "runs")
    monkeypatch.setattr(Corpus, "fingerprint", lambda self: "another")
    with pytest.raises(InputError, match="other fingerprint"):
        run_sweep(tuned(("cmath", "sdt"), trials=5), folder)


def test_another_space_is_refused(done: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CMATHOptions, "space", SPACE[:2])
    with pytest.raises(InputError, match=r"cmath\.json holds another search \(other space\)"):
        run_sweep(tuned(("cmath", "sdt"), trials=5), done[0])


def test_the_command_line_searches_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config", str(TUNE), "--config.quick=true", "--config.model.name=cmath", "--config.seeds=1"]
    assert main([*command, "--workdir", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert main([*command, "--workdir", str(tmp_path / "stopped")]) == 0
    assert not [*tmp_path.glob("stopped/runs/*")]
    assert main([*command, "--workdir", str(tmp_path / "stopped")]) == 0
    assert found(tmp_path / "stopped") == found(tmp_path / "whole")
    assert main([*command, "--workdir", str(tmp_path / "whole"), "--config.trials=3"]) == 2
    assert "budget of the search" in capsys.readouterr().err
