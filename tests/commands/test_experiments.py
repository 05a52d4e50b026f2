"""Experiments by their names: they are listed, found from anywhere, and guessed; and what a run says is next."""

import ast
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cmath_jax.commands import train
from cmath_jax.commands.experiments import experiments, path_of
from cmath_jax.config import Config, flat, roles, to_dict
from cmath_jax.errors import InputError
from cmath_jax.sweeps.experiment import Experiment, Section, load
from cmath_jax.sweeps.shards import Shard

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "experiments").glob("*.py"))
OTHER = {"features": {"t": {"size": 3, "origin": "published"}}, "modalities": "t", "model": "cmath"}
FROM_WORDS = OTHER | {"features": {"t": {"size": 3, "origin": "extracted", "settings": {}}}}


def told(*arguments: str, capsys: Any) -> str:
    assert train.main(arguments) == 0
    return str(capsys.readouterr().out)


def test_help_names_each_experiment_with_its_first_line(capsys: Any) -> None:
    lines = told("--help", capsys=capsys).split("\nexperiments:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == [path.stem for path in FILES]
    for line, path in zip(lines, FILES, strict=True):
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
        assert first and line.endswith(f"  {first}")


def test_help_imports_no_jax() -> None:
    code = "import sys; from cmath_jax.commands.train import main; main(['--help'])"
    code += "; print({'jax', 'flax'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")


def test_options_stand_in_their_groups(capsys: Any) -> None:
    """Each once, under a line that says what the group is."""
    shown = told("--help", "--config", "meld", capsys=capsys)
    blocks = [block.splitlines() for block in shown.rstrip().split("\n\n")[2:]]
    groups = {title.partition(":")[0]: options for title, *options in blocks}
    assert "optim: Adam and what may go around it." in shown
    names = {
        group: [option.partition("=")[0].removeprefix("  --config.") for option in o] for group, o in groups.items()
    }
    assert [*names] == ["every experiment", "data", "data.simulation", "model", "loss", "optim", "train", "parallel"]
    for group, options in names.items():
        assert {name.rpartition(".")[0] for name in options} == {"" if group == "every experiment" else group}
    every = [name for options in names.values() for name in options]
    assert sorted(every) == sorted(flat(to_dict(Config())))
    assert "\nthis experiment\n  --config.quick=False\n" in told("--help", "--config", "width", capsys=capsys)
    assert {*every} <= {*roles()}


def test_a_name_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_of("meld") == str(ROOT / "experiments" / "meld.py")
    assert load(path_of("paper"), {}).sections
    (tmp_path / "meld").mkdir()  # as a folder of data is called
    assert path_of("meld") == str(experiments()["meld"])


def test_a_path_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("width.py", "meld", "other.json"):
        (tmp_path / name).touch()
        assert path_of(name) == name


@pytest.mark.parametrize(
    ("given", "hint"), [("mled", "meld"), ("experiments/gone/meld.py", "meld"), ("demo.py", "demo"), ("xyz", None)]
)
def test_what_is_not_there_is_answered_with_the_nearest(
    given: str, hint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        path_of(given)
    told = f"; did you mean {hint}?" if hint else f"; there are {', '.join(experiments())}"
    assert str(error.value) == f"--config {given}: there is no such file{told}"


SWEEP = Experiment(Config(), (Section("width", {"20": {"model.width": 20}, "40": {"model.width": 40}}),))


@pytest.mark.parametrize(
    ("experiment", "folder", "result", "commands"),
    [
        (Experiment(Config()), "runs/a", OTHER, ["predict --checkpoint runs/a DIR", "report runs/a DIR"]),
        (
            Experiment(Config()),
            "my runs/a",
            FROM_WORDS,
            ["predict --checkpoint 'my runs/a' FILE", "serve --checkpoint 'my runs/a'", "report 'my runs/a' DIR"],
        ),
        (SWEEP, "runs/s", {}, ["report runs/s DIR"]),
        (Shard(0, 2).of(SWEEP), "runs/s/part-0-of-2", {}, ["report runs/s/part-*"]),
    ],
    ids=["features", "words", "sweep", "part"],
)
def test_the_next_steps_are_commands(
    experiment: Experiment, folder: str, result: dict[str, Any], commands: list[str]
) -> None:
    text = train._next_steps(experiment, Path(folder), result)
    lines = text.removeprefix("next: ").splitlines()
    assert text.startswith("next: ")
    assert [shlex.split(line, comments=True) for line in lines] == [
        ["python", "-m", f"cmath_jax.{command.split()[0]}", *shlex.split(command)[1:]] for command in commands
    ]
    assert all("  # " in line for line in lines)
