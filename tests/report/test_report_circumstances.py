"""A score on the page is told with what it belongs to, and stands beside the paper only where both are comparable."""

import copy
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_samples as samples

from cmath_jax.report import paper, write_report
from cmath_jax.results.circumstances import Circumstances

MINILM = {"size": 384, "origin": "extracted", "settings": {"encoder": "minilm", "pooling": "own"}, "fine_tuned": False}
FEATURES = {
    "published": samples.PUBLISHED,
    "minilm": {**samples.PUBLISHED, "t": MINILM},
    "other layer": {**samples.PUBLISHED, "t": {**samples.PUBLISHED["t"], "vectors": 2}},
    "MMGCN's text": {**samples.PUBLISHED, "t": {**samples.PUBLISHED["t"], "size": 600}},
    "own of the same size": {**samples.PUBLISHED, "t": {"size": 1024, "origin": "not stated"}},
    "own video": {**samples.PUBLISHED, "v": {"size": 342, "origin": "not stated"}},
    "simulated": {m: {"size": x["size"], "origin": "simulated"} for m, x in samples.PUBLISHED.items()},
    "not recorded": None,
}


@pytest.fixture(scope="module")
def split() -> samples.Split:
    return samples.make_split(8)


@pytest.fixture(autouse=True)
def whole_test_split(split: samples.Split, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = paper._numbers()["datasets"]["meld"]
    monkeypatch.setitem(numbers, "test_utterances", int((split.label_n >= 0).sum()))


def table(page: Path, name: str) -> dict[str, dict[str, str]]:
    with open(page.parent / "figures" / f"{name}.csv", encoding="utf-8") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


def of_paper(page: Path) -> Iterator[str]:
    """All numbers of the paper in the tables beside a page."""
    for path in (page.parent / "figures").glob("*.csv"):
        with open(path, encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield from (value for name, value in row.items() if name and name.split()[-1] == "paper" and value)


@pytest.mark.parametrize("case", FEATURES)
def test_the_paper_s_rows_need_the_paper_s_features(case: str, tmp_path: Path, split: samples.Split) -> None:
    samples.write_run(tmp_path / "run", split, features=FEATURES[case], seeds=2, representations=False)
    page = write_report([tmp_path / "run"])
    html = page.read_text(encoding="utf-8")
    assert ("AdaIGN" in html) == (case == "published") == bool(list(of_paper(page)))
    assert ("left out:" in html) == (case != "published")
    assert "weaker" not in html


def test_a_sweep_keeps_the_numbers_of_the_paper_that_are_of_like_features(tmp_path: Path, split: samples.Split) -> None:
    kinds = ("main_results", "ablations", "modalities", "width")
    samples.write_sweep(
        tmp_path, split, kinds=kinds, features=FEATURES["minilm"], seeds=2, representations=False, missing=["wo_hd"]
    )
    page = write_report([tmp_path])
    html = page.read_text(encoding="utf-8")
    for name in ("main-results", "ablations", "width"):
        assert not any(row.get("weighted_f1 paper") for row in table(page, name).values())
    assert "best of the paper" not in html and "w/o HD" in html and "AdaIGN" not in html
    # Of audio and video alone the features are the paper's.
    rows = table(page, "modalities")
    kept = {label for label, row in rows.items() if row["weighted_f1 paper"]}
    assert kept == {"audio", "video", "audio + video"}
    assert rows["audio + video"]["features"] == "audio 300 (published), video 342 (published)"
    said = html[html.index('id="view-modalities"') :].partition("</p>")[0].replace("&#39;", "'")
    assert "The paper's numbers of text, text + audio, text + video, text + audio + video are left out: the" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": "mine"}, "the paper has no such data set"),
        ({"utterances": 100}, "2610 utterances, and this one 100"),
        ({"modalities": "ta"}, "of text + audio + video, and these of text + audio"),
        ({"features": None}, "not stated"),
        ({"features": FEATURES["minilm"]}, "(text|minilm)"),
        ({}, ""),
        ({"modalities": "ta", "of": "ta"}, ""),
        ({"modalities": "tav", "of": "ta"}, "of text + audio, and these of text + audio + video"),
    ],
)
def test_the_rule(change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(paper._numbers()["datasets"]["meld"], "test_utterances", 2610)
    given = {"dataset": "meld", "utterances": 2610, "modalities": "tav", "features": samples.PUBLISHED, "of": "tav"}
    given |= change
    result = {"modalities": given["modalities"]}
    if given["features"]:
        result["features"] = {m: given["features"][m] for m in given["modalities"]}
    reason = paper.why_apart(given["dataset"], Circumstances.read(result, {}), given["utterances"], given["of"])
    assert bool(reason) == bool(words)
    assert all(word in reason for word in words.strip("()").split("|"))


def test_the_rule_s_data_name_every_data_set_of_the_paper() -> None:
    for numbers in paper._numbers()["datasets"].values():
        assert set(numbers["features"]) == set("tav") and numbers["test_utterances"] > 0


def test_a_run_says_what_it_sees_and_of_which_features(tmp_path: Path, split: samples.Split) -> None:
    hostile = copy.deepcopy(FEATURES["minilm"])
    assert hostile is not None
    hostile["t"]["settings"]["encoder"] = samples.HOSTILE
    for name, features in {"run": FEATURES["minilm"], "hostile": hostile, "old": None}.items():
        samples.write_run(tmp_path / name, split, modalities="ta", features=features, representations=False)
        page = write_report([tmp_path / name])
        html = page.read_text(encoding="utf-8")
        facts = html[html.index('class="facts"') : html.index("</dl>", html.index('class="facts"'))]
        assert "text + audio" in facts and "video" not in facts.partition("<dt>Sees")[2]
        wanted = {"run": "text 384: extracted with minilm, pooling own, frozen", "old": "not stated"}.get(
            name, "&lt;script"
        )
        assert wanted in facts and "<script" not in html
        row = table(page, "runs")[name]
        assert row["modalities"] == "ta" and ("384" in row["features"]) == (name != "old")


def test_rows_that_differ_are_marked(tmp_path: Path, split: samples.Split) -> None:
    """In one table: one like the first, one of text alone, one without a record, one with another layer."""
    few: dict[str, Any] = {"representations": False, "seeds": 2}
    samples.write_run(tmp_path / "first", split, features=FEATURES["minilm"], **few)
    samples.write_run(tmp_path / "alike", split, features=FEATURES["minilm"], **few)
    samples.write_run(tmp_path / "text", split, features=FEATURES["minilm"], modalities="t", **few)
    samples.write_run(tmp_path / "old", split, features=None, **few)
    samples.write_run(tmp_path / "layer", split, features=FEATURES["other layer"], **few)
    names = ("first", "alike", "text", "old", "layer")
    html = write_report([tmp_path / name for name in names], tmp_path / "r.html").read_text(encoding="utf-8")
    body = html[html.index('id="view-runs"') :].partition("<tbody>")[2].partition("</tbody>")[0]
    rows = {name: next(row for row in body.split("</tr>") if f'<th scope="row">{name}' in row) for name in names}
    assert "mark" not in rows["first"] and "mark" not in rows["alike"]
    assert '<small class="mark">sees text</small>' in rows["text"]
    assert '<small class="mark">features not stated</small>' in rows["old"]
    assert "other text features: 1024, published, of a RoBERTa" in rows["layer"]


def test_a_point_of_a_sweep_with_other_data_is_marked(tmp_path: Path, split: samples.Split) -> None:
    samples.write_sweep(tmp_path, split, kinds=["main_results"], representations=False, seeds=2)
    samples.write_run(
        tmp_path / "runs" / "sdt", split, fingerprint="other", source="another file", representations=False, seeds=2
    )
    html = write_report([tmp_path]).read_text(encoding="utf-8")
    assert '<small class="mark">other data: meld, another file</small>' in html


def test_studies_on_data_of_one_name_are_told_apart(tmp_path: Path, split: samples.Split) -> None:
    for name in ("minilm", "published", "again"):
        features = FEATURES.get(name, samples.PUBLISHED)
        samples.write_run(tmp_path / name, split, features=features, fingerprint=name, seeds=2, representations=False)
    folders = [tmp_path / name for name in ("minilm", "published", "again")]
    html = write_report(folders, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "MELD, text 384 (minilm, frozen), audio 300 (published), video 342 (published)</a>" in html
    assert "video 342 (published), data 2 of 3</a>" in html and "data 3 of 3</a>" in html


def test_with_one_seed_no_p_value_is_shown(tmp_path: Path, split: samples.Split) -> None:
    samples.write_run(tmp_path / "a", split, seeds=1, representations=False)
    samples.write_run(tmp_path / "b", split, seeds=1, seed=1, representations=False)
    page = write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "r.html")
    row = table(page, "runs")["b"]
    assert row["difference"] and row["p_holm"] == row["difference low"] == "" and row["p_utterances_holm"]
    html = page.read_text(encoding="utf-8")
    assert '<span class="none">not known</span>' in html and "With one seed the noise of seeds cannot be known" in html
