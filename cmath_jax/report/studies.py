"""Makes studies of folders: finds out what is compared with what. A study is all that was found out on one data set."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cmath_jax.config import binding
from cmath_jax.errors import InputError
from cmath_jax.io.json_files import read_json, read_object
from cmath_jax.report.load import Run, load_run, printable, reading
from cmath_jax.report.search import Search, merged, read_search

KINDS = ("runs", "main_results", "ablations", "modalities", "width", "lengths", "gammas")  # in the order of the page
FULL_MODEL = "cmath"
PAPER_SETTINGS = "cmath_paper"  # beside tuned models: CMATH as the paper has it


@dataclass(frozen=True)
class Point:
    """A row of a section.

    Attributes:
      run_name: of the folder; points of several sections may share one.
      options: what it changes, by dotted names.
      run: None where it failed or is not there yet.
      failure: why it failed, in one line; "" otherwise.
      damage: what is wrong with the folder of a run that had been finished, in one line; "" otherwise.
    """

    name: str
    run_name: str
    options: Mapping[str, Any]
    run: Run | None
    failure: str = ""
    damage: str = ""

    @property
    def in_paper(self) -> str:
        """The name of the row of the paper that it is about."""
        return FULL_MODEL if self.name == PAPER_SETTINGS else self.name

    @property
    def absence(self) -> str:
        """Returns why there are no numbers, in a word or two; "" where there are."""
        if self.run:
            return ""
        return "failed" if self.failure else "damaged" if self.damage else "not there yet"


@dataclass(frozen=True)
class SectionResults:
    """The points of one kind.

    Attributes:
      repeated: the names of points that several folders have; the first one counts.
    """

    kind: str
    points: tuple[Point, ...]
    repeated: tuple[str, ...] = ()

    @property
    def runs(self) -> dict[str, Run]:
        """Returns the runs of the points that have numbers, by the name of the point."""
        return {point.name: point.run for point in self.points if point.run}

    @property
    def full_model(self) -> Point | None:
        """Returns the point that the others are compared with: the full model, or the first of plain runs."""
        with_numbers = [point for point in self.points if point.run]
        tuned = [point for point in with_numbers if point.name != PAPER_SETTINGS]
        named = [point for point in tuned if FULL_MODEL in (point.name, point.run_name) or point.name == "tav"]
        return next(iter(named or (with_numbers if self.kind == "runs" else [])), None)


@dataclass(frozen=True)
class Study:
    """The sections on one data set, around one base config.

    Attributes:
      settings: `name=value` of the options in which it differs from the other studies on these data.
      told_apart: what tells it from others of the same data set and settings: its features, or a number.
      search: how the hyper-parameters of its models were chosen; None where nobody searched.
    """

    dataset: str
    source: str
    classes: tuple[str, ...]
    sections: tuple[SectionResults, ...]
    settings: tuple[str, ...] = ()
    told_apart: tuple[str, ...] = ()
    search: Search | None = None

    @property
    def runs(self) -> dict[int, Run]:
        """Returns every run once, in the order of the page."""
        return {id(run): run for section in self.sections for run in section.runs.values()}

    @property
    def full_model(self) -> Run | None:
        """Returns the run that stands for the study: the full model of a sweep, or else the first of plain runs."""
        points = [section.full_model for section in sorted(self.sections, key=lambda section: section.kind == "runs")]
        first = next((point.run for point in points if point and point.run), None)
        others = (run for section in self.sections for name, run in section.runs.items() if name != PAPER_SETTINGS)
        return first or next(others, None)

    def find(self, kind: str, name: str) -> Run | None:
        return next((s.runs[name] for s in self.sections if s.kind == kind and name in s.runs), None)


@dataclass(frozen=True)
class _FolderSection:
    """A section of one folder, before it is merged with those of others.

    Attributes:
      settings: name and value, as JSON, of the options of the sweep's base config that decide about its numbers, and of
        the budget of a search; of a plain run ().
    """

    dataset: str
    fingerprint: str
    source: str
    classes: tuple[str, ...]
    section: SectionResults
    settings: tuple[tuple[str, str], ...] = ()
    search: Search | None = None


def load_studies(folders: Sequence[Path]) -> tuple[Study, ...]:
    """Reads run and sweep folders, and merges what belongs together.

    Plain runs become the rows of a section `runs`, in the first study on their data. Sections of the same kind are
    merged point by point, if they are of the same data and their sweeps are around the same base config: names alone
    are not enough, since MELD comes with many kinds of features, and `cmath` in many widths. So are searches of one
    budget; another budget makes another study, and no tuned model stands beside one that is not.

    Raises:
      InputError: for a folder that is not one of a finished run or sweep.
    """
    parts = [part for folder in folders for part in _parts(folder)]
    studies = []
    for data in dict.fromkeys((part.dataset, part.classes, part.fingerprint) for part in parts):
        of_data = [part for part in parts if (part.dataset, part.classes, part.fingerprint) == data]
        choices = list(dict.fromkeys(part.settings for part in of_data if part.settings)) or [()]
        common = set.intersection(*map(set, choices))
        for settings in choices:
            with_it = (settings, ()) if settings is choices[0] else (settings,)
            alike = [part for part in of_data if part.settings in with_it]
            kinds = sorted({part.section.kind for part in alike}, key=_rank)
            sections = tuple(_merge([part.section for part in alike if part.section.kind == kind]) for kind in kinds)
            differing = tuple(f"{name}={value}" for name, value in settings if (name, value) not in common)
            searches = {id(part.search): part.search for part in alike if part.search}
            named = [point.name for section in sections if section.kind == "main_results" for point in section.points]
            search = merged(list(searches.values()), named)
            first = alike[0]
            studies.append(Study(first.dataset, first.source, first.classes, sections, differing, search=search))
    return tuple(replace(study, told_apart=_told_apart(studies, study)) for study in studies)


def _told_apart(studies: Sequence[Study], study: Study) -> tuple[str, ...]:
    same = [other for other in studies if (other.dataset, other.settings) == (study.dataset, study.settings)]
    if len(same) < 2:
        return ()
    features = [other.full_model.circumstances.short() if other.full_model else "" for other in same]
    number = [other is study for other in same].index(True)
    alone = features.count(features[number]) == 1
    return tuple(filter(None, [features[number], "" if alone else f"data {number + 1} of {len(same)}"]))


def _settings(config: Mapping[str, Any], search: Search | None) -> tuple[tuple[str, str], ...]:
    options = sorted({"seeds": config["seeds"], **binding(config)}.items())  # numbers are over seeds
    options += search.budget if search else ()
    return tuple((printable(name), printable(json.dumps(value))) for name, value in options)


def _rank(kind: str) -> tuple[int, str]:
    return (KINDS.index(kind) if kind in KINDS else len(KINDS), kind)


def _parts(folder: Path) -> list[_FolderSection]:
    if not folder.is_dir():
        what = "it is a file; name the folder of a run or a sweep" if folder.exists() else "there is no such folder"
        raise InputError(f"{folder}: {what}")
    path = folder / "result.json"
    if not path.exists():
        raise InputError(f"{path}: there is no such file; name the folder of a finished run or sweep")
    with reading():
        result = read_json(path)
    if not isinstance(result, dict):
        raise InputError(f"{path}: not the result of a run or a sweep")
    if "sections" in result:
        try:
            return _sweep(folder, result)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder}: not as a sweep writes it: {type(error).__name__}: {error}") from error
    name = folder.resolve().name
    run = load_run(folder, name)
    section = SectionResults("runs", (Point(run.name, run.name, {}, run),))
    return [_FolderSection(run.dataset, run.fingerprint, run.source, run.classes, section)]


def _sweep(folder: Path, result: Mapping[str, Any]) -> list[_FolderSection]:
    names = {point["run"] for section in result["sections"] for point in section["points"].values()}
    for name in names:
        if Path(name).name != name:
            raise InputError(f"{folder / 'result.json'}: {name!r} is not the name of a folder in runs")
    runs: dict[str, Run] = {}
    damage: dict[str, str] = {}
    for name in sorted(names):
        if name not in result["failed"] and (folder / "runs" / name / "result.json").exists():
            try:
                runs[name] = load_run(folder / "runs" / name, name)
            except InputError as error:  # the other runs have numbers all the same
                damage[name] = printable(str(error).removeprefix(f"{folder}{os.sep}"))

    def point(name: str, entry: Mapping[str, Any]) -> Point:
        run = entry["run"]
        failure = printable(result["failed"].get(run, ""))
        return Point(printable(name), printable(run), entry["options"], runs.get(run), failure, damage.get(run, ""))

    with reading():
        environment, config = (read_object(folder / f"{name}.json") for name in ("environment", "config"))
    search = read_search(folder / "result.json", result["tuning"]) if "tuning" in result else None
    settings = _settings(config["config"], search)
    fingerprints = [environment.get("data", {}).get("fingerprint"), *(run.fingerprint for run in runs.values())]
    return [
        _FolderSection(
            dataset=printable(result["dataset"]),
            fingerprint=str(next(filter(None, fingerprints), "")),
            source=printable(result["source"]),
            classes=tuple(map(printable, result["classes"])),
            section=SectionResults(
                printable(section["kind"]), tuple(point(name, entry) for name, entry in section["points"].items())
            ),
            settings=settings,
            search=search,
        )
        for section in _whole(config, result)
    ]


def _whole(config: Mapping[str, Any], result: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Returns the sections of `result.json`; of a part of a sweep with the points of the other parts, in order."""
    if "whole" not in config:
        return result["sections"]
    entries = {(section["kind"], name): at for section in result["sections"] for name, at in section["points"].items()}

    def points(section: Mapping[str, Any]) -> dict[str, Any]:
        of_others = {name: {"run": "", "options": options} for name, options in section["points"].items()}
        return {name: entries.get((section["kind"], name), other) for name, other in of_others.items()}

    return [{"kind": section["kind"], "points": points(section)} for section in config["whole"]]


def _merge(sections: Sequence[SectionResults]) -> SectionResults:
    """Returns one section of the points of several; of equal names the first that has numbers, or says why not."""
    if sections[0].kind == "runs":
        return SectionResults("runs", _renamed([point for section in sections for point in section.points]))
    points: dict[str, Point] = {}
    repeated = []
    for point in (point for section in sections for point in section.points):
        known = points.setdefault(point.name, point)
        if known is not point and known.run and point.run:
            repeated.append(point.name)
        elif _known(point) > _known(known):
            points[point.name] = point
    return SectionResults(sections[0].kind, tuple(points.values()), tuple(dict.fromkeys(repeated)))


def _known(point: Point) -> int:
    """Returns how much is known of a point. 0: nothing; 1: why there are no numbers; 2: numbers."""
    return 2 if point.run else 1 if point.failure or point.damage else 0


def _renamed(points: Sequence[Point]) -> tuple[Point, ...]:
    """Returns plain runs with a number where their folders have the same name: both are rows."""
    taken: Counter[str] = Counter()
    result = []
    for point in points:
        taken[point.name] += 1
        number = taken[point.name]
        result.append(point if number == 1 else replace(point, name=f"{point.name} ({number})"))
    return tuple(result)
