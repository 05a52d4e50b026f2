"""The best score that a search of some trials would have found, from the scores of the trials that were made."""

from collections.abc import Sequence

import numpy as np


def expected_best(scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Computes mean and standard deviation of the best of 1, 2, ..., N draws from N scores, both float64 [N].

    The draws are with replacement, each score with the same probability. With V one such draw, the best of n draws is
    at most v with probability P(V <= v)^n, so that it is v with

        P(V <= v)^n - P(V < v)^n.

    Raises ValueError where there is no score.

    Source: Dodge, Gururangan, Card, Schwartz and Smith, Show Your Work: Improved Reporting of Experimental Results,
    EMNLP 2019.
    """
    if not len(scores):
        raise ValueError("there is no score")
    values, counts = np.unique(np.asarray(scores, dtype=np.float64), return_counts=True)  # in their order; ties are one
    draws = np.arange(1, len(scores) + 1)
    at_most = (np.cumsum(counts) / len(scores)) ** draws[:, np.newaxis]
    probability = np.diff(at_most, axis=1, prepend=0.0)
    mean = probability @ values
    return mean, np.sqrt((probability * (values - mean[:, np.newaxis]) ** 2).sum(1))
