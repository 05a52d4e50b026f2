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
    "no result": ("result.json", None, "result.json: there is no such file"),
    "half a result": ("result.json", '{"experiment": "x", ', "not JSON"),
    "a list": ("result.json", "[1]", "not the result of a run"),
    "an empty result": ("result.json", "{}", "not as a run writes it"),
    "no curves": ("metrics.jsonl", None, "metrics.jsonl: there is no such file"),
    "half a line": ("metrics.jsonl", '{"seed": 0, "ep', "metrics.jsonl, line 1: not JSON"),
    "curves of something else": ("metrics.jsonl", '{"seed": 0}\n', "not as a run writes it"),
    "no predictions": ("predictions.jsonl", "", "seed 0 does not have the utterances"),
    "no arrays": ("representations.npz", "text", "representations.npz: not a file of arrays"),
    "another environment": ("environment.json", "[]", "not as a run writes it"),
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
