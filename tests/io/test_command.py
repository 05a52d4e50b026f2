"""How commands end: a line and an exit code for whatever is not a bug, and nothing where nobody reads."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmath_jax.commands.train import main
from cmath_jax.config import roles
from cmath_jax.errors import FailedError, InputError, Terminated, TrainingDivergedError, doing, nearest
from cmath_jax.io.command import Parser, answer, respelled

ROOT = Path(__file__).parents[2]
COMMANDS = {name: ["-m", f"cmath_jax.{name}"] for name in ("data", "extract", "predict", "export", "report", "serve")}
COMMANDS["launch"] = ["launch.py"]


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("no such thing"), 2, "error: no such thing\n"),
        (FailedError("lost"), 1, "error: lost\n"),
        (TrainingDivergedError("the loss is nan"), 1, "error: the loss is nan\n"),
        (Terminated("stopped"), 0, "stopped. The same command goes on from there\n"),
        (KeyboardInterrupt(), 130, "interrupted; the same command starts again, or goes on with what is kept\n"),
        (MemoryError(), 1, "error: the memory of this machine is not enough\n"),
        (PermissionError(errno.EACCES, "Permission denied", "a.txt"), 2, "error: a.txt: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device", "b.txt"), 1, "error: b.txt: No space left on device\n"),
    ],
    ids=repr,
)
def test_what_ends_a_command(error: BaseException, code: int, line: str, capsys: Any) -> None:
    assert answer(raising(error)) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_any_system_error_is_a_line_that_names_a_place(number: int, capsys: Any) -> None:
    """Also one that comes without a file: by what was being done."""

    def command() -> int:
        with doing("working in", "outer"), doing("writing", "runs/x/config.json"):
            raise OSError(number, os.strerror(number))

    assert answer(command) in (1, 2)
    told = capsys.readouterr().err
    assert told == f"error: writing runs/x/config.json: {os.strerror(number)}\n"


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_an_input_that_the_machine_fails_is_a_failure_of_the_machine(number: int, capsys: Any) -> None:
    """Whoever says which input it was about, and however late."""

    def command() -> int:
        try:
            try:
                raise OSError(number, os.strerror(number))
            except OSError as error:
                raise InputError(f"x: cannot be written: {os.strerror(number)}") from error
        except InputError as error:
            raise InputError(f"line 1: {error}") from error

    names = ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "ENOMEM", "EMFILE", "ENFILE")
    assert answer(command) == (1 if errno.errorcode[number] in names else 2)
    assert capsys.readouterr().err == f"error: line 1: x: cannot be written: {os.strerror(number)}\n"


def test_a_bug_keeps_its_traceback() -> None:
    for bug in (KeyError("x"), ValueError("x"), RuntimeError("x"), AssertionError(), TypeError("x")):
        with pytest.raises(type(bug)):
            answer(raising(bug))


@pytest.mark.parametrize("name", COMMANDS)
def test_whoever_has_read_enough_is_not_told_of_it(name: str) -> None:
    """As `| head -0`: the other end of the pipe is closed before anything is written."""
    read, write = os.pipe()
    os.close(read)
    for unbuffered in ("", "1"):
        done = subprocess.run(
            [sys.executable, *COMMANDS[name], "--help"],
            **{"cwd": ROOT, "stdout": write, "stderr": subprocess.PIPE, "text": True},  # type: ignore[call-overload]
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
        assert (done.returncode, done.stderr) == (141, "")
    os.close(write)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_under_the_output_is_told(name: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, *COMMANDS[name], "--help"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "error: writing to standard output: No space left on device\n"


def test_no_output_at_all_is_no_failure() -> None:
    shell = f"{sys.executable} launch.py --help >&- 2>&-"
    assert subprocess.run(shell, cwd=ROOT, shell=True).returncode == 0


SPELLINGS = {name: f"--config.{name}" for name in roles()}


@settings(deadline=None)
@given(
    st.sampled_from(sorted(SPELLINGS)), st.sampled_from(["{}=3 is wrong", "give {}=X", "did you mean {}?", "({}='x')"])
)
def test_options_are_spelled_as_the_command_line_spells_them(name: str, message: str) -> None:
    assert respelled(message.format(name), SPELLINGS) == message.format(f"--config.{name}")
    assert respelled(message.format(f"--config.{name}"), SPELLINGS) == message.format(f"--config.{name}")


@pytest.mark.parametrize(
    "message",
    [
        "runs/data.dir: gone",
        "the dataset and its seeds",
        "my_seeds=3",
        "x/model.width/y",
        "data.dirs=1",
        "a.seeds=1",
        '"data.check_counts": "warn"',
    ],
)
def test_what_is_no_option_stays(message: str) -> None:
    assert respelled(message, SPELLINGS) == message


KNOWN = sorted(SPELLINGS)
LASTS = {name.rpartition(".")[2] for name in KNOWN}


@pytest.mark.parametrize("name", KNOWN)
def test_the_last_part_of_an_option_suggests_it(name: str, capsys: Any, tmp_path: Path) -> None:
    last = name.rpartition(".")[2]
    assert nearest(last, KNOWN) in [each for each in KNOWN if each.rpartition(".")[2] == last]
    if "." in name and last not in (*KNOWN, "train"):  # which is a group too
        assert main(["--config", str(ROOT / "experiments" / "demo.py"), f"--config.{last}=1"]) == 2
        assert f"did you mean --config.{nearest(last, KNOWN)}?" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in KNOWN if len(name.rpartition(".")[2]) > 4])
def test_a_slip_of_the_pen_suggests_what_was_meant(name: str) -> None:
    group, dot, last = name.rpartition(".")
    for slip in (last[0] + last[2] + last[1] + last[3:], last[:-1], last + last[-1]):
        # Some options are as near to each other as a slip is: gamma1 and gamma2, bases and biases, layers_ta and _tv.
        if slip not in LASTS and not slip.startswith(("gamma", "bais", "layers_")):
            assert nearest(group + dot + slip, KNOWN) == name
        assert nearest(f"--{slip}", [f"--{last}"]) == f"--{last}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.train.epoch=3"], "did you mean --config.train.epochs?"),
        (["--train.epochs=3"], "did you mean --config.train.epochs?"),
        (["--epochs", "3"], "did you mean --config.train.epochs?"),
        (["--wrokdir", "x"], "did you mean --workdir?"),
        (["--config.dataset=medl"], "did you mean meld?"),
        (["--config.precision=bfloat"], "did you mean bfloat16?"),
        (["--config.optim.schedule=cosin"], "did you mean cosine?"),
        (["--config.data.simulation.train=0"], "--config.data.simulation.train must be"),
        (["--config.dataset=conversations"], "give --config.data.dir=DIR"),
        (
            ["--config.dataset=conversations", "--config.data.dir=/none"],
            "--config.data.dir='/none': /none is no folder",
        ),
        (["--config.data.dir=x"], "--config.data.dir='x' is for the corpus conversations"),
        (["--config.dataset=meld", "--config.data.file=none.pkl"], "there is no file data/none.pkl"),
        (["--config.model=3"], "give --config.model.NAME=VALUE"),
        (["--config.simulation.train=3"], "'--config.simulation.train'; did you mean --config.data.simulation.train?"),
        (["--config.trian.epochs=3"], "'--config.trian.epochs'; did you mean --config.train.epochs?"),
    ],
)
def test_launch_says_what_may_have_been_meant(arguments: list[str], words: str, capsys: Any, monkeypatch: Any) -> None:
    """And before anything is imported that takes seconds."""
    monkeypatch.setitem(sys.modules, "cmath_jax.training.fit", None)  # whose import now fails
    assert main(["--config", str(ROOT / "experiments" / "demo.py"), *arguments]) == 2
    line = capsys.readouterr().err
    assert words in line and line.count("\n") == 1


def parser() -> Parser:
    made = Parser(prog="x")
    made.add_argument("--checkpoint", required=True)
    made.add_argument("--pooling", choices=("first", "mean"))
    made.add_argument("input")
    return made


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--checkpont", "x", "y"], "unrecognized arguments: --checkpont; did you mean --checkpoint?"),
        (["--checkpont=x"], "did you mean --checkpoint?"),
        (["--checkpoint=x", "y", "--poling=mean"], "did you mean --pooling?"),
        (["--checkpoint=x", "y", "--zzz"], "unrecognized arguments: --zzz; --help says more"),
        (["--checkpoint=x", "y", "z"], "unrecognized arguments: z"),
        (["--checkpoint=x", "y", "--pooling=frist"], "did you mean first?"),
        (["x"], "required: --checkpoint"),
    ],
)
def test_commands_say_what_may_have_been_meant(arguments: list[str], words: str) -> None:
    with pytest.raises(InputError) as refused:
        parser().parse_args(arguments)
    assert words in str(refused.value)
