"""The files that say what is installed agree: pyproject.toml, requirements-*.txt, constraints.txt, CITATION.cff."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cmath_jax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
VERSIONS = ("3.11", "3.12", "3.13")


def lines(name: str) -> list[str]:
    """The lines of a file that are no comments."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def spread(requirements: list[str]) -> Iterator[str]:
    """The requirements of a list; `cmath_jax[serve,tune]` as the lines that requirements-dev.txt has for it."""
    for each in requirements:
        if own := re.fullmatch(r"cmath_jax\[(.+)\]", each):
            yield from (f"-r requirements-{extra}.txt" for extra in own[1].split(","))
        else:
            yield each


CONSTRAINTS = [Requirement(line) for line in lines("constraints.txt")]
NAMED = [Requirement(line) for line in {*PROJECT["dependencies"], *(r for extra in EXTRAS.values() for r in extra)}]
OTHERS = sorted((each for each in NAMED if each.name != "cmath_jax"), key=str)


def test_requirements_are_the_dependencies() -> None:
    assert lines("requirements.txt") == PROJECT["dependencies"]


def test_every_extra_has_a_file_and_every_file_an_extra() -> None:
    files = {path.stem.removeprefix("requirements-") for path in ROOT.glob("requirements-*.txt")}
    assert files == {*EXTRAS}


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_requirements_of_an_extra_are_its_file(extra: str) -> None:
    assert lines(f"requirements-{extra}.txt") == ["-r requirements.txt", *spread(EXTRAS[extra])]


@pytest.mark.parametrize("python", VERSIONS)
@pytest.mark.parametrize("required", OTHERS, ids=str)
def test_a_requirement_is_pinned_once_within_its_range(required: Requirement, python: str) -> None:
    environment = {"python_version": python}
    if required.marker and not required.marker.evaluate(environment):
        return
    pins = [
        each
        for each in CONSTRAINTS
        if canonicalize_name(each.name) == canonicalize_name(required.name)
        and (each.marker is None or each.marker.evaluate(environment))
    ]
    assert len(pins) == 1
    (pin,) = pins[0].specifier
    assert pin.operator == "==" and pin.version in required.specifier


def installed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> Iterator[str]:
    """The names of a package and of all that it needs, as far as they are installed here."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    try:
        needed = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    yield canonicalize_name(name)
    for each in map(Requirement, needed):
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield from installed(each.name, frozenset(each.extras), seen)


def test_whatever_a_requirement_brings_is_pinned() -> None:
    seen: set[tuple[str, frozenset[str]]] = set()
    brought = {name for each in OTHERS for name in installed(each.name, frozenset(each.extras), seen)}
    of_cuda = {name for name in brought if name.startswith(("cuda-", "nvidia-", "triton"))}  # PyTorch pins them itself
    assert brought - of_cuda - {canonicalize_name(each.name) for each in CONSTRAINTS} == set()


def test_the_versions_of_python_are_declared() -> None:
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in PROJECT["classifiers"]]
    assert tuple(match[1] for match in found if match) == VERSIONS
    assert PROJECT["requires-python"] == f">={VERSIONS[0]}"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.findall(r'"(3\.\d+)"', workflow) == [*VERSIONS]


def test_the_version_comes_from_one_place() -> None:
    assert "version" not in PROJECT
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {cmath_jax.__version__}\n" in cited
    assert f"\n## {cmath_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_tables_of_dependencies_have_each_of_them() -> None:
    """CONTRIBUTING.md says what each is for: extra, package, reason, or without the extra."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n## Dependencies\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ")]
    told, extra = set(), ""
    for *group, packages, reason in rows:
        extra = group[0].strip(" `") or extra if group else ""
        told |= {(extra, name) for name in re.findall(r"`([\w.-]+)`", packages)}
        assert reason.strip()
    named = {"": PROJECT["dependencies"], **EXTRAS}
    wanted = {(extra, Requirement(each).name) for extra, requirements in named.items() for each in requirements}
    assert told == {(extra, name) for extra, name in wanted if name != "cmath_jax"}
