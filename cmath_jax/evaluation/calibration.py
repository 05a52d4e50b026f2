"""Calibration: one temperature, fitted on validation, so that a probability of 70 % is right in 70 of 100 cases.

Guo et al., On Calibration of Modern Neural Networks, 2017. The order of the classes does not change.

Shapes: n utterances, c classes, j bins.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from cmath_jax.data.corpus import UNLABELLED

BINS = 15
BOUNDS = (0.05, 20.0)  # of the temperature
SMALLEST = 1e-30  # a probability that float32 rounds to 0 still has a logarithm


def calibrated(probability_nc: np.ndarray, temperature: float) -> np.ndarray:
    """Returns softmax(logits / temperature), float64 [n, c], from the softmax of the logits."""
    log_nc = np.log(np.maximum(probability_nc.astype(np.float64), SMALLEST)) / temperature
    return np.exp(log_nc - logsumexp(log_nc, axis=-1, keepdims=True))


def fit_temperature(probability_nc: np.ndarray, label_n: np.ndarray) -> float:
    """Fits the temperature with the lowest cross-entropy on labelled utterances."""
    known_n = label_n != UNLABELLED
    log_nc = np.log(np.maximum(probability_nc[known_n].astype(np.float64), SMALLEST))
    of_label_n = log_nc[np.arange(len(log_nc)), label_n[known_n]]

    def surprise(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float((logsumexp(inverse * log_nc, axis=-1) - inverse * of_label_n).mean())

    found = minimize_scalar(surprise, bounds=tuple(np.log(BOUNDS)), method="bounded")
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Reliability:
    """How often predictions of a confidence are right. Bins are of equal width.

    Attributes:
      count_j: int64, predictions whose highest probability falls into the bin.
      confidence_j, accuracy_j: their mean highest probability, and the share that is right; 0 where there are none.
    """

    count_j: np.ndarray
    confidence_j: np.ndarray
    accuracy_j: np.ndarray

    @classmethod
    def of(cls, probability_nc: np.ndarray, label_n: np.ndarray, bins: int = BINS) -> "Reliability":
        known_n = label_n != UNLABELLED
        confidence_n = probability_nc[known_n].max(-1).astype(np.float64)
        right_n = probability_nc[known_n].argmax(-1) == label_n[known_n]
        bin_n = np.minimum((confidence_n * bins).astype(np.int64), bins - 1)
        count_j = np.bincount(bin_n, minlength=bins)
        sums = (np.bincount(bin_n, weights=x_n, minlength=bins) for x_n in (confidence_n, right_n))
        confidence_j, accuracy_j = (sum_j / np.maximum(count_j, 1) for sum_j in sums)
        return cls(count_j, confidence_j, accuracy_j)

    @property
    def error(self) -> float:
        """The expected calibration error in percent: the mean gap between confidence and accuracy."""
        gap_j = np.abs(self.confidence_j - self.accuracy_j)
        return float(100 * (self.count_j * gap_j).sum() / max(self.count_j.sum(), 1))


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it is worth.

    Attributes:
      temperature: fitted on validation.
      error: split -> `before` and `after`, the expected calibration error in percent.
    """

    temperature: float
    error: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, probability: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> "Calibration":
        """Fits the temperature on `validation` and measures all splits: split -> float32 [n, c] and int32 [n]."""
        temperature = fit_temperature(probability["validation"], labels["validation"])
        error = {
            split: {
                "before": Reliability.of(probability_nc, labels[split]).error,
                "after": Reliability.of(calibrated(probability_nc, temperature), labels[split]).error,
            }
            for split, probability_nc in probability.items()
        }
        return cls(temperature, error)
