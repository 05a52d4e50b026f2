"""What the report reads of a search, what it refuses, and which searches stand in one study."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import report_samples as samples
import search_samples

from cmath_jax.errors import InputError
from cmath_jax.report import write_report
from cmath_jax.report.search import Dimension, read_search
from cmath_jax.report.studies import load_studies

Entry = dict[str, Any]
QUICK: dict[str, Any] = {"seeds": 2, "calibration": False}


@pytest.fixture(scope="module")
def split() -> samples.Split:
    return samples.make_split(5)


def entry(**changes: Any) -> Entry:
    models = {"cmath": search_samples.model_search("cmath", failed=[3])}
    return {"trials": 16, "epochs": 16, "rungs": [4, 8, 16], "sampler": "random", "models": models, **changes}


def test_it_reads_what_a_search_writes() -> None:
    search = read_search(Path("result.json"), entry())
    (model,) = search.models
    assert (search.trials, search.epochs, search.rungs, search.sampler) == (16, 16, (4, 8, 16), "random")
    assert sum(model.count(state) for state in ("complete", "stopped", "failed")) == len(model.trials) == 16
    complete = [trial for trial in model.trials if trial.state == "complete"]
    assert model.chosen is not None and model.chosen.score() == max(max(t.validation) for t in complete)
    assert model.trials[3].state == "failed" and model.trials[3].score() == 0 and model.trials[3].validation
    assert model.epochs == sum(len(trial.validation) for trial in model.trials)
    assert model.seconds == sum(trial.seconds for trial in model.trials) and model.compile_seconds == 16 * 4.0


def test_a_score_of_the_first_epochs_leaves_out_the_later_ones() -> None:
    given = entry()
    given["models"]["cmath"]["trials"][0]["validation"] = [50.0, 49.0, 51.0, 48.0, 53.0][:5]
    trial = read_search(Path("result.json"), given).models[0].trials[0]
    assert (trial.score(1), trial.score(4), trial.score()) == (50.0, 51.0, 53.0)


def test_names_are_made_printable() -> None:
    given = entry(sampler="a\x07b")
    given["models"] = {"x\ny": given["models"]["cmath"]}
    search = read_search(Path("result.json"), given)
    assert search.sampler == "a\N{REPLACEMENT CHARACTER}b" and search.models[0].name == "x y"


def test_a_model_whose_trials_all_failed_has_no_choice() -> None:
    given = entry(models={"cmath": search_samples.model_search("cmath", trials=3, failed=range(3))})
    assert read_search(Path("result.json"), given).models[0].chosen is None


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_a_rounded_end_of_a_scale_is_inside(scale: str) -> None:
    dimension = Dimension("x", (1e-4, 3e-3), scale)
    assert dimension.holds(math.exp(math.log(3e-3))) and dimension.holds(1e-4)
    assert not dimension.holds(3.1e-3) and not dimension.holds(0.9e-4)


def trial(given: Entry, **changes: Any) -> None:
    given["models"]["cmath"]["trials"][0] |= changes


def model(given: Entry, **changes: Any) -> None:
    given["models"]["cmath"] |= changes


def worst(given: Entry) -> int:
    """The number of a complete trial that is not the best."""
    complete = [each for each in given["models"]["cmath"]["trials"] if each["state"] == "complete"]
    return min(complete, key=lambda each: max(each["validation"]))["number"]


DAMAGED: dict[str, tuple[Callable[[Entry], Any], str]] = {
    "no epochs": (lambda e: e.pop("epochs"), "it lacks 'epochs'"),
    "no space": (lambda e: e["models"]["cmath"].pop("space"), "model 'cmath': it lacks 'space'"),
    "half a trial": (lambda e: e.update(trials=True), "trials: True"),
    "rungs that fall": (lambda e: e.update(rungs=[8, 4]), "rungs (8, 4) do not rise"),
    "a rung beyond the end": (lambda e: e.update(rungs=[4, 32]), "do not rise"),
    "no rung": (lambda e: e.update(rungs=[]), "do not rise"),
    "a sampler without a name": (lambda e: e.update(sampler=3), "sampler 3 is no name"),
    "models as a list": (lambda e: e.update(models=[]), "not as a search writes it"),
    "too many trials": (lambda e: e.update(trials=4), "16 trials, of 4"),
    "twice the same": (lambda e: trial(e, number=1), "two trials have the same number"),
    "a score that is no number": (lambda e: trial(e, validation=["x"]), "'x' is no number"),
    "a score above 100": (lambda e: trial(e, validation=[101]), "trial 0: a validation score is not between 0 and 100"),
    "too many epochs": (lambda e: trial(e, validation=[1.0] * 17), "17 validation scores of 16 epochs"),
    "no score": (lambda e: trial(e, validation=[], state="stopped"), "it is stopped without a validation score"),
    "another state": (lambda e: trial(e, state="lost"), "state 'lost' is none of complete, stopped, failed"),
    "a negative time": (lambda e: trial(e, seconds=-1.0), "it took a negative time"),
    "an option that is a list": (lambda e: trial(e, options={"x": [1]}), "[1] is no option"),
    "an option that is not there": (lambda e: trial(e, options={}), "trial 0: it has no optim.learning_rate"),
    "no such best": (lambda e: model(e, best=99), "its best trial 99 is not complete"),
    "a best that failed": (lambda e: model(e, best=3), "its best trial 3 is not complete"),
    "not the best": (lambda e: model(e, best=worst(e)), "is not the best on validation"),
    "a scale": (lambda e: model(e, space=[{"name": "x", "values": [1, 2], "scale": "cube"}]), "scale 'cube'"),
    "no values": (lambda e: model(e, space=[{"name": "x", "values": [], "scale": "choice"}]), "nothing to choose"),
    "one value": (lambda e: model(e, space=[{"name": "x", "values": [1], "scale": "log"}]), "not a lowest and"),
    "log of zero": (lambda e: model(e, space=[{"name": "x", "values": [0, 1], "scale": "log"}]), "from 0 to 1"),
    "outside": (
        lambda e: model(e, space=[{"name": "model.dropout", "values": [0.0, 0.01], "scale": "linear"}]),
        "is outside of the space",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_search_is_refused_with_its_file(case: str) -> None:
    damage, message = DAMAGED[case]
    given = entry()
    damage(given)
    with pytest.raises(InputError) as caught:
        read_search(Path("folder/result.json"), given)
    assert str(caught.value).startswith("folder/result.json: its tuning is not as a search writes it: ")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_page_of_a_damaged_search_is_refused(tmp_path: Path, split: samples.Split) -> None:
    result = search_samples.write_tuning(tmp_path, split, {"cmath": 0.6}, **QUICK)
    result["tuning"]["rungs"] = []
    samples.write_json(tmp_path / "result.json", result)
    with pytest.raises(InputError, match=r"result\.json: its tuning"):
        write_report([tmp_path])


def test_the_parts_of_a_search_are_one(tmp_path: Path, split: samples.Split) -> None:
    whole = ("cmath", "sdt", "mmgcn")
    search_samples.write_tuning(tmp_path / "a", split, {"cmath": 0.6, "mmgcn": 0.5}, whole=whole, **QUICK)
    search_samples.write_tuning(tmp_path / "b", split, {"sdt": 0.5, "mmgcn": 0.5}, whole=whole, **QUICK)
    for order in ("ab", "ba"):
        (study,) = load_studies([tmp_path / name for name in order])
        assert study.search is not None and not study.settings
        assert tuple(model.name for model in study.search.models) == whole
        assert study.search.repeated == ("mmgcn",)


@pytest.mark.parametrize("other", [{"trials": 17}, {"epochs": 32}, {"rungs": [8, 16]}, {"sampler": "tpe"}])
def test_searches_with_another_budget_stand_apart_and_say_so(
    tmp_path: Path, split: samples.Split, other: dict[str, Any]
) -> None:
    search_samples.write_tuning(tmp_path / "a", split, {"cmath": 0.6}, trials=4, budget={"trials": 16}, **QUICK)
    search_samples.write_tuning(tmp_path / "b", split, {"sdt": 0.5}, trials=4, budget={"trials": 16, **other}, **QUICK)
    folders = [tmp_path / "a", tmp_path / "b"]
    ((name, value),) = other.items()
    studies = load_studies(folders)
    assert [[model.name for model in study.search.models] for study in studies if study.search] == [["cmath"], ["sdt"]]
    assert [[text.split("=")[0] for text in study.settings] for study in studies] == [[f"tuning.{name}"]] * 2
    assert studies[1].settings == (f"tuning.{name}={json.dumps(value)}",)


def test_a_tuned_model_does_not_stand_beside_one_that_is_not(tmp_path: Path, split: samples.Split) -> None:
    samples.write_sweep(tmp_path / "plain", split, kinds=["main_results"], epochs=3, representations=False, seeds=3)
    search_samples.write_tuning(tmp_path / "tuned", split, {"cmath": 0.6, "multidag": 0.5}, trials=4, seeds=3)
    plain, tuned = load_studies([tmp_path / "plain", tmp_path / "tuned"])
    assert plain.search is None and tuned.search is not None
    assert [set(study.sections[0].runs) for study in (plain, tuned)] == [{"cmath", "sdt"}, {"cmath", "multidag"}]


@pytest.mark.parametrize("missing", [(), ("cmath",)])
def test_the_paper_s_settings_are_never_the_full_model(
    tmp_path: Path, split: samples.Split, missing: tuple[str, ...]
) -> None:
    search_samples.write_tuning(tmp_path, split, {"cmath": 0.6}, trials=4, paper=True, missing=missing, **QUICK)
    (study,) = load_studies([tmp_path])
    assert study.full_model is study.find("main_results", "cmath")
    page = write_report([tmp_path])
    with open(page.parent / "figures" / "main-results.csv", encoding="utf-8") as file:
        kinds = {row["row"]: row["kind"] for row in csv.DictReader(file)}
    assert kinds["CMATH, the paper's settings"] == "run" and kinds["CMATH"] == ("absent" if missing else "full")
