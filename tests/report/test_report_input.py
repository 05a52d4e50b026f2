"""What the report refuses, and its command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import report_samples as samples

from cmath_jax.errors import InputError
from cmath_jax.report import write_report
from cmath_jax.report.__main__ import main


@pytest.fixture(scope="module")
def split() -> samples.Split:
    return samples.make_split()


def spoil(folder: Path, name: str, text: str | None) -> None:
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text, encoding="utf-8")


BAD = {
    "no result": (
        "result.json",
        None,
        "result.json: there is no such file; name the folder of a finished run or sweep",
    ),
    "half a result": ("result.json", '{"experiment": "x", ', "not JSON"),
    "a list": ("result.json", "[1]", "not the result of a run"),
    "an empty result": ("result.json", "{}", "not as a run writes it"),
    "no curves": ("metrics.jsonl", None, "metrics.jsonl: there is no such file"),
    "half a line": ("metrics.jsonl", '{"seed": 0, "ep', "metrics.jsonl, line 1: not JSON"),
    "curves of something else": ("metrics.jsonl", '{"seed": 0}\n', "not as a run writes it"),
    "no predictions": ("predictions.jsonl", "", "seed 0 does not have the utterances"),
    "no arrays": ("representations.npz", "text", "representations.npz: not a file of arrays"),
    "another environment": ("environment.json", "[]", "environment.json: not a JSON object"),
    "an empty config": ("config.json", "", "config.json: not JSON"),
    "no curve of a seed": ("metrics.jsonl", "", "metrics.jsonl: there is a seed without an epoch"),
    "a way out": (
        "result.json",
        json.dumps({"sections": [{"kind": "width", "points": {"1": {"run": "../x", "options": {}}}}], "failed": {}}),
        "'../x' is not the name of a folder",
    ),
    "half a sweep": ("result.json", '{"sections": [{}]}', "not as a sweep writes it"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_one_line(
    case: str, tmp_path: Path, split: samples.Split, capsys: pytest.CaptureFixture[str]
) -> None:
    name, text, message = BAD[case]
    samples.write_run(tmp_path / "run", split, seeds=1)
    spoil(tmp_path / "run", name, text)
    assert main([str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "report.html").exists()


SPOILED = {
    "config.json": ("", "null"),
    "result.json": ("", "{}"),
    "environment.json": ("", None),
    "predictions.jsonl": (None, ""),
    "metrics.jsonl": (None, ""),
    "representations.npz": ("text",),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_damaged_run_of_a_sweep_costs_only_itself(name: str, tmp_path: Path, split: samples.Split) -> None:
    points = ("cmath", "wo_mr", "wo_lld")
    samples.write_sweep(tmp_path, split, kinds=["ablations"], only=points, seeds=2, epochs=3, representations=False)
    for text in SPOILED[name]:
        (tmp_path / "runs" / "wo_mr" / name).touch()
        spoil(tmp_path / "runs" / "wo_mr", name, text)
        page = write_report([tmp_path])
        html = page.read_text(encoding="utf-8")
        ablations = html[html.index('id="view-ablations"') :]
        row = ablations[ablations.index("w/o MR") :].split("</tr>")[0]
        assert '<span class="badge">damaged</span>' in row and "runs/wo_mr" in row
        warnings = html[html.index('class="warning"') : html.index('class="facts"')]
        assert "w/o MR (ablations) is damaged, and left out: runs/wo_mr" in warnings
        assert str(tmp_path) not in html
        assert "w/o LLD" in (page.parent / "figures" / "ablations.csv").read_text(encoding="utf-8")


def test_a_sweep_of_damaged_runs_has_a_page(tmp_path: Path, split: samples.Split) -> None:
    samples.write_sweep(tmp_path, split, kinds=["main_results", "lengths"], seeds=1, representations=False)
    for name in ("cmath", "sdt"):
        spoil(tmp_path / "runs" / name, "config.json", "")
    html = write_report([tmp_path]).read_text(encoding="utf-8")
    assert "CMATH is damaged, and left out" in html and "SDT is damaged, and left out" in html


def test_bad_arguments(tmp_path: Path, split: samples.Split, capsys: pytest.CaptureFixture[str]) -> None:
    samples.write_run(tmp_path / "run", split, seeds=1)
    inside_a_file = tmp_path / "run" / "result.json" / "page.html"
    for arguments in ([], ["--wide", "x"], [str(tmp_path / "none")], [str(tmp_path / "run"), "-o", str(inside_a_file)]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
    with pytest.raises(InputError):
        write_report([])


def test_the_command_needs_no_jax(tmp_path: Path, split: samples.Split) -> None:
    samples.write_run(tmp_path / "run", split, seeds=1, representations=False)
    code = (
        "import sys; from cmath_jax.report.__main__ import main; "
        "code = main(sys.argv[1:]); assert 'jax' not in sys.modules and 'flax' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"report: {tmp_path / 'run' / 'report.html'}\n"


def test_help() -> None:
    command = [sys.executable, "-m", "cmath_jax.report", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "python -m cmath_jax.report" in done.stdout and "DIR" in done.stdout


def test_a_file_is_no_folder_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "result.json").touch()
    with pytest.raises(InputError, match="it is a file; name the folder of a run or a sweep"):
        write_report([tmp_path / "result.json"])
