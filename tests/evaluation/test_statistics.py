"""Intervals and tests against SciPy, plain loops with scikit-learn, and what is known of simulated models."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from cmath_jax.errors import InputError
from cmath_jax.evaluation import statistics
from cmath_jax.evaluation.metrics import Scores
from cmath_jax.evaluation.statistics import (
    Comparison,
    Interval,
    Utterances,
    bootstrap_interval,
    compare_seeds,
    compare_utterances,
    holm,
    t_interval,
)

CLASSES = 4


def corpus(conversations: int, length: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, one in ten unlabelled, and ids of conversations that are neither sorted nor without gaps."""
    rng = np.random.default_rng(seed)
    label_n = rng.choice(CLASSES, conversations * length, p=[0.5, 0.3, 0.15, 0.05])
    label_n[rng.random(len(label_n)) < 0.1] = -1
    return label_n, np.repeat(rng.permutation(conversations) * 3 + 7, length)


def model(label_n: np.ndarray, right: float, seeds: int, seed: int) -> np.ndarray:
    """int [S, N]: the label with probability `right`, and any class otherwise."""
    rng = np.random.default_rng(seed)
    shape = (seeds, len(label_n))
    return np.where(rng.random(shape) < right, np.maximum(label_n, 0), rng.integers(CLASSES, size=shape))


def plain_score(score: str, label_n: np.ndarray, prediction_n: np.ndarray) -> float:
    label, prediction = label_n[label_n >= 0], prediction_n[label_n >= 0]
    if score == "accuracy":
        return 100 * accuracy_score(label, prediction)
    return 100 * f1_score(label, prediction, labels=range(CLASSES), average="weighted", zero_division=0.0)


def resamples(conversation_n: np.ndarray, draws: int, seed: int) -> list[np.ndarray]:
    """The utterances of each resample, one conversation after the other."""
    members = [np.flatnonzero(conversation_n == k) for k in np.unique(conversation_n)]
    rng = np.random.default_rng(seed)
    times_dk = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
    return [
        np.concatenate([m for m, times in zip(members, times_k, strict=True) for _ in range(times)])
        for times_k in times_dk
    ]


def percentiles(values: list[float], level: float) -> list[float]:
    return [float(np.quantile(values, (1 - level) / 2)), float(np.quantile(values, (1 + level) / 2))]


def ends(interval: Interval | None) -> list[float]:
    assert interval is not None
    return [interval.low, interval.high]


