"""The house that docs/architecture.md describes: its rooms, their order, and how large a file may be.

What does not keep a rule yet stands in one of the sets below. An entry that is no longer needed has to go.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cmath_jax"
MOST_AT_THE_TOP = 6
MOST_LINES = 360


def rooms(folder: Path) -> set[str]:
    """Returns the names of the folders with Python files."""
    return {path.parent.name for path in folder.glob("*/*.py")}


def name_of(path: Path) -> str:
    """Returns the name of a module, of a package without its `__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Yields the modules of the package that a file imports, also inside of functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and node.level == 0, f"{path}: a relative import"
            inside = [f"{node.module}.{each.name}" for each in node.names]
            names = [name if name in MODULES else node.module for name in inside]
        yield from (name for name in names if name in MODULES)


IMPORTS = {name: {*imported(path)} for name, path in MODULES.items()}


def floors() -> list[str]:
    """Returns the rooms, and the files and folders inside of some, from the lowest to the highest."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = re.search(r"<!-- The floors:.*?-->\n```\n(.*?)```", page, re.DOTALL)
    assert picture is not None
    places, room = [], ""
    for line in picture[1].splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        room = room if indent else name
        places.append(f"cmath_jax.{room}.{name}" if indent else f"cmath_jax.{name}")
    return places[::-1]


FLOORS = floors()


def place_of(module: str) -> str | None:
    """Returns the innermost place of the picture that a module is in; None for what is at the top, and may use all."""
    within = [place for place in FLOORS if module == place or module.startswith(f"{place}.")]
    return max(within, key=len, default=None)


def test_there_is_little_at_the_top() -> None:
    assert len([*PACKAGE.glob("*.py")]) <= MOST_AT_THE_TOP


def test_every_room_is_in_the_picture_and_has_its_tests() -> None:
    pictured = {place.split(".")[1] for place in FLOORS}
    files = {name for name in pictured if (PACKAGE / f"{name}.py").exists()}
    assert rooms(PACKAGE) == pictured - files
    assert rooms(ROOT / "tests") == rooms(PACKAGE)


def test_the_picture_shows_what_there_is() -> None:
    assert [place for place in FLOORS if place not in MODULES] == []
    assert len({*FLOORS}) == len(FLOORS)


@pytest.mark.parametrize("room", ["cmath_jax.data", "cmath_jax.models"])
def test_every_file_of_a_room_with_an_order_has_a_place(room: str) -> None:
    without = [name for name in MODULES if name.startswith(f"{room}.") and place_of(name) == room and IMPORTS[name]]
    assert without == []


def test_imports_go_down() -> None:
    upwards = set()
    for module, names in IMPORTS.items():
        for name in names:
            above, below = place_of(module), place_of(name)
            if above != below and above is not None and (below is None or FLOORS.index(below) > FLOORS.index(above)):
                upwards.add((module, name))
    assert upwards == set()


def test_no_files_import_each_other() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_every_file_of_training_has_a_test_of_its_name() -> None:
    modules = {path.stem for path in (PACKAGE / "training").glob("*.py")} - {"__init__"}
    assert {name for name in modules if not (ROOT / "tests" / "training" / f"test_{name}.py").exists()} == set()


def test_files_are_short() -> None:
    files = [path for folder in ("cmath_jax", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_bytes().splitlines()) for path in files}
    assert {name for name, length in lengths.items() if length > MOST_LINES} == set()
