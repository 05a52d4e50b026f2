"""The tables of the page as numbers, before anything is written down.

A row of a score table stands for a run, for a reference (majority, linear), for a number that the paper quotes, or for
a point without a result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cmath_jax.report import paper
from cmath_jax.report.load import Reference, Run, Score
from cmath_jax.report.studies import Point, Section, Study
from cmath_jax.statistics import (
    Comparison,
    Interval,
    bootstrap_interval,
    compare_seeds,
    compare_utterances,
    holm,
    t_interval,
)

MODALITY_NAMES = {"t": "text", "a": "audio", "v": "video"}
LABELS = {
    "cmath": "CMATH",
    "sdt": "SDT",
    "wo_mr": "w/o MR",
    "wo_cma": "w/o CMA-T",
    "wo_lld": "w/o LLD",
    "wo_hld": "w/o HLD",
    "wo_hd": "w/o HD",
    "inject_block": "finished blocks into the centre",
    "moving_teacher": "teacher not stopped",
    "deterministic": "no noise in the fusion",
    "symmetric": "nothing into the centre",
}
PLAIN_KINDS = ("modalities", "width", "gammas")  # whose labels say what the options are
MEASURES = {"accuracy": "Accuracy", "weighted_f1": "Weighted F1"}


@dataclass(frozen=True)
class Measure:
    """One score of one row: the paper's and ours."""

    paper: float | None = None
    score: Score | None = None
    interval: Interval | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.paper is None or self.score is None else self.score.mean - self.paper


@dataclass(frozen=True)
class Row:
    """One row of a score table.

    Attributes:
      kind: `full` (what the others are compared with), `run`, `reference`, `quoted` or `absent`.
      detail: what the point changes, or why there is no result.
      absence: of a row of kind `absent`, that of its point.
      measures: by the names of `MEASURES`.
      emotions: F1 of each class, by its name.
      bootstrapped: whether the intervals are over conversations, for want of a second seed.
      over_seeds, over_utterances: of its weighted F1 with that of the full model.
      p_seeds, p_utterances: Holm-corrected within the table.
    """

    label: str
    kind: str
    measures: Mapping[str, Measure]
    emotions: Mapping[str, Measure]
    detail: str = ""
    absence: str = ""
    seeds: tuple[int, ...] = ()
    collapsed_seeds: tuple[int, ...] = ()
    bootstrapped: bool = False
    over_seeds: Comparison | None = None
    over_utterances: Comparison | None = None
    p_seeds: float | None = None
    p_utterances: float | None = None

    @property
    def blank(self) -> bool:
        """Whether there is no F1 of any emotion."""
        return all(measure.score is None and measure.paper is None for measure in self.emotions.values())


@dataclass(frozen=True)
class ScoreTable:
    """Attributes:
    full_model: the label of the row that the others are compared with; "" for none.
    """

    kind: str
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    full_model: str

    @property
    def with_paper(self) -> bool:
        return any(measure.paper is not None for row in self.rows for measure in row.measures.values())

    @property
    def with_difference(self) -> bool:
        """Whether any row has a number of the paper and one of ours."""
        return any(measure.difference is not None for row in self.rows for measure in row.measures.values())

    @property
    def with_comparison(self) -> bool:
        return any(row.over_seeds or row.over_utterances for row in self.rows)

    @property
    def interval_method(self) -> str:
        """What its intervals are over."""
        kinds = {row.bootstrapped for row in self.rows if row.seeds}
        if kinds == {True}:
            return "over conversations (bootstrap)"
        both = " or, for a single seed, over conversations (bootstrap)" if kinds == {True, False} else ""
        return f"over seeds (Student's t){both}"

    def csv(self) -> list[list[Any]]:
        """Header and rows; scores unrounded."""
        columns = (*MEASURES, *self.classes)
        parts = ("paper", "mean", "std", "low", "high")
        tests = ("difference", "p_seeds_holm", "p_utterances_holm")
        header = ["row", "kind", "seeds", "collapsed_seeds", *(f"{name} {part}" for name in columns for part in parts)]
        rows = []
        for row in self.rows:
            measures = {**row.measures, **row.emotions}
            numbers = [value for name in columns for value in _numbers(measures.get(name, Measure()))]
            difference = row.over_utterances.difference if row.over_utterances else None
            seeds, collapsed = (" ".join(map(str, values)) for values in (row.seeds, row.collapsed_seeds))
            rows.append([row.label, row.kind, seeds, collapsed, *numbers, difference, row.p_seeds, row.p_utterances])
        return [[*header, *tests], *rows]


