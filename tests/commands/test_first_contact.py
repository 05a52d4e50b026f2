"""What goes wrong in the first minute is answered in a line that says what to do."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cmath_jax.errors import InputError
from cmath_jax.export import main as export_command
from cmath_jax.training import compiler

ROOT = Path(__file__).parents[2]


def launched(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> Any:
    """The exit code of launch.py in a Python that differs."""
    for name, value in changed.items():
        monkeypatch.setattr(sys, name, value)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "launch.py"), run_name="__main__")
    return ended.value.code


def test_an_older_python_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert launched(monkeypatch, version_info=(3, 10, 13)) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: Python 3.11 or newer is needed, and this is 3.10; `make demo` sets up")
    assert told.count("\n") == 1


def test_a_python_without_the_packages_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-E", "launch.py", "--config", "demo"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert " has no package " in done.stderr and "docs/getting_started.md" in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_module_of_ours_that_is_missing_is_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmath_jax.commands.train", None)
    with pytest.raises(ModuleNotFoundError, match=r"cmath_jax\.commands\.train"):
        runpy.run_path(str(ROOT / "launch.py"), run_name="__main__")


def test_a_platform_without_a_device_is_named() -> None:
    code = "from cmath_jax.training import compiler; from cmath_jax.io.command import answer; "
    code += "raise SystemExit(answer(compiler.check_platform))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "rocm"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: JAX cannot compute on JAX_PLATFORMS=rocm (")
    assert "docs/getting_started.md" in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("failure", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda'\nand more")])
def test_whatever_jax_says_of_it(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def devices() -> None:
        raise failure

    monkeypatch.setattr("jax.devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(
        InputError, match=r"JAX_PLATFORMS=cuda \((Unable to|nothing that is installed).*cpu takes"
    ) as error:
        compiler.check_platform()
    assert "\n" not in str(error.value)


def test_an_export_asks_for_the_platform_first(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def devices() -> None:
        raise RuntimeError("Unable to initialize backend 'rocm'")

    monkeypatch.setattr("jax.devices", devices)
    assert export_command(["--checkpoint", "none", "-o", "out"]) == 2
    assert capsys.readouterr().err.startswith("error: JAX cannot compute on JAX_PLATFORMS=")


def test_the_platform_of_the_tests_has_devices() -> None:
    compiler.check_platform()
