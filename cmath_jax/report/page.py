"""Writes the page: studies as HTML, figures and tables as files beside it. Equal input gives equal bytes."""

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmath_jax.errors import InputError, readable
from cmath_jax.evaluation.statistics import Comparison, Interval
from cmath_jax.io.files import made_folders, remove_empty
from cmath_jax.io.whole import write_whole
from cmath_jax.pages.drawing import Graphic, css_variable, emotion_colours
from cmath_jax.pages.web import fill
from cmath_jax.report import paper
from cmath_jax.report.load import Reference, Run, printable
from cmath_jax.report.numerals import interval, number, p_value, signed
from cmath_jax.report.studies import SectionResults, Study, load_studies
from cmath_jax.report.tables import MEASURES, Measure, against_linear, intervals, label_of, reference_label
from cmath_jax.report.views import PageSection, slug, view_title, views

DATA_SETS = {"meld": "MELD", "iemocap": "IEMOCAP", "simulated": "simulated conversations"}
MOST_NAMED = 8  # runs without a result
MOST_SETTINGS = 2  # in a title


@dataclass(frozen=True)
class Headline:
    """The scores that a reader came for.

    Attributes:
      intervals: of accuracy and weighted F1; how they were made is in `method`.
      references: what it has to beat, by label.
      against_linear: its weighted F1 minus that of the linear model; None where there is none, or no predictions of it.
    """

    label: str
    run: Run
    measures: Mapping[str, Measure]
    intervals: Mapping[str, Interval]
    method: str
    references: Mapping[str, Reference]
    against_linear: Comparison | None


@dataclass(frozen=True)
class Chapter:
    """A study as the page shows it.

    Attributes:
      belongs: title and lines of what its scores belong to, where a row says nothing else.
    """

    name: str
    title: str
    study: Study
    headline: Headline | None
    warnings: tuple[str, ...]
    views: tuple[PageSection, ...]
    colours: Mapping[str, str]
    belongs: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def graphics(self) -> list[Graphic]:
        return [graphic for view in self.views for graphic in (*view.graphics, *((view.wide,) if view.wide else ()))]


def write(folders: Sequence[Path], output: Path | None) -> Path:
    """Writes the page, as `cmath_jax.report.write_report` says. Returns its path."""
    folders = [Path(folder) for folder in folders]
    if not folders:
        raise InputError("a report needs at least one folder")
    if output is None:
        output = folders[0] / "report.html" if len(folders) == 1 else Path("report.html")
    studies = load_studies(folders)
    figures = output.parent / "figures"
    made: list[Path] = []
    try:
        made = made_folders(figures)
        chapters = [_chapter(study, _prefix(study, i, len(studies))) for i, study in enumerate(studies)]
        for chapter in chapters:
            for graphic in chapter.graphics:
                write_whole(figures / f"{graphic.name}.svg", graphic.svg)
                write_whole(figures / f"{graphic.name}.csv", _csv(graphic.data))
            for name, rows in (file for view in chapter.views for file in view.files()):
                write_whole(figures / f"{name}.csv", _csv(rows))
        write_whole(output, render(chapters))
    except OSError as error:
        if made:
            shutil.rmtree(figures, ignore_errors=True)
            remove_empty(made[1:])
        raise InputError(f"the report cannot be written: {readable(error)}") from error
    return output


def _prefix(study: Study, index: int, count: int) -> str:
    return f"{slug(study.dataset)}-{index + 1}-" if count > 1 else ""


def render(chapters: Sequence[Chapter]) -> str:
    """Returns the HTML of the whole page."""
    runs = [run for chapter in chapters for run in chapter.study.runs.values()]
    return fill(
        "cmath_jax.report",
        {"number": number, "signed": signed, "p_value": p_value, "interval": interval},
        title=_title(chapters),
        chapters=chapters,
        measures=MEASURES,
        machines=_machines(runs),
        options=_options(chapters[0].headline.run) if len(runs) == 1 and chapters[0].headline else {},
        paper_notes=(paper.PROTOCOL, paper.RULE) if any(paper.knows(each.study.dataset) for each in chapters) else (),
        variable=css_variable,
    )


def _chapter(study: Study, prefix: str) -> Chapter:
    return Chapter(
        name=prefix + "summary",
        title=", ".join([_data_set(study), *study.settings[:MOST_SETTINGS], *study.told_apart]),
        study=study,
        headline=_headline(study),
        warnings=tuple(_warnings(study)),
        views=tuple(views(study, prefix)),
        colours=emotion_colours(study.classes),
        belongs=_belongs(study),
    )