def label_of(kind: str, name: str) -> str:
    """How a point is called on the page."""
    if kind == "modalities" and name and set(name) <= set(MODALITY_NAMES):
        return " + ".join(MODALITY_NAMES[m] for m in name)
    if kind == "width":
        return f"width {name}"
    if kind == "gammas":
        return "γ₁ {}, γ₂ {}".format(*name.split(",")) if name.count(",") == 1 else name
    return name if kind == "runs" else LABELS.get(name, name)


def reference_label(kind: str, reference: Reference) -> str:
    """How `majority` or a `linear` model of some modalities is called on the page."""
    return ", ".join(filter(None, [kind, " + ".join(MODALITY_NAMES.get(m, m) for m in reference.modalities)]))


def intervals(run: Run) -> dict[str, Interval]:
    """The 95 % interval of each of `MEASURES`: over seeds (t) if there are two, else over conversations (bootstrap).

    That of few seeds can reach beyond what a score can be, and is cut there.
    """
    over_seeds = {"accuracy": t_interval(run.accuracy.values), "weighted_f1": t_interval(run.weighted_f1.values)}
    p = run.predictions
    return {
        name: Interval(max(interval.low, 0.0), min(interval.high, 100.0))
        if interval
        else bootstrap_interval(p.label_n, p.prediction_sn[0], p.conversation_n, len(run.classes), score=name)
        for name, interval in over_seeds.items()
    }


def score_table(section: Section, study: Study) -> ScoreTable:
    """The rows of the section, what they have to beat, and what the paper prints."""
    quoted = paper.scores(study.dataset, section.kind)
    full = section.full_model
    against = full.run if full else study.find("main_results", "cmath")
    rows = [
        _row(section.kind, point, quoted.get(point.name, {}), study.classes, point is full) for point in section.points
    ]
    rows = [_compared(row, point.run, against) for row, point in zip(rows, section.points, strict=True)]
    adjusted = zip(
        rows,
        holm([row.over_seeds.p_value if row.over_seeds else None for row in rows]),
        holm([row.over_utterances.p_value if row.over_utterances else None for row in rows]),
        strict=True,
    )
    rows = [replace(row, p_seeds=p_seeds, p_utterances=p_utterances) for row, p_seeds, p_utterances in adjusted]
    if section.kind in ("main_results", "runs"):
        rows += list(_quoted(section, quoted, study.classes))
    return ScoreTable(
        kind=section.kind,
        rows=(*rows, *_references(section)),
        classes=study.classes,
        full_model=label_of(section.kind, full.name) if full else "CMATH" if against else "",
    )


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
        detail="" if kind in PLAIN_KINDS else ", ".join(f"{name}={value}" for name, value in point.options.items()),
        seeds=run.seeds,
        collapsed_seeds=run.collapsed_seeds,
        bootstrapped=len(run.seeds) < 2,
    )


def _compared(row: Row, run: Run | None, full: Run | None) -> Row:
    if run is None or full is None or run is full:
        return row
    shared = [seed for seed in run.seeds if seed in full.seeds]
    over_seeds = over_utterances = None
    if shared:
        ours, theirs = (dict(zip(each.seeds, each.weighted_f1.values, strict=True)) for each in (run, full))
        over_seeds = compare_seeds([ours[seed] for seed in shared], [theirs[seed] for seed in shared])
    a, b = run.predictions, full.predictions
    if run.classes == full.classes and a.same_utterances(b):
        over_utterances = compare_utterances(
            a.label_n, a.prediction_sn, b.prediction_sn, a.conversation_n, len(run.classes)
        )
    return replace(row, over_seeds=over_seeds, over_utterances=over_utterances)


def _quoted(
    section: Section, quoted: Mapping[str, Mapping[str, float | None]], classes: Sequence[str]
) -> Iterator[Row]:
    known = {} if section.kind == "runs" else {point.name for point in section.points}
    for name, numbers in quoted.items():
        if name not in known:
            measures = {measure: Measure(paper=numbers.get(measure)) for measure in MEASURES}
            emotions = {emotion: Measure(paper=numbers.get(emotion)) for emotion in classes}
            label = f"{LABELS[name]} (paper)" if name in LABELS else name
            yield Row(label, "quoted", measures, emotions)


def _references(section: Section) -> Iterator[Row]:
    """What every row has to beat. Of several linear models, that of each choice of modalities once."""
    found: dict[str, Reference] = {}
    for run in section.runs.values():
        for kind, reference in run.references.items():
            found.setdefault(reference_label(kind, reference), reference)
    for label, reference in found.items():
        values = {name: getattr(reference, name) for name in MEASURES}
        measures = {name: Measure(score=Score(value, 0.0, (value,))) for name, value in values.items()}
        yield Row(label, "reference", measures, {})


def _numbers(measure: Measure) -> list[float | None]:
    score, interval = measure.score, measure.interval
    ours = [score.mean, score.std] if score else [None, None]
    return [measure.paper, *ours, *([interval.low, interval.high] if interval else [None, None])]
