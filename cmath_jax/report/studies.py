"""From folders to studies: what is compared with what. A study is all that was found out on one data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cmath_jax.errors import InputError
from cmath_jax.report.load import Run, load_run, printable, read_json

KINDS = ("runs", "main_results", "ablations", "modalities", "width", "lengths", "gammas")  # in the order of the page
FULL_MODEL = "cmath"


@dataclass(frozen=True)
class Point:
    """One row of a section.

    Attributes:
      run_name: of the folder; points of several sections may share one.
      options: what it changes, by dotted names.
      run: None where it failed or is not there yet.
      failure: why it failed, in one line; "" otherwise.
    """

    name: str
    run_name: str
    options: Mapping[str, Any]
    run: Run | None
    failure: str = ""


@dataclass(frozen=True)
class Section:
    """Points of one kind.

    Attributes:
      repeated: the names of points that several folders have; the first one counts.
    """

    kind: str
    points: tuple[Point, ...]
    repeated: tuple[str, ...] = ()

    @property
    def runs(self) -> dict[str, Run]:
        """The points that have numbers, by name."""
        return {point.name: point.run for point in self.points if point.run}

    @property
    def full_model(self) -> Point | None:
        """The point that the others are compared with: the full model, or the first of plain runs."""
        there = [point for point in self.points if point.run]
        named = [point for point in there if FULL_MODEL in (point.name, point.run_name) or point.name == "tav"]
        return next(iter(named or (there if self.kind == "runs" else [])), None)


@dataclass(frozen=True)
class Study:
    """All sections on one data set."""

    dataset: str
    source: str
    classes: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def runs(self) -> dict[int, Run]:
        """Every run once, in the order of the page."""
        return {id(run): run for section in self.sections for run in section.runs.values()}

    @property
    def full_model(self) -> Run | None:
        """The run that stands for the study: the full model of a sweep, or else the first of plain runs."""
        points = [section.full_model for section in sorted(self.sections, key=lambda section: section.kind == "runs")]
        first = next((point.run for point in points if point and point.run), None)
        return first or next(iter(self.runs.values()), None)

    def find(self, kind: str, name: str) -> Run | None:
        return next((s.runs[name] for s in self.sections if s.kind == kind and name in s.runs), None)


@dataclass(frozen=True)
class _Part:
    """A section of one folder, before it is merged with those of others."""

    dataset: str
    fingerprint: str
    source: str
    classes: tuple[str, ...]
    section: Section


def load_studies(folders: Sequence[Path]) -> tuple[Study, ...]:
    """Reads run and sweep folders, and merges what belongs together.

    Plain runs become the rows of a section `runs`. Sections of the same kind are merged point by point, if they are of
    the same data: a name alone is not enough, since MELD comes with many kinds of features.

    Raises:
      InputError: for a folder that is not one of a finished run or sweep.
    """
    parts = [part for folder in folders for part in _parts(folder)]
    studies = []
    for data in dict.fromkeys((part.dataset, part.classes, part.fingerprint) for part in parts):
        own = [part for part in parts if (part.dataset, part.classes, part.fingerprint) == data]
        kinds = sorted({part.section.kind for part in own}, key=_rank)
        merged = tuple(_merge([part.section for part in own if part.section.kind == kind]) for kind in kinds)
        studies.append(Study(own[0].dataset, own[0].source, own[0].classes, merged))
    return tuple(studies)


def _rank(kind: str) -> tuple[int, str]:
    return (KINDS.index(kind) if kind in KINDS else len(KINDS), kind)


def _parts(folder: Path) -> list[_Part]:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    result = read_json(folder / "result.json")
    if not isinstance(result, dict):
        raise InputError(f"{folder / 'result.json'}: not the result of a run or a sweep")
    if "sections" in result:
        try:
            return _sweep(folder, result)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder}: not as a sweep writes it: {type(error).__name__}: {error}") from error
    name = folder.resolve().name
    run = load_run(folder, name)
    section = Section("runs", (Point(run.name, run.name, {}, run),))
    return [_Part(run.dataset, run.fingerprint, run.source, run.classes, section)]


def _sweep(folder: Path, result: Mapping[str, Any]) -> list[_Part]:
    names = {point["run"] for section in result["sections"] for point in section["points"].values()}
    for name in names:
        if Path(name).name != name:
            raise InputError(f"{folder / 'result.json'}: {name!r} is not the name of a folder in runs")
    runs = {
        name: load_run(folder / "runs" / name, name)
        for name in sorted(names)
        if name not in result["failed"] and (folder / "runs" / name / "result.json").exists()
    }

    def point(name: str, entry: Mapping[str, Any]) -> Point:
        failure = printable(result["failed"].get(entry["run"], ""))
        return Point(printable(name), printable(entry["run"]), entry["options"], runs.get(entry["run"]), failure)

    environment = read_json(folder / "environment.json")
    fingerprints = [environment.get("data", {}).get("fingerprint"), *(run.fingerprint for run in runs.values())]
    return [
        _Part(
            dataset=printable(result["dataset"]),
            fingerprint=str(next(filter(None, fingerprints), "")),
            source=printable(result["source"]),
            classes=tuple(map(printable, result["classes"])),
            section=Section(
                printable(section["kind"]), tuple(point(name, entry) for name, entry in section["points"].items())
            ),
        )
        for section in result["sections"]
    ]


def _merge(sections: Sequence[Section]) -> Section:
    """One section of the points of several; of equal names, the first that has numbers."""
    if sections[0].kind == "runs":
        return Section("runs", _renamed([point for section in sections for point in section.points]))
    points: dict[str, Point] = {}
    repeated = []
    for point in (point for section in sections for point in section.points):
        known = points.setdefault(point.name, point)
        if known is not point and point.run:
            if known.run:
                repeated.append(point.name)
            else:
                points[point.name] = point
    return Section(sections[0].kind, tuple(points.values()), tuple(dict.fromkeys(repeated)))


def _renamed(points: Sequence[Point]) -> tuple[Point, ...]:
    """Plain runs whose folders have the same name are numbered: both are rows."""
    taken: Counter[str] = Counter()
    result = []
    for point in points:
        taken[point.name] += 1
        number = taken[point.name]
        result.append(point if number == 1 else replace(point, name=f"{point.name} ({number})"))
    return tuple(result)
