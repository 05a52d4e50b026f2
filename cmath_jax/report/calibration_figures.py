"""Draws whether a model knows how sure it can be: reliability diagram and errors, before and after calibration.

Shapes: t trials (seeds), n test utterances, c classes, j bins of confidence: the highest probability of a prediction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmath_jax.evaluation.calibration import BINS, Reliability, calibrated
from cmath_jax.pages.drawing import BLUE, MUTED, ORANGE, PAGE, Graphic, canvas, drawn, finish
from cmath_jax.report.load import CalibrationScores, Predictions

MEANING = (
    "Of the predictions that a well calibrated model is 70 % sure of, 70 % are right. Calibration divides the logits "
    "by a temperature, which is fitted on validation and changes no prediction: above 1, the model was too sure of "
    "itself. Probabilities elsewhere on this page are not calibrated."
)
LOOK = {"before": (ORANGE, "s"), "after": (BLUE, "o")}
FEW = 10  # utterances of a bin, whose accuracy says little
TOLERANCE = 0.5  # points between the error of the table and of the rounded probabilities that need no word


def outcome(calibrations: Sequence[CalibrationScores]) -> str:
    """Returns a sentence on what calibration did to the error on the test split."""
    changes = [(each.error["test"]["before"].mean, each.error["test"]["after"].mean) for each in calibrations]
    if len(changes) > 1:
        better = sum(after < before for before, after in changes)
        return f"The error on the test split is smaller after calibration for {better} of {len(changes)} models."
    before, after = changes[0]
    verb = "falls" if after < before else "rises" if after > before else "stays, going"
    return f"The error on the test split {verb} from {before:.2f} to {after:.2f} points."


def table(calibrations: Mapping[str, CalibrationScores]) -> list[list[Any]]:
    """Returns header and rows; errors in percent."""
    columns = ("temperature", *(f"{split} {when}" for split in ("validation", "test") for when in LOOK))
    rows = []
    for label, calibration in calibrations.items():
        scores = (
            calibration.temperature,
            *(calibration.error[split][when] for split in ("validation", "test") for when in LOOK),
        )
        rows.append([label, *(value for score in scores for value in (score.mean, score.std))])
    return [["run", *(f"{column} {part}" for column in columns for part in ("mean", "std"))], *rows]


def apart(predictions: Predictions, calibration: CalibrationScores) -> float:
    """Returns the largest gap, in points, between a test error of a seed and what the probabilities at hand give.

    0 within `TOLERANCE`. A file of rounded probabilities has lost the small ones, which a high temperature would raise.
    """
    given = (calibration.error["test"][when].values for when in LOOK)
    found = (
        [Reliability.of(probability_nc, predictions.label_n).error for probability_nc in probability_tnc]
        for probability_tnc in _probabilities(predictions, calibration).values()
    )
    gap = max(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(given, found, strict=True))
    return gap if gap > TOLERANCE else 0.0


@drawn
def reliability(predictions: Predictions, calibration: CalibrationScores, label: str, name: str) -> Graphic:
    """Draws accuracy over confidence on the labelled test utterances of all seeds together, and how many have which."""
    seeds = len(calibration.temperature.values)
    label_n = np.tile(predictions.label_n, seeds)
    figure, axes = canvas(height=4.4)
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="as sure as right")
    edge_j = 100 * np.arange(BINS) / BINS
    width = 100 / BINS
    data: list[list[Any]] = []
    errors, pale = {}, False
    for i, (when, probability_tnc) in enumerate(_probabilities(predictions, calibration).items()):
        found = Reliability.of(np.concatenate(probability_tnc), label_n)
        errors[when] = found.error
        colour, marker = LOOK[when]
        share_j = 100 * found.count_j / max(found.count_j.sum(), 1)
        left_j = edge_j + (0.1 + 0.4 * i) * width
        axes.bar(left_j, share_j, 0.4 * width, align="edge", color=colour, alpha=0.3, linewidth=0)
        x_j, y_j = 100 * found.confidence_j, 100 * found.accuracy_j
        few_j = (found.count_j > 0) & (found.count_j < FEW)
        pale |= bool(few_j.any())
        filled: dict[str, Any] = {"color": colour, "marker": marker, "clip_on": False, "in_layout": False}
        filled["markerfacecolor"] = PAGE if when == "before" else colour
        axes.plot(x_j[few_j], y_j[few_j], **filled, linestyle="none", markersize=4, alpha=0.5)
        axes.plot(x_j, np.where(found.count_j >= FEW, y_j, np.nan), **filled, markersize=5, label=when)
        for j in range(BINS):
            means = [float(x_j[j]), float(y_j[j])] if found.count_j[j] else [None, None]
            data.append([when, edge_j[j], edge_j[j] + width, int(found.count_j[j]), share_j[j], *means])
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_box_aspect(1)
    axes.set_xlabel("confidence, %")
    axes.set_ylabel("accuracy, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    together = f", {seeds} seeds together" if seeds > 1 else ""
    return finish(
        figure,
        name,
        f"{label}: how often test predictions of a confidence are right, before and after calibration{together}. "
        "Below the dashed line the model is too sure of itself. Light bars: the share of utterances in each of "
        f"{BINS} bins, in percent." + (f" Pale marks, not joined: bins of under {FEW} utterances." if pale else ""),
        f"Reliability diagram of {label}{together}: expected calibration error {errors['before']:.2f} % before and "
        f"{errors['after']:.2f} % after calibration",
        [["calibration", "from", "to", "utterances", "percent of utterances", "confidence", "accuracy"], *data],
    )


def _probabilities(predictions: Predictions, calibration: CalibrationScores) -> dict[str, np.ndarray]:
    """Returns the probabilities, [t, n, c], `before` and `after` each seed is calibrated with its temperature."""
    before_tnc = predictions.probability_tnc
    pairs = zip(before_tnc, calibration.temperature.values, strict=True)
    return {"before": before_tnc, "after": np.stack([calibrated(*pair) for pair in pairs])}
