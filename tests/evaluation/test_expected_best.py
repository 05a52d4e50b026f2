"""The expected best score of a search against the enumeration of every draw, and what it must be at its ends."""

from itertools import product

import numpy as np
import pytest

from cmath_jax.evaluation.expected_best import expected_best

SCORES = {
    "one": [61.5],
    "apart": [60.0, 55.5, 64.25, 58.0],
    "ties": [60.0, 60.0, 55.0, 64.0, 64.0],
    "all equal": [3.0, 3.0, 3.0],
    "failed": [0.0, 62.0, 0.0, 61.0, 63.0],
}


@pytest.mark.parametrize("case", SCORES)
def test_it_is_what_all_draws_give(case: str) -> None:
    scores = SCORES[case]
    mean, std = expected_best(scores)
    assert mean.dtype == std.dtype == np.float64
    for n in range(1, len(scores) + 1):
        best = [max(drawn) for drawn in product(scores, repeat=n)]
        np.testing.assert_allclose([mean[n - 1], std[n - 1]], [np.mean(best), np.std(best)], rtol=1e-12, atol=1e-12)


def test_the_order_of_the_trials_does_not_matter() -> None:
    scores = np.random.default_rng(0).normal(60, 3, 20)
    np.testing.assert_array_equal(expected_best(scores), expected_best(scores[::-1]))


def test_it_begins_at_the_mean_and_rises_to_the_best() -> None:
    scores = np.random.default_rng(1).normal(60, 3, 32)
    mean, std = expected_best(scores)
    np.testing.assert_allclose([mean[0], std[0]], [scores.mean(), scores.std()], rtol=1e-12)
    assert (np.diff(mean) > 0).all() and mean[-1] < scores.max()


def test_without_a_score_there_is_no_best() -> None:
    with pytest.raises(ValueError, match="no score"):
        expected_best([])
