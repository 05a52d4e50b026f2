"""Computes the tables of the page as numbers, before anything is written down.

A row of a score table stands for a run, for a reference (majority, linear), for a number that the paper quotes, or for
a point without a result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cmath_jax.evaluation.joint_test import compare_models
from cmath_jax.evaluation.statistics import (
    Comparison,
    Interval,
    Utterances,
    bootstrap_interval,
    compare_seeds,
    compare_utterances,
    holm,
    t_interval,
)
from cmath_jax.models.options import MODELS
from cmath_jax.models.options.base import STYLE
from cmath_jax.report import paper
from cmath_jax.report.load import Reference, Run, Score
from cmath_jax.report.studies import PAPER_SETTINGS, Point, SectionResults, Study
from cmath_jax.results.circumstances import NAMES, modalities_in_words

LABELS = {
    **{name: kind.title for name, kind in MODELS.items()},
    PAPER_SETTINGS: "CMATH, the paper's settings",
    "wo_mr": "w/o MR",
    "wo_cma": "w/o CMA-T",
    "wo_lld": "w/o LLD",
    "wo_hld": "w/o HLD",
    "wo_hd": "w/o HD",
    "inject_block": "finished blocks into the centre",
    "pre_norm": "normalization before the block",
    "post_norm": "normalization after the block",
    "moving_teacher": "teacher not stopped",
    "deterministic": "no noise in the fusion",
    "symmetric": "nothing into the centre",
}
PLAIN_KINDS = ("modalities", "width", "gammas")  # whose labels say what the options are
MEASURES = {"weighted_f1": "Weighted F1", "accuracy": "Accuracy"}  # the main score first, for narrow screens


@dataclass(frozen=True)
class Measure:
    """A score of a row: the paper's and ours."""

    paper: float | None = None
    score: Score | None = None
    interval: Interval | None = None

    @property
    def difference(self) -> float | None:
        """Returns ours minus the paper's; None where one is missing."""
        return None if self.paper is None or self.score is None else self.score.mean - self.paper


@dataclass(frozen=True)
class Row:
    """A row of a score table.

    Attributes:
      kind: `full` (what the others are compared with), `run`, `reference`, `quoted` or `absent`.
      detail: what the point changes, or why there is no result.
      absence: of a row of kind `absent`, that of its point.
      marks: what of its data, modalities or features is other than those of the row that the others are compared with.
      belongs: modalities, features and data of its scores, for the CSV file.
      measures: by the names of `MEASURES`.
      emotions: F1 of each class, by its name.
      bootstrapped: whether the intervals are over conversations, for want of a second seed.
      joint: of its weighted F1 with that of the full model, over seeds and conversations.
      over_seeds, over_utterances: the same over seeds alone, and over conversations alone; for the CSV file.
      p_value, p_seeds, p_utterances: of these three, Holm-corrected within the table.
    """

    label: str
    kind: str
    measures: Mapping[str, Measure]
    emotions: Mapping[str, Measure]
    detail: str = ""
    absence: str = ""
    marks: tuple[str, ...] = ()
    belongs: tuple[str, str, str] = ("", "", "")
    seeds: tuple[int, ...] = ()
    collapsed_seeds: tuple[int, ...] = ()
    bootstrapped: bool = False
    joint: Comparison | None = None
    over_seeds: Comparison | None = None
    over_utterances: Comparison | None = None
    p_value: float | None = None
    p_seeds: float | None = None
    p_utterances: float | None = None

    @property
    def blank(self) -> bool:
        """Returns whether there is no F1 of any emotion."""
        return all(measure.score is None and measure.paper is None for measure in self.emotions.values())


@dataclass(frozen=True)
class ScoreTable:
    """The rows of a section.

    Attributes:
      full_model: the label of the row that the others are compared with; "" for none.
      left_out: why numbers of the paper are left out, in sentences; "" where none is.
    """

    kind: str
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    full_model: str
    left_out: str = ""

    @property
    def with_paper(self) -> bool:
        return any(measure.paper is not None for row in self.rows for measure in row.measures.values())

    @property
    def with_difference(self) -> bool:
        """Returns whether any row has a number of the paper and one of ours."""
        return any(measure.difference is not None for row in self.rows for measure in row.measures.values())

    @property
    def with_comparison(self) -> bool:
        return any(row.joint for row in self.rows)

    @property
    def of_one_seed(self) -> bool:
        """Returns whether there is a comparison whose noise cannot be known, because a model has one seed."""
        return any(row.joint and row.joint.p_value is None for row in self.rows)

    @property
    def interval_method(self) -> str:
        """Returns what its intervals are over, in words."""
        kinds = {row.bootstrapped for row in self.rows if row.seeds}
        if kinds == {True}:
            return "over conversations (bootstrap)"
        both = " or, for a single seed, over conversations (bootstrap)" if kinds == {True, False} else ""
        return f"over seeds (Student's t){both}"

    def csv(self) -> list[list[Any]]:
        """Returns header and rows; scores unrounded."""
        columns = (*MEASURES, *self.classes)
        parts = ("paper", "mean", "std", "low", "high")
        tests = ("difference", "difference low", "difference high", "p_holm", "p_seeds_holm", "p_utterances_holm")
        belongs = ("modalities", "features", "data")
        header = ["row", "kind", "seeds", "collapsed_seeds", *(f"{name} {part}" for name in columns for part in parts)]
        rows = []
        for row in self.rows:
            measures = {**row.measures, **row.emotions}
            numbers = [value for name in columns for value in _numbers(measures.get(name, Measure()))]
            joint = row.joint
            between = [joint.interval.low, joint.interval.high] if joint and joint.interval else [None, None]
            compared = [joint.difference if joint else None, *between, row.p_value, row.p_seeds, row.p_utterances]
            seeds, collapsed = (" ".join(map(str, values)) for values in (row.seeds, row.collapsed_seeds))
            rows.append([row.label, row.kind, seeds, collapsed, *numbers, *compared, *row.belongs])
        return [[*header, *tests, *belongs], *rows]


