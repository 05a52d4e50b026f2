"""Makes the sections that the page shows of a study, in their order, before they are written as HTML."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cmath_jax.pages.drawing import Graphic
from cmath_jax.report import (
    calibration_figures,
    conversations,
    figures,
    paper,
    representation_figures,
    search_figures,
    search_words,
    sweep_figures,
)
from cmath_jax.report.breakdowns import LengthGroup, Peak, length_groups, named_runs, peaks
from cmath_jax.report.conversations import ShownConversation
from cmath_jax.report.load import CalibrationScores, Run
from cmath_jax.report.search_tables import SearchTables, search_tables
from cmath_jax.report.studies import SectionResults, Study
from cmath_jax.report.tables import ScoreTable, score_table

MOST_PLAIN_RUNS = 3  # that are shown in detail
MOST_ROWS = 16  # of a table that is not folded
TITLES = {
    "runs": ("Scores", ""),
    "main_results": ("Main results", ""),
    "ablations": ("Ablations", "Table 4 of the paper. Each row changes one thing of the full model."),
    "modalities": ("Modalities", "Table 5 of the paper."),
    "width": ("Width of the model", "Figure 4 of the paper."),
    "lengths": ("Length of the conversation", "Figure 5 of the paper."),
    "gammas": ("Weights of the distillations", "Figure 6 of the paper."),
}
MAIN_TABLES = {"meld": "Table 3 of the paper.", "iemocap": "Table 2 of the paper."}


@dataclass(frozen=True)
class PageSection:
    """A section of the page.

    Attributes:
      name: of its anchor, and of its table's file.
      intro: sentences above it.
      folded: what a table that opens only when asked for is called; "" for one that is open.
      wide: a figure that takes the whole width, what it is called, and whether it is unfolded.
      stories: label of a run -> its conversations.
      calibrations: by the label of the run.
    """

    name: str
    title: str
    intro: tuple[str, ...] = ()
    table: ScoreTable | None = None
    folded: str = ""
    with_emotions: bool = False
    peaks: tuple[Peak, ...] = ()
    calibrations: Mapping[str, CalibrationScores] = field(default_factory=dict)
    lengths: tuple[LengthGroup, ...] = ()
    graphics: tuple[Graphic, ...] = ()
    wide: Graphic | None = None
    wide_title: str = "The other runs"
    wide_open: bool = True
    stories: dict[str, list[ShownConversation]] | None = None
    search: SearchTables | None = None

    def files(self) -> Iterator[tuple[str, Sequence[Sequence[Any]]]]:
        """Yields name and content of the CSV files of its tables; those of figures come with the figures."""
        if self.table:
            yield self.name, self.table.csv()
        if self.peaks:
            rows = [[p.label, *(x for s in (p.selected, p.peak, p.gap) for x in (s.mean, s.std))] for p in self.peaks]
            parts = ("selected on validation", "best test epoch", "gap")
            yield self.name, [["run", *(f"{part} {x}" for part in parts for x in ("mean", "std"))], *rows]
        if self.calibrations:
            yield self.name, calibration_figures.table(self.calibrations)
        if self.search:
            yield from self.search.files(self.name)


def slug(text: str) -> str:
    """Returns a name for a file or an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def view_title(kind: str) -> str:
    return TITLES.get(kind, (kind, ""))[0]


def views(study: Study, prefix: str) -> list[PageSection]:
    """Returns all sections of the page on one study; `prefix` keeps the names of several studies apart."""
    sections = {section.kind: _section(section, study, prefix) for section in study.sections}
    shown = _subjects(study)
    made = [_search(study, sections.get("main_results"), prefix), *sections.values()]
    made += [_peaks(study, prefix), _emotions(study, shown, prefix), _calibration(shown, prefix)]
    made.append(_curves(study, shown, prefix))
    full = {label: run for label, (run, in_full) in shown.items() if in_full}
    # The paper draws the representations of these two.
    beside = {label: run for label, run in named_runs(study).items() if run is _found(study, "multidag")}
    made += [_representations(full, beside, prefix), _gates(full, prefix), _stories(full, prefix)]
    return [view for view in made if view]


def _subjects(study: Study) -> dict[str, tuple[Run, bool]]:
    """Returns the runs that are shown in detail, by label, and whether in full, or curves and confusions only."""
    chosen: dict[int, bool] = {}
    if any(section.kind != "runs" for section in study.sections):
        if study.full_model:
            chosen[id(study.full_model)] = True
        if sdt := _found(study, "sdt"):
            chosen.setdefault(id(sdt), False)
    plain = [run for section in study.sections if section.kind == "runs" for run in section.runs.values()]
    chosen |= {id(run): True for run in plain[:MOST_PLAIN_RUNS]}
    return {label: (run, chosen[id(run)]) for label, run in named_runs(study).items() if id(run) in chosen}


