"""The wheel is complete, and what it installs works from another folder, without the project's."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import cmath_jax

ROOT = Path(__file__).parents[1]
MOST_BYTES = 1 << 20
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
SMALL = ["--config.train.epochs=1", "--config.model.width=20", "--config.linear_reference="]
SMALL += [f"--config.data.simulation.{split}=9" for split in ("train", "validation", "test")]
# Runs a command, and says which of our modules came from where.
TRACED = """
import json, sys
from cmath_jax.__main__ import main
code = main(sys.argv[2:])
files = [str(getattr(module, "__file__", "")) for module in sys.modules.values()]
open(sys.argv[1], "w").write(json.dumps([file for file in files if "cmath_jax" in file or "experiments" in file]))
sys.exit(code)
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network in a copy of what it is built of."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("cmath_jax", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel, which finds the other packages where they are."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (Path(packages) / "others.pth").write_text("\n".join({sysconfig.get_path(n) for n in ("purelib", "platlib")}))
    return python


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


def test_the_wheel_is_complete_and_small(wheel: Path) -> None:
    """All that is in cmath_jax/, pages and styles too; the experiments; the command."""
    with zipfile.ZipFile(wheel) as files:
        names = {*files.namelist()}
        texts = {name.rpartition("/")[2]: files.read(name).decode() for name in names if ".dist-info/" in name}
    hidden = {"__pycache__", ".mypy_cache"}
    ours = {p.relative_to(ROOT) for p in (ROOT / "cmath_jax").rglob("*") if p.is_file() and not hidden & {*p.parts}}
    experiments = {path.name for path in (ROOT / "experiments").glob("*.py")}
    wanted = {*map(str, ours), *(f"cmath_jax/installed/experiments/{name}" for name in experiments)}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert "cmath_jax/py.typed" in names
    assert "cmath-jax = cmath_jax.__main__:main" in texts["entry_points.txt"]
    assert f"\nVersion: {cmath_jax.__version__}\n" in texts["METADATA"]
    assert "\nRequires-Python: >=3.11\n" in texts["METADATA"] and "\nProvides-Extra: serve\n" in texts["METADATA"]
    print(f"{wheel.name}: {wheel.stat().st_size} bytes")
    assert wheel.stat().st_size < MOST_BYTES


def test_the_installed_command_lists_commands_and_experiments(installed: Path, tmp_path: Path) -> None:
    command = installed.parent / "cmath-jax"
    assert "usage: cmath-jax COMMAND ..." in run(command, "--help", cwd=tmp_path).stdout
    assert run(command, "--version", cwd=tmp_path).stdout == f"cmath_jax {cmath_jax.__version__}\n"
    assert "\n  meld " in run(command, "train", "--help", cwd=tmp_path).stdout
    found = run(installed, "-c", "import cmath_jax; print(cmath_jax.Config, cmath_jax.__file__)", cwd=tmp_path)
    assert str(installed.parents[1]) in found.stdout


def test_what_is_installed_trains_and_reports(installed: Path, tmp_path: Path) -> None:
    """An experiment by its name, one that imports others, and nothing of ours from the project's folder."""
    trained = run(installed, "-c", TRACED, "modules.json", "train", "--config", "demo", *SMALL, cwd=tmp_path)
    assert "report: runs/demo/report.html" in trained.stdout
    run(installed, "-m", "cmath_jax.report", "runs/demo", "-o", "again.html", cwd=tmp_path)
    assert (tmp_path / "again.html").stat().st_size > 50_000
    shown = run(installed, "-c", TRACED, "of_paper.json", "train", "--config", "paper", "--help", cwd=tmp_path)
    assert "--config.parts=main_results" in shown.stdout
    for name in ("modules.json", "of_paper.json"):
        files = json.loads((tmp_path / name).read_text())
        assert len(files) > 10
        assert [file for file in files if not Path(file).is_relative_to(installed.parents[1])] == []