def label_of(kind: str, name: str) -> str:
    """Returns how a point is called on the page."""
    if kind == "modalities" and name and set(name) <= set(NAMES):
        return modalities_in_words(name)
    if kind == "width":
        return f"width {name}"
    if kind == "gammas":
        return "γ₁ {}, γ₂ {}".format(*name.split(",")) if name.count(",") == 1 else name
    return name if kind == "runs" else LABELS.get(name, name)


def reference_label(kind: str, reference: Reference) -> str:
    """Returns how `majority` or a `linear` model of some modalities is called on the page."""
    return ", ".join([kind, *([modalities_in_words(reference.modalities)] if reference.modalities else [])])


def intervals(run: Run) -> dict[str, Interval]:
    """Returns the 95 % interval of each of `MEASURES`.

    They are over seeds (t) if there are two, else over conversations (bootstrap). Few seeds can give one that reaches
    beyond what a score can be; it is cut there.
    """
    over_seeds = {"accuracy": t_interval(run.accuracy.values), "weighted_f1": t_interval(run.weighted_f1.values)}
    return {
        name: Interval(max(interval.low, 0.0), min(interval.high, 100.0))
        if interval
        else bootstrap_interval(_utterances(run), run.predictions.prediction_tn[0], score=name)
        for name, interval in over_seeds.items()
    }


def score_table(section: SectionResults, study: Study) -> ScoreTable:
    """Returns the rows of the section, what they have to beat, and what the paper prints where `paper.RULE` lets it."""
    quoted = paper.scores(study.dataset, section.kind)
    full = section.full_model
    against = full.run if full else study.find("main_results", "cmath")
    usual = against or next(iter(section.runs.values()), None)
    apart = {point.name: _apart(study.dataset, section.kind, point) for point in section.points if point.run}
    beside = "" in apart.values()  # whether there is a score beside which the paper's rows may stand
    rows = []
    for point in section.points:
        numbers = quoted.get(point.in_paper, {}) if not apart.get(point.name) and (point.run or beside) else {}
        row = _row(section.kind, point, numbers, study.classes, point is full)
        rows.append(_compared(_marked(row, section.kind, point.run, usual), point.run, against))
    references = list(_references(section, against))
    adjusted = zip(
        (*rows, *references),
        *(
            holm([comparison.p_value if (comparison := getattr(row, test)) else None for row in (*rows, *references)])
            for test in ("joint", "over_seeds", "over_utterances")
        ),
        strict=True,
    )
    rows = [
        replace(row, p_value=p, p_seeds=by_seeds, p_utterances=by_utterances)
        for row, p, by_seeds, by_utterances in adjusted
    ]
    rows, references = rows[: len(section.points)], rows[len(section.points) :]
    if beside and section.kind in ("main_results", "runs"):
        rows += list(_quoted(section, quoted, study.classes))
    return ScoreTable(
        kind=section.kind,
        rows=(*rows, *references),
        classes=study.classes,
        full_model=label_of(section.kind, full.name) if full else "CMATH" if against else "",
        left_out=_left_out(section.kind, apart) if quoted else "",
    )


def _apart(dataset: str, kind: str, point: Point) -> str:
    """Returns why no number of the paper may stand beside the score of a point; "" if one may."""
    run = point.run
    if run is None:
        return ""
    modalities = point.name if kind == "modalities" else "tav"
    return paper.why_apart(dataset, run.circumstances, run.labelled, modalities)


def _left_out(kind: str, apart: Mapping[str, str]) -> str:
    """Returns the reasons why numbers of the paper are left out, each with the rows that it is about."""
    labels: dict[str, list[str]] = {}
    for name, reason in apart.items():
        labels.setdefault(reason, []).append(label_of(kind, name))
    said = []
    for reason, names in labels.items():
        if reason:
            rows = "" if len(labels) == 1 else f" of {', '.join(names)}"
            said.append(f"The paper's numbers{rows} are left out: {reason}.")
    return " ".join(said)


