"""Draws a search for hyper-parameters: the best score to expect of some trials, and the scores of all trials."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cmath_jax.evaluation.expected_best import expected_best
from cmath_jax.pages.drawing import BLUE, COLOURS, GREEN, INK, MUTED, ORANGE, Graphic, canvas, drawn, finish
from cmath_jax.report.search import ModelSearch

MOST_TOGETHER = 5  # curves of one picture; more get a panel each
PANELS_IN_A_ROW = 4
GREY, RED, PURPLE = (COLOURS[name][0] for name in ("grey", "red", "purple"))
LINES = ((BLUE, "-"), (ORANGE, (0, (5, 1.5))), (GREEN, (0, (1.2, 1.2))), (PURPLE, (0, (6, 1.5, 1.2, 1.5))), (INK, "-"))
LABEL_GAP = 0.062  # of the height of a picture: how far apart the labels of two curves are at least
Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]
EXPECTED = (
    "The best validation score to expect of so many trials, drawn with replacement from those that were made (Dodge et "
    "al., 2019), and one standard deviation to both sides."
)


@drawn
def expected_curves(models: Mapping[str, ModelSearch], name: str) -> Graphic:
    """Draws the expected best validation score over the number of trials, for each model by its label."""
    curves = {label: expected_best([trial.score() for trial in model.trials]) for label, model in models.items()}
    low, high, cut = _limits(curves)
    if len(curves) > MOST_TOGETHER:
        figure = _panels(curves, (low, high))
        each = " A model in each panel; grey are the others."
    else:
        figure = _together(curves, (low, high))
        each = ""
    said = ", ".join(f"{label} {mean[-1]:.2f} after {len(mean)}" for label, (mean, _) in curves.items())
    data = [
        [label, n, float(mean[n - 1]), float(std[n - 1])]
        for label, (mean, std) in curves.items()
        for n in range(1, len(mean) + 1)
    ]
    return finish(
        figure,
        name,
        f"{EXPECTED}{each}{' Bands are cut where the picture ends.' if cut else ''}",
        f"Expected best weighted F1 on validation by number of trials: {said}",
        [["model", "trials", "expected best", "std"], *data],
    )


def _limits(curves: Curves) -> tuple[float, float, bool]:
    """Returns the lowest and the highest score that is shown, and whether a band is cut: failed trials widen it."""
    lowest = min(float(mean.min()) for mean, _ in curves.values())
    highest = max(float(mean.max()) for mean, _ in curves.values())
    span = max(highest - lowest, 0.5)
    low, high = lowest - 0.25 * span, highest + 0.25 * span
    cut = any((mean - std).min() < low or (mean + std).max() > high for mean, std in curves.values())
    return low, high, cut


def _together(curves: Curves, limits: tuple[float, float]) -> Any:
    figure, axes = canvas(height=3.2)
    for curve, (colour, line) in zip(curves.values(), LINES, strict=False):
        _curve(axes, curve, colour, line)
    axes.set_ylim(*limits)
    axes.set_xlim(left=1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("trials")
    axes.set_ylabel("weighted F1 on validation, %")
    ends = {label: (float(mean[-1]) - limits[0]) / (limits[1] - limits[0]) for label, (mean, _) in curves.items()}
    for (label, y), (colour, _) in zip(_apart(ends).items(), LINES, strict=False):
        axes.text(1.02, y, label, color=colour, va="center", transform=axes.transAxes)
    return figure


def _apart(ends: Mapping[str, float]) -> dict[str, float]:
    """Returns heights at which labels stand apart, in their order and as near to where their curves end as they can."""
    places: dict[str, float] = {}
    above = np.inf
    for label in sorted(ends, key=lambda label: -ends[label]):
        places[label] = above = min(ends[label], above - LABEL_GAP)
    below = -np.inf
    for label in sorted(ends, key=lambda label: places[label]):
        places[label] = below = max(places[label], below + LABEL_GAP, 0.0)
    return {label: places[label] for label in ends}


def _panels(curves: Curves, limits: tuple[float, float]) -> Any:
    columns = min(PANELS_IN_A_ROW, len(curves))
    lines = -(-len(curves) // columns)
    figure, grid = canvas(
        2.3 * columns, 0.4 + 1.5 * lines, nrows=lines, ncols=columns, sharex=True, sharey=True, squeeze=False
    )
    for axes, (label, curve) in zip(grid.flat, curves.items(), strict=False):
        for mean, _ in curves.values():
            axes.plot(range(1, len(mean) + 1), mean, color=GREY, linewidth=0.8, alpha=0.7)
        _curve(axes, curve, BLUE, "-")
        axes.set_ylim(*limits)
        axes.set_xlim(left=1)
        axes.set_title(label, fontsize=8.5, pad=3)
        axes.tick_params(labelsize=7.5)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(len(curves) - columns, 0) : len(curves)]:  # the lowest of their columns
        axes.tick_params(labelbottom=True)
    figure.supxlabel("trials", fontsize=9)
    figure.supylabel("weighted F1 on validation, %", fontsize=9)
    return figure


def _curve(axes: Axes, curve: tuple[np.ndarray, np.ndarray], colour: str, line: Any) -> None:
    mean, std = curve
    trials = range(1, len(mean) + 1)
    axes.fill_between(trials, mean - std, mean + std, color=colour, alpha=0.14, linewidth=0)
    axes.plot(trials, mean, color=colour, linestyle=line, marker="o" if len(mean) == 1 else "")


@drawn
def trial_strips(models: Mapping[str, ModelSearch], name: str) -> Graphic:
    """Draws the best validation score of each trial, in a line for each model by its label."""
    figure, axes = canvas(height=1.0 + 0.36 * len(models))
    scores = [trial.score() for model in models.values() for trial in model.trials if trial.state != "failed"]
    looks: dict[str, dict[str, Any]] = {
        "complete": {"color": BLUE, "marker": "o", "markersize": 4.5, "alpha": 0.8},
        "stopped": {"color": MUTED, "marker": "o", "markersize": 4, "markerfacecolor": "none"},
    }
    shown = {
        state: [(y, trial) for y, model in enumerate(models.values()) for trial in model.trials if trial.state == state]
        for state in looks
    }
    for state, look in looks.items():
        places = [(trial.score(), y + _jitter(trial.number)) for y, trial in shown[state]]
        axes.plot(*zip(*places, strict=True) if places else ([], []), linestyle="none", label=state, **look)
    chosen = [(y, model.chosen) for y, model in enumerate(models.values()) if model.chosen]
    ring: dict[str, Any] = {"color": INK, "marker": "D", "markersize": 8, "markerfacecolor": "none", "mew": 1.4}
    places = [(trial.score(), y + _jitter(trial.number)) for y, trial in chosen]
    axes.plot(*zip(*places, strict=True) if places else ([], []), linestyle="none", label="chosen", **ring)
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    margin = 0.06 * max(high - low, 0.5)
    failed = {y: count for y, model in enumerate(models.values()) if (count := model.count("failed"))}
    edge = low - 3 * margin if failed else low - margin
    for y, count in failed.items():
        axes.text(edge + 0.4 * margin, y, f"{count} ×", color=RED, va="center", fontsize=8.5)
    if failed:
        axes.axvline(low - margin, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_xlim(edge, high + margin)
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.set_yticks(range(len(models)), list(models))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel("best weighted F1 on validation, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3, handletextpad=0.2)
    numbers = " Left of the dashed line: how many failed." if failed else ""
    data = [
        [label, trial.number, trial.state, trial.score(), len(trial.validation), trial is model.chosen]
        for label, model in models.items()
        for trial in model.trials
    ]
    said = ", ".join(f"{label} {model.chosen.score():.2f}" for label, model in models.items() if model.chosen)
    return finish(
        figure,
        name,
        "The trials of each model: the best validation score of each. Stopped trials were trained for fewer epochs; a "
        f"diamond is around the chosen one.{numbers}",
        f"Best weighted F1 on validation of each trial; of the chosen ones: {said or 'none'}",
        [["model", "trial", "state", "best validation", "epochs", "chosen"], *data],
    )


def _jitter(number: int) -> float:
    """Returns how far from the middle of its line the dot of a trial is, so that dots of equal scores are seen."""
    return 0.5 * (number * 0.618034 % 1 - 0.5)
