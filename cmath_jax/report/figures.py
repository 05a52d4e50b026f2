"""Draws figures of runs: where each score lies, confusion matrix, F1 by emotion, learning curves.

Shapes: c emotions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from cmath_jax.pages.drawing import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    PAGE,
    Graphic,
    bare,
    canvas,
    drawn,
    emotion_colours,
    finish,
    heat,
    on_heat,
    seed_dots,
    short,
)
from cmath_jax.report.load import Run
from cmath_jax.report.tables import Row, ScoreTable

PANELS_IN_A_ROW = 4
SPLIT_COLOURS = {"validation": BLUE, "test": ORANGE}
Curve = tuple[list[int], list[float], list[float], list[float]]


@drawn
def forest(table: ScoreTable, name: str) -> Graphic:
    """Draws the weighted F1 of each row with its interval, beside the paper's and what it has to beat."""
    rows = [row for row in table.rows if row.kind not in ("reference", "absent")]
    references = [row for row in table.rows if row.kind == "reference"]
    figure, axes = canvas(height=0.75 + 0.27 * len(rows))
    for y, row in enumerate(rows):
        _mark(axes, y, row)
    places = [_ours(row) for row in references]
    for place in places:
        axes.axvline(place, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
    low, high = axes.get_xlim()
    low, high = max(low, 0), min(high, 100)
    axes.set_xlim(low, high)
    for i, (row, place) in enumerate(zip(references, places, strict=True)):
        # Labels of lines that lie close together stand one above the other.
        below = sum(abs(place - other) < 0.25 * (high - low) for other in places[:i])
        axes.annotate(
            short(row.label.partition(",")[0]),
            (place, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3 + 10 * below),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=MUTED,
        )
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("weighted F1, %")
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    notes = [
        "A hollow diamond is the paper's number." if table.with_paper else "",
        "Orange: collapsed." if any(row.collapsed_seeds for row in rows) else "",
    ]
    return finish(
        figure,
        name,
        "Weighted F1 on the test split. A dot is the mean over seeds, its line the 95 % interval. "
        + " ".join(filter(None, [*notes, "Dashed: what any model has to beat."])),
        "Weighted F1: " + "; ".join(f"{row.label} {_ours(row):.2f}" for row in rows if row.seeds),
        table.csv(),
    )


def _mark(axes: Axes, y: int, row: Row) -> None:
    measure = row.measures["weighted_f1"]
    if measure.paper is not None:
        axes.plot(measure.paper, y, marker="D", markersize=5, markerfacecolor="none", markeredgecolor=MUTED, zorder=2)
    if measure.score is not None and measure.interval is not None:
        colour = ORANGE if row.collapsed_seeds else BLUE
        axes.plot([measure.interval.low, measure.interval.high], [y, y], color=colour, linewidth=2.2, zorder=3)
        axes.plot(
            measure.score.mean, y, marker="o", markersize=6.5 if row.kind == "full" else 5, color=colour, zorder=4
        )


def _ours(row: Row) -> float:
    score = row.measures["weighted_f1"].score
    return score.mean if score else float("nan")


@drawn
def confusion(run: Run, label: str, name: str) -> Graphic:
    """Draws the confusion matrix, summed over seeds, each row in percent of its emotion."""
    confusion_cc, classes = run.confusion_cc, run.classes
    share_cc = confusion_cc / np.maximum(confusion_cc.sum(1, keepdims=True), 1)
    size = len(classes)
    figure, axes = canvas(height=1.0 + 0.46 * size)
    for true in range(size):
        for predicted in range(size):
            share = float(share_cc[true, predicted])
            _cell(axes, predicted, true, share, f"{100 * share:.0f}", f"{confusion_cc[true, predicted]}")
    _cells_end(axes, size, size)
    axes.set_xticks(range(size), [short(c) for c in classes], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), [short(c) for c in classes])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    diagonal = ", ".join(f"{c} {100 * share_cc[i, i]:.0f} %" for i, c in enumerate(classes))
    cells = [
        [classes[i], classes[j], int(confusion_cc[i, j]), 100 * share_cc[i, j]]
        for i in range(size)
        for j in range(size)
    ]
    return finish(
        figure,
        name,
        f"{label}: how often each emotion (row) was taken for another (column), in percent of the row. "
        f"Small: utterances, summed over {_seeds(run)}.",
        f"Confusion matrix of {label}; recognized: {diagonal}",
        [["true", "predicted", "utterances", "percent of true"], *cells],
    )


def _cell(axes: Axes, x: int, y: int, share: float, text: str, small: str) -> None:
    axes.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=heat(share), edgecolor="none"))
    axes.text(x, y - 0.10, text, ha="center", va="center", color=on_heat(share), fontsize=9)
    axes.text(x, y + 0.28, small, ha="center", va="center", color=on_heat(share), fontsize=6.5)


def _cells_end(axes: Axes, columns: int, rows: int) -> None:
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    bare(axes)


