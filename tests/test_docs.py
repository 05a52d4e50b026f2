"""README.md and docs/: links lead somewhere, JSON and Python can be read, commands and options exist.

What the commands print is compared in test_docs_outputs.py.
"""

import argparse
import ast
import contextlib
import importlib
import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from cmath_jax.__main__ import COMMANDS
from cmath_jax.commands import train
from cmath_jax.config import roles
from cmath_jax.data.sources.transcripts import decoded, transcript_of
from cmath_jax.io.command import Parser
from cmath_jax.sweeps import experiment
from cmath_jax.sweeps.shards import Shard
from docs.outputs import ROOT, commands_of, steps_of

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
PROGRAMS = [
    *(path for folder in ("experiments", "benchmarks", "examples", "docs") for path in (ROOT / folder).glob("*.py")),
    ROOT / "launch.py",
]
MAINS = {name: module for name, (module, _) in COMMANDS.items() if name != "train"} | {
    "models.baselines.released": "cmath_jax.models.baselines.released"
}
OPTIONS = roles()
OPERATORS = {"|", "||", "&", "&&", ";", "<", ">", "2>&1"}
PAGES += [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
ids = [str(path.relative_to(ROOT)) for path in PAGES]
each_page = pytest.mark.parametrize("page", PAGES, ids=ids)


class Parsed(Exception):  # noqa: N818
    """The arguments of a command are as its parser wants them; the command itself is not run."""


@pytest.fixture
def only_parsers(monkeypatch: pytest.MonkeyPatch) -> list[argparse.ArgumentParser]:
    """Makes every command end where its arguments are parsed. Returns the parsers that were used, which it fills."""
    used: list[argparse.ArgumentParser] = []

    def parse(self: Parser, arguments: Sequence[str] | None = None, *_: Any) -> argparse.Namespace:
        used.append(self)
        super(Parser, self).parse_args(arguments)
        raise Parsed

    monkeypatch.setattr(Parser, "parse_args", parse)
    return used


def tokens(page: Path, kind: str) -> list[Token]:
    """The tokens of a kind, also those within a line."""
    found = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    return [token for outer in found for token in (outer, *(outer.children or ())) if token.type == kind]


def blocks(page: Path, *languages: str) -> list[str]:
    return [token.content for token in tokens(page, "fence") if token.info in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command of the code blocks of a page."""
    outputs = {step.place for step in steps_of(page.read_text(encoding="utf-8")) if step.written is not None}
    texts = [step.command for step in steps_of(page.read_text(encoding="utf-8"))]
    for token in tokens(page, "fence"):
        assert token.map is not None
        if token.info in ("", "bash") and token.map[0] + 1 not in outputs:
            texts += commands_of(token.content.splitlines())
    for text in texts:
        if not text.startswith("python - <<"):
            yield shlex.split(re.sub(r"\$\w+", "0", text).replace("\\\n", " "), comments=True)


def described(program: Path) -> Iterator[list[str]]:
    """The words of every command in the docstring of a program."""
    text = ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) or ""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    for command in commands_of([line for line in lines if line.startswith(("python ", "make ", "--"))]):
        yield shlex.split(command.replace("\\\n", " "), comments=True)


def check_command(words: list[str], used: list[argparse.ArgumentParser]) -> None:
    """Fails where a command of this project has an argument that it does not know, or where it is not there itself."""
    for i, word in enumerate(words):
        arguments = [*takewhile(lambda word: word not in OPERATORS, words[i + 1 :])]
        if word.endswith("launch.py") and arguments != ["..."]:
            check_launch(arguments)
        elif word == "cmath-jax" and arguments:
            assert arguments[0] in COMMANDS
        elif word == "-m" and arguments[0].startswith("cmath_jax."):
            name, *rest = arguments
            with pytest.raises(Parsed):
                module = MAINS[name.removeprefix("cmath_jax.")]
                print(importlib.import_module(module).main(rest))
        elif word == "-m" and arguments[0].startswith(("benchmarks.", "docs.")):
            source = (ROOT / (arguments[0].replace(".", "/") + ".py")).read_text(encoding="utf-8")
            assert not [a for a in arguments if a.startswith("--") and f'"{a.partition("=")[0]}"' not in source]
        elif word == "make":
            targets = {a for a in arguments if "=" not in a}
            assert targets <= {*re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
        elif word in ("-r", "-c") and "install" in words:
            assert (ROOT / arguments[0]).is_file()


def check_launch(arguments: list[str]) -> None:
    path, _, shard, overrides, _ = train._parse(arguments)
    assert path is not None and isinstance(shard, Shard | None)
    if (ROOT / path).is_file():
        experiment.load(str(ROOT / path), overrides)
    else:
        assert path.split("/")[0] in ("DIR", "FILE") and not overrides


@each_page
def test_commands_and_their_options_exist(page: Path, only_parsers: list[argparse.ArgumentParser]) -> None:
    for words in commands(page):
        check_command(words, only_parsers)


@pytest.mark.parametrize("program", PROGRAMS, ids=[str(path.relative_to(ROOT)) for path in PROGRAMS])
def test_the_commands_that_programs_describe_exist(program: Path, only_parsers: list[argparse.ArgumentParser]) -> None:
    for words in described(program):
        check_command(words, only_parsers)


@each_page
def test_options_named_in_the_text_exist(page: Path, only_parsers: list[argparse.ArgumentParser]) -> None:
    """`--config.model.width=200`, `model.width=200`, `--audio`: inside a sentence or a table."""
    parameters = {name for path in (ROOT / "experiments").glob("*.py") for name in experiment.parameters(path)}
    parsers = [*option_strings(only_parsers), "--config", "--workdir", "--shard"]
    groups = {name.partition(".")[0] for name in OPTIONS if "." in name}
    unknown = []
    for code in (token.content for token in tokens(page, "code_inline")):
        for name in re.findall(r"--config\.([a-z_0-9.]+)", code):
            unknown += [name] if name.rstrip(".") not in {*OPTIONS, *parameters, *groups} else []
        named = re.fullmatch(r"((\w+)\.(?!py$|json$|csv$|load$|fit$)\w+)(=.*)?", code)  # files and functions are none
        if named and named[2] in groups:
            unknown += [named[1]] if named[1] not in OPTIONS else []
        option = re.match(r"(--[a-z][a-z-]*)(?![a-z.-])", code)
        if option and page.name != "clusters.md":  # which has those of Slurm and gcloud
            unknown += [option[1]] if option[1] not in parsers else []
    assert unknown == []


def option_strings(used: list[argparse.ArgumentParser]) -> Iterator[str]:
    """Every option of the commands `python -m cmath_jax.NAME` and of the programs beside them."""
    for name, arguments in (*((name, []) for name in MAINS.values()), ("cmath_jax.extract.__main__", ["finetune"])):
        with contextlib.suppress(Parsed):
            importlib.import_module(name).main(arguments)  # it is known once it parses, whatever it parses
    assert len(used) == len(MAINS) + 1
    for parser in used:
        for action in parser._actions:
            yield from action.option_strings
            for inner in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
                for option in inner._actions:
                    yield from option.option_strings


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    targets = [str(token.attrs["href"]) for token in tokens(page, "link_open")]
    targets += [str(token.attrs["src"]) for token in tokens(page, "image")]
    for html in (*tokens(page, "html_block"), *tokens(page, "html_inline")):
        targets += re.findall(r'(?:src|href)="([^"]+)"', html.content)
    lost = []
    for target in targets:
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        file = page if not path else (page.parent / path).resolve()
        if not file.exists() or (anchor and anchor not in anchors(file) and not described_there(anchor, file)):
            lost.append(target)
    assert lost == []


def anchors(page: Path) -> set[str]:
    """The names that the headings of a page get."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def described_there(name: str, page: Path) -> bool:
    """Whether a page of the API has a module, or a class or function of it."""
    modules = re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    module, _, member = name.rpartition(".")
    if name in modules or module not in modules:
        return name in modules
    place = ROOT / module.replace(".", "/")
    source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == member for node in tree.body)


@each_page
def test_json_can_be_read(page: Path) -> None:
    """A conversation is a line of JSON lines, which is not broken."""
    for text in blocks(page, "json"):
        assert "utterances" not in json.loads(text)
    for text in blocks(page, "jsonl"):
        for line in text.splitlines():
            value = decoded(line, page.name)
            if "utterances" in value:
                assert transcript_of(value, page.name).id
    for kind in ("fence", "code_block"):
        for token in tokens(page, kind):
            objects = [line for line in token.content.splitlines() if line.startswith("{")]
            assert token.info in ("json", "jsonl", "python") or all(isinstance(json.loads(o), dict) for o in objects)


@each_page
def test_python_compiles_and_finds_what_it_imports(page: Path) -> None:
    for text in blocks(page, "python"):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            tree = ast.parse(f"{{{text}}}")  # an entry of a table
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for name in node.names:
                    importlib.import_module(name.name)
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None
                module = importlib.import_module(node.module)
                missing = [name.name for name in node.names if not hasattr(module, name.name)]
                assert missing == []


@each_page
def test_experiment_files_load(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "python"):
        if "def get_config" in text:
            (tmp_path / "example.py").write_text(text, encoding="utf-8")
            assert experiment.load(str(tmp_path / "example.py"), {}).sections


@each_page
def test_lines_of_files_are_the_lines_of_the_files(page: Path) -> None:
    """Those that need no trained model: `head -2 examples/talk/conversations.jsonl`."""
    for step in steps_of(page.read_text(encoding="utf-8")):
        if step.written is not None and re.fullmatch(r"(head -\d+|cat) examples/[\w/.]+", step.command):
            out = subprocess.run(step.command.split(), cwd=ROOT, capture_output=True, text=True, check=True).stdout
            assert step.written == (*out.removesuffix("\n").split("\n"),)


def test_code_blocks_say_what_they_are() -> None:
    """So that none of them escapes the tests above."""
    known = {"", "bash", "console", "json", "jsonl", "python", "yaml"}
    infos = {token.info for page in PAGES for token in tokens(page, "fence")}
    assert infos <= known


def test_an_unknown_option_is_found(tmp_path: Path, only_parsers: list[argparse.ArgumentParser]) -> None:
    page = tmp_path / "page.md"
    for command in (
        "python -m cmath_jax.data check DIR --colour",
        "python -m cmath_jax.extract DIR --txt",
        "python launch.py --config experiments/meld.py --config.data.feature_dir=DIR",
        "make demos",
        "pip install -r requirement.txt",
    ):
        page.write_text(f"```\n{command} || exit\n```\n")
        (words,) = commands(page)
        with pytest.raises((Exception, pytest.fail.Exception)):
            check_command(words, only_parsers)
