"""Scaling studies: what is measured is what training does, and what is reported is what was measured."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from samples import tiny

from cmath_jax.commands.train import main
from cmath_jax.config import override
from cmath_jax.data.packing import Shape
from cmath_jax.errors import InputError
from cmath_jax.scaling import measurement, report, roofline, studies
from cmath_jax.scaling.studies import FAILED, MEASURED, NOT_RUN, run_studies
from cmath_jax.sweeps.experiment import Experiment, Measuring, Section, load
from cmath_jax.training.corpora import load_configured

ROOT = Path(__file__).parents[2]
MEASURING = Measuring(repeats=3, seconds=0.01)
BASE = tiny(
    model__width=40,
    model__dropout=0.0,
    train__batch_size=4,
    parallel__devices=1,
    data__simulation__mean_length=30.0,
    data__simulation__max_length=40,
)
SECTIONS = (
    Section("devices_strong", {str(n): {"parallel.devices": n} for n in (1, 2, 99)}),
    Section("engine", {engine: {"parallel.engine": engine, "parallel.devices": 2} for engine in ("jit", "pmap")}),
    Section("population", {"3": {"parallel.population": 3}}),
    Section("width", {"lost": {"optim.learning_rate": 1e38}}),
)
EXPERIMENT = Experiment(BASE, SECTIONS, measuring=MEASURING)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a study that is done, with its report."""
    path = tmp_path_factory.mktemp("scaling")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roofline, "PRODUCT_SIZES", (64,))
        report.write(path, run_studies(EXPERIMENT, path))
    return path


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def table_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "scaling.csv", newline="") as file:
        return list(csv.DictReader(file))


def points(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(s["kind"], name): point for s in result["studies"] for name, point in s["points"].items()}


@pytest.mark.slow
def test_numbers_are_positive_and_go_together(result: dict[str, Any]) -> None:
    measured = [point["numbers"] for point in points(result).values() if point["status"] == MEASURED]
    assert len(measured) == 5
    for n in measured:
        assert all(np.all(np.array(value) > 0) for name, value in n.items() if name not in ("engine", "padding"))
        assert len(n["step_seconds"]) == n["repeats"] == MEASURING.repeats
        assert n["step_low"] <= n["step_median"] == np.median(n["step_seconds"]) <= n["step_high"]
        assert n["throughput"] == pytest.approx(n["utterances"] / n["step_median"])
        assert n["throughput_low"] <= n["throughput"] <= n["throughput_high"]
        assert n["achieved_flops"] == pytest.approx(n["flops"] / n["step_median"])
        assert n["peak_share"] == pytest.approx(n["achieved_flops"] / (n["devices"] * n["product_rate"]))


@pytest.mark.slow
def test_a_step_is_one_of_training(result: dict[str, Any]) -> None:
    """Conversations and utterances by the corpus itself, FLOPs by the whole batch, whatever devices share it."""
    corpus = load_configured(BASE)
    lengths = [len(conversation) for conversation in corpus.splits["train"]]
    steps = -(-len(lengths) // BASE.train.batch_size)
    for (kind, name), point in points(result).items():
        if point["status"] != MEASURED:
            continue
        n = point["numbers"]
        members = 3 if kind == "population" else 1
        expected = {"devices_strong": name, "engine": "2", "population": "1"}[kind]
        assert (n["members"], n["devices"]) == (members, int(expected))
        assert n["utterances"] == pytest.approx(members * sum(lengths) / steps)
        assert n["conversations"] == pytest.approx(members * len(lengths) / steps)
        assert n["padding"] == pytest.approx(1 - sum(lengths) / (steps * n["rows"] * n["slots"]))
        sizes = roofline.WorkloadSizes(corpus.dims, len(corpus.classes), corpus.speakers, Shape(n["rows"], n["slots"]))
        assert n["flops"] == pytest.approx(members * roofline.product_flops(BASE, sizes))
        # The compiler counts what one device does: the products of its rows, and the update of all parameters.
        assert n["flops"] < n["counted_flops"] < 1.25 * n["flops"] + 30 * n["parameters"] * max(n["devices"], members)
    engines = {name: points(result)["engine", name]["numbers"]["engine"] for name in ("jit", "pmap")}
    assert engines == {"jit": "jit", "pmap": "pmap"}
    assert points(result)["population", "3"]["numbers"]["engine"] == "population"


@pytest.mark.slow
def test_a_point_without_numbers_says_why(result: dict[str, Any], folder: Path) -> None:
    absent, lost = points(result)["devices_strong", "99"], points(result)["width", "lost"]
    assert absent["status"] == NOT_RUN
    assert absent["reason"] == f"parallel.devices=99, but there are {jax.device_count()} (cpu)"
    assert lost["status"] == FAILED
    assert "no longer finite" in lost["reason"]
    assert list(result["failed"]) == ["width_lost"]
    for text in (report.readable(result), (folder / "report.html").read_text(), (folder / "scaling.csv").read_text()):
        assert absent["reason"] in text
        assert lost["reason"] in text


@pytest.mark.slow
def test_its_page_has_no_barriers(folder: Path) -> None:
    import browsers  # skips where there is no browser, and not all tests here need one

    with browsers.chromium() as browser:
        page, wrong = browsers.opened(browser, (folder / "report.html").as_uri(), width=390, scheme="dark")
        assert browsers.barriers(page) == []
        assert wrong == []


@pytest.mark.slow
def test_memory_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "free_memory", lambda devices: 1000)
    with pytest.raises(InputError, match=r"a step needs \d\.\d MB, and a device has 1\.0 kB left"):
        measurement.measure(BASE, load_configured(BASE), MEASURING)


