"""Runs the commands of the pages in a copy of the project, and writes what they print into the pages.

    python -m docs.outputs [--check] [--meld DIR] [PAGE ...]

`make docs-outputs MELD=DIR` does it for all pages. `--check` writes nothing, and ends with 1 if a page says something
else than its commands. What a page marks (a comment stands directly above a code block, and is not seen by readers):

    ```console                   each line `$ COMMAND` is run (`\\` at its end: it goes on); what follows is its output
    <!-- output of: COMMAND -->  the block below is the output of the command
    <!-- run -->                 each command of the block below is run, or the block as a whole if it is Python
    <!-- needs: MELD_CSV -->     all that follows on the page is run only where the CSV files of MELD are (`--meld`)

A line `...` in an output stands for lines that are left out: as many lines as the page has before and after it are
kept. Lines of progress that are not the last of their kind are left out too. A server stays until the next one starts;
the pages say port 8000, and the copy uses a free one.
"""

import argparse
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
# Pages of a group are run one after another in one copy: the later ones use what the first has trained.
GROUPS = (
    (
        "docs/getting_started.md",
        "docs/own_data.md",
        "docs/library.md",
        "docs/data.md",
        "docs/extraction.md",
        "docs/prediction.md",
        "docs/serving.md",
    ),
    ("docs/tutorial.md",),
)
LEFT_OUT = "..."
MELD_CSV = "MELD_CSV"
SECONDS = 3600  # that one command may take, on a machine with other work
SERVER = "cmath_jax.serve"
PORT = 8000
NOT_COPIED = {".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__"}
NOT_COPIED_AT_THE_TOP = {"runs", "data", "exported", "encoders"}
FEATURES = {"text.npz", "audio.npz", "visual.npz", "features.json", ".lock"}

PROGRESS = re.compile(r"\w+  (\d+)/(\d+)  .* left")
# Times, the best epoch, and hashes of numbers may be anything. Other numbers with a point are measured: they differ
# from processor to processor, by one utterance of the 24 in the test split of examples/talk at most.
FREE = re.compile(r"(?<=\(epoch )\d+|(?:\d+ min )?\d[\d.]*(?= (?:s|ms|min|h)\b)|(?<=fingerprint )[0-9a-f]{16}")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
POINTS = 5.0  # of scores in percent and losses
SHARE = 0.1  # of probabilities


class CommandFailedError(Exception):
    """A command of a page did not end with 0, or not in time."""


@dataclass(frozen=True)
class Step:
    """A command of a page.

    Attributes:
      command: for bash.
      written: what the page says that it prints; None where the page shows no output.
      place: the first line of that output in the page, from 0.
      needs: the data without which it is not run; empty for most.
    """

    command: str
    written: tuple[str, ...] | None
    place: int
    needs: str = ""


def steps_of(text: str) -> Iterator[Step]:
    """Yields the commands of a page that are to be run, in their order."""
    needs, marker = "", ""
    for token in MarkdownIt().parse(text):
        if token.type == "html_block":
            marker = token.content.strip().removeprefix("<!--").removesuffix("-->").strip()
            if marker.startswith("needs: "):
                needs = marker.removeprefix("needs: ")
        elif token.type == "fence":
            for command, written, place in _of_block(token, marker):
                yield Step(command, written, place, needs)
            marker = ""
        else:
            marker = ""


def _of_block(token: Token, marker: str) -> Iterator[tuple[str, tuple[str, ...] | None, int]]:
    assert token.map is not None
    first, lines = token.map[0] + 1, token.content.split("\n")[:-1]
    if marker.startswith("output of: "):
        yield marker.removeprefix("output of: "), tuple(lines), first
    elif token.info == "console":
        yield from _of_console(lines, first)
    elif marker == "run" and token.info == "python":
        yield f"python - <<'END'\n{token.content}END", None, first
    elif marker == "run":
        yield from ((command, None, first) for command in commands_of(lines))


