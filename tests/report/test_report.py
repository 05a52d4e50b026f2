"""The report's numbers against independent computation, what it escapes, and that it stands alone."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import report_samples as samples
from scipy import stats
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from cmath_jax.evaluation.joint_test import compare_models
from cmath_jax.evaluation.statistics import Utterances, compare_utterances, holm
from cmath_jax.report import paper, write_report
from cmath_jax.report.conversations import worst
from cmath_jax.report.load import load_run


def table(page: Path, name: str) -> dict[str, dict[str, str]]:
    """A CSV file beside the page: first column -> column -> text."""
    with open(page.parent / "figures" / f"{name}.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {next(iter(row.values())): row for row in rows}


def cells(page: Path, name: str) -> list[list[str]]:
    with open(page.parent / "figures" / f"{name}.csv", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def truth(folder: Path) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """All labelled rows of predictions.jsonl, and those of each seed."""
    rows = [row for row in samples.read_predictions(folder) if row["label"] is not None]
    return rows, [[row for row in rows if row["seed"] == seed] for seed in sorted({row["seed"] for row in rows})]


def columns(rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    return [row["label"] for row in rows], [row["prediction"] for row in rows]


def mean_f1(seeds: list[list[dict[str, Any]]]) -> float:
    return float(np.mean([100 * f1_score(*columns(rows), average="weighted") for rows in seeds]))


@pytest.fixture(scope="module")
def split() -> samples.Split:
    return samples.make_split(14, mean_length=12)


@pytest.fixture(scope="module", autouse=True)
def whole_test_split(split: samples.Split) -> Iterator[None]:
    """Lets the small split of these tests pass for the whole one that the paper's numbers are of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(paper._numbers()["datasets"]["meld"], "test_utterances", int((split.label_n >= 0).sum()))
        yield


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, split: samples.Split) -> Path:
    """The page of a sweep with every kind of section, a failed, a missing and a collapsed point."""
    folder = tmp_path_factory.mktemp("sweep")
    samples.write_sweep(folder, split, failed={"wo_cma": "seed 1: the loss is nan"}, missing=["wo_hd"], collapsed=["v"])
    return write_report([folder])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, split: samples.Split) -> Path:
    folder = tmp_path_factory.mktemp("run") / "mine"
    samples.write_run(folder, split)
    return write_report([folder])


def test_scores_of_a_run_are_those_of_its_predictions(run: Path) -> None:
    _, seeds = truth(run.parent)
    scores = {
        "accuracy": [100 * accuracy_score(*columns(rows)) for rows in seeds],
        "weighted_f1": [100 * f1_score(*columns(rows), average="weighted") for rows in seeds],
        **{
            name: [100 * f1_score(*columns(rows), labels=[name], average="macro", zero_division=0) for rows in seeds]
            for name in samples.MELD
        },
    }
    row = table(run, "runs")["mine"]
    for name, values in scores.items():
        assert float(row[f"{name} mean"]) == pytest.approx(np.mean(values))
        assert float(row[f"{name} std"]) == pytest.approx(np.std(values, ddof=1))
    values = scores["weighted_f1"]
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert float(row["weighted_f1 low"]) == pytest.approx(low)
    assert float(row["weighted_f1 high"]) == pytest.approx(min(high, 100))
    html = run.read_text(encoding="utf-8")
    assert f"{np.mean(values):.2f}" in html and f"± {np.std(values, ddof=1):.2f}" in html
    assert "Student&#39;s t over 3 seeds" in html


