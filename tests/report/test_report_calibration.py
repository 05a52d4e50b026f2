"""The section on calibration: its numbers against a count by hand, and what is wrong with the files."""

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_samples as samples

from cmath_jax.report import calibration_figures, write_report
from cmath_jax.report.__main__ import main
from cmath_jax.report.load import load_run

BINS = 15


def rows_of(page: Path, name: str) -> list[dict[str, str]]:
    with open(page.parent / "figures" / f"{name}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def section(page: Path) -> str:
    """The text of the section, without its drawings."""
    html = page.read_text(encoding="utf-8")
    html = re.sub("<svg.*?</svg>", "", html, flags=re.DOTALL)
    return html[html.index('id="view-calibration"') :].split("</section>")[0]


def sure_and_right(folder: Path, temperatures: list[float] | None) -> list[list[tuple[float, bool]]]:
    """Of each seed: confidence, and whether it is right, of the labelled utterances. Without temperatures: before."""
    seeds: dict[int, list[tuple[float, bool]]] = {}
    for row in samples.read_predictions(folder):
        if row["label"] is not None:
            power = 1 / temperatures[row["seed"]] if temperatures else 1
            weights = [p**power for p in row["probabilities"]]
            pair = (max(weights) / sum(weights), row["label"] == row["prediction"])
            seeds.setdefault(row["seed"], []).append(pair)
    return [seeds[seed] for seed in sorted(seeds)]


def binned(pairs: list[tuple[float, bool]]) -> dict[int, list[tuple[float, bool]]]:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in pairs:
        bins.setdefault(math.floor(confidence * BINS), []).append((confidence, right))
    return bins


def error(pairs: list[tuple[float, bool]]) -> float:
    gaps = [abs(sum(c for c, _ in inside) - sum(r for _, r in inside)) for inside in binned(pairs).values()]
    return 100 * sum(gaps) / len(pairs)


@pytest.fixture(scope="module")
def split() -> samples.Split:
    return samples.make_split(14, mean_length=12)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, split: samples.Split) -> Path:
    folder = tmp_path_factory.mktemp("run") / "mine"
    samples.write_run(folder, split, representations=False)
    return write_report([folder])


def temperatures(folder: Path) -> list[float]:
    return json.loads((folder / "result.json").read_text())["calibration"]["temperature"]["values"]


