"""Sweeps: what is shared is trained once, what is done stays done, what fails stops nobody else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from samples import rows, tiny
from stopping import stop_after

from cmath_jax.config import flat, override, to_dict
from cmath_jax.errors import InputError, Terminated
from cmath_jax.models.options.sdt import SDTOptions
from cmath_jax.results.summary import readable_sweep
from cmath_jax.sweeps import sweep
from cmath_jax.sweeps.experiment import Experiment, Section, load, parameters
from cmath_jax.training import fit as fitting

BASE = tiny(train__epochs=2, parallel__devices=1, parallel__population=8, seeds=2)
EXPERIMENT = Experiment(
    BASE,
    (
        Section("ablations", {"cmath": {}, "wo_lld": {"loss.gamma1": 0.0}, "wo_cma": {"model.cross_attention": False}}),
        Section("gammas", {"1.0,1.2": {"loss.gamma2": 1.2}, "0.0,1.2": {"loss.gamma1": 0.0}}),
    ),
)
FILE = """from cmath_jax.config import Config, override
from cmath_jax.sweeps.experiment import Section


def get_config(dataset="simulated", quick=False):
    return override(Config(), {{**{values!r}, "dataset": dataset, "seeds": 1 if quick else 2}})


def sweep(config, quick=False, widths="8,16"):
    return [Section("width", {{width: {{"model.width": int(width)}} for width in widths.split(",")}})]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.py"
    path.write_text(FILE.format(values=flat(to_dict(BASE))))
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sweep")
    return folder, sweep.run_sweep(EXPERIMENT, folder)