@drawn
def emotions(run: Run, label: str, quoted: Mapping[str, float | None], name: str) -> Graphic:
    """Draws the F1 of each emotion: a bar for the mean, a line for the standard deviation, a dot for each seed."""
    classes = run.classes
    colour = emotion_colours(classes)
    figure, axes = canvas(height=0.7 + 0.36 * len(classes))
    for y, (emotion, score) in enumerate(zip(classes, run.f1, strict=True)):
        axes.barh(y, score.mean, height=0.62, color=colour[emotion])
        if len(score.values) > 1:
            axes.plot([score.mean - score.std, score.mean + score.std], [y, y], color=INK, linewidth=1.4)
        seed_dots(axes, score.values, y)
        paper = quoted.get(emotion)
        if paper is not None:
            axes.plot(paper, y, "D", markersize=6, markerfacecolor=PAGE, markeredgecolor=INK, zorder=4)
    axes.set_yticks(range(len(classes)), [short(c) for c in classes])
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("F1, %")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    dots_note = " The line is one standard deviation to both sides, a dot is a seed." if len(run.seeds) > 1 else ""
    quotes = any(quoted.get(emotion) is not None for emotion in classes)
    data = [[c, s.mean, s.std, quoted.get(c), *s.values] for c, s in zip(classes, run.f1, strict=True)]
    return finish(
        figure,
        name,
        f"{label}: F1 of each emotion.{dots_note}{' Diamond: the paper.' if quotes else ''}",
        f"F1 of {label}: " + ", ".join(f"{c} {s.mean:.1f}" for c, s in zip(classes, run.f1, strict=True)),
        [["emotion", "mean", "std", "paper", *(f"seed {seed}" for seed in run.seeds)], *data],
    )


@drawn
def learning_curves(run: Run, label: str, name: str) -> list[Graphic]:
    """Draws the training loss, and validation and test weighted F1, over epochs."""
    return [_loss(run, label, f"{name}-loss"), _scores(run, label, f"{name}-scores")]


def _loss(run: Run, label: str, name: str) -> Graphic:
    figure, axes = canvas(height=2.7)
    _band(axes, _curve(run, "loss"), MUTED, "")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    caption = f"{label}: training loss, {_over_seeds(run)}."
    return finish(figure, name, caption, caption, _curve_data(run, ["loss"]))


def _scores(run: Run, label: str, name: str) -> Graphic:
    figure, axes = canvas(height=2.7)
    for split, colour in SPLIT_COLOURS.items():
        _band(axes, _curve(run, split), colour, split)
    for seed, best in zip(run.seeds, run.best_epochs, strict=True):
        chosen = [epoch.test for epoch in run.curves[seed] if epoch.number == best]
        axes.plot([best] * len(chosen), chosen, "o", color=PAGE, markeredgecolor=INK, markersize=5, zorder=5)
    axes.set_xlabel("epoch")
    axes.set_ylabel("weighted F1, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    epochs = ", ".join(map(str, run.best_epochs))
    caption = (
        f"{label}: weighted F1, {_over_seeds(run)}. A circle is the epoch that validation chose, by seed: {epochs}. "
        "The test curve is drawn, never used."
    )
    return finish(figure, name, caption, caption, _curve_data(run, list(SPLIT_COLOURS)))


@drawn
def small_multiples(runs: Mapping[str, Run], name: str) -> Graphic:
    """Draws validation and test weighted F1 of many runs, each in its own panel."""
    count = len(runs)
    columns = min(PANELS_IN_A_ROW, count)
    lines = -(-count // columns)
    figure, grid = canvas(
        2.2 * columns, 0.55 + 1.25 * lines, nrows=lines, ncols=columns, sharex=True, sharey=True, squeeze=False
    )
    for axes, (label, run) in zip(grid.flat, runs.items(), strict=False):
        for split, colour in SPLIT_COLOURS.items():
            epochs, means, _, _ = _curve(run, split)
            axes.plot(epochs, means, color=colour, linewidth=1.4, label=split)
        axes.set_title(label if len(label) <= 30 else label[:29] + "…", fontsize=8.5, pad=3)
        axes.tick_params(labelsize=7.5)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    data = [
        [label, split, *point]
        for label, run in runs.items()
        for split in SPLIT_COLOURS
        for point in zip(*_curve(run, split), strict=True)
    ]
    caption = "Weighted F1 over epochs of the other runs, mean over seeds."
    alt = f"{caption} {', '.join(runs)}."
    return finish(figure, name, caption, alt, [["run", "split", "epoch", "mean", "lowest", "highest"], *data])


def _curve(run: Run, what: str) -> Curve:
    """Returns epochs, and mean, least and greatest value of `loss`, `validation` or `test` over seeds.

    An epoch counts the seeds that came so far.
    """
    values: dict[int, list[float]] = {}
    for epochs in run.curves.values():
        for epoch in epochs:
            values.setdefault(epoch.number, []).append(getattr(epoch, what))
    numbers = sorted(values)
    ordered = [values[number] for number in numbers]
    return numbers, [float(np.mean(v)) for v in ordered], [min(v) for v in ordered], [max(v) for v in ordered]


def _band(axes: Axes, curve: Curve, colour: str, label: str) -> None:
    epochs, means, lows, highs = curve
    axes.fill_between(epochs, lows, highs, color=colour, alpha=0.18, linewidth=0)
    axes.plot(epochs, means, color=colour, label=label, marker="o" if len(epochs) == 1 else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _curve_data(run: Run, columns: list[str]) -> list[list[Any]]:
    rows = [
        [seed, epoch.number, *(getattr(epoch, column) for column in columns)]
        for seed in run.seeds
        for epoch in run.curves[seed]
    ]
    return [["seed", "epoch", *columns], *rows]


def _seeds(run: Run) -> str:
    return "one seed" if len(run.seeds) == 1 else f"{len(run.seeds)} seeds"


def _over_seeds(run: Run) -> str:
    if len(run.seeds) == 1:
        return "one seed"
    lengths = {len(rows) for rows in run.curves.values()}
    ends = "; seeds stop at different epochs, and count as far as they come" if len(lengths) > 1 else ""
    return f"mean over {len(run.seeds)} seeds, the band from the lowest to the highest{ends}"
