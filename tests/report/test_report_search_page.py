"""The section of a search on the page: its tables, figures and importances."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_samples as samples
import search_samples

from cmath_jax.evaluation.expected_best import expected_best
from cmath_jax.report import paper, search_figures, write_report
from cmath_jax.report.search import ModelSearch, read_search
from cmath_jax.report.search_importance import importance

QUICK: dict[str, Any] = {"calibration": False}
MODELS = {"cmath": 0.6, "sdt": 0.55}


def rows(page: Path, name: str) -> list[dict[str, str]]:
    with open(page.parent / "figures" / f"{name}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def found(trials: int = 16, **options: Any) -> ModelSearch:
    models = {"cmath": search_samples.model_search("cmath", trials, **options)}
    entry = {"trials": trials, "epochs": 16, "rungs": [4, 8, 16], "sampler": "random", "models": models}
    return read_search(Path("result.json"), entry).models[0]


@pytest.fixture(scope="module")
def split() -> samples.Split:
    return samples.make_split(6)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, split: samples.Split) -> Path:
    """The page of two models, with the paper's settings beside them, and of which both have failed trials."""
    folder = tmp_path_factory.mktemp("tuned")
    search_samples.write_tuning(folder, split, MODELS, failed=[3], paper=True, seeds=2, **QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(paper._numbers()["datasets"]["meld"], "test_utterances", int((split.label_n >= 0).sum()))
        return write_report([folder])


def test_the_search_comes_first_and_has_its_verdict(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert html.index('id="view-search"') < html.index('id="view-main-results"')
    section = html[html.index('id="view-search"') : html.index('id="view-main-results"')]
    assert section.index("on the test split") < section.index("chosen on the validation split alone")


def test_the_table_has_what_was_spent_and_what_came_out(page: Path) -> None:
    result = json.loads((page.parent / "result.json").read_text(encoding="utf-8"))
    for row, (name, search) in zip(rows(page, "search-models"), result["tuning"]["models"].items(), strict=True):
        states = [trial["state"] for trial in search["trials"]]
        assert [int(row[state]) for state in ("complete", "stopped", "failed")] == [
            states.count(state) for state in ("complete", "stopped", "failed")
        ]
        assert int(row["epochs"]) == sum(len(trial["validation"]) for trial in search["trials"])
        assert float(row["seconds"]) == sum(trial["seconds"] for trial in search["trials"])
        best = search["trials"][search["best"]]
        assert float(row["best validation"]) == max(best["validation"]) and json.loads(row["chosen"]) == best["options"]
        run = json.loads((page.parent / "runs" / name / "result.json").read_text(encoding="utf-8"))
        assert float(row["test mean"]) == run["test"]["weighted_f1"]["mean"]
        assert float(row["final validation std"]) == run["validation"]["weighted_f1"]["std"]


def test_the_curve_is_the_expected_best_with_failed_trials_as_zero(page: Path) -> None:
    result = json.loads((page.parent / "result.json").read_text(encoding="utf-8"))
    trials = result["tuning"]["models"]["cmath"]["trials"]
    mean, std = expected_best([0 if t["state"] == "failed" else max(t["validation"]) for t in trials])
    drawn = [row for row in rows(page, "search-expected-best") if row["model"] == "CMATH"]
    assert [int(row["trials"]) for row in drawn] == list(range(1, 17))
    np.testing.assert_allclose([float(row["expected best"]) for row in drawn], mean)
    np.testing.assert_allclose([float(row["std"]) for row in drawn], std)


def test_every_trial_is_drawn_and_one_of_each_model_is_chosen(page: Path) -> None:
    drawn = rows(page, "search-trials")
    assert len(drawn) == 32 and [row["state"] for row in drawn].count("failed") == 2
    assert [row["model"] for row in drawn if row["chosen"] == "True"] == ["CMATH", "SDT"]


def test_the_paper_s_numbers_stand_beside_its_settings_as_beside_cmath(page: Path) -> None:
    main = {row["row"]: row for row in rows(page, "main-results")}
    tuned, plain = main["CMATH"], main["CMATH, the paper's settings"]
    assert plain["weighted_f1 paper"] == tuned["weighted_f1 paper"] != ""
    assert "CMATH (paper)" not in main and "CMATH, the paper's settings (paper)" not in main


def test_many_models_have_a_panel_each_and_few_one_picture(
    tmp_path: Path, split: samples.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[list[str]] = []
    finish = search_figures.finish

    def kept(figure: Any, name: str, *rest: Any) -> Any:
        if name == "search-expected-best":
            labels.append([axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()])
        return finish(figure, name, *rest)

    monkeypatch.setattr(search_figures, "finish", kept)
    names = ("cmath", "sdt", "mmgcn", "multidag", "m3net", "adaign")
    for count in (5, 6):
        models = dict.fromkeys(names[:count], 0.5)
        search_samples.write_tuning(tmp_path, split, models, trials=4, missing=names, seeds=1, **QUICK)
        html = write_report([tmp_path]).read_text(encoding="utf-8")
        assert "no final training has a result as yet" in html
        assert ("The best score to expect of so many trials</summary>" in html) == (count == 6)
    assert labels == [[""], ["CMATH", "SDT", "MMGCN", "MultiDAG", "M3NET", "AdaIGN"]]


def test_labels_of_curves_that_end_together_stand_apart() -> None:
    places = search_figures._apart({"a": 0.5, "b": 0.5, "c": 0.51, "d": 0.0, "e": 0.01})
    heights = sorted(places.values())
    assert np.diff(heights).min() >= search_figures.LABEL_GAP - 1e-9 and heights[0] >= 0
    assert places["c"] > places["a"] > places["b"] and list(places) == ["a", "b", "c", "d", "e"]


def test_a_page_without_a_search_has_no_section_of_it(tmp_path: Path, split: samples.Split) -> None:
    samples.write_sweep(tmp_path, split, kinds=["main_results"], seeds=1, epochs=3, representations=False)
    html = write_report([tmp_path]).read_text(encoding="utf-8")
    assert "view-search" not in html and not list((tmp_path / "figures").glob("search*"))


def test_without_optuna_the_rest_is_there(
    tmp_path: Path, split: samples.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    search_samples.write_tuning(tmp_path, split, {"cmath": 0.6}, trials=4, seeds=1, **QUICK)
    page = write_report([tmp_path])
    assert '<code>pip install "cmath_jax[tune]"</code>' in page.read_text(encoding="utf-8")
    assert all(row["share"] == "" and row["chosen"] for row in rows(page, "search-hyperparameters"))


def test_what_decides_has_the_largest_share_and_optuna_speaks_again() -> None:
    optuna = pytest.importorskip("optuna", reason="Optuna is not installed")
    before = optuna.logging.get_verbosity()
    shares = importance(found(32, failed=[1]), 4).shares
    assert optuna.logging.get_verbosity() == before
    assert list(shares) == [dimension["name"] for dimension in search_samples.SPACE]
    assert max(shares, key=lambda name: shares[name]) == "optim.learning_rate" and shares["optim.learning_rate"] > 50
    assert sum(shares.values()) == pytest.approx(100)
    assert shares == importance(found(32, failed=[1]), 4).shares


def test_only_the_first_rung_counts(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed")
    plain, changed = search_samples.model_search("cmath"), search_samples.model_search("cmath")
    for trial in changed["trials"]:
        trial["validation"] = [*trial["validation"][:4], *(score / 2 for score in trial["validation"][4:])]
    changed["best"] = max(
        (trial for trial in changed["trials"] if trial["state"] == "complete"), key=lambda t: max(t["validation"])
    )["number"]
    entry = {"trials": 16, "epochs": 16, "rungs": [4, 8, 16], "sampler": "random"}
    models = [read_search(Path("x"), {**entry, "models": {"cmath": each}}).models[0] for each in (plain, changed)]
    assert importance(models[0], 4) == importance(models[1], 4)
    assert capfd.readouterr() == ("", "")


def test_too_little_for_an_importance_has_a_reason() -> None:
    assert importance(found(5, failed=[0, 1]), 4).reason == "fewer than 4 trials have a score"
    search = search_samples.model_search("cmath")
    for trial in search["trials"]:
        trial["validation"] = [50.0] * len(trial["validation"])
    entry = {"trials": 16, "epochs": 16, "rungs": [4], "sampler": "tpe", "models": {"cmath": search}}
    assert importance(read_search(Path("x"), entry).models[0], 4).reason == "all trials have the same score"


def test_trials_that_share_all_options_have_a_reason() -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed")
    search = search_samples.model_search("cmath")
    for trial in search["trials"]:
        trial["options"] = search["trials"][0]["options"]
    entry = {"trials": 16, "epochs": 16, "rungs": [4], "sampler": "tpe", "models": {"cmath": search}}
    assert importance(read_search(Path("x"), entry).models[0], 4).reason == "the options do not tell the trials apart"


def test_it_has_no_barriers(page: Path) -> None:
    import browsers  # skips where there is no browser, and not all tests here need one

    with browsers.chromium() as browser:
        opened, wrong = browsers.opened(browser, page.as_uri(), width=390, scheme="dark")
        opened.evaluate("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
        assert browsers.barriers(opened) == []
        assert wrong == []