def _marked(row: Row, kind: str, run: Run | None, usual: Run | None) -> Row:
    """Returns the row with what its scores belong to, and what of it is other than usual."""
    if run is None:
        return row
    belongs = (run.circumstances.modalities, run.circumstances.short(), f"{run.dataset}: {run.source}")
    marks = []
    if usual and run is not usual:
        if run.dataset != usual.dataset or run.fingerprint != usual.fingerprint:
            marks.append(f"other data: {run.dataset}, {run.source}")
        marks += run.circumstances.differences(usual.circumstances, with_modalities=kind != "modalities")
    return replace(row, marks=tuple(marks), belongs=belongs)


def _row(kind: str, point: Point, quoted: Mapping[str, float | None], classes: Sequence[str], full: bool) -> Row:
    quoted = {} if kind == "runs" else quoted
    run, label = point.run, label_of(kind, point.name)
    if run is None:
        measures = {name: Measure(paper=quoted.get(name)) for name in MEASURES}
        return Row(label, "absent", measures, {}, detail=point.failure or point.damage, absence=point.absence)
    interval = intervals(run)
    return Row(
        label=label,
        kind="full" if full else "run",
        measures={name: Measure(quoted.get(name), getattr(run, name), interval[name]) for name in MEASURES},
        emotions={name: Measure(quoted.get(name), score) for name, score in zip(classes, run.f1, strict=True)},
        detail="" if kind in PLAIN_KINDS else ", ".join(f"{name}={_short(x)}" for name, x in point.options.items()),
        seeds=run.seeds,
        collapsed_seeds=run.collapsed_seeds,
        bootstrapped=len(run.seeds) < 2,
    )


def _short(value: Any) -> str:
    """Returns the value of an option; of a number that was drawn as many digits as matter."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _compared(row: Row, run: Run | None, full: Run | None) -> Row:
    if run is None or full is None or run is full:
        return row
    shared = [seed for seed in run.seeds if seed in full.seeds]
    over_seeds = None
    if shared:
        ours, theirs = (dict(zip(each.seeds, each.weighted_f1.values, strict=True)) for each in (run, full))
        over_seeds = compare_seeds([ours[seed] for seed in shared], [theirs[seed] for seed in shared])
    a, b = run.predictions, full.predictions
    if run.classes != full.classes or not a.same_utterances(b):
        return replace(row, over_seeds=over_seeds)
    both = (_utterances(run), a.prediction_tn, b.prediction_tn)
    return replace(row, joint=compare_models(*both), over_seeds=over_seeds, over_utterances=compare_utterances(*both))


def against_linear(run: Run) -> Comparison | None:
    """Returns a run's weighted F1 minus that of its linear model, which has no seeds; None without its predictions."""
    p = run.predictions
    if p.linear_n is None:
        return None
    return compare_models(_utterances(run), p.prediction_tn, p.linear_n[np.newaxis], fixed="b")


def _utterances(run: Run) -> Utterances:
    return Utterances(run.predictions.label_n, run.predictions.conversation_n, len(run.classes))


def _quoted(
    section: SectionResults, quoted: Mapping[str, Mapping[str, float | None]], classes: Sequence[str]
) -> Iterator[Row]:
    known = {} if section.kind == "runs" else {point.in_paper for point in section.points}
    for name, numbers in quoted.items():
        if name not in known:
            measures = {measure: Measure(paper=numbers.get(measure)) for measure in MEASURES}
            emotions = {emotion: Measure(paper=numbers.get(emotion)) for emotion in classes}
            label = f"{LABELS.get(name, name).removesuffix(STYLE)} (paper)"
            yield Row(label, "quoted", measures, emotions)


def _references(section: SectionResults, full: Run | None) -> Iterator[Row]:
    """Yields what every row has to beat. Of several linear models, that of each choice of modalities once."""
    found: dict[str, tuple[Reference, Run]] = {}
    for run in section.runs.values():
        for kind, reference in run.references.items():
            found.setdefault(reference_label(kind, reference), (reference, run))
    for label, (reference, run) in found.items():
        values = {name: getattr(reference, name) for name in MEASURES}
        measures = {name: Measure(score=Score(value, 0.0, (value,))) for name, value in values.items()}
        row = Row(label, "reference", measures, {})
        linear_n = run.predictions.linear_n
        if reference.modalities and linear_n is not None and full and full.predictions.same_utterances(run.predictions):
            both = (linear_n[np.newaxis], full.predictions.prediction_tn)
            row = replace(row, joint=compare_models(_utterances(full), *both, fixed="a"))
        yield row


def _numbers(measure: Measure) -> list[float | None]:
    score, interval = measure.score, measure.interval
    ours = [score.mean, score.std] if score else [None, None]
    return [measure.paper, *ours, *([interval.low, interval.high] if interval else [None, None])]