def test_one_seed_has_an_interval_over_conversations(tmp_path: Path, split: samples.Split) -> None:
    samples.write_run(tmp_path / "one", split, seeds=1)
    page = write_report([tmp_path / "one"])
    rows, _ = truth(tmp_path / "one")
    talks = [[row for row in rows if row["conversation"] == name] for name in {row["conversation"] for row in rows}]
    rng = np.random.default_rng(1)
    draws = [
        mean_f1([[row for k in rng.integers(len(talks), size=len(talks)) for row in talks[k]]]) for _ in range(200)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    row = table(page, "runs")["one"]
    assert float(row["weighted_f1 low"]) == pytest.approx(low, abs=3)
    assert float(row["weighted_f1 high"]) == pytest.approx(high, abs=3)
    assert "bootstrap over the conversations of the one seed" in page.read_text(encoding="utf-8")


def test_the_paper_stands_beside_ours(sweep: Path) -> None:
    row = table(sweep, "ablations")["w/o MR"]
    assert (float(row["accuracy paper"]), float(row["weighted_f1 paper"])) == (67.64, 66.6)
    difference = float(row["weighted_f1 mean"]) - 66.6
    html = sweep.read_text(encoding="utf-8")
    ablations = html[html.index('id="view-ablations"') : html.index('id="view-modalities"')]
    assert f"{difference:+.2f}".replace("-", "\N{MINUS SIGN}") in ablations
    main_results = table(sweep, "main-results")
    assert float(main_results["CMATH"]["fear paper"]) == 19.86
    adaign = main_results["AdaIGN (paper)"]
    assert (adaign["weighted_f1 paper"], adaign["weighted_f1 mean"]) == ("66.79", "")
    assert "quoted by the paper from other papers" in html and "exactly that of always answering neutral" in html
    majority = table(sweep, "width")["majority"]
    assert float(majority["accuracy mean"]) < 50 and "Student" in html


def test_a_data_set_that_the_paper_lacks_has_no_columns_of_it(tmp_path: Path) -> None:
    split = samples.make_split(dataset="mine")
    samples.write_sweep(tmp_path, split, kinds=["main_results"], representations=False)
    page = write_report([tmp_path])
    html = page.read_text(encoding="utf-8")
    assert "AdaIGN" not in html and '<th scope="col">paper</th>' not in html
    assert not any(row["weighted_f1 paper"] for row in table(page, "main-results").values())


def test_rows_are_compared_with_the_full_model(sweep: Path, split: samples.Split) -> None:
    runs = sweep.parent / "runs"
    names = {
        "w/o MR": "wo_mr",
        "w/o LLD": "wo_lld",
        "w/o HLD": "wo_hld",
        "finished blocks into the centre": "inject_block",
    }
    names |= {"teacher not stopped": "moving_teacher", "no noise in the fusion": "deterministic"}
    names |= {"nothing into the centre": "symmetric"}

    def by_seed(name: str) -> list[float]:
        return json.loads((runs / name / "result.json").read_text())["test"]["weighted_f1"]["values"]

    p_values = {label: stats.ttest_rel(by_seed(name), by_seed("cmath")).pvalue for label, name in names.items()}
    rows = table(sweep, "ablations")
    largest = 0.0
    for rank, (label, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(names) - rank) * p))
        assert float(rows[label]["p_seeds_holm"]) == pytest.approx(largest)
    difference = np.mean(by_seed("wo_mr")) - np.mean(by_seed("cmath"))
    assert float(rows["w/o MR"]["difference"]) == pytest.approx(difference)
    assert rows["CMATH"]["p_seeds_holm"] == "" and rows["majority"]["p_seeds_holm"] == ""

    predictions = [load_run(runs / name, name).predictions.prediction_tn for name in ("sdt", "cmath")]
    args = (Utterances(split.label_n, split.conversation_n, len(split.classes)), *predictions)
    row = table(sweep, "main-results")["SDT"]
    assert float(row["p_utterances_holm"]) == compare_utterances(*args).p_value

    # The p-value that the page shows is that of seeds and conversations together; the linear model has no seeds.
    joint = compare_models(*args)
    linear_n = load_run(runs / "cmath", "cmath").predictions.linear_n
    assert linear_n is not None and joint.interval is not None
    linear = compare_models(args[0], linear_n[None], predictions[1], fixed="a")
    corrected = holm([joint.p_value, linear.p_value])
    assert [float(row["difference low"]), float(row["difference high"])] == [joint.interval.low, joint.interval.high]
    rows = [row, table(sweep, "main-results")["linear, text + audio + video"]]
    assert [float(each["p_holm"]) for each in rows] == corrected
    assert [float(each["difference"]) for each in rows] == [joint.difference, linear.difference]
    html = sweep.read_text(encoding="utf-8")
    shown = html[html.index('id="view-main-results"') :].split("</table>")[0]
    assert all(f"<td>{'< 0.001' if p < 0.001 else f'{p:.3f}'}</td>" in shown for p in corrected if p is not None)


