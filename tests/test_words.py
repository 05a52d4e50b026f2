"""Names and docstrings of the package: axes and terms are those of docs/style.md, a class has one meaning."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cmath_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])

# Endings without a vowel that are no axes.
ORDINARY = {"csv", "fn", "npz", "ns"}
# Names that others gave to their models.
PUBLISHED = ("DialogueRNN", "DialogueGCN")
# What a function does, as its docstring begins.
VERBS = (
    "Adds Aligns Answers Applies Averages Builds Calls Checks Clears Closes Combines Compares Compiles Computes "
    "Converts Copies Counts Decodes Describes Downloads Draws Drops Embeds Encodes Ends Evaluates Extracts Fetches "
    "Fills Finds Fits Gathers Gives Groups Holds Joins Keeps Labels Lets Lists Loads Logs Makes Maps Marks Measures "
    "Moves Multiplies Names Notes Opens Orders Packs Parses Pickles Plots Prints Puts Raises Reads Refuses Releases "
    "Removes Repeats Replaces Reports Returns Runs Samples Saves Says Scores Sends Sets Shows Simulates Skips Sorts "
    "Splits Spreads Standardizes Starts Stops Sums Swaps Takes Tells Trains Turns Updates Waits Warns Writes Yields"
)
# A noun phrase that begins so does not say what it is a phrase about.
POINTING = (
    "As At Before Beside Both By During Each For From If In Into Like Of On One Or Other Out Same See That Their Then "
    "Them There These They This Those Through To Under Until What When Where Which With Without"
)


def table(title: str) -> list[list[str]]:
    """Returns the cells of each row of the table under a heading of docs/style.md."""
    section = (ROOT / "docs" / "style.md").read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


LETTERS = {row[0].strip("`") for row in table("Letters of axes")}
BANNED = {word for row in table("Terms") if len(row) > 2 for word in re.findall(r"`(\w+)`", row[2])}


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields the names that a file gives to something, with their lines; not those that it only uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def axes(name: str) -> str:
    """Returns the ending of a name that stands for axes; "" where it has none, as `to_dict`, `meld_csv` and `x`.

    Letters of axes are consonants, so that nearly no ending of several letters is a word.
    """
    found = re.fullmatch(r"_*[A-Za-z0-9]\w*?_([a-z]|[b-df-hj-np-tv-xz]+)", name)
    return found[1] if found and found[1] not in ORDINARY else ""


def words(name: str) -> set[str]:
    """Returns the words of a name, in the singular: `_TalkRows` and `talk_rows` have `talk` and `row`."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return {form for part in parts for form in (part.lower(), re.sub(r"(e?)s$", "", part.lower()), part.lower()[:-1])}


def documented(tree: ast.AST) -> Iterator[tuple[int, bool, str]]:
    """Yields each docstring with its line, and whether it has to begin with a verb."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text is None:
            continue
        if isinstance(node, ast.Module | ast.ClassDef):
            yield getattr(node, "lineno", 1), False, text
        else:
            yield node.lineno, not any("property" in ast.unparse(each) for each in node.decorator_list), text


def fault(text: str, verb: bool) -> str:
    """Returns what is wrong with the first paragraph of a docstring; "" where it is as docs/style.md wants it."""
    first = " ".join(text.split("\n\n")[0].split())
    begin = first.split()[0].strip(",:")
    if not first.endswith((".", ":")):
        return "its first paragraph does not end with a full stop"
    if begin == "Whether" or begin in VERBS.split():
        return "" if len(first.split()) > 1 else "it has no object"
    if verb:
        return f"it begins with {begin!r}, which is no verb of tests/test_words.py, and not with `Whether`"
    if begin in POINTING.split():
        return f"it begins with {begin!r}, which does not say what it is"
    return "" if len(first.split()) > 2 else "it is no phrase of three words"


@pytest.mark.parametrize("text", ["To one of the sums.", "Of those it has.", "See the module.", "As `put`.", "The sum"])
def test_fragments_are_refused(text: str) -> None:
    assert fault(text, verb=True)
    assert fault(text, verb=False)


@pytest.mark.parametrize("text", ["Returns the sum.", "Whether all are present.", "Reads a file:\n\n    read(path)"])
def test_sentences_are_accepted(text: str) -> None:
    assert not fault(text, verb=True)


def test_endings_are_told_from_words() -> None:
    plain = (
        "to_dict",
        "as_if",
        "read_meld_csv",
        "_by_id",
        "x",
        "rld",
        "_rld",
        "labels_of",
        "d_in",
        "published12",
        "row_r1",
    )
    assert {name: axes(name) for name in plain} == dict.fromkeys(plain, "")
    arrays = {"x_rld": "rld", "_start_b": "b", "f1_c": "c", "h_k_rld": "rld", "a_mmrhqw": "mmrhqw", "mean_e": "e"}
    assert {name: axes(name) for name in arrays} == arrays


def test_letters_are_consonants() -> None:
    assert LETTERS and not LETTERS & set("aeiouy") and all(len(letter) == 1 for letter in LETTERS)


@each_file
def test_arrays_end_in_letters_of_axes(path: Path) -> None:
    found = {f"{path}:{line} {name}" for line, name in names(ast.parse(path.read_text())) if set(axes(name)) - LETTERS}
    assert not found


@each_file
def test_docstrings_are_sentences(path: Path) -> None:
    told = [(line, text, fault(text, verb)) for line, verb, text in documented(ast.parse(path.read_text()))]
    assert not [f"{path}:{line} {text.splitlines()[0]} -- {why}" for line, text, why in told if why]


@each_file
def test_terms_have_one_word(path: Path) -> None:
    assert BANNED
    given = names(ast.parse(path.read_text()))
    own = [(line, name) for line, name in given if name.removesuffix("Options") not in PUBLISHED]
    found = {f"{path}:{line} {name}" for line, name in own if words(name) & BANNED}
    assert not found


def test_a_class_name_is_defined_once() -> None:
    homes = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(f"{path}:{node.lineno}")
    assert not {name: places for name, places in homes.items() if len(places) > 1}