def test_the_table_has_the_errors_of_the_predictions(run: Path) -> None:
    temperature_s = temperatures(run.parent)
    assert len(set(temperature_s)) == 3
    expected = {
        "temperature": temperature_s,
        "validation before": [9.0, 10.0, 11.0],
        "validation after": [3.25, 3.25, 3.25],
        "test before": [error(pairs) for pairs in sure_and_right(run.parent, None)],
        "test after": [error(pairs) for pairs in sure_and_right(run.parent, temperature_s)],
    }
    (row,) = rows_of(run, "calibration")
    assert row.pop("run") == "mine" and set(row) == {f"{name} {part}" for name in expected for part in ("mean", "std")}
    cells = re.findall("<td.*?</td>", section(run).split("<tbody>")[1])
    for (name, values), cell in zip(expected.items(), cells, strict=True):
        assert float(row[f"{name} mean"]) == pytest.approx(np.mean(values), abs=1e-4)
        assert float(row[f"{name} std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-4)
        assert f"{np.mean(values):.2f}" in cell and f"± {np.std(values, ddof=1):.2f}" in cell


def test_the_diagram_counts_all_seeds_together(run: Path) -> None:
    rows = rows_of(run, "calibration-mine")
    assert len(rows) == 2 * BINS
    for when, by_seed in {"before": None, "after": temperatures(run.parent)}.items():
        pairs = [pair for seed in sure_and_right(run.parent, by_seed) for pair in seed]
        bins = binned(pairs)
        for b, row in enumerate(row for row in rows if row["calibration"] == when):
            inside = bins.get(b, [])
            assert [float(row["from"]), float(row["to"])] == pytest.approx([100 * b / BINS, 100 * (b + 1) / BINS])
            assert int(row["utterances"]) == len(inside)
            assert float(row["percent of utterances"]) == pytest.approx(100 * len(inside) / len(pairs))
            if not inside:
                assert row["confidence"] == row["accuracy"] == ""
                continue
            confidence, accuracy = (100 * float(np.mean(values)) for values in zip(*inside, strict=True))
            assert float(row["confidence"]) == pytest.approx(confidence, abs=1e-3)
            assert float(row["accuracy"]) == pytest.approx(accuracy)
        assert f"{error(pairs):.2f} % {when}" in (run.parent / "figures" / "calibration-mine.svg").read_text()
    assert "3 seeds together" in section(run)


def test_bins_of_few_utterances_stand_apart(run: Path, tmp_path: Path) -> None:
    assert any(0 < int(row["utterances"]) < 10 for row in rows_of(run, "calibration-mine"))
    assert "bins of under 10 utterances" in section(run)
    samples.write_run(tmp_path / "many", samples.make_split(200, texts=False), representations=False)
    page = write_report([tmp_path / "many"])
    counts = [int(row["utterances"]) for row in rows_of(page, "calibration-many")]
    assert ("bins of under 10 utterances" in section(page)) == any(0 < count < 10 for count in counts)


def change(folder: Path, changed: Callable[[dict[str, Any]], Any]) -> None:
    result = json.loads((folder / "result.json").read_text())
    changed(result["calibration"])
    samples.write_json(folder / "result.json", result)


@pytest.mark.parametrize(("after", "said"), [(10.0, "falls from 20.00 to 10.00"), (30.5, "rises from 20.00 to 30.50")])
def test_what_it_did_is_said(after: float, said: str, tmp_path: Path, split: samples.Split) -> None:
    samples.write_run(tmp_path / "run", split, seeds=1, representations=False)
    change(tmp_path / "run", lambda entry: entry["test"]["before"].update(mean=20.0))
    change(tmp_path / "run", lambda entry: entry["test"]["after"].update(mean=after))
    assert said in section(write_report([tmp_path / "run"]))


@pytest.mark.parametrize(("shift", "said"), [(0.4, False), (2.0, True)])
def test_a_diagram_that_is_not_that_of_the_table_says_so(
    shift: float, said: bool, tmp_path: Path, split: samples.Split
) -> None:
    samples.write_run(tmp_path / "run", split, seeds=2, representations=False)
    change(
        tmp_path / "run",
        lambda entry: entry["test"]["after"]["values"].append(entry["test"]["after"]["values"].pop() + shift),
    )
    text = section(write_report([tmp_path / "run"]))
    assert ("the rounded probabilities of predictions.jsonl" in text) == said
    assert ("up to 2.0 points" in text) == said


def test_an_older_result_has_no_section(tmp_path: Path, split: samples.Split) -> None:
    samples.write_run(tmp_path / "old", split, seeds=1, calibration=False, representations=False)
    page = write_report([tmp_path / "old"])
    assert "calibration" not in page.read_text(encoding="utf-8").lower()
    assert not list((page.parent / "figures").glob("calibration*"))
    # Beside a newer one only that has a row.
    samples.write_run(tmp_path / "new", split, seeds=1, representations=False)
    page = write_report([tmp_path / "old", tmp_path / "new"], tmp_path / "page.html")
    assert [row["run"] for row in rows_of(page, "calibration")] == ["new"]
    assert [path.name for path in (tmp_path / "figures").glob("calibration-*.svg")] == ["calibration-new.svg"]


def test_a_sweep_shows_the_runs_that_it_shows_in_detail(tmp_path: Path, split: samples.Split) -> None:
    points = ("cmath", "sdt", "wo_mr")
    samples.write_sweep(
        tmp_path, split, kinds=["main_results", "ablations"], only=points, seeds=1, representations=False
    )
    page = write_report([tmp_path])
    assert [row["run"] for row in rows_of(page, "calibration")] == ["CMATH", "SDT"]
    found = [calibrated(tmp_path / "runs" / name) for name in ("cmath", "sdt")]
    better = sum(after < before for before, after in found)
    assert f"smaller after calibration for {better} of 2 models" in section(page)


def calibrated(folder: Path) -> tuple[float, float]:
    test = json.loads((folder / "result.json").read_text())["calibration"]["test"]
    return test["before"]["mean"], test["after"]["mean"]


DAMAGE: dict[str, Any] = {
    "nothing": None,
    "a list": [1],
    "a number": 3,
    "empty": {},
    "no error after": {"test": {"before": {"mean": 1, "std": 0, "values": [1]}}},
    "a temperature of 0": {"temperature": {"mean": 0, "std": 0, "values": [0]}},
    "a temperature that is no number": {"temperature": {"mean": 1, "std": 0, "values": [math.nan]}},
    "a text": {"temperature": {"mean": "warm", "std": 0, "values": [1]}},
    "an endless temperature": {"temperature": {"mean": math.inf, "std": 0, "values": [1]}},
    "too large a number": {"temperature": {"mean": 10**400, "std": 0, "values": [1]}},
    "no values": {"temperature": {"mean": 1, "std": 0, "values": []}},
    "another number of seeds": {"temperature": {"mean": 1, "std": 0, "values": [1, 1]}},
    "a deviation that is no number": {"temperature": {"mean": 1, "std": math.nan, "values": [1]}},
    "an error of 101 %": {
        "validation": {when: {"mean": 101, "std": 0, "values": [101]} for when in ("before", "after")}
    },
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_entry_is_one_line(
    case: str, tmp_path: Path, split: samples.Split, capsys: pytest.CaptureFixture[str]
) -> None:
    result = samples.write_run(tmp_path / "run", split, seeds=1, representations=False)
    damage = DAMAGE[case]
    partly = isinstance(damage, dict) and damage
    samples.write_json(
        tmp_path / "run" / "result.json",
        {**result, "calibration": {**result["calibration"], **damage} if partly else damage},
    )
    assert main([str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert any(told in message for told in ("not as a run writes it", "is no number of JSON"))
    assert not (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("first", "others"),
    [
        (math.nan, 0.01),
        (math.inf, 0.01),
        (1e300, 0.01),
        (1.1, 0.01),
        (0.0, 0.01),
        (0.5, 0.5),
        (-0.1, 1 / 6),
        (1.1, 1 / 6),
    ],
)
def test_probabilities_have_to_be_some(
    first: float, others: float, tmp_path: Path, split: samples.Split, capsys: pytest.CaptureFixture[str]
) -> None:
    samples.write_run(tmp_path / "run", split, seeds=2, representations=False)
    rows = samples.read_predictions(tmp_path / "run")
    spoiled = next(row for row in rows if row["seed"] == 1 and row["utterance"] == 2)
    spoiled["probabilities"] = [first, *(others for _ in split.classes[1:])]
    samples.write_lines(tmp_path / "run" / "predictions.jsonl", rows)
    assert main([str(tmp_path / "run")]) == 2
    where = f"predictions.jsonl: seed 1, conversation {spoiled['conversation']}, utterance 2: "
    told = f"{where}the probabilities are no distribution"
    if not math.isfinite(first):  # which JSON does not know
        told = f"predictions.jsonl, line {1 + rows.index(spoiled)}: not JSON: "
    assert told in capsys.readouterr().err


def test_what_a_run_says_of_itself_is_what_its_file_gives(tmp_path: Path, split: samples.Split) -> None:
    samples.write_run(tmp_path, split)
    run = load_run(tmp_path, "run")
    assert run.calibration and calibration_figures.apart(run.predictions, run.calibration) == 0