def test_warnings_come_first(sweep: Path) -> None:
    html = sweep.read_text(encoding="utf-8")
    warnings = html[html.index('class="warning"') : html.index('class="facts"')]
    assert "video (modalities) has collapsed (seeds 0, 1, 2)" in warnings
    assert "w/o CMA-T (ablations) failed: seed 1: the loss is nan" in warnings
    assert "Without a result as yet: w/o HD (ablations)" in warnings
    assert table(sweep, "modalities")["video"]["collapsed_seeds"] == "0 1 2"
    assert table(sweep, "ablations")["w/o CMA-T"]["weighted_f1 mean"] == ""


def test_the_gap_to_the_best_test_epoch(run: Path) -> None:
    rows = [json.loads(line) for line in (run.parent / "metrics.jsonl").read_text().splitlines()]
    gaps = []
    for seed in range(3):
        own = [row for row in rows if row["seed"] == seed]
        chosen = max(own, key=lambda row: row["validation"]["weighted_f1"])
        gaps.append(max(row["test"]["weighted_f1"] for row in own) - chosen["test"]["weighted_f1"])
    assert float(table(run, "test-peak")["mine"]["gap mean"]) == pytest.approx(np.mean(gaps))
    assert "A diagnostic, not a result." in run.read_text(encoding="utf-8")


def test_confusions_and_gates(run: Path, split: samples.Split) -> None:
    rows, _ = truth(run.parent)
    expected_cc = confusion_matrix(*columns(rows), labels=samples.MELD)
    counts = [int(cell[2]) for cell in cells(run, "confusion-mine")]
    np.testing.assert_array_equal(np.reshape(counts, (7, 7)), expected_cc)
    with np.load(run.parent / "representations.npz") as arrays:
        weight_n = arrays["gate_k_a_n"].astype(np.float32)
    header_and_rows = table(run, "gate-k-mine")
    label_n = split.label_n
    assert float(header_and_rows["all"]["a"]) == pytest.approx(weight_n[label_n >= 0].mean(), abs=1e-6)
    assert float(header_and_rows["joy"]["a"]) == pytest.approx(weight_n[label_n == 4].mean(), abs=1e-6)


def test_scores_by_length_are_those_of_the_conversations_of_that_length(sweep: Path, split: samples.Split) -> None:
    _, seeds = truth(sweep.parent / "runs" / "cmath")
    rng = np.random.default_rng(1)
    for group, (shortest, longest) in {"C1": (1, 9), "C2": (10, 20), "C3": (21, 1000)}.items():
        names = {f"test-{k}" for k, labels in enumerate(split.labels) if shortest <= len(labels) <= longest}
        chosen = [[row for row in rows if row["conversation"] in names] for rows in seeds]
        expected = mean_f1(chosen)
        row = next(row for row in cells(sweep, "lengths") if row[:2] == [group, "CMATH"])
        assert int(row[2]) == len(names)
        assert float(row[4]) == pytest.approx(expected)
        if len(names) == 1:
            assert row[6:8] == ["", ""]  # one conversation says nothing of others
            continue
        draws = []
        for _ in range(60):
            drawn = rng.choice(sorted(names), len(names))
            draws.append(
                mean_f1([[row for name in drawn for row in rows if row["conversation"] == name] for rows in chosen])
            )
        assert [float(row[6]), float(row[7])] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=4)


def test_p_values_by_length_are_corrected_for_all_groups_and_models(tmp_path: Path) -> None:
    split = samples.make_split(60, mean_length=14)
    samples.write_sweep(tmp_path, split, kinds=["lengths"], representations=False, seeds=2)
    runs = {name: load_run(tmp_path / "runs" / name, name).predictions for name in ("cmath", "multidag", "sdt")}
    length_n = np.array([len(labels) for labels in split.labels])[split.conversation_n]
    p_values = {}
    for group, (shortest, longest) in {"C1": (1, 9), "C2": (10, 20), "C3": (21, 1000)}.items():
        chosen_n = (length_n >= shortest) & (length_n <= longest) & (split.label_n >= 0)
        utterances = Utterances(split.label_n[chosen_n], split.conversation_n[chosen_n], 7)
        for label, other in (("MultiDAG", "multidag"), ("SDT", "sdt")):
            ours, theirs = (runs[name].prediction_tn[:, chosen_n] for name in ("cmath", other))
            compared = compare_models(utterances, ours, theirs)
            assert compared.p_value is not None
            p_values[group, label] = compared.p_value
    page = write_report([tmp_path])
    html = page.read_text(encoding="utf-8")
    largest = 0.0
    for rank, ((group, label), p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (6 - rank) * p))
        row = next(row for row in cells(page, "lengths") if row[:2] == [group, label])
        assert float(row[9]) == pytest.approx(largest)
        shown = html[html.index(f'<th scope="row">{group}: ') :].split("</tr>")[0]
        assert f"<td>{largest:.3f}</td>" in shown
    assert min(p_values.values()) < 0.5  # or all of them would be 1, whatever was done