def _found(study: Study, model: str) -> Run | None:
    """Returns the run of a model under the settings of the full model."""
    return study.find("main_results", model) or study.find("lengths", model)


def _section(section: SectionResults, study: Study, prefix: str) -> PageSection:
    title, (_, source) = view_title(section.kind), TITLES.get(section.kind, ("", ""))
    if section.kind == "main_results":
        source = MAIN_TABLES.get(study.dataset, "")
    intro = [source]
    if section.repeated:
        intro.append(f"In more than one folder, and shown from the first: {', '.join(section.repeated)}.")
    name = prefix + slug(section.kind)
    if section.kind == "lengths":
        groups = length_groups(section, study)
        drawn = any(group.scores for group in groups)
        bars = (sweep_figures.length_bars(groups, name),) if drawn else ()
        return PageSection(name, title, tuple(filter(None, intro)), lengths=tuple(groups), graphics=bars)
    table = score_table(section, study)
    intro += [*(paper.caveats(study.dataset, section.kind) if table.with_paper else ()), table.left_out]
    return PageSection(
        name=name,
        title=title,
        intro=tuple(filter(None, intro)),
        table=table,
        folded=_folded_title(len(table.rows)),
        with_emotions=section.kind in ("runs", "main_results") and bool(section.runs),
        graphics=tuple(_section_graphics(section, study, table, name)),
    )


def _section_graphics(section: SectionResults, study: Study, table: ScoreTable, name: str) -> Iterator[Graphic]:
    if not section.runs:
        return
    if section.kind == "width":
        widths = {int(point): run for point, run in section.runs.items() if point.isdecimal()}
        if widths:
            best = paper.best_width(study.dataset) if _beside_paper(section.runs, study) else None
            yield sweep_figures.width_curve(widths, best, f"{name}-curve")
    elif section.kind == "gammas":
        points = {pair: run for point, run in section.runs.items() if (pair := _pair(point))}
        if points:
            best_pair = paper.best_gammas(study.dataset) if _beside_paper(section.runs, study) else None
            yield sweep_figures.gamma_map(points, best_pair, f"{name}-map")
    else:
        yield figures.forest(table, name)


def _beside_paper(runs: Mapping[str, Run], study: Study) -> bool:
    """Returns whether results of the paper may stand beside those of all runs."""
    return not any(paper.why_apart(study.dataset, run.circumstances, run.labelled) for run in runs.values())


def _pair(name: str) -> tuple[float, float] | None:
    try:
        gamma1, gamma2 = map(float, name.split(","))
    except ValueError:
        return None
    return gamma1, gamma2


def _folded_title(rows: int) -> str:
    return f"All {rows} rows as a table" if rows > MOST_ROWS else ""


def _search(study: Study, main: PageSection | None, prefix: str) -> PageSection | None:
    """Makes the section of the search, which stands first: what it says is what a reader came for."""
    if not study.search or not study.search.models or not main or not main.table:
        return None
    name = f"{prefix}search"
    tables = search_tables(study.search, study, search_words.verdict(main.table, study.search))
    models = {row.label: row.model for row in tables.rows}
    curves = search_figures.expected_curves(models, f"{name}-expected-best")
    strips = search_figures.trial_strips(models, f"{name}-trials")
    many = len(models) > search_figures.MOST_TOGETHER
    return PageSection(
        name,
        "Search",
        search_words.procedure(study.search),
        graphics=(strips,) if many else (curves, strips),
        wide=curves if many else None,
        wide_title="The best score to expect of so many trials",
        search=tables,
    )


def _peaks(study: Study, prefix: str) -> PageSection | None:
    rows = peaks(study)
    if not rows:
        return None
    gaps = [row.gap.mean for row in rows]
    size = (
        f"{gaps[0]:.2f} points"
        if len(gaps) == 1
        else f"{sum(gaps) / len(gaps):.2f} points on average and up to {max(gaps):.2f}"
    )
    intro = (
        "A diagnostic, not a result. The gap is what a run would have gained by choosing its epoch on the test set, as "
        f"many published numbers in this field are chosen: {size} of weighted F1 here. It comes from looking at the "
        "test set, not from the model, and a difference between two papers that is no larger says little.",
    )
    return PageSection(
        f"{prefix}test-peak",
        "Chosen on validation, or on the test set?",
        intro,
        peaks=tuple(rows),
        folded=_folded_title(len(rows)),
        graphics=(sweep_figures.gap_bars(rows, f"{prefix}test-peak-gap"),) if len(rows) > 1 else (),
    )


def _emotions(study: Study, shown: dict[str, tuple[Run, bool]], prefix: str) -> PageSection | None:
    graphics = [
        figures.confusion(run, label, f"{prefix}confusion-{_file(label, shown)}") for label, (run, _) in shown.items()
    ]
    for label, (run, in_full) in shown.items():
        beside = run is _cmath(study) and _beside_paper({label: run}, study)
        quoted = paper.scores(study.dataset, "main_results").get("cmath", {}) if beside else {}
        if in_full:
            graphics.append(figures.emotions(run, label, quoted, f"{prefix}emotions-{_file(label, shown)}"))
    return PageSection(f"{prefix}emotions", "Emotion by emotion", graphics=tuple(graphics)) if graphics else None