@pytest.mark.slow
def test_points_of_one_config_share_a_run(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    assert json.loads((folder / "result.json").read_text()) == result
    assert (result["experiment"], result["dataset"], result["failed"], result["missing"]) == (
        "tiny",
        "simulated",
        {},
        [],
    )
    runs = {section["kind"]: {p: at["run"] for p, at in section["points"].items()} for section in result["sections"]}
    assert runs == {
        "ablations": {"cmath": "cmath", "wo_lld": "ablations_wo_lld", "wo_cma": "ablations_wo_cma"},
        "gammas": {"1.0,1.2": "cmath", "0.0,1.2": "ablations_wo_lld"},
    }
    assert sorted(path.name for path in (folder / "runs").iterdir()) == [
        "ablations_wo_cma",
        "ablations_wo_lld",
        "cmath",
    ]
    lines = readable_sweep(result, folder).splitlines()
    score = json.loads((folder / "runs" / "cmath" / "result.json").read_text())["test"]["weighted_f1"]
    assert [line.split()[0] for line in lines[1:]] == [
        "ablations",
        "cmath",
        "wo_lld",
        "wo_cma",
        "gammas",
        "1.0,1.2",
        "0.0,1.2",
        "always",
        "where",
    ]
    assert "sees text + audio: text 9 (simulated), audio 6 (simulated)" in lines[-1]
    assert f"{score['mean']:.2f} ± {score['std']:.2f} over 2 seeds" in lines[2]


@pytest.mark.slow
def test_a_run_of_a_sweep_is_a_run(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Its folder is as `fit` leaves it, and its config runs again."""
    run = done[0] / "runs" / "ablations_wo_cma"
    config = load(run / "config.json").config
    assert config == override(BASE, {"model.cross_attention": False, "experiment": "ablations_wo_cma"})
    fitting.fit(config, tmp_path)
    assert rows(tmp_path) == rows(run)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in run.iterdir()}
    assert (tmp_path / "predictions.jsonl").read_bytes() == (run / "predictions.jsonl").read_bytes()


def test_what_is_done_is_not_done_again(done: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, result = done
    monkeypatch.setattr(sweep, "fit_runs", lambda *_: pytest.fail("it trains"))
    again = sweep.run_sweep(EXPERIMENT, folder)
    assert {**again, "seconds": 0} == {**result, "seconds": 0}


def test_an_interrupted_sweep_goes_on_with_what_is_missing(
    done: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the second group of runs: the first is not touched again."""
    with monkeypatch.context() as patch:
        stop_after(patch, 11)  # the first group has 2 epochs of 4 steps
        with pytest.raises(Terminated):
            sweep.run_sweep(EXPERIMENT, tmp_path)
    partial = json.loads((tmp_path / "result.json").read_text())
    assert partial["missing"] == ["ablations_wo_cma"]
    trained: list[str] = []
    real = sweep.fit_runs

    def fit_runs(runs: Any, *others: Any) -> Any:
        trained.extend(config.experiment for config, _ in runs)
        return real(runs, *others)

    monkeypatch.setattr(sweep, "fit_runs", fit_runs)
    assert sweep.run_sweep(EXPERIMENT, tmp_path)["missing"] == []
    assert trained == ["ablations_wo_cma"]
    for name in ("cmath", "ablations_wo_lld", "ablations_wo_cma"):
        assert rows(tmp_path / "runs" / name) == rows(done[0] / "runs" / name)


@pytest.mark.slow
def test_a_failure_is_reported_and_the_others_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run diverges, another group meets a bug; the exit code is 1, since something is missing."""
    points: dict[str, dict[str, Any]] = {
        "cmath": {},
        "diverging": {"optim.learning_rate": 1e38},
        "broken": {"model.cross_attention": False},
    }
    real = sweep.fit_runs

    def fit_runs(runs: Any, *others: Any) -> Any:
        if not runs[0][0].model.cross_attention:
            raise MemoryError("out of\nmemory")
        return real(runs, *others)

    monkeypatch.setattr(sweep, "fit_runs", fit_runs)
    result = sweep.run_sweep(Experiment(override(BASE, {"seeds": 1}), (Section("ablations", points),)), tmp_path)
    assert set(result["failed"]) == {"ablations_diverging", "ablations_broken"}
    assert "the loss is" in result["failed"]["ablations_diverging"]
    assert result["failed"]["ablations_broken"] == "MemoryError: out of"
    assert result["missing"] == []
    assert (tmp_path / "runs" / "cmath" / "result.json").exists()
    shown = readable_sweep(result, tmp_path)
    assert "failed: ablations_diverging, seed 0, epoch 1" in shown
    assert "failed: MemoryError" in shown


def test_another_sweep_is_not_overwritten(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = done
    before = (folder / "config.json").read_bytes()
    other = Experiment(override(BASE, {"model.width": 16}), EXPERIMENT.sections)
    with pytest.raises(InputError, match=r"holds another sweep.*\(model\.width: 8 there, 16 now\)"):
        sweep.run_sweep(other, folder)
    with pytest.raises(InputError, match="does not hold a sweep"):
        sweep.run_sweep(EXPERIMENT, folder / "runs" / "cmath")
    with pytest.raises(InputError, match="holds a sweep"):
        fitting.fit(BASE, folder)
    assert (folder / "config.json").read_bytes() == before
    assert (folder / "result.json").exists()


@pytest.mark.slow
def test_what_may_change_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many at once, more seeds, other sections: only what is new is trained."""
    points: dict[str, dict[str, Any]] = {"cmath": {}, "wo_lld": {"loss.gamma1": 0.0}}
    base = override(BASE, {"train.epochs": 1})
    sweep.run_sweep(Experiment(override(base, {"seeds": 1}), (Section("ablations", points),)), tmp_path)
    trained: list[str] = []
    real = fitting.train

    def train(trainer: Any, trials: Any, *others: Any) -> Any:
        trained.extend(trial.name for trial in trials)
        return real(trainer, trials, *others)

    monkeypatch.setattr(fitting, "train", train)
    changed = override(base, {"seeds": 2, "parallel.population": 1, "linear_reference": "t"})
    sections = (Section("ablations", {"cmath": {}}), Section("gammas", {"0.0,1.2": {"loss.gamma1": 0.0}}))
    sweep.run_sweep(Experiment(changed, sections), tmp_path)
    assert trained == ["cmath, seed 1", "gammas_0.0_1.2, seed 0", "gammas_0.0_1.2, seed 1"]
    trained.clear()
    sweep.run_sweep(Experiment(override(changed, {"parallel.population": 2}), sections), tmp_path)
    assert trained == []


def test_a_refused_sweep_leaves_the_folder_free(tmp_path: Path) -> None:
    for wrong in ({"parallel.devices": 99}, {"model.name": "bert"}, {"dataset": "gone.pkl"}):
        with pytest.raises(InputError):
            sweep.run_sweep(Experiment(override(BASE, wrong), EXPERIMENT.sections), tmp_path)
        assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "result.json", "environment.json", "predictions.jsonl"])
