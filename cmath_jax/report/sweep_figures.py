"""Draws figures that compare runs: width (Figure 4 of the paper), length (5), gammas (6), and the best test epoch."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from cmath_jax.pages.drawing import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAGE,
    Graphic,
    bare,
    canvas,
    drawn,
    finish,
    heat,
    on_heat,
    seed_dots,
)
from cmath_jax.report.breakdowns import LengthGroup, Peak
from cmath_jax.report.load import Run

MOST_GAPS = 16


@drawn
def width_curve(runs: Mapping[int, Run], best_of_paper: int | None, name: str) -> Graphic:
    """Draws weighted F1 over the width of the model, one standard deviation to both sides."""
    figure, axes = canvas(height=2.9)
    widths = sorted(runs)
    scores = [runs[width].weighted_f1 for width in widths]
    if best_of_paper is not None:
        axes.axvline(best_of_paper, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate(
            "best of the paper",
            (best_of_paper, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=MUTED,
        )
    means, stds = [s.mean for s in scores], [s.std for s in scores]
    axes.errorbar(widths, means, yerr=stds, color=BLUE, marker="o", markersize=5, capsize=3, elinewidth=1.4)
    axes.set_xticks(widths)
    axes.set_xlabel("width d of the model")
    axes.set_ylabel("weighted F1, %")
    data = [[width, s.mean, s.std, *s.values] for width, s in zip(widths, scores, strict=True)]
    most = max(len(s.values) for s in scores)
    return finish(
        figure,
        name,
        "Weighted F1 on the test split over the width of the model: mean over seeds and one standard deviation to both "
        "sides." + (" The paper says only which width was best." if best_of_paper is not None else ""),
        "Weighted F1 by width: " + ", ".join(f"{w}: {s.mean:.2f}" for w, s in zip(widths, scores, strict=True)),
        [["width", "mean", "std", *(f"value {i}" for i in range(most))], *data],
    )


@drawn
def length_bars(groups: Sequence[LengthGroup], name: str) -> Graphic:
    """Draws the weighted F1 of each group of conversations, with bootstrap intervals."""
    figure, axes = canvas(height=2.9)
    filled = [group for group in groups if group.scores]
    models = list(filled[0].scores)
    width = 0.8 / len(models)
    for i, model in enumerate(models):
        colour = (BLUE, ORANGE, GREEN)[i % 3]
        for x, group in enumerate(filled):
            at = x + (i - (len(models) - 1) / 2) * width
            axes.bar(at, group.scores[model].mean, 0.9 * width, color=colour, label=model if x == 0 else None)
            if interval := group.intervals[model]:
                axes.plot([at, at], [interval.low, interval.high], color=INK, linewidth=1.4)
    names = [f"{group.name}\n{lengths_text(group.lengths)}\n{group.conversations} conversations" for group in filled]
    axes.set_xticks(range(len(filled)), names)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.set_ylabel("weighted F1, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=len(models))
    data = [
        [g.name, model, g.conversations, g.utterances, s.mean, s.std, *((i.low, i.high) if i else ("", ""))]
        + ([g.comparisons[model].difference, g.p_values[model]] if model in g.comparisons else [None, None])
        for g in filled
        for (model, s), i in zip(g.scores.items(), g.intervals.values(), strict=True)
    ]
    columns = ("group", "model", "conversations", "utterances", "mean", "std", "low", "high")
    said = "; ".join(
        f"{g.name}: " + ", ".join(f"{model} {s.mean:.1f}" for model, s in g.scores.items()) for g in filled
    )
    return finish(
        figure,
        name,
        "Weighted F1 by the length of the test conversation: mean over seeds, and the 95 % interval of a bootstrap "
        "over conversations.",
        f"Weighted F1 by length of the conversation. {said}",
        [[*columns, f"{models[0]} minus it", "p_holm"], *data],
    )


def lengths_text(lengths: tuple[int, int | None]) -> str:
    shortest, longest = lengths
    return f"{shortest} and more" if longest is None else f"{shortest} to {longest}"


@drawn
def gamma_map(runs: Mapping[tuple[float, float], Run], best_of_paper: tuple[float, float] | None, name: str) -> Graphic:
    """Draws weighted F1 over both gammas as a heat map; points without a result stay empty."""
    first, second = (sorted({point[axis] for point in runs}) for axis in (0, 1))
    means = [run.weighted_f1.mean for run in runs.values()]
    lowest, span = min(means), max(float(np.ptp(means)), 1e-9)
    best = max(runs, key=lambda point: runs[point].weighted_f1.mean)
    figure, axes = canvas(height=0.75 + 0.46 * len(second))
    for (gamma1, gamma2), run in runs.items():
        x, y = first.index(gamma1), second.index(gamma2)
        share = (run.weighted_f1.mean - lowest) / span
        axes.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=heat(share), edgecolor="none"))
        axes.text(x, y + 0.1, f"{run.weighted_f1.mean:.2f}", ha="center", va="center", color=on_heat(share))
        axes.text(
            x, y - 0.27, f"±{run.weighted_f1.std:.2f}", ha="center", va="center", color=on_heat(share), fontsize=6.5
        )
    framed = ""
    if best_of_paper and best_of_paper in runs:
        framed = " The frame is the best point of the paper."
        x, y = first.index(best_of_paper[0]), second.index(best_of_paper[1])
        for colour, linewidth in ((PAGE, 3.5), (INK, 1.5)):
            axes.add_patch(
                Rectangle((x - 0.44, y - 0.44), 0.88, 0.88, fill=False, edgecolor=colour, linewidth=linewidth)
            )
    axes.set_xlim(-0.5, len(first) - 0.5)
    axes.set_ylim(-0.5, len(second) - 0.5)
    axes.set_xticks(range(len(first)), [f"{value:g}" for value in first])
    axes.set_yticks(range(len(second)), [f"{value:g}" for value in second])
    axes.set_xlabel("γ₁ (low level)")
    axes.set_ylabel("γ₂ (high level)")
    bare(axes)
    data = [[*point, run.weighted_f1.mean, run.weighted_f1.std, len(run.seeds)] for point, run in sorted(runs.items())]
    return finish(
        figure,
        name,
        f"Weighted F1 on the test split over the weights of the two distillations, mean over seeds ± standard "
        f"deviation.{framed} The highest of {len(runs)} points, γ₁ {best[0]:g} and γ₂ {best[1]:g}, is the highest on "
        "the test split, and so no choice.",
        f"Weighted F1 by gammas, from {lowest:.2f} to {lowest + span:.2f}; highest at {best[0]:g}, {best[1]:g}",
        [["gamma1", "gamma2", "mean", "std", "seeds"], *data],
    )


@drawn
def gap_bars(rows: Sequence[Peak], name: str) -> Graphic:
    """Draws how much better the best test epoch is than the one that validation chose."""
    shown = rows[:MOST_GAPS]
    figure, axes = canvas(height=0.7 + 0.25 * len(shown))
    for y, row in enumerate(shown):
        axes.barh(y, row.gap.mean, 0.62, color=ORANGE)
        seed_dots(axes, row.gap.values, y)
    axes.set_yticks(range(len(shown)), [row.label for row in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("gap, points of weighted F1")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    first = f" The first {len(shown)} of {len(rows)} runs." if len(shown) < len(rows) else ""
    most = max(len(row.gap.values) for row in rows)
    data = [[row.label, row.selected.mean, row.peak.mean, row.gap.mean, *row.gap.values] for row in rows]
    return finish(
        figure,
        name,
        "How much higher the best test epoch is than the epoch that validation chose: mean over seeds, and a dot for "
        f"each.{first}",
        "Gap to the best test epoch: " + ", ".join(f"{row.label} {row.gap.mean:.2f}" for row in shown),
        [["run", "selected on validation", "best test epoch", "gap", *(f"value {i}" for i in range(most))], *data],
    )