def _cmath(study: Study) -> Run | None:
    """Returns the run that the paper's own row is about."""
    return study.find("main_results", "cmath") or study.find("ablations", "cmath") or study.find("modalities", "tav")


def _calibration(shown: dict[str, tuple[Run, bool]], prefix: str) -> PageSection | None:
    graphics, intro = [], [calibration_figures.MEANING]
    calibrations = {label: run.calibration for label, (run, _) in shown.items() if run.calibration}
    if not calibrations:
        return None
    intro.append(calibration_figures.outcome(list(calibrations.values())))
    for label, calibration in calibrations.items():
        predictions = shown[label][0].predictions
        file = f"{prefix}calibration-{_file(label, shown)}"
        graphics.append(calibration_figures.reliability(predictions, calibration, label, file))
        if apart := calibration_figures.apart(predictions, calibration):
            intro.append(
                f"{label}: the diagram is drawn from the rounded probabilities of predictions.jsonl, with which the "
                f"error comes out up to {apart:.1f} points from that of the table."
            )
    name = f"{prefix}calibration"
    return PageSection(name, "Calibration", tuple(intro), calibrations=calibrations, graphics=tuple(graphics))


def _curves(study: Study, shown: dict[str, tuple[Run, bool]], prefix: str) -> PageSection | None:
    graphics = [
        graphic
        for label, (run, _) in shown.items()
        for graphic in figures.learning_curves(run, label, f"{prefix}curves-{_file(label, shown)}")
    ]
    others = {label: run for label, run in named_runs(study).items() if label not in shown}
    wide = figures.small_multiples(others, f"{prefix}curves-others") if others else None
    if not graphics:
        return None
    return PageSection(
        f"{prefix}curves", "Learning curves", graphics=tuple(graphics), wide=wide, wide_open=len(others) <= MOST_ROWS
    )


def _representations(full: dict[str, Run], beside: dict[str, Run], prefix: str) -> PageSection | None:
    """Makes the section of the representations; `beside` are runs whose features are those of the full ones."""
    graphics, intro, runs = [], ["Figure 3 of the paper."], full | beside
    for label, run in runs.items():
        spaces = [
            space
            for space in representation_figures.SPACES
            if space in run.representations and (label in full or space != "raw_np")
        ]
        shown = [space for space in spaces if representation_figures.can_embed(run, space)]
        for space in shown:
            name = f"{prefix}tsne-{space.partition('_')[0]}-{_file(label, runs)}"
            graphics.append(representation_figures.embedding(run, space, label, name))
        if spaces and not shown:
            intro.append(
                f"{label}: fewer than {representation_figures.FEWEST_UTTERANCES} different utterances make no picture."
            )
        if run.unusable:
            intro.append(
                f"{label}: not drawn, because representations.npz does not have finite numbers for each test "
                f"utterance in {', '.join(run.unusable)}."
            )
    intro.append("The first seed. Near means alike; sizes of groups and distances between them mean little in t-SNE.")
    kept = any(run.representations or run.unusable for run in runs.values())
    return (
        PageSection(f"{prefix}representations", "Representations", tuple(intro), graphics=tuple(graphics))
        if kept
        else None
    )


def _gates(full: dict[str, Run], prefix: str) -> PageSection | None:
    graphics = [
        representation_figures.gate(run, centre, weights, label, f"{prefix}gate-{centre}-{_file(label, full)}")
        for label, run in full.items()
        for centre, weights in representation_figures.gate_weights(run).items()
    ]
    intro = (
        "How much each gate lets through of each modality, for utterances of each true emotion: the mean over "
        "utterances and features, in the first seed.",
    )
    return (
        PageSection(f"{prefix}gates", "Who the model listens to", intro, graphics=tuple(graphics)) if graphics else None
    )


def _stories(full: dict[str, Run], prefix: str) -> PageSection | None:
    stories = {label: found for label, run in full.items() if (found := conversations.worst(run))}
    intro = (
        "The test conversations with the most errors of the first seed. Each line has the true emotion, what it was "
        "taken for if that is wrong, and the three likeliest emotions; the bar is the probability of the first.",
    )
    return PageSection(f"{prefix}conversations", "Where it goes wrong", intro, stories=stories) if stories else None


def _file(label: str, labels: dict[str, Any]) -> str:
    """Returns a part of a file's name: labels that differ only in what a name cannot hold are numbered."""
    same = [other for other in labels if slug(other) == slug(label)]
    number = same.index(label)
    return slug(label) if number == 0 else f"{slug(label)}-{number + 1}"
