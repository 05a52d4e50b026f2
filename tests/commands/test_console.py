"""`cmath-jax COMMAND`: the same as the programs that it stands for, without what a slip does not need."""

import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmath_jax import __version__
from cmath_jax.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[2]
PROGRAMS = {name: ["-m", f"cmath_jax.{name}"] for name in COMMANDS} | {"train": ["launch.py"]}
SLOW = {"jax", "flax", "optax", "orbax", "matplotlib", "scipy", "sklearn", "torch", "tensorflow_datasets", "fastapi"}

each_command = pytest.mark.parametrize("name", COMMANDS)


def python(*arguments: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300)


@each_command
@pytest.mark.parametrize("arguments", [["--help"], [], ["--nonsense=1"], ["/none", "/none"]], ids=" ".join)
def test_a_command_does_what_its_program_does(name: str, arguments: list[str], capfd: Any) -> None:
    """The same output, the same message, the same exit code."""

    def ended(call: Callable[[], int]) -> tuple[Any, str, str]:
        try:
            code: Any = call()
        except SystemExit as ending:
            code = ending.code
        return code, *capfd.readouterr()

    program = importlib.import_module(COMMANDS[name][0])
    assert ended(lambda: main([name, *arguments])) == ended(lambda: program.main(arguments))


@each_command
def test_the_module_of_a_command_is_that_of_its_program(name: str) -> None:
    ours, theirs = python("-m", "cmath_jax", name, "--wrong"), python(*PROGRAMS[name], "--wrong")
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert ours.returncode == 2
    assert ours.stderr.startswith("error: ") and ours.stderr.count("\n") == 1


@each_command
def test_a_slip_imports_nothing_slow(name: str) -> None:
    code = f"import sys; from cmath_jax.__main__ import main; code = main([{name!r}, '--wrong'])"
    done = python("-c", f"{code}; print(code, *({SLOW} & {{*sys.modules}}))")
    assert done.stdout.split() == ["2"], done


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=str)
def test_the_commands_are_listed(arguments: list[str], capsys: Any) -> None:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: cmath-jax COMMAND ..."
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [*COMMANDS]
    assert all(len(line.split()) > 3 and len(line) <= 80 for line in lines if line.startswith("  "))


def test_the_version_is_told(capsys: Any) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cmath_jax {__version__}\n"


def test_the_arguments_of_the_process_are_the_default(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["cmath-jax", "report", "/none"])
    assert main() == 2
    assert "/none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "hint"), [("trian", "train"), ("predct", "predict"), ("reports", "report"), ("xyz", None), ("-v", None)]
)
def test_an_unknown_command_is_answered_with_the_nearest(given: str, hint: str | None, capsys: Any) -> None:
    assert main([given, "--config", "x"]) == 2
    told = f"; did you mean {hint}?" if hint else ""
    assert capsys.readouterr().err == f"error: there is no command {given!r}{told}; cmath-jax --help lists them\n"


def test_the_entry_point_of_the_package_is_this_command() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        scripts = tomllib.load(file)["project"]["scripts"]
    assert scripts == {"cmath-jax": "cmath_jax.__main__:main"}


def test_an_experiment_finds_its_neighbours_from_anywhere(tmp_path: Path) -> None:
    """As an installed command runs it: neither the project nor the current folder is on the path."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "cmath_jax").symlink_to(ROOT / "cmath_jax")
    code = "import sys; from cmath_jax.__main__ import main; sys.exit(main(sys.argv[1:]))"
    arguments = ("train", "--help", "--config", ROOT / "experiments" / "paper.py")
    done = python("-P", "-c", code, *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path / "installed"))
    assert done.returncode == 0, done.stderr
    assert "--config.parts=main_results" in done.stdout
