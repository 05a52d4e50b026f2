"""What the report puts into one table, and what stands apart."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import report_samples as samples

from cmath_jax.report import studies, write_report


def table(page: Path, name: str) -> dict[str, dict[str, str]]:
    """A CSV file beside the page: first column -> column -> text."""
    with open(page.parent / "figures" / f"{name}.csv", encoding="utf-8") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def split() -> samples.Split:
    return samples.make_split()


def test_a_sweep_that_was_split_gives_the_report_of_the_whole(tmp_path: Path, split: samples.Split) -> None:
    halves = {"left": ("cmath", "wo_mr", "wo_lld"), "right": ("cmath", "wo_hld", "symmetric")}
    for name, only in {**halves, "whole": tuple(dict.fromkeys(sum(halves.values(), ())))}.items():
        samples.write_sweep(tmp_path / name, split, kinds=["ablations"], only=only, representations=False)
    whole = write_report([tmp_path / "whole"])
    merged = write_report([tmp_path / "left", tmp_path / "right"], tmp_path / "both" / "page.html")
    assert merged == tmp_path / "both" / "page.html"
    assert len(table(whole, "ablations")) == 7
    assert table(merged, "ablations") == table(whole, "ablations")
    assert "In more than one folder, and shown from the first: cmath." in merged.read_text(encoding="utf-8")


def test_a_point_that_failed_on_one_machine_comes_from_the_other(tmp_path: Path, split: samples.Split) -> None:
    samples.write_sweep(tmp_path / "a", split, kinds=["main_results"], failed={"sdt": "no memory"})
    samples.write_sweep(tmp_path / "b", split, kinds=["main_results"])
    (study,) = studies.load_studies([tmp_path / "a", tmp_path / "b"])
    assert all(point.run for point in study.sections[0].points)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "seeds"),
    [({"model.width": 80}, 3), ({"data.modalities": "ta"}, 3), ({"optim.schedule": "cosine"}, 3), ({}, 2)],
)
def test_sweeps_around_other_settings_are_not_compared(
    tmp_path: Path, split: samples.Split, base: dict[str, Any], seeds: int
) -> None:
    few: dict[str, Any] = {"kinds": ["ablations"], "representations": False}
    samples.write_sweep(tmp_path / "a", split, only=("cmath", "wo_mr"), **few)
    samples.write_sweep(tmp_path / "b", split, only=("cmath", "wo_lld"), base=base, seeds=seeds, **few)
    samples.write_run(tmp_path / "plain", split, representations=False)
    folders = [tmp_path / name for name in ("a", "b", "plain")]
    page = write_report(folders, tmp_path / "report.html")
    assert {"w/o MR", "w/o LLD"} & set(table(page, "meld-1-ablations")) == {"w/o MR"}
    assert {"w/o MR", "w/o LLD"} & set(table(page, "meld-2-ablations")) == {"w/o LLD"}
    assert "plain" in table(page, "meld-1-runs") and not (tmp_path / "figures" / "meld-2-runs.csv").exists()
    # The reader is told which is which.
    settings = [study.settings for study in studies.load_studies(folders)]
    name, value = next(iter(base.items()), ("seeds", seeds))
    assert [[text.split("=")[0] for text in own] for own in settings] == [[name], [name]]
    assert settings[1] == (f"{name}={json.dumps(value)}",)
    said = settings[1][0].replace('"', "&#34;")
    assert f"MELD, {said}" in page.read_text(encoding="utf-8")


def test_sweeps_that_differ_in_where_and_how_they_ran_are_one(tmp_path: Path, split: samples.Split) -> None:
    free = {
        "experiment": "other",
        "linear_reference": "tav",
        "parallel.engine": "pmap",
        "parallel.population": 2,
        "data.features_dir": "elsewhere",
        "data.feature_set": "sdt",
        "data.file": "x.pkl",
        "data.prepared_dir": "prepared",
    }
    for name, base in {"a": {}, "b": free}.items():
        samples.write_sweep(tmp_path / name, split, kinds=["main_results"], base=base, representations=False)
    (study,) = studies.load_studies([tmp_path / "a", tmp_path / "b"])
    assert study.settings == () and study.sections[0].repeated == ("cmath", "sdt")


def test_the_same_name_with_other_data_is_another_study(tmp_path: Path, split: samples.Split) -> None:
    folders = [tmp_path / name / "run" for name in "xyz"]
    for folder, fingerprint in zip(folders, ("same", "other features", "same"), strict=True):
        samples.write_run(folder, split, fingerprint=fingerprint, representations=False)
    page = write_report(folders, tmp_path / "report.html")
    assert set(table(page, "meld-1-runs")) >= {"run", "run (2)"}
    assert "run (2)" not in table(page, "meld-2-runs")
