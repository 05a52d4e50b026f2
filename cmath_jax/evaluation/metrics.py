"""Scores over labelled utterances, in percent, and their mean and deviation over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmath_jax.data.corpus import UNLABELLED
from cmath_jax.errors import TrainingDivergedError


@dataclass(frozen=True)
class Scores:
    """How predictions agree with labels.

    Attributes:
      confusion_cc: int64, true classes as rows, predictions as columns.
    """

    confusion_cc: np.ndarray

    @classmethod
    def of(cls, label_n: np.ndarray, prediction_n: np.ndarray, classes: int) -> "Scores":
        labelled_n = label_n != UNLABELLED
        cells = label_n[labelled_n].astype(np.int64) * classes + prediction_n[labelled_n]
        return cls(np.bincount(cells, minlength=classes * classes).reshape(classes, classes))

    @property
    def accuracy(self) -> float:
        return float(100 * np.trace(self.confusion_cc) / max(self.confusion_cc.sum(), 1))

    @property
    def f1_c(self) -> np.ndarray:
        """F1 of each class; 0 for one that neither occurs nor is predicted."""
        both_c = self.confusion_cc.sum(0) + self.confusion_cc.sum(1)
        return 100 * 2 * np.diag(self.confusion_cc) / np.maximum(both_c, 1)

    @property
    def weighted_f1(self) -> float:
        """The mean of the F1 of the classes, weighted by how often each is the label."""
        true_c = self.confusion_cc.sum(1)
        return float((self.f1_c * true_c).sum() / max(true_c.sum(), 1))

    @property
    def collapsed(self) -> bool:
        """Whether every prediction is one and the same class."""
        return bool((self.confusion_cc.sum(0) > 0).sum() <= 1)


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Returns mean, standard deviation (of a sample: n - 1; 0 for a single run) and the values themselves."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "values": [float(value) for value in values]}


def scored(split: str, label_n: np.ndarray, probability_nc: np.ndarray) -> tuple[Scores, dict[str, float]]:
    """Returns the scores of a split, whole and as a row of `metrics.jsonl` has them.

    Raises:
      TrainingDivergedError: if they are anything but probabilities.
    """
    lost_n = ~np.isfinite(probability_nc).all(-1)
    if lost_n.any():
        raise TrainingDivergedError(
            f"the parameters give no probabilities for {lost_n.sum()} of {len(lost_n)} utterances of the {split} "
            "split: they are no longer finite. What is saved is kept; try a lower optim.learning_rate, or "
            "optim.clip_norm"
        )
    scores = Scores.of(label_n, probability_nc.argmax(-1), probability_nc.shape[-1])
    labelled_n = np.flatnonzero(label_n != UNLABELLED)
    surprise_n = -np.log(np.maximum(probability_nc[labelled_n, label_n[labelled_n]], 1e-12))
    row = {"loss": float(surprise_n.mean()), "accuracy": scores.accuracy, "weighted_f1": scores.weighted_f1}
    return scores, row