@pytest.mark.slow
def test_simulated_devices_are_labelled_everywhere(result: dict[str, Any], folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert result["environment"]["simulated"]
    assert result["warning"] in report.readable(result)
    assert result["warning"] in page
    assert page.count('<span class="badge">simulated devices</span>') == len(SECTIONS)
    drawings = sorted((folder / "figures").glob("*.svg"))
    assert [path.stem for path in drawings] == ["devices_strong", "engine"]
    assert all(report.SIMULATED in path.read_text() for path in drawings)
    assert {row["simulated_devices"] for row in table_of(folder)} == {"true"}


@pytest.mark.slow
def test_real_devices_are_not_called_simulated(result: dict[str, Any], tmp_path: Path) -> None:
    real = result | {"environment": result["environment"] | {"simulated": False}}
    assert "simulated devices" not in report.write(tmp_path, real).read_text().lower()
    assert "simulated devices" not in report.readable(real).lower()


@pytest.mark.slow
def test_the_table_holds_the_numbers(result: dict[str, Any], folder: Path) -> None:
    rows = {(row["study"], row["point"]): row for row in table_of(folder)}
    assert rows.keys() == points(result).keys()
    for key, point in points(result).items():
        assert rows[key]["status"] == point["status"]
        for name, value in point.get("numbers", {}).items():
            said = rows[key][name]
            assert [float(x) for x in said.split()] == value if isinstance(value, list) else said == str(value)


@pytest.mark.slow
def test_efficiency_is_throughput_per_device(result: dict[str, Any]) -> None:
    (view, *others) = report.views(result)
    one, two = (view.measured[n]["throughput"] for n in ("1", "2"))
    assert view.efficiency == pytest.approx({"1": 1.0, "2": two / one / 2})
    assert not any(other.efficiency for other in others)


@pytest.mark.slow
def test_one_device_is_compared_with_nothing(result: dict[str, Any]) -> None:
    study = next(study for study in result["studies"] if study["kind"] == "devices_strong")
    kept = {name: study["points"][name] for name in ("1", "99")}
    (view,) = report.views(result | {"studies": [study | {"points": kept}]})
    assert view.graphic is None
    assert "One point was measured: nothing to compare." in view.intro
    assert list(view.missing) == ["99"]


def test_growth_is_the_power_of_the_length() -> None:
    measured = {str(n): {"memory": 7.0 * n, "step_median": 3e-9 * n**2} for n in (64, 512, 4096)}
    assert "memory grows with the length to the power of 1.00, time to the power of 2.00" in report.growth(measured)
    assert report.growth({"64": {}}) == ""


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure(config: Any, *_: Any) -> None:
        measured.append(config.experiment)
        raise InputError("it would have been measured")

    monkeypatch.setattr(studies, "measure", measure)
    folder = Path(shutil.copytree(folder, tmp_path / "copy"))
    log = folder / "measurements.jsonl"
    before = log.read_text()
    log.write_text(before + before[:100])  # killed while it wrote a line
    result = json.loads((folder / "result.json").read_text())
    again = run_studies(EXPERIMENT, folder)
    assert measured == ["devices_strong_99", "width_lost"]  # it may work now
    for key, point in points(again).items():
        assert point == points(result)[key] or point["reason"] == "it would have been measured"

    # With other versions, or in another way, all is measured again.
    every = list(dict(EXPERIMENT.runs.values()))
    surroundings = studies.environment()
    measured.clear()
    monkeypatch.setattr(studies, "environment", lambda: surroundings | {"source": "changed"})
    run_studies(EXPERIMENT, folder)
    assert measured == every
    measured.clear()
    monkeypatch.setattr(studies, "environment", lambda: surroundings)
    run_studies(replace(EXPERIMENT, measuring=replace(MEASURING, repeats=4)), folder)
    assert measured == every


@pytest.mark.slow
def test_another_study_is_refused(folder: Path) -> None:
    other = replace(EXPERIMENT, config=override(BASE, {"model.heads": 4}))
    with pytest.raises(InputError, match=r"another sweep.*model\.heads"):
        run_studies(other, folder)


@pytest.mark.slow
def test_a_study_is_read_back_from_its_config(folder: Path) -> None:
    assert load(folder / "config.json").runs == EXPERIMENT.runs
    assert load(folder / "config.json").measuring == MEASURING


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.parts=width,wdith"], "parts='width,wdith' has wdith"),
        (["--config.repeats=0"], "--config.repeats=0 and --config.seconds=0.5 must be positive"),
        (["--config.model.name=sdt"], "model.name='sdt'"),
        (["--config.dataset=gone.pkl"], "gone.pkl"),
        (["--config.parallel.devices=99"], "parallel.devices=99"),
        (["--config.model.width=7"], "model.width=7 is not a multiple"),
        (["--shard", "0/2"], "--shard"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_readable_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scaling = str(ROOT / "experiments" / "scaling.py")
    assert main(["--config", scaling, "--workdir", str(tmp_path), *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert words in said.err
    assert said.out == ""


@pytest.mark.slow
def test_the_quick_preset_by_the_command_line(tmp_path: Path) -> None:
    """All its studies, and nothing left to do when it runs again."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}

    def launch(*arguments: str | Path) -> str:
        command = [sys.executable, ROOT / "launch.py", "--workdir", tmp_path / "run", "--config", *arguments]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = launch(ROOT / "experiments" / "scaling.py", "--config.quick=true")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [study["kind"] for study in result["studies"]] == list(report.TITLES)
    assert {point["status"] for point in points(result).values()} == {MEASURED}
    assert (tmp_path / "run" / "report.html").stat().st_size > 50_000
    lines = (tmp_path / "run" / "measurements.jsonl").read_text()
    assert launch(tmp_path / "run" / "config.json") == said
    assert (tmp_path / "run" / "measurements.jsonl").read_text() == lines