def test_the_worst_conversations(run: Path) -> None:
    loaded = load_run(run.parent, "mine")
    _, seeds = truth(run.parent)
    wrong = [row["conversation"] for row in seeds[0] if row["label"] != row["prediction"]]
    shown = worst(loaded)
    assert len(shown) == 8
    assert [c.errors for c in shown] == sorted((wrong.count(name) for name in set(wrong)), reverse=True)[:8]
    assert all(c.errors == wrong.count(c.name) for c in shown)
    first = next(row for row in samples.read_predictions(run.parent) if row["conversation"] == shown[0].name)
    line = shown[0].lines[0]
    assert (line.text, line.speaker) == (first["text"], str(first["speaker"]))
    assert line.probability == pytest.approx(max(first["probabilities"]))
    assert [p for _, p in line.likeliest] == pytest.approx(sorted(first["probabilities"], reverse=True)[:3])


def test_what_is_in_the_folders_is_text_and_nothing_else(tmp_path: Path) -> None:
    classes = (samples.HOSTILE, *samples.MELD[1:])
    split = samples.make_split(classes=classes, hostile=True, dataset="<b>mine</b>")
    samples.write_run(tmp_path / "<i>run", split, experiment=samples.HOSTILE, source="</style><script>x")
    page = write_report([tmp_path / "<i>run"], tmp_path / "page.html")
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html and "<b>mine" not in html and "<i>run" not in html
    assert html.count("</style>") == 1 and html.count("<style>") == 1
    assert "&lt;script&gt;alert(" in html and "\x07" not in html
    for figure in (tmp_path / "figures").glob("*.svg"):
        root = ElementTree.fromstring(figure.read_bytes())
        assert not [e for e in root.iter() if e.tag.endswith("script")]


def test_equal_input_gives_equal_bytes(tmp_path: Path, sweep: Path) -> None:
    copied = tmp_path / sweep.parent.name
    shutil.copytree(sweep.parent, copied, ignore=shutil.ignore_patterns("report.html", "figures"))
    again = write_report([copied])
    files = sorted(path.name for path in (sweep.parent / "figures").iterdir())
    assert files == sorted(path.name for path in (again.parent / "figures").iterdir())
    for name in ["report.html", *(f"figures/{name}" for name in files)]:
        assert (sweep.parent / name).read_bytes() == (again.parent / name).read_bytes(), name


def test_the_page_needs_nothing_else(sweep: Path) -> None:
    html = sweep.read_text(encoding="utf-8")
    for outside in ("http:", "https:", "url(//", "@import", "<script", "src="):
        assert outside not in html.replace("http://www.w3.org/", "").replace("https://www.w3.org/", "")
    ids = [part.split('"')[0] for part in html.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    for target in {part.split('"')[0] for part in html.split('href="#')[1:]} | {
        part.split(")")[0] for part in html.split("url(#")[1:]
    }:
        assert target in ids
    figures = html[html.index("<svg") : html.rindex("</svg>")]
    assert "#1c2128" not in figures and "var(--ink)" in figures
    assert len(html) < 1_000_000
    assert not list(sweep.parent.rglob("*.partial"))
    for path in (sweep.parent / "figures").glob("*.svg"):
        assert path.with_suffix(".csv").exists() and "var(" not in path.read_text(encoding="utf-8")


def test_the_representations_of_multidag_stand_beside_those_of_cmath(tmp_path: Path, split: samples.Split) -> None:
    """As in Figure 3 of the paper; the features that went in are drawn once."""
    samples.write_sweep(tmp_path, split, kinds=["main_results", "lengths"], seeds=1)
    html = write_report([tmp_path]).read_text(encoding="utf-8")
    chapter = html[html.index('id="view-representations"') :]
    drawn = re.findall(r"(Fused|Input)[^.]*? of ([\w-]+), by t-SNE", chapter)
    assert {*drawn} == {("Fused", "CMATH"), ("Input", "CMATH"), ("Fused", "MultiDAG")}