def _of_console(lines: Sequence[str], first: int) -> Iterator[tuple[str, tuple[str, ...], int]]:
    i = 0
    while i < len(lines):
        command = lines[i].removeprefix("$ ")
        i += 1
        while not _whole(command):
            if i == len(lines):
                raise ValueError(f"a command does not end: {command}")
            command = f"{command}\n{lines[i]}"
            i += 1
        output = tuple(itertools.takewhile(lambda line: not line.startswith("$ "), lines[i:]))
        yield command, output, first + i
        i += len(output)


def commands_of(lines: Sequence[str]) -> list[str]:
    """Returns the commands of a script without control flow, as bash would take them; lines of comments are none.

    Raises:
      ValueError: a quotation mark or the last line is left open.
    """
    commands: list[str] = []
    left = ""
    for line in lines:
        left = f"{left}\n{line}" if left else line
        if _whole(left):
            commands += [left] if shlex.split(left, comments=True) else []
            left = ""
    if left:
        raise ValueError(f"a command does not end: {left}")
    return commands


def _whole(command: str) -> bool:
    """Whether bash would not wait for another line."""
    try:
        shlex.split(command, comments=True)
    except ValueError:  # an open quotation mark
        return False
    return not command.endswith("\\")


@dataclass
class Workspace:
    """A copy of the project in which commands are run.

    Attributes:
      folder: the copy.
      server: the process that was started last as a server.
      port: where it listens.
    """

    folder: Path
    server: "subprocess.Popen[str] | None" = None
    port: int = PORT

    def output(self, command: str) -> list[str]:
        """Returns the lines that a command prints, standard error among them. Raises CommandFailedError."""
        if SERVER in command:
            return self._serve(command)
        command = command.replace(f"localhost:{PORT}", f"localhost:{self.port}")
        process = self._start(command)
        try:
            out, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            _end(process)
            process.communicate()
            raise CommandFailedError(f"$ {command}\nnot done after {SECONDS} s") from error
        if process.returncode:
            raise CommandFailedError(f"$ {command}\n{out}exit code {process.returncode}")
        return out.split("\n")[:-1] if out.endswith("\n") else out.split("\n") if out else []

    def _serve(self, command: str) -> list[str]:
        """Starts a server, and returns what it prints until it listens."""
        self.end_server()
        self.server = process = self._start("exec " + command.replace(SERVER, f"{SERVER} --port 0"))
        lines: Queue[str] = Queue()
        Thread(target=_read, args=(process, lines), daemon=True).start()
        found: list[str] = []
        while not (listens := re.search(r"(http://[^ ]+:)(\d+)", found[-1] if found else "")):
            try:
                found.append(lines.get(timeout=SECONDS))
            except Empty as error:
                raise CommandFailedError(f"$ {command}\n" + "\n".join(found)) from error
        self.port = int(listens[2])
        return [*found[:-1], found[-1].replace(listens[0], f"{listens[1]}{PORT}")]

    def end_server(self) -> None:
        if self.server is not None:
            _end(self.server)
            self.server = None

    def _start(self, command: str) -> "subprocess.Popen[str]":
        kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
        environment = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "JAX_PLATFORMS": "cpu",
            "HF_HUB_OFFLINE": "1",
            "XDG_CACHE_HOME": str(self.folder / ".cache"),  # or an extraction would have nothing to do
        }
        return subprocess.Popen(
            ["bash", "-c", f"set -o pipefail\n{command}"],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def _end(process: "subprocess.Popen[str]") -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


def _read(process: "subprocess.Popen[str]", lines: "Queue[str]") -> None:
    assert process.stdout is not None
    with process.stdout as out:
        for line in out:
            lines.put(line.removesuffix("\n"))


@contextmanager
def workspace(meld: Path | None = None) -> Iterator[Workspace]:
    """Gives a copy of the project without what is ignored by git, and ends its servers."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        top = NOT_COPIED_AT_THE_TOP if Path(folder) == ROOT else set()
        return (NOT_COPIED | FEATURES | top) & {*names} | {name for name in names if name.startswith(".venv")}

    with tempfile.TemporaryDirectory(prefix="docs-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / "cmath_jax"
        shutil.copytree(ROOT, folder, ignore=left_out)
        if meld is not None:
            (folder / MELD_CSV).symlink_to(meld.resolve())
        here = Workspace(folder)
        try:
            yield here
        finally:
            here.end_server()


def shortened(found: Sequence[str], written: Sequence[str]) -> list[str]:
    """Returns an output as the page shows it: with as many lines before and after `...` as the page has."""
    lines = [line for line in found if not (told := PROGRESS.fullmatch(line)) or told[1] == told[2]]
    if LEFT_OUT not in written:
        return lines
    head = written.index(LEFT_OUT)
    tail = len(written) - head - 1
    if len(lines) <= head + tail:
        return lines
    return [*lines[:head], LEFT_OUT, *lines[len(lines) - tail :]]


def differences(written: Sequence[str], found: Sequence[str]) -> list[str]:
    """Returns the lines that differ, by more than numbers differ from one processor to another, for people."""
    pairs = itertools.zip_longest(written, shortened(found, written), fillvalue="(no line)")
    return [f"the page:    {a}\nthe command: {b}" for a, b in pairs if not _alike(a, b)]


def _alike(written: str, found: str) -> bool:
    a, b = (FREE.sub("", " ".join(line.split())) for line in (written, found))
    if NUMBER.sub("#", a) != NUMBER.sub("#", b):
        return False
    return all(_close(x, y) for x, y in zip(NUMBER.findall(a), NUMBER.findall(b), strict=True))


def _close(a: str, b: str) -> bool:
    measured = any(set(number) & set(".eE") for number in (a, b))
    x, y = float(a), float(b)
    return abs(x - y) <= (POINTS if max(abs(x), abs(y)) > 1 else SHARE) if measured else x == y


def rewritten(text: str, outputs: Sequence[tuple[Step, Sequence[str]]]) -> str:
    """Returns the page with outputs in the place of those that it has."""
    lines = text.split("\n")
    for step, found in sorted(outputs, key=lambda pair: -pair[0].place):
        if step.written is not None:
            lines[step.place : step.place + len(step.written)] = shortened(found, step.written)
    return "\n".join(lines)


def run_pages(pages: Sequence[str], meld: Path | None = None) -> Iterator[tuple[str, Step, list[str]]]:
    """Runs the commands of pages in one copy of the project, and yields page, command and what it printed.

    Raises:
      CommandFailedError: a command did not end with 0.
    """
    with workspace(meld) as here:
        for page in pages:
            for step in steps_of((ROOT / page).read_text(encoding="utf-8")):
                if not step.needs or meld is not None:
                    yield page, step, here.output(step.command)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", metavar="PAGE", nargs="*", help="it and those of its group; default: all")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if a page differs")
    parser.add_argument("--meld", metavar="DIR", type=Path, help="the folder of MELD's train.csv, dev.csv, test.csv")
    options = parser.parse_args()
    wrong, failed = 0, False
    for group in GROUPS:
        if options.pages and not set(options.pages) & set(group):
            continue
        outputs: dict[str, list[tuple[Step, list[str]]]] = {page: [] for page in group}
        try:
            for page, step, found in run_pages(group, options.meld):
                outputs[page].append((step, found))
                different = [] if step.written is None else differences(step.written, found)
                print(f"{page}: $ {step.command}", *different, sep="\n", flush=True)
                wrong += bool(different)
        except CommandFailedError as error:
            print(error, "the commands after it were not run, and their outputs stay", sep="\n")
            failed = True
        if not options.check:
            for page, ran in outputs.items():
                path = ROOT / page
                path.write_text(rewritten(path.read_text(encoding="utf-8"), ran), encoding="utf-8")
    print(f"{wrong} outputs differ from their page" + ("" if options.check else ", which is written anew"))
    return 1 if failed or (wrong and options.check) else 0


if __name__ == "__main__":
    sys.exit(main())