def test_a_damaged_run_is_done_again(name: str, done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(done[0], tmp_path / "sweep")
    run = tmp_path / "sweep" / "runs" / "ablations_wo_cma"
    whole = (run / name).read_bytes()
    if name == "predictions.jsonl":
        (run / name).unlink()
    else:
        (run / name).write_text("")
    assert sweep.run_sweep(EXPERIMENT, tmp_path / "sweep")["missing"] == []
    assert (run / name).read_bytes() == whole


def test_a_run_of_before_there_were_models(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """It gets its model from its checkpoints; without them its result stands, and nothing is trained again."""
    shutil.copytree(done[0], tmp_path / "sweep")
    with_checkpoints, without = (tmp_path / "sweep" / "runs" / f"ablations_{name}" for name in ("wo_cma", "wo_lld"))
    for run in (with_checkpoints, without):
        shutil.rmtree(run / "model")
    shutil.rmtree(without / "checkpoints")
    before = (without / "result.json").stat().st_mtime_ns
    assert sweep.run_sweep(EXPERIMENT, tmp_path / "sweep")["missing"] == []
    assert (with_checkpoints / "model" / "model.json").exists()
    assert (without / "result.json").stat().st_mtime_ns == before
    assert not (without / "checkpoints").exists()


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ((Section("a", {"x,y": {"loss.gamma1": 0.1}, "x_y": {"loss.gamma1": 0.9}}),), "share a name"),
        ((Section("a", {"x": {}}), Section("a", {"y": {}})), "share a name"),
        ((Section("a", {"x/y": {"loss.gamma1": 0.1}}),), "cannot name a folder"),
    ],
)
def test_names_that_would_mix_runs_are_refused(sections: tuple[Section, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Experiment(BASE, sections)


@pytest.mark.parametrize("order", [1, -1])
def test_a_point_of_another_model(order: int) -> None:
    """Its options in any order; what the base sets for its own model alone is left behind."""
    base = override(BASE, {"model.kernel": 3})
    points = {"cmath": {"model.name": "cmath"}, "sdt": dict([("model.name", "sdt"), ("model.heads", 4)][::order])}
    runs = Experiment(base, (Section("main_results", points),)).runs
    assert runs["main_results", "cmath"] == ("cmath", override(base, {"experiment": "cmath"}))
    _, config = runs["main_results", "sdt"]
    assert config.model == SDTOptions(width=8, heads=4, dropout=0.2)


@pytest.mark.parametrize("order", [1, -1])
def test_a_point_with_an_option_that_its_model_lacks_is_refused(order: int) -> None:
    point = dict([("model.name", "sdt"), ("model.noise", False)][::order])
    with pytest.raises(InputError, match=r"point 'x' of a: model\.noise is an option of cmath, not of sdt, which has"):
        Experiment(BASE, (Section("a", {"x": point}),))


def test_an_option_that_is_given_counts_beside_the_recipe_of_a_point(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    points = {"one": {"model.name": "mmgcn", "recipe": "released"}, "two": {"model.name": "mmgcn", "train.epochs": 3}}
    path.write_text(f"""
from cmath_jax.config import Config
from cmath_jax.sweeps.experiment import Section

def get_config():
    return Config(dataset="meld")

def sweep(config):
    return [Section("main_results", {points})]
""")
    for given, expected in (({}, {"one": 60, "two": 3}), ({"train.epochs": "2"}, {"one": 2, "two": 3})):
        experiment = load(path, given)
        configs = {name: override(experiment.config, each) for name, each in experiment.sections[0].points.items()}
        assert {name: config.train.epochs for name, config in configs.items()} == expected
        assert configs["one"].model.dropout == 0.4  # of the recipe


@pytest.mark.parametrize("sections", [{}, 3, [{"kind": "a"}], [{"kind": "a", "points": 3}], ["a"]])
def test_a_config_file_with_broken_sections_is_refused(sections: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"config": to_dict(BASE), "sections": sections}))
    if sections == {}:
        assert load(path) == Experiment(BASE)
        return
    with pytest.raises(InputError, match="holds no sweep"):
        load(path)


def test_a_sweep_runs_again_from_its_config(done: tuple[Path, dict[str, Any]]) -> None:
    again = load(done[0] / "config.json")
    assert again == EXPERIMENT
    wider = load(done[0] / "config.json", {"model.width": "16"})
    assert wider.runs["gammas", "0.0,1.2"][1].model.width == 16


def test_parameters_of_a_file_are_options(file: Path) -> None:
    assert parameters(file) == {"dataset": "simulated", "quick": False, "widths": "8,16"}
    experiment = load(file)
    assert experiment.config.seeds == 2
    assert set(experiment.sections[0].points) == {"8", "16"}
    quick = load(file, {"quick": "true", "widths": "24", "dataset": "meld", "optim.learning_rate": "0.5"})
    assert (quick.config.seeds, quick.config.dataset, quick.config.optim.learning_rate) == (1, "meld", 0.5)
    assert set(quick.sections[0].points) == {"24"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quick": "maybe"}, "quick='maybe' is not of type bool"),
        ({"widths": "9"}, "point '9' of width: model.width=9 is not a multiple of model.heads=2"),
        ({"qiuck": "true"}, "unknown option 'qiuck'"),
        ({"widths": "x"}, "file.py, line 10: ValueError"),
    ],
)
def test_wrong_parameters_are_refused(file: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as error:
        load(file, options)
    assert words in str(error.value)


def test_a_point_that_the_data_cannot_serve_is_refused_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sweep.load_configured

    def without_video(config: Any) -> Any:
        corpus = real(config)
        for conversation in (c for split in corpus.splits.values() for c in split):
            del conversation.features["v"]
        return corpus

    monkeypatch.setattr(sweep, "load_configured", without_video)
    monkeypatch.setattr(sweep, "fit_runs", lambda *_: pytest.fail("it trains"))
    points = {"t": {"data.modalities": "t"}, "tav": {"data.modalities": "tav"}}
    with pytest.raises(InputError, match=r"data\.modalities='tav'"):
        sweep.run_sweep(Experiment(BASE, (Section("modalities", points),)), tmp_path)