@pytest.mark.parametrize("score", statistics.SCORES)
def test_scores_of_many_confusions_are_those_of_one(score: str) -> None:
    confusion_dscc = np.random.default_rng(0).integers(0, 9, size=(5, 3, CLASSES, CLASSES))
    confusion_dscc[0, :, 1], confusion_dscc[0, :, :, 1] = 0, 0  # a class that neither occurs nor is predicted
    confusion_dscc[1, :, 2], confusion_dscc[2, :, :, 2] = 0, 0
    one_by_one_ds = [[getattr(Scores(c), score) for c in confusion_scc] for confusion_scc in confusion_dscc]
    np.testing.assert_allclose(statistics.SCORES[score](confusion_dscc), one_by_one_ds)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_t_interval_is_that_of_scipy(level: float) -> None:
    values = [66.2, 65.9, 66.8, 66.1, 65.2]
    expected = stats.t.interval(level, 4, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose(ends(t_interval(values, level)), expected)
    assert t_interval([66.2]) is None
    assert t_interval([]) is None
    np.testing.assert_allclose(ends(t_interval([66.1, 66.1, 66.1])), [66.1, 66.1])


def test_t_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = [ends(t_interval(rng.normal(60, 2, size=3).tolist(), 0.9)) for _ in range(2000)]
    covered = np.mean([low <= 60 <= high for low, high in intervals])
    assert abs(covered - 0.9) < 4 * math.sqrt(0.9 * 0.1 / 2000)


def test_compare_seeds_is_the_paired_t_test_of_scipy() -> None:
    a, b = [66.2, 65.9, 66.8, 66.1, 65.2], [65.8, 65.9, 66.1, 65.2, 65.4]
    result = compare_seeds(a, b, 0.9)
    expected = stats.ttest_rel(a, b)
    assert result.difference == pytest.approx(np.mean(a) - np.mean(b))
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    low, high = expected.confidence_interval(0.9)
    np.testing.assert_allclose(ends(result.interval), [low, high], rtol=1e-6)
    other_way = compare_seeds(b, a, 0.9)
    assert (other_way.difference, other_way.p_value) == (-result.difference, result.p_value)


def test_compare_seeds_whose_differences_are_equal() -> None:
    assert compare_seeds([60.0, 61.0], [60.0, 61.0]) == Comparison(0.0, Interval(0.0, 0.0), 1.0)
    assert compare_seeds([60.1 + 0.2, 61.0], [60.3, 61.0]) == Comparison(0.0, Interval(0.0, 0.0), 1.0)
    result = compare_seeds([70.1, 60.3, 50.7], [69.1, 59.3, 49.7])  # equal but for rounding
    assert (result.difference, result.p_value) == (1.0, 0.0)
    np.testing.assert_allclose(ends(result.interval), [1.0, 1.0])
    assert compare_seeds([60.0], [58.5]) == Comparison(1.5, None, None)


def test_compare_seeds_needs_pairs() -> None:
    with pytest.raises(InputError, match="same seeds, not of 3 and 2"):
        compare_seeds([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(InputError, match="same seeds"):
        compare_seeds([], [])


@pytest.mark.parametrize("score", statistics.SCORES)
def test_the_bootstrap_is_a_plain_loop_over_resampled_conversations(score: str) -> None:
    label_n, conversation_n = corpus(12)
    prediction_n = model(label_n, 0.5, 1, 1)[0]
    plain = [plain_score(score, label_n[n], prediction_n[n]) for n in resamples(conversation_n, 300, 5)]
    interval = bootstrap_interval(Utterances(label_n, conversation_n, CLASSES), prediction_n, score, 0.8, 300, 5)
    np.testing.assert_allclose(ends(interval), percentiles(plain, 0.8))


def test_the_bootstrap_covers_the_score_of_all_conversations() -> None:
    """Errors are clustered: in a conversation a model is right nine times in ten or four times in ten."""
    rng = np.random.default_rng(0)
    k_n = np.repeat(np.arange(60), 8)
    label_n = np.zeros(480, int)
    by_conversation, by_utterance, widths = 0, 0, []
    for trial in range(150):
        right_n = rng.random(480) < rng.choice([0.9, 0.4], size=60)[k_n]
        prediction_n = np.where(right_n, 0, 1)
        clustered = ends(bootstrap_interval(Utterances(label_n, k_n, 2), prediction_n, "accuracy", 0.9, 300, trial))
        naive = ends(
            bootstrap_interval(Utterances(label_n, np.arange(480), 2), prediction_n, "accuracy", 0.9, 100, trial)
        )
        by_conversation += clustered[0] <= 65 <= clustered[1]
        by_utterance += naive[0] <= 65 <= naive[1]
        widths.append((clustered[1] - clustered[0]) / (naive[1] - naive[0]))
    assert abs(by_conversation / 150 - 0.9) < 4 * math.sqrt(0.9 * 0.1 / 150)
    assert by_utterance / 150 < 0.8
    # The variance of a mean of 8 that share a rate: 1 + 7 * var(rate) / (0.65 * 0.35) times as large.
    assert np.mean(widths) == pytest.approx(math.sqrt(1 + 7 * 0.25**2 / (0.65 * 0.35)), rel=0.1)


@pytest.mark.parametrize("seeds", [(2, 2), (3, 1)])
@pytest.mark.parametrize("score", statistics.SCORES)
def test_the_interval_of_a_difference_is_a_plain_loop(score: str, seeds: tuple[int, int]) -> None:
    label_n, conversation_n = corpus(12)
    a_sn, b_sn = model(label_n, 0.6, seeds[0], 1), model(label_n, 0.5, seeds[1], 2)

    def difference(n: np.ndarray) -> float:
        return float(
            np.mean([plain_score(score, label_n[n], a_n[n]) for a_n in a_sn])
            - np.mean([plain_score(score, label_n[n], b_n[n]) for b_n in b_sn])
        )

    result = compare_utterances(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn, score, 150, 5, 0.8)
    assert result.difference == pytest.approx(difference(np.arange(len(label_n))))
    plain = [difference(n) for n in resamples(conversation_n, 150, 5)]
    np.testing.assert_allclose(ends(result.interval), percentiles(plain, 0.8))


@pytest.mark.slow
@pytest.mark.parametrize("score", statistics.SCORES)
@pytest.mark.parametrize("seeds", [(2, 2), (2, 4)])
def test_the_p_value_is_that_of_all_swaps(score: str, seeds: tuple[int, int]) -> None:
    """Six conversations can be swapped in 64 ways: the share of those as far from zero, up to the luck of the draws."""
    label_n, conversation_n = corpus(6)
    a_sn, b_sn = model(label_n, 0.6, seeds[0], 1), model(label_n, 0.45, seeds[1], 4)
    pairs = list(zip(a_sn, b_sn, strict=True)) if seeds == (2, 2) else list(itertools.product(a_sn, b_sn))

    def difference(swapped: tuple[int, ...]) -> float:
        swapped_n = np.isin(conversation_n, swapped)
        differences = [
            plain_score(score, label_n, np.where(swapped_n, b_n, a_n))
            - plain_score(score, label_n, np.where(swapped_n, a_n, b_n))
            for a_n, b_n in pairs
        ]
        return abs(float(np.mean(differences)))

    ids = np.unique(conversation_n).tolist()
    subsets = [c for size in range(len(ids) + 1) for c in itertools.combinations(ids, size)]
    share = np.mean([difference(swapped) >= difference(()) - 1e-9 for swapped in subsets])
    assert 0.05 < share < 0.95  # a p-value that could be anything
    draws = 20_000
    result = compare_utterances(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn, score, draws)
    assert result.p_value == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / draws) + 1 / draws)


@pytest.mark.parametrize("seeds", [(2, 2), (3, 1)])
def test_the_p_value_of_like_models_is_uniform(seeds: tuple[int, int]) -> None:
    """Both models fail on the same conversations, so that their errors are neither independent nor equal."""
    rng = np.random.default_rng(0)
    p_values = []
    for trial in range(300):
        label_n, conversation_n = corpus(30, seed=trial)
        right_n = rng.choice([0.3, 0.8], size=30)[np.unique(conversation_n, return_inverse=True)[1]]
        a_sn, b_sn = (
            np.where(rng.random((s, 180)) < right_n, label_n, rng.integers(CLASSES, size=(s, 180))) for s in seeds
        )
        p_values.append(compare_utterances(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn, draws=99).p_value)
    assert stats.kstest(np.array(p_values, float), "uniform").pvalue > 0.01
    rejected = np.mean(np.array(p_values) <= 0.05)
    assert rejected < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_a_clear_difference_is_found() -> None:
    label_n, conversation_n = corpus(60)
    a_sn, b_sn = model(label_n, 0.8, 3, 1), model(label_n, 0.5, 3, 2)
    result = compare_utterances(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn)
    assert result.p_value == 1 / 2001  # none of 2000 swaps comes near: the smallest that there can be
    low, high = ends(result.interval)
    assert 0 < low < result.difference < high
    other_way = compare_utterances(Utterances(label_n, conversation_n, CLASSES), b_sn, a_sn)
    assert (other_way.difference, other_way.p_value) == (-result.difference, result.p_value)
    np.testing.assert_allclose(ends(other_way.interval), [-high, -low])


def test_identical_predictions_do_not_differ() -> None:
    label_n, conversation_n = corpus(20)
    a_sn = model(label_n, 0.6, 3, 1)
    result = compare_utterances(Utterances(label_n, conversation_n, CLASSES), a_sn, a_sn.copy())
    assert result == Comparison(0.0, Interval(0.0, 0.0), 1.0)
    one = compare_utterances(Utterances(label_n, conversation_n, CLASSES), a_sn[:1].repeat(3, axis=0), a_sn[:1])
    assert (one.difference, one.p_value) == (pytest.approx(0), 1.0)


def test_swaps_that_differ_by_rounding_alone_are_hits() -> None:
    """In one of two conversations both models say the same, by other seeds: every swap is as far from zero."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        a_sn, b_sn = rng.integers(2, size=(2, 3, 7))
        b_sn[:, :3] = np.roll(a_sn[:, :3], 1, axis=0)
        conversation_n = np.repeat([0, 1], [3, 4])
        assert (
            compare_utterances(Utterances(np.zeros(7, int), conversation_n, 2), a_sn, b_sn, "accuracy", 60).p_value == 1
        )


def test_the_same_seed_draws_the_same() -> None:
    label_n, conversation_n = corpus(20)
    a_sn, b_sn = model(label_n, 0.6, 2, 1), model(label_n, 0.5, 2, 2)

    def intervals(seed: int) -> tuple[Interval, Comparison]:
        return (
            bootstrap_interval(Utterances(label_n, conversation_n, CLASSES), a_sn[0], draws=100, seed=seed),
            compare_utterances(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn, draws=100, seed=seed),
        )

    assert intervals(1) == intervals(1)
    assert intervals(1) != intervals(2)


def test_one_conversation_says_nothing_of_others() -> None:
    label_n, conversation_n = corpus(1, length=40)
    a_sn, b_sn = model(label_n, 0.8, 2, 1), model(label_n, 0.4, 2, 2)
    expected = plain_score("weighted_f1", label_n, a_sn[0])
    np.testing.assert_allclose(
        ends(bootstrap_interval(Utterances(label_n, conversation_n, CLASSES), a_sn[0])), [expected] * 2
    )
    result = compare_utterances(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn)
    assert result.difference > 0
    assert (result.interval, result.p_value) == (None, None)


def test_unlabelled_utterances_and_conversations_do_not_count() -> None:
    label_n, conversation_n = corpus(15)
    label_n[np.isin(conversation_n, np.unique(conversation_n)[:5])] = -1
    a_sn, b_sn = model(label_n, 0.7, 2, 1), model(label_n, 0.5, 2, 2)
    kept_n = label_n >= 0
    every = Utterances(label_n, conversation_n, CLASSES)
    kept = Utterances(label_n[kept_n], conversation_n[kept_n], CLASSES)
    assert bootstrap_interval(every, a_sn[0], draws=200) == bootstrap_interval(kept, a_sn[0, kept_n], draws=200)
    assert compare_utterances(every, a_sn, b_sn, draws=200) == compare_utterances(
        kept, a_sn[:, kept_n], b_sn[:, kept_n], draws=200
    )


@pytest.mark.parametrize(
    ("labels", "conversations", "message"),
    [([-1, -1], [0, 1], "no utterance has a label"), ([0, 1, 0], [0, 1, 1], "same test split")],
)
def test_what_cannot_be_scored(labels: list[int], conversations: list[int], message: str) -> None:
    label_n, conversation_n, prediction_sn = np.array(labels), np.array(conversations), np.zeros((1, 2), int)
    calls: list[Callable[[], object]] = [
        lambda: bootstrap_interval(Utterances(label_n, conversation_n, 2), prediction_sn[0]),
        lambda: compare_utterances(Utterances(label_n, conversation_n, 2), prediction_sn, prediction_sn),
    ]
    for call in calls:
        with pytest.raises(InputError, match=message):
            call()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, None, 0.5, None, 0.6]) == [pytest.approx(0.06), None, 1.0, None, 1.0]
    assert holm([]) == []
    assert holm([None]) == [None]


def test_holm_rejects_as_holm_says() -> None:
    """An adjusted p-value is the smallest level at which the step-down procedure rejects."""

    def rejected(p_values: list[float], level: float) -> set[int]:
        left = set(range(len(p_values)))
        while left:
            smallest = min(left, key=lambda i: p_values[i])
            if p_values[smallest] > level / len(left):
                break
            left.remove(smallest)
        return set(range(len(p_values))) - left

    rng = np.random.default_rng(0)
    for _ in range(50):
        p_values = (rng.random(6) ** 2 / 2).tolist()
        adjusted = np.array(holm(p_values), float)
        for level in rng.random(20).tolist():
            assert set(np.flatnonzero(adjusted <= level)) == rejected(p_values, level)
