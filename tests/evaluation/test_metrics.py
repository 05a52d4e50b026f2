"""Scores against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from cmath_jax.evaluation.metrics import Scores, over_seeds


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label_n = rng.choice(5, 200, p=[0.5, 0.3, 0.1, 0.1, 0.0])  # the last emotion never occurs
    prediction_n = np.where(rng.random(200) < 0.5, label_n, rng.integers(5, size=200))
    label_n[:20] = -1
    scores = Scores.of(label_n, prediction_n, 5)
    label, prediction = label_n[20:], prediction_n[20:]
    np.testing.assert_array_equal(scores.confusion_cc, confusion_matrix(label, prediction, labels=range(5)))
    np.testing.assert_allclose(scores.accuracy, 100 * accuracy_score(label, prediction))
    kwargs = {"labels": range(5), "zero_division": 0.0}
    np.testing.assert_allclose(scores.weighted_f1, 100 * f1_score(label, prediction, average="weighted", **kwargs))
    np.testing.assert_allclose(scores.f1_c, 100 * f1_score(label, prediction, average=None, **kwargs))
    assert not scores.collapsed


def test_the_constant_predictor_of_meld() -> None:
    """The paper's visual-only row, 48.12 / 31.27, is what saying neutral to everything comes to."""
    counts = [1256, 281, 50, 208, 402, 68, 345]
    scores = Scores.of(np.repeat(np.arange(7), counts), np.zeros(2610, int), 7)
    assert (round(scores.accuracy, 2), round(scores.weighted_f1, 2)) == (48.12, 31.27)
    assert scores.collapsed


def test_over_seeds() -> None:
    assert over_seeds([1.0, 2.0, 3.0]) == {"mean": 2.0, "std": 1.0, "values": [1.0, 2.0, 3.0]}
    assert over_seeds([5.0]) == {"mean": 5.0, "std": 0.0, "values": [5.0]}