def _belongs(study: Study) -> tuple[tuple[str, tuple[str, ...]], ...]:
    run = study.full_model
    if run is None:
        return ()
    return (("Sees", (run.circumstances.seen,)), ("Features", tuple(run.circumstances.lines())))


def _data_set(study: Study) -> str:
    return DATA_SETS.get(study.dataset, study.dataset)


def _headline(study: Study) -> Headline | None:
    run, only_plain = study.full_model, all(section.kind == "runs" for section in study.sections)
    if run is None or (only_plain and len(study.runs) > 1):
        return None
    sweep_label = next(
        (label_of(s.kind, n) for s in study.sections for n, r in s.runs.items() if r is run and s.kind != "runs"), ""
    )
    beside = sweep_label == "CMATH" and not paper.why_apart(study.dataset, run.circumstances, run.labelled)
    quoted = paper.scores(study.dataset, "main_results").get("cmath", {}) if beside else {}
    scores = {"accuracy": run.accuracy, "weighted_f1": run.weighted_f1}
    seeds = len(run.seeds)
    return Headline(
        label=sweep_label or run.name,
        run=run,
        measures={name: Measure(quoted.get(name), score) for name, score in scores.items()},
        intervals=intervals(run),
        method=f"Student's t over {seeds} seeds" if seeds > 1 else "bootstrap over the conversations of the one seed",
        references={reference_label(kind, reference): reference for kind, reference in run.references.items()},
        against_linear=against_linear(run) if "linear" in run.references else None,
    )


def _warnings(study: Study) -> list[str]:
    collapsed: dict[int, tuple[str, tuple[int, ...]]] = {}
    failed: dict[str, str] = {}
    damaged: dict[str, str] = {}
    without_result: dict[str, str] = {}
    for section in study.sections:
        for point in section.points:
            label = _where(section, point.name)
            if point.run and point.run.collapsed_seeds:
                collapsed.setdefault(id(point.run), (label, point.run.collapsed_seeds))
            elif point.failure:
                failed.setdefault(point.run_name, f"{label} failed: {point.failure}")
            elif point.damage:
                damaged.setdefault(point.run_name, f"{label} is damaged, and left out: {point.damage}")
            elif not point.run:
                without_result.setdefault(point.run_name, label)
    said = []
    for label, seeds in collapsed.values():
        which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
        said.append(f"{label} has collapsed ({which}): it predicts one and the same emotion for every utterance.")
    said += [*failed.values(), *damaged.values()]
    if len(without_result) > MOST_NAMED:
        said.append(f"{len(without_result)} runs have no result as yet, {len(study.runs)} have one.")
    elif without_result:
        said.append(f"Without a result as yet: {'; '.join(without_result.values())}.")
    return said


def _where(section: SectionResults, name: str) -> str:
    label = label_of(section.kind, name)
    return label if section.kind in ("runs", "main_results") else f"{label} ({view_title(section.kind).lower()})"


def _title(chapters: Sequence[Chapter]) -> str:
    names = list(dict.fromkeys(_data_set(chapter.study) for chapter in chapters))
    runs = [run for chapter in chapters for run in chapter.study.runs.values()]
    if len(runs) == 1:
        return f"{runs[0].experiment} on {names[0]}" if runs[0].experiment != chapters[0].study.dataset else names[0]
    return f"CMATH on {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}"


def _machines(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Returns devices and versions, each combination once."""
    seen: dict[str, dict[str, Any]] = {}
    for run in runs:
        facts = run.environment
        devices = [printable(device) for device in facts.get("devices", [])]
        counted = [f"{devices.count(d)} × {d}" if devices.count(d) > 1 else d for d in dict.fromkeys(devices)]
        versions = {printable(name): printable(version) for name, version in facts.get("versions", {}).items()}
        machine = {
            "devices": ", ".join(counted),
            "versions": {"python": printable(facts.get("python", "")), **versions},
        }
        seen[json.dumps(machine)] = machine
    return list(seen.values())


def _options(run: Run) -> dict[str, str]:
    def flat(values: Mapping[str, Any], prefix: str) -> dict[str, str]:
        options: dict[str, str] = {}
        for name, value in values.items():
            key = prefix + printable(name)
            options |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: printable(value)}
        return options

    return flat(run.config, "")


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
